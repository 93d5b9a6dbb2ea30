//! `forebay zones`: the named pieces of a group's memory, and what they really lie on.

use forebay::eal::pages::{NodePages, Pages};
use forebay::eal::{Region, Section, ZoneKind};
use serde::Serialize;

use crate::group::GroupArgs;
use crate::print::{Output, Row, size};

#[derive(Debug, Serialize)]
struct ZoneRow {
    name: String,
    kind: &'static str,
    bytes: u64,
    offset: u64,
    /// The node that its section is for.
    node: u32,
    /// What the region was made on.
    pages: String,
    /// Whether all of it is on huge pages.
    huge: bool,
    /// How much of it is; none if the kernel does not tell.
    huge_bytes: Option<u64>,
    /// Where it is.
    on: Vec<OnNode>,
}

/// What lies on one node.
#[derive(Debug, Serialize)]
struct OnNode {
    /// None if the kernel does not tell.
    node: Option<u32>,
    bytes: u64,
    huge_bytes: Option<u64>,
}

/// What a node's section holds.
#[derive(Debug, Serialize)]
struct SectionRow {
    section: u32,
    bytes: u64,
    offset: u64,
    free: u64,
    huge_bytes: Option<u64>,
    on: Vec<OnNode>,
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
            nodes(&self.on),
            kinds(self.bytes, self.huge_bytes),
        ]
    }
}

impl SectionRow {
    fn of(region: &Region, section: &Section, pages: &Pages) -> Self {
        let on = place(pages, section.offset, section.len);
        Self {
            section: section.node,
            bytes: section.len,
            offset: section.offset,
            free: region.free_in(section),
            huge_bytes: huge_bytes(&on),
            on,
        }
    }

    /// `node 0: 64 MB, 62 MB on huge pages, 12 MB free`
    fn sentence(&self) -> String {
        let megabytes = |bytes: u64| format!("{} MB", bytes >> 20);
        let huge = self.huge_bytes.map_or_else(
            || "huge pages not told by this kernel".to_owned(),
            |bytes| format!("{} on huge pages", megabytes(bytes)),
        );
        let mut text = format!(
            "node {}: {}, {huge}, {} free",
            self.section,
            megabytes(self.bytes),
            megabytes(self.free)
        );
        let strays = self.on.iter().filter(|one| one.node != Some(self.section));
        for one in strays {
            let node = name(one.node);
            text += &format!("; {} of it on node {node}", megabytes(one.bytes));
        }
        text
    }
}

/// Prints them in the order in which they lie in memory.
pub(crate) fn run(args: &GroupArgs) -> anyhow::Result<bool> {
    let observer = args.observe()?;
    let region = observer.region();
    let (backing, pages) = (region.info().backing, region.pages()?);
    let mut rows: Vec<_> = region
        .zones()
        .map(|zone| {
            let bytes = zone.len() as u64;
            let on = place(&pages, zone.offset(), bytes);
            let huge_bytes = huge_bytes(&on);
            ZoneRow {
                name: zone.name().to_string(),
                kind: kind(zone.kind()),
                bytes,
                offset: zone.offset(),
                node: zone.node(),
                pages: backing.to_string(),
                huge: huge_bytes == Some(bytes),
                huge_bytes,
                on,
            }
        })
        .collect();
    rows.sort_by_key(|row| row.offset);
    let mut output = Output::new(args.json);
    output.rows(&rows)?;
    let used: u64 = rows.iter().map(|row| row.bytes).sum();
    output.say(&format!(
        "{} zones, {}; {} free; {backing}",
        rows.len(),
        size(used),
        size(region.free())
    ))?;
    for section in region.sections() {
        let row = SectionRow::of(region, section, &pages);
        output.say(&row.sentence())?;
        output.if_json(&row)?;
    }
    output.finish()?;
    Ok(true)
}

/// Where `len` bytes at `offset` lie.
fn place(pages: &Pages, offset: u64, len: u64) -> Vec<OnNode> {
    let on_node = |one: NodePages| OnNode {
        node: one.node,
        bytes: one.bytes,
        huge_bytes: one.huge_bytes,
    };
    pages.of(offset, len).into_iter().map(on_node).collect()
}

/// All that is on huge pages, if that is known of each node.
fn huge_bytes(on: &[OnNode]) -> Option<u64> {
    on.iter().map(|one| one.huge_bytes).sum()
}

/// `0`, `0+1`, `?`
fn nodes(on: &[OnNode]) -> String {
    let names: Vec<_> = on.iter().map(|one| name(one.node)).collect();
    names.join("+")
}

fn name(node: Option<u32>) -> String {
    node.map_or_else(|| "?".to_owned(), |node| node.to_string())
}

/// `huge`, `plain`, `1.5 MiB huge`, `?`
fn kinds(bytes: u64, huge: Option<u64>) -> String {
    match huge {
        None => "?".to_owned(),
        Some(0) => "plain".to_owned(),
        Some(huge) if huge == bytes => "huge".to_owned(),
        Some(huge) => format!("{} huge", size(huge)),
    }
}

fn kind(kind: ZoneKind) -> &'static str {
    match kind {
        ZoneKind::Plain => "plain",
        ZoneKind::Ring => "ring",
        ZoneKind::Pool => "pool",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    fn on(node: Option<u32>, bytes: u64, huge_bytes: Option<u64>) -> OnNode {
        OnNode {
            node,
            bytes,
            huge_bytes,
        }
    }

    #[test]
    fn pages_of_a_zone_are_told_as_they_are() {
        assert_eq!(kinds(10, Some(10)), "huge");
        assert_eq!(kinds(10, Some(0)), "plain");
        assert_eq!(kinds(4 << 20, Some(3 << 19)), "1.5 MiB huge");
        assert_eq!(kinds(10, None), "?");
        let both = [on(Some(0), 1, Some(1)), on(Some(1), 1, None)];
        assert_eq!((nodes(&both), huge_bytes(&both)), ("0+1".into(), None));
        assert_eq!(nodes(&[on(None, 1, None)]), "?");
    }

    #[test]
    fn node_is_summed_up_in_one_line() {
        let mut row = SectionRow {
            section: 1,
            bytes: 64 * MB,
            offset: 0,
            free: 12 * MB,
            huge_bytes: Some(62 * MB),
            on: vec![on(Some(1), 64 * MB, Some(62 * MB))],
        };
        assert_eq!(
            row.sentence(),
            "node 1: 64 MB, 62 MB on huge pages, 12 MB free"
        );
        row.on = vec![
            on(Some(0), 2 * MB, Some(0)),
            on(Some(1), 62 * MB, Some(62 * MB)),
        ];
        assert!(row.sentence().ends_with("; 2 MB of it on node 0"));
        row.huge_bytes = None;
        assert!(row.sentence().contains("not told"), "{}", row.sentence());
    }
}
