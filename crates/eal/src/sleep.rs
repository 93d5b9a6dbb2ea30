//! How a thread sleeps and misses nothing.
//!
//! ```text
//! 1 all sources empty      2 every source: "I sleep"; barrier      3 look again: something? up, and to work
//! 4 wait: doorbell, devices, 100 ms at most      5 empty the doorbell      6 every source: "awake"; look again
//! ```
//!
//! `docs/protocol.md`, section 6, says why each step is there and what goes wrong in any other order; loom runs these very steps in
//! `ring`, the crash model in `model`.
//!
//! | part | written by | read by |
//! |---|---|---|
//! | "I sleep" of a ring | its consumer alone | its producers, after they published |
//! | the doorbell        | producers; emptied by its owner | its owner |
//!
//! **If a process dies:** the sleeper, anywhere: its rings say that it sleeps until a successor takes them; producers ring a bell that
//! nobody hears, without waiting. A producer between publishing and ringing: the sweep rings, and without a primary the 100 ms do.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::barrier;
use crate::sync::mutated;

/// The longest sleep: what a producer that was killed before it rang, without a primary to sweep, can cost.
pub const SLEEP_MAX: Duration = Duration::from_millis(100);
/// The longest where the kernel refuses the barrier, and a ring may be missed.
const UNSURE_MAX: Duration = Duration::from_millis(1);
/// What a producer gets to ring after it published, before it counts that it did not.
const GRACE: Duration = Duration::from_millis(10);

/// Mistakes that models make, to show that they would see them.
pub const NO_SECOND_LOOK: &str = "no second look before sleeping";
/// The second one.
pub const EATEN_RING: &str = "the doorbell is emptied without a look afterwards";

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Something that no doorbell tells of.
    InDevice,
    /// Something in a ring, whose producer rings.
    InRing,
}

/// Where a thread's work comes from: a ring, a queue, or several.
pub trait Source {
    /// Whether there may be work at any time and nothing tells: then the thread polls and cannot sleep.
    fn must_poll(&self) -> bool {
        false
    }

    /// Says that the thread is about to sleep: from now on producers ring.
    fn sleep_begin(&mut self) {}

    /// Looks whether there is something, and takes nothing.
    fn look(&mut self) -> Found;

    /// Says that it is awake.
    fn sleep_end(&mut self) {}

    /// Adds the descriptors that become ready when there is work.
    fn wait_on<'s>(&'s self, _set: &mut WaitSet<'s>) {}
}

/// What a thread waits for beside its doorbell.
#[derive(Debug, Default)]
pub struct WaitSet<'s>(Vec<BorrowedFd<'s>>);

impl<'s> WaitSet<'s> {
    /// Adds a descriptor that is to become readable.
    pub fn add(&mut self, fd: BorrowedFd<'s>) {
        self.0.push(fd);
    }

    /// All of them.
    pub fn descriptors(&self) -> &[BorrowedFd<'s>] {
        &self.0
    }
}

/// Why a thread woke up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It did not sleep: the second look found something.
    Work,
    /// The doorbell was rung.
    Rung,
    /// A descriptor is ready, and the doorbell is not.
    Device,
    /// A signal came.
    Signal,
    /// The time was over.
    Time,
    /// The time was over, and a ring held what nobody rang for: a bug, or a producer that was stopped or killed before it rang.
    Late,
}

/// What can be rung, and waited for: a [`Doorbell`](crate::Doorbell), or that of a model.
pub trait Bell {
    /// Waits until it is rung, one of the others is ready, or the time is over.
    fn wait(&self, others: &WaitSet<'_>, timeout: Duration) -> Cause;

    /// Empties it.
    fn clear(&self);
}

/// Sleeps until there may be work, for `timeout` or [`SLEEP_MAX`] at most; then look at all sources, whatever the cause. `devices`: wait
/// for their descriptors too.
///
/// A source that [must be polled](Source::must_poll) is only looked at: ask before.
pub fn sleep(
    bell: &impl Bell,
    sources: &mut dyn Source,
    devices: bool,
    timeout: Duration,
) -> Cause {
    sources.sleep_begin();
    let sure = barrier::heavy();
    if sources.look() != Found::Nothing && !mutated(NO_SECOND_LOOK) {
        sources.sleep_end();
        return Cause::Work;
    }
    if mutated(EATEN_RING) {
        bell.clear();
    }
    let most = if sure { SLEEP_MAX - GRACE } else { UNSURE_MAX };
    let mut cause = wait(bell, sources, devices, timeout.min(most));
    if cause == Cause::Time && sure && sources.look() == Found::InRing {
        // Published, and rung any moment now; or not.
        cause = match wait(bell, sources, devices, GRACE) {
            Cause::Time => Cause::Late,
            cause => cause,
        };
    }
    bell.clear();
    sources.sleep_end();
    cause
}

fn wait(bell: &impl Bell, sources: &dyn Source, devices: bool, timeout: Duration) -> Cause {
    let mut set = WaitSet::default();
    if devices {
        sources.wait_on(&mut set);
    }
    bell.wait(&set, timeout)
}

impl<S: Source> Source for [S] {
    fn must_poll(&self) -> bool {
        self.iter().any(Source::must_poll)
    }

    fn sleep_begin(&mut self) {
        self.iter_mut().for_each(Source::sleep_begin);
    }

    fn look(&mut self) -> Found {
        let found = self.iter_mut().map(Source::look);
        found.max().unwrap_or(Found::Nothing)
    }

    fn sleep_end(&mut self) {
        self.iter_mut().for_each(Source::sleep_end);
    }

    fn wait_on<'s>(&'s self, set: &mut WaitSet<'s>) {
        self.iter().for_each(|source| source.wait_on(set));
    }
}
