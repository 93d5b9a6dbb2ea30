//! The atomics that shared memory is made of.
//!
//! Every atomic that two processes may see comes from here, so that another build can put something else in their place:
//!
//! | built with | the same names are | and |
//! |---|---|---|
//! | `--cfg loom` | loom's | such a build has no shared region ([`Zone::slice`](crate::zone::Zone::slice) refuses), since loom's atomics are not what lies in memory; models run on structures of their own |
//! | `--cfg forebay_model` | the crash model's: as large as the real ones, in the same real memory | each access asks the model first, which may end the process there (`crates/model`) |

#[cfg(not(any(loom, forebay_model)))]
pub use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(forebay_model)]
pub mod model;
#[cfg(forebay_model)]
pub use core::sync::atomic::{Ordering, fence};
#[cfg(forebay_model)]
pub use model::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, mutated, pause, visible};

/// Whether a model makes this mistake: so that it can show that it would see it. Never in a normal build.
#[cfg(not(any(loom, forebay_model)))]
#[inline(always)]
pub const fn mutated(_mistake: &str) -> bool {
    false
}

#[cfg(loom)]
pub use mistake::{make_mistake, mutated};

/// The mistake that models for loom make.
#[cfg(loom)]
mod mistake {
    use std::cell::Cell;

    thread_local! {
        /// All threads of a model run on the thread that runs the model.
        static MISTAKE: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Makes this mistake from now on, on this thread, or none.
    pub fn make_mistake(mistake: Option<&'static str>) {
        MISTAKE.set(mistake);
    }

    /// Whether it is made.
    pub fn mutated(mistake: &str) -> bool {
        MISTAKE.get() == Some(mistake)
    }
}

/// Waits a little for what other processes do.
#[cfg(not(forebay_model))]
pub fn pause(time: core::time::Duration) {
    std::thread::sleep(time);
}

/// A look at, or a change of, what several processes see and no atomic holds, such as a lock: the crash model counts it as a
/// step, with its outcome.
#[cfg(not(forebay_model))]
#[inline(always)]
pub(crate) fn visible<T>(
    _changes: bool,
    call: impl FnOnce() -> T,
    _outcome: impl FnOnce(&T) -> u64,
) -> T {
    call()
}

/// Bytes that travel between cores together.
pub const CACHE_LINE: usize = 64;

/// A value that has its cache line to itself: what one process writes does not slow down what another reads.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct CacheLine<T>(
    /// The value at the start of the line.
    pub T,
);

#[cfg(not(loom))]
const _: () = assert!(
    size_of::<CacheLine<AtomicU32>>() == CACHE_LINE && align_of::<CacheLine<u8>>() == CACHE_LINE
);
