//! What is asked for: one URL, several, or a file of targets, into plain data.

use std::io;
use std::path::Path;

use keeplive::plan::{Order, Several, Target};
use keeplive::targets::{self, Content, Listed};

use crate::args::{OrderArg, RequestArgs, TargetsArgs};
use crate::shape;

/// The first target, and all where there are more.
pub(crate) struct Asked {
    pub(crate) target: Target,
    pub(crate) several: Option<Several>,
}

pub(crate) fn asked(urls: &[String], args: &TargetsArgs, request: &RequestArgs) -> io::Result<Asked> {
    let (targets, weights) = match &args.targets {
        Some(file) => of_file(file, request)?,
        None => (of_urls(urls, request)?, Vec::new()),
    };
    let first = targets.first().cloned();
    let target =
        first.ok_or_else(|| io::Error::other("there is no target: give a URL, or --targets FILE"))?;
    if targets.len() == 1 && args.weights.len() < 2 {
        return Ok(Asked { target, several: None });
    }
    let weights = match (args.weights.as_slice(), weights) {
        ([], weights) if weights.is_empty() => vec![1; targets.len()],
        ([], weights) => weights,
        (given, _) => given.to_vec(),
    };
    let order = match args.targets_order {
        OrderArg::RoundRobin => Order::RoundRobin,
        OrderArg::Random => Order::Random,
    };
    Ok(Asked { target, several: Some(Several { targets, weights, order }) })
}

/// All are asked for in the same way.
fn of_urls(urls: &[String], request: &RequestArgs) -> io::Result<Vec<Target>> {
    let Some(first) = urls.first() else { return Ok(Vec::new()) };
    // Once, for stdin can be read once.
    let first = shape::target(first.clone(), request)?;
    Ok(urls.iter().map(|url| Target { url: url.clone(), ..first.clone() }).collect())
}

/// The targets of a file, and their weights.
fn of_file(file: &Path, request: &RequestArgs) -> io::Result<(Vec<Target>, Vec<u32>)> {
    let (name, bytes) = if file == Path::new("-") {
        ("stdin".to_owned(), shape::read_stdin()?)
    } else {
        (file.display().to_string(), shape::read(file)?)
    };
    let at = |line: usize, text: String| io::Error::other(format!("{name}:{line}: {text}"));
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()].split(|&byte| byte == b'\n').count();
        at(line, "this is not UTF-8: save the file so".to_owned())
    })?;
    let listed = targets::parse(&text).map_err(|fault| at(fault.line, fault.to_string()))?;
    let usual = shape::target(String::new(), request)?;
    let weights = listed.iter().map(|one| one.weight.unwrap_or(1)).collect();
    let folder = file.parent().unwrap_or(Path::new(""));
    let target = |one: Listed| {
        let line = one.line;
        shaped(one, &usual, folder).map_err(|error| at(line, error.to_string()))
    };
    Ok((listed.into_iter().map(target).collect::<io::Result<_>>()?, weights))
}

/// A target of a file, with what the command line says for all.
fn shaped(one: Listed, usual: &Target, folder: &Path) -> io::Result<Target> {
    let body = match one.body {
        Content::None => None,
        Content::Bytes(bytes) => Some(bytes),
        Content::File(path) => Some(shape::read(&folder.join(path))?),
    };
    let says = |name: &str| one.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    // The command line's kind of body is that of its own body.
    let is_of_another_body = |name: &str| body.is_some() && name == "content-type" && usual.body_len > 0;
    let usual_fields = usual.headers.iter().filter(|(name, _)| !says(name) && !is_of_another_body(name));
    let headers = usual_fields.chain(&one.headers).cloned().collect();
    let body = body.unwrap_or_else(|| usual.body.clone());
    Ok(Target { url: one.url, method: one.method, headers, body_len: body.len(), body })
}
