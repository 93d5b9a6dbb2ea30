//! Hosts, cables and measurements, with the kernel's own forwarding between them.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

/// Two hosts with a third between them that routes.
struct Routed {
    west: Host,
    middle: Host,
    east: Host,
}

const EAST: [u8; 4] = [10, 0, 2, 1];

fn routed() -> Routed {
    let new = |name| Host::new(name).unwrap();
    let (west, middle, east) = (new("west"), new("middle"), new("east"));
    veth((&west, "eth0"), (&middle, "west"), 2).unwrap();
    veth((&east, "eth0"), (&middle, "east"), 2).unwrap();
    for (host, iface, address, address6) in [
        (&west, "eth0", "10.0.1.1/24", "fd01::1/64"),
        (&middle, "west", "10.0.1.2/24", "fd01::2/64"),
        (&middle, "east", "10.0.2.2/24", "fd02::2/64"),
        (&east, "eth0", "10.0.2.1/24", "fd02::1/64"),
    ] {
        host.up(iface).unwrap();
        host.address(iface, address).unwrap();
        host.address(iface, address6).unwrap();
    }
    middle.forward().unwrap();
    west.route("0.0.0.0/0", [10, 0, 1, 2].into()).unwrap();
    east.route("0.0.0.0/0", [10, 0, 2, 2].into()).unwrap();
    west.route("::/0", "fd01::2".parse().unwrap()).unwrap();
    east.route("::/0", "fd02::2".parse().unwrap()).unwrap();
    Routed { west, middle, east }
}

#[test]
fn ping_crosses_a_router_in_both_protocols() {
    isolated!({
        let lab = routed();
        for to in [IpAddr::from(EAST), "fd02::1".parse().unwrap()] {
            let report = ping(
                &lab.west,
                to,
                &Ping {
                    payload_len: 1000,
                    ..Ping::default()
                },
            );
            let report = report.unwrap();
            assert_eq!(
                (report.received, report.damaged),
                (5, 0),
                "{to}: {report:?}"
            );
            assert!(report.fastest <= report.average && report.average <= report.slowest);
        }
    });
}

#[test]
fn ping_reports_loss_when_the_cable_is_down() {
    isolated!({
        let lab = routed();
        lab.middle.down("east").unwrap();
        let timeout = Duration::from_millis(30);
        let how = Ping {
            count: 3,
            timeout,
            ..Ping::default()
        };
        let report = ping(&lab.west, EAST.into(), &how).unwrap();
        assert_eq!((report.sent, report.lost()), (3, 3));
    });
}

#[test]
fn tcp_arrives_whole_with_offloads_on_and_off() {
    isolated!({
        let lab = routed();
        for offloads in [Offloads::ON, Offloads::OFF] {
            for host in [&lab.west, &lab.east] {
                host.offloads("eth0", offloads).unwrap();
                assert_eq!(host.offloads_now("eth0").unwrap(), offloads);
            }
            let watch = Watch::default();
            let transfer = Transfer::new(20_000_003, 7);
            let report = tcp_transfer(&lab.west, (&lab.east, EAST.into()), &transfer, &watch);
            let report = report.unwrap();
            assert!(report.is_intact());
            assert_eq!((report.bytes, watch.received()), (20_000_003, 20_000_003));
        }
    });
}

#[test]
fn stalled_transfer_ends_with_an_error_that_says_how_far_it_came() {
    isolated!({
        let lab = routed();
        let transfer = Transfer {
            stall: Duration::from_secs(2),
            ..Transfer::new(1 << 40, 1)
        };
        let watch = Watch::default();
        std::thread::scope(|scope| {
            let run = || tcp_transfer(&lab.west, (&lab.east, EAST.into()), &transfer, &watch);
            let run = scope.spawn(run);
            while watch.received() == 0 && !run.is_finished() {
                std::thread::yield_now();
            }
            lab.middle.down("east").unwrap();
            let error = run.join().unwrap().unwrap_err();
            assert!(
                matches!(error, Error::Stalled { bytes, .. } if bytes > 0),
                "{error}"
            );
        });
    });
}

#[test]
fn cancelled_transfer_ends_soon() {
    isolated!({
        let lab = routed();
        let watch = Watch::default();
        watch.cancel();
        let transfer = Transfer::new(1 << 40, 1);
        let error = tcp_transfer(&lab.west, (&lab.east, EAST.into()), &transfer, &watch);
        assert!(matches!(error.unwrap_err(), Error::Cancelled));
    });
}

#[test]
fn udp_packets_are_counted_once_each() {
    isolated!({
        let lab = routed();
        let blast = Blast {
            count: 2000,
            ..Blast::default()
        };
        let report = udp_blast(&lab.west, (&lab.east, EAST.into()), &blast).unwrap();
        assert_eq!((report.sent, report.received), (2000, 2000), "{report:?}");
        assert_eq!(
            (report.duplicates, report.damaged, report.reordered),
            (0, 0, 0)
        );
    });
}

#[test]
fn frame_socket_keeps_vlan_tags_of_both_kinds() {
    isolated!({
        let (a, b) = (Host::new("a").unwrap(), Host::new("b").unwrap());
        veth((&a, "x"), (&b, "y"), 1).unwrap();
        for (host, iface) in [(&a, "x"), (&b, "y")] {
            host.disable_ipv6(iface).unwrap();
            host.up(iface).unwrap();
        }
        let (from, to) = (
            FrameSocket::open(&a, "x").unwrap(),
            FrameSocket::open(&b, "y").unwrap(),
        );
        for protocol in [0x8100_u16, 0x88a8] {
            let mut frame = vec![0xff; 12];
            frame.extend_from_slice(&protocol.to_be_bytes());
            frame.extend_from_slice(&[0x60, 0x05, 0x88, 0xb5]);
            frame.resize(80, 0x55);
            from.send(&frame).unwrap();
            assert_eq!(to.receive(Duration::from_secs(1)).unwrap(), Some(frame));
        }
        assert_eq!(
            from.receive(Duration::from_millis(20)).unwrap(),
            None,
            "its own frame"
        );
    });
}

#[test]
fn interface_keeps_the_mtu_and_address_that_it_was_given() {
    isolated!({
        let (a, b) = (Host::new("a").unwrap(), Host::new("b").unwrap());
        veth((&a, "x"), (&b, "y"), 4).unwrap();
        let mac = MacAddress([2, 0, 0, 0, 0, 9]);
        a.set_mac("x", mac).unwrap();
        assert_eq!(a.mac("x").unwrap(), mac);
        for (host, iface, address) in [(&a, "x", "10.1.1.1/30"), (&b, "y", "10.1.1.2/30")] {
            host.mtu(iface, 9000).unwrap();
            host.up(iface).unwrap();
            host.address(iface, address).unwrap();
        }
        b.neighbour("y", [10, 1, 1, 1].into(), mac).unwrap();
        let how = Ping {
            payload_len: 8900,
            ..Ping::default()
        };
        assert_eq!(ping(&b, [10, 1, 1, 1].into(), &how).unwrap().lost(), 0);
        let stats = a.stats("x").unwrap();
        assert!(
            stats.rx_bytes > 5 * 8900 && stats.tx_packets >= 5,
            "{stats:?}"
        );
    });
}

#[test]
fn bridge_joins_two_cables() {
    isolated!({
        let new = |name| Host::new(name).unwrap();
        let (a, switch, b) = (new("a"), new("switch"), new("b"));
        veth((&a, "eth0"), (&switch, "p0"), 1).unwrap();
        veth((&b, "eth0"), (&switch, "p1"), 1).unwrap();
        for (host, address) in [(&a, "10.0.0.1/24"), (&b, "10.0.0.2/24")] {
            host.address("eth0", address).unwrap();
            host.up("eth0").unwrap();
        }
        switch.up("p0").unwrap();
        switch.up("p1").unwrap();
        switch.bridge("br0", &["p0", "p1"]).unwrap();
        assert_eq!(
            ping(&a, [10, 0, 0, 2].into(), &Ping::default())
                .unwrap()
                .lost(),
            0
        );
    });
}

#[test]
fn vlan_interface_works_or_says_what_the_kernel_lacks() {
    isolated!({
        let (a, b) = (Host::new("a").unwrap(), Host::new("b").unwrap());
        veth((&a, "x"), (&b, "y"), 1).unwrap();
        match a.vlan("x", 5, "x.5") {
            Ok(()) => assert!(a.has("x.5")),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "skipped: vlan interfaces: {error}");
                assert!(error.to_string().contains("modprobe 8021q"), "{error}");
            }
        }
    });
}

#[test]
fn what_is_missing_or_taken_is_named() {
    isolated!({
        let (a, b) = (Host::new("left").unwrap(), Host::new("right").unwrap());
        veth((&a, "x"), (&b, "y"), 1).unwrap();
        let error = a.up("z").unwrap_err().to_string();
        assert!(error.contains("left") && error.contains("\"z\""), "{error}");
        let error = veth((&a, "x"), (&b, "y2"), 1).unwrap_err().to_string();
        assert!(error.contains("take another name"), "{error}");
        let error = a.address("x", "10.0.0.1").unwrap_err().to_string();
        assert!(error.contains("\"10.0.0.1\""), "{error}");
        assert!(a.up("a-name-that-is-too-long").is_err());
    });
}

#[test]
fn host_leaves_nothing_behind() {
    isolated!({
        let (a, b) = (Host::new("a").unwrap(), Host::new("b").unwrap());
        veth((&a, "x"), (&b, "y"), 1).unwrap();
        drop(a);
        // The kernel takes a namespace apart in its own time, and the far end of a cable with it.
        for _ in 0..200 {
            if !b.has("y") {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the cable of a host that is gone is still there");
    });
}

#[test]
fn child_runs_on_the_host_and_dies_with_its_parent_thread() {
    isolated!({
        let host = Host::new("a").unwrap();
        let path = "/proc/self/ns/net";
        let theirs = host
            .command(Command::new("readlink").arg(path))
            .unwrap()
            .output()
            .unwrap();
        let ours = host
            .run(|| std::fs::read_link("/proc/thread-self/ns/net"))
            .unwrap()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&theirs.stdout).trim(),
            ours.to_string_lossy()
        );

        let mut child = std::thread::scope(|scope| {
            let spawn = || {
                let mut command = Command::new("sleep");
                command.arg("60").stdin(Stdio::null());
                host.command(&mut command).unwrap().spawn().unwrap()
            };
            scope.spawn(spawn).join().unwrap()
        });
        assert!(!child.wait().unwrap().success());
    });
}

#[test]
fn forbidden_namespaces_are_told_with_the_setting() {
    isolated!({
        // In a user namespace of its own a child may lower the limit for those below it.
        let program = std::env::current_exe().unwrap();
        let mut command = Command::new(program);
        command
            .args([
                "--exact",
                "tests::helper_that_may_make_no_namespace",
                "--nocapture",
            ])
            .args(["--include-ignored", "--test-threads=1"])
            .env("FOREBAY_LAB_FORBIDDEN", "1");
        enter_in_child(&mut command);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("user.max_net_namespaces is 0"), "{text}");
        assert!(text.contains("sudo") && text.contains("--local"), "{text}");
    });
}

/// Does nothing unless the test above starts it.
#[test]
fn helper_that_may_make_no_namespace() {
    if std::env::var_os("FOREBAY_LAB_FORBIDDEN").is_some() {
        std::fs::write("/proc/sys/user/max_net_namespaces", "0").unwrap();
        println!("{}", Host::new("a").unwrap_err());
    }
}
