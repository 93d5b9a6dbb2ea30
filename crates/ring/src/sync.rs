//! The atomics of this crate, so that loom can stand in for them, and the orderings that
//! carry its promises, so that a test can take one away.
//!
//! Every ordering stronger than relaxed is asked for by the name of its pair:
//! `release("tail")` publishes what `acquire("tail")` sees, and so on. Under loom the tests
//! weaken one of them at a time and expect a model to fail.

pub(crate) use eal::sync::{AtomicU32, AtomicU64, CacheLine, Ordering};

/// Publishes what was written before to whoever does `acquire(pair)` on the same word.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn release(_pair: &'static str) -> Ordering {
    Ordering::Release
}

/// Sees what was written before the `release(pair)` that stored the value read.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn acquire(_pair: &'static str) -> Ordering {
    Ordering::Acquire
}

/// Both at once, for a word that is read and replaced in one step.
#[cfg(not(loom))]
#[inline(always)]
pub(crate) const fn both(_pair: &'static str) -> Ordering {
    Ordering::AcqRel
}

#[cfg(loom)]
pub(crate) use mutant::{acquire, both, release};

/// Orderings that a test can weaken.
#[cfg(loom)]
pub(crate) mod mutant {
    use super::Ordering;
    use std::cell::Cell;

    /// One use of an ordering: `release("tail")`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Site {
        /// `release` or `acquire`.
        pub(crate) ordering: &'static str,
        /// The name of the pair.
        pub(crate) pair: &'static str,
    }

    thread_local! {
        /// What is weakened. All threads of a model run on the thread that runs the model.
        static WEAKENED: Cell<Option<Site>> = const { Cell::new(None) };
    }

    /// Weakens `site` from now on, on this thread.
    #[cfg(test)]
    pub(crate) fn weaken(site: Option<Site>) {
        WEAKENED.set(site);
    }

    /// Whether something is weakened on this thread.
    #[cfg(test)]
    pub(crate) fn is_weakened() -> bool {
        WEAKENED.get().is_some()
    }

    fn ordering(ordering: &'static str, pair: &'static str, strong: Ordering) -> Ordering {
        if WEAKENED.get() == Some(Site { ordering, pair }) {
            Ordering::Relaxed
        } else {
            strong
        }
    }

    pub(crate) fn release(pair: &'static str) -> Ordering {
        ordering("release", pair, Ordering::Release)
    }

    pub(crate) fn acquire(pair: &'static str) -> Ordering {
        ordering("acquire", pair, Ordering::Acquire)
    }

    pub(crate) fn both(pair: &'static str) -> Ordering {
        match (release(pair), acquire(pair)) {
            (Ordering::Release, Ordering::Acquire) => Ordering::AcqRel,
            (Ordering::Relaxed, one) | (one, _) => one,
        }
    }
}
