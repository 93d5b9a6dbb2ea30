//! What routers say: from an advertisement to an address, a way out, and their end.

use super::*;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ROUTER_SOLICIT: u8 = 133;
const NEIGHBOUR_SOLICIT: u8 = 135;

/// An advertisement: a lifetime as a default router, and options.
fn advertisement(router: Ipv6Addr, hop_limit: u8, lifetime: u16, options: &[u8]) -> Vec<u8> {
    let fields = [
        &[hop_limit, 0][..],
        &lifetime.to_be_bytes(),
        &[0; 8],
        options,
    ]
    .concat();
    let message = icmp(router.into(), ALL_NODES.into(), 134, 0, &fields);
    let packet = ipv6((router, ALL_NODES), ICMPV6, 255, &message);
    framed(Mac::multicast_v6(ALL_NODES), &packet)
}

/// On the link, and for addresses.
fn prefix(prefix: &str, valid: u32, preferred: u32) -> Vec<u8> {
    let prefix: Ipv6Addr = prefix.parse().unwrap();
    let mut option = vec![3, 4, 64, 0xc0];
    option.extend(valid.to_be_bytes());
    option.extend(preferred.to_be_bytes());
    option.extend([0; 4]);
    option.extend(prefix.octets());
    option
}

fn source_mac(mac: Mac) -> Vec<u8> {
    [&[1, 1][..], &mac.0].concat()
}

fn mtu(mtu: u32) -> Vec<u8> {
    [&[5, 1, 0, 0][..], &mtu.to_be_bytes()].concat()
}

fn enabled(config: Config) -> Host {
    let mut host = Host::bare(InterfaceConfig::new(0, US), config);
    host.stack.enable_autoconf(LINK).unwrap();
    host
}

fn kinds(frames: &[Vec<u8>]) -> Vec<u8> {
    let icmp = frames.iter().map(|frame| seen(frame));
    icmp.filter(|seen| seen.protocol == ICMPV6)
        .map(|seen| seen.data[0])
        .collect()
}

fn addresses(host: &Host) -> Vec<String> {
    let all = host.stack.addresses();
    all.map(|known| format!("{} {}", known.address, known.state))
        .collect()
}

#[test]
fn interface_gets_a_link_local_address_and_asks_for_routers() {
    let mut host = enabled(Config::default());
    let sent = host.wait(Duration::from_secs(10));
    assert_eq!(addresses(&host), ["fe80::ff:fe00:1 preferred"]);
    let mut kinds = kinds(&sent);
    kinds.sort_unstable();
    kinds.dedup();
    // MLD reports stand behind a hop-by-hop header, and are ICMPv6 nevertheless.
    assert_eq!(kinds, [ROUTER_SOLICIT, NEIGHBOUR_SOLICIT, 143]);
    let ready = Event::AddressReady {
        interface: LINK,
        address: "fe80::ff:fe00:1".parse().unwrap(),
    };
    assert_eq!(host.events(), [ready]);
    for frame in sent {
        let seen = seen(&frame);
        if seen.data[0] == ROUTER_SOLICIT {
            assert_eq!(
                (seen.hop_limit, &*seen.destination.to_string()),
                (255, "ff02::2")
            );
        }
    }
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn advertisement_brings_an_address_a_way_out_and_their_end() {
    let mut host = enabled(Config::default());
    host.wait(Duration::from_secs(10));
    let options = [
        prefix("2001:db8::", 7200, 3600),
        mtu(1400),
        source_mac(THEM),
    ]
    .concat();
    host.hears(&advertisement(ROUTER, 100, 1800, &options));
    // It is known at once, and usable once it was looked for.
    assert_eq!(addresses(&host)[1], "2001:db8::ff:fe00:1 tentative");
    let sent = host.wait(Duration::from_secs(3));
    assert!(kinds(&sent).contains(&NEIGHBOUR_SOLICIT));
    assert_eq!(addresses(&host)[1], "2001:db8::ff:fe00:1 preferred");
    let events = host.events();
    assert!(events.contains(&Event::RouterFound {
        interface: LINK,
        router: ROUTER
    }));
    let own: IpAddr = "2001:db8::ff:fe00:1".parse().unwrap();
    assert!(events.contains(&Event::AddressReady {
        interface: LINK,
        address: own
    }));

    // The way out is by the router, whose address came with the advertisement; its hop limit and MTU hold.
    let out: IpAddr = "2001:db8:ffff::1".parse().unwrap();
    let socket = host.stack.udp_v6().unwrap();
    host.stack
        .udp(socket)
        .send_bytes(&[7; 1400], at(out, 9))
        .unwrap();
    let frames = host.sent();
    assert_eq!(frames.len(), 2, "cut to the MTU that the router said");
    for frame in &frames {
        let seen = seen(frame);
        assert!(frame.len() <= 14 + 1400);
        assert_eq!((seen.to_mac, seen.source, seen.hop_limit), (THEM, own, 100));
    }
    // The network is on the link.
    let near: IpAddr = "2001:db8::77".parse().unwrap();
    host.stack
        .udp(socket)
        .send_bytes(b"near", at(near, 9))
        .unwrap();
    assert_eq!(kinds(&host.sent()), [NEIGHBOUR_SOLICIT]);
    host.wait(Duration::from_secs(10));

    // The router's lifetime ends first, then the address is deprecated, then it goes.
    host.events();
    host.wait(Duration::from_secs(1800));
    assert!(host.events().contains(&Event::RouterLost {
        interface: LINK,
        router: ROUTER
    }));
    assert_eq!(
        host.stack.udp(socket).send_bytes(b"far", at(out, 9)),
        Err(Error::NoRoute(out))
    );
    host.wait(Duration::from_secs(1800));
    assert_eq!(addresses(&host)[1], "2001:db8::ff:fe00:1 deprecated");
    host.wait(Duration::from_secs(3600));
    assert_eq!(addresses(&host), ["fe80::ff:fe00:1 preferred"]);
    assert!(host.events().contains(&Event::AddressExpired {
        interface: LINK,
        address: own
    }));
    let left: Vec<_> = host
        .stack
        .routes()
        .map(|route| route.prefix.to_string())
        .collect();
    assert_eq!(left, ["fe80::"]);
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn preferred_router_is_taken_and_the_other_when_it_is_gone() {
    let mut host = enabled(Config::default());
    host.wait(Duration::from_secs(10));
    let other = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 8);
    let prefix = prefix("2001:db8::", 7200, 7200);
    for (router, mac) in [
        (ROUTER, Mac([2, 0, 0, 0, 0, 9])),
        (other, Mac([2, 0, 0, 0, 0, 8])),
    ] {
        let mut frame = advertisement(router, 0, 1800, &[prefix.clone(), source_mac(mac)].concat());
        if router == other {
            // Preference high, and the checksum with it.
            frame[59] |= 0x08;
            let sum = u16::from_be_bytes([frame[56], frame[57]]) - 0x08;
            frame[56..58].copy_from_slice(&sum.to_be_bytes());
        }
        host.hears(&frame);
    }
    host.wait(Duration::from_secs(3));
    let socket = host.stack.udp_v6().unwrap();
    let out = at("2001:db8:ffff::1".parse().unwrap(), 9);
    host.stack.udp(socket).send_bytes(b"out", out).unwrap();
    assert_eq!(seen(&host.sent()[0]).to_mac, Mac([2, 0, 0, 0, 0, 8]));
    host.hears(&advertisement(other, 0, 0, &[]));
    host.stack.udp(socket).send_bytes(b"out", out).unwrap();
    assert_eq!(seen(&host.sent()[0]).to_mac, Mac([2, 0, 0, 0, 0, 9]));
    assert_eq!(host.stack.routers().count(), 1);
}

#[test]
fn who_was_not_asked_to_believes_no_router() {
    let frame = advertisement(ROUTER, 0, 1800, &prefix("2001:db8::", 7200, 7200));
    let mut host = Host::new();
    host.swallows(&frame, Reason::NdpIgnored);
    let mut config = Config::default();
    config.icmp.accept_routers = false;
    let mut host = enabled(config);
    host.wait(Duration::from_secs(10));
    host.swallows(&frame, Reason::NdpIgnored);
    assert_eq!(addresses(&host), ["fe80::ff:fe00:1 preferred"]);
}

#[test]
fn advertisements_that_break_the_rules_are_dropped() {
    let mut host = enabled(Config::default());
    host.wait(Duration::from_secs(10));
    let good = advertisement(ROUTER, 0, 1800, &prefix("2001:db8::", 7200, 7200));
    let mut passed_on = good.clone();
    passed_on[21] = 254;
    host.swallows(&passed_on, Reason::NdpMalformed);
    let far: Ipv6Addr = "2001:db8::1".parse().unwrap();
    host.swallows(&advertisement(far, 0, 1800, &[]), Reason::NdpMalformed);
    host.swallows(
        &advertisement(ROUTER, 0, 1800, &[3, 0]),
        Reason::NdpMalformed,
    );
    let mut wrong = good;
    wrong[60] ^= 1;
    host.swallows(&wrong, Reason::IcmpChecksum);
    assert_eq!(host.stack.routers().count(), 0);
}

#[test]
fn hop_limit_is_raised_and_never_lowered() {
    let mut host = enabled(Config::default());
    host.wait(Duration::from_secs(10));
    let options = [prefix("2001:db8::", 7200, 7200), source_mac(THEM)].concat();
    let socket = host.stack.udp_v6().unwrap();
    for (said, wanted) in [(1, 64), (200, 200), (0, 200), (2, 64)] {
        host.hears(&advertisement(ROUTER, said, 1800, &options));
        // Long enough for the address to be checked, too short for the router to be asked in vain.
        host.wait(Duration::from_millis(if said == 1 { 2100 } else { 1000 }));
        let out = at("2001:db8:ffff::1".parse().unwrap(), 9);
        // Both by the quick way and by the long one.
        for _ in 0..2 {
            host.stack.udp(socket).send_bytes(b"out", out).unwrap();
            let packet = host.heap.packet(b"out").unwrap();
            host.stack.udp(socket).send_to(packet, out).unwrap();
        }
        let sent: Vec<_> = host.sent().iter().map(|frame| seen(frame)).collect();
        let ours: Vec<_> = sent.iter().filter(|seen| seen.protocol == UDP).collect();
        assert_eq!(ours.len(), 4);
        for seen in ours {
            assert_eq!(seen.hop_limit, wanted, "after {said}");
        }
    }
}

#[test]
fn flood_of_forged_advertisements_stays_in_bounds() {
    let mut host = enabled(Config::default());
    host.wait(Duration::from_secs(10));
    host.hears(&advertisement(
        ROUTER,
        0,
        1800,
        &prefix("2001:db8::", 7200, 7200),
    ));
    for number in 0..5000_u16 {
        let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xf, number);
        let mac = Mac([2, 1, 0, 0, number.to_be_bytes()[0], number.to_be_bytes()[1]]);
        let network = format!("2001:db8:{number:x}:1::");
        let options = [prefix(&network, 7200, 7200), source_mac(mac)].concat();
        host.hears(&advertisement(router, 0, 1800, &options));
        if number % 500 == 0 {
            host.wait(Duration::from_secs(1));
        }
    }
    let config = host.stack.config().clone();
    assert!(host.stack.routers().count() <= config.autoconf.routers_max);
    assert!(
        host.stack.routes().count()
            <= 1 + config.autoconf.routers_max + config.autoconf.prefixes_max
    );
    assert!(host.stack.addresses().count() <= config.addresses.addresses_max_each);
    assert!(host.stack.neighbours().count() <= config.neighbours.entries_max);
    assert!(host.events().len() <= crate::config::EVENTS_MAX);
    // The first one is still there, and so is what it brought.
    assert!(host.stack.routers().any(|(_, router, ..)| router == ROUTER));
    assert!(addresses(&host).contains(&"2001:db8::ff:fe00:1 preferred".into()));
    assert_eq!(host.heap.in_use(), 0);
    host.wait(Duration::from_secs(8000));
    assert_eq!(addresses(&host), ["fe80::ff:fe00:1 preferred"]);
    assert_eq!(host.stack.routes().count(), 1);
}

#[test]
fn reports_are_made_again_from_the_first_link_local_address() {
    let mut host = enabled(Config::default());
    host.stack.join(LINK, "ff05::123".parse().unwrap()).unwrap();
    let sent = host.wait(Duration::from_secs(10));
    let reports = sent
        .iter()
        .map(|frame| seen(frame))
        .filter(|seen| seen.data[0] == 143);
    let sources: Vec<_> = reports.map(|seen| seen.source.to_string()).collect();
    assert_eq!(sources.first().map(String::as_str), Some("::"));
    assert_eq!(sources.last().map(String::as_str), Some("fe80::ff:fe00:1"));
}

#[test]
fn static_address_brings_a_link_local_one_and_it_reaches_the_link() {
    let mut pair = Pair::new();
    let other: IpAddr = "fe80::ff:fe00:2".parse().unwrap();
    let a = pair.hosts[0].udp_v6().unwrap();
    let b = pair.socket(1, other, 2000);
    pair.hosts[0]
        .udp(a)
        .send_bytes(b"near", at(other, 2000))
        .unwrap();
    pair.carry();
    let there = pair.hosts[1].udp(b).recv_from().unwrap();
    assert_eq!(there.from.ip().to_string(), "fe80::ff:fe00:1");
    assert_eq!(there.packet.data(), b"near");
}
