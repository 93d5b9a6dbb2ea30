//! What routers ask and hosts report, in any version.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::interface::InterfaceId;

/// The protocol of a query or of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// RFC 1112.
    Igmp1,
    /// RFC 2236.
    Igmp2,
    /// RFC 3376.
    Igmp3,
    /// RFC 2710.
    Mld1,
    /// RFC 3810.
    Mld2,
}

impl Protocol {
    /// Whether one report carries many records.
    #[must_use]
    pub const fn has_records(self) -> bool {
        matches!(self, Self::Igmp3 | Self::Mld2)
    }

    pub(super) const fn family(self) -> Family {
        match self {
            Self::Igmp1 | Self::Igmp2 | Self::Igmp3 => Family::V4,
            Self::Mld1 | Self::Mld2 => Family::V6,
        }
    }
}

/// A router's question: IGMP membership query or MLD query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// Its version, which its length and, for IGMPv1, its response time of zero tell. RFC 3376 section 7.1, RFC 3810
    /// section 8.1.
    pub protocol: Protocol,
    /// The group that is asked for; `None` for all.
    pub group: Option<IpAddr>,
    /// How long the answer may take, decoded: Max Resp Time, Maximum Response Delay.
    pub max_response: Duration,
    /// QRV, of IGMPv3 and MLDv2; 0 if it does not say.
    pub robustness: u8,
    /// QQI, decoded, of IGMPv3 and MLDv2; zero if it does not say.
    pub interval: Duration,
}

/// What a record says. The numbers are those of IGMPv3 and MLDv2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// We are members: MODE_IS_EXCLUDE of no sources. In an older version a membership report.
    Member = 2,
    /// We are members no more: CHANGE_TO_INCLUDE_MODE of no sources. In an older version a leave, or a done.
    Leave = 3,
    /// We have become members: CHANGE_TO_EXCLUDE_MODE of no sources. In an older version a membership report.
    Join = 4,
}

/// One group in a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What is said.
    pub kind: Kind,
    /// Of which group.
    pub group: IpAddr,
}

/// Records of one report, at most: with 20 bytes each, and all headers, it fits the smallest MTU of IPv6.
pub const RECORDS_MAX: usize = 32;

/// What to send.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// From here.
    pub interface: InterfaceId,
    /// As a message of this protocol.
    pub protocol: Protocol,
    records: [Record; RECORDS_MAX],
    count: usize,
}

impl Report {
    pub(super) const fn new(interface: InterfaceId, protocol: Protocol, first: Record) -> Self {
        Self {
            interface,
            protocol,
            records: [first; RECORDS_MAX],
            count: 1,
        }
    }

    /// Adds a record; `false` if there is no room.
    pub(super) fn push(&mut self, record: Record) -> bool {
        let Some(room) = self.records.get_mut(self.count) else {
            return false;
        };
        *room = record;
        self.count = self.count.saturating_add(1);
        true
    }

    /// The records: one to [`RECORDS_MAX`], and only one in an older version than IGMPv3 and MLDv2.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        self.records.get(..self.count).unwrap_or_default()
    }

    /// Where it goes: to all routers that listen for reports, in older versions to the group itself, or to all routers where
    /// it is left. RFC 3376 section 4.2.14, RFC 2236 section 9, RFC 3810 section 5.2.14, RFC 2710 section 8.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        let [first, ..] = self.records;
        match (self.protocol, first.kind) {
            (Protocol::Igmp3, _) => IpAddr::V4(Ipv4Addr::new(224, 0, 0, 22)),
            (Protocol::Mld2, _) => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16)),
            (Protocol::Igmp1 | Protocol::Igmp2, Kind::Leave) => {
                IpAddr::V4(Ipv4Addr::new(224, 0, 0, 2))
            }
            (Protocol::Mld1, Kind::Leave) => IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2)),
            _ => first.group,
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("interface", &self.interface)
            .field("protocol", &self.protocol)
            .field("records", &self.records())
            .finish()
    }
}

/// The version of IP, which the two sets of protocols never mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

pub(super) const fn family(group: IpAddr) -> Family {
    match group {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}
