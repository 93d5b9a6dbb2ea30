//! Counters that one process writes and any process reads.
//!
//! A counter has one writer, the thread that counts, so adding is a load and a store and no read-modify-write. Counters of one
//! writer lie together on cache lines of their own; readers, tools among them, map them read-only.
//!
//! **If a process dies:** its counters keep the last value that it stored. The next owner of the place goes on from there or
//! starts at zero, as the structure around the counter says.

use crate::sync::{AtomicU64, Ordering};

/// One counter. One writer at a time.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; wraps after 2^64. For the one writer only: two that add at once lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        // Relaxed, here and below: a number that stands for itself and orders nothing.
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(n);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Replaces the value: zero when a place changes hands, or what a device reports.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Raises the value to `value` if that is more: a high-water mark.
    #[inline]
    pub fn raise(&self, value: u64) {
        if value > self.get() {
            self.set(value);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn counter_adds_wraps_and_keeps_the_highest() {
        let counter = Counter::default();
        counter.add(5);
        counter.raise(3);
        assert_eq!(counter.get(), 5);
        counter.raise(9);
        assert_eq!(counter.get(), 9);
        counter.set(u64::MAX);
        counter.add(2);
        assert_eq!(counter.get(), 1);
    }
}
