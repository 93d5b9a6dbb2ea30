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

/// A kind of ring operation.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    /// Many producers, with a lane each.
    fan_in: bool,
    /// Who is killed, and how it moves packets; the other end moves bursts.
    pub(super) victim: Side,
    pub(super) how: How,
}

const fn kind(name: &'static str, fan_in: bool, victim: Side, how: How) -> Kind {
    Kind {
        name,
        fan_in,
        victim,
        how,
    }
}

/// All kinds. There is no dequeue of bulks of mbufs.
pub(super) const KINDS: [Kind; 10] = [
    kind("spsc-enqueue-burst", false, Side::Producer, How::Burst),
    kind("spsc-enqueue-bulk", false, Side::Producer, How::Bulk),
    kind("spsc-enqueue-one", false, Side::Producer, How::One),
    kind("spsc-dequeue-burst", false, Side::Consumer, How::Burst),
    kind("spsc-dequeue-one", false, Side::Consumer, How::One),
    kind("fan-in-enqueue-burst", true, Side::Producer, How::Burst),
    kind("fan-in-enqueue-bulk", true, Side::Producer, How::Bulk),
    kind("fan-in-enqueue-one", true, Side::Producer, How::One),
    kind("fan-in-dequeue-burst", true, Side::Consumer, How::Burst),
    kind("fan-in-dequeue-one", true, Side::Consumer, How::One),
];

impl Kind {
    /// The kind of that name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Who is at work beside the victim.
    pub(super) fn steady(&self) -> &'static [Side] {
        match (self.victim, self.fan_in) {
            (Side::Producer, false) => &[Side::Consumer],
            (Side::Producer, true) => &[Side::Consumer, Side::Producer],
            (Side::Consumer, false) => &[Side::Producer],
            (Side::Consumer, true) => &[Side::Producer, Side::Producer],
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
        self.how == How::Bulk && !self.fan_in
    }

    /// Makes the ring.
    pub(super) fn create(&self, region: &'static Region) -> Result<Ring<'static>, ring::Error> {
        if self.fan_in {
            let config = FanInConfig {
                lanes: LANES,
                lane_size: SIZE,
                limit: SIZE * 2,
            };
            Ring::create_fan_in(region, RING, config, None)
        } else {
            Ring::create(region, RING, SIZE, None, Flags::SP_ENQ | Flags::SC_DEQ)
        }
    }
}
