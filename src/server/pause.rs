//! A pause that lasts as long as it says.
//!
//! tokio's timer counts whole milliseconds and rounds up: a delay of 5 ms came out as 6.3 ms (median of 200), and an
//! origin whose truth is known may not be wrong by a quarter. The kernel's timers are exact to some microseconds,
//! and a descriptor of one costs four system calls, which only a server that was told to wait pays.

use std::io;
use std::time::Duration;

/// Waits for `length`, exactly where the system can.
pub(super) async fn pause(length: Duration) {
    // Out of descriptors, a rounded pause is better than none.
    if exact(length).await.is_err() {
        tokio::time::sleep(length).await;
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
async fn exact(length: Duration) -> io::Result<()> {
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::unix::AsyncFd;

    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?,
    };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &once)?;
    #[expect(
        deprecated,
        reason = "its successor is unsafe because a type may lie about its descriptor; OwnedFd owns it"
    )]
    let timer = AsyncFd::new(timer)?;
    timer.readable().await?.retain_ready();
    Ok(())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
async fn exact(_: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
