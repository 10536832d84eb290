//! [`RequestBody`]: what a request may carry.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
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
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BoxError> + Send>>),
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
        RequestBody(Kind::Boxed(Box::pin(body.map_err(Into::into))))
    }

    /// The same body again, unless it is one that can be read only once.
    pub fn try_clone(&self) -> Option<RequestBody> {
        match &self.0 {
            Kind::Empty => Some(RequestBody(Kind::Empty)),
            Kind::Full(bytes) => Some(RequestBody(Kind::Full(bytes.clone()))),
            Kind::Boxed(_) => None,
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
        if let Kind::Boxed(body) = kind {
            return body.as_mut().poll_frame(cx);
        }
        Poll::Ready(match std::mem::take(kind) {
            Kind::Full(bytes) => Some(Ok(Frame::data(bytes))),
            Kind::Empty | Kind::Boxed(_) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Kind::Empty => "RequestBody(empty)",
            Kind::Full(_) => "RequestBody(bytes)",
            Kind::Boxed(_) => "RequestBody(stream)",
        })
    }
}
