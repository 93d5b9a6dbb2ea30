//! What a round says when it ends: one line of JSON, of ours and of the peers alike.

use std::process::ExitCode;

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// One round of one side.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Round {
    /// Items that passed while the clock ran.
    pub(crate) items: u64,
    /// How long that took.
    pub(crate) seconds: f64,
    /// What was read, added up.
    pub(crate) sum: u64,
    /// What it has to be.
    pub(crate) expected: u64,
    /// What the memory lay on.
    pub(crate) pages: String,
    /// Part of what was sent that did not arrive, where that may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) loss: Option<f64>,
    /// What else is worth keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<serde_json::Value>,
}

impl Round {
    /// Prints itself; a failure if something was lost or damaged.
    pub(crate) fn report(&self) -> anyhow::Result<ExitCode> {
        println!("{}", serde_json::to_string(self)?);
        Ok(if self.is_sound() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// Itself.
    ///
    /// # Errors
    ///
    /// If something was lost or damaged.
    pub(crate) fn checked(self) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.is_sound(),
            "what arrived is not what was sent: {self:?}"
        );
        Ok(self)
    }

    /// Whether everything is accounted for, and there was something.
    pub(crate) fn is_sound(&self) -> bool {
        self.sum == self.expected && self.items > 0 && self.seconds > 0.0
    }
}

/// The round in what a program printed: its last line of JSON.
pub(crate) fn parse(out: &str) -> anyhow::Result<Round> {
    let line = out.lines().rfind(|line| line.starts_with('{'));
    let round: Round = serde_json::from_str(line.context("it printed no round")?)?;
    round.checked()
}

/// The sum of all numbers below `count`.
pub(crate) fn sum_below(count: u64) -> u64 {
    if count.is_multiple_of(2) {
        count / 2 * count.saturating_sub(1)
    } else {
        (count - 1) / 2 * count
    }
}
