//! One port of the group, as this process sees it.
//!
//! The primary opens, configures, starts, stops and closes it; every process takes queues of it. What the others must know
//! stands in the port's record, in the control part of the region:
//!
//! | part                                 | written by                   | read by                       |
//! |--------------------------------------|------------------------------|-------------------------------|
//! | record: name, driver, args, address  | the primary, before `state`  | everybody, after `state`      |
//! | record: `state`                      | the primary, last            | everybody; a queue each burst |
//! | record: link, MTU, flags             | the primary, at any time     | everybody                     |
//!
//! **If a process dies:** a secondary's queues are taken over; nothing else of the port is its business. When the primary
//! dies the record stays, queues go on, and the next primary that names the same port writes the record anew.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eal::ports::PortRecord;
use eal::sync::Ordering;
use eal::{Owner, Region};
use mbuf::Pool;

use crate::args::{DevArgs, PortConfig};
use crate::capabilities::Capabilities;
use crate::driver::{Device, DeviceInfo, Direction, Driver, Link, PortId, QueueContext, QueueId};
use crate::error::{Error, PortState};
use crate::exchange::{Exchange, key};
use crate::mac::MacAddress;
use crate::queue::{RxQueue, TxQueue};
use crate::rss::{KEY_LEN, Reta, RssKey};
use crate::stats::{PortStats, QueueStats};
use crate::table::{QUEUES_MAX, QueueTable};

const PROMISCUOUS: u64 = 1;
const LINK_UP: u64 = 1;
const LINK_FULL_DUPLEX: u64 = 2;
const LINK_SPEED_SHIFT: u32 = 32;

/// A port: its control plane, and where its queues are had.
pub struct Port {
    id: PortId,
    args: DevArgs,
    driver: &'static dyn Driver,
    region: &'static Region,
    record: &'static PortRecord,
    table: QueueTable,
    exchange: Arc<dyn Exchange>,
    primary: bool,
    control: Mutex<Control>,
}

/// What only one thread of the process handles at a time.
struct Control {
    device: Box<dyn Device>,
    state: PortState,
    rx_ready: Vec<bool>,
    tx_ready: Vec<bool>,
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
pub(crate) struct Place {
    pub(crate) id: PortId,
    pub(crate) region: &'static Region,
    pub(crate) record: &'static PortRecord,
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
        let port = Self::new(place, args, driver, device, table, true, PortState::Opened);
        let record = port.record;
        // Relaxed, here and below: `set_state` stores the state after all of it, with Release.
        record
            .state
            .store(PortState::Absent.number(), Ordering::Release);
        record.generation.store(
            record.generation.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
        record.name.set(port.args.name());
        record.driver.set(driver.name());
        record.args.set(&port.args.tail());
        for word in [&record.rx_count, &record.tx_count] {
            word.store(0, Ordering::Relaxed);
        }
        record.flags.store(0, Ordering::Relaxed);
        let mut control = port.control();
        port.write_info(&control);
        port.set_state(&mut control, PortState::Opened);
        drop(control);
        Ok(port)
    }

    /// A port that the primary has opened.
    pub(crate) fn join(
        place: Place,
        args: DevArgs,
        driver: &'static dyn Driver,
        device: Box<dyn Device>,
    ) -> Result<Self, Error> {
        let table = QueueTable::lookup(place.region, place.id)?;
        Ok(Self::new(
            place,
            args,
            driver,
            device,
            table,
            false,
            PortState::Opened,
        ))
    }

    fn new(
        place: Place,
        args: DevArgs,
        driver: &'static dyn Driver,
        device: Box<dyn Device>,
        table: QueueTable,
        primary: bool,
        state: PortState,
    ) -> Self {
        let Place {
            id,
            region,
            record,
            exchange,
        } = place;
        let control = Mutex::new(Control {
            device,
            state,
            rx_ready: Vec::new(),
            tx_ready: Vec::new(),
        });
        Self {
            id,
            args,
            driver,
            region,
            record,
            table,
            exchange,
            primary,
            control,
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
        // Acquire: what was written of the port before is seen. Pairs with the Release in `set_state`.
        PortState::from_number(self.record.state.load(Ordering::Acquire))
    }

    /// Address, limits and capabilities. In a secondary address and MTU are those of the record.
    pub fn info(&self) -> DeviceInfo {
        let mut info = self.control().device.info();
        if !self.primary {
            (info.mac, info.mtu) = (self.mac(), self.mtu());
            info.capabilities =
                Capabilities::from_word(self.record.capabilities.load(Ordering::Relaxed));
        }
        info
    }

    /// The port's address.
    pub fn mac(&self) -> MacAddress {
        MacAddress::from_word(self.record.mac.load(Ordering::Relaxed))
    }

    /// The largest packet without the Ethernet header.
    pub fn mtu(&self) -> u16 {
        u16::try_from(self.record.mtu.load(Ordering::Relaxed)).unwrap_or(u16::MAX)
    }

    /// The state of the wire: the primary asks the device, a secondary reads what the primary saw last.
    pub fn link(&self) -> Link {
        if self.primary {
            let link = self.control().device.link();
            self.write_link(link);
            return link;
        }
        let word = self.record.link.load(Ordering::Relaxed);
        let speed = u32::try_from(word >> LINK_SPEED_SHIFT).unwrap_or(0);
        Link {
            up: word & LINK_UP != 0,
            speed_mbps: (speed != 0).then_some(speed),
            full_duplex: word & LINK_FULL_DUPLEX != 0,
        }
    }

    /// Whether frames for other addresses are received too.
    pub fn promiscuous(&self) -> bool {
        self.record.flags.load(Ordering::Relaxed) & PROMISCUOUS != 0
    }

    /// Queues configured in one direction.
    pub fn queue_count(&self, direction: Direction) -> u16 {
        let count = match direction {
            Direction::Rx => &self.record.rx_count,
            Direction::Tx => &self.record.tx_count,
        };
        u16::try_from(count.load(Ordering::Relaxed).min(QUEUES_MAX_U32)).unwrap_or(0)
    }

    /// The key that spreads flows, as the primary configured it.
    pub fn rss_key(&self) -> RssKey {
        let mut key = [0; KEY_LEN];
        for (bytes, word) in key
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(&self.record.config)
        {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        RssKey(key)
    }

    /// The redirection table.
    pub fn reta(&self) -> Option<Reta<'static>> {
        Reta::new(self.region.reta(usize::from(self.id.0)))
    }

    /// Says how many queues the port is to have. Counters start at zero.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`]; [`Error::WrongState`] while it is started; [`Error::QueueCount`] beyond what the driver has;
    /// [`Error::Taken`] while somebody drives a queue.
    pub fn configure(&self, rx: u16, tx: u16, config: &PortConfig) -> Result<(), Error> {
        self.primary_only("configuring it")?;
        let mut control = self.control();
        self.allow_in(
            &control,
            "configure it",
            &[PortState::Opened, PortState::Configured, PortState::Stopped],
            "stop it first",
        )?;
        if let Some(taken) = self.table.first_taken() {
            return Err(taken);
        }
        let info = control.device.info();
        for (direction, asked, max) in [
            (Direction::Rx, rx, info.max_rx_queues),
            (Direction::Tx, tx, info.max_tx_queues),
        ] {
            let max = max.min(u16::try_from(QUEUES_MAX).unwrap_or(u16::MAX));
            if asked > max || rx == 0 && tx == 0 {
                let remedy = format!(
                    "; configure from 1 to {max}, or open it as {}",
                    self.driver.usage()
                );
                return Err(Error::QueueCount {
                    port: self.id,
                    driver: self.driver(),
                    direction,
                    asked,
                    max,
                    remedy,
                });
            }
        }
        control
            .device
            .configure(rx, tx, config)
            .map_err(|e| self.named(&control, e))?;
        if let Some(mtu) = config.mtu {
            control
                .device
                .set_mtu(mtu)
                .map_err(|e| self.named(&control, e))?;
        }
        if let Some(on) = config.promiscuous {
            control
                .device
                .set_promiscuous(on)
                .map_err(|e| self.named(&control, e))?;
            self.write_promiscuous(on);
        }
        (control.rx_ready, control.tx_ready) = (vec![false; rx.into()], vec![false; tx.into()]);
        for queue in (0..).take(QUEUES_MAX).map(QueueId) {
            for direction in [Direction::Rx, Direction::Tx] {
                self.table.set_up(direction, queue, None, 0);
                self.table.counters(direction, queue).clear();
            }
        }
        self.record.rx_count.store(rx.into(), Ordering::Relaxed);
        self.record.tx_count.store(tx.into(), Ordering::Relaxed);
        for (bytes, word) in config
            .rss_key
            .0
            .as_chunks::<8>()
            .0
            .iter()
            .zip(&self.record.config)
        {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        if let Some(reta) = self.reta() {
            reta.spread(&(0..rx).collect::<Vec<_>>());
        }
        self.write_info(&control);
        self.set_state(&mut control, PortState::Configured);
        Ok(())
    }

    /// Makes an RX queue that fills buffers of `pool`; `descriptors` 0 is what the driver thinks right.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], [`Error::NoQueue`], [`Error::Descriptors`], and what the driver refuses.
    pub fn rx_queue_setup(
        &self,
        queue: QueueId,
        descriptors: u32,
        pool: Pool,
    ) -> Result<(), Error> {
        let mut control = self.setup(Direction::Rx, queue)?;
        let descriptors = self.descriptors(&control, Direction::Rx, queue, descriptors)?;
        control
            .device
            .rx_queue_setup(queue, descriptors, pool)
            .map_err(|e| self.named(&control, e))?;
        self.table
            .set_up(Direction::Rx, queue, Some(pool), descriptors);
        control.rx_ready[usize::from(queue.0)] = true;
        Ok(())
    }

    /// Makes a TX queue; `descriptors` 0 is what the driver thinks right.
    ///
    /// # Errors
    ///
    /// As for [`rx_queue_setup`](Self::rx_queue_setup).
    pub fn tx_queue_setup(&self, queue: QueueId, descriptors: u32) -> Result<(), Error> {
        let mut control = self.setup(Direction::Tx, queue)?;
        let descriptors = self.descriptors(&control, Direction::Tx, queue, descriptors)?;
        control
            .device
            .tx_queue_setup(queue, descriptors)
            .map_err(|e| self.named(&control, e))?;
        self.table.set_up(Direction::Tx, queue, None, descriptors);
        control.tx_ready[usize::from(queue.0)] = true;
        Ok(())
    }

    /// Lets packets through, and hands out what secondaries need for their queues.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`]; [`Error::WrongState`] before every queue is set up; what the driver refuses.
    pub fn start(&self) -> Result<(), Error> {
        self.primary_only("starting it")?;
        let mut control = self.control();
        self.allow_in(
            &control,
            "start it",
            &[PortState::Configured, PortState::Stopped],
            "configure it first",
        )?;
        if control
            .rx_ready
            .iter()
            .chain(&control.tx_ready)
            .any(|ready| !ready)
        {
            return Err(Error::WrongState {
                port: self.id,
                what: "start it",
                state: control.state,
                remedy: "call rx_queue_setup and tx_queue_setup for each queue first",
            });
        }
        control
            .device
            .start()
            .map_err(|e| self.named(&control, e))?;
        if self.driver.hands_descriptors() {
            for (direction, queue) in self.queues() {
                if let Some(handed) = control.device.descriptors(queue, direction)? {
                    self.exchange
                        .publish(&key(self.id, direction, queue), handed)?;
                }
            }
        }
        self.write_info(&control);
        self.write_link(control.device.link());
        self.set_state(&mut control, PortState::Started);
        Ok(())
    }

    /// Lets no more packets through. Queues stay with those who have them and move nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], [`Error::WrongState`], and what the driver refuses.
    pub fn stop(&self) -> Result<(), Error> {
        self.primary_only("stopping it")?;
        let mut control = self.control();
        self.allow_in(
            &control,
            "stop it",
            &[PortState::Started, PortState::Stopped],
            "start it first",
        )?;
        self.set_state(&mut control, PortState::Stopped);
        control.device.stop().map_err(|e| self.named(&control, e))
    }

    /// Gives the device back. Queues in other processes move nothing from now on. Once closed it stays closed.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], and what the driver refuses while it stops.
    pub fn close(&self) -> Result<(), Error> {
        self.primary_only("closing it")?;
        let mut control = self.control();
        let stopped = match control.state {
            PortState::Closed => return Ok(()),
            PortState::Started => control.device.stop(),
            _ => Ok(()),
        };
        self.set_state(&mut control, PortState::Closed);
        for (direction, queue) in self.queues() {
            self.exchange.withdraw(&key(self.id, direction, queue));
        }
        control.device.close();
        stopped.map_err(|e| self.named(&control, e))
    }

    /// Changes the largest packet.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`], [`Error::PortUnsupported`], and what the driver refuses.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), Error> {
        self.change("changing its MTU", |device| device.set_mtu(mtu))
    }

    /// Changes the address.
    ///
    /// # Errors
    ///
    /// As for [`set_mtu`](Self::set_mtu).
    pub fn set_mac(&self, mac: MacAddress) -> Result<(), Error> {
        self.change("changing its address", |device| device.set_mac(mac))
    }

    /// Whether frames for other addresses are to be received too.
    ///
    /// # Errors
    ///
    /// As for [`set_mtu`](Self::set_mtu).
    pub fn set_promiscuous(&self, on: bool) -> Result<(), Error> {
        self.change("changing promiscuous mode", |device| {
            device.set_promiscuous(on)
        })?;
        self.write_promiscuous(on);
        Ok(())
    }

    /// Takes an RX queue for the thread that owns the slot. Dropping it gives it back.
    ///
    /// # Errors
    ///
    /// [`Error::WrongState`] before the primary has started the port; [`Error::NoQueue`]; [`Error::Taken`] while somebody
    /// living has it; [`Error::NoDescriptors`] when the primary hands out none.
    pub fn rx_queue(&self, queue: QueueId, owner: Owner) -> Result<RxQueue, Error> {
        let (cx, claim, handed) = self.take(Direction::Rx, queue, owner)?;
        let device = self.control().device.rx_queue(cx, handed)?;
        Ok(RxQueue::new(device, &cx, &self.record.state, claim))
    }

    /// Takes a TX queue for the thread that owns the slot. Dropping it gives it back.
    ///
    /// # Errors
    ///
    /// As for [`rx_queue`](Self::rx_queue).
    pub fn tx_queue(&self, queue: QueueId, owner: Owner) -> Result<TxQueue, Error> {
        let (cx, claim, handed) = self.take(Direction::Tx, queue, owner)?;
        let device = self.control().device.tx_queue(cx, handed)?;
        Ok(TxQueue::new(device, &cx, &self.record.state, claim))
    }

    /// The counters of one queue. A queue that is not configured has counted nothing.
    pub fn queue_stats(&self, direction: Direction, queue: QueueId) -> QueueStats {
        if queue.0 < self.queue_count(direction) {
            self.table.counters(direction, queue).read()
        } else {
            QueueStats::ZERO
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

    fn primary_only(&self, what: &'static str) -> Result<(), Error> {
        if self.primary {
            return Ok(());
        }
        let primary = self.region.slots().iter().find(|slot| {
            slot.state().0 == eal::SlotState::Live && slot.proc_type() == eal::ProcType::Primary
        });
        let who = primary
            .map(|slot| format!(" (pid {})", slot.pid()))
            .unwrap_or_default();
        Err(Error::NotPrimary {
            port: self.id,
            what,
            who,
        })
    }

    fn allow_in(
        &self,
        control: &Control,
        what: &'static str,
        states: &[PortState],
        remedy: &'static str,
    ) -> Result<(), Error> {
        if states.contains(&control.state) {
            return Ok(());
        }
        let remedy = if control.state == PortState::Closed {
            "a closed port stays closed; restart the primary"
        } else {
            remedy
        };
        Err(Error::WrongState {
            port: self.id,
            what,
            state: control.state,
            remedy,
        })
    }

    /// The control plane for setting a queue up: primary, configured, a queue that there is.
    fn setup(
        &self,
        direction: Direction,
        queue: QueueId,
    ) -> Result<MutexGuard<'_, Control>, Error> {
        self.primary_only("setting up its queues")?;
        let control = self.control();
        self.allow_in(
            &control,
            "set up a queue",
            &[PortState::Configured, PortState::Stopped],
            "configure it first",
        )?;
        let count = self.queue_count(direction);
        if queue.0 >= count {
            return Err(Error::NoQueue {
                port: self.id,
                direction,
                queue,
                count,
            });
        }
        Ok(control)
    }

    fn descriptors(
        &self,
        control: &Control,
        direction: Direction,
        queue: QueueId,
        asked: u32,
    ) -> Result<u32, Error> {
        let info = control.device.info();
        match asked {
            0 => Ok(info.default_descriptors),
            asked if asked <= info.max_descriptors => Ok(asked),
            asked => Err(Error::Descriptors {
                port: self.id,
                driver: self.driver(),
                direction,
                queue,
                asked,
                max: info.max_descriptors,
            }),
        }
    }

    fn change(
        &self,
        what: &'static str,
        change: impl FnOnce(&mut dyn Device) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.primary_only(what)?;
        let mut control = self.control();
        let open = [
            PortState::Opened,
            PortState::Configured,
            PortState::Started,
            PortState::Stopped,
        ];
        self.allow_in(&control, "change it", &open, "open it first")?;
        change(control.device.as_mut()).map_err(|e| self.named(&control, e))?;
        self.write_info(&control);
        Ok(())
    }

    /// Claims a queue and gathers all that its driver gets.
    #[expect(clippy::type_complexity, reason = "used twice, just above")]
    fn take(
        &self,
        direction: Direction,
        queue: QueueId,
        owner: Owner,
    ) -> Result<
        (
            QueueContext,
            crate::table::Claim,
            Option<crate::driver::Handed>,
        ),
        Error,
    > {
        let state = self.state();
        if state != PortState::Started {
            let remedy = if self.primary {
                "start it first"
            } else {
                "wait until the primary has started it"
            };
            return Err(Error::WrongState {
                port: self.id,
                what: "hand out a queue",
                state,
                remedy,
            });
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
        let claim = self.table.claim(direction, queue, owner)?;
        let (pool, descriptors) = self.table.setup(direction, queue)?;
        let handed = if !self.primary && self.driver.hands_descriptors() {
            let handed = self.exchange.fetch(&key(self.id, direction, queue))?;
            Some(handed.ok_or(Error::NoDescriptors {
                port: self.id,
                direction,
                queue,
            })?)
        } else {
            None
        };
        let cx = QueueContext {
            region: self.region,
            port: self.id,
            queue,
            direction,
            record: self.table.record(direction, queue),
            counters: self.table.counters(direction, queue),
            pool,
            descriptors,
            owner,
        };
        Ok((cx, claim, handed))
    }

    /// Puts the port and its driver into an error that does not know them.
    fn named(&self, control: &Control, error: Error) -> Error {
        match error {
            Error::Unsupported { what } => Error::PortUnsupported {
                port: self.id,
                driver: self.driver(),
                what,
                capabilities: control.device.info().capabilities.to_string(),
            },
            other => other,
        }
    }

    fn write_info(&self, control: &Control) {
        let info = control.device.info();
        self.record.mtu.store(info.mtu.into(), Ordering::Relaxed);
        self.record.mac.store(info.mac.to_word(), Ordering::Relaxed);
        self.record
            .node
            .store(info.node.unwrap_or(0), Ordering::Relaxed);
        self.record
            .capabilities
            .store(info.capabilities.to_word(), Ordering::Relaxed);
    }

    fn write_link(&self, link: Link) {
        let word = u64::from(link.speed_mbps.unwrap_or(0)) << LINK_SPEED_SHIFT
            | if link.up { LINK_UP } else { 0 }
            | if link.full_duplex {
                LINK_FULL_DUPLEX
            } else {
                0
            };
        self.record.link.store(word, Ordering::Relaxed);
    }

    fn write_promiscuous(&self, on: bool) {
        let flags = self.record.flags.load(Ordering::Relaxed) & !PROMISCUOUS;
        self.record
            .flags
            .store(flags | if on { PROMISCUOUS } else { 0 }, Ordering::Relaxed);
    }

    fn set_state(&self, control: &mut Control, state: PortState) {
        control.state = state;
        // Release: the fields of the record and the set-up words of the queues are stored before. Pairs with the Acquire in
        // `state`.
        self.record.state.store(state.number(), Ordering::Release);
    }
}

const QUEUES_MAX_U32: u32 = 64;
const _: () = assert!(QUEUES_MAX_U32 as usize == QUEUES_MAX);
