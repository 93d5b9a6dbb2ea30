//! Interfaces, addresses, routes: what a user sets up, and what tools show.

use core::fmt;
use core::net::IpAddr;
use std::collections::VecDeque;

use super::hop::Destinations;
use super::outbox::Outbox;
use super::{Event, Interface, Stack};
use crate::config::{Config, EVENTS_MAX};
use crate::echo::EchoTable;
use crate::error::Error;
use crate::interface::{InterfaceConfig, InterfaceId};
use crate::ip::address::{self, Address, Addresses};
use crate::ip::autoconf::Autoconf;
use crate::ip::dad::Probing;
use crate::ip::group::Groups;
use crate::ip::path::{PathMtu, Paths};
use crate::ip::rate::Rate;
use crate::ip::reassembly::Reassembly;
use crate::ip::route::{self, Route, Routes};
use crate::link::neighbour::{Neighbour, Neighbours};
use crate::packet::{Packet, Packets};
use crate::stats::{Drops, Traffic};
use crate::time::Instant;
use crate::udp::UdpTable;
use crate::wire::ethernet::Mac;

/// Ports that a stack may have.
const PORTS_MAX: usize = 256;

impl<A: Packets> Stack<A> {
    /// A stack without interfaces. All memory that it will ever have is reserved now.
    #[must_use]
    pub fn new(config: Config, packets: A) -> Self {
        let seed = config.seed;
        Self {
            packets,
            now: Instant::ZERO,
            interfaces: Vec::with_capacity(config.interfaces_max),
            ports: Vec::new(),
            untagged: Vec::new(),
            local: VecDeque::with_capacity(config.local_max),
            neighbours: Neighbours::new(config.neighbours, seed),
            routes: Routes::new(config.routes_max),
            paths: Paths::new(config.paths),
            addresses: Addresses::new(config.addresses, seed),
            autoconf: Autoconf::new(config.autoconf, seed),
            groups: Groups::new(config.groups, seed),
            reassembly: Reassembly::new(config.reassembly, seed),
            udp: UdpTable::new(config.udp, seed),
            echo: EchoTable::new(config.echo, seed),
            destinations: Destinations::new(),
            errors_rate: Rate::new(config.icmp.errors_per_second, config.icmp.errors_burst),
            echoes_rate: Rate::new(config.icmp.echoes_per_second, config.icmp.echoes_burst),
            events: VecDeque::with_capacity(EVENTS_MAX),
            drops: Drops::new(),
            traffic: Traffic::default(),
            changes: 0,
            heard_from: Mac::ZERO,
            is_answering: false,
            ids: crate::hash::mix(seed, 0x6964, 0),
            config,
        }
    }

    /// Adds an interface.
    ///
    /// # Errors
    ///
    /// There are too many, or another one has the port with these VLAN tags.
    pub fn add_interface(&mut self, config: InterfaceConfig) -> Result<InterfaceId, Error> {
        let full = Error::Full {
            what: "interfaces",
            max: self.config.interfaces_max,
            key: "interfaces_max",
        };
        let port = usize::from(config.port);
        if self.interfaces.len() >= self.config.interfaces_max || port >= PORTS_MAX {
            return Err(full);
        }
        let same = |interface: &Interface| {
            interface.config.port == config.port && interface.config.vlan == config.vlan
        };
        if self.interfaces.iter().any(same) {
            return Err(Error::InterfaceExists {
                port: config.port,
                vlan: config.vlan,
            });
        }
        let id = InterfaceId(u8::try_from(self.interfaces.len()).map_err(|_| full)?);
        let transmit_max = self.config.transmit_max;
        while self.ports.len() <= port {
            self.ports.push(Outbox::new(transmit_max));
            self.untagged.push(None);
        }
        if config.vlan == InterfaceConfig::UNTAGGED
            && let Some(untagged) = self.untagged.get_mut(port)
        {
            *untagged = Some((id, config.mac.to_bits()));
        }
        self.interfaces.push(Interface {
            config,
            mtu_v6: u16::MAX,
            hop_limit: None,
        });
        self.changes = self.changes.wrapping_add(1);
        Ok(id)
    }

    /// Gives an interface an address, and a route to its network. It may be used at once if it is not probed, otherwise when
    /// [`Event::AddressReady`] says so. With its first IPv6 address an interface gets a link-local one, too.
    ///
    /// # Errors
    ///
    /// No host can have the address, the interface has it, or a table is full.
    pub fn add_address(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        prefix_len: u8,
        probing: Probing,
    ) -> Result<(), Error> {
        self.interface(interface)
            .ok_or(Error::NoInterface(interface))?;
        let origin = address::Origin::Static;
        self.addresses
            .add(self.now, interface, address, prefix_len, origin, probing)?;
        let added = self.add_network(address, prefix_len, interface);
        let added = added.and_then(|()| match address {
            IpAddr::V4(_) => Ok(()),
            IpAddr::V6(_) => self.give_link_local(interface, probing),
        });
        if let Err(error) = added {
            self.remove_address(interface, address)?;
            return Err(error);
        }
        self.run_addresses();
        Ok(())
    }

    /// Adds the route to the network of an address.
    pub(super) fn add_network(
        &mut self,
        address: IpAddr,
        prefix_len: u8,
        interface: InterfaceId,
    ) -> Result<(), Error> {
        match self.routes.add(on_link(address, prefix_len, interface)) {
            // Another address of the network has brought it.
            Ok(()) | Err(Error::RouteExists(..)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes an address away, and the route to its network if no other address of the interface is in it.
    ///
    /// # Errors
    ///
    /// The interface does not have it.
    pub fn remove_address(&mut self, interface: InterfaceId, address: IpAddr) -> Result<(), Error> {
        let known = self.addresses.get(interface, &address).copied();
        let known = known.ok_or(Error::NoAddress(address))?;
        self.addresses.remove(interface, address)?;
        self.forget_network(&known);
        self.run_addresses();
        Ok(())
    }

    /// Takes the route to an address's network away, unless another address is in it.
    pub(super) fn forget_network(&mut self, known: &Address) {
        let is_shared = |other: &Address| {
            other.interface == known.interface
                && other.prefix_len == known.prefix_len
                && route::contains(known.address, known.prefix_len, other.address)
        };
        if !self.addresses.iter().any(is_shared) {
            let is_it = |route: &Route| {
                route.interface == known.interface && route.origin == route::Origin::Address
            };
            // It is there: the address brought it, or one before.
            let _ = self.routes.remove(known.address, known.prefix_len, is_it);
        }
    }

    /// Adds a route to a network by a gateway; the network of length 0 is the default route. Of several by different gateways the
    /// first one that was added is used, and the next one while its gateway does not answer.
    ///
    /// # Errors
    ///
    /// No interface reaches the gateway, there is such a route, or the table is full.
    pub fn add_route(&mut self, prefix: IpAddr, len: u8, gateway: IpAddr) -> Result<(), Error> {
        let direct = self
            .routes
            .lookup(gateway)
            .filter(|route| route.gateway.is_none());
        let interface = direct.ok_or(Error::GatewayUnreachable(gateway))?.interface;
        self.routes.add(Route {
            gateway: Some(gateway),
            origin: route::Origin::Static,
            ..on_link(prefix, len, interface)
        })
    }

    /// Takes a route by a gateway away.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn remove_route(&mut self, prefix: IpAddr, len: u8, gateway: IpAddr) -> Result<(), Error> {
        let is_it =
            |route: &Route| route.gateway == Some(gateway) && route.origin == route::Origin::Static;
        self.routes.remove(prefix, len, is_it).map(|_| ())
    }

    /// Writes a neighbour down that is never asked.
    ///
    /// # Errors
    ///
    /// The table is full of such.
    pub fn add_neighbour(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: Mac,
    ) -> Result<(), Error> {
        self.interface(interface)
            .ok_or(Error::NoInterface(interface))?;
        self.neighbours
            .set_static(self.now, interface, address, mac)?;
        self.deliver_waiting(interface, address, mac);
        Ok(())
    }

    /// Forgets a neighbour.
    pub fn remove_neighbour(&mut self, interface: InterfaceId, address: IpAddr) {
        self.neighbours.remove(interface, address);
    }

    /// What happened since it was last asked.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.run_events();
        self.events.pop_front()
    }

    /// How many packets were dropped, by reason.
    #[must_use]
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// What came, went and was answered.
    #[must_use]
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// All routes, the first that matches first.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter()
    }

    /// Gateways of routes that did not answer when they were last asked: they are passed over where there are others.
    pub fn silent_gateways(&self) -> impl Iterator<Item = (InterfaceId, IpAddr)> {
        self.routes.silent()
    }

    /// All addresses.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.addresses.iter()
    }

    /// Destinations behind links that are narrower than ours, with the largest packet that gets there in one piece and until when
    /// that is believed. A destination that is not among them takes what its interface does.
    pub fn paths(&self) -> impl Iterator<Item = &PathMtu> {
        self.paths.iter()
    }

    /// All neighbours.
    pub fn neighbours(&self) -> impl Iterator<Item = Neighbour> + '_ {
        self.neighbours.iter()
    }

    /// How many neighbours have made room for others, since there were as many as the table holds.
    #[must_use]
    pub fn neighbours_displaced(&self) -> u64 {
        self.neighbours.displaced()
    }

    /// The stack's limits.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where packets come from.
    pub fn packets_mut(&mut self) -> &mut A {
        &mut self.packets
    }

    #[inline]
    pub(super) fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(usize::from(id.0))
    }

    pub(super) fn interface_mut(&mut self, id: InterfaceId) -> Option<&mut Interface> {
        self.interfaces.get_mut(usize::from(id.0))
    }

    /// The interface of a port's frames with such tags.
    #[inline]
    pub(super) fn interface_of(&self, port: u16, vlan: [Option<u16>; 2]) -> Option<InterfaceId> {
        let is_it =
            |interface: &Interface| interface.config.port == port && interface.config.vlan == vlan;
        let place = self.interfaces.iter().position(is_it)?;
        u8::try_from(place).ok().map(InterfaceId)
    }

    /// Whether there is such an interface.
    pub(crate) fn has_interface(&self, id: InterfaceId) -> bool {
        self.interface(id).is_some()
    }

    /// Whether addresses of the link need no zone, since there is but one.
    #[inline]
    pub(crate) fn has_one_link(&self) -> bool {
        self.interfaces.len() <= 1
    }

    /// Whether an interface has an address and uses it.
    #[inline]
    pub(crate) fn is_ours(&self, interface: InterfaceId, address: IpAddr) -> bool {
        self.addresses
            .is_ours(interface, &address)
            .is_some_and(address::State::is_usable)
    }

    /// The interface that has an address and uses it.
    pub(crate) fn owner_of(&self, address: &IpAddr) -> Option<InterfaceId> {
        self.addresses.owner(address)
    }

    /// Whether we have an address and use it.
    #[inline]
    pub(crate) fn has_address(&self, address: IpAddr) -> bool {
        self.addresses.owner(&address).is_some()
    }

    /// Whether an address is one that a station on this link can have.
    pub(super) fn is_neighbour(&self, interface: InterfaceId, address: IpAddr) -> bool {
        let is_link_local =
            matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        is_link_local
            || self
                .routes
                .lookup_on(interface, address)
                .is_some_and(|route| route.gateway.is_none())
            || self
                .routes
                .iter()
                .any(|route| route.gateway == Some(address) && route.interface == interface)
    }

    /// A packet with a copy of some bytes; `None` without memory, or if they are too many for a packet.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Option<A::Packet> {
        let mut whole: Option<A::Packet> = None;
        let mut rest = bytes;
        loop {
            let mut packet = self.packets.alloc()?;
            let mut n = rest.len().min(PIECE_LEN);
            let room = loop {
                match packet.append(n) {
                    Some(room) => break room,
                    // Frames are smaller than usual.
                    None if n > 1 => n /= 2,
                    None => return None,
                }
            };
            // Both have `n` bytes.
            room.copy_from_slice(rest.get(..n)?);
            rest = rest.get(n..)?;
            whole = Some(match whole {
                None => packet,
                Some(mut whole) => {
                    whole.join(packet).ok()?;
                    whole
                }
            });
            if rest.is_empty() {
                return whole;
            }
        }
    }

    /// A copy of part of a packet.
    pub(super) fn copy_range(
        &mut self,
        from: &A::Packet,
        start: usize,
        end: usize,
    ) -> Option<A::Packet> {
        let mut bytes = [0; PIECE_LEN];
        let mut whole: Option<A::Packet> = None;
        let mut at = start;
        loop {
            let n = (end - at.min(end)).min(PIECE_LEN);
            let piece = bytes.get_mut(..n)?;
            if from.copy_out(at, piece) != n {
                return None;
            }
            let packet = self.copy(bytes.get(..n)?)?;
            at += n;
            whole = Some(match whole {
                None => packet,
                Some(mut whole) => {
                    whole.join(packet).ok()?;
                    whole
                }
            });
            if at >= end {
                return whole;
            }
        }
    }
}

/// A route to a network on an interface.
fn on_link(prefix: IpAddr, len: u8, interface: InterfaceId) -> Route {
    Route {
        prefix,
        len,
        interface,
        gateway: None,
        metric: 0,
        origin: route::Origin::Address,
        mtu: None,
        until: None,
    }
}

/// Bytes that are copied into one packet: what Ethernet carries.
const PIECE_LEN: usize = 1536;

impl<A: Packets> fmt::Debug for Stack<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("now", &self.now)
            .field("interfaces", &self.interfaces.len())
            .field("drops", &self.drops)
            .finish_non_exhaustive()
    }
}
