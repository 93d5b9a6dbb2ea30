//! The headers of usual datagrams to a destination, written once and then copied: a length, two ports and two checksums are all
//! that is left to fill in.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::hop::{Hop, Next};
use crate::ip::version::Version;
use crate::wire::Protocol;
use crate::wire::checksum::{Sum, fold_64};
use crate::wire::ethernet::Ethernet;
use crate::wire::udp::Udp;
use crate::wire::{ipv4, ipv6};

/// Bytes of an Ethernet header and the longer one of IP.
const HEAD_MAX: usize = Ethernet::LEN + ipv6::HEADER_LEN;

/// What is the same in all usual datagrams to a destination, and where they go out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Template {
    pub(super) port: u16,
    pub(super) mtu: u16,
    /// The device sums up what UDP carries.
    pub(super) l4_checksum: bool,
    hop_limit: u8,
    /// The address of ours that they come from, as a number.
    source: u128,
    /// The IPv4 header's sum, without length and traffic class.
    ip_sum: u32,
    /// The pseudo header's, without length, in the machine's order.
    pseudo: u32,
    /// Without tags; length and checksum are zero.
    head: [u8; HEAD_MAX],
}

/// What differs from one usual datagram to the next, but for its data.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) traffic_class: u8,
}

impl Template {
    /// For datagrams to `to`, which take this hop; `None` if something has to be looked at for each of them.
    pub(super) fn of(to: IpAddr, hop: &Hop) -> Option<Self> {
        if hop.next != Next::Send || hop.may_cut || to.is_multicast() {
            return None;
        }
        let frame = hop.frame.bytes().first_chunk()?;
        if hop.frame.bytes().len() != Ethernet::LEN {
            return None;
        }
        let blank = Self {
            port: hop.port,
            mtu: hop.mtu,
            l4_checksum: hop.offloads.l4_checksum,
            hop_limit: hop.hop_limit,
            source: 0,
            ip_sum: 0,
            pseudo: 0,
            head: [0; HEAD_MAX],
        };
        match (to, hop.source) {
            (IpAddr::V4(to), IpAddr::V4(source)) => source.fill(to, frame, blank),
            (IpAddr::V6(to), IpAddr::V6(source)) => source.fill(to, frame, blank),
            _ => None,
        }
    }

    /// Whether the datagrams come from this address of ours.
    #[inline(always)]
    pub(super) fn is_from<V: Version>(&self, source: V) -> bool {
        self.source == source.bits()
    }

    /// The same from another address of ours.
    #[cold]
    pub(super) fn from<V: Headers>(&self, source: V, to: V) -> Option<Self> {
        source.fill(to, self.head.first_chunk()?, *self)
    }

    /// Writes the UDP header before `payload`.
    #[inline(always)]
    fn udp(&self, header: Header, len: u16, out: &mut [u8; Udp::LEN], payload: &[u8]) {
        let ports = u32::from(header.source_port) << 16 | u32::from(header.destination_port);
        out[0..4].copy_from_slice(&ports.to_be_bytes());
        out[4..6].copy_from_slice(&len.to_be_bytes());
        let len = u32::from(len.to_be());
        let checksum = if self.l4_checksum {
            // The device adds the rest.
            Sum::of_words([self.pseudo, len]).fold()
        } else {
            // The length stands in both headers.
            let mut sum = Sum::of_words([self.pseudo, len, len, ports.to_be()]);
            sum.add_last(payload);
            sum.finish_udp()
        };
        out[6..8].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// A version of IP whose header stands before UDP's.
pub(super) trait Headers: Version {
    /// Bytes of all headers.
    const LEN: usize;
    /// Where UDP's stands.
    const UDP_AT: u16;

    /// Makes what is the same in all datagrams from this address of ours.
    fn fill(self, to: Self, frame: &[u8; Ethernet::LEN], blank: Template) -> Option<Template>;

    /// Writes all headers before the data that stands behind room for them.
    fn write(template: &Template, header: Header, data: &mut [u8]) -> Option<()>;
}

impl Headers for Ipv4Addr {
    const LEN: usize = 42;
    const UDP_AT: u16 = 34;

    fn fill(self, to: Self, frame: &[u8; Ethernet::LEN], blank: Template) -> Option<Template> {
        let mut template = Template {
            source: Version::bits(self),
            pseudo: u32::from(Sum::pseudo_v4(self, to, Protocol::UDP, 0).fold().to_be()),
            ..blank
        };
        let (ethernet, rest) = template.head.split_first_chunk_mut()?;
        *ethernet = *frame;
        let ip = rest.first_chunk_mut()?;
        ipv4::Repr {
            traffic_class: 0,
            payload_len: 0,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: blank.hop_limit,
            protocol: Protocol::UDP,
            source: self,
            destination: to,
        }
        .write_without_checksum(ip);
        // The length of the header alone is not one.
        ip[2..4].copy_from_slice(&[0; 2]);
        let mut sum = Sum::new();
        sum.add(ip);
        template.ip_sum = sum.fold().into();
        Some(template)
    }

    #[inline(always)]
    fn write(template: &Template, header: Header, data: &mut [u8]) -> Option<()> {
        let (room, payload) = data.split_first_chunk_mut::<42>()?;
        let (head, udp) = room.split_first_chunk_mut::<34>()?;
        *head = *template.head.first_chunk()?;
        let len = u16::try_from(Udp::LEN + payload.len()).ok()?;
        let total_len = u32::from(len) + 20;
        let sum = template.ip_sum + total_len + u32::from(header.traffic_class);
        let checksum = !fold_64(u64::from(sum));
        let [len_high, len_low] = ((total_len & 0xffff) as u16).to_be_bytes();
        head[15] = header.traffic_class;
        head[16..18].copy_from_slice(&[len_high, len_low]);
        head[24..26].copy_from_slice(&checksum.to_be_bytes());
        template.udp(header, len, udp.first_chunk_mut()?, payload);
        Some(())
    }
}

impl Headers for Ipv6Addr {
    const LEN: usize = 62;
    const UDP_AT: u16 = 54;

    fn fill(self, to: Self, frame: &[u8; Ethernet::LEN], blank: Template) -> Option<Template> {
        let mut template = Template {
            source: Version::bits(self),
            pseudo: u32::from(Sum::pseudo_v6(self, to, Protocol::UDP, 0).fold().to_be()),
            ..blank
        };
        let (ethernet, rest) = template.head.split_first_chunk_mut()?;
        *ethernet = *frame;
        ipv6::Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 0,
            next_header: Protocol::UDP,
            hop_limit: blank.hop_limit,
            source: self,
            destination: to,
        }
        .write(rest.first_chunk_mut()?);
        Some(template)
    }

    #[inline(always)]
    fn write(template: &Template, header: Header, data: &mut [u8]) -> Option<()> {
        let (room, payload) = data.split_first_chunk_mut::<62>()?;
        let (head, udp) = room.split_first_chunk_mut::<54>()?;
        *head = template.head;
        let len = u16::try_from(Udp::LEN + payload.len()).ok()?;
        head[14] |= header.traffic_class >> 4;
        head[15] = header.traffic_class << 4;
        head[18..20].copy_from_slice(&len.to_be_bytes());
        template.udp(header, len, udp.first_chunk_mut()?, payload);
        Some(())
    }
}
