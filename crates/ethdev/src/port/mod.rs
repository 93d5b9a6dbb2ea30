//! One port of the group, as this process sees it.
//!
//! The primary opens, configures, starts, stops and closes it; every process takes queues of it. What the others must know
//! stands in the port's record (`record.rs`) and in the table (`table.rs`) of its queues.
//!
//! **If a process dies:** a secondary's queues are taken over, by its successor or by a thread of the primary that stands in
//! (`stand_in.rs`); nothing else of the port is its business. When the primary dies record and table stay, and queues go on. The
//! next primary that names the same port adopts it with the descriptors that secondaries kept (`adoption.rs`), or, if nobody
//! uses it, writes the record anew.

mod adoption;
mod lifecycle;
mod proxied;
mod stand_in;

pub(crate) use self::adoption::withdraw_left;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use eal::sync::{Ordering, fence};
use eal::{Owner, Region};

use crate::args::DevArgs;
use crate::driver::{
    Device, DeviceInfo, Direction, Driver, Handed, Link, PortId, QueueContext, QueueId,
};
use crate::error::{Error, PortState};
use crate::exchange::{Exchange, key};
use crate::mac::MacAddress;
use crate::proxy::{self, Leases, Proxied};
use crate::queue::{Hold, RxQueue, Standing, TxQueue};
use crate::record::Record;
use crate::rss::{Reta, RssKey};
use crate::stats::{PortStats, QueueStats};
use crate::table::{Claim, QueueTable};

/// How long to wait for what the primary, which may just be taking the port over, hands out for a queue: steps, and the length
/// of each. It waits a second itself for what others kept.
const FETCH_STEPS: u32 = 400;
const FETCH_STEP: Duration = Duration::from_millis(5);

/// A port: its control plane, and where its queues are had.
pub struct Port {
    id: PortId,
    args: DevArgs,
    driver: &'static dyn Driver,
    region: &'static Region,
    record: Record,
    /// Which opening of the port this is.
    generation: u32,
    table: QueueTable,
    exchange: Arc<dyn Exchange>,
    primary: bool,
    control: Mutex<Control>,
    /// In a secondary: which configuration of the port its descriptors were kept of.
    kept: Mutex<Option<adoption::Configuration>>,
    /// In the primary: who came for a queue that we stood in for.
    comers: Mutex<stand_in::Comers>,
    /// Which queues the primary drives for others.
    proxied: Proxied,
    /// In the primary: who drives the device's ends of those.
    leases: Leases,
}

/// What only one thread of the process handles at a time.
struct Control {
    device: Box<dyn Device>,
    state: PortState,
    rx_ready: Vec<bool>,
    tx_ready: Vec<bool>,
    /// Whether the port goes on as a former primary configured it.
    adopted: bool,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("id", &self.id)
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// Where a port lives.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) id: PortId,
    pub(crate) region: &'static Region,
    pub(crate) record: Record,
    pub(crate) exchange: Arc<dyn Exchange>,
}

impl Port {
    /// A port that this process, the primary, has opened: announces it to the group.
    pub(crate) fn announce(
        place: Place,
        args: DevArgs,
        driver: &'static dyn Driver,
        device: Box<dyn Device>,
    ) -> Result<Self, Error> {
        let table = QueueTable::reserve(place.region, place.id)?;
        withdraw_left(&place);
        place.record.describe(&args, driver.name());
        place.record.set_info(&device.info());
        place.record.set_state(PortState::Opened);
        Ok(Self::new(place, args, driver, device, table, true))
    }

    /// A port that the primary has opened.
    pub(crate) fn join(
        place: Place,
        args: DevArgs,
        driver: &'static dyn Driver,
        device: Box<dyn Device>,
    ) -> Result<Self, Error> {
        let table = QueueTable::lookup(place.region, place.id)?;
        let port = Self::new(place, args, driver, device, table, false);
        port.keep_all();
        Ok(port)
    }

    fn new(
        place: Place,
        args: DevArgs,
        driver: &'static dyn Driver,
        device: Box<dyn Device>,
        table: QueueTable,
        primary: bool,
    ) -> Self {
        let Place {
            id,
            region,
            record,
            exchange,
        } = place;
        let proxied = Proxied::of(&args, driver);
        let control = Mutex::new(Control {
            device,
            state: PortState::Opened,
            rx_ready: Vec::new(),
            tx_ready: Vec::new(),
            adopted: false,
        });
        Self {
            id,
            args,
            driver,
            region,
            record,
            generation: record.generation(),
            table,
            exchange,
            primary,
            control,
            kept: Mutex::default(),
            comers: Mutex::default(),
            proxied,
            leases: Leases::new(),
        }
    }

    /// The port's number.
    pub const fn id(&self) -> PortId {
        self.id
    }

    /// The port's name: `net_af_packet0`.
    pub fn name(&self) -> &str {
        self.args.name()
    }

    /// The driver's name: `net_af_packet`.
    pub fn driver(&self) -> &'static str {
        self.driver.name()
    }

    /// What the user wrote.
    pub const fn args(&self) -> &DevArgs {
        &self.args
    }

    /// How far the port has come.
    pub fn state(&self) -> PortState {
        self.record.state()
    }

    /// Address, limits and capabilities. In a secondary what may change is as the record says.
    pub fn info(&self) -> DeviceInfo {
        let mut info = self.control().device.info();
        if !self.primary {
            (info.mac, info.mtu) = (self.mac(), self.mtu());
            info.capabilities = self.record.capabilities();
            info.promiscuous = self.promiscuous();
        }
        info
    }

    /// The port's address.
    pub fn mac(&self) -> MacAddress {
        self.record.mac()
    }

    /// The address of a stack that stands at this port: the port's, unless the kernel's stack has that at the other end of the wire,
    /// as that of a `net_tap` does. Then it is one made of it, the same as long as the port's is.
    pub fn station(&self) -> MacAddress {
        if self.driver.faces_kernel() {
            self.mac().opposite()
        } else {
            self.mac()
        }
    }

    /// The largest packet without the Ethernet header.
    pub fn mtu(&self) -> u16 {
        self.record.mtu()
    }

    /// The state of the wire: the primary asks the device, a secondary reads what the primary saw last.
    pub fn link(&self) -> Link {
        if !self.primary {
            return self.record.link();
        }
        let link = self.control().device.link();
        self.record.set_link(link);
        link
    }

    /// Whether frames for other addresses are received too.
    pub fn promiscuous(&self) -> bool {
        self.record.promiscuous()
    }

    /// Queues configured in one direction.
    pub fn queue_count(&self, direction: Direction) -> u16 {
        self.record.queue_count(direction)
    }

    /// The key that spreads flows, as the primary configured it.
    pub fn rss_key(&self) -> RssKey {
        self.record.rss_key()
    }

    /// As [`Ports::reap`](crate::Ports::reap), of this port.
    pub fn reap(&self, lcore: &mbuf::Lcore) -> u32 {
        // A proxied device is ours, whoever died at the other end.
        if self.primary && !self.proxied.is(Direction::Tx) {
            self.control().device.reap(lcore)
        } else {
            0
        }
    }

    /// In the primary, of a port that it has [closed](Self::close) or [left](Self::leave): gives back the frames that its device had. How
    /// many that were; none as long as somebody else has one of its queues.
    pub fn reclaim(&self, lcore: &mbuf::Lcore) -> u32 {
        let mut control = self.control();
        if self.primary && control.state == PortState::Closed {
            control.device.reclaim(lcore)
        } else {
            0
        }
    }

    /// The redirection table.
    pub fn reta(&self) -> Option<Reta<'static>> {
        Reta::new(self.region.reta(usize::from(self.id.0)))
    }

    /// Takes an RX queue for the thread that owns the slot. Dropping it gives it back.
    ///
    /// # Errors
    ///
    /// [`Error::WrongState`] before the primary has started the port; [`Error::Replaced`]; [`Error::NoQueue`]; [`Error::Taken`] while somebody
    /// living has it, or stands in for us and does not let go within a second; [`Error::NoDescriptors`] when the primary hands
    /// out none.
    pub fn rx_queue(&self, queue: QueueId, owner: Owner) -> Result<RxQueue, Error> {
        self.rx_queue_as(queue, owner, Standing::Own)
    }

    /// Takes a TX queue for the thread that owns the slot. Dropping it gives it back.
    ///
    /// # Errors
    ///
    /// As for [`rx_queue`](Self::rx_queue).
    pub fn tx_queue(&self, queue: QueueId, owner: Owner) -> Result<TxQueue, Error> {
        let (cx, hold, handed) = self.take(Direction::Tx, queue, owner, Standing::Own)?;
        let device = if hold.proxied && !self.primary {
            proxy::tx_end(self.region, self.id, queue, owner)?
        } else {
            self.control().device.tx_queue(cx, handed)?
        };
        Ok(TxQueue::new(device, &cx, self.record.state_word(), hold))
    }

    /// The counters of one queue. A queue that is not configured has counted nothing.
    pub fn queue_stats(&self, direction: Direction, queue: QueueId) -> QueueStats {
        let counters = self.table.counters(direction, queue);
        match self.proxied.is(direction) {
            _ if queue.0 >= self.queue_count(direction) => QueueStats::ZERO,
            true => counters.read_proxied(),
            false => counters.read(),
        }
    }

    /// Who drives a queue, as its record says; [`Owner::NONE`] for nobody.
    pub fn queue_owner(&self, direction: Direction, queue: QueueId) -> Owner {
        Owner::from_bits(
            self.table
                .record(direction, queue)
                .owner
                .load(Ordering::Acquire),
        )
    }

    /// The counters of the port, summed over its queues.
    pub fn stats(&self) -> PortStats {
        let all = |direction| {
            (0..self.queue_count(direction))
                .map(move |queue| self.queue_stats(direction, QueueId(queue)))
        };
        PortStats::sum(all(Direction::Rx), all(Direction::Tx))
    }

    /// All counters by name: the sums as DPDK names them, those of each queue, and what the device itself counts.
    pub fn xstats(&self) -> Vec<(String, u64)> {
        let mut named = self.stats().named();
        for (direction, queue) in self.queues() {
            named.extend(self.queue_stats(direction, queue).named(direction, queue.0));
        }
        named.extend(
            self.control()
                .device
                .stats()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value)),
        );
        named
    }

    fn rx_queue_as(
        &self,
        queue: QueueId,
        owner: Owner,
        standing: Standing,
    ) -> Result<RxQueue, Error> {
        let (cx, hold, handed) = self.take(Direction::Rx, queue, owner, standing)?;
        let device = if hold.proxied && !self.primary {
            proxy::rx_end(self.region, self.id, queue, owner)?
        } else {
            self.control().device.rx_queue(cx, handed)?
        };
        let state = self.record.state_word();
        Ok(RxQueue::new(device, &cx, state, hold, standing))
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        // A panic in a driver leaves at worst a port that refuses what is asked next.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queues(&self) -> impl Iterator<Item = (Direction, QueueId)> {
        let of = |direction| {
            (0..self.queue_count(direction)).map(move |queue| (direction, QueueId(queue)))
        };
        of(Direction::Rx).chain(of(Direction::Tx))
    }

    /// Claims a queue and gathers all that its driver gets.
    fn take(
        &self,
        direction: Direction,
        queue: QueueId,
        owner: Owner,
        standing: Standing,
    ) -> Result<(QueueContext, Hold, Option<Handed>), Error> {
        self.available(direction, queue)?;
        let proxied = self.proxied.is(direction);
        let mut lease = None;
        let (claim, handed) = if self.primary {
            let claim = match standing {
                Standing::Own => self.table.claim(direction, queue, owner)?,
                Standing::In => self.table.stand_in(queue, owner)?,
            };
            self.look_again(direction, queue)?;
            if proxied {
                // Who stands in may be the thread that serves, which lets go in its next round.
                let waits = standing == Standing::Own;
                lease = self.leases.direct(direction, queue, waits);
                if lease.is_none() {
                    return Err(self.table.taken(direction, queue, owner));
                }
            }
            self.restore(direction, queue)?;
            (claim, None)
        } else {
            self.claim_with_descriptors(direction, queue, owner)?
        };
        let hold = Hold {
            claim,
            lease,
            proxied,
        };
        Ok((self.context(direction, queue, owner)?, hold, handed))
    }

    /// All that a driver gets of a queue.
    fn context(
        &self,
        direction: Direction,
        queue: QueueId,
        owner: Owner,
    ) -> Result<QueueContext, Error> {
        let (pool, descriptors) = self.table.setup(direction, queue)?;
        Ok(QueueContext {
            region: self.region,
            port: self.id,
            queue,
            direction,
            record: self.table.record(direction, queue),
            counters: self.table.counters(direction, queue),
            pool,
            descriptors,
            owner,
        })
    }

    /// Claims a queue in a secondary, with what the primary hands out for it. Never one without the other: a queue with an owner
    /// is left to it by the primary, and who has no descriptors waits for the primary to make them.
    fn claim_with_descriptors(
        &self,
        direction: Direction,
        queue: QueueId,
        owner: Owner,
    ) -> Result<(Claim, Option<Handed>), Error> {
        if !self.hands(direction) {
            let claim = self.table.claim(direction, queue, owner)?;
            self.look_again(direction, queue)?;
            return Ok((claim, None));
        }
        self.keep_all();
        let mut nothing = Error::NoDescriptors {
            port: self.id,
            direction,
            queue,
        };
        for step in 0..FETCH_STEPS {
            if step > 0 {
                std::thread::sleep(FETCH_STEP);
            }
            let edition = self.table.edition(direction, queue);
            match self.fetch(direction, queue, edition) {
                Ok(None) => {}
                Ok(handed) => {
                    let claim = self.table.claim(direction, queue, owner)?;
                    self.look_again(direction, queue)?;
                    // Else it was made anew since, or just is.
                    if self.table.edition(direction, queue) == edition {
                        return Ok((claim, handed));
                    }
                }
                // The next primary is on its way, or just starts the port.
                Err(
                    error @ (Error::Eal(eal::Error::PrimaryGone { .. }) | Error::WrongState { .. }),
                ) => nothing = error,
                Err(error) => return Err(error),
            }
        }
        Err(nothing)
    }

    /// Once more, after the claim: the primary may have stopped the port in between, and configured it before it saw our claim.
    /// From now on it refuses to. An error drops the claim.
    fn look_again(&self, direction: Direction, queue: QueueId) -> Result<(), Error> {
        // Pairs with the fences where the primary changes what is its own only while nobody has the queue: `configure`,
        // `QueueTable::shut` and `renew_undriven`.
        fence(Ordering::SeqCst);
        self.available(direction, queue)
    }

    /// Whether the port is started and has the queue.
    fn available(&self, direction: Direction, queue: QueueId) -> Result<(), Error> {
        // A port that we have adopted is started for all others before it is for us.
        let (state, remedy) = if self.primary {
            (self.control().state, "start it first")
        } else {
            (self.state(), "wait until the primary has started it")
        };
        if state != PortState::Started {
            return Err(Error::WrongState {
                port: self.id,
                what: "hand out a queue",
                state,
                remedy,
            });
        }
        if self.record.generation() != self.generation {
            let (joined, now) = (self.args.to_string(), self.record.described());
            if joined != now {
                let port = self.id;
                return Err(Error::Replaced { port, joined, now });
            }
        }
        let count = self.queue_count(direction);
        if queue.0 >= count {
            return Err(Error::NoQueue {
                port: self.id,
                direction,
                queue,
                count,
            });
        }
        Ok(())
    }

    /// What the primary hands out for a queue of that edition.
    fn fetch(
        &self,
        direction: Direction,
        queue: QueueId,
        edition: u32,
    ) -> Result<Option<Handed>, Error> {
        self.available(direction, queue)?;
        let handed = self.exchange.fetch(&key(self.id, direction, queue))?;
        Ok(handed.and_then(|handed| handed.of_edition(edition)))
    }
}
