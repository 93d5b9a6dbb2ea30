//! Bytes to fields and back: a file a protocol, no state.
//!
//! Frames may lie in memory that another process writes, so a parser copies the header first and checks the copy; what it found
//! right stays right. Lengths that a header claims are checked against the header itself, not against what follows: a packet may
//! lie in several segments, and one quoted by ICMP is cut off. The caller compares them with what there is.
//!
//! | module | what it is |
//! |---|---|
//! | [`checksum`] | the Internet checksum |
//! | [`ethernet`], [`vlan`] | frames, their addresses, their tags |
//! | [`arp`] | who has which IPv4 address |
//! | [`ipv4`], [`ipv6`], [`extension`] | IP, its options and extension headers |
//! | [`icmpv4`], [`icmpv6`], [`ndp`] | echo, errors, neighbours and routers |
//! | [`igmp`], [`mld`] | who listens to which group |
//! | [`udp`] | UDP |

use core::fmt;

pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod extension;
pub mod icmpv4;
pub mod icmpv6;
pub mod igmp;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod ndp;
pub mod udp;
pub mod vlan;

/// Why bytes are no message of a protocol; the packet is to be dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// The bytes end before the header does.
    #[error("it ends before its header does")]
    Truncated,
    /// A length field contradicts itself, or the bytes there are.
    #[error("a length in it contradicts the others")]
    BadLength,
    /// Another version of the protocol.
    #[error("it is of another version")]
    BadVersion,
    /// A field has a value that it may not have.
    #[error("a field of it has a value that it may not have")]
    BadField,
    /// The checksum is wrong.
    #[error("its checksum is wrong")]
    BadChecksum,
}

/// What follows an IP header: IPv4's protocol, IPv6's next header.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Protocol(pub u8);

impl Protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: Self = Self(0);
    /// ICMP for IPv4.
    pub const ICMPV4: Self = Self(1);
    /// IGMP.
    pub const IGMP: Self = Self(2);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// IPv6 routing header.
    pub const ROUTING: Self = Self(43);
    /// IPv6 fragment header.
    pub const FRAGMENT: Self = Self(44);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// Nothing follows an IPv6 header.
    pub const NO_NEXT_HEADER: Self = Self(59);
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: Self = Self(60);
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol({})", self.0)
    }
}

/// Splits the first `N` bytes off, by value.
#[inline]
pub(crate) fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Malformed> {
    match bytes.split_first_chunk() {
        Some((first, rest)) => Ok((*first, rest)),
        None => Err(Malformed::Truncated),
    }
}

/// Writes pieces one behind the other into room that may be too small.
#[derive(Debug)]
struct Pieces<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Pieces<'a> {
    fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0 }
    }

    /// Writes the next bytes, or nothing if they do not fit.
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.out.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    /// All that was written.
    fn finish(self) -> &'a mut [u8] {
        self.out.get_mut(..self.len).unwrap_or_default()
    }
}
