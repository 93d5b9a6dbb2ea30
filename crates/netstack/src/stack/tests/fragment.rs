//! Datagrams that come in pieces: RFC 791, RFC 815, RFC 5722, RFC 6946, RFC 8200 section 4.5.

use super::*;

/// A datagram to port 1000, cut every so many bytes.
fn pieces(address: fn(usize) -> IpAddr, id: u16, data: &[u8], size: usize) -> Vec<Vec<u8>> {
    let bytes = udp(at(address(1), 2000), at(address(0), 1000), data);
    let cut = bytes.chunks(size).enumerate().map(|(number, chunk)| {
        let start = number * size;
        let more = start + chunk.len() < bytes.len();
        framed(
            US,
            &piece(address(1), address(0), UDP, (id, start, more), chunk),
        )
    });
    cut.collect()
}

#[test]
fn pieces_make_a_datagram_in_any_order() {
    for address in BOTH {
        let mut host = Host::new();
        let socket = host.socket(address(0), 1000);
        let data: Vec<u8> = pattern(5000, 31);
        let forward = pieces(address, 1, &data, 1000);
        let mut backward = pieces(address, 2, &data, 72);
        backward.reverse();
        for frames in [forward, backward] {
            for frame in &frames {
                host.hears(frame);
            }
            assert_eq!(
                host.heard(socket),
                Some((at(address(1), 2000), data.clone()))
            );
        }
        assert_eq!(host.stack.traffic().reassembled, 2);
        assert_eq!(host.stack.drops().total(), 0);
        assert_eq!(host.heap.in_use(), 0);
    }
}

#[test]
fn datagram_that_is_not_completed_is_given_up_and_its_sender_told() {
    for (address, seconds, kind) in [(v4 as fn(usize) -> IpAddr, 30, 11), (v6, 60, 3)] {
        let mut host = Host::new();
        let frames = pieces(address, 1, &[5; 3000], 1000);
        host.hears(&frames[0]);
        host.hears(&frames[2]);
        assert!(host.wait(Duration::from_secs(seconds - 1)).is_empty());
        let sent = host.wait(Duration::from_secs(2));
        assert_eq!(sent.len(), 1);
        let told = seen(&sent[0]);
        assert_eq!(told.data[..2], [kind, 1]);
        let packet = &frames[0][14..];
        let max = if kind == 11 { 548 } else { 1232 };
        assert_eq!(told.data[8..], packet[..packet.len().min(max)]);
        assert_eq!(host.stack.drops().of(Reason::FragmentTimeout), 2);
        assert_eq!(host.stack.drops().total(), 2);
        // Without the first, nobody is told: RFC 792, RFC 4443 section 3.3.
        host.hears(&pieces(address, 2, &[5; 3000], 1000)[1]);
        assert!(host.wait(Duration::from_secs(61)).is_empty());
        assert_eq!(host.stack.drops().of(Reason::FragmentTimeout), 3);
        assert_eq!(host.heap.in_use(), 0);
    }
}

#[test]
fn each_fragment_is_counted_once() {
    for address in BOTH {
        let mut host = Host::new();
        let frames = pieces(address, 1, &[5; 3000], 1000);
        host.hears(&frames[0]);
        host.swallows(&frames[0], Reason::FragmentDuplicate);
        // An overlap takes all with it, and what follows.
        let overlap = piece(address(1), address(0), UDP, (1, 8, true), &[9; 1000]);
        host.hears(&framed(US, &overlap));
        assert_eq!(host.stack.drops().of(Reason::FragmentOverlap), 2);
        host.swallows(&frames[1], Reason::FragmentOverlap);
        host.wait(Duration::from_secs(61));
        assert_eq!(host.stack.drops().total(), 4, "{:?}", host.stack.drops());
        assert_eq!(host.heap.in_use(), 0);
    }
}

#[test]
fn wrong_length_and_end_are_told_to_who_sent_them_over_ipv6() {
    let mut host = Host::new();
    let odd = piece(v6(1), v6(0), UDP, (1, 0, true), &[1; 1001]);
    host.drops(&framed(US, &odd), Reason::FragmentMalformed);
    let sent = host.sent();
    let told = seen(&sent[0]);
    // Parameter problem: the payload length.
    assert_eq!(
        told.data[..8],
        [4, 0, told.data[2], told.data[3], 0, 0, 0, 4]
    );
    assert_eq!(told.data[8..], odd);
    let far = piece(v6(1), v6(0), UDP, (1, 65_528, false), &[1; 100]);
    host.drops(&framed(US, &far), Reason::FragmentMalformed);
    let told = seen(&host.sent()[0]);
    // The fragment's offset.
    assert_eq!(
        told.data[..8],
        [4, 0, told.data[2], told.data[3], 0, 0, 0, 42]
    );
    let odd = piece(v4(1), v4(0), UDP, (1, 0, true), &[1; 1001]);
    host.swallows(&framed(US, &odd), Reason::FragmentMalformed);
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn fragment_that_is_all_is_a_datagram() {
    let mut host = Host::new();
    let socket = host.socket(v6(0), 1000);
    let bytes = udp(at(v6(1), 2000), at(v6(0), 1000), b"atomic");
    host.hears(&framed(
        US,
        &piece(v6(1), v6(0), UDP, (1, 0, false), &bytes),
    ));
    assert_eq!(host.heard(socket).unwrap().1, b"atomic");
}

/// RFC 7112: who looks at the first fragment is to see what it is.
#[test]
fn first_fragment_without_all_headers_is_dropped_and_its_sender_told() {
    const OPTIONS: u8 = 60;
    let mut host = Host::new();
    let socket = host.socket(v6(0), 1000);
    let data = udp(at(v6(1), 2000), at(v6(0), 1000), &[5; 100]);
    let whole = [&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &data].concat();
    // Its options, and nothing of UDP; and options that end in the second one.
    let long = [&[UDP, 1, 1, 12][..], &[0; 12], &data].concat();
    for (number, whole) in [(1, &whole), (2, &long)] {
        let first = piece(v6(1), v6(0), OPTIONS, (number, 0, true), &whole[..8]);
        host.drops(&framed(US, &first), Reason::FragmentHeaders);
        let told = seen(&host.sent()[0]);
        // Parameter problem, code 3, which points nowhere: RFC 8200 section 4.5.
        let checksum = (told.data[2], told.data[3]);
        assert_eq!(told.data[..8], [4, 3, checksum.0, checksum.1, 0, 0, 0, 0]);
        assert_eq!(told.data[8..], first);
        // What follows makes no datagram of it.
        let rest = piece(v6(1), v6(0), OPTIONS, (number, 8, false), &whole[8..]);
        host.hears(&framed(US, &rest));
        assert!(host.heard(socket).is_none());
    }
    // With the header of UDP it is one.
    for (number, whole, cut) in [(3, &whole, 16), (4, &long, 24)] {
        for (offset, more) in [(0, true), (cut, false)] {
            let part = if more { &whole[..cut] } else { &whole[cut..] };
            let part = piece(v6(1), v6(0), OPTIONS, (number, offset, more), part);
            host.hears(&framed(US, &part));
        }
        assert_eq!(host.heard(socket).unwrap().1, [5; 100]);
    }
    // To a group nobody is told; and to others not more often than any error.
    let group: Ipv6Addr = "ff02::1".parse().unwrap();
    let first = piece(v6(1), group.into(), OPTIONS, (5, 0, true), &whole[..8]);
    let frame = framed(Mac::multicast_v6(group), &first);
    host.swallows(&frame, Reason::FragmentHeaders);
    let burst = host.stack.config().icmp.errors_burst;
    let before = host.stack.traffic().errors_sent;
    for number in 0..1000 {
        let first = piece(v6(1), v6(0), OPTIONS, (number, 0, true), &whole[..8]);
        host.drops(&framed(US, &first), Reason::FragmentHeaders);
    }
    assert!(host.stack.traffic().errors_sent - before <= u64::from(burst));
    host.sent();
    host.wait(Duration::from_secs(61));
    host.sent();
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn flood_of_pieces_holds_a_bounded_number_of_buffers() {
    let mut host = Host::new();
    let config = host.stack.config().reassembly;
    for number in 0..5000_u16 {
        let source = IpAddr::from([10, 0, number.to_be_bytes()[0], number.to_be_bytes()[1] | 4]);
        let bytes = piece(source, v4(0), UDP, (number, 0, true), &[0; 800]);
        host.hears(&framed(US, &bytes));
    }
    assert!(host.heap.in_use() <= config.packets_max.min(config.datagrams_max));
    let held = host.heap.in_use() as u64;
    // One of them has a broadcast address as its source.
    assert_eq!(host.stack.drops().total(), 5000 - held);
    host.wait(Duration::from_secs(61));
    host.sent();
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn nobody_listens_to_a_datagram_that_came_in_pieces() {
    let mut host = Host::new();
    for address in BOTH {
        let frames = pieces(address, 1, &[5; 1500], 1000);
        host.hears(&frames[0]);
        let sent = host.answers(&frames[1]);
        assert_eq!(sent.len(), 1);
        let told = seen(&sent[0]);
        if address(0).is_ipv4() {
            assert_eq!(told.data[..2], [3, 3]);
            assert_eq!(
                sum(&told.data[8..28]),
                0xffff,
                "the quoted header's checksum"
            );
        } else {
            assert_eq!(told.data[..2], [1, 4]);
        }
    }
    assert_eq!(host.heap.in_use(), 0);
}
