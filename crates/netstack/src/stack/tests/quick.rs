//! The quick way and the long way come out the same.

use proptest::prelude::*;

use super::*;

/// The same frame behind a tag that says a priority and no VLAN, which the quick way leaves to the long one.
fn detour(frame: &[u8]) -> Vec<u8> {
    match frame.split_at_checked(12) {
        Some((addresses, rest)) => [addresses, &[0x81, 0, 0xe0, 0], rest].concat(),
        None => frame.to_vec(),
    }
}

fn outcome(
    host: &mut Host,
    socket: [UdpId; 2],
    frame: &[u8],
) -> impl PartialEq + core::fmt::Debug + use<> {
    let sent = host.answers(frame);
    let heard = socket.map(|socket| {
        let datagram = host.stack.udp(socket).recv_from();
        datagram.map(|heard| {
            let data = heard.packet.data().to_vec();
            (heard.from, heard.to, heard.traffic_class, data)
        })
    });
    (sent, heard, host.stack.drops().clone())
}

proptest! {
    #[test]
    fn frames_come_out_the_same_on_both_ways(
        six: bool,
        len in 0..64_usize,
        changes in proptest::collection::vec((0..110_usize, any::<u8>()), 0..4),
        cut in 0..200_usize,
        more in 0..20_usize,
        mends: bool,
    ) {
        let address = if six { v6 } else { v4 };
        let mut frame = datagram(at(address(1), 5), at(address(0), 1000), &vec![7; len]);
        frame.resize(frame.len() + more, 0);
        for (place, value) in changes {
            if let Some(byte) = frame.get_mut(place).filter(|_| !(12..14).contains(&place)) {
                *byte = value;
            }
        }
        if mends && !six {
            frame[24..26].fill(0);
            let checksum = !sum(&frame[14..34]);
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        }
        frame.truncate(cut.max(14));
        let mut hosts = [Host::new(), Host::new()];
        let frames = [frame.clone(), detour(&frame)];
        let [quick, long] = [0, 1].map(|which| {
            let host = &mut hosts[which];
            let sockets = BOTH.map(|address| host.socket(address(0), 1000));
            outcome(host, sockets, &frames[which])
        });
        prop_assert_eq!(quick, long, "{:x?}", frame);
    }

    #[test]
    fn datagrams_leave_the_same_on_both_ways(six: bool, len in 0..1600_usize, class: u8, offloads: [bool; 2]) {
        let address = if six { v6 } else { v4 };
        let mut config = InterfaceConfig::new(0, US);
        config.offloads = Offloads { ip_checksum: false, l4_checksum: offloads[1] };
        let mut host = Host::on(config, Config::default());
        let socket = host.socket(address(0), 1000);
        host.stack.udp(socket).set_traffic_class(class).unwrap();
        let data: Vec<u8> = pattern(len, 5);
        let to = at(address(1), 9);
        host.stack.udp(socket).send_bytes(b"known", to).unwrap();
        host.sent();
        host.stack.udp(socket).send_bytes(&data, to).unwrap();
        let long: Vec<_> = core::iter::from_fn(|| host.stack.poll_transmit(0)).collect();
        let packet = host.heap.packet(&data).unwrap();
        host.stack.udp(socket).send_to(packet, to).unwrap();
        let quick: Vec<_> = core::iter::from_fn(|| host.stack.poll_transmit(0)).collect();
        prop_assert_eq!(long.len(), quick.len());
        for (long, quick) in long.iter().zip(&quick) {
            prop_assert_eq!(long.wishes, quick.wishes);
            if long.data().len() < 14 + 1500 && quick.len() == 1 {
                prop_assert_eq!(long.data(), quick.data());
            }
        }
    }
}
