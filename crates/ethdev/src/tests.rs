//! Tests of whole ports in one process: a private region, and two views of it that act as primary and secondary.

use std::sync::Arc;

use eal::{Owner, ProcType, Region, Slot};
use mbuf::{Burst, Lcore, Pool, PoolConfig};

use crate::args::PortConfig;
use crate::driver::{Direction, PortId, QueueId};
use crate::error::{Error, PortState};
use crate::exchange::{Exchange, LocalExchange};
use crate::port::Port;
use crate::ports::Ports;
use crate::queue::{RxQueue, TxQueue};
use crate::tx_buffer::TxBuffer;

mod processes;
mod proxy;
mod stand_in;
mod takeover;

/// A group of one process.
pub(crate) struct Group {
    pub(crate) region: &'static Region,
    pub(crate) pool: Pool,
    exchange: Arc<LocalExchange>,
}

impl Group {
    pub(crate) fn new() -> Self {
        Self::with_pool(&PoolConfig::new("packets", 512))
    }

    pub(crate) fn with_pool(config: &PoolConfig<'_>) -> Self {
        let region: &'static Region = Box::leak(Box::new(Region::anonymous(8 << 20).unwrap()));
        let pool = Pool::create(region, config).unwrap();
        Self {
            region,
            pool,
            exchange: Arc::new(LocalExchange::default()),
        }
    }

    fn open(&self, role: ProcType, vdevs: &[&str]) -> Result<Ports, Error> {
        let vdevs: Vec<String> = vdevs.iter().map(|text| (*text).to_owned()).collect();
        let exchange: Arc<dyn Exchange> = self.exchange.clone();
        Ports::open(self.region, role, &vdevs, exchange)
    }

    pub(crate) fn primary(&self, vdevs: &[&str]) -> Ports {
        self.open(ProcType::Primary, vdevs).unwrap()
    }

    pub(crate) fn refusal(&self, vdevs: &[&str]) -> String {
        self.open(ProcType::Primary, vdevs).unwrap_err().to_string()
    }

    pub(crate) fn secondary(&self) -> Ports {
        self.open(ProcType::Secondary, &[]).unwrap()
    }

    pub(crate) fn lcore(&self, name: &str) -> Lcore {
        Lcore::new(Slot::claim(self.region, name).unwrap())
    }

    /// Configures and starts a port with that many queues.
    pub(crate) fn start(&self, port: &Port, rx: u16, tx: u16) {
        port.configure(rx, tx, &PortConfig::default()).unwrap();
        for queue in (0..rx).map(QueueId) {
            port.rx_queue_setup(queue, 0, self.pool).unwrap();
        }
        for queue in (0..tx).map(QueueId) {
            port.tx_queue_setup(queue, 0).unwrap();
        }
        port.start().unwrap();
    }
}

pub(crate) fn first(ports: &Ports) -> &Port {
    ports.port(PortId(0)).unwrap()
}

pub(crate) fn rx(port: &Port, queue: u16, lcore: &Lcore) -> RxQueue {
    port.rx_queue(QueueId(queue), lcore.owner()).unwrap()
}

pub(crate) fn tx(port: &Port, queue: u16, lcore: &Lcore) -> TxQueue {
    port.tx_queue(QueueId(queue), lcore.owner()).unwrap()
}

/// Sends packets with these contents; all are taken.
pub(crate) fn send(group: &Group, lcore: &Lcore, tx: &mut TxQueue, packets: &[&[u8]]) {
    let mut burst = Burst::new(lcore);
    for packet in packets {
        burst
            .push(lcore.mbuf_from(group.pool, packet).unwrap())
            .unwrap();
    }
    assert_eq!(tx.tx_burst(&mut burst), packets.len());
    assert!(burst.is_empty());
}

/// Receives a burst: the contents of its packets.
pub(crate) fn receive(lcore: &Lcore, rx: &mut RxQueue) -> Vec<Vec<u8>> {
    let mut burst = Burst::new(lcore);
    let count = rx.rx_burst(lcore, &mut burst);
    assert_eq!(count, burst.len());
    burst
        .iter()
        .map(|mbuf| mbuf.segments().collect::<Vec<_>>().concat())
        .collect()
}

#[test]
fn null_port_makes_packets_of_the_size_and_swallows_them() {
    let group = Group::new();
    let ports = group.primary(&["net_null0,size=100", "net_null1,copy=1,no-rx=1"]);
    for port in &ports {
        group.start(port, 1, 1);
    }
    let lcore = group.lcore("test");
    let (mut rx0, mut tx1) = (
        rx(first(&ports), 0, &lcore),
        tx(ports.port(PortId(1)).unwrap(), 0, &lcore),
    );
    let mut burst = Burst::new(&lcore);
    assert_eq!(rx0.rx_burst(&lcore, &mut burst), 32);
    for mbuf in burst.iter() {
        assert_eq!((mbuf.packet_len(), mbuf.port(), mbuf.queue()), (100, 0, 0));
    }
    assert_eq!(rx0.rx_burst(&lcore, &mut burst), 0);
    assert_eq!(tx1.tx_burst(&mut burst), 32);
    assert_eq!(
        rx(ports.port(PortId(1)).unwrap(), 0, &lcore).rx_burst(&lcore, &mut burst),
        0
    );
    assert_eq!(
        (rx0.stats().packets, rx0.stats().bytes, rx0.stats().segments),
        (32, 3200, 32)
    );
    assert_eq!(
        (
            tx1.stats().packets,
            tx1.stats().bytes,
            tx1.stats().all_drops()
        ),
        (32, 3200, 0)
    );
    assert_eq!(group.pool.in_use(), 0);
}

#[test]
fn null_port_counts_what_the_pool_could_not_give() {
    let group = Group::with_pool(&PoolConfig::new("small", 40));
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    let mut rx = rx(first(&ports), 0, &lcore);
    let (mut held, mut more) = (Burst::new(&lcore), Burst::new(&lcore));
    assert_eq!(
        (
            rx.rx_burst(&lcore, &mut held),
            rx.rx_burst(&lcore, &mut more)
        ),
        (32, 8)
    );
    assert_eq!(rx.stats().dropped(crate::stats::DropReason::NoBuffer), 24);
}

#[test]
fn pool_too_small_for_the_frames_is_refused_with_one_that_does() {
    let group = Group::new();
    let ports = group.primary(&["net_null0,size=4000"]);
    let port = first(&ports);
    port.configure(1, 1, &PortConfig::default()).unwrap();
    let error = port
        .rx_queue_setup(QueueId(0), 0, group.pool)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("pool packets") && error.contains("data_room 4160"),
        "{error}"
    );
}

#[test]
fn looped_ring_port_gives_back_what_was_sent_on_the_same_queue() {
    let group = Group::new();
    let ports = group.primary(&["net_ring0"]);
    group.start(first(&ports), 2, 2);
    let lcore = group.lcore("test");
    let other = group.lcore("other");
    let (mut tx1, mut rx0, mut rx1) = (
        tx(first(&ports), 1, &lcore),
        rx(first(&ports), 0, &other),
        rx(first(&ports), 1, &other),
    );
    send(&group, &lcore, &mut tx1, &[b"one", b"three"]);
    assert!(receive(&other, &mut rx0).is_empty());
    assert_eq!(
        receive(&other, &mut rx1),
        [b"one".to_vec(), b"three".to_vec()]
    );
    let stats = first(&ports).stats();
    assert_eq!(
        (
            stats.rx.packets,
            stats.rx.bytes,
            stats.tx.packets,
            stats.tx.bytes
        ),
        (2, 8, 2, 8)
    );
    assert_eq!(group.pool.in_use(), 0);
}

#[test]
fn peers_are_crossed_and_a_secondary_drives_one_of_them() {
    let group = Group::new();
    let ports = group.primary(&["net_ring0,peer=net_ring1", "net_ring1"]);
    for port in &ports {
        group.start(port, 1, 1);
    }
    let joined = group.secondary();
    assert_eq!(joined.count(), 2);
    assert_eq!(
        (
            joined.port(PortId(1)).unwrap().name(),
            joined.port(PortId(1)).unwrap().driver()
        ),
        ("net_ring1", "net_ring")
    );
    let (lcore, other) = (group.lcore("primary"), group.lcore("secondary"));
    let (mut tx0, mut rx0) = (tx(first(&ports), 0, &lcore), rx(first(&ports), 0, &lcore));
    let far = joined.port(PortId(1)).unwrap();
    let (mut tx1, mut rx1) = (tx(far, 0, &other), rx(far, 0, &other));
    send(&group, &lcore, &mut tx0, &[b"to the other"]);
    assert_eq!(receive(&other, &mut rx1), [b"to the other".to_vec()]);
    send(&group, &other, &mut tx1, &[b"and back"]);
    assert_eq!(receive(&lcore, &mut rx0), [b"and back".to_vec()]);
}

#[test]
fn wire_of_a_ring_port_is_a_program_with_the_ring_names() {
    use mbuf::{MbufConsumer, MbufProducer};
    let group = Group::new();
    let ports = group.primary(&["net_ring0,wire=1"]);
    group.start(first(&ports), 1, 1);
    let (lcore, wire) = (group.lcore("port"), group.lcore("wire"));
    let ring = |name| ring::Ring::lookup(group.region, name).unwrap();
    let mut to_port = MbufProducer::new(ring("net_ring0_q0").producer(wire.owner()).unwrap());
    let mut from_port = MbufConsumer::new(ring("net_ring0_t0").consumer(wire.owner()).unwrap());
    let (mut tx, mut rx) = (tx(first(&ports), 0, &lcore), rx(first(&ports), 0, &lcore));
    to_port
        .enqueue(wire.mbuf_from(group.pool, b"in").unwrap())
        .unwrap();
    assert_eq!(receive(&lcore, &mut rx), [b"in".to_vec()]);
    send(&group, &lcore, &mut tx, &[b"out"]);
    assert_eq!(from_port.dequeue(&wire).unwrap().data(), b"out");
}

#[test]
fn closed_ring_takes_nothing_and_the_buffer_hands_it_to_the_drop_callback() {
    let group = Group::new();
    let ports = group.primary(&["net_ring0"]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    // Nobody receives, so the ring is closed.
    let mut tx = tx(first(&ports), 0, &lcore);
    let seen = std::cell::RefCell::new(Vec::new());
    let mut buffer =
        TxBuffer::new(&lcore).with_drop_callback(|unsent| seen.borrow_mut().push(unsent.len()));
    for _ in 0..33 {
        assert_eq!(
            buffer.buffer(lcore.mbuf_from(group.pool, b"lost").unwrap(), &mut tx),
            0
        );
    }
    assert_eq!((buffer.len(), buffer.dropped()), (1, 32));
    assert_eq!(buffer.send(&mut tx), 0);
    let mut once = 0;
    buffer.push(lcore.mbuf_from(group.pool, b"lost").unwrap());
    assert_eq!(buffer.flush(&mut tx, |unsent| once = unsent.len()), 0);
    assert_eq!((once, buffer.dropped(), buffer.is_empty()), (1, 34, true));
    drop(buffer);
    assert_eq!(*seen.borrow(), [32, 1]);
    assert_eq!(tx.stats().packets, 0);
    assert_eq!(group.pool.in_use(), 0);
}

#[test]
fn buffer_sends_when_a_burst_is_there() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    let mut tx = tx(first(&ports), 0, &lcore);
    let mut buffer = TxBuffer::new(&lcore);
    for left in (1..32).rev() {
        assert_eq!(
            buffer.push(lcore.mbuf_from(group.pool, b"x").unwrap()),
            left
        );
    }
    assert_eq!(
        buffer.buffer(lcore.mbuf_from(group.pool, b"x").unwrap(), &mut tx),
        32
    );
    assert_eq!(
        (buffer.len(), buffer.dropped(), tx.stats().packets),
        (0, 0, 32)
    );
    // A buffer that nobody sends does not grow: what does not fit is dropped and counted.
    for _ in 0..33 {
        buffer.push(lcore.mbuf_from(group.pool, b"x").unwrap());
    }
    assert_eq!((buffer.len(), buffer.dropped()), (32, 1));
}

#[test]
fn second_owner_of_a_queue_is_refused_with_the_first_ones_name() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let (lcore, other) = (group.lcore("first"), group.lcore("second"));
    let held = rx(first(&ports), 0, &lcore);
    let error = group
        .secondary()
        .port(PortId(0))
        .unwrap()
        .rx_queue(QueueId(0), other.owner())
        .unwrap_err();
    let (slot, pid) = (lcore.slot_id().get(), std::process::id());
    assert!(
        matches!(error, Error::Taken { slot: s, pid: p, direction: Direction::Rx, .. } if (s, p) == (slot, pid)),
        "{error}"
    );
    // Not even the same slot twice, nor nobody; the TX queue of that number is another one.
    assert!(matches!(
        first(&ports).rx_queue(QueueId(0), lcore.owner()),
        Err(Error::Taken { .. })
    ));
    assert!(matches!(
        first(&ports).rx_queue(QueueId(0), Owner::NONE),
        Err(Error::Nobody { .. })
    ));
    let _tx = tx(first(&ports), 0, &other);
    drop(held);
    assert_eq!(
        first(&ports).queue_owner(Direction::Rx, QueueId(0)),
        Owner::NONE
    );
    let _held = rx(first(&ports), 0, &other);
}

#[test]
fn queue_of_a_dead_owner_is_taken_over_with_its_counters() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("dies");
    let mut queue = rx(first(&ports), 0, &lcore);
    receive(&lcore, &mut queue);
    // Death: the owner word stays, its slot is nobody's.
    std::mem::forget(queue);
    drop(lcore);
    let successor = group.lcore("successor");
    let mut queue = rx(first(&ports), 0, &successor);
    receive(&successor, &mut queue);
    assert_eq!(queue.stats().packets, 64);
    assert_eq!(
        first(&ports).queue_owner(Direction::Rx, QueueId(0)),
        successor.owner()
    );
}

#[test]
fn secondary_may_not_configure_and_is_told_who_may() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let port = first(&joined);
    let refusals = [
        port.configure(1, 1, &PortConfig::default()),
        port.rx_queue_setup(QueueId(0), 0, group.pool),
        port.tx_queue_setup(QueueId(0), 0),
        port.start(),
        port.stop(),
        port.close(),
        port.set_mtu(1500),
        port.set_promiscuous(true),
    ];
    for refusal in refusals {
        let error = refusal.unwrap_err();
        assert!(matches!(error, Error::NotPrimary { .. }), "{error}");
        assert!(
            error.to_string().contains("is for the primary process"),
            "{error}"
        );
    }
    assert_eq!(port.state(), PortState::Started);
}

#[test]
fn more_queues_than_the_driver_has_name_both_numbers() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    let port = first(&ports);
    let error = port
        .configure(1, 65, &PortConfig::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("65 tx queues asked for, the driver has 64"),
        "{error}"
    );
    assert!(matches!(
        port.configure(0, 0, &PortConfig::default()),
        Err(Error::QueueCount { .. })
    ));
    // The counts may differ.
    group.start(port, 3, 1);
    assert_eq!(
        (
            port.queue_count(Direction::Rx),
            port.queue_count(Direction::Tx)
        ),
        (3, 1)
    );
    let lcore = group.lcore("test");
    let error = port
        .tx_queue(QueueId(1), lcore.owner())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no tx queue 1: it is configured with 1"),
        "{error}"
    );
}

#[test]
fn steps_out_of_order_say_which_comes_first() {
    let group = Group::new();
    let ports = group.primary(&["net_ring0"]);
    let port = first(&ports);
    let text = |result: Result<(), Error>| result.unwrap_err().to_string();
    let lcore = group.lcore("test");
    assert!(text(port.start()).contains("configure it first"));
    port.configure(1, 1, &PortConfig::default()).unwrap();
    assert!(text(port.start()).contains("rx_queue_setup and tx_queue_setup"));
    assert!(text(port.rx_queue_setup(QueueId(1), 0, group.pool)).contains("no rx queue 1"));
    assert!(text(port.tx_queue_setup(QueueId(0), 1 << 25)).contains("takes up to 16777216"));
    assert!(
        port.rx_queue(QueueId(0), lcore.owner())
            .unwrap_err()
            .to_string()
            .contains("start it first")
    );
    assert!(
        group
            .secondary()
            .port(PortId(0))
            .unwrap()
            .rx_queue(QueueId(0), lcore.owner())
            .unwrap_err()
            .to_string()
            .contains("wait until")
    );
    group.start(port, 1, 1);
    assert!(text(port.configure(1, 1, &PortConfig::default())).contains("stop it first"));
    let queue = rx(port, 0, &lcore);
    port.stop().unwrap();
    assert!(matches!(
        port.configure(1, 1, &PortConfig::default()),
        Err(Error::Taken { .. })
    ));
    drop(queue);
    assert!(text(port.rx_queue_setup(QueueId(0), 0, group.pool)).contains("configure it again"));
    assert!(text(port.tx_queue_setup(QueueId(0), 0)).contains("configure it again"));
    port.configure(2, 2, &PortConfig::default()).unwrap();
    port.close().unwrap();
    port.close().unwrap();
    assert!(text(port.start()).contains("stays closed"));
}

#[test]
fn stopped_port_moves_nothing_and_goes_on_when_started_again() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    let (mut rx, mut tx) = (rx(first(&ports), 0, &lcore), tx(first(&ports), 0, &lcore));
    let mut burst = Burst::new(&lcore);
    assert_eq!(rx.rx_burst(&lcore, &mut burst), 32);
    first(&ports).stop().unwrap();
    assert_eq!(tx.tx_burst(&mut burst), 0);
    burst.truncate(1);
    assert_eq!(rx.rx_burst(&lcore, &mut burst), 0);
    first(&ports).start().unwrap();
    assert_eq!(
        (rx.rx_burst(&lcore, &mut burst), tx.tx_burst(&mut burst)),
        (31, 32)
    );
}

#[test]
fn what_a_driver_cannot_do_is_refused_by_its_name() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    let error = first(&ports).set_mtu(1500).unwrap_err().to_string();
    assert!(
        error.contains(
            "net_null does not support setting the MTU; its capabilities are: tx-checksum"
        ),
        "{error}"
    );
    assert!(first(&ports).promiscuous(), "it takes all that comes");
    first(&ports).set_promiscuous(false).unwrap();
    let joined = group.secondary();
    assert!(!first(&joined).promiscuous() && !first(&joined).info().promiscuous);
    first(&ports).set_promiscuous(true).unwrap();
    assert!(first(&ports).promiscuous() && first(&group.secondary()).promiscuous());
}

#[test]
fn secondary_sees_what_the_primary_configured() {
    let group = Group::new();
    let ports = group.primary(&["net_null0,size=128", "net_ring3"]);
    let key = crate::rss::RssKey::SYMMETRIC;
    first(&ports)
        .configure(
            4,
            2,
            &PortConfig {
                rss_key: key,
                ..PortConfig::default()
            },
        )
        .unwrap();
    let joined = group.secondary();
    let port = first(&joined);
    assert_eq!((port.rss_key(), port.state()), (key, PortState::Configured));
    assert_eq!(
        (port.mac(), port.mtu()),
        (first(&ports).mac(), first(&ports).mtu())
    );
    assert_eq!(port.args().to_string(), "net_null0,size=128");
    let info = port.info();
    assert_eq!(
        (info.mac, info.capabilities),
        (port.mac(), first(&ports).info().capabilities)
    );
    let reta = port.reta().unwrap();
    assert_eq!((reta.queue(0), reta.queue(5), reta.queue(511)), (0, 1, 3));
    assert!(first(&ports).link().up && port.link().up);
    assert_eq!(joined.ids().collect::<Vec<_>>(), [PortId(0), PortId(1)]);
    assert!(
        joined
            .port(PortId(2))
            .unwrap_err()
            .to_string()
            .contains("the group has 2")
    );
}

#[test]
fn counters_have_names() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 2);
    let lcore = group.lcore("test");
    let mut tx = tx(first(&ports), 1, &lcore);
    send(&group, &lcore, &mut tx, &[&[0; 60], &[0; 61]]);
    let named: std::collections::HashMap<_, _> = first(&ports).xstats().into_iter().collect();
    assert_eq!(
        (
            named["tx_good_packets"],
            named["tx_good_bytes"],
            named["tx_q1_bytes"]
        ),
        (2, 121, 121)
    );
    assert_eq!(
        (
            named["tx_q0_packets"],
            named["rx_q0_missed"],
            named["rx_dropped_no_buffer"]
        ),
        (0, 0, 0)
    );
}

#[test]
fn wrong_vdevs_open_nothing() {
    let group = Group::new();
    assert!(
        group
            .refusal(&["net_null0", "net_null0"])
            .contains("named twice")
    );
    assert!(
        group
            .refusal(&["net_null0", "net_nul1"])
            .contains("did you mean net_null?")
    );
    assert!(
        group
            .refusal(&["net_null0", "net_null1,size=13"])
            .contains("not a number from 14 to 9600")
    );
    let many: Vec<String> = (0..17).map(|number| format!("net_null{number}")).collect();
    assert!(
        group
            .refusal(&many.iter().map(String::as_str).collect::<Vec<_>>())
            .contains("17 ports, and a group holds 16")
    );
    assert_eq!(group.primary(&[]).count(), 0);
}

#[test]
fn next_primary_takes_the_same_ports_and_no_others_while_they_are_in_use() {
    let group = Group::new();
    let ports = group.primary(&["net_ring0", "net_null1"]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("lives on");
    let queue = rx(first(&ports), 0, &lcore);
    drop(ports);
    let refusal = group.refusal(&["net_null0"]);
    assert!(
        refusal.contains("port 0 is \"net_ring0\" in this group")
            && refusal.contains("same --vdev"),
        "{refusal}"
    );
    // The same port again: its queue is still driven, so it goes on; the other one begins anew.
    let ports = group.primary(&["net_ring0", "net_null1"]);
    let states = [PortId(0), PortId(1)].map(|id| ports.port(id).unwrap().state());
    assert_eq!(states, [PortState::Started, PortState::Opened]);
    drop((queue, ports));
    assert_eq!(group.primary(&["net_null0"]).count(), 1);
    assert_eq!(group.secondary().count(), 1);
}

#[test]
fn damaged_record_is_told_and_never_believed() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    let record = &group.region.port_records()[0];
    record
        .rx_count
        .store(u32::MAX, eal::sync::Ordering::Relaxed);
    assert_eq!(first(&ports).queue_count(Direction::Rx), 64);
    assert_eq!(first(&ports).stats().rx.packets, 0);
    for name in ["", "net_zero0", "\u{1b}[2J", "=,="] {
        record.name.set(name);
        let error = group.open(ProcType::Secondary, &[]).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{name:?}: {error}");
    }
    record.state.store(77, eal::sync::Ordering::Relaxed);
    assert_eq!(group.secondary().count(), 0);
}

fn eal(args: &[&str]) -> eal::Eal {
    let args = ["test", "--in-memory", "--no-huge", "-m", "16"]
        .iter()
        .chain(args);
    let args = args.map(|arg| (*arg).to_owned());
    eal::Eal::init(eal::EalArgs::parse(args).unwrap().0).unwrap()
}

#[test]
fn ports_of_the_command_line_are_opened_and_used_on_another_thread() {
    let eal = eal(&["--vdev=net_null0,size=64", "--vdev", "net_ring1"]);
    let pool = Pool::create(eal.region(), &PoolConfig::new("packets", 256)).unwrap();
    let ports = Ports::probe(&eal).unwrap();
    for port in &ports {
        port.configure(1, 1, &PortConfig::default()).unwrap();
        port.rx_queue_setup(QueueId(0), 0, pool).unwrap();
        port.tx_queue_setup(QueueId(0), 0).unwrap();
        port.start().unwrap();
    }
    let slot = eal.claim_slot("worker").unwrap();
    let shared = ports.clone();
    let worker = std::thread::spawn(move || {
        let lcore = Lcore::new(slot);
        let (from, to) = (first(&shared), shared.port(PortId(1)).unwrap());
        let (mut from, mut back, mut to) =
            (rx(from, 0, &lcore), rx(to, 0, &lcore), tx(to, 0, &lcore));
        let mut burst = Burst::new(&lcore);
        from.rx_burst(&lcore, &mut burst);
        to.tx_burst(&mut burst);
        back.rx_burst(&lcore, &mut burst)
    });
    assert_eq!(worker.join().unwrap(), 32);
    assert_eq!(ports.port(PortId(1)).unwrap().stats().tx.packets, 32);
    eal.cleanup().unwrap();
}

#[test]
fn allowed_pci_device_is_refused_with_what_to_write() {
    let error = Ports::probe(&eal(&["-a", "ffff:ff:1f.7"])).unwrap_err();
    assert!(error.is_usage());
    assert!(error.to_string().contains("no such PCI device"), "{error}");
    assert_eq!(Ports::probe(&eal(&[])).unwrap().count(), 0);
}
