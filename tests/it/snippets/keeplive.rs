use std::time::Duration;

use keeplive::{Error, Pool, PoolConfig};

/// A client of the probed hop.
pub fn pool() -> Result<Pool, Error> {
    Pool::new(PoolConfig::default().idle_timeout(Some(Duration::from_secs(74))))
}
