//! Checkout and return alone, and the look at the socket alone.

use std::sync::Arc;

use keeplive::{Origin, Pool, PoolConfig, Resolve};
use rustix::net::{RecvFlags, recv};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

use crate::contenders::{Keeplive, To, name};
use crate::echo::Echo;
use crate::usage::Cpu;

/// Who takes and gives back what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    pub(crate) tasks: usize,
    pub(crate) origins: usize,
    /// 0: a current-thread runtime.
    pub(crate) workers: usize,
}

/// Checkouts of each task.
const EACH: usize = 20_000;

/// Processor time, nanoseconds, of one `lease` and its `discard`, on connections that are open.
pub(crate) fn visit(echo: &Echo, traffic: Traffic) -> Cpu {
    let mut builder = match traffic.workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    let runtime = builder.worker_threads(traffic.workers.max(1)).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (pool, origins) = open(echo, traffic).await;
        let each = EACH * 4 / traffic.tasks.max(4);
        let before = Cpu::now();
        let mut tasks = JoinSet::new();
        for task in 0..traffic.tasks {
            let (pool, origins) = (pool.clone(), Arc::clone(&origins));
            tasks.spawn(async move {
                for turn in 0..each {
                    let origin = &origins[(task + turn * traffic.tasks) % origins.len()];
                    pool.lease(origin).await.expect("an open connection").discard();
                    // As a task does that also waits for its server now and then.
                    tokio::task::coop::consume_budget().await;
                }
            });
        }
        tasks.join_all().await;
        let used = Cpu::now().since(before).per((each * traffic.tasks) as f64);
        let stats = pool.stats();
        assert_eq!(stats.opened, opened(traffic) as u64, "nothing is opened while it is measured: {stats:?}");
        used
    })
}

/// So many that nobody ever waits or opens one.
fn opened(traffic: Traffic) -> usize {
    if traffic.origins == 1 { traffic.tasks } else { traffic.origins * at_a_time(traffic) }
}

/// Tasks that may meet on one of many origins: each worker runs one task at a time, and none waits with a lease.
fn at_a_time(traffic: Traffic) -> usize {
    traffic.workers.max(1)
}

async fn open(echo: &Echo, traffic: Traffic) -> (Pool, Arc<Vec<Origin>>) {
    let port = echo.keeps.port();
    let resolve =
        (0..traffic.origins).map(|n| Resolve { host: name(n), port, address: echo.keeps }).collect();
    let config = PoolConfig::default()
        .resolve(resolve)
        .idle_timeout(None)
        .max_idle_per_origin(64)
        .max_idle(usize::MAX);
    let pool = Pool::new(config).expect("a pool");
    let mut origins = Vec::new();
    let to = To { addr: echo.keeps, keep: true, loops: 1, origins: 1 };
    for n in 0..traffic.origins {
        let mut client = Keeplive::with(pool.clone(), to, &[format!("http://{}:{port}/", name(n))]);
        let origin = client.origin().clone();
        let mut held = Vec::new();
        for _ in 0..opened(traffic) / traffic.origins {
            let lease = pool.lease(&origin).await.expect("a connection");
            held.push(lease.exchange(client.request()).await.expect("a response"));
        }
        for response in held {
            response.into_body().finish().await.expect("a whole body");
        }
        origins.push(origin);
    }
    (pool, Arc::new(origins))
}

/// Processor time, nanoseconds, of one look at an idle socket: the system call that every reuse makes.
pub(crate) fn look(echo: &Echo) -> Cpu {
    let tcp = std::net::TcpStream::connect(echo.keeps).expect("the other side listens");
    let mut byte = [0_u8; 1];
    let before = Cpu::now();
    for _ in 0..EACH {
        let looked = recv(&tcp, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        assert!(looked.is_err(), "nobody sends on an idle connection");
    }
    Cpu::now().since(before).per(EACH as f64)
}
