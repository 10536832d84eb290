//! Values into text. What the numbers are was settled before; here they find their words, units and places.

pub mod export;
pub mod gate;
mod headline;
mod html;
pub mod json;
mod page;
mod plot;
pub mod probe;
mod stages;
mod table;
pub mod terminal;
mod timeline;
mod units;
mod wrap;

pub use headline::headline;
