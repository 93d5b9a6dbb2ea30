//! Queues that the primary drives for others.

use std::time::Duration;

use eal::ZoneKind;

use super::*;
use crate::proxy::{ROUNDS_FULL_MAX, ROUNDS_REFUSED_MAX};
use crate::stats::DropReason;

const LOOP: &str = "net_ring0,share=proxy";

fn bytes(number: u8) -> [u8; 60] {
    [number; 60]
}

#[test]
fn packets_pass_by_way_of_who_serves_and_are_counted_once() {
    let group = Group::new();
    let ports = group.primary(&[LOOP]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let mut proxies = ports.proxies(&server).unwrap();
    let (mut rx0, mut tx0) = (rx(first(&joined), 0, &lcore), tx(first(&joined), 0, &lcore));
    for round in 0..100 {
        let (a, b) = (bytes(round), bytes(round + 1));
        send(&group, &lcore, &mut tx0, &[&a, &b]);
        assert!(receive(&lcore, &mut rx0).is_empty(), "nobody has served");
        // What is sent in a round is received in the next one.
        assert_eq!((proxies.serve(), proxies.serve()), (2, 2));
        assert_eq!(receive(&lcore, &mut rx0), [a, b]);
    }
    let stats = first(&ports).stats();
    assert_eq!((stats.rx.packets, stats.rx.bytes), (200, 12_000));
    assert_eq!((stats.tx.packets, stats.tx.bytes), (200, 12_000));
    assert_eq!(stats.rx.all_drops() + stats.tx.all_drops(), 0);
    drop((rx0, tx0, proxies));
    assert_eq!(group.pool.in_use(), 0);
}

#[test]
fn packet_says_from_where_it_came() {
    let group = Group::new();
    let ports = group.primary(&["net_ring0", "net_null1,share=proxy"]);
    for port in &ports {
        group.start(port, 2, 1);
    }
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let mut proxies = ports.proxies(&server).unwrap();
    let mut rx1 = rx(joined.port(PortId(1)).unwrap(), 1, &lcore);
    assert_eq!(proxies.serve(), 32, "queue 0 has no owner");
    let mut burst = Burst::new(&lcore);
    assert_eq!(rx1.rx_burst(&lcore, &mut burst), 32);
    assert!(
        burst
            .iter()
            .all(|mbuf| (mbuf.port(), mbuf.queue()) == (1, 1))
    );
}

/// Without somebody who serves, and when more is sent than is served, the queue takes less, as any device's.
#[test]
fn queue_that_is_not_served_takes_nothing_and_a_full_one_less() {
    let group = Group::new();
    let ports = group.primary(&["net_null0,share=proxy,no-rx=1"]);
    let port = first(&ports);
    port.configure(1, 1, &PortConfig::default()).unwrap();
    port.rx_queue_setup(QueueId(0), 0, group.pool).unwrap();
    port.tx_queue_setup(QueueId(0), 64).unwrap();
    port.start().unwrap();
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let mut tx0 = tx(first(&joined), 0, &lcore);
    let attempt = |tx0: &mut TxQueue| {
        let mut burst = Burst::new(&lcore);
        while burst.room() > 0 {
            burst
                .push(lcore.mbuf_from(group.pool, &bytes(1)).unwrap())
                .unwrap();
        }
        tx0.tx_burst(&mut burst)
    };
    assert_eq!(attempt(&mut tx0), 0, "nobody serves");
    let mut proxies = ports.proxies(&server).unwrap();
    assert!(ports.proxies(&lcore).is_err(), "one thread serves");
    let taken: usize = (0..4).map(|_| attempt(&mut tx0)).sum();
    assert!((63..=64).contains(&taken), "{taken}");
    assert_eq!(proxies.serve(), 32);
    assert_eq!(attempt(&mut tx0), 32);
    drop(proxies);
    assert_eq!(attempt(&mut tx0), 0, "nobody serves any more");
    assert_eq!(first(&joined).stats().tx.packets, taken as u64 + 32);
    assert_eq!(group.pool.in_use(), 0, "what waited went out");
}

#[test]
fn what_the_device_drops_is_not_counted_as_sent() {
    let group = Group::new();
    // No file: all that is sent is dropped.
    let ports = group.primary(&["net_pcap0"]);
    group.start(first(&ports), 1, 1);
    assert!(first(&ports).is_proxied(Direction::Tx) && !first(&ports).is_proxied(Direction::Rx));
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let mut proxies = ports.proxies(&server).unwrap();
    let mut tx0 = tx(first(&joined), 0, &lcore);
    send(&group, &lcore, &mut tx0, &[&bytes(1), &bytes(2)]);
    assert_eq!(tx0.stats().packets, 2);
    proxies.serve();
    // What its owner learns of a burst does not depend on when the primary drops.
    assert_eq!(tx0.last_burst().packets, 2);
    assert_eq!(tx0.tx_burst(&mut Burst::new(&lcore)), 0);
    assert_eq!(tx0.last_burst().packets, 0);
    for stats in [
        tx0.stats(),
        first(&ports).stats().tx,
        first(&joined).stats().tx,
    ] {
        assert_eq!((stats.packets, stats.bytes, stats.segments), (0, 0, 0));
        assert_eq!(stats.dropped(DropReason::NoSink), 2);
    }
    drop((tx0, proxies));
    // The same when the primary drives it for itself.
    let mut tx0 = tx(first(&ports), 0, &server);
    send(&group, &server, &mut tx0, &[&bytes(1)]);
    assert_eq!((tx0.stats().packets, tx0.stats().all_drops()), (0, 3));
}

/// A cable says "no room" of a frame that its far end will never take, and of one for which there is none just now.
#[test]
fn frame_that_is_refused_for_good_stops_no_other() {
    lab::isolated!({
        let host = |name| lab::Host::new(name).unwrap();
        let (a, b) = (host("a"), host("b"));
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        a.mtu("a0", 9000).unwrap();
        a.up("a0").unwrap();
        b.up("b0").unwrap();
        let group = Group::new();
        let open = || {
            let ports = group.primary(&["net_af_packet0,iface=a0,share=proxy"]);
            group.start(first(&ports), 1, 1);
            ports
        };
        let ports = a.run(open).unwrap();
        let joined = group.secondary();
        let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
        let mut proxies = ports.proxies(&server).unwrap();
        let mut tx0 = tx(first(&joined), 0, &lcore);
        let wire = lab::FrameSocket::open(&b, "b0").unwrap();
        let frame = |number: u8, len: usize| {
            [&[2; 12][..], &[0x88, 0xb5, number], &vec![0; len - 15]].concat()
        };
        send(
            &group,
            &lcore,
            &mut tx0,
            &[&frame(1, 60), &frame(2, 1519), &frame(3, 60)],
        );
        for _ in 0..ROUNDS_REFUSED_MAX + 2 {
            proxies.serve();
        }
        let mut came = Vec::new();
        while let Some(frame) = wire.receive(Duration::from_millis(100)).unwrap() {
            if frame[12..14] == [0x88, 0xb5] {
                came.push(frame[14]);
            }
        }
        assert_eq!(came, [1, 3]);
        let stats = tx0.stats();
        assert_eq!((stats.packets, stats.bytes), (2, 120));
        assert_eq!(stats.dropped(DropReason::NoRoom), 1);
    });
}

/// The device's end has one driver: the thread that serves, or one of the primary that took the queue for itself.
#[test]
fn primary_takes_a_queue_for_itself_and_gives_it_back() {
    let group = Group::new();
    let ports = group.primary(&[LOOP]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let other = group.lcore("another thread of the primary");
    let mut proxies = ports.proxies(&server).unwrap();
    let mut tx0 = tx(first(&joined), 0, &lcore);
    send(&group, &lcore, &mut tx0, &[&bytes(1)]);
    proxies.serve();
    // Served: it is refused until the server has seen that its owner is gone.
    let mut rx0 = rx(first(&joined), 0, &lcore);
    // A `net_ring` takes nothing before somebody receives from it.
    assert_eq!((proxies.serve(), proxies.serve()), (1, 1));
    assert_eq!(receive(&lcore, &mut rx0), [bytes(1)]);
    drop(rx0);
    let early = first(&ports).rx_queue_stand_in(QueueId(0), other.owner());
    assert!(matches!(early, Err(Error::Taken { .. })));
    proxies.serve();
    let mut direct = first(&ports)
        .rx_queue_stand_in(QueueId(0), other.owner())
        .unwrap();
    send(&group, &lcore, &mut tx0, &[&bytes(2)]);
    proxies.serve();
    proxies.serve();
    assert_eq!(receive(&other, &mut direct), [bytes(2)]);
    drop(direct);
    let mut rx0 = rx(first(&joined), 0, &lcore);
    send(&group, &lcore, &mut tx0, &[&bytes(3)]);
    proxies.serve();
    proxies.serve();
    assert_eq!(receive(&lcore, &mut rx0), [bytes(3)]);
}

/// What waits for one that is gone is freed, and what the device has by then is for the successor.
#[test]
fn successor_gets_what_the_device_has_and_nothing_is_left_over() {
    let group = Group::new();
    let ports = group.primary(&[LOOP]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let mut proxies = ports.proxies(&server).unwrap();
    let (rx0, mut tx0) = (rx(first(&joined), 0, &lcore), tx(first(&joined), 0, &lcore));
    send(&group, &lcore, &mut tx0, &[&bytes(1)]);
    proxies.serve();
    proxies.serve();
    drop(rx0);
    proxies.serve();
    assert_eq!(group.pool.in_use(), 0, "what waited for it is freed");
    let dropped = first(&ports).stats().rx.dropped(DropReason::NoSink);
    assert_eq!(dropped, 1, "and counted");
    send(&group, &lcore, &mut tx0, &[&bytes(2)]);
    proxies.serve();
    let mut rx0 = rx(first(&joined), 0, &lcore);
    assert_eq!((proxies.serve(), proxies.serve()), (1, 1));
    assert_eq!(receive(&lcore, &mut rx0), [bytes(2)]);
}

#[test]
fn next_primary_serves_on_with_a_device_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcap");
    let args = format!("net_pcap0,tx_pcap={}", path.display());
    let group = Group::new();
    let written = || (std::fs::metadata(&path).unwrap().len() - 24) / 76;
    let former = group.primary(&[&args]);
    group.start(first(&former), 0, 2);
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let mut tx0 = tx(first(&joined), 0, &lcore);
    {
        let mut proxies = former.proxies(&server).unwrap();
        send(&group, &lcore, &mut tx0, &[&bytes(1)]);
        proxies.serve();
    }
    assert_eq!(written(), 1);
    drop((former, server));
    let next = group.primary(&[&args]);
    assert!(
        first(&next).is_adopted(),
        "a secondary drives a queue of it"
    );
    group.start(first(&next), 0, 2);
    let server = group.lcore("its successor");
    let mut proxies = next.proxies(&server).unwrap();
    send(&group, &lcore, &mut tx0, &[&bytes(2)]);
    proxies.serve();
    assert_eq!(written(), 2, "the file goes on at its end");
    assert_eq!(tx0.stats().packets, 2);
}

/// A primary that is killed between the two steps leaves a ring that has room and no header.
#[test]
fn ring_that_a_killed_primary_did_not_finish_is_finished_by_the_next() {
    let group = Group::new();
    for name in ["proxy_p0_q0_rx", "proxy_p0_q0_tx", "net_ring0_q0"] {
        let zone = group
            .region
            .reserve(ZoneKind::Ring, name, 1 << 14, 128, None);
        zone.unwrap();
    }
    let ports = group.primary(&[LOOP]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let mut proxies = ports.proxies(&server).unwrap();
    let (mut rx0, mut tx0) = (rx(first(&joined), 0, &lcore), tx(first(&joined), 0, &lcore));
    send(&group, &lcore, &mut tx0, &[&bytes(1)]);
    // The first round takes it into the loop, the second one out.
    assert_eq!((proxies.serve(), proxies.serve()), (1, 1));
    assert_eq!(receive(&lcore, &mut rx0), [bytes(1)]);
}

#[test]
fn share_is_direct_or_proxy() {
    let group = Group::new();
    let refusal = group.refusal(&["net_null0,share=yes"]);
    assert!(refusal.contains("not direct or proxy"), "{refusal}");
    let refusal = group.refusal(&["net_null0,shar=proxy"]);
    assert!(refusal.contains("did you mean share?"), "{refusal}");
    let ports = group.primary(&["net_pcap0,share=direct", "net_null1"]);
    for port in &ports {
        assert!(!port.is_proxied(Direction::Tx) && !port.is_proxied(Direction::Rx));
    }
    assert!(matches!(
        group.secondary().proxies(&group.lcore("secondary")),
        Err(Error::NotPrimary { .. })
    ));
}

/// A thread that serves sleeps, and is woken by what owners send, by a device, and by an owner that comes.
#[test]
fn who_serves_sleeps_and_is_woken() {
    use eal::sleep::{Cause, SLEEP_MAX, Source as _, sleep};

    let group = Group::new();
    let ports = group.primary(&[LOOP, "net_null1,share=proxy"]);
    for port in &ports {
        group.start(port, 1, 1);
    }
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let bell = server.slot().doorbell().unwrap();
    let mut proxies = ports.proxies(&server).unwrap();
    assert_eq!(proxies.serve(), 0);
    assert!(!proxies.must_poll());
    assert_eq!(sleep(&bell, &mut proxies, true, SLEEP_MAX), Cause::Time);
    let mut tx0 = tx(first(&joined), 0, &lcore);
    let mut rx0 = rx(first(&joined), 0, &lcore);
    assert_ne!(
        sleep(&bell, &mut proxies, true, SLEEP_MAX),
        Cause::Time,
        "an owner came"
    );
    assert_eq!(proxies.serve(), 0);
    send(&group, &lcore, &mut tx0, &[&bytes(1)]);
    assert_eq!(sleep(&bell, &mut proxies, true, SLEEP_MAX), Cause::Work);
    assert_eq!((proxies.serve(), proxies.serve()), (1, 1));
    assert_eq!(receive(&lcore, &mut rx0), [bytes(1)]);
    // What makes packets from nothing tells nobody.
    let _rx1 = rx(joined.port(PortId(1)).unwrap(), 0, &lcore);
    proxies.serve();
    assert!(proxies.must_poll());
}

/// A queue whose device is not to be had for a moment is dark for a few sleeps, however few rounds an idle thread makes.
#[test]
fn device_that_could_not_be_opened_is_tried_again_after_a_few_sleeps() {
    use eal::sleep::{Source as _, sleep};

    let group = Group::new();
    let ports = group.primary(&[LOOP]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let other = group.lcore("in the way");
    let bell = server.slot().doorbell().unwrap();
    let mut proxies = ports.proxies(&server).unwrap();
    let ring = ring::Ring::lookup(group.region, "net_ring0_q0").unwrap();
    let in_the_way = ring.consumer(other.owner()).unwrap();
    let (mut rx0, mut tx0) = (rx(first(&joined), 0, &lcore), tx(first(&joined), 0, &lcore));
    proxies.serve();
    drop(in_the_way);
    assert!(!proxies.must_poll(), "it may sleep meanwhile");
    for _ in 0..5 {
        sleep(&bell, &mut proxies, true, Duration::from_millis(1));
        proxies.serve();
    }
    send(&group, &lcore, &mut tx0, &[&bytes(1)]);
    assert_eq!((proxies.serve(), proxies.serve()), (1, 1));
    assert_eq!(receive(&lcore, &mut rx0), [bytes(1)]);
}

/// What waits for a port that is stopped keeps nobody awake: neither its owners nor what they had sent.
#[test]
fn who_serves_sleeps_while_a_port_is_stopped() {
    use eal::sleep::{Bell as _, Cause, SLEEP_MAX, Source as _, sleep};

    let group = Group::new();
    let ports = group.primary(&[LOOP]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let bell = server.slot().doorbell().unwrap();
    let mut proxies = ports.proxies(&server).unwrap();
    let (mut rx0, mut tx0) = (rx(first(&joined), 0, &lcore), tx(first(&joined), 0, &lcore));
    for _ in 0..40 {
        send(&group, &lcore, &mut tx0, &[&bytes(1)]);
    }
    first(&ports).stop().unwrap();
    assert_eq!(proxies.serve(), 0);
    assert!(!proxies.must_poll());
    bell.clear();
    assert_eq!(sleep(&bell, &mut proxies, true, SLEEP_MAX), Cause::Time);
    first(&ports).start().unwrap();
    for _ in 0..4 {
        proxies.serve();
    }
    assert_eq!(receive(&lcore, &mut rx0).len(), 32);
}

/// Nobody tells when a full ring has room again; who serves looks for it, and at last only after each sleep.
#[test]
fn ring_that_nobody_empties_lets_who_serves_sleep() {
    use eal::sleep::{Bell as _, Cause, SLEEP_MAX, Source as _, sleep};

    let group = Group::new();
    let ports = group.primary(&["net_null0,share=proxy"]);
    let port = first(&ports);
    port.configure(1, 1, &PortConfig::default()).unwrap();
    port.rx_queue_setup(QueueId(0), 64, group.pool).unwrap();
    port.tx_queue_setup(QueueId(0), 0).unwrap();
    port.start().unwrap();
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let bell = server.slot().doorbell().unwrap();
    let mut proxies = ports.proxies(&server).unwrap();
    let mut rx0 = rx(first(&joined), 0, &lcore);
    while proxies.serve() > 0 {}
    assert!(proxies.must_poll(), "it may be emptied any moment");
    for _ in 0..ROUNDS_FULL_MAX {
        assert_eq!(proxies.serve(), 0);
    }
    assert!(!proxies.must_poll());
    bell.clear();
    assert_eq!(sleep(&bell, &mut proxies, true, SLEEP_MAX), Cause::Time);
    assert_eq!(receive(&lcore, &mut rx0).len(), 32);
    assert!(proxies.serve() > 0 && proxies.must_poll());
}

/// What a device does not take before its server ends was taken from its owner as sent, and is not.
#[test]
fn what_waits_when_the_server_ends_is_counted_as_dropped() {
    let group = Group::new();
    let ports = group.primary(&[LOOP]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let (server, lcore) = (group.lcore("server"), group.lcore("secondary"));
    let mut proxies = ports.proxies(&server).unwrap();
    let mut tx0 = tx(first(&joined), 0, &lcore);
    for number in 0..40 {
        send(&group, &lcore, &mut tx0, &[&bytes(number)]);
    }
    assert_eq!(proxies.serve(), 0, "nobody receives from the loop");
    drop(proxies);
    let stats = tx0.stats();
    assert_eq!((stats.packets, stats.bytes), (0, 0));
    assert_eq!(stats.dropped(DropReason::NoRoom), 40);
    assert_eq!(group.pool.in_use(), 0);
}
