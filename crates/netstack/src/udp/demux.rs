//! Which socket a datagram is for.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::HashMap;

use crate::error::Error;
use crate::hash::{Seeded, address_bits};
use crate::ip::version::Version;

/// Ports of a version of IP.
const PORTS: usize = 1 << 16;

/// No socket.
pub(super) const NOBODY: u32 = u32::MAX;

/// Ports that are given to sockets that do not ask for one: RFC 6335 section 6.
const EPHEMERAL: core::ops::RangeInclusive<u16> = 49152..=65535;

/// Both ends of a connected socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    addresses: [u128; 2],
    ports: u32,
}

impl Pair {
    #[inline]
    fn new(local: SocketAddr, peer: SocketAddr) -> Self {
        let addresses = [address_bits(local.ip()), address_bits(peer.ip())];
        Self::of(addresses, [local.port(), peer.port()])
    }

    #[inline]
    fn of(addresses: [u128; 2], [local, peer]: [u16; 2]) -> Self {
        Self {
            addresses,
            ports: u32::from(local) << 16 | u32::from(peer),
        }
    }
}

/// Who is bound to a port but not connected: a list through all of them.
#[derive(Debug, Clone, Copy)]
struct Bound {
    address: u128,
    next: u32,
}

impl Bound {
    /// Whether it is bound to all addresses of its version.
    const fn is_everybody(&self) -> bool {
        self.address == Ipv4Addr::ANY || self.address == Ipv6Addr::ANY
    }
}

/// From ports and addresses to the numbers of sockets.
#[derive(Debug)]
pub(super) struct Demux {
    /// The first socket that is bound to a port, of IPv4 and then of IPv6.
    first: Box<[u32]>,
    /// How many sockets have a port, connected ones too.
    users: Box<[u16]>,
    bound: Vec<Bound>,
    connected: HashMap<Pair, u32, Seeded>,
    /// Where to look for the next ephemeral port.
    next: u64,
    seed: u64,
}

#[inline]
fn place(is_ipv6: bool, port: u16) -> usize {
    usize::from(port) + if is_ipv6 { PORTS } else { 0 }
}

impl Demux {
    /// For sockets numbered below `max`.
    pub(super) fn new(max: usize, seed: u64) -> Self {
        let unbound = Bound {
            address: Ipv4Addr::ANY,
            next: NOBODY,
        };
        Self {
            first: vec![NOBODY; 2 * PORTS].into(),
            users: vec![0; 2 * PORTS].into(),
            bound: vec![unbound; max],
            connected: HashMap::with_capacity_and_hasher(max, Seeded(seed)),
            // Not the seed itself: mixed with that it is nothing.
            next: crate::hash::mix(seed, 0x7564_7000, 1),
            seed,
        }
    }

    /// The socket that is to have what `from` has sent to `to`.
    pub(super) fn find(&self, to: SocketAddr, from: SocketAddr) -> Option<u32> {
        let ports = [to.port(), from.port()];
        match (to.ip(), from.ip()) {
            (IpAddr::V4(to), IpAddr::V4(from)) => self.find_of([to, from], ports),
            (IpAddr::V6(to), IpAddr::V6(from)) => self.find_of([to, from], ports),
            _ => None,
        }
    }

    /// [`find`](Self::find), where the version is known.
    #[inline(always)]
    pub(super) fn find_of<V: Version>(&self, [to, from]: [V; 2], ports: [u16; 2]) -> Option<u32> {
        let to = to.bits();
        if !self.connected.is_empty()
            && let Some(socket) = self.connected_to(&Pair::of([to, from.bits()], ports))
        {
            return Some(socket);
        }
        let mut everybody = None;
        let mut socket = *self.first.get(place(V::IS_V6, ports[0]))?;
        // Each socket is in one list once: this comes to an end.
        while let Some(bound) = self.bound.get(socket as usize) {
            if bound.address == to {
                return Some(socket);
            }
            if bound.address == V::ANY {
                everybody = Some(socket);
            }
            socket = bound.next;
        }
        everybody
    }

    #[inline(never)]
    fn connected_to(&self, ends: &Pair) -> Option<u32> {
        self.connected.get(ends).copied()
    }

    /// All sockets that want what is sent to a group or to everybody: those connected to the sender and those bound to it.
    pub(super) fn find_all(&self, to: SocketAddr, from: SocketAddr, mut each: impl FnMut(u32)) {
        if let Some(socket) = self.connected.get(&Pair::new(to, from)) {
            each(*socket);
        }
        for (socket, bound) in self.bound_to(to) {
            if bound.address == address_bits(to.ip()) || bound.is_everybody() {
                each(socket);
            }
        }
    }

    fn bound_to(&self, to: SocketAddr) -> impl Iterator<Item = (u32, Bound)> {
        let mut socket = self
            .first
            .get(place(to.is_ipv6(), to.port()))
            .copied()
            .unwrap_or(NOBODY);
        core::iter::from_fn(move || {
            let bound = *self.bound.get(socket as usize)?;
            let this = core::mem::replace(&mut socket, bound.next);
            Some((this, bound))
        })
        // Each socket is in one list once.
        .take(self.bound.len())
    }

    /// Binds a socket; port 0 asks for one that nobody has.
    ///
    /// # Errors
    ///
    /// Another socket has the port with that address, or one of the two is bound to all; or no port is left.
    pub(super) fn bind(&mut self, socket: u32, local: SocketAddr) -> Result<u16, Error> {
        let port = match local.port() {
            0 => self.ephemeral(local.ip())?,
            port => port,
        };
        let local = SocketAddr::new(local.ip(), port);
        let overlaps = |bound: Bound| {
            bound.address == address_bits(local.ip())
                || bound.is_everybody()
                || local.ip().is_unspecified()
        };
        if self.bound_to(local).any(|(_, bound)| overlaps(bound)) {
            return Err(Error::AddressInUse(local));
        }
        self.users[place(local.is_ipv6(), port)] += 1;
        self.link(socket, local);
        Ok(port)
    }

    /// Moves a bound socket to those that hear one peer only.
    ///
    /// # Errors
    ///
    /// Another socket has both ends.
    pub(super) fn connect(
        &mut self,
        socket: u32,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<(), Error> {
        let pair = Pair::new(local, peer);
        if self.connected.contains_key(&pair) {
            return Err(Error::AddressInUse(local));
        }
        self.connected.insert(pair, socket);
        Ok(())
    }

    /// Takes a socket out of those bound to a port, before it is connected.
    pub(super) fn unlink(&mut self, socket: u32, local: SocketAddr) {
        let at = place(local.is_ipv6(), local.port());
        let next = self.bound[socket as usize].next;
        let before = self.bound_to(local).find(|(_, bound)| bound.next == socket);
        match before {
            Some((before, _)) => self.bound[before as usize].next = next,
            None if self.first[at] == socket => self.first[at] = next,
            None => return,
        }
        self.bound[socket as usize].next = NOBODY;
    }

    /// Puts a socket among those bound to a port.
    pub(super) fn link(&mut self, socket: u32, local: SocketAddr) {
        let first = &mut self.first[place(local.is_ipv6(), local.port())];
        self.bound[socket as usize] = Bound {
            address: address_bits(local.ip()),
            next: core::mem::replace(first, socket),
        };
    }

    /// A socket hears its peer alone no more.
    pub(super) fn disconnect(&mut self, local: SocketAddr, peer: SocketAddr) {
        self.connected.remove(&Pair::new(local, peer));
    }

    /// A socket gives its port back.
    pub(super) fn release(&mut self, local: SocketAddr) {
        let users = &mut self.users[place(local.is_ipv6(), local.port())];
        *users = users.saturating_sub(1);
    }

    /// A port that no socket has, where nobody from outside can guess the next one: RFC 6056 section 3.3.1.
    fn ephemeral(&mut self, address: IpAddr) -> Result<u16, Error> {
        let count = u64::from(EPHEMERAL.end() - EPHEMERAL.start()) + 1;
        self.next = crate::hash::mix(self.seed, self.next, self.next.rotate_left(17) ^ 1);
        let start = self.next % count;
        for step in 0..count {
            let offset = u16::try_from((start + step) % count).unwrap_or_default();
            let port = EPHEMERAL.start() + offset;
            if self.users[place(address.is_ipv6(), port)] == 0 {
                return Ok(port);
            }
        }
        Err(Error::NoPorts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_free_port_is_another_in_each_stack() {
        let port = |seed| Demux::new(1, seed).bind(0, ([0; 4], 0).into());
        let ports: Result<std::collections::BTreeSet<_>, _> = (0..100).map(port).collect();
        assert!(ports.unwrap().len() > 90);
    }
}
