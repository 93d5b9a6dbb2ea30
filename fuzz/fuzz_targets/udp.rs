//! A header that is taken is written as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::udp::Udp;

fuzz_target!(|bytes: &[u8]| {
    let Ok(udp) = Udp::parse(bytes) else {
        return;
    };
    assert!(usize::from(udp.length()) >= Udp::LEN);
    let again = Udp::new(udp.source(), udp.destination(), udp.length(), 0);
    let mut out = [0; Udp::LEN];
    again.with_checksum(udp.checksum()).write(&mut out);
    assert_eq!(out, bytes[..Udp::LEN]);
});
