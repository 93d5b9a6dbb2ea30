//! What can go wrong with the environment.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::args::ArgsError;
use crate::core::LcoreId;
use crate::process::{PRIMARY_SLOTS, ProcType};
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
        "the {kind} {name:?} needs {asked} bytes and {free} of {} are free; start the primary with more memory: {more}",
        of_memory(*node, *total)
    )]
    Full {
        /// What was to be made.
        kind: ZoneKind,
        /// Its name.
        name: String,
        /// Its bytes.
        asked: u64,
        /// Bytes left in one piece.
        free: u64,
        /// Bytes of the data part, or of its section for that node.
        total: u64,
        /// The NUMA node with the most room of those allowed, if the region lies on several.
        node: Option<u32>,
        /// The argument that would do for this one: `-m 128`.
        more: String,
    },
    /// The region has no memory on a NUMA node.
    #[error(
        "the group has no memory on NUMA node {node}; it has {}: start the primary with --socket-mem, a size for each node, or name another node",
        list(nodes)
    )]
    NoSection {
        /// The node asked for.
        node: u32,
        /// Those that it has memory on.
        nodes: Vec<u32>,
    },
    /// More NUMA nodes than a region has sections.
    #[error(
        "--socket-mem names {count} NUMA nodes; a region lies on {max} at most: give the others 0"
    )]
    TooManyNodes {
        /// How many were named.
        count: usize,
        /// How many there may be.
        max: usize,
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
    #[error(
        "there is no NUMA node {node}; this machine has {}: name one of those",
        list(nodes)
    )]
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
        "no slot is free: {live} are in use and {dead} wait for a primary to sweep after their dead processes; start the primary, which has {PRIMARY_SLOTS} slots of its own, or stop a process"
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
    /// A `--file-prefix` that cannot be one.
    #[error(
        "{prefix:?} cannot be a file prefix: {why}; take 1 to 64 letters, digits, '-', '_' or '.'"
    )]
    Prefix {
        /// What was given.
        prefix: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A Unix group that does not exist.
    #[error("there is no Unix group {group:?}; create it, or give another --group")]
    NoGroupId {
        /// What was given.
        group: String,
    },
    /// No directory for the files of the group.
    #[error(
        "no directory for the group can be used: {}; name one with --runtime-dir",
        tries(tried)
    )]
    NoDirectory {
        /// Those tried, and why not.
        tried: Vec<(PathBuf, String)>,
    },
    /// A role that no process can have.
    #[error("a process cannot join as {role}; take --proc-type=primary, secondary or auto")]
    Role {
        /// What was asked for.
        role: ProcType,
    },
    /// A second primary.
    #[error("{}", second(prefix, primary.as_ref(), child.as_ref()))]
    SecondPrimary {
        /// The group.
        prefix: String,
        /// The first, as it calls itself.
        primary: Option<Living>,
        /// If that is dead: the process that it forked, which keeps its lock.
        child: Option<Living>,
    },
    /// A group that is not there.
    #[error("no group {prefix:?} is running; start its primary first, with --file-prefix={prefix}")]
    NoGroup {
        /// The group.
        prefix: String,
    },
    /// A group that another process creates or removes, for too long.
    #[error(
        "another process has been creating or removing the group {prefix:?} for {seconds} s; try again, or stop it"
    )]
    Busy {
        /// The group.
        prefix: String,
        /// How long we waited.
        seconds: u64,
    },
    /// A group that cannot be removed.
    #[error(
        "the group {prefix:?} is in use{}; stop its processes first",
        all_named(living)
    )]
    StillAlive {
        /// The group.
        prefix: String,
        /// Who lives in it, as they call themselves.
        living: Vec<Living>,
    },
    /// A region of another build.
    #[error(
        "{} has shared-memory layout {theirs}, this build has {ours}; \
         run both from one release, or give this one another --file-prefix",
        path.display()
    )]
    LayoutMismatch {
        /// The control part.
        path: PathBuf,
        /// Version and hash of this build.
        ours: Layout,
        /// Version and hash of the region.
        theirs: Layout,
    },
    /// A file that is no region, or no longer one.
    #[error("{} is not a usable region: {why}; stop its processes and run `forebay clean`", path.display())]
    NotARegion {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Too few hugepages.
    #[error(
        "{needed} hugepages of {page_kb} kB are needed and {free} are free; \
         reserve them with `sysctl vm.nr_hugepages={needed}`, or pass --no-huge"
    )]
    NoHugepages {
        /// How many are needed.
        needed: usize,
        /// How many are free.
        free: usize,
        /// Their size.
        page_kb: usize,
    },
    /// Too few hugepages on a NUMA node.
    #[error(
        "{needed} hugepages of {page_kb} kB are needed on NUMA node {node} and {free} are free there; \
         reserve them with `echo {reserve} > {file}`, or pass --no-huge"
    )]
    NoNodeHugepages {
        /// The node.
        node: u32,
        /// How many are needed.
        needed: usize,
        /// How many are free.
        free: usize,
        /// Their size.
        page_kb: usize,
        /// Where the kernel is told how many there are to be.
        file: String,
        /// How many there would have to be.
        reserve: usize,
    },
    /// Too little memory on a NUMA node.
    #[error(
        "NUMA node {node} has about {} MB of memory left and {} MB are to lie there; give --socket-mem less for it, or end what uses it (`numactl --hardware` shows how much)", free >> 20, wanted >> 20
    )]
    NodeMemory {
        /// The node.
        node: u32,
        /// Bytes that are to lie there.
        wanted: u64,
        /// Bytes that it can give.
        free: u64,
    },
    /// The kernel does not let this process choose a NUMA node.
    #[error(
        "cannot put memory on NUMA node {node}: {source}; allow this process that node (cpuset, seccomp), or give -m instead of --socket-mem"
    )]
    NodeRefused {
        /// The node.
        node: u32,
        /// The kernel's answer.
        source: io::Error,
    },
    /// No place to take hugepages from.
    #[error(
        "{needed} hugepages of {page_kb} kB are needed and none can be had from {}: {why}; \
         run `mount -t hugetlbfs none {}` and `sysctl vm.nr_hugepages={needed}`, or pass --no-huge",
        dir.display(),
        dir.display()
    )]
    HugeMount {
        /// The place.
        dir: PathBuf,
        /// How many are needed.
        needed: usize,
        /// Their size.
        page_kb: usize,
        /// What is wrong with the place.
        why: &'static str,
    },
    /// No memory to share.
    #[error(
        "neither /dev/shm nor {} is a tmpfs that this user can write; \
         run `mount -t tmpfs tmpfs /dev/shm`, or name a directory on a tmpfs with --runtime-dir",
        tried.display()
    )]
    NoSharedMemory {
        /// What was tried beside `/dev/shm`.
        tried: PathBuf,
    },
    /// Memory to share is full.
    #[error("{} has no room for a region of {} MB: {} MB are free; {}", path.display(), wanted >> 20, free >> 20, room(path, *free))]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// This process may not have files so large.
    #[error(
        "this process may not have files of {wanted} bytes; raise its limit with `ulimit -f unlimited`"
    )]
    FileLimit {
        /// Bytes asked for.
        wanted: u64,
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
    /// More keys than a secondary keeps.
    #[error("{key:?} would be key {} that this process keeps; it keeps {max}: use fewer ports or queues", max + 1)]
    TooManyKept {
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

/// A process of the group, as the process table has it: to be shown, never relied upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Living {
    /// Its process id.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
}

/// A layout: what two processes of a group must agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// See [`VERSION`](crate::layout::VERSION).
    pub version: u64,
    /// See [`HASH`](crate::layout::HASH).
    pub hash: u64,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:016x}", self.version, self.hash)
    }
}

/// Who keeps a process from being the primary.
fn second(prefix: &str, primary: Option<&Living>, child: Option<&Living>) -> String {
    match (primary, child) {
        (Some(primary), Some(child)) => format!(
            "the primary of the group {prefix:?}, process {} ({}), is dead, but process {} ({}), which it forked, \
             keeps its lock; end that one with `kill {}`",
            primary.pid, primary.name, child.pid, child.name, child.pid
        ),
        _ => format!(
            "the group {prefix:?} has a primary already{}; stop that one first, or take another --file-prefix",
            named(primary)
        ),
    }
}

/// `: mp_server, process 4711`
fn named(process: Option<&Living>) -> String {
    process.map_or_else(String::new, |Living { pid, name }| {
        format!(": {name}, process {pid}")
    })
}

/// `: mp_server, process 4711; mp_client, process 4712`
fn all_named(processes: &[Living]) -> String {
    let texts: Vec<_> = processes
        .iter()
        .map(|Living { pid, name }| format!("{name}, process {pid}"))
        .collect();
    if texts.is_empty() {
        String::new()
    } else {
        format!(": {}", texts.join("; "))
    }
}

/// `/run/forebay/rte (Permission denied), ...`
fn tries(tried: &[(PathBuf, String)]) -> String {
    let texts: Vec<_> = tried
        .iter()
        .map(|(path, why)| format!("{} ({why})", path.display()))
        .collect();
    texts.join(", ")
}

/// What to do about a file system with `free` bytes left.
fn room(path: &Path, free: u64) -> String {
    // What the control part takes, and a huge page that is begun.
    const BESIDE: u64 = 4 << 20;
    let enlarge = format!(
        "enlarge it with `mount -o remount,size=SIZE {}`",
        path.display()
    );
    match free.saturating_sub(BESIDE) >> 20 {
        0 => enlarge,
        fits => format!("-m {fits} would fit, or {enlarge}"),
    }
}

/// Memory of which there is too little.
fn of_memory(node: Option<u32>, total: u64) -> String {
    node.map_or_else(
        || format!("the region's {total}"),
        |node| format!("the {total} on NUMA node {node}"),
    )
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
