//! What a server does with its connections and requests: plain data, and the questions that serving asks of it.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::ServerError;
use super::profile::{IdleEnd, Profile};

/// The body is this text, as often as fits and cut where the length says.
const TEXT: &[u8] = b"Hello, world!";

/// How a server behaves, or misbehaves. The default answers every request at once with `200 OK` and
/// `Hello, world!`, and keeps connections for 75 seconds, as nginx does.
///
/// Counts begin at one: the first connection, the first request.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour {
    body: Bytes,
    status: u16,
    delay: Duration,
    keep_alive: bool,
    idle_timeout: Option<Duration>,
    close_after: Option<NonZeroU64>,
    reset_every: Option<NonZeroU64>,
    stall_after: Option<u64>,
    profiles: Vec<Profile>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            body: Bytes::from_static(TEXT),
            status: 200,
            delay: Duration::ZERO,
            keep_alive: true,
            idle_timeout: Some(Duration::from_secs(75)),
            close_after: None,
            reset_every: None,
            stall_after: None,
            profiles: Vec::new(),
        }
    }
}

impl Behaviour {
    /// The length of every body, in bytes.
    #[must_use]
    pub fn body(mut self, length: usize) -> Self {
        self.body = TEXT.iter().copied().cycle().take(length).collect();
        self
    }

    /// The status of every response, 200 to 599.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Wait so long between a request and its response.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Whether a connection carries more than one request. Without, every response says `Connection: close`.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// Close a connection, with a FIN and unannounced, once it has been idle for so long. `None`: never.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = timeout.into();
        self
    }

    /// Say `Connection: close` in the `n`-th response of a connection, and close it. 0: never.
    #[must_use]
    pub fn close_after(mut self, n: u64) -> Self {
        self.close_after = NonZeroU64::new(n);
        self
    }

    /// Answer the first request of every `n`-th connection with a TCP reset. 0: never.
    #[must_use]
    pub fn reset_every(mut self, n: u64) -> Self {
        self.reset_every = NonZeroU64::new(n);
        self
    }

    /// Answer `n` requests, all connections together, and leave every later one without a response.
    #[must_use]
    pub fn stall_after(mut self, n: u64) -> Self {
        self.stall_after = Some(n);
        self
    }

    /// Behave so on purpose, and keep the log of it that is asked for at `/__truth`. May be called several times.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profiles.push(profile);
        self
    }

    pub(super) fn check(&self) -> Result<(), ServerError> {
        if !(200..=599).contains(&self.status) {
            let problem = format!("{} is not a final status (200 to 599)", self.status);
            return Err(ServerError::Behaviour(problem));
        }
        let names: Vec<&str> = self.profiles.iter().map(Profile::name).collect();
        match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            Some((_, name)) => Err(ServerError::Behaviour(format!("the profile `{name}` is given twice"))),
            None => Ok(()),
        }
    }

    pub(super) fn profiles(&self) -> &[Profile] {
        &self.profiles
    }

    /// The first thing that the profiles say about something.
    pub(super) fn asks<T>(&self, about: impl FnMut(&Profile) -> Option<T>) -> Option<T> {
        self.profiles.iter().find_map(about)
    }

    pub(super) fn content(&self) -> Bytes {
        self.body.clone()
    }

    pub(super) fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).expect("a server whose status is none does not start")
    }

    pub(super) fn pause(&self) -> Option<Duration> {
        (!self.delay.is_zero()).then_some(self.delay)
    }

    /// How long a connection may be idle, and how it is then ended.
    pub(super) fn patience(&self) -> Option<(Duration, IdleEnd)> {
        let profile = self.asks(|profile| match *profile {
            Profile::Idle(end, after) => Some((after, end)),
            _ => None,
        });
        profile.or(self.idle_timeout.map(|after| (after, IdleEnd::Close)))
    }

    pub(super) fn ignores_close(&self) -> bool {
        self.profiles.contains(&Profile::IgnoreClose)
    }

    pub(super) fn resets(&self, nth_connection: u64) -> bool {
        self.reset_every.is_some_and(|n| nth_connection.is_multiple_of(n.get()))
    }

    pub(super) fn stalls(&self, nth_request: u64) -> bool {
        self.stall_after.is_some_and(|n| nth_request > n)
    }

    pub(super) fn closes(&self, nth_on_connection: u64) -> bool {
        let profile = self.asks(|profile| match *profile {
            Profile::CloseAfter(n) => Some(n),
            _ => None,
        });
        !self.keep_alive || profile.or(self.close_after).is_some_and(|n| nth_on_connection >= n.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_repeats_the_text_to_its_length() {
        let content = |length| Behaviour::default().body(length).content();
        assert_eq!(Behaviour::default().content(), "Hello, world!");
        assert_eq!(content(0), "");
        assert_eq!(content(5), "Hello");
        assert_eq!(content(15), "Hello, world!He");
    }

    #[test]
    fn every_nth_connection_is_reset() {
        let reset =
            |n| (1..=6).filter(|nth| Behaviour::default().reset_every(n).resets(*nth)).collect::<Vec<_>>();
        assert!(reset(0).is_empty());
        assert_eq!(reset(1), [1, 2, 3, 4, 5, 6]);
        assert_eq!(reset(3), [3, 6]);
    }

    #[test]
    fn requests_after_the_nth_stall() {
        let answered = |behaviour: Behaviour| (1..=4).filter(|nth| !behaviour.stalls(*nth)).count();
        assert_eq!(answered(Behaviour::default()), 4);
        assert_eq!(answered(Behaviour::default().stall_after(0)), 0);
        assert_eq!(answered(Behaviour::default().stall_after(3)), 3);
    }

    #[test]
    fn the_nth_response_of_a_connection_closes_it() {
        let open = |behaviour: Behaviour| (1..=4).filter(|nth| !behaviour.closes(*nth)).count();
        assert_eq!(open(Behaviour::default()), 4);
        assert_eq!(open(Behaviour::default().close_after(0)), 4);
        assert_eq!(open(Behaviour::default().close_after(3)), 2);
        assert_eq!(open(Behaviour::default().keep_alive(false)), 0);
    }

    #[test]
    fn only_a_final_status_can_be_answered() {
        for (status, possible) in
            [(99, false), (101, false), (200, true), (204, true), (503, true), (600, false)]
        {
            assert_eq!(Behaviour::default().status(status).check().is_ok(), possible, "{status}");
        }
    }
}
