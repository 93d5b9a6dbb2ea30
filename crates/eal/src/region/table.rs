//! The zone table: names, and where in the data part their bytes lie.
//!
//! A zone takes the bytes behind the last one and keeps them as long as the region lives, so nothing moves and nothing is freed.
//!
//! ```text
//! record | state kind name offset len node |      free records: state is not READY
//! data   | process table | zone | zone | ... free to the end |
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

/// Finds the place of a new zone. For the primary, one thread at a time.
pub(crate) fn place<'r>(
    records: &'r [ZoneRecord],
    (kind, name): (ZoneKind, ZoneName),
    (len, align): (u64, u64),
    (first, data_len): (u64, u64),
) -> Result<Place<'r>, NoPlace> {
    let mut end = first;
    let mut free_record = None;
    for record in records {
        match record.read(first, data_len) {
            Some(entry) if entry.kind == kind && entry.name == name => return Err(NoPlace::Taken),
            Some(entry) => end = end.max(entry.end()),
            // Announced and damaged: it may be in somebody's use, so nothing of it is handed out again.
            None if record.is_ready() => {
                let damaged = record
                    .offset
                    .load(Ordering::Relaxed)
                    .saturating_add(record.len.load(Ordering::Relaxed));
                end = end.max(damaged.min(data_len));
            }
            None => free_record = free_record.or(Some(record)),
        }
    }
    let record = free_record.ok_or(NoPlace::NoRecord)?;
    let offset = end.checked_next_multiple_of(align).unwrap_or(u64::MAX);
    let free = data_len.saturating_sub(offset);
    if free < len {
        return Err(NoPlace::Full { free });
    }
    Ok(Place { record, offset })
}

impl Place<'_> {
    /// Announces the zone.
    pub(crate) fn announce(self, entry: &Entry) {
        self.record.announce(entry);
    }
}

/// Bytes of the data part that no zone has.
pub(crate) fn free(records: &[ZoneRecord], first: u64, data_len: u64) -> u64 {
    let end = records
        .iter()
        .filter_map(|record| record.read(first, data_len))
        .map(|entry| entry.end())
        .max();
    data_len.saturating_sub(end.unwrap_or(first))
}

/// The alignment of a zone: at least a cache line, at most a page.
pub(crate) fn alignment(asked: usize) -> Option<u64> {
    (asked <= PAGE && (asked == 0 || asked.is_power_of_two()))
        .then_some(asked.max(crate::sync::CACHE_LINE) as u64)
}
