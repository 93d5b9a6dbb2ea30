//! Multicast groups: which ones an interface is a member of, and what it has to tell routers about that.
//!
//! A host speaks IGMPv3 (RFC 3376) and MLDv2 (RFC 3810), and falls back to IGMPv2 (RFC 2236), IGMPv1 (RFC 1112) or MLDv1
//! (RFC 2710) while a router of that version asks. All members want all sources, so that a record is one of three kinds, and
//! one machine does for all five protocols. [`Groups::poll`] says what to report; nothing here builds a packet.

mod message;
mod querier;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use message::{Family, family};
pub use message::{Kind, Protocol, Query, RECORDS_MAX, Record, Report};
use querier::{Querier, newest};

use super::dad::Random;
use crate::error::Error;
use crate::interface::InterfaceId;
use crate::time::Instant;

/// Limits and times of [`Groups`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupConfig {
    /// Groups of all interfaces.
    pub groups_max: usize,
    /// Interfaces that have groups, or routers that ask for them.
    pub interfaces_max: usize,
    /// How often a change is reported: Robustness Variable, unless a query says otherwise.
    pub robustness: u8,
    /// Between two reports of a change, at most, at random: Unsolicited Report Interval of IGMPv3 and MLDv2.
    pub unsolicited_report_interval: Duration,
    /// The same of IGMPv1, IGMPv2 and MLDv1.
    pub unsolicited_report_interval_older: Duration,
    /// How often a router asks: Query Interval, unless a query says otherwise.
    pub query_interval: Duration,
    /// How long hosts may take to answer: Query Response Interval, for the Older Version Querier Present Timeout, and for
    /// IGMPv1, whose queries do not say.
    pub query_response_interval: Duration,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            groups_max: 64,
            interfaces_max: 16,
            robustness: 2,
            unsolicited_report_interval: Duration::from_secs(1),
            unsolicited_report_interval_older: Duration::from_secs(10),
            query_interval: Duration::from_secs(125),
            query_response_interval: Duration::from_secs(10),
        }
    }
}

/// A group that an interface is a member of, or has left and still says so.
#[derive(Debug, Clone, Copy)]
struct Member {
    interface: InterfaceId,
    group: IpAddr,
    /// How many joined; none left, and the entry waits for its last report.
    joins: u32,
    /// How often the change is still to be reported, and when next.
    changes: u8,
    change_at: Instant,
    /// When a query is to be answered.
    answer_at: Instant,
    /// No other host has reported the group since we did: routers must hear from us when we leave. RFC 2236 section 3.
    reported_last: bool,
}

impl Member {
    const fn is_joined(&self) -> bool {
        self.joins > 0
    }

    fn next_timeout(&self) -> Instant {
        match self.changes {
            0 => self.answer_at,
            _ => self.answer_at.min(self.change_at),
        }
    }
}

/// The groups of all interfaces of a stack.
#[derive(Debug)]
pub struct Groups {
    config: GroupConfig,
    members: Vec<Member>,
    queriers: Vec<Querier>,
    /// The joined ones once more, small and dense, for the receive path.
    own4: Vec<(u32, InterfaceId)>,
    own6: Vec<(u128, InterfaceId)>,
    random: Random,
    next: Instant,
}

impl Groups {
    /// The hosts' own groups: members are all interfaces, always, and no router wants to know.
    const ALL_HOSTS: u32 = Ipv4Addr::new(224, 0, 0, 1).to_bits();
    const ALL_NODES: u128 = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).to_bits();

    /// No groups but `224.0.0.1` and `ff02::1`. `seed` is for random waits: it must differ from host to host.
    #[must_use]
    pub fn new(config: GroupConfig, seed: u64) -> Self {
        Self {
            config,
            members: Vec::with_capacity(config.groups_max),
            queriers: Vec::with_capacity(config.interfaces_max.saturating_mul(2)),
            own4: Vec::with_capacity(config.groups_max),
            own6: Vec::with_capacity(config.groups_max),
            random: Random::new(seed),
            next: Instant::MAX,
        }
    }

    /// Whether packets to `group` are for `interface`.
    #[inline]
    #[must_use]
    pub fn member(&self, interface: InterfaceId, group: &IpAddr) -> bool {
        match group {
            IpAddr::V4(group) => {
                let bits = group.to_bits();
                bits == Self::ALL_HOSTS || self.own4.contains(&(bits, interface))
            }
            IpAddr::V6(group) => {
                let bits = group.to_bits();
                bits == Self::ALL_NODES || self.own6.contains(&(bits, interface))
            }
        }
    }

    /// Groups that somebody joined, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (InterfaceId, IpAddr, u32)> + '_ {
        let joined = self.members.iter().filter(|member| member.is_joined());
        joined.map(|member| (member.interface, member.group, member.joins))
    }

    /// Joins a group, once more if it is joined; packets to it are ours at once. Its first report goes `after` so long.
    ///
    /// # Errors
    ///
    /// Refuses what is no group, and more than there is room for.
    pub fn join(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        group: IpAddr,
        after: Duration,
    ) -> Result<(), Error> {
        if !group.is_multicast() {
            return Err(Error::NotMulticast(group));
        }
        let robustness = self.robustness(interface, family(group))?;
        let changes = if is_reported(group) { robustness } else { 0 };
        if let Some(member) = self.find(interface, group) {
            member.joins = member.joins.saturating_add(1);
            if member.joins > 1 {
                return Ok(());
            }
            // Left and joined again before all heard of it. RFC 3376 section 5.1: the newer change stands for both.
            member.changes = changes;
            member.change_at = now + after;
        } else {
            if self.members.len() >= self.config.groups_max {
                // Those who have left would like to say so again; that is worth less than this.
                let left = self.members.iter().position(|member| !member.is_joined());
                let Some(left) = left else {
                    return Err(Error::Full {
                        what: "multicast groups",
                        max: self.config.groups_max,
                        key: "groups_max",
                    });
                };
                self.members.swap_remove(left);
            }
            self.members.push(Member {
                interface,
                group,
                joins: 1,
                changes,
                change_at: now + after,
                answer_at: Instant::MAX,
                reported_last: false,
            });
        }
        self.changed();
        Ok(())
    }

    /// Leaves a group, once.
    ///
    /// # Errors
    ///
    /// The interface is no member.
    pub fn leave(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        group: IpAddr,
    ) -> Result<(), Error> {
        let protocol = self.protocol(now, interface, family(group));
        let mut members = self.members.iter_mut();
        let member = members.find(|m| m.group == group && m.interface == interface);
        let Some(member) = member.filter(|member| member.is_joined()) else {
            return Err(Error::NoGroup(group));
        };
        member.joins = member.joins.saturating_sub(1);
        if member.is_joined() {
            return Ok(());
        }
        member.answer_at = Instant::MAX;
        member.change_at = now;
        member.changes = match protocol {
            _ if !is_reported(group) => 0,
            Protocol::Igmp3 | Protocol::Mld2 => {
                let mut all = self.queriers.iter();
                let querier = all.find(|q| q.interface == interface && q.family == family(group));
                querier.map_or(1, |querier| querier.robustness).max(1)
            }
            // RFC 1112 knows no leaving.
            Protocol::Igmp1 => 0,
            // RFC 2236 section 3 and RFC 2710 section 4: who has not reported last need not say that it leaves.
            Protocol::Igmp2 | Protocol::Mld1 => u8::from(member.reported_last),
        };
        self.changed();
        Ok(())
    }

    /// Reports all groups of a family once more: when the interface gets its first link-local IPv6 address, since reports
    /// from `::` go unheard by some (RFC 3590 section 4), or when its link comes back.
    pub fn announce(&mut self, now: Instant, interface: InterfaceId, ipv6: bool) {
        let family_wanted = if ipv6 { Family::V6 } else { Family::V4 };
        let Ok(robustness) = self.robustness(interface, family_wanted) else {
            return;
        };
        for member in &mut self.members {
            let here = member.interface == interface && family(member.group) == family_wanted;
            if here && member.is_joined() && is_reported(member.group) {
                member.changes = robustness;
                member.change_at = now;
            }
        }
        self.schedule();
    }

    /// The interface is gone, and nobody is told.
    pub fn remove_interface(&mut self, interface: InterfaceId) {
        self.members.retain(|member| member.interface != interface);
        self.queriers
            .retain(|querier| querier.interface != interface);
        self.changed();
    }

    /// A router asks.
    pub fn query(&mut self, now: Instant, interface: InterfaceId, query: &Query) {
        let wanted = query.protocol.family();
        if query.group.is_some_and(|group| family(group) != wanted) {
            return;
        }
        let config = self.config;
        let Some(querier) = self.querier(interface, wanted) else {
            return;
        };
        // RFC 3376 section 8.12: as long as an older router may be silent between two queries.
        let robustness = u32::from(querier.robustness);
        let silence = querier
            .interval
            .saturating_mul(robustness)
            .saturating_add(config.query_response_interval);
        let max_response = match query.protocol {
            Protocol::Igmp1 => {
                querier.oldest_until = now + silence;
                config.query_response_interval
            }
            Protocol::Igmp2 | Protocol::Mld1 => {
                querier.older_until = now + silence;
                query.max_response
            }
            Protocol::Igmp3 | Protocol::Mld2 => {
                // RFC 3376 sections 4.1.6 and 4.1.7: hosts take the router's values.
                if query.robustness > 0 {
                    querier.robustness = query.robustness.min(7);
                }
                if !query.interval.is_zero() {
                    querier.interval = query.interval;
                }
                query.max_response
            }
        };
        let protocol = querier.protocol(now);
        if querier.changes_to(protocol) {
            self.forget(interface, wanted);
        }
        if query.group.is_none() && protocol.has_records() {
            // RFC 3376 section 5.2 rules 1 and 2: one answer for all groups; one that is due sooner does as well.
            let at = now + self.random.within(max_response);
            if let Some(querier) = self.querier(interface, wanted) {
                querier.answer_at = querier.answer_at.min(at);
            }
        } else {
            self.ask_members(now, interface, query.group, wanted, max_response);
        }
        self.schedule();
    }

    /// Has each member that is asked answer after a wait of its own. RFC 2236 section 3, RFC 3376 section 5.2 rules 3 to 5.
    fn ask_members(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        group: Option<IpAddr>,
        wanted: Family,
        max_response: Duration,
    ) {
        for member in &mut self.members {
            let asked = match group {
                Some(group) => group == member.group,
                None => family(member.group) == wanted,
            };
            if asked
                && member.interface == interface
                && member.is_joined()
                && is_reported(member.group)
            {
                let at = now + self.random.within(max_response);
                member.answer_at = member.answer_at.min(at);
            }
        }
    }

    /// Another host has reported a group in an older version: routers know that it has members, and ours need not say so.
    /// RFC 2236 section 3, RFC 2710 section 4.
    pub fn heard_report(&mut self, now: Instant, interface: InterfaceId, group: IpAddr) {
        if self.protocol(now, interface, family(group)).has_records() {
            return;
        }
        if let Some(member) = self.find(interface, group)
            && member.is_joined()
        {
            member.answer_at = Instant::MAX;
            member.changes = 0;
            member.reported_last = false;
            self.schedule();
        }
    }

    /// What is to be reported at `now`; to be called until there is nothing more.
    pub fn poll(&mut self, now: Instant) -> Option<Report> {
        if now < self.next {
            return None;
        }
        self.expire(now);
        let report = self.report(now);
        if report.is_none() {
            // Left, and nothing to say about it any more.
            self.members
                .retain(|member| member.is_joined() || member.changes > 0);
            self.schedule();
        }
        report
    }

    /// Interfaces whose older router has gone speak the newer version again.
    fn expire(&mut self, now: Instant) {
        for place in 0..self.queriers.len() {
            let Some(querier) = self.queriers.get_mut(place) else {
                return;
            };
            for until in [&mut querier.oldest_until, &mut querier.older_until] {
                if *until <= now {
                    *until = Instant::ZERO;
                }
            }
            let (interface, wanted) = (querier.interface, querier.family);
            if querier.changes_to(querier.protocol(now)) {
                self.forget(interface, wanted);
            }
            if let Some(querier) = self.queriers.get_mut(place)
                && querier.answer_at <= now
            {
                querier.answer_at = Instant::MAX;
                self.ask_members(now, interface, None, wanted, Duration::ZERO);
            }
        }
    }

    /// The next report, with all records of its kind that are due.
    fn report(&mut self, now: Instant) -> Option<Report> {
        let mut report: Option<(Report, bool, Family)> = None;
        for place in 0..self.members.len() {
            let member = *self.members.get(place)?;
            let (interface, wanted) = (member.interface, family(member.group));
            let is_change = member.changes > 0 && member.change_at <= now;
            if !is_change && member.answer_at > now {
                continue;
            }
            let protocol = self.protocol(now, interface, wanted);
            let kind = match (is_change, member.is_joined()) {
                (false, _) => Kind::Member,
                (true, true) => Kind::Join,
                (true, false) => Kind::Leave,
            };
            let record = Record {
                kind,
                group: member.group,
            };
            match &mut report {
                None => {
                    report = Some((Report::new(interface, protocol, record), is_change, wanted));
                }
                // RFC 3376 section 5: changes and answers go in reports of their own.
                Some((open, changes, of)) => {
                    let fits = open.interface == interface && *of == wanted;
                    if !fits || *changes != is_change || !open.push(record) {
                        continue;
                    }
                }
            }
            self.reported(now, place, is_change, protocol);
            if !protocol.has_records() {
                break;
            }
        }
        report.map(|(report, _, _)| report)
    }

    /// A record of this member is on its way.
    fn reported(&mut self, now: Instant, place: usize, is_change: bool, protocol: Protocol) {
        let wait = match protocol.has_records() {
            true => self.config.unsolicited_report_interval,
            false => self.config.unsolicited_report_interval_older,
        };
        let wait = self.random.within(wait);
        if let Some(member) = self.members.get_mut(place) {
            if is_change {
                member.changes = member.changes.saturating_sub(1);
                member.change_at = now + wait;
            }
            // A change of an older version is the same message as an answer. A change of a newer one says as much, but an
            // answer that is due later keeps its time.
            if !is_change || !protocol.has_records() {
                member.answer_at = Instant::MAX;
            }
            member.reported_last = true;
        }
    }

    /// When [`poll`](Self::poll) is to be called; in the past if something is due.
    #[inline]
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        (self.next < Instant::MAX).then_some(self.next)
    }

    /// What `interface` speaks now.
    fn protocol(&self, now: Instant, interface: InterfaceId, wanted: Family) -> Protocol {
        let mut all = self.queriers.iter();
        let querier = all.find(|q| q.interface == interface && q.family == wanted);
        querier.map_or(newest(wanted), |querier| querier.protocol(now))
    }

    fn find(&mut self, interface: InterfaceId, group: IpAddr) -> Option<&mut Member> {
        let mut all = self.members.iter_mut();
        all.find(|member| member.group == group && member.interface == interface)
    }

    /// What is known of the routers there; `None` if there are too many interfaces.
    fn querier(&mut self, interface: InterfaceId, wanted: Family) -> Option<&mut Querier> {
        let mut all = self.queriers.iter();
        let place = all.position(|q| q.interface == interface && q.family == wanted);
        if place.is_none() {
            let known = self.queriers.iter().filter(|q| q.family == wanted);
            if known.count() >= self.config.interfaces_max {
                return None;
            }
            self.queriers.push(Querier {
                interface,
                family: wanted,
                oldest_until: Instant::ZERO,
                older_until: Instant::ZERO,
                speaks: newest(wanted),
                robustness: self.config.robustness,
                interval: self.config.query_interval,
                answer_at: Instant::MAX,
            });
        }
        match place {
            Some(place) => self.queriers.get_mut(place),
            None => self.queriers.last_mut(),
        }
    }

    fn robustness(&mut self, interface: InterfaceId, wanted: Family) -> Result<u8, Error> {
        let full = Error::Full {
            what: "interfaces with multicast groups",
            max: self.config.interfaces_max,
            key: "interfaces_max",
        };
        let querier = self.querier(interface, wanted).ok_or(full)?;
        Ok(querier.robustness.max(1))
    }

    /// Cancels what members wait to say; those who have left go at the next poll.
    fn forget(&mut self, interface: InterfaceId, wanted: Family) {
        for member in &mut self.members {
            if member.interface == interface && family(member.group) == wanted {
                member.changes = 0;
                member.answer_at = Instant::MAX;
            }
        }
    }

    fn changed(&mut self) {
        self.own4.clear();
        self.own6.clear();
        for member in self.members.iter().filter(|member| member.is_joined()) {
            match member.group {
                IpAddr::V4(group) => self.own4.push((group.to_bits(), member.interface)),
                IpAddr::V6(group) => self.own6.push((group.to_bits(), member.interface)),
            }
        }
        self.schedule();
    }

    fn schedule(&mut self) {
        let mut next = Instant::MAX;
        for member in &self.members {
            let gone = !member.is_joined() && member.changes == 0;
            next = next.min(if gone {
                Instant::ZERO
            } else {
                member.next_timeout()
            });
        }
        for querier in &self.queriers {
            next = next.min(querier.answer_at);
            for until in [querier.oldest_until, querier.older_until] {
                if until > Instant::ZERO {
                    next = next.min(until);
                }
            }
        }
        self.next = next;
    }
}

/// Whether routers want to know: not of the groups that all are in, nor of those that stay on the link's host alone. RFC 3376
/// section 6, RFC 3810 section 6.
fn is_reported(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(group) => group.to_bits() != Groups::ALL_HOSTS,
        IpAddr::V6(group) => {
            let [_, scope, ..] = group.octets();
            group.to_bits() != Groups::ALL_NODES && scope & 0xf > 1
        }
    }
}

#[cfg(test)]
mod tests;
