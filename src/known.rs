//! Defaults of well-known servers, proxies and middleboxes, as data with their sources, and which of them fit what
//! was seen. A match is a hint where to look, never a fact: timeouts are configured, and defaults change between
//! versions (Puma went from 20 s to 65 s, Node.js from 5 s to 65 s).

use std::sync::LazyLock;
use std::time::Duration;

use serde::Serialize;

use crate::findings::CloseKind;

/// The table; `late_ms` is how much later than the setting a product closes by design (timer granularity, buffers).
/// Values that are only remembered or that sources contradict are not in it.
const TABLE: &str = include_str!("known/defaults.tsv");

/// A bracket wider than this share of its lower end (and than a second) fits too many defaults to hint at any.
const WIDEST: f64 = 0.1;
/// Time that scheduling and the network add to any timer.
const SLACK: Duration = Duration::from_millis(100);

/// One default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Whose it is.
    pub product: &'static str,
    /// Where the timer works.
    pub hop: Hop,
    /// What it limits.
    pub timer: Timer,
    /// What the setting is called.
    pub setting: &'static str,
    /// The default.
    pub default: Duration,
    /// How much later the product closes by its design.
    pub late: Duration,
    /// The ways in which it ends a connection.
    pub closes: Vec<CloseKind>,
    /// The word with which its `Server` field begins; empty: it passes on that of whoever is behind it; `-`: it is an
    /// origin, and writes none.
    pub server: &'static str,
    /// In which versions or set-ups; empty: all.
    pub when: &'static str,
    /// How well it is known.
    pub evidence: Evidence,
    /// Where that is written.
    pub source: &'static str,
}

/// Where a timer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// A server or proxy, towards its clients.
    Client,
    /// A proxy, towards what stands behind it.
    Upstream,
    /// A NAT, firewall or balancer of packets.
    Packets,
}

/// What a timer limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// Idle time between two requests.
    Between,
    /// Idle time before the first request.
    First,
    /// Both.
    Both,
}

/// How well a default is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// From the product's source code or the documentation within it.
    Source,
    /// From the vendor's documentation.
    Documentation,
    /// From somebody else, who quotes the vendor.
    Secondary,
}

/// A default that fits what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Hint {
    /// Whose default it is.
    pub product: &'static str,
    /// What the setting is called.
    pub setting: &'static str,
    /// The default, in whole seconds.
    pub default_s: u64,
    /// In which versions or set-ups; `None`: all.
    pub when: Option<&'static str>,
    /// Whether the `Server` field of the answers names this product.
    pub named_by_server: bool,
    /// How well it is known.
    pub evidence: Evidence,
    /// Where that is written.
    pub source: &'static str,
}

/// All defaults.
pub fn defaults() -> &'static [Known] {
    static DEFAULTS: LazyLock<Vec<Known>> = LazyLock::new(|| {
        TABLE.lines().skip(1).map(|line| row(line).expect("a test has read the table")).collect()
    });
    &DEFAULTS
}

/// The defaults for idle time between requests that lie between `lower` and `upper` and end a connection in that
/// way. Where there is a `Server` field, products that would have written another name into it are left out; those that
/// pass it on (balancers, NATs) may stand between all the same, and come after whom it names.
pub fn matches(lower: Duration, upper: Duration, close: CloseKind, server: Option<&str>) -> Vec<Hint> {
    let width = upper.saturating_sub(lower);
    if width > lower.mul_f64(WIDEST).max(Duration::from_secs(1)) {
        return Vec::new();
    }
    let fits = |known: &&Known| {
        known.hop != Hop::Upstream
            && known.timer != Timer::First
            && known.closes.contains(&seen_as(close))
            && known.default <= upper + SLACK
            && lower <= known.default + known.late + SLACK
    };
    let may_be = |known: &&Known| server.is_none() || known.server.is_empty() || known.is_named(server);
    let mut hints: Vec<Hint> =
        defaults().iter().filter(fits).filter(may_be).map(|known| hint(known, server)).collect();
    hints.sort_by_key(|hint| !hint.named_by_server);
    hints
}

/// A request that met the close on its way saw the end of a timer that otherwise ends with a FIN.
fn seen_as(close: CloseKind) -> CloseKind {
    if close == CloseKind::Race { CloseKind::Fin } else { close }
}

impl Known {
    /// Whether this `Server` field names it.
    fn is_named(&self, server: Option<&str>) -> bool {
        let start = server.and_then(|server| server.get(..self.server.len())).unwrap_or_default();
        !self.server.is_empty() && start.eq_ignore_ascii_case(self.server)
    }
}

fn hint(known: &Known, server: Option<&str>) -> Hint {
    Hint {
        product: known.product,
        setting: known.setting,
        default_s: known.default.as_secs(),
        when: (!known.when.is_empty()).then_some(known.when),
        named_by_server: known.is_named(server),
        evidence: known.evidence,
        source: known.source,
    }
}

fn row(line: &'static str) -> Option<Known> {
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    Some(Known {
        product: next()?,
        hop: match next()? {
            "client" => Hop::Client,
            "upstream" => Hop::Upstream,
            "packets" => Hop::Packets,
            _ => return None,
        },
        timer: match next()? {
            "between" => Timer::Between,
            "first" => Timer::First,
            "both" => Timer::Both,
            _ => return None,
        },
        setting: next()?,
        default: Duration::from_secs(next()?.parse().ok()?),
        late: Duration::from_millis(next()?.parse().ok()?),
        closes: next()?.split(',').map(close).collect::<Option<_>>()?,
        server: next()?,
        when: next()?,
        evidence: match next()? {
            "source" => Evidence::Source,
            "documentation" => Evidence::Documentation,
            "secondary" => Evidence::Secondary,
            _ => return None,
        },
        source: next()?,
    })
}

fn close(text: &str) -> Option<CloseKind> {
    serde_json::from_value(text.into()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn products(lower_ms: u64, upper_ms: u64, close: CloseKind, server: Option<&str>) -> Vec<&'static str> {
        let (lower, upper) = (Duration::from_millis(lower_ms), Duration::from_millis(upper_ms));
        matches(lower, upper, close, server).iter().map(|hint| hint.product).collect()
    }

    #[test]
    fn every_row_is_whole_and_has_a_source() {
        for line in TABLE.lines().skip(1) {
            let known = row(line).unwrap_or_else(|| panic!("{line}"));
            assert_eq!(line.split('\t').count(), 11, "{line}");
            assert!(!known.product.is_empty() && !known.setting.is_empty(), "{line}");
            assert!(known.source.contains(':') || known.evidence == Evidence::Secondary, "{line}");
            assert!(known.default >= Duration::from_secs(1), "{line}");
        }
        assert!(defaults().len() > 40);
    }

    #[test]
    fn what_names_itself_otherwise_is_left_out() {
        let found = products(74_990, 75_040, CloseKind::Fin, Some("aiohttp/3.9 Python"));
        assert!(
            found[0] == "aiohttp web" && !found.contains(&"nginx"),
            "nginx writes its own name: {found:?}"
        );
        let passed_on = products(59_990, 60_040, CloseKind::Fin, Some("gunicorn"));
        assert!(passed_on.contains(&"AWS Application Load Balancer"), "{passed_on:?}");
        let hint = &matches(
            Duration::from_millis(74_990),
            Duration::from_millis(75_040),
            CloseKind::Fin,
            Some("NGINX/1.22.1"),
        )[0];
        assert_eq!((hint.product, hint.setting, hint.default_s), ("nginx", "keepalive_timeout", 75));
        assert!(hint.named_by_server);
    }

    #[test]
    fn a_product_that_closes_late_by_design_still_fits() {
        // Node.js keeps the connection a second longer than it says
        assert!(products(5_990, 6_010, CloseKind::Fin, None).contains(&"Node.js"));
        assert!(!products(5_990, 6_010, CloseKind::Fin, None).contains(&"uvicorn"));
    }

    #[test]
    fn how_a_connection_ends_tells_products_apart() {
        assert_eq!(products(240_000, 240_500, CloseKind::Silent, None), ["Azure Load Balancer and NAT"]);
        assert_eq!(products(240_000, 240_500, CloseKind::Fin, None), Vec::<&str>::new());
        let at_350 = products(350_000, 350_500, CloseKind::ResetOnSend, None);
        assert_eq!(at_350, ["AWS Network Load Balancer", "AWS NAT gateway"]);
    }

    #[test]
    fn a_bracket_that_fits_everything_hints_at_nothing() {
        assert_eq!(products(1_000, 600_000, CloseKind::Fin, None), Vec::<&str>::new());
        assert!(!products(60_000, 65_900, CloseKind::Fin, None).is_empty());
    }

    #[test]
    fn a_proxys_other_side_and_the_time_before_the_first_request_are_not_matched() {
        assert!(!products(90_000, 90_100, CloseKind::Fin, None).contains(&"Traefik"));
        assert!(!products(60_000, 60_100, CloseKind::Fin, Some("nginx")).contains(&"nginx"));
    }
}
