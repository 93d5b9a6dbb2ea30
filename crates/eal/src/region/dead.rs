//! The slots of the dead: found by their locks, claimed to be swept, given back free.
//!
//! ```text
//! LIVE, byte free ----claim_dead----> SWEEPING ----finish----> FREE
//! LIVE, proven dead --^    SWEEPING --^   (left by a primary that died in its sweep)
//! FREE, asked for ----^
//! ```
//!
//! | word          | written by                                                        |
//! |---------------|-------------------------------------------------------------------|
//! | state of slot | here, by compare-and-swap from the very word that was judged        |
//! | `sweeping`    | the primary's own memory: one of its threads sweeps at a time       |
//! | `proven`      | the primary's own memory: a pidfd told of deaths that no lock shows |
//!
//! The state is read before the lock: whoever took the slot meanwhile has changed its generation, so that the compare-and-swap
//! fails. A lock byte need not be taken for that, only found free.
//!
//! **If a process dies:** a primary that dies with slots SWEEPING leaves them so; nobody takes such a slot, and the next primary
//! claims it as dead and starts its sweep from the beginning, which is what every step of a sweep allows for.

use super::Region;
use crate::error::Error;
use crate::process::{Owner, SLOTS_MAX, SlotId, SlotSet, SlotState, read_state};
use crate::sync::mutated;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

impl Region {
    /// Slots whose occupants are dead, or are being swept: one look. A slot that cannot be asked after lives.
    pub fn dead_slots(&self) -> SlotSet {
        SlotId::all()
            .filter(|id| match self.slots()[id.index()].state() {
                (SlotState::Free, _) => false,
                (SlotState::Sweeping, _) => true,
                // The state was read before the lock is looked at: see the module.
                (SlotState::Live | SlotState::Invalid, generation) => {
                    !self.is_held(Owner::new(*id, generation))
                }
            })
            .collect()
    }

    /// Claims all dead slots to be swept, as one set; of `also` those that are FREE. For the primary. Another thread that
    /// sweeps is waited for: slots that are SWEEPING are this one's then.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`].
    pub fn claim_dead(&self, also: SlotSet) -> Result<DeadSlots<'_>, Error> {
        if !self.is_primary() {
            return Err(Error::NotPrimary {
                what: "sweep after the dead",
            });
        }
        let sweeping = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = SlotId::all()
            .filter(|id| {
                let record = &self.slots()[id.index()];
                let word = record.state_bits();
                match read_state(word) {
                    (SlotState::Sweeping, _) => true,
                    (SlotState::Free, _) => also.contains(*id) && record.start_sweep(word),
                    (SlotState::Live | SlotState::Invalid, generation) => {
                        !self.is_held(Owner::new(*id, generation)) && record.start_sweep(word)
                    }
                }
            })
            .take(if mutated("one dead slot after the other") {
                1
            } else {
                SLOTS_MAX
            })
            .collect();
        Ok(DeadSlots {
            region: self,
            slots,
            _sweeping: sweeping,
        })
    }

    /// Says that the occupant of a slot is dead although its lock byte is still held, by a child that it forked: a pidfd
    /// told. For the primary; the others go by the slot's state once it is swept.
    pub fn prove_dead(&self, owner: Owner) {
        if let Some(slot) = owner.slot() {
            // The generation with it: whoever takes the slot next is another owner.
            self.proven[slot.index()].store(owner.bits(), Ordering::Release);
        }
    }

    /// Lets go of a slot's lock byte and of nothing else, as the kernel does when its process dies. For tests, which cannot
    /// die as often as they would have to.
    #[doc(hidden)]
    pub fn abandon(&self, slot: SlotId) {
        if let Ok(mut places) = self.places("abandon a slot") {
            places.give_back(slot);
        }
    }

    /// Whether the owner's slot has its byte held by somebody, unless that owner is known to be dead.
    pub(super) fn is_held(&self, owner: Owner) -> bool {
        let Some(slot) = owner.slot() else {
            return false;
        };
        if self.proven[slot.index()].load(Ordering::Acquire) == owner.bits() {
            return false;
        }
        let mine = *self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        mine & (1 << slot.get()) != 0
            || self
                .files
                .as_ref()
                .is_some_and(|files| files.lock.has_slot(slot))
    }
}

/// Slots that are SWEEPING, all of them in the hands of this primary. Dropped without [`finish`](Self::finish) they stay so.
#[derive(Debug)]
#[must_use = "slots stay SWEEPING until `finish`"]
pub struct DeadSlots<'r> {
    region: &'r Region,
    slots: SlotSet,
    /// Keeps the other threads of the primary from sweeping what is swept now.
    _sweeping: MutexGuard<'r, ()>,
}

impl DeadSlots<'_> {
    /// Which slots.
    pub fn slots(&self) -> SlotSet {
        self.slots
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the slot is one of them.
    pub fn contains(&self, slot: SlotId) -> bool {
        self.slots.contains(slot)
    }

    /// Whether an owner word names one of them, in whatever generation.
    pub fn owns(&self, owner: Owner) -> bool {
        owner.slot().is_some_and(|slot| self.contains(slot))
    }

    /// The sweep's last step: the slots are to be had again.
    pub fn finish(self) {
        for slot in self.slots.iter() {
            self.region.slots()[slot.index()].end_sweep();
        }
    }
}
