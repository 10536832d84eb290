//! [`Think`]: the pause of a closed loop between a response and the next request.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::{ns, unit};

/// The pause of a closed loop between a response and the connection's next request, written as `100ms` or
/// `exp:100ms`. On Linux it is kept to a tenth of a millisecond, elsewhere to two milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Think {
    /// How long it is, on average.
    #[serde(rename = "mean_ns", with = "ns")]
    pub mean: Duration,
    /// Whether it is drawn from an exponential distribution, as people think; otherwise it is always the same.
    pub exponential: bool,
}

impl Think {
    /// The pause before the next request.
    pub(crate) fn pause(&self, random: &mut Xoshiro256PlusPlus) -> Duration {
        if self.exponential { self.mean.mul_f64(-unit(random).ln()) } else { self.mean }
    }

    /// The pause before a connection's first: some part of one, so that connections do not ask in step.
    pub(crate) fn first(&self, random: &mut Xoshiro256PlusPlus) -> Duration {
        if self.exponential { self.pause(random) } else { self.mean.mul_f64(unit(random)) }
    }
}

impl fmt::Display for Think {
    /// In a sentence: `10 ms`, or `10 ms on average`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let drawn = if self.exponential { " on average" } else { "" };
        write!(f, "{}{drawn}", crate::duration::say(self.mean))
    }
}

impl FromStr for Think {
    type Err = String;

    /// # Errors
    ///
    /// What is wrong, with the cure.
    fn from_str(text: &str) -> Result<Think, String> {
        let (exponential, time) = text.strip_prefix("exp:").map_or((false, text), |time| (true, time));
        match crate::duration::parse(time) {
            Ok(mean) if !mean.is_zero() => Ok(Think { mean, exponential }),
            _ => {
                Err(format!("`{text}` is no time to think: write 100ms, or exp:100ms for exponential pauses"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_xoshiro::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn pauses_are_constant_or_exponential_of_the_same_mean() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
        let constant: Think = "100ms".parse().unwrap();
        assert_eq!(constant.pause(&mut random), Duration::from_millis(100));
        let drawn: Think = "exp:100ms".parse().unwrap();
        let sum: f64 = (0..10_000).map(|_| drawn.pause(&mut random).as_secs_f64()).sum();
        assert!((sum / 10_000.0 - 0.1).abs() < 0.004, "{sum}");
        assert!("0".parse::<Think>().is_err() && "exp:x".parse::<Think>().is_err());
    }
}
