//! [`Race`]: which of a host's addresses answers first (Happy Eyeballs, RFC 8305).
//!
//! *Design.* Attempts are futures that one future polls, not tasks: whoever drops it closes every socket, the
//! losers go with the winner's return, and a host with one address costs neither a timer nor an allocation.

use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::socket::Sockets;
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::observer::{Step, Stepping, Steps};
use crate::phase::Phase;

/// The Connection Attempt Delay: after so long without an answer the next address is tried as well. RFC 8305,
/// section 5, recommends 250 ms, and no less than 100 ms.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

type Dialing<'a> = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send + 'a>>;

/// The attempts to reach one host.
pub(super) struct Race<'a> {
    sockets: &'a Sockets<'a>,
    host: &'a str,
    began: Instant,
    steps: Steps<'a>,
    addresses: &'a [SocketAddr],
    /// How many of them were tried: the first so many.
    tried: usize,
    running: Vec<Attempt<'a>>,
    failed: Vec<Failed>,
}

struct Attempt<'a> {
    address: SocketAddr,
    began: Instant,
    dialing: Dialing<'a>,
    step: Stepping<'a>,
}

struct Failed {
    address: SocketAddr,
    error: io::Error,
}

impl<'a> Race<'a> {
    /// `addresses` are tried in this order; there is at least one.
    pub(super) fn new(
        sockets: &'a Sockets<'a>,
        host: &'a str,
        addresses: &'a [SocketAddr],
        began: Instant,
        steps: Steps<'a>,
    ) -> Race<'a> {
        Race { sockets, host, began, steps, addresses, tried: 0, running: Vec::new(), failed: Vec::new() }
    }

    /// How many addresses were tried.
    pub(super) fn attempts(&self) -> u32 {
        self.tried.try_into().unwrap_or(u32::MAX)
    }

    /// The first connection that opens before `limit`, and to which address.
    pub(super) async fn run(&mut self, limit: Option<Instant>) -> Result<(TcpStream, SocketAddr), Error> {
        let won = match limit {
            None => self.first().await,
            Some(limit) => match tokio::time::timeout_at(limit.into(), self.first()).await {
                Ok(won) => won,
                Err(_) => return Err(self.out_of_time()),
            },
        };
        won.ok_or_else(|| self.all_failed())
    }

    /// `None`: none is left.
    async fn first(&mut self) -> Option<(TcpStream, SocketAddr)> {
        if let &[address] = self.addresses {
            self.tried = 1;
            let step = self.steps.begin(Step::Attempt { address });
            let answer = self.sockets.connect(address).await;
            step.end_with(&answer);
            let failed = |error| self.failed.push(Failed { address, error });
            return answer.map(|tcp| (tcp, address)).map_err(failed).ok();
        }
        Box::pin(self.first_of_several()).await
    }

    async fn first_of_several(&mut self) -> Option<(TcpStream, SocketAddr)> {
        let mut pause = pin!(tokio::time::sleep(ATTEMPT_DELAY));
        self.try_next();
        poll_fn(|cx| {
            loop {
                let failed_before = self.failed.len();
                if let Some(won) = self.poll_running(cx) {
                    return Poll::Ready(Some(won));
                }
                // An attempt that failed is not waited for any longer.
                let another = self.failed.len() > failed_before || self.running.is_empty();
                if self.tried == self.addresses.len() {
                    return if self.running.is_empty() { Poll::Ready(None) } else { Poll::Pending };
                }
                if !another && pause.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.try_next();
                pause.as_mut().reset((clock::now() + ATTEMPT_DELAY).into());
            }
        })
        .await
    }

    fn try_next(&mut self) {
        if let Some(&address) = self.addresses.get(self.tried) {
            self.tried += 1;
            let step = self.steps.begin(Step::Attempt { address });
            let dialing = Box::pin(self.sockets.connect(address));
            self.running.push(Attempt { address, began: clock::now(), dialing, step });
        }
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> Option<(TcpStream, SocketAddr)> {
        let mut at = 0;
        while let Some(attempt) = self.running.get_mut(at) {
            let Poll::Ready(answer) = attempt.dialing.as_mut().poll(cx) else {
                at += 1;
                continue;
            };
            let Attempt { address, step, .. } = self.running.remove(at);
            step.end_with(&answer);
            match answer {
                Ok(tcp) => {
                    self.running.clear();
                    return Some((tcp, address));
                }
                Err(error) => self.failed.push(Failed { address, error }),
            }
        }
        None
    }

    fn all_failed(&mut self) -> Error {
        if self.failed.len() > 1 {
            return Error::new(self.most_telling()).at(Phase::Connect).with_detail(self.account());
        }
        let Failed { address, error } = self.failed.pop().expect("a host has an address, and it failed");
        let text = format!("{} ({address})", cause(address, &error));
        Error::new(ErrorKind::of_connect(&error)).at(Phase::Connect).with_detail(text).with_source(error)
    }

    fn out_of_time(&self) -> Error {
        Error::new(ErrorKind::ConnectTimeout).at(Phase::Connect).with_detail(self.account())
    }

    /// Of several kinds of failure the one that tells most: a limit of our own, then an answer, then silence.
    fn most_telling(&self) -> ErrorKind {
        let kinds = || self.failed.iter().map(|failed| ErrorKind::of_connect(&failed.error));
        let order =
            [ErrorKind::NoFiles, ErrorKind::NoPorts, ErrorKind::ConnectRefused, ErrorKind::ConnectTimeout];
        order.into_iter().find(|kind| kinds().any(|other| other == *kind)).unwrap_or(ErrorKind::Connect)
    }

    /// Every attempt with its own cause, in the order in which they ended.
    fn account(&self) -> String {
        let mut text = format!("could not connect to `{}`", self.host);
        let mut separator = ": ";
        let mut add = |address: SocketAddr, cause: String| {
            let _ = write!(text, "{separator}{address} {cause}");
            separator = "; ";
        };
        for Failed { address, error } in &self.failed {
            add(*address, cause(*address, error));
        }
        for Attempt { address, began, .. } in &self.running {
            add(*address, silence(*began));
        }
        if let (&[only], true) = (self.addresses, self.failed.is_empty()) {
            add(only, silence(self.began));
        }
        for address in &self.addresses[self.tried..] {
            add(*address, "was not tried: the time was over".into());
        }
        text
    }
}

fn silence(since: Instant) -> String {
    let waited = clock::now().saturating_duration_since(since);
    format!("gave no answer in {} ms", waited.as_millis())
}

fn cause(address: SocketAddr, error: &io::Error) -> String {
    match ErrorKind::of_connect(error) {
        _ if lacks_zone(address) => {
            "could not connect: a link-local address needs a zone; give it as [address%interface]:port".into()
        }
        ErrorKind::ConnectRefused => "connection refused: nothing listens there".into(),
        kind @ (ErrorKind::NoPorts | ErrorKind::NoFiles) => kind.sentence().into(),
        _ => format!("could not connect: {error}"),
    }
}

/// A link-local address is one on every link: without a zone nobody knows on which (RFC 4007, section 6).
fn lacks_zone(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0)
}

/// The order in which addresses are tried: families in turn, beginning with that of the first, and within a family
/// as the resolver sorted them (RFC 8305, section 4, with a First Address Family Count of 1). None twice.
pub(super) fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if addresses.len() < 2 {
        return addresses;
    }
    let first_is_v4 = addresses[0].is_ipv4();
    let (preferred, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first_is_v4);
    let (mut preferred, mut other) = (preferred.into_iter(), other.into_iter());
    let mut order: Vec<SocketAddr> = Vec::new();
    loop {
        let pair = [preferred.next(), other.next()];
        if pair == [None, None] {
            return order;
        }
        for address in pair.into_iter().flatten() {
            if !order.contains(&address) {
                order.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn v4(n: u8) -> SocketAddr {
        (Ipv4Addr::new(192, 0, 2, n), 80).into()
    }

    fn v6(n: u16) -> SocketAddr {
        (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n), 80).into()
    }

    #[test]
    fn families_take_turns_and_the_first_address_begins() {
        let sorted = vec![v6(1), v6(2), v6(3), v4(1), v4(2)];
        assert_eq!(interleave(sorted), [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        assert_eq!(interleave(vec![v4(1), v4(2), v6(1)]), [v4(1), v6(1), v4(2)]);
        assert_eq!(interleave(vec![v4(1), v4(2)]), [v4(1), v4(2)]);
    }

    proptest! {
        #[test]
        fn every_address_is_tried_once_and_a_familys_order_is_the_resolvers(
            picks in vec(prop_oneof![(0..6_u8).prop_map(v4), (0..6_u16).prop_map(v6)], 0..12)
        ) {
            let order = interleave(picks.clone());
            let distinct: HashSet<_> = picks.iter().copied().collect();
            prop_assert_eq!(order.iter().copied().collect::<HashSet<_>>(), distinct.clone());
            prop_assert_eq!(order.len(), distinct.len());
            prop_assert_eq!(order.first(), picks.first());
            for is_v4 in [true, false] {
                let mut first_seen: Vec<SocketAddr> = Vec::new();
                for address in picks.iter().filter(|address| address.is_ipv4() == is_v4) {
                    if !first_seen.contains(address) {
                        first_seen.push(*address);
                    }
                }
                let tried: Vec<_> = order.iter().copied().filter(|address| address.is_ipv4() == is_v4).collect();
                prop_assert_eq!(tried, first_seen);
            }
        }

        #[test]
        fn neither_family_waits_for_two_of_the_other_while_it_has_any(
            fours in 0..6_u8, sixes in 0..6_u16, four_first in any::<bool>()
        ) {
            let (fours, sixes): (Vec<_>, Vec<_>) = ((0..fours).map(v4).collect(), (0..sixes).map(v6).collect());
            let all = if four_first { [fours.clone(), sixes.clone()] } else { [sixes.clone(), fours.clone()] };
            let order = interleave(all.concat());
            let turns = 2 * fours.len().min(sixes.len());
            for pair in order[..turns].windows(2) {
                prop_assert_ne!(pair[0].is_ipv4(), pair[1].is_ipv4());
            }
        }
    }
}
