//! Pages: what a region really lies on, as the kernel tells it when asked.
//!
//! What was asked for when the region was made is one thing: collapsing stops when its time is up, and a huge page may be split
//! later. So tools ask. They map the group read-only and afresh: where such a mapping consists of huge pages, the memory does.

use std::io;

use crate::hugepage::{Backing, HUGE_PAGE};
use crate::layout::PAGE;
use crate::numa;
use crate::sys::memory::Map;
use crate::sys::pages::{huge_bytes, huge_ranges};

/// What the data part of a region lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pages {
    /// From the first byte to the last.
    runs: Vec<Run>,
    /// Bytes on huge pages, where it is not known which.
    huge_somewhere: Option<u64>,
}

/// Bytes that lie on one kind of pages of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    len: u64,
    node: Option<u32>,
    huge: Option<bool>,
}

/// How many of some bytes lie on a node, and how many of those on huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodePages {
    /// The node; `None` if the kernel does not tell.
    pub node: Option<u32>,
    /// Bytes there.
    pub bytes: u64,
    /// Bytes of them on huge pages; `None` if the kernel does not tell which these are.
    pub huge_bytes: Option<u64>,
}

impl Pages {
    /// Of memory that cannot be asked after.
    pub(crate) fn unknown(len: u64) -> Self {
        Self {
            runs: vec![Run {
                len,
                node: None,
                huge: None,
            }],
            huge_somewhere: None,
        }
    }

    /// Asks the kernel about a mapping of `len` bytes.
    pub(crate) fn ask(
        map: &Map,
        len: usize,
        (page_size, backing): (usize, Backing),
    ) -> io::Result<Self> {
        if backing == Backing::Private {
            return Ok(Self::unknown(len as u64));
        }
        // What is not mapped yet cannot be asked after. No page is made: the file has no hole.
        map.populate(false)?;
        let mut huge_somewhere = None;
        let huge = if page_size > PAGE {
            Some(vec![(0, len)])
        } else if let Ok(ranges) = huge_ranges(map) {
            Some(ranges)
        } else {
            // An older kernel, which tells how many they are. All and none say also which.
            let total = huge_bytes(map)?;
            huge_somewhere = Some(total);
            match total {
                0 => Some(Vec::new()),
                total if total >= len as u64 => Some(vec![(0, len)]),
                _ => None,
            }
        };
        let nodes = numa::nodes();
        let node_at = |offset| match &nodes[..] {
            [only] => Some(*only),
            _ => map.node_at(offset).ok(),
        };
        let several = nodes.len() > 1;
        let mut runs = Vec::new();
        let mut ranges = huge.iter().flatten().copied().peekable();
        let mut offset = 0;
        while offset < len {
            // Ranges are told once each, ascending.
            while ranges.next_if(|(_, end)| *end <= offset).is_some() {}
            let inside = ranges.peek().is_some_and(|(start, _)| *start <= offset);
            let edge = match ranges.peek() {
                Some((_, end)) if inside => *end,
                Some((start, _)) => *start,
                None => len,
            };
            // A page of one node at a time, where there are several.
            let step = match (several, inside) {
                (false, _) => len,
                (true, true) => page_size.max(HUGE_PAGE),
                (true, false) => page_size,
            };
            let end = (offset / step + 1).saturating_mul(step).min(edge).min(len);
            let run = Run {
                len: (end - offset) as u64,
                node: node_at(offset),
                huge: huge.as_ref().map(|_| inside),
            };
            add(&mut runs, run);
            offset = end;
        }
        Ok(Self {
            runs,
            huge_somewhere,
        })
    }

    /// What `len` bytes at `offset` lie on: an entry a node, ascending.
    pub fn of(&self, offset: u64, len: u64) -> Vec<NodePages> {
        let (from, to) = (offset, offset.saturating_add(len));
        let mut found: Vec<NodePages> = Vec::new();
        let mut start = 0;
        for run in &self.runs {
            let end = start + run.len;
            let bytes = end.min(to).saturating_sub(start.max(from));
            start = end;
            if bytes == 0 {
                continue;
            }
            let huge = run.huge.map(|huge| if huge { bytes } else { 0 });
            match found.iter_mut().find(|one| one.node == run.node) {
                Some(one) => {
                    one.bytes += bytes;
                    one.huge_bytes = one.huge_bytes.zip(huge).map(|(one, more)| one + more);
                }
                None => found.push(NodePages {
                    node: run.node,
                    bytes,
                    huge_bytes: huge,
                }),
            }
        }
        // Of all bytes it is known how many.
        if let ([one], true) = (&mut found[..], from == 0 && to >= start) {
            one.huge_bytes = one.huge_bytes.or(self.huge_somewhere);
        }
        found.sort_by_key(|one| one.node);
        found
    }
}

/// Adds a run behind the others, to the last one if it is of its kind.
fn add(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if (last.node, last.huge) == (run.node, run.huge) => last.len += run.len,
        _ => runs.push(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(runs: &[(u64, u32, Option<bool>)]) -> Pages {
        let mut all = Vec::new();
        for &(len, node, huge) in runs {
            let node = Some(node);
            add(&mut all, Run { len, node, huge });
        }
        Pages {
            runs: all,
            huge_somewhere: None,
        }
    }

    fn on(node: u32, bytes: u64, huge_bytes: Option<u64>) -> NodePages {
        NodePages {
            node: Some(node),
            bytes,
            huge_bytes,
        }
    }

    #[test]
    fn bytes_are_added_up_by_node_and_kind() {
        let pages = pages(&[
            (100, 1, Some(true)),
            (100, 1, Some(true)),
            (50, 1, Some(false)),
            (50, 0, Some(true)),
        ]);
        assert_eq!(pages.runs.len(), 3);
        assert_eq!(pages.of(0, 10), [on(1, 10, Some(10))]);
        assert_eq!(pages.of(190, 20), [on(1, 20, Some(10))]);
        assert_eq!(
            pages.of(0, 300),
            [on(0, 50, Some(50)), on(1, 250, Some(200))]
        );
        assert_eq!(pages.of(299, 100), [on(0, 1, Some(1))]);
        assert_eq!(pages.of(300, 1), []);
        assert_eq!(pages.of(u64::MAX, u64::MAX), []);
    }

    /// Some blocks collapsed and others not, as a start leaves them whose time was up.
    #[cfg(not(miri))]
    #[test]
    fn half_collapsed_memory_is_told_block_by_block() {
        use std::os::fd::AsFd;

        const LEN: usize = 4 * HUGE_PAGE;
        let Ok(file) = tempfile::tempfile_in(crate::directory::SHARED_MEMORY) else {
            return;
        };
        file.set_len(LEN as u64).unwrap();
        let map = |write| Map::file(file.as_fd(), LEN, HUGE_PAGE, write).unwrap();
        let ours = map(true);
        ours.populate(true).unwrap();
        if ours.collapse(HUGE_PAGE, HUGE_PAGE).is_err() {
            // This kernel does not, or has no huge page left.
            return;
        }
        // As a tool maps it.
        let theirs = map(false);
        let pages = Pages::ask(&theirs, LEN, (PAGE, Backing::Plain)).unwrap();
        assert_eq!(huge_bytes(&theirs).unwrap(), HUGE_PAGE as u64);
        let block = |index: usize| pages.of((index * HUGE_PAGE) as u64, HUGE_PAGE as u64);
        let huge = [0, 1, 2, 3].map(|index| block(index)[0].huge_bytes);
        if huge_ranges(&theirs).is_ok() {
            let all = Some(HUGE_PAGE as u64);
            assert_eq!(huge, [Some(0), all, Some(0), Some(0)]);
        } else {
            assert_eq!(huge, [None; 4]);
        }
        let all = pages.of(0, LEN as u64);
        let nodes: Vec<_> = all.iter().map(|one| one.node).collect();
        assert!(nodes.iter().all(Option::is_some), "{nodes:?}");
        let huge: Option<u64> = all.iter().map(|one| one.huge_bytes).sum();
        assert_eq!(huge, Some(HUGE_PAGE as u64));
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_not_made_up() {
        let mut pages = pages(&[(100, 0, None)]);
        pages.huge_somewhere = Some(40);
        assert_eq!(pages.of(0, 50), [on(0, 50, None)]);
        assert_eq!(pages.of(0, 100), [on(0, 100, Some(40))]);
        let unknown = Pages::unknown(10).of(0, 10);
        assert_eq!((unknown[0].node, unknown[0].huge_bytes), (None, None));
    }
}
