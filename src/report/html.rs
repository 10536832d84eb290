//! The frame of a page that is read in a browser: one file, no network, no script. Each report fills it with an
//! answer, sections and figures. Everything goes through maud, so what comes from outside is escaped; a content
//! security policy forbids whatever else a page might load.

use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Colours for both themes, layout from 320 pixels up, and paper.
const STYLE: &str = include_str!("html/style.css");

/// A whole page.
pub(super) struct Page {
    /// For the browser's tab, too.
    pub(super) title: String,
    /// The answer: what the page opens with.
    pub(super) answer: String,
    /// What was measured, in a line.
    pub(super) about: String,
    /// The sections.
    pub(super) body: Markup,
    /// What made it.
    pub(super) made_by: String,
}

impl Page {
    pub(super) fn into_text(self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta http-equiv="Content-Security-Policy"
                        content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                    // Without an icon of its own a browser asks the server for one.
                    link rel="icon" href="data:,";
                    title { (self.title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        p.title { (self.title) }
                        h1 { (unbroken(&self.answer)) }
                        p.about { (unbroken(&self.about)) }
                    }
                    main { (self.body) }
                    footer { p { (self.made_by) } }
                }
            }
        };
        page.into_string()
    }
}

/// A section with a heading.
pub(super) fn section(heading: &str, body: &Markup) -> Markup {
    html! { section { h2 { (heading) } (body) } }
}

/// A text whose units stay with their numbers.
pub(super) fn unbroken(text: &str) -> String {
    let mut whole = String::with_capacity(text.len());
    for word in text.split(' ') {
        let unit = ["ns", "µs", "ms", "s", "%"].contains(&word.trim_end_matches([',', ';', '.', ':', ')']));
        let after_number = whole.ends_with(|letter: char| letter.is_ascii_digit());
        if !whole.is_empty() {
            whole.push(if unit && after_number { '\u{a0}' } else { ' ' });
        }
        whole.push_str(word);
    }
    whole
}

/// A picture in two widths, of which the page shows the one that fits; `says` is what it shows in words, `data` the
/// same as text to unfold.
pub(super) struct Figure<'a> {
    pub(super) wide: String,
    pub(super) narrow: String,
    pub(super) says: &'a str,
    pub(super) legend: Markup,
    pub(super) data: Option<Markup>,
}

impl Figure<'_> {
    pub(super) fn markup(&self) -> Markup {
        html! {
            figure {
                // The pictures are drawn by us from numbers alone, and escaped where they hold text.
                div.picture.wide role="img" aria-label=(self.says) { (PreEscaped(&self.wide)) }
                div.picture.narrow role="img" aria-label=(self.says) { (PreEscaped(&self.narrow)) }
                figcaption { p { (unbroken(self.says)) } (self.legend) }
                @if let Some(data) = &self.data {
                    details { summary { "The same as a table" } div.scroll tabindex="0" { (data) } }
                }
            }
        }
    }
}
