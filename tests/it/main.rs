//! Facts about keeplive as a whole, over real sockets.

mod server;
mod stairs;
mod support;
