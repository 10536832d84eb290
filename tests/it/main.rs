//! Facts about keeplive as a whole, over real sockets.

mod pool;
mod server;
mod support;
