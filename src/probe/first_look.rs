//! The first look: which address answers, what it says of its timers, and whether it keeps connections at all.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::answer::{Head, keep_alive};
use super::field::Field;
use super::line::{Line, Reply};
use crate::config::Resolve;
use crate::error::Error;
use crate::findings::{Advertised, Probed};
use crate::load::{Refusal, first_look};
use crate::origin::Origin;

/// What the first look told.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) probed: Probed,
    pub(super) advertised: Option<Advertised>,
    /// Whether the first answer left the connection open.
    pub(super) keeps: bool,
    /// Whether the kernel tells of connections.
    pub(super) has_tcp_info: bool,
    /// How long the first answer took.
    pub(super) answered_in: Duration,
}

/// The addresses of an origin, in the resolver's order.
pub(super) async fn addresses(origin: &Origin, resolve: &[Resolve]) -> Result<Vec<SocketAddr>, Refusal> {
    let (host, port) = (origin.host(), origin.port());
    if let Some(resolve) = resolve.iter().find(|one| one.host == host && one.port == port) {
        return Ok(vec![resolve.address]);
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let failed = |why: String| {
        Refusal::Unreachable(format!(
            "`{host}` could not be resolved{why}\n  correct the host name, or give an address with --resolve \
             HOST:PORT:ADDRESS"
        ))
    };
    let mut found: Vec<SocketAddr> = Vec::new();
    for address in
        tokio::net::lookup_host((host, port)).await.map_err(|error| failed(format!(": {error}")))?
    {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() { Err(failed(String::new())) } else { Ok(found) }
}

/// Two questions on one connection: the second tells whether a `max=` counts down.
pub(super) async fn look(field: &Field, url: &str) -> Result<Looked, Refusal> {
    let mut line = field.open(field.is_tls()).await.map_err(|error| refused(field, url, &error))?;
    let mut looked = Looked {
        probed: Probed {
            url: url.to_owned(),
            address: field.address.to_string(),
            tls_version: line.tls_version.clone(),
            ..Probed::default()
        },
        has_tcp_info: line.told(field.diag.as_ref()).is_some(),
        keeps: true,
        ..Looked::default()
    };
    let Some(first) = ask(field, &mut line, url, &mut looked.answered_in).await? else { return Ok(looked) };
    looked.probed.status = (first.status > 0).then_some(first.status);
    looked.probed.server.clone_from(&first.server);
    looked.probed.via.clone_from(&first.via);
    looked.keeps = !first.says_close;
    looked.advertised = first.keep_alive.as_deref().map(advertised);
    if let (true, Some(advertised)) = (looked.keeps, &mut looked.advertised) {
        let second = line.ask(&field.speech, field.patience, field.diag.as_ref()).await;
        if let Reply::Answered(Head { keep_alive: Some(text), .. }) = second {
            advertised.next_max = keep_alive(&text).1;
        }
    }
    Ok(looked)
}

fn advertised(text: &str) -> Advertised {
    let (timeout, max) = keep_alive(text);
    Advertised { timeout, max, next_max: None, field: text.to_owned() }
}

/// The first answer; `None` where there is nothing to say.
async fn ask(
    field: &Field,
    line: &mut Line,
    url: &str,
    took: &mut Duration,
) -> Result<Option<Head>, Refusal> {
    if !field.greets() {
        return Ok(None);
    }
    let asked = crate::clock::now();
    let reply = line.ask(&field.speech, field.patience, field.diag.as_ref()).await;
    *took = crate::clock::now() - asked;
    let https = field.is_tls();
    let unreachable = |text: String| Err(Refusal::Unreachable(format!("{url}: {text}")));
    match reply {
        Reply::Answered(head) => Ok(Some(head)),
        Reply::NoAnswer => unreachable(format!(
            "no answer within {:?}\n  is it the right URL? raise --max-time if it is only slow",
            field.patience
        )),
        Reply::Ended(_) => {
            let cure = if https {
                "does this port speak HTTP/1.1?"
            } else {
                "does this port speak plain HTTP/1.1? Over TLS use https://"
            };
            unreachable(format!("the connection ended before any byte of an answer\n  {cure}"))
        }
        Reply::Broken => {
            let cure = if https {
                "does this port speak HTTP/1.1?"
            } else {
                "does this port speak plain HTTP/1.1? Over TLS use https://; for other protocols tcp://"
            };
            unreachable(format!("the answer is not HTTP/1.1\n  {cure}"))
        }
    }
}

/// The error with what to do about it.
fn refused(field: &Field, url: &str, error: &Error) -> Refusal {
    let cure = first_look::cure(error, field.is_tls());
    Refusal::Unreachable(format!("{url}: {error}\n  {cure}"))
}
