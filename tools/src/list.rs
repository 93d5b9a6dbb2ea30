//! `forebay list`: the groups of this machine and the processes in them.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use clap::Args;
use forebay::eal::directory::Directory;
use forebay::eal::{Observer, Owner, Region, SlotId, SlotState};
use serde::Serialize;

use crate::print::{Output, Row, since};

/// Where to look, and for what.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    /// List this group only
    #[arg(long, value_name = "NAME")]
    file_prefix: Option<String>,

    /// Directory of the groups, if it is not one of the usual
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct SlotRow {
    group: String,
    directory: PathBuf,
    slot: u8,
    role: String,
    pid: u32,
    state: &'static str,
    name: String,
    core: Option<u32>,
    /// Times it went to sleep.
    sleeps: u64,
    /// Sleeps that went on although there was work in a ring: each one is a bug.
    late: u64,
    uptime_seconds: u64,
}

impl Row for SlotRow {
    const COLUMNS: &'static [&'static str] = &[
        "GROUP", " SLOT", "ROLE", " PROCESS", "STATE", " CORE", " SLEEPS", " LATE", " UP FOR",
        "NAME",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.group.clone(),
            self.slot.to_string(),
            self.role.clone(),
            self.pid.to_string(),
            self.state.into(),
            self.core.map_or("-".into(), |core| core.to_string()),
            self.sleeps.to_string(),
            self.late.to_string(),
            since(self.uptime_seconds),
            self.name.clone(),
        ]
    }
}

/// Prints a line for each slot that is taken, and one for each group that cannot be looked into.
pub(crate) fn run(args: &ListArgs) -> anyhow::Result<bool> {
    let mut places = Directory::list_groups(args.runtime_dir.as_deref());
    if let Some(prefix) = &args.file_prefix {
        places.retain(|place| place.prefix() == prefix);
        if places.is_empty() {
            bail!("there is no group {prefix:?}; `forebay list` without --file-prefix shows all");
        }
    }
    let (mut rows, mut unseen, mut is_right) = (Vec::new(), Vec::new(), true);
    for place in &places {
        match Observer::of(place) {
            Ok(observer) => {
                let slots = slots(place, observer.region());
                if slots.is_empty() {
                    unseen.push(format!(
                        "{}: no process in {}",
                        place.prefix(),
                        place.path().display()
                    ));
                }
                rows.extend(slots);
            }
            Err(error) => {
                // One that was just made or just goes away is no failure of the others.
                is_right = args.file_prefix.is_none();
                crate::tell(&format!("{}: {error}", place.prefix()));
            }
        }
    }
    let mut output = Output::new(args.json);
    if places.is_empty() {
        output.say("no groups; a program started with a --file-prefix of its own makes one")?;
    } else if !rows.is_empty() {
        output.rows(&rows)?;
    }
    for line in unseen {
        output.say(&line)?;
    }
    output.finish()?;
    Ok(is_right)
}

fn slots(place: &Directory, region: &Region) -> Vec<SlotRow> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    let rows = SlotId::all().filter_map(|slot| {
        let record = &region.slots()[slot.index()];
        let (state, generation) = record.state();
        let state = match state {
            SlotState::Free => return None,
            SlotState::Live if region.owner_alive(Owner::new(slot, generation)) => "alive",
            SlotState::Live => "dead",
            SlotState::Sweeping => "swept now",
            SlotState::Invalid => "damaged",
        };
        Some(SlotRow {
            group: place.prefix().to_owned(),
            directory: place.path().to_owned(),
            slot: slot.get(),
            role: record.proc_type().to_string().to_lowercase(),
            pid: record.pid(),
            state,
            name: record.name(),
            core: record.core(),
            sleeps: record.run.sleeps.get(),
            late: record.run.late.get(),
            uptime_seconds: now.saturating_sub(record.started()),
        })
    });
    rows.collect()
}
