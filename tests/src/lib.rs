//! What tests of whole programs are made of.
//!
//! | part        | is                                                                          |
//! |-------------|-----------------------------------------------------------------------------|
//! | [`World`]   | two Linux hosts, *west* and *east*, and a *middle* that joins them by cables |
//! | [`Group`]   | `mp_server` and `mp_client` processes under a prefix of their own           |
//! | [`Process`] | one started program: what it prints, how it ends                            |
//! | [`Leftovers`] | what programs could leave behind on the machine, before and after         |
//! | [`refused`] | runs what has to fail, and reads the one line that says why               |
//! | [`capture`] | pcap and pcapng files, written and read by hand                             |
//! | [`storm`]   | processes killed at random, and what becomes of the others                  |
//!
//! Everything that waits has a deadline, and everything that is started is ended by `Drop`.
#![forbid(unsafe_code)]

pub mod capture;
pub mod frame;
mod group;
mod leftovers;
mod pair;
mod process;
mod refusal;
pub mod storm;
mod world;

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

pub use group::{Audit, Group, Sample, Setup};
pub use leftovers::Leftovers;
pub use pair::{Counts, Pair, Wire};
pub use process::{Ended, Process};
pub use refusal::refused;
pub use world::World;

/// How long anything may take before a test calls it hung: the kernel alone may take ten seconds to bury a process with AF_XDP sockets
/// on a busy machine (`synchronize_rcu_expedited`).
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Where a program of this workspace lies: in `FOREBAY_BIN_DIR`, else beside the running test.
///
/// # Panics
///
/// If it was not built.
pub fn program(name: &str) -> PathBuf {
    // A program lies among the others; a test one folder further down.
    let beside = || {
        let own = env::current_exe().ok()?;
        let mut folders = own.ancestors().skip(1).take(2);
        folders
            .find(|folder| folder.join(name).exists())
            .map(PathBuf::from)
    };
    let folder = env::var_os("FOREBAY_BIN_DIR")
        .map(PathBuf::from)
        .or_else(beside);
    let path = folder.unwrap_or_default().join(name);
    assert!(
        path.exists(),
        "{} is missing; run this with `cargo xtask programs`",
        path.display()
    );
    path
}

/// The same program built with the release profile, if there is one.
pub fn release_program(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os("FOREBAY_RELEASE_BIN_DIR")?).join(name);
    path.exists().then_some(path)
}

/// Says, where libtest does not swallow it, that a test cannot run here.
pub fn skip(what: &str, why: &str) {
    // The line counts as a skipped test; if it cannot be written, nobody is there to count.
    let _ = writeln!(io::stderr(), "skipped: {what}: {why}");
}

/// Waits until `look` finds something.
///
/// # Panics
///
/// If that takes longer than [`DEADLINE`].
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
