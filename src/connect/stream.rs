//! [`Stream`]: what HTTP is spoken over: a socket, with TLS or without, or TLS in the TLS of a proxy.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::wire::Wire;

/// A connection's bytes, wrapped as often as need be.
#[derive(Debug)]
pub(super) enum Pipe {
    Plain(Wire),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<Pipe>>),
}

impl Pipe {
    fn wire_mut(&mut self) -> &mut Wire {
        match self {
            Pipe::Plain(wire) => wire,
            #[cfg(feature = "tls")]
            Pipe::Tls(stream) => stream.get_mut().0.wire_mut(),
        }
    }

    fn wire(&self) -> &Wire {
        match self {
            Pipe::Plain(wire) => wire,
            #[cfg(feature = "tls")]
            Pipe::Tls(stream) => stream.get_ref().0.wire(),
        }
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Pipe::Plain($stream) => $call,
            #[cfg(feature = "tls")]
            Pipe::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// What HTTP is spoken over. What is read here is HTTP's.
#[derive(Debug)]
pub(crate) struct Stream(pub(super) Pipe);

impl Stream {
    /// The socket beneath all TLS, to be read past it when the conversation is over.
    pub(crate) fn wire_mut(&mut self) -> &mut Wire {
        self.0.wire_mut()
    }

    pub(crate) fn wire(&self) -> &Wire {
        self.0.wire()
    }

    /// Waits for something to read, in as many turns as it takes: what TLS says to itself may be much.
    ///
    /// *Cancel safety.* Nothing is lost.
    #[cfg(feature = "load")]
    pub(crate) async fn hear(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(bytes);
        std::future::poll_fn(|cx| {
            self.wire().facts().begin_turn();
            Pin::new(&mut *self).poll_read(cx, &mut buf)
        })
        .await?;
        Ok(buf.filled().len())
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.wire().facts().is_exhausted() {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut this.0).poll_read(cx, buf);
        let facts = this.wire().facts();
        match &result {
            Poll::Pending => facts.found_nothing(),
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                facts.add_heard(buf.filled().len() - before);
            }
            Poll::Ready(Ok(())) if buf.remaining() > 0 => facts.broke(),
            Poll::Ready(Err(_)) => facts.broke(),
            _ => {}
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.0).poll_write(cx, bytes);
        if let Poll::Ready(Err(_)) = &result {
            this.wire().facts().broke();
        }
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock;
    use crate::wire::Socket;

    #[tokio::test]
    async fn a_socket_that_had_nothing_is_asked_again_in_the_next_turn_or_when_it_is_to_be_looked_at() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let tcp = tokio::net::TcpStream::connect(address).await.expect("a peer");
        let (mut peer, _) = listener.accept().expect("a client");
        let mut stream = Stream(Pipe::Plain(Wire::new(Socket::Tcp(tcp), clock::now())));
        let facts = Arc::clone(stream.wire().facts());
        let heard = |stream: &mut Stream| {
            let mut bytes = [0_u8; 8];
            let mut buf = ReadBuf::new(&mut bytes);
            let polled = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut buf);
            polled.map(|read| read.map(|()| buf.filled().len()).expect("the peer is there"))
        };
        facts.begin_turn_for_one();
        assert_eq!((heard(&mut stream), facts.is_exhausted()), (Poll::Pending, true));
        peer.write_all(b"one").expect("the client is there");
        assert_eq!(heard(&mut stream), Poll::Pending, "in this turn there was nothing");
        facts.look_before_write();
        assert_eq!(heard(&mut stream), Poll::Ready(3), "a look sees what the kernel has");
        stream.write_all(b"!").await.expect("the peer is there");
        facts.begin_turn_for_one();
        assert_eq!((heard(&mut stream), facts.is_exhausted()), (Poll::Pending, true));
        facts.end_turn();
        peer.write_all(b"two").expect("the client is there");
        let mut bytes = [0; 8];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut bytes)).await;
        assert_eq!(read.expect("it is told of it").expect("the peer is there"), 3);
    }
}
