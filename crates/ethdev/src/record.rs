//! The record of a port: what every process of the group must know of it without asking.
//!
//! | part                                 | written by                   | read by                       |
//! |--------------------------------------|------------------------------|-------------------------------|
//! | name, driver, args, address, counts  | the primary, before `state`  | everybody, after `state`      |
//! | `state`                              | the primary, last            | everybody; a queue each burst |
//! | link, MTU, flags                     | the primary, at any time     | everybody                     |
//!
//! It lies in the control part of the region, which secondaries map read-only.
//!
//! **If a process dies:** secondaries write nothing here. When the primary dies the record stays as it is, and queues go on.
//! The next primary that names the same port *adopts* it while others use it: `state` stays what it is throughout, and the words
//! that may change are written one by one, each old or new. A port that nobody uses it writes anew, `state` first to absent and
//! then last. Promiscuous mode is written as off before the device is told so and as on after: what says on is on.

use eal::ports::PortRecord;
use eal::sync::{AtomicU32, Ordering};

use crate::args::DevArgs;
use crate::capabilities::Capabilities;
use crate::driver::{DeviceInfo, Direction, Link};
use crate::error::PortState;
use crate::mac::MacAddress;
use crate::rss::{KEY_LEN, RssKey};
use crate::table::QUEUES_MAX;

const PROMISCUOUS: u64 = 1;
const LINK_UP: u64 = 1;
const LINK_FULL_DUPLEX: u64 = 2;
const LINK_SPEED_SHIFT: u32 = 32;

const _: () = assert!(KEY_LEN == 5 * 8);

/// One port's record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record(pub(crate) &'static PortRecord);

impl Record {
    pub(crate) fn state(self) -> PortState {
        // Acquire: what was written of the port before is seen. Pairs with the Release in `set_state`.
        PortState::from_number(self.0.state.load(Ordering::Acquire))
    }

    /// The word that a queue looks at before each burst.
    pub(crate) fn state_word(self) -> &'static AtomicU32 {
        &self.0.state
    }

    /// What the user wrote when the port was opened.
    pub(crate) fn described(self) -> String {
        let (name, args) = (self.0.name.get(), self.0.args.get());
        if args.is_empty() {
            name
        } else {
            format!("{name},{args}")
        }
    }

    // Relaxed, here and below: single words, each old or new; `state` orders what must be whole.

    /// How often the port was opened anew.
    pub(crate) fn generation(self) -> u32 {
        self.0.generation.load(Ordering::Relaxed)
    }

    pub(crate) fn mac(self) -> MacAddress {
        MacAddress::from_word(self.0.mac.load(Ordering::Relaxed))
    }

    pub(crate) fn mtu(self) -> u16 {
        u16::try_from(self.0.mtu.load(Ordering::Relaxed)).unwrap_or(u16::MAX)
    }

    pub(crate) fn capabilities(self) -> Capabilities {
        Capabilities::from_word(self.0.capabilities.load(Ordering::Relaxed))
    }

    pub(crate) fn promiscuous(self) -> bool {
        self.0.flags.load(Ordering::Relaxed) & PROMISCUOUS != 0
    }

    pub(crate) fn link(self) -> Link {
        let word = self.0.link.load(Ordering::Relaxed);
        let speed = u32::try_from(word >> LINK_SPEED_SHIFT).unwrap_or(0);
        Link {
            up: word & LINK_UP != 0,
            speed_mbps: (speed != 0).then_some(speed),
            full_duplex: word & LINK_FULL_DUPLEX != 0,
        }
    }

    /// Queues configured in one direction, never more than a port has.
    pub(crate) fn queue_count(self, direction: Direction) -> u16 {
        let count = match direction {
            Direction::Rx => &self.0.rx_count,
            Direction::Tx => &self.0.tx_count,
        };
        let count = usize::try_from(count.load(Ordering::Relaxed)).unwrap_or(QUEUES_MAX);
        u16::try_from(count.min(QUEUES_MAX)).unwrap_or(0)
    }

    pub(crate) fn rss_key(self) -> RssKey {
        let mut key = [0; KEY_LEN];
        for (bytes, word) in key.as_chunks_mut::<8>().0.iter_mut().zip(&self.0.config) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        RssKey(key)
    }

    /// Writes what is fixed while a port is open. The primary calls [`set_state`](Self::set_state) afterwards.
    pub(crate) fn describe(self, args: &DevArgs, driver: &str) {
        // Release: nobody reads the old port's name under the new one's state. Pairs with the Acquire in `state`.
        self.0
            .state
            .store(PortState::Absent.number(), Ordering::Release);
        let generation = self.0.generation.load(Ordering::Relaxed);
        self.0
            .generation
            .store(generation.wrapping_add(1), Ordering::Relaxed);
        self.0.name.set(args.name());
        self.0.driver.set(driver);
        self.0.args.set(&args.tail());
        self.0.flags.store(0, Ordering::Relaxed);
        self.set_queue_counts(0, 0);
    }

    pub(crate) fn set_info(self, info: &DeviceInfo) {
        self.0.mtu.store(info.mtu.into(), Ordering::Relaxed);
        self.0.mac.store(info.mac.to_word(), Ordering::Relaxed);
        self.0.node.store(info.node.unwrap_or(0), Ordering::Relaxed);
        self.0
            .capabilities
            .store(info.capabilities.to_word(), Ordering::Relaxed);
        self.set_promiscuous(info.promiscuous);
    }

    pub(crate) fn set_queue_counts(self, rx: u16, tx: u16) {
        self.0.rx_count.store(rx.into(), Ordering::Relaxed);
        self.0.tx_count.store(tx.into(), Ordering::Relaxed);
    }

    pub(crate) fn set_rss_key(self, key: &RssKey) {
        for (bytes, word) in key.0.as_chunks::<8>().0.iter().zip(&self.0.config) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
    }

    pub(crate) fn set_link(self, link: Link) {
        let speed = u64::from(link.speed_mbps.unwrap_or(0)) << LINK_SPEED_SHIFT;
        let up = if link.up { LINK_UP } else { 0 };
        let duplex = if link.full_duplex {
            LINK_FULL_DUPLEX
        } else {
            0
        };
        self.0.link.store(speed | up | duplex, Ordering::Relaxed);
    }

    pub(crate) fn set_promiscuous(self, on: bool) {
        let others = self.0.flags.load(Ordering::Relaxed) & !PROMISCUOUS;
        self.0
            .flags
            .store(others | if on { PROMISCUOUS } else { 0 }, Ordering::Relaxed);
    }

    pub(crate) fn set_state(self, state: PortState) {
        // Release: the fields of the record and the set-up words of the queues are stored before. Pairs with the Acquire
        // in `state`.
        self.0.state.store(state.number(), Ordering::Release);
    }
}
