//! How a connection is opened: for the request that waits for it, or beside one that may do without it.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use super::hand_off::{Place, PlaceBeside};
use super::lease::Lease;
use super::stats::Counts;
use super::watch::Pooled;
use super::{Shared, drain};
use crate::clock;
use crate::connect::Opened;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::exchange::{ConnectionId, TlsFacts};
use crate::observer::Event;
use crate::origin::Origin;
use crate::phase::Phase;

/// What has been opened, and the place that it is for.
type Found = (Place<Arc<Shared>>, Opening, Box<Pooled>);

/// Opens a connection in that place, for who holds it.
///
/// The work is in a box: it holds kilobytes (lookup, race of addresses, proxy, TLS), which every request that only
/// reuses a connection would have to move. It is gone before the connection gets its buffers, and no hole between what
/// stays.
///
/// *Cancel safety.* Dropping the future closes whatever had been opened, and gives the place up.
pub(super) async fn open(place: Place<Arc<Shared>>, asked: Instant) -> Result<Lease, Error> {
    let working: Pin<Box<dyn Future<Output = Result<Found, Error>> + Send>> = Box::pin(work(place, asked));
    let (place, opening, pooled) = working.await?;
    let shared = Arc::clone(&opening.shared);
    opening.opened(&pooled.connection);
    place.fill(|counts| count_opening(counts, pooled.connection.facts().tls.as_ref()));
    Ok(Lease::opened(pooled, &shared, asked))
}

async fn work(place: Place<Arc<Shared>>, asked: Instant) -> Result<Found, Error> {
    let opening = Opening::begin(place.desk(), place.origin());
    let shared = &opening.shared;
    match connect(shared, &opening.origin, shared.config.latest(asked)).await {
        Ok(opened) => {
            let pooled = make(opened, &opening);
            Ok((place, opening, pooled))
        }
        Err(error) => {
            shared.lock().counts.failed_to_open += 1;
            opening.failed(&error);
            Err(error)
        }
    }
}

/// Opens a connection for a request that goes on waiting for one that comes back. It may outlive its request, whose
/// time is none of its own.
pub(super) async fn open_beside(beside: PlaceBeside<Arc<Shared>>) {
    let opening = Opening::begin(beside.place().desk(), beside.place().origin());
    let opened = connect(&opening.shared, &opening.origin, None).await;
    match opened {
        Ok(opened) => {
            let pooled = make(opened, &opening);
            opening.opened(&pooled.connection);
            let facts = Arc::clone(pooled.connection.facts());
            beside.deliver(pooled, |counts| count_opening(counts, facts.tls.as_ref()));
        }
        Err(error) => {
            opening.failed(&error);
            beside.fail(error);
        }
    }
}

/// An opening under way, whose end is told, whatever it is. Dropped, it was given up.
struct Opening {
    shared: Arc<Shared>,
    origin: Origin,
    began: Instant,
    ended: bool,
}

impl Opening {
    fn begin(shared: &Arc<Shared>, origin: &Origin) -> Opening {
        shared.watched.tell(|| Event::Opening { origin });
        Opening { shared: Arc::clone(shared), origin: origin.clone(), began: clock::now(), ended: false }
    }

    fn opened(mut self, connection: &Connection) {
        self.ended = true;
        let (origin, timings) = (&self.origin, connection.opening());
        self.shared.watched.tell(|| Event::Opened { origin, connection: connection.facts(), timings });
    }

    fn failed(mut self, error: &Error) {
        self.ended = true;
        self.shared.watched.tell(|| Event::NotOpened { origin: &self.origin, error });
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.ended {
            self.shared.lock().counts.abandoned += 1;
            let after = clock::now().saturating_duration_since(self.began);
            self.shared.watched.tell(|| Event::Abandoned { origin: &self.origin, after });
        }
    }
}

/// What a connection needs, unless the pool's end comes first.
async fn connect(shared: &Arc<Shared>, origin: &Origin, latest: Option<Instant>) -> Result<Opened, Error> {
    let opening = pin!(shared.connector.open(origin, &shared.config, latest, &shared.watched));
    let Some(opened) = shared.drain.unless_cut(opening).await else {
        return Err(drain::cut_error().at(Phase::Connect));
    };
    opened.map_err(|error| in_time(error, shared, latest))
}

fn make(opened: Opened, opening: &Opening) -> Box<Pooled> {
    let shared = &opening.shared;
    let connection = Connection::new(opened, ConnectionId(shared.next_id()), &shared.config);
    Pooled::new(connection, &opening.origin, shared)
}

/// What ran out may have been the request's whole time.
fn in_time(error: Error, shared: &Shared, latest: Option<Instant>) -> Error {
    let is_total = latest.is_some_and(|latest| clock::now() >= latest);
    match error.phase() {
        Some(phase) if is_total && error.kind() == ErrorKind::ConnectTimeout => {
            Error::out_of_time(ErrorKind::Timeout, shared.config.total_timeout, phase, "")
        }
        _ => error,
    }
}

fn count_opening(counts: &mut Counts, tls: Option<&TlsFacts>) {
    counts.opened += 1;
    match tls {
        Some(tls) if tls.resumed => counts.handshakes_resumed += 1,
        Some(_) => counts.handshakes_full += 1,
        None => {}
    }
}
