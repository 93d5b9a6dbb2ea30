//! Proxy queues: for devices that only the primary drives, because they cannot be shared or are not to be.
//!
//! ```text
//! secondary, owner of TX queue q                       primary, [`Proxies::serve`] in its loop
//!   TxQueue::tx_burst --> ring proxy_pP_qQ_tx -------> burst --> the device's TX queue q
//!   RxQueue::rx_burst <-- ring proxy_pP_qQ_rx <------- burst <-- the device's RX queue q
//! ```
//!
//! Applications see no difference: the same `RxQueue` and `TxQueue`, one call a burst. Buffers are handed over by
//! [`MbufProducer`] and [`MbufConsumer`], not copied.
//!
//! | part                              | written by                                              |
//! |-----------------------------------|---------------------------------------------------------|
//! | owner of the queue, in its record | the secondary, as of any queue                            |
//! | ends of the rings                 | the owner has one, the thread that serves the other       |
//! | packets, bytes, segments          | the owner: what it received, and what it had taken from it |
//! | drops, missed, errors, cursors    | whoever drives the device: the thread that serves       |
//!
//! What the device drops of what it was given is in both, and subtracted when it is read: a port's counters say the same of
//! a proxied queue as of any other.
//!
//! The ring of an RX queue is open while somebody owns the queue: then the device is read, as long as the ring has room for a
//! burst, and packets wait in the device otherwise. The ring of a TX queue is open while somebody serves, and after a crash until the
//! next sweep: while it is closed `tx_burst` takes nothing, and when it is full less, as of any device. What the device does not take waits, and is dropped and counted at last, so that
//! no packet can be in the way of all others for good.
//!
//! **If a process dies:** the owner: the sweep empties its RX ring and closes it; what it had sent is in the TX ring, and goes
//! out. Its successor opens the ring again. (Of one that ends in good order who serves empties the RX ring, and counts that as
//! dropped.) The primary: the queue stands still, and its TX ring takes packets until it is full; the next one sweeps, which closes
//! the ring and gives back what is in it, counted as recovered, makes the device anew (nobody else had a descriptor), and serves on.
//! Between ring and device packets are in the hand of the thread that serves, and bear its tag.

mod lease;
mod serve;

use eal::sleep::{Found, Source as _};
use eal::{Owner, Region};
use mbuf::{Burst, Lcore, MbufConsumer, MbufProducer};
use ring::Ring;

use crate::args::DevArgs;
use crate::driver::{self, Direction, Driver, PortId, QueueId, Wakeup};
use crate::drivers::ring::{RingTx, make_unless_there};
use crate::error::Error;

pub(crate) use self::lease::{Lease, Leases};
pub use self::serve::Proxies;
pub(crate) use self::serve::Served;
#[cfg(test)]
pub(crate) use self::serve::{ROUNDS_FULL_MAX, ROUNDS_REFUSED_MAX};

/// Packets that the ring of an RX queue holds at most, whatever descriptors the queue has: what is as large as can be takes 36
/// buffers, and an owner that is stopped keeps a full ring of them from everybody.
pub const RX_RING_SIZE_MAX: u32 = 256;
/// The same of a TX queue. Who serves empties it, so it may hold what an owner sends in one go.
pub const TX_RING_SIZE_MAX: u32 = 1024;
/// And at least.
const RING_SIZE_MIN: u32 = 64;

/// The key that every driver takes.
pub(crate) const KEY: &str = "share";

/// Which directions of a port go by way of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proxied {
    rx: bool,
    tx: bool,
}

impl Proxied {
    /// As the arguments say, or as the driver thinks right.
    pub(crate) fn of(args: &DevArgs, driver: &dyn Driver) -> Self {
        let all = match args.get(KEY) {
            Some("proxy") => Some(true),
            Some(_) => Some(false),
            None => None,
        };
        let of = |direction| all.unwrap_or(!driver.is_shared(direction));
        Self {
            rx: of(Direction::Rx),
            tx: of(Direction::Tx),
        }
    }

    pub(crate) fn is(self, direction: Direction) -> bool {
        match direction {
            Direction::Rx => self.rx,
            Direction::Tx => self.tx,
        }
    }
}

/// Looks at the value of [`KEY`].
pub(crate) fn check(args: &DevArgs) -> Result<(), Error> {
    match args.get(KEY) {
        None | Some("direct" | "proxy") => Ok(()),
        Some(_) => Err(args.bad_value(KEY, "not direct or proxy")),
    }
}

fn ring_name(port: PortId, direction: Direction, queue: QueueId) -> String {
    format!("proxy_p{port}_q{queue}_{direction}")
}

/// Makes the ring of a queue, unless a former primary did.
pub(crate) fn make_ring(
    region: &'static Region,
    port: PortId,
    direction: Direction,
    queue: QueueId,
    descriptors: u32,
) -> Result<(), Error> {
    let most = match direction {
        Direction::Rx => RX_RING_SIZE_MAX,
        Direction::Tx => TX_RING_SIZE_MAX,
    };
    let size = descriptors.clamp(RING_SIZE_MIN, most);
    make_unless_there(region, &ring_name(port, direction, queue), size)
}

/// The owner's end of an RX queue.
pub(crate) fn rx_end(
    region: &'static Region,
    port: PortId,
    queue: QueueId,
    owner: Owner,
) -> Result<Box<dyn driver::RxQueue>, Error> {
    let ring = Ring::lookup(region, &ring_name(port, Direction::Rx, queue))?;
    let end = RxEnd(MbufConsumer::new(ring.consumer(owner)?));
    // Who serves may sleep, with packets in the device that wait for somebody to come.
    for (slot, ..) in ring.producers() {
        region.ring_doorbell(slot);
    }
    Ok(Box::new(end))
}

/// The owner's end of a TX queue.
pub(crate) fn tx_end(
    region: &'static Region,
    port: PortId,
    queue: QueueId,
    owner: Owner,
) -> Result<Box<dyn driver::TxQueue>, Error> {
    let ring = Ring::lookup(region, &ring_name(port, Direction::Tx, queue))?;
    Ok(Box::new(RingTx(MbufProducer::new(ring.producer(owner)?))))
}

struct RxEnd(MbufConsumer<'static>);

impl driver::RxQueue for RxEnd {
    fn wakeup(&self) -> Wakeup<'_> {
        Wakeup::Doorbell
    }

    fn sleep_begin(&mut self) {
        self.0.sleep_begin();
    }

    fn look(&mut self) -> Found {
        self.0.look()
    }

    fn sleep_end(&mut self) {
        self.0.sleep_end();
    }

    fn rx_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize {
        self.0.dequeue_burst(lcore, burst).count
    }
}
