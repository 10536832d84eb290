use std::time::Duration;

/// A client of the probed hop.
pub fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .pool_idle_timeout(Duration::from_secs(74))
        .tcp_keepalive(Duration::from_secs(25))
        .tcp_keepalive_interval(Duration::from_secs(25))
        .tcp_keepalive_retries(3)
        .build()
}
