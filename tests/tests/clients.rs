//! Clients that come, go, differ and share: the group around the traffic.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use forebay_tests::frame::{self, Stream};
use forebay_tests::{Group, Process, Setup, World};
use lab::FrameSocket;

/// Packets that a client can hold: its ring, a burst in hand, and a TX buffer for each port.
const HELD_MAX: u64 = 128 + 32 + 2 * 32;

#[test]
fn client_that_joins_late_gets_its_share() {
    lab::isolated!({
        let world = World::new();
        let mut group = Group::start_server(&world, Setup::lesson(2));
        group.start_client(0);
        world.ping_both_ways();
        assert_eq!(group.settle().client_rx(1), 0);
        group.start_client(1);
        world.ping_both_ways();
        assert!(group.settle().client_rx(1) > 0);
        group.finish();
    });
}

#[test]
fn client_that_leaves_is_not_missed_and_may_come_back() {
    lab::isolated!({
        let world = World::new();
        let mut group = Group::start(&world, Setup::lesson(2));
        world.ping_both_ways();
        for _ in 0..3 {
            group.stop_client(1);
            let before = group.settle().client_rx(1);
            world.ping_both_ways();
            assert_eq!(group.settle().client_rx(1), before);
            group.start_client(1);
            world.ping_both_ways();
            assert!(group.settle().client_rx(1) > before);
        }
        group.finish();
    });
}

#[test]
fn all_clients_may_leave_and_come_back() {
    lab::isolated!({
        let world = World::new();
        for queues in ["server", "each"] {
            let mut group = Group::start(&world, Setup::with(2, &["--queues", queues]));
            world.ping_both_ways();
            for id in [0, 1] {
                group.stop_client(id);
            }
            group.check();
            for id in [1, 0] {
                group.start_client(id);
            }
            world.ping_both_ways();
            group.finish();
        }
    });
}

#[test]
fn client_replaced_under_load_loses_at_most_what_it_held() {
    lab::isolated!({
        let world = World::new();
        let group = Group::start(&world, Setup::lesson(2));
        replace_under_load(&world, group, |client| {
            let ended = client.stop();
            assert_eq!(ended.status.code(), Some(0), "{ended}");
        })
        .finish();
    });
}

/// Packets that a killed client had in hand are lost, and no more than those; its buffers come back.
#[test]
fn killed_client_is_replaced_under_load_and_the_group_works_on() {
    lab::isolated!({
        let world = World::new();
        let group = Group::start(&world, Setup::lesson(2));
        let kill = |client: Process| drop(client.kill());
        let group = replace_under_load(&world, group, kill);
        world.ping_both_ways();
        world.transfer(World::EAST, 5 << 20);
        group.finish();
    });
}

/// Replaces clients while numbered frames cross, and counts those that are lost.
fn replace_under_load<'w>(world: &World, mut group: Group<'w>, end: impl Fn(Process)) -> Group<'w> {
    let mut stream = Stream::open(world, 200);
    let gap = Duration::from_micros(100);
    // Some packets first, so that what a fresh group loses is over.
    stream.send_while(gap, |sent| sent < 1000);
    let before = group.settle();
    let first = stream.sent();
    let arrived = stream.arrived(0);
    assert_eq!((arrived.damaged, arrived.duplicates), (0, 0), "{arrived:?}");

    let enough = AtomicBool::new(false);
    let replaced = thread::scope(|scope| {
        scope.spawn(|| stream.send_while(gap, |_| !enough.load(Ordering::Relaxed)));
        let replaced = [0, 1, 0, 1, 0, 1];
        for id in replaced {
            end(group.take_client(id));
            group.start_client(id);
            thread::sleep(Duration::from_millis(50));
        }
        enough.store(true, Ordering::Relaxed);
        replaced.len()
    });
    let after = group.settle();
    let arrived = stream.arrived(first);
    assert_eq!((arrived.damaged, arrived.duplicates), (0, 0), "{arrived:?}");
    let sent = u64::from(stream.sent() - first);
    let lost = sent - u64::try_from(arrived.count).unwrap();
    let counted = after.dropped() - before.dropped();
    let held = HELD_MAX * u64::try_from(replaced).unwrap();
    assert!(sent > 1000, "only {sent} sent, that is no load");
    assert!(
        lost <= counted + held,
        "{lost} of {sent} lost, {counted} counted, at most {held} held; {:?}",
        after.json()
    );
    group
}

#[test]
fn flow_stays_with_one_client_under_rss() {
    lab::isolated!({
        let world = World::new();
        world.introduce();
        let group = Group::start(&world, Setup::with(2, &["--dispatch", "rss"]));
        let wire = FrameSocket::open(&world.west, "eth0").unwrap();
        let mut chosen = BTreeSet::new();
        for flow in 0..24 {
            let before = group.settle();
            for number in 0..20 {
                wire.send(&frame::udp(1000 + flow, number)).unwrap();
            }
            let after = group.settle();
            let got = [0, 1].map(|id| after.client_rx(id) - before.client_rx(id));
            let owner = got.iter().position(|count| *count >= 20).unwrap();
            // What the hosts themselves say is not of this flow.
            assert!(got[1 - owner] < 10, "flow {flow}: {got:?}");
            chosen.insert(owner);
        }
        assert_eq!(chosen.len(), 2, "all flows with one client");
        group.finish();
    });
}

#[test]
fn flow_is_spread_round_robin() {
    lab::isolated!({
        let world = World::new();
        world.introduce();
        let group = Group::start(&world, Setup::lesson(2));
        let wire = FrameSocket::open(&world.west, "eth0").unwrap();
        let before = group.settle();
        for number in 0..40 {
            wire.send(&frame::udp(1000, number)).unwrap();
        }
        let after = group.settle();
        for id in [0, 1] {
            let got = after.client_rx(id) - before.client_rx(id);
            assert!((20..30).contains(&got), "client {id}: {got}");
        }
        group.finish();
    });
}

#[test]
fn release_built_secondary_joins_a_debug_built_primary() {
    lab::isolated!({
        let Some(release) = forebay_tests::release_program("mp_client") else {
            return forebay_tests::skip(
                "mixed builds",
                "FOREBAY_RELEASE_BIN_DIR names no release build",
            );
        };
        let world = World::new();
        let mut group = Group::start_server(&world, Setup::lesson(2));
        group.start_client(0);
        group.start_client_with(1, group.client_command_of(&release, 1));
        world.ping_both_ways();
        let sample = group.settle();
        assert!(
            sample.client_rx(0) > 0 && sample.client_rx(1) > 0,
            "{:?}",
            sample.json()
        );
        world.transfer(World::EAST, 5 << 20);
        group.finish();
    });
}

#[test]
fn processes_map_the_region_at_addresses_of_their_own() {
    lab::isolated!({
        let setting = fs::read_to_string("/proc/sys/kernel/randomize_va_space").unwrap();
        assert_ne!(
            setting.trim(),
            "0",
            "address randomisation is off on this machine"
        );
        let world = World::new();
        let group = Group::start(&world, Setup::lesson(4));
        let addresses: BTreeSet<_> = group
            .pids()
            .into_iter()
            .map(|pid| region_address(pid, group.prefix()))
            .collect();
        assert!(
            addresses.len() > 1,
            "five processes, one address: {addresses:?}"
        );
        world.ping_both_ways();
        group.finish();
    });
}

/// Where a process has mapped the largest shared file of the group.
fn region_address(pid: u32, prefix: &str) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mapping = |line: &str| {
        let is_of_group = line.contains(prefix) || line.contains("forebay");
        let shared = line.split_whitespace().nth(1)?.ends_with('s');
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (from, to) = (number(from)?, number(to)?);
        (is_of_group && shared).then_some((to - from, from))
    };
    let largest = maps.lines().filter_map(mapping).max();
    largest
        .unwrap_or_else(|| panic!("process {pid} has mapped no region:\n{maps}"))
        .1
}
