//! What is counted of a queue and of a port.
//!
//! ```text
//! queue record   packets bytes segments drops missed errors          one line, in the record that eal lays out
//! detail block   a drop counter for each reason ... | taken packets, bytes, segments that were dropped | place of the damage
//! ```
//!
//! The owner of a queue writes both; everybody reads. `packets`, `bytes` and `segments` are what was received, or sent:
//! a packet that a TX queue took and then dropped is in none of them.
//!
//! **If a process dies:** its counters keep their last values, and the next owner of the queue goes on from there.

use std::fmt;

use eal::Counter;
use eal::queue::QueueRecord;
use eal::sync::{AtomicU32, Ordering};
use mbuf::Mbuf;

/// Words of a queue's detail block: two cache lines.
pub(crate) const DETAIL_WORDS: usize = 16;

const TAKEN_PACKETS: usize = 12;
const TAKEN_BYTES: usize = 13;
const TAKEN_SEGMENTS: usize = 14;
const PLACE: usize = 15;

/// Why a queue dropped a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The pool had no buffer for a packet received.
    NoBuffer,
    /// The packet is longer than the device, or a chain, takes.
    TooLong,
    /// The device gave, or was given, something that is no packet.
    Malformed,
    /// The device or the kernel refused it.
    Refused,
    /// The device had no room, and never will for this one.
    NoRoom,
    /// The link was down.
    LinkDown,
    /// The queue leads nowhere: no file, no peer.
    NoSink,
    /// Its checksum could not be completed.
    Checksum,
}

impl DropReason {
    /// All of them, in the order in which they are counted and shown.
    pub const ALL: [Self; 8] = [
        Self::NoBuffer,
        Self::TooLong,
        Self::Malformed,
        Self::Refused,
        Self::NoRoom,
        Self::LinkDown,
        Self::NoSink,
        Self::Checksum,
    ];

    /// As it stands in the names of counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoBuffer => "no_buffer",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::NoRoom => "no_room",
            Self::LinkDown => "link_down",
            Self::NoSink => "no_sink",
            Self::Checksum => "checksum",
        }
    }
}

const _: () = assert!(DropReason::ALL.len() <= TAKEN_PACKETS);

/// Whether a queue still moves packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum QueueState {
    /// It does.
    Running,
    /// The file it reads is at its end.
    AtEnd,
    /// The file it reads makes no sense from some place on.
    Malformed,
    /// The device or file refused; nothing more is tried.
    Failed,
    /// The device is gone.
    Gone,
    /// A damaged word.
    Invalid,
}

impl QueueState {
    const fn number(self) -> u32 {
        match self {
            Self::Running => 0,
            Self::AtEnd => 1,
            Self::Malformed => 2,
            Self::Failed => 3,
            Self::Gone => 4,
            Self::Invalid => u32::MAX,
        }
    }

    const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Running,
            1 => Self::AtEnd,
            2 => Self::Malformed,
            3 => Self::Failed,
            4 => Self::Gone,
            _ => Self::Invalid,
        }
    }
}

impl fmt::Display for QueueState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::AtEnd => "at end",
            Self::Malformed => "malformed input",
            Self::Failed => "failed",
            Self::Gone => "device gone",
            Self::Invalid => "damaged",
        })
    }
}

/// The counters of one queue, where they lie. The queue's owner alone calls what changes them.
#[derive(Debug, Clone, Copy)]
pub struct QueueCounters {
    record: &'static eal::queue::QueueCounters,
    state: &'static AtomicU32,
    detail: &'static [Counter; DETAIL_WORDS],
}

impl QueueCounters {
    pub(crate) fn new(
        record: &'static QueueRecord,
        detail: &'static [Counter; DETAIL_WORDS],
    ) -> Self {
        Self {
            record: &record.counters,
            state: &record.state,
            detail,
        }
    }

    /// Counts packets that moved. The port's wrapper does; drivers do not.
    #[inline]
    pub(crate) fn moved(&self, packets: u64, bytes: u64, segments: u64) {
        self.record.packets.add(packets);
        self.record.bytes.add(bytes);
        self.record.segments.add(segments);
    }

    /// Counts packets that were dropped before they were taken, or while they were received.
    #[inline]
    pub fn dropped(&self, reason: DropReason, packets: u64) {
        self.detail[reason as usize].add(packets);
        self.record.drops.add(packets);
        if matches!(reason, DropReason::Malformed | DropReason::Refused) {
            self.record.errors.add(packets);
        }
    }

    /// Counts a packet that a TX queue took from the burst and could not send.
    #[inline]
    pub fn dropped_taken(&self, reason: DropReason, mbuf: &Mbuf<'_>) {
        self.dropped(reason, 1);
        self.detail[TAKEN_PACKETS].add(1);
        self.detail[TAKEN_BYTES].add(mbuf.packet_len() as u64);
        self.detail[TAKEN_SEGMENTS].add(mbuf.wire_segments());
    }

    /// What [`dropped_taken`](Self::dropped_taken) has counted: packets, bytes, segments.
    #[inline]
    pub(crate) fn taken_and_dropped(&self) -> [u64; 3] {
        [TAKEN_PACKETS, TAKEN_BYTES, TAKEN_SEGMENTS].map(|word| self.detail[word].get())
    }

    /// Counts packets that the device dropped for want of room, as the device says.
    #[inline]
    pub fn missed(&self, packets: u64) {
        self.record.missed.add(packets);
    }

    /// Says how the queue is; `place` is where in its file, or what the kernel's error number was.
    pub fn set_state(&self, state: QueueState, place: u64) {
        self.detail[PLACE].set(place);
        // Relaxed: shown, never relied upon.
        self.state.store(state.number(), Ordering::Relaxed);
    }

    /// As [`read`](Self::read), of a queue whose owner counts what it gave away and another who drives the device what that
    /// dropped of it.
    pub(crate) fn read_proxied(&self) -> QueueStats {
        let [packets, bytes, segments] = self.taken_and_dropped();
        let stats = self.read();
        QueueStats {
            packets: stats.packets.saturating_sub(packets),
            bytes: stats.bytes.saturating_sub(bytes),
            segments: stats.segments.saturating_sub(segments),
            ..stats
        }
    }

    /// The values now.
    #[must_use]
    pub fn read(&self) -> QueueStats {
        QueueStats {
            packets: self.record.packets.get(),
            bytes: self.record.bytes.get(),
            segments: self.record.segments.get(),
            missed: self.record.missed.get(),
            errors: self.record.errors.get(),
            drops: DropReason::ALL.map(|reason| self.detail[reason as usize].get()),
            state: QueueState::from_number(self.state.load(Ordering::Relaxed)),
            place: self.detail[PLACE].get(),
        }
    }

    /// Sets all counters to zero. For the primary, when a port is configured anew and nobody has the queue.
    pub(crate) fn clear(&self) {
        let eal::queue::QueueCounters {
            packets,
            bytes,
            segments,
            drops,
            missed,
            errors,
            spare: _,
        } = self.record;
        for counter in [packets, bytes, segments, drops, missed, errors]
            .into_iter()
            .chain(self.detail)
        {
            counter.set(0);
        }
        self.set_state(QueueState::Running, 0);
    }
}

/// The counters of one queue, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// Packets received, or sent.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets as the wire has them.
    pub segments: u64,
    /// Packets that the device dropped for want of room.
    pub missed: u64,
    /// Packets that were malformed or refused: among the drops.
    pub errors: u64,
    /// Packets that the queue dropped, in the order of [`DropReason::ALL`].
    pub drops: [u64; DropReason::ALL.len()],
    /// Whether the queue still moves packets.
    pub state: QueueState,
    /// Where it stopped: a place in its file, or the kernel's error number.
    pub place: u64,
}

impl QueueStats {
    /// A queue that has seen nothing.
    pub const ZERO: Self = Self {
        packets: 0,
        bytes: 0,
        segments: 0,
        missed: 0,
        errors: 0,
        drops: [0; DropReason::ALL.len()],
        state: QueueState::Running,
        place: 0,
    };

    /// Drops for one reason.
    #[must_use]
    pub const fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Drops for all reasons.
    #[must_use]
    pub fn all_drops(&self) -> u64 {
        self.drops
            .iter()
            .fold(0, |sum, drops| sum.wrapping_add(*drops))
    }

    fn add(&mut self, other: &Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.segments = self.segments.wrapping_add(other.segments);
        self.missed = self.missed.wrapping_add(other.missed);
        self.errors = self.errors.wrapping_add(other.errors);
        for (sum, drops) in self.drops.iter_mut().zip(other.drops) {
            *sum = sum.wrapping_add(drops);
        }
        if other.state != QueueState::Running {
            (self.state, self.place) = (other.state, other.place);
        }
    }
}

/// The counters of a port: each direction summed over its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortStats {
    /// Of all RX queues; its state is that of the last queue that stopped.
    pub rx: QueueStats,
    /// Of all TX queues; likewise.
    pub tx: QueueStats,
}

impl PortStats {
    pub(crate) fn sum(
        rx: impl Iterator<Item = QueueStats>,
        tx: impl Iterator<Item = QueueStats>,
    ) -> Self {
        let sum = |mut sum: QueueStats, one: QueueStats| {
            sum.add(&one);
            sum
        };
        Self {
            rx: rx.fold(QueueStats::ZERO, sum),
            tx: tx.fold(QueueStats::ZERO, sum),
        }
    }

    /// The sums under the names that DPDK gives them, then the drops by reason.
    pub(crate) fn named(&self) -> Vec<(String, u64)> {
        let mut named: Vec<(String, u64)> = [
            ("rx_good_packets", self.rx.packets),
            ("tx_good_packets", self.tx.packets),
            ("rx_good_bytes", self.rx.bytes),
            ("tx_good_bytes", self.tx.bytes),
            ("rx_good_segments", self.rx.segments),
            ("tx_good_segments", self.tx.segments),
            ("rx_missed_errors", self.rx.missed),
            ("rx_errors", self.rx.errors),
            ("tx_errors", self.tx.errors),
            (
                "rx_mbuf_allocation_errors",
                self.rx.dropped(DropReason::NoBuffer),
            ),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        for (direction, stats) in [("rx", &self.rx), ("tx", &self.tx)] {
            named.extend(DropReason::ALL.map(|reason| {
                (
                    format!("{direction}_dropped_{}", reason.name()),
                    stats.dropped(reason),
                )
            }));
        }
        named
    }
}

impl QueueStats {
    /// The values under names such as `rx_q0_packets`.
    pub(crate) fn named(
        &self,
        direction: crate::driver::Direction,
        queue: u16,
    ) -> [(String, u64); 6] {
        [
            ("packets", self.packets),
            ("bytes", self.bytes),
            ("segments", self.segments),
            ("missed", self.missed),
            ("errors", self.errors),
            ("dropped", self.all_drops()),
        ]
        .map(|(name, value)| (format!("{direction}_q{queue}_{name}"), value))
    }
}
