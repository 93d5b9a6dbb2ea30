//! What can go wrong with the environment.

use std::io;
use std::path::PathBuf;

use crate::args::ArgsError;
use crate::core::LcoreId;
use crate::zone::{ZoneError, ZoneKind, ZoneNameError};

/// Why something of the environment could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that a zone, a ring or a pool may not have.
    #[error(transparent)]
    ZoneName(#[from] ZoneNameError),
    /// A view that leaves its zone.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// Two of one name.
    #[error("a {kind} named {name:?} is there already; look it up, or take another name")]
    NameTaken {
        /// What was to be made.
        kind: ZoneKind,
        /// Its name.
        name: String,
    },
    /// Nothing of that name.
    #[error(
        "there is no {kind} named {name:?}; the primary process creates it, or it has another name: `forebay zones` lists them"
    )]
    NoZone {
        /// What was looked for.
        kind: ZoneKind,
        /// Its name.
        name: String,
    },
    /// Too little room in the region.
    #[error(
        "the {kind} {name:?} needs {asked} bytes and {free} of the region's {total} are free; start the primary with more memory: -m {suggested_mb}"
    )]
    Full {
        /// What was to be made.
        kind: ZoneKind,
        /// Its name.
        name: String,
        /// Its bytes.
        asked: u64,
        /// Bytes left.
        free: u64,
        /// Bytes of the data part.
        total: u64,
        /// Megabytes that would do for this one.
        suggested_mb: u64,
    },
    /// More zones than the table has records.
    #[error("the {kind} {name:?} would be zone {}; a group has at most {max}: use fewer rings or pools", max + 1)]
    NoRecord {
        /// What was to be made.
        kind: ZoneKind,
        /// Its name.
        name: String,
        /// Records of the table.
        max: usize,
    },
    /// A size or an alignment that no zone has.
    #[error(
        "a zone of {len} bytes aligned to {align} cannot be; give at least one byte, and a power of two up to 4096"
    )]
    ZoneShape {
        /// Bytes asked for.
        len: usize,
        /// Alignment asked for.
        align: usize,
    },
    /// A NUMA node that the machine does not have.
    #[error("there is no NUMA node {node}; this machine has {}", list(nodes))]
    NoNode {
        /// The node asked for.
        node: u32,
        /// Those there are.
        nodes: Vec<u32>,
    },
    /// Something that the primary alone does.
    #[error("only the primary process may {what}; this one is a secondary: let the primary do it")]
    NotPrimary {
        /// What was tried.
        what: &'static str,
    },
    /// Something that a tool tried on a group that it only looks at.
    #[error("this process only looks at the group; join it with --proc-type=secondary to {what}")]
    ReadOnly {
        /// What was tried.
        what: &'static str,
    },
    /// Every slot is taken.
    #[error(
        "no slot is free: {live} are in use and {dead} wait for a primary to clean up after their dead processes; stop a process, or start the primary"
    )]
    NoSlot {
        /// Slots of living processes.
        live: usize,
        /// Slots of dead processes, and slots being swept.
        dead: usize,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// Private memory could not be had.
    #[error("cannot get {len} bytes of private memory: {source}; ask for less with -m")]
    Memory {
        /// Bytes asked for.
        len: usize,
        /// The kernel's answer.
        source: io::Error,
    },

    // Arguments, lcores and the control socket.
    /// Wrong arguments.
    #[error(transparent)]
    Args(#[from] ArgsError),
    /// The cpus that this process may use are unknown.
    #[error("cannot learn which cpus this process may use: {source}; name them with taskset")]
    Cpus {
        /// The kernel's answer.
        source: io::Error,
    },
    /// An lcore that the arguments do not name.
    #[error(
        "lcore {lcore} is not among the lcores of this process ({}); add it to -l",
        ids(lcores)
    )]
    NoLcore {
        /// The lcore asked for.
        lcore: LcoreId,
        /// Those there are.
        lcores: Vec<LcoreId>,
    },
    /// An lcore whose function has not ended.
    #[error("lcore {lcore} runs a function already; wait for it, or launch on another lcore")]
    LcoreBusy {
        /// The lcore asked for.
        lcore: LcoreId,
    },
    /// The main lcore, which runs the program itself.
    #[error(
        "lcore {lcore} is the main lcore, which runs the program itself; launch on a worker (-l names them), or choose another main one with --main-lcore"
    )]
    LcoreIsMain {
        /// The lcore asked for.
        lcore: LcoreId,
    },
    /// A function that was launched panicked.
    #[error("the function on lcore {lcore} panicked: {message}; RUST_BACKTRACE=1 shows where")]
    LcorePanicked {
        /// Where it ran.
        lcore: LcoreId,
        /// What it said.
        message: String,
    },
    /// A thread could not be kept on its cpus.
    #[error("cannot keep lcore {lcore} on cpus {cpus:?}: {source}; choose others with -l")]
    Pin {
        /// The lcore.
        lcore: LcoreId,
        /// Its cpus.
        cpus: Vec<u32>,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No thread could be made.
    #[error("cannot start a thread for lcore {lcore}: {source}; raise the limit of processes")]
    Spawn {
        /// The lcore.
        lcore: LcoreId,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A key that cannot be published or fetched.
    #[error("{key:?} cannot be a key; take 1 to {max} printable ASCII characters without spaces")]
    Key {
        /// What was given.
        key: String,
        /// The longest.
        max: usize,
    },
    /// More than one message carries.
    #[error(
        "{key:?} has {count} {what} and a message carries {max}; publish it under several keys"
    )]
    PublicationTooBig {
        /// The key.
        key: String,
        /// Bytes or descriptors.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// More keys than a primary hands out.
    #[error("{key:?} would be publication {}; a primary keeps {max}: withdraw some", max + 1)]
    TooManyPublications {
        /// The key.
        key: String,
        /// How many there may be.
        max: usize,
    },
    /// A descriptor could not be duplicated.
    #[error("cannot duplicate the descriptors of {key:?}: {source}; raise `ulimit -n`")]
    Duplicate {
        /// Their key.
        key: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Nobody listens at the control socket.
    #[error(
        "no primary answers for the group {prefix:?} at {}; start one with --proc-type=primary --file-prefix={prefix}", path.display()
    )]
    PrimaryGone {
        /// The group.
        prefix: String,
        /// Where it should listen.
        path: PathBuf,
    },
    /// The control socket is not ours to use.
    #[error(
        "this user may not ask the primary of the group {prefix:?} at {}; run as its user, or start it with --group", path.display()
    )]
    PrimaryForbidden {
        /// The group.
        prefix: String,
        /// Where it listens.
        path: PathBuf,
    },
    /// Somebody listens at the control socket and does not answer.
    #[error(
        "the primary of the group {prefix:?} did not answer within {seconds} s when asked for {key:?}; see whether it is stopped"
    )]
    PrimaryDeaf {
        /// The group.
        prefix: String,
        /// What it was asked for.
        key: String,
        /// How long we waited.
        seconds: f32,
    },
    /// The primary does not hand it out to this process.
    #[error("the primary of the group {prefix:?} does not hand out {key:?}: {why}")]
    ControlRefused {
        /// The group.
        prefix: String,
        /// What it was asked for.
        key: String,
        /// The primary's words.
        why: String,
    },
    /// An answer that no build like this one gives.
    #[error(
        "the answer of the primary of the group {prefix:?} about {key:?} is not understood: {why}; run both from one release"
    )]
    ControlAnswer {
        /// The group.
        prefix: String,
        /// What it was asked for.
        key: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// The kernel could not give this process all descriptors of an answer.
    #[error("{key:?} has {sent} descriptors and {arrived} arrived; raise `ulimit -n`")]
    DescriptorsLost {
        /// What was asked for.
        key: String,
        /// How many the primary sent.
        sent: usize,
        /// How many this process got.
        arrived: usize,
    },
}

/// `0, 1, 2`
fn ids(lcores: &[LcoreId]) -> String {
    let texts: Vec<String> = lcores.iter().map(LcoreId::to_string).collect();
    texts.join(", ")
}

/// `0, 1 and 2`
fn list(nodes: &[u32]) -> String {
    let texts: Vec<String> = nodes.iter().map(u32::to_string).collect();
    match texts.as_slice() {
        [] => "none".to_owned(),
        [one] => format!("node {one} only"),
        [most @ .., last] => format!("nodes {} and {last}", most.join(", ")),
    }
}
