//! From a target to an origin and what is said to it.

use http::header::{HeaderName, HeaderValue};
use http::{Method, Uri};

use super::ProbeTarget;
use super::line::Speech;
use crate::load::Refusal;
use crate::origin::Origin;
use crate::plan::Target;

/// Where connections go, and what is said on them.
pub(super) fn read(target: &ProbeTarget) -> Result<(Origin, Speech), Refusal> {
    match target {
        ProbeTarget::Http(target) => http(target),
        ProbeTarget::Tcp { url, send, expect } => {
            let speech = Speech::Bytes { send: send.clone(), expect: expect.clone() };
            tcp(url).map(|origin| (origin, speech))
        }
    }
}

fn tcp(url: &str) -> Result<Origin, Refusal> {
    let wrong =
        || Refusal::Usage(format!("`{url}` is not tcp://host:port, such as tcp://db.example.com:5432"));
    let rest = url.strip_prefix("tcp://").ok_or_else(wrong)?;
    let rest = rest.trim_end_matches('/');
    let (_, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    format!("http://{rest}/").parse().map_err(|_| wrong())
}

/// The request as it goes out. `Connection: keep-alive` says nothing new in HTTP/1.1, but Apache and Tomcat tell
/// their timers only to those who say it.
fn http(target: &Target) -> Result<(Origin, Speech), Refusal> {
    let usage = |text: String| Refusal::Usage(text);
    let origin: Origin = target.url.parse().map_err(|error| usage(format!("{error}")))?;
    let uri: Uri = target.url.parse().map_err(|error| usage(format!("{error}")))?;
    let method: Method =
        target.method.parse().map_err(|_| usage(format!("`{}` is not an HTTP method", target.method)))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    let mut has_host = false;
    for (name, value) in &target.headers {
        let bad = || usage(format!("what is given for `{name}` is not a header field: write 'Name: value'"));
        let checked = HeaderName::try_from(name).map_err(|_| bad())?;
        let value = HeaderValue::try_from(value).map_err(|_| bad())?;
        if [http::header::CONNECTION, http::header::CONTENT_LENGTH, http::header::TRANSFER_ENCODING]
            .contains(&checked)
        {
            return Err(usage(format!("the {checked} field is the probe's own: leave it out")));
        }
        has_host |= checked == http::header::HOST;
        field(&mut request, name.as_bytes(), value.as_bytes());
    }
    if !has_host {
        field(&mut request, b"Host", origin.host_header().as_bytes());
    }
    if !target.body.is_empty() {
        field(&mut request, b"Content-Length", target.body.len().to_string().as_bytes());
    }
    field(&mut request, b"Connection", b"keep-alive");
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(&target.body);
    Ok((origin, Speech::Http { request, to_head: method == Method::HEAD }))
}

fn field(request: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        request.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_tcp_target_has_a_host_and_a_port() {
        assert_eq!(tcp("tcp://[::1]:22").unwrap().port(), 22);
        for url in ["tcp://host", "tcp://host:x", "host:22", "tcp://:22"] {
            assert!(tcp(url).is_err(), "{url}");
        }
    }

    #[test]
    fn the_request_says_keep_alive_and_carries_what_it_was_given() {
        let target = Target {
            url: "http://example.test:81/a?b".into(),
            method: "POST".into(),
            headers: vec![("X-A".into(), "1".into())],
            body_len: 2,
            body: b"hi".to_vec(),
        };
        let (_, speech) = http(&target).unwrap();
        let Speech::Http { request, to_head: false } = speech else { panic!("it is HTTP") };
        assert_eq!(
            String::from_utf8(request).unwrap(),
            "POST /a?b HTTP/1.1\r\nX-A: 1\r\nHost: example.test:81\r\nContent-Length: 2\r\n\
             Connection: keep-alive\r\n\r\nhi"
        );
    }
}
