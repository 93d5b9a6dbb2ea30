//! Addresses of interfaces: which are ours, whether they may be used yet, and which one a packet is sent from.
//!
//! [`Addresses::poll`] says what to send for them, [`Addresses::poll_event`] what became of them. Nothing here builds a packet.

mod conflict;
mod event;
mod own;
mod source;

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;
use std::collections::VecDeque;

pub use event::{Ask, Claim, Event, Verdict};
use own::{Own, check};

use super::dad::{Dad, Probing, Random, Step, Timing};
use crate::error::Error;
use crate::interface::InterfaceId;
use crate::time::Instant;

/// Limits and times of [`Addresses`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressConfig {
    /// Addresses of all interfaces.
    pub addresses_max: usize,
    /// Addresses of one interface.
    pub addresses_max_each: usize,
    /// How IPv4 addresses are checked.
    pub ipv4: Timing,
    /// How IPv6 addresses are checked.
    pub ipv6: Timing,
}

impl Default for AddressConfig {
    fn default() -> Self {
        Self {
            addresses_max: 32,
            addresses_max_each: 16,
            ipv4: Timing::IPV4,
            ipv6: Timing::IPV6,
        }
    }
}

/// What an address may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing yet: the link is being asked whether somebody has it.
    Tentative,
    /// Everything.
    Preferred,
    /// What has begun; new connections take another one, if there is one.
    Deprecated,
    /// Nothing: somebody else has it.
    Duplicate,
}

impl State {
    /// Whether packets may come from and go to the address.
    #[inline]
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Preferred | Self::Deprecated)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tentative => "tentative",
            Self::Preferred => "preferred",
            Self::Deprecated => "deprecated",
            Self::Duplicate => "duplicate",
        })
    }
}

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The configuration, or a call.
    Static,
    /// Made by the host itself, good on the link only.
    LinkLocal,
    /// A router's prefix. The address says nothing about what is on the link: RFC 5942 section 4, so it makes no route.
    RouterAdvertisement,
}

/// One address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Where it stands.
    pub interface: InterfaceId,
    /// The address.
    pub address: IpAddr,
    /// How many of its bits are the network's.
    pub prefix_len: u8,
    /// Where it comes from.
    pub origin: Origin,
    /// What it may be used for.
    pub state: State,
    /// When it is deprecated; [`Instant::MAX`] for never.
    pub preferred_until: Instant,
    /// When it is removed; [`Instant::MAX`] for never.
    pub valid_until: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    shown: Address,
    dad: Dad,
    nonce: [u8; 6],
    /// The group is to be joined, and its report to go so much later.
    join: Option<Duration>,
    joined: bool,
}

impl Entry {
    const fn usable_state(&self, now: Instant) -> State {
        if self.shown.preferred_until.as_nanos() <= now.as_nanos() {
            State::Deprecated
        } else {
            State::Preferred
        }
    }

    fn next_timeout(&self) -> Instant {
        if self.join.is_some() {
            return Instant::ZERO;
        }
        let deprecation = match self.shown.state {
            State::Preferred => self.shown.preferred_until,
            _ => Instant::MAX,
        };
        self.dad
            .next_timeout()
            .min(deprecation)
            .min(self.shown.valid_until)
    }

    /// The solicited-node group. RFC 4291 section 2.7.1.
    fn group(&self) -> Option<Ipv6Addr> {
        match self.shown.address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(solicited_node(address)),
        }
    }
}

/// The solicited-node group of an address: `ff02::1:ff` and its last 24 bits. RFC 4291 section 2.7.1.
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const GROUP: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(GROUP | (address.to_bits() & 0xff_ffff))
}

/// The addresses of all interfaces of a stack.
#[derive(Debug)]
pub struct Addresses {
    config: AddressConfig,
    /// In the order in which they were added.
    entries: Vec<Entry>,
    own: Own,
    /// Groups of addresses that are gone. Emptied before any is joined, so that there are never more than addresses.
    leaves: VecDeque<(InterfaceId, Ipv6Addr)>,
    events: VecDeque<Event>,
    events_lost: u64,
    random: Random,
    generation: u32,
    next: Instant,
}

impl Addresses {
    /// None yet. `seed` is for random waits: it must differ from host to host.
    #[must_use]
    pub fn new(config: AddressConfig, seed: u64) -> Self {
        let max = config.addresses_max;
        Self {
            config,
            entries: Vec::with_capacity(max),
            own: Own::new(max),
            leaves: VecDeque::with_capacity(max),
            events: VecDeque::with_capacity(Self::events_max(&config)),
            events_lost: 0,
            random: Random::new(seed),
            generation: 0,
            next: Instant::MAX,
        }
    }

    const fn events_max(config: &AddressConfig) -> usize {
        config.addresses_max.saturating_mul(4).saturating_add(16)
    }

    /// Gives `interface` an address. It may be used once [`Event::AddressReady`] says so, at once if it is not probed.
    ///
    /// # Errors
    ///
    /// Refuses what no host can have, what the interface has, and more than there is room for.
    pub fn add(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        prefix_len: u8,
        origin: Origin,
        probing: Probing,
    ) -> Result<(), Error> {
        check(address, prefix_len)?;
        if self.find(interface, &address).is_some() {
            return Err(Error::AddressExists(address));
        }
        let each = self.of_interface(interface).count();
        if each >= self.config.addresses_max_each {
            return Err(Error::Full {
                what: "addresses of the interface",
                max: self.config.addresses_max_each,
                key: "addresses_max_each",
            });
        }
        if self.entries.len() >= self.config.addresses_max {
            return Err(Error::Full {
                what: "addresses",
                max: self.config.addresses_max,
                key: "addresses_max",
            });
        }
        let timing = *self.timing(address);
        let mut entry = Entry {
            shown: Address {
                interface,
                address,
                prefix_len,
                origin,
                state: State::Tentative,
                preferred_until: Instant::MAX,
                valid_until: Instant::MAX,
            },
            dad: Dad::start(now, probing, &timing, &mut self.random),
            nonce: [0; 6],
            join: None,
            joined: false,
        };
        self.begin(now, &mut entry);
        self.entries.push(entry);
        self.changed();
        Ok(())
    }

    /// Checks an address once more, as after [`Event::Duplicate`], or when the link was away: RFC 5227 section 2.1.
    ///
    /// # Errors
    ///
    /// The interface does not have the address.
    pub fn recheck(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
    ) -> Result<(), Error> {
        let place = self
            .find(interface, &address)
            .ok_or(Error::NoAddress(address))?;
        let timing = *self.timing(address);
        let dad = Dad::start(now, Probing::Check, &timing, &mut self.random);
        if let Some(entry) = self.entries.get(place) {
            let mut entry = Entry { dad, ..*entry };
            entry.shown.state = State::Tentative;
            self.begin(now, &mut entry);
            if let Some(old) = self.entries.get_mut(place) {
                *old = entry;
            }
        }
        self.changed();
        Ok(())
    }

    /// What follows from a detection that has begun.
    fn begin(&mut self, now: Instant, entry: &mut Entry) {
        let [a, b, c, d, e, f, _, _] = self.random.next().to_be_bytes();
        entry.nonce = [a, b, c, d, e, f];
        if entry.group().is_some() && !entry.joined {
            let tentative = entry.dad.is_tentative();
            let wait = if tentative {
                entry.dad.next_timeout().since(now)
            } else {
                Duration::ZERO
            };
            entry.join = Some(wait);
        }
        if !entry.dad.is_tentative() {
            entry.shown.state = entry.usable_state(now);
            self.note(Event::AddressReady {
                interface: entry.shown.interface,
                address: entry.shown.address,
            });
        }
    }

    /// Takes an address away.
    ///
    /// # Errors
    ///
    /// The interface does not have it.
    pub fn remove(&mut self, interface: InterfaceId, address: IpAddr) -> Result<(), Error> {
        let place = self
            .find(interface, &address)
            .ok_or(Error::NoAddress(address))?;
        self.take(place);
        self.changed();
        Ok(())
    }

    /// Takes all addresses of an interface away.
    pub fn remove_interface(&mut self, interface: InterfaceId) {
        while let Some(place) = self
            .entries
            .iter()
            .position(|entry| entry.shown.interface == interface)
        {
            self.take(place);
        }
        self.changed();
    }

    /// Says until when an address may be used. What is past takes effect at the next [`poll`](Self::poll).
    ///
    /// # Errors
    ///
    /// The interface does not have it.
    pub fn set_lifetimes(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        preferred_until: Instant,
        valid_until: Instant,
    ) -> Result<(), Error> {
        let place = self.find(interface, &address);
        let entry = place.and_then(|place| self.entries.get_mut(place));
        let entry = entry.ok_or(Error::NoAddress(address))?;
        entry.shown.preferred_until = preferred_until;
        entry.shown.valid_until = valid_until;
        if entry.shown.state == State::Deprecated && preferred_until > now {
            entry.shown.state = State::Preferred;
            self.changed();
        } else {
            // Not `changed`: advertisements come often, and destination caches live on the generation.
            self.schedule();
        }
        Ok(())
    }

    /// Whether `interface` has the address, and what it may be used for. Asked for each packet.
    #[inline]
    #[must_use]
    pub fn is_ours(&self, interface: InterfaceId, address: &IpAddr) -> Option<State> {
        match address {
            IpAddr::V4(address) => self.own.v4(interface, *address),
            IpAddr::V6(address) => self.own.v6(interface, *address),
        }
    }

    /// Whether packets come from the address because we send them, so that none that others send do. An address of another
    /// interface counts, too: whoever comes with it wants us to answer ourselves.
    #[inline]
    #[must_use]
    pub fn is_source(&self, interface: InterfaceId, address: IpAddr) -> bool {
        self.own.is_source(interface, address)
    }

    /// [`is_ours`](Self::is_ours) of an IPv4 address.
    #[inline]
    #[must_use]
    pub fn is_ours_v4(&self, interface: InterfaceId, address: Ipv4Addr) -> Option<State> {
        self.own.v4(interface, address)
    }

    /// [`is_ours`](Self::is_ours) of an IPv6 address.
    #[inline]
    #[must_use]
    pub fn is_ours_v6(&self, interface: InterfaceId, address: Ipv6Addr) -> Option<State> {
        self.own.v6(interface, address)
    }

    /// The interface that may use the address: the first, if a link-local one stands on several.
    #[must_use]
    pub fn owner(&self, address: &IpAddr) -> Option<InterfaceId> {
        let mut usable = self.usable();
        usable
            .find(|shown| shown.address == *address)
            .map(|shown| shown.interface)
    }

    /// Whether everybody on the link is meant: 255.255.255.255, or the broadcast address of a network that `interface` has
    /// an address of. RFC 1122 section 3.2.1.3; networks of one or two addresses have none, RFC 3021.
    #[inline]
    #[must_use]
    pub fn is_broadcast(&self, interface: InterfaceId, address: Ipv4Addr) -> bool {
        self.own.is_broadcast(interface, address)
    }

    /// Whether a packet of IPv4 goes from another host to this one alone, as far as our addresses tell: neither is its source
    /// ours, nor a broadcast address of ours, and its destination is ours and in use.
    #[inline]
    #[must_use]
    pub fn is_from_other_to_us(
        &self,
        interface: InterfaceId,
        from: Ipv4Addr,
        to: Ipv4Addr,
    ) -> bool {
        self.own.is_from_other_to_us(interface, from, to)
    }

    /// All addresses, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = &Address> + '_ {
        self.entries.iter().map(|entry| &entry.shown)
    }

    /// One address.
    #[must_use]
    pub fn get(&self, interface: InterfaceId, address: &IpAddr) -> Option<&Address> {
        let place = self.find(interface, address)?;
        self.entries.get(place).map(|entry| &entry.shown)
    }

    /// The first link-local IPv6 address that `interface` may use: what reports and solicitations come from.
    #[must_use]
    pub fn link_local(&self, interface: InterfaceId) -> Option<Ipv6Addr> {
        self.usable()
            .filter(|shown| shown.interface == interface)
            .find_map(|shown| match shown.address {
                IpAddr::V6(address) if address.is_unicast_link_local() => Some(address),
                _ => None,
            })
    }

    /// What is to be sent, or to be joined, at `now`; to be called until there is nothing more. Addresses become ready,
    /// deprecated and removed here, too.
    pub fn poll(&mut self, now: Instant) -> Option<Ask> {
        if now < self.next {
            return None;
        }
        let mut place = 0;
        loop {
            if let Some((interface, group)) = self.leaves.pop_front() {
                return Some(Ask::Leave { interface, group });
            }
            let Some(entry) = self.entries.get_mut(place) else {
                break;
            };
            let interface = entry.shown.interface;
            let address = entry.shown.address;
            if entry.shown.valid_until <= now {
                self.take(place);
                self.changed();
                self.note(Event::AddressExpired { interface, address });
                continue;
            }
            if let (Some(after), Some(group)) = (entry.join.take(), entry.group()) {
                entry.joined = true;
                return Some(Ask::Join {
                    interface,
                    group,
                    after,
                });
            }
            if entry.shown.state == State::Preferred && entry.shown.preferred_until <= now {
                entry.shown.state = State::Deprecated;
                self.changed();
                self.note(Event::AddressDeprecated { interface, address });
                continue;
            }
            let timing = match address {
                IpAddr::V4(_) => &self.config.ipv4,
                IpAddr::V6(_) => &self.config.ipv6,
            };
            match (entry.dad.poll(now, timing, &mut self.random), address) {
                (None, _) => place += 1,
                (Some(Step::Ready), _) => {
                    entry.shown.state = entry.usable_state(now);
                    self.changed();
                    self.note(Event::AddressReady { interface, address });
                }
                (Some(Step::Probe), IpAddr::V4(address)) => {
                    return Some(Ask::ArpProbe { interface, address });
                }
                (Some(Step::Probe), IpAddr::V6(address)) => {
                    let nonce = entry.nonce;
                    return Some(Ask::DadSolicit {
                        interface,
                        address,
                        nonce,
                    });
                }
                (Some(Step::Announce), IpAddr::V4(address)) => {
                    return Some(Ask::ArpAnnounce { interface, address });
                }
                // Routers do not care who has which link-local address. RFC 9131 section 6.1.
                (Some(Step::Announce), IpAddr::V6(address)) if address.is_unicast_link_local() => {}
                (Some(Step::Announce), IpAddr::V6(address)) => {
                    return Some(Ask::NeighbourAdvertise { interface, address });
                }
            }
        }
        self.schedule();
        None
    }

    /// What became of addresses and routers, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Events that nobody asked for in time, so that newer ones pushed them out.
    #[must_use]
    pub const fn events_lost(&self) -> u64 {
        self.events_lost
    }

    /// When [`poll`](Self::poll) is to be called; in the past if something is due.
    #[inline]
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        (self.next < Instant::MAX).then_some(self.next)
    }

    /// Moves whenever an answer of [`select_source`](Self::select_source) or [`is_ours`](Self::is_ours) may have become another.
    #[inline]
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// Keeps an event until it is asked for.
    pub(crate) fn note(&mut self, event: Event) {
        if self.events.len() >= Self::events_max(&self.config) {
            self.events.pop_front();
            self.events_lost = self.events_lost.wrapping_add(1);
        }
        self.events.push_back(event);
    }

    fn timing(&self, address: IpAddr) -> &Timing {
        match address {
            IpAddr::V4(_) => &self.config.ipv4,
            IpAddr::V6(_) => &self.config.ipv6,
        }
    }

    fn find(&self, interface: InterfaceId, address: &IpAddr) -> Option<usize> {
        self.entries
            .iter()
            .position(|entry| entry.shown.address == *address && entry.shown.interface == interface)
    }

    fn of_interface(&self, interface: InterfaceId) -> impl Iterator<Item = &Address> + '_ {
        self.iter()
            .filter(move |shown| shown.interface == interface)
    }

    fn usable(&self) -> impl Iterator<Item = &Address> + '_ {
        self.iter().filter(|shown| shown.state.is_usable())
    }

    /// Removes an entry; the caller says that something changed.
    fn take(&mut self, place: usize) {
        if place < self.entries.len() {
            let entry = self.entries.remove(place);
            self.leave(&entry);
        }
    }

    fn leave(&mut self, entry: &Entry) {
        if let (true, Some(group)) = (entry.joined, entry.group()) {
            self.leaves.push_back((entry.shown.interface, group));
        }
    }

    /// After something that others may have remembered.
    fn changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.own.fill(self.entries.iter().map(|entry| &entry.shown));
        self.schedule();
    }

    fn schedule(&mut self) {
        let timeouts = self.entries.iter().map(Entry::next_timeout);
        self.next = match self.leaves.is_empty() {
            true => timeouts.min().unwrap_or(Instant::MAX),
            false => Instant::ZERO,
        };
    }
}

#[cfg(test)]
mod tests;
