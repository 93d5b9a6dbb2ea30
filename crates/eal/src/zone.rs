//! Memory zones: named pieces of the shared region, and [`Shared`], the one door to their bytes.
//!
//! The primary reserves a zone; every process finds it by kind and name. A zone never moves and outlives the primary, so an
//! offset into it stays good.
//!
//! ```text
//! data part | process table | zone "pool.0" | zone "ring.rx.0" | free ... |
//! zone      | whatever its maker lays out, in values of `T: Shared`        |
//! ```
//!
//! | part       | written by                    | read by   |
//! |------------|-------------------------------|-----------|
//! | zone bytes | as the structure in them says | likewise  |
//!
//! **If a process dies:** a zone has no state of its own that could be cut short; the table that names it (`region::table`) and
//! the structure in it say what they do.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;

use crate::counters::Counter;
use crate::ports::PortRecord;
use crate::process::{BufferCounters, RunCounters, SlotRecord};
use crate::queue::{QueueCounters, QueueRecord};
use crate::region::table::Entry;
use crate::sync::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, CacheLine};
use crate::text::Text;

/// Longest name of a zone, in bytes.
pub const ZONE_NAME_MAX: usize = 47;

/// A type that may live in memory which several processes map.
///
/// # Safety
///
/// Whoever implements this promises that the type
///
/// 1. is `#[repr(C)]` or `#[repr(transparent)]`: every build agrees on its layout;
/// 2. holds no pointer: the next process maps the region at another address;
/// 3. is valid for every bit pattern: a crashed writer may leave any;
/// 4. is made of atomics only: others change it while we hold `&T`.
pub unsafe trait Shared: Sync {}

/// Says that a structure of this crate is [`Shared`], and has the compiler check that each of its fields is.
macro_rules! shared {
    ($type:ty { $($field:ident),* }) => {
        const _: () = { $( all_shared(|record: &$type| &record.$field); )* };
        // SAFETY: `repr(C)` where it is declared, and `layout` asserts that all its fields are named there; its fields are
        // `Shared`, checked above, so it holds no pointer, any bits are a value, and all of it is atomic.
        unsafe impl Shared for $type {}
    };
}

/// Compiles if the field that `_field` leads to is [`Shared`].
const fn all_shared<T, F: Shared>(_field: fn(&T) -> &F) {}

// SAFETY: transparent over an integer, no pointer, any bits are a value, atomic.
unsafe impl Shared for AtomicU8 {}
// SAFETY: as for `AtomicU8`.
unsafe impl Shared for AtomicU16 {}
// SAFETY: as for `AtomicU8`.
unsafe impl Shared for AtomicU32 {}
// SAFETY: as for `AtomicU8`.
unsafe impl Shared for AtomicU64 {}
// SAFETY: transparent over an `AtomicU64`.
unsafe impl Shared for Counter {}
// SAFETY: transparent over an array of `AtomicU64`.
unsafe impl<const WORDS: usize> Shared for Text<WORDS> {}
// SAFETY: an array has its elements and nothing else.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}
// SAFETY: `repr(C)` over a `Shared` value; the rest of the line is padding, which has no value to be invalid.
unsafe impl<T: Shared> Shared for CacheLine<T> {}

shared!(RunCounters {
    loops,
    busy_ns,
    idle_ns,
    sleeps,
    late,
    rx,
    tx,
    stall_ns
});
shared!(BufferCounters {
    alloc_failed,
    bad_index,
    bad_holder,
    clones_copied,
    chain_too_long,
    bad_position,
    bad_entry,
    no_room
});
shared!(QueueCounters {
    packets,
    bytes,
    segments,
    drops,
    missed,
    errors,
    spare
});
shared!(QueueRecord {
    owner,
    kind,
    intent,
    producer,
    block,
    packet,
    offset,
    state,
    wanted,
    spare,
    counters
});
shared!(PortRecord {
    state,
    generation,
    rx_count,
    tx_count,
    mtu,
    node,
    mac,
    capabilities,
    link,
    flags,
    name,
    driver,
    args,
    config,
    spare
});
shared!(SlotRecord {
    state,
    pid,
    proc_type,
    started,
    name,
    sleeping,
    core,
    spare,
    run,
    buffers
});

/// What a zone is used as. Names are unique within a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ZoneKind {
    /// Whatever its maker likes.
    Plain = 0,
    /// A ring.
    Ring = 1,
    /// A pool of mbufs.
    Pool = 2,
}

impl ZoneKind {
    /// The kind that a number read from shared memory stands for.
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Plain),
            1 => Some(Self::Ring),
            2 => Some(Self::Pool),
            _ => None,
        }
    }
}

impl fmt::Display for ZoneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "zone",
            Self::Ring => "ring",
            Self::Pool => "pool",
        })
    }
}

/// Name of a zone: 1 to [`ZONE_NAME_MAX`] bytes of printable ASCII without `/`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ZoneName {
    bytes: [u8; ZONE_NAME_MAX],
    len: u8,
}

impl ZoneName {
    /// The name, if it may be one.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it.
    pub fn new(name: &str) -> Result<Self, ZoneNameError> {
        if name.is_empty() {
            return Err(ZoneNameError::Empty);
        }
        if name.len() > ZONE_NAME_MAX {
            return Err(ZoneNameError::TooLong {
                name: name.to_owned(),
            });
        }
        if let Some(character) = name
            .chars()
            .find(|&c| !(c.is_ascii_graphic() || c == ' ') || c == '/')
        {
            return Err(ZoneNameError::BadCharacter {
                name: name.to_owned(),
                character,
            });
        }
        let mut bytes = [0; ZONE_NAME_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Ok(Self {
            bytes,
            len: u8::try_from(name.len()).map_err(|_| ZoneNameError::TooLong {
                name: name.to_owned(),
            })?,
        })
    }

    /// The name in bytes read from shared memory, if it may be one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::new(core::str::from_utf8(bytes).ok()?).ok()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        // All ASCII: checked in `new`.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl fmt::Debug for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ZoneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a name may not be a zone's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneNameError {
    /// There is none.
    #[error("a name must not be empty; give one of 1 to {ZONE_NAME_MAX} characters")]
    Empty,
    /// More than [`ZONE_NAME_MAX`] bytes.
    #[error("the name {name:?} is {} bytes long; shorten it to {ZONE_NAME_MAX} or less", name.len())]
    TooLong {
        /// The name.
        name: String,
    },
    /// A character that names do not have.
    #[error("the name {name:?} has the character {character:?}; use printable ASCII without '/'")]
    BadCharacter {
        /// The name.
        name: String,
        /// The character.
        character: char,
    },
}

/// Why a view of a zone was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// It would leave the zone.
    #[error(
        "{wanted} bytes at offset {offset} do not fit in a zone of {len}; the zone was made by another version, or was damaged: run `forebay clean`"
    )]
    OutOfBounds {
        /// Where the view was to start.
        offset: usize,
        /// Its bytes.
        wanted: usize,
        /// Bytes of the zone.
        len: usize,
    },
    /// The type cannot lie there.
    #[error(
        "offset {offset} of the zone is not a multiple of {align}; reserve the zone with that alignment"
    )]
    Misaligned {
        /// Where the view was to start.
        offset: usize,
        /// What the type needs.
        align: usize,
    },
    /// This build has loom's atomics.
    #[error("a build for loom has no shared memory; build without `--cfg loom`")]
    Loom,
}

/// Bytes that stay mapped for `'r`, and that several processes may write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'r> {
    base: NonNull<u8>,
    len: usize,
    mapped: PhantomData<&'r [AtomicU8]>,
}

// SAFETY: it leads to atomics (`Shared` is `Sync`), and to raw pointers whose users answer for themselves.
unsafe impl Send for Window<'_> {}
// SAFETY: as for `Send`.
unsafe impl Sync for Window<'_> {}

impl<'r> Window<'r> {
    /// `len` bytes at `base`.
    ///
    /// # Safety
    ///
    /// 1. They stay mapped and readable for `'r`.
    /// 2. While they are, nobody holds a `&mut`, nor a `&` to anything but atomics, to any of them, but for what
    ///    [`Zone::raw`] promises.
    pub(crate) unsafe fn from_raw(base: NonNull<u8>, len: usize) -> Self {
        Self {
            base,
            len,
            mapped: PhantomData,
        }
    }

    /// Where `len` bytes at `offset` start.
    fn raw(&self, offset: usize, len: usize) -> Result<NonNull<u8>, ZoneError> {
        if self.len.checked_sub(offset).is_none_or(|room| room < len) {
            return Err(ZoneError::OutOfBounds {
                offset,
                wanted: len,
                len: self.len,
            });
        }
        // SAFETY: `offset <= len`, checked above, so the sum stays inside the mapping.
        Ok(unsafe { self.base.add(offset) })
    }

    /// A part of the window.
    pub(crate) fn part(&self, offset: usize, len: usize) -> Result<Self, ZoneError> {
        Ok(Self {
            base: self.raw(offset, len)?,
            len,
            mapped: PhantomData,
        })
    }

    /// Views `count` values of `T` at `offset`.
    pub(crate) fn slice<T: Shared>(
        &self,
        offset: usize,
        count: usize,
    ) -> Result<&'r [T], ZoneError> {
        if cfg!(loom) {
            return Err(ZoneError::Loom);
        }
        let start = self
            .raw(offset, count.saturating_mul(size_of::<T>()))?
            .cast::<T>();
        if !start.is_aligned() {
            return Err(ZoneError::Misaligned {
                offset,
                align: align_of::<T>(),
            });
        }
        // SAFETY: in bounds and aligned: both checked above (a product that saturates leaves every window). Mapped for `'r`:
        // promised to `from_raw`. Always a valid `T`, whatever other processes write: `T: Shared`.
        Ok(unsafe { core::slice::from_raw_parts(start.as_ptr(), count) })
    }
}

/// A named piece of the shared region.
#[derive(Debug, Clone, Copy)]
pub struct Zone<'r> {
    window: Window<'r>,
    entry: Entry,
}

impl<'r> Zone<'r> {
    /// The zone that `entry` describes, in the data part. `None` if it leaves it.
    pub(crate) fn in_data(data: Window<'r>, entry: Entry) -> Option<Self> {
        let (offset, len) = (
            usize::try_from(entry.offset).ok()?,
            usize::try_from(entry.len).ok()?,
        );
        Some(Self {
            window: data.part(offset, len).ok()?,
            entry,
        })
    }

    /// Its name.
    pub fn name(&self) -> ZoneName {
        self.entry.name
    }

    /// What it is used as.
    pub fn kind(&self) -> ZoneKind {
        self.entry.kind
    }

    /// Its bytes.
    #[expect(clippy::len_without_is_empty, reason = "no zone is empty")]
    pub fn len(&self) -> usize {
        self.window.len
    }

    /// The NUMA node of its memory.
    pub fn node(&self) -> u32 {
        self.entry.node
    }

    /// Where it starts in the data part.
    pub fn offset(&self) -> u64 {
        self.entry.offset
    }

    /// Views `count` values of `T` at `offset`.
    ///
    /// # Errors
    ///
    /// Refuses a view that leaves the zone or that `T` cannot be aligned to.
    pub fn slice<T: Shared>(&self, offset: usize, count: usize) -> Result<&'r [T], ZoneError> {
        self.window.slice(offset, count)
    }

    /// Views one `T` at `offset`.
    ///
    /// # Errors
    ///
    /// As [`slice`](Self::slice).
    pub fn get<T: Shared>(&self, offset: usize) -> Result<&'r T, ZoneError> {
        Ok(&self.slice(offset, 1)?[0])
    }

    /// Where `len` bytes at `offset` start: for bytes that one owner at a time holds alone, such as frames.
    ///
    /// # Errors
    ///
    /// Refuses what leaves the zone.
    pub fn raw(&self, offset: usize, len: usize) -> Result<NonNull<u8>, ZoneError> {
        self.window.raw(offset, len)
    }
}
