//! What `net_af_xdp` refuses: one line each that says what to do, and nothing changed.

use std::fs;
use std::path::Path;
use std::process::Command;

use forebay_tests::{Group, Leftovers, Process, Setup, World, refused, skip};
use lab::Offloads;

use crate::{
    FAILED, attached, has, interfaces, may_use_af_xdp, ports, setup, status_of, with_af_xdp, world,
};

/// Wrong arguments.
const USAGE: i32 = 2;
/// What a primary needs, as `setpriv` names it.
const NEEDED: [&str; 4] = ["net_raw", "net_admin", "bpf", "ipc_lock"];

/// A server that has to be refused, with an argument for the first of its two ports.
fn server(world: &World, dir: &Path, vdev: &str) -> Command {
    let mut command = world.command("mp_server");
    command.args([
        "--log-level=error",
        "--no-huge",
        "-l",
        "0-1",
        "--runtime-dir",
    ]);
    command.arg(dir).args(["--file-prefix", "fbt-xdp-nobody"]);
    command
        .arg(format!("--vdev={vdev}"))
        .arg("--vdev=net_null0");
    command.args(["--", "-p", "0x3", "-n", "2"]);
    command
}

/// The same command, but by `setpriv` or whatever else leaves it less than it has.
fn through(world: &World, less: &[&str], command: &Command) -> Command {
    let mut through = Command::new(less[0]);
    through
        .args(&less[1..])
        .arg(command.get_program())
        .args(command.get_args());
    world.in_middle(through)
}

fn assert_nothing_left(dir: &Path) {
    let left = Leftovers::of("fbt-xdp-nobody", dir);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn wrong_arguments_are_named_with_what_would_be_right() {
    with_af_xdp!({
        let (world, dir) = (
            World::queued(1500, Offloads::OFF, [4, 4]),
            tempfile::tempdir().unwrap(),
        );
        world.middle.address("veth1", "10.0.0.3/24").unwrap();
        let before = interfaces(&world);
        let cases: &[(&str, i32, &[&str])] = &[
            ("", USAGE, &["iface", "missing"]),
            ("iface=veth7", FAILED, &["veth7", "veth0"]),
            (
                "iface=veth1",
                USAGE,
                &["10.0.0.3", "addr=ADDRESS", "match=all"],
            ),
            (
                "iface=veth0,start_queue=4",
                USAGE,
                &["start_queue=4", "4 queues", "ethtool -L veth0"],
            ),
            (
                "iface=veth0,queue_count=5",
                USAGE,
                &["queue_count=5", "4 queues", "ethtool -L veth0"],
            ),
            (
                "iface=veth0,start_queue=3,queue_count=2",
                USAGE,
                &["queue_count=2", "leaves 1", "ethtool -L veth0"],
            ),
            (
                "iface=veth0,queue_count=0",
                USAGE,
                &["queue_count=0", "1 to"],
            ),
            ("iface=veth0,queue_count=many", USAGE, &["queue_count=many"]),
            (
                "iface=veth0,mode=fast",
                USAGE,
                &["mode=fast", "auto, zerocopy, copy"],
            ),
            (
                "iface=veth0,xdp=hard",
                USAGE,
                &["xdp=hard", "auto, native, generic"],
            ),
            ("iface=veth0,force=2", USAGE, &["force=2"]),
            ("iface=veth0,busy_budget=-1", USAGE, &["busy_budget=-1"]),
            ("iface=veth0,macth=all", USAGE, &["macth", "match"]),
            ("iface=veth0,match=sctp:1", USAGE, &["sctp:1", "tcp, udp"]),
            ("iface=veth0,match=tcp:0", USAGE, &["\"0\"", "1 to 65535"]),
            (
                "iface=veth0,match=all,addr=10.0.0.9",
                USAGE,
                &["all", "leave match= out"],
            ),
            (
                "iface=veth0,addr=10.0.0.9/24",
                USAGE,
                &["10.0.0.9/24", "addr=10.0.0.2"],
            ),
            (
                "iface=veth0,addr=224.0.0.1",
                USAGE,
                &["224.0.0.1", "one host"],
            ),
            ("iface=veth0,mode=zerocopy", FAILED, &["veth0", "mode=copy"]),
            (
                "iface=veth0,start_queue=3",
                FAILED,
                &["2 tx queues", "has 1", "`ethtool -L veth0 combined 5`"],
            ),
            (
                "iface=veth0,queue_count=1",
                FAILED,
                &["2 tx queues", "has 1", "raise queue_count="],
            ),
        ];
        for (keys, status, words) in cases {
            let vdev = format!("net_af_xdp0,{keys}");
            refused(
                &mut server(&world, dir.path(), vdev.trim_end_matches(',')),
                *status,
                words,
            );
            assert_nothing_left(dir.path());
            assert_eq!(interfaces(&world), before, "{keys}");
        }
    });
}

#[test]
fn interface_of_another_group_is_refused() {
    with_af_xdp!({
        let dir = tempfile::tempdir().unwrap();
        // More queues than the group uses.
        let world = World::queued(1500, Offloads::OFF, [1, 4]);
        let group = Group::start(&world, setup(2, "server"));
        world.ping_both_ways();
        let id = attached(&world, "veth0").unwrap();
        let number = format!("number {id}");
        let words = ["veth0", &number, "stop who attached it"];
        refused(
            &mut server(&world, dir.path(), "net_af_xdp0,iface=veth0"),
            FAILED,
            &words,
        );
        // The other group's is attached by a link, which holds against force, and so do its sockets.
        for (keys, words) in [
            ("force=1", ["queue 0", "start_queue="]),
            (
                "force=1,start_queue=2",
                ["only who attached it", "stop that one"],
            ),
        ] {
            let vdev = format!("net_af_xdp0,iface=veth0,{keys}");
            refused(&mut server(&world, dir.path(), &vdev), FAILED, &words);
        }
        assert_nothing_left(dir.path());
        assert_eq!(attached(&world, "veth0"), Some(id));
        world.ping_both_ways();
        group.finish();
        assert_eq!(attached(&world, "veth0"), None);
    });
}

/// An object file with one XDP program, which lets everything pass to the kernel, for `ip link set ... xdp object`.
fn passing_program() -> Vec<u8> {
    const NAMES: &[u8] = b"\0.strtab\0xdp\0license\0.symtab\0pass\0\0\0\0\0";
    // r0 = XDP_PASS; exit
    const PROGRAM: [u8; 16] = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    const HEADER_LEN: u64 = 64;
    fn words(words: &[u64]) -> impl Iterator<Item = u8> {
        words.iter().flat_map(|word| word.to_le_bytes())
    }
    // Two of four bytes in one of eight.
    let two = |low: u64, high: u64| low | high << 32;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let symbols = HEADER_LEN + NAMES.len() as u64 + 16 + 8;
    let sections = symbols + 48;
    // A relocatable file for BPF, version 1; five section headers, of which the first but one has the names.
    file.extend(words(&[two(1 | 247 << 16, 1), 0, 0, sections]));
    file.extend(words(&[two(0, 64), 64 << 16 | 5 << 32 | 1 << 48]));
    file.extend(NAMES);
    file.extend(PROGRAM);
    file.extend(b"GPL\0\0\0\0\0");
    // No symbol, then a global function in section 2.
    file.extend(words(&[0, 0, 0, two(29, 0x12 | 2 << 16), 0, 16]));
    // Name and kind, flags, address, place, length, links, alignment, length of an entry.
    let program = HEADER_LEN + NAMES.len() as u64;
    file.extend(words(&[0; 8]));
    file.extend(words(&[two(1, 3), 0, 0, 64, NAMES.len() as u64, 0, 1, 0]));
    file.extend(words(&[two(9, 1), 6, 0, program, 16, 0, 8, 0]));
    file.extend(words(&[two(13, 1), 3, 0, program + 16, 4, 0, 1, 0]));
    file.extend(words(&[two(21, 2), 0, 0, symbols, 48, two(1, 1), 8, 24]));
    file
}

#[test]
fn program_that_somebody_set_is_taken_away_by_force_alone() {
    with_af_xdp!({
        let (world, dir) = (world(2, "server"), tempfile::tempdir().unwrap());
        let object = dir.path().join("pass.o");
        fs::write(&object, passing_program()).unwrap();
        let mut ip = Command::new("ip");
        ip.args(["link", "set", "dev", "veth0", "xdp", "object"]);
        ip.arg(&object).args(["section", "xdp"]);
        let ended = Process::run(&mut world.in_middle(ip));
        if ended.status.code() != Some(0) {
            return skip("programs of others", &ended.stderr.join(" "));
        }
        fs::remove_file(&object).unwrap();
        let id = attached(&world, "veth0").unwrap();
        let words = [
            &format!("number {id}")[..],
            "ip link set veth0 xdp off",
            "force=1",
        ];
        let vdev = "net_af_xdp0,iface=veth0";
        refused(&mut server(&world, dir.path(), vdev), FAILED, &words);
        assert_eq!(attached(&world, "veth0"), Some(id));
        assert_nothing_left(dir.path());

        let setup = Setup {
            vdevs: ports(",force=1"),
            ..setup(2, "server")
        };
        let group = Group::start(&world, setup);
        assert_ne!(attached(&world, "veth0"), Some(id));
        world.ping_both_ways();
        group.finish();
        assert_eq!(attached(&world, "veth0"), None);
    });
}

#[test]
fn missing_privilege_is_named() {
    with_af_xdp!({
        if !has("setpriv", "primaries with less privilege") {
            return;
        }
        let (world, dir) = (world(2, "server"), tempfile::tempdir().unwrap());
        let command = || server(&world, dir.path(), "net_af_xdp0,iface=veth0");
        let before = interfaces(&world);
        for (less, capability) in [
            ("-net_raw", "CAP_NET_RAW"),
            // To the kernel's eyes whoever has CAP_SYS_ADMIN has these.
            ("-bpf,-sys_admin", "CAP_BPF"),
            ("-net_admin,-sys_admin", "CAP_NET_ADMIN"),
        ] {
            let bounding = format!("--bounding-set={less}");
            let setpriv = ["setpriv", "--inh-caps=-all", &bounding];
            let remedy = "`setcap cap_net_raw,cap_net_admin,cap_bpf,cap_ipc_lock+ep`";
            let command = &mut through(&world, &setpriv, &command());
            let ended = refused(command, FAILED, &[capability, remedy]);
            assert!(!ended.stderr[0].contains("user namespace"), "{ended}");
            assert_nothing_left(dir.path());
            assert_eq!(interfaces(&world), before, "{less}");
        }
        let bounding = "--bounding-set=-ipc_lock";
        let setpriv = [
            "setpriv",
            "--inh-caps=-all",
            bounding,
            "prlimit",
            "--memlock=65536",
        ];
        let words = ["CAP_IPC_LOCK", "ulimit -l"];
        refused(&mut through(&world, &setpriv, &command()), FAILED, &words);
        assert_nothing_left(dir.path());
        assert_eq!(interfaces(&world), before);
    });
}

#[test]
fn primary_needs_no_privilege_but_four() {
    with_af_xdp!({
        if !has("setpriv", "primaries with less privilege") {
            return;
        }
        let world = world(2, "each");
        let before = interfaces(&world);
        let mut group = Group::prepare(&world, setup(2, "each"));
        let needed = NEEDED.map(|name| format!("+{name}")).join(",");
        let bounding = format!("--bounding-set=-all,{needed}");
        let less = ["setpriv", "--inh-caps=-all", &bounding];
        let mut server = Process::start(&mut through(&world, &less, &group.server_command()));
        server.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
        println!("CapEff {}", status_of(server.pid(), "CapEff"));
        assert_eq!(status_of(server.pid(), "CapEff"), "0000008000007000");
        group.put_server(server);
        for id in 0..2 {
            group.start_client(id);
        }
        world.ping_both_ways();
        world.transfer(World::EAST, 5 << 20);
        group.finish();
        assert_eq!(interfaces(&world), before);
    });
}
