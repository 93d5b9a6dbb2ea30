//! `net_tap` ports between the stacks of two hosts: the wires of west and east end in a server and its clients.
#![forbid(unsafe_code)]

use std::process::Command;

use forebay_tests::{Group, Process, Setup, World, program, wait_for};
use lab::{Offloads, Transfer, Watch};

const MIB: u64 = 1 << 20;

fn setup(world: &World, clients: u32, queues: &str) -> Setup {
    Setup {
        vdevs: world.taps().into(),
        ..Setup::with(clients, &["--queues", queues])
    }
}

/// Hosts on TAPs, and a group that carries between them.
fn start<'w>(world: &'w World, clients: u32, queues: &str, offloads: Offloads) -> Group<'w> {
    let mut group = Group::start_server(world, setup(world, clients, queues));
    world.dress(1500, offloads);
    for id in 0..clients {
        group.start_client(id);
    }
    group
}

/// Packets longer than the MTU allows a frame to be are in segments more than they are in packets.
fn large(group: &Group<'_>) -> u64 {
    let sample = group.settle();
    let ports = sample.json()["ports"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let sum = |key: &str| -> u64 { ports.iter().filter_map(|port| port[key].as_u64()).sum() };
    sum("rx_segments") - sum("rx_packets")
}

#[test]
fn tcp_arrives_intact_through_taps_with_large_segments() {
    lab::isolated!({
        for (clients, queues) in [(1, "server"), (2, "server"), (2, "each"), (4, "each")] {
            let world = World::bare();
            let group = start(&world, clients, queues, Offloads::ON);
            world.ping_both_ways();
            for _ in 0..4 {
                world.transfer(World::EAST, 4 * MIB);
            }
            world.transfer(World::EAST_V6, 4 * MIB);
            let large = large(&group);
            assert!(
                large > 1000,
                "{clients} {queues}: {large} segments came in larger packets"
            );
            group.finish();
        }
    });
}

#[test]
fn tcp_arrives_intact_through_taps_without_offloads() {
    lab::isolated!({
        let world = World::bare();
        let group = start(&world, 2, "server", Offloads::OFF);
        world.ping_both_ways();
        world.transfer(World::EAST, 10 * MIB);
        world.transfer(World::EAST_V6, 2 * MIB);
        assert_eq!(large(&group), 0);
        group.finish();
    });
}

/// From a TAP whose host leaves checksums and cutting to us to a cable whose far end does neither itself.
#[test]
fn tap_and_cable_exchange_what_either_leaves_open() {
    lab::isolated!({
        let world = World::with(1500, Offloads::OFF);
        // West's cable is cut; it gets a TAP of that name.
        world.west.remove("eth0").unwrap();
        let [tap, _] = world.taps();
        let setup = Setup {
            vdevs: vec![tap, "net_af_packet1,iface=veth1".to_owned()],
            ..Setup::lesson(2)
        };
        let mut group = Group::start_server(&world, setup);
        world.west.address("eth0", "10.0.0.1/24").unwrap();
        for id in 0..2 {
            group.start_client(id);
        }
        world.ping_both_ways();
        world.transfer(World::EAST, 8 * MIB);
        let back = Transfer::new(8 * MIB, 7);
        let watch = Watch::default();
        let report = lab::tcp_transfer(&world.east, (&world.west, World::WEST), &back, &watch);
        assert!(report.unwrap().is_intact());
        group.finish();
    });
}

#[test]
fn clients_need_no_privilege_for_taps() {
    lab::isolated!({
        let world = World::bare();
        let mut group = Group::start_server(&world, setup(&world, 1, "each"));
        world.dress(1500, Offloads::ON);
        let command = group.client_command(0);
        let mut poor = world.in_middle(Command::new("setpriv"));
        poor.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
        poor.arg(command.get_program()).args(command.get_args());
        group.start_client_with(0, poor);
        let status = std::fs::read_to_string(format!("/proc/{}/status", group.pids()[1])).unwrap();
        let caps = status.lines().find(|line| line.starts_with("CapEff:"));
        assert!(caps.unwrap().ends_with("0000000000000000"), "{caps:?}");
        world.ping_both_ways();
        world.transfer(World::EAST, 4 * MIB);
        group.finish();
    });
}

/// The interfaces live on in whoever has a descriptor: their addresses are still there for the next primary.
#[test]
fn taps_survive_each_kill_of_primary_and_clients() {
    lab::isolated!({
        for queues in ["server", "each"] {
            let world = World::bare();
            let mut group = start(&world, 2, queues, Offloads::ON);
            world.ping_both_ways();
            let index = world.east.index("eth0").unwrap();
            for _ in 0..3 {
                for id in 0..2 {
                    group.take_client(id).kill();
                    group.start_client(id);
                    world.ping_both_ways();
                }
                group.take_server().kill();
                if queues == "each" {
                    // Clients have all that they need.
                    world.ping_both_ways();
                }
                group.open();
                world.ping_both_ways();
                world.transfer(World::EAST, 2 * MIB);
            }
            assert_eq!(world.east.index("eth0").unwrap(), index, "it was made anew");
            group.finish();
            // Nobody holds it any more.
            wait_for("the interface to go", || {
                (!world.east.has("eth0")).then_some(())
            });
        }
    });
}

#[test]
fn what_keeps_a_tap_from_being_made_is_said_in_one_line() {
    lab::isolated!({
        let world = World::new();
        let group = Group::start(&world, busy());
        for (vdev, reason) in [
            ("net_tap0,iface=veth0", "no TAP (veth)"),
            ("net_tap0,iface=busy", "is in use"),
            ("net_tap0,iface=a-name-of-17-byte", "17 bytes long"),
            ("net_tap0,ifcae=x", "did you mean iface?"),
        ] {
            let mut server = world.in_middle(Command::new(program("mp_server")));
            let dir = tempfile::tempdir().unwrap();
            server
                .args(["--log-level=error", "--file-prefix=other", "--runtime-dir"])
                .arg(dir.path());
            server.args([
                &format!("--vdev={vdev}"),
                "--vdev=net_null1",
                "--",
                "-p",
                "3",
                "-n",
                "1",
            ]);
            let ended = Process::run(&mut server);
            assert!(ended.status.code().is_some_and(|code| code > 0), "{ended}");
            let [line] = &ended.stderr[..] else {
                panic!("not one line: {ended}")
            };
            assert!(line.contains(reason), "{vdev}: {line}");
        }
        group.finish();
    });
}

fn busy() -> Setup {
    Setup::ports(
        1,
        &[
            "net_tap0,iface=busy".to_owned(),
            "net_null1,no-rx=1".to_owned(),
        ],
    )
}
