//! What a forked child does not get.
//!
//! Memory is kept from it by `MADV_DONTFORK`, descriptors by close-on-exec once it calls `exec`; until then it shares them, and
//! with them what the kernel ties to the open file: locks above all. Here is a list of descriptors that lead to an empty file in
//! the child instead, so that nothing in its copy of our memory, when dropped, closes somebody else's number.
//!
//! A handler of `pthread_atfork` does it: in the child, before `fork` returns, with one thread and calls that are allowed there.
//! A bare `clone(2)` knows no handlers, and `vfork` and `posix_spawn` need none, since nothing but `exec` comes of them.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// Descriptors listed at a time: one a region, and tests have a few.
const LISTED_MAX: usize = 64;
const NONE: RawFd = -1;

static LISTED: [AtomicI32; LISTED_MAX] = [const { AtomicI32::new(NONE) }; LISTED_MAX];
/// The empty file, once the handler is there.
static EMPTY: OnceLock<Option<OwnedFd>> = OnceLock::new();

// Not in the libc crate: glibc has it in the part that is linked into each program.
unsafe extern "C" {
    fn pthread_atfork(
        prepare: Option<extern "C" fn()>,
        parent: Option<extern "C" fn()>,
        child: Option<extern "C" fn()>,
    ) -> libc::c_int;
}

/// A descriptor while it is listed. To be dropped before the descriptor is closed.
#[derive(Debug)]
pub(crate) struct NotForChildren(usize);

impl NotForChildren {
    /// Lists it; `None` if that cannot be done: then children share it.
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Option<Self> {
        if cfg!(miri) {
            return None;
        }
        EMPTY.get_or_init(prepare).as_ref()?;
        let place = LISTED.iter().position(|listed| {
            let (new, order) = (fd.as_raw_fd(), Ordering::Relaxed);
            // Relaxed, here and below: the child has a copy of the list and one thread.
            listed.compare_exchange(NONE, new, order, order).is_ok()
        })?;
        Some(Self(place))
    }
}

impl Drop for NotForChildren {
    fn drop(&mut self) {
        LISTED[self.0].store(NONE, Ordering::Relaxed);
    }
}

fn prepare() -> Option<OwnedFd> {
    let empty = rustix::fs::memfd_create("forked", rustix::fs::MemfdFlags::CLOEXEC).ok()?;
    // SAFETY: `in_child` lives as long as the program, and does only what is allowed after `fork`.
    let outcome = unsafe { pthread_atfork(None, None, Some(in_child)) };
    (outcome == 0).then_some(empty)
}

/// Runs in the child of a `fork`, before that returns.
extern "C" fn in_child() {
    // Not there yet: forked while it was being prepared, and nothing is listed.
    let Some(Some(empty)) = EMPTY.get() else {
        return;
    };
    for listed in &LISTED {
        let fd = listed.load(Ordering::Relaxed);
        if fd != NONE {
            // SAFETY: both are open in the parent at the time of the fork, so here too; the file behind `fd` is replaced at once,
            // and whoever owns `fd` in this copy of its memory has the empty file from now on.
            let _ = unsafe { libc::dup3(empty.as_raw_fd(), fd, libc::O_CLOEXEC) };
        }
    }
}
