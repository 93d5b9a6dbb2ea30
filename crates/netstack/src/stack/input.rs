//! Receiving: from the frame to what an upper protocol gets.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU16;

use super::Stack;
use super::error::Complaint;
use crate::interface::InterfaceId;
use crate::ip::reassembly::{HEADERS_MAX, Key, Outcome};
use crate::packet::{Packet, Packets, Received};
use crate::stats::Reason;
use crate::wire::Protocol;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{EtherType, Ethernet};
use crate::wire::extension::{self, Chain, Why};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::vlan::Tag;

/// Bytes that the first segment is to have, if the packet has so many: all headers that are looked at in one go.
const LOOK_LEN: usize = Ethernet::LEN + 2 * Tag::LEN + ipv4::HEADER_LEN_MAX + 8;

/// An IP packet on its way up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived {
    pub(super) interface: InterfaceId,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: Protocol,
    pub(super) hop_limit: u8,
    pub(super) traffic_class: u8,
    /// Where the IP header begins in the packet.
    pub(super) ip_at: usize,
    /// Where what the upper protocol reads begins.
    pub(super) upper_at: usize,
    /// Where the IPv6 headers name the upper protocol, from their start.
    pub(super) named_at: u32,
    /// The packet came to more than us: to everybody or to a group.
    pub(super) is_to_many: bool,
    /// Routers shall look at it: RFC 2113, RFC 2711.
    pub(super) router_alert: bool,
    /// Whether the device vouches for, or against, the checksum of TCP or UDP.
    pub(super) l4_checksum: Option<bool>,
    /// The length of each datagram, if the packet is many.
    pub(super) datagram_len: Option<NonZeroU16>,
}

impl<A: Packets> Stack<A> {
    /// Takes frames that came by a port. Answers wait for [`poll_transmit`](Self::poll_transmit).
    // Not part of its callers: registers are few.
    #[inline(never)]
    pub fn receive(
        &mut self,
        now: crate::Instant,
        port: u16,
        packets: impl IntoIterator<Item = A::Packet>,
    ) {
        self.now = now;
        self.is_answering = true;
        for packet in packets {
            self.traffic.received += 1;
            if let Some(packet) = self.quick_in(port, packet)
                && let Err(reason) = self.frame(port, packet)
            {
                self.drops.count(reason);
            }
        }
        if !self.local.is_empty() {
            self.run_local();
        }
        self.is_answering = false;
    }

    /// Takes what we sent to ourselves. What that makes us send to ourselves again waits for the next time.
    pub(super) fn run_local(&mut self) {
        for _ in 0..self.local.len() {
            let Some((interface, packet)) = self.local.pop_front() else {
                return;
            };
            let is_ipv4 = packet.data().first().is_some_and(|first| first >> 4 == 4);
            let outcome = if is_ipv4 {
                self.ipv4(interface, packet, 0, Received::default(), false)
            } else {
                self.ipv6(interface, packet, 0, Received::default(), false)
            };
            if let Err(reason) = outcome {
                self.drops.count(reason);
            }
        }
    }

    /// A frame that is not the usual datagram.
    fn frame(&mut self, port: u16, mut packet: A::Packet) -> Result<(), Reason> {
        let look = packet.look();
        let received = look.received;
        if look.data.len() < LOOK_LEN && look.data.len() < look.len {
            // Headers in pieces: rare enough to be copied together.
            let whole = look.len.min(LOOK_LEN);
            if !packet.pull_up(whole) {
                return Err(Reason::Unreadable);
            }
        }
        let ethernet = Ethernet::parse(packet.data()).map_err(|_| Reason::EthernetMalformed)?;
        let (mut at, mut ether_type) = (Ethernet::LEN, ethernet.ether_type());
        let mut tags = [None, None];
        if received.vlan.is_some() || ether_type == EtherType::VLAN || ether_type == EtherType::QINQ
        {
            (at, ether_type, tags) = tagged(packet.data(), received.vlan, ether_type)?;
        }
        let Some(interface) = self.interface_of(port, tags) else {
            let has_port = self.ports.len() > usize::from(port);
            return Err(if has_port {
                Reason::VlanUnknown
            } else {
                Reason::PortUnknown
            });
        };
        let mac = self
            .interface(interface)
            .ok_or(Reason::PortUnknown)?
            .config
            .mac;
        let to = ethernet.destination();
        let is_group = to.is_group();
        if !is_group && to != mac {
            return Err(Reason::EthernetDestination);
        }
        if ethernet.source().is_group() || ethernet.source() == mac {
            return Err(Reason::EthernetSource);
        }
        self.heard_from = ethernet.source();
        match ether_type {
            EtherType::IPV4 => self.ipv4(interface, packet, at, received, is_group),
            EtherType::IPV6 => self.ipv6(interface, packet, at, received, is_group),
            EtherType::ARP => self.arp(interface, &packet, at),
            _ => Err(Reason::EthernetType),
        }
    }

    #[inline]
    fn ipv4(
        &mut self,
        interface: InterfaceId,
        mut packet: A::Packet,
        at: usize,
        received: Received,
        is_group: bool,
    ) -> Result<(), Reason> {
        let len = packet.len();
        let bytes = packet.data().get(at..).ok_or(Reason::Ipv4Malformed)?;
        let ip = Ipv4::parse(bytes).map_err(|_| Reason::Ipv4Malformed)?;
        let end = at + usize::from(ip.total_len());
        if end > len {
            return Err(Reason::Ipv4Malformed);
        }
        let is_right = match received.ip_checksum {
            None => ip.checksum_is_right(bytes),
            Some(is_right) => is_right,
        };
        if !is_right {
            return Err(Reason::Ipv4Checksum);
        }
        let (source, destination) = (ip.source(), ip.destination());
        let is_local = at == 0;
        let is_to_many = self.accepts_v4(interface, source, destination, is_local)?;
        // RFC 1122 section 3.3.6: a broadcast frame does not carry a packet to one host.
        if is_group && !is_to_many {
            return Err(Reason::EthernetDestination);
        }
        if ip.header_len() > ipv4::HEADER_LEN {
            let seen = ip.options(bytes).check().map_err(|_| Reason::Ipv4Options)?;
            if seen.source_route {
                return Err(Reason::Ipv4Options);
            }
        }
        let is_fragment = ip.is_fragment();
        if end < len && !packet.truncate(end) {
            return Err(Reason::Unreadable);
        }
        let arrived = Arrived {
            interface,
            source: source.into(),
            destination: destination.into(),
            protocol: ip.protocol(),
            hop_limit: ip.ttl(),
            traffic_class: ip.traffic_class(),
            ip_at: at,
            upper_at: at + ip.header_len(),
            named_at: 9,
            is_to_many,
            router_alert: false,
            l4_checksum: received.l4_checksum,
            datagram_len: received.datagram_len,
        };
        if is_fragment {
            let key = Key::v4(interface, source, destination, ip.protocol().0, ip.id());
            return self.fragment(
                key,
                (ip.fragment_offset(), ip.more_fragments()),
                arrived,
                packet,
            );
        }
        self.upper(arrived, packet)
    }

    /// Whether a packet of IPv4 is for us, and whether for others, too.
    #[inline]
    pub(super) fn accepts_v4(
        &self,
        interface: InterfaceId,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        is_local: bool,
    ) -> Result<bool, Reason> {
        let [first, ..] = source.octets();
        // RFC 1122 section 3.2.1.3: what is no source. 0.0.0.0/8, 127/8, and from 224.0.0.0 on groups, the reserved, everybody.
        if first == 0 || first == 127 || first >= 224 {
            return Err(Reason::IpSource);
        }
        if !is_local
            && (self.addresses.is_source(interface, source.into())
                || self.addresses.is_broadcast(interface, source))
        {
            return Err(Reason::IpSource);
        }
        if self.is_ours(interface, destination.into()) {
            return Ok(false);
        }
        if destination.is_broadcast() || self.addresses.is_broadcast(interface, destination) {
            return Ok(true);
        }
        if destination.is_multicast() {
            let is_member = self.groups.member(interface, &destination.into());
            return if is_member {
                Ok(true)
            } else {
                Err(Reason::IpGroup)
            };
        }
        Err(Reason::IpNotForUs)
    }

    #[inline]
    fn ipv6(
        &mut self,
        interface: InterfaceId,
        mut packet: A::Packet,
        at: usize,
        received: Received,
        is_group: bool,
    ) -> Result<(), Reason> {
        let len = packet.len();
        let bytes = packet.data().get(at..).ok_or(Reason::Ipv6Malformed)?;
        let ip = Ipv6::parse(bytes).map_err(|_| Reason::Ipv6Malformed)?;
        let upper_at = at + ipv6::HEADER_LEN;
        let end = upper_at + usize::from(ip.payload_len());
        if end > len {
            return Err(Reason::Ipv6Malformed);
        }
        let (source, destination) = (ip.source(), ip.destination());
        let is_to_many = self.accepts_v6(interface, source, destination, at == 0)?;
        if is_group && !is_to_many {
            return Err(Reason::EthernetDestination);
        }
        if end < len && !packet.truncate(end) {
            return Err(Reason::Unreadable);
        }
        let arrived = Arrived {
            interface,
            source: source.into(),
            destination: destination.into(),
            protocol: ip.next_header(),
            hop_limit: ip.hop_limit(),
            traffic_class: ip.traffic_class(),
            ip_at: at,
            upper_at,
            named_at: 6,
            is_to_many,
            router_alert: false,
            l4_checksum: received.l4_checksum,
            datagram_len: received.datagram_len,
        };
        if matches!(
            ip.next_header(),
            Protocol::UDP | Protocol::ICMPV6 | Protocol::TCP
        ) {
            return self.upper(arrived, packet);
        }
        self.extensions(&ip, arrived, packet)
    }

    /// Whether a packet of IPv6 is for us, and whether for others, too.
    #[inline]
    pub(super) fn accepts_v6(
        &self,
        interface: InterfaceId,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        is_local: bool,
    ) -> Result<bool, Reason> {
        // RFC 4291 sections 2.5.2, 2.5.3, 2.7; mapped addresses are never on a wire. The unspecified one is for neighbour
        // discovery alone, which looks for itself.
        let is_mapped = source.to_ipv4_mapped().is_some() || destination.to_ipv4_mapped().is_some();
        if source.is_multicast() || source.is_loopback() || is_mapped {
            return Err(Reason::IpSource);
        }
        if !is_local && self.addresses.is_source(interface, source.into()) {
            return Err(Reason::IpSource);
        }
        if self.is_ours(interface, destination.into()) {
            return Ok(false);
        }
        if destination.is_multicast() {
            let is_member = self.groups.member(interface, &destination.into());
            return if is_member {
                Ok(true)
            } else {
                Err(Reason::IpGroup)
            };
        }
        Err(Reason::IpNotForUs)
    }

    /// Walks the extension headers of an IPv6 packet.
    fn extensions(
        &mut self,
        ip: &Ipv6,
        mut arrived: Arrived,
        mut packet: A::Packet,
    ) -> Result<(), Reason> {
        let bytes = packet
            .data()
            .get(arrived.upper_at..)
            .ok_or(Reason::Ipv6Extensions)?;
        let chain = match extension::walk(ip, bytes) {
            Ok(chain) => chain,
            Err(refusal) => return Err(self.refuse(&arrived, &packet, refusal)),
        };
        arrived.upper_at = arrived.ip_at + chain.offset;
        arrived.protocol = chain.protocol;
        arrived.router_alert = chain.router_alert;
        arrived.named_at = u32::try_from(chain.named_at).unwrap_or_default();
        match (chain.fragment, ip.source(), ip.destination()) {
            (Some(piece), source, destination) if !piece.header.is_whole() => {
                // RFC 8200 section 4.5, RFC 7112 section 5: filters see what it is by the first fragment, or nobody does.
                if piece.header.offset == 0
                    && !has_all_headers(ip, &piece, &mut packet, arrived.upper_at)
                {
                    self.complain(&arrived, &packet, Complaint::Parameter(3, 0));
                    return Err(Reason::FragmentHeaders);
                }
                let key = Key::v6(arrived.interface, source, destination, piece.header.id);
                self.fragment(
                    key,
                    (piece.header.offset, piece.header.more),
                    arrived,
                    packet,
                )
            }
            _ => self.upper(arrived, packet),
        }
    }

    /// Says why a packet is dropped for its extension headers, and tells its sender.
    fn refuse(
        &mut self,
        arrived: &Arrived,
        packet: &A::Packet,
        refusal: extension::Refusal,
    ) -> Reason {
        if let Some(problem) = refusal.problem {
            let complaint = match problem.code {
                2 => Complaint::Option(problem.pointer),
                code => Complaint::Parameter(code, problem.pointer),
            };
            self.complain(arrived, packet, complaint);
        }
        match refusal.why {
            Why::Option | Why::Routing => Reason::Ipv6Option,
            Why::Truncated | Why::Malformed | Why::TooMany => Reason::Ipv6Extensions,
        }
    }

    /// Keeps a fragment until the others are here.
    fn fragment(
        &mut self,
        key: Key,
        (offset, more): (u16, bool),
        arrived: Arrived,
        mut packet: A::Packet,
    ) -> Result<(), Reason> {
        self.run_reassembly();
        let mut bytes = [0; HEADERS_MAX];
        let len = arrived.upper_at - arrived.ip_at;
        let Some(headers) = bytes.get_mut(..len) else {
            return Err(Reason::FragmentLimit);
        };
        if packet.copy_out(arrived.ip_at, headers) != len || !packet.adj(arrived.upper_at) {
            return Err(Reason::Unreadable);
        }
        let outcome = self
            .reassembly
            .add(self.now, key, offset, more, headers, packet);
        let evicted = self.reassembly.take_evicted();
        self.drops.add(Reason::FragmentEvicted, evicted);
        match outcome {
            Outcome::Waiting => Ok(()),
            Outcome::Complete(whole) => {
                self.traffic.reassembled += 1;
                let headers = whole.headers;
                self.reassembled(arrived, headers.bytes(), whole.ecn, whole.packet)
            }
            Outcome::Dropped(dropped) => {
                if let Some(problem) = dropped.problem {
                    self.complain_again(
                        arrived,
                        headers,
                        problem.packet,
                        Complaint::Parameter(0, problem.pointer),
                    );
                }
                // One is counted by who called.
                self.drops.add(
                    dropped.reason,
                    u64::from(dropped.fragments).saturating_sub(1),
                );
                Err(dropped.reason)
            }
        }
    }

    /// Puts the headers of the first fragment before all the data, as if it had come in one piece, and goes on with that.
    fn reassembled(
        &mut self,
        arrived: Arrived,
        headers: &[u8],
        ecn: u8,
        mut packet: A::Packet,
    ) -> Result<(), Reason> {
        let len = packet.len();
        let room = packet.prepend(headers.len()).ok_or(Reason::Unreadable)?;
        room.copy_from_slice(headers);
        let mut whole = Arrived {
            ip_at: 0,
            upper_at: headers.len(),
            traffic_class: arrived.traffic_class & !3 | ecn,
            // The device looked at a fragment.
            l4_checksum: None,
            datagram_len: None,
            ..arrived
        };
        if arrived.source.is_ipv4() {
            let total_len =
                u16::try_from(headers.len() + len).map_err(|_| Reason::FragmentLimit)?;
            if let Some(place) = room.get_mut(2..4) {
                place.copy_from_slice(&total_len.to_be_bytes());
            }
            if let Some(place) = room.get_mut(6..8) {
                place.copy_from_slice(&[0, 0]);
            }
            // An error may quote it.
            let mut sum = Sum::new();
            if let Some(place) = room.get_mut(10..12) {
                place.copy_from_slice(&[0, 0]);
            }
            sum.add(room);
            if let Some(place) = room.get_mut(10..12) {
                place.copy_from_slice(&sum.finish().to_be_bytes());
            }
            return self.upper(whole, packet);
        }
        // What follows the fragment header may be further extension headers.
        let first = packet.data().get(headers.len()..).unwrap_or_default();
        let ip = Ipv6::parse(packet.data()).map_err(|_| Reason::Ipv6Malformed)?;
        let walked = packet
            .data()
            .get(ipv6::HEADER_LEN..headers.len())
            .unwrap_or_default();
        let chain = match extension::walk(&ip, walked) {
            Ok(Chain {
                fragment: Some(piece),
                ..
            }) => extension::walk_on(&ip, &piece, first),
            Ok(_) => return Err(Reason::Ipv6Extensions),
            Err(refusal) => Err(refusal),
        };
        match chain {
            Ok(chain) => {
                // It counts as if the fragment header had never been; here it still stands before what follows.
                whole.upper_at = chain.offset + extension::FragmentHeader::LEN;
                whole.protocol = chain.protocol;
                self.upper(whole, packet)
            }
            Err(refusal) => Err(self.refuse(&whole, &packet, refusal)),
        }
    }

    /// Complains about a packet whose headers were cut off.
    pub(super) fn complain_again(
        &mut self,
        arrived: Arrived,
        headers: &[u8],
        mut packet: A::Packet,
        complaint: Complaint,
    ) {
        if let Some(room) = packet.prepend(headers.len()) {
            room.copy_from_slice(headers);
            let whole = Arrived {
                ip_at: 0,
                upper_at: headers.len(),
                ..arrived
            };
            self.complain(&whole, &packet, complaint);
        }
    }

    /// Hands what an IP packet carries to whom it is for.
    #[inline]
    pub(super) fn upper(&mut self, arrived: Arrived, packet: A::Packet) -> Result<(), Reason> {
        let is_ipv4 = arrived.source.is_ipv4();
        match arrived.protocol {
            // RFC 4291 section 2.5.2: only for who has no address yet, and speaks ICMPv6 about that.
            protocol if arrived.source.is_unspecified() && protocol != Protocol::ICMPV6 => {
                Err(Reason::IpSource)
            }
            Protocol::UDP => self.udp_in(arrived, packet),
            Protocol::ICMPV4 if is_ipv4 => self.icmpv4(arrived, packet),
            Protocol::ICMPV6 if !is_ipv4 => self.icmpv6(arrived, packet),
            Protocol::IGMP if is_ipv4 => self.igmp(arrived, &packet),
            Protocol::NO_NEXT_HEADER if !is_ipv4 => Ok(()),
            _ => {
                self.complain(&arrived, &packet, Complaint::Protocol(arrived.named_at));
                Err(Reason::IpProtocol)
            }
        }
    }
}

/// Whether a first fragment whose payload begins at `at` has all headers; they may have to be copied together to tell.
fn has_all_headers<P: Packet>(
    ip: &Ipv6,
    piece: &extension::Fragment,
    packet: &mut P,
    at: usize,
) -> bool {
    let has_all = |packet: &P| {
        let payload = packet.data().get(at..).unwrap_or_default();
        extension::has_all_headers(ip, piece, payload)
    };
    let len = packet.len();
    has_all(packet) || (packet.data().len() < len && packet.pull_up(len) && has_all(packet))
}

/// Where the payload of a frame with VLAN tags begins, what it is, and the tags: what the device took out is the outer one.
fn tagged(
    data: &[u8],
    taken_out: Option<u16>,
    mut ether_type: EtherType,
) -> Result<(usize, EtherType, [Option<u16>; 2]), Reason> {
    let mut at = Ethernet::LEN;
    let mut tags = [None, None];
    let mut count = 0;
    if let Some(tci) = taken_out {
        tags[0] = Some(tci & Tag::VID_MASK);
        count = 1;
    }
    while ether_type == EtherType::VLAN || ether_type == EtherType::QINQ {
        let rest = data.get(at..).unwrap_or_default();
        let tag = Tag::parse(rest).map_err(|_| Reason::EthernetMalformed)?;
        let Some(place) = tags.get_mut(count) else {
            return Err(Reason::VlanUnknown);
        };
        *place = Some(tag.vid());
        count += 1;
        at += Tag::LEN;
        ether_type = tag.ether_type;
    }
    // VLAN 0 says a priority and no VLAN: IEEE 802.1Q section 9.6.
    if tags == [Some(0), None] {
        tags = [None, None];
    }
    Ok((at, ether_type, tags))
}
