//! A queue in the hands of the thread that drives it: what applications call.
//!
//! The driver behind it is called once a burst. Around that call packets, bytes and segments are counted, and a packet
//! received is told where it came from.
//!
//! **If a process dies:** the queue's owner word still names it, and the next one takes the queue over; what the dead one
//! had in hand is found by its tags. Meanwhile a thread of the primary may stand in for it, until [`RxQueue::is_wanted`].

use std::fmt;

use eal::Owner;
use eal::sleep::{Found, Source, WaitSet};
use eal::sync::{AtomicU32, Ordering};
use mbuf::{Burst, Lcore, Totals};

use crate::driver::{self, QueueContext, Wakeup};
use crate::error::PortState;
use crate::proxy::Lease;
use crate::stats::{QueueCounters, QueueStats};
use crate::table::Claim;

/// In whose place a queue is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In one's own.
    Own,
    /// In that of the absent.
    In,
}

/// What both kinds of queue keep.
struct Common {
    /// The port's state word: a queue of a stopped port moves nothing.
    state: &'static AtomicU32,
    counters: QueueCounters,
    port: u16,
    queue: u16,
    /// Whether the primary drives the device for others: then what that drops is counted apart from what was given to it.
    proxied: bool,
    /// Dropped after the driver's part, which may still write cursors.
    _claim: Claim,
    /// Of a proxied queue that the primary drives for itself.
    _lease: Option<Lease>,
}

/// How a queue was had.
pub(crate) struct Hold {
    pub(crate) claim: Claim,
    pub(crate) lease: Option<Lease>,
    pub(crate) proxied: bool,
}

impl Common {
    fn new(cx: &QueueContext, state: &'static AtomicU32, hold: Hold) -> Self {
        Self {
            state,
            counters: cx.counters,
            port: cx.port.0,
            queue: cx.queue.0,
            proxied: hold.proxied,
            _claim: hold.claim,
            _lease: hold.lease,
        }
    }

    fn stats(&self) -> QueueStats {
        if self.proxied {
            self.counters.read_proxied()
        } else {
            self.counters.read()
        }
    }

    /// Relaxed: stopping takes effect with some burst soon, and orders nothing else.
    #[inline]
    fn started(&self) -> bool {
        self.state.load(Ordering::Relaxed) == PortState::Started.number()
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("port", &self.port)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}

/// The receiving side of a queue. Dropping it gives the queue back.
pub struct RxQueue {
    device: Box<dyn driver::RxQueue>,
    common: Common,
    /// Of a stand-in: who waits for the queue.
    wanted: Option<&'static AtomicU32>,
    last: Totals,
}

impl RxQueue {
    pub(crate) fn new(
        device: Box<dyn driver::RxQueue>,
        cx: &QueueContext,
        state: &'static AtomicU32,
        hold: Hold,
        standing: Standing,
    ) -> Self {
        Self {
            device,
            common: Common::new(cx, state, hold),
            wanted: (standing == Standing::In).then_some(&cx.record.wanted),
            last: Totals::default(),
        }
    }

    /// Whether somebody waits for this queue, which we only drive in place of the absent: then drop it. One load.
    ///
    /// Who waits may have died since. Then nobody comes, and we may [stand in](crate::Port::rx_queue_stand_in) again.
    #[inline]
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        // Relaxed: what the owner word passes on, its own stores order.
        self.wanted
            .is_some_and(|wanted| wanted.load(Ordering::Relaxed) != Owner::NONE.bits())
    }

    /// Adds up to `burst.room()` packets to `burst` and returns how many. Never blocks.
    #[inline]
    pub fn rx_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize {
        if !self.common.started() {
            return 0;
        }
        let before = burst.len();
        self.device.rx_burst(lcore, burst);
        let count = burst.len().saturating_sub(before);
        if count > 0 {
            let all = burst.arrived(before, self.common.port, self.common.queue);
            self.common
                .counters
                .moved(count as u64, all.bytes, all.segments);
            self.last = all;
        }
        count
    }

    /// What the last burst that was not empty came to.
    #[inline]
    #[must_use]
    pub fn last_burst(&self) -> Totals {
        self.last
    }

    /// What the queue has counted.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.common.stats()
    }
}

impl Source for RxQueue {
    fn must_poll(&self) -> bool {
        self.common.started() && matches!(self.device.wakeup(), Wakeup::Poll)
    }

    fn sleep_begin(&mut self) {
        self.device.sleep_begin();
    }

    fn look(&mut self) -> Found {
        // Who waits for a stand-in rings too.
        if self.is_wanted() {
            Found::InDevice
        } else if self.common.started() {
            self.device.look()
        } else {
            Found::Nothing
        }
    }

    fn sleep_end(&mut self) {
        self.device.sleep_end();
    }

    fn wait_on<'s>(&'s self, set: &mut WaitSet<'s>) {
        // Of a stopped port nothing is taken: what waits there would have us up all the time.
        if let (true, Wakeup::Descriptor(fd)) = (self.common.started(), self.device.wakeup()) {
            set.add(fd);
        }
    }
}

/// The sending side of a queue. Dropping it gives the queue back.
pub struct TxQueue {
    device: Box<dyn driver::TxQueue>,
    common: Common,
    last: Totals,
}

impl TxQueue {
    pub(crate) fn new(
        device: Box<dyn driver::TxQueue>,
        cx: &QueueContext,
        state: &'static AtomicU32,
        hold: Hold,
    ) -> Self {
        Self {
            device,
            common: Common::new(cx, state, hold),
            last: Totals::default(),
        }
    }

    /// Takes packets from the front of `burst` and returns how many. Never blocks;
    /// what the device has no room for stays in `burst`, and the caller decides.
    #[inline]
    pub fn tx_burst(&mut self, burst: &mut Burst<'_>) -> usize {
        let before = burst.len();
        self.last = Totals::default();
        if before == 0 || !self.common.started() {
            return 0;
        }
        // The packets are gone after the call, so what they come to is summed up before it.
        let all = burst.totals();
        let dropped = self.common.counters.taken_and_dropped();
        self.device.tx_burst(burst);
        let count = before.saturating_sub(burst.len());
        if count > 0 {
            let left = burst.totals();
            let now = if self.common.proxied {
                dropped
            } else {
                self.common.counters.taken_and_dropped()
            };
            let sent = |all: u64, left: u64, word: usize| {
                let taken = all.saturating_sub(left);
                taken.saturating_sub(now[word].wrapping_sub(dropped[word]))
            };
            self.last = Totals {
                packets: sent(all.packets, left.packets, 0),
                bytes: sent(all.bytes, left.bytes, 1),
                segments: sent(all.segments, left.segments, 2),
            };
            let Totals {
                packets,
                bytes,
                segments,
            } = self.last;
            self.common.counters.moved(packets, bytes, segments);
        }
        count
    }

    /// What was sent of the last burst: neither what the queue left, nor what it took and dropped. Of a
    /// [proxied](crate::Port::is_proxied) queue it is what was taken: what the primary drops later is in [`stats`](Self::stats).
    #[inline]
    #[must_use]
    pub fn last_burst(&self) -> Totals {
        self.last
    }

    /// What the queue has counted.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.common.stats()
    }
}

impl fmt::Debug for RxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.common.fmt("RxQueue", f)
    }
}

impl fmt::Debug for TxQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.common.fmt("TxQueue", f)
    }
}
