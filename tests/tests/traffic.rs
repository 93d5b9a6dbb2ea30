//! Real packets between two hosts, through a server and its clients.
#![forbid(unsafe_code)]

use std::thread;

use forebay_tests::{DEADLINE, Group, Setup, World, frame};
use lab::{FrameSocket, Offloads, Ping, Transfer, Watch};

const MIB: u64 = 1 << 20;

#[test]
fn ping_crosses_in_both_directions() {
    lab::isolated!({
        let world = World::new();
        let group = Group::start(&world, Setup::lesson(2));
        world.ping_both_ways();
        let sample = group.settle();
        assert!(
            sample.client_rx(0) > 0 && sample.client_rx(1) > 0,
            "{:?}",
            sample.json()
        );
        assert_eq!(
            sample.rx(),
            sample.tx() + sample.dropped(),
            "{:?}",
            sample.json()
        );
        group.finish();
    });
}

#[test]
fn nothing_crosses_without_a_group() {
    lab::isolated!({
        let world = World::new();
        let ping = Ping {
            count: 3,
            timeout: std::time::Duration::from_millis(200),
            ..Ping::default()
        };
        assert_eq!(
            lab::ping(&world.west, World::EAST, &ping).unwrap().received,
            0
        );
    });
}

#[test]
fn tcp_arrives_intact_with_offloads_on() {
    lab::isolated!({
        let world = World::with(1500, Offloads::ON);
        world.speak_ipv6();
        let group = Group::start(&world, Setup::lesson(2));
        world.ping_both_ways();
        world.transfer(World::EAST, 20 * MIB);
        world.transfer(World::EAST_V6, 5 * MIB);
        group.finish();
    });
}

#[test]
fn tcp_arrives_intact_with_offloads_off() {
    lab::isolated!({
        let world = World::with(1500, Offloads::OFF);
        world.speak_ipv6();
        let group = Group::start(&world, Setup::lesson(2));
        world.ping_both_ways();
        world.transfer(World::EAST, 10 * MIB);
        world.transfer(World::EAST_V6, 2 * MIB);
        group.finish();
    });
}

/// The sender leaves checksums and segmentation to a receiver that does neither itself.
#[test]
fn offloads_of_one_cable_alone_are_made_up_for() {
    lab::isolated!({
        let world = World::with(1500, Offloads::ON);
        for (host, iface) in [(&world.middle, "veth1"), (&world.east, "eth0")] {
            host.offloads(iface, Offloads::OFF).unwrap();
        }
        let group = Group::start(&world, Setup::lesson(2));
        world.ping_both_ways();
        world.transfer(World::EAST, 5 * MIB);
        group.finish();
    });
}

#[test]
fn traffic_of_vlan_interfaces_crosses() {
    lab::isolated!({
        for offloads in [Offloads::ON, Offloads::OFF] {
            let world = World::with(1500, offloads);
            for (host, number) in [(&world.west, 1), (&world.east, 2)] {
                if let Err(error) = host.vlan("eth0", 100, "eth0.100") {
                    return forebay_tests::skip("VLAN interfaces", &error.to_string());
                }
                host.address("eth0.100", &format!("10.1.0.{number}/24"))
                    .unwrap();
                host.up("eth0.100").unwrap();
            }
            let group = Group::start(&world, Setup::lesson(2));
            world.ping_both_ways();
            let east = [10, 1, 0, 2].into();
            let ping = Ping {
                count: 10,
                ..Ping::default()
            };
            lab::ping(&world.west, east, &ping).unwrap();
            assert_eq!(lab::ping(&world.west, east, &ping).unwrap().lost(), 0);
            world.transfer(east, 5 * MIB);
            group.finish();
        }
    });
}

#[test]
fn tagged_frames_cross_with_their_tags() {
    lab::isolated!({
        for offloads in [Offloads::ON, Offloads::OFF] {
            let world = World::with(1500, offloads);
            let group = Group::start(&world, Setup::lesson(1));
            let open = |host| FrameSocket::open(host, "eth0").unwrap();
            let (west, east) = (open(&world.west), open(&world.east));
            let plain = frame::numbered(1, 100);
            // A tag, one with a priority, a provider's tag, and one tag inside another.
            let tags: [&[u8]; 4] = [
                &[0x81, 0x00, 0x00, 0x64],
                &[0x81, 0x00, 0xa0, 0x64],
                &[0x88, 0xa8, 0x00, 0x65],
                &[0x88, 0xa8, 0x00, 0x65, 0x81, 0x00, 0x00, 0x64],
            ];
            for tag in tags {
                let mut tagged = plain.clone();
                tagged.splice(12..12, tag.iter().copied());
                west.send(&tagged).unwrap();
                let is_of_test = |frame: &Vec<u8>| frame.windows(2).any(|two| two == [0x88, 0xb5]);
                let arrived = loop {
                    let frame = east
                        .receive(DEADLINE)
                        .unwrap()
                        .expect("a tagged frame arrives");
                    if is_of_test(&frame) {
                        break frame;
                    }
                };
                assert!(
                    arrived == tagged,
                    "{tag:x?}, {offloads:?}: {:x?}",
                    &arrived[..32]
                );
            }
            group.finish();
        }
    });
}

#[test]
fn jumbo_frames_cross() {
    lab::isolated!({
        for offloads in [Offloads::ON, Offloads::OFF] {
            let world = World::with(9000, offloads);
            let group = Group::start(&world, Setup::lesson(2));
            world.ping_both_ways();
            let ping = Ping {
                payload_len: 8900,
                ..Ping::default()
            };
            assert_eq!(
                lab::ping(&world.west, World::EAST, &ping).unwrap().lost(),
                0
            );
            world.transfer(World::EAST, 20 * MIB);
            group.finish();
        }
    });
}

#[test]
fn both_directions_carry_traffic_at_once() {
    lab::isolated!({
        let world = World::new();
        let group = Group::start(&world, Setup::lesson(2));
        world.ping_both_ways();
        thread::scope(|scope| {
            scope.spawn(|| world.transfer(World::EAST, 10 * MIB));
            let back = Transfer::new(10 * MIB, 7);
            let report = lab::tcp_transfer(
                &world.east,
                (&world.west, World::WEST),
                &back,
                &Watch::default(),
            );
            assert!(report.unwrap().is_intact());
        });
        group.finish();
    });
}

#[test]
fn one_client_alone_carries_everything() {
    lab::isolated!({ carry(Setup::lesson(1)) });
}

#[test]
fn four_clients_share_the_traffic() {
    lab::isolated!({ carry(Setup::lesson(4)) });
}

#[test]
fn one_client_with_queues_of_its_own_carries_everything() {
    lab::isolated!({ carry(Setup::with(1, &["--queues", "each"])) });
}

#[test]
fn two_clients_with_queues_of_their_own_share_the_traffic() {
    lab::isolated!({ carry(Setup::with(2, &["--queues", "each"])) });
}

#[test]
fn four_clients_with_queues_of_their_own_share_the_traffic() {
    lab::isolated!({ carry(Setup::with(4, &["--queues=each"])) });
}

#[test]
fn flows_kept_together_arrive_intact() {
    lab::isolated!({ carry(Setup::with(2, &["--dispatch", "rss"])) });
}

#[test]
fn tcp_arrives_through_the_smallest_rings() {
    lab::isolated!({ carry(Setup::with(2, &["--ring-size", "32"])) });
}

/// Eight flows, so that a hash spreads them too; then several clients have had work, if there are several.
fn carry(setup: Setup) {
    let world = World::new();
    let group = Group::start(&world, setup);
    world.ping_both_ways();
    for _ in 0..8 {
        world.transfer(World::EAST, MIB);
    }
    let sample = group.settle();
    let sent: Vec<u64> = sample.tx_by_client();
    let busy = sent.iter().filter(|sent| **sent > 0).count();
    assert!(busy >= sent.len().min(2), "{sent:?}: {:?}", sample.json());
    group.finish();
}
