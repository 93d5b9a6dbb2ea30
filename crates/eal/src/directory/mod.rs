//! The directory of a group: where its processes find each other.
//!
//! ```text
//! /run/forebay/PREFIX/        0700, or 0750 and a Unix group with --group
//!     lock                    who is the primary, which slots live (see `lock`)
//!     region                  text: where the files of the region are; renamed into place when they are whole
//!     control.sock            the primary hands out descriptors
//!     doorbell.N              wakes slot N
//! ```
//!
//! | part         | written by                                          | read by           |
//! |--------------|-----------------------------------------------------|-------------------|
//! | `region`     | the primary that creates or removes a region, alone | everybody         |
//! | all the rest | whoever it belongs to                               | everybody         |
//!
//! **If a process dies:** `region` is there whole or not at all. Files of a region that was not announced, or that `region` no
//! longer names, bear the group's name in theirs (`Directory::leftovers`), and the next primary removes them.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

mod base;
mod record;

use base::{bases, enter, make, may_write, open_up};
pub(crate) use record::Record;

use crate::doorbell;
use crate::error::Error;
use crate::hugepage;
use crate::layout::Hash;
use crate::lock::Lock;
use crate::process::SlotId;
use crate::region::Observer;
use crate::sys::user;

/// Longest `--file-prefix`, in bytes.
pub const PREFIX_MAX: usize = 64;

/// The longest record of a region that is read: two paths and some words.
const RECORD_MAX: u64 = 16 << 10;

pub(crate) const LOCK: &str = "lock";
const RECORD: &str = "region";
const RECORD_NEW: &str = "region.new";
pub(crate) const SOCKET: &str = "control.sock";
/// The socket before it listens.
pub(crate) const SOCKET_NEW: &str = "control.sock.new";
const DOORBELL: &str = "doorbell.";
const CONTROL_SUFFIX: &str = ".control";
const DATA_SUFFIX: &str = ".data";

/// Shared memory that every Linux has, unless somebody took it away.
pub(crate) const SHARED_MEMORY: &str = "/dev/shm";

/// The directory of one group.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    prefix: String,
    /// Its place is our own, which others pass through only if we let them.
    exposed: bool,
    /// The Unix group that may join, where that is for us to say.
    group: Option<u32>,
}

/// Which doorbells to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doorbells {
    /// All anew: those of a new region.
    New,
    /// Those that are not there: others live, and have them open.
    Missing,
}

/// Checks the name of a group.
fn check_prefix(prefix: &str) -> Result<(), Error> {
    let why = if prefix.is_empty() {
        "it is empty"
    } else if prefix.len() > PREFIX_MAX {
        "it is too long"
    } else if prefix.starts_with('.') {
        "it starts with a dot"
    } else if !prefix
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        "it has a character other than letters, digits, '-', '_' and '.'"
    } else {
        return Ok(());
    };
    Err(Error::Prefix {
        prefix: prefix.to_owned(),
        why,
    })
}

impl Directory {
    /// The directory for a primary: made if it is not there, in the first place that can be written.
    ///
    /// # Errors
    ///
    /// A prefix that cannot be one, a Unix group that does not exist, no place that can be written or trusted.
    pub fn find(
        runtime_dir: Option<&Path>,
        prefix: &str,
        group: Option<&str>,
    ) -> Result<Self, Error> {
        check_prefix(prefix)?;
        let group = group.map(group_id).transpose()?;
        let mut tried = Vec::new();
        for base in bases(runtime_dir) {
            match make(&base, prefix, group) {
                Ok(path) => {
                    return Ok(Self {
                        path,
                        prefix: prefix.to_owned(),
                        exposed: base.exposed,
                        group,
                    });
                }
                Err(why) => tried.push((base.path.join(prefix), why)),
            }
        }
        Err(Error::NoDirectory { tried })
    }

    /// The directory of a group that is there already.
    ///
    /// # Errors
    ///
    /// A prefix that cannot be one; a directory that is there and may not be entered or trusted.
    pub fn locate(runtime_dir: Option<&Path>, prefix: &str) -> Result<Option<Self>, Error> {
        check_prefix(prefix)?;
        let mut refused = Vec::new();
        for base in bases(runtime_dir) {
            match enter(&base, prefix) {
                Ok(Some(path)) => {
                    return Ok(Some(Self {
                        path,
                        prefix: prefix.to_owned(),
                        exposed: base.exposed,
                        group: None,
                    }));
                }
                Ok(None) => {}
                Err(why) => refused.push((base.path.join(prefix), why)),
            }
        }
        if refused.is_empty() {
            Ok(None)
        } else {
            Err(Error::NoDirectory { tried: refused })
        }
    }

    /// The directory for a primary: that of a group which is there and ours, wherever it is, else as [`find`](Self::find).
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    pub(crate) fn find_ours(
        runtime_dir: Option<&Path>,
        prefix: &str,
        group: Option<&str>,
    ) -> Result<Self, Error> {
        check_prefix(prefix)?;
        for base in bases(runtime_dir) {
            if let Ok(Some(path)) = enter(&base, prefix)
                && may_write(&path).is_ok()
            {
                let found = Self {
                    path,
                    prefix: prefix.to_owned(),
                    exposed: base.exposed,
                    group: group.map(group_id).transpose()?,
                };
                if found.is_ours() {
                    return Ok(found);
                }
            }
        }
        Self::find(runtime_dir, prefix, group)
    }

    /// The directories of all groups that may be entered, best place first.
    pub fn list_groups(runtime_dir: Option<&Path>) -> Vec<Self> {
        let mut groups = Vec::new();
        for base in bases(runtime_dir) {
            let Ok(entries) = base.path.read_dir() else {
                continue;
            };
            let mut prefixes: Vec<String> = entries
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect();
            prefixes.sort();
            for prefix in prefixes {
                if check_prefix(&prefix).is_ok()
                    && let Ok(Some(path)) = enter(&base, &prefix)
                {
                    groups.push(Self {
                        path,
                        prefix,
                        exposed: base.exposed,
                        group: None,
                    });
                }
            }
        }
        groups
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name of the group.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where the primary hands out descriptors.
    pub fn socket_path(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// What wakes a slot.
    pub fn doorbell_path(&self, slot: SlotId) -> PathBuf {
        self.path.join(format!("{DOORBELL}{slot}"))
    }

    /// Makes the doorbells of all slots. For the holder of byte 0. One that cannot be made costs its slot's thread up to 100 ms a sleep
    /// and is told.
    pub(crate) fn make_doorbells(&self, which: Doorbells) {
        let mut failed = 0;
        for slot in SlotId::all() {
            let path = self.doorbell_path(slot);
            if which == Doorbells::New {
                // What is left in an old one, and whose it is, is not ours to know.
                let _ = std::fs::remove_file(&path);
            }
            let made = doorbell::make(&path).map_err(|source| Error::Io {
                what: "make",
                path: path.clone(),
                source,
            });
            let shared = made.and_then(|made| {
                // A new one is its owner's alone, which is right where there is no Unix group.
                if self.group.is_some() || !made {
                    self.share(&path, 0o060)
                } else {
                    Ok(())
                }
            });
            if let Err(error) = shared {
                // Once: a file system without FIFOs has none at all.
                if failed == 0 {
                    tracing::warn!(
                        "{error}; threads whose doorbell is missing do not sleep, but nap: choose another place with --runtime-dir"
                    );
                }
                failed += 1;
            }
        }
    }

    /// Gives a file in it to its owner, and to the group's Unix group (if there is one) with the bits `group_bits`, such as `0o060`.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn share(&self, path: &Path, group_bits: u32) -> Result<(), Error> {
        let error = |source| Error::Io {
            what: "set the access of",
            path: path.to_owned(),
            source,
        };
        std::os::unix::fs::lchown(path, None, self.group).map_err(error)?;
        std::fs::set_permissions(path, self.access(group_bits)).map_err(error)
    }

    /// As [`share`](Self::share), for an open file.
    pub(crate) fn share_file(&self, file: &File, group_bits: u32) -> io::Result<()> {
        if self.group.is_some() {
            std::os::unix::fs::fchown(file, None, self.group)?;
        }
        file.set_permissions(self.access(group_bits))
    }

    fn access(&self, group_bits: u32) -> Permissions {
        let group_bits = if self.group.is_some() {
            group_bits & 0o070
        } else {
            0
        };
        Permissions::from_mode(0o600 | group_bits)
    }

    /// Whether this user may be the group's primary: the directory is his, or he is root.
    pub(crate) fn is_ours(&self) -> bool {
        let user = user::user_id();
        user == 0
            || self
                .path
                .symlink_metadata()
                .is_ok_and(|found| found.uid() == user)
    }

    /// The owner of the directory: whoever creates files of the group.
    pub(crate) fn owner(&self) -> Option<u32> {
        self.path.symlink_metadata().ok().map(|found| found.uid())
    }

    /// Opens the lock; a new one is its owner's alone. `None`: the group is gone, or was never there.
    pub(crate) fn lock(&self, create: bool) -> Result<Option<Lock>, Error> {
        Lock::open(&self.path.join(LOCK), create.then_some(0o600))
    }

    /// Opens the directory and its lock to the Unix group that may join, and to nobody else. For the holder of byte 0.
    pub(crate) fn open_up(&self, lock: &Lock) -> Result<(), Error> {
        let error = |path: PathBuf| {
            |source| Error::Io {
                what: "set the access of",
                path,
                source,
            }
        };
        // Who comes in finds the lock open to him.
        self.share_file(lock.file(), 0o060)
            .map_err(error(self.path.join(LOCK)))?;
        open_up(&self.path, self.exposed, self.group).map_err(error(self.path.clone()))
    }

    /// Opens the lock to look at it.
    pub(crate) fn lock_read_only(&self) -> Result<Option<Lock>, Error> {
        Lock::open_read_only(&self.path.join(LOCK))
    }

    /// Where the region's files are; `None`: none is announced.
    pub(crate) fn record(&self) -> Result<Option<Record>, Error> {
        let path = self.path.join(RECORD);
        let mut text = Vec::new();
        let read = open_plain(&path).and_then(|file| file.take(RECORD_MAX).read_to_end(&mut text));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(Error::Io {
                    what: "read",
                    path,
                    source,
                });
            }
        }
        Record::parse(&text).map(Some).ok_or(Error::NotARegion {
            path,
            why: "it does not name two files",
        })
    }

    /// Announces a region: from now on it is the group's.
    pub(crate) fn announce(&self, record: &Record) -> Result<(), Error> {
        let (new, path) = (self.path.join(RECORD_NEW), self.path.join(RECORD));
        let write = || -> io::Result<()> {
            let mut options = File::options();
            let mut file = options
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&new)?;
            self.share_file(&file, 0o040)?;
            file.write_all(record.to_text().as_bytes())?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|source| Error::Io {
            what: "write",
            path: path.clone(),
            source,
        })
    }

    /// What names of this group's files start with: the prefix, and which directory it is. A path alone does not say that: it may
    /// lead elsewhere in another mount namespace that has the same `/dev/shm`.
    fn stem(&self) -> String {
        let path = Hash::new().text(&self.path.to_string_lossy());
        let place = match self.path.symlink_metadata() {
            Ok(found) => path.number(found.dev()).number(found.ino()),
            // A directory that is gone has no files.
            Err(_) => path,
        };
        format!("forebay-{}-{:016x}-", self.prefix, place.finish())
    }

    /// Names for the files of a new region.
    pub(crate) fn name_files(&self, nonce: u64, control: &Path, data: &Path) -> Record {
        let name =
            |place: &Path, suffix: &str| place.join(format!("{}{nonce:016x}{suffix}", self.stem()));
        Record {
            control: name(control, CONTROL_SUFFIX),
            data: name(data, DATA_SUFFIX),
        }
    }

    /// Whether a file's name is one that [`name_files`](Self::name_files) gives, with this [`stem`](Self::stem).
    fn is_name_of_ours(stem: &str, name: &str) -> bool {
        let rest = name.strip_prefix(stem);
        let nonce = rest.and_then(|rest| {
            rest.strip_suffix(CONTROL_SUFFIX)
                .or(rest.strip_suffix(DATA_SUFFIX))
        });
        nonce.is_some_and(|nonce| {
            nonce.len() == 16 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    }

    /// Files of this group's regions, announced or not, wherever they may be.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let mut places = vec![PathBuf::from(SHARED_MEMORY), self.path.clone()];
        places.extend(hugepage::mounts().into_iter().map(|mount| mount.path));
        let record = self.record().ok().flatten();
        let announced: Vec<PathBuf> = record
            .into_iter()
            .flat_map(|record| [record.control, record.data])
            .collect();
        places.extend(
            announced
                .iter()
                .filter_map(|path| Some(path.parent()?.to_owned())),
        );
        places.sort();
        places.dedup();
        let stem = self.stem();
        let entries = places
            .iter()
            .filter_map(|place| place.read_dir().ok())
            .flatten()
            .flatten();
        let named = entries
            .filter(|entry| {
                entry
                    .file_name()
                    .to_str()
                    .is_some_and(|name| Self::is_name_of_ours(&stem, name))
            })
            .map(|entry| entry.path());
        // An overlay may have numbered the directory anew since the region was announced.
        let group = format!("forebay-{}-", self.prefix);
        let announced = announced.iter().filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(&group))
        });
        let mut found: Vec<PathBuf> = named
            .chain(announced.cloned())
            .filter(|path| self.is_file_of_ours(path))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// Whether it is a file that a primary of this group may have made: everybody may put something of that name into `/dev/shm`.
    fn is_file_of_ours(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok_and(|found| {
            let owner = Some(found.uid());
            found.is_file() && (owner == Some(user::user_id()) || owner == self.owner())
        })
    }

    /// Removes the region's files and what announces them. For a primary that is alone.
    pub(crate) fn remove_region(&self) -> Result<(), Error> {
        let leftovers = self.leftovers();
        let record = self.record().ok().flatten();
        // The announcement first: nobody is led to files that are half gone.
        for path in [self.path.join(RECORD), self.path.join(RECORD_NEW)] {
            remove(&path)?;
        }
        for path in leftovers {
            let announced = record
                .as_ref()
                .is_some_and(|record| [&record.control, &record.data].contains(&&path));
            match remove(&path) {
                // What nobody announced is in nobody's way: it only takes room.
                Err(error) if !announced => tracing::warn!("{error}"),
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// Removes all, the directory too, but for what is not ours. For a primary that is alone: it keeps the lock until it is gone.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        self.remove_region()?;
        let entries = self.path.read_dir().into_iter().flatten().flatten();
        let doorbells = entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(DOORBELL))
            .map(|entry| entry.path());
        let last = [SOCKET_NEW, SOCKET, LOCK].map(|name| self.path.join(name));
        for path in doorbells.collect::<Vec<_>>().into_iter().chain(last) {
            remove(&path)?;
        }
        // It stays if somebody has put something there meanwhile: a new process of the group its lock, or a user a file.
        let _ = std::fs::remove_dir(&self.path);
        Ok(())
    }

    /// Removes a group that nobody lives in: its region and its directory.
    ///
    /// # Errors
    ///
    /// [`Error::StillAlive`] names who lives; else the operating system's.
    pub fn clean(&self) -> Result<(), Error> {
        let still_alive = || {
            let living = Observer::of(self)
                .map(|observer| observer.living())
                .unwrap_or_default();
            Error::StillAlive {
                prefix: self.prefix.clone(),
                living,
            }
        };
        // Without the lock nobody may remove anything, and who removed it has removed the rest.
        let Some(lock) = self.lock(false)? else {
            return Ok(());
        };
        if !lock.try_primary()? || lock.has_others() || !lock.try_alone()? {
            return Err(still_alive());
        }
        // Else it was removed while we looked, and what is there now is a new group's.
        if lock.is_named()? {
            self.remove()
        } else {
            Err(still_alive())
        }
    }
}

/// Opens a file that is nothing but a file: no link, and no pipe that would wait for a writer.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    let file = options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(file)
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Io {
            what: "remove",
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn group_id(name: &str) -> Result<u32, Error> {
    let path = || PathBuf::from(name);
    let found = user::group_id(name).map_err(|source| Error::Io {
        what: "look up the Unix group",
        path: path(),
        source,
    });
    found?.ok_or_else(|| Error::NoGroupId {
        group: name.to_owned(),
    })
}
