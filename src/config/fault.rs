//! What cannot work, said with the cure.

use std::time::Duration;

use super::{Keepalive, OnMiss, PoolConfig};
use crate::hint::HintPolicy;

/// The most names that a [`http::HeaderMap`] holds: three quarters of its 2^15 places. hyper makes room for as many fields
/// as a response has, and a map that is asked for more panics.
const MOST_HEADERS: usize = 24_576;

impl PoolConfig {
    /// What cannot work, said with the cure; `None` when everything fits.
    pub fn fault(&self) -> Option<String> {
        if self.max_connections_per_origin == Some(0) {
            return Some(
                "max_connections_per_origin is 0: no request could ever be sent; use 1 or more".into(),
            );
        }
        if self.max_connections == Some(0) {
            return Some("max_connections is 0: no request could ever be sent; use 1 or more".into());
        }
        if self.max_opening_per_origin == 0 {
            return Some(
                "max_opening_per_origin is 0: no connection could ever be opened; use 1 or more".into(),
            );
        }
        if !self.keep_alive && self.on_miss != OnMiss::Open {
            return Some(
                "on_miss waits for connections that come back, and with keep_alive off none does: use \
                 OnMiss::Open, or turn keep_alive on"
                    .into(),
            );
        }
        if let (OnMiss::WaitThenOpen(wait), Some(limit)) = (self.on_miss, self.acquire_timeout)
            && wait >= limit
        {
            return Some(format!(
                "on_miss waits {wait:?} before it opens a connection, and acquire_timeout gives a request up after \
                 {limit:?}: make the wait shorter than the timeout"
            ));
        }
        if self.max_exchanges == Some(0) {
            return Some("max_exchanges is 0: use 1 for one request per connection, or none".into());
        }
        if self.max_lifetime == Some(Duration::ZERO) {
            return Some("max_lifetime is 0: turn keep_alive off instead".into());
        }
        self.dialling_fault().or_else(|| self.exchange_fault()).or_else(|| self.reuse_fault())
    }

    fn dialling_fault(&self) -> Option<String> {
        for (name, limit) in [
            ("dns_timeout", self.dns_timeout),
            ("tls_timeout", self.tls_timeout),
            ("tcp_user_timeout", self.tcp_user_timeout),
        ] {
            if limit.is_some_and(|limit| limit < Duration::from_millis(1)) {
                return Some(format!("{name} is {:?}: use 1 ms or more, or none", limit.unwrap_or_default()));
            }
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

    fn reuse_fault(&self) -> Option<String> {
        if !(0.0..1.0).contains(&self.lifetime_jitter) {
            return Some(format!(
                "lifetime_jitter is {}: use 0 or more, and less than 1",
                self.lifetime_jitter
            ));
        }
        matches!(self.hint, HintPolicy::Honour { cap: Duration::ZERO, .. })
            .then(|| "the hint's cap is 0: use HintPolicy::Ignore to keep to idle_timeout".into())
    }
}
