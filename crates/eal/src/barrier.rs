//! The barrier between a producer's tail and its look at who sleeps, and its counterpart in who is about to sleep.
//!
//! ```text
//! producer   publish tail    [light]   does the consumer sleep?        one of the two sees what the other
//! consumer   "I sleep"       [heavy]   is there anything, after all?   wrote: nobody sleeps over a packet
//! ```
//!
//! Producers pass here with every burst and sleepers rarely, so sleepers pay for both: `membarrier(GLOBAL_EXPEDITED)` has every
//! processor that runs a registered process pass a full barrier, and what it has stored is seen. For the producer a barrier for the
//! compiler is enough then.
//!
//! | the kernel refuses | then |
//! |---|---|
//! | to register this process | its producers pass a full fence with each burst |
//! | the sleeper's call       | [`heavy`] says so, and the sleeper does not sleep long |
//!
//! **If a process dies:** nothing is left of it here.

use std::sync::OnceLock;

use crate::sync::{Ordering, fence, mutated};

/// The mistake that a model makes, to show that it would see it.
pub const NO_BARRIER: &str = "no barrier between the tail and the look at who sleeps";

/// What a producer does between publishing and looking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    /// The process is registered: a barrier for the compiler.
    Compiler,
    /// It is not: a full fence.
    Fence,
}

impl Light {
    /// For the producers of this process, which is registered if it was not yet.
    pub fn of_process() -> Self {
        if register().is_ok() {
            Self::Compiler
        } else {
            Self::Fence
        }
    }

    /// Between publishing and looking.
    #[inline(always)]
    pub fn pass(self) {
        match self {
            // Loom knows no membarrier: there both sides pass fences, which is what the call makes of them.
            Self::Compiler if !cfg!(loom) => {
                core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
            }
            _ if mutated(NO_BARRIER) => {}
            _ => fence(Ordering::SeqCst),
        }
    }
}

/// Registers this process, once; afterwards what came of it.
///
/// Best before the process has a second thread: then it takes a microsecond, and later some ten milliseconds, more on a busy
/// machine, since the kernel has to wait until every processor has noticed.
///
/// # Errors
///
/// What the kernel says.
pub fn register() -> Result<(), std::io::ErrorKind> {
    static OUTCOME: OnceLock<Result<(), std::io::ErrorKind>> = OnceLock::new();
    *OUTCOME.get_or_init(|| {
        if cfg!(any(loom, forebay_model)) {
            return Ok(());
        }
        if cfg!(miri) {
            return Err(std::io::ErrorKind::Unsupported);
        }
        use rustix::thread::{MembarrierCommand, membarrier};
        membarrier(MembarrierCommand::RegisterGlobalExpedited)
            .map_err(|error| std::io::Error::from(error).kind())
    })
}

/// Between saying that one sleeps and looking once more. `false`: the kernel refused, and a producer may not have seen it.
#[must_use]
pub fn heavy() -> bool {
    if mutated(NO_BARRIER) {
        return true;
    }
    // For those producers that pass a fence of their own, and for the compiler.
    fence(Ordering::SeqCst);
    if cfg!(any(loom, forebay_model, miri)) {
        return true;
    }
    use rustix::thread::{MembarrierCommand, membarrier};
    membarrier(MembarrierCommand::GlobalExpedited).is_ok()
}

#[cfg(all(test, not(any(loom, forebay_model))))]
mod tests {
    use super::*;

    #[test]
    fn process_is_registered_once_and_passes_both_barriers() {
        assert_eq!(register(), register());
        let light = Light::of_process();
        assert_eq!(light == Light::Compiler, register().is_ok());
        light.pass();
        Light::Fence.pass();
        // Every kernel since 4.16 has it; where it is forbidden, that is what is said.
        assert_eq!(heavy(), cfg!(miri) || register().is_ok());
    }
}
