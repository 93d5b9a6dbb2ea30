//! Messages that are taken are about groups, and their sources lie in them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::ipv6::{HEADER_LEN, Ipv6};
use netstack::wire::mld::{LEN, Message, write_report_v1};

fuzz_target!(|bytes: &[u8]| {
    let Ok(ip) = Ipv6::parse(bytes) else {
        return;
    };
    let bytes = &bytes[HEADER_LEN..];
    assert!(Message::parse(&ip, false, bytes).is_err());
    match Message::parse(&ip, true, bytes) {
        Ok(Message::Query(query)) => {
            assert!(query.group.is_multicast() || query.group.is_unspecified());
            assert!((1..=2).contains(&query.version));
            assert!(query.sources.is_empty() || 28 + query.sources.len() * 16 <= bytes.len());
        }
        Ok(Message::Report(group)) => {
            let mut out = [0; LEN];
            write_report_v1(ip.source(), group, &mut out);
            assert_eq!(Message::parse(&ip, true, &out), Ok(Message::Report(group)));
        }
        Ok(Message::Other(_)) | Err(_) => {}
    }
});
