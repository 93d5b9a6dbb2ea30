//! The region: the memory that the processes of a group share.
//!
//! ```text
//! control | header | zone table | ports | configuration | redirection tables |   the primary writes, others map it read-only
//! data    | process table | zone | zone | ... free |                             everybody writes
//! ```
//!
//! On machines with several NUMA nodes the data part may have a section for each (see `section`).
//!
//! It lies at another address in each process, so what crosses processes are offsets and indices.
//!
//! | part    | written by                                | read by   |
//! |---------|-------------------------------------------|-----------|
//! | control | the primary (see `header`, `table`)       | everybody |
//! | data    | as each structure in it says              | everybody |
//!
//! The files of a region are made under names that nobody looks for, reserved whole, filled, and then announced by one rename, in
//! the group's directory. Whoever maps a region holds a shared lock, and nobody creates or removes one before he holds it alone,
//! so what was mapped stays the group's.
//!
//! **If a process dies:** the region outlives it. What each structure is then like, its own documentation says; who is dead, the
//! process table and the group's lock say ([`process`](crate::process)).

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32 as LocalU32};
use std::sync::{Mutex, PoisonError};

mod attach;
mod create;
mod dead;
pub(crate) mod header;
mod join;
mod mapping;
#[cfg(forebay_model)]
mod model;
mod observer;
pub(crate) mod section;
pub(crate) mod table;

use header::{Control, Facts};
use mapping::Mapping;
use section::Sections;
use table::{Bounds, Entry, NoPlace};

pub use dead::DeadSlots;
pub use join::{Joined, RegionConfig};
pub use observer::Observer;
pub use section::{SECTIONS_MAX, Section};
pub use table::ZONES_MAX;

use crate::directory::{Directory, Record};
use crate::doorbell::Doorbells;
use crate::error::Error;
use crate::hugepage::Backing;
use crate::layout::PAGE;
use crate::lock::{Lock, Places};
use crate::numa;
use crate::pages::Pages;
use crate::ports::PortRecord;
use crate::process::{Owner, ProcType, SLOTS_MAX, SlotId, SlotRecord, SlotSet, SlotState};
use crate::sync::{AtomicU16, AtomicU64, Ordering};
use crate::zone::{Zone, ZoneKind, ZoneName};

/// Where zones start: behind the process table.
const ZONES_START: usize = SLOTS_MAX * size_of::<SlotRecord>();

/// The memory that the processes of a group share, as this process maps it.
#[derive(Debug)]
pub struct Region {
    control: Mapping,
    data: Mapping,
    /// What the header said when it was checked.
    facts: Facts,
    access: Access,
    /// Slots of this process, a bit each; also keeps its threads apart while they take and give back.
    mine: Mutex<u64>,
    /// By slot, the owner that is known to be dead although the byte is held. Of the primary.
    proven: [LocalU32; SLOTS_MAX],
    /// Keeps the threads of the primary apart while they sweep.
    sweeping: Mutex<()>,
    /// Keeps the threads of the primary apart while they reserve; taken before `mine`.
    reserving: Mutex<()>,
    /// Set when this process has left the group, and only looks from then on.
    left: AtomicBool,
    /// Those that this process rings.
    doorbells: Doorbells,
    /// A cpu on whose node zones lie rather than elsewhere.
    near_cpu: Option<u32>,
    /// None: private memory.
    files: Option<Files>,
}

/// What this process may do with a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Write both parts.
    Primary,
    /// Write the data part.
    Secondary,
    /// Look at both.
    Observer,
}

/// What of a region is not memory. Dropped after the mappings: the lock says that we map it.
#[derive(Debug)]
struct Files {
    directory: Directory,
    record: Record,
    lock: Lock,
}

/// What a region is, for those who ask.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegionInfo {
    /// The group; empty for private memory.
    pub prefix: String,
    /// The files of the control and of the data part.
    pub files: Option<(PathBuf, PathBuf)>,
    /// Bytes of the control part.
    pub control_len: u64,
    /// Bytes of the data part.
    pub data_len: u64,
    /// Bytes of it that no zone has.
    pub free: u64,
    /// Bytes of a page of the data part.
    pub page_size: u64,
    /// What the data part lies on.
    pub backing: Backing,
    /// Version and hash of the layout.
    pub layout: crate::error::Layout,
    /// Tells this region from another under the same name.
    pub nonce: u64,
    /// Unix time in seconds at which it was created.
    pub created: u64,
    /// How often a later primary has taken it over.
    pub adoptions: u32,
    /// The process id of the last primary, to be shown.
    pub primary_pid: u32,
    /// What the last primary called itself.
    pub primary_name: String,
    /// The main slot of the last primary.
    pub primary_owner: Owner,
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
        let facts = Facts {
            nonce: 0,
            data_len: data.len() as u64,
            page_size: PAGE as u64,
            created: 0,
            backing: Backing::Private,
            sections: Sections::one(0, data.len() as u64),
        };
        let region = Self::new(control, data, facts, Access::Primary, None)?;
        region
            .control()
            .header
            .announce(&facts, "", &std::process::id().to_string());
        Ok(region)
    }

    /// The parts of a region, put together. They are as long as the facts say.
    fn new(
        control: Mapping,
        data: Mapping,
        facts: Facts,
        access: Access,
        files: Option<Files>,
    ) -> Result<Self, Error> {
        // What the accessors rely on. A build for loom stops here.
        control.window().slice::<Control>(0, 1)?;
        data.window().slice::<SlotRecord>(0, SLOTS_MAX)?;
        Ok(Self {
            control,
            data,
            facts,
            access,
            mine: Mutex::new(0),
            proven: [const { LocalU32::new(0) }; SLOTS_MAX],
            sweeping: Mutex::new(()),
            reserving: Mutex::new(()),
            left: AtomicBool::new(false),
            doorbells: Doorbells::new(),
            near_cpu: None,
            files,
        })
    }

    /// Whether this process is the group's primary: may it write the control part?
    pub fn is_primary(&self) -> bool {
        self.access == Access::Primary && !self.has_left()
    }

    fn has_left(&self) -> bool {
        // Acquire: pairs with the Release in `leave`.
        self.left.load(std::sync::atomic::Ordering::Acquire)
    }

    /// The role of this process; [`ProcType::Invalid`] for one that only looks.
    pub fn proc_type(&self) -> ProcType {
        match self.access {
            Access::Primary => ProcType::Primary,
            Access::Secondary => ProcType::Secondary,
            Access::Observer => ProcType::Invalid,
        }
    }

    /// The directory of the group; `None` for private memory.
    pub fn directory(&self) -> Option<&Directory> {
        self.files.as_ref().map(|files| &files.directory)
    }

    fn control(&self) -> &Control {
        let control = self
            .control
            .window()
            .slice(0, 1)
            .expect("checked when the region was put together");
        &control[0]
    }

    /// Reserves a zone of `len` zero bytes, aligned to `align` (at least a cache line, at most a page).
    ///
    /// With a NUMA node it lies in that node's [section](Section), or is refused. Without one, which is DPDK's `SOCKET_ID_ANY`,
    /// it lies on the node of the main lcore if there is room, else on another.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], a name that is taken or may not be one, no room ([`Error::Full`] says what would do), no such node
    /// ([`Error::NoNode`]), no memory of the group there ([`Error::NoSection`]).
    pub fn reserve(
        &self,
        kind: ZoneKind,
        name: &str,
        len: usize,
        align: usize,
        node: Option<u32>,
    ) -> Result<Zone<'_>, Error> {
        let _one_at_a_time = self
            .reserving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Behind the mutex: who leaves takes it too, and the group may be another's at once.
        if !self.is_primary() {
            return Err(Error::NotPrimary {
                what: "reserve memory",
            });
        }
        let name = ZoneName::new(name)?;
        let alignment = table::alignment(align)
            .filter(|_| len > 0)
            .ok_or(Error::ZoneShape { len, align })?;
        let shape = (len as u64, alignment);
        let mut most_free = None;
        for section in self.sections_for(node)? {
            let bounds = self.bounds(&section);
            match table::place(&self.control().zones, (kind, name), shape, &bounds) {
                Ok(place) => {
                    let entry = Entry {
                        kind,
                        name,
                        offset: place.offset,
                        len: len as u64,
                        node: section.node,
                    };
                    let zone = Zone::in_data(self.data.window(), entry)
                        .expect("the place found lies in the data part");
                    place.announce(&entry);
                    return Ok(zone);
                }
                Err(NoPlace::Full { free }) => {
                    if most_free.is_none_or(|(most, _)| free > most) {
                        most_free = Some((free, section));
                    }
                }
                Err(NoPlace::Taken) => {
                    let name = name.to_string();
                    return Err(Error::NameTaken { kind, name });
                }
                Err(NoPlace::NoRecord) => {
                    let (name, max) = (name.to_string(), ZONES_MAX);
                    return Err(Error::NoRecord { kind, name, max });
                }
            }
        }
        let (free, section) = most_free.expect("a region has a section");
        let missing = shape.0.saturating_sub(free);
        // Of several, the one with the most room is told.
        let several = self.sections().len() > 1;
        Err(Error::Full {
            kind,
            name: name.to_string(),
            asked: shape.0,
            free,
            total: section.len,
            node: several.then_some(section.node),
            more: self.facts.sections.argument_for_more(&section, missing),
        })
    }

    /// The sections that a zone may lie in, best first.
    fn sections_for(&self, node: Option<u32>) -> Result<Vec<Section>, Error> {
        let sections = &self.facts.sections;
        let Some(node) = node else {
            // With one section there is nothing to choose.
            let near = self.near_cpu.filter(|_| self.sections().len() > 1);
            let near = near.and_then(numa::node_of_cpu);
            return Ok(sections.starting_with(near).copied().collect());
        };
        let of_node = sections
            .as_slice()
            .iter()
            .find(|section| section.node == node);
        if let Some(section) = of_node {
            return Ok(vec![*section]);
        }
        let nodes = numa::nodes();
        if !nodes.contains(&node) {
            return Err(Error::NoNode { node, nodes });
        }
        // Private memory lies where the kernel likes.
        if self.facts.backing == Backing::Private {
            let like = |section: &Section| Section { node, ..*section };
            return Ok(self.sections().iter().map(like).collect());
        }
        let nodes = self.sections().iter().map(|section| section.node);
        Err(Error::NoSection {
            node,
            nodes: nodes.collect(),
        })
    }

    /// The parts of the data part, one a NUMA node.
    pub fn sections(&self) -> &[Section] {
        self.facts.sections.as_slice()
    }

    /// Bytes of a section that no zone has.
    pub fn free_in(&self, section: &Section) -> u64 {
        table::free(&self.control().zones, &self.bounds(section))
    }

    fn bounds(&self, section: &Section) -> Bounds {
        let zones_start = ZONES_START as u64;
        Bounds {
            data_len: self.facts.data_len,
            zones_start,
            first: section.offset.max(zones_start),
            end: section.end(),
        }
    }

    /// Asks the kernel which pages the data part lies on, and where: now, and not when it was made.
    ///
    /// # Errors
    ///
    /// What keeps its pages from being looked at.
    pub fn pages(&self) -> Result<Pages, Error> {
        let len = self.data.len();
        let page = usize::try_from(self.facts.page_size).unwrap_or(PAGE);
        let file = self.files.as_ref().map(|files| files.record.data.clone());
        match (self.data.map(), file) {
            (Some(map), Some(file)) => {
                Pages::ask(map, len, (page, self.facts.backing)).map_err(|source| Error::Io {
                    what: "look at the pages of",
                    path: file,
                    source,
                })
            }
            _ => Ok(Pages::unknown(len as u64)),
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
        let entry =
            |record: &table::ZoneRecord| record.read(ZONES_START as u64, self.facts.data_len);
        self.control()
            .zones
            .iter()
            .filter_map(move |record| Zone::in_data(self.data.window(), entry(record)?))
    }

    /// The number of the first zone record that is announced and describes no zone: something scribbled over it.
    pub fn damaged_zone(&self) -> Option<usize> {
        let read =
            |record: &table::ZoneRecord| record.read(ZONES_START as u64, self.facts.data_len);
        let mut records = self.control().zones.iter();
        records.position(|record| record.is_ready() && read(record).is_none())
    }

    /// Bytes that no zone has.
    pub fn free(&self) -> u64 {
        let free = self.sections().iter().map(|section| self.free_in(section));
        free.sum()
    }

    /// The process table: [`SLOTS_MAX`] records.
    #[inline]
    pub fn slots(&self) -> &[SlotRecord] {
        self.data
            .window()
            .slice(0, SLOTS_MAX)
            .expect("checked when the region was put together")
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
        if self.slots()[slot.index()].state() != (SlotState::Live, owner.generation()) {
            return false;
        }
        // One that cannot be asked after lives: only a released lock proves death, or a pidfd.
        self.is_held(owner)
    }

    /// Whether the group has a primary that lives.
    pub fn primary_alive(&self) -> bool {
        self.is_primary()
            || self
                .files
                .as_ref()
                .is_some_and(|files| files.lock.has_primary())
    }

    /// Whether the group has another process that lives.
    pub fn has_others(&self) -> bool {
        self.files.as_ref().is_some_and(|files| {
            files.lock.has_others() || (!self.is_primary() && files.lock.has_primary())
        })
    }

    /// Says which slot is the primary's own. For the primary.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`].
    pub fn set_primary_owner(&self, owner: Owner) -> Result<(), Error> {
        if !self.is_primary() {
            return Err(Error::NotPrimary {
                what: "say which slot is the primary's",
            });
        }
        // Relaxed: to be shown; who asks whether it lives looks at the slot.
        self.control()
            .header
            .primary_owner
            .store(owner.bits(), Ordering::Relaxed);
        Ok(())
    }

    /// What the region is.
    pub fn info(&self) -> RegionInfo {
        let header = &self.control().header;
        RegionInfo {
            prefix: self
                .directory()
                .map_or_else(String::new, |directory| directory.prefix().to_owned()),
            files: self
                .files
                .as_ref()
                .map(|files| (files.record.control.clone(), files.record.data.clone())),
            control_len: self.control.len() as u64,
            data_len: self.facts.data_len,
            free: self.free(),
            page_size: self.facts.page_size,
            backing: self.facts.backing,
            layout: header::LAYOUT,
            nonce: self.facts.nonce,
            created: self.facts.created,
            // Relaxed, all of them: to be shown.
            adoptions: header.adoptions.load(Ordering::Relaxed),
            primary_pid: header.primary_pid.load(Ordering::Relaxed),
            primary_name: header.primary_name.get(),
            primary_owner: Owner::from_bits(header.primary_owner.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn doorbells(&self) -> &Doorbells {
        &self.doorbells
    }

    /// The slots of this process.
    pub fn own_slots(&self) -> SlotSet {
        let mine = *self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        SlotId::all()
            .filter(|slot| mine & (1 << slot.get()) != 0)
            .collect()
    }

    /// Whether this process may write the data part: not if it is a tool that only looks.
    pub fn is_writable(&self) -> bool {
        self.access != Access::Observer
    }

    /// The slots of this process, kept from its other threads.
    pub(crate) fn places(&self, what: &'static str) -> Result<Places<'_>, Error> {
        let mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        // Behind the mutex: who leaves takes it too, and lets go of all bytes.
        if self.access == Access::Observer || self.has_left() {
            return Err(Error::ReadOnly { what });
        }
        Ok(Places::new(
            mine,
            self.files.as_ref().map(|files| &files.lock),
        ))
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
