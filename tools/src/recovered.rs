//! `forebay recovered`: what came back after deaths, by the place where it was found.

use forebay::guard::Recovered;
use serde::Serialize;

use crate::group::GroupArgs;
use crate::print::{Output, Row, thousands};

#[derive(Debug, Serialize)]
struct RecoveredRow {
    sweeps: u64,
    slots: u64,
    in_hand: u64,
    magazines: u64,
    rings: u64,
    queues: u64,
    corrupt: u64,
    longest_ns: u64,
}

impl Row for RecoveredRow {
    const COLUMNS: &'static [&'static str] = &[
        " SWEEPS",
        " SLOTS",
        " IN HAND",
        " IN MAGAZINES",
        " IN RINGS",
        " IN QUEUES",
        " CORRUPT",
        " LONGEST",
    ];

    fn cells(&self) -> Vec<String> {
        let counts = [
            self.sweeps,
            self.slots,
            self.in_hand,
            self.magazines,
            self.rings,
            self.queues,
            self.corrupt,
        ];
        let longest = format!("{} us", thousands(self.longest_ns / 1000));
        counts
            .into_iter()
            .map(thousands)
            .chain(std::iter::once(longest))
            .collect()
    }
}

/// Prints one line: the sums since the group was made.
pub(crate) fn run(args: &GroupArgs) -> anyhow::Result<bool> {
    let observer = args.observe()?;
    let sums = Recovered::of(observer.region()).unwrap_or_default();
    let row = RecoveredRow {
        sweeps: sums.sweeps,
        slots: sums.slots,
        in_hand: sums.in_hand,
        magazines: sums.magazines,
        rings: sums.rings,
        queues: sums.queues,
        corrupt: sums.corrupt,
        longest_ns: sums.longest_ns,
    };
    let mut output = Output::new(args.json);
    output.rows(&[row])?;
    output.finish()?;
    Ok(true)
}
