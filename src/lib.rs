//! keeplive.
#![forbid(unsafe_code)]

mod clock;
