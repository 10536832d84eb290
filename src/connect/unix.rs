//! Unix sockets.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::error::{Error, ErrorKind};
use crate::phase::Phase;

/// How long to wait before knocking again at a socket whose queue is full.
const PAUSE: Duration = Duration::from_millis(1);

/// *Cancel safety.* Dropping the future closes the socket.
pub(super) async fn connect(path: &Path) -> Result<UnixStream, Error> {
    loop {
        match UnixStream::connect(path).await {
            // Where TCP would send its SYN again, a Unix socket that may not block says EAGAIN (connect(2)), and
            // nothing tells when there is room.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(PAUSE).await,
            answer => return answer.map_err(|error| explain(path, error)),
        }
    }
}

fn explain(path: &Path, error: io::Error) -> Error {
    let path = path.display();
    let (kind, text) = match error.kind() {
        io::ErrorKind::NotFound => (
            ErrorKind::ConnectRefused,
            format!("there is no Unix socket {path}: start the server, or correct the path"),
        ),
        io::ErrorKind::ConnectionRefused => (
            ErrorKind::ConnectRefused,
            format!("nothing listens at the Unix socket {path}: start the server"),
        ),
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::Connect, format!("the Unix socket {path} may not be written to by this user"))
        }
        _ => (ErrorKind::of_connect(&error), format!("could not connect to the Unix socket {path}")),
    };
    Error::new(kind).at(Phase::Connect).with_detail(text).with_source(error)
}
