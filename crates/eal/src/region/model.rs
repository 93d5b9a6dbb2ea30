//! What the crash model needs of a region and nobody else: its words, and a death.

use std::sync::{PoisonError, TryLockError};

use super::Region;
use crate::process::SlotId;
use crate::sync::AtomicU32;

impl Region {
    /// All words of the data part.
    pub fn data_words(&self) -> &[AtomicU32] {
        self.data
            .window()
            .slice(0, self.data.len() / size_of::<u32>())
            .unwrap_or(&[])
    }

    /// All words of the control part.
    pub fn control_words(&self) -> &[AtomicU32] {
        self.control
            .window()
            .slice(0, self.control.len() / size_of::<u32>())
            .unwrap_or(&[])
    }

    /// Lets go of the bytes of all slots, and knows of none any more, as if the process had ended and another had mapped the
    /// region in the same place.
    pub fn forget_slots(&self) {
        *self.mine.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        if let Some(files) = &self.files {
            files.lock.let_go_of_slots();
        }
    }

    /// Whether this process has the slot. While it is about to take one, it has none.
    pub fn holds(&self, slot: SlotId) -> bool {
        let mine = match self.mine.try_lock() {
            Ok(mine) => *mine,
            Err(TryLockError::Poisoned(mine)) => *mine.into_inner(),
            Err(TryLockError::WouldBlock) => 0,
        };
        mine & (1 << slot.get()) != 0
    }

    /// Lets another be the primary, and stays able to be it: the model runs only one of the two at a time.
    pub fn let_go_of_primary(&self) {
        if let Some(files) = &self.files {
            files.lock.let_go_of_primary();
        }
    }
}
