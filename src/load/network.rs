//! [`Network`]: by which way a run's connections go.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::Refusal;
use crate::config::{PoolConfig, Resolve};
use crate::origin::Origin;
use crate::route::Route;

/// By which way a run's connections go: the same in every arm.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Addresses to use instead of the resolver's.
    pub resolve: Vec<Resolve>,
    /// Hosts to connect to in place of others; the first that fits counts.
    pub connect_to: Vec<ConnectTo>,
    /// Directly, to a Unix socket, or through a proxy.
    pub route: Route,
    /// The local addresses to connect from, used in turn; empty: the system chooses.
    pub local_addresses: Vec<IpAddr>,
}

/// curl's `--connect-to`: connections for one host and port go to another. The `Host` field and TLS stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    /// Connections to this host, in lower case; `None`: to any.
    pub host: Option<String>,
    /// And to this port; `None`: to any.
    pub port: Option<u16>,
    /// Go to this host, a name or an address; `None`: to the same.
    pub to_host: Option<String>,
    /// And to this port; `None`: to the same.
    pub to_port: Option<u16>,
}

impl ConnectTo {
    fn fits(&self, origin: &Origin) -> bool {
        self.host.as_ref().is_none_or(|host| host == origin.host())
            && self.port.is_none_or(|port| port == origin.port())
    }
}

impl Network {
    /// With what `--connect-to` says of these origins made into addresses. Names are looked up here, once, so that
    /// every connection of the run goes to the same place.
    pub(super) fn settled<'a>(
        mut self,
        origins: impl Iterator<Item = &'a Origin>,
    ) -> Result<Network, Refusal> {
        for origin in origins {
            let Some(rule) = self.connect_to.iter().find(|rule| rule.fits(origin)) else { continue };
            let host = rule.to_host.as_deref().unwrap_or(origin.host());
            let port = rule.to_port.unwrap_or(origin.port());
            let addresses = self.addresses(host, port)?;
            self.resolve.retain(|other| (other.host.as_str(), other.port) != (origin.host(), origin.port()));
            self.resolve.extend(addresses.into_iter().map(|address| Resolve {
                host: origin.host().to_owned(),
                port: origin.port(),
                address,
            }));
        }
        self.connect_to.clear();
        Ok(self)
    }

    fn addresses(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
        let given = self.resolve.iter().filter(|resolve| resolve.host == host && resolve.port == port);
        let given: Vec<SocketAddr> = given.map(|resolve| resolve.address).collect();
        if !given.is_empty() {
            return Ok(given);
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let found = (host, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
        found.ok().filter(|addresses| !addresses.is_empty()).ok_or_else(|| {
            let text =
                format!("--connect-to: `{host}` could not be resolved: correct it, or give an address");
            Refusal::Unreachable(text)
        })
    }

    /// A pool's configuration with this way in it.
    pub(super) fn of(&self, pool: PoolConfig) -> PoolConfig {
        pool.resolve(self.resolve.clone())
            .route(self.route.clone())
            .local_addresses(self.local_addresses.clone())
    }

    /// From how many addresses ports can be had towards a peer, if its address is known: those of its family; a Unix
    /// socket needs none.
    pub(super) fn source_addresses(&self, peer: Option<IpAddr>) -> usize {
        let fits = |local: &&IpAddr| peer.is_none_or(|peer| peer.is_ipv4() == local.is_ipv4());
        match self.route {
            Route::UnixSocket(_) => 1_000_000,
            _ => self.local_addresses.iter().filter(fits).count().max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(host: Option<&str>, port: Option<u16>, to_host: Option<&str>, to_port: Option<u16>) -> ConnectTo {
        ConnectTo { host: host.map(str::to_owned), port, to_host: to_host.map(str::to_owned), to_port }
    }

    #[test]
    fn the_first_rule_that_fits_says_where_connections_go() {
        let network = Network {
            resolve: vec![Resolve {
                host: "b.test".into(),
                port: 81,
                address: "127.0.0.9:9".parse().unwrap(),
            }],
            connect_to: vec![
                rule(Some("a.test"), Some(80), Some("b.test"), Some(81)),
                rule(Some("c.test"), None, Some("127.0.0.3"), None),
                rule(None, Some(443), Some("::1"), Some(1)),
            ],
            ..Network::default()
        };
        let origins = ["http://a.test", "http://c.test:7", "https://d.test", "http://e.test"];
        let origins: Vec<Origin> = origins.iter().map(|url| url.parse().unwrap()).collect();
        let settled = network.settled(origins.iter()).unwrap();
        let to = |host: &str| {
            let found = settled.resolve.iter().find(|resolve| resolve.host == host);
            found.map(|resolve| resolve.address.to_string())
        };
        assert_eq!(to("a.test").as_deref(), Some("127.0.0.9:9"), "of --resolve");
        assert_eq!(to("c.test").as_deref(), Some("127.0.0.3:7"));
        assert_eq!(to("d.test").as_deref(), Some("[::1]:1"));
        assert_eq!(to("e.test"), None);
    }
}
