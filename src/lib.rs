//! keeplive.
#![forbid(unsafe_code)]

mod clock;

#[cfg(feature = "load")]
pub mod estimate;
#[cfg(feature = "load")]
pub mod ports;
