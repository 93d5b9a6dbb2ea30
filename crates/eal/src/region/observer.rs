//! A group seen from outside: both parts mapped read-only, for tools.
//!
//! An observer takes no lock and no slot, so it can be run twice, be killed, and look at a group that hangs. What it sees may be
//! removed meanwhile; it then goes on seeing what was.
//!
//! **If a process dies:** an observer sees its slot LIVE and its lock byte free.

use std::path::Path;
use std::time::Duration;

use super::{Access, Region, attach};
use crate::directory::Directory;
use crate::error::{Error, Living};
use crate::process::{SlotId, SlotState};

/// How often a region is looked for that is being replaced.
const ATTEMPTS: usize = 20;
/// How long between two looks.
const POLL: Duration = Duration::from_millis(5);

/// A group that this process only looks at.
#[derive(Debug)]
pub struct Observer {
    region: Region,
}

impl Observer {
    /// Looks at the group `prefix`.
    ///
    /// # Errors
    ///
    /// [`Error::NoGroup`] when there is none, and what keeps its region from being read.
    pub fn open(runtime_dir: Option<&Path>, prefix: &str) -> Result<Self, Error> {
        let directory = Directory::locate(runtime_dir, prefix)?;
        Self::of(&directory.ok_or_else(|| Error::NoGroup {
            prefix: prefix.to_owned(),
        })?)
    }

    /// Looks at the group of a directory.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn of(directory: &Directory) -> Result<Self, Error> {
        let no_group = || Error::NoGroup {
            prefix: directory.prefix().to_owned(),
        };
        for attempt in 0..ATTEMPTS {
            let lock = directory.lock_read_only()?.ok_or_else(no_group)?;
            if let Some(region) = attach::open(directory, lock, Access::Observer)? {
                return Ok(Self { region });
            }
            // Where nobody lives, nobody is about to announce one.
            if attempt > 0
                && directory.record()?.is_none()
                && !directory
                    .lock_read_only()?
                    .is_some_and(|lock| lock.has_primary())
            {
                break;
            }
            std::thread::sleep(POLL);
        }
        Err(no_group())
    }

    /// The region: nothing of it can be written, and who stores to it is stopped by a segmentation fault.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Whether the slot is somebody's who lives.
    pub fn alive(&self, slot: SlotId) -> bool {
        let (state, _) = self.region.slots()[slot.index()].state();
        state == SlotState::Live
            && self
                .region
                .files
                .as_ref()
                .is_some_and(|files| files.lock.has_slot(slot))
    }

    /// Whether the group has a primary that lives.
    pub fn primary_alive(&self) -> bool {
        self.region.primary_alive()
    }

    /// The primary, if it lives, as it calls itself.
    pub fn primary(&self) -> Option<Living> {
        let info = self.region.info();
        (self.primary_alive() && info.primary_pid != 0).then_some(Living {
            pid: info.primary_pid,
            name: info.primary_name,
        })
    }

    /// The processes that live, as they call themselves: the primary first, then those that have slots.
    pub fn living(&self) -> Vec<Living> {
        let mut living: Vec<Living> = self.primary().into_iter().collect();
        for (_, record) in SlotId::all()
            .zip(self.region.slots())
            .filter(|(id, _)| self.alive(*id))
        {
            if living.iter().all(|one| one.pid != record.pid()) {
                living.push(Living {
                    pid: record.pid(),
                    name: record.name(),
                });
            }
        }
        living
    }
}
