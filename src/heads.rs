//! [`HeadLimits`]: how much may come before a response's head is complete, an origin's or a proxy's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use http::Request;
use hyper::client::conn::http1;

use crate::body::RequestBody;
use crate::config::PoolConfig;
use crate::informational::OnInformational;

/// The size of head that hyper takes unless it is told otherwise (its `DEFAULT_MAX_BUFFER_SIZE`), and of fields.
const HYPERS_BUFFER: usize = 8192 + 4096 * 100;
const HYPERS_FIELDS: usize = 100;

#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    fields: usize,
    size: usize,
    informational: Option<u32>,
}

/// Which of the limits was passed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TooMuch {
    Size,
    Informational(u32),
}

impl HeadLimits {
    pub(crate) fn of(config: &PoolConfig) -> HeadLimits {
        HeadLimits {
            fields: config.max_headers,
            size: config.max_header_size,
            informational: config.max_informational,
        }
    }

    /// What hyper is told of them.
    pub(crate) fn builder(self) -> http1::Builder {
        let mut builder = http1::Builder::new();
        // A request head and a small body go out in one plain write.
        builder.max_header_size(self.size).writev(false);
        if self.fields != HYPERS_FIELDS {
            builder.max_headers(self.fields);
        }
        if self.size >= HYPERS_BUFFER {
            builder.max_buf_size(self.size.saturating_add(1));
        }
        builder
    }

    /// Counts the informational responses to a request where somebody wants to know.
    pub(crate) fn count_informational(self, request: &mut Request<RequestBody>) -> Option<Arc<AtomicU32>> {
        let callback = request.extensions().get::<OnInformational>().cloned();
        if callback.is_none() && self.informational.is_none() {
            return None;
        }
        let count = Arc::new(AtomicU32::new(0));
        let informed = Arc::clone(&count);
        hyper::ext::on_informational(request, move |response| {
            informed.fetch_add(1, Relaxed);
            if let Some(callback) = &callback {
                callback.call(response.status(), response.headers());
            }
        });
        Some(count)
    }

    /// Whether more informational responses were counted than may be.
    pub(crate) fn has_enough_of(self, informed: Option<&AtomicU32>) -> Option<TooMuch> {
        let most = self.informational?;
        (informed?.load(Relaxed) > most).then_some(TooMuch::Informational(most))
    }

    /// Whether so many bytes are too many to come before the end of a head. While there is no answer all that came is
    /// heads.
    pub(crate) fn ends_before(self, heard: u64) -> Option<TooMuch> {
        (heard > self.size as u64).then_some(TooMuch::Size)
    }

    /// What is said when hyper or we have had too much.
    pub(crate) fn told(self, too_much: TooMuch) -> String {
        match too_much {
            TooMuch::Size => format!(
                "the response head is larger than {} bytes (max_header_size, with the 1xx responses before it) or has \
                 more than {} fields (max_headers)",
                self.size, self.fields
            ),
            TooMuch::Informational(most) => {
                format!("more than {most} informational (1xx) responses came (max_informational)")
            }
        }
    }
}

/// Whether hyper has had too much of a head. It has a predicate for this in its server alone; only the wording of our
/// error depends on hyper's.
pub(crate) fn is_too_large(error: &hyper::Error) -> bool {
    error.is_parse() && error.to_string() == "message head is too large"
}
