//! Idle before the first request: a timer of its own in most servers (nginx `client_header_timeout`, Apache
//! `RequestReadTimeout`, HAProxy `timeout http-request`), which matters to clients that connect ahead of need.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::field::{Errand, Field, Outcome, Over, Start, either};
use super::judge;
use crate::findings::{Ended, Fate, FirstRequest, Role, Sample};

/// Connections for each of the two.
const WATCHERS: usize = 3;

/// Watches beside the search.
pub(super) struct Watch {
    over: Over,
    out: JoinSet<Option<Outcome>>,
}

impl Watch {
    pub(super) fn begin(field: &Arc<Field>, max_idle: Duration) -> Watch {
        let (over, mut out) = (Over::new(), JoinSet::new());
        let mut starts = vec![(Role::FirstAfterTcp, Start::Tcp)];
        if field.is_tls() {
            starts.push((Role::FirstAfterTls, Start::Tls));
        }
        for (role, start) in starts {
            for _ in 0..WATCHERS {
                let errand = Errand {
                    role,
                    wave: 0,
                    ask_after: None,
                    appointment: None,
                    watch_for: max_idle,
                    start,
                    keepalive: None,
                };
                let run = Arc::clone(field).run(errand, over.clone());
                out.spawn(async move {
                    // The search opens its connections first.
                    tokio::task::yield_now().await;
                    run.await
                });
            }
        }
        Watch { over, out }
    }

    /// What was seen until then, or until all connections had ended.
    pub(super) async fn end(mut self, wait_until: impl Future<Output = ()>) -> (FirstRequest, Vec<Sample>) {
        let mut samples = Vec::new();
        let all = async {
            while let Some(done) = self.out.join_next().await {
                samples.extend(done.ok().flatten().map(|home| home.sample));
            }
        };
        let over = self.over.clone();
        let call = async move {
            wait_until.await;
            over.call();
            std::future::pending::<()>().await;
        };
        either(all, call).await;
        let of = |role| ended(samples.iter().filter(|sample| sample.role == role));
        (FirstRequest { after_tcp: of(Role::FirstAfterTcp), after_tls: of(Role::FirstAfterTls) }, samples)
    }
}

/// What watchers saw; `None` where nobody watched.
fn ended<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<Ended> {
    let told: Vec<_> = samples.filter(|sample| matches!(sample.fate, Fate::Alive | Fate::Dead)).collect();
    let ends = told.iter().filter(|sample| sample.fate == Fate::Dead);
    let spread = judge::spread(ends.clone().map(|sample| sample.idle));
    let lived = told.iter().map(|sample| sample.idle).min()?;
    Some(Ended {
        lower: spread.map_or(lived, |spread| spread.min),
        upper: spread.map(|spread| spread.max),
        close: judge::usual_close(ends.filter_map(|sample| sample.close)),
        samples: u32::try_from(told.len()).unwrap_or(u32::MAX),
    })
}
