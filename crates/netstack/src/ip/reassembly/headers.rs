//! What the fragments of a datagram have in common, and the headers before them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::interface::InterfaceId;

/// Most bytes of headers before the data of a fragment: an IPv6 header, a fragment header, and 80 bytes of others.
pub const HEADERS_MAX: usize = 128;

/// What a total length of 16 bits can say.
pub(super) const LENGTH_MAX: usize = u16::MAX as usize;

/// Bytes of an IPv6 header, which its payload length does not count.
const IPV6_LEN: usize = 40;

/// Bytes of a fragment header, which is not part of the datagram.
const FRAGMENT_LEN: usize = 8;

/// What the fragments of one datagram have in common.
///
/// The interface is part of it: a link-local source is another host on another link, and so may a private one be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Where they arrive.
    pub interface: InterfaceId,
    /// Who sends.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// The identification.
    pub id: u32,
    /// The protocol, for IPv4; 0 for IPv6.
    pub protocol: u8,
}

impl Key {
    /// Of IPv4 fragments: RFC 791 section 2.3.
    #[must_use]
    pub const fn v4(
        interface: InterfaceId,
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: u8,
        id: u16,
    ) -> Self {
        Self {
            interface,
            source: IpAddr::V4(source),
            destination: IpAddr::V4(destination),
            id: id as u32,
            protocol,
        }
    }

    /// Of IPv6 fragments: RFC 8200 section 4.5, which leaves the protocol out.
    #[must_use]
    pub const fn v6(
        interface: InterfaceId,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        id: u32,
    ) -> Self {
        Self {
            interface,
            source: IpAddr::V6(source),
            destination: IpAddr::V6(destination),
            id,
            protocol: 0,
        }
    }

    /// What the length field of a datagram would say that has these headers before each fragment and ends there.
    pub(super) const fn length(&self, headers: usize, end: usize) -> usize {
        match self.source {
            IpAddr::V4(_) => headers.saturating_add(end),
            IpAddr::V6(_) => headers
                .saturating_sub(IPV6_LEN + FRAGMENT_LEN)
                .saturating_add(end),
        }
    }
}

/// The headers before the data of a fragment, as they came: the IP header and what follows it, the fragment header included.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    bytes: [u8; HEADERS_MAX],
    len: u8,
}

impl Headers {
    pub(super) fn new(headers: &[u8]) -> Option<Self> {
        let mut bytes = [0; HEADERS_MAX];
        bytes.get_mut(..headers.len())?.copy_from_slice(headers);
        let len = u8::try_from(headers.len()).ok()?;
        Some(Self { bytes, len })
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }

    /// What the data begin with: the protocol of an IPv4 header, the next header of a fragment header, which stands last.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        let at = match self.bytes[0] >> 4 {
            4 => 9,
            _ => usize::from(self.len).saturating_sub(FRAGMENT_LEN),
        };
        self.bytes().get(at).copied().unwrap_or_default()
    }
}

impl core::fmt::Debug for Headers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Headers").field(&self.bytes()).finish()
    }
}

/// The bits of congestion notification in an IP header of either version.
pub(super) fn ecn(headers: &[u8]) -> u8 {
    match headers {
        [first, second, ..] if first >> 4 == 4 => second & 3,
        [_, second, ..] => (second >> 4) & 3,
        _ => 0,
    }
}

/// What a whole has whose fragments had these: RFC 3168 section 5.3. `None` if that cannot be.
pub(super) fn ecn_of_all(seen: u8, first: &[u8]) -> Option<u8> {
    const NOT_CAPABLE: u8 = 0;
    const CONGESTION: u8 = 3;
    if seen & (1 << CONGESTION) == 0 {
        Some(ecn(first))
    } else if seen & (1 << NOT_CAPABLE) == 0 {
        Some(CONGESTION)
    } else {
        None
    }
}
