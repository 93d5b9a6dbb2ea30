//! Queues whose process is away, and the thread of the primary that drives them meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use eal::queue::QueueRecord;
use eal::{HugeChoice, RegionConfig};

use super::takeover::{Seen, Stop, Wire};
use super::*;
use crate::table::QueueTable;

const WAIT: Duration = Duration::from_secs(10);

fn record(region: &'static Region) -> &'static QueueRecord {
    let table = QueueTable::lookup(region, PortId(0)).unwrap();
    table.record(Direction::Rx, QueueId(0))
}

fn wanted(region: &'static Region) -> Owner {
    Owner::from_bits(record(region).wanted.load(eal::sync::Ordering::Relaxed))
}

/// Stands in whenever nobody else is there, as the primary's loop does, until told to stop.
fn stand_in(ports: &Ports, lcore: &Lcore, stop: &AtomicBool, seen: &Seen) -> usize {
    let (mut queue, mut count) = (None, 0);
    while !stop.load(Ordering::Relaxed) {
        if queue.as_ref().is_some_and(RxQueue::is_wanted) {
            queue = None;
        }
        for absent in first(ports).absent_rx_queues() {
            queue = first(ports).rx_queue_stand_in(absent, lcore.owner()).ok();
        }
        if let Some(queue) = &mut queue {
            count += seen.take(lcore, queue);
        }
    }
    count
}

#[test]
fn every_frame_is_received_by_who_is_there_or_by_who_stands_in() {
    lab::isolated!({
        const COUNT: u32 = 20_000;
        let wire = Wire::new();
        let exchange = Arc::new(LocalExchange::default());
        let ports = wire.primary(1, &exchange);
        let joined = wire.open(ProcType::Secondary, &exchange);
        let (seen, stop) = (Seen::new(COUNT), AtomicBool::new(false));
        let (stood_in, by_owner) = std::thread::scope(|scope| {
            let stopping = Stop(&stop);
            let primary = scope.spawn(|| {
                let lcore = wire.group.lcore("primary");
                stand_in(&ports, &lcore, &stop, &seen)
            });
            let sender = scope.spawn(|| wire.send(0..COUNT, &seen));
            let mut by_owner = 0;
            let mut round = 0;
            while seen.count() < COUNT as usize - 1000 {
                round += 1;
                seen.wait_for(seen.count() + 500);
                let lcore = wire.group.lcore("owner");
                let mut queue = rx(first(&joined), 0, &lcore);
                assert!(!queue.is_wanted());
                assert_eq!(wanted(wire.group.region), Owner::NONE);
                let (until, enough) = (Instant::now() + WAIT, seen.count() + 500);
                while seen.count() < enough.min(COUNT as usize) && Instant::now() < until {
                    by_owner += seen.take(&lcore, &mut queue);
                }
                if round % 2 == 0 {
                    // Death: the owner word stays, its slot is nobody's.
                    std::mem::forget(queue);
                }
            }
            sender.join().unwrap();
            seen.wait_for(COUNT as usize);
            drop(stopping);
            (primary.join().unwrap(), by_owner)
        });
        assert_eq!(seen.wrong(), []);
        assert!(stood_in > 1000 && by_owner > 1000, "{stood_in} {by_owner}");
    });
}

#[test]
fn queue_is_kept_from_nobody_for_ever_by_who_asked_and_did_not_come() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("primary");
    let stand_in = || first(&ports).rx_queue_stand_in(QueueId(0), lcore.owner());
    let queue = stand_in().unwrap();
    assert!(!queue.is_wanted());
    assert_eq!(first(&ports).absent_rx_queues().count(), 0);
    assert!(
        matches!(stand_in(), Err(Error::Taken { .. })),
        "ours already"
    );
    let ask = |owner: Owner| {
        record(group.region)
            .wanted
            .store(owner.bits(), eal::sync::Ordering::Relaxed);
    };
    // One that died since.
    let dead = group.lcore("dies").owner();
    ask(dead);
    assert!(queue.is_wanted());
    drop(queue);
    assert_eq!(first(&ports).absent_rx_queues().count(), 1);
    let queue = stand_in().unwrap();
    assert!(!queue.is_wanted());
    // One that is stopped: it is given a while.
    let stopped = group.lcore("stopped");
    ask(stopped.owner());
    drop(queue);
    let slot = stopped.slot_id().get();
    assert!(matches!(stand_in(), Err(Error::Taken { slot: s, .. }) if s == slot));
    let until = Instant::now() + WAIT;
    let mut queue = stand_in();
    while queue.is_err() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
        queue = stand_in();
    }
    assert!(!queue.unwrap().is_wanted());
    // Who takes a queue for itself lets nobody wait for it.
    let own = rx(first(&ports), 0, &lcore);
    ask(dead);
    assert!(!own.is_wanted());
    let refused = first(&group.secondary()).rx_queue(QueueId(0), stopped.owner());
    assert!(matches!(refused, Err(Error::Taken { .. })));
    assert_eq!(wanted(group.region), dead, "nothing was asked");
}

/// It looked at the port before it waited; what it would have now is a queue of a port that may be configured at any moment.
#[test]
fn who_gets_a_queue_after_the_port_was_stopped_gives_it_back() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let joined = group.secondary();
    let lcore = group.lcore("primary");
    let queue = first(&ports).rx_queue_stand_in(QueueId(0), lcore.owner());
    let queue = queue.unwrap();
    let slot = group.lcore("waits");
    let owner = slot.owner();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| first(&joined).rx_queue(QueueId(0), owner).map(drop));
        let until = Instant::now() + WAIT;
        while !queue.is_wanted() && Instant::now() < until {
            std::thread::yield_now();
        }
        first(&ports).stop().unwrap();
        drop(queue);
        let refused = waiting.join().unwrap().unwrap_err();
        assert!(matches!(refused, Error::WrongState { .. }), "{refused}");
    });
    assert_eq!(first(&ports).absent_rx_queues().count(), 1);
    group.start(first(&ports), 1, 1);
}

#[test]
fn secondary_does_not_stand_in() {
    let group = Group::new();
    let ports = group.primary(&["net_null0"]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("secondary");
    let refused = first(&group.secondary()).rx_queue_stand_in(QueueId(0), lcore.owner());
    assert!(matches!(refused, Err(Error::NotPrimary { .. })));
}

const PLACE: &str = "FOREBAY_TEST_STAND_IN";

fn config(place: PathBuf, proc_type: ProcType) -> RegionConfig {
    RegionConfig {
        runtime_dir: Some(place),
        proc_type,
        huge: HugeChoice::Never,
        program: "test".into(),
        ..RegionConfig::new("lab", 4 << 20)
    }
}

fn kept(region: Region) -> &'static Region {
    Box::leak(Box::new(region))
}

/// A primary that stands in and never looks who wants the queue: not a test of its own.
#[test]
fn other_process() {
    let Some(place) = std::env::var_os(PLACE) else {
        return;
    };
    let region = kept(
        Region::join(&config(place.into(), ProcType::Primary))
            .unwrap()
            .0,
    );
    let pool = Pool::create(region, &PoolConfig::new("packets", 256)).unwrap();
    let exchange = Arc::new(LocalExchange::default());
    let vdevs = ["net_null0".to_owned()];
    let ports = Ports::open(region, ProcType::Primary, &vdevs, exchange).unwrap();
    let port = first(&ports);
    port.configure(1, 0, &PortConfig::default()).unwrap();
    port.rx_queue_setup(QueueId(0), 0, pool).unwrap();
    port.start().unwrap();
    let lcore = Lcore::new(Slot::claim(region, "stand-in").unwrap());
    let _queue = port.rx_queue_stand_in(QueueId(0), lcore.owner()).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n>ready").unwrap();
    out.flush().unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn who_waits_for_a_stand_in_that_is_killed_gets_the_queue_and_one_that_stays_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::stand_in::other_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(PLACE, dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == ">ready"));
    let place = dir.path().to_owned();
    let region = kept(Region::join(&config(place, ProcType::Secondary)).unwrap().0);
    let exchange = Arc::new(LocalExchange::default());
    let ports = Ports::open(region, ProcType::Secondary, &[], exchange).unwrap();
    let lcore = Lcore::new(Slot::claim(region, "waits").unwrap());
    let owner = lcore.owner();
    let claim = || first(&ports).rx_queue(QueueId(0), owner).map(drop);
    let pid = child.id();
    let refused = claim().unwrap_err();
    assert!(
        matches!(refused, Error::Taken { pid: p, .. } if p == pid),
        "{refused}"
    );
    assert_eq!(wanted(region), Owner::NONE, "who gives up wants nothing");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(claim);
        let until = Instant::now() + WAIT;
        while wanted(region) != owner && Instant::now() < until {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        waiting.join().unwrap().unwrap();
    });
    child.wait().unwrap();
    assert_eq!(wanted(region), Owner::NONE);
    std::fs::remove_dir_all(dir.path()).unwrap();
}
