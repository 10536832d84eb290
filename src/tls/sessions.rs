//! [`Sessions`]: what earlier handshakes left to be resumed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_rustls::rustls::NamedGroup;
use tokio_rustls::rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use tokio_rustls::rustls::pki_types::ServerName;

type Name = ServerName<'static>;

/// Sessions to resume, per server name.
///
/// *Design.* rustls' own store keeps 8 tickets per name; with more handshakes at a time than that, resumption
/// silently turns into full handshakes, and a measurement of it would be a lie. The newest ticket is taken
/// first, so that old ones run out unused. With `resume` off only the key-exchange hint is kept: without it
/// a server that prefers another group would cost a HelloRetryRequest, a round trip more, at every handshake.
/// Whatever the number of servers, it is bounded: the name that was not used for the longest time is forgotten.
#[derive(Debug)]
pub(super) struct Sessions {
    resume: bool,
    book: Mutex<Book<Tls12ClientSessionValue, Tls13ClientSessionValue>>,
}

/// Of all names together. More than any run has handshakes in flight; a ticket is some 1.5 kB.
const MAX_TICKETS: usize = 4096;

/// A TLS 1.2 session holds its server's certificates, some 5 kB.
const MAX_NAMES: usize = 1024;

impl Sessions {
    pub(super) fn new(resume: bool) -> Sessions {
        Sessions { resume, book: Mutex::default() }
    }

    /// How many TLS 1.3 tickets are at hand.
    pub(super) fn tickets(&self) -> usize {
        self.lock().tickets
    }

    fn lock(&self) -> MutexGuard<'_, Book<Tls12ClientSessionValue, Tls13ClientSessionValue>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: Name, group: NamedGroup) {
        self.lock().at(server_name).group = Some(group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().known.get(server_name).and_then(|known| known.group)
    }

    fn set_tls12_session(&self, server_name: Name, value: Tls12ClientSessionValue) {
        if self.resume {
            self.lock().at(server_name).tls12 = Some(value);
        }
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().known.get(server_name).and_then(|known| known.tls12.clone())
    }

    fn remove_tls12_session(&self, server_name: &Name) {
        if let Some(known) = self.lock().known.get_mut(server_name) {
            known.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, server_name: Name, value: Tls13ClientSessionValue) {
        if self.resume {
            self.lock().add_ticket(server_name, value);
        }
    }

    fn take_tls13_ticket(&self, server_name: &Name) -> Option<Tls13ClientSessionValue> {
        self.lock().take_ticket(server_name)
    }
}

/// What is known, by name, within its bounds.
#[derive(Debug)]
struct Book<S, T> {
    known: HashMap<Name, Known<S, T>>,
    /// Every name, by when it was last used.
    by_use: BTreeMap<u64, Name>,
    uses: u64,
    /// Of all names together.
    tickets: usize,
}

#[derive(Debug)]
struct Known<S, T> {
    used: u64,
    group: Option<NamedGroup>,
    tls12: Option<S>,
    tickets: VecDeque<T>,
}

impl<S, T> Default for Book<S, T> {
    fn default() -> Book<S, T> {
        Book { known: HashMap::new(), by_use: BTreeMap::new(), uses: 0, tickets: 0 }
    }
}

impl<S, T> Book<S, T> {
    /// What is known of this name, which is used now.
    fn at(&mut self, name: Name) -> &mut Known<S, T> {
        self.uses += 1;
        if let Some(known) = self.known.get(&name) {
            self.by_use.remove(&known.used);
        } else if self.known.len() == MAX_NAMES {
            self.forget_longest_unused();
        }
        self.by_use.insert(self.uses, name.clone());
        let new = || Known { used: 0, group: None, tls12: None, tickets: VecDeque::new() };
        let known = self.known.entry(name).or_insert_with(new);
        known.used = self.uses;
        known
    }

    fn add_ticket(&mut self, name: Name, ticket: T) {
        self.at(name.clone()).tickets.push_back(ticket);
        self.tickets += 1;
        while self.tickets > MAX_TICKETS {
            if self.known.len() > 1 {
                self.forget_longest_unused();
            } else {
                self.at(name.clone()).tickets.pop_front();
                self.tickets -= 1;
            }
        }
    }

    fn take_ticket(&mut self, name: &Name) -> Option<T> {
        let ticket = self.known.get_mut(name)?.tickets.pop_back()?;
        self.tickets -= 1;
        Some(ticket)
    }

    fn forget_longest_unused(&mut self) {
        let Some((_, name)) = self.by_use.pop_first() else { return };
        let forgotten = self.known.remove(&name);
        self.tickets -= forgotten.map_or(0, |known| known.tickets.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> Name {
        ServerName::try_from(format!("host-{n}.test")).expect("a DNS name")
    }

    fn agrees(book: &Book<(), usize>) {
        let tickets: usize = book.known.values().map(|known| known.tickets.len()).sum();
        assert_eq!((book.tickets, book.by_use.len()), (tickets, book.known.len()));
        assert!(tickets <= MAX_TICKETS && book.known.len() <= MAX_NAMES);
    }

    #[test]
    fn ten_thousand_names_are_no_more_than_are_remembered_and_the_newest_are() {
        let mut book = Book::default();
        for n in 0..10_000 {
            book.add_ticket(name(n), n);
            book.add_ticket(name(n), n);
            // One that is used again and again stays.
            book.at(name(0));
            agrees(&book);
        }
        assert_eq!((book.known.len(), book.tickets), (MAX_NAMES, 2 * MAX_NAMES));
        assert_eq!(book.take_ticket(&name(9_999)), Some(9_999));
        assert_eq!(book.take_ticket(&name(0)), Some(0));
        assert_eq!(book.take_ticket(&name(1)), None);
        agrees(&book);
    }

    #[test]
    fn of_more_tickets_than_are_kept_the_newest_stay_and_are_taken_first() {
        let mut book: Book<(), usize> = Book::default();
        book.add_ticket(name(1), 0);
        for n in 0..MAX_TICKETS + 5 {
            book.add_ticket(name(0), n);
            agrees(&book);
        }
        assert_eq!(
            (book.tickets, book.take_ticket(&name(1))),
            (MAX_TICKETS, None),
            "the other name went first"
        );
        let taken: Vec<_> = std::iter::from_fn(|| book.take_ticket(&name(0))).collect();
        assert_eq!(taken, (5..MAX_TICKETS + 5).rev().collect::<Vec<_>>());
    }
}
