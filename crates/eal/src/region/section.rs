//! Sections: which part of the data part lies on which NUMA node.
//!
//! ```text
//! data    | section of node 0                                | section of node 1         |
//!         | process table | zone | zone | ... free           | zone | zone | ... free    |
//! offset  0                                                  sections[1].offset
//! ```
//!
//! All sections are one file and one mapping, so an offset means the same as with one section. Each is a whole number of pages,
//! each begins where the one before it ends, and each node has one at most.
//!
//! | part               | written by                          | read by            |
//! |--------------------|-------------------------------------|--------------------|
//! | a section's record | the primary that creates the region, before the magic | everybody, once |
//!
//! **If a process dies:** as with the rest of the header: without the magic the file is nobody's.

use crate::layout::PAGE;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys::numa::NODES_MAX;
use crate::zone::Shared;

/// Sections of a region, one a NUMA node: as many as a large machine has sockets.
pub const SECTIONS_MAX: usize = 8;

/// A part of the data part that lies on one NUMA node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Section {
    /// The node.
    pub node: u32,
    /// From the start of the data part.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

impl Section {
    /// First byte behind it. It fits: checked in `Sections::new`.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// A section as the header has it. One of no length is none.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct SectionRecord {
    pub(crate) offset: AtomicU64,
    pub(crate) len: AtomicU64,
    pub(crate) node: AtomicU32,
    pub(crate) spare: AtomicU32,
}

// SAFETY: `repr(C)`, and all its fields are atomics.
unsafe impl Shared for SectionRecord {}

/// The sections of a region: at least one, and they fill the data part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sections {
    all: [Section; SECTIONS_MAX],
    count: usize,
}

impl Sections {
    /// One section that is all.
    pub(crate) fn one(node: u32, len: u64) -> Self {
        let mut all = [Section::default(); SECTIONS_MAX];
        all[0] = Section {
            node,
            offset: 0,
            len,
        };
        Self { all, count: 1 }
    }

    /// These, one behind the other: nodes and lengths. `None` if a node has two, or there are none or too many.
    pub(crate) fn behind_each_other(parts: &[(u32, u64)]) -> Option<Self> {
        let mut offset = 0_u64;
        let mut sections = Vec::new();
        for &(node, len) in parts {
            sections.push(Section { node, offset, len });
            offset = offset.checked_add(len)?;
        }
        Self::new(&sections, offset, PAGE as u64)
    }

    /// These, if they fill `data_len` bytes in whole pages, one behind the other, and no node has two.
    fn new(sections: &[Section], data_len: u64, page_size: u64) -> Option<Self> {
        let mut all = [Section::default(); SECTIONS_MAX];
        all.get_mut(..sections.len())?.copy_from_slice(sections);
        let mut end = 0_u64;
        for (index, section) in sections.iter().enumerate() {
            let again = sections[..index].iter().any(|one| one.node == section.node);
            let fits = section.offset == end
                && section.len > 0
                && section.len.checked_rem(page_size) == Some(0)
                && section.node < NODES_MAX;
            if again || !fits {
                return None;
            }
            end = end.checked_add(section.len)?;
        }
        (end == data_len && !sections.is_empty()).then_some(Self {
            all,
            count: sections.len(),
        })
    }

    /// Reads the header's, each word once; `None` if they are damaged.
    pub(crate) fn read(records: &[SectionRecord], data_len: u64, page_size: u64) -> Option<Self> {
        // Relaxed, all of them: they were stored before the magic, which was read first.
        let section = |record: &SectionRecord| Section {
            node: record.node.load(Ordering::Relaxed),
            offset: record.offset.load(Ordering::Relaxed),
            len: record.len.load(Ordering::Relaxed),
        };
        let found: Vec<_> = records
            .iter()
            .map(section)
            .take_while(|section| section.len > 0)
            .collect();
        Self::new(&found, data_len, page_size)
    }

    /// Writes them into the header of a new region, before its magic.
    pub(crate) fn write(&self, records: &[SectionRecord]) {
        // Relaxed, all of them: the magic comes after, with release.
        for (record, section) in records.iter().zip(self.as_slice()) {
            record.node.store(section.node, Ordering::Relaxed);
            record.offset.store(section.offset, Ordering::Relaxed);
            record.len.store(section.len, Ordering::Relaxed);
        }
    }

    pub(crate) fn as_slice(&self) -> &[Section] {
        &self.all[..self.count]
    }

    /// The order in which a zone for any node looks for room: first on `near`, then as they lie.
    pub(crate) fn starting_with(&self, near: Option<u32>) -> impl Iterator<Item = &Section> {
        let is_near = move |section: &&Section| Some(section.node) == near;
        let others = self.as_slice().iter().filter(move |one| !is_near(one));
        self.as_slice().iter().filter(is_near).chain(others)
    }

    /// The argument that gives a region as this one, with `missing` bytes more in the section: `-m 128`, `--socket-mem=64,96`.
    pub(crate) fn argument_for_more(&self, section: &Section, missing: u64) -> String {
        let megabytes = |len: u64| len.div_ceil(1 << 20);
        let wanted = |one: &Section| {
            let more = if one.node == section.node { missing } else { 0 };
            megabytes(one.len.saturating_add(more))
        };
        if self.count == 1 {
            return format!("-m {}", wanted(section));
        }
        let last = self.as_slice().iter().map(|one| one.node).max();
        let of_node = |node| self.as_slice().iter().find(|one| one.node == node);
        let list: Vec<_> = (0..=last.unwrap_or(0))
            .map(|node| of_node(node).map_or(0, wanted).to_string())
            .collect();
        format!("--socket-mem={}", list.join(","))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn sections_fill_the_data_part_one_behind_the_other() {
        let sections = Sections::behind_each_other(&[(1, 4 * MB), (3, 2 * MB)]).unwrap();
        let [first, second] = sections.as_slice() else {
            panic!("{sections:?}")
        };
        assert_eq!((first.offset, first.end()), (0, 4 * MB));
        assert_eq!(
            (second.node, second.offset, second.end()),
            (3, 4 * MB, 6 * MB)
        );
        let nodes = |near| -> Vec<_> {
            let order = sections.starting_with(near);
            order.map(|section| section.node).collect()
        };
        assert_eq!(
            [nodes(None), nodes(Some(3)), nodes(Some(7))],
            [[1, 3], [3, 1], [1, 3]]
        );
        assert_eq!(
            sections.argument_for_more(second, MB + 1),
            "--socket-mem=0,4,0,4"
        );
        let one = Sections::one(0, 4 * MB);
        assert_eq!(one.argument_for_more(&one.as_slice()[0], 1), "-m 5");
        for wrong in [
            &[][..],
            &[(0, MB), (0, MB)],
            &[(0, 0)],
            &[(NODES_MAX, MB)],
            &[(0, 100)],
            &[(0, u64::MAX / 4096 * 4096), (1, 4096)],
            &[
                (0, MB),
                (1, MB),
                (2, MB),
                (3, MB),
                (4, MB),
                (5, MB),
                (6, MB),
                (7, MB),
                (8, MB),
            ],
        ] {
            assert_eq!(Sections::behind_each_other(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn damaged_records_are_no_sections() {
        let records: [SectionRecord; SECTIONS_MAX] = core::array::from_fn(|_| SectionRecord {
            offset: AtomicU64::new(0),
            len: AtomicU64::new(0),
            node: AtomicU32::new(0),
            spare: AtomicU32::new(0),
        });
        let read = || Sections::read(&records, 6 * MB, 2 * MB);
        assert_eq!(read(), None, "none");
        let sections = Sections::behind_each_other(&[(0, 4 * MB), (1, 2 * MB)]).unwrap();
        sections.write(&records);
        assert_eq!(read(), Some(sections));
        assert_eq!(Sections::read(&records, 8 * MB, 2 * MB), None, "a gap");
        assert_eq!(Sections::read(&records, 6 * MB, 1 << 30), None, "pages");
        assert_eq!(Sections::read(&records, 6 * MB, 0), None, "no pages");
        for (word, value) in [
            (&records[1].offset, 5 * MB),
            (&records[0].len, u64::MAX),
            (&records[0].len, 0),
        ] {
            let before = word.swap(value, Ordering::Relaxed);
            assert_eq!(read(), None);
            word.store(before, Ordering::Relaxed);
        }
        records[1].node.store(0, Ordering::Relaxed);
        assert_eq!(read(), None, "a node twice");
    }
}
