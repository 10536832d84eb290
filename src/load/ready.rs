//! Waiting for a server that has just been started.

use std::time::Duration;

use super::request::Template;
use super::{Network, Refusal, Stop};
use crate::clock;
use crate::config::PoolConfig;
use crate::plan::Target;
use crate::pool::Pool;
use crate::tls::{TlsClient, TlsConfig};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// How long one attempt may take: a server that has just come up is asked again.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Asks again and again until the target answers with a status below 500; a server may be up before it is ready.
/// `alive` is asked before each attempt and may end the waiting. Being asked to stop ends it without an error.
///
/// # Errors
///
/// A [`Refusal`] of `alive`'s, or one that tells what came instead of an answer when `patience` is over.
pub fn until_it_answers(
    target: &Target,
    tls: &TlsConfig,
    network: &Network,
    patience: Duration,
    stop: &Stop,
    alive: &mut dyn FnMut() -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let usage = |error: &dyn std::fmt::Display| Refusal::Usage(error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| usage(&format!("could not start a runtime: {error}")))?;
    let template = Template::new(target)?;
    let tls: TlsClient = tls.clone().build().map_err(|error| usage(&error))?;
    let attempt =
        PoolConfig::default().keep_alive(false).connect_timeout(Some(ATTEMPT)).total_timeout(Some(ATTEMPT));
    let config = network.clone().settled(std::iter::once(&template.origin))?.of(attempt);
    let latest = clock::now() + patience;
    loop {
        alive()?;
        if stop.is_set() {
            return Ok(());
        }
        let instead = match runtime.block_on(ask(&template, config.clone(), tls.clone())) {
            Ok(status) if status < 500 => return Ok(()),
            Ok(status) => format!("it answers {status}"),
            Err(text) => text,
        };
        if clock::now() >= latest {
            return Err(Refusal::Unreachable(format!(
                "{} did not answer within {patience:?} of its start: {instead}",
                target.url
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

async fn ask(template: &Template, config: PoolConfig, tls: TlsClient) -> Result<u16, String> {
    let pool = Pool::with_tls(config, tls).map_err(|error| error.to_string())?;
    let response =
        pool.send_to(&template.origin, template.request()).await.map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    response.into_body().finish().await.map_err(|error| error.to_string())?;
    Ok(status)
}
