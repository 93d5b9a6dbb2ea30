//! A port whose queues the primary drives for others: what the thread that serves them needs of it ([`proxy`](crate::proxy)).
//!
//! **If a process dies:** as the proxy says. Nothing of this is shared but the rings, which stay.

use eal::Owner;

use super::Port;
use crate::args::DevArgs;
use crate::driver::{self, Direction, Driver, QueueId};
use crate::error::{Error, PortState};
use crate::proxy::{Lease, Proxied, Served, make_ring};
use crate::stats::QueueCounters;

impl Port {
    /// Whether secondaries are handed what they need to drive queues of that direction themselves.
    pub(super) fn hands(&self, direction: Direction) -> bool {
        self.driver.hands_descriptors() && !self.proxied.is(direction)
    }

    /// Whether the primary drives the queues of that direction for the processes that own them.
    #[must_use]
    pub fn is_proxied(&self, direction: Direction) -> bool {
        self.proxied.is(direction)
    }

    /// The same of a port that is not open yet.
    #[must_use]
    pub fn will_be_proxied(args: &DevArgs, driver: &dyn Driver, direction: Direction) -> bool {
        Proxied::of(args, driver).is(direction)
    }

    /// Makes the ring of a proxied queue.
    pub(super) fn make_proxy(&self, direction: Direction, queue: QueueId) -> Result<(), Error> {
        if !self.proxied.is(direction) {
            return Ok(());
        }
        let (_, descriptors) = self.table.setup(direction, queue)?;
        make_ring(self.region, self.id, direction, queue, descriptors)
    }

    /// The proxied queues of a port that is started.
    pub(crate) fn served(&self) -> Result<Vec<(Direction, QueueId)>, Error> {
        self.primary_only("serving its proxy queues")?;
        let proxied = |(direction, _): &(Direction, QueueId)| self.proxied.is(*direction);
        Ok(self
            .queues()
            .filter(|queue| proxied(queue) && self.is_started())
            .collect())
    }

    /// Whether packets pass. One load.
    pub(crate) fn is_started(&self) -> bool {
        self.state() == PortState::Started
    }

    pub(crate) fn counters(&self, direction: Direction, queue: QueueId) -> QueueCounters {
        self.table.counters(direction, queue)
    }

    /// For the thread that serves: nobody drives the device's end of a queue meanwhile. `None` while another thread does.
    pub(crate) fn lease(&self, direction: Direction, queue: QueueId) -> Option<Lease> {
        self.leases.serve(direction, queue)
    }

    /// The device's end of a proxied RX queue; `None` while another thread has it for itself.
    pub(crate) fn served_rx(
        &self,
        queue: QueueId,
        owner: Owner,
    ) -> Result<Option<Served<dyn driver::RxQueue>>, Error> {
        let Some(lease) = self.leases.serve(Direction::Rx, queue) else {
            return Ok(None);
        };
        self.restore(Direction::Rx, queue)?;
        let cx = self.context(Direction::Rx, queue, owner)?;
        let device = self.control().device.rx_queue(cx, None)?;
        Ok(Some(Served { device, lease }))
    }

    /// The same of a TX queue.
    pub(crate) fn served_tx(
        &self,
        queue: QueueId,
        owner: Owner,
    ) -> Result<Option<Served<dyn driver::TxQueue>>, Error> {
        let Some(lease) = self.leases.serve(Direction::Tx, queue) else {
            return Ok(None);
        };
        self.restore(Direction::Tx, queue)?;
        let cx = self.context(Direction::Tx, queue, owner)?;
        let device = self.control().device.tx_queue(cx, None)?;
        Ok(Some(Served { device, lease }))
    }
}
