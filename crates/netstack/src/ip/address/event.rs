//! What addresses want sent, what became of them, and what others say about them.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::interface::InterfaceId;
use crate::wire::ethernet::Mac;

/// What the stack is to do for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Broadcast an ARP request for `address` with sender address 0.0.0.0. RFC 5227 section 2.1.1.
    ArpProbe {
        /// From here.
        interface: InterfaceId,
        /// Asked for.
        address: Ipv4Addr,
    },
    /// Broadcast an ARP request with `address` as sender and target. RFC 5227 section 2.3.
    ArpAnnounce {
        /// From here.
        interface: InterfaceId,
        /// Ours.
        address: Ipv4Addr,
    },
    /// Send a neighbour solicitation for `address` from `::` to its solicited-node group. RFC 4862 section 5.4.2.
    DadSolicit {
        /// From here.
        interface: InterfaceId,
        /// Asked for.
        address: Ipv6Addr,
        /// For the nonce option, RFC 7527 section 4.1: whoever sees it come back sees itself.
        nonce: [u8; 6],
    },
    /// Send an unsolicited neighbour advertisement to `ff02::2` without the override flag. RFC 9131 section 6.1.
    NeighbourAdvertise {
        /// From here.
        interface: InterfaceId,
        /// Ours.
        address: Ipv6Addr,
    },
    /// Join the solicited-node group of an address. RFC 4861 section 7.2.1.
    Join {
        /// Here.
        interface: InterfaceId,
        /// The group.
        group: Ipv6Addr,
        /// The report goes so much later, so that a thousand hosts that start together do not shout together: RFC 4862
        /// section 5.4.2. Packets to the group are ours from now on.
        after: Duration,
    },
    /// Leave the group that a [`Join`](Self::Join) was for.
    Leave {
        /// Here.
        interface: InterfaceId,
        /// The group.
        group: Ipv6Addr,
    },
}

/// What became of an address or of a router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The address may be used.
    AddressReady {
        /// Where.
        interface: InterfaceId,
        /// Which.
        address: IpAddr,
    },
    /// The address was not taken into use: somebody has it.
    Duplicate {
        /// Where.
        interface: InterfaceId,
        /// Which.
        address: IpAddr,
        /// Who has it.
        by: Mac,
    },
    /// Somebody uses our address, and was told that it is ours.
    Conflict {
        /// Where.
        interface: InterfaceId,
        /// Which.
        address: IpAddr,
        /// Who.
        by: Mac,
    },
    /// The address was in use and is given up: somebody insists on it. What uses it must end.
    AddressLost {
        /// Where.
        interface: InterfaceId,
        /// Which.
        address: IpAddr,
        /// Who insists.
        by: Mac,
    },
    /// No new connection is to use the address.
    AddressDeprecated {
        /// Where.
        interface: InterfaceId,
        /// Which.
        address: IpAddr,
    },
    /// The address is gone: its lifetime is over, or router advertisements are no longer heeded. What uses it must end.
    AddressExpired {
        /// Where.
        interface: InterfaceId,
        /// Which.
        address: IpAddr,
    },
    /// A default router.
    RouterFound {
        /// Where.
        interface: InterfaceId,
        /// Its link-local address.
        router: Ipv6Addr,
    },
    /// A default router is none any more.
    RouterLost {
        /// Where.
        interface: InterfaceId,
        /// Its link-local address.
        router: Ipv6Addr,
    },
    /// A gateway of our routes does not answer; another one is used, if there is one.
    GatewaySilent {
        /// Where.
        interface: InterfaceId,
        /// Which.
        gateway: IpAddr,
    },
    /// A gateway that did not answer was heard, and is used again.
    GatewayHeard {
        /// Where.
        interface: InterfaceId,
        /// Which.
        gateway: IpAddr,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::AddressReady { interface, address } => write!(f, "{interface} has {address}"),
            Self::Duplicate {
                interface,
                address,
                by,
            } => write!(
                f,
                "{address} is not used on {interface}: the station {} has it already; \
                 take it from that station, or give this interface another address, and add it again",
                Station(by)
            ),
            Self::Conflict {
                interface,
                address,
                by,
            } => write!(
                f,
                "the station {} uses {address}, which {interface} has; take it from one of the two",
                Station(by)
            ),
            Self::AddressLost {
                interface,
                address,
                by,
            } => write!(
                f,
                "{interface} gives up {address}: the station {} insists on it; \
                 take it from that station and add it again, or give this interface another address",
                Station(by)
            ),
            Self::AddressDeprecated { interface, address } => {
                write!(f, "{address} of {interface} is deprecated")
            }
            Self::AddressExpired { interface, address } => {
                write!(f, "{address} of {interface} has expired")
            }
            Self::RouterFound { interface, router } => {
                write!(f, "{interface} has the default router {router}")
            }
            Self::RouterLost { interface, router } => {
                write!(f, "{interface} has lost the default router {router}")
            }
            Self::GatewaySilent { interface, gateway } => write!(
                f,
                "the gateway {gateway} on {interface} does not answer; others are used where there are any"
            ),
            Self::GatewayHeard { interface, gateway } => {
                write!(f, "the gateway {gateway} on {interface} is heard again")
            }
        }
    }
}

/// A link address as people write it.
struct Station(Mac);

impl fmt::Display for Station {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What another station said about an address. Frames that are ours, come back, are not to be reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It has the address: ARP with it as sender address, or a neighbour advertisement for it.
    Uses,
    /// It wants to know whether somebody has the address: an ARP probe (sender 0.0.0.0), or a neighbour solicitation from `::`.
    Probes {
        /// The nonce option of the solicitation.
        nonce: Option<[u8; 6]>,
    },
}

/// What is to be done about a [`Claim`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The address is none of ours, or we have lost it before.
    NotOurs,
    /// The packet is our own solicitation, come back. RFC 7527 section 4.2.
    Echo,
    /// The address is ours and in use: answer as to any other question, and the other will not take it.
    Answer,
    /// The address is ours, and the other uses it, too. What there is to send comes from [`Addresses::poll`](super::Addresses::poll).
    Conflict,
    /// The address was tentative: it is the other's.
    Duplicate,
    /// The address was in use: it is given up.
    Lost,
}
