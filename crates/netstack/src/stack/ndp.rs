//! Neighbour discovery: RFC 4861, RFC 4862 section 5.4.

use core::net::{IpAddr, Ipv6Addr};

use super::input::Arrived;
use super::{Header, Stack, Upper};
use crate::interface::{FrameHeader, InterfaceId};
use crate::ip::address::{Claim, Verdict, solicited_node};
use crate::link::neighbour::Learned;
use crate::packet::{Packet, Packets};
use crate::stats::Reason;
use crate::wire::Protocol;
use crate::wire::ethernet::{EtherType, Mac};
use crate::wire::extension;
use crate::wire::icmpv6::Kind;
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::ndp::{
    HOP_LIMIT, LEN_MAX, Message, NeighbourAdvertise, NeighbourSolicit, RouterSolicit,
};

/// Bytes of a message that are read, if it lies in pieces: as many as Ethernet carries.
const MESSAGE_MAX: usize = 1500;

/// All hosts on the link: RFC 4291 section 2.7.1.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// All routers on the link.
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

impl<A: Packets> Stack<A> {
    /// A message whose checksum is right.
    pub(super) fn ndp(
        &mut self,
        arrived: &Arrived,
        kind: Kind,
        packet: &A::Packet,
    ) -> Result<(), Reason> {
        if kind == Kind::ROUTER_SOLICIT {
            // For routers.
            return Err(Reason::NdpIgnored);
        }
        let header = packet.data().get(arrived.ip_at..).unwrap_or_default();
        let ip = Ipv6::parse(header).map_err(|_| Reason::NdpMalformed)?;
        // RFC 6980 section 5: neither this nor its headers come in pieces, where filters do not see what it is.
        if ip.next_header() != Protocol::ICMPV6 {
            let rest = header.get(ipv6::HEADER_LEN..).unwrap_or_default();
            let whole = extension::walk(&ip, rest).is_ok_and(|chain| chain.fragment.is_none());
            if !whole {
                return Err(Reason::NdpMalformed);
            }
        }
        let len = packet.len().saturating_sub(arrived.upper_at);
        let mut bytes = [0; MESSAGE_MAX];
        let bytes = match packet.data().get(arrived.upper_at..) {
            Some(here) if here.len() == len => here,
            _ => {
                let copied = packet.copy_out(arrived.upper_at, &mut bytes);
                let whole = bytes.get(..len).filter(|_| copied == len);
                whole.ok_or(Reason::NdpMalformed)?
            }
        };
        let message = Message::parse(&ip, bytes);
        match message.map_err(|_| Reason::NdpMalformed)? {
            Message::NeighbourSolicit(solicit) => self.solicited(arrived.interface, &ip, &solicit),
            Message::NeighbourAdvertise(advertise) => {
                self.advertised(arrived.interface, &advertise)
            }
            Message::RouterAdvertise(said) => {
                self.router_advertised(arrived.interface, ip.source(), &said)
            }
            Message::Redirect(_) => Err(Reason::IcmpRedirect),
            Message::RouterSolicit(_) => Err(Reason::NdpIgnored),
        }
    }

    /// Somebody asks who has an address: RFC 4861 section 7.2.3.
    fn solicited(
        &mut self,
        interface: InterfaceId,
        ip: &Ipv6,
        solicit: &NeighbourSolicit,
    ) -> Result<(), Reason> {
        let mac = self
            .interface(interface)
            .ok_or(Reason::PortUnknown)?
            .config
            .mac;
        let (source, target) = (ip.source(), solicit.target);
        let is_probe = source.is_unspecified();
        let state = self
            .addresses
            .is_ours(interface, &target.into())
            .ok_or(Reason::NdpIgnored)?;
        if is_probe {
            let claim = Claim::Probes {
                nonce: solicit.nonce,
            };
            let by = solicit.source_mac.unwrap_or(self.heard_from);
            match self
                .addresses
                .conflict(self.now, interface, target.into(), by, claim)
            {
                Verdict::Answer => {}
                Verdict::Echo => return Err(Reason::EthernetSource),
                Verdict::NotOurs => return Err(Reason::NdpIgnored),
                Verdict::Conflict | Verdict::Duplicate | Verdict::Lost => {
                    self.run_addresses();
                    return Err(Reason::NdpConflict);
                }
            }
        } else if !state.is_usable() {
            // RFC 4862 section 5.4.3: while it is tentative, questions of those who have an address are not for us.
            return Err(Reason::NdpIgnored);
        }
        if let (Some(theirs), false) = (solicit.source_mac, is_probe) {
            if theirs == mac || theirs.is_group() {
                return Err(Reason::NdpMalformed);
            }
            self.learn(interface, source.into(), theirs, Learned::Mention, true);
        }
        let advertise = NeighbourAdvertise {
            router: false,
            solicited: !is_probe,
            overriding: true,
            target,
            target_mac: Some(mac),
        };
        if let (Some(theirs), false) = (solicit.source_mac, is_probe) {
            // Straight back, as an ARP reply goes: an answer by way of the table would put whoever asks among those whom we use,
            // and a flood of questions would leave no room for others.
            return self.send_ndp(interface, (target, source), theirs, |out| {
                advertise.write(target, source, out)
            });
        }
        let to = if is_probe { ALL_NODES } else { source };
        self.advertise(interface, target, to, &advertise)
    }

    /// Somebody says who has an address: RFC 4861 section 7.2.5.
    fn advertised(
        &mut self,
        interface: InterfaceId,
        advertise: &NeighbourAdvertise,
    ) -> Result<(), Reason> {
        let target = IpAddr::V6(advertise.target);
        let known = self.interface(interface).ok_or(Reason::PortUnknown)?;
        if self.heard_from == known.config.mac {
            // Our own, come back.
            return Err(Reason::EthernetSource);
        }
        if self.addresses.is_ours(interface, &target).is_some() {
            let by = advertise.target_mac.unwrap_or(self.heard_from);
            self.addresses
                .conflict(self.now, interface, target, by, Claim::Uses);
            self.run_addresses();
            return Err(Reason::NdpConflict);
        }
        let Some(mac) = advertise.target_mac else {
            // That it is there, and no more: who asked it alone knows where.
            if advertise.solicited {
                self.heard(interface, target);
                self.neighbours.confirm(self.now, interface, target);
            }
            return Ok(());
        };
        if mac.is_group() {
            return Err(Reason::NdpMalformed);
        }
        let overriding = advertise.overriding;
        let how = if advertise.solicited {
            Learned::Solicited { overriding }
        } else {
            Learned::Unsolicited { overriding }
        };
        self.learn(interface, target, mac, how, false);
        Ok(())
    }

    /// Asks who has an address: its group, or whom we knew to have it. RFC 4861 section 7.2.2.
    pub(super) fn ask_by_ndp(
        &mut self,
        interface: InterfaceId,
        target: Ipv6Addr,
        known: Option<Mac>,
    ) -> Result<(), Reason> {
        let source = match self.addresses.select_source(interface, target.into()) {
            Some(IpAddr::V6(source)) => source,
            _ => return Err(Reason::NoSource),
        };
        self.solicit(interface, source, target, known, None)
    }

    /// A neighbour solicitation: from `::` if we want the address ourselves.
    pub(super) fn solicit(
        &mut self,
        interface: InterfaceId,
        source: Ipv6Addr,
        target: Ipv6Addr,
        known: Option<Mac>,
        nonce: Option<[u8; 6]>,
    ) -> Result<(), Reason> {
        let config = self.interface(interface).ok_or(Reason::PortUnknown)?.config;
        let message = NeighbourSolicit {
            target,
            source_mac: (!source.is_unspecified()).then_some(config.mac),
            nonce,
        };
        let to = if known.is_some() {
            target
        } else {
            solicited_node(target)
        };
        let mac = known.unwrap_or(Mac::multicast_v6(to));
        self.send_ndp(interface, (source, to), mac, |out| {
            message.write(source, to, out)
        })
    }

    /// Says that we have an address.
    pub(super) fn advertise(
        &mut self,
        interface: InterfaceId,
        source: Ipv6Addr,
        to: Ipv6Addr,
        message: &NeighbourAdvertise,
    ) -> Result<(), Reason> {
        if to.is_multicast() {
            let mac = Mac::multicast_v6(to);
            return self.send_ndp(interface, (source, to), mac, |out| {
                message.write(source, to, out)
            });
        }
        // As any other packet: who asks may not have told where it is.
        let hop = self.hop(to.into(), Some(interface))?;
        let packet = self.ndp_message(|out| message.write(source, to, out))?;
        self.send(&hop, &header(source, to), Upper::Whole, packet)
    }

    /// An advertisement to all who care: RFC 9131.
    pub(super) fn advertise_unasked(
        &mut self,
        interface: InterfaceId,
        address: Ipv6Addr,
    ) -> Result<(), Reason> {
        let mac = self
            .interface(interface)
            .ok_or(Reason::PortUnknown)?
            .config
            .mac;
        let message = NeighbourAdvertise {
            router: false,
            solicited: false,
            overriding: false,
            target: address,
            target_mac: Some(mac),
        };
        self.advertise(interface, address, ALL_ROUTERS, &message)
    }

    /// Asks for routers: RFC 4861 section 6.3.7.
    pub(super) fn solicit_routers(
        &mut self,
        interface: InterfaceId,
        source: Option<Ipv6Addr>,
    ) -> Result<(), Reason> {
        let config = self.interface(interface).ok_or(Reason::PortUnknown)?.config;
        let message = RouterSolicit {
            source_mac: source.map(|_| config.mac),
        };
        let source = source.unwrap_or(Ipv6Addr::UNSPECIFIED);
        let mac = Mac::multicast_v6(ALL_ROUTERS);
        self.send_ndp(interface, (source, ALL_ROUTERS), mac, |out| {
            message.write(source, ALL_ROUTERS, out)
        })
    }

    /// Sends a message to a station that is known, or to a group.
    fn send_ndp(
        &mut self,
        interface: InterfaceId,
        (source, to): (Ipv6Addr, Ipv6Addr),
        mac: Mac,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(), Reason> {
        let config = self.interface(interface).ok_or(Reason::PortUnknown)?.config;
        let packet = self.ndp_message(write)?;
        let hop = super::Hop {
            interface,
            port: config.port,
            offloads: crate::interface::Offloads::default(),
            mtu: config.mtu,
            hop_limit: HOP_LIMIT,
            may_cut: false,
            next: super::hop::Next::Send,
            frame: FrameHeader::new(&config, mac, EtherType::IPV6.0),
            source: source.into(),
        };
        self.send(&hop, &header(source, to), Upper::Whole, packet)
    }

    fn ndp_message(
        &mut self,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<A::Packet, Reason> {
        let mut packet = self.packets.alloc().ok_or(Reason::NoBuffer)?;
        let room = packet.append(LEN_MAX).ok_or(Reason::NoBuffer)?;
        let len = write(room).ok_or(Reason::TooLarge)?;
        if packet.truncate(len) {
            Ok(packet)
        } else {
            Err(Reason::Unreadable)
        }
    }
}

fn header(source: Ipv6Addr, to: Ipv6Addr) -> Header {
    Header {
        source: source.into(),
        destination: to.into(),
        protocol: Protocol::ICMPV6,
        // Nobody who is not on the link can send it so: RFC 4861 section 11.2.
        hop_limit: HOP_LIMIT,
        traffic_class: 0,
        never_cut: true,
    }
}
