//! [`Sessions`]: what earlier handshakes left to be resumed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio_rustls::rustls::NamedGroup;
use tokio_rustls::rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use tokio_rustls::rustls::pki_types::ServerName;

/// Sessions to resume, per server name.
///
/// *Design.* rustls' own store keeps 8 tickets per name; with more handshakes at a time than that, resumption
/// silently turns into full handshakes, and a measurement of it would be a lie. The newest ticket is taken
/// first, so that old ones run out unused. With `resume` off only the key-exchange hint is kept: without it
/// a server that prefers another group would cost a HelloRetryRequest, a round trip more, at every handshake.
#[derive(Debug)]
pub(super) struct Sessions {
    resume: bool,
    known: Mutex<HashMap<ServerName<'static>, Known>>,
}

/// More than any run has handshakes in flight; a ticket is some 1.5 kB.
const MAX_TICKETS: usize = 4096;

#[derive(Debug, Default)]
struct Known {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tickets: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    pub(super) fn new(resume: bool) -> Sessions {
        Sessions { resume, known: Mutex::new(HashMap::new()) }
    }

    /// How many TLS 1.3 tickets are at hand.
    pub(super) fn tickets(&self) -> usize {
        self.lock().values().map(|known| known.tickets.len()).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.lock().entry(server_name).or_default().group = Some(group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().get(server_name).and_then(|known| known.group)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        if self.resume {
            self.lock().entry(server_name).or_default().tls12 = Some(value);
        }
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().get(server_name).and_then(|known| known.tls12.clone())
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        if let Some(known) = self.lock().get_mut(server_name) {
            known.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        if !self.resume {
            return;
        }
        let mut known = self.lock();
        let tickets = &mut known.entry(server_name).or_default().tickets;
        if tickets.len() == MAX_TICKETS {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().get_mut(server_name).and_then(|known| known.tickets.pop_back())
    }
}
