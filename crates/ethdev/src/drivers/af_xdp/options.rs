//! What a user may say of a port, named as DPDK's `net_af_xdp` names it where that has a name for it.

use super::filter::{self, Filter};
use crate::args::{DevArgs, Key};
use crate::driver::Driver;
use crate::error::Error;

/// What `--help` shows.
pub(super) const USAGE: &str = "net_af_xdp0,iface=NAME[,start_queue=N][,queue_count=N][,match=all|PROTO:PORT,PORT;...][,addr=IP;IP...][,mode=auto|zerocopy|copy][,xdp=auto|native|generic][,force=0|1][,busy_budget=N][,metadata=0|1]";

/// The keys above.
pub(super) const KEYS: [Key; 10] = [
    Key::once("iface"),
    Key::once("start_queue"),
    Key::once("queue_count"),
    filter::KEYS[0],
    filter::KEYS[1],
    Key::once("mode"),
    Key::once("xdp"),
    Key::once("force"),
    Key::once("busy_budget"),
    Key::once("metadata"),
];

/// Who copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copying {
    /// Nobody where the driver can do without, else the kernel.
    Auto,
    /// Nobody, or it is an error.
    Never,
    /// The kernel.
    Always,
}

/// Where the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attaching {
    /// In the driver where that can, else behind it.
    Auto,
    /// In the driver, or it is an error.
    Native,
    /// Behind it.
    Generic,
}

/// The keys of a port, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// The kernel interface.
    pub(super) interface: String,
    /// The interface's queue that is queue 0 of the port.
    pub(super) start_queue: u16,
    /// Most queues, if that was said.
    pub(super) queue_count: Option<u16>,
    /// What comes to the group, if that was said.
    pub(super) filter: Option<Filter>,
    pub(super) copying: Copying,
    pub(super) attaching: Attaching,
    /// Whether another program on the interface is taken away.
    pub(super) force: bool,
    /// Packets a time that the kernel handles when it is asked; 0 for its own way.
    pub(super) busy_budget: u16,
    /// Whether the device is asked for hash and tag of each frame.
    pub(super) metadata: bool,
}

impl Options {
    /// Checks the values.
    pub(super) fn parse(
        args: &DevArgs,
        driver: &dyn Driver,
        queues_max: u16,
    ) -> Result<Self, Error> {
        let copying = one_of(
            args,
            "mode",
            [
                ("auto", Copying::Auto),
                ("zerocopy", Copying::Never),
                ("copy", Copying::Always),
            ],
        )?;
        let attaching = one_of(
            args,
            "xdp",
            [
                ("auto", Attaching::Auto),
                ("native", Attaching::Native),
                ("generic", Attaching::Generic),
            ],
        )?;
        Ok(Self {
            interface: args.required("iface", driver)?.to_owned(),
            start_queue: args.number("start_queue", 0..=1023)?.unwrap_or(0),
            queue_count: args.number("queue_count", 1..=queues_max)?,
            filter: Filter::parse(args)?,
            copying,
            attaching,
            force: args.flag("force")?,
            busy_budget: args.number("busy_budget", 0..=4096)?.unwrap_or(0),
            metadata: args.get("metadata").is_none() || args.flag("metadata")?,
        })
    }
}

/// The value of a key that has few; the first if it is not given.
fn one_of<T: Copy, const N: usize>(
    args: &DevArgs,
    key: &str,
    values: [(&str, T); N],
) -> Result<T, Error> {
    let Some(given) = args.get(key) else {
        return Ok(values[0].1);
    };
    let found = values.iter().find(|(name, _)| *name == given);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names = values.map(|(name, _)| name).join(", ");
        args.bad_value(key, format!("not one of {names}"))
    })
}
