//! The region: the memory that the processes of a group share.
//!
//! ```text
//! control | header | zone table | ports | configuration | redirection tables |   the primary writes, others map it read-only
//! data    | process table | zone | zone | ... free |                             everybody writes
//! ```
//!
//! It lies at another address in each process, so what crosses processes are offsets and indices.
//!
//! | part    | written by                                | read by   |
//! |---------|-------------------------------------------|-----------|
//! | control | the primary (see `header`, `table`)       | everybody |
//! | data    | as each structure in it says              | everybody |
//!
//! **If a process dies:** the region outlives it. What each structure is then like, its own documentation says; who is dead, the
//! process table and the group's lock say ([`process`](crate::process)).

use std::sync::{Mutex, PoisonError};

pub(crate) mod header;
mod mapping;
pub(crate) mod table;

use header::Control;
use mapping::Mapping;
use table::{Entry, NoPlace};

pub use table::ZONES_MAX;

use crate::error::Error;
use crate::lock::Places;
use crate::ports::PortRecord;
use crate::process::{Owner, ProcType, SLOTS_MAX, SlotRecord, SlotState};
use crate::sync::{AtomicU16, AtomicU64};
use crate::zone::{Zone, ZoneKind, ZoneName};

/// Where zones start: behind the process table.
const ZONES_START: usize = SLOTS_MAX * size_of::<SlotRecord>();

/// The memory that the processes of a group share, as this process maps it.
#[derive(Debug)]
pub struct Region {
    control: Mapping,
    data: Mapping,
    /// Bytes of the data part, as checked when it was mapped.
    data_len: u64,
    proc_type: ProcType,
    /// Slots of this process, a bit each; also keeps its threads apart while they take and give back.
    mine: Mutex<u64>,
    /// Keeps the threads of the primary apart while they reserve.
    reserving: Mutex<()>,
}

impl Region {
    /// A region that nobody else sees, of `data_len` bytes for zones and the process table: for one process alone, and for tests.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] when there is not so much.
    pub fn anonymous(data_len: usize) -> Result<Self, Error> {
        let private = |len| Mapping::private(len).map_err(|source| Error::Memory { len, source });
        let control = private(size_of::<Control>())?;
        let data = private(data_len.max(ZONES_START))?;
        let data_len = data.len() as u64;
        // A build for loom stops here.
        control.window().slice::<Control>(0, 1)?;
        data.window().slice::<SlotRecord>(0, SLOTS_MAX)?;
        let region = Self {
            control,
            data,
            data_len,
            proc_type: ProcType::Primary,
            mine: Mutex::new(0),
            reserving: Mutex::new(()),
        };
        region.control().header.announce(region.data_len);
        Ok(region)
    }

    /// Whether this process is the group's primary: may it write the control part?
    pub fn is_primary(&self) -> bool {
        self.proc_type == ProcType::Primary
    }

    /// The role of this process.
    pub fn proc_type(&self) -> ProcType {
        self.proc_type
    }

    fn control(&self) -> &Control {
        let control = self
            .control
            .window()
            .slice(0, 1)
            .expect("checked when the region was mapped");
        &control[0]
    }

    /// Reserves a zone of `len` zero bytes, aligned to `align` (at least a cache line, at most a page), on a NUMA node if one is named.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], a name that is taken or may not be one, no room ([`Error::Full`] says what would do), no such node.
    pub fn reserve(
        &self,
        kind: ZoneKind,
        name: &str,
        len: usize,
        align: usize,
        node: Option<u32>,
    ) -> Result<Zone<'_>, Error> {
        if !self.is_primary() {
            return Err(Error::NotPrimary {
                what: "reserve memory",
            });
        }
        let name = ZoneName::new(name)?;
        let alignment = table::alignment(align)
            .filter(|_| len > 0)
            .ok_or(Error::ZoneShape { len, align })?;
        let node = self.node(node)?;
        let _one_at_a_time = self
            .reserving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (records, first) = (&self.control().zones, ZONES_START as u64);
        let place = table::place(
            records,
            (kind, name),
            (len as u64, alignment),
            (first, self.data_len),
        )
        .map_err(|why| self.no_place(why, (kind, name), len))?;
        let entry = Entry {
            kind,
            name,
            offset: place.offset,
            len: len as u64,
            node,
        };
        let zone = Zone::in_data(self.data.window(), entry)
            .expect("the place found lies in the data part");
        place.announce(&entry);
        Ok(zone)
    }

    fn no_place(&self, why: NoPlace, (kind, name): (ZoneKind, ZoneName), len: usize) -> Error {
        const MEGABYTE: u64 = 1 << 20;
        let (asked, total, name) = (len as u64, self.data_len, name.to_string());
        match why {
            NoPlace::Taken => Error::NameTaken { kind, name },
            NoPlace::NoRecord => Error::NoRecord {
                kind,
                name,
                max: ZONES_MAX,
            },
            NoPlace::Full { free } => {
                let suggested_mb = total
                    .saturating_add(asked - free.min(asked))
                    .div_ceil(MEGABYTE);
                Error::Full {
                    kind,
                    name,
                    asked,
                    free,
                    total,
                    suggested_mb,
                }
            }
        }
    }

    fn node(&self, node: Option<u32>) -> Result<u32, Error> {
        match node {
            None | Some(0) => Ok(0),
            Some(node) => Err(Error::NoNode {
                node,
                nodes: vec![0],
            }),
        }
    }

    /// Finds a zone.
    ///
    /// # Errors
    ///
    /// [`Error::NoZone`] names it.
    pub fn lookup(&self, kind: ZoneKind, name: &str) -> Result<Zone<'_>, Error> {
        let is_it = |zone: &Zone<'_>| zone.kind() == kind && zone.name().as_str() == name;
        self.zones().find(is_it).ok_or_else(|| Error::NoZone {
            kind,
            name: name.to_owned(),
        })
    }

    /// All zones whose records are sound.
    pub fn zones(&self) -> impl Iterator<Item = Zone<'_>> {
        let entries = self
            .control()
            .zones
            .iter()
            .filter_map(|record| record.read(ZONES_START as u64, self.data_len));
        entries.filter_map(|entry| Zone::in_data(self.data.window(), entry))
    }

    /// Bytes that no zone has.
    pub fn free(&self) -> u64 {
        table::free(&self.control().zones, ZONES_START as u64, self.data_len)
    }

    /// The process table: [`SLOTS_MAX`] records.
    pub fn slots(&self) -> &[SlotRecord] {
        self.data
            .window()
            .slice(0, SLOTS_MAX)
            .expect("checked when the region was mapped")
    }

    /// The port table: [`PORTS_MAX`](crate::ports::PORTS_MAX) records. Only the primary may store into them.
    pub fn port_records(&self) -> &[PortRecord] {
        &self.control().ports
    }

    /// Words for the configuration of the group. Only the primary may store into them.
    pub fn config_words(&self) -> &[AtomicU64] {
        &self.control().config
    }

    /// The redirection table of a port, empty if there is no such port. Only the primary may store into it.
    pub fn reta(&self, port: usize) -> &[AtomicU16] {
        self.control().reta.get(port).map_or(&[], |reta| reta)
    }

    /// Whether the owner is alive: its slot is LIVE in its generation and its process holds the slot's lock byte.
    pub fn owner_alive(&self, owner: Owner) -> bool {
        let Some(slot) = owner.slot() else {
            return false;
        };
        self.slots()[slot.index()].state() == (SlotState::Live, owner.generation())
    }

    /// The slots of this process, locked against its other threads.
    pub(crate) fn places(&self) -> Result<Places<'_>, Error> {
        Ok(Places::new(
            self.mine.lock().unwrap_or_else(PoisonError::into_inner),
        ))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
