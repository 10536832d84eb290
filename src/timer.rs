//! [`Timer`]: waiting as long as it says, to some fifty microseconds.
//!
//! tokio's timers round up to whole milliseconds (tokio#5021): at 1,000 requests per second an even schedule turns
//! into bursts, and a server's delay of 5 ms into 6.3 ms. On Linux a timerfd wakes the reactor instead; elsewhere tokio's timer has to do, and
//! the lag histogram says what that costs.

use std::io;
use std::time::Instant;

#[cfg(target_os = "linux")]
mod sys {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub(super) struct Sys(AsyncFd<OwnedFd>);

    impl Sys {
        pub(super) fn new() -> io::Result<Sys> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            #[expect(
                deprecated,
                reason = "its successor is unsafe; an OwnedFd keeps the promise it asks for"
            )]
            AsyncFd::new(timer).map(Sys)
        }

        pub(super) async fn sleep(&self, left: Duration) -> io::Result<()> {
            // Zero would disarm the timer.
            let nanos = i64::try_from(left.as_nanos()).unwrap_or(i64::MAX).max(1);
            let value = Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
            let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut guard = self.0.readable().await?;
                let mut expirations = [0_u8; 8];
                match rustix::io::read(self.0.get_ref(), &mut expirations) {
                    Ok(_) => return Ok(()),
                    Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::io;
    use std::time::Duration;

    #[derive(Debug)]
    pub(super) struct Sys;

    impl Sys {
        pub(super) fn new() -> io::Result<Sys> {
            Ok(Sys)
        }

        pub(super) async fn sleep(&self, left: Duration) -> io::Result<()> {
            tokio::time::sleep(left).await;
            Ok(())
        }
    }
}

use crate::clock;

#[derive(Debug)]
pub(crate) struct Timer(sys::Sys);

impl Timer {
    pub(crate) fn new() -> io::Result<Timer> {
        sys::Sys::new().map(Timer)
    }

    /// Waits until `due`, never returning before it. Answers with the time.
    pub(crate) async fn wait_until(&self, due: Instant) -> io::Result<Instant> {
        loop {
            let now = clock::now();
            if now >= due {
                return Ok(now);
            }
            self.0.sleep(due - now).await?;
        }
    }
}
