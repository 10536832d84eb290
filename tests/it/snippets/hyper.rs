use std::time::Duration;

use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioTimer;

/// Behind the probed hop. Since hyper 1.6 this is the idle timeout, too; without a timer there is none.
pub fn server() -> Builder {
    let mut server = Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(83));
    server
}
