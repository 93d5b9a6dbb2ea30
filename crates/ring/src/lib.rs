//! Lock-free rings of 32-bit indices in memory that processes share.
//!
//! | ring        | made with                       | take it when                              |
//! |-------------|---------------------------------|-------------------------------------------|
//! | one to one  | `Flags::SP_ENQ \| Flags::SC_DEQ` | one thread sends and one receives         |
//! | [fan-in](#fan-in) | `Flags::SC_DEQ`, or [`Ring::create_fan_in`] | many send to one: each has a lane of its own |
//!
//! Rings with many consumers come with a later release; until then [`Ring::create`] refuses
//! their flags.
//!
//! The primary creates a ring, the others look it up. Whoever enqueues or dequeues claims that
//! end with the [`Owner`](eal::Owner) word of its slot, and has it until it drops the end or dies. A ring
//! whose consumer is gone is closed: it takes nothing, and the producer drops and counts.
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
//! word), `spsc` (one lane), `fanin` (many lanes), `claim` (who holds an end), `gauge` (high-water mark and
//! watermark), `layout` (where it all lies), `ring`, `producer`, `consumer` (names and ends).
//!
//! # Fan-in
//!
//! Slot `i` of the process table sends by lane `i`, so no producer waits for another and a dead one can
//! spoil only its own lane. Items of one lane keep their order; lanes are served in turn.
//!
//! The limit over all lanes is soft. A producer looks at the other lanes only when the credit it took at its last look is
//! used up, and a credit is at most `C = max(32, limit / lanes, its burst)` and never more than was free. So with `P`
//! producers at work at most `limit + (P - 1) * C` items wait, and no lane ever holds more than its size.

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
mod producer;
mod ring;
mod slots;
mod spsc;
mod sync;
#[cfg(all(test, not(loom)))]
mod tests;

pub use consumer::{Consumer, Dequeued};
pub use error::{Error, Full};
pub use flags::Flags;
pub use layout::{LAYOUT, RING_SIZE_MAX};
pub use producer::{Enqueued, Producer};
pub use ring::{FanInConfig, Ring};
