//! [`Forward`]: requests for a proxy that passes them on, as opposed to one that makes a tunnel.

use base64::Engine as _;
use http::header::{Entry, HeaderValue, PROXY_AUTHORIZATION};
use http::uri::{Authority, Scheme};
use http::{Request, Uri};

use crate::body::RequestBody;
use crate::origin::Origin;
use crate::proxy::Proxy;

/// How requests on a connection to a proxy differ from those to the origin itself.
#[derive(Debug)]
pub(crate) struct Forward {
    authority: Authority,
    authorization: Option<HeaderValue>,
}

impl Forward {
    pub(super) fn new(proxy: &Proxy, origin: &Origin) -> Forward {
        let authority = Authority::try_from(origin.host_header().as_bytes());
        let authority = authority.expect("a Host field out of a parsed URI is an authority");
        Forward { authority, authorization: authorization(proxy) }
    }

    /// Puts the request into absolute-form (RFC 9112, section 3.2.2), unless it is already. `OPTIONS *` stays what it is.
    pub(crate) fn address(&self, request: &mut Request<RequestBody>) -> Addressed {
        let mut addressed = Addressed::default();
        if request.uri().scheme().is_none()
            && let Some(path) = request.uri().path_and_query()
            && path != "*"
        {
            let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
            let uri = uri.path_and_query(path.clone()).build();
            *request.uri_mut() = uri.expect("its three parts are valid, and it has all three");
            addressed.in_absolute_form = true;
        }
        if let Some(authorization) = &self.authorization
            && let Entry::Vacant(vacant) = request.headers_mut().entry(PROXY_AUTHORIZATION)
        {
            vacant.insert(authorization.clone());
            addressed.with_authorization = true;
        }
        addressed
    }
}

/// What [`Forward::address`] has changed in a request.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Addressed {
    in_absolute_form: bool,
    with_authorization: bool,
}

impl Addressed {
    /// Changes that back, and no more: what the caller wrote stays.
    pub(crate) fn undo(self, request: &mut Request<RequestBody>) {
        if self.in_absolute_form
            && let Some(path) = request.uri().path_and_query().cloned()
        {
            *request.uri_mut() = path.into();
        }
        if self.with_authorization {
            request.headers_mut().remove(PROXY_AUTHORIZATION);
        }
    }
}

/// Basic authentication (RFC 7617).
pub(super) fn authorization(proxy: &Proxy) -> Option<HeaderValue> {
    let (user, password) = proxy.credentials.as_ref()?;
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    Some(value)
}
