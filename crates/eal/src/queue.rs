//! What the group knows of one queue of a port: who drives it, and how far it came.
//!
//! Records lie in a zone that `ethdev` reserves for each port. A device keeps no record for us of what we were about to do, so
//! this one does: a successor goes on from here.
//!
//! ```text
//! line 0 | owner kind intent producer block packet offset state wanted renewed missed spare |
//! line 1 | counters                                                            |
//! ```
//!
//! | part     | written by                                                            | read by                       |
//! |----------|-----------------------------------------------------------------------|-------------------------------|
//! | owner    | by compare-and-swap: from nobody, or from a dead owner; its owner, to give it back | everybody        |
//! | wanted   | by compare-and-swap: who waits for a queue that a stand-in drives; it, to take that back | the stand-in, each burst |
//! | renewed  | the primary, while nobody drives the queue; the owner, back to 0 | the owner |
//! | the rest | the owner                                                             | its successor, the sweep, tools |
//!
//! **If a process dies:** the owner word still names it, and its slot's lock byte is free, so anybody can tell. The *intent* is
//! written before frames are tagged as the queue's and equals the producer position whenever no hand-over is half done: where the
//! two differ, the frames between them were tagged and not published, and the sweep takes them back. Cursors are stored after the
//! packets they pass were taken, so a successor sees a packet twice rather than never.

use crate::counters::Counter;
use crate::sync::AtomicU32;

/// One queue of a port. 128 bytes: the owner's words, then its counters.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct QueueRecord {
    /// Who drives the queue: the bits of an [`Owner`](crate::process::Owner).
    pub owner: AtomicU32,
    /// Which direction and device, as `ethdev` numbers them.
    pub kind: AtomicU32,
    /// Where the producer position will be once the hand-over under way is published.
    pub intent: AtomicU32,
    /// Producer position, for devices whose ring does not keep it.
    pub producer: AtomicU32,
    /// TPACKET: block to read next.
    pub block: AtomicU32,
    /// TPACKET: packets of that block already taken.
    pub packet: AtomicU32,
    /// TPACKET: where in the block the next packet starts.
    pub offset: AtomicU32,
    /// Whether the queue is set up and started, as `ethdev` numbers it.
    pub state: AtomicU32,
    /// Who waits for the owner to let go of the queue: the bits of an [`Owner`](crate::process::Owner), looked at by an owner that
    /// only stands in for the absent. A word that names the dead means nothing.
    pub wanted: AtomicU32,
    /// Of a device that works on our frames: whether the socket is new, so that no device has what is tagged as the queue's. Set
    /// by the primary before anybody drives the queue.
    pub renewed: AtomicU32,
    /// Of the same: what the kernel had dropped when it was last asked, modulo 2^32.
    pub missed: AtomicU32,
    /// For later.
    pub spare: [AtomicU32; 5],
    /// What the owner counts.
    pub counters: QueueCounters,
}

/// What the owner of a queue counts.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct QueueCounters {
    /// Packets received or sent.
    pub packets: Counter,
    /// Their bytes.
    pub bytes: Counter,
    /// Packets as the wire has them: a large frame to be segmented counts for each segment.
    pub segments: Counter,
    /// Packets dropped here, by us.
    pub drops: Counter,
    /// Packets that the device or the kernel dropped for want of room.
    pub missed: Counter,
    /// Packets that were refused as malformed, or failed to be sent.
    pub errors: Counter,
    /// For later.
    pub spare: [Counter; 2],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<QueueRecord>() == 128 && size_of::<QueueCounters>() == 64);
