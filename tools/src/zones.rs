//! `forebay zones`: the named pieces of a group's memory.

use forebay::eal::ZoneKind;
use forebay::eal::hugepage::Backing;
use serde::Serialize;

use crate::group::GroupArgs;
use crate::print::{Output, Row, size};

#[derive(Debug, Serialize)]
struct ZoneRow {
    name: String,
    kind: &'static str,
    bytes: u64,
    offset: u64,
    node: u32,
    pages: String,
    huge: bool,
}

impl Row for ZoneRow {
    const COLUMNS: &'static [&'static str] =
        &["NAME", "KIND", " SIZE", " OFFSET", " NODE", "PAGES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.kind.into(),
            size(self.bytes),
            format!("{:#x}", self.offset),
            self.node.to_string(),
            self.pages.clone(),
        ]
    }
}

/// Prints them in the order in which they lie in memory.
pub(crate) fn run(args: &GroupArgs) -> anyhow::Result<bool> {
    let observer = args.observe()?;
    let region = observer.region();
    let backing = region.info().backing;
    let huge = matches!(backing, Backing::Huge | Backing::Collapsed);
    let mut rows: Vec<_> = region
        .zones()
        .map(|zone| ZoneRow {
            name: zone.name().to_string(),
            kind: kind(zone.kind()),
            bytes: zone.len() as u64,
            offset: zone.offset(),
            node: zone.node(),
            pages: backing.to_string(),
            huge,
        })
        .collect();
    rows.sort_by_key(|row| row.offset);
    let mut output = Output::new(args.json);
    output.rows(&rows)?;
    let used: u64 = rows.iter().map(|row| row.bytes).sum();
    output.say(&format!(
        "{} zones, {}; {} free",
        rows.len(),
        size(used),
        size(region.free())
    ))?;
    output.finish()?;
    Ok(true)
}

fn kind(kind: ZoneKind) -> &'static str {
    match kind {
        ZoneKind::Plain => "plain",
        ZoneKind::Ring => "ring",
        ZoneKind::Pool => "pool",
    }
}
