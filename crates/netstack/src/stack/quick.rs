//! The usual datagram, in one go: plain UDP in one segment, without tags, options or extension headers, from and to whom we
//! know.
//!
//! Whatever is not quite so, or not quite right, goes the long way, which says why and counts; what goes this way would have
//! come out the same there. It is worth its lines: a datagram costs a third of the instructions.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Stack;
use super::hop::Next;
use crate::hash::address_bits;
use crate::interface::InterfaceId;
use crate::packet::{Look, Packet, Packets, Wishes};
use crate::stats::Reason;
use crate::udp::{Datagram, Delivered, UdpId};
use crate::wire::Protocol;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{EtherType, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::udp::Udp;

/// A usual datagram that came, but for its ends.
#[derive(Debug, Clone, Copy)]
struct Usual {
    socket: u32,
    traffic_class: u8,
    /// Where its data begins, and how long it is.
    at: usize,
    len: usize,
}

/// Whether an address may be a host's: RFC 1122 section 3.2.1.3.
#[inline]
fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

impl<A: Packets> Stack<A> {
    /// Hands a usual datagram to its socket; gives back what is none.
    #[inline]
    pub(super) fn quick_in(&mut self, port: u16, packet: A::Packet) -> Option<A::Packet> {
        let look = packet.look();
        let usual = self.usual_port(port, &look);
        match usual {
            Some((interface, EtherType::IPV4)) => match self.usual_v4(interface, &look) {
                Some((usual, ends)) => self.quick_deliver(packet, interface, usual, ends),
                None => Some(packet),
            },
            Some((interface, EtherType::IPV6)) => match self.usual_v6(interface, &look) {
                Some((usual, ends)) => self.quick_deliver(packet, interface, usual, ends),
                None => Some(packet),
            },
            _ => Some(packet),
        }
    }

    // Once for each version: what is known of the datagram stays in registers.
    #[inline(always)]
    fn quick_deliver(
        &mut self,
        mut packet: A::Packet,
        interface: InterfaceId,
        usual: Usual,
        (from, to): (SocketAddr, IpAddr),
    ) -> Option<A::Packet> {
        if !packet.keep(usual.at, usual.len) {
            return Some(packet);
        }
        let datagram = Datagram {
            packet,
            from,
            to,
            interface,
            traffic_class: usual.traffic_class,
        };
        if self.udp.deliver_to(usual.socket, datagram) != Delivered::Queued {
            self.drops.count(Reason::UdpQueueFull);
        }
        None
    }

    #[inline]
    fn usual_port(&self, port: u16, look: &Look<'_>) -> Option<(InterfaceId, EtherType)> {
        let (interface, mac) = (*self.untagged.get(usize::from(port))?)?;
        let ethernet = Ethernet::parse(look.data).ok()?;
        let is_plain = look.data.len() == look.len
            && look.received.vlan.is_none()
            && look.received.datagram_len.is_none();
        let from = ethernet.source();
        let is_usual = is_plain && ethernet.destination() == mac && from != mac && !from.is_group();
        is_usual.then_some((interface, ethernet.ether_type()))
    }

    #[inline(always)]
    fn usual_v4(
        &self,
        interface: InterfaceId,
        look: &Look<'_>,
    ) -> Option<(Usual, (SocketAddr, IpAddr))> {
        let bytes = look.data.get(Ethernet::LEN..)?;
        let ip = Ipv4::parse(bytes).ok()?;
        let is_plain = ip.header_len() == ipv4::HEADER_LEN
            && !ip.is_fragment()
            && ip.protocol() == Protocol::UDP;
        let is_right = match look.received.ip_checksum {
            Some(is_right) => is_right,
            None => ip.checksum_is_right(bytes),
        };
        let (source, destination) = (ip.source(), ip.destination());
        let is_for_us = self
            .addresses
            .is_from_other_to_us(interface, source, destination);
        if !is_plain || !is_right || !is_for_us || !is_host(source) {
            return None;
        }
        let payload = bytes.get(ipv4::HEADER_LEN..usize::from(ip.total_len()))?;
        let udp = Udp::parse(payload).ok()?;
        let payload = payload.get(..usize::from(udp.length()))?;
        let is_right = match look.received.l4_checksum {
            Some(is_right) => is_right,
            None => {
                udp.checksum() == 0 || {
                    let mut sum = Sum::pseudo_v4(source, destination, Protocol::UDP, udp.length());
                    sum.add_last(payload);
                    sum.is_right()
                }
            }
        };
        if !is_right {
            return None;
        }
        let to = SocketAddr::from((destination, udp.destination()));
        let from = SocketAddr::from((source, udp.source()));
        let usual = Usual {
            socket: self.udp.find(to, from)?,
            traffic_class: ip.traffic_class(),
            at: Ethernet::LEN + ipv4::HEADER_LEN + Udp::LEN,
            len: payload.len() - Udp::LEN,
        };
        Some((usual, (from, to.ip())))
    }

    #[inline(always)]
    fn usual_v6(
        &self,
        interface: InterfaceId,
        look: &Look<'_>,
    ) -> Option<(Usual, (SocketAddr, IpAddr))> {
        let bytes = look.data.get(Ethernet::LEN..)?;
        let ip = Ipv6::parse(bytes).ok()?;
        let (source, destination) = (ip.source(), ip.destination());
        if ip.next_header() != Protocol::UDP || source.is_unspecified() {
            return None;
        }
        if self.accepts_v6(interface, source, destination, false) != Ok(false) {
            return None;
        }
        let payload = bytes
            .get(ipv6::HEADER_LEN..)?
            .get(..ip.payload_len().into())?;
        let udp = Udp::parse(payload).ok()?;
        let payload = payload.get(..usize::from(udp.length()))?;
        let is_right = match look.received.l4_checksum {
            Some(is_right) => is_right,
            None => {
                udp.checksum() != 0 && {
                    let len = udp.length().into();
                    let mut sum = Sum::pseudo_v6(source, destination, Protocol::UDP, len);
                    sum.add_last(payload);
                    sum.is_right()
                }
            }
        };
        if !is_right {
            return None;
        }
        let to = SocketAddr::from((destination, udp.destination()));
        let from = SocketAddr::from((source, udp.source()));
        let usual = Usual {
            socket: self.udp.find(to, from)?,
            traffic_class: ip.traffic_class(),
            at: Ethernet::LEN + ipv6::HEADER_LEN + Udp::LEN,
            len: payload.len() - Udp::LEN,
        };
        Some((usual, (from, to.ip())))
    }

    /// Sends what `packet` holds by a usual socket to a destination that is known; gives back what it cannot.
    #[inline]
    pub(crate) fn quick_out(
        &mut self,
        id: UdpId,
        packet: A::Packet,
        source: Option<IpAddr>,
        to: SocketAddr,
    ) -> Option<A::Packet> {
        match (to, source) {
            (SocketAddr::V4(to), None) => {
                self.quick_out_of(id, packet, None, (*to.ip(), to.port()))
            }
            (SocketAddr::V4(to), Some(IpAddr::V4(source))) => {
                self.quick_out_of(id, packet, Some(source), (*to.ip(), to.port()))
            }
            (SocketAddr::V6(to), None) => {
                self.quick_out_of(id, packet, None, (*to.ip(), to.port()))
            }
            (SocketAddr::V6(to), Some(IpAddr::V6(source))) => {
                self.quick_out_of(id, packet, Some(source), (*to.ip(), to.port()))
            }
            _ => Some(packet),
        }
    }

    #[inline]
    fn quick_out_of<V: Version>(
        &mut self,
        id: UdpId,
        mut packet: A::Packet,
        source: Option<V>,
        (to, port): (V, u16),
    ) -> Option<A::Packet> {
        let generation = self.generation();
        let known = self
            .destinations
            .known(to.bits(), self.config.seed, generation, self.now);
        let (Some(hop), Ok(socket)) = (known, self.udp.get(id)) else {
            return Some(packet);
        };
        let (Some(local), Some(usual), Some(queue)) = (
            socket.local,
            V::of(hop.source),
            self.ports.get_mut(usize::from(hop.port)),
        ) else {
            return Some(packet);
        };
        let is_usual = hop.next == Next::Send
            && !hop.may_cut
            && !socket.no_checksum
            && socket.hop_limit.is_none()
            && !to.is_to_many()
            && !local.ip().is_multicast()
            && queue.len() < self.config.transmit_max;
        let (Some(bound), true) = (V::of(local.ip()), is_usual) else {
            return Some(packet);
        };
        let from = if bound.is_any() { usual } else { bound };
        if source.is_some_and(|source| source != from) {
            return Some(packet);
        }
        let (Some(frame), Ethernet::LEN) =
            (hop.frame.bytes().first_chunk(), hop.frame.bytes().len())
        else {
            return Some(packet);
        };
        let wishes = Wishes {
            ip_checksum: false,
            l4_checksum: hop
                .offloads
                .l4_checksum
                .then_some((V::UDP_AT, Udp::CHECKSUM_AT)),
        };
        let before = usize::from(V::UDP_AT) + Udp::LEN;
        let Some(data) = packet.wrap(before, wishes) else {
            return Some(packet);
        };
        let fits = data.len() - Ethernet::LEN <= usize::from(hop.mtu);
        let header = Usually {
            from,
            to,
            ports: (local.port(), port),
            traffic_class: socket.traffic_class,
            hop_limit: hop.hop_limit,
        };
        if !fits || header.write(data, frame, wishes).is_none() {
            // It goes the long way as it came.
            return packet.adj(before).then_some(packet);
        }
        queue.push_back(packet);
        self.traffic.sent += 1;
        None
    }
}

/// An address, and with it a version of IP: what hangs on that is known when this is compiled.
trait Version: Copy + PartialEq {
    /// Where a UDP header stands in a frame.
    const UDP_AT: u16;

    fn of(address: IpAddr) -> Option<Self>;
    fn bits(self) -> u128;
    fn is_any(self) -> bool;
    fn is_to_many(self) -> bool;

    /// Writes the IP header; returns the sum of the pseudo header, and what follows.
    fn write<'d>(header: &Usually<Self>, data: &'d mut [u8]) -> Option<(Sum, u16, &'d mut [u8])>;
}

impl Version for Ipv4Addr {
    const UDP_AT: u16 = 34;

    #[inline]
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    #[inline]
    fn bits(self) -> u128 {
        address_bits(self.into())
    }

    #[inline]
    fn is_any(self) -> bool {
        self.is_unspecified()
    }

    #[inline]
    fn is_to_many(self) -> bool {
        self.is_multicast()
    }

    #[inline]
    fn write<'d>(header: &Usually<Self>, data: &'d mut [u8]) -> Option<(Sum, u16, &'d mut [u8])> {
        let (ip, rest) = data.split_first_chunk_mut()?;
        let payload_len = u16::try_from(rest.len()).ok()?;
        ipv4::Repr {
            traffic_class: header.traffic_class,
            payload_len,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: header.hop_limit,
            protocol: Protocol::UDP,
            source: header.from,
            destination: header.to,
        }
        .write(ip);
        let pseudo = Sum::pseudo_v4(header.from, header.to, Protocol::UDP, payload_len);
        Some((pseudo, payload_len, rest))
    }
}

impl Version for Ipv6Addr {
    const UDP_AT: u16 = 54;

    #[inline]
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        }
    }

    #[inline]
    fn bits(self) -> u128 {
        address_bits(self.into())
    }

    #[inline]
    fn is_any(self) -> bool {
        self.is_unspecified()
    }

    #[inline]
    fn is_to_many(self) -> bool {
        self.is_multicast()
    }

    #[inline]
    fn write<'d>(header: &Usually<Self>, data: &'d mut [u8]) -> Option<(Sum, u16, &'d mut [u8])> {
        let (ip, rest) = data.split_first_chunk_mut()?;
        let payload_len = u16::try_from(rest.len()).ok()?;
        ipv6::Repr {
            traffic_class: header.traffic_class,
            flow_label: 0,
            payload_len,
            next_header: Protocol::UDP,
            hop_limit: header.hop_limit,
            source: header.from,
            destination: header.to,
        }
        .write(ip);
        let len = payload_len.into();
        let pseudo = Sum::pseudo_v6(header.from, header.to, Protocol::UDP, len);
        Some((pseudo, payload_len, rest))
    }
}

/// What the headers of a usual datagram say.
#[derive(Debug, Clone, Copy)]
struct Usually<V> {
    from: V,
    to: V,
    ports: (u16, u16),
    traffic_class: u8,
    hop_limit: u8,
}

impl<V: Version> Usually<V> {
    /// Writes all headers before the data that stands behind them.
    #[inline]
    fn write(&self, data: &mut [u8], frame: &[u8; Ethernet::LEN], wishes: Wishes) -> Option<()> {
        let (before, rest) = data.split_first_chunk_mut()?;
        *before = *frame;
        let (mut sum, len, rest) = V::write(self, rest)?;
        let udp = Udp::new(self.ports.0, self.ports.1, len, 0);
        let (room, payload) = rest.split_first_chunk_mut()?;
        let checksum = if wishes.l4_checksum.is_some() {
            sum.fold()
        } else {
            sum.add_array(udp.as_bytes());
            sum.add_last(payload);
            sum.finish_udp()
        };
        udp.with_checksum(checksum).write(room);
        Some(())
    }
}
