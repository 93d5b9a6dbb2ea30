//! Processes that die, stop, are upgraded or starve, and what the others notice of it.
#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use forebay::eal::Observer;
use forebay_tests::frame::Stream;
use forebay_tests::storm::guest;
use forebay_tests::{DEADLINE, Group, Process, Setup, World, wait_for};
use lab::{Signal, Transfer, TransferReport, Watch};

const MODES: [&str; 2] = ["server", "each"];
const CLIENTS: u32 = 2;

fn setup(queues: &str) -> Setup {
    Setup::with(CLIENTS, &["--queues", queues])
}

/// Ends a transfer that a failed test would otherwise wait for.
struct Cancel<'w>(&'w Watch);

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Runs `disturb` while a TCP transfer crosses; it gets a function that waits until more has arrived. The transfer has to
/// end in order and arrive as it was sent.
fn under_a_transfer(world: &World, disturb: impl FnOnce(&dyn Fn())) -> TransferReport {
    let watch = Watch::default();
    let transfer = Transfer {
        // While nobody forwards, TCP waits longer and longer between two attempts.
        stall: Duration::from_secs(60),
        ..Transfer::new(u64::MAX, 0x5eed)
    };
    let moves_on = || {
        let (start, before) = (Instant::now(), watch.received());
        while watch.received() <= before {
            assert!(
                start.elapsed() < DEADLINE,
                "the transfer stands still at {before} bytes"
            );
            thread::sleep(Duration::from_millis(1));
        }
    };
    let to = (&world.east, World::EAST);
    let report = thread::scope(|scope| {
        let running = scope.spawn(|| lab::tcp_transfer(&world.west, to, &transfer, &watch));
        let cancel = Cancel(&watch);
        moves_on();
        disturb(&moves_on);
        watch.finish();
        let report = running
            .join()
            .expect("the transfer's thread does not panic");
        drop(cancel);
        report
    });
    let report = report.unwrap_or_else(|error| panic!("{error}"));
    assert!(report.is_intact(), "{report:?}");
    report
}

#[test]
fn transfer_goes_on_across_ten_kills_of_each_process() {
    lab::isolated!({
        for queues in MODES {
            let world = World::new();
            let mut group = Group::start(&world, setup(queues));
            world.ping_both_ways();
            let report = under_a_transfer(&world, |moves_on| {
                for _ in 0..10 {
                    for id in 0..CLIENTS {
                        group.take_client(id).kill();
                        group.start_client(id);
                        moves_on();
                    }
                    group.take_server().kill();
                    group.open();
                    moves_on();
                }
            });
            println!("{queues}: {} bytes in {:?}", report.bytes, report.elapsed);
            world.ping_both_ways();
            group.finish();
        }
    });
}

#[test]
fn primary_is_upgraded_by_stopping_it_and_starting_the_next() {
    lab::isolated!({
        for queues in MODES {
            let world = World::new();
            let mut group = Group::start(&world, setup(queues));
            world.ping_both_ways();
            let clients = group.pids()[1..].to_vec();
            under_a_transfer(&world, |moves_on| {
                for _ in 0..3 {
                    let ended = group.take_server().stop();
                    assert_eq!(ended.status.code(), Some(0), "{queues}: {ended}");
                    group.open();
                    moves_on();
                }
            });
            assert_eq!(group.pids()[1..], clients, "the clients are the same");
            world.ping_both_ways();
            group.finish();
        }
    });
}

/// Without a primary the clients of `--queues each` have all that they need.
#[test]
fn clients_work_on_while_there_is_no_primary() {
    lab::isolated!({
        let world = World::new();
        let mut group = Group::start(&world, setup("each"));
        world.ping_both_ways();
        under_a_transfer(&world, |moves_on| {
            group.take_server().kill();
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(2) {
                moves_on();
            }
            group.open();
        });
        world.ping_both_ways();
        group.finish();
    });
}

/// What is meant for one that stands still is dropped and counted once its ring is full, and nothing else is lost.
#[test]
fn stopped_client_loses_what_is_counted_and_nothing_else() {
    lab::isolated!({
        let world = World::new();
        world.introduce();
        let group = Group::start(&world, Setup::lesson(CLIENTS));
        let mut stream = Stream::open(&world, 200);
        let gap = Duration::from_micros(200);
        stream.send_while(gap, |sent| sent < 100);
        let before = group.settle();
        let first = stream.sent();
        assert_eq!(stream.arrived(0).count, 100);

        group.client(0).signal(Signal::STOP);
        stream.send_while(gap, |sent| sent < 1000);
        let dropped = wait_for("drops to be counted", || {
            let dropped = group.settle().dropped() - before.dropped();
            (dropped > 0).then_some(dropped)
        });
        assert!(dropped < 500, "{dropped} of 1000: the other lost some too");
        group.client(0).signal(Signal::CONT);
        group.settle();
        let arrived = stream.arrived(first);
        let sent = u64::from(stream.sent() - first);
        let lost = sent - arrived.count as u64;
        assert_eq!(lost, dropped, "{arrived:?}");
        assert_eq!((arrived.damaged, arrived.duplicates), (0, 0), "{arrived:?}");
        world.ping_both_ways();
        group.finish();
    });
}

#[test]
fn stopped_client_takes_up_its_flows_again() {
    lab::isolated!({
        for queues in MODES {
            let world = World::new();
            let group = Group::start(&world, setup(queues));
            world.ping_both_ways();
            under_a_transfer(&world, |moves_on| {
                group.client(0).signal(Signal::STOP);
                thread::sleep(Duration::from_secs(1));
                group.client(0).signal(Signal::CONT);
                moves_on();
            });
            world.ping_both_ways();
            group.finish();
        }
    });
}

#[test]
fn primary_that_is_stopped_takes_up_its_work_again() {
    lab::isolated!({
        for queues in MODES {
            let world = World::new();
            let group = Group::start(&world, setup(queues));
            world.ping_both_ways();
            under_a_transfer(&world, |moves_on| {
                group.server().signal(Signal::STOP);
                let start = Instant::now();
                while start.elapsed() < Duration::from_secs(2) {
                    if queues == "each" {
                        moves_on();
                    }
                    thread::sleep(Duration::from_millis(10));
                }
                group.server().signal(Signal::CONT);
                moves_on();
            });
            world.ping_both_ways();
            group.finish();
        }
    });
}

/// How often an allocation found the pool empty, all slots together.
fn failed_allocations(group: &Group<'_>) -> u64 {
    let observer = Observer::open(Some(group.runtime_dir()), group.prefix()).unwrap();
    let slots = observer.region().slots();
    slots
        .iter()
        .map(|slot| slot.buffers.alloc_failed.get())
        .sum()
}

#[test]
fn dry_pool_drops_and_counts_and_recovers_by_itself() {
    lab::isolated!({
        for queues in MODES {
            let world = World::new();
            let group = Group::start(&world, setup(queues));
            world.ping_both_ways();
            // One that gives back in order, one that is killed and swept after.
            for end in [Process::stop, Process::kill] {
                let hoarder = guest::invite(group.prefix(), group.runtime_dir(), true);
                let before = failed_allocations(&group);
                let ping = lab::Ping {
                    count: 50,
                    timeout: Duration::from_millis(200),
                    ..lab::Ping::default()
                };
                lab::ping(&world.west, World::EAST, &ping).unwrap();
                wait_for("failed allocations to be counted", || {
                    (failed_allocations(&group) > before).then_some(())
                });
                for subcommand in ["list", "zones", "rings", "pools"] {
                    let ended = Process::run(&mut group.tool(subcommand));
                    assert_eq!(ended.status.code(), Some(0), "{subcommand}: {ended}");
                }
                end(hoarder);
                world.ping_both_ways();
            }
            group.finish();
        }
    });
}

/// Packets pile up for one that stands still; nothing of it is lost when it goes on.
#[test]
fn full_rings_of_a_stopped_client_empty_themselves() {
    lab::isolated!({
        let world = World::with(9000, lab::Offloads::ON);
        let group = Group::start(&world, Setup::with(CLIENTS, &["--ring-size", "1024"]));
        world.ping_both_ways();
        group.client(0).signal(Signal::STOP);
        let filled = || {
            let ping = lab::Ping {
                count: 200,
                payload_len: 8000,
                timeout: Duration::from_millis(1),
                ..lab::Ping::default()
            };
            // Most get no answer.
            let _ = lab::ping(&world.west, World::EAST, &ping);
            let sample = group.fresh_sample();
            (sample.json()["clients"][0]["rx_drop"].as_u64() > Some(0)).then_some(())
        };
        wait_for("the ring to be full", filled);
        for subcommand in ["list", "rings", "pools"] {
            let ended = Process::run(&mut group.tool(subcommand));
            assert_eq!(ended.status.code(), Some(0), "{subcommand}: {ended}");
        }
        group.client(0).signal(Signal::CONT);
        world.ping_both_ways();
        group.finish();
    });
}

#[test]
fn killed_client_with_a_full_ring_leaves_nothing_behind() {
    lab::isolated!({
        let world = World::new();
        let mut group = Group::start(&world, Setup::lesson(CLIENTS));
        world.ping_both_ways();
        let victim = group.take_client(0);
        victim.signal(Signal::STOP);
        let ping = lab::Ping {
            count: 100,
            timeout: Duration::from_millis(5),
            ..lab::Ping::default()
        };
        let _ = lab::ping(&world.west, World::EAST, &ping);
        victim.kill();
        group.start_client(0);
        world.ping_both_ways();
        group.finish();
    });
}
