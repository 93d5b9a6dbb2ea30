//! What the tools find in a group: the independent checker's verdict, and a picture to explain one by.

use std::process::Command;

use serde_json::Value;

use crate::Process;

/// What `forebay check` found, all pools together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Buffers of all pools.
    pub count: u64,
    /// Buffers that are in no place.
    pub leaked: u64,
    /// Buffers that are in several places.
    pub double: u64,
    /// Anything else that is wrong: tags, stray indices, what cannot be read.
    pub other: u64,
    /// Buffers in rings, queues, magazines of slots, or in hand.
    pub outside: u64,
    /// What it said, for people.
    pub text: String,
}

/// What the group looks like from outside: processes, rings, and what was recovered. `tool`
/// makes the command of a subcommand.
pub fn picture(tool: impl Fn(&str) -> Command) -> String {
    let ask = |subcommand: &str| {
        let ended = Process::run(&mut tool(subcommand));
        let (said, cried) = (ended.stdout.join("\n"), ended.stderr.join("\n"));
        format!("\nforebay {subcommand}, {}\n{said}\n{cried}", ended.status)
    };
    ["list", "rings", "recovered"].map(ask).concat()
}

impl Audit {
    /// Runs the checker. `command` is `forebay check` with the group's name.
    pub fn take(command: &mut Command) -> Self {
        let ended = Process::run(command.arg("--json"));
        let rows: Vec<Value> = ended
            .stdout
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let number = |row: &Value, key: &str| row[key].as_u64().unwrap_or(0);
        let sum = |what: &str, keys: &[&str]| -> u64 {
            let rows = rows.iter().filter(|row| row["what"] == what);
            rows.map(|row| keys.iter().map(|key| number(row, key)).sum::<u64>())
                .sum()
        };
        let unreadable = rows.iter().filter_map(|row| row["unreadable"].as_array());
        let unreadable: usize = unreadable.map(Vec::len).sum();
        let mut audit = Self {
            count: sum("pool", &["count"]),
            leaked: sum("total", &["leaked"]),
            double: sum("total", &["double"]),
            other: sum("total", &["mistagged", "strays"]) + unreadable as u64,
            outside: sum("pool", &["slot_magazines", "rings", "queues", "hand"]),
            text: ended.to_string(),
        };
        if audit.count == 0 || !(ended.status.success() || audit.is_wrong()) {
            // It saw no pool, or it failed in a way of its own.
            audit.other += 1;
        }
        audit
    }

    fn is_wrong(&self) -> bool {
        self.leaked + self.double + self.other > 0
    }

    /// Whether every buffer was found exactly once.
    pub fn is_clean(&self) -> bool {
        !self.is_wrong()
    }
}
