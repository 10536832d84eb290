//! Real servers as processes: found, started where they should run, ended by their own id.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::link::{self, Link};
use super::{PATIENCE, now, until};

/// Inside a link's server namespace every port is free.
const PORT_ON_A_LINK: u16 = 8080;

/// Another process may take the port that was free a moment ago.
const ATTEMPTS: usize = 5;

/// A process that ends with its owner.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("a child can be waited for").is_some()
    }

    fn end_within_patience(&mut self) -> bool {
        let limit = now() + PATIENCE;
        while !self.has_ended() {
            if now() > limit {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        // A process that has ended and was waited for has an id that may be another's by now.
        if !self.has_ended() && (kill(pid, Signal::SIGTERM).is_err() || !self.end_within_patience()) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Where a server is to run: here, or at the far end of a link.
pub(crate) fn command(link: Option<&Link>, program: &str, package: &str) -> Command {
    let path = find(program).unwrap_or_else(|| {
        panic!("{program} is not installed: apt-get install {package} (tests/run does it)")
    });
    match link {
        Some(link) => link.server_command(path),
        None => Command::new(path),
    }
}

/// Starts a server that has to be told its port, and waits until it is `up`. `command` writes what the server reads
/// and says how to start it; `complaint` is where it explains itself.
pub(crate) fn start(
    link: Option<&Link>,
    command: impl Fn(SocketAddr) -> Command,
    up: impl Fn() -> bool,
    complaint: &Path,
) -> (Process, SocketAddr) {
    for _ in 0..ATTEMPTS {
        let address = address(link);
        let mut process = Process(command(address).spawn().expect("a program that was found can be started"));
        let started = std::cell::RefCell::new(&mut process);
        let is_up = until("a server that starts", || match started.borrow_mut().has_ended() {
            true => Some(false),
            false => up().then_some(true),
        });
        if is_up {
            return (process, address);
        }
    }
    panic!("ended {ATTEMPTS} times: {}", std::fs::read_to_string(complaint).unwrap_or_default());
}

fn address(link: Option<&Link>) -> SocketAddr {
    if link.is_some() {
        return (link::SERVER_IP, PORT_ON_A_LINK).into();
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
    listener.local_addr().expect("a listener has an address")
}

/// Servers live in sbin, which only root's PATH names.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Reads what a server keeps writing, once it may be there.
pub(crate) fn read(path: &Path) -> String {
    match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

#[test]
fn a_server_that_is_not_installed_says_how_to_install_it() {
    let panic = std::panic::catch_unwind(|| command(None, "no-such-server", "no-such-package"));
    let text =
        *panic.expect_err("there is no such server").downcast::<String>().expect("a formatted message");
    assert_eq!(text, "no-such-server is not installed: apt-get install no-such-package (tests/run does it)");
}
