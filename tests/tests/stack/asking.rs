//! `forebay ping` at our end of the cable: Linux is asked, and routers and silence answer.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use forebay_tests::{Counts, Ended, Pair, Wire, refused, wait_for};
use lab::{Host, Offloads, Ping, Signal};

use super::{USAGE, WIRES};

/// Exit status without an answer.
const NO_REPLY: i32 = 1;

const LINUX: [IpAddr; 2] = [Pair::LINUX, Pair::LINUX_V6];

/// What `--json` says in the end.
fn summary(ended: &Ended) -> Counts {
    let line = ended.stdout.last();
    let line = line.unwrap_or_else(|| panic!("no summary: {ended}"));
    println!("{line}");
    Counts::read(line)
}

/// All were answered, once each, in time, and with the data that was sent.
fn assert_all_answered(ended: &Ended, count: u64) {
    let counts = summary(ended);
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    assert_eq!(counts.of("transmitted"), count, "{ended}");
    assert_eq!(counts.of("received"), count, "{ended}");
    for name in ["duplicates", "late", "damaged", "unasked", "errors"] {
        assert_eq!(counts.of(name), 0, "{name}: {ended}");
    }
}

/// Asks Linux at flood rate.
fn flood(pair: &Pair, to: IpAddr, count: u64, size: usize) {
    let (to, size) = (to.to_string(), size.to_string());
    let number = count.to_string();
    let start = Instant::now();
    let ended = pair.ping(&["-f", "-c", &number, "-s", &size, "--json", &to]);
    println!("{count} of {size} bytes to {to} in {:?}", start.elapsed());
    assert_all_answered(&ended, count);
}

#[test]
fn no_ping_of_ours_is_lost_at_flood_rate() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::build(wire, Offloads::ON);
            for to in LINUX {
                flood(&pair, to, 10_000, 56);
            }
        }
    });
}

#[test]
fn large_pings_of_ours_come_back_in_fragments() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::build(wire, Offloads::ON);
            for (to, largest) in LINUX.into_iter().zip([65_507, 65_527]) {
                for size in [0, 1472, 1473, 8000, 65_000, largest] {
                    flood(&pair, to, 100, size);
                }
            }
        }
    });
}

#[test]
fn both_flood_each_other_and_neither_loses_any() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::build(wire, Offloads::ON);
            for (ours, linux) in [(Pair::OURS, Pair::LINUX), (Pair::OURS_V6, Pair::LINUX_V6)] {
                let process = pair.start_ping(&["-f", "--json", &linux.to_string()]);
                let how = Ping {
                    count: 1,
                    timeout: Duration::from_millis(100),
                    ..Ping::default()
                };
                // It asks the link first whether its addresses are free.
                wait_for("our host", || {
                    let report = lab::ping(&pair.linux, ours, &how).unwrap();
                    (report.received == 1).then_some(())
                });
                let how = Ping {
                    count: 10_000,
                    interval: Duration::ZERO,
                    ..Ping::default()
                };
                let report = lab::ping(&pair.linux, ours, &how).unwrap();
                println!("{ours}: {report:?}");
                process.signal(Signal::INT);
                let ended = process.wait();
                let counts = summary(&ended);
                assert_eq!((report.lost(), report.damaged), (0, 0), "{report:?}");
                assert_eq!(ended.status.code(), Some(0), "{ended}");
                // The last one was on its way.
                let lost = counts.of("transmitted") - counts.of("received");
                assert!(lost <= 1 && counts.of("received") > 1000, "{ended}");
                assert_eq!(counts.of("damaged") + counts.of("duplicates"), 0, "{ended}");
            }
        }
    });
}

#[test]
fn replies_are_told_as_ping_tells_them() {
    lab::isolated!({
        let pair = Pair::build(Wire::Packet, Offloads::ON);
        for to in LINUX.map(|to| to.to_string()) {
            let ended = pair.ping(&["-c", "3", "-i", "0.01", &to]);
            assert_eq!(ended.status.code(), Some(0), "{ended}");
            let lines = &ended.stdout;
            assert_eq!(lines[0], format!("PING {to} 56 data bytes"));
            for (number, line) in (1..4).zip(&lines[1..4]) {
                let begin = format!("64 bytes from {to}: icmp_seq={number} ttl=64 time=");
                assert!(line.starts_with(&begin) && line.ends_with(" ms"), "{line}");
            }
            assert_eq!(lines[5], format!("--- {to} ping statistics ---"));
            let sums = "3 packets transmitted, 3 received, 0% packet loss, time ";
            assert!(lines[6].starts_with(sums), "{ended}");
            assert!(lines[7].starts_with("rtt min/avg/max/mdev = "), "{ended}");
            assert_eq!(lines.len(), 8, "{ended}");
        }
        let quiet = pair.ping(&["-c", "2", "-i", "0.01", "-q", "10.0.0.1"]);
        assert_eq!(quiet.stdout.len(), 5, "{quiet}");
        let json = pair.ping(&["-c", "2", "-i", "0.01", "--json", "10.0.0.1"]);
        assert_eq!(json.stdout.len(), 4, "{json}");
    });
}

#[test]
fn interval_is_kept_and_a_signal_ends_with_the_summary() {
    lab::isolated!({
        let pair = Pair::build(Wire::Packet, Offloads::ON);
        for signal in [Signal::INT, Signal::TERM] {
            let process = pair.start_ping(&["-i", "0.05", "10.0.0.1"]);
            wait_for("answers", || (process.stdout().len() > 1).then_some(()));
            std::thread::sleep(Duration::from_secs(1));
            process.signal(signal);
            let ended = process.wait();
            assert_eq!(ended.status.code(), Some(0), "{ended}");
            let answers = ended.stdout.iter().filter(|line| line.contains("time="));
            let answers = answers.count();
            assert!((15..=25).contains(&answers), "{answers}: {ended}");
            let last = ended.stdout.last().unwrap();
            assert!(last.starts_with("rtt min"), "{ended}");
        }
    });
}

/// The line of an error, and that there was no answer.
fn error_of(ended: &Ended) -> &str {
    assert_eq!(ended.status.code(), Some(NO_REPLY), "{ended}");
    let line = ended.stdout.iter().find(|line| line.starts_with("From "));
    line.unwrap_or_else(|| panic!("{ended}"))
}

#[test]
fn router_is_named_that_says_no() {
    lab::isolated!({
        let pair = Pair::build(Wire::Packet, Offloads::ON);
        let far = Host::new("far").unwrap();
        lab::veth((&far, "eth0"), (&pair.linux, "eth1"), 1).unwrap();
        for (host, iface, addresses) in [
            (&far, "eth0", ["10.0.1.1/24", "fd01::1/64"]),
            (&pair.linux, "eth1", ["10.0.1.254/24", "fd01::254/64"]),
        ] {
            host.mtu(iface, 1300).unwrap();
            host.up(iface).unwrap();
            for address in addresses {
                host.address(iface, address).unwrap();
            }
        }
        pair.linux.forward().unwrap();
        far.route("0.0.0.0/0", [10, 0, 1, 254].into()).unwrap();
        far.route("::/0", "fd01::254".parse().unwrap()).unwrap();
        let ask = |args: &[&str]| {
            let gateways = ["--gateway", "10.0.0.1", "--gateway", "fd00::1"];
            pair.ping(&[&gateways[..], args].concat())
        };
        for (to, router, passed, nowhere, no_route, nobody, silent) in [
            (
                "10.0.1.1",
                "10.0.0.1",
                "Time to live exceeded",
                "10.9.9.9",
                "Destination Net Unreachable",
                "10.0.1.77",
                "Destination Host Unreachable",
            ),
            (
                "fd01::1",
                "fd00::1",
                "Time exceeded: Hop limit",
                "fd09::9",
                "Destination unreachable: No route",
                "fd01::77",
                "Destination unreachable: Address unreachable",
            ),
        ] {
            // The router's own router is one step further.
            let ended = ask(&["-c", "1", "-t", "2", to]);
            assert_eq!(ended.status.code(), Some(0), "{ended}");
            assert!(ended.stdout[1].contains("ttl=63"), "{ended}");
            let says = |words: &str| format!("From {router} icmp_seq=1 {words}");
            let ended = ask(&["-c", "1", "-t", "1", to]);
            assert_eq!(error_of(&ended), says(passed));
            let counted = "1 packets transmitted, 0 received, +1 errors, 100% packet loss";
            assert!(ended.stdout[4].starts_with(counted), "{ended}");
            let ended = ask(&["-c", "1", nowhere]);
            assert_eq!(error_of(&ended), says(no_route));
            let ended = ask(&["-c", "1", nobody]);
            assert_eq!(error_of(&ended), says(silent));
            // The first finds out what the path takes, the others are cut.
            let ended = ask(&["-c", "3", "-i", "0.05", "-s", "1400", "--json", to]);
            let counts = summary(&ended);
            assert_eq!(
                (counts.of("received"), counts.of("errors")),
                (2, 1),
                "{ended}"
            );
            let told = ended.stdout.iter().find(|line| line.contains("\"error\""));
            let told = told.unwrap_or_else(|| panic!("{ended}"));
            assert!(told.contains("1300") && told.contains(router), "{told}");
        }
        // A route is what the program has to be told.
        let ended = pair.ping(&["-c", "1", "10.0.1.1"]);
        assert_eq!(ended.status.code(), Some(2), "{ended}");
        let line = ended.stderr.last().unwrap();
        assert!(line.contains("--gateway"), "{line}");
    });
}

#[test]
fn silence_ends_with_status_1() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::build(wire, Offloads::ON);
            // Nobody has the address.
            for (to, expected) in [
                (
                    "10.0.0.77",
                    "From 10.0.0.2 icmp_seq=1 Destination Host Unreachable",
                ),
                (
                    "fd00::77",
                    "From fd00::2 icmp_seq=1 Destination unreachable: Address unreachable",
                ),
            ] {
                let ended = pair.ping(&["-c", "1", to]);
                assert_eq!(error_of(&ended), expected);
                let last = ended.stdout.last().unwrap();
                assert_eq!(last, "dropped by this host: 1 neighbour_failed", "{ended}");
            }
            // Somebody has it, who does not answer.
            if wire == Wire::Tap {
                continue;
            }
            let ignore = "net/ipv4/icmp_echo_ignore_all";
            pair.linux.sysctl(ignore, "1").unwrap();
            let ended = pair.ping(&["-c", "3", "-i", "0.1", "-W", "0.3", "10.0.0.1"]);
            assert_eq!(ended.status.code(), Some(NO_REPLY), "{ended}");
            let counted = "3 packets transmitted, 0 received, 100% packet loss";
            assert!(
                ended.stdout.iter().any(|line| line.starts_with(counted)),
                "{ended}"
            );
            // A flood goes on, a hundred a second.
            let ended = pair.ping(&["-f", "-c", "50", "-W", "0.2", "--json", "10.0.0.1"]);
            let counts = summary(&ended);
            assert_eq!((counts.of("transmitted"), counts.of("received")), (50, 0));
            pair.linux.sysctl(ignore, "0").unwrap();
            let ended = pair.ping(&["-c", "1", "10.0.0.1"]);
            assert_eq!(ended.status.code(), Some(0), "{ended}");
        }
    });
}

#[test]
fn group_of_the_link_is_asked_and_everybody_answers() {
    lab::isolated!({
        let pair = Pair::build(Wire::Packet, Offloads::ON);
        pair.linux
            .sysctl("net/ipv4/icmp_echo_ignore_broadcasts", "0")
            .unwrap();
        for (to, from) in [
            ("224.0.0.1", "10.0.0.1"),
            ("10.0.0.255", "10.0.0.1"),
            ("ff02::1", "fe80::"),
        ] {
            let ended = pair.ping(&["-c", "2", "-i", "0.01", to]);
            assert_eq!(ended.status.code(), Some(0), "{to}: {ended}");
            let begin = format!("64 bytes from {from}");
            assert!(ended.stdout[1].starts_with(&begin), "{ended}");
            assert!(!ended.stdout[1].contains("DIFFERENT"), "{ended}");
        }
    });
}

#[test]
fn wrong_arguments_of_ping_are_named_with_their_remedy() {
    lab::isolated!({
        let pair = Pair::build(Wire::Packet, Offloads::ON);
        let ips = Pair::IPS;
        for (args, words) in [
            (&[][..], &["destination is missing", "10.0.0.1"][..]),
            (
                &["example.org"],
                &["example.org", "names are not looked up"],
            ),
            (&["10.0.0.1", "-c", "none"], &["-c none", "-c 10"]),
            (&["10.0.0.1", "-s", "70000"], &["-s 70000", "65527"]),
            (&["10.0.0.1", "--flod"], &["--flod", "--flood"]),
        ] {
            let mut command = pair.ping_command(&[&ips[..], args].concat());
            refused(&mut command, USAGE, words);
        }
        let mut command = pair.ping_command(&["--ip", "10.0.0.2/24", "fd00::1"]);
        refused(&mut command, USAGE, &["fd00::1 is of IPv6", "--ip"]);
        // Whatever else goes wrong is 2, too, as ping has it: here the address is another's.
        let mut command = pair.ping_command(&["--ip", "10.0.0.1/24", "10.0.0.3"]);
        let ended = forebay_tests::Process::run(&mut command);
        assert_eq!(ended.status.code(), Some(2), "{ended}");
        let holder = pair.linux.mac("eth0").unwrap().to_string();
        let line = ended.stderr.last().unwrap();
        assert!(
            line.contains("10.0.0.1") && line.contains(&holder),
            "{line}"
        );
    });
}
