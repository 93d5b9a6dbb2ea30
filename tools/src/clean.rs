//! `forebay clean`: takes away what a group left whose processes are all dead.
//!
//! The one subcommand that writes. It takes the group's locks before it removes anything, so that
//! nobody can join meanwhile, and refuses while one of them is held by a living process. Interfaces that ports of the group changed
//! (MTU, mode, indirection table) are put back to how they were.

use std::path::PathBuf;

use forebay::eal::Observer;
use forebay::eal::directory::Directory;
use forebay::ethdev::restore_interfaces;
use serde::Serialize;

use crate::group::GroupArgs;
use crate::print::{Output, Row};

#[derive(Debug, Serialize)]
struct RemovedRow {
    removed: PathBuf,
}

impl Row for RemovedRow {
    const COLUMNS: &'static [&'static str] = &["REMOVED, WITH ITS MEMORY"];

    fn cells(&self) -> Vec<String> {
        vec![self.removed.display().to_string()]
    }
}

/// Removes what is left, and prints it.
pub(crate) fn run(args: &GroupArgs) -> anyhow::Result<bool> {
    let found = Directory::locate(args.runtime_dir.as_deref(), &args.file_prefix)?;
    let mut output = Output::new(args.json);
    match found {
        Some(directory) => {
            // Mapped as long as this process lives: what the group changed of interfaces stands there.
            let left = Observer::open(args.runtime_dir.as_deref(), &args.file_prefix).ok();
            directory.clean()?;
            let left = left.map(|left| &*Box::leak(Box::new(left)));
            for what in left.map_or_else(Vec::new, |left| restore_interfaces(left.region())) {
                output.say(&format!("put back: the {what}"))?;
            }
            output.rows(&[RemovedRow {
                removed: directory.path().to_owned(),
            }])?;
        }
        None => output.say(&format!("nothing is left of {:?}", args.file_prefix))?,
    }
    output.finish()?;
    Ok(true)
}
