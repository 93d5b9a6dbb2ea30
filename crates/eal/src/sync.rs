//! The atomics that shared memory is made of.
//!
//! Every atomic that two processes may see comes from here, so that loom can stand in for them: built with
//! `--cfg loom` the same names are loom's. Such a build has no shared region ([`Zone::slice`](crate::zone::Zone::slice)
//! refuses), since loom's atomics are not what lies in memory; models run on structures of their own.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

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
