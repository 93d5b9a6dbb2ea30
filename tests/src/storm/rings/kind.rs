//! The kinds of operation that a process is killed in.

use forebay::eal::Region;
use forebay::ring::{self, FanInConfig};
use forebay::{BURST_MAX, Flags, Ring};

/// Name of the ring.
pub(super) const RING: &str = "storm";
/// Packets of a burst, and of a bulk.
pub(super) const BULK: u64 = BURST_MAX as u64;
/// Packets that fit a lane: a whole series of a worker's.
const SIZE: u32 = 8 * 1024;
/// The same of a ring of exact size.
const EXACT: u32 = 5_000;
/// Slots that may send to a fan-in ring: more than are ever at work or wait for a sweep.
const LANES: u8 = 24;

/// An end of the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Producer,
    Consumer,
}

impl Side {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// How packets are moved by one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// As many of a burst as fit, or are there.
    Burst,
    /// A whole burst or nothing.
    Bulk,
    /// One by one.
    One,
}

/// What ring it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// One producer, one consumer.
    One,
    /// Many producers, with a lane each.
    FanIn,
    /// Many producers and many consumers of one array.
    Mpmc,
    /// The same with a size that is no power of two.
    Exact,
}

/// A kind of ring operation.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    shape: Shape,
    /// Who is killed, and how it moves packets; the other end moves bursts.
    pub(super) victim: Side,
    pub(super) how: How,
}

const fn kind(name: &'static str, shape: Shape, victim: Side, how: How) -> Kind {
    Kind {
        name,
        shape,
        victim,
        how,
    }
}

/// All kinds. There is no dequeue of bulks of mbufs.
pub(super) const KINDS: [Kind; 15] = [
    kind("spsc-enqueue-burst", Shape::One, Side::Producer, How::Burst),
    kind("spsc-enqueue-bulk", Shape::One, Side::Producer, How::Bulk),
    kind("spsc-enqueue-one", Shape::One, Side::Producer, How::One),
    kind("spsc-dequeue-burst", Shape::One, Side::Consumer, How::Burst),
    kind("spsc-dequeue-one", Shape::One, Side::Consumer, How::One),
    kind(
        "fan-in-enqueue-burst",
        Shape::FanIn,
        Side::Producer,
        How::Burst,
    ),
    kind(
        "fan-in-enqueue-bulk",
        Shape::FanIn,
        Side::Producer,
        How::Bulk,
    ),
    kind("fan-in-enqueue-one", Shape::FanIn, Side::Producer, How::One),
    kind(
        "fan-in-dequeue-burst",
        Shape::FanIn,
        Side::Consumer,
        How::Burst,
    ),
    kind("fan-in-dequeue-one", Shape::FanIn, Side::Consumer, How::One),
    kind(
        "mpmc-enqueue-burst",
        Shape::Mpmc,
        Side::Producer,
        How::Burst,
    ),
    kind("mpmc-enqueue-one", Shape::Mpmc, Side::Producer, How::One),
    kind(
        "mpmc-dequeue-burst",
        Shape::Mpmc,
        Side::Consumer,
        How::Burst,
    ),
    kind("mpmc-dequeue-one", Shape::Mpmc, Side::Consumer, How::One),
    kind(
        "mpmc-exact-dequeue-burst",
        Shape::Exact,
        Side::Consumer,
        How::Burst,
    ),
];

impl Kind {
    /// The kind of that name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Who is at work beside the victim.
    pub(super) fn steady(&self) -> &'static [Side] {
        match (self.victim, self.shape) {
            (Side::Producer, Shape::One) => &[Side::Consumer],
            (Side::Producer, _) => &[Side::Consumer, Side::Producer],
            (Side::Consumer, Shape::One) => &[Side::Producer],
            (Side::Consumer, Shape::FanIn) => &[Side::Producer, Side::Producer],
            // Another consumer would get on where the dead one holds the ring up.
            (Side::Consumer, Shape::Mpmc | Shape::Exact) => &[Side::Producer, Side::Producer],
        }
    }

    /// How that end moves packets.
    pub(super) fn how(&self, side: Side) -> How {
        if side == self.victim {
            self.how
        } else {
            How::Burst
        }
    }

    /// Whether all producers that are killed send bulks alone.
    pub(super) fn is_bulk(&self) -> bool {
        self.how == How::Bulk && self.shape == Shape::One
    }

    /// Makes the ring.
    pub(super) fn create(&self, region: &'static Region) -> Result<Ring<'static>, ring::Error> {
        let (size, flags) = match self.shape {
            Shape::One => (SIZE, Flags::SP_ENQ | Flags::SC_DEQ),
            Shape::Mpmc => (SIZE, Flags::NONE),
            Shape::Exact => (EXACT, Flags::EXACT_SZ),
            Shape::FanIn => {
                let config = FanInConfig {
                    lanes: LANES,
                    lane_size: SIZE,
                    limit: SIZE * 2,
                };
                return Ring::create_fan_in(region, RING, config, None);
            }
        };
        Ring::create(region, RING, size, None, flags)
    }
}
