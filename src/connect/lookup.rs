//! From a host's name to its addresses.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::observer::{Step, StepEnd, Steps};
use crate::phase::Phase;

/// The addresses for which nobody need be asked: overrides first, then literals.
pub(super) fn known(host: &str, port: u16, config: &PoolConfig) -> Result<Option<Vec<SocketAddr>>, Error> {
    let given = config.resolve.iter().filter(|resolve| resolve.port == port && names(&resolve.host, host));
    let given: Vec<_> = given.map(|resolve| resolve.address).collect();
    if !given.is_empty() {
        return Ok(Some(given));
    }
    Ok(literal(host, port)?.map(|address| vec![address]))
}

/// Whether what a user wrote is this host, which is in lower case and without brackets.
fn names(written: &str, host: &str) -> bool {
    let written = written.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(written);
    written.eq_ignore_ascii_case(host)
}

/// The addresses that the resolver names.
pub(super) async fn ask(
    host: &str,
    port: u16,
    config: &PoolConfig,
    steps: Steps<'_>,
) -> Result<Vec<SocketAddr>, Error> {
    let step = steps.begin(Step::Lookup { host });
    let answered = match &config.resolver {
        Some(resolver) => answer(host, resolver.lookup(host, port).await),
        // getaddrinfo blocks: tokio gives it a thread, which a request that is given up does not stop.
        None => answer(host, tokio::net::lookup_host((host, port)).await.map(Iterator::collect)),
    };
    step.end(match &answered {
        Ok(addresses) => StepEnd::Found(addresses),
        Err(error) => StepEnd::Failed(error),
    });
    answered
}

fn answer(host: &str, answer: io::Result<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>, Error> {
    let failed = |text: String| Error::new(ErrorKind::Dns).at(Phase::Dns).with_detail(text);
    match answer {
        Ok(addresses) if addresses.is_empty() => {
            Err(failed(format!("`{host}` has no address: the resolver answered with none")))
        }
        Ok(addresses) => Ok(addresses),
        Err(source) => Err(failed(format!("`{host}` could not be resolved")).with_source(source)),
    }
}

/// A host that is an address, with its zone if it has one; `None`: it is a name.
pub(super) fn literal(host: &str, port: u16) -> Result<Option<SocketAddr>, Error> {
    let Some((address, zone)) = host.split_once('%') else {
        return Ok(host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port)));
    };
    let Ok(ip) = address.parse::<Ipv6Addr>() else { return Ok(None) };
    let scope = interface(zone).map_err(|source| {
        let text = format!("`{zone}` of `{host}` is no network interface of this machine");
        Error::new(ErrorKind::InvalidRequest).at(Phase::Dns).with_detail(text).with_source(source)
    })?;
    Ok(Some(SocketAddrV6::new(ip, port, 0, scope).into()))
}

/// An interface's number, by number or by name.
fn interface(zone: &str) -> io::Result<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    // The kernel answers through any socket.
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(netdevice::name_to_index(&any, zone)?)
}
