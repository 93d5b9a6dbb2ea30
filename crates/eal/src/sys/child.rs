//! Forked children, for tests: what they must not be able to do is to be tried.
//!
//! A child of a program with threads may do next to nothing, so these do one thing each.

use std::io;
use std::time::Duration;

use crate::eal::Eal;
use crate::sync::{AtomicU64, Ordering};

/// By which call a child comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// The C library's `fork`, which calls handlers.
    Fork,
    /// The kernel's `clone` alone.
    Clone,
}

/// What a child does.
#[derive(Debug, Clone, Copy)]
pub enum Deed<'a> {
    /// Sleeps for a minute.
    Sleep,
    /// Reads that word and ends with 0, if it lives so long.
    Read(&'a AtomicU64),
    /// Does what dropping its copy of the environment would do.
    Leave(&'a Eal),
}

/// Makes a child that does this; its process id.
///
/// # Errors
///
/// The kernel's.
pub fn start(call: Call, deed: Deed<'_>) -> io::Result<i32> {
    let pid = match call {
        // SAFETY: the child does nothing but `act`, which neither allocates nor takes a lock.
        Call::Fork => i64::from(unsafe { libc::fork() }),
        Call::Clone => {
            let signal = i64::from(libc::SIGCHLD);
            // SAFETY: no flags: a copy of this process, as `fork` makes it; and as above.
            unsafe { libc::syscall(libc::SYS_clone, signal, 0_i64, 0_i64, 0_i64, 0_i64) }
        }
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => act(deed),
        pid => i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidData.into()),
    }
}

fn act(deed: Deed<'_>) -> ! {
    match deed {
        Deed::Sleep => std::thread::sleep(Duration::from_secs(60)),
        Deed::Read(word) => {
            std::hint::black_box(word.load(Ordering::Relaxed));
        }
        Deed::Leave(eal) => {
            let _ = eal.leave();
            let _ = eal.region().leave();
        }
    }
    // SAFETY: ends the process without running anything of the parent's.
    unsafe { libc::_exit(0) }
}
