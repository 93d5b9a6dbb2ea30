//! Where frames go.

use super::*;

#[test]
fn every_filter_passes_the_verifier() {
    if !may_load() {
        return;
    }
    let xsks = bpf::create_xskmap(4).unwrap();
    let map = bpf::map_info(xsks.as_fd()).unwrap();
    // As long as a port's arguments may be.
    let ports: Vec<_> = (0..40).map(|n| (10 + 3 * n).to_string()).collect();
    let ports = format!("addr=10.0.0.2;fd00::2,match=tcp:{};udp:7", ports.join(","));
    let addresses: Vec<_> = (0..34).map(|n| format!("fd::{n:x}")).collect();
    let addresses = format!("match=udp:7;tcp:9,addr=1.1.1.1;{}", addresses.join(";"));
    for keys in FILTERS.into_iter().chain([&ports[..], &addresses]) {
        let program = assemble(&filter(keys), OnMatch::Redirect(xsks.as_fd()));
        for frags in [false, true] {
            let how = Load {
                frags,
                ..Load::default()
            };
            let loaded = bpf::load(&program, how).unwrap_or_else(|e| panic!("{keys}: {e}"));
            let info = bpf::program_info(loaded.as_fd()).unwrap();
            assert_eq!(info.maps, [map.id], "{keys}");
        }
    }
}

/// By hand, lest program and reference share a mistake.
#[test]
fn frames_go_where_the_table_says() {
    if !may_load() {
        return;
    }
    let nothing = layer("", 59, []);
    let v4 = |to, upper: &Layer| ipv4(to, 0, WHOLE, upper);
    let cases: Vec<(&str, Layer, bool)> = vec![
        ("match=all", arp(ArpOperation::REQUEST, OTHER), true),
        ("match=all", layer("lldp", 0x88cc, [0; 20]), true),
        ("match=tcp:80,443;udp:53", v4(OTHER, &tcp(443)), true),
        ("match=tcp:80,443;udp:53", v4(OTHER, &udp(443)), false),
        ("match=tcp:80,443;udp:53", v4(OTHER, &udp(53)), true),
        ("match=tcp:80,443;udp:53", ipv6(v6(9), &tcp(80)), true),
        (
            "match=tcp:80,443;udp:53",
            ipv6(v6(9), &extension(0, 0, &tcp(80))),
            true,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv4(OTHER, 40, WHOLE, &tcp(80)),
            true,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv4(OTHER, 0, FIRST, &tcp(80)),
            true,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv4(OTHER, 0, MIDDLE, &tcp(80)),
            false,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv6(v6(9), &fragment(1, true, &tcp(80))),
            false,
        ),
        (
            "match=tcp:80,443;udp:53",
            arp(ArpOperation::REQUEST, OURS),
            false,
        ),
        (
            "match=tcp:80,443;udp:53",
            ipv6(solicited(), &nd(135, v6(2))),
            false,
        ),
        ("match=tcp", ipv4(OTHER, 0, MIDDLE, &tcp(80)), true),
        ("match=tcp", ipv4(OTHER, 0, MIDDLE, &udp(80)), false),
        ("match=tcp", ipv6(v6(9), &fragment(1, true, &tcp(80))), true),
        ("match=udp:5000-5099", v4(OURS, &udp(4999)), false),
        ("match=udp:5000-5099", v4(OURS, &udp(5000)), true),
        ("match=udp:5000-5099", v4(OURS, &udp(5099)), true),
        ("match=udp:5000-5099", v4(OURS, &udp(5100)), false),
        (
            "match=icmp6",
            ipv6(v6(9), &layer("echo", 58, [128, 0, 0, 0])),
            true,
        ),
        ("match=icmp6", ipv6(solicited(), &nd(135, v6(2))), false),
        (
            "match=icmp6",
            v4(OURS, &layer("echo", 58, [128, 0, 0, 0])),
            false,
        ),
        (
            "match=icmp",
            v4(OURS, &layer("echo", 1, [8, 0, 0, 0])),
            true,
        ),
        ("addr=10.0.0.2", v4(OURS, &nothing), true),
        ("addr=10.0.0.2", v4(OTHER, &tcp(80)), false),
        ("addr=10.0.0.2", ipv4(OURS, 0, LAST, &udp(9)), true),
        ("addr=10.0.0.2", arp(ArpOperation::REQUEST, OURS), true),
        ("addr=10.0.0.2", arp(ArpOperation::REPLY, OURS), true),
        ("addr=10.0.0.2", arp(ArpOperation::REQUEST, OTHER), false),
        ("addr=10.0.0.2", ipv6(v6(2), &tcp(80)), false),
        ("addr=fd00::2", ipv6(v6(2), &tcp(80)), true),
        ("addr=fd00::2", ipv6(solicited(), &nd(135, v6(2))), true),
        // Another address that is asked for in the same group.
        ("addr=fd00::2", ipv6(solicited(), &nd(135, v6(9))), false),
        // An answer to what was asked.
        (
            "addr=fd00::2,match=tcp:80",
            ipv6(v6(2), &nd(136, v6(9))),
            true,
        ),
        (
            "addr=fd00::2,match=tcp:80",
            ipv6(v6(9), &nd(136, v6(9))),
            false,
        ),
        (
            "addr=fd00::2,match=tcp:80",
            ipv6(v6(2), &nd(133, v6(9))),
            false,
        ),
        ("addr=fd00::2", arp(ArpOperation::REQUEST, OURS), false),
        ("addr=10.0.0.2,match=tcp:80", v4(OURS, &tcp(80)), true),
        ("addr=10.0.0.2,match=tcp:80", v4(OURS, &tcp(81)), false),
        ("addr=10.0.0.2,match=tcp:80", v4(OTHER, &tcp(80)), false),
        (
            "addr=10.0.0.2,match=tcp:80",
            ipv4(OURS, 0, MIDDLE, &tcp(81)),
            true,
        ),
        (
            "addr=10.0.0.2,match=tcp:80",
            ipv4(OURS, 0, MIDDLE, &udp(80)),
            false,
        ),
        (
            "addr=10.0.0.2,match=tcp:80",
            arp(ArpOperation::REQUEST, OURS),
            true,
        ),
    ];
    for (keys, packet, matches) in cases {
        let dropping = Dropping::load(keys);
        for (place, frame) in frames_of(&packet).iter().enumerate() {
            // Three tags are one too many, but for whoever takes everything.
            let expected = matches && (place < 4 || keys == "match=all");
            assert_eq!(
                dropping.matches(&frame.octets),
                expected,
                "{keys}: {}",
                frame.name
            );
        }
    }
}

#[test]
fn every_packet_goes_where_the_reference_says() {
    if !may_load() {
        return;
    }
    let frames: Vec<_> = packets().iter().flat_map(frames_of).collect();
    for keys in FILTERS {
        let dropping = Dropping::load(keys);
        for frame in &frames {
            dropping.check(&frame.name, &frame.octets);
        }
    }
}

#[test]
fn frame_cut_anywhere_goes_where_the_reference_says() {
    if !may_load() {
        return;
    }
    let packets = packets();
    for keys in FILTERS {
        let dropping = Dropping::load(keys);
        for (number, packet) in packets.iter().enumerate() {
            // All that a header can be cut in; of what is much longer, the beginning.
            let frame = &frames_of(packet)[number % 4];
            for len in RUN_MIN..frame.octets.len().min(140) {
                dropping.check(&frame.name, &frame.octets[..len]);
            }
        }
    }
}

#[test]
fn mutated_frame_goes_where_the_reference_says() {
    if !may_load() {
        return;
    }
    let frames: Vec<_> = packets().iter().flat_map(frames_of).collect();
    let droppings = FILTERS.map(Dropping::load);
    let changes = proptest::collection::vec((12_usize..120, any::<u8>(), any::<bool>()), 0..4);
    let strategy = (0..frames.len(), changes, RUN_MIN..200);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 4000,
        // What fails is printed whole.
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&strategy, |(number, changes, len)| {
        let frame = &frames[number];
        let mut octets = frame.octets.clone();
        for (at, value, one_bit) in changes {
            if let Some(octet) = octets.get_mut(at) {
                *octet = if one_bit {
                    *octet ^ 1 << (value % 8)
                } else {
                    value
                };
            }
        }
        octets.truncate(len.max(RUN_MIN));
        droppings
            .iter()
            .for_each(|dropping| dropping.check(&frame.name, &octets));
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}
