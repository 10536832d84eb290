//! [`RequestBody`]: what a request may carry.

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, HeaderValue, TRANSFER_ENCODING};
use http::{Method, Request, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;

use crate::error::{Error, ErrorKind};
use crate::phase::Phase;

type BoxError = Box<dyn StdError + Send + Sync>;
type Stream = Pin<Box<dyn Pieces + Send>>;

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
    Streamed(Streamed),
}

struct Streamed {
    /// The mutex is never contended: it makes a body that need not be `Sync` part of errors that are.
    body: Mutex<Stream>,
    feed: Option<Arc<Feed>>,
    /// How many bytes it was declared to have, where that is what its peer goes by, and how many have come.
    declared: Option<u64>,
    come: u64,
}

/// Any body whose type has been forgotten, its pieces and errors of one type each.
trait Pieces {
    fn poll_piece(self: Pin<&mut Self>, cx: &mut Context<'_>)
    -> Poll<Option<Result<Frame<Bytes>, BoxError>>>;

    fn is_at_end(&self) -> bool;

    fn size(&self) -> SizeHint;
}

impl<B> Pieces for B
where
    B: HttpBody,
    B::Error: Into<BoxError>,
{
    fn poll_piece(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let in_bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
        self.poll_frame(cx)
            .map(|frame| frame.map(|frame| frame.map(|frame| frame.map_data(in_bytes)).map_err(Into::into)))
    }

    fn is_at_end(&self) -> bool {
        self.is_end_stream()
    }

    fn size(&self) -> SizeHint {
        self.size_hint()
    }
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
    ///
    /// *Cost.* A streamed one is boxed, once; its pieces are not copied if they are `Bytes`, and else once each.
    pub fn new<B>(mut body: B) -> RequestBody
    where
        B: HttpBody + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return RequestBody::empty();
        }
        in_memory(&mut body).unwrap_or_else(|| RequestBody::of(Kind::Streamed(Streamed::new(Box::pin(body)))))
    }

    /// It was declared to have so many bytes. hyper does not even ask one that was declared to have none.
    fn declare(&mut self, length: u64) -> Result<(), BoxError> {
        let Some(Kind::Streamed(streamed)) = self.0.as_deref_mut() else { return Ok(()) };
        streamed.declared = Some(length);
        if length == 0 {
            streamed.look_behind(&mut Context::from_waker(Waker::noop()))?;
            *self = RequestBody::empty();
        }
        Ok(())
    }

    /// From now on it tells whether it keeps its request waiting; `None`: one that never does.
    pub(crate) fn feed(&mut self) -> Option<Arc<Feed>> {
        match self.0.as_deref_mut() {
            None | Some(Kind::Full(_)) => None,
            Some(Kind::Streamed(streamed)) => Some(Arc::clone(streamed.feed.get_or_insert_default())),
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

impl Streamed {
    fn new(body: Stream) -> Streamed {
        Streamed { body: Mutex::new(body), feed: None, declared: None, come: 0 }
    }

    fn ask(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.body.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll_piece(cx)
    }

    /// As [`Streamed::ask`], held to what was declared: hyper would cut off what is beyond, and call that sent.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = self.ask(cx);
        if let Some(feed) = &self.feed {
            feed.0.store(polled.is_pending(), Relaxed);
        }
        let (Some(declared), Poll::Ready(frame)) = (self.declared, &polled) else { return polled };
        match frame {
            None if self.come < declared => {
                let text = format!("it ended after {} of the {declared} bytes that were declared", self.come);
                Poll::Ready(Some(Err(text.into())))
            }
            Some(Ok(frame)) => match self.count(frame, declared, cx) {
                Ok(()) => polled,
                Err(error) => Poll::Ready(Some(Err(error))),
            },
            _ => polled,
        }
    }

    fn count(&mut self, frame: &Frame<Bytes>, declared: u64, cx: &mut Context<'_>) -> Result<(), BoxError> {
        self.come += data_of(frame);
        match self.come {
            come if come > declared => Err(too_long(declared)),
            come if come == declared => self.look_behind(cx),
            _ => Ok(()),
        }
    }

    /// hyper does not ask for what comes behind the last byte that was declared: there must be none. Where nothing is said of
    /// that yet nobody waits: the end may come no sooner than the response.
    fn look_behind(&mut self, cx: &mut Context<'_>) -> Result<(), BoxError> {
        while !self.is_at_end() {
            match self.ask(cx) {
                Poll::Ready(Some(Ok(frame))) if data_of(&frame) > 0 => {
                    return Err(too_long(self.declared.unwrap_or_default()));
                }
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Err(error),
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        lock(&self.body).is_at_end()
    }
}

fn data_of(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

fn too_long(declared: u64) -> BoxError {
    format!("it has more than the {declared} bytes that were declared").into()
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
        if let Some(Kind::Streamed(streamed)) = kind.as_deref_mut() {
            return streamed.poll_frame(cx);
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
            // At a wrong end it is to be asked, and tells.
            Some(Kind::Streamed(streamed)) => {
                streamed.declared.is_none_or(|declared| streamed.come >= declared) && streamed.is_at_end()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.0.as_deref() {
            None => SizeHint::with_exact(0),
            Some(Kind::Full(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Some(Kind::Streamed(streamed)) => lock(&streamed.body).size(),
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
    let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
    match length {
        Some(length) if !is_chunked => request
            .body_mut()
            .declare(length)
            .map_err(|source| Error::new(ErrorKind::RequestBody).at(Phase::Send).with_source(source))?,
        None if !is_chunked => {
            request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        _ => {}
    }
    if request.body().0.is_none() && !is_chunked && says_when_empty(request.method()) {
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Ok(())
}

/// Whether a request without a body says that it has none: where its method would lead to expect one, it should (RFC 9110,
/// section 8.6). hyper says it of no empty one.
pub(crate) fn says_when_empty(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
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
        assert_eq!(again(RequestBody::new(Empty::<Bytes>::new())), empty);
        assert_eq!(again(RequestBody::new(Full::<Bytes>::from("abc"))), bytes);
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
