//! What is asked for, and by which way: curl's options into plain data. Where curl lets one of two options that
//! contradict each other win, they are refused.

use std::io::{self, Read};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use keeplive::load::Network;
use keeplive::plan::Target;
use keeplive::{Proxy, Route};

use crate::args::{LocalAddrs, RequestArgs, WayArgs};
use crate::say::say;

/// What curl asks for when it was built with everything; what comes is not decoded.
const ENCODINGS: &str = "deflate, gzip, br, zstd";

pub(crate) fn target(url: String, args: &RequestArgs) -> io::Result<Target> {
    let body = body(args)?;
    if let [data] = args.data.as_slice()
        && is_like_a_duration(data)
    {
        say(&format!(
            "-d {data} is the request's body, as with curl; for how long to run is said by -z {data}"
        ));
    }
    let method = args.request.clone().unwrap_or_else(|| if body.is_some() { "POST" } else { "GET" }.into());
    let headers = headers(args, body.is_some())?;
    let body = body.unwrap_or_default();
    Ok(Target { url, method, headers, body_len: body.len(), body })
}

fn body(args: &RequestArgs) -> io::Result<Option<Vec<u8>>> {
    if let Some(data) = args.json.as_ref().or(args.data_binary.as_ref()) {
        return text_or_file(data).map(Some);
    }
    let mut parts = Vec::new();
    for data in &args.data {
        let mut part = text_or_file(data)?;
        if data.starts_with('@') {
            // curl's manual on -d: carriage returns, newlines and null bytes of a file are left out.
            part.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
        }
        parts.push(part);
    }
    Ok((!parts.is_empty()).then(|| parts.join(&b'&')))
}

/// Whether it reads like what other load testers take after -d: a number and a unit.
fn is_like_a_duration(data: &str) -> bool {
    let unit = data.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < data.len() && ["ms", "s", "m", "h"].contains(&unit)
}

/// The text itself, or what a file holds; `@-` is stdin.
fn text_or_file(data: &str) -> io::Result<Vec<u8>> {
    match data.strip_prefix('@') {
        None => Ok(data.as_bytes().to_vec()),
        Some("-") => read_stdin(),
        Some(file) => read(Path::new(file)),
    }
}

type Field = (String, String);

fn headers(args: &RequestArgs, has_body: bool) -> io::Result<Vec<Field>> {
    let given = args.headers.iter().map(|field| header(field)).collect::<io::Result<Vec<_>>>()?;
    let own = |name: &str| given.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
    let mut fields: Vec<Field> = Vec::new();
    for (name, option, value) in options(args)? {
        if own(name) {
            return Err(io::Error::other(format!(
                "{option} and -H '{name}: ...' say it twice: leave one out"
            )));
        }
        fields.push((name.to_owned(), value));
    }
    let version = concat!("keeplive/", env!("CARGO_PKG_VERSION"));
    let form = "application/x-www-form-urlencoded";
    let json = if args.json.is_some() { Some("application/json") } else { None };
    let body_type = has_body.then(|| json.unwrap_or(form));
    let defaults = [
        ("user-agent", if args.user_agent.is_some() { None } else { Some(version) }),
        ("accept", json.or(Some("*/*"))),
        ("content-type", body_type),
    ];
    let mut all: Vec<Field> = defaults
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .filter(|(name, _)| !own(name))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    all.extend(fields.into_iter().filter(|(_, value)| !value.is_empty()));
    // 'Name:' has done its work: there is no default of that name.
    all.extend(given.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Ok(all)
}

/// Fields that have options of their own: the name, how it was asked for, the value.
fn options(args: &RequestArgs) -> io::Result<Vec<(&'static str, &'static str, String)>> {
    let mut fields = Vec::new();
    if let Some(name) = &args.user_agent {
        fields.push(("user-agent", "-A", name.clone()));
    }
    if let Some(user) = &args.user {
        if !user.contains(':') {
            let text = "-u has no colon: write USER:PASSWORD, or USER: for an empty password (nobody is asked for one)";
            return Err(io::Error::other(text));
        }
        fields.push(("authorization", "-u", format!("Basic {}", STANDARD.encode(user))));
    }
    if !args.cookie.is_empty() {
        if args.cookie.iter().any(|cookie| !cookie.contains('=')) {
            let text = "-b has no `=`: write NAME=VALUE (files of cookies are not read)";
            return Err(io::Error::other(text));
        }
        fields.push(("cookie", "-b", args.cookie.join("; ")));
    }
    if args.compressed {
        fields.push(("accept-encoding", "--compressed", ENCODINGS.to_owned()));
    }
    Ok(fields)
}

/// A name, and its value; `None`: the field is not to be sent.
fn header(field: &str) -> io::Result<(String, Option<String>)> {
    if let Some((name, value)) = field.split_once(':') {
        let value = value.trim();
        return Ok((name.trim().to_owned(), (!value.is_empty()).then(|| value.to_owned())));
    }
    let empty = field.trim_end().strip_suffix(';').filter(|name| !name.is_empty());
    empty
        .map(|name| (name.to_owned(), Some(String::new())))
        .ok_or_else(|| io::Error::other(format!("-H `{field}` is not a header field: write 'Name: value'")))
}

pub(crate) fn network(request: &RequestArgs, way: &WayArgs) -> io::Result<Network> {
    let route = match (&way.unix_socket, &way.proxy) {
        (Some(path), _) => Route::UnixSocket(path.clone()),
        (None, Some(text)) => Route::Proxy(proxy(text, way)?),
        (None, None) => Route::Direct,
    };
    Ok(Network {
        resolve: request.resolve.clone(),
        connect_to: way.connect_to.clone(),
        route,
        local_addresses: way.local_addr.iter().flat_map(|LocalAddrs(all)| all).copied().collect(),
    })
}

fn proxy(text: &str, way: &WayArgs) -> io::Result<Proxy> {
    let mut url = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let begin = url.find("://").map_or(0, |at| at + 3);
    if let Some(user) = &way.proxy_user {
        if url[begin..].contains('@') {
            return Err(io::Error::other(
                "--proxy-user and the proxy's URL both say who asks: leave one out",
            ));
        }
        let Some((name, password)) = user.split_once(':') else {
            return Err(io::Error::other("--proxy-user has no colon: write USER:PASSWORD"));
        };
        url.insert_str(begin, &format!("{}:{}@", percent_encoded(name), percent_encoded(password)));
    }
    let has_port = url.rsplit(['@', '/']).find(|part| !part.is_empty()).is_some_and(|authority| {
        authority.rsplit(']').next().is_some_and(|after_address| after_address.contains(':'))
    });
    if url.starts_with("http://") && !has_port {
        let text = "the proxy has no port: write it out, for curl means 1080 and others 80 or 3128";
        return Err(io::Error::other(text));
    }
    let proxy: Proxy = url.parse().map_err(|error: keeplive::Error| io::Error::other(error.to_string()))?;
    Ok(proxy.tunnels_all(way.proxytunnel))
}

/// As RFC 3986 has it, section 2.1: everything but letters and digits.
fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// More bytes than anything that is read here has, for it is kept in memory, and sent by as many loops as there are.
const LONGEST: u64 = 1 << 30;

pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::File::open(path)
        .and_then(read_all)
        .map_err(|error| io::Error::new(error.kind(), format!("could not read {}: {error}", path.display())))
}

pub(crate) fn read_stdin() -> io::Result<Vec<u8>> {
    read_all(io::stdin().lock())
        .map_err(|error| io::Error::new(error.kind(), format!("could not read stdin: {error}")))
}

/// All that comes. What has no end, as /dev/zero, is not waited for.
fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match from.take(LONGEST + 1).read_to_end(&mut bytes)? as u64 {
        ..=LONGEST => Ok(bytes),
        _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 1 GiB: give a smaller one")),
    }
}
