//! [`OnInformational`]: whom to tell of the responses that come before the response.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

type Callback = dyn Fn(StatusCode, &HeaderMap) + Send + Sync;

/// A callback for informational responses (1xx, RFC 9110, section 15.2): put into a request's extensions, it is
/// called for each one that comes before the final response, while the request waits for that. 101 is final.
///
/// ```
/// let request = http::Request::get("http://example.com/")
///     .extension(keeplive::OnInformational::new(|status, headers| println!("{status}: {headers:?}")))
///     .body(())
///     .expect("a valid request");
/// ```
#[derive(Clone)]
pub struct OnInformational(Arc<Callback>);

impl OnInformational {
    /// Calls `callback` with the status and the header fields. It must not block.
    pub fn new(callback: impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static) -> OnInformational {
        OnInformational(Arc::new(callback))
    }

    pub(crate) fn call(&self, status: StatusCode, headers: &HeaderMap) {
        (self.0)(status, headers);
    }
}

impl fmt::Debug for OnInformational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnInformational")
    }
}
