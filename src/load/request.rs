//! [`Template`]: the plan's request, made ready to be sent again and again.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, Uri};

use super::Refusal;
use crate::body::{self, RequestBody};
use crate::origin::{Origin, origin_form};
use crate::plan::Target;

/// Of a longer body threads have one copy together.
const LONG: usize = 64 * 1024;

#[derive(Clone, Debug)]
pub(super) struct Template {
    pub(super) origin: Origin,
    method: Method,
    path: Uri,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: Bytes,
}

impl Template {
    pub(super) fn new(target: &Target) -> Result<Template, Refusal> {
        let origin: Origin = target.url.parse().map_err(|error| Refusal::Usage(format!("{error}")))?;
        let uri: Uri = target.url.parse().map_err(|error| Refusal::Usage(format!("{error}")))?;
        let method = target
            .method
            .parse()
            .map_err(|_| Refusal::Usage(format!("`{}` is not an HTTP method", target.method)))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &target.headers {
            // Its value may be a secret.
            let bad = || {
                Refusal::Usage(format!(
                    "what is given for `{name}` is not a header field: write 'Name: value'"
                ))
            };
            let name = HeaderName::try_from(name).map_err(|_| bad())?;
            let value = HeaderValue::try_from(value).map_err(|_| bad())?;
            let too_many =
                |_| Refusal::Usage("more header fields than a request can carry: give fewer".into());
            headers.try_append(name, value).map_err(too_many)?;
        }
        if headers.contains_key(http::header::CONNECTION) {
            let text = "the Connection field is what the arms differ in: leave it out";
            return Err(Refusal::Usage(text.into()));
        }
        for framing in [CONTENT_LENGTH, TRANSFER_ENCODING] {
            if headers.contains_key(&framing) {
                return Err(Refusal::Usage(format!(
                    "the {framing} field follows from the body (-d): leave it out"
                )));
            }
        }
        if headers.get_all(HOST).iter().count() > 1 {
            return Err(Refusal::Usage("more than one Host field: give one".into()));
        }
        if !headers.contains_key(HOST) {
            headers.insert(HOST, origin.host_header());
        }
        if target.body.is_empty() && body::says_when_empty(&method) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let fields = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Ok(Template { origin, method, path: origin_form(&uri), fields, body: target.body.clone().into() })
    }

    /// The same in memory of its own: what threads count their use of together they take from each other, request by
    /// request. But a long body stays where it is, for its bytes cost more than its count.
    pub(super) fn apart(&self, target: &Target) -> Template {
        let mut own = Template::new(target).expect("it was ready before");
        if own.body.len() > LONG {
            own.body = self.body.clone();
        }
        own
    }

    pub(super) fn request(&self) -> Request<RequestBody> {
        self.request_in(HeaderMap::with_capacity(self.fields.len()))
    }

    /// The request, its fields in a map that was another's: a response's, say, which has room for them.
    pub(super) fn request_in(&self, mut map: HeaderMap) -> Request<RequestBody> {
        map.clear();
        for (name, value) in &self.fields {
            map.append(name, value.clone());
        }
        let mut request = Request::new(RequestBody::from(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = map;
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(body: usize) -> Target {
        Target {
            url: "http://localhost:81/a?b".into(),
            method: "PUT".into(),
            headers: vec![("x-first".into(), "1".into())],
            body_len: body,
            body: vec![b'x'; body],
        }
    }

    #[test]
    fn threads_ask_for_the_same_out_of_memory_of_their_own_but_for_a_long_body() {
        for length in [0, 1, LONG, LONG + 1] {
            let target = target(length);
            let one = Template::new(&target).expect("a target");
            let own = one.apart(&target);
            let [a, b] = [&one, &own].map(Template::request);
            assert_eq!((a.method(), a.uri(), a.headers()), (b.method(), b.uri(), b.headers()));
            assert_eq!((&one.origin, &one.body), (&own.origin, &own.body));
            assert_ne!(one.origin.host().as_ptr(), own.origin.host().as_ptr());
            let not_static = |(name, _): &&(HeaderName, HeaderValue)| *name != CONTENT_LENGTH;
            let values = one.fields.iter().zip(&own.fields).filter(|(one, _)| not_static(one));
            for ((_, one), (_, own)) in values {
                assert_ne!(one.as_bytes().as_ptr(), own.as_bytes().as_ptr());
            }
            let is_shared = one.body.as_ptr() == own.body.as_ptr();
            assert_eq!(is_shared && length > 0, length > LONG);
        }
    }
}
