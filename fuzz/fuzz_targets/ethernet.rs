//! Whatever a frame begins with is read and written alike.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::ethernet::{Ethernet, Mac};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ethernet) = Ethernet::parse(bytes) {
        let again = Ethernet::new(
            ethernet.destination(),
            ethernet.source(),
            ethernet.ether_type(),
        );
        let mut out = [0; Ethernet::LEN];
        again.write(&mut out);
        assert_eq!(out, bytes[..Ethernet::LEN]);
    }
    if let Ok(mac) = String::from_utf8_lossy(bytes).parse::<Mac>() {
        assert_eq!(mac.to_string().parse(), Ok(mac));
    }
});
