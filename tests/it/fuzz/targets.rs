//! Whatever somebody writes for a targets file: it is refused at one of its lines, or every target that is read can be
//! asked for, and reads the same when it is written and read again.

use keeplive::Origin;
use keeplive::targets::{Content, Listed, parse};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse(text) {
        Err(fault) => {
            let lines = text.lines().count().max(1);
            assert!((1..=lines).contains(&fault.line) && !fault.to_string().is_empty(), "{fault:?}");
        }
        Ok(all) => {
            assert!(!all.is_empty());
            all.iter().for_each(check);
            again(&all);
        }
    }
}

fn check(listed: &Listed) {
    assert!(
        listed.url.parse::<Origin>().is_ok() && listed.method.parse::<http::Method>().is_ok(),
        "{listed:?}"
    );
    assert!(listed.weight != Some(0), "{listed:?}");
    for (name, value) in &listed.headers {
        assert!(name.parse::<http::HeaderName>().is_ok(), "{listed:?}");
        assert!(value.parse::<http::HeaderValue>().is_ok() && !value.contains(['\r', '\n']), "{listed:?}");
    }
}

/// Written as JSON, which has a place for everything but bodies in files.
fn again(all: &[Listed]) {
    let line = |listed: &Listed| {
        let fields =
            listed.headers.iter().map(|(name, value)| format!("{name:?}:[{}]", serde_json::json!(value)));
        let fields = fields.collect::<Vec<_>>().join(",");
        let (method, url) = (serde_json::json!(listed.method), serde_json::json!(listed.url));
        let weight = serde_json::json!(listed.weight);
        format!("{{\"method\":{method},\"url\":{url},\"header\":{{{fields}}},\"weight\":{weight}}}\n")
    };
    let text: String = all.iter().map(line).collect();
    let expected: Vec<Listed> =
        (1..).zip(all).map(|(line, listed)| Listed { line, body: Content::None, ..listed.clone() }).collect();
    assert_eq!(parse(&text), Ok(expected));
}
