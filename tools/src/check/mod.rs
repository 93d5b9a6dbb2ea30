//! `forebay check`: an independent look at whether every buffer is in exactly one place.
//!
//! It shares no code with what it checks: [`layout`] reads the words by their documented places, and
//! [`mod@survey`] puts each buffer of each pool where it was found. On a group that works, a buffer that
//! is just changing its place may be seen twice or not at all; so what looks wrong is looked at
//! again, and only what stays wrong in the same way in every look counts.

mod layout;
mod survey;

#[cfg(test)]
mod tests;

use std::thread;
use std::time::Duration;

use clap::Args;
use forebay::eal::Region;
use serde::Serialize;

use crate::group::GroupArgs;
use crate::print::{Output, Row, thousands};
use survey::{Fault, PoolSurvey, Survey};

/// Between two looks: longer than any operation on a buffer takes.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Faulty buffers of a pool that are named one by one.
const NAMED_MAX: usize = 10;

/// What to check, and how often to look.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    group: GroupArgs,

    /// How often to look before what looks wrong counts as wrong
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    passes: u32,
}

/// What a pool's buffers were found to be.
#[derive(Debug, Serialize)]
pub(crate) struct PoolRow {
    what: &'static str,
    pool: String,
    count: u32,
    pool_magazines: u32,
    slot_magazines: u32,
    rings: u32,
    queues: u32,
    hand: u32,
    moving: u32,
    leaked: usize,
    double: usize,
    mistagged: usize,
}

/// All pools together, and what is wrong beside them.
#[derive(Debug, Default, Serialize)]
struct TotalRow {
    what: &'static str,
    leaked: usize,
    double: usize,
    mistagged: usize,
    strays: u64,
    unreadable: Vec<String>,
}

impl Row for PoolRow {
    const COLUMNS: &'static [&'static str] = &[
        "POOL",
        " COUNT",
        " MAGAZINES",
        " OF SLOTS",
        " RINGS",
        " QUEUES",
        " IN HAND",
        " MOVING",
        " LEAKED",
        " DOUBLE",
    ];

    fn cells(&self) -> Vec<String> {
        let numbers = [
            self.count,
            self.pool_magazines,
            self.slot_magazines,
            self.rings,
            self.queues,
            self.hand,
            self.moving,
        ];
        let faults = [self.leaked, self.double].map(|count| thousands(count as u64));
        let numbers = numbers.into_iter().map(|number| thousands(number.into()));
        std::iter::once(self.pool.clone())
            .chain(numbers)
            .chain(faults)
            .collect()
    }
}

impl PoolRow {
    fn new(pool: &PoolSurvey) -> Self {
        let places = pool.places;
        let found = places.pool_magazines
            + places.slot_magazines
            + places.rings
            + places.queues
            + places.hand;
        let count =
            |is_it: fn(&Fault) -> bool| pool.faults.values().filter(|fault| is_it(fault)).count();
        let faults = u32::try_from(pool.faults.len()).unwrap_or(u32::MAX);
        Self {
            what: "pool",
            pool: pool.name.clone(),
            count: pool.count,
            pool_magazines: places.pool_magazines,
            slot_magazines: places.slot_magazines,
            rings: places.rings,
            queues: places.queues,
            hand: places.hand,
            // Looked wrong in the last look and was forgiven: on its way from place to place.
            moving: pool.count.saturating_sub(found).saturating_sub(faults),
            leaked: count(|fault| fault.is_leak()),
            double: count(|fault| matches!(fault, Fault::Double(_))),
            mistagged: count(|fault| matches!(fault, Fault::Mistagged(_))),
        }
    }
}

/// Looks up to `passes` times; what is left is wrong.
fn survey(region: &Region, passes: u32) -> Survey {
    let mut survey = Survey::take(region);
    for _ in 1..passes {
        if survey.is_clean() {
            break;
        }
        thread::sleep(AGAIN_AFTER);
        let mut again = Survey::take(region);
        again.keep_what_stayed(&survey);
        survey = again;
    }
    survey
}

/// Checks a group and prints what was found; `false` if a buffer is not in exactly one place.
pub(crate) fn show(region: &Region, passes: u32, output: &mut Output) -> anyhow::Result<bool> {
    let survey = survey(region, passes);
    let rows: Vec<_> = survey.pools.iter().map(PoolRow::new).collect();
    output.rows(&rows)?;
    let sum = |of: fn(&PoolRow) -> usize| rows.iter().map(of).sum();
    let total = TotalRow {
        what: "total",
        leaked: sum(|row| row.leaked),
        double: sum(|row| row.double),
        mistagged: sum(|row| row.mistagged),
        strays: survey.strays,
        unreadable: survey.unreadable.clone(),
    };
    for pool in &survey.pools {
        for (number, fault) in pool.faults.iter().take(NAMED_MAX) {
            output.say(&format!("buffer {number} of {} is {fault}", pool.name))?;
        }
        if let Some(more) = pool.faults.len().checked_sub(NAMED_MAX + 1) {
            output.say(&format!("and {} more of {}", more + 1, pool.name))?;
        }
    }
    for line in &total.unreadable {
        output.say(line)?;
    }
    output.say(&format!(
        "leaked={} double={} mistagged={} strays={}",
        total.leaked, total.double, total.mistagged, total.strays
    ))?;
    output.if_json(&total)?;
    Ok(survey.is_clean())
}

/// Runs the subcommand.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<bool> {
    let observer = args.group.observe()?;
    let mut output = Output::new(args.group.json);
    let is_clean = show(observer.region(), args.passes, &mut output)?;
    output.finish()?;
    Ok(is_clean)
}
