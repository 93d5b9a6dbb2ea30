//! What a path takes: RFC 1191, RFC 8201, RFC 5927.

use super::*;

/// A router says that what begins so was too large.
fn too_big(quoted: &[u8], mtu: u16) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let data = [&[0, 0, high, low], quoted].concat();
    if quoted[0] >> 4 == 4 {
        let message = icmp(v4(1), v4(0), 3, 4, &data);
        framed(US, &ip(v4(1), v4(0), ICMPV4, &message))
    } else {
        let message = icmp(v6(1), v6(0), 2, 0, &data);
        framed(US, &ip(v6(1), v6(0), ICMPV6, &message))
    }
}

fn sent(host: &mut Host, socket: UdpId, to: SocketAddr, len: usize) -> Vec<Vec<u8>> {
    host.stack
        .udp(socket)
        .send_bytes(&vec![3; len], to)
        .unwrap();
    host.sent()
}

#[test]
fn path_that_takes_less_has_datagrams_cut_and_the_socket_told() {
    for (address, header) in [(v4 as fn(usize) -> IpAddr, 20), (v6, 40)] {
        let mut host = Host::new();
        let socket = host.socket(address(0), 1000);
        let to = at(address(1), 9);
        let whole = sent(&mut host, socket, to, 1400);
        assert_eq!(whole.len(), 1);
        assert_eq!(seen(&whole[0]).dont_fragment, to.is_ipv4());
        host.hears(&too_big(&whole[0][14..], 1300));
        let told = host.stack.udp(socket).take_error().unwrap();
        assert_eq!(
            told,
            Some(Error::PacketTooBig {
                to: to.ip(),
                mtu: 1300
            })
        );
        let shown: Vec<_> = host.stack.paths().copied().collect();
        let narrow = crate::ip::path::PathMtu {
            destination: to.ip(),
            mtu: 1300,
            narrower: false,
            until: host.now + Duration::from_secs(600),
        };
        assert_eq!(shown, [narrow]);
        let cut = sent(&mut host, socket, to, 1400);
        assert_eq!(cut.len(), 2);
        let mut pieces: Vec<_> = cut.iter().map(|frame| seen(frame)).collect();
        pieces.sort_by_key(|seen| seen.piece);
        assert!(cut.iter().all(|frame| frame.len() <= 14 + 1300));
        assert!(pieces.iter().all(|seen| !seen.dont_fragment));
        let data = pieces.iter().flat_map(|seen| seen.data.clone()).collect();
        check(&Seen {
            piece: None,
            data,
            ..pieces.remove(0)
        });
        // What fits goes whole.
        assert_eq!(sent(&mut host, socket, to, 1300 - header - 8).len(), 1);
        // A path never grows by a message, and is tried anew after ten minutes.
        host.hears(&too_big(&whole[0][14..], 1450));
        assert_eq!(sent(&mut host, socket, to, 1400).len(), 2);
        host.wait(Duration::from_secs(601));
        assert_eq!(host.stack.paths().count(), 0);
        assert_eq!(sent(&mut host, socket, to, 1400).len(), 1);
        assert_eq!(host.heap.in_use(), 0);
    }
}

#[test]
fn messages_about_what_was_not_sent_change_nothing() {
    for address in BOTH {
        let mut host = Host::new();
        let socket = host.socket(address(0), 1000);
        let (from, to) = (at(address(0), 1000), at(address(1), 9));
        let quote = |from: SocketAddr, to: SocketAddr| {
            ip(from.ip(), to.ip(), UDP, &udp(from, to, &[0; 100]))
        };
        // From a port of nobody; from an address that is not ours; TCP, which is not spoken.
        let forged = [
            quote(at(address(0), 1001), to),
            quote(at(address(1), 1000), to),
            ip(address(0), address(1), 6, &[0; 20]),
        ];
        for quoted in forged {
            host.swallows(&too_big(&quoted, 1280), Reason::IcmpUnrelated);
        }
        assert_eq!(sent(&mut host, socket, to, 1400).len(), 1);
        // Of a connected socket another peer's.
        host.stack.udp(socket).connect(to).unwrap();
        let other = at(address(7), 9);
        host.swallows(&too_big(&quote(from, other), 1280), Reason::IcmpUnrelated);
        assert_eq!(host.stack.udp(socket).take_error().unwrap(), None);
        // Shorter than it has to be.
        let short = &quote(from, to)[..12];
        host.swallows(&too_big(short, 1280), Reason::IcmpMalformed);
    }
}

#[test]
fn too_small_is_refused_or_bounded() {
    let mut host = Host::new();
    let socket = host.socket(v6(0), 1000);
    let to = at(v6(1), 9);
    let whole = sent(&mut host, socket, to, 1400);
    host.hears(&too_big(&whole[0][14..], 1279));
    assert_eq!(sent(&mut host, socket, to, 1400).len(), 1);
    // IPv4 stops at 552 bytes, and lets routers cut from there on.
    let socket = host.socket(v4(0), 1000);
    let to = at(v4(1), 9);
    let whole = sent(&mut host, socket, to, 1400);
    host.hears(&too_big(&whole[0][14..], 68));
    let cut = sent(&mut host, socket, to, 1400);
    assert_eq!(cut.len(), 3);
    let small = sent(&mut host, socket, to, 100);
    assert!(!seen(&small[0]).dont_fragment);
    // A router that does not say how much: the next smaller usual size.
    let mut host = Host::new();
    let socket = host.socket(v4(0), 1000);
    let whole = sent(&mut host, socket, to, 1400);
    host.hears(&too_big(&whole[0][14..], 0));
    let told = host.stack.udp(socket).take_error().unwrap();
    assert_eq!(
        told,
        Some(Error::PacketTooBig {
            to: v4(1),
            mtu: 1006
        })
    );
}

#[test]
fn socket_that_wants_nothing_cut_is_told() {
    let mut host = Host::new();
    for address in BOTH {
        let socket = host.socket(address(0), 1000);
        host.stack.udp(socket).set_never_cut(true).unwrap();
        let to = at(address(1), 9);
        let refused = host.stack.udp(socket).send_bytes(&[0; 1500], to);
        assert_eq!(
            refused,
            Err(Error::PacketTooBig {
                to: to.ip(),
                mtu: 1500
            })
        );
        let packet = host.heap.packet(&[0; 1500]).unwrap();
        let unsent = host.stack.udp(socket).send_to(packet, to).unwrap_err();
        assert_eq!(
            unsent.error,
            Error::PacketTooBig {
                to: to.ip(),
                mtu: 1500
            }
        );
        assert_eq!(unsent.packet.unwrap().data().len(), 1500);
        assert_eq!(sent(&mut host, socket, to, 1000).len(), 1);
    }
}

#[test]
fn port_and_host_unreachable_reach_the_socket() {
    let mut host = Host::new();
    for (address, protocol, kind, port, net) in [
        (v4 as fn(usize) -> IpAddr, ICMPV4, 3, 3, 0),
        (v6, ICMPV6, 1, 4, 0),
    ] {
        let socket = host.socket(address(0), 1000);
        let to = at(address(1), 9);
        let whole = sent(&mut host, socket, to, 10);
        for (code, error) in [
            (port, Error::Refused(to)),
            (net, Error::Unreachable(to.ip())),
        ] {
            let data = [&[0; 4][..], &whole[0][14..]].concat();
            let message = icmp(address(1), address(0), kind, code, &data);
            host.hears(&framed(US, &ip(address(1), address(0), protocol, &message)));
            assert_eq!(host.stack.udp(socket).take_error().unwrap(), Some(error));
            assert_eq!(host.stack.poll_ready(), Some(socket));
        }
    }
    assert_eq!(host.stack.traffic().errors_received, 4);
}
