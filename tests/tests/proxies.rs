//! Ports whose queues the server drives for its clients.
#![forbid(unsafe_code)]

use std::thread;
use std::time::{Duration, Instant};

use forebay_tests::{DEADLINE, Group, Setup, World, capture, frame, wait_for};
use lab::{FrameSocket, Offloads, Transfer, Watch};

const MIB: u64 = 1 << 20;

/// Kinds of ports, on a world that has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Packets,
    Taps,
}

fn world(kind: Kind) -> World {
    match kind {
        Kind::Packets => World::new(),
        Kind::Taps => World::bare(),
    }
}

fn start<'w>(world: &'w World, kind: Kind, queues: &str) -> Group<'w> {
    let vdevs = match kind {
        Kind::Packets => [0, 1].map(|port| format!("net_af_packet{port},iface=veth{port}")),
        // Nobody but the server has descriptors of them.
        Kind::Taps => world.taps().map(|vdev| vdev + ",persist=1"),
    };
    let setup = Setup {
        vdevs: vdevs.map(|vdev| vdev + ",share=proxy").into(),
        ..Setup::with(2, &["--queues", queues])
    };
    let mut group = Group::start_server(world, setup);
    if kind == Kind::Taps {
        world.dress(1500, Offloads::ON);
    }
    for id in 0..2 {
        group.start_client(id);
    }
    group
}

#[test]
fn traffic_crosses_by_way_of_the_server() {
    lab::isolated!({
        for kind in [Kind::Packets, Kind::Taps] {
            for queues in ["server", "each"] {
                let world = world(kind);
                let group = start(&world, kind, queues);
                world.ping_both_ways();
                for _ in 0..4 {
                    world.transfer(World::EAST, 2 * MIB);
                }
                let sample = group.settle();
                let sent = sample.tx_by_client();
                assert!(
                    sent.iter().all(|sent| *sent > 0),
                    "{kind:?} {queues}: {sent:?}"
                );
                let clients = sample.json()["clients"].as_array().unwrap();
                let dropped = clients.iter().map(|client| &client["tx_drop"]);
                for dropped in dropped {
                    assert_eq!(dropped, &serde_json::json!([0, 0]), "{:?}", sample.json());
                }
                group.finish();
            }
        }
    });
}

/// Kills a client, and the server, under a transfer, which has to go on and arrive as it was sent.
#[test]
fn transfer_goes_on_across_kills_of_clients_and_server() {
    lab::isolated!({
        for kind in [Kind::Packets, Kind::Taps] {
            for queues in ["server", "each"] {
                let world = world(kind);
                let mut group = start(&world, kind, queues);
                world.ping_both_ways();
                let watch = Watch::default();
                let transfer = Transfer {
                    stall: Duration::from_secs(60),
                    ..Transfer::new(u64::MAX, 0x5eed)
                };
                let to = (&world.east, World::EAST);
                let report = thread::scope(|scope| {
                    let running =
                        scope.spawn(|| lab::tcp_transfer(&world.west, to, &transfer, &watch));
                    let moves_on = || {
                        let (start, before) = (Instant::now(), watch.received());
                        while watch.received() <= before && start.elapsed() < DEADLINE {
                            thread::sleep(Duration::from_millis(1));
                        }
                        watch.received() > before
                    };
                    let mut moved = moves_on();
                    for _ in 0..3 {
                        for id in 0..2 {
                            group.take_client(id).kill();
                            group.start_client(id);
                            moved &= moves_on();
                        }
                        group.take_server().kill();
                        group.open();
                        moved &= moves_on();
                    }
                    watch.finish();
                    assert!(moved, "{kind:?} {queues}: the transfer stood still");
                    running.join().expect("it does not panic")
                });
                assert!(report.unwrap().is_intact(), "{kind:?} {queues}");
                world.ping_both_ways();
                group.finish();
            }
        }
    });
}

/// A TAP of which only the server has descriptors goes with it, and its host's address goes too. The next server makes one that is up.
#[test]
fn tap_that_went_with_its_server_carries_traffic_with_the_next() {
    lab::isolated!({
        let world = World::bare();
        let setup = Setup {
            vdevs: world.taps().map(|vdev| vdev + ",share=proxy").into(),
            ..Setup::with(2, &["--queues", "each"])
        };
        let mut group = Group::start_server(&world, setup);
        world.dress(1500, Offloads::ON);
        for id in 0..2 {
            group.start_client(id);
        }
        world.ping_both_ways();
        group.take_server().kill();
        group.open();
        for (host, address) in [(&world.west, "10.0.0.1/24"), (&world.east, "10.0.0.2/24")] {
            host.address("eth0", address).unwrap();
        }
        world.ping_both_ways();
        group.finish();
    });
}

/// While nobody serves, a client's queues take nothing, and it counts that; afterwards all is as before.
#[test]
fn queues_stand_still_while_there_is_no_server() {
    lab::isolated!({
        let world = world(Kind::Packets);
        let mut group = start(&world, Kind::Packets, "each");
        world.ping_both_ways();
        group.take_server().kill();
        let ping = lab::Ping {
            count: 5,
            timeout: Duration::from_millis(200),
            ..lab::Ping::default()
        };
        assert_eq!(
            lab::ping(&world.west, World::EAST, &ping).unwrap().received,
            0
        );
        group.open();
        world.ping_both_ways();
        group.finish();
    });
}

/// The file that clients write has each packet whole and once, however often a client or the server is killed: a server that
/// comes goes on at its end.
#[test]
fn capture_is_whole_after_kills() {
    lab::isolated!({
        let dir = tempfile::tempdir().unwrap();
        let world = World::new();
        world.introduce();
        let (input, output) = (dir.path().join("in"), dir.path().join("out"));
        capture::write(&input, capture::Format::Pcap, &[]);
        let vdevs = [
            "net_af_packet0,iface=veth0".to_owned(),
            format!(
                "net_pcap1,rx_pcap={},tx_pcap={}",
                input.display(),
                output.display()
            ),
        ];
        let mut group = Group::start(&world, Setup::ports(2, &vdevs));
        let wire = FrameSocket::open(&world.west, "eth0").unwrap();
        let mut number = 0;
        let mut send = |group: &Group<'_>, count: u32| {
            let before = group.sample().tx();
            for _ in 0..count {
                wire.send(&frame::numbered(number, 60 + number as usize % 1400))
                    .unwrap();
                number += 1;
                thread::sleep(Duration::from_micros(200));
            }
            wait_for("some to pass", || {
                (group.sample().tx() > before).then_some(())
            });
        };
        send(&group, 200);
        for _ in 0..3 {
            group.take_client(0).kill();
            send(&group, 200);
            group.start_client(0);
            send(&group, 200);
            // One that is killed while it receives or writes may leave a packet to be received again, or a record cut short.
            group.settle();
            group.take_server().kill();
            group.open();
            // Clients that are there have to be seen again.
            wait_for("both clients", || {
                let sample = group.sample();
                (sample.is_present(0) && sample.is_present(1)).then_some(())
            });
            send(&group, 200);
        }
        group.settle();
        group.finish();
        let out = capture::read(&output);
        let of_test = |packet: &&Vec<u8>| packet.get(12..14) == Some(&[0x88, 0xb5]);
        let mut numbers: Vec<_> = out
            .iter()
            .filter(of_test)
            .map(|packet| frame::number(packet).expect("a packet was torn"))
            .collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count, "a packet was written twice");
        assert!(count > 1200, "{count} of {number}");
    });
}
