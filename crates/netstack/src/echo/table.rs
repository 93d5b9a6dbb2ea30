//! All echo sockets of a stack.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{HashMap, VecDeque};

use super::failure::Failure;
use super::reply::Reply;
use crate::error::Error;
use crate::hash::{Seeded, mix};
use crate::stats::Reason;

/// Limits of echo sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoConfig {
    /// Most open sockets; fewer than 65,536, so that an identifier is free.
    pub sockets_max: usize,
    /// Most replies that wait to be read in one socket.
    pub queue_max: usize,
    /// Most replies that wait to be read in all sockets: bounds the buffers that applications which do not read can hold.
    pub queued_max: usize,
    /// Most failures that wait to be read in one socket.
    pub failures_max: usize,
}

impl Default for EchoConfig {
    fn default() -> Self {
        Self {
            sockets_max: 64,
            queue_max: 256,
            queued_max: 1024,
            failures_max: 64,
        }
    }
}

/// An echo socket of a stack: its place, and which of those that had the place one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EchoId {
    index: u32,
    generation: u32,
}

/// What tools show of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EchoInfo {
    /// Which it is.
    pub id: EchoId,
    /// The identifier of its requests.
    pub ident: u16,
    /// The address that it is bound to; unspecified if that is all of its version.
    pub local: IpAddr,
    /// Replies that wait to be read.
    pub queued: usize,
    /// Replies and failures that were dropped since its queues, or that of all, were full.
    pub dropped: u64,
}

#[derive(Debug)]
pub(crate) struct Socket<P> {
    generation: u32,
    is_open: bool,
    pub(super) ident: u16,
    /// The address that it is bound to, or the unspecified one, of its version.
    pub(super) local: IpAddr,
    replies: VecDeque<Reply<P>>,
    failures: VecDeque<Failure>,
    is_listed: bool,
    dropped: u64,
    pub(super) hop_limit: Option<u8>,
    pub(super) traffic_class: u8,
    pub(super) never_cut: bool,
}

impl<P> Socket<P> {
    const fn closed(generation: u32) -> Self {
        Self {
            generation,
            is_open: false,
            ident: 0,
            local: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            replies: VecDeque::new(),
            failures: VecDeque::new(),
            is_listed: false,
            dropped: 0,
            hop_limit: None,
            traffic_class: 0,
            never_cut: false,
        }
    }
}

/// Identifiers of IPv4, and then of IPv6.
fn key(is_ipv6: bool, ident: u16) -> u32 {
    u32::from(is_ipv6) << 16 | u32::from(ident)
}

/// All sockets.
#[derive(Debug)]
pub(crate) struct EchoTable<P> {
    sockets: Vec<Socket<P>>,
    free: Vec<u32>,
    by_ident: HashMap<u32, u32, Seeded>,
    ready: VecDeque<EchoId>,
    /// Replies that wait in all of them.
    queued: usize,
    /// Identifiers that were chosen.
    chosen: u64,
    seed: u64,
    config: EchoConfig,
}

impl<P> EchoTable<P> {
    pub(crate) fn new(config: EchoConfig, seed: u64) -> Self {
        let max = u16::try_from(config.sockets_max).unwrap_or(u16::MAX - 1);
        let places = usize::from(max);
        Self {
            sockets: (0..max).map(|_| Socket::closed(0)).collect(),
            free: (0..max.into()).rev().collect(),
            by_ident: HashMap::with_capacity_and_hasher(places, Seeded(seed)),
            // Each socket is listed once at a time.
            ready: VecDeque::with_capacity(places),
            queued: 0,
            chosen: 0,
            seed,
            config,
        }
    }

    /// Opens a socket of the version of `local`; identifier 0 asks for one that nobody has.
    pub(crate) fn open(&mut self, local: IpAddr, ident: u16) -> Result<EchoId, Error> {
        let is_ipv6 = local.is_ipv6();
        if self.by_ident.contains_key(&key(is_ipv6, ident)) {
            return Err(Error::IdentInUse(ident));
        }
        let index = self.free.pop().ok_or(Error::Full {
            what: "echo sockets",
            max: self.sockets.len(),
            key: "echo.sockets_max",
        })?;
        let ident = match ident {
            0 => self.free_ident(is_ipv6),
            ident => ident,
        };
        let generation = self.sockets[index as usize].generation.wrapping_add(1);
        self.sockets[index as usize] = Socket {
            is_open: true,
            ident,
            local,
            replies: VecDeque::with_capacity(self.config.queue_max),
            failures: VecDeque::with_capacity(self.config.failures_max),
            ..Socket::closed(generation)
        };
        self.by_ident.insert(key(is_ipv6, ident), index);
        Ok(EchoId { index, generation })
    }

    /// One that no socket has, where nobody from outside can guess the next one: who knows it can make answers up.
    fn free_ident(&mut self, is_ipv6: bool) -> u16 {
        self.chosen = self.chosen.wrapping_add(1);
        let [a, b, ..] = mix(self.seed, self.chosen, 0x6563_686f).to_be_bytes();
        let mut ident = u16::from_be_bytes([a, b]);
        // There are fewer sockets than identifiers.
        while ident == 0 || self.by_ident.contains_key(&key(is_ipv6, ident)) {
            ident = ident.wrapping_add(1);
        }
        ident
    }

    pub(super) fn get(&self, id: EchoId) -> Result<&Socket<P>, Error> {
        let socket = self.sockets.get(id.index as usize);
        socket
            .filter(|socket| socket.is_open && socket.generation == id.generation)
            .ok_or(Error::NoSocket)
    }

    pub(super) fn get_mut(&mut self, id: EchoId) -> Result<&mut Socket<P>, Error> {
        let socket = self.sockets.get_mut(id.index as usize);
        socket
            .filter(|socket| socket.is_open && socket.generation == id.generation)
            .ok_or(Error::NoSocket)
    }

    /// Closes a socket; says how many replies nobody has read.
    pub(super) fn close(&mut self, id: EchoId) -> Result<usize, Error> {
        let socket = self.get_mut(id)?;
        let key = key(socket.local.is_ipv6(), socket.ident);
        let unread = socket.replies.len();
        *socket = Socket::closed(id.generation);
        self.queued -= unread;
        self.by_ident.remove(&key);
        self.ready.retain(|listed| *listed != id);
        self.free.push(id.index);
        Ok(unread)
    }

    /// The socket whose requests have this identifier and are sent from `local`.
    pub(crate) fn find(&self, local: IpAddr, ident: u16) -> Option<u32> {
        let index = *self.by_ident.get(&key(local.is_ipv6(), ident))?;
        let bound = self.sockets.get(index as usize)?.local;
        (bound.is_unspecified() || bound == local).then_some(index)
    }

    /// Puts a reply into the queue of a socket.
    pub(crate) fn deliver(&mut self, index: u32, reply: Reply<P>) -> Result<(), Reason> {
        let (queue_max, queued_max) = (self.config.queue_max, self.config.queued_max);
        let socket = self.sockets.get_mut(index as usize);
        let socket = socket.ok_or(Reason::IcmpUnrelated)?;
        if socket.replies.len() >= queue_max || self.queued >= queued_max {
            socket.dropped += 1;
            return Err(Reason::EchoQueueFull);
        }
        socket.replies.push_back(reply);
        let is_first = socket.replies.len() == 1;
        self.queued += 1;
        if is_first {
            self.list(index);
        }
        Ok(())
    }

    /// Notes that a request of a socket did not arrive.
    pub(crate) fn fail(&mut self, index: u32, failure: Failure) -> Result<(), Reason> {
        let failures_max = self.config.failures_max;
        let socket = self.sockets.get_mut(index as usize);
        let socket = socket.ok_or(Reason::IcmpUnrelated)?;
        if socket.failures.len() >= failures_max {
            socket.dropped += 1;
            return Err(Reason::EchoQueueFull);
        }
        socket.failures.push_back(failure);
        if socket.failures.len() == 1 {
            self.list(index);
        }
        Ok(())
    }

    /// The oldest reply of a socket.
    pub(super) fn pop(&mut self, id: EchoId) -> Option<Reply<P>> {
        let reply = self.get_mut(id).ok()?.replies.pop_front()?;
        self.queued -= 1;
        Some(reply)
    }

    /// The oldest failure of a socket.
    pub(super) fn pop_failure(&mut self, id: EchoId) -> Result<Option<Failure>, Error> {
        Ok(self.get_mut(id)?.failures.pop_front())
    }

    pub(super) fn queued(&self, id: EchoId) -> Result<usize, Error> {
        Ok(self.get(id)?.replies.len())
    }

    /// Notes that a socket has something to tell.
    fn list(&mut self, index: u32) {
        let Some(socket) = self.sockets.get_mut(index as usize) else {
            return;
        };
        if !socket.is_listed {
            socket.is_listed = true;
            let generation = socket.generation;
            self.ready.push_back(EchoId { index, generation });
        }
    }

    /// The next socket that got a first reply, or a first failure, since it was last named here.
    pub(crate) fn poll_ready(&mut self) -> Option<EchoId> {
        let id = self.ready.pop_front()?;
        if let Ok(socket) = self.get_mut(id) {
            socket.is_listed = false;
        }
        Some(id)
    }

    /// All open sockets.
    pub(crate) fn iter(&self) -> impl Iterator<Item = EchoInfo> {
        let open = (0..)
            .zip(&self.sockets)
            .filter(|(_, socket)| socket.is_open);
        open.map(|(index, socket)| EchoInfo {
            id: EchoId {
                index,
                generation: socket.generation,
            },
            ident: socket.ident,
            local: socket.local,
            queued: socket.replies.len(),
            dropped: socket.dropped,
        })
    }
}

/// All addresses of a version.
pub(crate) const fn unspecified(is_ipv6: bool) -> IpAddr {
    if is_ipv6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }
}
