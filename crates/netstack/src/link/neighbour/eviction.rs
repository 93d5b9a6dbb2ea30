//! Who makes room in a table that is full.
//!
//! Addresses cost nothing, so a flood can have any number of them; but of what we asked ourselves, and of what was proven by an
//! answer, it has little. So entries go in the order of their [`Standing`], and among their like the one that is idle for longest:
//!
//! | | only answered | something of ours was sent there |
//! |---|---|---|
//! | has never answered a question | first | third |
//! | has answered | second | last |
//!
//! Who is mentioned displaces others who were only mentioned. An answer displaces those who only got answers. What we want to send
//! displaces everybody but static entries. Two shares keep these rules from shutting anybody out:
//!
//! - Those who are asked and have not answered yet get half of the table at the expense of those who are idle, and a
//!   [sixteenth](SHARE) at the expense of those who are in use: time enough to answer, for who is there.
//! - Those who only get answers get a sixteenth at the expense of idle ones of ours. An idle one that is lost costs a question.
//!
//! Each choice looks at the heads of some lines, however many entries there are.

use super::message::Purpose;
use super::table::{Place, Standing, Table};

/// Part of the table that everybody may count on.
const SHARE: usize = 16;

const STRANGER: Standing = Standing::STRANGER;
const MET: Standing = Standing::MET;
const NEW: Standing = Standing::NEW;
const PROVEN: Standing = Standing::PROVEN;

/// Those whose Ethernet address is known, the idlest first.
const KNOWN: [Place; 4] = [Place::Stale, Place::Probe, Place::Delay, Place::Reachable];
const IDLE: [Place; 1] = [Place::Stale];
const UNRESOLVED: [Place; 3] = [Place::Failed, Place::Incomplete, Place::Fresh];

impl Table {
    /// Who makes room for somebody whose address is wanted for a purpose, or who was only mentioned.
    pub(super) fn victim(&self, purpose: Option<Purpose>) -> Option<u32> {
        let mentioned = self.first(Place::Mentioned, STRANGER);
        match purpose {
            Some(purpose) if mentioned.is_none() => self.victim_of(purpose),
            _ => mentioned,
        }
    }

    fn victim_of(&self, purpose: Purpose) -> Option<u32> {
        let standing = match purpose {
            Purpose::Ours => NEW,
            Purpose::Answer => STRANGER,
        };
        let asked = self.head(standing, &UNRESOLVED);
        let many = self.len_of(standing, &UNRESOLVED);
        let (half, share) = (self.max().div_ceil(2), self.max().div_ceil(SHARE));
        if many >= half {
            return asked;
        }
        let over_share = || asked.filter(|_| many >= share);
        let head = |standing| self.head(standing, &KNOWN);
        let idle = |standing| self.head(standing, &IDLE);
        match purpose {
            Purpose::Ours => head(STRANGER)
                .or_else(|| self.head(STRANGER, &UNRESOLVED))
                .or_else(|| head(MET))
                .or_else(|| head(NEW))
                .or_else(|| idle(PROVEN))
                .or_else(over_share)
                .or_else(|| head(PROVEN)),
            Purpose::Answer => {
                let of_ours = if self.strangers() < share {
                    idle(NEW).or_else(|| idle(PROVEN))
                } else {
                    None
                };
                of_ours
                    .or_else(|| head(STRANGER))
                    .or_else(|| idle(MET))
                    .or_else(over_share)
                    .or_else(|| head(MET))
            }
        }
        .or(asked)
    }

    /// The first one of a standing in the first of these places that has any.
    fn head(&self, standing: Standing, places: &[Place]) -> Option<u32> {
        let mut places = places.iter();
        places.find_map(|place| self.first(*place, standing))
    }

    fn len_of(&self, standing: Standing, places: &[Place]) -> usize {
        let lens = places.iter().map(|place| self.count(*place, standing));
        lens.sum()
    }
}
