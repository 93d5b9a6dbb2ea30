//! Makes a new region: two files, reserved whole and filled before anybody hears of them.
//!
//! ```text
//! 1 files under new names   2 reserve   3 map, populate   4 header, magic last   5 rename the record that names them
//! ```
//!
//! Memory comes to lie on a NUMA node in step 2: the kernel takes it from where the thread that reserves says, on a tmpfs and on
//! a hugetlbfs alike. Later steps find it there.
//!
//! **If a process dies:** before 5 the files are nobody's; they bear the group's name in theirs, and the next primary removes
//! them. After 5 the region is whole.

use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use rustix::process::{Resource, getrlimit};

use super::header::{Control, Facts};
use super::mapping::Mapping;
use super::section::{SECTIONS_MAX, Sections};
use super::{Access, Files, Region, RegionConfig, ZONES_START};
use crate::directory::{Directory, Record};
use crate::error::Error;
use crate::hugepage::{self, Backing, HUGE_PAGE, Piece, Place};
use crate::layout::PAGE;
use crate::lock::Lock;
use crate::numa;
use crate::sys::memory::Map;
use crate::sys::numa::OnNode;
use crate::sys::unix_seconds;

/// How long a start may take for huge pages: most machines do two gigabytes in it, a busy one less.
const COLLAPSE_MAX: Duration = Duration::from_secs(2);

/// A region that was made and announced, without what makes it this process's.
#[derive(Debug)]
pub(super) struct Parts {
    control: Mapping,
    data: Mapping,
    facts: Facts,
    record: Record,
}

impl Parts {
    /// The region of the primary that holds `lock`.
    pub(super) fn into_region(self, directory: Directory, lock: Lock) -> Result<Region, Error> {
        let Self {
            control,
            data,
            facts,
            record,
        } = self;
        Region::new(
            control,
            data,
            facts,
            Access::Primary,
            Some(Files {
                directory,
                record,
                lock,
            }),
        )
    }
}

/// The pieces that are to be made, and on which nodes. On a machine with one node they lie where they like.
fn pieces(config: &RegionConfig, nodes: &[u32]) -> Result<Vec<Piece>, Error> {
    let given = (0..).zip(&config.socket_mem);
    let given: Vec<(u32, usize)> = given
        .filter(|(_, len)| **len > 0)
        .map(|(node, len)| (node, *len))
        .collect();
    if let Some((node, _)) = given.iter().find(|(node, _)| !nodes.contains(node)) {
        let (node, nodes) = (*node, nodes.to_vec());
        return Err(Error::NoNode { node, nodes });
    }
    if given.len() > SECTIONS_MAX {
        return Err(Error::TooManyNodes {
            count: given.len(),
            max: SECTIONS_MAX,
        });
    }
    let mut pieces: Vec<Piece> = given
        .into_iter()
        .map(|(node, len)| Piece {
            len,
            node: (nodes.len() > 1).then_some(node),
        })
        .collect();
    if pieces.is_empty() {
        pieces.push(Piece {
            len: config.data_len,
            node: None,
        });
    }
    // The process table is in the first.
    pieces[0].len = pieces[0].len.max(ZONES_START);
    Ok(pieces)
}

/// Makes each piece a whole number of pages, and says how much they are together.
fn round_up(pieces: &mut [Piece], page_size: usize) -> Result<usize, Error> {
    let mut sum = 0_usize;
    for piece in pieces {
        let len = piece.len.checked_next_multiple_of(page_size);
        let end = len.and_then(|len| sum.checked_add(len));
        let (Some(len), Some(end)) = (len, end) else {
            let wanted = (sum as u64).saturating_add(piece.len as u64);
            return Err(Error::FileLimit { wanted });
        };
        (piece.len, sum) = (len, end);
    }
    Ok(sum)
}

/// Makes a region and announces it in the directory. For the primary, alone; after an error it removes what is there.
pub(super) fn build(directory: &Directory, config: &RegionConfig) -> Result<Parts, Error> {
    let nodes = numa::nodes();
    let mut pieces = pieces(config, &nodes)?;
    round_up(&mut pieces, HUGE_PAGE)?;
    let plain = hugepage::plain_place(directory.path())?;
    let (place, notice) =
        hugepage::choose(config.huge, config.huge_dir.as_deref(), &pieces, &plain)?;
    if let Some(notice) = notice {
        tracing::info!("{notice}");
    }
    let len = round_up(&mut pieces, place.page_size)?;
    let nonce = std::hash::RandomState::new().build_hasher().finish();
    let record = directory.name_files(nonce, &plain, &place.path);

    let control_file = make_file(directory, &record.control, size_of::<Control>(), 0o040)?;
    reserve(&control_file, &record.control, (0, size_of::<Control>()))?;
    let data_file = make_file(directory, &record.data, len, 0o060)?;
    // No more than a wish, and on a machine with one node not even that.
    let near = config.near_cpu.filter(|_| nodes.len() > 1);
    let near = near.and_then(numa::node_of_cpu);
    reserve_pieces(&data_file, &record.data, &pieces, (&place, near))?;
    let control = map(&control_file, &record.control, size_of::<Control>(), PAGE)?;
    let data = map(&data_file, &record.data, len, place.page_size)?;

    let backing = if place.huge {
        Backing::Huge
    } else {
        collapse(&data)
    };
    let facts = Facts {
        nonce,
        data_len: len as u64,
        page_size: place.page_size as u64,
        created: unix_seconds(),
        backing,
        sections: sections(&data, &pieces, &nodes),
    };
    // The length is a whole number of pages, so this is all of the mapping.
    let headers = control.window().slice::<Control>(0, 1)?;
    headers[0]
        .header
        .announce(&facts, directory.prefix(), &config.program);
    directory.announce(&record)?;
    tracing::info!(
        "region of {} MB on {backing} in {}",
        len >> 20,
        place.path.display()
    );
    Ok(Parts {
        control,
        data,
        facts,
        record,
    })
}

/// The sections that the pieces are now. One that could lie where it liked is called by the node where it begins.
fn sections(data: &Mapping, pieces: &[Piece], nodes: &[u32]) -> Sections {
    let only = nodes.first().copied().unwrap_or(0);
    let found = || {
        let node = data.map().and_then(|map| map.node_at(0).ok());
        node.filter(|node| nodes.contains(node)).unwrap_or(only)
    };
    let parts: Vec<(u32, u64)> = pieces
        .iter()
        .map(|piece| {
            let node = piece.node.unwrap_or_else(|| match nodes {
                [only] => *only,
                _ => found(),
            });
            (node, piece.len as u64)
        })
        .collect();
    let sections =
        Sections::behind_each_other(&parts).expect("a piece a node, each a whole number of pages");
    let bound = pieces.iter().any(|piece| piece.node.is_some());
    if let (true, Some(map)) = (bound, data.map()) {
        tell_strays(map, &sections);
    }
    sections
}

/// Says how much of a section does not lie on its node: a file system may have a rule of its own (`mount -o mpol=`), and
/// collapsing moves pages.
fn tell_strays(map: &Map, sections: &Sections) {
    for section in sections.as_slice() {
        let offsets = (section.offset..section.end()).step_by(HUGE_PAGE);
        let strays = offsets
            .filter_map(|offset| map.node_at(usize::try_from(offset).ok()?).ok())
            .filter(|node| *node != section.node)
            .count();
        if strays > 0 {
            tracing::warn!(
                "the kernel put {} of the {} MB for NUMA node {} elsewhere (`forebay zones` shows where); \
                 see whether /dev/shm is mounted with `mpol=`",
                (strays * HUGE_PAGE) >> 20,
                section.len >> 20,
                section.node
            );
        }
    }
}

/// Makes an empty file that is to be `len` bytes long.
fn make_file(
    directory: &Directory,
    path: &Path,
    len: usize,
    group_bits: u32,
) -> Result<File, Error> {
    let len = len as u64;
    // A file beyond the limit would be answered by a signal.
    if getrlimit(Resource::Fsize)
        .current
        .is_some_and(|limit| limit < len)
    {
        return Err(Error::FileLimit { wanted: len });
    }
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW);
    let file = options.open(path).map_err(|source| Error::Io {
        what: "create",
        path: path.to_owned(),
        source,
    })?;
    directory
        .share_file(&file, group_bits)
        .map_err(|source| Error::Io {
            what: "set the access of",
            path: path.to_owned(),
            source,
        })?;
    Ok(file)
}

/// Has the memory of all pieces reserved, each on its node.
fn reserve_pieces(
    file: &File,
    path: &Path,
    pieces: &[Piece],
    (place, near): (&Place, Option<u32>),
) -> Result<(), Error> {
    let all: usize = pieces.iter().map(|piece| piece.len).sum();
    let mut offset = 0;
    for piece in pieces {
        let part = (offset, piece.len);
        let reserved = match piece.node {
            Some(node) => reserve_on(node, file, path, part, place),
            None => {
                // Who may not have it starts all the same.
                let wish = near.map(OnNode::rather);
                if let Some(Err(error)) = &wish {
                    tracing::info!("cannot ask for memory of one NUMA node: {error}");
                }
                let reserved = reserve(file, path, part);
                drop(wish);
                reserved
            }
        };
        reserved.map_err(|error| match error {
            Error::NoSpace { path, free, .. } if !place.huge => Error::NoSpace {
                path,
                wanted: all as u64,
                free,
            },
            error if place.huge => no_pages(error, piece, (all, place.page_size)),
            error => error,
        })?;
        offset += piece.len;
    }
    Ok(())
}

/// Has the memory of a part of a file reserved on a NUMA node and no other.
fn reserve_on(
    node: u32,
    file: &File,
    path: &Path,
    (offset, len): (usize, usize),
    place: &Place,
) -> Result<(), Error> {
    let lacking = |free| Error::NodeMemory {
        node,
        wanted: len as u64,
        free,
    };
    if !place.huge
        && let Some(free) = numa::free_memory(node).filter(|free| *free < len as u64)
    {
        let _ = std::fs::remove_file(path);
        return Err(lacking(free));
    }
    let on_node = OnNode::only(node).map_err(|source| {
        let _ = std::fs::remove_file(path);
        Error::NodeRefused { node, source }
    })?;
    let reserved = reserve(file, path, (offset, len));
    drop(on_node);
    reserved.map_err(|error| match error {
        // There is room in the file system, so it was the node's memory.
        Error::NoSpace { free, .. } if !place.huge && free >= len as u64 => {
            lacking(numa::free_memory(node).unwrap_or(0))
        }
        error => error,
    })
}

/// Has every byte of a part of a file reserved, so that no access can fail later. After an error the file is gone.
fn reserve(file: &File, path: &Path, (offset, len): (usize, usize)) -> Result<(), Error> {
    let (offset, len) = (offset as u64, len as u64);
    loop {
        let error = match rustix::fs::fallocate(file.as_fd(), FallocateFlags::empty(), offset, len)
        {
            Ok(()) => return Ok(()),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => error,
        };
        // What was reserved so far is given back before we look what is left.
        let _ = file.set_len(0);
        let _ = std::fs::remove_file(path);
        let place = path.parent().unwrap_or(path);
        return Err(match error {
            rustix::io::Errno::NOSPC | rustix::io::Errno::NOMEM => Error::NoSpace {
                path: place.to_owned(),
                wanted: len,
                free: hugepage::free_bytes(place),
            },
            rustix::io::Errno::FBIG => Error::FileLimit { wanted: len },
            error => Error::Io {
                what: "reserve",
                path: path.to_owned(),
                source: error.into(),
            },
        });
    }
}

/// Maps a new file for writing, with all its pages there.
fn map(file: &File, path: &Path, len: usize, page: usize) -> Result<Mapping, Error> {
    let error = |what| {
        move |source: io::Error| Error::Io {
            what,
            path: path.to_owned(),
            source,
        }
    };
    let mapping = Mapping::file(file, len, page, true).map_err(error("map"))?;
    if let Some(map) = mapping.map() {
        map.populate(true).map_err(error("get the memory of"))?;
    }
    Ok(mapping)
}

/// Says that hugepages went to somebody else after they were counted.
fn no_pages(error: Error, piece: &Piece, (all, page_size): (usize, usize)) -> Error {
    match (error, piece.node) {
        (Error::NoSpace { .. }, Some(node)) => {
            hugepage::no_pages_on(node, piece.pages(page_size), page_size)
        }
        (Error::NoSpace { free, .. }, None) => {
            let free = usize::try_from(free).map_or(0, |free| free / page_size);
            Error::NoHugepages {
                needed: all / page_size,
                free,
                page_kb: page_size >> 10,
            }
        }
        (error, _) => error,
    }
}

/// Has the kernel put plain pages on huge ones, where it does that and for as long as we can wait.
fn collapse(data: &Mapping) -> Backing {
    let Some(map) = data.map() else {
        return Backing::Plain;
    };
    let (start, mut done) = (Instant::now(), 0);
    for offset in (0..data.len()).step_by(HUGE_PAGE) {
        match map.collapse(offset, HUGE_PAGE) {
            Ok(()) => done += HUGE_PAGE,
            // No huge page is free for this one; or the kernel does not do it at all, and then not for the next one either.
            Err(error) if done == 0 => {
                tracing::info!(
                    "the kernel does not collapse plain pages here ({error}); access is slower for it"
                );
                return Backing::Plain;
            }
            Err(_) => {}
        }
        if start.elapsed() > COLLAPSE_MAX {
            break;
        }
    }
    if done == data.len() {
        return Backing::Collapsed;
    }
    tracing::info!(
        "{} of {} MB are on huge pages",
        done >> 20,
        data.len() >> 20
    );
    Backing::Plain
}
