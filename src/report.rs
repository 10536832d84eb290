//! Values into text. What the numbers are was settled before; here they find their words, units and places.

mod chart;
pub mod export;
pub mod gate;
mod headline;
mod html;
pub mod json;
pub mod live;
pub mod measured;
mod page;
mod plot;
pub mod probe;
#[cfg(test)]
#[path = "../tests/it/support/prometheus.rs"]
mod prometheus_rules;
pub mod side_by_side;
pub mod soak;
mod stages;
mod table;
mod tables;
mod targets;
pub mod terminal;
mod timeline;
mod units;
pub mod withheld;
mod wrap;

pub use headline::headline;
pub use wrap::plain;
