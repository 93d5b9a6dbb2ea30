//! `forebay pools`: how many buffers of each pool are in use, and who holds them.

use std::collections::BTreeMap;

use forebay::eal::Owner;
use forebay::eal::holder::HolderKind;
use forebay::mbuf::{MbufIndex, Pool};
use serde::Serialize;

use crate::group::GroupArgs;
use crate::print::{Output, Row, thousands};

#[derive(Debug, Serialize)]
struct PoolRow {
    name: String,
    id: u8,
    count: u32,
    in_use: u32,
    free: u32,
    data_room: u16,
    private_size: u16,
    node: u32,
    magazines: usize,
    magazines_owned: usize,
    /// Buffers by the slot that holds them.
    held: BTreeMap<u8, u32>,
    /// Buffers given to device queues.
    queues: u32,
}

impl Row for PoolRow {
    const COLUMNS: &'static [&'static str] = &[
        "NAME",
        " COUNT",
        " IN USE",
        " FREE",
        " ROOM",
        " NODE",
        " MAGAZINES",
        "HELD BY",
    ];

    fn cells(&self) -> Vec<String> {
        let mut held: Vec<_> = self
            .held
            .iter()
            .map(|(slot, count)| format!("slot {slot}: {}", thousands((*count).into())))
            .collect();
        if self.queues > 0 {
            held.push(format!("devices: {}", thousands(self.queues.into())));
        }
        vec![
            self.name.clone(),
            thousands(self.count.into()),
            thousands(self.in_use.into()),
            thousands(self.free.into()),
            self.data_room.to_string(),
            self.node.to_string(),
            format!("{}/{}", self.magazines_owned, self.magazines),
            if held.is_empty() {
                "-".into()
            } else {
                held.join(", ")
            },
        ]
    }
}

/// Prints them in the order of their ids.
pub(crate) fn run(args: &GroupArgs) -> anyhow::Result<bool> {
    let region = args.observe()?.region();
    let mut rows: Vec<_> = Pool::all(region).map(row).collect();
    rows.sort_by_key(|row| row.id);
    let mut output = Output::new(args.json);
    output.rows(&rows)?;
    output.finish()?;
    Ok(true)
}

fn row(pool: Pool) -> PoolRow {
    let (mut held, mut queues) = (BTreeMap::new(), 0);
    for number in 0..pool.count() {
        match pool
            .holder(MbufIndex::new(pool.id(), number))
            .map(|holder| holder.kind())
        {
            Some(HolderKind::Slot(slot)) => *held.entry(slot.get()).or_insert(0) += 1,
            Some(HolderKind::Queue { .. }) => queues += 1,
            _ => {}
        }
    }
    let in_use = pool.in_use();
    let owned = pool
        .magazines()
        .iter()
        .filter(|magazine| magazine.owner() != Owner::NONE);
    PoolRow {
        name: pool.name().to_string(),
        id: pool.id(),
        count: pool.count(),
        in_use,
        free: pool.count().saturating_sub(in_use),
        data_room: pool.data_room(),
        private_size: pool.private_size(),
        node: pool.node(),
        magazines: pool.magazines().len(),
        magazines_owned: owned.count(),
        held,
        queues,
    }
}
