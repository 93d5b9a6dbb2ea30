//! Opens the region that a group has, and trusts nothing of it.
//!
//! What is checked, in this order: where the record leads and whose the files are, that they lie in memory, magic, version and
//! hash, the lengths in the header against those of the files, that no byte is missing; then they are mapped. Zone records are
//! checked on each use.
//!
//! **If a process dies:** nothing is written here.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::header::{Control, Facts, LAYOUT, MAGIC};
use super::mapping::Mapping;
use super::{Access, Files, Region, ZONES_START};
use crate::directory::{Directory, Record};
use crate::error::{Error, Layout};
use crate::hugepage;
use crate::layout::PAGE;
use crate::lock::Lock;
use crate::sys::user;

/// Maps the region that is announced in the directory; `None` if none is. The caller has joined by `lock`, or only looks.
pub(super) fn open(
    directory: &Directory,
    lock: Lock,
    access: Access,
) -> Result<Option<Region>, Error> {
    let Some(record) = directory.record()? else {
        return Ok(None);
    };
    let error = |path: &Path, why| Error::NotARegion {
        path: path.to_owned(),
        why,
    };
    let files =
        open_file(directory, &record.control, access == Access::Primary).and_then(|control| {
            Ok((
                control,
                open_file(directory, &record.data, access != Access::Observer)?,
            ))
        });
    let (control_file, data_file) = match files {
        Ok(files) => files,
        // Removed, or another one was announced, while we looked: whoever has not joined may see that.
        Err(Error::Io { source, .. })
            if source.kind() == io::ErrorKind::NotFound
                && directory.record()?.as_ref() != Some(&record) =>
        {
            return Ok(None);
        }
        Err(Error::Io { source, path, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(error(&path, "the file is gone"));
        }
        Err(other) => return Err(other),
    };
    check_layout(&control_file, &record.control)?;
    let control_len = size_of::<Control>();
    check_file(&control_file, control_len as u64, PAGE as u64)
        .map_err(|why| error(&record.control, why))?;
    let control = map(
        &control_file,
        &record.control,
        control_len,
        PAGE,
        access == Access::Primary,
    )?;

    let facts = control.window().slice::<Control>(0, 1)?[0]
        .header
        .facts()
        .map_err(|why| error(&record.control, why))?;
    let (data_len, page) = lengths(&facts, &record).map_err(|why| error(&record.control, why))?;
    check_file(&data_file, facts.data_len, facts.page_size)
        .map_err(|why| error(&record.data, why))?;
    let data = map(
        &data_file,
        &record.data,
        data_len,
        page,
        access != Access::Observer,
    )?;
    if access != Access::Observer
        && let Some(map) = data.map()
    {
        let io = |source| Error::Io {
            what: "get the memory of",
            path: record.data.clone(),
            source,
        };
        map.populate(true).map_err(io)?;
    }
    // What we mapped is still what the names lead to.
    for (file, path) in [(&control_file, &record.control), (&data_file, &record.data)] {
        let same = |named: &Metadata, ours: &Metadata| {
            (named.dev(), named.ino()) == (ours.dev(), ours.ino())
        };
        let named = path
            .symlink_metadata()
            .and_then(|named| Ok(same(&named, &file.metadata()?)));
        if !named.unwrap_or(false) {
            return Ok(None);
        }
    }
    let files = Files {
        directory: directory.clone(),
        record,
        lock,
    };
    Region::new(control, data, facts, access, Some(files)).map(Some)
}

/// Opens a file that the record names, if it may be one of this group's.
fn open_file(directory: &Directory, path: &Path, write: bool) -> Result<File, Error> {
    let mut options = File::options();
    let options = options
        .read(true)
        .write(write)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let io = |source| Error::Io {
        what: "open",
        path: path.to_owned(),
        source,
    };
    let foreign = |why| Error::NotARegion {
        path: path.to_owned(),
        why,
    };
    // Nothing is opened that is not a plain file: opening a device may do something.
    if !path.symlink_metadata().map_err(io)?.is_file() {
        return Err(foreign("it is not a file"));
    }
    let file = options.open(path).map_err(io)?;
    let found = file.metadata().map_err(io)?;
    if !found.is_file() {
        return Err(foreign("it is not a file"));
    }
    if ![directory.owner(), Some(0), Some(user::user_id())].contains(&Some(found.uid())) {
        return Err(foreign("it belongs to a stranger"));
    }
    Ok(file)
}

/// Reads the words that every version has at the start.
fn check_layout(control: &File, path: &Path) -> Result<(), Error> {
    let error = |why| Error::NotARegion {
        path: path.to_owned(),
        why,
    };
    let mut words = [0; 24];
    control
        .read_exact_at(&mut words, 0)
        .map_err(|_| error("it is too short for a header"))?;
    let word = |at: usize| {
        words[at..]
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes))
    };
    if word(0) != MAGIC {
        return Err(error("it does not begin as a region does"));
    }
    let theirs = Layout {
        version: word(8),
        hash: word(16),
    };
    if theirs != LAYOUT {
        return Err(Error::LayoutMismatch {
            path: path.to_owned(),
            ours: LAYOUT,
            theirs,
        });
    }
    Ok(())
}

/// Checks that a file is memory of the page told, as long as told, and that no byte of it is missing.
fn check_file(file: &File, len: u64, page: u64) -> Result<(), &'static str> {
    /// What `stat(2)` counts blocks in.
    const BLOCK: u64 = 512;
    let on = hugepage::page_of(file).ok_or("it does not lie in memory")?;
    if on as u64 != page {
        return Err("it lies on other pages than its header says");
    }
    let found = file.metadata().map_err(|_| "it cannot be asked after")?;
    if found.len() != len {
        return Err("its length is not what it was made with");
    }
    // A hole would be filled on access, or, in a full file system, end in a signal.
    if found.blocks().saturating_mul(BLOCK) < len {
        return Err("it has holes");
    }
    Ok(())
}

/// Length and page of the data part.
fn lengths(facts: &Facts, record: &Record) -> Result<(usize, usize), &'static str> {
    let damaged = "its header was damaged";
    let len = usize::try_from(facts.data_len).map_err(|_| damaged)?;
    let page = usize::try_from(facts.page_size)
        .ok()
        .filter(|page| page.is_power_of_two() && *page >= PAGE);
    let page = page.ok_or(damaged)?;
    let nonce = format!("-{:016x}.", facts.nonce);
    let belongs = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().contains(&nonce))
    };
    if len < ZONES_START || len % page != 0 {
        return Err(damaged);
    }
    if !(belongs(&record.control) && belongs(&record.data)) {
        return Err("it is not the file that the group's record means");
    }
    Ok((len, page))
}

fn map(file: &File, path: &Path, len: usize, page: usize, write: bool) -> Result<Mapping, Error> {
    Mapping::file(file, len, page, write).map_err(|source| Error::Io {
        what: "map",
        path: path.to_owned(),
        source,
    })
}
