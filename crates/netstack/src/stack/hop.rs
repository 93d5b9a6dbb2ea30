//! Where a packet goes next, and a cache of the answers: RFC 1122 section 3.3.1, RFC 4861 section 5.2.

use core::net::IpAddr;

use super::Stack;
use super::template::Template;
use crate::config::DESTINATION_TIME;
use crate::hash::{address_bits, mix, words};
use crate::interface::{FrameHeader, InterfaceId, Offloads};
use crate::ip::route::Route;
use crate::link::neighbour::{Purpose, Resolution};
use crate::packet::{Packet, Packets};
use crate::stats::Reason;
use crate::time::Instant;
use crate::wire::ethernet::{EtherType, Mac};
use crate::wire::ipv4::Ipv4;
use crate::wire::ipv6::Ipv6;

/// Destinations that are remembered; a power of two.
const DESTINATIONS: usize = 1024;

/// What is to be done with a packet whose headers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Framed, it goes out.
    Send,
    /// It waits until the neighbour's address is known.
    Ask(IpAddr),
    /// It is for us.
    Local,
}

/// The way to a destination.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hop {
    pub(crate) interface: InterfaceId,
    pub(crate) port: u16,
    pub(crate) offloads: Offloads,
    /// Largest IP packet that gets there in one piece, as far as we know.
    pub(crate) mtu: u16,
    /// What packets start with, unless their socket says otherwise: routers may want more than the configuration.
    pub(crate) hop_limit: u8,
    /// Routers on the way may cut what is sent, since one of them takes less than we ever send: RFC 1191 section 3.
    pub(crate) may_cut: bool,
    pub(crate) next: Next,
    pub(crate) frame: FrameHeader,
    /// Which of our addresses such packets come from, unless somebody says otherwise.
    pub(crate) source: IpAddr,
}

#[derive(Debug, Clone, Copy)]
struct Destination {
    address: u128,
    generation: u32,
    until: Instant,
    /// The neighbour is noted as one whom we use.
    ours: bool,
    /// The headers of usual datagrams that we send there.
    template: Option<Template>,
    hop: Hop,
}

/// What was found out, each destination in one place.
#[derive(Debug)]
pub(super) struct Destinations(Vec<Option<Destination>>);

impl Destinations {
    pub(super) fn new() -> Self {
        Self(vec![None; DESTINATIONS])
    }

    /// The headers of usual datagrams to a destination, if the way there is known, and still the same.
    #[inline(always)]
    pub(super) fn template(
        &self,
        address: u128,
        seed: u64,
        generation: u32,
        now: Instant,
    ) -> Option<&Template> {
        self.get(address, seed, generation, now)?.template.as_ref()
    }

    /// What was found out about a destination, if it still holds.
    #[inline(always)]
    fn get(&self, address: u128, seed: u64, generation: u32, now: Instant) -> Option<&Destination> {
        let known = self.0.get(place(address, seed))?.as_ref()?;
        let holds = known.address == address && known.generation == generation && now < known.until;
        holds.then_some(known)
    }
}

/// Where a destination is kept.
#[inline]
fn place(address: u128, seed: u64) -> usize {
    let [low, high] = words(address);
    // Below their number, which a `usize` holds.
    usize::try_from(mix(seed, low, high) % DESTINATIONS as u64).unwrap_or(0)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

impl<A: Packets> Stack<A> {
    /// Moves whenever an answer of [`hop`](Self::hop) may no longer hold.
    #[inline]
    pub(super) fn generation(&self) -> u32 {
        let of_tables = self
            .routes
            .generation()
            .wrapping_add(self.neighbours.generation());
        let of_addresses = self
            .addresses
            .generation()
            .wrapping_add(self.paths.generation());
        of_tables
            .wrapping_add(of_addresses)
            .wrapping_add(self.changes)
    }

    #[inline(always)]
    fn known(&self, address: u128) -> Option<&Destination> {
        self.destinations
            .get(address, self.config.seed, self.generation(), self.now)
    }

    /// The way to `to`; `by` says by which interface, where the address alone does not.
    #[inline]
    pub(crate) fn hop(&mut self, to: IpAddr, by: Option<InterfaceId>) -> Result<Hop, Reason> {
        // RFC 4291 section 2.5.5.2: mapped addresses are on no wire. In our tables they are the numbers of IPv4's.
        if matches!(to, IpAddr::V6(to) if to.to_ipv4_mapped().is_some()) {
            return Err(Reason::NoRoute);
        }
        let address = address_bits(to);
        if let Some(known) = self.known(address)
            && by.is_none_or(|by| by == known.hop.interface)
            && (known.ours || self.is_answering)
        {
            return Ok(known.hop);
        }
        let ours = !self.is_answering;
        let (hop, until) = self.find_hop(to, by)?;
        if hop.next == Next::Send && by.is_none() {
            let generation = self.generation();
            let place = place(address, self.config.seed);
            if let Some(known) = self.destinations.0.get_mut(place) {
                *known = Some(Destination {
                    address,
                    generation,
                    until,
                    ours,
                    template: Template::of(to, &hop).filter(|_| ours),
                    hop,
                });
            }
        }
        Ok(hop)
    }

    /// Asks the tables.
    fn find_hop(&mut self, to: IpAddr, by: Option<InterfaceId>) -> Result<(Hop, Instant), Reason> {
        if to.is_unspecified() {
            return Err(Reason::NoRoute);
        }
        // An address of the link that is ours on one interface may be another's on the next.
        let owner = match by {
            Some(by) if is_link_local(to) => self.is_ours(by, to).then_some(by),
            _ => self.owner_of(&to),
        };
        if let Some(interface) = owner {
            return self.ended(
                interface,
                to,
                Next::Local,
                FrameHeader::NONE,
                to,
                Instant::ZERO,
            );
        }
        // RFC 4191 section 3.5: a router that is passed over is asked now and then whether it is back.
        if let Some((interface, gateway)) = self.routes.to_retry(self.now, to) {
            self.neighbours
                .resolve(self.now, interface, gateway, Purpose::Ours);
        }
        let is_everybody = matches!(to, IpAddr::V4(to) if to.is_broadcast());
        let is_group = to.is_multicast();
        let (interface, gateway) = match by {
            Some(by) if is_everybody || is_group || is_link_local(to) => (by, None),
            _ => match self.routes.lookup(to) {
                Some(route) => (route.interface, route.gateway),
                // What stays on a link needs no route, where there is one link only.
                None if is_everybody || is_group => (InterfaceId(0), None),
                None => return Err(Reason::NoRoute),
            },
        };
        let config = self.interface(interface).ok_or(Reason::NoRoute)?.config;
        let source = match self.addresses.select_source(interface, to) {
            Some(source) => source,
            None => return Err(Reason::NoSource),
        };
        let forever = self.now + DESTINATION_TIME;
        let ether_type = if to.is_ipv4() {
            EtherType::IPV4
        } else {
            EtherType::IPV6
        }
        .0;
        let framed = |mac| FrameHeader::new(&config, mac, ether_type);
        let group = match to {
            IpAddr::V4(to) if is_everybody || self.addresses.is_broadcast(interface, to) => {
                Some(Mac::BROADCAST)
            }
            IpAddr::V4(to) if is_group => Some(Mac::multicast_v4(to)),
            IpAddr::V6(to) if is_group => Some(Mac::multicast_v6(to)),
            _ => None,
        };
        if let Some(mac) = group {
            return self.ended(interface, to, Next::Send, framed(mac), source, forever);
        }
        let next = gateway.unwrap_or(to);
        // Routers were named by who set us up, or by themselves, but not by the packet that is answered.
        let purpose = if self.is_answering && gateway.is_none() {
            Purpose::Answer
        } else {
            Purpose::Ours
        };
        match self.neighbours.resolve(self.now, interface, next, purpose) {
            Resolution::Known { mac, until } => self.ended(
                interface,
                to,
                Next::Send,
                framed(mac),
                source,
                until.min(forever),
            ),
            Resolution::Unknown => self.ended(
                interface,
                to,
                Next::Ask(next),
                FrameHeader::NONE,
                source,
                Instant::ZERO,
            ),
        }
    }

    /// An upper layer has a sign that what it sends to `to` gets there: RFC 4861 section 7.3.1.
    pub(crate) fn confirm(&mut self, to: IpAddr, by: Option<InterfaceId>) {
        let (interface, gateway) = match by {
            Some(by) if is_link_local(to) => (by, None),
            _ => match self.routes.lookup(to) {
                Some(route) => (route.interface, route.gateway),
                None => return,
            },
        };
        let next = gateway.unwrap_or(to);
        self.neighbours.confirm(self.now, interface, next);
    }

    /// Sends a packet by another gateway than the one that does not answer; gives it back if there is none that does, as far as
    /// we know.
    pub(super) fn detour(
        &mut self,
        interface: InterfaceId,
        silent: IpAddr,
        packet: A::Packet,
    ) -> Result<(), A::Packet> {
        let data = packet.data();
        let to = match data.first().map(|first| first >> 4) {
            Some(4) => Ipv4::parse(data).ok().map(|ip| ip.destination().into()),
            _ => Ipv6::parse(data).ok().map(|ip| ip.destination().into()),
        };
        let route = to.and_then(|to| self.routes.lookup(to));
        let Some(&Route {
            interface: by,
            gateway: Some(next),
            ..
        }) = route
        else {
            return Err(packet);
        };
        // What it was cut to, and its source, hang on the interface.
        if by != interface || next == silent || self.routes.is_silent(by, next) {
            return Err(packet);
        }
        match self
            .neighbours
            .resolve(self.now, interface, next, Purpose::Ours)
        {
            Resolution::Known { mac, .. } => {
                let config = self.interface(interface).map(|known| known.config);
                let Some(config) = config else {
                    return Err(packet);
                };
                let ether_type = if next.is_ipv4() {
                    EtherType::IPV4
                } else {
                    EtherType::IPV6
                };
                let frame = FrameHeader::new(&config, mac, ether_type.0);
                let sent = self.transmit(config.port, &frame, packet);
                self.note(sent);
            }
            Resolution::Unknown => {
                if let Err((_, reason)) = self.neighbours.wait(interface, next, packet) {
                    self.drops.count(reason);
                }
            }
        }
        Ok(())
    }

    fn ended(
        &self,
        interface: InterfaceId,
        to: IpAddr,
        next: Next,
        frame: FrameHeader,
        source: IpAddr,
        until: Instant,
    ) -> Result<(Hop, Instant), Reason> {
        let known = self.interface(interface).ok_or(Reason::NoRoute)?;
        let (config, said) = (known.config, known.hop_limit.filter(|_| to.is_ipv6()));
        let (mtu, may_cut) = match next {
            Next::Local => (u16::MAX, false),
            _ => {
                let narrow = self.paths.lookup(to).is_some_and(|path| path.narrower);
                (self.paths.mtu(to, self.link_mtu(interface, to)), narrow)
            }
        };
        let hop = Hop {
            interface,
            port: config.port,
            offloads: if next == Next::Send {
                config.offloads
            } else {
                Offloads::default()
            },
            mtu,
            hop_limit: said.unwrap_or(self.config.hop_limit),
            may_cut,
            next,
            frame,
            source,
        };
        Ok((hop, until))
    }

    /// What fits one packet on an interface: routers may have said less for IPv6.
    fn link_mtu(&self, interface: InterfaceId, to: IpAddr) -> u16 {
        let Some(interface) = self.interface(interface) else {
            return 0;
        };
        match to {
            IpAddr::V4(_) => interface.config.mtu,
            IpAddr::V6(_) => interface.config.mtu.min(interface.mtu_v6),
        }
    }
}
