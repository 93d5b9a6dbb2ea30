//! Pages for the region: hugepages where there are some, else plain ones on a tmpfs.
//!
//! Files must be reachable by a path, so that a process can join that has no descriptor; so no memfd.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FsWord};

use crate::args::HugeChoice;
use crate::directory::SHARED_MEMORY;
use crate::error::Error;
use crate::layout::PAGE;
use crate::numa;

/// Of `linux/magic.h`.
const TMPFS_MAGIC: FsWord = 0x0102_1994;
/// Of `linux/magic.h`.
const HUGETLBFS_MAGIC: FsWord = 0x9584_58f6;

/// The huge page of most machines: plain regions are a multiple of it, so that the kernel can put them on such pages.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// What the data part of a region lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Backing {
    /// Memory of this process alone.
    Private = 0,
    /// A tmpfs, on plain pages.
    Plain = 1,
    /// A tmpfs, collapsed to huge pages by the kernel.
    Collapsed = 2,
    /// A hugetlbfs.
    Huge = 3,
}

impl Backing {
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Private),
            1 => Some(Self::Plain),
            2 => Some(Self::Collapsed),
            3 => Some(Self::Huge),
            _ => None,
        }
    }
}

impl core::fmt::Display for Backing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(match self {
            Self::Private => "private memory",
            Self::Plain => "plain pages",
            Self::Collapsed => "plain pages, collapsed to huge ones",
            Self::Huge => "hugepages",
        })
    }
}

/// A hugetlbfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
    pub(crate) page_size: usize,
}

/// All of them.
pub(crate) fn mounts() -> Vec<Mount> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter_map(mount).collect()
}

/// A line of the mount table, if it is of a hugetlbfs. `proc(5)` has its fields.
fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let path = before.split(' ').nth(4)?;
    let mut after = after.split(' ');
    if after.next()? != "hugetlbfs" {
        return None;
    }
    let options = after.nth(1)?;
    let size = options
        .split(',')
        .find_map(|option| option.strip_prefix("pagesize="));
    // The default size if it is not told, which is how older kernels tell it.
    let page_size = size.map_or(Some(HUGE_PAGE), parse_size)?;
    Some(Mount {
        path: PathBuf::from(unescape(path)),
        page_size,
    })
}

/// `2M`, `1024M`, `1G`
fn parse_size(text: &str) -> Option<usize> {
    let (number, unit) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (number, "K") => (number, 1 << 10),
        (number, "M") => (number, 1 << 20),
        (number, "G") => (number, 1 << 30),
        _ => (text, 1),
    };
    number
        .parse::<usize>()
        .ok()?
        .checked_mul(unit)
        .filter(|size| size.is_power_of_two())
}

/// The mount table writes blanks and the like as `\040`.
fn unescape(path: &str) -> String {
    let mut plain = path.to_owned();
    for (escaped, character) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        plain = plain.replace(escaped, character);
    }
    plain
}

/// Hugepages of a size that nobody has reserved.
fn free_pages(page_size: usize) -> usize {
    let read = |what: &str| -> usize {
        let path = format!(
            "/sys/kernel/mm/hugepages/hugepages-{}kB/{what}",
            page_size >> 10
        );
        std::fs::read_to_string(path)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    };
    read("free_hugepages").saturating_sub(read("resv_hugepages"))
}

/// Where the data part goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) page_size: usize,
    pub(crate) huge: bool,
}

/// A piece of the data part that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) len: usize,
    /// The NUMA node that it must lie on, if it must.
    pub(crate) node: Option<u32>,
}

impl Piece {
    /// Hugepages of that size that it takes.
    pub(crate) fn pages(&self, page_size: usize) -> usize {
        self.len.div_ceil(page_size)
    }
}

/// Says which node has too few hugepages for its piece; `None` if none has. Memory of a node that was reserved by others is not
/// told apart here, and found out when it is taken.
fn lacking_on_a_node(pieces: &[Piece], page_size: usize) -> Option<Error> {
    let mut lacking = pieces.iter().filter_map(|piece| {
        let (node, needed) = (piece.node?, piece.pages(page_size));
        let (free, _) = numa::hugepages(node, page_size);
        (free < needed).then(|| no_pages_on(node, needed, page_size))
    });
    lacking.next()
}

/// A node has too few hugepages.
pub(crate) fn no_pages_on(node: u32, needed: usize, page_size: usize) -> Error {
    let (free, all) = numa::hugepages(node, page_size);
    Error::NoNodeHugepages {
        node,
        needed,
        free,
        page_kb: page_size >> 10,
        file: numa::hugepages_file(node, page_size, "nr_hugepages"),
        reserve: all + needed.saturating_sub(free),
    }
}

/// Finds the place for a data part of these pieces. `plain` is where it goes without hugepages; the text is a notice.
pub(crate) fn choose(
    choice: HugeChoice,
    huge_dir: Option<&Path>,
    pieces: &[Piece],
    plain: &Path,
) -> Result<(Place, Option<String>), Error> {
    let len: usize = pieces.iter().map(|piece| piece.len).sum();
    let needed_of = |page| pieces.iter().map(|piece| piece.pages(page)).sum::<usize>();
    let on_plain = || Place {
        path: plain.to_owned(),
        page_size: PAGE,
        huge: false,
    };
    if choice == HugeChoice::Never {
        return Ok((on_plain(), None));
    }
    let wanted = huge_dir.map(|dir| dir.canonicalize().unwrap_or_else(|_| dir.to_owned()));
    let mut mounts: Vec<Mount> = mounts()
        .into_iter()
        .filter(|mount| {
            wanted
                .as_ref()
                .is_none_or(|dir| dir.starts_with(&mount.path))
        })
        .collect();
    // The largest page that is not mostly wasted comes first.
    mounts.sort_by_key(|mount| {
        (
            mount.page_size > len.max(HUGE_PAGE),
            core::cmp::Reverse(mount.page_size),
        )
    });
    let no_place = |dir: PathBuf, page: usize, why| Error::HugeMount {
        dir,
        needed: needed_of(page),
        page_kb: page >> 10,
        why,
    };
    let mut lacking = None;
    for mount in mounts {
        let (needed, free) = (needed_of(mount.page_size), free_pages(mount.page_size));
        let on_a_node = lacking_on_a_node(pieces, mount.page_size);
        let path = wanted.clone().unwrap_or(mount.path);
        let writable = rustix::fs::access(&path, Access::WRITE_OK).is_ok();
        if free >= needed && on_a_node.is_none() && writable {
            return Ok((
                Place {
                    path,
                    page_size: mount.page_size,
                    huge: true,
                },
                None,
            ));
        }
        // Where pages are lacking on several mounts, the first one is told: its pages fit best.
        let why = if let Some(on_a_node) = on_a_node {
            on_a_node
        } else if writable || free < needed {
            Error::NoHugepages {
                needed,
                free,
                page_kb: mount.page_size >> 10,
            }
        } else {
            no_place(path, mount.page_size, "it cannot be written by this user")
        };
        lacking = lacking.or(Some(why));
    }
    let lacking = lacking.unwrap_or_else(|| match huge_dir {
        Some(dir) => no_place(dir.to_owned(), HUGE_PAGE, "it is not on a hugetlbfs"),
        None => no_place(
            PathBuf::from("/dev/hugepages"),
            HUGE_PAGE,
            "no hugetlbfs is mounted",
        ),
    });
    match choice {
        HugeChoice::Required => Err(lacking),
        _ => Ok((on_plain(), Some(format!("plain pages: {lacking}")))),
    }
}

/// Where shared files on plain pages go: `/dev/shm`, or `otherwise` if only that is a tmpfs.
pub(crate) fn plain_place(otherwise: &Path) -> Result<PathBuf, Error> {
    for path in [Path::new(SHARED_MEMORY), otherwise] {
        let writable = rustix::fs::access(path, Access::WRITE_OK).is_ok();
        if writable && rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == TMPFS_MAGIC) {
            return Ok(path.to_owned());
        }
    }
    Err(Error::NoSharedMemory {
        tried: otherwise.to_owned(),
    })
}

/// The page of the memory that a file lies on; `None` if it does not lie in memory.
pub(crate) fn page_of(file: &File) -> Option<usize> {
    let found = rustix::fs::fstatfs(file.as_fd()).ok()?;
    match found.f_type {
        TMPFS_MAGIC => Some(PAGE),
        HUGETLBFS_MAGIC => usize::try_from(found.f_bsize)
            .ok()
            .filter(|size| size.is_power_of_two()),
        _ => None,
    }
}

/// Bytes that the file system of `path` has left.
pub(crate) fn free_bytes(path: &Path) -> u64 {
    rustix::fs::statvfs(path).map_or(0, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_table_gives_hugetlbfs_and_its_page() {
        let table = [
            "31 24 0:27 / /dev/hugepages rw,relatime shared:16 - hugetlbfs hugetlbfs rw,pagesize=2M",
            "32 24 0:28 / /mnt/large\\040pages rw - hugetlbfs none rw,gid=5,pagesize=1024M,size=2G",
            "33 24 0:29 / /mnt/old rw - hugetlbfs none rw",
            "34 24 0:30 / /dev/shm rw shared:17 - tmpfs tmpfs rw",
            "nonsense - hugetlbfs",
            "",
        ];
        let found: Vec<_> = table.into_iter().filter_map(mount).collect();
        let mount = |path: &str, page_size| Mount {
            path: PathBuf::from(path),
            page_size,
        };
        assert_eq!(
            found,
            [
                mount("/dev/hugepages", 2 << 20),
                mount("/mnt/large pages", 1 << 30),
                mount("/mnt/old", 2 << 20)
            ]
        );
    }
}
