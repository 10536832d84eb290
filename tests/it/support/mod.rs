//! The peers that facts are established with: raw sockets, real servers, a link with a round-trip time.

pub(crate) mod raw;
