//! The stack beside the kernel's: `udp_echo` at one end of a cable, a Linux host at the other.
#![forbid(unsafe_code)]

#[path = "stack/asking.rs"]
mod asking;
#[path = "stack/programs.rs"]
mod programs;

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use forebay_tests::{Counts, DEADLINE, Pair, Process, Wire, refused, skip, wait_for};
use lab::{Cidr, Echo, FrameSocket, Host, Offloads, Ping};

/// Everything else that goes wrong, and wrong arguments.
const FAILED: i32 = 1;
const USAGE: i32 = 2;

const WIRES: [Wire; 2] = [Wire::Packet, Wire::Tap];
const ADDRESSES: [IpAddr; 2] = [Pair::OURS, Pair::OURS_V6];

fn ping(pair: &Pair, to: IpAddr, count: u16, payload_len: usize) {
    let how = Ping {
        count,
        interval: Duration::ZERO,
        payload_len,
        ..Ping::default()
    };
    let report = lab::ping(&pair.linux, to, &how).unwrap();
    println!("{to}, {payload_len} bytes: {report:?}");
    assert_eq!(
        (report.lost(), report.damaged, report.late),
        (0, 0, 0),
        "{to}: {report:?}"
    );
}

/// Sends and gets back `count` datagrams, none of them lost or wrong.
fn echo(from: &Host, to: IpAddr, count: u64, payload_len: usize, window: u64) -> u64 {
    let how = Echo {
        count,
        payload_len,
        window,
        ..Echo::default()
    };
    let report = lab::udp_echo(from, Pair::echo(to), &how).unwrap();
    println!("{to}, {payload_len} bytes: {report:?}");
    assert!(report.is_whole(), "{to}: {report:?}");
    report.bytes
}

/// Nothing of what Linux sent was thrown away but what a host is not meant to hear.
fn assert_nothing_lost(counts: &Counts) {
    for name in [
        "unsent",
        "drop_ipv4_checksum",
        "drop_udp_checksum",
        "drop_icmp_checksum",
        "drop_fragment_malformed",
        "drop_fragment_timeout",
        "drop_no_buffer",
        "drop_transmit_queue_full",
        "drop_too_large",
        "drop_unreadable",
    ] {
        assert_eq!(counts.of(name), 0, "{name}: {counts:?}");
    }
}

#[test]
fn no_ping_is_lost_at_flood_rate() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::start(wire);
            for to in ADDRESSES {
                ping(&pair, to, 10_000, 56);
            }
            assert_nothing_lost(&pair.finish());
        }
    });
}

#[test]
fn large_pings_come_back_in_fragments() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::start(wire);
            for to in ADDRESSES {
                for payload_len in [0, 1, 1472, 1473, 8000, 65_000] {
                    ping(&pair, to, 20, payload_len);
                }
            }
            assert_nothing_lost(&pair.finish());
        }
    });
}

#[test]
fn datagrams_of_every_size_come_back_as_they_were() {
    lab::isolated!({
        for (wire, offloads) in [
            (Wire::Packet, Offloads::ON),
            (Wire::Packet, Offloads::OFF),
            (Wire::Tap, Offloads::ON),
        ] {
            let mut pair = Pair::build(wire, offloads);
            pair.open(&Pair::IPS);
            for (to, largest) in [(Pair::OURS, 65_507), (Pair::OURS_V6, 65_527)] {
                for payload_len in [
                    8, 9, 1452, 1453, 1472, 1473, 2000, 2960, 9000, 40_000, 65_000,
                ] {
                    echo(&pair.linux, to, 50, payload_len, 1);
                }
                echo(&pair.linux, to, 100, largest, 1);
                empty_datagram_comes_back(&pair.linux, Pair::echo(to));
            }
            assert_nothing_lost(&pair.finish());
        }
    });
}

fn empty_datagram_comes_back(from: &Host, to: SocketAddr) {
    let socket = connected(from, to);
    socket.send(&[]).unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 0);
}

/// A socket of a host that hears `to` only.
fn connected(host: &Host, to: SocketAddr) -> UdpSocket {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let socket = host.run(|| UdpSocket::bind((any, 0))).unwrap().unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(to).unwrap();
    socket
}

#[test]
fn a_hundred_megabytes_come_back_without_a_wrong_byte() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::start(wire);
            let mut bytes = 0;
            for to in ADDRESSES {
                bytes += echo(&pair.linux, to, 15_000, 1400, 32);
                bytes += echo(&pair.linux, to, 500, 60_000, 2);
            }
            assert!(bytes > 100_000_000, "{bytes}");
            let counts = pair.finish();
            assert_eq!(counts.of("echoed_bytes"), bytes);
            assert_nothing_lost(&counts);
        }
    });
}

/// Takes minutes: run it with `--ignored`, and another amount with `FOREBAY_ECHO_BYTES`.
#[test]
#[ignore = "moves ten gigabytes"]
fn ten_gigabytes_come_back_without_a_wrong_byte() {
    lab::isolated!({
        let wanted = std::env::var("FOREBAY_ECHO_BYTES").ok();
        let wanted: u64 = wanted.map_or(10_000_000_000, |bytes| {
            bytes.parse().expect("a number of bytes")
        });
        let pair = Pair::start(Wire::Packet);
        let (mut bytes, start) = (0, Instant::now());
        while bytes < wanted {
            for to in ADDRESSES {
                bytes += echo(&pair.linux, to, 5000, 60_000, 2);
                bytes += echo(&pair.linux, to, 100_000, 1400, 32);
            }
            println!("{} MB in {:?}", bytes / 1_000_000, start.elapsed());
        }
        let counts = pair.finish();
        assert_eq!(counts.of("echoed_bytes"), bytes);
        assert_nothing_lost(&counts);
    });
}

/// An ARP request of a station without an address, as `arping -D` sends it.
fn arp_probe(from: [u8; 6], target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(from);
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(from);
    frame.extend([0; 4]);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

#[test]
fn arp_probes_are_answered_for_our_address_and_for_no_other() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::start(wire);
            let socket = FrameSocket::open(&pair.linux, "eth0").unwrap();
            let me = pair.linux.mac("eth0").unwrap().0;
            let answer = |target: [u8; 4], wait: Duration| {
                socket.send(&arp_probe(me, target)).unwrap();
                let until = Instant::now() + wait;
                loop {
                    let left = until.saturating_duration_since(Instant::now());
                    let frame = socket.receive(left).unwrap()?;
                    let is_reply = frame.get(12..14) == Some(&[0x08, 0x06])
                        && frame.get(20..22) == Some(&[0, 2]);
                    if is_reply {
                        return Some(frame);
                    }
                }
            };
            let reply = answer([10, 0, 0, 2], DEADLINE).expect("an answer");
            let ours: [u8; 6] = reply[6..12].try_into().unwrap();
            assert_ne!(ours, me, "the stack is another station than the kernel");
            assert_eq!(
                (&reply[0..6], &reply[22..28], &reply[28..32]),
                (&me[..], &ours[..], &[10, 0, 0, 2][..])
            );
            assert_eq!(answer([10, 0, 0, 3], Duration::from_millis(300)), None);
            pair.finish();
        }
    });
}

#[test]
fn closed_ports_are_refused_at_once_however_few_hops_are_left() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::start(wire);
            for to in ADDRESSES {
                for hops in [1, 2, 64] {
                    let socket = connected(
                        &pair.linux,
                        SocketAddr::new(to, 33_434 + u16::try_from(hops).unwrap()),
                    );
                    if to.is_ipv4() {
                        socket.set_ttl(hops).unwrap();
                    } else {
                        let hops = u8::try_from(hops).unwrap();
                        rustix::net::sockopt::set_ipv6_unicast_hops(&socket, Some(hops)).unwrap();
                    }
                    let start = Instant::now();
                    socket.send(b"are you there?").unwrap();
                    let error = socket.recv(&mut [0; 16]).unwrap_err();
                    assert_eq!(
                        error.kind(),
                        io::ErrorKind::ConnectionRefused,
                        "{to}: {error}"
                    );
                    assert!(
                        start.elapsed() < Duration::from_secs(1),
                        "{:?}",
                        start.elapsed()
                    );
                }
            }
            assert_eq!(pair.finish().of("drop_udp_no_socket"), 6);
        }
    });
}

/// An IPv4 packet of UDP to port 7, in a frame, checksums right or left out.
fn udp_frame(to_mac: [u8; 6], from_mac: [u8; 6], to: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to_mac);
    frame.extend(from_mac);
    frame.extend([0x08, 0x00]);
    let mut ip = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1];
    ip.extend(to);
    let sum: u32 = ip
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend([0x80, 0, 0, 7, 0, 12, 0, 0, 1, 2, 3, 4]);
    frame
}

#[test]
fn packets_for_others_are_dropped_and_counted() {
    lab::isolated!({
        let pair = Pair::start(Wire::Packet);
        let socket = FrameSocket::open(&pair.linux, "eth0").unwrap();
        let (me, ours) = (
            pair.linux.mac("eth0").unwrap().0,
            pair.ours.mac("veth0").unwrap().0,
        );
        let other = [0x02, 0, 0, 0, 0, 9];
        for _ in 0..10 {
            socket.send(&udp_frame(other, me, [10, 0, 0, 2])).unwrap();
        }
        for _ in 0..20 {
            socket.send(&udp_frame(ours, me, [10, 0, 0, 3])).unwrap();
        }
        for _ in 0..3 {
            socket.send(&udp_frame(ours, me, [10, 0, 0, 2])).unwrap();
        }
        let counts = wait_for("the datagrams that are ours", || {
            let counts = pair.counts();
            (counts.of("echoed") == 3).then_some(counts)
        });
        assert_eq!(counts.of("drop_ethernet_destination"), 10, "{counts:?}");
        assert_eq!(counts.of("drop_ip_not_for_us"), 20, "{counts:?}");
        pair.finish();
    });
}

/// Between a Linux host far away and us a router, and behind it a link that takes less.
#[test]
fn answers_are_cut_to_what_the_path_takes() {
    lab::isolated!({
        let mut pair = Pair::build(Wire::Packet, Offloads::ON);
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
        let gateways = ["--gateway", "10.0.0.1", "--gateway", "fd00::1"];
        pair.open(&[&Pair::IPS[..], &gateways].concat());
        for (to, payload_len) in [(Pair::OURS, 1472), (Pair::OURS_V6, 1452)] {
            // The first answer finds out; the router says so, and the next ones are cut.
            let probe = Echo {
                count: 1,
                payload_len,
                window: 1,
                timeout: Duration::from_millis(500),
            };
            let report = lab::udp_echo(&far, Pair::echo(to), &probe).unwrap();
            assert_eq!(report.lost(), 1, "the path takes all: {report:?}");
            echo(&far, to, 100, payload_len, 1);
            echo(&far, to, 20, 60_000, 1);
            echo(&far, to, 100, 1000, 4);
        }
        // The near host is on the link, which takes what it took.
        echo(&pair.linux, Pair::OURS, 10, 1472, 1);
        pair.finish();
    });
}

#[test]
fn duplicate_address_is_refused_with_its_holder_and_the_remedy() {
    lab::isolated!({
        for (wire, ip) in [(Wire::Packet, "10.0.0.1/24"), (Wire::Packet, "fd00::1/64")] {
            let pair = Pair::build(wire, Offloads::ON);
            let address = ip.parse::<Cidr>().unwrap().address.to_string();
            let holder = pair.linux.mac("eth0").unwrap().to_string();
            let mut command = pair.command(&["--ip", "10.0.0.2/24", "--ip", ip, "--json"]);
            let ended = Process::run(&mut command);
            assert_eq!(ended.status.code(), Some(FAILED), "{ended}");
            let line = ended
                .stderr
                .iter()
                .find(|line| line.starts_with("udp_echo: "));
            let line = line.unwrap_or_else(|| panic!("{ended}"));
            println!("{line}");
            assert!(line.contains(&address) && line.contains(&holder), "{line}");
            for part in [
                "port 0 (net_af_packet0)",
                &*format!("another address in place of --ip {address}"),
            ] {
                assert!(line.contains(part), "no {part:?}: {line}");
            }
        }
    });
}

#[test]
fn addresses_are_used_at_once_where_nobody_is_asked() {
    lab::isolated!({
        let mut pair = Pair::build(Wire::Packet, Offloads::ON);
        let start = Instant::now();
        pair.open(&[&Pair::IPS[..], &["--no-probe"]].concat());
        println!("ready after {:?}", start.elapsed());
        for to in ADDRESSES {
            ping(&pair, to, 10, 56);
        }
        pair.finish();
    });
}

#[test]
fn tagged_packets_are_answered_with_their_tag_and_others_are_not_ours() {
    lab::isolated!({
        let mut pair = Pair::build(Wire::Packet, Offloads::ON);
        if let Err(error) = pair.linux.vlan("eth0", 100, "eth0.100") {
            skip("VLANs", &error.to_string());
            return;
        }
        pair.linux.address("eth0.100", "10.1.0.1/24").unwrap();
        pair.linux.address("eth0.100", "fd10::1/64").unwrap();
        pair.linux.up("eth0.100").unwrap();
        let ips = ["--ip", "10.1.0.2/24", "--ip", "fd10::2/64", "--vlan", "100"];
        pair.open(&ips);
        for to in ["10.1.0.2", "fd10::2"] {
            let to = to.parse().unwrap();
            ping(&pair, to, 100, 56);
            echo(&pair.linux, to, 500, 1400, 8);
            echo(&pair.linux, to, 20, 60_000, 1);
        }
        // Without its tag a packet is for nobody.
        let untagged = Ping {
            count: 3,
            timeout: Duration::from_millis(100),
            ..Ping::default()
        };
        let report = lab::ping(&pair.linux, Pair::OURS, &untagged).unwrap();
        assert_eq!(report.received, 0, "{report:?}");
        let counts = pair.finish();
        assert!(counts.of("drop_vlan_unknown") > 0, "{counts:?}");
    });
}

#[test]
fn datagrams_to_groups_and_to_everybody_are_answered_from_our_address() {
    lab::isolated!({
        let pair = Pair::start(Wire::Packet);
        let index = pair.linux.index("eth0").unwrap();
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let all_nodes = SocketAddrV6::new(all_nodes, 7, 0, index);
        for (from, to, answerer) in [
            ("10.0.0.1:0", "10.0.0.255:7".parse().unwrap(), Pair::OURS),
            ("[fd00::1]:0", SocketAddr::V6(all_nodes), Pair::OURS_V6),
        ] {
            let bind = || UdpSocket::bind(from);
            let socket = pair.linux.run(bind).unwrap().unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            socket.set_broadcast(true).unwrap();
            socket.send_to(b"who is there?", to).unwrap();
            let mut answer = [0; 32];
            let (len, answered) = socket.recv_from(&mut answer).unwrap();
            assert_eq!(&answer[..len], b"who is there?");
            assert_eq!(answered, Pair::echo(answerer));
        }
        pair.finish();
    });
}

/// What a host leaves in one piece for its device to cut is as many datagrams as it would have been on a wire.
#[test]
fn datagrams_that_arrive_in_one_piece_are_many() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::start(wire);
            for to in ADDRESSES {
                let socket = connected(&pair.linux, Pair::echo(to));
                for (len, size) in [(10_500, 1000), (1000, 100), (1400, 1399), (60_000, 1400)] {
                    lab::udp_segment(&socket, size).unwrap();
                    let sent: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
                    socket.send(&sent).unwrap();
                    let (mut back, mut answer) = (Vec::new(), [0; 1 << 16]);
                    for part in sent.chunks(size.into()) {
                        let len = socket.recv(&mut answer).unwrap();
                        assert_eq!(len, part.len(), "{to}: {size} of {}", sent.len());
                        back.extend_from_slice(&answer[..len]);
                    }
                    assert!(back == sent, "{to}: {size} of {}", sent.len());
                }
            }
            assert_nothing_lost(&pair.finish());
        }
    });
}

/// The tag, then what stood behind the Ethernet addresses.
fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut tagged = frame.to_vec();
    let [high, low] = vlan.to_be_bytes();
    tagged.splice(12..12, [0x81, 0x00, high, low]);
    tagged
}

/// By hand, for kernels without VLANs.
#[test]
fn stack_in_a_vlan_speaks_with_its_tag_alone() {
    lab::isolated!({
        let mut pair = Pair::build(Wire::Packet, Offloads::ON);
        pair.open(&["--ip", "10.0.0.2/24", "--vlan", "100"]);
        let socket = FrameSocket::open(&pair.linux, "eth0").unwrap();
        let (me, ours) = (
            pair.linux.mac("eth0").unwrap().0,
            pair.ours.mac("veth0").unwrap().0,
        );
        let answer = |wanted: &dyn Fn(&[u8]) -> bool, wait: Duration| {
            let until = Instant::now() + wait;
            loop {
                let left = until.saturating_duration_since(Instant::now());
                let frame = socket.receive(left).unwrap()?;
                if frame.get(6..12) == Some(&ours) && wanted(&frame) {
                    return Some(frame);
                }
            }
        };
        let mut request = arp_probe(me, [10, 0, 0, 2]);
        // Not a probe: who asks says who it is, so that the answer to what it sends finds it.
        request[28..32].copy_from_slice(&[10, 0, 0, 1]);
        let is_reply = |frame: &[u8]| frame.get(24..26) == Some(&[0, 2]);
        for vlan in [101, 0] {
            socket.send(&tagged(&request, vlan)).unwrap();
        }
        socket.send(&request).unwrap();
        let nothing = answer(
            &|frame| is_reply(frame) || frame.get(20..22) == Some(&[0, 2]),
            Duration::from_millis(300),
        );
        assert_eq!(nothing, None);
        // With a priority in the tag, too.
        for tag in [100, 0xa000 | 100] {
            socket.send(&tagged(&request, tag)).unwrap();
            let reply = answer(&is_reply, DEADLINE).expect("an ARP reply");
            assert_eq!(reply[12..18], [0x81, 0, 0, 100, 0x08, 0x06]);
            let datagram = udp_frame(ours, me, [10, 0, 0, 2]);
            socket.send(&tagged(&datagram, tag)).unwrap();
            let is_echo = |frame: &[u8]| frame.get(16..18) == Some(&[0x08, 0x00]);
            let echo = answer(&is_echo, DEADLINE).expect("the datagram");
            assert_eq!(echo[12..16], [0x81, 0, 0, 100]);
            assert_eq!(echo[echo.len().min(46)..echo.len().min(50)], [1, 2, 3, 4]);
        }
        let counts = pair.finish();
        assert!(counts.of("drop_vlan_unknown") >= 3, "{counts:?}");
        assert_eq!(counts.of("echoed"), 2);
    });
}

#[test]
fn idle_program_sleeps_and_wakes() {
    lab::isolated!({
        for wire in WIRES {
            let pair = Pair::start(wire);
            ping(&pair, Pair::OURS, 10, 56);
            let cpu = || {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", pair.pid())).unwrap();
                let fields: Vec<_> = stat
                    .rsplit(')')
                    .next()
                    .unwrap()
                    .split_whitespace()
                    .collect();
                fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
            };
            std::thread::sleep(Duration::from_millis(500));
            let before = cpu();
            std::thread::sleep(Duration::from_secs(2));
            let ticks = cpu() - before;
            // A hundred ticks a second.
            assert!(ticks <= 10, "{ticks} of 200 ticks");
            ping(&pair, Pair::OURS, 1, 56);
            ping(&pair, Pair::OURS_V6, 1, 56);
            let counts = pair.finish();
            assert!(counts.of("rests") > 10, "{counts:?}");
        }
    });
}

#[test]
fn wrong_arguments_are_named_with_their_remedy() {
    lab::isolated!({
        let pair = Pair::build(Wire::Packet, Offloads::ON);
        for (args, words) in [
            (
                &[][..],
                &["--ip ADDRESS/LENGTH is missing", "--ip 10.0.0.2/24"][..],
            ),
            (
                &["--ip", "10.0.0.2"],
                &["--ip 10.0.0.2", "--ip 10.0.0.2/24"],
            ),
            (&["--ip", "10.0.0.0/24"], &["10.0.0.0", "network"]),
            (
                &["--ip", "1=10.0.0.2/24"],
                &["--ip 1=10.0.0.2/24", "only port 0", "--vdev"],
            ),
            (
                &["--ip", "10.0.0.2/24", "--gateway", "10.9.0.1"],
                &["--gateway 10.9.0.1", "--ip"],
            ),
            (
                &["--ip", "10.0.0.2/24", "--port", "0"],
                &["--port 0", "1 to 65535"],
            ),
            (
                &["--ip", "10.0.0.2/24", "--vlan", "5000"],
                &["--vlan 5000", "4094"],
            ),
            (
                &["--ip", "10.0.0.2/24", "--echo"],
                &["unknown option --echo", "--port"],
            ),
        ] {
            refused(&mut pair.command(args), USAGE, words);
        }
    });
}

#[test]
fn neighbour_that_has_a_link_local_address_alone_is_answered_from_ours() {
    lab::isolated!({
        let pair = Pair::start(Wire::Packet);
        let index = pair.linux.index("eth0").unwrap();
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let all_nodes = SocketAddrV6::new(all_nodes, 7, 0, index);
        let bind = || UdpSocket::bind("[::]:0");
        let socket = pair.linux.run(bind).unwrap().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        // From an address of the link, as all that goes to a group of the link.
        socket.send_to(b"who is there?", all_nodes).unwrap();
        let mut answer = [0; 32];
        let (len, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!(&answer[..len], b"who is there?");
        let SocketAddr::V6(from) = from else {
            panic!("{from}")
        };
        assert!(from.ip().is_unicast_link_local(), "{from}");
        let direct = SocketAddrV6::new(*from.ip(), 7, 0, index);
        socket.send_to(b"and now?", direct).unwrap();
        let (len, again) = socket.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..len], again), (&b"and now?"[..], from.into()));
        pair.finish();
    });
}
