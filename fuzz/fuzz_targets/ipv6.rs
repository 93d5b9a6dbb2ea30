//! A header that is taken is written as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::ipv6::{HEADER_LEN, Ipv6, Repr};

fuzz_target!(|bytes: &[u8]| {
    let Ok(ip) = Ipv6::parse(bytes) else {
        return;
    };
    let repr = Repr {
        traffic_class: ip.traffic_class(),
        flow_label: ip.flow_label(),
        payload_len: ip.payload_len(),
        next_header: ip.next_header(),
        hop_limit: ip.hop_limit(),
        source: ip.source(),
        destination: ip.destination(),
    };
    let mut out = [0; HEADER_LEN];
    repr.write(&mut out);
    assert_eq!(out, bytes[..HEADER_LEN]);
});
