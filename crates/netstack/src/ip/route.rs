//! Which interface and which gateway lead to a destination: the longest prefix wins.
//!
//! Networks stand in two rows of numbers, a version each, longest prefix first, so a look-up is a scan over a few bytes a route
//! that ends at the first match. Behind each number stands a [`Route`] in a third row, in the same order. Routes by gateways that
//! do not answer stand behind the others.

mod silent;

use core::cmp::Reverse;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use silent::{Silent, since};

use crate::error::Error;
use crate::interface::InterfaceId;
use crate::time::Instant;

/// Who added a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// An address of ours: its network is on the link.
    Address,
    /// The configuration, or a tool.
    Static,
    /// A router of the link: RFC 4861 section 6.3.4.
    RouterAdvertisement,
}

/// How to reach a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network: of its bits, the first `len` count.
    pub prefix: IpAddr,
    /// Bits of the network.
    pub len: u8,
    /// Where packets go out.
    pub interface: InterfaceId,
    /// Who passes them on; nobody where the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Among routes to the same network, the lowest wins; then the order of [`Origin`], then the one that was added first.
    pub metric: u32,
    /// Who added it.
    pub origin: Origin,
    /// The largest packet to send there, if that is less than the interface takes.
    pub mtu: Option<u16>,
    /// When it is forgotten; never if `None`.
    pub until: Option<Instant>,
}

impl Route {
    fn bits(&self) -> u8 {
        match self.prefix {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        }
    }

    /// Whether the two cannot stand side by side.
    fn rivals(&self, other: &Self) -> bool {
        (self.prefix, self.len, self.interface, self.origin)
            == (other.prefix, other.len, other.interface, other.origin)
            && self.gateway == other.gateway
            && (self.origin != Origin::Static || self.metric == other.metric)
    }
}

/// A route, and the how manieth it was.
#[derive(Debug, Clone, Copy)]
struct Line {
    route: Route,
    added: u64,
}

impl Line {
    fn rank(&self, silent: &[Silent]) -> Rank {
        let route = &self.route;
        let since = since(silent, route.interface, route.gateway);
        let (len, of_len) = (Reverse(route.len), (route.metric, route.origin, self.added));
        (route.prefix.is_ipv6(), since, len, of_len)
    }
}

/// Routes stand in this order: IPv4 first, those whose gateway is silent last, the longest prefix first, the lowest metric first.
type Rank = (bool, u32, Reverse<u8>, (u32, Origin, u64));

/// The routes of a stack, both versions.
#[derive(Debug)]
pub struct Routes {
    routes_max: usize,
    /// IPv4 first; by [`Line::rank`].
    routes: Vec<Line>,
    added: u64,
    /// Network and mask of each IPv4 route, in the order of `routes`.
    v4: Vec<(u32, u32)>,
    /// Likewise for the IPv6 routes, which stand behind.
    v6: Vec<(u128, u128)>,
    /// Gateways that do not answer.
    silent: Vec<Silent>,
    failures: u32,
    next_timeout: Option<Instant>,
    generation: u32,
}

impl Routes {
    /// No routes, and at most `routes_max`.
    #[must_use]
    pub fn new(routes_max: usize) -> Self {
        Self {
            routes_max,
            routes: Vec::with_capacity(routes_max),
            added: 0,
            v4: Vec::with_capacity(routes_max),
            v6: Vec::with_capacity(routes_max),
            silent: Vec::with_capacity(routes_max),
            failures: 0,
            next_timeout: None,
            generation: 0,
        }
    }

    /// Adds a route; bits of its prefix beyond `len` are cleared.
    ///
    /// A route of an address or of a router that is there already, with the same interface and gateway, is replaced: so its
    /// lifetime is extended.
    ///
    /// # Errors
    ///
    /// [`Error::PrefixLen`], [`Error::OtherVersion`] or [`Error::NotUnicast`] where the fields contradict each other;
    /// [`Error::RouteExists`] for a second static route to the same network by the same gateway, with the same metric;
    /// [`Error::Full`].
    pub fn add(&mut self, mut route: Route) -> Result<(), Error> {
        let bits = route.bits();
        if route.len > bits {
            return Err(Error::PrefixLen {
                len: route.len,
                bits,
            });
        }
        if let Some(gateway) = route.gateway {
            if gateway.is_ipv4() != route.prefix.is_ipv4() {
                return Err(Error::OtherVersion(gateway));
            }
            if gateway.is_multicast() || gateway.is_unspecified() || gateway.is_loopback() {
                return Err(Error::NotUnicast(gateway));
            }
        }
        route.prefix = match route.prefix {
            IpAddr::V4(prefix) => Ipv4Addr::from_bits(prefix.to_bits() & mask_v4(route.len)).into(),
            IpAddr::V6(prefix) => Ipv6Addr::from_bits(prefix.to_bits() & mask_v6(route.len)).into(),
        };
        let mut all = self.routes.iter_mut();
        if let Some(line) = all.find(|line| line.route.rivals(&route)) {
            let known = &mut line.route;
            if route.origin == Origin::Static {
                return Err(Error::RouteExists(route.prefix, route.len));
            }
            let unchanged = Route {
                until: known.until,
                ..route
            } == *known;
            *known = route;
            if unchanged {
                self.changed(false);
            } else {
                self.sort();
            }
            return Ok(());
        }
        if self.routes.len() >= self.routes_max {
            return Err(Error::Full {
                what: "routes",
                max: self.routes_max,
                key: "routes_max",
            });
        }
        self.added += 1;
        self.routes.push(Line {
            route,
            added: self.added,
        });
        self.sort();
        Ok(())
    }

    /// Removes the first route to a network that `matching` likes: by its gateway, its interface, its origin.
    ///
    /// # Errors
    ///
    /// [`Error::RouteMissing`].
    pub fn remove(
        &mut self,
        prefix: IpAddr,
        len: u8,
        mut matching: impl FnMut(&Route) -> bool,
    ) -> Result<Route, Error> {
        let same = |known: &Route| known.len == len && contains(known.prefix, len, prefix);
        let place = self
            .routes
            .iter()
            .position(|line| same(&line.route) && matching(&line.route));
        let place = place.ok_or(Error::RouteMissing(prefix, len))?;
        let route = self.routes.remove(place).route;
        self.changed(true);
        Ok(route)
    }

    /// Removes the routes over an interface, and returns how many there were.
    pub fn remove_interface(&mut self, interface: InterfaceId) -> usize {
        self.retain(|route| route.interface != interface)
    }

    /// Removes the routes over an interface that came from there, and returns how many there were.
    pub fn remove_origin(&mut self, interface: InterfaceId, origin: Origin) -> usize {
        self.retain(|route| (route.interface, route.origin) != (interface, origin))
    }

    /// The route to a destination.
    #[inline]
    #[must_use]
    pub fn lookup(&self, destination: IpAddr) -> Option<&Route> {
        let place = match destination {
            IpAddr::V4(to) => {
                let to = to.to_bits();
                self.v4.iter().position(|(net, mask)| to & mask == *net)?
            }
            IpAddr::V6(to) => {
                let to = to.to_bits();
                let place = self.v6.iter().position(|(net, mask)| to & mask == *net)?;
                place.saturating_add(self.v4.len())
            }
        };
        self.routes.get(place).map(|line| &line.route)
    }

    /// The route to a destination over one interface: of a link-local address, or of a socket that is bound to it.
    #[must_use]
    pub fn lookup_on(&self, interface: InterfaceId, destination: IpAddr) -> Option<&Route> {
        let mut matches = self.matches(destination);
        matches.find(|route| route.interface == interface)
    }

    /// All routes that lead to a destination, the best one first; those whose gateway does not answer last.
    pub fn matches(&self, destination: IpAddr) -> impl Iterator<Item = &Route> {
        let routes = self.iter();
        routes.filter(move |route| contains(route.prefix, route.len, destination))
    }

    /// Removes what has expired, and returns how many routes that were.
    pub fn expire(&mut self, now: Instant) -> usize {
        if self.next_timeout.is_none_or(|due| due > now) {
            return 0;
        }
        self.retain(|route| route.until.is_none_or(|until| until > now))
    }

    /// When [`expire`](Self::expire) is to be called, if at all.
    #[inline]
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next_timeout
    }

    /// A number that moves whenever an answer of [`lookup`](Self::lookup) may no longer hold.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// All routes: IPv4 first, then the longest prefix first; of each version those last whose gateway does not answer.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(|line| &line.route)
    }

    fn retain(&mut self, mut keep: impl FnMut(&Route) -> bool) -> usize {
        let before = self.routes.len();
        self.routes.retain(|line| keep(&line.route));
        let gone = before - self.routes.len();
        if gone > 0 {
            self.changed(true);
        }
        gone
    }

    /// Puts all in order, where that may have changed.
    fn sort(&mut self) {
        let silent = &self.silent;
        self.routes.sort_unstable_by_key(|line| line.rank(silent));
        self.changed(true);
    }

    /// Sees to it that what is derived from the routes fits them again.
    fn changed(&mut self, answers: bool) {
        self.next_timeout = self.iter().filter_map(|route| route.until).min();
        if !answers {
            return;
        }
        self.forget_silent();
        self.generation = self.generation.wrapping_add(1);
        self.v4.clear();
        self.v6.clear();
        for Line { route, .. } in &self.routes {
            match route.prefix {
                IpAddr::V4(net) => self.v4.push((net.to_bits(), mask_v4(route.len))),
                IpAddr::V6(net) => self.v6.push((net.to_bits(), mask_v6(route.len))),
            }
        }
    }
}

/// Whether an address lies in a network.
#[must_use]
pub fn contains(prefix: IpAddr, len: u8, address: IpAddr) -> bool {
    match (prefix, address) {
        (IpAddr::V4(prefix), IpAddr::V4(address)) => {
            (prefix.to_bits() ^ address.to_bits()) & mask_v4(len) == 0
        }
        (IpAddr::V6(prefix), IpAddr::V6(address)) => {
            (prefix.to_bits() ^ address.to_bits()) & mask_v6(len) == 0
        }
        _ => false,
    }
}

/// The first `len` of 32 bits.
fn mask_v4(len: u8) -> u32 {
    let rest = 32_u32.saturating_sub(len.into());
    u32::MAX.checked_shl(rest).unwrap_or(0)
}

/// The first `len` of 128 bits.
fn mask_v6(len: u8) -> u128 {
    let rest = 128_u32.saturating_sub(len.into());
    u128::MAX.checked_shl(rest).unwrap_or(0)
}

#[cfg(test)]
mod tests;
