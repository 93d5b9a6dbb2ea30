//! The control part of a region: one structure, from its first byte to its last.
//!
//! ```text
//! header 4 KiB | zone table, 1024 x 128 | ports, 16 x 512 | config words 4 KiB | redirection tables, 16 x 1 KiB
//! ```
//!
//! | part            | written by                                                  | read by                     |
//! |-----------------|-------------------------------------------------------------|-----------------------------|
//! | header          | the primary that creates the region, magic last; its `primary_` fields by each later primary | everybody |
//! | a zone record   | the primary, once, `state` last                             | everybody, after `state`    |
//! | ports, reta     | the primary                                                 | everybody                   |
//! | config          | the primary                                                 | everybody                   |
//!
//! **If a process dies:** secondaries map this read-only. A primary that dies while it creates leaves a file without magic and
//! without a name that anybody looks for. One that dies while it reserves a zone leaves a record that is not READY: readers skip
//! it, and the next primary writes that record, and hands out those bytes, anew. The bytes are still zero, since nobody is given
//! them before the record is READY.

use crate::error::Layout;
use crate::hugepage::Backing;
use crate::layout;
use crate::ports::{PORTS_MAX, PortRecord, RETA_LEN};
use crate::region::section::{SECTIONS_MAX, SectionRecord, Sections};
use crate::region::table::{ZONES_MAX, ZoneRecord};
use crate::sync::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use crate::text::Text;
use crate::zone::Shared;

/// What the first word of a region says: `FOREBAY` and a one.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"FOREBAY\x01");

/// The whole control part.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct Control {
    pub(crate) header: Header,
    pub(crate) zones: [ZoneRecord; ZONES_MAX],
    pub(crate) ports: [PortRecord; PORTS_MAX],
    pub(crate) config: [AtomicU64; 512],
    pub(crate) reta: [[AtomicU16; RETA_LEN]; PORTS_MAX],
}

/// What a region says of itself. The first three fields lie where they lie in every version.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct Header {
    /// [`MAGIC`], written last.
    pub(crate) magic: AtomicU64,
    /// [`VERSION`](crate::layout::VERSION) of the creator.
    pub(crate) version: AtomicU64,
    /// [`HASH`](crate::layout::HASH) of the creator.
    pub(crate) hash: AtomicU64,
    /// Random: tells this region from another under the same name.
    pub(crate) nonce: AtomicU64,
    pub(crate) control_len: AtomicU64,
    pub(crate) data_len: AtomicU64,
    /// Of the data part.
    pub(crate) page_size: AtomicU64,
    /// Unix time, in seconds.
    pub(crate) created: AtomicU64,
    /// What the data part lies on: the number of a [`Backing`](crate::hugepage::Backing).
    pub(crate) backing: AtomicU32,
    /// For texts only: never trusted.
    pub(crate) primary_pid: AtomicU32,
    /// The bits of the [`Owner`](crate::process::Owner) that is the primary's main slot.
    pub(crate) primary_owner: AtomicU32,
    /// How often a primary took the region over.
    pub(crate) adoptions: AtomicU32,
    /// The program of the primary.
    pub(crate) primary_name: Text<4>,
    /// The group.
    pub(crate) prefix: Text<8>,
    /// Which part of the data part lies on which NUMA node.
    pub(crate) sections: [SectionRecord; SECTIONS_MAX],
    pub(crate) spare: [AtomicU64; 466],
}

/// Version and hash of this build.
pub(crate) const LAYOUT: Layout = Layout {
    version: layout::VERSION as u64,
    hash: layout::HASH,
};

/// What a header says of a region, read once and found sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) nonce: u64,
    pub(crate) data_len: u64,
    pub(crate) page_size: u64,
    pub(crate) created: u64,
    pub(crate) backing: Backing,
    pub(crate) sections: Sections,
}

impl Header {
    /// Fills the header of a new region in, the magic last.
    pub(crate) fn announce(&self, facts: &Facts, prefix: &str, program: &str) {
        let words = [
            (&self.version, LAYOUT.version),
            (&self.hash, LAYOUT.hash),
            (&self.nonce, facts.nonce),
            (&self.control_len, size_of::<Control>() as u64),
            (&self.data_len, facts.data_len),
            (&self.page_size, facts.page_size),
            (&self.created, facts.created),
        ];
        for (word, value) in words {
            word.store(value, Ordering::Relaxed);
        }
        self.backing.store(facts.backing as u32, Ordering::Relaxed);
        facts.sections.write(&self.sections);
        self.prefix.set(prefix);
        self.introduce(program);
        // Release: who sees the magic sees the rest. Pairs with the Acquire in `facts`.
        self.magic.store(MAGIC, Ordering::Release);
    }

    /// What a primary says of itself.
    pub(crate) fn introduce(&self, program: &str) {
        // Relaxed: to be shown.
        self.primary_pid
            .store(std::process::id(), Ordering::Relaxed);
        self.primary_owner.store(0, Ordering::Relaxed);
        self.primary_name.set(program);
    }

    /// What the header says, each word read once; says what is wrong with it.
    pub(crate) fn facts(&self) -> Result<Facts, &'static str> {
        // Acquire: the rest was stored before. Pairs with the Release in `announce`.
        if self.magic.load(Ordering::Acquire) != MAGIC {
            return Err("its header was damaged");
        }
        let read = |word: &AtomicU64| word.load(Ordering::Relaxed);
        if read(&self.control_len) != size_of::<Control>() as u64 {
            return Err("its header gives another length than the file has");
        }
        let damaged = "its header was damaged";
        let backing = Backing::from_number(self.backing.load(Ordering::Relaxed));
        let (data_len, page_size) = (read(&self.data_len), read(&self.page_size));
        Ok(Facts {
            nonce: read(&self.nonce),
            data_len,
            page_size,
            created: read(&self.created),
            backing: backing.ok_or(damaged)?,
            sections: Sections::read(&self.sections, data_len, page_size).ok_or(damaged)?,
        })
    }
}

#[cfg(not(any(loom, forebay_model)))]
const _: () = assert!(size_of::<Header>() == 4096 && size_of::<Control>() == 163_840);

// SAFETY: `repr(C)`, and all its fields are atomics, `Text`, or `SectionRecord`, which is `Shared`.
unsafe impl Shared for Header {}
// SAFETY: `repr(C)`, and all its fields are `Shared`: the compiler checks that for arrays of them, and `Header` is above.
unsafe impl Shared for Control {}
