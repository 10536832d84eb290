//! What a machine may have no more of: local ports, descriptors. The error says which and what to do, and once there is
//! some again the pool goes on.

use std::process::Command;

use keeplive::server::{Behaviour, Server};
use keeplive::{Error, ErrorKind, Lease, Pool, PoolConfig};

use super::{assert_nothing_is_lost, get, origin, pool};
use crate::support::link::{Link, SERVER_IP};

/// Opens connections until one cannot be.
async fn open_as_many_as_there_may_be(pool: &Pool, url: &str) -> (Vec<Lease>, Error) {
    let mut leases = Vec::new();
    loop {
        assert!(leases.len() < 1_000, "there is no end of them");
        match pool.lease(&origin(url)).await {
            Ok(lease) => leases.push(lease),
            Err(error) => return (leases, error),
        }
    }
}

/// Where so many can be opened and no more, the error tells why; a place that becomes free is used.
async fn runs_out(url: &str, kind: ErrorKind, cure: &str) -> usize {
    let pool = pool(PoolConfig::default());
    let (mut leases, error) = open_as_many_as_there_may_be(&pool, url).await;
    assert!(error.kind() == kind && error.to_string().contains(cure), "{error}");
    let count = leases.len();
    drop(leases.pop());
    get(&pool, url).await;
    drop(leases);
    assert_nothing_is_lost(&pool);
    assert_eq!(pool.stats().idle, count.min(32));
    count
}

#[test]
fn a_machine_without_a_free_port_says_so_and_how_to_have_more() {
    let link = Link::new(std::time::Duration::ZERO).unwrap_or_else(|error| panic!("{error}"));
    let server = Server::new(Behaviour::default()).listen((SERVER_IP, 0).into());
    let server = link.at_server(|| server.start()).expect("every port is free there");
    let opened = link.at_client(|| {
        // Of this namespace alone.
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").expect("we are root");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(runs_out(&server.url(), ErrorKind::NoPorts, "ip_local_port_range"))
    });
    assert_eq!(opened, 4);
}

/// The limit is a process's: this test is one of its own, which it starts.
#[test]
fn a_process_without_a_free_descriptor_says_so_and_how_to_have_more() {
    const TARGET: &str = "KEEPLIVE_TEST_OF_FEW_DESCRIPTORS";
    if let Ok(url) = std::env::var(TARGET) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(runs_out(&url, ErrorKind::NoFiles, "ulimit -n"));
        return;
    }
    let server = super::server(Behaviour::default());
    let own = std::env::current_exe().expect("this program's path");
    let name = "pool::scarce::a_process_without_a_free_descriptor_says_so_and_how_to_have_more";
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 24; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(own)
        .arg(name)
        .env(TARGET, server.url())
        .output()
        .expect("a shell");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{output:?}");
    assert!(server.counts().requests >= 1);
}
