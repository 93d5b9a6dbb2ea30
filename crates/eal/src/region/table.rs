//! The zone table: names, and where in the data part their bytes lie.
//!
//! A zone takes the bytes behind the last one of its [section](super::section) and keeps them as long as the region lives, so
//! nothing moves and nothing is freed. Where the last one ends is in no word of its own: it is read off the records each time.
//!
//! ```text
//! record  | state kind name offset len node |      free records: state is not READY
//! section | process table (of the first) | zone | zone | ... free to the section's end |
//! ```
//!
//! | part     | written by                                    | read by                                        |
//! |----------|-----------------------------------------------|------------------------------------------------|
//! | a record | the primary: all fields, then `state` (release) | everybody: `state` (acquire), then each field once |
//!
//! **If a process dies:** only the primary writes. Killed before `state`, it leaves a record that readers skip and whose place
//! and bytes the next primary hands out again; nobody has had those bytes, so they are still zero. Killed after it, the zone is
//! there, empty, and whoever made it must see from its own header whether its maker finished.

use crate::layout::PAGE;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::text::Text;
use crate::zone::{ZoneKind, ZoneName};

/// Zones of a group: a ring each for 64 processes and 16 ports, pools, and room.
pub const ZONES_MAX: usize = if cfg!(forebay_model) { 8 } else { 1024 };

/// A record that is announced. Anything else is a free record.
const READY: u32 = 1;

/// One named zone.
#[derive(Debug)]
#[repr(C, align(128))]
pub(crate) struct ZoneRecord {
    /// [`READY`], written last.
    pub(crate) state: AtomicU32,
    pub(crate) kind: AtomicU32,
    pub(crate) name: Text<6>,
    /// From the start of the data part.
    pub(crate) offset: AtomicU64,
    pub(crate) len: AtomicU64,
    pub(crate) node: AtomicU32,
    pub(crate) spare: [AtomicU32; 13],
}

#[cfg(not(loom))]
const _: () =
    assert!(size_of::<ZoneRecord>() == 128 && Text::<6>::LEN == crate::zone::ZONE_NAME_MAX + 1);

/// A record, read once and found sound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) kind: ZoneKind,
    pub(crate) name: ZoneName,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) node: u32,
}

impl Entry {
    /// First byte behind the zone. It fits: checked in `ZoneRecord::read`.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

impl ZoneRecord {
    /// The zone, if there is one that lies in `[first, data_len)` and has a name and a kind.
    pub(crate) fn read(&self, first: u64, data_len: u64) -> Option<Entry> {
        // Acquire: the fields were stored before. Pairs with the Release in `announce`.
        if self.state.load(Ordering::Acquire) != READY {
            return None;
        }
        let entry = Entry {
            kind: ZoneKind::from_number(self.kind.load(Ordering::Relaxed))?,
            name: ZoneName::from_bytes(&self.name.bytes())?,
            offset: self.offset.load(Ordering::Relaxed),
            len: self.len.load(Ordering::Relaxed),
            node: self.node.load(Ordering::Relaxed),
        };
        let end = entry.offset.checked_add(entry.len)?;
        (entry.offset >= first && end <= data_len && usize::try_from(end).is_ok()).then_some(entry)
    }

    /// Whether the record is announced, sound or not.
    pub(crate) fn is_ready(&self) -> bool {
        // Acquire: as in `read`.
        self.state.load(Ordering::Acquire) == READY
    }

    /// Writes all fields, then announces them. For the primary, on a record that is not announced.
    fn announce(&self, entry: &Entry) {
        self.kind.store(entry.kind as u32, Ordering::Relaxed);
        self.name.set(entry.name.as_str());
        self.offset.store(entry.offset, Ordering::Relaxed);
        self.len.store(entry.len, Ordering::Relaxed);
        self.node.store(entry.node, Ordering::Relaxed);
        // Release: who sees READY sees the fields. Pairs with the Acquire in `read`.
        self.state.store(READY, Ordering::Release);
    }
}

/// Where a new zone goes.
#[derive(Debug)]
pub(crate) struct Place<'r> {
    record: &'r ZoneRecord,
    /// First byte, aligned as asked.
    pub(crate) offset: u64,
}

/// Why there is no place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoPlace {
    /// A zone of that kind has the name.
    Taken,
    /// The largest zone that would have found room.
    Full {
        /// Its bytes.
        free: u64,
    },
    /// All records are announced.
    NoRecord,
}

/// Finds the place of a new zone in the bytes `[first, end)` of a section. For the primary, one thread at a time.
pub(crate) fn place<'r>(
    records: &'r [ZoneRecord],
    (kind, name): (ZoneKind, ZoneName),
    (len, align): (u64, u64),
    bounds: &Bounds,
) -> Result<Place<'r>, NoPlace> {
    let mut free_record = None;
    for record in records {
        match bounds.read(record) {
            Some(entry) if entry.kind == kind && entry.name == name => return Err(NoPlace::Taken),
            None if !record.is_ready() => free_record = free_record.or(Some(record)),
            _ => {}
        }
    }
    let record = free_record.ok_or(NoPlace::NoRecord)?;
    let offset = used_to(records, bounds).checked_next_multiple_of(align);
    let offset = offset.unwrap_or(u64::MAX);
    let free = bounds.end.saturating_sub(offset);
    if free < len {
        return Err(NoPlace::Full { free });
    }
    Ok(Place { record, offset })
}

/// Where zones may lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes of the data part.
    pub(crate) data_len: u64,
    /// First byte of the data part that a zone may have.
    pub(crate) zones_start: u64,
    /// First byte of the section that a zone may have.
    pub(crate) first: u64,
    /// First byte behind the section.
    pub(crate) end: u64,
}

impl Bounds {
    fn read(&self, record: &ZoneRecord) -> Option<Entry> {
        record.read(self.zones_start, self.data_len)
    }
}

/// First byte of a section behind all its zones.
fn used_to(records: &[ZoneRecord], bounds: &Bounds) -> u64 {
    let Bounds {
        data_len,
        first,
        end,
        ..
    } = *bounds;
    let range = |record: &ZoneRecord| -> Option<(u64, u64)> {
        if let Some(entry) = bounds.read(record) {
            return Some((entry.offset, entry.end()));
        }
        // Announced and damaged: it may be in somebody's use, so nothing of it is handed out again, in whatever section.
        let (offset, len) = (
            record.offset.load(Ordering::Relaxed),
            record.len.load(Ordering::Relaxed),
        );
        let start = if offset < data_len { offset } else { 0 };
        record
            .is_ready()
            .then_some((start, offset.saturating_add(len)))
    };
    let in_section = |(start, zone_end): &(u64, u64)| *start < end && *zone_end > first;
    let used = records.iter().filter_map(range).filter(in_section);
    used.map(|(_, zone_end)| zone_end.min(end))
        .fold(first, u64::max)
}

impl Place<'_> {
    /// Announces the zone.
    pub(crate) fn announce(self, entry: &Entry) {
        self.record.announce(entry);
    }
}

/// Bytes of a section behind all its zones.
pub(crate) fn free(records: &[ZoneRecord], bounds: &Bounds) -> u64 {
    bounds.end.saturating_sub(used_to(records, bounds))
}

/// The alignment of a zone: at least a cache line, at most a page.
pub(crate) fn alignment(asked: usize) -> Option<u64> {
    (asked <= PAGE && (asked == 0 || asked.is_power_of_two()))
        .then_some(asked.max(crate::sync::CACHE_LINE) as u64)
}
