//! Messages that are taken obey the rules, and those that we send are written as they were.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::ipv6::{HEADER_LEN, Ipv6};
use netstack::wire::ndp::{LEN_MAX, Message};

fuzz_target!(|bytes: &[u8]| {
    let Ok(ip) = Ipv6::parse(bytes) else {
        return;
    };
    let Ok(message) = Message::parse(&ip, &bytes[HEADER_LEN..]) else {
        return;
    };
    let (source, destination) = (ip.source(), ip.destination());
    let mut out = [0; LEN_MAX];
    let len = match message {
        Message::RouterAdvertise(advertise) => {
            let mut options = advertise.options;
            assert!(options.all(|option| option.is_ok()));
            assert!(advertise.prefixes().all(|prefix| prefix.len <= 128));
            let _ = (advertise.source_mac(), advertise.mtu());
            return;
        }
        Message::Redirect(redirect) => {
            assert!(!redirect.destination.is_multicast());
            return;
        }
        Message::RouterSolicit(solicit) => solicit.write(source, destination, &mut out),
        Message::NeighbourSolicit(solicit) => {
            assert!(!solicit.target.is_multicast());
            solicit.write(source, destination, &mut out)
        }
        Message::NeighbourAdvertise(advertise) => {
            assert!(!advertise.target.is_multicast());
            advertise.write(source, destination, &mut out)
        }
    };
    let again = Message::parse(&ip, &out[..len.unwrap()]);
    assert_eq!(again, Ok(message));
});
