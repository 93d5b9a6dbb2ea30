//! The table of ports: what every process of the group must know of a port without asking.
//!
//! ```text
//! record 0 | state generation counts mtu node mac capabilities link flags | name | driver | args | config | spare |
//! ...
//! record 15
//! ```
//!
//! The primary writes it, in the control part of the region, which others map read-only: a store from a secondary is a
//! segmentation fault, so only code that has checked [`Region::is_primary`](crate::region::Region::is_primary) may store. Readers
//! load `state` first, with acquire; the primary stores it last, with release.
//!
//! **If a process dies:** secondaries write nothing here. A primary that dies between the fields leaves a record whose state is
//! not yet announced, and its successor writes it anew; one that dies while it changes an announced record (MTU, link) leaves
//! single words, each old or new, which the successor compares with the device.

use crate::sync::{AtomicU32, AtomicU64};
use crate::text::Text;

/// Ports in a group. A bit mask of ports (`-p`) fits a word, and the table fits two pages.
pub const PORTS_MAX: usize = 16;
/// Queues of a port in one direction: one for each process.
pub const QUEUES_MAX: usize = 64;
/// Entries of a port's redirection table: what common devices have at most.
pub const RETA_LEN: usize = 512;

/// One port.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub struct PortRecord {
    /// Whether there is a port, and what it is doing, as `ethdev` numbers it. 0: no port.
    pub state: AtomicU32,
    /// Counts openings of this place: a reader that kept something of an earlier port can tell.
    pub generation: AtomicU32,
    /// Receive queues configured.
    pub rx_count: AtomicU32,
    /// Transmit queues configured.
    pub tx_count: AtomicU32,
    /// Largest packet without its Ethernet header.
    pub mtu: AtomicU32,
    /// NUMA node of the device.
    pub node: AtomicU32,
    /// Hardware address, first octet lowest.
    pub mac: AtomicU64,
    /// What the device can do, as `ethdev` numbers it.
    pub capabilities: AtomicU64,
    /// Link state and speed, as `ethdev` numbers it.
    pub link: AtomicU64,
    /// Promiscuous mode and the like, as `ethdev` numbers it.
    pub flags: AtomicU64,
    /// `net_af_packet0`
    pub name: Text<4>,
    /// `net_af_packet`
    pub driver: Text<3>,
    /// `iface=veth0,qpairs=2`
    pub args: Text<32>,
    /// What was configured, as `ethdev` numbers it.
    pub config: [AtomicU64; 8],
    /// For later.
    pub spare: [AtomicU64; 10],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<PortRecord>() == 512);
