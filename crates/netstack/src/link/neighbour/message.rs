//! What is said to and by [`Neighbours`](super::Neighbours).

use core::net::IpAddr;

use crate::interface::InterfaceId;
use crate::time::Instant;
use crate::wire::ethernet::Mac;

/// What [`Neighbours::resolve`](super::Neighbours::resolve) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Send it there.
    Known {
        /// The neighbour's Ethernet address.
        mac: Mac,
        /// Need not be asked for again before then, as long as [`Neighbours::generation`](super::Neighbours::generation) stays.
        until: Instant,
    },
    /// Have it [wait](super::Neighbours::wait), and [poll](super::Neighbours::poll).
    Unknown,
}

/// For whose sake a neighbour's Ethernet address is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// We want to send something: an application does, or the neighbour is a router that everybody needs.
    Ours,
    /// We want to answer what came from there, and whoever sent it may have invented the address.
    Answer,
}

/// How we came to hear of an Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// An answer to us: an ARP reply to our address, which always overrides; a neighbour advertisement with the flag S.
    Solicited {
        /// The flag O: replaces an address that is known.
        overriding: bool,
    },
    /// A gratuitous ARP, which always overrides; a neighbour advertisement without the flag S.
    Unsolicited {
        /// The flag O: replaces an address that is known.
        overriding: bool,
    },
    /// Somebody told his own in passing: the sender of an ARP request, the source link-layer address of a neighbour or router
    /// solicitation, of a router advertisement, the target's of a redirect.
    Mention,
}

/// What [`Neighbours::learn`](super::Neighbours::learn) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing that matters to packets.
    Nothing,
    /// A new entry.
    Created,
    /// It was waited for: [`Neighbours::take_waiting`](super::Neighbours::take_waiting) until there is nothing left.
    Resolved,
    /// The neighbour has another Ethernet address than before.
    Moved {
        /// The one before.
        from: Mac,
    },
    /// A new one for which there is no room.
    Full,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Send an ARP request or a neighbour solicitation.
    Solicit {
        /// Where.
        interface: InterfaceId,
        /// For whom.
        address: IpAddr,
        /// To him alone, who had this Ethernet address; to all, or to the solicited-node group, if `None`.
        mac: Option<Mac>,
        /// The first one, not a repetition.
        first: bool,
    },
    /// He did not answer: [`Neighbours::take_waiting`](super::Neighbours::take_waiting) until there is nothing left, and say so to whom the packets came from.
    Failed {
        /// Where.
        interface: InterfaceId,
        /// Who.
        address: IpAddr,
    },
}

/// The states of RFC 4861 section 7.3.2, and one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// We are asking.
    Incomplete,
    /// Known to be there.
    Reachable,
    /// Was there when we last heard of it.
    Stale,
    /// Like Stale, but in use; we hope for a sign.
    Delay,
    /// We are asking whether it is still there.
    Probe,
    /// Set by the configuration or a tool; never asked, never changed, never dropped.
    Static,
}

impl State {
    /// As tools show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incomplete => "incomplete",
            Self::Reachable => "reachable",
            Self::Stale => "stale",
            Self::Delay => "delay",
            Self::Probe => "probe",
            Self::Static => "static",
        }
    }
}

/// One line of the table, for tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Where.
    pub interface: InterfaceId,
    /// Who.
    pub address: IpAddr,
    /// The Ethernet address, if it is known.
    pub mac: Option<Mac>,
    /// How well.
    pub state: State,
    /// Packets that wait for it.
    pub waiting: usize,
    /// Something was sent to it that was no mere answer: it makes room for others only after those to whom nothing was.
    pub ours: bool,
    /// It has answered a question of ours: it makes room after those who have not.
    pub proven: bool,
}
