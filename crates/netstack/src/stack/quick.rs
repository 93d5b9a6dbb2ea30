//! The usual datagram, in one go: plain UDP in one segment, without tags, options or extension headers, from and to whom we
//! know.
//!
//! Whatever is not quite so, or not quite right, goes the long way, which says why and counts; what goes this way would have
//! come out the same there. It is worth its lines: a datagram costs less than a third of the instructions.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Stack;
use super::template::{Header, Headers};
use crate::interface::InterfaceId;
use crate::ip::version::Version;
use crate::packet::{Look, Opened, Packet, Packets, Received, Wishes};
use crate::stats::Reason;
use crate::udp::{Datagram, Delivered, UdpId};
use crate::wire::Protocol;
use crate::wire::checksum::Sum;
use crate::wire::ethernet::{EtherType, Ethernet};
use crate::wire::ipv4::{self, Ipv4};
use crate::wire::ipv6::{self, Ipv6};
use crate::wire::udp::Udp;

/// A usual datagram that came: between two addresses of a version of IP.
#[derive(Debug, Clone, Copy)]
struct Usual<V> {
    socket: u32,
    traffic_class: u8,
    source: V,
    destination: V,
    source_port: u16,
    /// Bytes of the UDP header and what it carries.
    len: usize,
}

/// Whether an address may be a host's: RFC 1122 section 3.2.1.3.
#[inline]
fn is_host(address: Ipv4Addr) -> bool {
    let first = address.to_bits() >> 24;
    first.wrapping_sub(1) < 223 && first != 127
}

impl<A: Packets> Stack<A> {
    /// Hands a usual datagram to its socket; gives back what is none.
    #[inline(always)]
    pub(super) fn quick_in(&mut self, port: u16, mut packet: A::Packet) -> Option<A::Packet> {
        let Some(&Some((interface, mac))) = self.untagged.get(usize::from(port)) else {
            return Some(packet);
        };
        let found = packet
            .open()
            .map_or((None, None), |opened| self.usual(interface, mac, opened));
        match found {
            (Some(usual), _) => self.quick_deliver(packet, interface, &usual),
            (_, Some(usual)) => self.quick_deliver(packet, interface, &usual),
            _ => return Some(packet),
        }
        None
    }

    /// A usual datagram, of one version or the other, its headers cut off.
    #[inline(always)]
    fn usual(
        &self,
        interface: InterfaceId,
        mac: u64,
        opened: impl Opened,
    ) -> (Option<Usual<Ipv4Addr>>, Option<Usual<Ipv6Addr>>) {
        let Look { data, received, .. } = opened.look();
        let is_plain = received.vlan.is_none() && received.datagram_len.is_none();
        let ethernet = Ethernet::parse(data).ok();
        let ethernet = ethernet.filter(|ethernet| is_plain && ethernet.is_to_one(mac));
        match ethernet.map(|ethernet| ethernet.ether_type()) {
            Some(EtherType::IPV4) => {
                let usual = self.usual_v4(interface, data, &received);
                let usual = usual.filter(|usual| opened.cut(Ipv4Addr::LEN, usual.len - Udp::LEN));
                (usual, None)
            }
            Some(EtherType::IPV6) => {
                let usual = self.usual_v6(interface, data, &received);
                let usual = usual.filter(|usual| opened.cut(Ipv6Addr::LEN, usual.len - Udp::LEN));
                (None, usual)
            }
            _ => (None, None),
        }
    }

    // Once for each version: what is known of the datagram stays in registers.
    #[inline(always)]
    fn quick_deliver<V: Version>(
        &mut self,
        packet: A::Packet,
        interface: InterfaceId,
        usual: &Usual<V>,
    ) {
        let datagram = Datagram {
            packet,
            from: SocketAddr::new(usual.source.into(), usual.source_port),
            to: usual.destination.into(),
            interface,
            traffic_class: usual.traffic_class,
        };
        if self.udp.deliver_to(usual.socket, datagram) != Delivered::Queued {
            self.drops.count(Reason::UdpQueueFull);
        }
    }

    #[inline(always)]
    fn usual_v4(
        &self,
        interface: InterfaceId,
        data: &[u8],
        received: &Received,
    ) -> Option<Usual<Ipv4Addr>> {
        let bytes = data.get(Ethernet::LEN..)?;
        let ip = Ipv4::parse(bytes).ok()?;
        let (source, destination) = (ip.source(), ip.destination());
        let is_right = match received.ip_checksum {
            Some(is_right) => is_right,
            None => ip.checksum_is_right(bytes),
        };
        if !is_right
            || ip.header_len() != ipv4::HEADER_LEN
            || ip.is_fragment()
            || ip.protocol() != Protocol::UDP
            || !is_host(source)
            || !self
                .addresses
                .is_from_other_to_us(interface, source, destination)
        {
            return None;
        }
        let payload = bytes.get(ipv4::HEADER_LEN..usize::from(ip.total_len()))?;
        let udp = Udp::parse(payload).ok()?;
        let payload = payload.get(..usize::from(udp.length()))?;
        let is_right = match received.l4_checksum {
            Some(is_right) => is_right,
            None => {
                udp.checksum() == 0 || {
                    let mut sum = Sum::pseudo_v4(source, destination, Protocol::UDP, udp.length());
                    sum.add_last(payload);
                    sum.is_right()
                }
            }
        };
        let ports = [udp.destination(), udp.source()];
        Some(Usual {
            socket: self
                .udp
                .find_of([destination, source], ports)
                .filter(|_| is_right)?,
            traffic_class: ip.traffic_class(),
            source,
            destination,
            source_port: udp.source(),
            len: payload.len(),
        })
    }

    #[inline(always)]
    fn usual_v6(
        &self,
        interface: InterfaceId,
        data: &[u8],
        received: &Received,
    ) -> Option<Usual<Ipv6Addr>> {
        let bytes = data.get(Ethernet::LEN..)?;
        let ip = Ipv6::parse(bytes).ok()?;
        let (source, destination) = (ip.source(), ip.destination());
        if ip.next_header() != Protocol::UDP
            || source.is_unspecified()
            || self.accepts_v6(interface, source, destination, false) != Ok(false)
        {
            return None;
        }
        let payload = bytes
            .get(ipv6::HEADER_LEN..)?
            .get(..ip.payload_len().into())?;
        let udp = Udp::parse(payload).ok()?;
        let payload = payload.get(..usize::from(udp.length()))?;
        let is_right = match received.l4_checksum {
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
        let ports = [udp.destination(), udp.source()];
        Some(Usual {
            socket: self
                .udp
                .find_of([destination, source], ports)
                .filter(|_| is_right)?,
            traffic_class: ip.traffic_class(),
            source,
            destination,
            source_port: udp.source(),
            len: payload.len(),
        })
    }

    /// Puts the headers of a usual datagram before what `packet` holds, if its socket is a usual one and the way to its destination
    /// known, and says by which port it goes, which has room for it; otherwise leaves it as it was.
    // Not part of its callers: registers are few.
    #[inline(never)]
    pub(crate) fn quick_headers(
        &mut self,
        id: UdpId,
        packet: &mut A::Packet,
        source: Option<&IpAddr>,
        to: &SocketAddr,
    ) -> Option<u16> {
        match (to, source) {
            // Its number is that of an IPv4 address, whose headers are not for it.
            (SocketAddr::V6(to), _) if to.ip().to_ipv4_mapped().is_some() => None,
            (SocketAddr::V4(to), None) => {
                self.quick_headers_of(id, packet, None, (*to.ip(), to.port()))
            }
            (SocketAddr::V4(to), Some(IpAddr::V4(source))) => {
                self.quick_headers_of(id, packet, Some(*source), (*to.ip(), to.port()))
            }
            (SocketAddr::V6(to), None) => {
                self.quick_headers_of(id, packet, None, (*to.ip(), to.port()))
            }
            (SocketAddr::V6(to), Some(IpAddr::V6(source))) => {
                self.quick_headers_of(id, packet, Some(*source), (*to.ip(), to.port()))
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn quick_headers_of<V: Headers>(
        &self,
        id: UdpId,
        packet: &mut A::Packet,
        source: Option<V>,
        (to, destination_port): (V, u16),
    ) -> Option<u16> {
        let (seed, generation) = (self.config.seed, self.generation());
        let template = self
            .destinations
            .template(to.bits(), seed, generation, self.now)?;
        let (bound, source_port, traffic_class) = self.udp.usual::<V>(id)?;
        let other;
        let template = if bound.bits() == V::ANY || template.is_from(bound) {
            template
        } else {
            other = template.from(bound, to)?;
            &other
        };
        let header = Header {
            source_port,
            destination_port,
            traffic_class,
        };
        if source.is_some_and(|source| !template.is_from(source))
            || !self.ports.get(usize::from(template.port))?.has_room()
        {
            return None;
        }
        let wishes = Wishes {
            ip_checksum: false,
            l4_checksum: template
                .l4_checksum
                .then_some((V::UDP_AT, Udp::CHECKSUM_AT)),
        };
        let data = packet.wrap(V::LEN, wishes)?;
        if data.len() > Ethernet::LEN + usize::from(template.mtu)
            || V::write(template, header, data).is_none()
        {
            // It goes the long way as it came, or is nothing that anybody could read.
            let _ = packet.adj(V::LEN);
            packet.ask(Wishes::default());
            return None;
        }
        Some(template.port)
    }

    /// Has a packet with all its headers wait until its port takes it, which has room.
    #[inline(always)]
    pub(crate) fn quick_out(&mut self, port: u16, packet: A::Packet) {
        if let Some(outbox) = self.ports.get_mut(usize::from(port)) {
            self.traffic.sent += u64::from(outbox.push(packet));
        }
    }
}
