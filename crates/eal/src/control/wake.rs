//! What wakes a thread that sleeps in `poll`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};

/// Ends the sleep of one thread. What there is to do stands elsewhere, but for the order to stop.
#[derive(Debug)]
pub(super) struct Wake {
    event: OwnedFd,
    stop: AtomicBool,
}

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self {
            event: eventfd(0, flags)?,
            stop: AtomicBool::new(false),
        })
    }

    /// Wakes the thread, or keeps it from falling asleep.
    pub(super) fn ring(&self) {
        // It fails only when it has been rung some 2^64 times; then it is rung.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// Tells the thread to end.
    pub(super) fn stop(&self) {
        // Release: pairs with the Acquire in `is_stopped`.
        self.stop.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn is_stopped(&self) -> bool {
        // Acquire: pairs with the Release in `stop`.
        self.stop.load(Ordering::Acquire)
    }

    /// Lets the thread sleep again. Before it looks for work, so that what comes then wakes it.
    pub(super) fn drain(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.event, &mut count);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
