//! keeplive.
#![forbid(unsafe_code)]

mod clock;

#[cfg(feature = "load")]
pub mod server;
