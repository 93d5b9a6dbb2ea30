//! What routers say, and what follows from it for the stack.

use core::net::Ipv6Addr;
use core::time::Duration;

use crate::interface::InterfaceId;

/// How much a router wants to be the default one. RFC 4191 section 2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Preference {
    /// Only if there is no other.
    Low,
    /// As most do.
    #[default]
    Medium,
    /// Before others.
    High,
}

impl Preference {
    /// Of the two bits in the advertisement; the reserved value counts as medium.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            1 => Self::High,
            3 => Self::Low,
            _ => Self::Medium,
        }
    }
}

/// A router advertisement without its prefixes, checked as RFC 4861 section 6.1.2 demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// Who sent it.
    pub router: Ipv6Addr,
    /// For how many seconds it is a default router; 0 if it is none.
    pub lifetime: u16,
    /// How much it wants to be one.
    pub preference: Preference,
    /// Hop limit for packets; 0 if it does not say.
    pub hop_limit: u8,
    /// ReachableTime in milliseconds; 0 if it does not say.
    pub reachable_ms: u32,
    /// RetransTimer in milliseconds; 0 if it does not say.
    pub retransmit_ms: u32,
    /// The MTU option.
    pub mtu: Option<u32>,
}

/// A prefix information option. RFC 4861 section 4.6.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix; bits after `len` mean nothing.
    pub prefix: Ipv6Addr,
    /// How long it is.
    pub len: u8,
    /// Who has it is on the link.
    pub on_link: bool,
    /// Hosts may make addresses of it.
    pub autonomous: bool,
    /// For how many seconds; all ones for ever.
    pub valid: u32,
    /// For how many seconds addresses of it are preferred; all ones for ever.
    pub preferred: u32,
}

/// What the stack is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a router solicitation to `ff02::2`, without a source link-layer address if there is no source address.
    RouterSolicit {
        /// From here.
        interface: InterfaceId,
        /// Our link-local address, if it may be used yet; or else `::`.
        source: Option<Ipv6Addr>,
    },
    /// Add a route; there is none with this prefix and gateway from us.
    AddRoute {
        /// Out of here.
        interface: InterfaceId,
        /// To here; `::` for all.
        prefix: Ipv6Addr,
        /// So many bits of it.
        len: u8,
        /// By this router; `None` if it is on the link.
        gateway: Option<Ipv6Addr>,
        /// Which router to prefer; medium for what is on the link.
        preference: Preference,
    },
    /// Remove a route that was added.
    RemoveRoute {
        /// Out of here.
        interface: InterfaceId,
        /// To here.
        prefix: Ipv6Addr,
        /// So many bits of it.
        len: u8,
        /// By this router.
        gateway: Option<Ipv6Addr>,
    },
    /// IPv6 packets may have so many bytes, or as many as the port takes if that is less.
    SetMtu {
        /// Out of here.
        interface: InterfaceId,
        /// At least 1280.
        mtu: u16,
    },
    /// Packets start with this hop limit.
    SetHopLimit {
        /// Out of here.
        interface: InterfaceId,
        /// Not 0.
        hop_limit: u8,
    },
    /// How long neighbours count as reachable.
    SetReachable {
        /// Here.
        interface: InterfaceId,
        /// BaseReachableTime.
        reachable: Duration,
    },
    /// How long to wait between two solicitations of a neighbour.
    SetRetransmit {
        /// Here.
        interface: InterfaceId,
        /// RetransTimer.
        retransmit: Duration,
    },
}
