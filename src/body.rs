//! [`RequestBody`]: what a request may carry.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

type BoxError = Box<dyn StdError + Send + Sync>;

/// The body of a request. Empty and in-memory bodies cost no allocation and can be sent again; any other
/// [`http_body::Body`] is boxed and is sent at most once.
#[derive(Default)]
pub struct RequestBody(Kind);

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Full(Bytes),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>, Option<Arc<Feed>>),
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

    /// Any body.
    pub fn new<B>(body: B) -> RequestBody
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return RequestBody::empty();
        }
        RequestBody(Kind::Boxed(Box::pin(body.map_err(Into::into)), None))
    }

    /// From now on it tells whether it keeps its request waiting; `None`: one that never does.
    pub(crate) fn feed(&mut self) -> Option<Arc<Feed>> {
        match &mut self.0 {
            Kind::Empty | Kind::Full(_) => None,
            Kind::Boxed(_, feed) => Some(Arc::clone(feed.get_or_insert_default())),
        }
    }

    /// The same body again, unless it is one that can be read only once.
    pub fn try_clone(&self) -> Option<RequestBody> {
        match &self.0 {
            Kind::Empty => Some(RequestBody(Kind::Empty)),
            Kind::Full(bytes) => Some(RequestBody(Kind::Full(bytes.clone()))),
            Kind::Boxed(..) => None,
        }
    }
}

impl From<()> for RequestBody {
    fn from((): ()) -> RequestBody {
        RequestBody::empty()
    }
}

impl From<Bytes> for RequestBody {
    fn from(bytes: Bytes) -> RequestBody {
        RequestBody(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }
}

impl From<String> for RequestBody {
    fn from(text: String) -> RequestBody {
        Bytes::from(text).into()
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
        if let Kind::Boxed(body, feed) = kind {
            let frame = body.as_mut().poll_frame(cx);
            if let Some(feed) = feed {
                feed.0.store(frame.is_pending(), Relaxed);
            }
            return frame;
        }
        Poll::Ready(match std::mem::take(kind) {
            Kind::Full(bytes) => Some(Ok(Frame::data(bytes))),
            Kind::Empty | Kind::Boxed(..) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Boxed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Boxed(body, _) => body.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Empty => "RequestBody(empty)",
            Kind::Full(_) => "RequestBody(bytes)",
            Kind::Boxed(..) => "RequestBody(stream)",
        })
    }
}
