//! [`TracingObserver`]: a pool's events as events of `tracing`.

use std::net::IpAddr;
use std::time::Duration;

use tracing::debug;
use tracing::field::{DisplayValue, display};

use super::{Event, Observer, Step, StepEnd};
use crate::error::Error;
use crate::exchange::{ConnectionFacts, Exchange};
use crate::phase::ConnectTimings;

/// Tells `tracing` what a pool tells its observer: events of the level `DEBUG` and the target `keeplive`, inside the
/// span that the request's own task is in.
///
/// Fields are named by OpenTelemetry's semantic conventions where those have a word: `server.address`, `server.port`,
/// `network.peer.address`, `network.peer.port`, `network.local.address`, `network.local.port`, `tls.protocol.version`,
/// `tls.cipher`, `tls.next_protocol`, `tls.resumed`,
/// `http.response.status_code`, `http.request.resend_count`, `http.connection.state` (`active`, `idle`), `error.type`.
/// Where they have none, by `keeplive.` and the library's own: `keeplive.connection.id`, `keeplive.close.reason`,
/// `keeplive.exchanges`. Durations are in seconds, as there.
///
/// With a subscriber that does not want them an event costs what `tracing` takes to see that: a load and a branch.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingObserver;

/// One event, with the origin that every event has.
macro_rules! told {
    ($event:expr, { $($field:tt)* }, $($text:tt)+) => {
        debug!(
            target: "keeplive",
            {
                server.address = $event.origin().host(),
                server.port = $event.origin().port(),
                keeplive.connection.id = $event.connection().map(|connection| connection.id.0),
                $($field)*
            },
            $($text)+
        )
    };
}

impl Observer for TracingObserver {
    fn event(&self, event: &Event<'_>) {
        match *event {
            Event::Asked { .. } => told!(event, {}, "a request asks for a connection"),
            Event::Waiting { .. } => told!(event, {}, "a request waits for its turn"),
            Event::Opening { .. } => told!(event, {}, "a connection is being opened"),
            Event::StepBegun { step, .. } => told!(event, {
                keeplive.step = step.as_str(),
                network.peer.address = address_of(step),
            }, "a part of an opening begins"),
            Event::StepEnded { step, took, end, .. } => told!(event, {
                keeplive.step = step.as_str(),
                network.peer.address = address_of(step),
                keeplive.step.end = end.as_str(),
                keeplive.took = seconds(took),
                error = failure_of(&end).map(display),
            }, "a part of an opening has ended"),
            Event::Opened { connection, timings, .. } => opened(event, connection, timings),
            Event::NotOpened { error, .. } => {
                told!(event, { error.type = error.kind().as_str(), %error, }, "a connection could not be opened");
            }
            Event::Abandoned { after, .. } => {
                told!(event, { keeplive.age = seconds(after), }, "the opening of a connection was given up");
            }
            Event::Granted { exchanges, idle, waited, .. } => told!(event, {
                http.connection.state = "active",
                keeplive.exchanges = exchanges,
                keeplive.idle = idle.map(seconds),
                keeplive.waited = seconds(waited),
            }, "a request has a connection"),
            Event::Refused { error, .. } => {
                told!(event, { error.type = error.kind().as_str(), %error, }, "a request gets no connection");
            }
            Event::Head { status, send, wait, .. } => told!(event, {
                http.response.status_code = status.as_u16(),
                keeplive.send = seconds(send),
                keeplive.wait = seconds(wait),
            }, "a response's head has come"),
            Event::Exchanged { exchange, .. } => exchange_ended(event, exchange, None),
            Event::Failed { error, .. } => match error.exchange() {
                Some(so_far) => exchange_ended(event, so_far, Some(error)),
                None => told!(event, { error.type = error.kind().as_str(), %error, }, "{}", FAILED),
            },
            Event::Retried { retry, .. } => told!(event, {
                error.type = retry.kind.as_str(),
                keeplive.idle = seconds(retry.idle_before),
                keeplive.took = seconds(retry.took),
            }, "a request is made again"),
            Event::Returned { .. } => {
                told!(event, { http.connection.state = "idle", }, "a connection goes back")
            }
            Event::Closed { reason, exchanges, age, idle, .. } => told!(event, {
                keeplive.close.reason = reason.as_str(),
                keeplive.exchanges = exchanges,
                keeplive.age = seconds(age),
                keeplive.idle = idle.map(seconds),
            }, "a connection is closed"),
        }
    }
}

const FAILED: &str = "an exchange failed";

/// All that the record of an exchange tells, of one that failed as far as it came. Its retries are events of their own.
fn exchange_ended(event: &Event<'_>, exchange: &Exchange, error: Option<&Error>) {
    let Exchange { connection, timings, hint, .. } = exchange;
    let (tls, opening) = (connection.tls.as_ref(), timings.connect);
    let text = if error.is_some() { FAILED } else { "an exchange is complete" };
    told!(event, {
        error.type = error.map(|error| error.kind().as_str()),
        error = error.map(display),
        network.peer.address = connection.remote.ip().map(display),
        network.peer.port = connection.remote.port(),
        network.local.address = connection.local.ip().map(display),
        network.local.port = connection.local.port(),
        tls.protocol.version = tls.map(|tls| tls.version.as_str()),
        tls.cipher = tls.map(|tls| tls.cipher_suite.as_str()),
        tls.next_protocol = tls.and_then(|tls| tls.alpn.as_deref()),
        tls.resumed = tls.map(|tls| tls.resumed),
        http.request.resend_count = exchange.retries.len(),
        keeplive.obtained = exchange.obtained.as_str(),
        keeplive.exchanges = exchange.nth,
        keeplive.age = seconds(exchange.age),
        keeplive.idle = exchange.idle_before.map(seconds),
        keeplive.blocked = seconds(timings.blocked),
        keeplive.queued = seconds(exchange.queued()),
        keeplive.dns = opening.and_then(|opening| opening.dns).map(seconds),
        keeplive.connect = opening.map(|opening| seconds(opening.tcp)),
        keeplive.proxy = opening.and_then(|opening| opening.proxy).map(seconds),
        keeplive.tls = opening.and_then(|opening| opening.tls).map(seconds),
        keeplive.send = seconds(timings.send),
        keeplive.wait = seconds(timings.wait),
        keeplive.receive = seconds(timings.receive),
        keeplive.total = seconds(timings.total()),
        keeplive.bytes.out = exchange.bytes_out,
        keeplive.bytes.in = exchange.bytes_in,
        keeplive.hint.timeout = hint.and_then(|hint| hint.timeout).map(seconds),
        keeplive.hint.max = hint.and_then(|hint| hint.max),
    }, "{}", text);
}

fn opened(event: &Event<'_>, connection: &ConnectionFacts, timings: Option<ConnectTimings>) {
    let tls = connection.tls.as_ref();
    told!(event, {
        network.peer.address = connection.remote.ip().map(display),
        network.peer.port = connection.remote.port(),
        network.local.address = connection.local.ip().map(display),
        network.local.port = connection.local.port(),
        tls.protocol.version = tls.map(|tls| tls.version.as_str()),
        tls.cipher = tls.map(|tls| tls.cipher_suite.as_str()),
        tls.next_protocol = tls.and_then(|tls| tls.alpn.as_deref()),
        tls.resumed = tls.map(|tls| tls.resumed),
        keeplive.attempts = timings.map(|timings| timings.attempts),
        keeplive.dns = timings.and_then(|timings| timings.dns).map(seconds),
        keeplive.connect = timings.map(|timings| seconds(timings.tcp)),
        keeplive.proxy = timings.and_then(|timings| timings.proxy).map(seconds),
        keeplive.tls = timings.and_then(|timings| timings.tls).map(seconds),
    }, "a connection was opened");
}

fn address_of(step: Step<'_>) -> Option<DisplayValue<IpAddr>> {
    match step {
        Step::Attempt { address } => Some(display(address.ip())),
        _ => None,
    }
}

fn failure_of<'a>(end: &StepEnd<'a>) -> Option<&'a (dyn std::error::Error + 'static)> {
    match *end {
        StepEnd::Failed(error) => Some(error),
        _ => None,
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Level, Metadata, Subscriber};

    use super::*;
    use crate::error::{ErrorKind, Retry};
    use crate::exchange::{ConnectionId, Obtained, TlsFacts};
    use crate::hint::Hint;
    use crate::idle::CloseReason;
    use crate::origin::Origin;
    use crate::phase::Timings;

    #[derive(Clone, Default)]
    struct Collected(Arc<Mutex<Vec<BTreeMap<String, String>>>>);

    struct Fields(BTreeMap<String, String>);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.insert(field.name().into(), format!("{value:?}"));
        }
    }

    impl Subscriber for Collected {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::DEBUG && metadata.target() == "keeplive"
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &tracing::Event<'_>) {
            let mut fields = Fields(BTreeMap::new());
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    fn exchange() -> Exchange {
        let address = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().into();
        let tls = TlsFacts {
            version: "TLSv1.3".into(),
            cipher_suite: "TLS13_AES_256_GCM_SHA384".into(),
            alpn: Some("http/1.1".into()),
            resumed: true,
        };
        let (remote, local) = (address("192.0.2.1:443"), address("192.0.2.2:4000"));
        let connection = Arc::new(ConnectionFacts { id: ConnectionId(7), remote, local, tls: Some(tls) });
        let ms = Duration::from_millis;
        let connect =
            ConnectTimings { dns: Some(ms(1)), tcp: ms(2), proxy: None, tls: Some(ms(3)), attempts: 1 };
        let retry = Retry { kind: ErrorKind::NotSent, idle_before: ms(900), took: ms(1) };
        Exchange {
            connection,
            obtained: Obtained::LateBound,
            nth: 2,
            age: ms(9000),
            idle_before: Some(ms(500)),
            timings: Timings {
                blocked: ms(4),
                connect: Some(connect),
                send: ms(5),
                wait: ms(6),
                receive: ms(7),
            },
            retries: vec![retry],
            hint: Some(Hint { timeout: Some(ms(60_000)), max: Some(9) }),
            bytes_out: 10,
            bytes_in: 20,
            done: crate::clock::now(),
        }
    }

    #[test]
    fn an_exchange_is_told_whole_and_one_that_failed_as_far_as_it_came() {
        let (exchange, failed) = (exchange(), Error::new(ErrorKind::Reset).after_exchange(exchange()));
        let (origin, collected): (Origin, _) = ("https://example.com".parse().unwrap(), Collected::default());
        tracing::subscriber::with_default(collected.clone(), || {
            let (origin, connection) = (&origin, &*exchange.connection);
            TracingObserver.event(&Event::Exchanged { origin, exchange: &exchange });
            TracingObserver.event(&Event::Failed { origin, connection, error: &failed });
        });
        let told = collected.0.lock().unwrap();
        let expected = [
            ("keeplive.connection.id", "7"),
            ("network.peer.address", "192.0.2.1"),
            ("network.peer.port", "443"),
            ("network.local.address", "192.0.2.2"),
            ("network.local.port", "4000"),
            ("tls.protocol.version", "\"TLSv1.3\""),
            ("tls.cipher", "\"TLS13_AES_256_GCM_SHA384\""),
            ("tls.next_protocol", "\"http/1.1\""),
            ("tls.resumed", "true"),
            ("http.request.resend_count", "1"),
            ("keeplive.obtained", "\"late_bound\""),
            ("keeplive.exchanges", "2"),
            ("keeplive.age", "9.0"),
            ("keeplive.idle", "0.5"),
            ("keeplive.blocked", "0.004"),
            ("keeplive.queued", "0.003"),
            ("keeplive.dns", "0.001"),
            ("keeplive.connect", "0.002"),
            ("keeplive.tls", "0.003"),
            ("keeplive.send", "0.005"),
            ("keeplive.wait", "0.006"),
            ("keeplive.receive", "0.007"),
            ("keeplive.total", "0.028"),
            ("keeplive.bytes.out", "10"),
            ("keeplive.bytes.in", "20"),
            ("keeplive.hint.timeout", "60.0"),
            ("keeplive.hint.max", "9"),
        ];
        for (name, value) in expected {
            for told in &*told {
                assert_eq!(told.get(name).map(String::as_str), Some(value), "{name}");
            }
        }
        assert_eq!(told[0].get("keeplive.proxy"), None);
        assert_eq!(told[0].get("message").map(String::as_str), Some("an exchange is complete"));
        assert_eq!(told[0].get("error.type"), None);
        assert_eq!(told[1].get("message").map(String::as_str), Some(FAILED));
        assert_eq!(told[1].get("error.type").map(String::as_str), Some("\"reset\""));
    }

    #[test]
    fn an_event_has_the_names_of_opentelemetry_and_no_field_that_says_nothing() {
        let origin: Origin = "http://example.com".parse().unwrap();
        let connection = ConnectionFacts {
            id: ConnectionId(7),
            remote: "192.0.2.1:80".parse::<std::net::SocketAddr>().unwrap().into(),
            local: "192.0.2.2:4000".parse::<std::net::SocketAddr>().unwrap().into(),
            tls: None,
        };
        let (origin, connection) = (&origin, &connection);
        let collected = Collected::default();
        tracing::subscriber::with_default(collected.clone(), || {
            let (reason, age) = (CloseReason::PeerFin, Duration::from_millis(1500));
            let (tcp, proxy) = (Duration::from_millis(2), Some(Duration::from_millis(3)));
            let timings = Some(ConnectTimings { tcp, proxy, attempts: 1, ..ConnectTimings::default() });
            TracingObserver.event(&Event::Opened { origin, connection, timings });
            let idle = None;
            TracingObserver.event(&Event::Closed { origin, connection, reason, exchanges: 3, age, idle });
            TracingObserver.event(&Event::Refused { origin, error: &Error::new(ErrorKind::AcquireTimeout) });
        });
        let told = collected.0.lock().unwrap();
        let field = |n: usize, name: &str| told[n].get(name).map(String::as_str);
        assert_eq!(field(0, "server.address"), Some("\"example.com\""));
        assert_eq!(field(0, "server.port"), Some("80"));
        assert_eq!(field(0, "network.peer.address"), Some("192.0.2.1"));
        assert_eq!(field(0, "keeplive.connection.id"), Some("7"));
        assert_eq!(field(0, "tls.resumed"), None);
        assert_eq!(
            (field(0, "keeplive.connect"), field(0, "keeplive.proxy")),
            (Some("0.002"), Some("0.003"))
        );
        assert_eq!(field(1, "keeplive.close.reason"), Some("\"peer_fin\""));
        assert_eq!(field(1, "keeplive.age"), Some("1.5"));
        assert_eq!(field(2, "error.type"), Some("\"acquire_timeout\""));
        assert_eq!(field(2, "keeplive.connection.id"), None);
    }
}
