//! What can be seen of a run while it runs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct WatchArgs {
    /// Serve what is counted as Prometheus text at /metrics while it runs. A port alone is one of 127.0.0.1, 0 any that
    /// is free; other addresses than the loopback's let others read it [default: it is not served]
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = address)]
    pub(crate) metrics: Option<SocketAddr>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into());
    }
    text.parse().map_err(|_| format!("`{text}` is neither a port nor ADDRESS:PORT, such as 127.0.0.1:9100"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_the_loopback() {
        let told = ["9100", "127.0.0.1:0", "[::1]:9100", "localhost:1", ":9", "70000"].map(address);
        let told = told.map(|address| address.map(|address| address.to_string()).ok());
        let expected = [Some("127.0.0.1:9100"), Some("127.0.0.1:0"), Some("[::1]:9100"), None, None, None];
        assert_eq!(told.each_ref().map(Option::as_deref), expected);
    }
}
