//! The primary's part: carries bursts between the rings of proxied queues and the device.

use std::fmt;
use std::os::fd::BorrowedFd;

use eal::sleep::{Found, Source, WaitSet};
use mbuf::{BURST_MAX, Burst, Lcore, MbufConsumer, MbufProducer};
use ring::Ring;
use tracing::warn;

use super::{Lease, ring_name};
use crate::driver::{self, Direction, PortId, QueueId, Wakeup};
use crate::error::Error;
use crate::port::Port;
use crate::ports::Ports;
use crate::stats::{DropReason, QueueCounters};

/// After so many rounds a device's queue that could not be opened is tried again; a sleep is worth some of them.
const ROUNDS_A_TRY: u32 = 1 << 12;
const ROUNDS_A_SLEEP: u32 = ROUNDS_A_TRY / 4;
/// Rounds in a row in which a device takes nothing of what waits, after which it loses the first of that a round until it takes
/// some. A packet may be such that its device never takes it, and says the same of it as of one for which it has no room now.
pub(crate) const ROUNDS_REFUSED_MAX: u32 = 1 << 10;
/// Rounds in a row in which a ring to an owner is full, after which nobody stays awake for it: its owner may have been stopped.
pub(crate) const ROUNDS_FULL_MAX: u32 = 1 << 11;
/// Rounds in which the end empties the rings.
const LAST_ROUNDS: usize = 64;

/// All proxied queues of the ports, for the thread of the primary that serves them. Call [`serve`](Self::serve) in its loop.
///
/// A thread that [sleeps](eal::sleep) when there is nothing to do waits for them as for any other [`Source`].
///
/// Dropping it sends what waits, as far as the devices take it, and closes the TX queues of others: they take nothing until
/// somebody serves again.
pub struct Proxies<'c> {
    ports: Ports,
    lcore: &'c Lcore,
    rx: Vec<RxWay>,
    tx: Vec<TxWay<'c>>,
}

/// Which queue a way leads to, and whether its device's end can be had.
struct Place {
    port: PortId,
    queue: QueueId,
    direction: Direction,
    /// Rounds until the next try; and whether it was told why there must be one.
    rest: u32,
    told: bool,
}

/// The device's end of a queue. The lease goes last.
pub(crate) struct Served<Q: ?Sized> {
    pub(crate) device: Box<Q>,
    pub(crate) lease: Lease,
}

struct RxWay {
    place: Place,
    ring: Ring<'static>,
    into: MbufProducer<'static>,
    /// As it was in the last round: nobody owned the queue.
    was_closed: bool,
    /// Rounds in a row in which the ring had no room for a burst.
    full: u32,
    from: Option<Served<dyn driver::RxQueue>>,
}

struct TxWay<'c> {
    place: Place,
    from: MbufConsumer<'static>,
    /// What the device had no room for, before anything else is taken.
    waiting: Burst<'c>,
    /// Rounds in a row in which it took none of that.
    refused: u32,
    into: Option<Served<dyn driver::TxQueue>>,
}

impl Ports {
    /// The proxied queues of all ports that are started, for a thread of the primary that serves them.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`]; [`Error::Ring`] while another thread serves.
    pub fn proxies<'c>(&self, lcore: &'c Lcore) -> Result<Proxies<'c>, Error> {
        let mut proxies = Proxies {
            ports: self.clone(),
            lcore,
            rx: Vec::new(),
            tx: Vec::new(),
        };
        let owner = lcore.owner();
        for port in self {
            for (direction, queue) in port.served()? {
                let ring = Ring::lookup(lcore.region(), &ring_name(port.id(), direction, queue))?;
                let place = Place {
                    port: port.id(),
                    queue,
                    direction,
                    rest: 0,
                    told: false,
                };
                match direction {
                    Direction::Rx => proxies.rx.push(RxWay {
                        place,
                        ring,
                        into: MbufProducer::new(ring.producer(owner)?),
                        was_closed: true,
                        full: 0,
                        from: None,
                    }),
                    Direction::Tx => proxies.tx.push(TxWay {
                        place,
                        from: MbufConsumer::new(ring.consumer(owner)?),
                        waiting: Burst::new(lcore),
                        refused: 0,
                        into: None,
                    }),
                }
            }
        }
        Ok(proxies)
    }
}

impl Proxies<'_> {
    /// Carries at most a burst for each queue and direction, and returns how many packets that was. Never blocks.
    pub fn serve(&mut self) -> usize {
        let rx = self.rx.iter_mut();
        let received: usize = rx.map(|way| way.serve(&self.ports, self.lcore)).sum();
        let tx = self.tx.iter_mut();
        let sent: usize = tx.map(|way| way.serve(&self.ports, self.lcore)).sum();
        received + sent
    }

    /// Whether there is anything to serve.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rx.is_empty() && self.tx.is_empty()
    }
}

impl Source for Proxies<'_> {
    fn must_poll(&self) -> bool {
        let waits = |way: &TxWay<'_>| !way.waiting.is_empty() && !way.rests(&self.ports);
        self.tx.iter().any(waits)
            || self
                .rx
                .iter()
                .any(|way| matches!(way.waits_on(), Waits::Nothing))
    }

    fn sleep_begin(&mut self) {
        self.tx.iter_mut().for_each(|way| way.from.sleep_begin());
        self.devices().for_each(|device| device.sleep_begin());
    }

    fn look(&mut self) -> Found {
        // An owner that has come: the device is to be opened.
        let ports = &self.ports;
        let comes = |way: &RxWay| {
            way.from.is_none()
                && way.place.rest == 0
                && way.full == 0
                && !way.into.is_closed()
                && way.place.is_started(ports)
        };
        if self.rx.iter().any(comes) {
            return Found::InDevice;
        }
        let tx = self.tx.iter_mut().filter(|way| !way.rests(ports));
        let sent = tx.map(|way| way.from.look()).max();
        // What a device has for a ring that is full is no reason to stay up.
        let rx = self.rx.iter_mut().filter(|way| way.full == 0);
        let came = rx.filter_map(|way| Some(way.from.as_mut()?.device.look()));
        let came = came.max();
        sent.max(came).unwrap_or(Found::Nothing)
    }

    fn sleep_end(&mut self) {
        let rx = self.rx.iter_mut().map(|way| &mut way.place);
        for place in rx.chain(self.tx.iter_mut().map(|way| &mut way.place)) {
            place.rest = place.rest.saturating_sub(ROUNDS_A_SLEEP);
        }
        self.tx.iter_mut().for_each(|way| way.from.sleep_end());
        self.devices().for_each(|device| device.sleep_end());
    }

    fn wait_on<'s>(&'s self, set: &mut WaitSet<'s>) {
        for way in &self.rx {
            if let Waits::Device(fd) = way.waits_on() {
                set.add(fd);
            }
        }
    }
}

impl Proxies<'_> {
    /// The devices' ends that are being read.
    fn devices(&mut self) -> impl Iterator<Item = &mut Box<dyn driver::RxQueue>> {
        let open = self.rx.iter_mut().filter_map(|way| way.from.as_mut());
        open.map(|served| &mut served.device)
    }
}

/// What tells that an RX way can go on.
#[derive(Debug, Clone, Copy)]
enum Waits<'q> {
    /// A doorbell, or there is nothing to read.
    Doorbell,
    /// This becomes readable.
    Device(BorrowedFd<'q>),
    /// Nothing tells.
    Nothing,
}

impl Place {
    fn is_started(&self, ports: &Ports) -> bool {
        ports.port(self.port).is_ok_and(Port::is_started)
    }

    /// The counters of who drives the device: ours if we do, or else while we have the lease. `None` while another thread does.
    fn count(&self, ports: &Ports, is_ours: bool) -> (Option<Lease>, Option<QueueCounters>) {
        let Ok(port) = ports.port(self.port) else {
            return (None, None);
        };
        let lease = match is_ours {
            true => None,
            false => port.lease(self.direction, self.queue),
        };
        let counts = is_ours || lease.is_some();
        let counters = counts.then(|| port.counters(self.direction, self.queue));
        (lease, counters)
    }

    /// Opens the device's end, unless that failed just now.
    fn open<Q>(&mut self, open: impl FnOnce(&Self) -> Result<Option<Q>, Error>) -> Option<Q> {
        if self.rest > 0 {
            self.rest -= 1;
            return None;
        }
        match open(self) {
            Ok(opened) => {
                self.told &= opened.is_none();
                opened
            }
            Err(error) => {
                self.rest = ROUNDS_A_TRY;
                if !std::mem::replace(&mut self.told, true) {
                    let Self {
                        port,
                        queue,
                        direction,
                        ..
                    } = self;
                    warn!("port {port} {direction} queue {queue} cannot be served: {error}");
                }
                None
            }
        }
    }
}

impl RxWay {
    fn serve(&mut self, ports: &Ports, lcore: &Lcore) -> usize {
        self.was_closed = self.into.is_closed();
        if self.was_closed {
            self.full = 0;
            // Its owner is gone: what waits is nobody's, and another may have the device's end.
            self.discard(ports, lcore);
            self.from = None;
            return 0;
        }
        self.from.take_if(|served| served.lease.is_wanted());
        let Ok(port) = ports.port(self.place.port) else {
            return 0;
        };
        if !port.is_started() {
            self.from = None;
            return 0;
        }
        // Beyond that packets wait in the device.
        if self.into.free() < BURST_MAX {
            self.full = self.full.saturating_add(1);
            return 0;
        }
        self.full = 0;
        if self.from.is_none() {
            let opened = self
                .place
                .open(|place| port.served_rx(place.queue, lcore.owner()));
            self.from = opened;
        }
        let Some(served) = &mut self.from else {
            return 0;
        };
        let mut burst = Burst::new(lcore);
        served.device.rx_burst(lcore, &mut burst);
        let count = burst.len();
        if count > 0 {
            // What is left: its owner went away in between.
            let _ = self.into.enqueue_burst(&mut burst);
            let dropped = burst.len();
            if dropped > 0 {
                self.into.count_drops(dropped);
                let counters = port.counters(Direction::Rx, self.place.queue);
                counters.dropped(DropReason::NoSink, dropped as u64);
            }
        }
        count
    }

    /// Only the device: a ring without room for a burst has its packets wait there, and nobody tells when there is room again. Where
    /// that goes on, a look after each sleep will do.
    fn waits_on(&self) -> Waits<'_> {
        match &self.from {
            None => Waits::Doorbell,
            Some(_) if self.full > ROUNDS_FULL_MAX => Waits::Doorbell,
            Some(_) if self.full > 0 => Waits::Nothing,
            Some(served) => match served.device.wakeup() {
                Wakeup::Poll => Waits::Nothing,
                Wakeup::Never | Wakeup::Doorbell => Waits::Doorbell,
                Wakeup::Descriptor(fd) => Waits::Device(fd),
            },
        }
    }

    /// Frees and counts what waits for an owner that is gone. A newcomer waits as long as that takes.
    fn discard(&self, ports: &Ports, lcore: &Lcore) {
        if self.ring.len() == 0 {
            return;
        }
        let (_lease, counters) = self.place.count(ports, self.from.is_some());
        let Ok(end) = self.ring.drain(lcore.owner()) else {
            return;
        };
        let mut end = MbufConsumer::new(end);
        // At most what there is: nobody else sends by this ring.
        for _ in 0..end.len().div_ceil(BURST_MAX) {
            let mut burst = Burst::new(lcore);
            let _ = end.dequeue_burst(lcore, &mut burst);
            if let Some(counters) = &counters {
                counters.dropped(DropReason::NoSink, burst.len() as u64);
            }
        }
    }
}

impl TxWay<'_> {
    fn serve(&mut self, ports: &Ports, lcore: &Lcore) -> usize {
        self.into.take_if(|served| served.lease.is_wanted());
        let Ok(port) = ports.port(self.place.port) else {
            return 0;
        };
        if !port.is_started() {
            return 0;
        }
        self.fill();
        if self.waiting.is_empty() {
            return 0;
        }
        if self.into.is_none() {
            let opened = self
                .place
                .open(|place| port.served_tx(place.queue, lcore.owner()));
            self.into = opened;
        }
        let Some(served) = &mut self.into else {
            return 0;
        };
        let before = self.waiting.len();
        served.device.tx_burst(&mut self.waiting);
        let sent = before - self.waiting.len();
        if sent > 0 {
            self.refused = 0;
            return sent;
        }
        self.refused = self.refused.saturating_add(1);
        if self.refused >= ROUNDS_REFUSED_MAX {
            if let Some(first) = self.waiting.get(0) {
                let counters = port.counters(Direction::Tx, self.place.queue);
                counters.dropped_taken(DropReason::NoRoom, &first);
            }
            self.waiting.free_front(1);
        }
        0
    }

    /// Whether nothing goes out now: the port is stopped, or its device could not be opened and is not tried yet.
    fn rests(&self, ports: &Ports) -> bool {
        self.into.is_none() && self.place.rest > 0 || !self.place.is_started(ports)
    }

    /// Frees and counts what the device does not take. Living owners may go on sending until the ring is closed, which the sweep or
    /// the next server empties.
    fn give_up(&mut self, ports: &Ports) {
        let (_lease, counters) = self.place.count(ports, self.into.is_some());
        // What is in hand, and then what is in the ring by now.
        for _ in 0..=self.from.len().div_ceil(BURST_MAX) {
            self.fill();
            for mbuf in self.waiting.iter() {
                if let Some(counters) = &counters {
                    counters.dropped_taken(DropReason::NoRoom, &mbuf);
                }
            }
            self.waiting.clear();
        }
    }

    fn fill(&mut self) {
        if self.waiting.is_empty() {
            let lcore = self.waiting.lcore();
            let _ = self.from.dequeue_burst(lcore, &mut self.waiting);
        }
    }
}

impl Drop for Proxies<'_> {
    fn drop(&mut self) {
        for _ in 0..LAST_ROUNDS {
            let sent = self.tx.iter_mut();
            let sent: usize = sent.map(|way| way.serve(&self.ports, self.lcore)).sum();
            if sent == 0 {
                break;
            }
        }
        for way in &mut self.tx {
            way.give_up(&self.ports);
        }
        for way in &self.rx {
            if way.into.is_closed() {
                way.discard(&self.ports, self.lcore);
            }
        }
    }
}

impl fmt::Debug for Proxies<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies")
            .field("rx", &self.rx.len())
            .field("tx", &self.tx.len())
            .finish_non_exhaustive()
    }
}
