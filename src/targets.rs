//! A file of targets, read: vegeta's text format, and its JSON lines. Pure: which files hold bodies is told, not read.

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{HeaderName, HeaderValue};
use http::{Method, Uri};
use serde::Deserialize;

use crate::origin::Origin;

/// One request of a targets file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// In which line of the file it begins, from 1.
    pub line: usize,
    /// Method.
    pub method: String,
    /// Absolute URL.
    pub url: String,
    /// Fields, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Content,
    /// Its share, against the others' weights; `None`: the file does not say.
    pub weight: Option<u32>,
}

/// A body, or where to find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// There is none.
    None,
    /// These bytes.
    Bytes(Vec<u8>),
    /// What this file holds; a path that is relative begins at the targets file's folder.
    File(PathBuf),
}

/// What is wrong with a targets file, and where. Its text tells the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

/// More are a mistake: each is held in memory, with its body.
const MOST: usize = 100_000;

/// Reads a targets file, whose first character tells its form: JSON lines begin with a brace, and no method does.
///
/// The text form, for each target: `METHOD URL`, then its fields as `Name: value`, then `@FILE` for a body; an empty
/// line ends it, and so does the next target's first line. Lines that begin with `#` are comments.
///
/// The JSON form: an object in a line, with `method` and `url`, and, as one likes, `header` (lists of values by name),
/// `body` (base64) and `weight`, which vegeta does not know.
///
/// ```
/// let listed = keeplive::targets::parse("GET http://a.test/\nAccept: */*\n\nPUT http://b.test/x\n@body.json\n")?;
/// assert_eq!((listed.len(), listed[1].url.as_str()), (2, "http://b.test/x"));
/// # Ok::<_, keeplive::targets::Fault>(())
/// ```
///
/// # Errors
///
/// The first [`Fault`].
pub fn parse(text: &str) -> Result<Vec<Listed>, Fault> {
    // Editors on Windows may begin a file with it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = || (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.starts_with('#'));
    let first = lines().find(|(_, line)| !line.is_empty());
    let Some((first, begin)) = first else {
        return fault(1, "it names no target: write `GET http://example.com/`, one to a line".into());
    };
    let listed = if begin.starts_with('{') { json(lines())? } else { plain(lines())? };
    if listed.len() > MOST {
        return fault(first, format!("it names {} targets: {MOST} are the most", listed.len()));
    }
    Ok(listed)
}

fn fault<T>(line: usize, text: String) -> Result<T, Fault> {
    Err(Fault { line, text })
}

fn plain<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Vec<Listed>, Fault> {
    let mut all: Vec<Listed> = Vec::new();
    // Whether lines still belong to the last target.
    let mut open = false;
    for (at, line) in lines {
        if line.is_empty() {
            open = false;
        } else if let Some(listed) = request_line(at, line)? {
            all.push(listed);
            open = true;
        } else if let Some(last) = all.last_mut().filter(|_| open) {
            open = add(last, at, line)?;
        } else {
            return fault(
                at,
                format!("`{line}` is not a target: write `METHOD URL`, such as `GET http://example.com/`"),
            );
        }
    }
    Ok(all)
}

/// `METHOD URL`; `None`: the line is something else. Methods have capitals only, and a field's name has its colon before
/// the first space.
fn request_line(at: usize, line: &str) -> Result<Option<Listed>, Fault> {
    let Some((method, url)) = line.split_once(char::is_whitespace) else { return Ok(None) };
    if !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(None);
    }
    let (method, url) = (method.to_owned(), url.trim().to_owned());
    let listed = Listed { line: at, method, url, headers: Vec::new(), body: Content::None, weight: None };
    checked(listed).map(Some)
}

/// A field, or where the body is. Whether more may follow: nothing after a body.
fn add(target: &mut Listed, at: usize, line: &str) -> Result<bool, Fault> {
    if let Some(file) = line.strip_prefix('@') {
        if file.trim().is_empty() {
            return fault(at, "`@` names no file: write `@FILE`, or leave the line out".into());
        }
        target.body = Content::File(PathBuf::from(file.trim()));
        return Ok(false);
    }
    let Some((name, value)) = line.split_once(':') else {
        return fault(at, format!("`{line}` is neither `Name: value` nor `@FILE`"));
    };
    let field = field(at, name.trim(), value.trim())?;
    target.headers.push(field);
    Ok(true)
}

fn field(at: usize, name: &str, value: &str) -> Result<(String, String), Fault> {
    if HeaderName::try_from(name).is_err() {
        return fault(at, format!("`{name}` is no field's name: write `Name: value`, names without spaces"));
    }
    if HeaderValue::try_from(value).is_err() {
        return fault(
            at,
            format!("the value of `{name}` holds a character that no field may have: leave it out"),
        );
    }
    let framing = ["connection", "content-length", "transfer-encoding"];
    if framing.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return fault(at, format!("`{name}` follows from the body and from --keep-alive: leave it out"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A target whose method and URL can be asked for.
fn checked(listed: Listed) -> Result<Listed, Fault> {
    let at = listed.line;
    if listed.method.parse::<Method>().is_err() {
        return fault(at, format!("`{}` is not an HTTP method: write GET, POST or another", listed.method));
    }
    match listed.url.parse::<Uri>() {
        Err(error) => fault(at, format!("`{}` is not a URL ({error}): write http://HOST/PATH", listed.url)),
        Ok(uri) => match Origin::from_uri(&uri) {
            Err(error) => fault(at, error.to_string()),
            Ok(_) => Ok(listed),
        },
    }
}

/// vegeta's schema, and a weight.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    method: String,
    url: String,
    #[serde(default)]
    header: Fields,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    weight: Option<u32>,
}

/// Fields as they stand in the line: a map would change their order.
#[derive(Default)]
struct Fields(Vec<(String, Vec<String>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Fields, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("fields by name, each with a list of values")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }

            // Go writes an empty map so.
            fn visit_unit<E>(self) -> Result<Fields, E> {
                Ok(Fields::default())
            }
        }
        from.deserialize_any(Visitor)
    }
}

fn json<'a>(lines: impl Iterator<Item = (usize, &'a str)>) -> Result<Vec<Listed>, Fault> {
    lines.filter(|(_, line)| !line.is_empty()).map(|(at, line)| json_line(at, line)).collect()
}

fn json_line(at: usize, line: &str) -> Result<Listed, Fault> {
    let Line { method, url, header, body, weight } = serde_json::from_str(line).or_else(|error| {
        let form = r#"{"method": "GET", "url": "http://example.com/"}"#;
        // Its own place is that within the line.
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        fault(at, format!("column {}: {text}: write an object to a line, such as {form}", error.column()))
    })?;
    if weight == Some(0) {
        return fault(at, "weight is 0: give 1 or more, or leave the target out".into());
    }
    let mut headers = Vec::new();
    for (name, values) in header.0 {
        for value in values {
            headers.push(field(at, &name, value.trim())?);
        }
    }
    let body = match body.filter(|body| !body.is_empty()) {
        None => Content::None,
        Some(body) => match BASE64.decode(&body) {
            Ok(bytes) => Content::Bytes(bytes),
            Err(error) => return fault(at, format!("the body is not base64 ({error}): encode it")),
        },
    };
    checked(Listed { line: at, method, url, headers, body, weight })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listed(line: usize, method: &str, url: &str) -> Listed {
        let (method, url) = (method.into(), url.into());
        Listed { line, method, url, headers: Vec::new(), body: Content::None, weight: None }
    }

    fn fields(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The examples of vegeta's manual.
    #[test]
    fn vegetas_text_is_read_as_vegeta_reads_it() {
        let text = "# where it all begins\nGET http://goku:9090/path/to/dragon?item=ball\nX-Account-ID: 8675309\n\n\
                    DELETE http://user.test/99\nHEAD http://goku:9090/things\n\
                    POST http://goku:9090/things\r\nX-A: a: b\n# a comment between\nX-A: c\n@/path/newthing.json\n\n\n";
        let read = parse(text).unwrap();
        assert_eq!(
            read,
            [
                Listed {
                    headers: fields(&[("X-Account-ID", "8675309")]),
                    ..listed(2, "GET", "http://goku:9090/path/to/dragon?item=ball")
                },
                listed(5, "DELETE", "http://user.test/99"),
                listed(6, "HEAD", "http://goku:9090/things"),
                Listed {
                    headers: fields(&[("X-A", "a: b"), ("X-A", "c")]),
                    body: Content::File("/path/newthing.json".into()),
                    ..listed(7, "POST", "http://goku:9090/things")
                },
            ]
        );
    }

    #[test]
    fn vegetas_json_is_read_line_by_line_with_weights() {
        let text = concat!(
            r#"{"method":"POST","url":"https://goku/1","header":{"X-B":["2","3"],"A":["1"]},"body":"aGk=","weight":3}"#,
            "\n\n",
            r#"{"method":"GET","url":"http://goku/2","header":null,"body":""}"#,
            "\n"
        );
        let first = Listed {
            headers: fields(&[("X-B", "2"), ("X-B", "3"), ("A", "1")]),
            body: Content::Bytes(b"hi".to_vec()),
            weight: Some(3),
            ..listed(1, "POST", "https://goku/1")
        };
        assert_eq!(parse(text).unwrap(), [first, listed(3, "GET", "http://goku/2")]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_at_its_line_with_the_cure() {
        for (text, line, cure) in [
            ("", 1, "names no target"),
            ("# nothing\n\n", 1, "GET http://example.com/"),
            ("http://x/", 1, "METHOD URL"),
            ("get http://x/", 1, "METHOD URL"),
            ("GET http://x/\n\nAccept: a", 3, "METHOD URL"),
            ("GET http://x/\n@a\n@b", 3, "METHOD URL"),
            ("GET http://x/\n@ ", 2, "@FILE"),
            ("GET http://x/\nnonsense", 2, "Name: value"),
            ("GET http://x/\nAb c: d", 2, "without spaces"),
            ("GET http://x/\nX: \u{1}", 2, "leave it out"),
            ("GET http://x/\nContent-Length: 3", 2, "leave it out"),
            ("GET http://x/\nGET /path", 2, "no scheme"),
            ("GET http://x/\nGET http://a b/", 2, "write http://HOST/PATH"),
            ("GET ftp://x/", 1, "use http:// or https://"),
            ("\n{\"method\":\"GET\"}", 2, "missing field `url`"),
            ("{\"method\":\"GET\",\"url\":\"http://x/\"}\n{", 2, "an object to a line"),
            ("{\"method\":\"GET\",\"url\":\"http://x/\",\"headers\":{}}", 1, "unknown field `headers`"),
            ("{\"method\":\"GET\",\"url\":\"http://x/\",\"body\":\"%\"}", 1, "base64"),
            ("{\"method\":\"GET\",\"url\":\"http://x/\",\"weight\":0}", 1, "1 or more"),
            ("{\"method\":\"G T\",\"url\":\"http://x/\"}", 1, "not an HTTP method"),
        ] {
            let fault = parse(text).unwrap_err();
            assert!(
                fault.line == line && fault.to_string().contains(cure),
                "{text:?}: {} {fault}",
                fault.line
            );
        }
    }

    proptest! {
        #[test]
        fn what_was_written_as_text_or_as_json_is_read_the_same(
            targets in prop::collection::vec(
                ("[A-Z]{1,8}", "[a-z]{1,8}", prop::collection::vec(("[a-z]{1,6}", "[!-~]{0,8}"), 0..4)),
                1..8,
            ),
            gaps in prop::collection::vec(0_usize..3, 8),
        ) {
            let (mut text, mut json) = (String::new(), String::new());
            for ((method, host, own), gap) in targets.iter().zip(gaps) {
                text += &format!("{method} http://{host}/\n");
                let mut by_name = Vec::new();
                for (name, value) in own {
                    text += &format!("x-{name}: {value}\n");
                    by_name.push(format!("\"x-{name}\":[{}]", serde_json::json!(value)));
                }
                text += &"\n".repeat(gap);
                json += &format!(
                    "{{\"method\":\"{method}\",\"url\":\"http://{host}/\",\"header\":{{{}}}}}\n", by_name.join(",")
                );
            }
            let without_lines = |text: &str| {
                let all = parse(text).unwrap();
                all.into_iter().map(|listed| Listed { line: 0, ..listed }).collect::<Vec<_>>()
            };
            let read = without_lines(&text);
            prop_assert_eq!(&read, &without_lines(&json));
            let expected: Vec<_> = targets.iter().map(|(method, host, own)| Listed {
                headers: own.iter().map(|(name, value)| (format!("x-{name}"), value.clone())).collect(),
                ..listed(0, method, &format!("http://{host}/"))
            }).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(\\PC|\n|[A-Z]{3} http://[a-z]/\n|@|:|\\{|\"){0,40}") {
            if let Err(fault) = parse(&text) {
                prop_assert!((1..=text.lines().count().max(1)).contains(&fault.line));
            }
        }
    }
}
