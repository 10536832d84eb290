//! [`Forward`]: requests for a proxy that passes them on, as opposed to one that makes a tunnel.

use base64::Engine as _;
use http::header::{HeaderValue, PROXY_AUTHORIZATION};
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

    /// Puts the request into absolute-form (RFC 9112, section 3.2.2), which a request that comes back from another
    /// connection to the proxy has already. `OPTIONS *` stays what it is.
    pub(crate) fn address(&self, request: &mut Request<RequestBody>) {
        if request.uri().scheme().is_none()
            && let Some(path) = request.uri().path_and_query()
            && path != "*"
        {
            let uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
            let uri = uri.path_and_query(path.clone()).build();
            *request.uri_mut() = uri.expect("its three parts are valid, and it has all three");
        }
        if let Some(authorization) = &self.authorization {
            request.headers_mut().entry(PROXY_AUTHORIZATION).or_insert_with(|| authorization.clone());
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
