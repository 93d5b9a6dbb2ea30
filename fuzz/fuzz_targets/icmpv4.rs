//! Messages that are understood are written as they were; replies are as right as requests.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::checksum::checksum;
use netstack::wire::icmpv4::{HEADER_LEN, Icmpv4, Message, Quoted, echo_reply_in_place};

fuzz_target!(|bytes: &[u8]| {
    let Ok(icmp) = Icmpv4::parse(bytes) else {
        return;
    };
    let (header, payload) = bytes.split_at(HEADER_LEN);
    let _ = Quoted::parse(payload);
    let Some(message) = icmp.message() else {
        return;
    };
    let mut out = [0; HEADER_LEN];
    message.write(&mut out, payload);
    assert_eq!(out[0], header[0]);
    assert_eq!(checksum(&[&out, payload].concat()), 0);
    assert_eq!(Icmpv4::parse(&out).unwrap().message(), Some(message));

    if let Message::EchoRequest { id, sequence } = message {
        echo_reply_in_place(&mut out);
        let reply = Icmpv4::parse(&out).unwrap().message();
        assert_eq!(reply, Some(Message::EchoReply { id, sequence }));
        let whole = [&out, payload].concat();
        // Where all else is zero the sum may be either zero.
        assert!(checksum(&whole) == 0 || whole.iter().all(|byte| *byte == 0));
    }
});
