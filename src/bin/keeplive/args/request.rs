//! What is asked for, and by which way, in curl's words.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use keeplive::Resolve;
use keeplive::duration::parse as duration;
use keeplive::load::ConnectTo;
use keeplive::plan::Statuses;
use nix::ifaddrs::{InterfaceAddress, getifaddrs};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Request")]
pub(crate) struct RequestArgs {
    /// Header field to add, 'Name: value'; 'Name:' leaves a field out that is sent otherwise, 'Name;' sends it empty.
    /// May be given more than once
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub(crate) headers: Vec<String>,
    /// Method [default: GET, or POST with a body]
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) request: Option<String>,
    /// Body to send; @FILE reads it from a file, without its line ends, as curl does. Several are joined with &
    #[arg(short, long, value_name = "DATA", conflicts_with = "json")]
    pub(crate) data: Vec<String>,
    /// The same, and a file is sent as it is
    #[arg(long, value_name = "DATA", conflicts_with_all = ["data", "json"])]
    pub(crate) data_binary: Option<String>,
    /// JSON to send, @FILE reads it from a file: POST, with Content-Type and Accept application/json
    #[arg(long, value_name = "JSON")]
    pub(crate) json: Option<String>,
    /// Who asks, by Basic authentication
    #[arg(short, long, value_name = "USER:PASSWORD")]
    pub(crate) user: Option<String>,
    /// User-Agent field; an empty one leaves it out
    #[arg(short = 'A', long, value_name = "NAME")]
    pub(crate) user_agent: Option<String>,
    /// Cookie field; several are joined with '; '
    #[arg(short = 'b', long, value_name = "NAME=VALUE")]
    pub(crate) cookie: Vec<String>,
    /// Accept compressed responses. They are counted as they come, and not decoded
    #[arg(long)]
    pub(crate) compressed: bool,
    /// How long one request may take, from its start to its last byte [unit: s, or with a suffix]
    #[arg(short = 'm', long, default_value = "5s", value_name = "TIME", value_parser = duration)]
    pub(crate) max_time: Duration,
    /// Connect to ADDRESS for HOST and PORT, instead of resolving; may be given more than once
    #[arg(long, value_name = "HOST:PORT:ADDRESS", value_parser = resolve)]
    pub(crate) resolve: Vec<Resolve>,
}

/// By which way, and what counts as good.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Way and answer")]
pub(crate) struct WayArgs {
    /// Connect to HOST2:PORT2 where HOST1:PORT1 is meant; an empty host or port stands for any, and for the same. The
    /// first that fits counts; a name is looked up once, before the run
    #[arg(long, value_name = "HOST1:PORT1:HOST2:PORT2", value_parser = connect_to)]
    pub(crate) connect_to: Vec<ConnectTo>,
    /// Connect to this Unix socket, whatever the URL's host
    #[arg(long, value_name = "PATH", conflicts_with_all = ["connect_to", "proxy", "local_addr", "resolve"])]
    pub(crate) unix_socket: Option<PathBuf>,
    /// Proxy: [http://|https://|socks5://|socks5h://][USER:PASSWORD@]HOST:PORT. No environment variable is read
    #[arg(short = 'x', long, value_name = "PROXY", conflicts_with = "connect_to")]
    pub(crate) proxy: Option<String>,
    /// Who asks the proxy, by Basic authentication or that of SOCKS
    #[arg(long, value_name = "USER:PASSWORD", requires = "proxy")]
    pub(crate) proxy_user: Option<String>,
    /// Have an HTTP proxy make a tunnel to http:// targets as well
    #[arg(short = 'p', long, requires = "proxy")]
    pub(crate) proxytunnel: bool,
    /// Local address to connect from, or the name of an interface, for all of its addresses (the way stays the system's
    /// choice); several, with commas or given again, are used in turn, and each has ports of its own
    #[arg(
        long,
        visible_alias = "interface",
        value_name = "ADDRESS|NAME",
        value_delimiter = ',',
        value_parser = local_addrs
    )]
    pub(crate) local_addr: Vec<LocalAddrs>,
    /// Statuses that are good: 200, 2xx, 200-299, or several with commas. Any other is an error of the kind
    /// `unexpected_status` [default: below 400]
    #[arg(long, value_name = "STATUSES")]
    pub(crate) expect_status: Option<Statuses>,
}

/// curl's `--resolve HOST:PORT:ADDRESS`.
fn resolve(text: &str) -> Result<Resolve, String> {
    let wrong = || format!("`{text}` is not HOST:PORT:ADDRESS, such as example.com:443:127.0.0.1");
    let (host, rest) = text.split_once(':').ok_or_else(wrong)?;
    let (port, address) = rest.split_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let ip = without_brackets(address).parse().map_err(|_| wrong())?;
    Ok(Resolve { host: host.to_ascii_lowercase(), port, address: SocketAddr::new(ip, port) })
}

/// curl's `--connect-to HOST1:PORT1:HOST2:PORT2`.
fn connect_to(text: &str) -> Result<ConnectTo, String> {
    let wrong = || {
        format!("`{text}` is not HOST1:PORT1:HOST2:PORT2, such as example.com:443:127.0.0.1:8443 or ::[::1]:")
    };
    let (host, rest) = host(text).ok_or_else(wrong)?;
    let (from_port, rest) = rest.split_once(':').ok_or_else(wrong)?;
    let (to_host, to_port) = self::host(rest).ok_or_else(wrong)?;
    let port = |text: &str| match text {
        "" => Ok(None),
        text => text.parse::<u16>().map(Some).map_err(|_| wrong()),
    };
    let name = |text: &str| (!text.is_empty()).then(|| without_brackets(text).to_ascii_lowercase());
    Ok(ConnectTo {
        host: name(host),
        port: port(from_port)?,
        to_host: name(to_host),
        to_port: port(to_port)?,
    })
}

/// A host, which may be an IPv6 address in brackets, and what follows its colon.
fn host(text: &str) -> Option<(&str, &str)> {
    match text.starts_with('[') {
        true => {
            let end = text.find("]:")?;
            Some((&text[..=end], &text[end + 2..]))
        }
        false => text.split_once(':'),
    }
}

/// An address to connect from, or those of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalAddrs(pub(crate) Vec<IpAddr>);

fn local_addrs(text: &str) -> Result<LocalAddrs, String> {
    if let Ok(address) = without_brackets(text).parse() {
        return Ok(LocalAddrs(vec![address]));
    }
    let all =
        interfaces().map_err(|error| format!("could not ask for this machine's interfaces: {error}"))?;
    let own: Vec<IpAddr> = all.iter().filter(|(name, _)| name == text).map(|(_, address)| *address).collect();
    if own.is_empty() {
        let mut names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        return Err(format!(
            "`{text}` is neither an address, such as 127.0.0.2, nor an interface that has one ({})",
            names.join(", ")
        ));
    }
    Ok(LocalAddrs(own))
}

/// This machine's interfaces, by name, with each of their addresses that can be bound to without saying on which
/// interface: those of one link alone (RFC 4291, section 2.5.6) cannot.
fn interfaces() -> io::Result<Vec<(String, IpAddr)>> {
    let of_one_link = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let addressed = |one: InterfaceAddress| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let ip = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        Some((one.interface_name, ip))
    };
    let mut all: Vec<_> = getifaddrs()?.filter_map(addressed).filter(|(_, ip)| !of_one_link(ip)).collect();
    all.sort();
    Ok(all)
}

fn without_brackets(address: &str) -> &str {
    address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_takes_a_host_a_port_and_an_address_of_either_family() {
        assert_eq!(resolve("A.test:443:127.0.0.1").unwrap().address, "127.0.0.1:443".parse().unwrap());
        assert_eq!(resolve("a.test:80:[::1]").unwrap().address, "[::1]:80".parse().unwrap());
        assert!(resolve("a.test:80").is_err());
    }

    #[test]
    fn connect_to_takes_four_parts_and_each_may_be_empty() {
        let parts = |text: &str| {
            let ConnectTo { host, port, to_host, to_port } = connect_to(text).unwrap();
            (host.unwrap_or_default(), port, to_host.unwrap_or_default(), to_port)
        };
        let s = str::to_owned;
        assert_eq!(parts("A.test:443:b.test:8443"), (s("a.test"), Some(443), s("b.test"), Some(8443)));
        assert_eq!(parts("::127.0.0.2:"), (s(""), None, s("127.0.0.2"), None));
        assert_eq!(parts("[::1]:80:[::2]:81"), (s("::1"), Some(80), s("::2"), Some(81)));
        for wrong in ["a.test:443", "a:1:b", "a:x:b:1", "a:1:b:99999", "[::1:80:b:1"] {
            assert!(connect_to(wrong).unwrap_err().contains("HOST1:PORT1"), "{wrong}");
        }
    }
}
