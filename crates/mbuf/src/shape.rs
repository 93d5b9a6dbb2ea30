//! What a pool is made of, and where its parts lie: the sizing formula.

use core::fmt;

use eal::process::SLOTS_MAX;

use crate::brief::Brief;
use crate::error::Error;
use crate::index::POOL_COUNT_MAX;
use crate::magazine::{MAGAZINE_LEN, Magazine};
use crate::meta::Meta;
use crate::sync::AtomicU32;
use crate::tag::Tag;

/// Bytes before the data in a fresh mbuf, for headers to come. As in DPDK.
pub const HEADROOM: u16 = 128;

/// Bytes of a frame, headroom included, unless asked otherwise: what AF_XDP takes, and an Ethernet frame fits.
pub const DATA_ROOM: u16 = 2048;

/// Fewest bytes of a frame: the headroom and a line of data.
pub const DATA_ROOM_MIN: u16 = HEADROOM + 64;

/// Most bytes of a frame: a multiple of 64 that 16 bits can say.
pub const DATA_ROOM_MAX: u16 = u16::MAX - 63;

/// Most bytes of the private area of an mbuf: a cache line.
pub const PRIVATE_SIZE_MAX: u16 = 64;

/// Magazines beyond what the mbufs of a full pool need, for each slot: the two that it may own half filled.
pub(crate) const MAGAZINES_PER_SLOT: usize = 2;

/// And two more, so that there is one to claim while a slot is between releasing and claiming.
pub(crate) const MAGAZINES_SPARE: usize = 2;

/// Bytes of the header.
pub(crate) const HEADER_LEN: usize = LINE;

const LINE: usize = 64;

/// Frames start on a page.
pub(crate) const PAGE: usize = 4096;

/// What a pool is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig<'a> {
    /// Its name, unique among pools.
    pub name: &'a str,
    /// Its mbufs.
    pub count: u32,
    /// DPDK's cache size. Not used: each slot has two magazines of [`MAGAZINE_LEN`] a pool.
    pub cache: u32,
    /// Bytes a buffer for the application, 0 to [`PRIVATE_SIZE_MAX`].
    pub private_size: u16,
    /// Bytes of a frame with its headroom: a multiple of 64.
    pub data_room: u16,
    /// The NUMA node of its memory; any if `None`.
    pub node: Option<u32>,
}

impl<'a> PoolConfig<'a> {
    /// `count` mbufs of the usual size, without private area.
    #[must_use]
    pub const fn new(name: &'a str, count: u32) -> Self {
        Self {
            name,
            count,
            cache: 0,
            private_size: 0,
            data_room: DATA_ROOM,
            node: None,
        }
    }

    pub(crate) fn shape(&self) -> Result<Shape, Error> {
        let name = || self.name.to_owned();
        let Self {
            count,
            private_size,
            data_room,
            ..
        } = *self;
        if count == 0 || count > POOL_COUNT_MAX {
            return Err(Error::Count {
                name: name(),
                count,
            });
        }
        if data_room % 64 != 0 || !(DATA_ROOM_MIN..=DATA_ROOM_MAX).contains(&data_room) {
            return Err(Error::DataRoom {
                name: name(),
                data_room,
            });
        }
        if private_size > PRIVATE_SIZE_MAX {
            return Err(Error::PrivateSize {
                name: name(),
                private_size,
            });
        }
        Ok(Shape {
            count,
            private_size,
            data_room,
        })
    }
}

/// The three numbers that everything else about a pool's memory follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) count: u32,
    pub(crate) private_size: u16,
    pub(crate) data_room: u16,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} buffers of {} bytes and {} private ones",
            self.count, self.data_room, self.private_size
        )
    }
}

/// Where the parts of a pool lie in its zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) hints: usize,
    pub(crate) magazines: usize,
    pub(crate) magazine_count: usize,
    pub(crate) tags: usize,
    pub(crate) briefs: usize,
    pub(crate) metas: usize,
    pub(crate) private: usize,
    pub(crate) frames: usize,
    pub(crate) len: usize,
}

impl Shape {
    /// The sizing formula. No sum overflows: 2^24 buffers of less than 2^17 bytes each.
    pub(crate) const fn plan(self) -> Plan {
        let count = self.count as usize;
        // Magazines for all mbufs, two for each slot, two spare. So a free always finds room: when both magazines of a
        // slot are full, the other slots own at most 2 * (SLOTS_MAX - 1), and of the rest at least one cannot be full,
        // since with ours they would hold more mbufs than there are.
        let magazine_count =
            count.div_ceil(MAGAZINE_LEN) + MAGAZINES_PER_SLOT * SLOTS_MAX + MAGAZINES_SPARE;

        let hints = HEADER_LEN;
        let magazines = (hints + magazine_count * size_of::<AtomicU32>()).next_multiple_of(LINE);
        let tags = magazines + magazine_count * size_of::<Magazine>();
        let briefs = (tags + count * size_of::<Tag>()).next_multiple_of(LINE);
        let metas = (briefs + count * size_of::<Brief>()).next_multiple_of(LINE);
        let private = metas + count * size_of::<Meta>();
        let frames = (private + count * self.private_size as usize).next_multiple_of(PAGE);
        let len = frames + count * self.data_room as usize;
        Plan {
            hints,
            magazines,
            magazine_count,
            tags,
            briefs,
            metas,
            private,
            frames,
            len,
        }
    }
}
