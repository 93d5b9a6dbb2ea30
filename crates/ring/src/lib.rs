//! Lock-free rings of 32-bit indices in memory that processes share.
//!
//! | ring        | made with                       | take it when                              |
//! |-------------|---------------------------------|-------------------------------------------|
//! | one to one  | `Flags::SP_ENQ \| Flags::SC_DEQ` | one thread sends and one receives         |
//! | [fan-in](#fan-in) | `Flags::SC_DEQ`, or [`Ring::create_fan_in`] | many send to one: each has a lane of its own |
//! | [many to many](#many-to-many) | `Flags::NONE`, `Flags::SP_ENQ` | several share the work of emptying one ring |
//!
//! The first two are the fast ones, and what the data path is made of. A ring holds a power of two of items, or any number with
//! [`Flags::EXACT_SZ`].
//!
//! The primary creates a ring, the others look it up. Whoever enqueues or dequeues claims that
//! end with the [`Owner`](eal::Owner) word of its slot, and has it until it drops the end or dies. A ring
//! whose consumers are gone is closed: it takes nothing, and the producer drops and counts.
//!
//! ```
//! use eal::{Region, Slot};
//! use forebay_ring::{Flags, Ring};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let region: &'static Region = Box::leak(Box::new(Region::anonymous(1 << 20)?));
//! let (sender, receiver) = (Slot::claim(region, "sender")?, Slot::claim(region, "receiver")?);
//!
//! let ring = Ring::create(region, "MProc_Client_0_RX", 128, None, Flags::SP_ENQ | Flags::SC_DEQ)?;
//! let mut consumer = ring.consumer(receiver.owner())?;
//! let mut producer = ring.producer(sender.owner())?;
//!
//! assert_eq!(producer.enqueue_burst(&[1, 2, 3]).count, 3);
//! let mut out = [0; 32];
//! assert_eq!(consumer.dequeue_burst(&mut out).count, 3);
//! assert_eq!(out[..3], [1, 2, 3]);
//! # Ok(())
//! # }
//! ```
//!
//! Modules, in reading order: `sync` (atomics and their orderings), `slots` (items, two to a
//! word), `spsc` (one lane), `fanin` (many lanes), `mpmc` (one array for all), `claim` (who holds an end), `gauge` (high-water mark and
//! watermark), `layout` (where it all lies), `parts` (its words), `ring`, `producer`, `consumer` (names and ends).
//!
//! # Fan-in
//!
//! Slot `i` of the process table sends by lane `i`, so no producer waits for another and a dead one can
//! spoil only its own lane. Items of one lane keep their order; lanes are served in turn.
//!
//! The limit over all lanes is soft. A producer looks at the other lanes only when the credit it took at its last look is
//! used up, and a credit is at most `C = max(32, limit / lanes, its burst)` and never more than was free. So with `P`
//! producers at work at most `limit + (P - 1) * C` items wait, and no lane ever holds more than its size.
//!
//! # Many to many
//!
//! Every slot of the process table has a producing and a consuming end (with `SP_ENQ` there is one producing end for all). Each
//! item costs one compare-and-swap to put in and one to take out, and keeps to no order but that of the ring: one producer's
//! items are taken in their order, by whoever comes. An end that dies or stops anywhere holds nobody up. All-or-none bulks
//! are refused ([`NoBulk`]): a kill could cut them in two.

#![forbid(unsafe_code)]

mod claim;
mod consumer;
mod error;
mod fanin;
mod flags;
mod gauge;
mod layout;
#[cfg(all(test, loom))]
mod loom;
mod mpmc;
mod parts;
mod producer;
mod ring;
mod slots;
mod spsc;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

pub use consumer::{Consumer, Dequeued};
pub use error::{Error, Full, NoBulk};
pub use flags::Flags;
pub use layout::{LAYOUT, RING_SIZE_MAX};
pub use mpmc::LeftClaim;
pub use producer::{Enqueued, Producer};
pub use ring::{FanInConfig, Ring};
