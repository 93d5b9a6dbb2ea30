//! Whatever the walk over extension headers finds lies in the packet.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::extension::{FragmentHeader, HEADERS_MAX, walk, walk_on};
use netstack::wire::ipv6::{HEADER_LEN, Ipv6};

fuzz_target!(|bytes: &[u8]| {
    let Ok(ip) = Ipv6::parse(bytes) else {
        return;
    };
    let rest = &bytes[HEADER_LEN..];
    match walk(&ip, rest) {
        Ok(chain) => {
            assert!(chain.offset <= bytes.len() && chain.named_at < chain.offset);
            assert!(chain.offset <= HEADER_LEN + HEADERS_MAX * 2048);
            assert_eq!(bytes[chain.named_at], chain.protocol.0);
            if let Some(fragment) = chain.fragment {
                assert_eq!(bytes[fragment.named_at], 44);
                assert!(fragment.at + FragmentHeader::LEN <= chain.offset);
                assert!(fragment.header.is_whole() || fragment.at + 8 == chain.offset);
                let payload = &bytes[fragment.at + FragmentHeader::LEN..];
                if let Ok(chain) = walk_on(&ip, &fragment, payload) {
                    assert!(chain.offset <= fragment.at + payload.len());
                }
            }
        }
        Err(refusal) => {
            if let Some(problem) = refusal.problem {
                assert!((problem.pointer as usize) < bytes.len());
            }
        }
    }
});
