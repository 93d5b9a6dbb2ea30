//! The environment: what the operating system gives a group of packet processes.
//!
//! One port, many processes: they share one region of memory, each has a slot in its process table, and any of them may die at
//! any time. This crate makes the region, says who is alive, and opens no packet.
//!
//! Read the modules in this order; none names what a later one explains.
//!
//! | module | what it is |
//! |---|---|
//! | [`sync`] | the atomics that shared memory is made of |
//! | [`counters`] | counters: one writer, many readers |
//! | [`text`] | short texts in shared memory |
//! | [`zone`] | named pieces of the region; `Shared`, the one door to shared bytes |
//! | [`barrier`] | between publishing and looking who sleeps |
//! | [`process`] | roles, slots, owners, who is alive |
//! | [`holder`] | the tag of an mbuf |
//! | [`ports`], [`queue`] | what the group knows of a port and of a queue |
//! | [`layout`] | version and hash of all that |
//! | [`directory`] | where the processes of a group find each other |
//! | [`numa`] | the NUMA nodes of this machine |
//! | [`hugepage`] | which pages the region gets |
//! | [`doorbell`] | what wakes the thread of a slot |
//! | [`region`] | the region itself: create, attach, reserve, look up |
//! | [`pages`] | what pages it really lies on, and where |
//! | [`sleep`] | how a thread sleeps and misses nothing |
//! | [`args`] | the command line: DPDK's EAL arguments |
//! | [`core`] | lcores, and the cpus they run on |
//! | [`launch`] | a function on each lcore |
//! | [`control`] | payloads and descriptors that the primary hands out |
//! | [`eal`] | all of it, assembled |
//! | [`error`] | what can go wrong |

#![deny(unsafe_code)]

pub mod args;
pub mod barrier;
pub mod control;
pub mod core;
pub mod counters;
pub mod directory;
pub mod doorbell;
pub mod eal;
pub mod error;
pub mod holder;
pub mod hugepage;
mod keeper;
pub mod launch;
pub mod layout;
mod lock;
pub mod numa;
pub mod pages;
pub mod ports;
pub mod process;
pub mod queue;
#[allow(
    unsafe_code,
    reason = "maps the shared region and vouches for what lies in it"
)]
pub mod region;
pub mod sleep;
pub mod sync;
#[allow(unsafe_code, reason = "every system call of the crate")]
mod sys;
pub mod text;
#[allow(unsafe_code, reason = "the one door to shared bytes")]
pub mod zone;

pub use self::core::{LCORES_MAX, LcoreId, LcoreMap};
pub use args::{ArgsError, EalArgs, HugeChoice, LogLevel, nearest};
pub use control::Deaths;
pub use counters::Counter;
pub use directory::Directory;
pub use doorbell::Doorbell;
pub use eal::Eal;
pub use error::Error;
pub use holder::{Holder, HolderKind};
pub use hugepage::Backing;
pub use launch::LcoreHandle;
pub use process::{Owner, ProcType, SLOTS_MAX, Slot, SlotId, SlotRecord, SlotSet, SlotState};
pub use region::{DeadSlots, Joined, Observer, Region, RegionConfig, RegionInfo, Section};
#[doc(hidden)]
pub use sys::child;
pub use zone::{Shared, Zone, ZoneError, ZoneKind, ZoneName};
