//! [`Hint`]: what a server's `Keep-Alive` field says of its connection, and what a pool makes of it. Pure.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CONNECTION, HeaderName, HeaderValue};

/// What a response's `Keep-Alive` field announces: `timeout=5, max=100`.
///
/// It is a courtesy, not a standard: RFC 2068, section 19.7.1.1, gave the field its form and no parameters, and
/// draft-thomson-hybi-http-timeout-03 described `timeout`. Apache httpd and Tomcat send it to whoever says
/// `Connection: keep-alive`, Node always, nginx when it is told to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// For how long the server means to keep the connection open while it is idle.
    pub timeout: Option<Duration>,
    /// How many requests more the connection may carry (Apache httpd, which counts down) or may carry altogether
    /// (Node, where it is always the same). Only 0 has one meaning: no more.
    pub max: Option<u64>,
}

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

impl Hint {
    /// Reads a field value as it came. A parameter that is unknown or no plain number is passed over, a number too
    /// large to count is the largest one, and of a parameter given twice the smaller counts. `None`: nothing is left.
    pub fn parse(value: &[u8]) -> Option<Hint> {
        let hint = Hint::default().and(value);
        (hint != Hint::default()).then_some(hint)
    }

    /// What a response says. Without the connection option `keep-alive` the field is to be ignored (RFC 2068, section
    /// 19.7.1.1): an intermediary that drops `Connection`, as it must, and passes an unknown field on (RFC 9110,
    /// section 7.6.1) has left us the promise of another connection than ours.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Hint> {
        let mut values = headers.get_all(&KEEP_ALIVE).iter().peekable();
        values.peek()?;
        if !headers.get_all(CONNECTION).iter().any(names_keep_alive) {
            return None;
        }
        let hint = values.fold(Hint::default(), |hint, value| hint.and(value.as_bytes()));
        (hint != Hint::default()).then_some(hint)
    }

    fn and(mut self, value: &[u8]) -> Hint {
        for parameter in elements(value) {
            let Some(equals) = parameter.iter().position(|&byte| byte == b'=') else { continue };
            let (name, number) =
                (parameter[..equals].trim_ascii(), number(parameter[equals + 1..].trim_ascii()));
            if name.eq_ignore_ascii_case(b"timeout") {
                self.timeout = smaller(self.timeout, number.map(Duration::from_secs));
            } else if name.eq_ignore_ascii_case(b"max") {
                self.max = smaller(self.max, number);
            }
        }
        self
    }
}

/// The elements of a list (RFC 9110, section 5.6.1). A comma inside a quoted string parts nothing.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    value.split(move |&byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' => return !quoted,
            _ => {}
        }
        false
    })
}

/// Digits, which may stand in quotes, and nothing else.
fn number(text: &[u8]) -> Option<u64> {
    let unquoted = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    let digits = unquoted.unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0_u64, |n, digit| n.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

fn smaller<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    one.into_iter().chain(other).min()
}

fn names_keep_alive(value: &HeaderValue) -> bool {
    elements(value.as_bytes()).any(|option| option.trim_ascii().eq_ignore_ascii_case(b"keep-alive"))
}

/// What a pool makes of a [`Hint`]. A hint holds for its connection until a later response gives another; it decides
/// about rest, never about an exchange under way (nodejs/node#53458).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HintPolicy {
    /// An idle connection is kept for the announced timeout less the margin, in place of
    /// [`PoolConfig::idle_timeout`](crate::PoolConfig::idle_timeout), be that shorter or longer. When nothing is left,
    /// or no further request is allowed, it is not kept at all.
    Honour {
        /// What is taken off, because the request must reach the server before it closes. Default: 1 s, as Node's
        /// agent and .NET; undici takes 2 s.
        margin: Duration,
        /// The longest rest, whatever is announced. Default: 600 s, as undici.
        cap: Duration,
    },
    /// Hints are only recorded.
    Ignore,
}

impl Default for HintPolicy {
    fn default() -> HintPolicy {
        HintPolicy::Honour { margin: Duration::from_secs(1), cap: Duration::from_secs(600) }
    }
}

/// How long a connection may rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// As the pool's configuration says.
    Usual,
    /// For so long, because the server hinted it.
    Hinted(Duration),
    /// It is not to be used again.
    Never,
}

impl HintPolicy {
    pub(crate) fn rest(self, hint: Option<Hint>) -> Rest {
        let (HintPolicy::Honour { margin, cap }, Some(hint)) = (self, hint) else { return Rest::Usual };
        if hint.max == Some(0) {
            return Rest::Never;
        }
        match hint.timeout.map(|timeout| timeout.saturating_sub(margin).min(cap)) {
            None => Rest::Usual,
            Some(Duration::ZERO) => Rest::Never,
            Some(rest) => Rest::Hinted(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hint(timeout: impl Into<Option<u64>>, max: impl Into<Option<u64>>) -> Option<Hint> {
        Some(Hint { timeout: timeout.into().map(Duration::from_secs), max: max.into() })
    }

    #[test]
    fn a_field_value_is_read_as_it_is_meant_or_not_at_all() {
        for (value, expected) in [
            ("timeout=5, max=100", hint(5, 100)),
            ("timeout=5", hint(5, None)),
            ("max=0", hint(None, 0)),
            ("Timeout=5,MAX=7", hint(5, 7)),
            (" timeout = \"5\" ,, foo=\"a, timeout=1\", bar", hint(5, None)),
            ("timeout=10, timeout=5", hint(5, None)),
            ("timeout=99999999999999999999999", hint(u64::MAX, None)),
            ("timeout=-5, max=3", hint(None, 3)),
            ("timeout=+5", None),
            ("timeout=5.5", None),
            ("timeout=5s", None),
            ("timeout=0x5", None),
            ("timeout=", None),
            ("timeout", None),
            ("timeout=\"5", None),
            ("timeout=5;max=3", None),
            ("5", None),
            ("", None),
        ] {
            assert_eq!(Hint::parse(value.as_bytes()), expected, "{value:?}");
        }
    }

    fn said(fields: &[(&str, &str)]) -> Option<Hint> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Hint::of(&headers)
    }

    #[test]
    fn a_hint_counts_only_with_the_connection_option_that_belongs_to_it() {
        let field = ("keep-alive", "timeout=5");
        assert_eq!(said(&[field, ("connection", "keep-alive")]), hint(5, None));
        assert_eq!(said(&[field, ("connection", "foo, Keep-Alive")]), hint(5, None));
        assert_eq!(said(&[field, ("connection", "foo"), ("connection", "KEEP-ALIVE")]), hint(5, None));
        assert_eq!(said(&[field]), None);
        assert_eq!(said(&[field, ("connection", "keep-alive-not")]), None);
        assert_eq!(said(&[("connection", "keep-alive")]), None);
    }

    #[test]
    fn of_two_fields_each_parameters_smaller_value_counts() {
        let fields =
            [("keep-alive", "timeout=9, max=1"), ("keep-alive", "timeout=5"), ("connection", "keep-alive")];
        assert_eq!(said(&fields), hint(5, 1));
    }

    #[test]
    fn a_hint_shortens_or_lengthens_a_rest_within_its_bounds() {
        for (given, expected) in [
            (None, Rest::Usual),
            (hint(None, 100), Rest::Usual),
            (hint(5, 100), Rest::Hinted(Duration::from_secs(4))),
            (hint(75, None), Rest::Hinted(Duration::from_secs(74))),
            (hint(u64::MAX, None), Rest::Hinted(Duration::from_secs(600))),
            (hint(1, None), Rest::Never),
            (hint(0, None), Rest::Never),
            (hint(5, 0), Rest::Never),
            (hint(None, 0), Rest::Never),
        ] {
            assert_eq!(HintPolicy::default().rest(given), expected, "{given:?}");
            assert_eq!(HintPolicy::Ignore.rest(given), Rest::Usual, "{given:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            Hint::parse(&value);
        }

        #[test]
        fn what_is_written_plainly_is_read_back(
            timeout: u64, max: u64, upper: bool, spaces in 0_usize..3, other in "[a-z]{1,4}=[0-9a-z]{0,4}",
        ) {
            prop_assume!(!other.starts_with("max="));
            let gap = " ".repeat(spaces);
            let text = format!("{other},{gap}timeout={timeout}{gap},{gap}max={max}");
            let text = if upper { text.to_uppercase() } else { text };
            prop_assert_eq!(Hint::parse(text.as_bytes()), hint(timeout, max));
        }

        /// However it is said, the pool leaves the margin, and never keeps for longer than the cap.
        #[test]
        fn a_rest_ends_the_margin_before_the_timeout_and_by_the_cap(
            timeout in proptest::option::of(0_u64..100_000), max in proptest::option::of(0_u64..3),
            margin in 0_u64..5_000, cap in 1_u64..1_000_000,
        ) {
            let policy = HintPolicy::Honour { margin: Duration::from_millis(margin), cap: Duration::from_millis(cap) };
            let given = Hint { timeout: timeout.map(Duration::from_secs), max };
            match policy.rest(Some(given)) {
                Rest::Hinted(rest) => {
                    prop_assert!(rest > Duration::ZERO && rest <= Duration::from_millis(cap));
                    prop_assert!(rest + Duration::from_millis(margin) <= given.timeout.unwrap());
                    prop_assert_ne!(max, Some(0));
                }
                Rest::Never => prop_assert!(
                    max == Some(0) || given.timeout.unwrap() <= Duration::from_millis(margin)
                ),
                Rest::Usual => prop_assert!(timeout.is_none() && max != Some(0)),
            }
        }
    }
}
