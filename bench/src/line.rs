//! The table: which lines there are, what each does, and what it has to reach.

use crate::load::{Kind, Sockets, Task};
use crate::ours::{pool, ring};
use crate::xdp::Way;

/// One comparison.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    /// Ours over the peer's, better is more; `None` where it is only told.
    pub(crate) target: Option<f64>,
    /// What the peer did on the machine that the targets were made on, quiet, in the line's unit.
    pub(crate) figure: Option<f64>,
    pub(crate) unit: Unit,
    /// Items of a round, both sides: about half a second of the peer. 0 for a round of a given time.
    pub(crate) items: u64,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    Ring {
        shape: ring::Shape,
        burst: usize,
        peer: &'static str,
    },
    Pool {
        shape: pool::Shape,
        peer: &'static str,
        /// Mbufs of the peer's cache for an lcore: of 256 and 512 the one that is no worse for it, as `docs/performance.md` tells.
        cache: u32,
    },
    /// Server, client, and ports that make and swallow packets.
    Pipeline,
    /// Forwarding frames of that length between hosts, or sending datagrams back; the peer looks all the time, or naps when nothing
    /// comes, or is the kernel.
    Veth { what: Kind, naps: bool },
    /// One direction of `net_af_xdp`, alone.
    Xdp(Way),
    /// A process starts: as the primary, or into a group that is there.
    Start { secondary: bool },
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Millions of items a second: more is better.
    Rate,
    /// Nanoseconds an item: less is better.
    Cost,
    /// Milliseconds: less is better.
    Time,
}

impl Work {
    /// Whether it is beside the kernel, which is there without DPDK.
    pub(crate) fn is_beside_kernel(self) -> bool {
        matches!(self, Self::Veth { what, .. } if what.task == Task::Echo)
    }
}

impl Unit {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "M/s",
            Self::Cost => "ns",
            Self::Time => "ms",
        }
    }

    /// So many items in so many seconds.
    pub(crate) fn of(self, items: u64, seconds: f64) -> f64 {
        match self {
            Self::Rate => items as f64 / seconds / 1e6,
            Self::Cost => seconds * 1e9 / items as f64,
            Self::Time => seconds * 1e3,
        }
    }

    /// How many times better `ours` is than `theirs`.
    pub(crate) fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::Rate => ours / theirs,
            Self::Cost | Self::Time => theirs / ours,
        }
    }
}

const fn spsc(name: &'static str, burst: usize, target: f64, figure: f64, items: u64) -> Line {
    Line {
        name,
        work: Work::Ring {
            shape: ring::Shape::Spsc,
            burst,
            peer: "spsc",
        },
        target: Some(target),
        figure: Some(figure),
        unit: Unit::Rate,
        items,
    }
}

const fn mpmc(name: &'static str, burst: usize, target: f64, figure: f64, items: u64) -> Line {
    Line {
        name,
        work: Work::Ring {
            shape: ring::Shape::Mpmc,
            burst,
            peer: "mpmc",
        },
        target: Some(target),
        figure: Some(figure),
        unit: Unit::Rate,
        items,
    }
}

const fn fanin(name: &'static str, burst: usize, target: f64, figure: f64, items: u64) -> Line {
    Line {
        name,
        work: Work::Ring {
            shape: ring::Shape::Fanin,
            burst,
            peer: "mpsc",
        },
        target: Some(target),
        figure: Some(figure),
        unit: Unit::Rate,
        items,
    }
}

const fn start(name: &'static str, secondary: bool, figure: f64) -> Line {
    Line {
        name,
        work: Work::Start { secondary },
        target: None,
        figure: Some(figure),
        unit: Unit::Time,
        items: 1,
    }
}

const fn veth(
    name: &'static str,
    (sockets, len): (Sockets, usize),
    naps: bool,
    target: Option<f64>,
) -> Line {
    Line {
        name,
        work: Work::Veth {
            what: Kind {
                task: Task::Forward,
                len,
                sockets,
            },
            naps,
        },
        target,
        figure: None,
        unit: Unit::Cost,
        items: 0,
    }
}

const fn echo(name: &'static str, sockets: Sockets, target: Option<f64>) -> Line {
    Line {
        name,
        work: Work::Veth {
            what: Kind {
                task: Task::Echo,
                len: 64,
                sockets,
            },
            naps: false,
        },
        target,
        figure: None,
        unit: Unit::Cost,
        items: 0,
    }
}

const fn xdp(name: &'static str, way: Way) -> Line {
    Line {
        name,
        work: Work::Xdp(way),
        target: Some(1.0),
        figure: None,
        unit: Unit::Cost,
        items: 0,
    }
}

/// All lines, in the order of the table.
pub(crate) const LINES: &[Line] = &[
    spsc("ring-spsc-2core-32", 32, 1.4, 300.0, 200_000_000),
    spsc("ring-spsc-2core-8", 8, 1.9, 150.0, 80_000_000),
    spsc("ring-spsc-2core-1", 1, 3.0, 25.0, 15_000_000),
    Line {
        name: "ring-spsc-1core-32",
        work: Work::Ring {
            shape: ring::Shape::Alone,
            burst: 32,
            peer: "spsc-1core",
        },
        target: Some(1.1),
        figure: Some(1.6),
        unit: Unit::Cost,
        items: 400_000_000,
    },
    fanin("ring-fanin-2core-32", 32, 1.8, 240.0, 150_000_000),
    fanin("ring-fanin-2core-8", 8, 3.0, 75.0, 50_000_000),
    mpmc("ring-mpmc-2core-1", 1, 1.5, 9.0, 5_000_000),
    mpmc("ring-mpmc-2core-32", 32, 0.3, 240.0, 60_000_000),
    Line {
        name: "pool-alloc-free-32",
        work: Work::Pool {
            shape: pool::Shape::AllocFree,
            peer: "alloc-free",
            cache: 256,
        },
        target: Some(1.5),
        figure: Some(13.0),
        unit: Unit::Cost,
        items: 50_000_000,
    },
    Line {
        name: "handoff-2core-32",
        work: Work::Pool {
            shape: pool::Shape::Handoff,
            peer: "handoff",
            cache: 256,
        },
        target: Some(1.5),
        figure: Some(52.0),
        unit: Unit::Rate,
        items: 30_000_000,
    },
    Line {
        name: "pipeline-null",
        work: Work::Pipeline,
        target: Some(1.5),
        figure: Some(28.0),
        unit: Unit::Rate,
        items: 0,
    },
    veth("pipeline-veth-64", (Sockets::Packet, 64), false, Some(1.2)),
    veth(
        "pipeline-veth-1500",
        (Sockets::Packet, 1500),
        false,
        Some(1.2),
    ),
    veth(
        "pipeline-veth-64-napping",
        (Sockets::Packet, 64),
        true,
        None,
    ),
    veth(
        "pipeline-veth-1500-napping",
        (Sockets::Packet, 1500),
        true,
        None,
    ),
    veth("pipeline-af-xdp", (Sockets::Xdp, 64), false, Some(1.2)),
    veth("pipeline-af-xdp-1500", (Sockets::Xdp, 1500), false, None),
    veth("pipeline-af-xdp-napping", (Sockets::Xdp, 64), true, None),
    xdp("rx-af-xdp", Way::Rx),
    xdp("tx-af-xdp", Way::Tx),
    echo("udp-echo-veth", Sockets::Packet, None),
    echo("udp-echo-af-xdp", Sockets::Xdp, Some(1.2)),
    start("start-primary", false, 170.0),
    start("start-secondary", true, 76.0),
];
