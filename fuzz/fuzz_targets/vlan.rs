//! Whatever a tag is, it is read and written alike.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::vlan::Tag;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tag) = Tag::parse(bytes) {
        let mut out = [0; Tag::LEN];
        tag.write(&mut out);
        assert_eq!(out, bytes[..Tag::LEN]);
        let tci = u16::from(tag.pcp()) << 13 | u16::from(tag.dei()) << 12 | tag.vid();
        assert_eq!(tci, tag.tci);
    }
});
