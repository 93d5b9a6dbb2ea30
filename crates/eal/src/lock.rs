//! The lock of a group: who is the primary, and which slots live.
//!
//! A file of no bytes; what counts are the locks on its bytes, which the kernel lets go when the open file description that took
//! them is gone: at exit, at a crash, at `kill -9`, also across PID namespaces.
//!
//! ```text
//! byte 0        the primary                   exclusive
//! byte 1 + i    slot i                        exclusive
//! byte 65       whoever maps the region       shared; exclusive while it is created or removed
//! ```
//!
//! A process has one such descriptor for all its bytes, and a lock does not keep out its own descriptor: `Places` knows which
//! slots are ours. Tools that only look take no lock.
//!
//! A forked child shares the description, and would keep the bytes of its dead parent. So in a child that comes of `fork(3)` the
//! descriptor leads elsewhere, and a child never takes or lets go of anything by it. One that comes of a bare `clone(2)` does keep
//! the bytes; `keeper` finds it.
//!
//! **If a process dies:** that is what this is for. A released lock proves death; it does not admit anybody to the dead one's
//! place, which is for the slot's state word to say. Killed while it creates or removes a region, a process leaves byte 65 free
//! and the next primary starts from nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use crate::error::Error;
use crate::process::{SLOTS_MAX, SlotId};
use crate::sys::fork::NotForChildren;
use crate::sys::lock::{Mode, is_locked, try_lock};

const PRIMARY: Range<i64> = 0..1;
const MEMBERS: Range<i64> = 1 + SLOTS_MAX as i64..2 + SLOTS_MAX as i64;
const ALL: Range<i64> = 0..MEMBERS.end;
const SLOTS_AND_MEMBERS: Range<i64> = 1..MEMBERS.end;

/// The byte of the primary.
pub(crate) const PRIMARY_BYTE: i64 = PRIMARY.start;

/// The byte of a slot.
pub(crate) fn slot_byte(id: SlotId) -> i64 {
    1 + i64::from(id.get())
}

fn byte(id: SlotId) -> Range<i64> {
    let byte = slot_byte(id);
    byte..byte + 1
}

/// The file behind a higher descriptor than others will get.
///
/// The kernel closes what a dead process had from the highest descriptor down, and closing a packet socket takes it some
/// milliseconds, on a busy machine a second. Whoever has the lock behind a low one is known to be dead only after all of them.
fn first_to_be_closed(file: File) -> File {
    /// Beyond what a program of ours opens, and within the usual limit of 1024; the kernel's table grows to 8 KiB for it.
    const HIGH: i32 = 1000;
    rustix::io::fcntl_dupfd_cloexec(&file, HIGH).map_or(file, File::from)
}

/// One open file description of a group's lock.
#[derive(Debug)]
pub(crate) struct Lock {
    /// Dropped before the file is closed.
    #[allow(dead_code, reason = "kept for its destructor")]
    not_for_children: Option<NotForChildren>,
    file: File,
    path: PathBuf,
    /// Of this process: what a forked child finds in its copy of our memory is not its own.
    pid: u32,
}

impl Lock {
    /// Opens the lock at `path`, and creates it with `mode` if told to. `None`: there is none, nor a place for it.
    pub(crate) fn open(path: &Path, create: Option<u32>) -> Result<Option<Self>, Error> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        if let Some(mode) = create {
            options.create(true).mode(mode);
        }
        let lock = Self::opened(options.open(path), path)?;
        Ok(lock.map(|mut lock| {
            lock.not_for_children = NotForChildren::new(lock.file.as_fd());
            lock
        }))
    }

    /// Opens the lock to look at it.
    pub(crate) fn open_read_only(path: &Path) -> Result<Option<Self>, Error> {
        let mut options = OpenOptions::new();
        Self::opened(
            options
                .read(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(path),
            path,
        )
    }

    fn opened(outcome: io::Result<File>, path: &Path) -> Result<Option<Self>, Error> {
        match outcome {
            Ok(file) => Ok(Some(Self {
                not_for_children: None,
                file: first_to_be_closed(file),
                path: path.to_owned(),
                pid: std::process::id(),
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Io {
                what: "open the group's lock",
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// The file, to set its access.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Whether the path still leads to this file: if not, its group was removed while we opened it, and its locks mean nothing.
    pub(crate) fn is_named(&self) -> Result<bool, Error> {
        let named = match self.path.symlink_metadata() {
            Ok(named) => named,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.error(error)),
        };
        let ours = self.file.metadata().map_err(|error| self.error(error))?;
        Ok((named.dev(), named.ino()) == (ours.dev(), ours.ino()))
    }

    /// Becomes the primary, if there is none.
    pub(crate) fn try_primary(&self) -> Result<bool, Error> {
        self.set(&PRIMARY, Mode::Exclusive)
    }

    /// Becomes one of those who map the region; not while it is created or removed.
    pub(crate) fn try_join(&self) -> Result<bool, Error> {
        self.set(&MEMBERS, Mode::Shared)
    }

    /// Keeps all others from mapping the region, if nobody does. Whoever has joined stays joined if this fails.
    pub(crate) fn try_alone(&self) -> Result<bool, Error> {
        self.set(&MEMBERS, Mode::Exclusive)
    }

    /// Lets go of everything.
    pub(crate) fn let_go(&self) {
        if self.is_parents() {
            return;
        }
        // Letting go of what is not held succeeds, and nothing else of it can fail.
        let _ = try_lock(self.file.as_fd(), &ALL, Mode::Unlocked);
    }

    /// Lets go of the bytes of all slots, held or not.
    #[cfg(forebay_model)]
    pub(crate) fn let_go_of_slots(&self) {
        let _ = self.set(&(1..MEMBERS.start), Mode::Unlocked);
    }

    /// Lets go of the primary's byte.
    #[cfg(forebay_model)]
    pub(crate) fn let_go_of_primary(&self) {
        let _ = self.set(&PRIMARY, Mode::Unlocked);
    }

    /// Whether another process is the primary. One that cannot be asked after lives.
    pub(crate) fn has_primary(&self) -> bool {
        is_locked(self.file.as_fd(), &PRIMARY).unwrap_or(true)
    }

    /// Whether another process has a slot, or maps the region.
    pub(crate) fn has_others(&self) -> bool {
        is_locked(self.file.as_fd(), &SLOTS_AND_MEMBERS).unwrap_or(true)
    }

    /// Whether another process holds the slot.
    pub(crate) fn has_slot(&self, id: SlotId) -> bool {
        is_locked(self.file.as_fd(), &byte(id)).unwrap_or(true)
    }

    /// Whether this process is a forked child of the one that opened it.
    fn is_parents(&self) -> bool {
        self.pid != std::process::id()
    }

    fn set(&self, bytes: &Range<i64>, mode: Mode) -> Result<bool, Error> {
        // To a child everything is taken, by its parent.
        if self.is_parents() {
            return Ok(false);
        }
        try_lock(self.file.as_fd(), bytes, mode).map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Io {
            what: "lock",
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would do, were it not for a child that is just being forked: it shares the description until it calls `exec`.
        self.let_go();
    }
}

/// The slots of this process, while no other of its threads changes them.
///
/// Without a lock, in a private region, nobody else is there to be kept out.
#[derive(Debug)]
pub(crate) struct Places<'r> {
    mine: MutexGuard<'r, u64>,
    lock: Option<&'r Lock>,
}

impl<'r> Places<'r> {
    pub(crate) fn new(mine: MutexGuard<'r, u64>, lock: Option<&'r Lock>) -> Self {
        Self { mine, lock }
    }

    /// Whether the slot is one of ours.
    pub(crate) fn has(&self, id: SlotId) -> bool {
        *self.mine & bit(id) != 0
    }

    /// Takes the byte of a slot that is not ours, if nobody has it.
    pub(crate) fn lock(&self, id: SlotId) -> Result<bool, Error> {
        self.lock
            .map_or(Ok(true), |lock| lock.set(&byte(id), Mode::Exclusive))
    }

    /// Lets go of the byte of a slot that did not become ours.
    pub(crate) fn unlock(&self, id: SlotId) {
        if let Some(lock) = self.lock
            && !self.has(id)
        {
            // Letting go of what is not held succeeds, and nothing else of it can fail.
            let _ = lock.set(&byte(id), Mode::Unlocked);
        }
    }

    /// Whether somebody holds the slot: we, or another process.
    pub(crate) fn is_held(&self, id: SlotId) -> bool {
        self.has(id) || self.lock.is_some_and(|lock| lock.has_slot(id))
    }

    /// Remembers a slot as ours.
    pub(crate) fn keep(&mut self, id: SlotId) {
        *self.mine |= bit(id);
    }

    /// Lets go of a slot of ours and of its byte.
    pub(crate) fn give_back(&mut self, id: SlotId) {
        *self.mine &= !bit(id);
        self.unlock(id);
    }
}

const fn bit(id: SlotId) -> u64 {
    1 << id.get()
}
