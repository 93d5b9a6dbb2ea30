//! What is known of the routers that ask for groups, and so which version to speak to them.

use core::time::Duration;

use super::message::{Family, Protocol};
use crate::interface::InterfaceId;
use crate::time::Instant;

/// What one interface knows of the routers of one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Querier {
    pub(super) interface: InterfaceId,
    pub(super) family: Family,
    /// A router of IGMPv1 is there until then.
    pub(super) oldest_until: Instant,
    /// A router of IGMPv2, or MLDv1, is there until then.
    pub(super) older_until: Instant,
    /// What was spoken when last looked at.
    pub(super) speaks: Protocol,
    pub(super) robustness: u8,
    pub(super) interval: Duration,
    /// When a general query of IGMPv3 or MLDv2 is to be answered for all groups at once.
    pub(super) answer_at: Instant,
}

impl Querier {
    /// What to speak. RFC 3376 section 7.2.1, RFC 3810 section 8.2.1.
    pub(super) fn protocol(&self, now: Instant) -> Protocol {
        match self.family {
            Family::V4 if now < self.oldest_until => Protocol::Igmp1,
            Family::V4 if now < self.older_until => Protocol::Igmp2,
            Family::V4 => Protocol::Igmp3,
            Family::V6 if now < self.older_until => Protocol::Mld1,
            Family::V6 => Protocol::Mld2,
        }
    }

    /// Whether another version is spoken from now on. What was to be said in the one before is forgotten then: RFC 3376
    /// section 7.2.1.
    pub(super) fn changes_to(&mut self, protocol: Protocol) -> bool {
        let changes = self.speaks != protocol;
        if changes {
            self.speaks = protocol;
            self.answer_at = Instant::MAX;
        }
        changes
    }
}

/// What is spoken where no router speaks anything older.
pub(super) const fn newest(family: Family) -> Protocol {
    match family {
        Family::V4 => Protocol::Igmp3,
        Family::V6 => Protocol::Mld2,
    }
}
