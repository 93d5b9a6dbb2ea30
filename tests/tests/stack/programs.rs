//! What the programs of network people see of the stack. Each test says so where its program is missing.

use std::process::Command;
use std::time::{Duration, Instant};

use forebay_tests::{Ended, Pair, Process, Wire, skip};

/// Whether a program is there; if not, a line says what cannot be tried.
fn has(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok();
    if !found {
        skip(
            name,
            &format!("there is no {name}; `apt-get install {name}`"),
        );
    }
    found
}

/// Runs a program on the Linux host.
fn run(pair: &Pair, name: &str, args: &[&str]) -> Ended {
    let mut command = Command::new(name);
    pair.linux.command(command.args(args)).unwrap();
    let ended = Process::run(&mut command);
    println!("{name} {}\n{ended}", args.join(" "));
    ended
}

fn output(ended: &Ended) -> String {
    ended.stdout.join("\n")
}

/// The program itself, besides what this repository has of it.
#[test]
fn ping_floods_us_and_loses_none() {
    lab::isolated!({
        if !has("ping") {
            return;
        }
        for wire in [Wire::Packet, Wire::Tap] {
            let pair = Pair::start(wire);
            for to in ["10.0.0.2", "fd00::2"] {
                for size in ["56", "1400"] {
                    let args = ["-f", "-q", "-c", "10000", "-s", size, to];
                    let text = output(&run(&pair, "ping", &args));
                    let whole = "10000 packets transmitted, 10000 received, 0% packet loss";
                    assert!(text.contains(whole), "{text}");
                }
            }
            pair.finish();
        }
    });
}

#[test]
fn nmap_sees_a_host_that_is_up() {
    lab::isolated!({
        if !has("nmap") {
            return;
        }
        let pair = Pair::start(Wire::Packet);
        for args in [
            &["-n", "-sn", "10.0.0.2"][..],
            &["-n", "-sn", "-PE", "--disable-arp-ping", "10.0.0.2"],
            &["-n", "-6", "-sn", "fd00::2"],
        ] {
            let text = output(&run(&pair, "nmap", args));
            assert!(
                text.contains("Host is up") && text.contains("1 host up"),
                "{text}"
            );
        }
        pair.finish();
    });
}

#[test]
fn nmap_finds_the_echo_port_open_and_the_others_closed() {
    lab::isolated!({
        if !has("nmap") {
            return;
        }
        for wire in [Wire::Packet, Wire::Tap] {
            let pair = Pair::start(wire);
            let start = Instant::now();
            let args = ["-n", "-sU", "-p", "1-200", "--reason", "10.0.0.2"];
            let text = output(&run(&pair, "nmap", &args));
            assert!(
                text.contains("199 closed udp ports (port-unreach)"),
                "{text}"
            );
            assert!(
                text.contains("7/udp open  echo") && text.contains("udp-response"),
                "{text}"
            );
            // At one refusal a second, as most hosts give, this would take more than three minutes.
            assert!(
                start.elapsed() < Duration::from_secs(15),
                "{:?}",
                start.elapsed()
            );
            pair.finish();
        }
    });
}

#[test]
fn nmap_gets_protocol_unreachable_for_what_the_stack_does_not_speak() {
    lab::isolated!({
        if !has("nmap") {
            return;
        }
        let pair = Pair::start(Wire::Packet);
        let text = output(&run(
            &pair,
            "nmap",
            &["-n", "-sO", "-p", "1,17,47,132", "--reason", "10.0.0.2"],
        ));
        for (number, state) in [
            ("1", "open"),
            ("17", "open"),
            ("47", "closed"),
            ("132", "closed"),
        ] {
            let line = text
                .lines()
                .find(|line| line.split_whitespace().next() == Some(number));
            let line = line.unwrap_or_default();
            assert!(line.contains(state), "{number}: {line:?}\n{text}");
        }
        pair.finish();
    });
}

#[test]
fn traceroute_arrives() {
    lab::isolated!({
        if !has("traceroute") {
            return;
        }
        let pair = Pair::start(Wire::Packet);
        for (args, ours) in [
            (&["-n", "10.0.0.2"][..], "10.0.0.2"),
            (&["-n", "-I", "10.0.0.2"], "10.0.0.2"),
            (&["-n", "-6", "fd00::2"], "fd00::2"),
            (&["-n", "10.0.0.2", "60000"], "10.0.0.2"),
        ] {
            let text = output(&run(&pair, "traceroute", args));
            let hop = text
                .lines()
                .find(|line| line.trim_start().starts_with("1 "));
            let hop = hop.unwrap_or_default();
            // Three probes, each with a time: none was ignored, none refused by a firewall.
            let times = hop.matches(" ms").count();
            assert!(
                hop.contains(ours) && times == 3 && !hop.contains('!'),
                "{text}"
            );
            assert_eq!(text.lines().count(), 2, "{text}");
        }
        pair.finish();
    });
}

#[test]
fn arping_gets_an_answer_each_time() {
    lab::isolated!({
        if !has("arping") {
            return;
        }
        let pair = Pair::start(Wire::Packet);
        let args = ["-i", "eth0", "-c", "5", "-W", "0.1", "10.0.0.2"];
        let text = output(&run(&pair, "arping", &args));
        let mac = pair.ours.mac("veth0").unwrap().to_string();
        assert_eq!(text.matches(&mac).count(), 5, "{text}");
        assert!(text.contains("5 packets received"), "{text}");
        pair.finish();
    });
}

#[test]
fn ndisc6_gets_an_answer() {
    lab::isolated!({
        if !has("ndisc6") {
            return;
        }
        let pair = Pair::start(Wire::Packet);
        let ended = run(&pair, "ndisc6", &["-1", "fd00::2", "eth0"]);
        let mac = pair.ours.mac("veth0").unwrap().to_string();
        let text = output(&ended).to_lowercase();
        assert_eq!(ended.status.code(), Some(0), "{ended}");
        assert!(text.contains(&mac), "{text}");
        pair.finish();
    });
}

/// Malformed and odd packets by the hundred; the stack answers what is to be answered and lives.
#[test]
fn hping3_does_not_disturb() {
    lab::isolated!({
        if !has("hping3") {
            return;
        }
        let pair = Pair::start(Wire::Packet);
        for args in [
            // Wrong checksums, UDP and ICMP.
            &[
                "-2", "-p", "7", "-b", "-d", "64", "-c", "100", "-i", "u500", "10.0.0.2",
            ][..],
            // Small fragments of a datagram.
            &[
                "-2", "-p", "7", "-f", "-d", "300", "-c", "100", "-i", "u500", "10.0.0.2",
            ],
            // A fragment without the rest.
            &[
                "-2", "-p", "7", "-x", "-g", "64", "-d", "64", "-c", "100", "-i", "u500",
                "10.0.0.2",
            ],
            // ICMP of all sorts.
            &["-1", "-C", "13", "-c", "50", "-i", "u500", "10.0.0.2"],
            &["-1", "-C", "17", "-c", "50", "-i", "u500", "10.0.0.2"],
            &["-1", "-C", "5", "-c", "50", "-i", "u500", "10.0.0.2"],
            // A record of the route, in the options.
            &["-1", "-G", "-c", "20", "-i", "u500", "10.0.0.2"],
            // Other protocols.
            &[
                "-0", "-H", "99", "-d", "32", "-c", "100", "-i", "u500", "10.0.0.2",
            ],
            &["-S", "-p", "80", "-c", "100", "-i", "u500", "10.0.0.2"],
        ] {
            run(&pair, "hping3", args);
        }
        super::ping(&pair, Pair::OURS, 100, 56);
        super::echo(&pair.linux, Pair::OURS, 100, 3000, 1);
        let counts = pair.finish();
        println!("{counts:?}");
        assert_eq!(counts.of("drop_no_buffer"), 0);
    });
}
