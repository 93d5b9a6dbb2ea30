//! How quiet the machine was: CPU time that went to others while a round ran.

use std::fs;
use std::time::Instant;

use serde::Serialize;

/// Ticks that the kernel counts a second, in what it shows: always this on Linux.
const TICKS: f64 = 100.0;

/// CPU time until now.
#[derive(Debug)]
pub(crate) struct Watch {
    start: Instant,
    spent: Spent,
}

/// In ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Spent {
    /// By everybody, on all cores.
    all: u64,
    /// By this process and its children that have ended.
    own: u64,
    /// By other machines on the same hardware.
    stolen: u64,
}

/// What others took, in percent of one core.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Disturbance {
    /// Other processes of this machine.
    pub(crate) others: f64,
    /// Other machines on the same hardware.
    pub(crate) stolen: f64,
}

impl Watch {
    /// Begins.
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            spent: Spent::now(),
        }
    }

    /// What others took since. Children have to have ended.
    pub(crate) fn stop(self) -> Disturbance {
        let (before, after) = (self.spent, Spent::now());
        let ticks = self.start.elapsed().as_secs_f64() * TICKS;
        let part = |ticks_taken: u64| (ticks_taken as f64 / ticks * 1000.0).round() / 10.0;
        let (all, own) = (after.all - before.all, after.own - before.own);
        Disturbance {
            others: part(all.saturating_sub(own)),
            stolen: part(after.stolen - before.stolen),
        }
    }
}

impl Spent {
    fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(&read("/proc/stat"), &read("/proc/self/stat"))
    }

    /// `proc(5)` has the fields.
    fn parse(machine: &str, process: &str) -> Self {
        // A field by its place, so that one which is no count (a name, -1) moves no other.
        fn fields(text: &str) -> impl Fn(usize) -> u64 {
            let words = text.split_whitespace();
            let counts: Vec<u64> = words.map(|word| word.parse().unwrap_or(0)).collect();
            move |index| counts.get(index).copied().unwrap_or(0)
        }
        // The first is the name of the line.
        let cores = fields(machine.lines().next().unwrap_or_default());
        // Behind the name, which may have blanks and brackets in it: the first is the state.
        let own = fields(process.rsplit(')').next().unwrap_or_default());
        Self {
            // User, nice, system, then after idle and waiting: interrupts.
            all: [1, 2, 3, 6, 7].map(&cores).iter().sum(),
            // User and system time, of itself and of its children.
            own: (11..15).map(own).sum(),
            stolen: cores(8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_from_their_fields() {
        let machine = "cpu  10 20 30 4000 5 6 7 8 0 0\ncpu0 1 1 1 1\n";
        let process = "42 (a b) S 1 2 3 4 5 6 7 8 9 10 100 200 300 400 20 0 1 0\n";
        let spent = Spent::parse(machine, process);
        assert_eq!((spent.all, spent.own, spent.stolen), (73, 1000, 8));
        // Without a terminal, its group is -1; that moves nothing.
        let detached = process.replace(" 4 5 6 ", " 4 -1 6 ");
        assert_eq!(Spent::parse(machine, &detached), spent);
        let bracket = process.replace("(a b)", "(a) -1 (b)");
        assert_eq!(Spent::parse(machine, &bracket), spent);
    }
}
