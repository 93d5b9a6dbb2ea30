//! What goes to ourselves.

use super::*;

#[test]
fn datagrams_to_our_own_addresses_never_reach_a_port() {
    let mut host = Host::new();
    for address in BOTH {
        let a = host.socket(address(0), 1000);
        let b = host.socket(address(0), 2000);
        for len in [0, 10, 1500, 20_000] {
            let data = vec![4; len];
            host.stack
                .udp(a)
                .send_bytes(&data, at(address(0), 2000))
                .unwrap();
            assert_eq!(host.stack.next_timeout(), Some(host.stack.now));
            assert!(host.wait(Duration::from_millis(1)).is_empty());
            assert_eq!(host.heard(b), Some((at(address(0), 1000), data)));
        }
        // Nobody there: the error comes back the same way.
        let nobody = at(address(0), 7);
        host.stack.udp(a).send_bytes(b"?", nobody).unwrap();
        host.wait(Duration::from_millis(1));
        assert_eq!(
            host.stack.udp(a).take_error().unwrap(),
            Some(Error::Refused(nobody))
        );
    }
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn our_addresses_come_from_nowhere_else() {
    let mut host = Host::new();
    for address in BOTH {
        host.socket(address(0), 1000);
        let forged = datagram(at(address(0), 2000), at(address(0), 1000), b"me?");
        host.swallows(&forged, Reason::IpSource);
    }
    for source in [
        [127, 0, 0, 1],
        [0, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
        [10, 0, 0, 255],
    ] {
        let from = at(IpAddr::from(source), 2000);
        host.swallows(&datagram(from, at(v4(0), 1000), b"?"), Reason::IpSource);
    }
    for source in ["::1", "ff02::1", "::ffff:10.0.0.2"] {
        let from = at(source.parse().unwrap(), 2000);
        host.swallows(&datagram(from, at(v6(0), 1000), b"?"), Reason::IpSource);
    }
}

#[test]
fn echo_between_two_of_our_sockets_does_not_hold_the_stack_up() {
    let mut host = Host::new();
    let max = host.stack.config().local_max;
    let a = host.socket(v4(0), 1000);
    let to = at(v4(0), 2000);
    host.socket(v4(0), 2000);
    let mut sent = 0;
    while host.stack.udp(a).send_bytes(b"x", to).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, max);
    assert_eq!(
        host.stack.udp(a).send_bytes(b"x", to),
        Err(Error::WouldBlock)
    );
}
