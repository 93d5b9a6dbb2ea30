//! The group that a tool looks into.

use std::path::PathBuf;

use clap::Args;
use forebay::eal::Observer;

/// Which group, and in which form to tell.
#[derive(Debug, Clone, Args)]
pub(crate) struct GroupArgs {
    /// Group to look into
    #[arg(long, value_name = "NAME", default_value = "rte")]
    pub(crate) file_prefix: String,

    /// Directory of the groups, if it is not one of the usual
    #[arg(long, value_name = "DIR")]
    pub(crate) runtime_dir: Option<PathBuf>,

    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

impl GroupArgs {
    /// Maps the group's memory, to look at only.
    ///
    /// The mapping stays until the process ends: pools and rings are handed out for that long.
    pub(crate) fn observe(&self) -> anyhow::Result<&'static Observer> {
        let observer = Observer::open(self.runtime_dir.as_deref(), &self.file_prefix)?;
        Ok(Box::leak(Box::new(observer)))
    }
}
