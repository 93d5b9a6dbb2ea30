//! Two gateways, one of which goes silent: RFC 1122 section 3.3.1.5, RFC 4861 section 6.3.6.

use super::*;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ndp::{LEN_MAX, NeighbourAdvertise};

/// Both gateways of a version, and which of them answers when asked.
struct Routers {
    gateways: [IpAddr; 2],
    far: SocketAddr,
    answer: [bool; 2],
}

const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 9, 1]), Mac([2, 0, 0, 0, 9, 2])];

impl Routers {
    fn new(address: fn(usize) -> IpAddr) -> Self {
        Self {
            gateways: [address(100), address(101)],
            far: at(
                if address(0).is_ipv4() {
                    "192.0.2.1".parse().unwrap()
                } else {
                    "2001:db8::1".parse().unwrap()
                },
                9,
            ),
            answer: [true; 2],
        }
    }

    /// A host with a default route by each.
    fn host(&self) -> Host {
        let mut host = Host::new();
        for gateway in self.gateways {
            let any = if gateway.is_ipv4() {
                [0; 4].into()
            } else {
                [0; 16].into()
            };
            host.stack.add_route(any, 0, gateway).unwrap();
        }
        host
    }

    /// What a router says when it is asked where it is.
    fn says(&self, which: usize) -> Vec<u8> {
        match (self.gateways[which], v4(0), v6(0)) {
            (IpAddr::V4(sender), IpAddr::V4(target), _) => {
                let mut out = [0; Arp::LEN];
                let reply = Arp {
                    operation: Operation::Reply,
                    sender_mac: MACS[which],
                    sender,
                    target_mac: US,
                    target,
                };
                reply.write(&mut out);
                [&US.0[..], &MACS[which].0, &[8, 6], &out].concat()
            }
            (IpAddr::V6(source), _, IpAddr::V6(to)) => {
                let mut out = [0; LEN_MAX];
                let advertise = NeighbourAdvertise {
                    router: true,
                    solicited: true,
                    overriding: true,
                    target: source,
                    target_mac: Some(MACS[which]),
                };
                let len = advertise.write(source, to, &mut out).unwrap();
                framed(US, &ipv6((source, to), ICMPV6, 255, &out[..len]))
            }
            _ => panic!(),
        }
    }

    /// Who is asked for by a frame, if anybody is.
    fn asked(&self, frame: &[u8]) -> Option<usize> {
        let target = match frame[12..14] {
            [8, 6] if frame[21] == 1 => IpAddr::from(<[u8; 4]>::try_from(&frame[38..42]).unwrap()),
            [0x86, 0xdd] if frame[54] == 135 => {
                IpAddr::from(<[u8; 16]>::try_from(&frame[62..78]).unwrap())
            }
            _ => return None,
        };
        self.gateways.iter().position(|gateway| *gateway == target)
    }

    /// Sends a datagram to a far host every second, and says by which routers they went.
    fn talk(&self, host: &mut Host, socket: UdpId, seconds: usize) -> Vec<usize> {
        let (mut ways, mut frames) = (Vec::new(), Vec::new());
        for _ in 0..seconds {
            host.stack.udp(socket).send_bytes(b"far", self.far).unwrap();
            frames.extend(host.sent());
            // Ten times a second: who is asked answers that fast.
            for _ in 0..10 {
                for frame in core::mem::take(&mut frames) {
                    if let Some(asked) = self.asked(&frame) {
                        if self.answer[asked] {
                            host.hears(&self.says(asked));
                        }
                    } else {
                        let to = MACS.iter().position(|mac| mac.0 == frame[..6]);
                        ways.extend(to);
                    }
                    frames.extend(host.sent());
                }
                frames.extend(host.wait(Duration::from_millis(100)));
            }
        }
        ways
    }
}

fn silent(host: &Host) -> Vec<IpAddr> {
    host.stack
        .silent_gateways()
        .map(|(_, gateway)| gateway)
        .collect()
}

#[test]
fn datagrams_go_by_the_other_router_while_one_is_silent() {
    for address in BOTH {
        let mut routers = Routers::new(address);
        let [first, second] = routers.gateways;
        let mut host = routers.host();
        let socket = host.socket(address(0), 1000);
        assert_eq!(routers.talk(&mut host, socket, 5), [0; 5]);
        // It goes silent: found out at the end of Reachable, Delay and three probes.
        routers.answer[0] = false;
        let ways = routers.talk(&mut host, socket, 60);
        let lost = ways.iter().filter(|way| **way == 0).count();
        assert!((25..=40).contains(&lost), "{ways:?}");
        assert_eq!(ways[lost..], vec![1; 60 - lost], "nothing goes back");
        assert_eq!(silent(&host), [first]);
        let heard = |gateway| Event::GatewayHeard {
            interface: LINK,
            gateway,
        };
        let gone = |gateway| Event::GatewaySilent {
            interface: LINK,
            gateway,
        };
        assert_eq!(host.events(), [gone(first)]);
        // It speaks, and is used again at once; as soon as that, if it was asked.
        routers.answer[0] = true;
        host.hears(&routers.says(0));
        assert_eq!(routers.talk(&mut host, socket, 5), [0; 5]);
        assert_eq!(host.events(), [heard(first)]);
        assert!(silent(&host).is_empty());

        // Both go: each is tried in turn, and who comes back is found.
        routers.answer = [false; 2];
        routers.talk(&mut host, socket, 100);
        assert_eq!(silent(&host).len(), 2);
        routers.answer[1] = true;
        let ways = routers.talk(&mut host, socket, 20);
        assert!(
            ways.len() > 12 && ways.iter().all(|way| *way == 1),
            "{ways:?}"
        );
        let events = host.events();
        assert!(events.contains(&gone(second)) && events.contains(&heard(second)));
        assert_eq!(silent(&host), [first]);
        assert_eq!(host.heap.in_use(), 0);
    }
}

/// As on a link with two routers that advertise themselves: the preferred one is used, while it answers.
#[test]
fn advertised_router_that_is_silent_is_passed_over_and_used_again_when_it_advertises() {
    let mut host = Host::new();
    host.stack.enable_autoconf(LINK).unwrap();
    let mut routers = Routers::new(v6);
    routers.gateways = ["fe80::1", "fe80::2"].map(|router| router.parse().unwrap());
    let all: Ipv6Addr = "ff02::1".parse().unwrap();
    let advertises = |which: usize, gateway: IpAddr| {
        let IpAddr::V6(source) = gateway else {
            panic!()
        };
        // Of high preference the first, of medium the second; half an hour, and where it is.
        let preference = if which == 0 { 0x08 } else { 0 };
        let fields = [
            &[64, preference, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1][..],
            &MACS[which].0,
        ];
        let message = icmp(gateway, all.into(), 134, 0, &fields.concat());
        framed(
            Mac::multicast_v6(all),
            &ipv6((source, all), ICMPV6, 255, &message),
        )
    };
    for (which, gateway) in routers.gateways.into_iter().enumerate() {
        host.hears(&advertises(which, gateway));
    }
    let socket = host.socket(v6(0), 1000);
    assert_eq!(routers.talk(&mut host, socket, 60), [0; 60]);
    routers.answer[0] = false;
    let ways = routers.talk(&mut host, socket, 60);
    assert_eq!(ways[45..], [1; 15], "{ways:?}");
    assert_eq!(silent(&host), [routers.gateways[0]]);
    host.hears(&advertises(0, routers.gateways[0]));
    assert!(silent(&host).is_empty());
    assert_eq!(routers.talk(&mut host, socket, 3), [0; 3]);
    assert_eq!(host.stack.routers().count(), 2);
}

#[test]
fn silent_router_is_asked_once_a_minute_and_used_when_it_answers() {
    for address in BOTH {
        let mut routers = Routers::new(address);
        let mut host = routers.host();
        let socket = host.socket(address(0), 1000);
        routers.answer[0] = false;
        // Nobody knows the first one: what waits for it goes by the second in the end, and nothing is lost.
        let ways = routers.talk(&mut host, socket, 10);
        assert_eq!(ways, [1; 10]);
        assert_eq!(host.stack.drops().total(), 0);
        routers.answer[0] = true;
        let ways = routers.talk(&mut host, socket, 70);
        let by_second = ways.iter().filter(|way| **way == 1).count();
        assert!((45..=61).contains(&by_second), "{ways:?}");
        assert_eq!(ways[by_second..], vec![0; 70 - by_second]);
        assert!(silent(&host).is_empty());
    }
}

#[test]
fn who_asks_nobody_is_told_when_all_routers_are_silent() {
    for address in BOTH {
        let mut routers = Routers::new(address);
        let mut host = routers.host();
        let socket = host.socket(address(0), 1000);
        routers.answer = [false; 2];
        routers.talk(&mut host, socket, 1);
        host.wait(Duration::from_secs(8));
        let error = host.stack.udp(socket).take_error().unwrap();
        assert_eq!(error, Some(Error::Unreachable(routers.far.ip())));
        assert_eq!(host.stack.drops().of(Reason::NeighbourFailed), 1);
        assert_eq!(host.heap.in_use(), 0);
    }
}

#[test]
fn sign_of_an_application_saves_the_question() {
    for address in BOTH {
        let routers = Routers::new(address);
        let mut host = routers.host();
        let socket = host.socket(address(0), 1000);
        routers.talk(&mut host, socket, 1);
        let mut asked = 0;
        for signs in [true, false] {
            for _ in 0..60 {
                if signs {
                    host.stack.udp(socket).confirm(routers.far).unwrap();
                }
                host.stack
                    .udp(socket)
                    .send_bytes(b"far", routers.far)
                    .unwrap();
                let sent = host.wait(Duration::from_secs(1));
                asked += sent.iter().filter_map(|frame| routers.asked(frame)).count();
            }
            assert_eq!(asked > 0, !signs);
        }
    }
}
