//! The NUMA nodes of this machine, as `/sys` has them.
//!
//! A *node* is what DPDK calls a socket: cpus, and the memory next to them.

use std::fs;
use std::path::Path;

const NODES: &str = "/sys/devices/system/node";

/// The nodes of this machine, ascending. One without NUMA has node 0.
pub fn nodes() -> Vec<u32> {
    if cfg!(miri) {
        return vec![0];
    }
    let text = fs::read_to_string(format!("{NODES}/online")).unwrap_or_default();
    let nodes = parse_nodes(text.trim());
    if nodes.is_empty() { vec![0] } else { nodes }
}

/// `0-1,4`
fn parse_nodes(text: &str) -> Vec<u32> {
    let range = |part: &str| -> Option<core::ops::RangeInclusive<u32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

/// The node of a cpu; `None` if the kernel does not tell.
pub fn node_of_cpu(cpu: u32) -> Option<u32> {
    let is_there =
        |node: &u32| Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}/node{node}")).exists();
    nodes().into_iter().find(is_there)
}

/// The file that says how many hugepages a node has; writing to it changes that.
pub(crate) fn hugepages_file(node: u32, page_size: usize, what: &str) -> String {
    let page_kb = page_size >> 10;
    format!("{NODES}/node{node}/hugepages/hugepages-{page_kb}kB/{what}")
}

/// Hugepages of a node: how many nobody uses, and how many there are.
pub(crate) fn hugepages(node: u32, page_size: usize) -> (usize, usize) {
    let read = |what| {
        let text = fs::read_to_string(hugepages_file(node, page_size, what));
        text.ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    (read("free_hugepages"), read("nr_hugepages"))
}

/// Bytes that a node can give: free ones, and those of files that can be read again. `None` if the kernel does not tell.
///
/// Asked first, since a thread whose memory must lie on a node that has none is not refused: the kernel kills somebody for it.
pub(crate) fn free_memory(node: u32) -> Option<u64> {
    parse_free(&fs::read_to_string(format!("{NODES}/node{node}/meminfo")).ok()?)
}

/// What [`free_memory`] makes of `Node 0 MemFree: 1234 kB` and the like.
fn parse_free(meminfo: &str) -> Option<u64> {
    let value = |key: &str| -> Option<u64> {
        let line = |line: &str| -> Option<u64> {
            let (name, value) = line.split_once(':')?;
            let found = name.split_whitespace().last() == Some(key);
            found.then(|| value.trim().trim_end_matches(" kB").parse().ok())?
        };
        meminfo.lines().find_map(line)
    };
    let files = ["Active(file)", "Inactive(file)", "SReclaimable"];
    let cached: u64 = files.into_iter().filter_map(value).sum();
    // The kernel keeps some for itself: a hundredth or less.
    let kept = value("MemTotal")? / 64;
    let free = value("MemFree")?.saturating_add(cached);
    Some(free.saturating_sub(kept).saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_list_is_read_with_ranges_and_without() {
        assert_eq!(parse_nodes("0"), [0]);
        assert_eq!(parse_nodes("0-2,7"), [0, 1, 2, 7]);
        assert_eq!(parse_nodes(""), []);
        assert_eq!(parse_nodes("x,3-,1"), [1]);
    }

    #[test]
    fn memory_of_a_node_is_what_is_free_and_what_can_be_read_again() {
        let text = "Node 1 MemTotal:         640 kB\nNode 1 MemFree:          100 kB\n\
                    Node 1 Active(file):       3 kB\nNode 1 Inactive(file):     2 kB\n\
                    Node 1 FilePages:         50 kB\nNode 1 SReclaimable:       1 kB\n";
        assert_eq!(parse_free(text), Some(96 << 10));
        assert_eq!(parse_free("Node 1 MemFree: 1 kB\n"), None);
    }
}
