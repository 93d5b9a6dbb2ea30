//! `forebay rings`: how full a group's rings are and were, and what they had to drop.

use forebay::eal::{Owner, Region};
use forebay::ring::{Flags, Ring};
use serde::Serialize;

use crate::group::GroupArgs;
use crate::print::{Output, Row, thousands};

#[derive(Debug, Serialize)]
struct RingRow {
    name: String,
    kind: &'static str,
    size: u32,
    fill: u64,
    high_water: u64,
    drops: u64,
    faults: u64,
    open: bool,
    consumer: Option<End>,
    /// All of them, where there are many.
    consumers: Vec<End>,
    producers: Vec<Lane>,
}

/// Who holds an end of a ring.
#[derive(Debug, Serialize)]
struct End {
    slot: u8,
    pid: u32,
    alive: bool,
}

/// What one producer has in the ring.
#[derive(Debug, Serialize)]
struct Lane {
    slot: u8,
    fill: u64,
    drops: u64,
}

impl Row for RingRow {
    const COLUMNS: &'static [&'static str] = &[
        "NAME",
        "KIND",
        " SIZE",
        " FILL",
        " HIGH",
        " DROPS",
        "STATE",
        "CONSUMER",
        "PRODUCERS",
    ];

    fn cells(&self) -> Vec<String> {
        let mut consumers = self.consumers.iter().map(|end| {
            let dead = if end.alive { "" } else { ", dead" };
            format!("slot {} (process {}{dead})", end.slot, end.pid)
        });
        let consumer = consumers.next().map_or("-".into(), |first| {
            consumers.fold(first, |all, next| all + ", " + &next)
        });
        let producers: Vec<_> = self
            .producers
            .iter()
            .map(|lane| lane.slot.to_string())
            .collect();
        vec![
            self.name.clone(),
            self.kind.into(),
            thousands(self.size.into()),
            thousands(self.fill),
            thousands(self.high_water),
            thousands(self.drops),
            if self.open { "open" } else { "closed" }.into(),
            consumer,
            if producers.is_empty() {
                "-".into()
            } else {
                format!("slot {}", producers.join(", "))
            },
        ]
    }
}

/// Prints them by name.
pub(crate) fn run(args: &GroupArgs) -> anyhow::Result<bool> {
    let region = args.observe()?.region();
    let mut rows: Vec<_> = Ring::all(region).map(|ring| row(region, &ring)).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    let mut output = Output::new(args.json);
    output.rows(&rows)?;
    output.finish()?;
    Ok(true)
}

fn row(region: &Region, ring: &Ring<'_>) -> RingRow {
    let producers = ring.producers().map(|(slot, fill, drops)| Lane {
        slot: slot.get(),
        fill: fill as u64,
        drops,
    });
    let kind = match (
        ring.flags().has(Flags::SP_ENQ),
        ring.flags().has(Flags::SC_DEQ),
    ) {
        (true, true) => "one producer",
        (false, true) => "fan-in",
        (true, false) => "many consumers",
        (false, false) => "many to many",
    };
    RingRow {
        name: ring.name().to_string(),
        kind,
        size: ring.size(),
        fill: ring.len() as u64,
        high_water: ring.high_water(),
        drops: ring.drops(),
        faults: ring.faults(),
        open: ring.is_open(),
        consumer: end(region, ring.consumer_owner()),
        consumers: ring
            .consumers()
            .filter_map(|owner| end(region, owner))
            .collect(),
        producers: producers.collect(),
    }
}

fn end(region: &Region, owner: Owner) -> Option<End> {
    let slot = owner.slot()?;
    let pid = region.slots()[slot.index()].pid();
    Some(End {
        slot: slot.get(),
        pid,
        alive: region.owner_alive(owner),
    })
}
