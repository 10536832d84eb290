//! A link with a real round-trip time between two network namespaces of this machine (Linux, root).
//!
//! Each namespace has one TUN device. A thread carries every IP packet from one to the other and holds it for half
//! the round-trip time, so that the kernels at both ends see real TCP with a real delay: a SYN takes half of it
//! there and its SYN-ACK half of it back. A queueing discipline (netem) would do the same, but many machines that run
//! tests have a kernel without it.

#![expect(unsafe_code, reason = "a TUN device is made by an ioctl that takes a pointer")]

use std::collections::{HashMap, VecDeque};
use std::ffi::{OsStr, c_int};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{error, fmt, io};

use nix::libc;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sched::{CloneFlags, setns};

use super::now;

const CLIENT_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

/// The server's end. Every link has it: the namespaces keep them apart.
pub(crate) const SERVER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));

/// The kernel wakes a sleeper up to its timer slack (50 us) late: the last part of a wait is spun away.
const SPIN: Duration = Duration::from_micros(100);

/// How long the relay sleeps when it holds nothing, and thus how soon it sees that it should end.
const LULL: Duration = Duration::from_millis(20);

/// Two namespaces and what joins them, until this is dropped.
pub(crate) struct Link {
    client: Namespace,
    server: Namespace,
    ending: Arc<AtomicBool>,
    cut: Arc<AtomicBool>,
    relay: Option<JoinHandle<()>>,
}

/// Why there is no link.
#[derive(Debug)]
pub(crate) struct LinkError(String);

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a link needs root and /dev/net/tun: run the tests as root ({})", self.0)
    }
}

impl error::Error for LinkError {}

impl Link {
    /// A link over which a packet and its answer take `rtt` together.
    pub(crate) fn new(rtt: Duration) -> Result<Self, LinkError> {
        Self::with(rtt, None)
    }

    /// A link with a middlebox at its client's end, which keeps state of every TCP flow, as a NAT or a firewall does,
    /// and forgets a flow on which no packet came for so long.
    pub(crate) fn forgetting(rtt: Duration, after: Duration, then: Forgotten) -> Result<Self, LinkError> {
        Self::with(rtt, Some(Middlebox { after, then, flows: HashMap::new() }))
    }

    fn with(rtt: Duration, middlebox: Option<Middlebox>) -> Result<Self, LinkError> {
        static LINKS: AtomicU32 = AtomicU32::new(0);
        // The first namespace of a machine makes their folder a mount, and two first ones get in each other's way.
        static MAKING: Mutex<()> = Mutex::new(());

        let tag = format!("{}-{}", std::process::id(), LINKS.fetch_add(1, Relaxed));
        let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let client = Namespace::new(format!("keeplive-c{tag}"))?;
        let server = Namespace::new(format!("keeplive-s{tag}"))?;
        let ends = [
            client.device(&format!("c{tag}"), CLIENT_IP, SERVER_IP)?,
            server.device(&format!("s{tag}"), SERVER_IP, CLIENT_IP)?,
        ];
        let ending = Arc::new(AtomicBool::new(false));
        let cut = Arc::new(AtomicBool::new(false));
        let held = VecDeque::new();
        let relay = Relay {
            ends,
            delay: rtt / 2,
            held,
            ending: Arc::clone(&ending),
            cut: Arc::clone(&cut),
            middlebox,
        };
        let relay = std::thread::spawn(move || relay.run());
        Ok(Self { client, server, ending, cut, relay: Some(relay) })
    }

    /// A command that runs this program at the client's end.
    pub(crate) fn client_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.client.command(program)
    }

    /// A command that runs this program at the server's end.
    pub(crate) fn server_command(&self, program: impl AsRef<OsStr>) -> Command {
        self.server.command(program)
    }

    /// Does this at the client's end, on a thread of its own. Threads that it starts are there too, and the sockets
    /// they open stay there.
    pub(crate) fn at_client<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        self.client.inside(deed)
    }

    /// Does this at the server's end, as [`Link::at_client`] does.
    pub(crate) fn at_server<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        self.server.inside(deed)
    }

    /// From now on every packet is lost, and neither end is told.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Relaxed);
    }

    /// The address under which the client's end knows the server's.
    pub(crate) fn server_ip(&self) -> IpAddr {
        SERVER_IP
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.ending.store(true, Relaxed);
        // The devices go with the relay's descriptors, the namespaces after this.
        let _ = self.relay.take().map(JoinHandle::join);
    }
}

struct Namespace(String);

impl Namespace {
    fn new(name: String) -> Result<Self, LinkError> {
        ip(&["netns", "add", &name])?;
        let namespace = Self(name);
        ip(&["-n", &namespace.0, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// A device whose packets come to the descriptor instead of a wire.
    fn device(&self, name: &str, address: IpAddr, peer: IpAddr) -> Result<File, LinkError> {
        let device = tun(name).map_err(|error| LinkError(format!("/dev/net/tun: {error}")))?;
        ip(&["link", "set", name, "netns", &self.0])?;
        ip(&["-n", &self.0, "addr", "add", &address.to_string(), "peer", &peer.to_string(), "dev", name])?;
        // A burst of opening connections must not overflow the device while the relay waits for a core.
        ip(&["-n", &self.0, "link", "set", name, "mtu", "1500", "txqueuelen", "10000", "up"])?;
        Ok(device)
    }

    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    fn inside<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        let thread = || {
            let namespace = File::open(format!("/run/netns/{}", self.0)).expect("the namespace is there");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter its own namespace");
            deed()
        };
        let done = std::thread::scope(|scope| scope.spawn(thread).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.0]) {
            eprintln!("{error}");
        }
    }
}

fn ip(arguments: &[&str]) -> Result<(), LinkError> {
    let failed = |why: &dyn fmt::Display| LinkError(format!("ip {}: {why}", arguments.join(" ")));
    let output = Command::new("ip").args(arguments).output().map_err(|error| failed(&error))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&String::from_utf8_lossy(&output.stderr).trim())),
    }
}

nix::ioctl_write_ptr!(
    /// TUNSETIFF. The kernel declares an int and reads the request's struct.
    set_interface,
    b'T',
    202,
    c_int
);

/// A new TUN device, without the header that would tell what each packet is: they are all IP.
fn tun(name: &str) -> io::Result<File> {
    let device =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    assert!(name.len() < libc::IFNAMSIZ, "{name:?} is longer than a device's name may be");
    // SAFETY: every field of ifreq is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: TUNSETIFF reads one ifreq, and `request` is one for as long as the call takes.
    unsafe { set_interface(device.as_raw_fd(), (&raw const request).cast()) }?;
    Ok(device)
}

/// The wire.
struct Relay {
    ends: [File; 2],
    delay: Duration,
    /// Packets on their way, by the time of their arrival, with the end they arrive at. All are held equally long, so
    /// that the first to leave is the first to arrive.
    held: VecDeque<(Instant, usize, Vec<u8>)>,
    ending: Arc<AtomicBool>,
    cut: Arc<AtomicBool>,
    middlebox: Option<Middlebox>,
}

impl Relay {
    fn run(mut self) {
        while !self.ending.load(Relaxed) {
            self.deliver();
            self.wait();
            self.collect();
        }
    }

    fn deliver(&mut self) {
        while let Some((due, end, packet)) = self.held.pop_front() {
            if due > now() {
                return self.held.push_front((due, end, packet));
            }
            // A device that is full drops the packet, as a wire may.
            let _ = (&self.ends[end]).write(&packet);
        }
    }

    /// Until a packet leaves, or almost until one arrives.
    fn wait(&self) {
        let next = self.held.front().map(|(due, ..)| due.saturating_duration_since(now()));
        let pause = next.map_or(LULL, |next| next.saturating_sub(SPIN).min(LULL));
        let mut ends = self.ends.each_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        // An interrupted wait is a short one.
        let _ = ppoll(&mut ends, Some(pause.into()), None);
    }

    fn collect(&mut self) {
        let mut packet = [0; 2048];
        for (end, device) in self.ends.iter().enumerate() {
            while let Ok(length) = (&*device).read(&mut packet) {
                if self.cut.load(Relaxed) {
                    continue;
                }
                let packet = &packet[..length];
                match self.middlebox.as_mut().map_or(Passage::Onward, |it| it.passage(packet)) {
                    Passage::Onward => self.held.push_back((now() + self.delay, 1 - end, packet.to_vec())),
                    // The middlebox stands where the packet came in.
                    Passage::Refused(reset) => drop((&*device).write(&reset)),
                    Passage::Lost => {}
                }
            }
        }
    }
}

/// What a middlebox does with a packet of a flow that it has forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forgotten {
    Dropped,
    Reset,
}

struct Middlebox {
    after: Duration,
    then: Forgotten,
    /// When a packet last came, by addresses and ports of both ends, the lower first.
    flows: HashMap<[[u8; 6]; 2], Instant>,
}

enum Passage {
    Onward,
    Refused(Vec<u8>),
    Lost,
}

impl Middlebox {
    fn passage(&mut self, packet: &[u8]) -> Passage {
        let Some(segment) = Segment::of(packet) else { return Passage::Onward };
        let now = now();
        let known = self.flows.get(&segment.flow()).is_some_and(|last| now - *last < self.after);
        if known || segment.is_syn() {
            self.flows.insert(segment.flow(), now);
            return Passage::Onward;
        }
        self.flows.remove(&segment.flow());
        match self.then {
            Forgotten::Reset if !segment.is_rst() => Passage::Refused(segment.reset()),
            _ => Passage::Lost,
        }
    }
}

/// A TCP segment in an IPv4 packet (RFC 791, RFC 9293).
struct Segment<'p> {
    ip: &'p [u8],
    tcp: &'p [u8],
}

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

impl<'p> Segment<'p> {
    fn of(packet: &'p [u8]) -> Option<Self> {
        let is_tcp = *packet.first()? >> 4 == 4 && *packet.get(9)? == 6;
        let (ip, tcp) = packet.split_at_checked(usize::from(packet[0] & 15) * 4)?;
        (is_tcp && tcp.len() >= 20).then_some(Self { ip, tcp })
    }

    fn flow(&self) -> [[u8; 6]; 2] {
        let end = |address: &[u8], port: &[u8]| {
            let mut end = [0; 6];
            end[..4].copy_from_slice(address);
            end[4..].copy_from_slice(port);
            end
        };
        let mut ends = [end(&self.ip[12..16], &self.tcp[..2]), end(&self.ip[16..20], &self.tcp[2..4])];
        ends.sort_unstable();
        ends
    }

    fn is_syn(&self) -> bool {
        self.tcp[13] & (SYN | ACK) == SYN
    }

    fn is_rst(&self) -> bool {
        self.tcp[13] & RST != 0
    }

    /// The RST that answers this segment: from where it was going, at the sequence number that it expects.
    fn reset(&self) -> Vec<u8> {
        let mut ip = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
        ip.extend([&self.ip[16..20], &self.ip[12..16]].concat());
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum);
        let mut tcp = [&self.tcp[2..4], &self.tcp[..2], &self.tcp[8..12]].concat();
        tcp.extend([0, 0, 0, 0, 0x50, RST, 0, 0, 0, 0, 0, 0]);
        let pseudo = [&ip[12..20], &[0, 6, 0, 20][..], &tcp].concat();
        let sum = checksum(&pseudo);
        tcp[16..18].copy_from_slice(&sum);
        ip.extend(tcp);
        ip
    }
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

mod tests {
    use std::net::{SocketAddr, TcpStream};

    use super::super::nginx::Nginx;
    use super::super::raw::Raw;
    use super::*;

    fn link(rtt: Duration) -> Link {
        Link::new(rtt).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The shortest of many: whatever a busy machine adds, it takes nothing away.
    fn shortest(deed: impl Fn()) -> Duration {
        let took = |_| {
            let start = now();
            deed();
            start.elapsed()
        };
        (0..20).map(took).min().expect("twenty attempts")
    }

    #[test]
    fn a_connect_takes_one_round_trip_and_an_exchange_another() {
        let rtt = Duration::from_millis(20);
        let link = link(rtt);
        let nginx = Nginx::new().at(&link).start();
        let (connect, exchange) = link.at_client(|| {
            let connect =
                shortest(|| drop(TcpStream::connect(nginx.addr()).expect("the link carries packets")));
            let client = std::cell::RefCell::new(Raw::connect(nginx.addr()));
            (connect, shortest(|| drop(client.borrow_mut().get("/"))))
        });
        for (name, took) in [("connect", connect), ("exchange", exchange)] {
            assert!((rtt..rtt + Duration::from_millis(2)).contains(&took), "{name}: {took:?}");
        }
    }

    #[test]
    fn links_with_equal_addresses_do_not_meet() {
        let links = [Duration::ZERO, Duration::from_millis(5)].map(link);
        let address = SocketAddr::new(links[0].server_ip(), 8080);
        let _nginx = Nginx::new().at(&links[0]).start();
        assert!(links[0].at_client(|| TcpStream::connect(address)).is_ok());
        assert!(links[1].at_client(|| TcpStream::connect(address)).is_err());
    }

    #[test]
    fn commands_run_at_their_ends_of_the_link() {
        let link = link(Duration::ZERO);
        let addresses = |mut command: Command| {
            let output = command.args(["-4", "-oneline", "address"]).output().expect("ip is installed");
            String::from_utf8(output.stdout).expect("ip prints text")
        };
        assert!(addresses(link.client_command("ip")).contains(" 10.77.0.1 "));
        assert!(addresses(link.server_command("ip")).contains(" 10.77.0.2 "));
    }

    #[test]
    fn a_server_started_at_its_end_is_reached_from_the_other() {
        let link = link(Duration::from_millis(2));
        let address = SocketAddr::new(link.server_ip(), 0);
        let server = keeplive::server::Server::new(keeplive::server::Behaviour::default()).listen(address);
        let server = link.at_server(|| server.start()).expect("every port is free there");
        assert_eq!(link.at_client(|| Raw::connect(server.addr()).get("/").body), b"Hello, world!");
    }

    #[test]
    fn a_middlebox_forgets_an_idle_flow_and_what_comes_then_is_refused() {
        let after = Duration::from_millis(300);
        let link = Link::forgetting(Duration::ZERO, after, Forgotten::Reset)
            .unwrap_or_else(|error| panic!("{error}"));
        let nginx = Nginx::new().at(&link).start();
        link.at_client(|| {
            let mut client = Raw::connect(nginx.addr());
            for _ in 0..3 {
                std::thread::sleep(after / 3);
                assert_eq!(client.get("/").body, b"Hello, world!", "what is used is not forgotten");
            }
            std::thread::sleep(after * 2);
            client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.ending(), super::super::raw::Ending::Reset);
        });
    }

    #[test]
    fn a_link_leaves_nothing_behind() {
        let link = link(Duration::ZERO);
        let names = [link.client.0.clone(), link.server.0.clone()];
        drop(link);
        for name in names {
            assert!(!std::path::Path::new("/run/netns").join(&name).exists(), "{name}");
        }
    }
}
