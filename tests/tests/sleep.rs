//! Groups that sleep when there is nothing to do, and miss nothing.
#![forbid(unsafe_code)]

use std::time::Duration;

use forebay::eal::process::SlotState;
use forebay::eal::{Observer, SlotRecord};
use forebay_tests::{Group, Setup, World, frame, wait_for};
use lab::{FrameSocket, Signal};

/// How long a packet may take that nothing keeps.
const PATIENCE: Duration = Duration::from_secs(5);
/// Sleeps, each ended by one packet.
const SLEEPS: u32 = 100;

fn observe(group: &Group<'_>) -> &'static Observer {
    let observer = Observer::open(Some(group.runtime_dir()), group.prefix());
    Box::leak(Box::new(observer.unwrap()))
}

/// The threads that move packets: the server and its clients.
fn threads(observer: &'static Observer) -> impl Iterator<Item = &'static SlotRecord> {
    let slots = observer.region().slots().iter();
    slots.filter(|slot| slot.state().0 == SlotState::Live && slot.name() != "guard")
}

fn sleeps(slot: &SlotRecord) -> bool {
    slot.sleeping.load(std::sync::atomic::Ordering::Relaxed) != 0
}

/// Waits until `count` threads sleep at once.
fn all_asleep(observer: &'static Observer, count: usize) {
    wait_for("sleep of all", || {
        let asleep = threads(observer).filter(|slot| sleeps(slot)).count();
        (asleep == count).then_some(())
    });
}

/// Sends one frame, and takes it on the other side.
fn one_across(from: &FrameSocket, to: &FrameSocket, number: u32) {
    from.send(&frame::numbered(number, 100)).unwrap();
    loop {
        let arrived = to.receive(PATIENCE).unwrap();
        let arrived = arrived.unwrap_or_else(|| panic!("packet {number} was lost in a sleep"));
        match frame::number(&arrived) {
            Some(seen) if seen == number => return,
            // What the hosts say to each other, or twice.
            _ => {}
        }
    }
}

#[test]
fn first_packet_after_each_sleep_arrives() {
    lab::isolated!({
        let world = World::new();
        world.introduce();
        let (west, east) = (&world.west, &world.east);
        let open = |host| FrameSocket::open(host, "eth0").unwrap();
        for queues in ["server", "each"] {
            let group = Group::start(&world, Setup::with(2, &["--queues", queues]));
            let observer = observe(&group);
            let (from, to) = (open(west), open(east));
            for number in 0..SLEEPS {
                all_asleep(observer, 3);
                one_across(&from, &to, number);
            }
            for slot in threads(observer) {
                assert!(slot.run.sleeps.get() > 0, "{} never slept", slot.name());
                assert_eq!(slot.run.late.get(), 0, "{} was not woken", slot.name());
            }
            group.finish();
        }
    });
}

#[test]
fn who_polls_does_not_sleep() {
    lab::isolated!({
        let world = World::new();
        let mut group = Group::start_server(&world, Setup::with(1, &["--busy-poll"]));
        let mut client = group.client_command(0);
        client.arg("--busy-poll");
        group.start_client_with(0, client);
        let observer = observe(&group);
        world.ping_both_ways();
        let rounds = || threads(observer).map(|slot| slot.run.loops.get()).min();
        let before = rounds();
        wait_for("many rounds", || {
            (rounds() > before.map(|count| count + 100_000)).then_some(())
        });
        assert_eq!(
            threads(observer)
                .map(|slot| slot.run.sleeps.get())
                .sum::<u64>(),
            0
        );
        group.finish();
    });
}

/// The server reads the queue of a client that died in its sleep, and gives it back to who comes: both while it sleeps itself.
#[test]
fn sleeping_server_sees_who_dies_and_who_comes() {
    lab::isolated!({
        let world = World::new();
        world.introduce();
        let mut group = Group::start(&world, Setup::with(2, &["--queues", "each"]));
        let observer = observe(&group);
        let open = |host| FrameSocket::open(host, "eth0").unwrap();
        let (from, to) = (open(&world.west), open(&world.east));
        for number in 0..10 {
            all_asleep(observer, 3);
            let id = number % 2;
            let pid = group.client(id).pid();
            drop(group.take_client(id).kill());
            wait_for("sweep", || {
                let mut slots = observer.region().slots().iter();
                (!slots.any(|slot| slot.pid() == pid && slot.state().0 != SlotState::Free))
                    .then_some(())
            });
            // All flows arrive, also those of the dead one.
            for flow in 0..8 {
                one_across(&from, &to, 100 * (number + 1) + flow);
            }
            all_asleep(observer, 2);
            group.start_client(id);
            one_across(&from, &to, 100 * (number + 1) + 50);
        }
        group.finish();
    });
}

#[test]
fn sleeper_is_stopped_by_a_signal_and_woken_when_it_goes_on() {
    lab::isolated!({
        let world = World::new();
        world.introduce();
        let mut group = Group::start(&world, Setup::lesson(2));
        let observer = observe(&group);
        let open = |host| FrameSocket::open(host, "eth0").unwrap();
        let (from, to) = (open(&world.west), open(&world.east));
        all_asleep(observer, 3);
        // Rung while it cannot hear.
        for id in [0, 1] {
            group.client(id).signal(Signal::STOP);
        }
        for number in 0..50 {
            from.send(&frame::numbered(number, 100)).unwrap();
        }
        wait_for("the server's work", || {
            (group.fresh_sample().rx() >= 50).then_some(())
        });
        for id in [0, 1] {
            group.client(id).signal(Signal::CONT);
        }
        let mut seen = 0;
        while seen < 50 {
            let arrived = to.receive(PATIENCE).unwrap();
            let arrived = arrived.unwrap_or_else(|| panic!("{seen} of 50 arrived"));
            seen += u32::from(frame::number(&arrived).is_some());
        }
        all_asleep(observer, 3);
        let ended = group.stop_client(1);
        assert_eq!(ended.status.code(), Some(0), "{ended}");
        group.finish();
    });
}
