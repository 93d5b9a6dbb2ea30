use std::net::Ipv6Addr;

use etherparse::Ipv4HeaderSlice;
use mbuf::{Lcore, Pool, PoolConfig};
use proptest::prelude::*;

use super::*;
use crate::interface::InterfaceId;
use crate::ip::reassembly::{Key, Outcome, Reassembly, ReassemblyConfig};
use crate::packet::{Bytes, Heap, Mbufs};
use crate::time::Instant;

fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 11).to_le_bytes()[0])
        .collect()
}

/// An IPv4 packet with these options and data.
fn packet_v4(options: &[u8], data: &[u8]) -> Vec<u8> {
    let len = 20 + options.len();
    let mut packet = vec![0; 20];
    packet[0] = 0x40 | u8::try_from(len / 4).unwrap();
    packet[1] = 0x2e;
    put(
        &mut packet,
        2,
        u16::try_from(len + data.len()).unwrap().to_be_bytes(),
    );
    put(&mut packet, 4, [0xab, 0xcd]);
    put(&mut packet, 8, [64, 17]);
    put(&mut packet, 12, [10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend_from_slice(options);
    let sum = header_checksum(&packet);
    put(&mut packet, 10, sum.to_be_bytes());
    packet.extend_from_slice(data);
    packet
}

/// An IPv6 packet: `next` and `extensions` follow the header.
fn packet_v6(next: u8, extensions: &[u8], data: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 40];
    packet[0] = 0x60;
    put(
        &mut packet,
        4,
        u16::try_from(extensions.len() + data.len())
            .unwrap()
            .to_be_bytes(),
    );
    put(&mut packet, 6, [next, 64]);
    put(&mut packet, 23, [1]);
    put(&mut packet, 39, [2]);
    packet.extend_from_slice(extensions);
    packet.extend_from_slice(data);
    packet
}

fn bytes_of(packet: &Bytes) -> Vec<u8> {
    packet.data().to_vec()
}

fn cut_v4(whole: &[u8], mtu: u16) -> Result<Vec<Vec<u8>>, Reason> {
    let (mut heap, mut out) = (Heap::new(100_000), Vec::new());
    let packet = heap.packet(whole).unwrap();
    fragment_v4(&mut heap, &packet, mtu, &mut |part| {
        out.push(bytes_of(&part))
    })
    .map(|()| out)
}

fn cut_v6(whole: &[u8], mtu: u16) -> Result<Vec<Vec<u8>>, Reason> {
    let (mut heap, mut out) = (Heap::new(100_000), Vec::new());
    let packet = heap.packet(whole).unwrap();
    let mut emit = |part: Bytes| out.push(bytes_of(&part));
    fragment_v6(&mut heap, &packet, 0x0102_0304, mtu, &mut emit).map(|()| out)
}

/// Puts fragments together, last first, and returns headers and data.
fn together(fragments: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let heap = Heap::new(100_000);
    let config = ReassemblyConfig {
        pieces_max: 10_000,
        packets_max: 40_000,
        ..ReassemblyConfig::default()
    };
    let mut reassembly = Reassembly::new(config, 1);
    for fragment in fragments.iter().rev() {
        let (key, headers_len, field) = if fragment[0] >> 4 == 4 {
            let header = Ipv4HeaderSlice::from_slice(fragment).unwrap();
            let sum = header.to_header().calc_header_checksum();
            assert_eq!(sum, header.header_checksum());
            assert_eq!(usize::from(header.total_len()), fragment.len());
            let (source, destination) = (header.source_addr(), header.destination_addr());
            let key = Key::v4(
                InterfaceId(0),
                source,
                destination,
                17,
                header.identification(),
            );
            let more = u16::from(header.more_fragments());
            (
                key,
                usize::from(header.ihl()) * 4,
                (header.fragments_offset().value() * 8) | more,
            )
        } else {
            let len = u16::from_be_bytes([fragment[4], fragment[5]]);
            assert_eq!(usize::from(len) + 40, fragment.len());
            let at = if fragment[6] == 44 { 40 } else { 48 };
            assert_eq!(fragment[at + 4..at + 8], [1, 2, 3, 4]);
            assert_eq!(fragment[at + 1], 0);
            let key = Key::v6(InterfaceId(0), Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, 1);
            (
                key,
                at + 8,
                u16::from_be_bytes([fragment[at + 2], fragment[at + 3]]),
            )
        };
        let (headers, data) = fragment.split_at(headers_len);
        let packet = heap.packet(data).unwrap();
        match reassembly.add(
            Instant::ZERO,
            key,
            field & !7,
            field & 1 != 0,
            headers,
            packet,
        ) {
            Outcome::Waiting => {}
            Outcome::Complete(datagram) => {
                return (
                    datagram.headers.bytes().to_vec(),
                    datagram.packet.data().to_vec(),
                );
            }
            Outcome::Dropped(dropped) => panic!("{dropped:?}"),
        }
    }
    panic!("incomplete");
}

#[test]
fn parts_are_multiples_of_eight_but_the_last() {
    let part = |offset, len, more| Part { offset, len, more };
    let cut =
        |len, headers, mtu| Fragmenter::new(len, headers, mtu).map(Iterator::collect::<Vec<_>>);
    assert_eq!(
        cut(3000, 20, 1500),
        Some(vec![
            part(0, 1480, true),
            part(1480, 1480, true),
            part(2960, 40, false)
        ])
    );
    assert_eq!(
        cut(100, 20, 75),
        Some(vec![
            part(0, 48, true),
            part(48, 48, true),
            part(96, 4, false)
        ])
    );
    assert_eq!(cut(55, 20, 75), Some(vec![part(0, 55, false)]));
    assert_eq!(cut(0, 20, 20), Some(vec![]));
    assert_eq!(cut(9, 20, 27), None);
    assert_eq!(cut(9, 20, 19), None);
    assert_eq!(cut(9, usize::MAX, 1500), None);
    assert_eq!(
        cut(u16::MAX, 0, u16::MAX),
        Some(vec![part(0, u16::MAX, false)])
    );
    assert_eq!(cut(u16::MAX, 60, 68).map(|parts| parts.len()), Some(8192));
}

#[test]
fn options_that_are_not_copied_are_in_the_first_fragment_alone() {
    // Record route, which is not copied; nothing; router alert, which is; the end.
    let options = [7, 7, 4, 0, 0, 0, 0, 1, 0x94, 4, 0, 0, 0, 0, 0, 0];
    let whole = packet_v4(&options, &pattern(3000));
    let fragments = cut_v4(&whole, 1500).unwrap();
    assert_eq!(fragments.len(), 3);
    assert_eq!(fragments[0][20..36], options);
    for fragment in &fragments[1..] {
        assert_eq!(
            (fragment[0], &fragment[20..24]),
            (0x46, &[0x94, 4, 0, 0][..])
        );
    }
    assert_eq!(together(&fragments).1, pattern(3000));
    // An odd length is filled up with ends of options.
    let odd = [0x83, 3, 4, 0x88, 4, 0, 1, 0];
    let fragments = cut_v4(&packet_v4(&odd, &pattern(3000)), 1500).unwrap();
    assert_eq!((fragments[1][0], &fragments[1][20..28]), (0x47, &odd[..]));
    assert_eq!(together(&fragments).1, pattern(3000));
    for broken in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 5, 0, 0], [1, 1, 1, 7]] {
        let whole = packet_v4(&broken, &pattern(3000));
        assert_eq!(cut_v4(&whole, 1500), Err(Reason::Ipv4Options));
    }
}

#[test]
fn packets_that_fit_are_copied_and_padding_is_left_out() {
    let whole = packet_v4(&[], &pattern(80));
    let mut padded = whole.clone();
    padded.extend_from_slice(&[0xee; 20]);
    assert_eq!(cut_v4(&padded, 100), Ok(vec![whole]));
    let whole = packet_v6(17, &[], &pattern(1240));
    assert_eq!(cut_v6(&whole, 1280), Ok(vec![whole.clone()]));
    assert_eq!(cut_v6(&whole, 1279).map(|fragments| fragments.len()), Ok(2));
}

#[test]
fn what_may_not_be_cut_is_too_large() {
    let mut whole = packet_v4(&[], &pattern(2000));
    assert_eq!(cut_v4(&whole, 27), Err(Reason::TooLarge));
    assert_eq!(cut_v4(&whole, 0), Err(Reason::TooLarge));
    whole[6] = 0x40;
    assert_eq!(cut_v4(&whole, 1500), Err(Reason::TooLarge));
    assert_eq!(
        cut_v6(&packet_v6(17, &[], &pattern(2000)), 55),
        Err(Reason::TooLarge)
    );
}

#[test]
fn packets_that_contradict_themselves_are_refused() {
    let whole = packet_v4(&[], &pattern(2000));
    assert_eq!(cut_v4(&whole[..2019], 1500), Err(Reason::Ipv4Malformed));
    assert_eq!(cut_v4(&whole[..19], 1500), Err(Reason::Ipv4Malformed));
    assert_eq!(cut_v4(&[], 1500), Err(Reason::Ipv4Malformed));
    for (at, byte) in [(0, 0x65), (0, 0x44), (2, 0)] {
        let mut wrong = whole.clone();
        wrong[at] = byte;
        wrong[3] = if at == 2 { 19 } else { wrong[3] };
        assert_eq!(cut_v4(&wrong, 1500), Err(Reason::Ipv4Malformed));
    }
    let whole = packet_v6(17, &[], &pattern(2000));
    assert_eq!(cut_v6(&whole[..2039], 1500), Err(Reason::Ipv6Malformed));
    assert_eq!(cut_v6(&whole[..39], 1500), Err(Reason::Ipv6Malformed));
    // Hop-by-hop options longer than the packet, or than there is room for.
    let long = [17, 255, 0, 0, 0, 0, 0, 0];
    let whole = packet_v6(0, &long, &pattern(1500));
    assert_eq!(cut_v6(&whole, 1500), Err(Reason::Ipv6Extensions));
    let whole = packet_v6(0, &long, &pattern(3000));
    assert_eq!(cut_v6(&whole, 1500), Err(Reason::Ipv6Extensions));
}

#[test]
fn hop_by_hop_options_stay_before_the_fragment_header() {
    let options = [17, 0, 5, 2, 0, 0, 1, 0];
    let fragments = cut_v6(&packet_v6(0, &options, &pattern(3000)), 1280).unwrap();
    for fragment in &fragments {
        assert_eq!((fragment[6], fragment[40], fragment[48]), (0, 44, 17));
        assert_eq!(fragment[41..48], options[1..]);
    }
    assert_eq!(together(&fragments).1, pattern(3000));
}

#[test]
fn fragments_of_a_fragment_know_where_it_was() {
    let data = pattern(6000);
    let fragments = cut_v4(&packet_v4(&[], &data), 1500).unwrap();
    assert_eq!(fragments.len(), 5);
    let smaller: Vec<_> = fragments
        .iter()
        .flat_map(|one| cut_v4(one, 576).unwrap())
        .collect();
    assert!(smaller.len() > 9 && smaller.iter().all(|one| one.len() <= 576));
    assert_eq!(together(&smaller).1, data);
}

#[test]
fn dry_pool_is_told_and_what_was_begun_is_given_back() {
    let mut heap = Heap::new(3);
    let whole = heap.packet(&packet_v4(&[], &pattern(6000))).unwrap();
    let mut held = Vec::new();
    let result = fragment_v4(&mut heap, &whole, 1500, &mut |part| held.push(part));
    assert_eq!((result, held.len()), (Err(Reason::NoBuffer), 2));
    drop((held, whole));
    assert_eq!(heap.in_use(), 0);
}

#[test]
fn chains_of_mbufs_are_cut_to_what_one_mbuf_holds() {
    let region = Box::leak(Box::new(eal::Region::anonymous(1 << 20).unwrap()));
    let pool = Pool::create(region, &PoolConfig::new("packets", 200)).unwrap();
    let lcore = Lcore::new(eal::Slot::claim(region, "test").unwrap());
    let data = pattern(65_000);
    // As large as the link takes, or as a frame has room for behind the headroom.
    for (mtu, longest) in [(1500, 1500), (9000, 1920), (68, 68)] {
        for v6 in [false, true] {
            let bytes = if v6 {
                packet_v6(17, &[], &data)
            } else {
                packet_v4(&[], &data)
            };
            let mut whole = lcore.alloc(pool).unwrap();
            assert!(whole.extend_from_slice(pool, &bytes));
            let (mut packets, mut out) = (Mbufs::new(&lcore, pool), Vec::new());
            let mut emit = |mut part: mbuf::Mbuf| {
                assert!(part.is_contiguous());
                out.push(Packet::data(&part).to_vec());
                assert!(
                    Packet::prepend(&mut part, 22).is_some(),
                    "no room for Ethernet"
                );
            };
            if v6 {
                fragment_v6(&mut packets, &whole, 0x0102_0304, mtu, &mut emit).unwrap();
            } else {
                fragment_v4(&mut packets, &whole, mtu, &mut emit).unwrap();
            }
            let most = out.iter().map(Vec::len).max().unwrap();
            assert!(most <= longest && most + 8 > longest, "{most} of {longest}");
            assert_eq!(together(&out).1, data);
        }
    }
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn checksum_is_that_of_the_standard_example() {
    // RFC 1071 section 3 has the words; their sum is ddf2.
    assert_eq!(
        header_checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]),
        !0xddf2
    );
}

proptest! {
    #[test]
    fn fragments_fit_and_are_the_packet_when_put_together(
        len in 1..8000usize,
        mtu in 68..1920u16,
        options in prop_oneof![Just(vec![]), Just(vec![0x94, 4, 0, 0]), Just(vec![7, 3, 4, 0])],
        v6 in any::<bool>(),
    ) {
        let data = pattern(len);
        let (whole, fragments) = if v6 {
            let whole = packet_v6(17, &[], &data);
            let fragments = cut_v6(&whole, mtu).unwrap();
            (whole, fragments)
        } else {
            let whole = packet_v4(&options, &data);
            let fragments = cut_v4(&whole, mtu).unwrap();
            (whole, fragments)
        };
        prop_assert!(fragments.iter().all(|fragment| fragment.len() <= mtu.into()));
        if whole.len() <= mtu.into() {
            prop_assert_eq!(fragments, [whole]);
        } else {
            prop_assert_eq!(together(&fragments).1, data);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), v6 in any::<bool>(), mtu in 0..200u16) {
        let mut bytes = bytes;
        if let Some([first, _, high, _, higher, ..]) = bytes.first_chunk_mut::<40>().map(<[u8; 40]>::as_mut_slice) {
            *first = if v6 { 0x60 } else { 0x40 | *first & 0xf };
            (*high, *higher) = (0, 0);
        }
        let _ = (cut_v4(&bytes, mtu), cut_v6(&bytes, mtu));
    }
}
