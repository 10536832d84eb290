//! Where a request's instructions are.

use crate::callgrind::{self, Sums};

/// Requests of the shorter and the longer visit: what the longer takes more is that many requests'.
const VISITS: [u64; 2] = [1_000, 3_000];

/// Instructions of a request by their owner, with so many connections; `None` without valgrind.
pub(crate) fn of(client: &str, loops: usize) -> Option<Sums> {
    let program = std::env::current_exe().expect("this program's path").display().to_string();
    let [less, more] = VISITS.map(|requests| {
        let words = ["visit", client, &loops.to_string(), &requests.to_string()].map(str::to_owned);
        callgrind::of(&[&[program.clone()][..], &words].concat())
    });
    Some(callgrind::each(&less?, &more?, VISITS[1] - VISITS[0]))
}

/// The table, a column for each client.
pub(crate) fn table(clients: &[&str], profiles: &[Option<Sums>]) -> String {
    let head = "instructions of a request in user space, by whose they are (callgrind, 50 conn.)\n\n";
    let foot = "peers: hyper-util, reqwest and what they stand on; copies: memcpy and the like; else: libc's system\n\
                calls and clocks, and the bench itself.\n";
    format!("{head}{}{foot}", callgrind::table(clients, profiles))
}
