//! What a ledger of sessions proves: of so many gates of a server against itself, so many failed it.

use statrs::distribution::{Beta, ContinuousCDF};

/// The largest share of false alarms that such a ledger leaves possible, with 95 % confidence: Clopper and Pearson's
/// one-sided bound (*The use of confidence or fiducial limits*, 1934). 299 sessions without an alarm show that less
/// than one in a hundred fails; sixty show that less than one in twenty does.
pub fn upper_bound(alarms: u32, sessions: u32) -> f64 {
    share_at_most(alarms.into(), sessions.into(), 0.05)
}

/// The largest share that so many hits leave possible at this one-sided level.
pub(super) fn share_at_most(hits: u64, of: u64, level: f64) -> f64 {
    if hits >= of {
        return 1.0;
    }
    let (a, b) = (hits as f64 + 1.0, (of - hits) as f64);
    Beta::new(a, b).expect("both are above zero").inverse_cdf(1.0 - level)
}

#[cfg(test)]
mod tests {
    use super::upper_bound;

    #[test]
    fn the_bound_falls_below_one_in_a_hundred_at_the_numbers_of_the_tables() {
        for (alarms, sessions) in [(0, 299), (1, 473), (2, 628), (3, 773), (5, 1049)] {
            assert!(upper_bound(alarms, sessions) < 0.01, "{alarms} of {sessions}");
            assert!(upper_bound(alarms, sessions - 1) >= 0.01, "{alarms} of {}", sessions - 1);
        }
        // Without an alarm it is 1 - 0.05^(1/n).
        assert!((upper_bound(0, 60) - (1.0 - 0.05_f64.powf(1.0 / 60.0))).abs() < 1e-9);
        assert_eq!(upper_bound(3, 3), 1.0);
    }
}
