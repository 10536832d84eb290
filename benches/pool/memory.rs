//! Memory: an allocator that counts when it is asked to, and what a connection holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use keeplive::{Pool, PoolConfig, TlsConfig};
use tokio::task::JoinSet;

use crate::contenders::{Contender, Keeplive, Legacy, Reqwest, Spawned, To};
use crate::echo::{AT_ONCE, Echo};
use crate::visit::Setting;

/// The system's allocator. It counts only between [`count`] and [`Counting::end`], so that elsewhere a contender that
/// allocates much pays for no more than that.
pub(crate) struct Counted;

static ON: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static LIVE: AtomicI64 = AtomicI64::new(0);

fn note(allocated: usize, freed: usize) {
    if ON.load(Relaxed) {
        if allocated > 0 {
            ALLOCATIONS.fetch_add(1, Relaxed);
            BYTES.fetch_add(allocated as u64, Relaxed);
        }
        LIVE.fetch_add(allocated as i64 - freed as i64, Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size(), 0);
        // SAFETY: as promised by our caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size, layout.size());
        // SAFETY: as promised by our caller.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(0, layout.size());
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What was allocated since counting began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heap {
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
    /// Allocated and not freed.
    pub(crate) live: i64,
}

/// The allocator counts until this ends.
pub(crate) struct Counting;

/// Counts from now on, the whole process.
pub(crate) fn count() -> Counting {
    ALLOCATIONS.store(0, Relaxed);
    BYTES.store(0, Relaxed);
    LIVE.store(0, Relaxed);
    ON.store(true, Relaxed);
    Counting
}

impl Counting {
    fn so_far(&self) -> Heap {
        Heap { allocations: ALLOCATIONS.load(Relaxed), bytes: BYTES.load(Relaxed), live: LIVE.load(Relaxed) }
    }

    pub(crate) fn end(self) -> Heap {
        ON.store(false, Relaxed);
        self.so_far()
    }
}

/// What one connection holds in our process, bytes.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Held {
    /// On the heap, as asked of the allocator.
    pub(crate) heap: f64,
    /// Resident, with what the allocator and the pages add.
    pub(crate) resident: f64,
}

/// A row of the table.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct PerConnection {
    pub(crate) client: &'static str,
    pub(crate) idle: Held,
    pub(crate) rested: Held,
    pub(crate) busy: Held,
}

type Weigh = fn(&Echo, Stay) -> Held;

/// Everyone who keeps connections, over plain TCP, and keeplive over TLS.
const WEIGHED: [(&str, Weigh); 5] = [
    ("hyper, spawned", |echo, stay| weigh::<Spawned>(plain(echo, stay), stay)),
    ("keeplive", |echo, stay| weigh::<Plain>(plain(echo, stay), stay)),
    ("hyper-util legacy", |echo, stay| weigh::<Legacy>(plain(echo, stay), stay)),
    ("reqwest", |echo, stay| weigh::<Reqwest>(plain(echo, stay), stay)),
    ("keeplive, TLS 1.3", |echo, stay| weigh::<Secure>(secure(echo, stay), stay)),
];

fn plain(echo: &Echo, stay: Stay) -> SocketAddr {
    if stay == Stay::Busy { echo.holds } else { echo.gathers }
}

fn secure(echo: &Echo, stay: Stay) -> SocketAddr {
    if stay == Stay::Busy { echo.tls_holds } else { echo.tls }
}

/// Each is weighed in a process of its own: where others have freed memory, nothing new becomes resident.
pub(crate) fn per_connection() -> Vec<PerConnection> {
    let apart = |client: &str, stay: &str| {
        let program = std::env::current_exe().expect("this program's path");
        let output = Command::new(program).args(["weigh", client, stay]).output().expect("it starts again");
        let text = String::from_utf8(output.stdout).expect("two numbers");
        let mut numbers = text.split_whitespace().map(|number| number.parse().expect("a number"));
        let mut next = || numbers.next().expect("two numbers");
        Held { heap: next(), resident: next() }
    };
    let row = |client| PerConnection {
        client,
        idle: apart(client, "idle"),
        rested: apart(client, "rested"),
        busy: apart(client, "busy"),
    };
    WEIGHED.map(|(client, _)| row(client)).into()
}

/// What [`per_connection`] asks another process.
pub(crate) fn weigh_one(client: &str, stay: &str) {
    let stay = match stay {
        "idle" => Stay::Idle,
        "rested" => Stay::Rested,
        _ => Stay::Busy,
    };
    let found = WEIGHED.iter().find(|(name, _)| *name == client);
    let held = found.expect("one of the table").1(&Echo::start(), stay);
    println!("{} {}", held.heap, held.resident);
}

/// In what state a connection is weighed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stay {
    /// After one exchange.
    Idle,
    /// Some seconds later.
    Rested,
    /// Its request is written and not answered; the task that waits for it is weighed too.
    Busy,
}

/// Longer than keeplive waits before a connection that rests gives up what it can do without.
const REST: Duration = Duration::from_secs(4);

struct Plain(Keeplive);
struct Secure(Keeplive);

fn patient(to: To) -> PoolConfig {
    PoolConfig::default().max_idle_per_origin(to.loops).max_idle(to.loops).idle_timeout(None)
}

impl Contender for Plain {
    fn new(to: To) -> Plain {
        let pool = Pool::new(patient(to)).expect("a pool");
        Plain(Keeplive::with(pool, to, &[format!("http://{}/", to.addr)]))
    }

    fn another(&self, _: usize) -> Plain {
        Plain(self.0.clone())
    }

    async fn request(&mut self) {
        exchange(&mut self.0).await;
    }
}

impl Contender for Secure {
    fn new(to: To) -> Secure {
        let mut tls = TlsConfig::default();
        tls.verify = false;
        let pool = Pool::with_tls(patient(to), tls.build().expect("a TLS client")).expect("a pool");
        Secure(Keeplive::with(pool, to, &[format!("https://{}/", to.addr)]))
    }

    fn another(&self, _: usize) -> Secure {
        Secure(self.0.clone())
    }

    async fn request(&mut self) {
        exchange(&mut self.0).await;
    }
}

async fn exchange(client: &mut Keeplive) {
    let request = client.request();
    let response = client.pool.clone().send_to(client.origin(), request).await.expect("a response");
    response.into_body().finish().await.expect("a whole body");
}

fn weigh<C: Contender>(addr: SocketAddr, stay: Stay) -> Held {
    let to = To { addr, keep: true, loops: AT_ONCE, origins: 1 };
    let setting = Setting { to, requests: 0, workers: 0 };
    setting.runtime().block_on(async {
        crate::usage::allow_descriptors();
        let first = C::new(to);
        let (resident, sockets) = (resident(), sockets());
        let counting = count();
        let mut tasks = JoinSet::new();
        let mut kept = Vec::new();
        for _ in 0..AT_ONCE {
            let mut contender = first.another(0);
            tasks.spawn(async move {
                contender.request().await;
                contender
            });
        }
        if stay != Stay::Busy {
            // What a loop holds of its own is small and stays: a connection of bare hyper lives in it.
            while let Some(done) = tasks.join_next().await {
                kept.push(done.expect("no task fails"));
            }
        }
        if stay == Stay::Rested {
            tokio::time::sleep(REST).await;
        }
        let live = settled(&counting).await;
        let open = (self::sockets() - sockets) as f64;
        if stay == Stay::Rested {
            give_free_pages_back();
        }
        let held = Held { heap: live as f64 / open, resident: (self::resident() - resident) / open };
        counting.end();
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
        held
    })
}

/// What is live once nothing changes any more.
async fn settled(counting: &Counting) -> i64 {
    let mut same = 0;
    let mut last = counting.so_far().live;
    // Half a second: on a machine that others use, either side may stand still for a while.
    while same < 25 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let live = counting.so_far().live;
        same = if live == last { same + 1 } else { 0 };
        last = live;
    }
    last
}

/// What is free on the heap and still resident is nobody's: glibc gives it back when it is asked to, other allocators by
/// and by.
fn give_free_pages_back() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: it may be called at any time, by any thread.
        unsafe { malloc_trim(0) };
    }
}

fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(f64::NAN) * 1024.0
}

/// Open sockets of this process.
fn sockets() -> usize {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return 0 };
    let names = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    names.filter(|name| name.to_string_lossy().starts_with("socket:")).count()
}

/// What the kernel keeps for a TCP socket besides the bytes in its queues: the size of its object, where it says.
pub(crate) fn kernel_socket() -> Option<u64> {
    let slabs = fs::read_to_string("/proc/slabinfo").ok()?;
    let tcp = slabs.lines().find(|line| line.split_whitespace().next() == Some("TCP"))?;
    tcp.split_whitespace().nth(3)?.parse().ok()
}
