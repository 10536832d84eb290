//! [`Searched`]: the highest rate that held a goal, as a bracket.

use serde::{Deserialize, Serialize};

use crate::plan::Goal;

/// The highest rate that held a goal, as a bracket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Searched {
    /// What was to hold.
    pub goal: Goal,
    /// The highest rate at which it held, in requests per second; `None`: at none that was tried.
    pub passes_at: Option<f64>,
    /// The lowest rate above it at which it did not; `None`: the search was stopped before there was one, or found
    /// none up to a million.
    pub ceiling: Option<Ceiling>,
    /// Why the goal did not hold in the run that followed at [`Searched::passes_at`], which is longer than a look; `None`: it
    /// held, or there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<String>,
    /// Every look, in order.
    pub looks: Vec<Looked>,
}

/// A rate at which the goal did not hold, twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ceiling {
    /// Requests per second.
    pub rate: f64,
    /// Why.
    pub why: String,
    /// Whether that was the generator's doing: then nothing is known of the target beyond [`Searched::passes_at`].
    pub generator: bool,
}

/// One look at a rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Looked {
    /// Requests per second.
    pub rate: f64,
    /// Why the goal did not hold; `None`: it held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
