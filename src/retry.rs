//! [`RetryPolicy`]: when a request whose attempt failed is sent again. Pure: what happened is an argument.
//!
//! *Design.* What a failure was is told by the bytes that crossed the wire, not by the words of an error. Only two
//! kinds of failure can ever be made good by another attempt, and both only on a connection that had rested, for that
//! is where the server may have closed while the request was on its way (RFC 9112, section 9.5):
//!
//! - *Not sent*: no byte of the request was written. Nobody can have processed it, whatever its method.
//! - *No response*: the request was written, and the connection ended without a byte of a response. The server may
//!   have processed it. So only a request that may be processed twice is sent again, once, and on a connection that
//!   was opened for it: "a client SHOULD NOT automatically retry a failed automatic retry" (RFC 9110, section 9.2.2).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Request};

use crate::body::RequestBody;
use crate::error::{ErrorKind, Retry};

/// When the pool sends a request again whose attempt failed on a connection that had been idle.
///
/// No policy can make the pool send again what was answered with a single byte, what failed on a fresh connection,
/// what failed after it was sent again for want of a response, or a body that can be read only once and was begun.
/// There are at most three further attempts, and the third is made on a fresh connection; so is the one after a
/// request that was written.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum RetryPolicy {
    /// Never: a request that meets a connection which ended while idle fails with [`ErrorKind::NotSent`].
    Never,
    /// When no byte of it was written, whatever its method; never when it was.
    Unsent,
    /// When no byte of it was written; and when it was written and got no response, if it may be processed twice: its
    /// method is idempotent (GET, HEAD, OPTIONS, TRACE, PUT, DELETE; RFC 9110, section 9.2.2), or it has a field
    /// `Idempotency-Key` or `X-Idempotency-Key`, or its extensions hold [`Idempotent`].
    #[default]
    Safe,
    /// When the function says so. It is asked only where another attempt is possible at all, see above.
    Custom(Arc<dyn Fn(&FailedAttempt<'_>) -> bool + Send + Sync>),
}

/// Marks a request, as one of its [`extensions`](http::Request::extensions_mut), as one that may be processed twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotent;

/// What a [`RetryPolicy::Custom`] decides upon.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedAttempt<'a> {
    /// [`ErrorKind::NotSent`]; or [`ErrorKind::NoResponse`] or [`ErrorKind::Reset`] without a byte of a response.
    pub kind: ErrorKind,
    /// How long the connection had been idle before.
    pub idle_before: Duration,
    /// The request that would be sent again.
    pub request: &'a Request<RequestBody>,
    /// The attempts before this one.
    pub retries: &'a [Retry],
}

/// So many times a request is given another connection that had rested; then it gets one of its own.
const MOST_RESTED: usize = 3;

/// Fields by which a caller says that the server tells a repeated request from a new one; the draft's, and the older
/// custom that Go's net/http honours as well.
const IDEMPOTENCY_KEYS: [HeaderName; 2] =
    [HeaderName::from_static("idempotency-key"), HeaderName::from_static("x-idempotency-key")];

impl RetryPolicy {
    /// Whether a copy of the request must be kept, whatever its method: a reset may come when hyper has taken the request
    /// and the kernel has not, and there would be nothing left to send.
    pub(crate) fn wants_copy(&self) -> bool {
        !matches!(self, RetryPolicy::Never)
    }

    /// Whether another attempt is made.
    pub(crate) fn allows(&self, failed: &FailedAttempt<'_>) -> bool {
        let unsent = failed.kind == ErrorKind::NotSent;
        match self {
            _ if !unsent && !failed.kind.is_unanswered() => false,
            RetryPolicy::Never => false,
            RetryPolicy::Unsent => unsent,
            RetryPolicy::Safe => unsent || may_be_processed_twice(failed.request),
            RetryPolicy::Custom(decide) => decide(failed),
        }
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RetryPolicy::Never => "Never",
            RetryPolicy::Unsent => "Unsent",
            RetryPolicy::Safe => "Safe",
            RetryPolicy::Custom(_) => "Custom",
        })
    }
}

/// Whether the attempt that follows these must be made on a connection opened for it. An attempt there is the last:
/// it had no rest before.
pub(crate) fn wants_fresh(retries: &[Retry]) -> bool {
    retries.len() >= MOST_RESTED || retries.last().is_some_and(|retry| retry.kind.is_unanswered())
}

fn may_be_processed_twice(request: &Request<RequestBody>) -> bool {
    request.method().is_idempotent()
        || IDEMPOTENCY_KEYS.iter().any(|name| request.headers().contains_key(name))
        || request.extensions().get::<Idempotent>().is_some()
}

/// The same request again, unless its body can be read only once.
pub(crate) fn copy_of(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let body = request.body().try_clone()?;
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use proptest::prelude::*;

    fn request(method: &str) -> Request<RequestBody> {
        Request::builder().method(method).uri("/").body(RequestBody::empty()).unwrap()
    }

    fn allows(policy: &RetryPolicy, kind: ErrorKind, request: &Request<RequestBody>) -> bool {
        policy.allows(&FailedAttempt { kind, idle_before: Duration::from_secs(1), request, retries: &[] })
    }

    #[test]
    fn what_was_not_sent_is_sent_again_whatever_its_method() {
        for method in ["GET", "POST", "PATCH", "CONNECT", "BREW"] {
            for (policy, again) in
                [(RetryPolicy::Never, false), (RetryPolicy::Unsent, true), (RetryPolicy::Safe, true)]
            {
                assert_eq!(
                    allows(&policy, ErrorKind::NotSent, &request(method)),
                    again,
                    "{policy:?} {method}"
                );
            }
        }
    }

    #[test]
    fn what_got_no_response_is_sent_again_if_it_may_be_processed_twice() {
        for (method, again) in [
            ("GET", true),
            ("HEAD", true),
            ("OPTIONS", true),
            ("TRACE", true),
            ("PUT", true),
            ("DELETE", true),
            ("POST", false),
            ("PATCH", false),
            ("CONNECT", false),
            ("BREW", false),
        ] {
            let request = request(method);
            for kind in [ErrorKind::NoResponse, ErrorKind::Reset] {
                assert_eq!(allows(&RetryPolicy::Safe, kind, &request), again, "{method}");
                assert!(!allows(&RetryPolicy::Unsent, kind, &request), "{method}");
                assert!(!allows(&RetryPolicy::Never, kind, &request), "{method}");
            }
        }
    }

    #[test]
    fn a_key_or_a_mark_says_that_a_post_may_be_processed_twice() {
        for name in ["Idempotency-Key", "x-idempotency-key"] {
            let mut keyed = request("POST");
            keyed
                .headers_mut()
                .insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), "7".parse().unwrap());
            assert!(allows(&RetryPolicy::Safe, ErrorKind::NoResponse, &keyed), "{name}");
        }
        let mut marked = request("POST");
        marked.extensions_mut().insert(Idempotent);
        assert!(allows(&RetryPolicy::Safe, ErrorKind::NoResponse, &marked));
        assert!(copy_of(&marked).unwrap().extensions().get::<Idempotent>().is_some());
    }

    #[test]
    fn a_custom_policy_decides_about_these_failures_and_no_others() {
        let always = RetryPolicy::Custom(Arc::new(|_| true));
        let gets = RetryPolicy::Custom(Arc::new(|failed| failed.request.method() == Method::GET));
        assert!(allows(&always, ErrorKind::NoResponse, &request("POST")));
        assert!(!allows(&gets, ErrorKind::NotSent, &request("POST")));
        for kind in [ErrorKind::Partial, ErrorKind::Protocol, ErrorKind::RequestBody, ErrorKind::Timeout] {
            assert!(!allows(&always, kind, &request("GET")), "{kind:?}");
        }
    }

    #[test]
    fn a_body_that_can_be_read_only_once_is_not_copied() {
        let once = RequestBody::new(http_body_util::BodyExt::boxed_unsync(http_body_util::Full::<
            bytes::Bytes,
        >::from("once")));
        assert!(copy_of(&Request::put("/").body(once).unwrap()).is_none());
        assert!(copy_of(&Request::put("/").body("again".into()).unwrap()).is_some());
    }

    proptest! {
        /// Whatever happens on rested connections, the attempts end: the one on a fresh connection is the last.
        #[test]
        fn there_are_at_most_three_further_attempts(unanswered in proptest::collection::vec(any::<bool>(), 10)) {
            let mut retries = Vec::new();
            for unanswered in unanswered {
                if wants_fresh(&retries) {
                    break;
                }
                let kind = if unanswered { ErrorKind::NoResponse } else { ErrorKind::NotSent };
                retries.push(Retry { kind, idle_before: Duration::ZERO, took: Duration::ZERO });
            }
            prop_assert!(retries.len() <= MOST_RESTED);
            prop_assert!(retries.iter().filter(|retry| retry.kind.is_unanswered()).count() <= 1);
        }
    }
}
