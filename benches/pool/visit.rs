//! One visit: a contender, its connections open and warm, sends its requests; the kernel tells what that cost.

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::contenders::{
    Contender, Dutiful, Floor, Inline, InlineByTurns, Leased, Legacy, Reqwest, SendTo, Spawned, To,
};
use crate::usage::Cpu;

/// A contender as a row of a table.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) visit: fn(&Setting) -> Cpu,
    pub(crate) allocations: fn(&Setting) -> (f64, f64),
}

const fn row<C: Contender>(name: &'static str) -> Row {
    Row { name, visit: visit::<C>, allocations: allocations::<C> }
}

pub(crate) const FLOOR: Row = row::<Floor>("raw socket");
pub(crate) const SPAWNED: Row = row::<Spawned>("hyper, spawned");
pub(crate) const INLINE: Row = row::<Inline>("hyper, inline");
/// The same, with several origins to ask for.
pub(crate) const BY_TURNS: Row = row::<InlineByTurns>("hyper, by turns");
pub(crate) const DUTIFUL: Row = row::<Dutiful>("hyper, its duties");
pub(crate) const SEND_TO: Row = row::<SendTo>("keeplive send_to");
pub(crate) const LEASED: Row = row::<Leased>("keeplive lease");
pub(crate) const LEGACY: Row = row::<Legacy>("hyper-util legacy");
pub(crate) const REQWEST: Row = row::<Reqwest>("reqwest");

/// Everyone.
pub(crate) const ALL: [Row; 8] = [FLOOR, SPAWNED, INLINE, DUTIFUL, SEND_TO, LEASED, LEGACY, REQWEST];

/// What every contender of one comparison is asked to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    pub(crate) to: To,
    /// Requests that are counted, all loops together.
    pub(crate) requests: usize,
    /// 0: a current-thread runtime.
    pub(crate) workers: usize,
}

impl Setting {
    pub(crate) fn runtime(&self) -> Runtime {
        let mut builder = match self.workers {
            0 => Builder::new_current_thread(),
            workers => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(workers);
                builder
            }
        };
        builder.enable_all().build().expect("a runtime")
    }
}

/// Processor time per request, nanoseconds.
fn visit<C: Contender>(setting: &Setting) -> Cpu {
    let each = setting.requests / setting.to.loops;
    setting.runtime().block_on(async {
        let loops = warm::<C>(setting).await;
        let before = Cpu::now();
        let loops = send(loops, each).await;
        let used = Cpu::now().since(before);
        drop(loops);
        used.per((each * setting.to.loops) as f64)
    })
}

/// Allocations and bytes allocated per request.
fn allocations<C: Contender>(setting: &Setting) -> (f64, f64) {
    let each = setting.requests / setting.to.loops;
    setting.runtime().block_on(async {
        let loops = warm::<C>(setting).await;
        let counting = crate::memory::count();
        let loops = send(loops, each).await;
        let heap = counting.end();
        drop(loops);
        let n = (each * setting.to.loops) as f64;
        (heap.allocations as f64 / n, heap.bytes as f64 / n)
    })
}

/// All loops have their connections open, and what grows has grown.
async fn warm<C: Contender>(setting: &Setting) -> Vec<C> {
    let first = C::new(setting.to);
    let mut loops: Vec<C> = (1..setting.to.loops).map(|which| first.another(which)).collect();
    loops.push(first);
    let every_origin_twice = 2 * setting.to.origins.div_ceil(setting.to.loops);
    send(loops, if setting.to.keep { every_origin_twice.max(20) } else { 2 }).await
}

/// Every loop sends so many requests, each as soon as its last is done.
async fn send<C: Contender>(loops: Vec<C>, each: usize) -> Vec<C> {
    let mut tasks = JoinSet::new();
    for mut contender in loops {
        tasks.spawn(async move {
            for _ in 0..each {
                contender.request().await;
            }
            contender
        });
    }
    tasks.join_all().await
}
