//! Sockets that were opened by a port before.

use super::*;

/// What a former primary left of a port on `a0`, and the successor that looks at it.
fn heir(host: &Host, region: &'static Region, args: &str, promiscuous: bool) -> Box<dyn Device> {
    let args = DevArgs::parse(args).unwrap();
    let left = Legacy {
        rx: 1,
        tx: 1,
        promiscuous,
        word: 0,
    };
    let cx = Probe {
        region,
        port: PortId(0),
        vdevs: &[],
    };
    let adopt = || AfPacket.adopt(&cx, &args, &left);
    host.run(adopt).unwrap().unwrap()
}

#[test]
fn only_a_socket_that_the_port_would_open_itself_is_adopted() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        lab::veth((&a, "a1"), (&b, "b1"), 1).unwrap();
        let memory = memory(1024);
        let args = "net_af_packet0,iface=a0";
        let port = Opened::start(&a, memory, args, 1, 1);
        let hand = |port: &Opened, direction| {
            let handed = port.device.descriptors(QueueId(0), direction);
            handed.unwrap().unwrap()
        };
        let (rx, tx) = (Direction::Rx, Direction::Tx);
        // Of one port in what another one says.
        let as_of = |port: &Opened, direction| Handed {
            payload: hand(&Opened::start(&a, memory, args, 1, 1), direction).payload,
            descriptors: hand(port, direction).descriptors,
        };
        let other = Opened::start(&a, memory, "net_af_packet0,iface=a1", 1, 1);
        let far = Opened::start(&b, memory, "net_af_packet0,iface=b0", 1, 1);
        assert_eq!(a.index("a0").unwrap(), b.index("b0").unwrap());
        let long = Opened::start(&a, memory, "net_af_packet0,iface=a0,framecnt=4096", 1, 1);
        let swapped = |payload, descriptors| Handed {
            payload: hand(&port, payload).payload,
            descriptors: hand(&port, descriptors).descriptors,
        };
        let file = Handed {
            payload: hand(&port, rx).payload,
            descriptors: vec![std::fs::File::open("/dev/null").unwrap().into()],
        };
        let cases = [
            (rx, hand(&port, tx), "its first word"),
            (tx, hand(&port, rx), "its first word"),
            (rx, Handed::default(), "its first word"),
            (rx, file, "no packet socket for this direction"),
            (rx, swapped(rx, tx), "no packet socket for this direction"),
            (tx, swapped(tx, rx), "bound for the other direction"),
            (rx, hand(&long, rx), "cut otherwise"),
            (rx, as_of(&long, rx), "cannot be mapped"),
            (rx, as_of(&other, rx), "bound to interface number"),
            (tx, as_of(&other, tx), "bound to interface number"),
            (rx, as_of(&far, rx), "another network namespace"),
            (tx, as_of(&far, tx), "another network namespace"),
        ];
        let mut heir = heir(&a, memory.0, args, true);
        for (number, (direction, handed, reason)) in cases.into_iter().enumerate() {
            let refused = heir.adopt(QueueId(0), direction, handed).unwrap_err();
            assert!(refused.contains(reason), "{number}: {refused}");
            assert!(!heir.holds(QueueId(0), direction));
        }
        for direction in [rx, tx] {
            heir.adopt(QueueId(0), direction, hand(&port, direction))
                .unwrap();
            assert!(heir.holds(QueueId(0), direction));
        }
        // An interface made anew is another one.
        let kept = [rx, tx].map(|direction| (direction, hand(&port, direction)));
        a.remove("a0").unwrap();
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        for (direction, handed) in kept {
            let refused = heir.adopt(QueueId(0), direction, handed).unwrap_err();
            assert!(
                refused.contains("bound to interface number -1"),
                "{refused}"
            );
        }
    });
}

/// How many ask for the frames to other addresses of an interface, as the kernel counts them: a veth shows nothing of it.
fn promiscuity(host: &Host, iface: &str) -> u32 {
    use rustix::net::{RecvFlags, SendFlags, recv, send};
    const GET_LINK: u16 = 18;
    const HEADERS_LEN: usize = 32;
    const PROMISCUITY: u16 = 30;
    let index = host.index(iface).unwrap();
    let mut request = [0; HEADERS_LEN];
    request[0] = HEADERS_LEN as u8;
    request[4..6].copy_from_slice(&GET_LINK.to_ne_bytes());
    request[6] = 1;
    request[20..24].copy_from_slice(&index.to_ne_bytes());
    // Without a protocol, that of routes.
    let flags = SocketFlags::CLOEXEC;
    let open = || socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None);
    let socket = host.run(open).unwrap().unwrap();
    send(&socket, &request, SendFlags::empty()).unwrap();
    let mut answer = vec![0; 1 << 16];
    let (_, len) = recv(&socket, &mut answer[..], RecvFlags::empty()).unwrap();
    let mut at = HEADERS_LEN;
    while at < len {
        let number = |at: usize| u16::from_ne_bytes([answer[at], answer[at + 1]]);
        if number(at + 2) == PROMISCUITY {
            return u32::from_ne_bytes(answer[at + 4..at + 8].try_into().unwrap());
        }
        at += usize::from(number(at)).next_multiple_of(4);
    }
    panic!("the kernel does not say");
}

#[test]
fn adopted_socket_is_in_the_mode_that_the_record_says() {
    lab::isolated!({
        let (a, _b) = cable("a", "b");
        let memory = memory(128);
        let args = "net_af_packet0,iface=a0";
        let port = Opened::start(&a, memory, args, 1, 1);
        let kept = || {
            let handed = port.device.descriptors(QueueId(0), Direction::Rx);
            handed.unwrap().unwrap()
        };
        assert!(port.device.info().promiscuous);
        assert_eq!(promiscuity(&a, "a0"), 1);
        let mut on = heir(&a, memory.0, args, true);
        on.adopt(QueueId(0), Direction::Rx, kept()).unwrap();
        assert_eq!(promiscuity(&a, "a0"), 1);
        // One that died between noting that the mode ends and telling this socket; then one that died after both.
        for _ in 0..2 {
            let mut off = heir(&a, memory.0, args, false);
            off.adopt(QueueId(0), Direction::Rx, kept()).unwrap();
            assert!(!off.info().promiscuous);
            assert_eq!(promiscuity(&a, "a0"), 0);
        }
        let mut off = heir(&a, memory.0, args, false);
        off.adopt(QueueId(0), Direction::Rx, kept()).unwrap();
        off.set_promiscuous(true).unwrap();
        assert_eq!(promiscuity(&a, "a0"), 1);
    });
}
