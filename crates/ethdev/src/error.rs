//! What goes wrong with ports, each with what to do about it.

use std::io;
use std::path::PathBuf;

use crate::driver::{Direction, PortId, QueueId};

/// What would do as well for privileges over one network namespace.
pub(crate) const OR_USER_NAMESPACE: &str = ", or in a user namespace";

/// Why a port or a queue could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text of a `--vdev` does not follow the grammar.
    #[error("--vdev={text}: {reason}; write it as DRIVER0,KEY=VALUE,KEY=VALUE")]
    BadVdev {
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No driver has that name.
    #[error("--vdev={device}: there is no driver {name:?}{hint}; drivers are {known}")]
    UnknownDriver {
        /// The whole name of the port.
        device: String,
        /// The part that should name the driver.
        name: String,
        /// `, did you mean ...?`, or nothing.
        hint: String,
        /// All drivers.
        known: String,
    },
    /// The driver does not take that key.
    #[error("--vdev={device}: there is no key {key:?}{hint}; {driver} takes {known}")]
    UnknownKey {
        /// The port.
        device: String,
        /// The driver.
        driver: &'static str,
        /// What was written.
        key: String,
        /// `, did you mean ...?`, or nothing.
        hint: String,
        /// All keys of the driver.
        known: String,
    },
    /// A key that may stand once stands twice.
    #[error("--vdev={device}: {key}= is given twice; leave one of them")]
    RepeatedKey {
        /// The port.
        device: String,
        /// The key.
        key: String,
    },
    /// A key that the driver cannot do without.
    #[error("--vdev={device}: {key}= is missing; {driver} takes {usage}")]
    MissingKey {
        /// The port.
        device: String,
        /// The driver.
        driver: &'static str,
        /// The key.
        key: &'static str,
        /// What the driver takes.
        usage: &'static str,
    },
    /// The value of a key makes no sense.
    #[error("--vdev={device}: {key}={value}: {reason}")]
    BadValue {
        /// The port.
        device: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// Two ports of one name.
    #[error("--vdev={name}: named twice; number the second one, as in net_null0 and net_null1")]
    DuplicatePort {
        /// The name.
        name: String,
    },
    /// More ports than a group holds.
    #[error("{asked} ports, and a group holds {max}; leave out some --vdev")]
    TooManyPorts {
        /// How many were asked for.
        asked: usize,
        /// How many there may be.
        max: usize,
    },
    /// A PCI device that no driver here can take.
    #[error("--allow={address}: {reason}")]
    Allow {
        /// What was written.
        address: String,
        /// What is missing, and what to write instead.
        reason: String,
    },
    /// No port of that number.
    #[error(
        "there is no port {port}; the group has {count}, counted from 0; add a --vdev to the primary"
    )]
    NoPort {
        /// The port asked for.
        port: PortId,
        /// How many there are.
        count: usize,
    },
    /// Too many queues, or none.
    #[error(
        "port {port} ({driver}): {asked} {direction} queues asked for, the driver has {max}{remedy}"
    )]
    QueueCount {
        /// The port.
        port: PortId,
        /// Its driver.
        driver: &'static str,
        /// The direction.
        direction: Direction,
        /// How many were asked for.
        asked: u16,
        /// How many the device has.
        max: u16,
        /// `; ...`: which key raises it, if one does.
        remedy: String,
    },
    /// No queue of that number.
    #[error(
        "port {port} has no {direction} queue {queue}: it is configured with {count}; configure more"
    )]
    NoQueue {
        /// The port.
        port: PortId,
        /// The direction.
        direction: Direction,
        /// The queue asked for.
        queue: QueueId,
        /// How many were configured.
        count: u16,
    },
    /// More descriptors than the device's queues have.
    #[error(
        "port {port} {direction} queue {queue}: {asked} descriptors asked for, {driver} takes up to {max}"
    )]
    Descriptors {
        /// The port.
        port: PortId,
        /// Its driver.
        driver: &'static str,
        /// The direction.
        direction: Direction,
        /// The queue.
        queue: QueueId,
        /// How many were asked for.
        asked: u32,
        /// How many there may be.
        max: u32,
    },
    /// The buffers of a pool are too small for the driver.
    #[error(
        "pool {pool}: {room} bytes of room in a buffer, {driver} needs {needed}; create the pool with data_room {data_room}"
    )]
    PoolTooSmall {
        /// The pool.
        pool: String,
        /// What a buffer takes.
        room: usize,
        /// The driver.
        driver: &'static str,
        /// What it needs.
        needed: usize,
        /// The data room that would do.
        data_room: usize,
    },
    /// The driver cannot do that; the port puts its name in.
    #[error("the driver does not support {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// The driver of this port cannot do that.
    #[error("port {port}: {driver} does not support {what}; its capabilities are: {capabilities}")]
    PortUnsupported {
        /// The port.
        port: PortId,
        /// Its driver.
        driver: &'static str,
        /// What was asked for.
        what: &'static str,
        /// What it can do.
        capabilities: String,
    },
    /// A secondary tried what only the primary may.
    #[error(
        "port {port}: {what} is for the primary process, and this is a secondary; do it there{who}"
    )]
    NotPrimary {
        /// The port.
        port: PortId,
        /// What was tried.
        what: &'static str,
        /// ` (pid N)`, if it is known.
        who: String,
    },
    /// The port is in the wrong state for that.
    #[error("port {port}: cannot {what} while it is {state}; {remedy}")]
    WrongState {
        /// The port.
        port: PortId,
        /// What was tried.
        what: &'static str,
        /// The state it is in.
        state: PortState,
        /// What to do first.
        remedy: &'static str,
    },
    /// A new primary has opened another port in this one's place.
    #[error(
        "port {port} was {joined:?} when this process joined, and a new primary has opened it as {now:?}; join the group again"
    )]
    Replaced {
        /// The port.
        port: PortId,
        /// What it was.
        joined: String,
        /// What it is.
        now: String,
    },
    /// Somebody living drives the queue.
    #[error(
        "port {port} {direction} queue {queue} is driven by slot {slot} (pid {pid}); stop that process or take another queue"
    )]
    Taken {
        /// The port.
        port: PortId,
        /// The direction.
        direction: Direction,
        /// The queue.
        queue: QueueId,
        /// Whose it is.
        slot: u8,
        /// The process, as it said itself.
        pid: u32,
    },
    /// A queue was asked for in nobody's name.
    #[error("port {port}: a queue needs an owner; claim a slot first")]
    Nobody {
        /// The port.
        port: PortId,
    },
    /// The primary has not published what the queue needs.
    #[error(
        "port {port} {direction} queue {queue}: the primary hands out no descriptors for it; start the port there first"
    )]
    NoDescriptors {
        /// The port.
        port: PortId,
        /// The direction.
        direction: Direction,
        /// The queue.
        queue: QueueId,
    },
    /// What the primary handed over is not what the driver hands over.
    #[error(
        "port {port} {direction} queue {queue}: what the primary handed over does not fit ({reason}); run both from one release"
    )]
    BadDescriptors {
        /// The port.
        port: PortId,
        /// The direction.
        direction: Direction,
        /// The queue.
        queue: QueueId,
        /// What does not fit.
        reason: String,
    },
    /// What a secondary kept of a former primary's queue is not what this one would have opened.
    #[error(
        "port {port} {direction} queue {queue}: what a secondary kept of the last primary does not fit ({reason}); it is not used, and the queue is opened anew"
    )]
    BadOffer {
        /// The port.
        port: PortId,
        /// The direction.
        direction: Direction,
        /// The queue.
        queue: QueueId,
        /// What does not fit.
        reason: String,
    },
    /// A new primary asks for other queues than those that living processes drive.
    #[error(
        "port {port}: living processes drive its queues as the last primary configured them, with {theirs}, and {ours} is asked for; start the primary with the arguments of the last one, or stop those processes"
    )]
    OtherConfig {
        /// The port.
        port: PortId,
        /// What the group has there.
        theirs: String,
        /// What was asked for.
        ours: String,
    },
    /// The port's record or its zone holds what no primary writes.
    #[error(
        "port {port}: its record is damaged ({reason}); restart the group, after `forebay clean` if need be"
    )]
    Damaged {
        /// The port.
        port: PortId,
        /// What is wrong.
        reason: String,
    },
    /// A new primary names other ports than the living processes use.
    #[error(
        "port {port} is {theirs:?} in this group and a living process (slot {slot}, pid {pid}) drives it; start the primary with the same --vdev, or stop that process"
    )]
    InUse {
        /// The port.
        port: PortId,
        /// What the group has there.
        theirs: String,
        /// Who drives a queue of it.
        slot: u8,
        /// The process, as it said itself.
        pid: u32,
    },
    /// No interface of that name.
    #[error(
        "--vdev={device}: there is no interface {interface:?}{hint}; interfaces here are {known}"
    )]
    NoInterface {
        /// The port.
        device: String,
        /// What was written.
        interface: String,
        /// `, did you mean ...?`, or nothing.
        hint: String,
        /// Those that exist.
        known: String,
    },
    /// The interface that is to be made is there, and cannot be had.
    #[error("--vdev={device}: interface {interface:?} {reason}")]
    InterfaceTaken {
        /// The port.
        device: String,
        /// The interface.
        interface: String,
        /// What it is, and what to do about it.
        reason: String,
    },
    /// The frames of a pool cannot be a socket's memory.
    #[error("{device}: the frames of pool {pool:?} {reason}")]
    Frames {
        /// The port.
        device: String,
        /// The pool.
        pool: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A privilege is missing.
    #[error(
        "{device}: {what} needs {capability}; run the primary as root or with `setcap {capability_flag}+ep`{or}"
    )]
    Privilege {
        /// The port.
        device: String,
        /// What was refused.
        what: &'static str,
        /// The capability, as in CAP_NET_RAW.
        capability: &'static str,
        /// The same for `setcap`.
        capability_flag: &'static str,
        /// What would do as well, if anything.
        or: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file that a port reads or writes.
    #[error("{device}: {}: {reason}", path.display())]
    File {
        /// The port.
        device: String,
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        reason: String,
    },
    /// The kernel refused something that it usually grants.
    #[error("{device}: cannot {what}: {source}")]
    Kernel {
        /// The port.
        device: String,
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The region, a slot or the control socket.
    #[error(transparent)]
    Eal(#[from] eal::Error),
    /// A ring of a port made of rings.
    #[error(transparent)]
    Ring(#[from] ring::Error),
    /// A pool.
    #[error(transparent)]
    Mbuf(#[from] mbuf::Error),
}

impl Error {
    /// Whether the arguments were wrong: exit status 2 of a program.
    #[must_use]
    pub const fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::BadVdev { .. }
                | Self::UnknownDriver { .. }
                | Self::UnknownKey { .. }
                | Self::RepeatedKey { .. }
                | Self::MissingKey { .. }
                | Self::BadValue { .. }
                | Self::DuplicatePort { .. }
                | Self::TooManyPorts { .. }
                | Self::Allow { .. }
        )
    }
}

/// How far a port has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// No such port.
    Absent,
    /// Open, without queues.
    Opened,
    /// The number of queues is known.
    Configured,
    /// Packets pass.
    Started,
    /// Packets passed and may pass again.
    Stopped,
    /// Given back.
    Closed,
}

impl std::fmt::Display for PortState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Opened => "not configured",
            Self::Configured => "configured but not started",
            Self::Started => "started",
            Self::Stopped => "stopped",
            Self::Closed => "closed",
        })
    }
}

impl PortState {
    /// As it lies in the port's record.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Absent => 0,
            Self::Opened => 1,
            Self::Configured => 2,
            Self::Started => 3,
            Self::Stopped => 4,
            Self::Closed => 5,
        }
    }

    /// From a port's record; what no primary writes is no port.
    pub(crate) const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Opened,
            2 => Self::Configured,
            3 => Self::Started,
            4 => Self::Stopped,
            5 => Self::Closed,
            _ => Self::Absent,
        }
    }
}
