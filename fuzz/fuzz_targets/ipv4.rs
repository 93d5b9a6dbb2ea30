//! A header that is taken is written as it was, and its options lie in it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::ipv4::{HEADER_LEN, HEADER_LEN_MAX, Ipv4, Repr};

fuzz_target!(|bytes: &[u8]| {
    let Ok(ip) = Ipv4::parse(bytes) else {
        return;
    };
    assert!((HEADER_LEN..=HEADER_LEN_MAX).contains(&ip.header_len()));
    assert!(ip.header_len() <= bytes.len());
    assert!(ip.header_len() <= ip.total_len().into());
    assert_eq!(ip.to_bytes(), bytes[..HEADER_LEN]);
    assert_eq!(ip.option_bytes(bytes).len(), ip.header_len() - HEADER_LEN);

    let options = ip.options(bytes);
    let all_good = options.clone().all(|option| option.is_ok());
    let len: usize = options
        .clone()
        .flatten()
        .map(|option| option.bytes().len())
        .sum();
    assert!(len <= ip.header_len() - HEADER_LEN);
    assert_eq!(options.check().is_ok(), all_good);

    let repr = Repr {
        traffic_class: ip.traffic_class(),
        payload_len: ip.payload_len(),
        id: ip.id(),
        dont_fragment: ip.dont_fragment(),
        more_fragments: ip.more_fragments(),
        fragment_offset: ip.fragment_offset(),
        ttl: ip.ttl(),
        protocol: ip.protocol(),
        source: ip.source(),
        destination: ip.destination(),
    };
    let mut out = [0; HEADER_LEN];
    repr.write(&mut out);
    assert!(Ipv4::parse(&out).is_ok_and(|ip| ip.checksum_is_right(&out)));
    // One bit of the flags means nothing.
    if ip.header_len() == HEADER_LEN && bytes[6] & 0x80 == 0 {
        let is_right = ip.checksum_is_right(bytes);
        assert_eq!(out[..10], bytes[..10]);
        assert_eq!(out[12..], bytes[12..HEADER_LEN]);
        assert_eq!(
            is_right,
            out[10..12] == bytes[10..12] || bytes[10..12] == [0xff, 0xff] && out[10..12] == [0, 0]
        );
    }
});
