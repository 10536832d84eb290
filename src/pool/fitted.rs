//! [`Fitted`]: what a request was changed in to fit its connection, and what it was before.
//!
//! A proxy is addressed otherwise than an origin, and shown a password; a connection's last exchange says
//! `Connection: close`. Nothing of it is true of another connection, and the password is for the proxy's eyes alone: so a
//! request that comes back unsent, to the pool or to its caller, comes back as it was given.

use http::Request;
use http::header::{CONNECTION, HeaderValue, UPGRADE};

use super::held::Held;
use crate::body::RequestBody;
use crate::connect::{Addressed, Forward};

/// The changes that were made.
pub(super) struct Fitted {
    addressed: Addressed,
    /// The caller's own `Connection` fields, where `close` stands in their place.
    replaced: Option<Vec<HeaderValue>>,
}

impl Fitted {
    /// Makes a request fit the connection that it is about to be sent on.
    pub(super) fn fit(held: &Held, request: &mut Request<RequestBody>) -> Fitted {
        let replaced = ends(held, request).then(|| announce_the_end(request));
        let address = |forward: &Forward| forward.address(request);
        let addressed = held.as_ref().forward().map(address).unwrap_or_default();
        Fitted { addressed, replaced }
    }

    /// Makes it what it was.
    pub(super) fn undo(self, request: &mut Request<RequestBody>) {
        self.addressed.undo(request);
        let Some(replaced) = self.replaced else { return };
        let headers = request.headers_mut();
        headers.remove(CONNECTION);
        for value in replaced {
            headers.append(CONNECTION, value);
        }
    }
}

/// Whether the request is to say that it is its connection's last. One that asks for an upgrade has its own `Connection`
/// field; HTTP ends on its connection in any case.
fn ends(held: &Held, request: &Request<RequestBody>) -> bool {
    let config = held.config();
    let last = config.max_exchanges.is_some_and(|most| held.as_ref().exchanges() + 1 >= most);
    let ends = !config.keep_alive || last || held.shared().drain.has_begun();
    ends && !request.headers().contains_key(UPGRADE)
}

/// Answers with what stood in its place.
fn announce_the_end(request: &mut Request<RequestBody>) -> Vec<HeaderValue> {
    let headers = request.headers_mut();
    let replaced = headers.get_all(CONNECTION).iter().cloned().collect();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    replaced
}
