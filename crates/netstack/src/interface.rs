//! What an address stands on: a port, seen through no, one or two VLAN tags.

use core::fmt;

use crate::wire::ethernet::Mac;

/// Number of an interface of a stack, in the order in which they were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u8);

impl InterfaceId {
    /// The zone of link-local addresses on the interface, as `scope_id` of a socket address says it: RFC 4007 section 6. One more than
    /// the interface's number, since 0 stands for no zone.
    #[must_use]
    pub const fn scope_id(self) -> u32 {
        self.0 as u32 + 1
    }

    /// The interface of a zone; `None` for 0, and for what is too large.
    #[must_use]
    pub fn of_scope_id(scope_id: u32) -> Option<Self> {
        let number = scope_id.checked_sub(1)?;
        u8::try_from(number).ok().map(Self)
    }
}

impl fmt::Display for InterfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interface {}", self.0)
    }
}

/// What the port does when sending, so that the stack need not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offloads {
    /// It fills in the checksum of an IPv4 header.
    pub ip_checksum: bool,
    /// It fills in the checksum of TCP and UDP.
    pub l4_checksum: bool,
}

/// What an interface is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// The port that its packets come and go by.
    pub port: u16,
    /// VLAN identifiers, the outer one first; [`InterfaceConfig::UNTAGGED`] for none.
    pub vlan: [Option<u16>; 2],
    /// Its Ethernet address.
    pub mac: Mac,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// What the port does.
    pub offloads: Offloads,
}

impl InterfaceConfig {
    /// No VLAN tag.
    pub const UNTAGGED: [Option<u16>; 2] = [None, None];

    /// A port without VLAN tags and offloads, at Ethernet's usual MTU.
    #[must_use]
    pub const fn new(port: u16, mac: Mac) -> Self {
        Self {
            port,
            vlan: Self::UNTAGGED,
            mac,
            mtu: 1500,
            offloads: Offloads {
                ip_checksum: false,
                l4_checksum: false,
            },
        }
    }
}

/// Most bytes before the IP header: an Ethernet header and two tags.
pub(crate) const FRAME_HEADER_MAX: usize = 22;

/// Everything before an IP header, ready to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    bytes: [u8; FRAME_HEADER_MAX],
    len: u8,
}

impl FrameHeader {
    /// None: the packet is not to be framed yet.
    pub(crate) const NONE: Self = Self {
        bytes: [0; FRAME_HEADER_MAX],
        len: 0,
    };

    /// From an interface to a station: the addresses, the tags (IEEE 802.1ad outside of 802.1Q), and what follows.
    pub(crate) fn new(config: &InterfaceConfig, to: Mac, ether_type: u16) -> Self {
        let mut header = Self::NONE;
        header.push(&to.0);
        header.push(&config.mac.0);
        let [outer, inner] = config.vlan;
        if let Some(vid) = outer {
            let is_stacked = inner.is_some();
            let tag = if is_stacked {
                crate::wire::ethernet::EtherType::QINQ
            } else {
                crate::wire::ethernet::EtherType::VLAN
            };
            header.push(&tag.0.to_be_bytes());
            header.push(&vid.to_be_bytes());
        }
        if let Some(vid) = inner {
            header.push(&crate::wire::ethernet::EtherType::VLAN.0.to_be_bytes());
            header.push(&vid.to_be_bytes());
        }
        header.push(&ether_type.to_be_bytes());
        header
    }

    fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.len);
        if let Some(room) = self.bytes.get_mut(at..at + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += u8::try_from(bytes.len()).unwrap_or(0);
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).min(FRAME_HEADER_MAX)]
    }
}
