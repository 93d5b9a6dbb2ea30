//! Who holds an mbuf: the tag that every mbuf carries.
//!
//! The tag names the pool, a slot of the process table, or a queue of a port. It is what the sweep after a death goes by, so it
//! is written before a buffer changes its place (`mbuf` has the steps).
//!
//! ```text
//! bits   31..24   23..16   15..8   7..0
//! pool   0        0        0       0
//! slot   1        0        0       slot
//! queue  2        tx       port    queue
//! ```

use crate::process::SlotId;

const SLOT: u8 = 1;
const QUEUE: u8 = 2;

/// The tag of an mbuf, as it lies in shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct Holder(u32);

/// What a tag says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum HolderKind {
    /// It lies free in its pool.
    Pool,
    /// A slot has it in hand.
    Slot(SlotId),
    /// It was given to a queue of a port.
    Queue {
        /// Number of the port.
        port: u8,
        /// Number of the queue in its direction.
        queue: u8,
        /// A sending queue.
        tx: bool,
    },
    /// No tag of ours: the word was damaged.
    Invalid,
}

impl Holder {
    /// Free, in its pool.
    pub const POOL: Self = Self(0);

    /// In the hands of a slot.
    #[inline]
    pub const fn slot(slot: SlotId) -> Self {
        Self(u32::from_le_bytes([slot.get(), 0, 0, SLOT]))
    }

    /// Given to a queue of a port.
    #[inline]
    pub const fn queue(port: u8, queue: u8, tx: bool) -> Self {
        Self(u32::from_le_bytes([queue, port, tx as u8, QUEUE]))
    }

    /// The word that lies in shared memory.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// A word read from shared memory; [`kind`](Self::kind) says whether it means something.
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// What the tag says.
    #[inline]
    pub const fn kind(self) -> HolderKind {
        match self.0.to_le_bytes() {
            [0, 0, 0, 0] => HolderKind::Pool,
            [slot, 0, 0, SLOT] => match SlotId::new(slot) {
                Some(slot) => HolderKind::Slot(slot),
                None => HolderKind::Invalid,
            },
            [queue, port, tx @ 0..=1, QUEUE] => HolderKind::Queue {
                port,
                queue,
                tx: tx == 1,
            },
            _ => HolderKind::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::process::SLOTS_MAX;

    #[test]
    fn every_holder_reads_back_as_what_it_was_made_of() {
        assert_eq!(Holder::POOL.kind(), HolderKind::Pool);
        for slot in (0..SLOTS_MAX).filter_map(|slot| SlotId::new(u8::try_from(slot).ok()?)) {
            assert_eq!(Holder::slot(slot).kind(), HolderKind::Slot(slot));
        }
        for (port, queue, tx) in [
            (0, 0, false),
            (0, 0, true),
            (15, 63, true),
            (255, 255, false),
        ] {
            assert_eq!(
                Holder::queue(port, queue, tx).kind(),
                HolderKind::Queue { port, queue, tx }
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn damaged_word_is_invalid_or_stands_for_itself(bits: u32) {
            let holder = Holder::from_bits(bits);
            let again = match holder.kind() {
                HolderKind::Pool => Holder::POOL,
                HolderKind::Slot(slot) => Holder::slot(slot),
                HolderKind::Queue { port, queue, tx } => Holder::queue(port, queue, tx),
                HolderKind::Invalid => return Ok(()),
            };
            prop_assert_eq!(again.bits(), bits);
        }
    }
}
