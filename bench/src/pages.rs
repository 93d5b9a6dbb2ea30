//! Hugepages for the time of a run, the same for both sides.
//!
//! A run reserves pages of 2 MiB and mounts them in a folder of its own, where it may, and takes both back at its end. Where it
//! may not, both sides lie on plain pages.
//!
//! **If the run is killed:** the pages stay reserved and the folder stays mounted. The next run finds the pages and says so;
//! `sysctl vm.nr_hugepages=0` and `umount` free them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Pages of 2 MiB that a run needs: a pipeline and its peer's, each a few hundred MB at most.
const PAGES: u32 = 512;
const RESERVED: &str = "/proc/sys/vm/nr_hugepages";
const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// What both sides lie on.
#[derive(Debug)]
pub(crate) enum Pages {
    /// Hugepages, in a folder where they are mounted.
    Huge(Mounted),
    /// Plain pages, and why.
    Plain(String),
}

/// Pages that were reserved and mounted, until this is dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    dir: PathBuf,
    before: String,
}

impl Pages {
    /// Reserves them, in a folder below `scratch`.
    pub(crate) fn reserve(scratch: &Path) -> Self {
        Self::try_reserve(scratch).unwrap_or_else(|why| Self::Plain(format!("{why:#}")))
    }

    fn try_reserve(scratch: &Path) -> Result<Self> {
        let read = |path| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let before = read(RESERVED)?.trim().to_owned();
        let dir = scratch.join("hugepages");
        fs::create_dir_all(&dir)?;
        fs::write(RESERVED, PAGES.to_string()).context("cannot reserve hugepages")?;
        // From here on dropping it undoes what was done.
        let mounted = Mounted { dir, before };
        let free: u32 = read(FREE)?.trim().parse().unwrap_or(0);
        ensure!(
            free >= PAGES,
            "the kernel found only {free} of {PAGES} hugepages"
        );
        let none = MountFlags::empty();
        mount("none", &mounted.dir, "hugetlbfs", none, None).context("cannot mount hugepages")?;
        Ok(Self::Huge(mounted))
    }

    /// What a result says of them.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Huge(_) => "hugepages of 2 MiB",
            Self::Plain(_) => "plain pages",
        }
    }

    /// The arguments that make an environment of ours lie there.
    pub(crate) fn ours(&self) -> Vec<String> {
        match self {
            Self::Huge(mounted) => vec![format!("--huge-dir={}", mounted.dir.display())],
            Self::Plain(_) => vec!["--no-huge".to_owned()],
        }
    }

    /// The arguments that make a peer's lie there.
    pub(crate) fn peer(&self) -> Vec<String> {
        self.ours()
    }

    /// The arguments that make a peer's lie there which shares nothing.
    pub(crate) fn peer_alone(&self) -> Vec<String> {
        let args: &[&str] = match self {
            Self::Huge(_) => &["--in-memory"],
            Self::Plain(_) => &["--no-huge", "--no-shconf"],
        };
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nothing is mounted if that is what failed.
        let _ = unmount(&self.dir, UnmountFlags::DETACH);
        if let Err(error) = fs::write(RESERVED, &self.before) {
            eprintln!(
                "forebay-bench: {RESERVED} should be {} again: {error}",
                self.before
            );
        }
    }
}
