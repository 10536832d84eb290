//! [`Sockets`]: TCP sockets with the options that the configuration asks for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[cfg(target_os = "linux")]
use rustix::net::SocketFlags;
use rustix::net::{self, AddressFamily, SocketType, sockopt};
use tokio::net::TcpStream;

use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::phase::Phase;

/// Makes sockets as the configuration says.
pub(super) struct Sockets<'a> {
    pub(super) config: &'a PoolConfig,
    /// Counts attempts, so that local addresses take turns.
    pub(super) turn: &'a AtomicUsize,
}

impl Sockets<'_> {
    /// *Cancel safety.* Dropping the future closes the socket.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = socket(address)?;
        if let Some(local) = self.local_address(address) {
            net::bind(&socket, &SocketAddr::new(local, 0))
                .map_err(|error| bind_error(local, error.into()))?;
        }
        sockopt::set_tcp_nodelay(&socket, self.config.tcp_nodelay)?;
        set_lifelines(&socket, self.config)?;
        let is_open = begin_to_connect(&socket, address)?;
        let stream = TcpStream::from_std(socket.into())?;
        if !is_open {
            stream.writable().await?;
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
        }
        Ok(stream)
    }

    /// The next local address of the same family.
    fn local_address(&self, remote: SocketAddr) -> Option<IpAddr> {
        let fitting = || self.config.local_addresses.iter().filter(|local| fits(local, &remote));
        let count = fitting().count();
        let nth = if count > 1 { self.turn.fetch_add(1, Relaxed) % count } else { 0 };
        fitting().nth(nth).copied()
    }

    /// Leaves those out for which there is no local address, when some are prescribed.
    pub(super) fn reachable(
        &self,
        host: &str,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Error> {
        let local = &self.config.local_addresses;
        if local.is_empty() {
            return Ok(addresses);
        }
        addresses.retain(|remote| local.iter().any(|local| fits(local, remote)));
        if addresses.is_empty() {
            let text = format!(
                "`{host}` has no address of the family of the local addresses {local:?}: add a local address of \
                 the other family"
            );
            return Err(Error::new(ErrorKind::Connect).at(Phase::Connect).with_detail(text));
        }
        Ok(addresses)
    }
}

/// A socket that does not block.
#[cfg(target_os = "linux")]
fn socket(remote: SocketAddr) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(net::socket_with(family(remote), SocketType::STREAM, flags, None)?)
}

#[cfg(not(target_os = "linux"))]
fn socket(remote: SocketAddr) -> io::Result<OwnedFd> {
    let socket = net::socket(family(remote), SocketType::STREAM, None)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    Ok(socket)
}

fn family(remote: SocketAddr) -> AddressFamily {
    if remote.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

/// Answers whether the connection is open already: on one machine it is as soon as `connect` returns, though that says
/// that it is under way. Asking costs a fifth of a microsecond. Not to ask costs a turn of the event loop, which would count
/// as time to connect, and has a server that is awake for the connection fall asleep before the request comes.
fn begin_to_connect(socket: &OwnedFd, remote: SocketAddr) -> io::Result<bool> {
    use rustix::io::Errno;
    match net::connect(socket, &remote) {
        Ok(()) => Ok(true),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(net::getpeername(socket).is_ok()),
        Err(error) => Err(error.into()),
    }
}

fn fits(local: &IpAddr, remote: &SocketAddr) -> bool {
    local.is_ipv4() == remote.is_ipv4()
}

/// The kernel says EADDRNOTAVAIL for two things: here it is not that ports have run out.
fn bind_error(local: IpAddr, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            let text = format!("the local address {local} is none of this machine's");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        }
        _ => error,
    }
}

/// How a peer that has vanished is noticed: while nothing is under way by probes, else by what it leaves
/// unacknowledged.
fn set_lifelines(socket: &OwnedFd, config: &PoolConfig) -> io::Result<()> {
    if let Some(keepalive) = config.tcp_keepalive {
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, keepalive.time)?;
        sockopt::set_tcp_keepintvl(socket, keepalive.interval)?;
        sockopt::set_tcp_keepcnt(socket, keepalive.count)?;
    }
    if let Some(timeout) = config.tcp_user_timeout {
        // Linux takes it for a signed number (do_tcp_setsockopt), and refuses what is less than 0.
        let longest = i32::MAX.unsigned_abs();
        sockopt::set_tcp_user_timeout(
            socket,
            timeout.as_millis().try_into().unwrap_or(longest).min(longest),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;
    use crate::config::Keepalive;

    /// A socket that is connected as this says.
    async fn connected(config: &PoolConfig) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = Sockets { config, turn: &AtomicUsize::new(0) };
        sockets.connect(listener.local_addr().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_socket_has_the_options_that_were_asked_for() {
        let seconds = Duration::from_secs;
        let keepalive = Keepalive { time: seconds(7), interval: seconds(3), count: 5 };
        let config = PoolConfig::default()
            .tcp_keepalive(Some(keepalive))
            .tcp_user_timeout(Some(seconds(11)))
            .local_addresses(vec!["127.0.0.9".parse().unwrap()]);
        let tcp = connected(&config).await;
        assert!(tcp.nodelay().unwrap() && sockopt::socket_keepalive(&tcp).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&tcp).unwrap(), seconds(7));
        assert_eq!(sockopt::tcp_keepintvl(&tcp).unwrap(), seconds(3));
        assert_eq!(sockopt::tcp_keepcnt(&tcp).unwrap(), 5);
        assert_eq!(sockopt::tcp_user_timeout(&tcp).unwrap(), 11_000);
        assert_eq!(tcp.local_addr().unwrap().ip().to_string(), "127.0.0.9");
    }

    #[tokio::test]
    async fn the_longest_limits_that_a_configuration_may_have_are_set_on_a_socket() {
        let longest = Duration::from_secs(32_767);
        let keepalive = Keepalive { time: longest, interval: longest, count: 127 };
        let longest_user_timeout = u64::from(i32::MAX.unsigned_abs());
        for timeout in [longest_user_timeout, longest_user_timeout + 1, u64::MAX].map(Duration::from_millis) {
            let config = PoolConfig::default().tcp_keepalive(Some(keepalive)).tcp_user_timeout(Some(timeout));
            assert_eq!(config.fault(), None);
            let tcp = connected(&config).await;
            assert_eq!(u64::from(sockopt::tcp_user_timeout(&tcp).unwrap()), longest_user_timeout);
            assert_eq!(sockopt::tcp_keepidle(&tcp).unwrap(), longest);
        }
    }

    #[tokio::test]
    async fn a_socket_has_no_option_that_was_not_asked_for() {
        let config = PoolConfig::default().tcp_nodelay(false).tcp_keepalive(None).tcp_user_timeout(None);
        let tcp = connected(&config).await;
        assert!(!tcp.nodelay().unwrap() && !sockopt::socket_keepalive(&tcp).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&tcp).unwrap(), 0);
    }
}
