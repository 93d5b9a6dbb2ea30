//! Taking a port over from a former primary, and what secondaries do so that it can be.
//!
//! ```text
//! secondary, at join        keeps the descriptors of all queues, its own and others'
//! primary dies              queues go on: the port's record says started, and stays so
//! next primary   adopt      takes what was kept and fits                               nothing that moves is touched
//!                configure  compares the counts
//!                setup      opens what nobody offered, but for queues whose living owner alone has it
//!                start      lets packets through the new ones, hands everything out again
//! ```
//!
//! **If a process dies:** a primary that dies on the way leaves the port started, with one more queue made or not; its
//! successor begins again. What a living owner alone has is left to it. When it dies that is gone, and the queue
//! is made anew by who takes it in the primary ([`restore`](Port::restore)).

use std::sync::PoisonError;

use tracing::{debug, info, warn};

use super::{Control, Place, Port};
use crate::args::{DevArgs, PortConfig};
use crate::driver::{Direction, Driver, Handed, Legacy, PortId, Probe, QueueId};
use crate::error::{Error, PortState};
use crate::exchange::{Exchange, key};
use crate::ports::in_use;
use crate::proxy::Proxied;
use crate::table::QueueTable;

/// What tells one configuration of a port from another: opening, RX queues, TX queues.
pub(super) type Configuration = (u32, u16, u16);

impl Port {
    /// A port of a former primary that others use, if it is that: goes on as it is.
    pub(crate) fn adopt(
        place: &Place,
        args: &DevArgs,
        driver: &'static dyn Driver,
        cx: &Probe<'_>,
    ) -> Result<Option<Self>, Error> {
        let record = place.record;
        if record.state() == PortState::Absent {
            return Ok(None);
        }
        let Ok(table) = QueueTable::lookup(place.region, place.id) else {
            return Ok(None);
        };
        let theirs = record.described();
        if theirs != args.to_string() {
            return match table.shut(record, PortState::Opened) {
                Ok(()) => Ok(None),
                Err(taken) => Err(in_use(place.id, theirs, taken)),
            };
        }
        let left = Legacy {
            rx: record.queue_count(Direction::Rx),
            tx: record.queue_count(Direction::Tx),
            promiscuous: record.promiscuous(),
            word: table.word(),
        };
        let all = queues(left.rx, left.tx);
        let proxied = Proxied::of(args, driver);
        let open = [PortState::Started, PortState::Stopped].contains(&record.state());
        let offers: Vec<_> = all
            .filter(|(direction, _)| open && driver.hands_descriptors() && !proxied.is(*direction))
            .filter_map(|(direction, queue)| {
                let kept = offered(place.exchange.as_ref(), &table, place.id, direction, queue)?;
                Some((direction, queue, kept))
            })
            .collect();
        // While somebody drives a queue the port goes on, whatever its record says: a primary may have died while it found out.
        if offers.is_empty() && table.shut(record, PortState::Opened).is_ok() {
            return Ok(None);
        }
        let mut device = driver.adopt(cx, args, &left)?;
        if device.info().promiscuous != left.promiscuous {
            device.set_promiscuous(left.promiscuous)?;
        }
        let port = Self::new(place.clone(), args.clone(), driver, device, table, true);
        let mut control = port.control();
        control.adopted = true;
        let mut taken = 0;
        for (direction, queue, kept) in offers {
            taken += u32::from(port.take_over(&mut control, direction, queue, kept));
        }
        drop(control);
        if taken == 0 && port.table.shut(record, PortState::Opened).is_ok() {
            return Ok(None);
        }
        info!(
            "port {} ({args}): taken over as the last primary left it, with {} RX and {} TX queues",
            place.id, left.rx, left.tx
        );
        Ok(Some(port))
    }

    /// Whether the port was taken over from a former primary and goes on as that one configured it: configure it with the
    /// same numbers of queues, set all of them up, and start it, as if it were new.
    pub fn is_adopted(&self) -> bool {
        self.control().adopted
    }

    /// Whether the device has what a queue needs, or gets it from who offers it by now, having been away when all others did.
    fn inherit(&self, control: &mut Control, direction: Direction, queue: QueueId) -> bool {
        if control.device.holds(queue, direction) {
            return true;
        }
        let (exchange, table) = (self.exchange.as_ref(), &self.table);
        offered(exchange, table, self.id, direction, queue)
            .is_some_and(|kept| self.take_over(control, direction, queue, kept))
    }

    /// Gives the device what was kept of a queue. Whether it took that.
    fn take_over(
        &self,
        control: &mut Control,
        direction: Direction,
        queue: QueueId,
        kept: Handed,
    ) -> bool {
        match control.device.adopt(queue, direction, kept) {
            Ok(()) => true,
            Err(reason) => {
                let port = self.id;
                let refused = Error::BadOffer {
                    port,
                    direction,
                    queue,
                    reason,
                };
                warn!("{refused}");
                false
            }
        }
    }

    /// Configures an adopted port as it is. `false` if other counts are asked for and nobody drives a queue: then it is a port
    /// that was opened and no more.
    pub(super) fn configure_as_it_is(
        &self,
        control: &mut Control,
        rx: u16,
        tx: u16,
        config: &PortConfig,
    ) -> Result<bool, Error> {
        let count = |direction| self.queue_count(direction);
        let theirs = (count(Direction::Rx), count(Direction::Tx));
        if theirs == (rx, tx) && config.rss_key == self.rss_key() {
            self.set_modes(control, config)?;
            (control.rx_ready, control.tx_ready) = (vec![false; rx.into()], vec![false; tx.into()]);
            // The record goes on saying started.
            control.state = PortState::Configured;
            return Ok(true);
        }
        let refusal = || {
            let text = |(rx, tx): (u16, u16)| format!("{rx} RX and {tx} TX queues");
            let (theirs, ours) = if theirs == (rx, tx) {
                ("one RSS key".to_owned(), "another".to_owned())
            } else {
                (text(theirs), text((rx, tx)))
            };
            Error::OtherConfig {
                port: self.id,
                theirs,
                ours,
            }
        };
        if self.table.shut(self.record, PortState::Opened).is_err() {
            return Err(refusal());
        }
        (control.adopted, control.state) = (false, PortState::Opened);
        Ok(false)
    }

    /// Whether the driver is to set a queue up, which it does anew unless it holds it. Not if somebody living drives the queue
    /// with what it alone has: a second socket would get frames that nobody receives.
    pub(super) fn may_set_up(
        &self,
        control: &mut Control,
        direction: Direction,
        queue: QueueId,
    ) -> bool {
        if !control.adopted {
            self.table.renew(direction, queue);
            return true;
        }
        if self.proxied.is(direction) {
            // Nobody else has the device, whoever drives the other end of the proxy.
            if !control.device.holds(queue, direction) {
                self.table.remake(direction, queue);
            }
            return true;
        }
        // A TX queue has no place where it stands, and two of one number do no harm.
        if self.inherit(control, direction, queue) || direction == Direction::Tx {
            return true;
        }
        if self.table.renew_undriven(direction, queue) {
            info!(
                "port {} {direction} queue {queue}: nobody kept it, opened anew",
                self.id
            );
            return true;
        }
        self.note_left(direction, queue);
        false
    }

    /// Says that a queue stays with who drives it.
    pub(super) fn note_left(&self, direction: Direction, queue: QueueId) {
        let owner = self.queue_owner(direction, queue);
        let slot = owner.slot().map_or(u8::MAX, eal::SlotId::get);
        warn!(
            "port {} {direction} queue {queue}: slot {slot} drives it and has not offered its descriptors; it goes on, and the queue is opened anew after it",
            self.id
        );
    }

    /// Has what a queue needs there, for us who have claimed it: the former owner may have been the only one who had it.
    pub(super) fn restore(&self, direction: Direction, queue: QueueId) -> Result<(), Error> {
        let mut control = self.control();
        if control.device.holds(queue, direction) {
            return Ok(());
        }
        if !self.inherit(&mut control, direction, queue) {
            let (pool, descriptors) = self.table.setup(direction, queue)?;
            self.table.remake(direction, queue);
            match (direction, pool) {
                (Direction::Tx, _) => control.device.tx_queue_setup(queue, descriptors)?,
                (Direction::Rx, Some(pool)) => {
                    control.device.rx_queue_setup(queue, descriptors, pool)?;
                }
                (Direction::Rx, None) => {
                    return Err(Error::Damaged {
                        port: self.id,
                        reason: format!("RX queue {queue} fills from no pool"),
                    });
                }
            }
            info!(
                "port {} {direction} queue {queue}: nobody kept it, opened anew",
                self.id
            );
        }
        control.device.start()?;
        self.table.set_word(control.device.word());
        self.publish(&control, direction, queue)
    }

    /// Hands out what a queue needs, if we have it.
    pub(super) fn publish(
        &self,
        control: &Control,
        direction: Direction,
        queue: QueueId,
    ) -> Result<(), Error> {
        if !self.hands(direction) || !control.device.holds(queue, direction) {
            return Ok(());
        }
        if let Some(handed) = control.device.descriptors(queue, direction)? {
            let stamped = handed.stamp(self.table.edition(direction, queue));
            self.exchange
                .publish(&key(self.id, direction, queue), stamped)?;
        }
        Ok(())
    }

    /// In a secondary: keeps what the queues need, its own and others', so that the next primary finds it.
    pub(super) fn keep_all(&self) {
        let open = [PortState::Started, PortState::Stopped];
        if self.primary || !self.driver.hands_descriptors() || !open.contains(&self.state()) {
            return;
        }
        let (rx, tx) = (
            self.queue_count(Direction::Rx),
            self.queue_count(Direction::Tx),
        );
        let now = (self.record.generation(), rx, tx);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if *kept == Some(now) {
            return;
        }
        for (direction, queue) in queues(rx, tx).filter(|(direction, _)| self.hands(*direction)) {
            if let Err(error) = self.exchange.keep(&key(self.id, direction, queue)) {
                // Who drives the queue is told; the next primary opens what nobody kept.
                debug!(
                    "port {} {direction} queue {queue}: not kept: {error}",
                    self.id
                );
            }
        }
        *kept = Some(now);
    }
}

/// All queues of a port.
fn queues(rx: u16, tx: u16) -> impl Iterator<Item = (Direction, QueueId)> {
    let of = |direction, count| (0..count).map(move |queue| (direction, QueueId(queue)));
    of(Direction::Rx, rx).chain(of(Direction::Tx, tx))
}

/// Has secondaries let go of what a former primary handed out for a port that is not adopted.
pub(crate) fn withdraw_left(place: &Place) {
    let count = |direction| place.record.queue_count(direction);
    for (direction, queue) in queues(count(Direction::Rx), count(Direction::Tx)) {
        place.exchange.withdraw(&key(place.id, direction, queue));
    }
}

/// What a secondary kept of a queue, if it is of the queue as it is now.
fn offered(
    exchange: &dyn Exchange,
    table: &QueueTable,
    port: PortId,
    direction: Direction,
    queue: QueueId,
) -> Option<Handed> {
    let kept = exchange.offered(&key(port, direction, queue))?;
    let fits = kept.of_edition(table.edition(direction, queue));
    if fits.is_none() {
        let refused = Error::BadOffer {
            port,
            direction,
            queue,
            reason: "it is of the queue as it was before it was last opened".into(),
        };
        warn!("{refused}");
    }
    fits
}
