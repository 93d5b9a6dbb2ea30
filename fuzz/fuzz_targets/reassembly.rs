//! Datagrams are put together as a plain model of their bytes does it, and what waits stays within all limits.

#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use netstack::ip::reassembly::{Key, Outcome, Reassembly, ReassemblyConfig};
use netstack::{Bytes, Heap, Instant, InterfaceId, Packet};

const CONFIG: ReassemblyConfig = ReassemblyConfig {
    datagrams_max: 6,
    per_source_max: 3,
    pieces_max: 8,
    bytes_max: 40_000,
    packets_max: 24,
    timeout_v4: Duration::from_secs(30),
    timeout_v6: Duration::from_secs(60),
};

/// What the byte at a place of a datagram is, if its sender tells the same each time.
fn byte(key: u8, at: usize, version: u8) -> u8 {
    (at.wrapping_mul(31) >> 3) as u8 ^ key.wrapping_mul(67) ^ version
}

fn key(number: u8) -> Key {
    let link = InterfaceId(number >> 3 & 1);
    let (source, id) = (1 + (number >> 1 & 3), u16::from(number & 1));
    if number & 16 == 0 {
        let ends = (Ipv4Addr::new(10, 0, 0, source), Ipv4Addr::new(10, 0, 0, 9));
        Key::v4(link, ends.0, ends.1, 17, id)
    } else {
        let ends = [u16::from(source), 9].map(|host| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host));
        Key::v6(link, ends[0], ends[1], id.into())
    }
}

fn headers(key: &Key) -> Vec<u8> {
    match key.source {
        IpAddr::V4(_) => {
            let mut header = vec![0; 20];
            (header[0], header[9]) = (0x45, key.protocol);
            header
        }
        IpAddr::V6(_) => {
            let mut header = vec![0; 48];
            (header[0], header[6], header[40]) = (0x60, 44, 17);
            header
        }
    }
}

/// All that was sent of one datagram since it began, or since it last was complete: its pieces, and where it ended.
#[derive(Default)]
struct Sent {
    pieces: Vec<(std::ops::Range<usize>, u8)>,
    ends: Vec<usize>,
}

// Steps of six bytes: which datagram, offset, length, flags, a step of time.
fuzz_target!(|input: &[u8]| {
    let heap = Heap::new(1000);
    let mut reassembly: Reassembly<Bytes> = Reassembly::new(CONFIG, 7);
    let mut sent: BTreeMap<u8, Sent> = BTreeMap::new();
    let (mut now, mut taken, mut gone) = (Instant::ZERO, 0_u64, 0_u64);
    for step in input.as_chunks::<6>().0 {
        let [number, offset_high, offset_low, len_high, len_low, flags] = *step;
        let number = number & 31;
        now = now + Duration::from_millis(u64::from(flags >> 3) * 500);
        while let Some(expired) = reassembly.poll_expired(now) {
            gone += u64::from(expired.fragments);
            if let Some(first) = expired.first {
                assert!(first.len <= first.packet.len());
            }
        }
        assert!(reassembly.next_timeout().is_none_or(|next| next > now));
        let key = key(number);
        let (more, version) = (flags & 1 != 0, flags >> 1 & 1);
        // Mostly units of eight; a few that are not.
        let round = if flags & 4 == 0 { !7 } else { !0 };
        let offset = u16::from_be_bytes([offset_high, offset_low]) & round;
        let mut len = usize::from(u16::from_be_bytes([len_high, len_low]) % 3000);
        if more {
            len &= usize::from(round);
        }
        let places = usize::from(offset)..usize::from(offset) + len;
        let data: Vec<u8> = places.clone().map(|at| byte(number, at, version)).collect();
        let Some(packet) = heap.packet(&data) else {
            panic!("{} packets are out", heap.in_use());
        };
        taken += 1;
        let datagram = sent.entry(number).or_default();
        let is_whole = offset == 0 && !more;
        if !is_whole {
            datagram.pieces.push((places, version));
            if !more {
                datagram.ends.push(usize::from(offset) + len);
            }
        }
        match reassembly.add(now, key, offset, more, &headers(&key), packet) {
            Outcome::Waiting => {}
            Outcome::Complete(whole) => {
                gone += u64::from(whole.fragments);
                let bytes = whole.packet.data();
                if is_whole {
                    assert_eq!((whole.fragments, bytes), (1, &data[..]));
                } else {
                    assert!(datagram.ends.contains(&bytes.len()));
                    // Every byte is one that was sent for its place, and none was made up.
                    let mut told = vec![0_u8; bytes.len()];
                    for (places, version) in &datagram.pieces {
                        let end = places.end.min(told.len());
                        let told = told.get_mut(places.start..end).unwrap_or_default();
                        told.iter_mut().for_each(|told| *told |= 1 << version);
                    }
                    for (at, (there, told)) in bytes.iter().zip(told).enumerate() {
                        let fits = |version: u8| {
                            told & 1 << version != 0 && *there == byte(number, at, version)
                        };
                        assert!(fits(0) || fits(1), "byte {at}");
                    }
                    sent.remove(&number);
                }
                assert_eq!(whole.headers.bytes(), headers(&key));
            }
            Outcome::Dropped(dropped) => {
                assert!(dropped.fragments > 0);
                gone += u64::from(dropped.fragments);
                if let Some(problem) = dropped.problem {
                    assert!(key.source.is_ipv6());
                    assert!((problem.pointer as usize) < headers(&key).len());
                }
            }
        }
        gone += reassembly.take_evicted();
        assert!(reassembly.datagrams() <= CONFIG.datagrams_max);
        assert!(reassembly.bytes() <= CONFIG.bytes_max);
        assert!(reassembly.packets() <= CONFIG.packets_max);
        assert_eq!(heap.in_use(), reassembly.packets());
    }
    // In the end everything is given up, and each fragment was told of once.
    while let Some(expired) = reassembly.poll_expired(now + Duration::from_secs(61)) {
        gone += u64::from(expired.fragments);
    }
    assert_eq!((reassembly.datagrams(), heap.in_use()), (0, 0));
    assert_eq!(taken, gone);
});
