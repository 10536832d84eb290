//! The command line as it is saved with a result: the program by its name, for where it is installed is nobody's
//! business, and without what may be secret, for a result is passed on.

use keeplive::plan::{NOT_SAVED, is_credential};

use crate::args::{RequestArgs, WayArgs};

/// The words of the command line, secrets replaced wherever they stand.
pub(crate) fn to_save(
    words: impl Iterator<Item = String>,
    request: &RequestArgs,
    way: Option<&WayArgs>,
) -> Vec<String> {
    let secrets = secrets(request, way);
    let hide = |word: String| secrets.iter().fold(word, |word, secret| word.replace(secret, NOT_SAVED));
    std::iter::once(env!("CARGO_BIN_NAME").to_owned()).chain(words.map(hide)).collect()
}

/// The same of a command line that starts servers, by commands that may begin with what the servers alone should know:
/// `TOKEN=secret server --port {port}`.
pub(crate) fn to_save_with_servers(
    words: impl Iterator<Item = String>,
    request: &RequestArgs,
    way: Option<&WayArgs>,
    commands: &[&str],
) -> Vec<String> {
    let mut saved = to_save(words, request, way);
    let mut values: Vec<&str> = commands.iter().flat_map(|command| assigned(command)).collect();
    // The longest first, so that none is hidden in part.
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    for value in values {
        let (given, hidden) = (format!("={value}"), format!("={NOT_SAVED}"));
        saved.iter_mut().for_each(|word| *word = word.replace(&given, &hidden));
    }
    saved
}

/// The values that a shell would put into the environment of this command.
fn assigned(command: &str) -> impl Iterator<Item = &str> {
    let is_name = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    };
    let words = command.split_ascii_whitespace().skip_while(|word| ["env", "exec", "export"].contains(word));
    let assignments = words.map_while(move |word| word.split_once('=').filter(|(name, _)| is_name(name)));
    assignments.map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// Values of fields that carry credentials, who asks, and bodies that were given as text; the longest first, so that none is
/// hidden in part.
fn secrets(request: &RequestArgs, way: Option<&WayArgs>) -> Vec<String> {
    let fields = request.headers.iter().filter_map(|field| field.split_once(':'));
    let values = fields.filter(|(name, _)| is_credential(name.trim())).map(|(_, value)| value.trim());
    let bodies = request.data.iter().chain(&request.data_binary).chain(&request.json).map(String::as_str);
    let bodies = bodies.filter(|data| !data.starts_with('@'));
    let who = request.user.iter().chain(&request.cookie).map(String::as_str);
    let by_proxy = way.into_iter().flat_map(|way| {
        let in_url = way.proxy.iter().filter_map(|url| url.rsplit_once('@'));
        let in_url = in_url.map(|(before, _)| before.split_once("://").map_or(before, |(_, who)| who));
        in_url.chain(way.proxy_user.as_deref())
    });
    let mut secrets: Vec<String> = values
        .chain(bodies)
        .chain(who)
        .chain(by_proxy)
        .filter(|secret| !secret.is_empty())
        .map(str::to_owned)
        .collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::{Args, Verb};

    fn saved(words: &[&str]) -> String {
        let words: Vec<String> =
            ["keeplive", "compare"].iter().chain(words).map(|&word| word.to_owned()).collect();
        let Verb::Compare(args) = Args::parse_from(&words).verb else { panic!("it is a compare") };
        super::to_save(words.into_iter().skip(1), &args.request, Some(&args.way)).join(" ")
    }

    #[test]
    fn credentials_and_bodies_are_left_out_however_they_are_written() {
        for words in [
            vec!["-H", "Authorization: secret"],
            vec!["-HAuthorization: secret"],
            vec!["-kH", "Authorization: secret"],
            vec!["--header", "Cookie: secret"],
            vec!["--header=X-Api-Key: secret"],
            vec!["-d", "secret"],
            vec!["-kd", "secret"],
            vec!["-dsecret"],
            vec!["--data=secret"],
            vec!["-u", "me:secret"],
            vec!["-bid=secret"],
            vec!["--json", "secret"],
            vec!["--data-binary=secret"],
            vec!["-x", "socks5://me:secret@p.test"],
            vec!["--proxy-user=me:secret", "-x", "p.test:1"],
        ] {
            let text = saved(&words);
            assert!(!text.contains("secret") && text.contains("(not saved)"), "{words:?}: {text}");
        }
    }

    #[test]
    fn what_the_servers_alone_should_know_is_left_out() {
        let commands = ["TOKEN=secret PASS='secret2' ./server --port={port}", "env KEY=secret3 ./server"];
        let words = ["keeplive", "gate", "--base-cmd", commands[0], "--head-cmd", commands[1]];
        let Verb::Gate(args) = Args::parse_from(words).verb else { panic!("it is a gate") };
        let words = words.into_iter().skip(1).map(str::to_owned);
        let saved = super::to_save_with_servers(words, &args.request, Some(&args.way), &commands).join(" ");
        assert!(!saved.contains("secret"), "{saved}");
        assert!(saved.contains("TOKEN=(not saved)") && saved.contains("--port={port}"), "{saved}");
    }

    #[test]
    fn everything_else_is_saved_as_it_was_written() {
        let words = ["-H", "Accept: a/b", "-d", "@file", "--rate", "5", "-k", "http://x/"];
        assert_eq!(saved(&words), format!("keeplive compare {}", words.join(" ")));
    }
}
