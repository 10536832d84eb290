//! The first look: one or two requests per arm, before any load, to learn whether and how the target answers.

use std::time::Duration;

use super::request::Template;
use super::{Refusal, Stop};
use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::exchange::Exchange;
use crate::measurement::{Ledger, TargetFacts};
use crate::origin::Scheme;
use crate::plan::Target;
use crate::pool::Pool;
use crate::tls::TlsClient;

/// What the first look told.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstLook {
    pub(super) facts: TargetFacts,
    /// Whether the second request of a kept pool went over the first one's connection.
    pub(super) keeps_connections: bool,
    /// Whether a second TLS handshake resumed the first one's session.
    pub(super) resumes: bool,
    pub(super) ledger: Ledger,
    /// How long the slowest of its responses took.
    pub(super) slowest: Duration,
}

/// A connection's third exchange is asked for only after this pause, so that TLS tickets have been read.
const TICKET_PAUSE: Duration = Duration::from_millis(20);

pub(super) fn look(
    target: &Target,
    max_time: Duration,
    template: &Template,
    pool: &PoolConfig,
    tls: &TlsClient,
    stop: &Stop,
) -> Result<FirstLook, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Refusal::Usage(format!("could not start a runtime: {error}")))?;
    let looking = Looking { target, max_time, template, tls, stop };
    let looked = runtime.block_on(async {
        let kept = looking.ask_twice(pool.clone().keep_alive(true)).await?;
        let fresh = looking.ask_twice(pool.clone().keep_alive(false)).await?;
        let mut ledger = kept.ledger;
        ledger.merge(&fresh.ledger);
        Ok(FirstLook {
            keeps_connections: kept.second.is_reused(),
            resumes: fresh.second.connection.tls.as_ref().is_some_and(|tls| tls.resumed),
            slowest: kept.second.timings.total().max(fresh.second.timings.total()),
            facts: kept.facts,
            ledger,
        })
    });
    // A resolver that does not answer is not waited for.
    runtime.shutdown_background();
    looked
}

struct Looking<'a> {
    target: &'a Target,
    max_time: Duration,
    template: &'a Template,
    tls: &'a TlsClient,
    stop: &'a Stop,
}

struct Pair {
    facts: TargetFacts,
    second: Exchange,
    ledger: Ledger,
}

impl Looking<'_> {
    async fn ask_twice(&self, config: PoolConfig) -> Result<Pair, Refusal> {
        // As long as a request may take, and no longer, whatever comes of it.
        let config = config.total_timeout(Some(self.max_time));
        let pool =
            Pool::with_tls(config, self.tls.clone()).map_err(|error| Refusal::Usage(error.to_string()))?;
        let (facts, _) = self.ask(&pool).await?;
        tokio::time::sleep(TICKET_PAUSE).await;
        let (_, second) = self.ask(&pool).await?;
        let stats = pool.stats();
        let ledger = Ledger {
            exchanges: 2,
            opened: stats.opened,
            reused: stats.reused,
            handshakes_full: stats.handshakes_full,
            handshakes_resumed: stats.handshakes_resumed,
            ..Ledger::default()
        };
        Ok(Pair { facts, second, ledger })
    }

    async fn ask(&self, pool: &Pool) -> Result<(TargetFacts, Exchange), Refusal> {
        let asking = async {
            let response = pool.send_to(&self.template.origin, self.template.request()).await?;
            let status = response.status().as_u16();
            let server = response.headers().get(http::header::SERVER);
            let server = server.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let exchange = response.into_body().finish().await?;
            Ok((status, server, exchange))
        };
        match self.stop.unless_set(asking).await {
            Some(Ok((status, server, exchange))) => Ok((facts(status, server, &exchange), exchange)),
            Some(Err(error)) => Err(Refusal::Unreachable(self.advice(&error))),
            None => Err(Refusal::Unreachable(format!("{}: stopped before it answered", self.target.url))),
        }
    }

    /// The error with what to do about it.
    fn advice(&self, error: &Error) -> String {
        let cure = cure(error, self.template.origin.scheme() == Scheme::Https);
        format!("{}: {error}\n  {cure}", self.target.url)
    }
}

/// What to do about a target that gave no answer.
pub(crate) fn cure(error: &Error, https: bool) -> &'static str {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::ConnectRefused => "start the server, or correct host and port",
        ErrorKind::Dns => "correct the host name, or give an address with --resolve HOST:PORT:ADDRESS",
        ErrorKind::Connect => "check the address and what filters the way to it",
        ErrorKind::ConnectTimeout => "check the address, or raise --connect-timeout",
        ErrorKind::NoPorts => "wait until sockets have left TIME_WAIT, or widen net.ipv4.ip_local_port_range",
        ErrorKind::NoFiles => "raise `ulimit -n`",
        ErrorKind::Tls if text.contains("that is trusted") || text.contains("(CA:TRUE)") => {
            "give the server's root certificate with --cacert FILE, or -k to trust any"
        }
        ErrorKind::Tls if text.contains("the certificate of") => "or trust any certificate with -k",
        // The error has said what to do.
        ErrorKind::Tls => "check the port and the host (plain HTTP/1.1 needs http://)",
        ErrorKind::Proxy => "check the proxy, its URL and what it allows",
        ErrorKind::Timeout => "is it the right URL? raise --max-time if it is only slow",
        _ if !https => "does this port speak plain HTTP/1.1? Over TLS use https://",
        _ => "does this port speak HTTP/1.1?",
    }
}

fn facts(status: u16, server: Option<String>, exchange: &Exchange) -> TargetFacts {
    let connection = &exchange.connection;
    TargetFacts {
        address: connection.remote.to_string(),
        same_machine: connection.remote.ip() == connection.local.ip()
            || connection.remote.ip().is_some_and(|ip| ip.is_loopback()),
        embedded: false,
        status,
        server,
        tls_version: connection.tls.as_ref().map(|tls| tls.version.clone()),
        tls_cipher_suite: connection.tls.as_ref().map(|tls| tls.cipher_suite.clone()),
    }
}
