//! [`Servers`]: base and head where the gate starts them: their commands and ports, their beginning, their end.

use std::io;
use std::net::TcpListener;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use keeplive::load::{self, Network, Refusal, Stop};
use keeplive::plan::{Plan, Target};
use keeplive::ports::PortFacts;
use keeplive::{Origin, TlsConfig};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use super::launched::{self, Launched};
use crate::args::ServerArgs;

/// Where a free port belongs.
const PORT: &str = "{port}";

/// One arm's server before anything has been started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Where it answers.
    pub(crate) url: String,
    /// What starts it, if the gate is to.
    command: Option<String>,
}

impl Server {
    /// From what was given for an arm: the URL, the command, or both.
    pub(crate) fn of(url: Option<&str>, command: Option<&str>) -> io::Result<Server> {
        let asks_for_port = |text: Option<&str>| text.is_some_and(|text| text.contains(PORT));
        let url = match (url, command) {
            (Some(url), _) => url.to_owned(),
            (None, Some(command)) if command.contains(PORT) => format!("http://127.0.0.1:{PORT}/"),
            (None, _) => {
                let text = "a command needs {port} in it, or a URL beside it (--base, --head)";
                return Err(io::Error::other(text));
            }
        };
        if !asks_for_port(Some(&url)) && !asks_for_port(command) {
            return Ok(Server { url, command: command.map(str::to_owned) });
        }
        if command.is_none() {
            return Err(io::Error::other(format!(
                "{url}: {PORT} is chosen for a --base-cmd or --head-cmd only"
            )));
        }
        let port = free_port()?.to_string();
        Ok(Server { url: url.replace(PORT, &port), command: command.map(|text| text.replace(PORT, &port)) })
    }
}

/// Why these two commands cannot run at the same time, with the cure.
pub(crate) fn collision([base, head]: &[Server; 2]) -> Option<String> {
    // What is no URL is refused where it is asked for.
    let place = |server: &Server| {
        let origin: Origin = server.command.as_ref().and_then(|_| server.url.parse().ok())?;
        Some(format!("{}:{}", origin.host(), origin.port()))
    };
    let shared = place(base).filter(|base| Some(base) == place(head).as_ref())?;
    Some(format!(
        "both commands would serve at {shared}, and they run at the same time: write {PORT} where they take their port, \
         or give --base and --head two ports"
    ))
}

/// Ports below this are often somebody's.
const LOWEST: u16 = 10_240;

/// A port that was free a moment ago, another one at each call. It lies below those that the kernel gives to outgoing
/// connections: one of them could take it while its server is being started anew.
fn free_port() -> io::Result<u16> {
    static BEGIN: OnceLock<u64> = OnceLock::new();
    static NTH: AtomicU64 = AtomicU64::new(0);
    let ephemeral = *PortFacts::read(true).ephemeral.start();
    let highest = if ephemeral > LOWEST { ephemeral } else { u16::MAX };
    let span = u64::from(highest - LOWEST);
    let begin = *BEGIN.get_or_init(load::fresh_seed);
    for _ in 0..span {
        let nth = begin.wrapping_add(NTH.fetch_add(1, Ordering::Relaxed));
        let port = LOWEST + (nth % span) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no port is free for a server: give its URL with --base or --head"))
}

/// What runs.
pub(crate) struct Servers {
    commands: [Option<String>; 2],
    /// Processes that somebody else has started.
    pids: [Option<u32>; 2],
    targets: [Target; 2],
    running: [Option<Launched>; 2],
    restart_every: u32,
    patience: Duration,
    tls: TlsConfig,
    network: Network,
    stop: Stop,
    restarts: u32,
    coin: Xoshiro256PlusPlus,
}

/// How often servers that have worked before are started, until they answer again.
const ATTEMPTS: u32 = 4;

/// Between two of these attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// The arms' names, in the plan's order.
const ARMS: [&str; 2] = [keeplive::gate::session::BASE, keeplive::gate::session::HEAD];

impl Servers {
    pub(crate) fn new(
        servers: [Server; 2],
        args: &ServerArgs,
        plan: &Plan,
        tls: &TlsConfig,
        stop: &Stop,
    ) -> Servers {
        let target = |arm: usize| plan.target_of(&plan.arms[arm]).clone();
        Servers {
            commands: servers.map(|server| server.command),
            pids: [args.base_pid, args.head_pid],
            targets: [target(0), target(1)],
            running: [None, None],
            restart_every: args.restart_every,
            patience: args.start_timeout,
            tls: tls.clone(),
            network: Network::default(),
            stop: stop.clone(),
            restarts: 0,
            // Another coin than the one that orders the rounds: who is older and who is visited first are two things.
            coin: Xoshiro256PlusPlus::seed_from_u64(!plan.seed),
        }
    }

    /// They are waited for on the way that the load will take.
    pub(crate) fn by_way_of(self, network: Network) -> Servers {
        Servers { network, ..self }
    }

    /// Starts what is to be started, and waits until it answers.
    ///
    /// A server is slower while it is young (caches, a compiler at run time), so neither may be the older one: both have
    /// ended before either starts, they start back to back, and a coin says which first and which is asked first.
    pub(crate) fn start(&mut self) -> Result<(), Refusal> {
        // They have the ports.
        launched::end_together(self.running.iter_mut().filter_map(Option::take).collect());
        let order = self.order();
        for arm in order {
            let Some(command) = &self.commands[arm] else { continue };
            let launched = Launched::start(ARMS[arm], command);
            self.running[arm] = Some(launched.map_err(|error| Refusal::Usage(error.to_string()))?);
        }
        order.into_iter().try_for_each(|arm| self.until_it_answers(arm))
    }

    /// Drawn anew each time.
    fn order(&mut self) -> [usize; 2] {
        let is_head_first = self.coin.next_u64() >> 63 == 1;
        if is_head_first { [1, 0] } else { [0, 1] }
    }

    fn until_it_answers(&mut self, arm: usize) -> Result<(), Refusal> {
        let Some(running) = &mut self.running[arm] else { return Ok(()) };
        let mut alive = || running.obituary().map_or(Ok(()), |text| Err(Refusal::Unreachable(text)));
        let (target, tls, network) = (&self.targets[arm], &self.tls, &self.network);
        load::until_it_answers(target, tls, network, self.patience, &self.stop, &mut alive)
    }

    /// So many rounds in a row meet the same processes; 1 where none is started anew, for then all do, and nothing
    /// can tell a process's luck from its build.
    pub(crate) fn block(&self) -> u32 {
        if self.commands.iter().any(Option::is_some) { self.restart_every.max(1) } else { 1 }
    }

    /// After so many rounds: whoever has died is told of; when it is time, both are started anew.
    pub(crate) fn after_round(&mut self, done: u32, is_last: bool) -> Result<(), Refusal> {
        self.check()?;
        let is_due = self.restart_every > 0 && done.is_multiple_of(self.restart_every);
        if is_due && !is_last && self.commands.iter().any(Option::is_some) {
            self.start_again()?;
            self.restarts += 1;
        }
        Ok(())
    }

    /// A server that has worked before may find its port not yet free.
    fn start_again(&mut self) -> Result<(), Refusal> {
        for _ in 1..ATTEMPTS {
            if self.start().is_ok() {
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        self.start()
    }

    /// Whoever has died is told of.
    pub(crate) fn check(&mut self) -> Result<(), Refusal> {
        match self.running.iter_mut().flatten().find_map(Launched::obituary) {
            Some(text) => Err(Refusal::Unreachable(text)),
            None => Ok(()),
        }
    }

    /// The process of an arm's server, if it is known.
    pub(crate) fn process(&self, arm: usize) -> Option<u32> {
        self.running[arm].as_ref().map(Launched::pid).or(self.pids[arm])
    }

    /// Whether the processes of both are known.
    pub(crate) fn are_known(&self) -> bool {
        (0..ARMS.len()).all(|arm| self.commands[arm].is_some() || self.pids[arm].is_some())
    }

    /// Whether both were started anew on the way, so that the verdict is not about two processes.
    pub(crate) fn were_restarted(&self) -> bool {
        self.restarts > 0 && self.commands.iter().all(Option::is_some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_chosen_once_for_command_and_url() {
        let server = Server::of(None, Some("serve --listen 127.0.0.1:{port}")).unwrap();
        let port = server.url.strip_prefix("http://127.0.0.1:").unwrap().trim_end_matches('/');
        assert!(port.parse::<u16>().unwrap() > 0);
        assert_eq!(server.command.unwrap(), format!("serve --listen 127.0.0.1:{port}"));
        let another = Server::of(None, Some("serve {port}")).unwrap();
        assert_ne!(server.url, another.url, "base and head never get the same");
        let https = Server::of(Some("https://localhost:{port}/a"), Some("serve {port}")).unwrap();
        assert!(https.url.starts_with("https://localhost:") && https.url.ends_with("/a"), "{https:?}");
    }

    #[test]
    fn a_command_of_unknown_port_and_a_port_of_no_command_are_refused() {
        assert!(Server::of(None, Some("serve")).unwrap_err().to_string().contains("needs {port}"));
        assert!(Server::of(Some("http://h:{port}/"), None).is_err());
    }
}
