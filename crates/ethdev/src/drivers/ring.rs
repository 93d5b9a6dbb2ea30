//! `net_ring`: a port made of rings in shared memory, for pipelines and tests. It works across processes.
//!
//! What is sent on TX queue `q` is received on RX queue `q` of the same port, or, with `peer=`, of the other one:
//!
//! ```text
//! net_ring0                       tx q -> ring "net_ring0_qQ" -> rx q      of itself
//! net_ring0,peer=net_ring1        net_ring0 tx q -> ring "net_ring1_qQ" -> net_ring1 rx q
//!                                 net_ring1 tx q -> ring "net_ring0_qQ" -> net_ring0 rx q
//! ```
//!
//! So ring `PORT_qQ` is what RX queue Q of PORT receives from. It has one producer and one consumer. A program that is to
//! be the far side itself opens a port without a counterpart, `net_ring0,wire=1`: then TX queue `q` sends into
//! `net_ring0_tQ`, and the program takes the ends that the port leaves free: it produces into `net_ring0_qQ` and
//! consumes from `net_ring0_tQ`, by `Ring::lookup` and [`MbufProducer`] and [`MbufConsumer`].
//!
//! Buffers are handed over, not copied, with all that is known of them: a partial checksum stays partial, as between
//! two guests of one host. Rings stay when a port is closed or configured anew, with the size they were made with.
//!
//! **If a process dies:** its ring ends can be claimed again as those of any ring, and what lies in a ring is found by the
//! sweep. A ring whose receiver is gone is closed: sending takes nothing, and the sender drops and counts. The rings are all
//! that there is of a port, so that the next primary has nothing to adopt but what they are.

use eal::sleep::{Found, Source as _};
use mbuf::{Burst, Lcore, MbufConsumer, MbufProducer, Pool};
use ring::{Flags, Ring};

use crate::args::{DevArgs, Key, PortConfig, list};
use crate::capabilities::Capabilities;
use crate::driver::{
    self, Attach, Device, DeviceInfo, Driver, Handed, PortId, Probe, QueueContext, QueueId, Wakeup,
};
use crate::error::Error;
use crate::mac::MacAddress;
use crate::stats::{DropReason, QueueCounters};
use crate::table::QUEUES_MAX;

/// Descriptors of a queue for which none are named.
const SIZE_DEFAULT: u32 = 1024;

/// The driver.
#[derive(Debug)]
pub struct RingPort;

impl Driver for RingPort {
    fn name(&self) -> &'static str {
        "net_ring"
    }

    fn usage(&self) -> &'static str {
        "net_ring0[,peer=net_ring1][,wire=1]"
    }

    fn keys(&self) -> &'static [Key] {
        const { &[Key::once("peer"), Key::once("wire")] }
    }

    fn probe(&self, cx: &Probe<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        RingDevice::open(cx.region, cx.port, args, cx.vdevs)
    }

    fn attach(&self, cx: &Attach<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        RingDevice::open(cx.region, cx.port, args, cx.vdevs)
    }
}

/// Where TX queues lead.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sink {
    /// The RX queues of a port: this one or its peer.
    Port(String),
    /// A program that looks the rings up.
    Wire,
}

#[derive(Debug)]
struct RingDevice {
    region: &'static eal::Region,
    port: PortId,
    name: String,
    sink: Sink,
    promiscuous: bool,
}

impl RingDevice {
    fn open(
        region: &'static eal::Region,
        port: PortId,
        args: &DevArgs,
        vdevs: &[DevArgs],
    ) -> Result<Box<dyn Device>, Error> {
        let sink = sink(args, vdevs)?;
        Ok(Box::new(Self {
            region,
            port,
            name: args.name().to_owned(),
            sink,
            promiscuous: true,
        }))
    }

    fn rx_ring(&self, queue: QueueId) -> String {
        format!("{}_q{queue}", self.name)
    }

    fn tx_ring(&self, queue: QueueId) -> String {
        match &self.sink {
            Sink::Port(port) => format!("{port}_q{queue}"),
            Sink::Wire => format!("{}_t{queue}", self.name),
        }
    }

    fn make(&self, name: &str, descriptors: u32) -> Result<(), Error> {
        make_unless_there(self.region, name, descriptors.clamp(2, ring::RING_SIZE_MAX))
    }
}

/// Makes a ring for one sender and one receiver, unless it is there, of whatever size: the other side may have been set up first,
/// or a former primary made it. One that died over that has left an unfinished ring, which is finished.
pub(crate) fn make_unless_there(
    region: &'static eal::Region,
    name: &str,
    descriptors: u32,
) -> Result<(), Error> {
    match Ring::lookup(region, name) {
        Err(ring::Error::Eal(eal::Error::NoZone { .. }) | ring::Error::Unfinished { .. }) => {
            let size = descriptors.next_power_of_two();
            Ring::create(region, name, size, None, Flags::SP_ENQ | Flags::SC_DEQ)?;
            Ok(())
        }
        found => Ok(found.map(drop)?),
    }
}

/// The other side of a port: the peer that it names, or the one that names it, or itself.
fn sink(args: &DevArgs, vdevs: &[DevArgs]) -> Result<Sink, Error> {
    let rings = || {
        vdevs
            .iter()
            .filter(|other| other.driver_name() == RingPort.name())
    };
    let named_by =
        rings().find(|other| other.get("peer") == Some(args.name()) && other.name() != args.name());
    if args.flag("wire")? {
        return match (args.get("peer"), named_by) {
            (None, None) => Ok(Sink::Wire),
            _ => Err(args.bad_value("wire", "a port has a wire or a peer; leave one of them out")),
        };
    }
    let Some(peer) = args.get("peer") else {
        return Ok(Sink::Port(named_by.unwrap_or(args).name().to_owned()));
    };
    let others = || {
        list(
            rings()
                .filter(|other| other.name() != args.name())
                .map(DevArgs::name),
        )
    };
    let other = rings().find(|other| other.name() == peer).ok_or_else(|| {
        args.bad_value(
            "peer",
            format!(
                "there is no such net_ring port; others here are {}: add --vdev={peer}",
                others()
            ),
        )
    })?;
    let third = rings().find(|third| {
        third.get("peer") == Some(peer) && third.name() != args.name() && third.name() != peer
    });
    if let Some(third) = third {
        return Err(args.bad_value(
            "peer",
            format!("{} names it too; each port has one peer", third.name()),
        ));
    }
    if let Some(elsewhere) = other.get("peer").filter(|name| *name != args.name()) {
        return Err(args.bad_value(
            "peer",
            format!("its own peer is {elsewhere}; each port has one peer"),
        ));
    }
    if let Some(third) = named_by.filter(|third| third.name() != peer) {
        return Err(args.bad_value(
            "peer",
            format!("{} names this port; each port has one peer", third.name()),
        ));
    }
    Ok(Sink::Port(peer.to_owned()))
}

impl Device for RingDevice {
    fn info(&self) -> DeviceInfo {
        let queues = u16::try_from(QUEUES_MAX).unwrap_or(u16::MAX);
        DeviceInfo {
            interface: None,
            mac: MacAddress::local(b'r', self.port.0),
            // No frame passes here that does not fit its buffers.
            mtu: 9600,
            max_rx_queues: queues,
            max_tx_queues: queues,
            default_descriptors: SIZE_DEFAULT,
            max_descriptors: ring::RING_SIZE_MAX,
            capabilities: Capabilities::RX_SCATTER
                | Capabilities::TX_SCATTER
                | Capabilities::PROMISCUOUS,
            node: None,
            promiscuous: self.promiscuous,
        }
    }

    fn configure(&mut self, _rx: u16, _tx: u16, _config: &PortConfig) -> Result<(), Error> {
        Ok(())
    }

    fn rx_queue_setup(
        &mut self,
        queue: QueueId,
        descriptors: u32,
        _pool: Pool,
    ) -> Result<(), Error> {
        self.make(&self.rx_ring(queue), descriptors)
    }

    fn tx_queue_setup(&mut self, queue: QueueId, descriptors: u32) -> Result<(), Error> {
        self.make(&self.tx_ring(queue), descriptors)
    }

    fn start(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        // No frame has another addressee here: the mode is only what was said.
        self.promiscuous = on;
        Ok(())
    }

    fn rx_queue(
        &mut self,
        cx: QueueContext,
        _handed: Option<Handed>,
    ) -> Result<Box<dyn driver::RxQueue>, Error> {
        let ring = Ring::lookup(self.region, &self.rx_ring(cx.queue))?;
        Ok(Box::new(RingRx {
            ring: MbufConsumer::new(ring.consumer(cx.owner)?),
            counters: cx.counters,
        }))
    }

    fn tx_queue(
        &mut self,
        cx: QueueContext,
        _handed: Option<Handed>,
    ) -> Result<Box<dyn driver::TxQueue>, Error> {
        let ring = Ring::lookup(self.region, &self.tx_ring(cx.queue))?;
        Ok(Box::new(RingTx(MbufProducer::new(
            ring.producer(cx.owner)?,
        ))))
    }
}

struct RingRx {
    ring: MbufConsumer<'static>,
    counters: QueueCounters,
}

impl driver::RxQueue for RingRx {
    fn wakeup(&self) -> Wakeup<'_> {
        Wakeup::Doorbell
    }

    fn sleep_begin(&mut self) {
        self.ring.sleep_begin();
    }

    fn look(&mut self) -> Found {
        self.ring.look()
    }

    fn sleep_end(&mut self) {
        self.ring.sleep_end();
    }

    fn rx_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize {
        let bad = || {
            let counters = lcore.counters();
            counters
                .bad_index
                .get()
                .wrapping_add(counters.bad_holder.get())
        };
        let before = bad();
        let count = self.ring.dequeue_burst(lcore, burst).count;
        // What the ring held and was no packet for us: the thread has counted it, the port does too.
        let dropped = bad().wrapping_sub(before);
        if dropped != 0 {
            self.counters.dropped(DropReason::Malformed, dropped);
        }
        count
    }
}

/// Hands bursts to a ring.
pub(crate) struct RingTx(pub(crate) MbufProducer<'static>);

impl driver::TxQueue for RingTx {
    fn tx_burst(&mut self, burst: &mut Burst<'_>) -> usize {
        self.0.enqueue_burst(burst).count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sinks(vdevs: &[&str]) -> Vec<Result<Sink, String>> {
        let all: Vec<DevArgs> = vdevs
            .iter()
            .map(|text| DevArgs::parse(text).unwrap())
            .collect();
        all.iter()
            .map(|args| sink(args, &all).map_err(|e| e.to_string()))
            .collect()
    }

    fn port(name: &str) -> Result<Sink, String> {
        Ok(Sink::Port(name.into()))
    }

    #[test]
    fn port_alone_is_looped_and_peers_are_crossed() {
        assert_eq!(
            sinks(&["net_ring0", "net_null0"]),
            [port("net_ring0"), port("net_null0")]
        );
        let crossed = [port("net_ring1"), port("net_ring0")];
        assert_eq!(sinks(&["net_ring0,peer=net_ring1", "net_ring1"]), crossed);
        assert_eq!(sinks(&["net_ring0", "net_ring1,peer=net_ring0"]), crossed);
        assert_eq!(
            sinks(&["net_ring0,peer=net_ring1", "net_ring1,peer=net_ring0"]),
            crossed
        );
        assert_eq!(sinks(&["net_ring0,peer=net_ring0"]), [port("net_ring0")]);
        assert_eq!(sinks(&["net_ring0,wire=1"]), [Ok(Sink::Wire)]);
    }

    #[test]
    fn port_has_one_peer() {
        for (vdevs, place, reason) in [
            (
                &["net_ring0,peer=net_ring7"][..],
                0,
                "no such net_ring port; others here are none",
            ),
            (
                &["net_ring0,peer=net_null0", "net_null0"],
                0,
                "no such net_ring port",
            ),
            (
                &[
                    "net_ring0,peer=net_ring1",
                    "net_ring1",
                    "net_ring2,peer=net_ring1",
                ],
                2,
                "net_ring0 names it too",
            ),
            (
                &[
                    "net_ring0,peer=net_ring1",
                    "net_ring1,peer=net_ring2",
                    "net_ring2",
                ],
                0,
                "its own peer is net_ring2",
            ),
            (
                &["net_ring0,wire=1,peer=net_ring1", "net_ring1"],
                0,
                "a wire or a peer",
            ),
        ] {
            let error = sinks(vdevs)[place].clone().unwrap_err();
            assert!(error.contains(reason), "{vdevs:?}: {error}");
        }
    }
}
