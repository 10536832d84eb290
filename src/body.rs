//! [`RequestBody`]: what a request may carry.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Full};

use crate::error::{Error, ErrorKind};

type BoxError = Box<dyn StdError + Send + Sync>;
type Stream = Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>;

/// The body of a request. One in memory can be sent again; any other [`http_body::Body`] is sent at most once. An empty one
/// costs no allocation.
///
/// `()`, strings, vectors and [`Bytes`] become one by `into`, as [`Pool::send`](crate::Pool::send) wants it; any
/// `http_body::Body` by [`RequestBody::new`]:
///
/// ```
/// # fn upload() -> http_body_util::Empty<bytes::Bytes> { http_body_util::Empty::new() }
/// let request = http::Request::post("http://example.com/").body(upload()).expect("a valid request");
/// let request = request.map(keeplive::RequestBody::new);
/// ```
///
/// *Design.* It is a pointer, for a request is moved a dozen times on its way through hyper: as small as this it stays below
/// the 256 bytes that are copied without a loop.
#[derive(Default)]
pub struct RequestBody(Option<Box<Kind>>);

enum Kind {
    /// At least one byte.
    Full(Bytes),
    /// The mutex is never contended: it makes a body that need not be `Sync` part of errors that are.
    Streamed(Mutex<Stream>, Option<Arc<Feed>>),
}

/// What may be known of a streamed body while hyper owns it. When nobody else holds it any more, the body is over.
#[derive(Debug, Default)]
pub(crate) struct Feed(AtomicBool);

impl Feed {
    /// Whether the request stands still because its own body has nothing more to send yet.
    pub(crate) fn is_hungry(&self) -> bool {
        self.0.load(Relaxed)
    }
}

impl RequestBody {
    /// No body.
    pub fn empty() -> RequestBody {
        RequestBody::default()
    }

    fn of(kind: Kind) -> RequestBody {
        RequestBody(Some(Box::new(kind)))
    }

    /// Any body. A `RequestBody` stays what it is, and one in memory (`Full<Bytes>`, `String`) is known as such, so
    /// that it can be sent again.
    pub fn new<B>(mut body: B) -> RequestBody
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return RequestBody::empty();
        }
        in_memory(&mut body).unwrap_or_else(|| {
            RequestBody::of(Kind::Streamed(Mutex::new(Box::pin(body.map_err(Into::into))), None))
        })
    }

    /// From now on it tells whether it keeps its request waiting; `None`: one that never does.
    pub(crate) fn feed(&mut self) -> Option<Arc<Feed>> {
        match self.0.as_deref_mut() {
            None | Some(Kind::Full(_)) => None,
            Some(Kind::Streamed(_, feed)) => Some(Arc::clone(feed.get_or_insert_default())),
        }
    }

    /// The same body again, unless it is one that can be read only once.
    pub fn try_clone(&self) -> Option<RequestBody> {
        match self.0.as_deref() {
            None => Some(RequestBody::empty()),
            Some(Kind::Full(bytes)) => Some(bytes.clone().into()),
            Some(Kind::Streamed(..)) => None,
        }
    }
}

/// Takes a body that is one of the types known to hold all their bytes.
fn in_memory(body: &mut dyn Any) -> Option<RequestBody> {
    if let Some(body) = body.downcast_mut::<RequestBody>() {
        return Some(std::mem::take(body));
    }
    if let Some(text) = body.downcast_mut::<String>() {
        return Some(std::mem::take(text).into());
    }
    let full = body.downcast_mut::<Full<Bytes>>()?;
    match Pin::new(full).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().ok().map(RequestBody::from),
        _ => None,
    }
}

impl From<()> for RequestBody {
    fn from((): ()) -> RequestBody {
        RequestBody::empty()
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> RequestBody {
        if bytes.is_empty() { RequestBody::empty() } else { RequestBody::of(Kind::Full(bytes)) }
    }
}

impl From<String> for RequestBody {
    fn from(text: String) -> RequestBody {
        Bytes::from(text).into()
    }
}

impl From<Vec<u8>> for RequestBody {
    fn from(bytes: Vec<u8>) -> RequestBody {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for RequestBody {
    fn from(bytes: &'static [u8]) -> RequestBody {
        Bytes::from_static(bytes).into()
    }
}

impl From<&'static str> for RequestBody {
    fn from(text: &'static str) -> RequestBody {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let kind = &mut self.get_mut().0;
        if let Some(Kind::Streamed(body, feed)) = kind.as_deref_mut() {
            let frame = body.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll_frame(cx);
            if let Some(feed) = feed {
                feed.0.store(frame.is_pending(), Relaxed);
            }
            return frame;
        }
        Poll::Ready(match kind.take().map(|kind| *kind) {
            Some(Kind::Full(bytes)) => Some(Ok(Frame::data(bytes))),
            None | Some(Kind::Streamed(..)) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match self.0.as_deref() {
            None => true,
            Some(Kind::Full(_)) => false,
            Some(Kind::Streamed(body, _)) => lock(body).is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_deref() {
            None => SizeHint::with_exact(0),
            Some(Kind::Full(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Some(Kind::Streamed(body, _)) => lock(body).size_hint(),
        }
    }
}

/// Makes a request ready to be sent as HTTP/1.1.
///
/// *Design.* hyper would choose the frame of a body by the version that the request carries and by its method, and send no
/// body where it knows no frame, without a word. So both are settled here.
pub(crate) fn frame(request: &mut Request<RequestBody>) -> Result<(), Error> {
    let length = declared_length(request)?;
    *request.version_mut() = Version::HTTP_11;
    if length.is_none() {
        let chunked = || HeaderValue::from_static("chunked");
        request.headers_mut().entry(TRANSFER_ENCODING).or_insert_with(chunked);
    }
    Ok(())
}

/// Whether its body can be sent to a peer that knows no chunks.
pub(crate) fn has_length(request: &Request<RequestBody>) -> bool {
    request.body().size_hint().exact().is_some() || request.headers().contains_key(CONTENT_LENGTH)
}

/// A caller's own `Content-Length` must say what a body of known size has: of a larger one the server waits for the rest, and
/// what is beyond a smaller one it takes for another request (RFC 9112, section 6.3).
fn declared_length(request: &Request<RequestBody>) -> Result<Option<u64>, Error> {
    let mut length = request.body().size_hint().exact();
    for said in request.headers().get_all(CONTENT_LENGTH) {
        let text = match (number(said), length) {
            (None, _) => format!("Content-Length is {said:?}, which is no number of bytes"),
            (Some(number), Some(length)) if number != length => {
                format!("Content-Length is {said:?}, and the body has {length} bytes")
            }
            (number, _) => {
                length = number;
                continue;
            }
        };
        let text = text + ": leave the field out, it follows";
        return Err(Error::new(ErrorKind::InvalidRequest).with_detail(text));
    }
    Ok(length)
}

/// Digits alone (RFC 9110, section 8.6): a sign is none.
fn number(said: &HeaderValue) -> Option<u64> {
    let said = said.to_str().ok()?;
    said.bytes().all(|digit| digit.is_ascii_digit()).then(|| said.parse().ok())?
}

fn lock(body: &Mutex<Stream>) -> MutexGuard<'_, Stream> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.as_deref() {
            None => "RequestBody(empty)",
            Some(Kind::Full(_)) => "RequestBody(bytes)",
            Some(Kind::Streamed(..)) => "RequestBody(stream)",
        })
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    #[test]
    fn a_body_in_memory_is_known_as_such_whatever_type_brought_it() {
        let again = |body: RequestBody| body.try_clone().map(|body| format!("{body:?}"));
        let (empty, bytes) = (Some("RequestBody(empty)".to_owned()), Some("RequestBody(bytes)".to_owned()));
        assert_eq!(again(RequestBody::new(Empty::new())), empty);
        assert_eq!(again(RequestBody::new(Full::from("abc"))), bytes);
        assert_eq!(again(RequestBody::new(String::from("abc"))), bytes);
        assert_eq!(again(RequestBody::new(RequestBody::from(vec![1, 2, 3]))), bytes);
        assert_eq!(again(RequestBody::from(&b"abc"[..])), bytes);
    }

    #[test]
    fn a_stream_is_read_only_once_however_often_it_is_wrapped() {
        assert!(RequestBody::new(RequestBody::new(Once)).try_clone().is_none());
    }

    #[test]
    fn a_content_length_that_is_not_the_bodys_is_refused() {
        let checked = |said: &str, body: RequestBody| {
            let request = Request::post("/").header(CONTENT_LENGTH, said).body(body).unwrap();
            declared_length(&request).map_err(|error| error.to_string())
        };
        assert!(checked("3", RequestBody::from("abc")).is_ok() && checked("0", RequestBody::empty()).is_ok());
        assert!(checked("5", RequestBody::new(Once)).is_ok(), "nobody knows");
        for (said, body) in [
            ("5", RequestBody::empty()),
            ("2", "abc".into()),
            ("three", "abc".into()),
            ("+3", "abc".into()),
            ("", RequestBody::new(Once)),
            ("many", RequestBody::new(Once)),
        ] {
            let error = checked(said, body).unwrap_err();
            assert!(error.contains("leave the field out"), "{error}");
        }
    }

    struct Once;

    impl HttpBody for Once {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
            Poll::Ready(None)
        }
    }
}
