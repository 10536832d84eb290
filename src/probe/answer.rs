//! [`Reader`]: one answer out of bytes as they come.
//!
//! *Design.* hyper would read answers too, but it owns the socket while it does, and calls every end of an idle
//! connection by one name. The probe has to say FIN, RST, 408 or stray bytes, and when the last byte of an answer
//! came; so it frames its own few answers (RFC 9112, sections 6 and 7).

use std::time::Duration;

/// The longest head that is read, and the most fields in it: more than any server's that is worth probing.
const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 128;

/// What the head of an answer says, as far as a probe cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) server: Option<String>,
    pub(super) via: Option<String>,
    pub(super) keep_alive: Option<String>,
    /// Whether the connection ends after this answer (RFC 9112, section 9.3).
    pub(super) says_close: bool,
}

/// What a `Keep-Alive` field says: `timeout=` and `max=` (RFC 2068, section 19.7.1.1).
pub(super) fn keep_alive(field: &str) -> (Option<Duration>, Option<u64>) {
    let value = |name: &str| {
        field.split(',').find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim()
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().trim_matches('"').parse::<u64>().ok())?
        })
    };
    (value("timeout").map(Duration::from_secs), value("max"))
}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotHttp;

/// Reads one answer.
#[derive(Debug)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    to_head: bool,
    head: Option<Head>,
    body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunk),
    UntilEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size,
    /// So many bytes of data and of the line's end after them.
    Data(u64),
    Trailer,
    Done,
}

impl Reader {
    /// For the answer to a request; `to_head`: whose method is HEAD, so that no body follows.
    pub(super) fn new(to_head: bool) -> Reader {
        Reader { bytes: Vec::new(), to_head, head: None, body: Body::Length(0) }
    }

    /// Whether anything came.
    pub(super) fn has_begun(&self) -> bool {
        self.head.is_some() || !self.bytes.is_empty()
    }

    /// Takes bytes. `Some`: the answer is whole; what came after it is an error here, for nobody pipelines.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Head>, NotHttp> {
        self.bytes.extend_from_slice(bytes);
        while self.head.is_none() {
            if !self.read_head()? {
                return Ok(None);
            }
        }
        self.read_body()?;
        if !self.is_whole() {
            return Ok(None);
        }
        if self.bytes.is_empty() { Ok(self.head.take()) } else { Err(NotHttp) }
    }

    /// The end of the stream came: the answer, if that is how its body ends.
    pub(super) fn end(&mut self) -> Option<Head> {
        if self.body == Body::UntilEnd { self.head.take() } else { None }
    }

    /// Whether there was a head; interim answers (1xx) are passed over.
    fn read_head(&mut self) -> Result<bool, NotHttp> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(&self.bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if self.bytes.len() <= MAX_HEAD => return Ok(false),
            _ => return Err(NotHttp),
        };
        let status = parsed.code.ok_or(NotHttp)?;
        if status >= 200 {
            let fields = Fields(parsed.headers);
            self.body = fields.body(status, self.to_head)?;
            let says_close = fields.says_close(parsed.version == Some(0)) || self.body == Body::UntilEnd;
            self.head = Some(Head {
                status,
                server: fields.text("server"),
                via: fields.text("via"),
                keep_alive: fields.text("keep-alive"),
                says_close,
            });
        }
        self.bytes.drain(..length);
        Ok(true)
    }

    fn read_body(&mut self) -> Result<(), NotHttp> {
        match &mut self.body {
            Body::Length(left) => skip(&mut self.bytes, left),
            Body::UntilEnd => self.bytes.clear(),
            Body::Chunked(chunk) => while read_chunk(&mut self.bytes, chunk)? {},
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        matches!(self.body, Body::Length(0) | Body::Chunked(Chunk::Done))
    }
}

fn skip(bytes: &mut Vec<u8>, left: &mut u64) {
    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    bytes.drain(..here);
    *left -= here as u64;
}

/// One step through a chunked body; whether there may be another.
fn read_chunk(bytes: &mut Vec<u8>, chunk: &mut Chunk) -> Result<bool, NotHttp> {
    match chunk {
        Chunk::Done => Ok(false),
        Chunk::Data(left) => {
            skip(bytes, left);
            if *left > 0 {
                return Ok(false);
            }
            *chunk = Chunk::Size;
            Ok(true)
        }
        Chunk::Size | Chunk::Trailer => {
            let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
                return if bytes.len() > MAX_HEAD { Err(NotHttp) } else { Ok(false) };
            };
            let line: Vec<u8> = bytes.drain(..end + 2).take(end).collect();
            *chunk = match chunk {
                Chunk::Trailer if line.is_empty() => Chunk::Done,
                Chunk::Trailer => Chunk::Trailer,
                _ => match chunk_size(&line)? {
                    0 => Chunk::Trailer,
                    size => Chunk::Data(size.saturating_add(2)),
                },
            };
            Ok(true)
        }
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, NotHttp> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let text = std::str::from_utf8(digits).map_err(|_| NotHttp)?;
    u64::from_str_radix(text.trim(), 16).map_err(|_| NotHttp)
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl Fields<'_> {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = String> + 'a {
        let named = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| String::from_utf8_lossy(field.value).into_owned())
    }

    /// The field's lines joined, as RFC 9110, section 5.3, has it.
    fn text(&self, name: &str) -> Option<String> {
        let lines: Vec<_> = self.all(name).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    fn has_token(&self, name: &str, token: &str) -> bool {
        self.all(name).any(|line| line.split(',').any(|word| word.trim().eq_ignore_ascii_case(token)))
    }

    fn says_close(&self, http_1_0: bool) -> bool {
        self.has_token("connection", "close") || http_1_0 && !self.has_token("connection", "keep-alive")
    }

    /// RFC 9112, section 6.3.
    fn body(&self, status: u16, to_head: bool) -> Result<Body, NotHttp> {
        if to_head || status == 204 || status == 304 {
            return Ok(Body::Length(0));
        }
        let lengths: Vec<_> = self.all("content-length").collect();
        // Two lengths, which two readers may take for two answers: refused, as the pool refuses them.
        let is_ambiguous = lengths.iter().any(|length| *length != lengths[0]);
        match (self.text("transfer-encoding"), lengths.first()) {
            (Some(_), Some(_)) => Err(NotHttp),
            (Some(_), None) if self.has_token("transfer-encoding", "chunked") => {
                Ok(Body::Chunked(Chunk::Size))
            }
            (None, Some(_)) if is_ambiguous => Err(NotHttp),
            (None, Some(length)) => length.trim().parse().map(Body::Length).map_err(|_| NotHttp),
            (_, None) => Ok(Body::UntilEnd),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer, fed byte by byte and in one piece, which must make no difference.
    fn read(text: &str) -> Result<Option<Head>, NotHttp> {
        let whole = Reader::new(false).feed(text.as_bytes());
        let mut reader = Reader::new(false);
        let mut last = Ok(None);
        for byte in text.as_bytes() {
            last = reader.feed(&[*byte]);
        }
        assert_eq!(whole, last, "{text:?}");
        whole
    }

    fn whole(text: &str) -> Head {
        read(text).unwrap().unwrap_or_else(|| panic!("{text:?} is a whole answer"))
    }

    #[test]
    fn an_answer_ends_where_its_framing_says() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\nA\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ] {
            assert!(!whole(text).says_close, "{text:?}");
        }
        assert_eq!(read("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"), Ok(None));
        assert_eq!(read("SSH-2.0-OpenSSH\r\n"), Err(NotHttp));
    }

    #[test]
    fn an_answer_with_two_lengths_is_none() {
        for fields in [
            "Transfer-Encoding: chunked\r\nContent-Length: 2",
            "Content-Length: 2\r\nTransfer-Encoding: gzip",
            "Content-Length: 2\r\nContent-Length: 3",
        ] {
            assert_eq!(read(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")), Err(NotHttp), "{fields}");
        }
        let twice = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(whole(twice).status, 200);
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut reader = Reader::new(true);
        assert!(reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n").unwrap().is_some());
    }

    #[test]
    fn an_answer_without_a_length_ends_with_its_connection() {
        let mut reader = Reader::new(false);
        assert_eq!(reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhi"), Ok(None));
        assert!(reader.end().unwrap().says_close);
    }

    #[test]
    fn a_close_is_announced_as_the_version_has_it() {
        for (text, says_close) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", false),
        ] {
            assert_eq!(whole(text).says_close, says_close, "{text:?}");
        }
    }

    #[test]
    fn keep_alive_parameters_are_read_in_any_order() {
        let s = Duration::from_secs;
        assert_eq!(keep_alive("timeout=5, max=100"), (Some(s(5)), Some(100)));
        assert_eq!(keep_alive("MAX=3,timeout=\"20\""), (Some(s(20)), Some(3)));
        assert_eq!(keep_alive("nonsense"), (None, None));
    }
}
