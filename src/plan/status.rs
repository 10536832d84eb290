//! [`Statuses`]: which statuses count as a good answer.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The statuses that count as a good answer, written as `200`, `2xx`, `200-299`, or several of these with commas.
///
/// ```
/// let good: keeplive::plan::Statuses = "2xx,304".parse()?;
/// assert!(good.contains(204) && good.contains(304) && !good.contains(404));
/// # Ok::<_, String>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    /// Whether this status is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl FromStr for Statuses {
    type Err = String;

    /// # Errors
    ///
    /// What is wrong, with the cure.
    fn from_str(text: &str) -> Result<Statuses, String> {
        text.split(',').map(range).collect::<Option<Vec<_>>>().map(Statuses).ok_or_else(|| {
            format!("`{text}` names no statuses: write 200, 2xx, 200-299, or several of these with commas")
        })
    }
}

/// A status has three digits and a class from 1 to 5 (RFC 9110, section 15).
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let text = text.trim();
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|status| digits && (100..600).contains(status))
    };
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some(class * 100..=class * 100 + 99);
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (status(from)?, status(to)?);
    (from <= to).then_some(from..=to)
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, range) in self.0.iter().enumerate() {
            let comma = if nth > 0 { "," } else { "" };
            match (*range.start(), *range.end()) {
                (from, to) if from == to => write!(f, "{comma}{from}")?,
                (from, to) if from % 100 == 0 && to == from + 99 => write!(f, "{comma}{}xx", from / 100)?,
                (from, to) => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Statuses {
    type Error = String;

    fn try_from(text: String) -> Result<Statuses, String> {
        text.parse()
    }
}

impl From<Statuses> for String {
    fn from(statuses: Statuses) -> String {
        statuses.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_a_class_a_range_or_several() {
        for (text, inside, outside) in [
            ("200", vec![200], vec![201, 404]),
            ("2xx", vec![200, 299], vec![199, 300]),
            ("200-204", vec![200, 204], vec![205]),
            ("404,5xx, 200", vec![404, 503, 200], vec![201]),
        ] {
            let statuses: Statuses = text.parse().unwrap();
            assert!(inside.iter().all(|&status| statuses.contains(status)), "{text}");
            assert!(!outside.iter().any(|&status| statuses.contains(status)), "{text}");
            assert_eq!(statuses.to_string().parse(), Ok(statuses), "{text}");
        }
    }

    #[test]
    fn what_names_no_status_is_refused_with_the_cure() {
        for text in ["", "ok", "20", "2000", "0xx", "6xx", "300-200", "200,", "+20", "2x"] {
            assert!(text.parse::<Statuses>().unwrap_err().contains("200-299"), "{text}");
        }
    }
}
