//! The peers that facts are established with: raw sockets, real servers, a link with a round-trip time.

pub(crate) mod apache;
pub(crate) mod certificate;
pub(crate) mod deaf;
pub(crate) mod gate;
pub(crate) mod haproxy;
pub(crate) mod idle_servers;
pub(crate) mod link;
pub(crate) mod lost;
pub(crate) mod nginx;
pub(crate) mod node;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod raw;
pub(crate) mod scripted;
pub(crate) mod sockets;

use std::time::{Duration, Instant};

/// How long anything may take that another thread or process is about to do. It only ends a test that has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "a test watches a real clock beside the library's own")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, answer: impl Fn() -> Option<T>) -> T {
    let limit = now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(now() < limit, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// As [`until`], for a test whose runtime must go on working meanwhile.
pub(crate) async fn soon<T>(what: &str, answer: impl Fn() -> Option<T>) -> T {
    let limit = now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(now() < limit, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
