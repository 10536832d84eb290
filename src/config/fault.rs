//! What cannot work, said with the cure.

use std::time::Duration;

use super::{Keepalive, OnMiss, PoolConfig};
use crate::hint::HintPolicy;
use crate::route::Route;

/// The most names that a [`http::HeaderMap`] holds: three quarters of its 2^15 places. hyper makes room for as many fields
/// as a response has, and a map that is asked for more panics.
const MOST_HEADERS: usize = 24_576;

/// The shortest time that an opening may be given: one of tokio's ticks.
const SHORTEST: Duration = Duration::from_millis(1);

impl PoolConfig {
    /// What cannot work, said with the cure; `None` when everything fits.
    pub fn fault(&self) -> Option<String> {
        self.limit_fault()
            .or_else(|| self.waiting_fault())
            .or_else(|| self.rest_fault())
            .or_else(|| self.dialling_fault())
            .or_else(|| self.exchange_fault())
    }

    /// Limits that nothing could pass.
    fn limit_fault(&self) -> Option<String> {
        for (name, limit) in [
            ("max_connections_per_origin", self.max_connections_per_origin),
            ("max_connections", self.max_connections),
        ] {
            if limit == Some(0) {
                return Some(format!("{name} is 0: no request could ever be sent; use 1 or more, or none"));
            }
        }
        if self.max_opening_per_origin == 0 {
            return Some(
                "max_opening_per_origin is 0: no connection could ever be opened; use 1 or more".into(),
            );
        }
        (self.max_exchanges == Some(0))
            .then(|| "max_exchanges is 0: use 1 for one request per connection, or none".into())
    }

    /// Waiting for what cannot come.
    fn waiting_fault(&self) -> Option<String> {
        if !self.keep_alive && self.on_miss != OnMiss::Open {
            return Some(
                "on_miss waits for connections that come back, and with keep_alive off none does: use \
                 OnMiss::Open, or turn keep_alive on"
                    .into(),
            );
        }
        let OnMiss::WaitThenOpen(wait) = self.on_miss else { return None };
        for (name, limit) in
            [("acquire_timeout", self.acquire_timeout), ("total_timeout", self.total_timeout)]
        {
            if let Some(limit) = limit.filter(|limit| wait >= *limit) {
                return Some(format!(
                    "on_miss waits {wait:?} before it opens a connection, and {name} gives a request up after \
                     {limit:?}: make the wait shorter than the timeout"
                ));
            }
        }
        None
    }

    /// Connections that are said to be kept, and cannot be. No request would say `Connection: close`, and the server
    /// would keep its end for nothing.
    fn rest_fault(&self) -> Option<String> {
        for (name, limit) in [("idle_timeout", self.idle_timeout), ("max_lifetime", self.max_lifetime)] {
            if self.keep_alive && limit == Some(Duration::ZERO) {
                return Some(format!(
                    "{name} is 0: no connection would ever be reused; turn keep_alive off instead"
                ));
            }
        }
        if !(0.0..1.0).contains(&self.lifetime_jitter) {
            return Some(format!(
                "lifetime_jitter is {}: use 0 or more, and less than 1",
                self.lifetime_jitter
            ));
        }
        matches!(self.hint, HintPolicy::Honour { cap: Duration::ZERO, .. })
            .then(|| "the hint's cap is 0: use HintPolicy::Ignore to keep to idle_timeout".into())
    }

    fn dialling_fault(&self) -> Option<String> {
        for (name, limit) in [
            ("connect_timeout", self.connect_timeout),
            ("dns_timeout", self.dns_timeout),
            ("tls_timeout", self.tls_timeout),
            ("tcp_user_timeout", self.tcp_user_timeout),
        ] {
            if let Some(limit) = limit.filter(|limit| *limit < SHORTEST) {
                return Some(format!("{name} is {limit:?}: use 1 ms or more, or none"));
            }
        }
        let is_unix = |route: &Route| matches!(route, Route::UnixSocket(_));
        if !self.local_addresses.is_empty()
            && is_unix(&self.route)
            && self.routes.iter().all(|(_, route)| is_unix(route))
        {
            return Some(
                "local_addresses are given, and a Unix socket has none: leave them out, or choose another route".into(),
            );
        }
        self.tcp_keepalive.and_then(Keepalive::fault)
    }

    fn exchange_fault(&self) -> Option<String> {
        for (name, limit) in [
            ("response_timeout", self.response_timeout),
            ("body_idle_timeout", self.body_idle_timeout),
            ("total_timeout", self.total_timeout),
        ] {
            if limit == Some(Duration::ZERO) {
                return Some(format!("{name} is 0: nothing could ever come in time; use more, or none"));
            }
        }
        for (name, limit) in [("max_headers", self.max_headers), ("max_header_size", self.max_header_size)] {
            if limit == 0 {
                return Some(format!("{name} is 0: no response could ever be read; use more"));
            }
        }
        (self.max_headers > MOST_HEADERS).then(|| {
            format!(
                "max_headers is {}: no more than {MOST_HEADERS} fields can be told apart; use that or less",
                self.max_headers
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::pool::Pool;

    const NOTHING: Option<Duration> = Some(Duration::ZERO);
    const ALMOST: Option<Duration> = Some(Duration::from_micros(999));

    fn config() -> PoolConfig {
        PoolConfig::default()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn keepalive(time: Duration, interval: Duration, count: u32) -> PoolConfig {
        config().tcp_keepalive(Some(Keepalive { time, interval, count }))
    }

    fn waiting(wait: u64) -> PoolConfig {
        config().on_miss(OnMiss::WaitThenOpen(seconds(wait)))
    }

    fn over_a_socket() -> PoolConfig {
        config().route(Route::UnixSocket("/run/app.sock".into())).local_addresses(vec![[127, 0, 0, 1].into()])
    }

    #[test]
    fn what_cannot_work_is_refused_with_its_name_and_the_cure() {
        let capless = HintPolicy::Honour { margin: seconds(1), cap: Duration::ZERO };
        for (name, config, cure) in [
            ("max_connections", config().max_connections(Some(0)), "1 or more"),
            ("max_connections_per_origin", config().max_connections_per_origin(Some(0)), "1 or more"),
            ("max_opening_per_origin", config().max_opening_per_origin(0), "1 or more"),
            ("max_exchanges", config().max_exchanges(Some(0)), "use 1 for"),
            ("on_miss", config().on_miss(OnMiss::LateBind).keep_alive(false), "OnMiss::Open"),
            ("on_miss", waiting(1).keep_alive(false), "OnMiss::Open"),
            ("acquire_timeout", waiting(20).acquire_timeout(Some(seconds(20))), "shorter than"),
            ("total_timeout", waiting(20).total_timeout(Some(seconds(20))), "shorter than"),
            ("idle_timeout", config().idle_timeout(NOTHING), "keep_alive off"),
            ("max_lifetime", config().max_lifetime(NOTHING), "keep_alive off"),
            ("lifetime_jitter", config().lifetime_jitter(1.0), "less than 1"),
            ("lifetime_jitter", config().lifetime_jitter(-0.1), "0 or more"),
            ("lifetime_jitter", config().lifetime_jitter(f64::NAN), "0 or more"),
            ("hint", config().hint(capless), "HintPolicy::Ignore"),
            ("connect_timeout", config().connect_timeout(NOTHING), "1 ms or more, or none"),
            ("dns_timeout", config().dns_timeout(ALMOST), "1 ms or more, or none"),
            ("tls_timeout", config().tls_timeout(ALMOST), "1 ms or more, or none"),
            ("tcp_user_timeout", config().tcp_user_timeout(ALMOST), "1 ms or more, or none"),
            ("local_addresses", over_a_socket(), "another route"),
            ("tcp_keepalive", keepalive(Duration::from_millis(900), seconds(1), 1), "1 s to 32767 s"),
            ("tcp_keepalive", keepalive(seconds(1), seconds(40_000), 1), "1 s to 32767 s"),
            ("tcp_keepalive", keepalive(Duration::from_millis(32_767_500), seconds(1), 1), "1 s to 32767 s"),
            ("tcp_keepalive", keepalive(seconds(1), seconds(1), 0), "1 to 127"),
            ("tcp_keepalive", keepalive(seconds(1), seconds(1), 128), "1 to 127"),
            ("response_timeout", config().response_timeout(NOTHING), "use more, or none"),
            ("body_idle_timeout", config().body_idle_timeout(NOTHING), "use more, or none"),
            ("total_timeout", config().total_timeout(NOTHING), "use more, or none"),
            ("max_headers", config().max_headers(0), "use more"),
            ("max_headers", config().max_headers(MOST_HEADERS + 1), "24576"),
            ("max_header_size", config().max_header_size(0), "use more"),
        ] {
            let error = Pool::new(config).expect_err(name);
            let text = error.to_string();
            assert!(
                error.kind() == ErrorKind::InvalidRequest && text.contains(name) && text.contains(cure),
                "{text}"
            );
        }
    }

    #[test]
    fn what_stands_at_the_very_edge_is_taken() {
        let millisecond = Some(SHORTEST);
        for config in [
            waiting(20).acquire_timeout(None),
            waiting(20).acquire_timeout(Some(seconds(21))).total_timeout(Some(seconds(21))),
            config().connect_timeout(millisecond).dns_timeout(millisecond).tls_timeout(millisecond),
            config().tcp_user_timeout(millisecond).max_headers(MOST_HEADERS).max_header_size(1),
            config().max_connections(Some(1)).max_connections_per_origin(Some(1)).max_opening_per_origin(1),
            config().max_exchanges(Some(1)).lifetime_jitter(0.999),
            // Nothing is kept, and nothing is said to be.
            config().keep_alive(false).idle_timeout(NOTHING).max_lifetime(NOTHING),
            // Whoever waits for a connection takes it, idle or not.
            config().max_idle(0).max_idle_per_origin(0),
            // An exception is reached over TCP.
            over_a_socket().routes(vec![("http://127.0.0.1".parse().unwrap(), Route::Direct)]),
            config()
                .acquire_timeout(NOTHING)
                .linger(Duration::ZERO)
                .unread_timeout(Duration::ZERO)
                .max_unread(0),
            config().max_waiting_per_origin(Some(0)).max_informational(Some(0)),
        ] {
            assert_eq!(config.fault(), None, "{config:?}");
        }
    }
}
