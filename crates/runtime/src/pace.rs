//! What a packet loop tells of itself: that it goes round, and how long it once did not.
//!
//! Each round counts in the slot's record, where anybody can see that the thread lives. With `--stall-report` the longest round is
//! kept there too, less the time in which the thread was ready to run and another had the core: what is left is our own doing.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use eal::process::RunCounters;

/// How old what was read of the kernel may be: reading costs a microsecond.
const FRESH: Duration = Duration::from_millis(1);

/// The heartbeat of one loop.
#[derive(Debug)]
pub(crate) struct Pace<'r> {
    run: &'r RunCounters,
    stall: Option<Stall>,
}

/// What is needed to tell our own delays from others'.
#[derive(Debug)]
struct Stall {
    schedstat: File,
    last_round: Instant,
    read_at: Instant,
    waited_ns: u64,
}

impl<'r> Pace<'r> {
    /// Of the calling thread's loop.
    pub(crate) fn new(run: &'r RunCounters, stall_report: bool) -> Self {
        let stall = || {
            let schedstat = File::open("/proc/thread-self/schedstat").ok()?;
            let now = Instant::now();
            Some(Stall {
                waited_ns: waited_ns(&schedstat),
                schedstat,
                last_round: now,
                read_at: now,
            })
        };
        Self {
            run,
            stall: if stall_report { stall() } else { None },
        }
    }

    /// Once a round.
    #[inline]
    pub(crate) fn round(&mut self) {
        self.run.loops.add(1);
        if let Some(stall) = &mut self.stall {
            self.run.stall_ns.raise(stall.round());
        }
    }
}

impl Pace<'_> {
    /// After a sleep: what went by was nobody's round.
    pub(crate) fn slept(&mut self) {
        if let Some(stall) = &mut self.stall {
            let now = Instant::now();
            stall.waited_ns = waited_ns(&stall.schedstat);
            (stall.last_round, stall.read_at) = (now, now);
        }
    }
}

impl Stall {
    /// Nanoseconds of the last round that were nobody else's; 0 for one that was short.
    fn round(&mut self) -> u64 {
        let now = Instant::now();
        let round = now.duration_since(self.last_round);
        self.last_round = now;
        if now.duration_since(self.read_at) < FRESH {
            return 0;
        }
        let waited_ns = waited_ns(&self.schedstat);
        let waited = waited_ns.saturating_sub(self.waited_ns);
        (self.read_at, self.waited_ns) = (now, waited_ns);
        u64::try_from(round.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_sub(waited)
    }
}

/// How long the thread was ready and did not run: the second number of `schedstat`.
fn waited_ns(schedstat: &File) -> u64 {
    let mut text = [0; 96];
    let len = schedstat.read_at(&mut text, 0).unwrap_or(0);
    let text = core::str::from_utf8(text.get(..len).unwrap_or_default()).unwrap_or_default();
    let second = text.split_ascii_whitespace().nth(1);
    second.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_that_takes_long_is_kept_and_others_are_only_counted() {
        let run = RunCounters::default();
        let mut pace = Pace::new(&run, true);
        pace.round();
        std::thread::sleep(Duration::from_millis(20));
        pace.round();
        assert_eq!(run.loops.get(), 2);
        assert!(run.stall_ns.get() >= 1_000_000, "{}", run.stall_ns.get());
        let asleep = RunCounters::default();
        let mut pace = Pace::new(&asleep, true);
        std::thread::sleep(Duration::from_millis(20));
        pace.slept();
        pace.round();
        // The round after it is counted as a round only, however long it takes on a busy machine.
        assert_eq!(asleep.loops.get(), 1);
        let plain = RunCounters::default();
        let mut pace = Pace::new(&plain, false);
        std::thread::sleep(Duration::from_millis(2));
        pace.round();
        assert_eq!((plain.loops.get(), plain.stall_ns.get()), (1, 0));
    }
}
