//! What can go wrong with a ring before the first item moves.

use crate::layout::RING_SIZE_MAX;
use eal::{SLOTS_MAX, SlotId};

/// Why a ring could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No ring has such a size.
    #[error(
        "ring {name:?} cannot have {size} slots; give a power of two from 2 to {RING_SIZE_MAX}, such as {nearest}, or EXACT_SZ for any size from 1 on"
    )]
    Size {
        /// The ring.
        name: String,
        /// What was asked for.
        size: u32,
        /// A size that would do.
        nearest: u32,
    },
    /// No ring has so many lanes.
    #[error(
        "ring {name:?} cannot have {lanes} lanes; give one for each slot that sends, from 1 to {SLOTS_MAX}"
    )]
    Lanes {
        /// The ring.
        name: String,
        /// What was asked for.
        lanes: u32,
    },
    /// A limit that lets nothing through.
    #[error(
        "ring {name:?} cannot have a limit of 0; give the number of items that all lanes together may hold"
    )]
    Limit {
        /// The ring.
        name: String,
    },
    /// Somebody empties it after its last consumer, and does not get on.
    #[error(
        "ring {name:?} is being emptied after its last consumer by slot {slot} (process {pid}), and that takes long; try again, and see whether that process is stopped"
    )]
    Emptied {
        /// The ring.
        name: String,
        /// Who empties it.
        slot: SlotId,
        /// Its process.
        pid: u32,
    },
    /// The ring is there and is another.
    #[error(
        "ring {name:?} exists with {theirs}, and {ours} was asked for; ask for the same, or take another name"
    )]
    Differs {
        /// The ring.
        name: String,
        /// What it is.
        theirs: String,
        /// What was asked for.
        ours: String,
    },
    /// Its creator has not finished, and may never.
    #[error(
        "ring {name:?} is not finished; try again, and if that does not help, its creator died: start the primary again"
    )]
    Unfinished {
        /// The ring.
        name: String,
    },
    /// Another build made it.
    #[error(
        "ring {name:?} has layout {theirs:#018x}, this build expects {ours:#018x}; run all processes from one release, or take another --file-prefix"
    )]
    Layout {
        /// The ring.
        name: String,
        /// What this build knows.
        ours: u64,
        /// What stands in the ring.
        theirs: u64,
    },
    /// Something scribbled over it.
    #[error(
        "ring {name:?} is damaged: {what}; stop the group, run `forebay clean` and start it again"
    )]
    Damaged {
        /// The ring.
        name: String,
        /// What cannot be.
        what: String,
    },
    /// Somebody living has that end.
    #[error(
        "the {end} of ring {name:?} is held by slot {slot} (process {pid}); stop that process, or use another ring"
    )]
    Taken {
        /// The ring.
        name: String,
        /// `producer` or `consumer`.
        end: &'static str,
        /// Who holds it.
        slot: SlotId,
        /// That slot's process, as it says itself.
        pid: u32,
    },
    /// The slot has no lane in this ring.
    #[error("ring {name:?} has lanes for slots 0 to {}, and this is slot {slot}; create the ring with more lanes", lanes - 1)]
    NoLane {
        /// The ring.
        name: String,
        /// Who wanted one.
        slot: SlotId,
        /// How many there are.
        lanes: u32,
    },
    /// Nobody cannot hold an end.
    #[error("an end of ring {name:?} needs an owner; claim a slot first")]
    Nobody {
        /// The ring.
        name: String,
    },
    /// The environment refused.
    #[error(transparent)]
    Eal(#[from] eal::Error),
}

/// The item was not taken: the ring is full, or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring is full or closed; keep the item or drop and count it")]
pub struct Full;

/// All or none of several items cannot be moved through a ring with many consumers.
///
/// Its items go one by one, and a process killed among them would leave a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a ring with many consumers (MPMC) moves no bulks, since a kill could cut one in two; use enqueue_burst and dequeue_burst, or create the ring with SC_DEQ"
)]
pub struct NoBulk;
