//! Makes a new region: two files, reserved whole and filled before anybody hears of them.
//!
//! ```text
//! 1 files under new names   2 reserve   3 map, populate   4 header, magic last   5 rename the record that names them
//! ```
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
use super::{Access, Files, Region, RegionConfig, ZONES_START};
use crate::directory::{Directory, Record};
use crate::error::Error;
use crate::hugepage::{self, Backing, HUGE_PAGE};
use crate::layout::PAGE;
use crate::lock::Lock;
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

/// Makes a region and announces it in the directory. For the primary, alone; after an error it removes what is there.
pub(super) fn build(directory: &Directory, config: &RegionConfig) -> Result<Parts, Error> {
    let asked = config.data_len.max(ZONES_START);
    let too_much = || Error::FileLimit {
        wanted: asked as u64,
    };
    let len = asked
        .checked_next_multiple_of(HUGE_PAGE)
        .ok_or_else(too_much)?;
    let plain = hugepage::plain_place(directory.path())?;
    let (place, notice) = hugepage::choose(config.huge, config.huge_dir.as_deref(), len, &plain)?;
    if let Some(notice) = notice {
        tracing::info!("{notice}");
    }
    let len = len
        .checked_next_multiple_of(place.page_size)
        .ok_or_else(too_much)?;
    let nonce = std::hash::RandomState::new().build_hasher().finish();
    let record = directory.name_files(nonce, &plain, &place.path);

    let control_file = reserve(directory, &record.control, size_of::<Control>(), 0o040)?;
    let no_room = |error| {
        if place.huge {
            no_pages(error, len, place.page_size)
        } else {
            error
        }
    };
    let data_file = reserve(directory, &record.data, len, 0o060).map_err(no_room)?;
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

/// Makes a file and has every byte of it reserved, so that no access can fail later.
fn reserve(directory: &Directory, path: &Path, len: usize, group_bits: u32) -> Result<File, Error> {
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
    loop {
        let error = match rustix::fs::fallocate(file.as_fd(), FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => error,
        };
        // What was reserved so far is given back before we look what is left.
        drop(file);
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
fn no_pages(error: Error, len: usize, page_size: usize) -> Error {
    match error {
        Error::NoSpace { free, .. } => {
            let free = usize::try_from(free).map_or(0, |free| free / page_size);
            Error::NoHugepages {
                needed: len / page_size,
                free,
                page_kb: page_size >> 10,
            }
        }
        error => error,
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
