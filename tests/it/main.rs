//! Facts about keeplive as a whole, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod arms;
mod behaviours;
mod examples;
mod fuzz;
mod live;
mod pool;
mod probe;
mod program;
mod server;
mod snippets;
mod stairs;
mod support;
mod truth;
mod truth_tools;
