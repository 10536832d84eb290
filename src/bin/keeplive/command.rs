//! The command line as it is saved with a result: the program by its name, for where it is installed is nobody's
//! business, and without what may be secret, for a result is passed on.

use keeplive::plan::{NOT_SAVED, is_credential};

pub(crate) fn to_save(mut words: impl Iterator<Item = String>) -> Vec<String> {
    let mut saved = vec![env!("CARGO_BIN_NAME").to_owned()];
    while let Some(word) = words.next() {
        match Secret::of(&word) {
            None => saved.push(word),
            Some(Secret { name, value: Some(value), show }) => saved.push(format!("{name}{}", show(value))),
            Some(Secret { value: None, show, .. }) => {
                let value = words.next().map(|value| show(&value));
                saved.push(word);
                saved.extend(value);
            }
        }
    }
    saved
}

/// An option whose value may be secret: its name as it was written, the value if it stands in the same word, and
/// what of it is shown.
struct Secret<'a> {
    name: &'a str,
    value: Option<&'a str>,
    show: fn(&str) -> String,
}

impl Secret<'_> {
    fn of(word: &str) -> Option<Secret<'_>> {
        type Show = fn(&str) -> String;
        let options: [(&str, &str, Show); 2] = [("-H", "--header", field), ("-d", "--data", body)];
        options.into_iter().find_map(|(short, long, show)| {
            if word == short || word == long {
                return Some(Secret { name: word, value: None, show });
            }
            let length = if word.starts_with(&format!("{long}=")) { long.len() + 1 } else { short.len() };
            let attached = length > short.len() || (word.starts_with(short) && !word.starts_with("--"));
            attached.then(|| Secret { name: &word[..length], value: Some(&word[length..]), show })
        })
    }
}

fn field(field: &str) -> String {
    match field.split_once(':') {
        Some((name, _)) if is_credential(name.trim()) => format!("{name}: {NOT_SAVED}"),
        _ => field.to_owned(),
    }
}

fn body(body: &str) -> String {
    if body.starts_with('@') { body.to_owned() } else { NOT_SAVED.to_owned() }
}

#[cfg(test)]
mod tests {
    fn saved(words: &[&str]) -> String {
        super::to_save(words.iter().map(|&word| word.to_owned())).join(" ")
    }

    #[test]
    fn credentials_and_bodies_are_left_out_however_they_are_written() {
        for words in [
            vec!["-H", "Authorization: secret"],
            vec!["-HAuthorization: secret"],
            vec!["--header", "Cookie: secret"],
            vec!["--header=X-Api-Key: secret"],
            vec!["-d", "secret"],
            vec!["-dsecret"],
            vec!["--data=secret"],
        ] {
            let text = saved(&words);
            assert!(!text.contains("secret") && text.contains("(not saved)"), "{words:?}: {text}");
        }
    }

    #[test]
    fn everything_else_is_saved_as_it_was_written() {
        let words = ["compare", "-H", "Accept: a/b", "-d", "@file", "--rate", "5", "-k", "http://x/"];
        assert_eq!(saved(&words), format!("keeplive {}", words.join(" ")));
    }
}
