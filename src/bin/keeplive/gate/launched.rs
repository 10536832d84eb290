//! [`Launched`]: a server that the gate has started: in a process group of its own, watched, and ended whatever
//! becomes of the gate.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How long a server may take to end by itself when it is asked to.
const GRACE: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const GLANCE: Duration = Duration::from_millis(5);

/// How much of what a server wrote to stderr is shown when it has died.
const SHOWN: i64 = 2_000;

/// The groups that run. A second Ctrl-C leaves no time for destructors.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Kills every server that still runs, at once.
pub(crate) fn kill_all() {
    for &group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

pub(crate) struct Launched {
    arm: &'static str,
    command: String,
    child: Child,
    group: Pid,
    stderr: File,
    is_asked: bool,
}

impl Launched {
    /// Starts a command by `sh -c`. What it writes to stdout is lost, to stderr kept.
    pub(crate) fn start(arm: &'static str, command: &str) -> io::Result<Launched> {
        let told =
            |error: io::Error| io::Error::new(error.kind(), format!("could not start the {arm}: {error}"));
        let stderr = tempfile::tempfile().map_err(told)?;
        let child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().map_err(told)?)
            .process_group(0)
            .spawn()
            .map_err(told)?;
        let group = Pid::from_child(&child);
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(group);
        Ok(Launched { arm, command: command.to_owned(), child, group, stderr, is_asked: false })
    }

    /// The process whose descendants the server is.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Why it is no more, if it has ended.
    pub(crate) fn obituary(&mut self) -> Option<String> {
        if !self.has_ended() {
            return None;
        }
        let mut text = format!("the {} has ended: `{}`", self.arm, self.command);
        let said = self.said();
        if said.is_empty() {
            text += "\n  it wrote nothing to stderr; is it one that goes to the background? It must stay in front";
        } else {
            text += "; it wrote";
            said.lines().for_each(|line| text += &format!("\n  {line}"));
        }
        Some(text)
    }

    /// Whether it has ended. It is not reaped, so that its id stays its own until the group is ended.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), options), Ok(None))
    }

    /// Once: a second time is to many a server an order to end at once.
    fn ask_to_end(&mut self) {
        let _ = kill_process_group(self.group, Signal::TERM);
        self.is_asked = true;
    }

    /// The end of what it wrote to stderr.
    fn said(&mut self) -> String {
        let length = self.stderr.metadata().map_or(0, |file| i64::try_from(file.len()).unwrap_or(i64::MAX));
        let mut bytes = Vec::new();
        let _ = self.stderr.seek(SeekFrom::End(-length.min(SHOWN)));
        let _ = self.stderr.read_to_end(&mut bytes);
        let visible = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
        String::from_utf8_lossy(&bytes).trim().chars().map(visible).collect()
    }
}

/// Ends them all, who take as long together as the slowest of them: each is asked before one is waited for.
pub(crate) fn end_together(mut all: Vec<Launched>) {
    all.iter_mut().for_each(Launched::ask_to_end);
    within_grace(|| all.iter().all(Launched::has_ended));
}

/// Waits until it is so, but no longer than a server may take.
fn within_grace(is_over: impl Fn() -> bool) {
    let mut waited = Duration::ZERO;
    while !is_over() && waited < GRACE {
        thread::sleep(GLANCE);
        waited += GLANCE;
    }
}

impl Drop for Launched {
    /// Asks the group to end, waits a little, and kills what is left of it before the leader's id may be another's. Who
    /// was asked before has been waited for.
    fn drop(&mut self) {
        if !self.is_asked {
            self.ask_to_end();
            within_grace(|| self.has_ended());
        }
        let _ = kill_process_group(self.group, Signal::KILL);
        let _ = self.child.wait();
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|&group| group != self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(answer: impl Fn() -> bool) {
        for _ in 0..4_000 {
            if answer() {
                return;
            }
            thread::sleep(GLANCE);
        }
        panic!("not within 20 s");
    }

    #[test]
    fn whoever_dies_is_told_with_what_it_said() {
        let mut launched = Launched::start("head", "echo 'port taken' >&2; exit 3").unwrap();
        until(|| launched.has_ended());
        let text = launched.obituary().unwrap();
        assert!(text.contains("the head has ended") && text.ends_with("\n  port taken"), "{text}");
    }

    #[test]
    fn the_whole_group_ends_with_its_owner_even_what_does_not_listen() {
        let launched = Launched::start("base", "trap '' TERM; sleep 1000 & echo $! >&2; wait").unwrap();
        let mut copy = launched.stderr.try_clone().unwrap();
        until(|| copy.metadata().unwrap().len() > 1);
        let mut text = String::new();
        copy.seek(SeekFrom::Start(0)).unwrap();
        copy.read_to_string(&mut text).unwrap();
        let (leader, child): (u32, u32) = (launched.pid(), text.trim().parse().unwrap());
        drop(launched);
        let runs = |pid: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        assert!(!runs(leader));
        until(|| !runs(child));
    }

    /// Each ends only when the other has been asked to, too: one after the other neither would.
    #[test]
    fn who_end_together_are_all_asked_before_one_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let waiting = |own: &str, others: &str| {
            let [asked, other, over] = [own, others, &format!("{own}-over")].map(file);
            let (asked, other, over) = (asked.display(), other.display(), over.display());
            let until_other = format!("until [ -e {other} ]; do sleep 0.01; done");
            let command = format!(
                "trap 'touch {asked}; {until_other}; touch {over}; exit' TERM; echo >&2; sleep 1000 & wait"
            );
            Launched::start("base", &command).unwrap()
        };
        let both = vec![waiting("a", "b"), waiting("b", "a")];
        until(|| both.iter().all(|one| one.stderr.metadata().unwrap().len() > 0));
        end_together(both);
        assert!(file("a-over").exists() && file("b-over").exists());
    }
}
