//! Being told to stop: SIGINT and SIGTERM.
//!
//! They set a flag, which a busy loop looks at, and make a socket readable, which wakes one that sleeps.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// What the signals do.
#[derive(Debug)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    told: UnixStream,
}

impl Stop {
    /// Has them do so from now on.
    ///
    /// # Errors
    ///
    /// No descriptor is left.
    pub fn on_signals() -> std::io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        let (told, tell) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            // The flag first: whoever is woken finds it set.
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(signal, tell.try_clone()?)?;
        }
        Ok(Self { flag, told })
    }

    /// Whether it is time.
    #[inline]
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }
}
