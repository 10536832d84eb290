//! What happens now, on stderr: one line that changes on a terminal, plain lines elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use keeplive::load::Progress;
use keeplive::probe;

use crate::say::say;

pub(crate) struct Watcher {
    bar: ProgressBar,
    terminal: bool,
    /// What a probe has found so far.
    found: RefCell<Option<String>>,
}

impl Watcher {
    pub(crate) fn new() -> Watcher {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.set_style(
            ProgressStyle::with_template("{spinner} {wide_msg}").expect("the template is a constant"),
        );
        bar.enable_steady_tick(Duration::from_millis(120));
        Watcher { bar, terminal, found: RefCell::default() }
    }

    pub(crate) fn tell(&self, progress: Progress) {
        let first_of_five = matches!(progress, Progress::Slot { round, .. } if round % 5 != 1);
        let text = sentence(&progress);
        if self.terminal {
            self.bar.set_message(text);
        } else if !first_of_five {
            say(&text);
        }
    }

    /// Elsewhere than on a terminal, what is merely held is told once in ten seconds. On a terminal it does not hide what
    /// was found before.
    pub(crate) fn tell_probe(&self, progress: &probe::Progress) {
        let mut found = self.found.borrow_mut();
        let often = matches!(progress, probe::Progress::Holding { longest, .. }
            if longest.as_secs() % 10 != 0 || longest.as_secs() == 0);
        let text = progress.to_string();
        if self.terminal {
            self.bar.set_message(match (progress, &*found) {
                (probe::Progress::Holding { .. }, Some(found)) => format!("{found} ({text})"),
                _ => text.clone(),
            });
        } else if !often {
            say(&text);
        }
        if matches!(progress, probe::Progress::Found { .. } | probe::Progress::Bracketed { .. }) {
            *found = Some(text);
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

pub(crate) fn sentence(progress: &Progress) -> String {
    match progress {
        Progress::Reached { address } => format!("reached {address}"),
        Progress::Searching { arm } => format!("warming up, and looking at what arm {arm} can do"),
        Progress::Found { arm, requests_per_s } => format!("arm {arm} can do {requests_per_s:.0} requests/s"),
        Progress::Looking { rate } => format!("looking at {rate:.0} requests/s"),
        Progress::Begins { rate: Some(rate) } => format!("offering {rate:.0} requests/s"),
        Progress::Begins { rate: None } => {
            "closed loop: every connection sends when its last request is done".into()
        }
        Progress::Slot { round, rounds, arm, left } => {
            format!("round {round} of {rounds}, arm {arm}, {} s left", left.as_secs_f64().ceil())
        }
        _ => String::new(),
    }
}
