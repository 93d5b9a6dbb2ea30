//! Who holds an end of a ring: one word an end, claimed by compare-and-swap.
//!
//! ```text
//! bits   63       35     34        33       32    31            8 7          0
//!       | must be 0 | sleeping | passing | open |  generation    | slot + 1   |   all 0: nobody
//!                                                \________ Owner ____________/
//! ```
//!
//! | word                | changed by                                                     |
//! |---------------------|----------------------------------------------------------------|
//! | nobody, or the dead | whoever claims it, by compare-and-swap from the very word read |
//! | a living owner      | that owner alone                                               |
//!
//! The consumer's word also says whether the ring is open: it opens in the same step in
//! which it gets an owner, and closes in the same step in which it loses him. Whoever only
//! empties it after a dead consumer says that it is *passing*, and a newcomer waits for it.
//! A consumer that is about to sleep says *sleeping*, and takes it back when it wakes up: he alone, since a producer
//! that took it back and died before it rang would silence all others. Producers look at the word after they have
//! published, and ring the doorbell of the slot that it names.
//!
//! **If a process dies:** its word stays and names it, generation included. Whoever wants
//! the end proves the death and replaces that very word; of two only one succeeds.

use crate::sync::{AtomicU64, Ordering, acquire, release};
use eal::barrier::Light;
use eal::sync::mutated;
use eal::{Owner, SlotId};

/// Tries at a word that changes under our hands. Each is a rival who won, so a few are plenty.
const CLAIM_TRIES: usize = 64;

/// Set in the consumer's word while producers may enqueue.
const OPEN: u64 = 1 << 32;

/// Set in the consumer's word by who has the end for a moment only.
const PASSING: u64 = 1 << 33;

/// Set in the consumer's word by its owner while he sleeps, or is about to.
const SLEEPING: u64 = 1 << 34;

/// A mistake that the models make, to show that they would see it.
pub(crate) const PRODUCER_CLEARS: &str = "a producer takes back that the consumer sleeps";

/// What an end is claimed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To produce.
    Produce,
    /// To consume: opens the ring.
    Consume,
    /// To empty a ring that nobody consumes: leaves it closed.
    Drain,
}

/// An end that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim<'r> {
    word: &'r AtomicU64,
    held: u64,
}

impl<'r> Claim<'r> {
    /// Takes the end of `word` for `owner`, unless an owner who is `alive` has it: then gives the word that names him.
    pub(crate) fn take(
        word: &'r AtomicU64,
        owner: Owner,
        purpose: Purpose,
        alive: impl Fn(Owner) -> bool,
    ) -> Result<Self, u64> {
        let held = u64::from(owner.bits())
            | match purpose {
                Purpose::Produce => 0,
                Purpose::Consume => OPEN,
                Purpose::Drain => PASSING,
            };
        let mut seen = word.load(Ordering::Relaxed);
        for _ in 0..CLAIM_TRIES {
            let holder = owner_in(seen);
            if holder != Owner::NONE && alive(holder) {
                return Err(seen);
            }
            // Acquire: the last holder's positions are read after this. Pairs with the
            // Release in `drop`; a dead holder's stores were made visible by the kernel
            // before it let go of the lock that `alive` looked at.
            match word.compare_exchange(seen, held, acquire("end"), Ordering::Relaxed) {
                Ok(_) => return Ok(Self { word, held }),
                Err(now) => seen = now,
            }
        }
        Err(seen)
    }

    /// Whom the end was claimed for.
    #[inline]
    pub(crate) fn owner(&self) -> Owner {
        owner_in(self.held)
    }

    /// Says whether the owner sleeps. From `eal::sleep` alone, which has the barrier.
    pub(crate) fn set_sleeping(&mut self, sleeps: bool) {
        let told = if sleeps {
            self.held | SLEEPING
        } else {
            self.held & !SLEEPING
        };
        // Relaxed: the barrier orders it. Only from our own word: somebody who took us for dead may have the end.
        let was_ours =
            self.word
                .compare_exchange(self.held, told, Ordering::Relaxed, Ordering::Relaxed);
        match was_ours {
            Err(seen) if !mutated(PRODUCER_CLEARS) => {
                // Scribbled upon, and the end is ours still: from now on by what stands there, or no later change would succeed.
                if owner_in(seen) == self.owner() {
                    self.held = seen;
                }
            }
            _ => self.held = told,
        }
    }
}

/// How a producer looks, after it has published, whether the consumer sleeps.
#[derive(Debug)]
pub(crate) struct Watch {
    barrier: Light,
    /// A word below it says that nobody sleeps, without a fence before the look: none says so where one is due.
    awake: u64,
}

impl Watch {
    /// For the producers of this process.
    pub(crate) fn of_process() -> Self {
        Self::with(Light::of_process())
    }

    fn with(barrier: Light) -> Self {
        let awake = match barrier {
            // The highest bit that may be set.
            Light::Compiler => SLEEPING,
            Light::Fence => 0,
        };
        Self { barrier, awake }
    }

    /// What to pass between publishing and looking.
    #[inline]
    pub(crate) fn barrier(&self) -> Light {
        self.barrier
    }

    /// Whom to wake after something was published: the owner of the consumer's `word`, if he sleeps.
    #[inline]
    pub(crate) fn sleeper(&self, word: &AtomicU64) -> Option<SlotId> {
        Light::Compiler.pass();
        // Relaxed: the barrier orders it.
        if word.load(Ordering::Relaxed) < self.awake {
            return None;
        }
        self.sleeper_for_sure(word)
    }

    /// The same with the barrier that is due.
    #[cold]
    #[inline(never)]
    fn sleeper_for_sure(&self, word: &AtomicU64) -> Option<SlotId> {
        self.barrier.pass();
        // Relaxed: the barrier orders it.
        let seen = word.load(Ordering::Relaxed);
        if seen & SLEEPING == 0 {
            return None;
        }
        named(word, seen)
    }
}

fn named(word: &AtomicU64, seen: u64) -> Option<SlotId> {
    if mutated(PRODUCER_CLEARS) {
        let awake = seen & !SLEEPING;
        let _ = word.compare_exchange(seen, awake, Ordering::Relaxed, Ordering::Relaxed);
    }
    owner_in(seen).slot()
}

/// Of many consumers those who sleep, or are about to: a bit a slot, for who looks at all of them at once. Each sets and clears its
/// own, and clears what the last one in its slot left; the word of its end says the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sleepers<'r>(pub(crate) &'r AtomicU64);

impl Sleepers<'_> {
    /// Says whether `slot` sleeps. From `eal::sleep` alone, which has the barrier.
    pub(crate) fn set(self, slot: SlotId, sleeps: bool) {
        let bit = 1 << slot.index();
        // Relaxed: the barrier orders it.
        if sleeps {
            self.0.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.0.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Whom of the owners of `ends` to wake after something was published: all who sleep, since any one may die before it looks.
    #[inline]
    pub(crate) fn after(self, barrier: Light, ends: &[AtomicU64]) -> impl Iterator<Item = SlotId> {
        barrier.pass();
        // Relaxed: the barrier orders it.
        let mut left = self.0.load(Ordering::Relaxed);
        std::iter::from_fn(move || {
            let slot = SlotId::new(u8::try_from(left.trailing_zeros()).ok()?)?;
            left &= left.wrapping_sub(1);
            Some(slot)
        })
        .filter(|slot| {
            let end = ends.get(slot.index());
            end.is_some_and(|end| end.load(Ordering::Relaxed) & SLEEPING != 0)
        })
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // Release: whoever claims the end next sees our last positions. Pairs with the
        // Acquire in `take`. Only from our own word: were it no longer there, somebody else
        // has the end, and it is not ours to give back.
        let _ = self
            .word
            .compare_exchange(self.held, 0, release("end"), Ordering::Relaxed);
    }
}

/// Whom a word names. Anything may stand there; an owner that does not exist is not alive.
#[expect(clippy::cast_possible_truncation, reason = "the low half is the owner")]
pub(crate) fn owner_in(word: u64) -> Owner {
    Owner::from_bits(word as u32)
}

/// Whether the consumer's word names somebody who only empties the ring.
pub(crate) fn is_passing(word: u64) -> bool {
    word & PASSING != 0
}

/// Whether the consumer's word says open.
#[inline]
pub(crate) fn is_open(word: u64) -> bool {
    word & OPEN != 0
}

#[cfg(all(test, not(any(loom, forebay_model))))]
mod tests {
    use super::*;

    #[test]
    fn who_sleeps_is_seen_with_either_barrier_and_nobody_else() {
        let owner = Owner::from_bits(0x103);
        let named = u64::from(owner.bits()) | OPEN;
        for watch in [Light::Compiler, Light::Fence].map(Watch::with) {
            let whom = |word| watch.sleeper(&AtomicU64::new(word));
            assert_eq!(whom(named | SLEEPING), owner.slot());
            // Awake, an end given back, and bits that nobody sets.
            for awake in [named, 0, named | SLEEPING << 1] {
                assert_eq!(whom(awake), None, "{awake:#x}");
            }
            assert_eq!(whom(named | SLEEPING | SLEEPING << 1), owner.slot());
        }
        assert!(owner.slot().is_some());
    }
}
