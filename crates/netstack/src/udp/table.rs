//! All UDP sockets of a stack.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::VecDeque;

use super::demux::Demux;
use super::queue::{Datagram, List, Queues};
use super::zone::noted;
use crate::error::Error;
use crate::hash::address_bits;
use crate::ip::version::Version;

/// Limits of UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdpConfig {
    /// Most open sockets.
    pub sockets_max: usize,
    /// Most datagrams that wait to be read in one socket.
    pub queue_max: u32,
    /// Most datagrams that wait to be read in all sockets: bounds the buffers that applications which do not read can hold.
    pub queued_max: usize,
}

impl Default for UdpConfig {
    fn default() -> Self {
        Self {
            sockets_max: 1024,
            queue_max: 512,
            queued_max: 4096,
        }
    }
}

/// A UDP socket of a stack: its place, and which of those that had the place one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UdpId {
    index: u32,
    generation: u32,
}

/// What tools show of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketInfo {
    /// Which it is.
    pub id: UdpId,
    /// What it is bound to.
    pub local: Option<SocketAddr>,
    /// Whom it is connected to.
    pub peer: Option<SocketAddr>,
    /// Datagrams that wait to be read.
    pub queued: u32,
    /// Datagrams that were dropped since its queue, or that of all, was full.
    pub dropped: u64,
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// It waits to be read.
    Queued,
    /// No socket wants it.
    NoSocket,
    /// The socket's queue, or that of all, is full.
    Full,
}

#[derive(Debug)]
pub(crate) struct Socket {
    generation: u32,
    is_open: bool,
    pub(super) is_ipv6: bool,
    pub(crate) local: Option<SocketAddr>,
    /// What it was bound to before it was connected, which chose an address.
    bound: Option<IpAddr>,
    pub(super) peer: Option<SocketAddr>,
    list: List,
    queue_max: u32,
    pub(super) error: Option<Error>,
    is_listed: bool,
    dropped: u64,
    pub(crate) hop_limit: Option<u8>,
    pub(crate) traffic_class: u8,
    pub(crate) no_checksum: bool,
    pub(crate) never_cut: bool,
    usual: Option<Usual>,
}

/// What usual datagrams of a socket go out with: it is bound, to one of our addresses or to all, and wants nothing special.
#[derive(Debug, Clone, Copy)]
struct Usual {
    /// As a number.
    address: u128,
    port: u16,
    is_ipv6: bool,
}

impl Socket {
    const CLOSED: Self = Self {
        generation: 0,
        is_open: false,
        is_ipv6: false,
        local: None,
        bound: None,
        peer: None,
        list: List::EMPTY,
        queue_max: 0,
        error: None,
        is_listed: false,
        dropped: 0,
        hop_limit: None,
        traffic_class: 0,
        no_checksum: false,
        never_cut: false,
        usual: None,
    };

    /// Has `usual` say what the rest says.
    fn settle(&mut self) {
        let is_usual = !self.no_checksum && self.hop_limit.is_none();
        let local = self.local.filter(|local| !local.ip().is_multicast());
        self.usual = local.filter(|_| is_usual).map(|local| Usual {
            address: address_bits(local.ip()),
            port: local.port(),
            is_ipv6: local.is_ipv6(),
        });
    }

    pub(super) fn unspecified(&self) -> IpAddr {
        if self.is_ipv6 {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        }
    }
}

/// All sockets.
#[derive(Debug)]
pub(crate) struct UdpTable<P> {
    sockets: Vec<Socket>,
    free: Vec<u32>,
    demux: Demux,
    queues: Queues<P>,
    ready: VecDeque<UdpId>,
    config: UdpConfig,
}

impl<P> UdpTable<P> {
    pub(crate) fn new(config: UdpConfig, seed: u64) -> Self {
        let max = u32::try_from(config.sockets_max).unwrap_or(u32::MAX - 1);
        Self {
            sockets: (0..max).map(|_| Socket::CLOSED).collect(),
            free: (0..max).rev().collect(),
            demux: Demux::new(max as usize, seed),
            queues: Queues::new(config.queued_max),
            // Each socket is listed once at a time.
            ready: VecDeque::with_capacity(max as usize),
            config,
        }
    }

    /// Opens a socket, bound to nothing.
    pub(crate) fn open(&mut self, is_ipv6: bool) -> Result<UdpId, Error> {
        let index = self.free.pop().ok_or(Error::Full {
            what: "UDP sockets",
            max: self.config.sockets_max,
            key: "udp.sockets_max",
        })?;
        let generation = self.sockets[index as usize].generation.wrapping_add(1);
        self.sockets[index as usize] = Socket {
            generation,
            is_open: true,
            is_ipv6,
            queue_max: self.config.queue_max,
            ..Socket::CLOSED
        };
        Ok(UdpId { index, generation })
    }

    #[inline]
    pub(crate) fn get(&self, id: UdpId) -> Result<&Socket, Error> {
        let socket = self.sockets.get(id.index as usize);
        socket
            .filter(|socket| socket.is_open && socket.generation == id.generation)
            .ok_or(Error::NoSocket)
    }

    /// Address, port and traffic class that a socket sends with, if it is bound, to one of ours or to all, and wants nothing special.
    #[inline(always)]
    pub(crate) fn usual<V: Version>(&self, id: UdpId) -> Option<(V, u16, u8)> {
        let socket = self.sockets.get(id.index as usize)?;
        let usual = socket.usual?;
        let is_so = socket.generation == id.generation && usual.is_ipv6 == V::IS_V6;
        is_so.then(|| {
            (
                V::from_bits(usual.address),
                usual.port,
                socket.traffic_class,
            )
        })
    }

    /// Changes what a socket is.
    pub(super) fn change(
        &mut self,
        id: UdpId,
        change: impl FnOnce(&mut Socket),
    ) -> Result<(), Error> {
        let socket = self.get_mut(id)?;
        change(socket);
        socket.settle();
        Ok(())
    }

    pub(super) fn get_mut(&mut self, id: UdpId) -> Result<&mut Socket, Error> {
        let socket = self.sockets.get_mut(id.index as usize);
        socket
            .filter(|socket| socket.is_open && socket.generation == id.generation)
            .ok_or(Error::NoSocket)
    }

    /// Closes a socket; says how many datagrams nobody has read.
    pub(crate) fn close(&mut self, id: UdpId) -> Result<u32, Error> {
        let socket = self.get(id)?;
        let (local, peer) = (socket.local, socket.peer);
        self.unbind(id, local, peer);
        let unread = self.clear(id)?;
        let socket = self.get_mut(id)?;
        *socket = Socket {
            generation: socket.generation,
            ..Socket::CLOSED
        };
        self.ready.retain(|listed| *listed != id);
        self.free.push(id.index);
        Ok(unread)
    }

    /// Drops what nobody has read.
    fn clear(&mut self, id: UdpId) -> Result<u32, Error> {
        let mut list = self.get(id)?.list;
        let unread = list.len;
        while self.queues.pop(&mut list).is_some() {}
        self.get_mut(id)?.list = List::EMPTY;
        Ok(unread)
    }

    fn unbind(&mut self, id: UdpId, local: Option<SocketAddr>, peer: Option<SocketAddr>) {
        let Some(local) = local else {
            return;
        };
        match peer {
            Some(peer) => self.demux.disconnect(local, peer),
            None => self.demux.unlink(id.index, local),
        }
        self.demux.release(local);
    }

    /// Binds a socket that is not bound yet.
    pub(crate) fn bind(&mut self, id: UdpId, local: SocketAddr) -> Result<(), Error> {
        let socket = self.get(id)?;
        if socket.is_ipv6 != local.is_ipv6() {
            return Err(Error::OtherVersion(local.ip()));
        }
        if let Some(local) = socket.local {
            return Err(Error::AddressInUse(local));
        }
        let port = self.demux.bind(id.index, local)?;
        self.change(id, |socket| {
            socket.local = Some(SocketAddr::new(local.ip(), port));
            socket.bound = Some(local.ip());
        })
    }

    /// Has a socket hear one peer only; `source` is the address of ours that it sends from. `None` takes the peer away.
    pub(crate) fn connect(
        &mut self,
        id: UdpId,
        to: Option<(SocketAddr, IpAddr)>,
    ) -> Result<(), Error> {
        let socket = self.get(id)?;
        if let Some((peer, _)) = to
            && peer.is_ipv6() != socket.is_ipv6
        {
            return Err(Error::OtherVersion(peer.ip()));
        }
        if socket.local.is_none() {
            let any = SocketAddr::new(socket.unspecified(), 0);
            self.bind(id, any)?;
        }
        let socket = self.get(id)?;
        let (Some(local), Some(bound), peer) = (socket.local, socket.bound, socket.peer) else {
            return Err(Error::NotConnected);
        };
        let as_bound = SocketAddr::new(bound, local.port());
        match peer {
            Some(peer) => self.demux.disconnect(local, peer),
            None => self.demux.unlink(id.index, local),
        }
        let outcome = match to {
            Some((peer, source)) => {
                let local = SocketAddr::new(
                    if bound.is_unspecified() {
                        source
                    } else {
                        bound
                    },
                    local.port(),
                );
                let outcome = self.demux.connect(id.index, local, peer);
                outcome.map(|()| (local, Some(peer)))
            }
            None => Ok((as_bound, None)),
        };
        let (local, peer) = match outcome {
            Ok(ends) => ends,
            Err(_) => (as_bound, None),
        };
        if peer.is_none() {
            self.demux.link(id.index, local);
        }
        // What others have sent before is not the peer's.
        if peer.is_some() {
            self.clear(id)?;
        }
        self.change(id, |socket| {
            (socket.local, socket.peer, socket.error) = (Some(local), peer, None);
        })?;
        outcome.map(|_| ())
    }

    /// The socket that is to have what `from` has sent to `to`: also the one that sends from `to` to `from`.
    pub(crate) fn find(&self, to: SocketAddr, from: SocketAddr) -> Option<u32> {
        self.demux.find(to, from)
    }

    /// The same, where the version is known.
    #[inline]
    pub(crate) fn find_of<V: Version>(&self, ends: [V; 2], ports: [u16; 2]) -> Option<u32> {
        self.demux.find_of(ends, ports)
    }

    /// Calls `each` with every socket that wants what is sent to a group or to everybody.
    pub(crate) fn wanting(&self, to: SocketAddr, from: SocketAddr, each: impl FnMut(u32)) {
        self.demux.find_all(to, from, each);
    }

    /// Puts a datagram into the queue of a socket.
    // Written where it is to lie, if it is made where this is called.
    #[inline(always)]
    pub(crate) fn deliver_to(&mut self, index: u32, datagram: Datagram<P>) -> Delivered {
        let Some(socket) = self.sockets.get_mut(index as usize) else {
            return Delivered::NoSocket;
        };
        let fits = socket.list.len < socket.queue_max;
        if !fits || self.queues.push(&mut socket.list, noted(datagram)).is_err() {
            socket.dropped += 1;
            return Delivered::Full;
        }
        if socket.list.len == 1 {
            self.list(index);
        }
        Delivered::Queued
    }

    /// The oldest datagram of a socket.
    #[inline]
    pub(crate) fn pop(&mut self, id: UdpId) -> Option<Datagram<P>> {
        let socket = self.sockets.get_mut(id.index as usize)?;
        if !socket.is_open || socket.generation != id.generation {
            return None;
        }
        self.queues.pop(&mut socket.list)
    }

    /// Notes an error for the socket that sent something; unconnected ones hear of it, too, and know from it who is meant.
    pub(crate) fn fail(&mut self, from: SocketAddr, to: SocketAddr, error: Error) -> bool {
        let Some(index) = self.demux.find(from, to) else {
            return false;
        };
        if let Some(socket) = self.sockets.get_mut(index as usize) {
            socket.error = Some(error);
            self.list(index);
        }
        true
    }

    /// Notes that a socket has something to tell.
    #[inline]
    fn list(&mut self, index: u32) {
        let Some(socket) = self.sockets.get_mut(index as usize) else {
            return;
        };
        if !socket.is_listed {
            socket.is_listed = true;
            let generation = socket.generation;
            self.ready.push_back(UdpId { index, generation });
        }
    }

    /// The next socket that got something to read, or an error, since it was last named here or found empty.
    pub(crate) fn poll_ready(&mut self) -> Option<UdpId> {
        let id = self.ready.pop_front()?;
        if let Ok(socket) = self.get_mut(id) {
            socket.is_listed = false;
        }
        Some(id)
    }

    pub(super) fn queued(&self, id: UdpId) -> Result<u32, Error> {
        Ok(self.get(id)?.list.len)
    }

    /// All open sockets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SocketInfo> {
        let open = (0..)
            .zip(&self.sockets)
            .filter(|(_, socket)| socket.is_open);
        open.map(|(index, socket)| SocketInfo {
            id: UdpId {
                index,
                generation: socket.generation,
            },
            local: socket.local,
            peer: socket.peer,
            queued: socket.list.len,
            dropped: socket.dropped,
        })
    }

    pub(super) fn set_queue_max(&mut self, id: UdpId, max: u32) -> Result<(), Error> {
        self.get_mut(id)?.queue_max = max;
        Ok(())
    }
}
