//! Messages that are taken are about groups, and their sources lie in them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::checksum::checksum;
use netstack::wire::igmp::{LEN, Message, write_report_v2};

fuzz_target!(|bytes: &[u8]| {
    let _ = Message::parse(bytes);
    // With the right checksum, or next to nothing gets past it.
    let mut bytes = bytes.to_vec();
    if let Some(field) = bytes.get_mut(2..4) {
        field.fill(0);
        let sum = checksum(&bytes).to_be_bytes();
        bytes[2..4].copy_from_slice(&sum);
    }
    match Message::parse(&bytes) {
        Ok(Message::Query(query)) => {
            assert!(query.group.is_multicast() || query.group.is_unspecified());
            assert!((1..=3).contains(&query.version));
            assert!(query.sources.is_empty() || 12 + query.sources.len() * 4 <= bytes.len());
        }
        Ok(Message::Report(group)) => {
            let mut out = [0; LEN];
            write_report_v2(group, &mut out);
            assert_eq!(Message::parse(&out), Ok(Message::Report(group)));
        }
        Ok(Message::Other(_)) | Err(_) => {}
    }
});
