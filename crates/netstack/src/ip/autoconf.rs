//! What routers advertise: default routers, what is on the link, and addresses that a host makes for itself.
//!
//! RFC 4861 section 6.3 and RFC 4862 section 5.5, with router preferences (RFC 4191) and solicitations that go on until there
//! is a router (RFC 7559). [`Autoconf`] keeps the lists, [`Addresses`] the addresses; [`Autoconf::poll`] says what to send
//! and which routes to change.

mod identifier;
mod message;
mod slaac;

use core::net::{IpAddr, Ipv6Addr};
use core::time::Duration;

pub use identifier::Identifier;
pub use message::{Action, Advertisement, Preference, PrefixInformation};

use super::address::{Addresses, Event, Origin};
use super::dad::{Probing, Random};
use crate::error::Error;
use crate::interface::InterfaceId;
use crate::time::Instant;
use crate::wire::ethernet::Mac;

/// Limits and times of [`Autoconf`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AutoconfConfig {
    /// Interfaces that heed advertisements.
    pub interfaces_max: usize,
    /// Default routers of one interface. RFC 4861 section 6.3.4 asks for two at least.
    pub routers_max: usize,
    /// Prefixes on the link of one interface.
    pub prefixes_max: usize,
    /// How the host's part of addresses is made. RFC 8064 recommends [`Identifier::Opaque`]; it takes a secret that outlives
    /// the process, which a library has not, so the default is the other one.
    pub identifier: Identifier,
    /// How many more addresses are tried after a duplicate, if they are opaque: IDGEN_RETRIES of RFC 7217.
    pub idgen_retries: u8,
    /// How the addresses are checked.
    pub probing: Probing,
    /// The first solicitation goes at random within this time: MAX_RTR_SOLICITATION_DELAY.
    pub max_rtr_solicitation_delay: Duration,
    /// Until the second solicitation, about: RTR_SOLICITATION_INTERVAL. It doubles from one to the next, RFC 7559 section 2.
    pub rtr_solicitation_interval: Duration,
    /// And grows no further: MRT of RFC 7559.
    pub rtr_solicitation_interval_max: Duration,
}

impl Default for AutoconfConfig {
    fn default() -> Self {
        Self {
            interfaces_max: 16,
            routers_max: 8,
            prefixes_max: 16,
            identifier: Identifier::Eui64,
            idgen_retries: 3,
            probing: Probing::Check,
            max_rtr_solicitation_delay: Duration::from_secs(1),
            rtr_solicitation_interval: Duration::from_secs(4),
            rtr_solicitation_interval_max: Duration::from_secs(3600),
        }
    }
}

/// A value that routers advertise again and again, and that matters when it changes.
#[derive(Debug, Clone, Copy)]
struct Parameter<T> {
    value: Option<T>,
    due: bool,
}

impl<T: Copy + PartialEq> Parameter<T> {
    const UNKNOWN: Self = Self {
        value: None,
        due: false,
    };

    fn set(&mut self, value: T) {
        if self.value != Some(value) {
            *self = Self {
                value: Some(value),
                due: true,
            };
        }
    }

    fn take(&mut self) -> Option<T> {
        let due = core::mem::take(&mut self.due);
        self.value.filter(|_| due)
    }
}

/// An interface that heeds advertisements.
#[derive(Debug, Clone, Copy)]
struct Host {
    interface: InterfaceId,
    mac: Mac,
    /// The link address is somebody else's, too: no more addresses are made of it. RFC 4862 section 5.4.5.
    failed: bool,
    solicit_at: Instant,
    /// The wait before; zero while none was sent.
    interval: Duration,
    mtu: Parameter<u16>,
    hop_limit: Parameter<u8>,
    reachable: Parameter<Duration>,
    retransmit: Parameter<Duration>,
}

impl Host {
    const fn is_due(&self) -> bool {
        self.mtu.due || self.hop_limit.due || self.reachable.due || self.retransmit.due
    }
}

/// A default router, or a prefix on the link: a route with a lifetime.
#[derive(Debug, Clone, Copy)]
struct Entry {
    interface: InterfaceId,
    prefix: Ipv6Addr,
    len: u8,
    gateway: Option<Ipv6Addr>,
    preference: Preference,
    until: Instant,
    /// The stack has the route.
    added: bool,
    /// It has it with another preference.
    stale: bool,
}

impl Entry {
    const fn is_due(&self) -> bool {
        self.stale || !self.added
    }
}

/// Router discovery and autoconfiguration of all interfaces of a stack.
#[derive(Debug)]
pub struct Autoconf {
    config: AutoconfConfig,
    hosts: Vec<Host>,
    entries: Vec<Entry>,
    random: Random,
    refused: u64,
    next: Instant,
}

impl Autoconf {
    /// The two hours of RFC 4862 section 5.5.3 (e): no advertisement makes an address shorter-lived than that at once.
    pub const TWO_HOURS: Duration = Duration::from_secs(2 * 60 * 60);
    /// The least MTU of IPv6. RFC 8200 section 5.
    const MTU_MIN: u16 = 1280;
    /// The longest ReachableTime that may be advertised, one hour. RFC 4861 section 6.2.1.
    const TIMES_MAX_MS: u32 = 3_600_000;

    /// No interface heeds advertisements yet. `seed` is for random waits: it must differ from host to host.
    #[must_use]
    pub fn new(config: AutoconfConfig, seed: u64) -> Self {
        let each = config.routers_max.saturating_add(config.prefixes_max);
        Self {
            config,
            hosts: Vec::with_capacity(config.interfaces_max),
            entries: Vec::with_capacity(config.interfaces_max.saturating_mul(each)),
            random: Random::new(seed),
            refused: 0,
            next: Instant::MAX,
        }
    }

    /// Gives `interface` a link-local address, has it look for routers, and heed what they say.
    ///
    /// # Errors
    ///
    /// There is no room for the interface, or for its address.
    pub fn enable(
        &mut self,
        now: Instant,
        addresses: &mut Addresses,
        interface: InterfaceId,
        mac: Mac,
    ) -> Result<(), Error> {
        if self.host(interface).is_some() {
            return Ok(());
        }
        if self.hosts.len() >= self.config.interfaces_max {
            return Err(Error::Full {
                what: "interfaces with autoconfiguration",
                max: self.config.interfaces_max,
                key: "interfaces_max",
            });
        }
        let identifier = self.config.identifier;
        let address = IpAddr::V6(identifier.address(LINK_LOCAL, mac, 0));
        let probing = self.config.probing;
        match addresses.add(now, interface, address, 64, Origin::LinkLocal, probing) {
            Ok(()) | Err(Error::AddressExists(_)) => {}
            Err(error) => return Err(error),
        }
        self.hosts.push(Host {
            interface,
            mac,
            failed: false,
            solicit_at: now + self.random.within(self.config.max_rtr_solicitation_delay),
            interval: Duration::ZERO,
            mtu: Parameter::UNKNOWN,
            hop_limit: Parameter::UNKNOWN,
            reachable: Parameter::UNKNOWN,
            retransmit: Parameter::UNKNOWN,
        });
        self.schedule();
        Ok(())
    }

    /// Takes from `interface` what it has from routers, and its link-local address; each goes with
    /// [`Event::AddressExpired`], and [`poll`](Self::poll) removes the routes.
    pub fn disable(&mut self, addresses: &mut Addresses, interface: InterfaceId) {
        self.hosts.retain(|host| host.interface != interface);
        for entry in &mut self.entries {
            if entry.interface == interface {
                entry.until = Instant::ZERO;
            }
        }
        loop {
            let made = addresses.iter().find(|shown| {
                shown.interface == interface
                    && matches!(
                        shown.origin,
                        Origin::LinkLocal | Origin::RouterAdvertisement
                    )
            });
            let Some(address) = made.map(|shown| shown.address) else {
                break;
            };
            if addresses.remove(interface, address).is_err() {
                break;
            }
            addresses.note(Event::AddressExpired { interface, address });
        }
        self.schedule();
    }

    /// A router advertisement was received: RFC 4861 section 6.3.4. `false` if the interface does not heed it.
    pub fn advertised(
        &mut self,
        now: Instant,
        addresses: &mut Addresses,
        interface: InterfaceId,
        advertisement: &Advertisement,
        prefixes: impl IntoIterator<Item = PrefixInformation>,
    ) -> bool {
        let router = advertisement.router;
        let Some(host) = self.host(interface) else {
            return false;
        };
        if !router.is_unicast_link_local() {
            return false;
        }
        if advertisement.hop_limit > 0 {
            host.hop_limit.set(advertisement.hop_limit);
        }
        let time = |ms: u32| {
            let said = ms > 0 && ms <= Self::TIMES_MAX_MS;
            said.then(|| Duration::from_millis(ms.into()))
        };
        if let Some(reachable) = time(advertisement.reachable_ms) {
            host.reachable.set(reachable);
        }
        if let Some(retransmit) = time(advertisement.retransmit_ms) {
            host.retransmit.set(retransmit);
        }
        if let Some(mtu) = advertisement.mtu
            && mtu >= Self::MTU_MIN.into()
        {
            host.mtu.set(u16::try_from(mtu).unwrap_or(u16::MAX));
        }
        // RFC 4861 section 6.3.7: enough, once one was sent; an advertisement that came by itself may lack options.
        if advertisement.lifetime > 0 && !host.interval.is_zero() {
            host.solicit_at = Instant::MAX;
        }
        let found = self.set(
            Entry {
                interface,
                prefix: Ipv6Addr::UNSPECIFIED,
                len: 0,
                gateway: Some(router),
                preference: advertisement.preference,
                until: lifetime(now, advertisement.lifetime.into()),
                added: false,
                stale: false,
            },
            now,
        );
        if found {
            addresses.note(Event::RouterFound { interface, router });
        }
        for prefix in prefixes {
            self.prefix(now, addresses, interface, &prefix);
        }
        self.schedule();
        true
    }

    /// What to send or to change at `now`; to be called until there is nothing more.
    pub fn poll(&mut self, now: Instant, addresses: &mut Addresses) -> Option<Action> {
        if now < self.next {
            return None;
        }
        let action = self
            .poll_routes(now, addresses)
            .or_else(|| self.poll_hosts(now, addresses));
        if action.is_none() {
            self.schedule();
        }
        action
    }

    fn poll_routes(&mut self, now: Instant, addresses: &mut Addresses) -> Option<Action> {
        let mut place = 0;
        while let Some(entry) = self.entries.get_mut(place) {
            let Entry {
                interface,
                prefix,
                len,
                gateway,
                preference,
                ..
            } = *entry;
            let remove = Action::RemoveRoute {
                interface,
                prefix,
                len,
                gateway,
            };
            if entry.until <= now {
                let added = entry.added;
                self.entries.remove(place);
                if let Some(router) = gateway {
                    self.lost(now, interface);
                    addresses.note(Event::RouterLost { interface, router });
                }
                if added {
                    return Some(remove);
                }
                continue;
            }
            if entry.stale {
                entry.stale = false;
                entry.added = false;
                return Some(remove);
            }
            if !entry.added {
                entry.added = true;
                return Some(Action::AddRoute {
                    interface,
                    prefix,
                    len,
                    gateway,
                    preference,
                });
            }
            place = place.saturating_add(1);
        }
        None
    }

    /// A router is gone: if it was the last one, another is looked for.
    fn lost(&mut self, now: Instant, interface: InterfaceId) {
        let wait = self.random.within(self.config.max_rtr_solicitation_delay);
        if self.has_router(interface) {
            return;
        }
        if let Some(host) = self.host(interface) {
            host.interval = Duration::ZERO;
            host.solicit_at = now + wait;
        }
    }

    fn has_router(&self, interface: InterfaceId) -> bool {
        let mut all = self.entries.iter();
        all.any(|entry| entry.interface == interface && entry.gateway.is_some())
    }

    fn poll_hosts(&mut self, now: Instant, addresses: &Addresses) -> Option<Action> {
        for place in 0..self.hosts.len() {
            let host = self.hosts.get_mut(place)?;
            let interface = host.interface;
            if let Some(mtu) = host.mtu.take() {
                return Some(Action::SetMtu { interface, mtu });
            }
            if let Some(hop_limit) = host.hop_limit.take() {
                return Some(Action::SetHopLimit {
                    interface,
                    hop_limit,
                });
            }
            if let Some(reachable) = host.reachable.take() {
                return Some(Action::SetReachable {
                    interface,
                    reachable,
                });
            }
            if let Some(retransmit) = host.retransmit.take() {
                return Some(Action::SetRetransmit {
                    interface,
                    retransmit,
                });
            }
            if host.solicit_at <= now {
                let before = host.interval;
                let interval = self.interval(before);
                let at = match self.has_router(interface) {
                    true => Instant::MAX,
                    false => now + interval,
                };
                let host = self.hosts.get_mut(place)?;
                host.interval = interval;
                host.solicit_at = at;
                return Some(Action::RouterSolicit {
                    interface,
                    source: addresses.link_local(interface),
                });
            }
        }
        None
    }

    /// The wait after this one: RT of RFC 7559 section 2, a tenth longer or shorter at random.
    fn interval(&mut self, before: Duration) -> Duration {
        let config = &self.config;
        let max = config.rtr_solicitation_interval_max;
        let (middle, tenth) = if before.is_zero() {
            let first = config.rtr_solicitation_interval;
            (first, first / 10)
        } else {
            (before.saturating_mul(2), before / 10)
        };
        let (middle, tenth) = if middle > max {
            (max, max / 10)
        } else {
            (middle, tenth)
        };
        let (least, most) = (middle.saturating_sub(tenth), middle.saturating_add(tenth));
        // Never zero, which stands for none sent.
        self.random
            .between(least, most)
            .max(Duration::from_millis(1))
    }

    /// When [`poll`](Self::poll) is to be called; in the past if something is due.
    #[inline]
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        (self.next < Instant::MAX).then_some(self.next)
    }

    /// Default routers: where, who, how much preferred, until when.
    pub fn routers(
        &self,
    ) -> impl Iterator<Item = (InterfaceId, Ipv6Addr, Preference, Instant)> + '_ {
        self.entries.iter().filter_map(|entry| {
            let router = entry.gateway?;
            Some((entry.interface, router, entry.preference, entry.until))
        })
    }

    /// Routers, prefixes and addresses that there was no room for.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    fn host(&mut self, interface: InterfaceId) -> Option<&mut Host> {
        let mut all = self.hosts.iter_mut();
        all.find(|host| host.interface == interface)
    }

    /// Sets a router or prefix, or its lifetime; `true` if it is new. When there are too many, those that came first stay: a
    /// flood of forged ones drives none out.
    fn set(&mut self, new: Entry, now: Instant) -> bool {
        let mut all = self.entries.iter_mut();
        let known = all.find(|entry| {
            entry.interface == new.interface
                && entry.prefix == new.prefix
                && entry.len == new.len
                && entry.gateway == new.gateway
        });
        if let Some(entry) = known {
            entry.until = new.until;
            // RFC 4191 section 2.2: with a lifetime of zero the preference means nothing.
            if entry.preference != new.preference && new.until > now {
                entry.preference = new.preference;
                entry.stale = entry.added;
            }
            return false;
        }
        if new.until <= now {
            return false;
        }
        let max = match new.gateway {
            Some(_) => self.config.routers_max,
            None => self.config.prefixes_max,
        };
        let alike = self.entries.iter().filter(|entry| {
            entry.interface == new.interface && entry.gateway.is_some() == new.gateway.is_some()
        });
        // The second is for interfaces that were disabled, and whose routes are still to be removed.
        if alike.count() >= max || self.entries.len() >= self.entries.capacity() {
            self.refused = self.refused.wrapping_add(1);
            return false;
        }
        self.entries.push(new);
        true
    }

    fn schedule(&mut self) {
        let mut next = Instant::MAX;
        for entry in &self.entries {
            next = next.min(if entry.is_due() {
                Instant::ZERO
            } else {
                entry.until
            });
        }
        for host in &self.hosts {
            next = next.min(if host.is_due() {
                Instant::ZERO
            } else {
                host.solicit_at
            });
        }
        self.next = next;
    }
}

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// When a lifetime in seconds ends; all ones stand for never. RFC 4861 section 4.6.2.
fn lifetime(now: Instant, seconds: u32) -> Instant {
    match seconds {
        u32::MAX => Instant::MAX,
        seconds => now + Duration::from_secs(seconds.into()),
    }
}

#[cfg(test)]
mod tests;
