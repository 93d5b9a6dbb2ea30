//! Doorbells: what wakes the thread of a slot that sleeps.
//!
//! ```text
//! who publishes --8 bytes--> doorbell.N (a FIFO in the group's directory) --poll--> the thread of slot N, asleep
//! ```
//!
//! | part | written by | read by |
//! |---|---|---|
//! | the FIFO's name | the primary: anew with a region, what is missing when it takes one over | everybody |
//! | what is in it   | whoever rings, never blocking; nothing is lost if it is full: it has been rung | the owner of the slot, who empties it |
//!
//! A FIFO by name needs nobody to hand it out: it works while there is no primary, for every later occupant of the slot, and across
//! user and PID namespaces. Each process opens those that it rings once. Whoever rings opens for reading too, so that no signal meets
//! him when the owner is dead. In private memory, which only one process has, an eventfd takes the FIFO's place.
//!
//! **If a process dies:** who rings, before it did so: its consumer sleeps on until the sweep rings, or for 100 ms. The owner: what was
//! rung stays in the FIFO if anybody has it open, and its successor wakes up once for nothing.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::error::Error;
use crate::process::{SLOTS_MAX, SlotId};
use crate::region::Region;
use crate::sleep::{Bell, Cause, WaitSet};

/// What ringing writes: an eventfd takes no less.
const RING: [u8; 8] = 1_u64.to_ne_bytes();
/// Bytes that are taken out at a time, and what a FIFO holds if the kernel lets us say: a page.
const ROOM: usize = 4096;
/// Reads that empty a FIFO of the size that they have by default, and one.
const READS_MAX: usize = 17;
/// How long to wait instead where the kernel cannot wait.
const UNPOLLED: Duration = Duration::from_millis(1);

/// The doorbells that a process rings.
#[derive(Debug)]
pub(crate) struct Doorbells {
    rooms: [RwLock<Option<OwnedFd>>; SLOTS_MAX],
    /// Slots whose doorbell could not be rung, a bit each: told once.
    told: AtomicU64,
    /// Rings that came to nothing.
    missed: AtomicU64,
}

impl Doorbells {
    pub(crate) const fn new() -> Self {
        Self {
            rooms: [const { RwLock::new(None) }; SLOTS_MAX],
            told: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    /// Rings, with what `open` gives the first time. Never blocks.
    fn ring(&self, slot: SlotId, open: impl Fn() -> io::Result<OwnedFd>) -> io::Result<()> {
        let room = &self.rooms[slot.index()];
        loop {
            // Only opening and closing write there, each by one store.
            let known = room.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(fd) = &*known {
                return match rustix::io::write(fd, &RING) {
                    // Full: it has been rung.
                    Ok(_) | Err(Errno::AGAIN) => Ok(()),
                    Err(Errno::INTR) => continue,
                    Err(error) => Err(error.into()),
                };
            }
            drop(known);
            let opened = open()?;
            room.write()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(opened);
        }
    }

    /// Closes all: who rings later opens anew.
    pub(crate) fn close(&self) {
        for room in &self.rooms {
            drop(room.write().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

impl Region {
    /// Wakes the thread of a slot if it sleeps; if not, its next sleep is none. Never blocks. What cannot be rung is counted
    /// and told once: its owner finds what there is within 100 ms.
    #[cold]
    pub fn ring_doorbell(&self, slot: SlotId) {
        if !self.is_writable() {
            return;
        }
        #[cfg(forebay_model)]
        {
            // In the model a doorbell is a word: a ring is a step like any other.
            self.slots()[slot.index()]
                .bell()
                .store(1, crate::sync::Ordering::Release);
        }
        #[cfg(not(forebay_model))]
        if let Err(error) = self.doorbells().ring(slot, || self.open_doorbell(slot)) {
            let bells = self.doorbells();
            bells.missed.fetch_add(1, Ordering::Relaxed);
            let bit = 1 << slot.get();
            if bells.told.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
                tracing::warn!(
                    "cannot ring the doorbell of slot {slot}: {error}; its thread sees new packets up to 100 ms late. \
                     The next primary makes what is missing"
                );
            }
        }
    }

    /// Wakes all threads of this process that have a slot.
    pub fn ring_own_doorbells(&self) {
        self.own_slots()
            .iter()
            .for_each(|slot| self.ring_doorbell(slot));
    }

    /// Rings that came to nothing, since this process joined.
    pub fn doorbells_missed(&self) -> u64 {
        self.doorbells().missed.load(Ordering::Relaxed)
    }

    fn open_doorbell(&self, slot: SlotId) -> io::Result<OwnedFd> {
        match self.directory() {
            Some(directory) => open(&directory.doorbell_path(slot)),
            None => Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?),
        }
    }
}

/// Opens a FIFO to ring it, or to wait for that.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let mut options = File::options();
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = options
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no FIFO"));
    }
    // Less for a ring that nobody hears to fill. Where that is refused it holds more.
    let _ = rustix::pipe::fcntl_setpipe_size(&file, ROOM);
    Ok(file.into())
}

/// Makes the doorbell of a slot, for this user alone; says whether it was missing.
pub(crate) fn make(path: &Path) -> io::Result<bool> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let make = || mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
    match make() {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => {
            if path.symlink_metadata()?.file_type().is_fifo() {
                return Ok(false);
            }
            std::fs::remove_file(path)?;
            make()?;
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

/// The doorbell of a slot of our own, to wait for.
#[derive(Debug)]
pub struct Doorbell(OwnedFd);

impl Doorbell {
    /// That of `slot`, emptied of what was meant for its last occupant.
    pub(crate) fn of(region: &Region, slot: SlotId) -> Result<Self, Error> {
        let error = |source| Error::Io {
            what: "open",
            path: region
                .directory()
                .map(|directory| directory.doorbell_path(slot))
                .unwrap_or_default(),
            source,
        };
        // In private memory there is one for all who ring and who waits.
        let fd = if region.directory().is_some() {
            region.open_doorbell(slot)
        } else {
            region
                .doorbells()
                .ring(slot, || region.open_doorbell(slot))
                .and_then(|()| {
                    let room = region.doorbells().rooms[slot.index()]
                        .read()
                        .unwrap_or_else(PoisonError::into_inner);
                    room.as_ref().ok_or(io::ErrorKind::NotFound)?.try_clone()
                })
        };
        let bell = Self(fd.map_err(error)?);
        bell.clear();
        Ok(bell)
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Bell for Doorbell {
    fn wait(&self, others: &WaitSet<'_>, timeout: Duration) -> Cause {
        let mut sources = Vec::with_capacity(1 + others.descriptors().len());
        sources.push(PollFd::new(&self.0, PollFlags::IN));
        let others = others.descriptors().iter();
        sources.extend(others.map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)));
        let timeout = Timespec::try_from(timeout).ok();
        match poll(&mut sources, timeout.as_ref()) {
            Ok(0) => Cause::Time,
            Ok(_) if sources[0].revents().is_empty() => Cause::Device,
            Ok(_) => Cause::Rung,
            // Its handler has done its work, and whoever wants to know looks.
            Err(Errno::INTR) => Cause::Signal,
            // The kernel does not wait for so many (RLIMIT_NOFILE) or has no memory: the time has to do, a short one.
            Err(_) => {
                std::thread::sleep(UNPOLLED);
                Cause::Time
            }
        }
    }

    fn clear(&self) {
        let mut bytes = [0; ROOM];
        for _ in 0..READS_MAX {
            match rustix::io::read(&self.0, &mut bytes) {
                Ok(ROOM) | Err(Errno::INTR) => {}
                // Empty, or an eventfd, which is read at once.
                _ => return,
            }
        }
    }
}

#[cfg(all(test, not(any(loom, forebay_model, miri))))]
mod tests;
