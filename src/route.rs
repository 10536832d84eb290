//! [`Route`]: by which way an origin is reached.

use std::path::PathBuf;

use crate::proxy::Proxy;

/// By which way an origin is reached: [`PoolConfig::route`](crate::PoolConfig::route).
///
/// *Key.* Connections are shared by requests to the same [`Origin`](crate::Origin). Within a pool the route follows
/// from the origin, and the TLS client and the local addresses are the pool's: so two requests that differ in any of
/// them never share a connection, and two origins behind the same socket or proxy do not either. Whoever wants to
/// reach one origin by two routes has two pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Route {
    /// To the host itself.
    #[default]
    Direct,
    /// To the server that listens at this path, whatever the host, as curl's `--unix-socket`. Host and scheme stay
    /// what they are: for the `Host` field, and for TLS.
    UnixSocket(PathBuf),
    /// Through a proxy.
    Proxy(Proxy),
}
