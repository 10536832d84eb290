//! Text into lines of a width. What comes from outside (a server's name, a URL) cannot break the layout: it is cut
//! where it must be, and control characters, which could command the terminal, are shown as `?`.

/// Breaks `text` at spaces into lines of at most `width` characters; every line after the first is indented.
pub(super) fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let widest = width.saturating_sub(indent).max(1);
    for word in words(&plain(text)).iter().flat_map(|word| pieces(word, widest)) {
        if line.is_empty() {
            line = word;
        } else if length(&line) + 1 + length(&word) <= width {
            line.push(' ');
            line.push_str(&word);
        } else {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent) + &word));
        }
    }
    lines.push(line);
    lines
}

/// How many columns a text takes.
pub(super) fn length(text: &str) -> usize {
    text.chars().count()
}

/// A text in at most `width` characters; what was cut off shows as an ellipsis.
pub(super) fn cut(text: &str, width: usize) -> String {
    let text = plain(text);
    if length(&text) <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// A text from outside (a server, a file) as it may be shown: on one line, and with nothing that a terminal obeys.
pub fn plain(text: &str) -> String {
    let visible = |c: char| {
        if c.is_whitespace() {
            ' '
        } else if c.is_control() || turns(c) {
            '?'
        } else {
            c
        }
    };
    text.chars().map(visible).collect()
}

/// Whether it has what follows shown from right to left, as if it were something else (Unicode, UAX #9).
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The words of a text; a unit stays with its number.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let is_unit =
            ["ns", "µs", "ms", "s", "%"].contains(&word.trim_end_matches([',', ';', '.', ':', ')']));
        match words.last_mut().filter(|last| is_unit && last.ends_with(|c: char| c.is_ascii_digit())) {
            Some(number) => *number = format!("{number} {word}"),
            None => words.push(word.to_owned()),
        }
    }
    words
}

/// A word that is too long for any line, in pieces that are not.
fn pieces(word: &str, widest: usize) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(widest).map(|piece| piece.iter().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_the_rest_is_indented() {
        assert_eq!(wrap("one two three four", 9, 2), ["one two", "  three", "  four"]);
        assert_eq!(wrap("", 9, 2), [""]);
    }

    #[test]
    fn a_unit_stays_with_its_number() {
        assert_eq!(wrap("saves 41.2 ms of it", 11, 0), ["saves", "41.2 ms of", "it"]);
    }

    #[test]
    fn a_word_that_is_too_long_is_cut_and_no_line_is_too_long() {
        assert_eq!(wrap("a bcdefghij k", 4, 1), ["a", " bcd", " efg", " hij", " k"]);
        assert_eq!(cut("off-resumed", 6), "off-r…");
    }

    #[test]
    fn nothing_from_outside_can_command_the_terminal() {
        assert_eq!(wrap("nginx\x1b[31m\nred", 80, 0), ["nginx?[31m red"]);
    }
}
