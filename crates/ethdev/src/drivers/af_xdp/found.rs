//! How an interface was before a port changed it: in the region, so that whoever comes next can put it back.
//!
//! ```text
//! words  | what  ifindex  mtu  promiscuous  entries | the indirection table, entry by entry |
//! ```
//!
//! | word | written by                                                    |
//! |------|---------------------------------------------------------------|
//! | all  | the primary; `what` after the rest, and to 0 once all is back |
//!
//! **If a process dies:** before `what` is written nothing was changed. After it the words say how it was, whether it was changed
//! or not: to put back what is there already does no harm. The next primary that opens the port anew puts it back, or
//! `forebay clean`. Program and sockets go by themselves with the last process that has them.

use std::os::fd::{AsFd, BorrowedFd};

use eal::sync::{AtomicU32, Ordering};
use eal::{Region, ZoneKind};
use rustix::net::netdevice::{index_to_name, name_to_index};

use crate::driver::PortId;
use crate::drivers::netdev;
use crate::error::Error;

/// Entries that an indirection table may have.
const ENTRIES_MAX: usize = 2048;
const HEAD: usize = 5;
const WORDS: usize = HEAD + ENTRIES_MAX;

const MTU: u32 = 1;
const PROMISCUOUS: u32 = 2;
const TABLE: u32 = 4;

/// The words of one port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found(&'static [AtomicU32]);

fn name(port: PortId) -> String {
    format!("port_{port}_found")
}

impl Found {
    /// Those of a port, made if there are none. For the primary.
    pub(super) fn reserve(region: &'static Region, port: PortId) -> Result<Self, Error> {
        match Self::lookup(region, port) {
            Err(Error::Eal(eal::Error::NoZone { .. })) => {
                let len = WORDS * size_of::<AtomicU32>();
                let zone = region.reserve(ZoneKind::Plain, &name(port), len, 64, None)?;
                Ok(Self(zone.slice(0, WORDS).map_err(eal::Error::from)?))
            }
            found => found,
        }
    }

    /// Those of a port that had some.
    pub(super) fn lookup(region: &'static Region, port: PortId) -> Result<Self, Error> {
        let zone = region.lookup(ZoneKind::Plain, &name(port))?;
        Ok(Self(zone.slice(0, WORDS).map_err(eal::Error::from)?))
    }

    fn has(self, what: u32) -> bool {
        self.0[0].load(Ordering::Acquire) & what != 0
    }

    fn note(self, what: u32) {
        let all = self.0[0].load(Ordering::Relaxed) | what;
        // Release: who sees the bit sees the words that it speaks of.
        self.0[0].store(all, Ordering::Release);
    }

    fn set(self, word: usize, value: u32) {
        self.0[word].store(value, Ordering::Relaxed);
    }

    fn word(self, word: usize) -> u32 {
        self.0[word].load(Ordering::Relaxed)
    }

    /// Notes the MTU before it is changed for the first time.
    pub(super) fn note_mtu(self, ifindex: u32, mtu: u32) {
        if !self.has(MTU) {
            self.set(1, ifindex);
            self.set(2, mtu);
            self.note(MTU);
        }
    }

    /// The same of promiscuous mode.
    pub(super) fn note_promiscuous(self, ifindex: u32, on: bool) {
        if !self.has(PROMISCUOUS) {
            self.set(1, ifindex);
            self.set(3, on.into());
            self.note(PROMISCUOUS);
        }
    }

    /// The same of the indirection table; `false` if it is longer than there is room for.
    pub(super) fn note_table(self, ifindex: u32, table: &[u32]) -> bool {
        if self.has(TABLE) {
            return true;
        }
        let fits = table.len() <= ENTRIES_MAX;
        if fits {
            self.set(1, ifindex);
            self.set(4, u32::try_from(table.len()).unwrap_or(0));
            for (word, entry) in self.0[HEAD..].iter().zip(table) {
                word.store(*entry, Ordering::Relaxed);
            }
            self.note(TABLE);
        }
        fits
    }

    /// Puts the interface back to how it was found, and forgets it. What was put back.
    pub(super) fn restore(self, control: BorrowedFd<'_>) -> Vec<String> {
        let done = self.put_back(control);
        self.set(0, 0);
        done
    }

    /// Puts the interface back. One that is gone, or another by now, is left alone.
    fn put_back(self, control: BorrowedFd<'_>) -> Vec<String> {
        let (what, ifindex) = (self.0[0].load(Ordering::Acquire), self.word(1));
        let Ok(interface) = index_to_name(control, ifindex) else {
            return Vec::new();
        };
        let mut done = Vec::new();
        let mut tell = |put: std::io::Result<()>, text: String| match put {
            Ok(()) => done.push(text),
            Err(error) => tracing::warn!("{interface}: cannot put back the {text}: {error}"),
        };
        if what & MTU != 0 {
            let mtu = u16::try_from(self.word(2)).unwrap_or(u16::MAX);
            let put = netdev::set_mtu(control, &interface, mtu);
            tell(put, format!("MTU of {interface}, {mtu}"));
        }
        if what & PROMISCUOUS != 0 && self.word(3) == 0 {
            let put = netdev::set_promiscuous(control, &interface, false);
            tell(put, format!("mode of {interface}, not promiscuous"));
        }
        if what & TABLE != 0 {
            let len = (self.word(4) as usize).min(ENTRIES_MAX);
            let table: Vec<u32> = (HEAD..HEAD + len).map(|word| self.word(word)).collect();
            let put = netdev::set_indirection(control, &interface, &table);
            tell(put, format!("indirection table of {interface}"));
        }
        done
    }
}

/// Puts back what ports of a group whose processes are all gone changed of interfaces in this network namespace. Only reads the region.
/// What was put back.
#[must_use]
pub fn restore_interfaces(region: &'static Region) -> Vec<String> {
    let Ok(control) = netdev::socket() else {
        return Vec::new();
    };
    let ports = (0..).map(PortId).take(eal::ports::PORTS_MAX);
    ports
        .filter_map(|port| Found::lookup(region, port).ok())
        .filter(|found| found.has(MTU | PROMISCUOUS | TABLE))
        .flat_map(|found| found.put_back(control.as_fd()))
        .collect()
}

/// The number of an interface, 0 if there is none of that name.
pub(super) fn index_of(control: BorrowedFd<'_>, interface: &str) -> u32 {
    name_to_index(control, interface).unwrap_or(0)
}
