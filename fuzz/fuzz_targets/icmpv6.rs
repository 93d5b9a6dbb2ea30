//! Messages that are understood are written as they were; replies are as right as requests.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::icmpv6::{HEADER_LEN, Icmpv6, Message, Quoted, echo_reply_in_place, pseudo};
use netstack::wire::ipv6::{self, Ipv6};

fuzz_target!(|bytes: &[u8]| {
    let Ok(ip) = Ipv6::parse(bytes) else {
        return;
    };
    let bytes = &bytes[ipv6::HEADER_LEN..];
    let Ok(icmp) = Icmpv6::parse(bytes) else {
        return;
    };
    let (header, payload) = bytes.split_at(HEADER_LEN);
    let _ = Quoted::parse(payload);
    let Some(message) = icmp.message() else {
        return;
    };
    let is_right = |header: &[u8]| {
        let mut sum = pseudo(ip.source(), ip.destination(), bytes.len());
        sum.add(header);
        sum.add(payload);
        sum.is_right()
    };
    let mut out = [0; HEADER_LEN];
    message.write(ip.source(), ip.destination(), &mut out, payload);
    assert_eq!(out[0], header[0]);
    assert!(is_right(&out));
    assert_eq!(Icmpv6::parse(&out).unwrap().message(), Some(message));

    if let Message::EchoRequest { id, sequence } = message {
        echo_reply_in_place(&mut out);
        let reply = Icmpv6::parse(&out).unwrap().message();
        assert_eq!(reply, Some(Message::EchoReply { id, sequence }));
        assert!(is_right(&out));
    }
});
