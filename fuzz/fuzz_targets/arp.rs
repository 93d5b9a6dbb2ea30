//! A message that is taken is written as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::arp::Arp;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(arp) = Arp::parse(bytes) {
        let mut out = [0; Arp::LEN];
        arp.write(&mut out);
        assert_eq!(out, bytes[..Arp::LEN]);
    }
});
