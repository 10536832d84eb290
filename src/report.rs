//! Paper: a comparison as text. Everything that had to be worked out has been; here it is only laid out.

pub mod json;
mod plot;
pub mod terminal;
mod units;
