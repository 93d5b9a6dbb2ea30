//! What becomes of addresses and gateways, in the words of the command line that named them.

use std::net::IpAddr;

use netstack::{Event, InterfaceId};

/// What an event means to who started the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    /// It cannot go on.
    Fatal(String),
    /// It goes on, and somebody should look.
    Warning(String),
    /// It goes on.
    News(String),
}

impl Told {
    /// What an event means; `port` says which port an interface is, by its number and its name.
    pub(super) fn of(event: &Event, port: impl Fn(InterfaceId) -> Option<(u16, String)>) -> Self {
        let place = |interface| match port(interface) {
            Some((number, name)) => format!("port {number} ({name})"),
            None => interface.to_string(),
        };
        let option = |interface, address| match port(interface) {
            Some((number, _)) if number > 0 => format!("--ip {number}={address}"),
            _ => format!("--ip {address}"),
        };
        match *event {
            Event::Duplicate {
                interface,
                address,
                by,
            } => Self::Fatal(format!(
                "{address} is not used on {}: the station {} has it already; {}",
                place(interface),
                station(by.0),
                remedy(address, &option(interface, address)),
            )),
            Event::AddressLost {
                interface,
                address,
                by,
            } => Self::Fatal(format!(
                "{address} is given up on {}: the station {} insists on it; {}",
                place(interface),
                station(by.0),
                remedy(address, &option(interface, address)),
            )),
            Event::Conflict {
                interface,
                address,
                by,
            } => Self::Warning(format!(
                "{address} of {} is used by the station {}, too; take it from that station, or write another behind {}",
                place(interface),
                station(by.0),
                option(interface, address),
            )),
            Event::GatewaySilent { interface, gateway } => Self::Warning(format!(
                "--gateway {gateway} does not answer on {}; another is used if there is one: see whether it is up, or add one with --gateway",
                place(interface),
            )),
            Event::GatewayHeard { interface, gateway } => Self::News(format!(
                "--gateway {gateway} is heard again on {}",
                place(interface),
            )),
            _ => Self::News(event.to_string()),
        }
    }
}

/// What to do about an address that is another's.
fn remedy(address: IpAddr, option: &str) -> String {
    match address {
        // It was not asked for, but made of the Ethernet address.
        IpAddr::V6(address) if address.is_unicast_link_local() => format!(
            "no two stations of a link have one Ethernet address: give the port another, or, if it stands in {option}, another address there"
        ),
        _ => format!(
            "take it from that station and start again, or start with another address in place of {option}"
        ),
    }
}

/// A link address as people write it.
fn station([a, b, c, d, e, f]: [u8; 6]) -> String {
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use netstack::wire::ethernet::Mac;

    use super::*;

    #[test]
    fn refusal_names_the_port_the_option_the_holder_and_the_remedy() {
        let port = |interface: InterfaceId| {
            (interface.0 < 2).then(|| (u16::from(interface.0), format!("net_tap{}", interface.0)))
        };
        let by = Mac([2, 0, 0, 0, 0, 0xa]);
        for (number, address, parts) in [
            (
                0,
                "10.0.0.1",
                ["port 0 (net_tap0)", "in place of --ip 10.0.0.1"],
            ),
            (
                1,
                "fd00::1",
                ["port 1 (net_tap1)", "in place of --ip 1=fd00::1"],
            ),
            (1, "fe80::1", ["port 1 (net_tap1)", "give the port another"]),
            // A port that is not there any more.
            (5, "10.0.0.1", ["interface 5", "in place of --ip 10.0.0.1"]),
        ] {
            let (interface, address) = (InterfaceId(number), address.parse().unwrap());
            for event in [
                Event::Duplicate {
                    interface,
                    address,
                    by,
                },
                Event::AddressLost {
                    interface,
                    address,
                    by,
                },
            ] {
                let Told::Fatal(text) = Told::of(&event, port) else {
                    panic!("{event}");
                };
                for part in parts.into_iter().chain(["02:00:00:00:00:0a"]) {
                    assert!(text.contains(part), "{text}: {part}");
                }
                assert!(text.contains(&address.to_string()), "{text}");
                assert_eq!(text.contains("interface"), number == 5, "{text}");
            }
            let conflict = Event::Conflict {
                interface,
                address,
                by,
            };
            assert!(matches!(Told::of(&conflict, port), Told::Warning(_)));
        }
    }

    #[test]
    fn gateway_that_is_silent_is_no_reason_to_end() {
        let event = Event::GatewaySilent {
            interface: InterfaceId(0),
            gateway: [10, 0, 0, 9].into(),
        };
        let port = |_| Some((0, "net_tap0".to_owned()));
        let Told::Warning(text) = Told::of(&event, port) else {
            panic!("{event}");
        };
        assert!(text.contains("--gateway 10.0.0.9") && text.contains("port 0 (net_tap0)"));
    }
}
