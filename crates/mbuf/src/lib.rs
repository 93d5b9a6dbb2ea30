//! Packet buffers and their pools, shared by processes that may die at any instruction.
//!
//! An mbuf is a frame and a line of facts about it. It is always in at least one place: tagged with who has it in hand, listed in
//! a magazine of its pool, or in a ring. Taking it tags it first and removes it from the old place afterwards; giving it
//! lists it in the new place first. Whoever is killed in between leaves it in one place or in two, never in none.
//!
//! Read the modules in this order; none names what a later one explains.
//!
//! | module | what it is |
//! |---|---|
//! | `sync` | the atomics, and the orderings that carry the promises |
//! | [`index`] | the name of an mbuf in all processes |
//! | [`tag`] | whose each mbuf is |
//! | [`meta`] | what the group knows of one mbuf besides |
//! | [`magazine`] | buffers change hands by the magazine between pool and slot |
//! | [`shape`] | what a pool is made of: the sizing formula |
//! | [`pool`] | a pool of buffers in a zone |
//! | `cache` | the two magazines that a slot has of a pool |
//! | [`lcore`] | a data-path thread's context |
//! | [`flags`] | what is known of a packet and wanted for it |
//! | [`mbuf`] | one owned buffer; drop gives it back |
//! | `chain`, `clone` | several segments; the same packet twice |
//! | [`burst`] | up to 32 buffers, the unit of every call on the data path |
//! | [`handoff`] | packets from slot to slot by a ring |
//! | [`frames`] | what lies in a device |
//! | [`sweep`](mod@sweep) | after a death: what the dead held is given back |
//! | [`verify`] | a region that was left by a dead primary is looked at before it is used |
//! | [`checksum`] | completes what a sender left to the device |
//!
//! ```
//! use eal::{Region, Slot};
//! use mbuf::{Burst, Lcore, Pool, PoolConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let region: &'static Region = Box::leak(Box::new(Region::anonymous(1 << 20)?));
//! let pool = Pool::create(region, &PoolConfig::new("packets", 64))?;
//! let lcore = Lcore::new(Slot::claim(region, "example")?);
//!
//! let mut packet = lcore.mbuf_from(pool, b"payload").ok_or("the pool is empty")?;
//! packet.prepend(4).ok_or("no headroom")?.copy_from_slice(b"head");
//! assert_eq!(packet.data(), b"headpayload");
//!
//! let mut burst = Burst::new(&lcore);
//! assert_eq!(lcore.alloc_burst(pool, &mut burst, 32), 32);
//! assert_eq!(pool.in_use(), 33);
//! drop((packet, burst));
//! assert_eq!(pool.in_use(), 0);
//! # Ok(())
//! # }
//! ```

#![deny(unsafe_code)]

mod brief;
pub mod burst;
mod cache;
mod chain;
pub mod checksum;
mod clone;
pub mod error;
pub mod flags;
pub mod frames;
pub mod handoff;
pub mod index;
pub mod lcore;
#[cfg(all(test, loom))]
mod loom;
pub mod magazine;
#[allow(
    unsafe_code,
    reason = "hands out the bytes of frames, which in a group that keeps the protocol one mbuf alone leads to"
)]
pub mod mbuf;
pub mod meta;
#[allow(
    unsafe_code,
    reason = "finds the frames in the zone, and vouches for what is shared"
)]
pub mod pool;
pub mod shape;
pub mod sweep;
mod sync;
pub mod tag;
#[cfg(all(test, not(loom)))]
mod tests;
pub mod verify;

pub use burst::{Burst, MbufMut, MbufRef, Run, Totals};
pub use checksum::ChecksumError;
pub use error::{BadIndex, Error};
pub use flags::{OffloadFlags, TxOffload};
pub use handoff::{MbufConsumer, MbufProducer};
pub use index::{MbufIndex, POOL_COUNT_MAX, POOLS_MAX};
pub use lcore::Lcore;
pub use magazine::MAGAZINE_LEN;
pub use mbuf::{Look, Mbuf, Opened};
pub use meta::PORT_NONE;
pub use pool::{LAYOUT, Pool};
pub use shape::{DATA_ROOM, HEADROOM, PoolConfig};
pub use sweep::{Report, sweep};

/// Most mbufs in a burst: what fits the reorder buffers of today's cores and half a magazine.
pub const BURST_MAX: usize = 32;

/// Most segments of a packet: a 64 KiB packet in frames of 1 KiB. Chains are followed so far and no farther.
pub const SEGMENTS_MAX: usize = 64;
