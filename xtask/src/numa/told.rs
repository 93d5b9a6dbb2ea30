//! What the machine of two nodes printed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// All of it, by step.
#[derive(Debug, Default)]
pub(crate) struct Told {
    steps: BTreeMap<String, Step>,
}

/// What `forebay zones` told of all sections.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sections {
    /// Bytes by the node they lie on.
    pub(crate) by_node: [u64; 2],
    /// Bytes of them that lie on another node than their section is for.
    pub(crate) strays: u64,
    /// Bytes on huge pages, if that was told.
    pub(crate) huge_bytes: Option<u64>,
}

/// What was printed in one step.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// What `forebay zones --json` told.
    zones: Vec<String>,
    /// What the kernel did.
    maps: Vec<String>,
    /// What the server said.
    pub(crate) errors: Vec<String>,
    /// How processes ended.
    pub(crate) statuses: Vec<i32>,
}

impl Told {
    /// Sorts the lines of a console.
    pub(crate) fn read(console: &str) -> Self {
        let mut told = Self::default();
        let mut name = String::new();
        for line in console.lines() {
            let Some((kind, text)) = line.trim_end().split_once(' ') else {
                continue;
            };
            let text = text.to_owned();
            if kind == "@" {
                name = text;
                continue;
            }
            let step = told.steps.entry(name.clone()).or_default();
            match kind {
                "z" => step.zones.push(text),
                "m" => step.maps.push(text),
                "e" => step.errors.push(text),
                "s" => step.statuses.extend(text.parse::<i32>()),
                _ => {}
            }
        }
        told
    }

    /// What was printed in that step.
    pub(crate) fn get(&self, name: &str) -> Result<&Step> {
        self.steps.get(name).context("it was not run")
    }
}

impl Step {
    fn rows(&self) -> Result<Vec<Value>> {
        let row = |line: &String| {
            serde_json::from_str::<Value>(line).with_context(|| format!("zones told: {line}"))
        };
        self.zones.iter().map(row).collect()
    }

    /// What the sections add up to.
    pub(crate) fn by_zones(&self) -> Result<Sections> {
        let (mut by_node, mut strays, mut huge_bytes) = ([0; 2], 0, Some(0));
        for row in self.rows()?.iter().filter(|row| row["section"].is_u64()) {
            for place in row["on"].as_array().context("a section without places")? {
                let node = place["node"].as_u64().context("a place without node")?;
                let bytes = place["bytes"].as_u64().context("a place without bytes")?;
                let of_node = by_node.get_mut(usize::try_from(node)?);
                *of_node.context("a third node")? += bytes;
                if row["section"] != place["node"] {
                    strays += bytes;
                }
                let huge = place["huge_bytes"].as_u64();
                huge_bytes = huge_bytes.zip(huge).map(|(sum, one)| sum + one);
            }
        }
        Ok(Sections {
            by_node,
            strays,
            huge_bytes,
        })
    }

    /// Bytes of the data part by node, as `numa_maps` told: `... N0=8192 N1=8192 kernelpagesize_kB=4`.
    pub(crate) fn by_kernel(&self) -> Result<[u64; 2]> {
        let mut by_node = [0; 2];
        for line in &self.maps {
            let value = |key: &str| -> Option<u64> {
                let mut words = line.split(' ').filter_map(|word| word.split_once('='));
                words.find(|(name, _)| *name == key)?.1.parse().ok()
            };
            let page_kb = value("kernelpagesize_kB").context("a line without page size")?;
            for (node, bytes) in by_node.iter_mut().enumerate() {
                *bytes += value(&format!("N{node}")).unwrap_or(0) * page_kb * 1024;
            }
        }
        Ok(by_node)
    }

    /// `node 1 (7)`: how many zones each section has.
    pub(crate) fn zones_by_section(&self) -> Result<String> {
        let mut counts = BTreeMap::new();
        for row in self.rows()?.iter().filter(|row| row["name"].is_string()) {
            *counts.entry(row["node"].as_u64()).or_insert(0) += 1;
        }
        let text = |(node, count): (&Option<u64>, &u32)| {
            format!("node {} ({count})", node.unwrap_or_default())
        };
        let texts: Vec<_> = counts.iter().map(text).collect();
        Ok(texts.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_is_sorted_and_added_up() {
        let console = "booting\r\n@ first\r\n\
            z {\"name\":\"ring\",\"node\":1,\"bytes\":5}\r\n\
            z {\"section\":0,\"bytes\":8192,\"on\":[{\"node\":0,\"bytes\":8192,\"huge_bytes\":4096}]}\r\n\
            z {\"section\":1,\"bytes\":4096,\"on\":[{\"node\":1,\"bytes\":4096,\"huge_bytes\":0}]}\r\n\
            m 7f00 default file=/dev/shm/x dirty=3 N0=2 N1=1 kernelpagesize_kB=4\r\n\
            s 0\r\ne ready: 1\r\n@ second\r\ne no\r\ns 1\r\n@done\r\n";
        let told = Told::read(console);
        let first = told.get("first").unwrap();
        let sections = Sections {
            by_node: [8192, 4096],
            strays: 0,
            huge_bytes: Some(4096),
        };
        assert_eq!(first.by_zones().unwrap(), sections);
        assert_eq!(first.by_kernel().unwrap(), [8192, 4096]);
        assert_eq!(first.zones_by_section().unwrap(), "node 1 (1)");
        assert_eq!(
            (&first.statuses[..], &first.errors[..]),
            (&[0][..], &["ready: 1".to_owned()][..])
        );
        let second = told.get("second").unwrap();
        assert_eq!((&second.statuses[..], second.errors.len()), (&[1][..], 1));
        assert!(told.get("third").is_err());
    }
}
