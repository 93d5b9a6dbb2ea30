//! The commands of DPDK's `client_server_mp` lesson, letter by letter.
#![forbid(unsafe_code)]

use std::process::Command;

use forebay_tests::{Ended, Process, World, program, skip};

/// Splits a line as a shell does that meets no quotes.
fn command(world: &World, line: &str) -> Command {
    let mut words = line.split(' ');
    let mut command = world.command(words.next().unwrap());
    command.args(words);
    command
}

const SERVER: &str = "mp_server -l 1-2 -n 4 --vdev=net_af_packet0,iface=veth0 \
                      --vdev=net_af_packet1,iface=veth1 -- -p 0x3 -n 2";
const CLIENTS: [&str; 2] = [
    "mp_client -l 3 --proc-type=auto -- -n 0",
    "mp_client -l 4 --proc-type=auto -- -n 1",
];

fn tool(args: &[&str]) -> Ended {
    Process::run(Command::new(program("forebay")).args(args))
}

#[test]
fn commands_of_the_lesson_run_as_they_stand() {
    lab::isolated!({
        // They name no group, so they have the machine's default one: it may be somebody's.
        if tool(&["list", "--file-prefix", "rte"]).status.success() {
            return skip(
                "the lesson's commands",
                "a group \"rte\" runs on this machine",
            );
        }
        let world = World::new();
        let mut server = Process::start(&mut command(&world, SERVER));
        server.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
        let mut clients = CLIENTS.map(|line| Process::start(&mut command(&world, line)));
        for client in &mut clients {
            client.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
        }
        world.ping_both_ways();
        world.transfer(World::EAST, 5 << 20);

        let names = |args: &[&str]| {
            let ended = tool(args);
            assert!(ended.status.success(), "{args:?}: {ended}");
            ended.stdout.join("\n")
        };
        let zones = names(&["zones"]);
        assert!(zones.contains("MProc_port_info"), "{zones}");
        let rings = names(&["rings"]);
        assert!(
            rings.contains("MProc_Client_0_RX") && rings.contains("MProc_Client_1_RX"),
            "{rings}"
        );
        let pools = names(&["pools"]);
        assert!(pools.contains("MProc_pktmbuf_pool"), "{pools}");
        let check = tool(&["check"]);
        assert!(check.status.success(), "{check}");

        for process in clients.into_iter().chain([server]) {
            let ended = process.stop();
            assert_eq!(ended.status.code(), Some(0), "{ended}");
        }
        let list = tool(&["list", "--file-prefix", "rte"]);
        assert_eq!(
            list.status.code(),
            Some(1),
            "the group is still there: {list}"
        );
    });
}

#[test]
fn server_without_a_port_lists_the_interfaces() {
    lab::isolated!({
        let world = World::new();
        let ended = Process::run(&mut command(&world, "mp_server -l 1-2 -n 4 -- -p 0x3 -n 2"));
        assert_eq!(ended.status.code(), Some(2), "{ended}");
        let [line] = &ended.stderr[..] else {
            panic!("not one line: {ended}")
        };
        for vdev in [
            "--vdev=net_af_packet0,iface=veth0",
            "--vdev=net_af_packet1,iface=veth1",
        ] {
            assert!(line.contains(vdev), "{vdev} is not in: {line}");
        }
    });
}

#[test]
fn client_of_the_lesson_never_becomes_primary() {
    lab::isolated!({
        if tool(&["list", "--file-prefix", "rte"]).status.success() {
            return skip(
                "the lesson's client",
                "a group \"rte\" runs on this machine",
            );
        }
        let world = World::new();
        let ended = Process::run(&mut command(&world, CLIENTS[0]));
        assert_eq!(ended.status.code(), Some(1), "{ended}");
        let line = ended.stderr.last().unwrap();
        assert!(
            line.starts_with("mp_client: ") && line.contains("start `mp_server`"),
            "{ended}"
        );
    });
}
