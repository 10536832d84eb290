//! [`Sockets`]: TCP sockets with the options that the configuration asks for.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

use crate::config::PoolConfig;

/// Makes sockets as the configuration says.
pub(super) struct Sockets<'a> {
    pub(super) config: &'a PoolConfig,
}

impl Sockets<'_> {
    /// *Cancel safety.* Dropping the future closes the socket.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(local) = self.config.local_address.filter(|local| local.is_ipv4() == address.is_ipv4()) {
            socket.bind(SocketAddr::new(local, 0))?;
        }
        socket.set_nodelay(self.config.tcp_nodelay)?;
        socket.connect(address).await
    }
}
