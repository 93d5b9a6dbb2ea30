//! A primary that is gone, and the next one, which takes its ports over while others drive their queues.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lab::{FrameSocket, Host};

use super::*;
use crate::driver::Handed;
use crate::table::QueueTable;

const WAIT: Duration = Duration::from_secs(10);

/// A frame that comes alone may take a block of the ring, which is handed over after a millisecond: a ring with more blocks than
/// there are frames under way overflows never, whoever waits for a core meanwhile.
const BLOCKS: &str = ",blocksz=16384,framecnt=2048";
const UNDER_WAY: usize = 200;

/// A group whose port is one end of a cable, and the other end.
pub(super) struct Wire {
    pub(super) group: Group,
    pub(super) near: Host,
    _far: Host,
    pub(super) sender: FrameSocket,
    args: String,
}

impl Wire {
    pub(super) fn new() -> Self {
        let (near, far) = (Host::new("near").unwrap(), Host::new("far").unwrap());
        lab::veth((&near, "a0"), (&far, "b0"), 1).unwrap();
        for (host, iface) in [(&near, "a0"), (&far, "b0")] {
            host.disable_ipv6(iface).unwrap();
            host.up(iface).unwrap();
        }
        Self {
            group: Group::with_pool(&PoolConfig::new("packets", 2048)),
            sender: FrameSocket::open(&far, "b0").unwrap(),
            near,
            _far: far,
            args: format!("net_af_packet0,iface=a0{BLOCKS}"),
        }
    }

    pub(super) fn open(&self, role: ProcType, exchange: &Arc<LocalExchange>) -> Ports {
        let vdevs = [self.args.clone()];
        let (region, exchange) = (self.group.region, Arc::clone(exchange));
        let open = || Ports::open(region, role, &vdevs, exchange);
        self.near.run(open).unwrap().unwrap()
    }

    /// A primary that is through with starting its port.
    pub(super) fn primary(&self, queues: u16, exchange: &Arc<LocalExchange>) -> Ports {
        let ports = self.open(ProcType::Primary, exchange);
        self.start(&ports, queues);
        ports
    }

    pub(super) fn start(&self, ports: &Ports, queues: u16) {
        let start = || self.group.start(first(ports), queues, queues);
        self.near.run(start).unwrap();
    }

    pub(super) fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.near.run(f).unwrap()
    }

    /// Sends the datagrams of these numbers, with lulls that end blocks of the ring, and only some before they are received.
    pub(super) fn send(&self, numbers: std::ops::Range<u32>, seen: &Seen) {
        let until = Instant::now() + WAIT;
        for number in numbers {
            self.sender.send(&datagram(number)).unwrap();
            if number % 50 == 49 {
                std::thread::sleep(Duration::from_millis(1));
            }
            while seen.count() + UNDER_WAY < number as usize && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// A UDP datagram over IPv4 of a flow that its number chooses.
pub(super) fn datagram(number: u32) -> Vec<u8> {
    let [.., high, low] = number.to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([
        0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, high, low, 10, 1, low, high,
    ]);
    frame.extend([high, low, 0, 53, 0, 12, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame
}

/// How often each datagram came.
pub(super) struct Seen {
    each: Vec<AtomicU32>,
    count: AtomicUsize,
}

impl Seen {
    pub(super) fn new(count: u32) -> Self {
        Self {
            each: (0..count).map(|_| AtomicU32::new(0)).collect(),
            count: AtomicUsize::new(0),
        }
    }

    /// Receives what is there; how many.
    pub(super) fn take(&self, lcore: &Lcore, rx: &mut RxQueue) -> usize {
        let mut burst = Burst::new(lcore);
        rx.rx_burst(lcore, &mut burst);
        for mbuf in burst.iter() {
            let data = mbuf.data();
            let number = u32::from_be_bytes(data[42..46].try_into().unwrap());
            assert_eq!(data, datagram(number));
            if self.each[number as usize].fetch_add(1, Ordering::Relaxed) == 0 {
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
        burst.len()
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn wait_for(&self, count: usize) {
        let until = Instant::now() + WAIT;
        while self.count() < count && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(self.count() >= count, "{} of {count} came", self.count());
    }

    /// How many came more than once.
    pub(super) fn doubled(&self) -> usize {
        let twice = |count: &&AtomicU32| count.load(Ordering::Relaxed) > 1;
        self.each.iter().filter(twice).count()
    }

    /// What [`wrong`](Self::wrong) begins with when all before `end` came once.
    fn after(&self, end: u32) -> Option<(usize, u32)> {
        let end = end as usize;
        (end < self.each.len()).then_some((end, 0))
    }

    /// Numbers that did not come once.
    pub(super) fn wrong(&self) -> Vec<(usize, u32)> {
        let all = self.each.iter().map(|count| count.load(Ordering::Relaxed));
        let wrong = all.enumerate().filter(|(_, count)| *count != 1);
        // Enough to see what happened.
        wrong.take(10).collect()
    }
}

/// Sends the datagrams of these numbers, some at a time, and receives them; how many from each queue.
fn pass<const N: usize>(
    wire: &Wire,
    numbers: std::ops::Range<u32>,
    seen: &Seen,
    mut ends: [(&Lcore, &mut RxQueue); N],
) -> [usize; N] {
    let mut counts = [0; N];
    let until = Instant::now() + WAIT;
    for first in numbers.clone().step_by(50) {
        let end = (first + 50).min(numbers.end);
        wire.send(first..end, seen);
        while seen.count() < end as usize && Instant::now() < until {
            for ((lcore, rx), count) in ends.iter_mut().zip(&mut counts) {
                *count += seen.take(lcore, rx);
            }
        }
    }
    // What came twice comes now.
    std::thread::sleep(Duration::from_millis(5));
    for (lcore, rx) in &mut ends {
        seen.take(lcore, rx);
    }
    assert_eq!(seen.wrong().first(), seen.after(numbers.end).as_ref());
    counts
}

/// Tells threads to stop, also when the test fails.
pub(super) struct Stop<'a>(pub(super) &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Receives from queues until told to stop and for a while after; how many from each.
fn receive_all(
    ports: &Ports,
    queues: &[u16],
    lcore: &Lcore,
    seen: &Seen,
    stop: &AtomicBool,
) -> Vec<usize> {
    let mut ends: Vec<_> = queues
        .iter()
        .map(|queue| rx(first(ports), *queue, lcore))
        .collect();
    let mut counts = vec![0; ends.len()];
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) || last.elapsed() < Duration::from_millis(20) {
        for (end, count) in ends.iter_mut().zip(&mut counts) {
            let came = seen.take(lcore, end);
            *count += came;
            if came > 0 {
                last = Instant::now();
            }
        }
    }
    counts
}

#[test]
fn nothing_is_lost_while_a_primary_goes_and_the_next_one_comes() {
    lab::isolated!({
        const COUNT: u32 = 20_000;
        let wire = Wire::new();
        let exchange = Arc::new(LocalExchange::default());
        let former = wire.primary(2, &exchange);
        let joined = wire.open(ProcType::Secondary, &exchange);
        let (seen, stop) = (Seen::new(COUNT), AtomicBool::new(false));
        let counts = std::thread::scope(|scope| {
            let stopping = Stop(&stop);
            let receiver = scope.spawn(|| {
                let lcore = wire.group.lcore("receiver");
                receive_all(&joined, &[0, 1], &lcore, &seen, &stop)
            });
            let watcher = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(first(&joined).state(), PortState::Started);
                }
            });
            let sender = scope.spawn(|| wire.send(0..COUNT, &seen));
            seen.wait_for(1000);
            drop(former);
            seen.wait_for(2000);
            for round in 3..6 {
                let next = wire.open(ProcType::Primary, &exchange);
                assert!(first(&next).is_adopted());
                let lcore = wire.group.lcore("primary");
                let early = first(&next).tx_queue(QueueId(0), lcore.owner());
                assert!(
                    matches!(early, Err(Error::WrongState { .. })),
                    "not yet ours"
                );
                wire.start(&next, 2);
                assert!(first(&next).stats().rx.packets >= 2000, "counters stay");
                seen.wait_for(1000 * round);
            }
            sender.join().unwrap();
            seen.wait_for(COUNT as usize);
            drop(stopping);
            watcher.join().unwrap();
            receiver.join().unwrap()
        });
        assert_eq!(seen.wrong(), []);
        assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
        assert_eq!(first(&joined).stats().rx.missed, 0);
    });
}

#[test]
fn queue_that_nobody_kept_is_opened_anew_and_takes_its_share() {
    lab::isolated!({
        const COUNT: u32 = 3000;
        let wire = Wire::new();
        let (old, new) = (
            Arc::new(LocalExchange::default()),
            Arc::new(LocalExchange::default()),
        );
        let former = wire.primary(2, &old);
        let lcore = wire.group.lcore("lives");
        let dies = wire.group.lcore("dies");
        let mut rx0 = rx(first(&former), 0, &lcore);
        let mut rx1 = rx(first(&former), 1, &dies);
        let seen = Seen::new(COUNT);
        pass(
            &wire,
            0..100,
            &seen,
            [(&lcore, &mut rx0), (&dies, &mut rx1)],
        );
        let table = QueueTable::lookup(wire.group.region, PortId(0)).unwrap();
        let record = table.record(Direction::Rx, QueueId(1));
        assert_ne!(record.offset.load(eal::sync::Ordering::Relaxed), 0);
        // All that is left of the former primary and of one secondary is what another one has.
        for queue in ["rx/0", "tx/0", "tx/1"] {
            let key = format!("port/0/{queue}");
            new.offer(&key, old.fetch(&key).unwrap().unwrap());
        }
        drop((former, old, rx1, dies));
        let next = wire.primary(2, &new);
        assert_eq!(record.offset.load(eal::sync::Ordering::Relaxed), 0);
        let other = wire.group.lcore("successor");
        let joined = wire.open(ProcType::Secondary, &new);
        let mut rx1 = rx(first(&joined), 1, &other);
        let counts = pass(
            &wire,
            100..COUNT,
            &seen,
            [(&lcore, &mut rx0), (&other, &mut rx1)],
        );
        assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
        drop(next);
    });
}

/// Its descriptors are nowhere but in its queue: a second socket would take or double its frames.
#[test]
fn queue_of_a_living_owner_that_offers_nothing_is_left_to_it_and_opened_anew_after_it() {
    lab::isolated!({
        const COUNT: u32 = 3000;
        let wire = Wire::new();
        let (old, new) = (
            Arc::new(LocalExchange::default()),
            Arc::new(LocalExchange::default()),
        );
        let former = wire.primary(2, &old);
        let lcore = wire.group.lcore("silent");
        let mut rx0 = rx(first(&former), 0, &lcore);
        // Not one descriptor is offered: the group of the sockets is known from the port's words alone.
        drop((former, old));
        let next = wire.primary(2, &new);
        let other = wire.group.lcore("other");
        let mut rx1 = rx(first(&next), 1, &other);
        let refused = first(&next).rx_queue(QueueId(0), other.owner());
        assert!(matches!(refused, Err(Error::Taken { .. })));
        let seen = Seen::new(COUNT);
        let counts = pass(
            &wire,
            0..COUNT / 2,
            &seen,
            [(&lcore, &mut rx0), (&other, &mut rx1)],
        );
        assert!(counts.iter().all(|count| *count > 200), "{counts:?}");
        // Once it is gone, so is its socket. The primary that stands in opens another one.
        drop((rx0, lcore));
        let third = wire.group.lcore("third");
        wire.run(|| {
            let lcore = wire.group.lcore("stand-in");
            drop(
                first(&next)
                    .rx_queue_stand_in(QueueId(0), lcore.owner())
                    .unwrap(),
            );
        });
        let joined = wire.open(ProcType::Secondary, &new);
        let mut rx0 = rx(first(&joined), 0, &third);
        pass(
            &wire,
            COUNT / 2..COUNT,
            &seen,
            [(&third, &mut rx0), (&other, &mut rx1)],
        );
    });
}

/// It was stopped when the next primary asked, offered when it went on, and died then: what waits in its ring is not lost.
#[test]
fn what_is_offered_late_is_used_once_its_owner_is_gone() {
    lab::isolated!({
        let wire = Wire::new();
        let (old, new) = (
            Arc::new(LocalExchange::default()),
            Arc::new(LocalExchange::default()),
        );
        let former = wire.primary(1, &old);
        let lcore = wire.group.lcore("late");
        let mut queue = rx(first(&former), 0, &lcore);
        let kept = old.fetch("port/0/rx/0").unwrap().unwrap();
        drop((former, old));
        let next = wire.primary(1, &new);
        assert!(first(&next).is_adopted());
        let seen = Seen::new(100);
        pass(&wire, 0..50, &seen, [(&lcore, &mut queue)]);
        new.offer("port/0/rx/0", kept);
        wire.send(50..100, &seen);
        drop((queue, lcore));
        let lcore = wire.group.lcore("primary");
        let stand_in = first(&next).rx_queue_stand_in(QueueId(0), lcore.owner());
        let mut queue = stand_in.unwrap();
        let until = Instant::now() + WAIT;
        while seen.count() < 100 && Instant::now() < until {
            seen.take(&lcore, &mut queue);
        }
        assert_eq!(seen.wrong(), []);
    });
}

#[test]
fn adopted_port_has_the_queues_it_had_while_others_drive_them() {
    let group = Group::new();
    let ports = group.primary(&["net_ring0"]);
    group.start(first(&ports), 2, 2);
    let joined = group.secondary();
    let lcore = group.lcore("lives on");
    let mut ends = (tx(first(&joined), 0, &lcore), rx(first(&joined), 0, &lcore));
    send(&group, &lcore, &mut ends.0, &[b"before"]);
    drop(ports);
    let ports = group.primary(&["net_ring0"]);
    let port = first(&ports);
    assert!(port.is_adopted());
    let other = |rx, tx, config: &PortConfig| port.configure(rx, tx, config).unwrap_err();
    let error = other(2, 1, &PortConfig::default());
    assert!(
        error
            .to_string()
            .contains("with 2 RX and 2 TX queues, and 2 RX and 1 TX queues is asked for"),
        "{error}"
    );
    let config = PortConfig {
        rss_key: crate::rss::RssKey::SYMMETRIC,
        ..PortConfig::default()
    };
    assert!(matches!(other(2, 2, &config), Error::OtherConfig { .. }));
    assert_eq!(port.state(), PortState::Started);
    assert!(port.start().unwrap_err().to_string().contains("configure"));
    // It moves at any time: before, between and after the steps.
    assert_eq!(receive(&lcore, &mut ends.1), [b"before".to_vec()]);
    port.configure(2, 2, &PortConfig::default()).unwrap();
    send(&group, &lcore, &mut ends.0, &[b"between"]);
    assert_eq!(receive(&lcore, &mut ends.1), [b"between".to_vec()]);
    group.start(port, 2, 2);
    send(&group, &lcore, &mut ends.0, &[b"after"]);
    assert_eq!(receive(&lcore, &mut ends.1), [b"after".to_vec()]);
    assert_eq!((port.stats().rx.packets, port.stats().tx.packets), (3, 3));
    // When nobody drives a queue any more, the next one may have others.
    drop((ends, ports));
    let ports = group.primary(&["net_ring0"]);
    assert!(!first(&ports).is_adopted());
    group.start(first(&ports), 1, 1);
    assert_eq!(first(&ports).stats().rx.packets, 0);
}

#[test]
fn port_that_others_only_keep_may_be_configured_otherwise() {
    lab::isolated!({
        let wire = Wire::new();
        let exchange = Arc::new(LocalExchange::default());
        drop(wire.primary(2, &exchange));
        let _keeps = wire.open(ProcType::Secondary, &exchange);
        let next = wire.open(ProcType::Primary, &exchange);
        assert!(first(&next).is_adopted());
        wire.start(&next, 1);
        assert!(!first(&next).is_adopted());
        let (seen, lcore) = (Seen::new(50), wire.group.lcore("primary"));
        let mut rx0 = rx(first(&next), 0, &lcore);
        pass(&wire, 0..50, &seen, [(&lcore, &mut rx0)]);
        // And what was kept of it before is refused from now on.
        let kept = exchange.fetch("port/0/rx/0").unwrap().unwrap();
        drop((rx0, next));
        let next = wire.primary(1, &exchange);
        assert!(first(&next).is_adopted());
        first(&next).stop().unwrap();
        wire.start(&next, 1);
        exchange.offer("port/0/rx/0", kept);
        drop(next);
        let next = wire.open(ProcType::Primary, &exchange);
        wire.start(&next, 1);
        let mut rx0 = rx(first(&next), 0, &lcore);
        let seen = Seen::new(50);
        pass(&wire, 0..50, &seen, [(&lcore, &mut rx0)]);
    });
}

#[test]
fn what_waits_in_the_ring_of_a_dead_primary_is_received_by_the_next_one() {
    lab::isolated!({
        let wire = Wire::new();
        let exchange = Arc::new(LocalExchange::default());
        let former = wire.primary(1, &exchange);
        let _keeps = wire.open(ProcType::Secondary, &exchange);
        let seen = Seen::new(300);
        let lcore = wire.group.lcore("dies");
        let mut queue = rx(first(&former), 0, &lcore);
        pass(&wire, 0..130, &seen, [(&lcore, &mut queue)]);
        // Death: the owner word stays, its slot is nobody's.
        std::mem::forget(queue);
        drop((lcore, former));
        wire.send(130..200, &seen);
        let next = wire.primary(1, &exchange);
        let lcore = wire.group.lcore("lives");
        let mut queue = rx(first(&next), 0, &lcore);
        pass(&wire, 200..300, &seen, [(&lcore, &mut queue)]);
        assert_eq!(seen.wrong(), []);
    });
}

#[test]
fn port_that_became_another_is_told_to_who_joined_the_former_one() {
    let group = Group::new();
    let ports = group.primary(&["net_ring0"]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let lcore = group.lcore("secondary");
    let take = || first(&joined).rx_queue(QueueId(0), lcore.owner()).map(drop);
    // Nobody drives it, so the next primary may do with it what it likes.
    let ports = group.primary(&["net_ring0"]);
    group.start(first(&ports), 1, 1);
    take().unwrap();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let error = take().unwrap_err();
    assert!(matches!(error, Error::Replaced { .. }), "{error}");
}

/// A primary finds out whether a port is driven by shutting it first; it may die before it has taken that back.
#[test]
fn port_that_is_driven_is_adopted_whatever_its_record_says() {
    lab::isolated!({
        let wire = Wire::new();
        let exchange = Arc::new(LocalExchange::default());
        drop(wire.primary(1, &exchange));
        let joined = wire.open(ProcType::Secondary, &exchange);
        let lcore = wire.group.lcore("lives on");
        let mut rx0 = rx(first(&joined), 0, &lcore);
        let seen = Seen::new(100);
        for (number, state) in (0..).zip([PortState::Opened, PortState::Closed]) {
            let record = &wire.group.region.port_records()[0];
            record
                .state
                .store(state.number(), eal::sync::Ordering::Relaxed);
            let next = wire.open(ProcType::Primary, &exchange);
            assert!(first(&next).is_adopted());
            wire.start(&next, 1);
            let range = number * 50..number * 50 + 50;
            pass(&wire, range, &seen, [(&lcore, &mut rx0)]);
        }
    });
}

/// A queue with an owner is left to it: who waits for descriptors must not be one, or nobody would ever make them.
#[test]
fn who_waits_for_descriptors_does_not_have_the_queue_meanwhile() {
    lab::isolated!({
        let wire = Wire::new();
        let (old, new) = (
            Arc::new(LocalExchange::default()),
            Arc::new(LocalExchange::default()),
        );
        drop((wire.primary(1, &old), old));
        let joined = wire.open(ProcType::Secondary, &new);
        let (seen, slot) = (Seen::new(50), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let lcore = wire.group.lcore("early");
                slot.store(true, Ordering::Relaxed);
                let mut queue = rx(first(&joined), 0, &lcore);
                pass(&wire, 0..50, &seen, [(&lcore, &mut queue)]);
            });
            while !slot.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(20));
            let owner = first(&joined).queue_owner(Direction::Rx, QueueId(0));
            assert_eq!(owner, Owner::NONE);
            let next = wire.primary(1, &new);
            waiting.join().unwrap();
            drop(next);
        });
    });
}

/// The sockets drop every frame while a port is stopped, and stay so when the primary is gone.
#[test]
fn stopped_port_is_adopted_as_it_is_and_receives_when_it_is_started() {
    lab::isolated!({
        let wire = Wire::new();
        let exchange = Arc::new(LocalExchange::default());
        let former = wire.primary(1, &exchange);
        first(&former).set_promiscuous(false).unwrap();
        let joined = wire.open(ProcType::Secondary, &exchange);
        let lcore = wire.group.lcore("lives on");
        let mut rx0 = rx(first(&joined), 0, &lcore);
        first(&former).stop().unwrap();
        drop(former);
        let next = wire.open(ProcType::Primary, &exchange);
        assert!(first(&next).is_adopted());
        assert_eq!(first(&joined).state(), PortState::Stopped);
        assert!(!first(&next).promiscuous() && !first(&next).info().promiscuous);
        wire.start(&next, 1);
        assert!(!first(&joined).promiscuous());
        let seen = Seen::new(50);
        pass(&wire, 0..50, &seen, [(&lcore, &mut rx0)]);
    });
}

#[test]
fn primary_that_leaves_a_port_lets_it_go_on_and_one_that_closes_it_does_not() {
    lab::isolated!({
        let wire = Wire::new();
        let exchange = Arc::new(LocalExchange::default());
        let former = wire.primary(1, &exchange);
        let joined = wire.open(ProcType::Secondary, &exchange);
        let lcore = wire.group.lcore("lives on");
        let mut rx0 = rx(first(&joined), 0, &lcore);
        first(&former).leave().unwrap();
        let after = first(&former).stop().unwrap_err();
        assert!(matches!(after, Error::WrongState { .. }), "{after}");
        let seen = Seen::new(150);
        pass(&wire, 0..50, &seen, [(&lcore, &mut rx0)]);
        let next = wire.open(ProcType::Primary, &exchange);
        assert!(exchange.offered("port/0/rx/0").is_some());
        // One that fails on the way leaves it as well.
        first(&next).leave().unwrap();
        let next = wire.primary(1, &exchange);
        pass(&wire, 50..100, &seen, [(&lcore, &mut rx0)]);
        // Nor does closing end it under them.
        first(&next).close().unwrap();
        assert_eq!(first(&joined).state(), PortState::Started);
        assert!(exchange.offered("port/0/rx/0").is_some());
        let next = wire.primary(1, &exchange);
        pass(&wire, 100..150, &seen, [(&lcore, &mut rx0)]);
        drop(rx0);
        first(&next).close().unwrap();
        assert_eq!(first(&joined).state(), PortState::Closed);
        assert!(
            exchange.offered("port/0/rx/0").is_none(),
            "nothing to adopt"
        );
    });
}

/// The configuration that a thread works on is the one that it claimed a queue of.
#[test]
fn port_is_never_configured_under_who_has_just_claimed_a_queue() {
    let group = Group::new();
    let ports = group.primary(&["net_ring0"]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let table = QueueTable::lookup(group.region, PortId(0)).unwrap();
    let record = table.record(Direction::Rx, QueueId(0));
    let (stop, taken) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let claimer = scope.spawn(|| {
            let lcore = group.lcore("claimer");
            while !stop.load(Ordering::Relaxed) {
                let Ok(_queue) = first(&joined).rx_queue(QueueId(0), lcore.owner()) else {
                    continue;
                };
                let number = taken.fetch_add(1, Ordering::Relaxed) + 1;
                // The owner's own word, which configuring sets to zero.
                record.intent.store(number, eal::sync::Ordering::Relaxed);
                for _ in 0..number % 1000 {
                    std::hint::spin_loop();
                }
                assert_eq!(record.intent.load(eal::sync::Ordering::Relaxed), number);
            }
        });
        let mut configured = 0_u32;
        let until = Instant::now() + WAIT;
        let both = |configured: u32| configured >= 1000 && taken.load(Ordering::Relaxed) >= 1000;
        while !both(configured) && !claimer.is_finished() && Instant::now() < until {
            let port = first(&ports);
            port.stop().unwrap();
            // Whoever has the queue gives it back soon, and gets it no more: it may only have to wait for our core.
            let configure = |_| {
                let outcome = port.configure(1, 1, &PortConfig::default());
                if outcome.is_err() {
                    std::thread::sleep(Duration::from_micros(100));
                }
                outcome.is_ok()
            };
            if (0..100).any(configure) {
                configured += 1;
                port.rx_queue_setup(QueueId(0), 0, group.pool).unwrap();
                port.tx_queue_setup(QueueId(0), 0).unwrap();
            }
            port.start().unwrap();
            for _ in 0..configured % 64 {
                std::thread::yield_now();
            }
        }
        drop(stopping);
        claimer.join().unwrap();
        let taken = taken.load(Ordering::Relaxed);
        assert!(configured > 10 && taken > 10, "{configured} {taken}");
    });
}

#[test]
fn capture_goes_on_in_the_next_primary_whoever_kept_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (source, sink) = (path("in.pcap"), path("out.pcap"));
    let group = Group::new();
    // Four frames to read.
    {
        let ports = group.primary(&[&format!("net_pcap0,tx_pcap={}", source.display())]);
        group.start(first(&ports), 0, 1);
        let lcore = group.lcore("makes");
        let frames: [&[u8]; 4] = [&[1; 60], &[2; 60], &[3; 60], &[4; 60]];
        send(&group, &lcore, &mut tx(first(&ports), 0, &lcore), &frames);
        first(&ports).close().unwrap();
    }
    let args = format!(
        "net_pcap0,share=direct,rx_pcap={},tx_pcap={}",
        source.display(),
        sink.display()
    );
    let written = || (std::fs::metadata(&sink).unwrap().len() - 24) / 76;
    let open = |exchange: &Arc<LocalExchange>| {
        let exchange: Arc<dyn Exchange> = exchange.clone();
        Ports::open(
            group.region,
            ProcType::Primary,
            std::slice::from_ref(&args),
            exchange,
        )
    };
    let exchange = Arc::new(LocalExchange::default());
    let former = open(&exchange).unwrap();
    group.start(first(&former), 1, 2);
    let shared: Arc<dyn Exchange> = exchange.clone();
    let joined = Ports::open(group.region, ProcType::Secondary, &[], shared).unwrap();
    let lcore = group.lcore("lives on");
    let (mut rx0, mut tx0) = (rx(first(&joined), 0, &lcore), tx(first(&joined), 0, &lcore));
    let mut write = || send(&group, &lcore, &mut tx0, &[&[8; 60]]);
    assert_eq!(receive(&lcore, &mut rx0).len(), 4);
    write();
    drop((former, rx0));
    // Kept: the lock and the end of the file are the same.
    let next = open(&exchange).unwrap();
    assert!(first(&next).is_adopted());
    group.start(first(&next), 1, 2);
    write();
    assert_eq!(written(), 2);
    let primary = group.lcore("primary");
    let write_second = |ports: &Ports| {
        let mut tx1 = tx(first(ports), 1, &primary);
        send(&group, &primary, &mut tx1, &[&[9; 60]]);
    };
    write_second(&next);
    assert_eq!(written(), 3);
    let mut rx0 = rx(first(&next), 0, &primary);
    assert_eq!(receive(&primary, &mut rx0).len(), 0, "all four were taken");
    drop((rx0, next, joined, exchange));
    // Not offered: it stays with who writes it.
    let exchange = Arc::new(LocalExchange::default());
    let next = open(&exchange).unwrap();
    assert!(first(&next).is_adopted());
    group.start(first(&next), 1, 2);
    let busy = first(&next).tx_queue(QueueId(1), primary.owner());
    let busy = busy.unwrap_err().to_string();
    assert!(busy.contains("another port or process"), "{busy}");
    write();
    drop(tx0);
    // Nobody has it any more: it is opened again, and goes on.
    write_second(&next);
    assert_eq!(written(), 5);
}

/// What is handed out begins with the edition of the queue.
#[test]
fn descriptors_of_a_queue_as_it_was_are_not_taken() {
    lab::isolated!({
        let wire = Wire::new();
        let exchange = Arc::new(LocalExchange::default());
        let ports = wire.primary(1, &exchange);
        let joined = wire.open(ProcType::Secondary, &exchange);
        let lcore = wire.group.lcore("secondary");
        drop(rx(first(&joined), 0, &lcore));
        let old: Handed = exchange.fetch("port/0/rx/0").unwrap().unwrap();
        first(&ports).stop().unwrap();
        wire.start(&ports, 1);
        let new = exchange.fetch("port/0/rx/0").unwrap().unwrap();
        assert_ne!(old.payload[..4], new.payload[..4]);
        exchange.publish("port/0/rx/0", old).unwrap();
        let refused = first(&joined).rx_queue(QueueId(0), lcore.owner());
        assert!(matches!(refused, Err(Error::NoDescriptors { .. })));
        // A primary that is just taking over publishes in a moment.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                exchange.publish("port/0/rx/0", new).unwrap();
            });
            drop(rx(first(&joined), 0, &lcore));
        });
    });
}
