//! Sending: IP headers, checksums, cutting, framing.

use core::net::IpAddr;

use super::Stack;
use super::hop::{Hop, Next};
use super::outbox::Outbox;
use crate::interface::FrameHeader;
use crate::ip::fragment::{fragment_v4, fragment_v6};
use crate::packet::{Packet, Packets, Wishes};
use crate::stats::Reason;
use crate::wire::checksum::Sum;
use crate::wire::udp::Udp;
use crate::wire::{Protocol, ipv4, ipv6};

/// What stands in the IP header, besides lengths and checksums.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) hop_limit: u8,
    pub(crate) traffic_class: u8,
    /// Dropped where it does not fit, by us and by routers.
    pub(crate) never_cut: bool,
}

impl Header {
    /// The sum of the pseudo header, for so many bytes behind the IP header.
    #[inline]
    pub(crate) fn pseudo(&self, len: u16) -> Sum {
        pseudo(self.source, self.destination, self.protocol, len)
    }
}

/// The sum of a pseudo header; of nothing, if the two are not of one version.
#[inline]
pub(super) fn pseudo(source: IpAddr, destination: IpAddr, protocol: Protocol, len: u16) -> Sum {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            Sum::pseudo_v4(source, destination, protocol, len)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            Sum::pseudo_v6(source, destination, protocol, len.into())
        }
        _ => Sum::new(),
    }
}

/// What stands between the IP header and what the packet holds by now.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Upper {
    /// Nothing: the packet has its header, and the checksum in it.
    Whole,
    /// A UDP header.
    Udp {
        source: u16,
        destination: u16,
        /// IPv4 allows to do without: RFC 768. IPv6 does not: RFC 8200 section 8.1.
        checksum: bool,
    },
}

impl<A: Packets> Stack<A> {
    /// Whether a port takes another packet.
    #[inline]
    pub(crate) fn has_room(&self, hop: &Hop) -> bool {
        match hop.next {
            Next::Local => self.local.len() < self.config.local_max,
            Next::Ask(_) => true,
            Next::Send => self
                .ports
                .get(usize::from(hop.port))
                .is_some_and(Outbox::has_room),
        }
    }

    /// Puts the headers before what `packet` holds, and sends it.
    ///
    /// # Errors
    ///
    /// Why it was dropped; the caller counts.
    #[inline]
    pub(crate) fn send(
        &mut self,
        hop: &Hop,
        header: &Header,
        upper: Upper,
        mut packet: A::Packet,
    ) -> Result<(), Reason> {
        let upper_len = match upper {
            Upper::Whole => 0,
            Upper::Udp { .. } => Udp::LEN,
        };
        let ip_len = match header.destination {
            IpAddr::V4(_) => ipv4::HEADER_LEN,
            IpAddr::V6(_) => ipv6::HEADER_LEN,
        };
        let len = packet.len() + upper_len;
        let payload_len = u16::try_from(len).map_err(|_| Reason::TooLarge)?;
        let fits = ip_len + len <= usize::from(hop.mtu);
        if !fits && header.never_cut {
            return Err(Reason::TooLarge);
        }
        let frame: &[u8] = if fits { hop.frame.bytes() } else { &[] };
        let mut wishes = Wishes::default();
        let udp = match upper {
            Upper::Whole => None,
            Upper::Udp {
                source,
                destination,
                checksum,
            } => {
                let udp = Udp::new(source, destination, payload_len, 0);
                if !checksum {
                    Some(udp)
                } else {
                    let mut sum = header.pseudo(payload_len);
                    if fits && hop.offloads.l4_checksum {
                        let start = frame.len() + ip_len;
                        let start = u16::try_from(start).map_err(|_| Reason::TooLarge)?;
                        wishes.l4_checksum = Some((start, Udp::CHECKSUM_AT));
                        Some(udp.with_checksum(sum.fold()))
                    } else {
                        sum.add(udp.as_bytes());
                        packet.segments().for_each(|bytes| sum.add(bytes));
                        Some(udp.with_checksum(sum.finish_udp()))
                    }
                }
            }
        };
        let room = packet.prepend(frame.len() + ip_len + upper_len);
        let (before, room) = room
            .and_then(|room| room.split_at_mut_checked(frame.len()))
            .ok_or(Reason::Unreadable)?;
        match (before.first_chunk_mut::<14>(), frame.first_chunk::<14>()) {
            // By far most: a copy of a known length.
            (Some(before), Some(header)) if frame.len() == 14 => *before = *header,
            _ => before.copy_from_slice(frame),
        }
        let rest = match (header.source, header.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                // RFC 6864 section 4.1: what is never cut needs no identification.
                let dont_fragment = fits && !hop.may_cut;
                let id = if dont_fragment { 0 } else { self.next_id() };
                let repr = ipv4::Repr {
                    traffic_class: header.traffic_class,
                    payload_len,
                    id,
                    dont_fragment,
                    more_fragments: false,
                    fragment_offset: 0,
                    ttl: header.hop_limit,
                    protocol: header.protocol,
                    source,
                    destination,
                };
                let (ip, rest) = room.split_first_chunk_mut().ok_or(Reason::Unreadable)?;
                if fits && hop.offloads.ip_checksum {
                    wishes.ip_checksum = true;
                    repr.write_without_checksum(ip);
                } else {
                    repr.write(ip);
                }
                rest
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let repr = ipv6::Repr {
                    traffic_class: header.traffic_class,
                    flow_label: 0,
                    payload_len,
                    next_header: header.protocol,
                    hop_limit: header.hop_limit,
                    source,
                    destination,
                };
                let (ip, rest) = room.split_first_chunk_mut().ok_or(Reason::Unreadable)?;
                repr.write(ip);
                rest
            }
            _ => return Err(Reason::NoSource),
        };
        if let Some(udp) = udp
            && let Some(room) = rest.first_chunk_mut()
        {
            udp.write(room);
        }
        packet.ask(wishes);
        if fits {
            self.put(hop, packet)
        } else {
            self.cut(hop, &packet)
        }
    }

    /// Cuts an IP packet that has all its headers and sends the pieces.
    fn cut(&mut self, hop: &Hop, whole: &A::Packet) -> Result<(), Reason> {
        let is_ipv4 = whole.data().first().is_some_and(|first| first >> 4 == 4);
        // An IPv4 header has one already.
        let id = if is_ipv4 { 0 } else { self.next_long_id() };
        let ports = &mut self.ports;
        let (neighbours, local_max, local) =
            (&mut self.neighbours, self.config.local_max, &mut self.local);
        let drops = &mut self.drops;
        let mut lost = None;
        let mut emit = |mut piece: A::Packet| {
            let frame = hop.frame.bytes();
            let outcome = match piece.prepend(frame.len()) {
                None => Err(Reason::Unreadable),
                Some(room) => {
                    room.copy_from_slice(frame);
                    match hop.next {
                        Next::Send => match ports.get_mut(usize::from(hop.port)) {
                            Some(port) => {
                                let fits = port.push(piece);
                                fits.then_some(()).ok_or(Reason::TransmitQueueFull)
                            }
                            None => Err(Reason::TransmitQueueFull),
                        },
                        Next::Ask(next) => {
                            match neighbours.wait(hop.interface, next, piece) {
                                Ok(()) => Ok(()),
                                // Others than this piece, as a rule.
                                Err((_, reason)) => {
                                    drops.count(reason);
                                    Ok(())
                                }
                            }
                        }
                        Next::Local if local.len() < local_max => {
                            local.push_back((hop.interface, piece));
                            Ok(())
                        }
                        Next::Local => Err(Reason::TransmitQueueFull),
                    }
                }
            };
            if let Err(reason) = outcome {
                lost = Some(reason);
            }
        };
        if is_ipv4 {
            fragment_v4(&mut self.packets, whole, hop.mtu, &mut emit)?;
        } else {
            fragment_v6(&mut self.packets, whole, id, hop.mtu, &mut emit)?;
        }
        if let Next::Ask(_) = hop.next {
            self.ask_neighbours();
        }
        self.traffic.sent += 1;
        lost.map_or(Ok(()), Err)
    }

    /// Sends a packet that has all its headers, the frame's too if its way has one.
    #[inline]
    pub(crate) fn put(&mut self, hop: &Hop, packet: A::Packet) -> Result<(), Reason> {
        match hop.next {
            Next::Send => self.out(hop.port, packet),
            Next::Ask(next) => {
                // Not this packet, as a rule, but an older one that made room for it.
                if let Err((_, reason)) = self.neighbours.wait(hop.interface, next, packet) {
                    self.drops.count(reason);
                }
                self.ask_neighbours();
                Ok(())
            }
            Next::Local => {
                if self.local.len() >= self.config.local_max {
                    return Err(Reason::TransmitQueueFull);
                }
                self.local.push_back((hop.interface, packet));
                Ok(())
            }
        }
    }

    /// Frames a packet and sends it.
    pub(super) fn transmit(
        &mut self,
        port: u16,
        frame: &FrameHeader,
        mut packet: A::Packet,
    ) -> Result<(), Reason> {
        let room = packet
            .prepend(frame.bytes().len())
            .ok_or(Reason::Unreadable)?;
        room.copy_from_slice(frame.bytes());
        self.out(port, packet)
    }

    /// Has a framed packet wait until its port takes it.
    fn out(&mut self, port: u16, packet: A::Packet) -> Result<(), Reason> {
        let outbox = self.ports.get_mut(usize::from(port));
        if !outbox.ok_or(Reason::PortUnknown)?.push(packet) {
            return Err(Reason::TransmitQueueFull);
        }
        self.traffic.sent += 1;
        Ok(())
    }

    /// The next packet to be sent by a port.
    #[inline]
    pub fn poll_transmit(&mut self, port: u16) -> Option<A::Packet> {
        self.ports.get_mut(usize::from(port))?.pop()
    }

    /// How many packets wait to be sent by a port.
    #[must_use]
    pub fn to_transmit(&self, port: u16) -> usize {
        self.ports.get(usize::from(port)).map_or(0, Outbox::len)
    }

    /// An identification that others cannot foresee: RFC 7739 section 5.
    fn next_long_id(&mut self) -> u32 {
        self.ids = self.ids.wrapping_add(1);
        let seed = self.config.seed;
        // Twice: counts lie near each other, and what is made of them once is a multiple of what they differ in.
        let mixed = crate::hash::mix(seed, crate::hash::mix(seed, self.ids, 0x6964), 0x7366);
        // The upper half of a product is as good as the whole.
        (mixed >> 32) as u32
    }

    /// One of 16 bits: RFC 6864 section 4.3 wants none twice while pieces of the first may be about. Chance would have one twice
    /// after a few hundred, so this shuffles a count: four rounds of Luby and Rackoff's, and none comes again before all others.
    fn next_id(&mut self) -> u16 {
        self.ids = self.ids.wrapping_add(1);
        let [.., mut left, mut right] = self.ids.to_be_bytes();
        for round in 0..4 {
            let mixed = crate::hash::mix(self.config.seed, right.into(), round);
            let [mixed, ..] = mixed.to_be_bytes();
            (left, right) = (right, left ^ mixed);
        }
        u16::from_be_bytes([left, right])
    }
}
