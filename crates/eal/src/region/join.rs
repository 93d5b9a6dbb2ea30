//! Which role a process gets, and with it which region: a new one, the one that is there, or none.
//!
//! ```text
//! byte 0 free?  yes -> primary.   nobody maps a region? yes -> removes what the dead left, creates
//!                                                       no  -> adopts the region of those who live
//!               no  -> secondary (auto), or refused (primary)
//! secondary:    joins the region if one is announced, with a primary or without; else waits
//! ```
//!
//! **If a process dies:** the lock lets go of what it held, and the next one decides anew from what it finds. Nothing here is in
//! shared memory.

use std::path::PathBuf;
use std::sync::PoisonError;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Access, Files, Observer, Region, attach, create};
use crate::args::HugeChoice;
use crate::directory::{Directory, Doorbells};
use crate::error::{Error, Living};
use crate::keeper;
use crate::lock::Lock;
use crate::process::ProcType;
use crate::sync::Ordering;

/// How long a dying primary may hold its lock: the kernel needs some 10 ms to take a process apart, more with much memory.
const DYING_MAX: Duration = Duration::from_millis(300);
/// How long another process may take to create or remove a region before we say so.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// How often we look again.
const POLL: Duration = Duration::from_millis(5);
/// How long between two looks for the child of a dead primary: one that has just become the primary has mapped the region by then.
const LOOKS_APART: Duration = Duration::from_millis(50);

/// What a process wants of its region.
#[derive(Debug, Clone)]
pub struct RegionConfig {
    /// Where groups are found, if not in the usual places (`--runtime-dir`).
    pub runtime_dir: Option<PathBuf>,
    /// The group (`--file-prefix`).
    pub prefix: String,
    /// The Unix group that may join (`--group`).
    pub group: Option<String>,
    /// The role wanted (`--proc-type`).
    pub proc_type: ProcType,
    /// Bytes of the data part, if this process creates it (`-m`).
    pub data_len: usize,
    /// Bytes on each NUMA node instead (`--socket-mem`); none, and `data_len` counts.
    pub socket_mem: Vec<usize>,
    /// A cpu, that of the main lcore: `data_len` bytes, and zones for any node, lie on its NUMA node if there is room.
    pub near_cpu: Option<u32>,
    /// What pages it gets.
    pub huge: HugeChoice,
    /// The hugetlbfs to take hugepages from (`--huge-dir`).
    pub huge_dir: Option<PathBuf>,
    /// What the process calls itself.
    pub program: String,
    /// How long a secondary waits for its group (`--wait`).
    pub wait: Duration,
}

impl RegionConfig {
    /// A primary in the usual place.
    pub fn new(prefix: &str, data_len: usize) -> Self {
        Self {
            runtime_dir: None,
            prefix: prefix.to_owned(),
            group: None,
            proc_type: ProcType::Primary,
            data_len,
            socket_mem: Vec::new(),
            near_cpu: None,
            huge: HugeChoice::Auto,
            huge_dir: None,
            program: String::new(),
            wait: Duration::ZERO,
        }
    }
}

/// How a process came by its region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// As the primary of a new one.
    Created,
    /// As the new primary of one that others live in.
    Adopted,
    /// As a secondary.
    Attached,
}

impl Region {
    /// Gets the region of a group, in the role asked for.
    ///
    /// # Errors
    ///
    /// Says who is in the way, or what is missing, and what to do about it.
    pub fn join(config: &RegionConfig) -> Result<(Self, Joined), Error> {
        let (mut region, joined) = match config.proc_type {
            ProcType::Primary => Self::create(config)?,
            ProcType::Secondary => (Self::wait_for(config)?, Joined::Attached),
            ProcType::Auto => Self::create_or_attach(config)?,
            role @ ProcType::Invalid => return Err(Error::Role { role }),
        };
        region.near_cpu = config.near_cpu;
        Ok((region, joined))
    }

    /// Gets the region of a group as its primary.
    ///
    /// # Errors
    ///
    /// [`Error::SecondPrimary`] names the first; a region of living processes that this build does not understand; no memory.
    pub fn create(config: &RegionConfig) -> Result<(Self, Joined), Error> {
        let start = Instant::now();
        loop {
            let directory = Directory::find_ours(
                config.runtime_dir.as_deref(),
                &config.prefix,
                config.group.as_deref(),
            )?;
            let region = match directory.lock(true)? {
                Some(lock) if lock.try_primary()? => {
                    Self::as_primary(&directory, lock, config, start)?
                }
                Some(_) if start.elapsed() >= DYING_MAX => {
                    return Err(Error::SecondPrimary {
                        prefix: config.prefix.clone(),
                        primary: primary_of(&directory),
                        child: child_of_dead_primary(&directory),
                    });
                }
                _ => None,
            };
            match region {
                Some(region) => return Ok(region),
                None => sleep(POLL),
            }
        }
    }

    /// Gets the region of a group as a secondary; waits while another process creates or removes it.
    ///
    /// # Errors
    ///
    /// [`Error::NoGroup`] when there is none; [`Error::LayoutMismatch`] and [`Error::NotARegion`] for one that cannot be used.
    pub fn attach(directory: &Directory) -> Result<Self, Error> {
        let start = Instant::now();
        loop {
            match Self::try_attach(directory)? {
                Attempt::Attached(region) => return Ok(*region),
                Attempt::NoGroup => return Err(no_group(directory.prefix())),
                Attempt::Busy => busy(directory.prefix(), start)?,
            }
        }
    }

    /// As [`attach`](Self::attach), and waits for a group that is not there yet.
    fn wait_for(config: &RegionConfig) -> Result<Self, Error> {
        let start = Instant::now();
        loop {
            let directory = Directory::locate(config.runtime_dir.as_deref(), &config.prefix)?;
            let attached = directory.map_or_else(
                || Err(no_group(&config.prefix)),
                |directory| Self::attach(&directory),
            );
            match attached {
                Err(Error::NoGroup { .. }) if start.elapsed() < config.wait => sleep(POLL),
                outcome => return outcome,
            }
        }
    }

    /// As the primary if there is none and this user may be it, else as a secondary.
    fn create_or_attach(config: &RegionConfig) -> Result<(Self, Joined), Error> {
        let start = Instant::now();
        loop {
            let directory = match Directory::locate(config.runtime_dir.as_deref(), &config.prefix)?
            {
                Some(of_another_user) if !of_another_user.is_ours() => of_another_user,
                _ => Directory::find_ours(
                    config.runtime_dir.as_deref(),
                    &config.prefix,
                    config.group.as_deref(),
                )?,
            };
            let lock = if directory.is_ours() {
                directory.lock(true)?
            } else {
                None
            };
            match lock {
                Some(lock) if lock.try_primary()? => {
                    if let Some(region) = Self::as_primary(&directory, lock, config, start)? {
                        return Ok(region);
                    }
                }
                _ => {
                    if let Attempt::Attached(region) = Self::try_attach(&directory)? {
                        return Ok((*region, Joined::Attached));
                    }
                }
            }
            // It is being created, or was just removed.
            busy(&config.prefix, start)?;
        }
    }

    /// What the holder of byte 0 does. `None`: the group was removed meanwhile, or somebody is just looking whether there is one.
    fn as_primary(
        directory: &Directory,
        lock: Lock,
        config: &RegionConfig,
        start: Instant,
    ) -> Result<Option<(Self, Joined)>, Error> {
        if !lock.is_named()? {
            return Ok(None);
        }
        if !lock.has_others() && lock.try_alone()? {
            let parts = directory
                .open_up(&lock)
                .and_then(|()| directory.remove_region())
                .and_then(|()| {
                    directory.make_doorbells(Doorbells::New);
                    create::build(directory, config)
                });
            let parts = parts.inspect_err(|_| {
                // The error that is told is the first one.
                let _ = directory.remove();
            })?;
            // From alone to one of many: that cannot be refused.
            lock.try_join()?;
            return Ok(Some((
                parts.into_region(directory.clone(), lock)?,
                Joined::Created,
            )));
        }
        let adopted = if lock.try_join()? {
            directory.open_up(&lock)?;
            directory.make_doorbells(Doorbells::Missing);
            attach::open(directory, lock, Access::Primary)?
        } else {
            None
        };
        let Some(region) = adopted else {
            busy(directory.prefix(), start)?;
            return Ok(None);
        };
        let header = &region.control().header;
        header.introduce(&config.program);
        // Relaxed: the one primary counts, and it is to be shown.
        let adoptions = header.adoptions.load(Ordering::Relaxed);
        header
            .adoptions
            .store(adoptions.wrapping_add(1), Ordering::Relaxed);
        Ok(Some((region, Joined::Adopted)))
    }

    /// Looks once for a region to join.
    fn try_attach(directory: &Directory) -> Result<Attempt, Error> {
        let Some(lock) = directory.lock(false)? else {
            return Ok(Attempt::NoGroup);
        };
        if !lock.try_join()? || !lock.is_named()? {
            return Ok(Attempt::Busy);
        }
        let region = attach::open(directory, lock, Access::Secondary)?;
        Ok(region.map_or(Attempt::NoGroup, |region| {
            Attempt::Attached(Box::new(region))
        }))
    }

    /// Leaves for good: the primary of a group in which nobody else lives removes its files, and any process lets a successor in.
    /// Called at the end, with no slot left: one that is left keeps our place. The memory stays mapped. Says whether the group
    /// was removed.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn leave(&self) -> Result<bool, Error> {
        let Some(files) = &self.files else {
            return Ok(false);
        };
        // No thread reserves or takes a slot meanwhile; those that wait find that we have left.
        let _reserving = self
            .reserving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let slots = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        let removed = if self.is_primary() {
            remove_if_alone(files)
        } else {
            Ok(false)
        };
        // Also after an error: what could not be removed keeps no successor out.
        if *slots == 0 && self.access != Access::Observer {
            // Before the lock is let go: from then on another may be the primary. A word of this process, for its threads.
            self.left.store(true, Ordering::Release);
            self.doorbells.close();
            files.lock.let_go();
        }
        removed
    }
}

/// Removes the group if nobody else lives in it; says whether it did.
fn remove_if_alone(files: &Files) -> Result<bool, Error> {
    let alone = files.lock.try_alone()?;
    if alone {
        files.directory.remove()?;
    }
    Ok(alone)
}

/// What looking for a region found.
#[derive(Debug)]
enum Attempt {
    Attached(Box<Region>),
    /// None is announced.
    NoGroup,
    /// Another process creates or removes it.
    Busy,
}

/// Waits a little for another process, but not for ever.
fn busy(prefix: &str, start: Instant) -> Result<(), Error> {
    if start.elapsed() >= BUSY_MAX {
        return Err(Error::Busy {
            prefix: prefix.to_owned(),
            seconds: BUSY_MAX.as_secs(),
        });
    }
    sleep(POLL);
    Ok(())
}

fn no_group(prefix: &str) -> Error {
    Error::NoGroup {
        prefix: prefix.to_owned(),
    }
}

/// The process that keeps the lock of a dead primary, if both looks find the same.
fn child_of_dead_primary(directory: &Directory) -> Option<Living> {
    let first = keeper::of_dead_primary(directory)?;
    sleep(LOOKS_APART);
    keeper::of_dead_primary(directory).filter(|second| *second == first)
}

/// Who is the primary, if its region can be looked at.
fn primary_of(directory: &Directory) -> Option<Living> {
    Observer::of(directory).ok()?.primary()
}
