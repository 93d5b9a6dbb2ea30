//! The stack: packets in, packets out, time in.

mod arp;
mod control;
mod echo;
mod error;
mod group;
mod hop;
mod icmp;
mod input;
mod ndp;
mod outbox;
mod output;
mod quick;
mod router;
mod template;
#[cfg(test)]
mod tests;
mod timers;
mod udp;

use std::collections::VecDeque;

use hop::Destinations;
pub(crate) use hop::Hop;
use outbox::Outbox;
pub(crate) use output::{Header, Upper};

use crate::config::Config;
use crate::echo::EchoTable;
use crate::interface::{InterfaceConfig, InterfaceId};
use crate::ip::address::{Addresses, Event};
use crate::ip::autoconf::Autoconf;
use crate::ip::group::Groups;
use crate::ip::path::Paths;
use crate::ip::rate::Rate;
use crate::ip::reassembly::Reassembly;
use crate::ip::route::Routes;
use crate::link::neighbour::Neighbours;
use crate::packet::Packets;
use crate::stats::{Drops, Traffic};
use crate::time::Instant;
use crate::udp::UdpTable;
use crate::wire::ethernet::Mac;

/// One host's TCP/IP, without I/O: its four doors are [`receive`](Self::receive), [`poll_transmit`](Self::poll_transmit),
/// [`next_timeout`](Self::next_timeout) and [`handle_timeout`](Self::handle_timeout).
///
/// It does nothing but in these calls and those of its sockets. The time is what the last of them said; sockets send at that time.
pub struct Stack<A: Packets> {
    pub(crate) packets: A,
    pub(crate) config: Config,
    pub(crate) now: Instant,
    interfaces: Vec<Interface>,
    /// What waits to be transmitted, by port.
    ports: Vec<Outbox<A::Packet>>,
    /// The interface that a port is without tags, and its address as a number.
    untagged: Vec<Option<(InterfaceId, u64)>>,
    /// From one of our addresses to another: each begins with its IP header.
    local: VecDeque<(InterfaceId, A::Packet)>,
    neighbours: Neighbours<A::Packet>,
    routes: Routes,
    paths: Paths,
    addresses: Addresses,
    autoconf: Autoconf,
    groups: Groups,
    reassembly: Reassembly<A::Packet>,
    pub(crate) udp: UdpTable<A::Packet>,
    pub(crate) echo: EchoTable<A::Packet>,
    destinations: Destinations,
    errors_rate: Rate,
    echoes_rate: Rate,
    /// What the user has not asked for yet.
    events: VecDeque<Event>,
    pub(crate) drops: Drops,
    traffic: Traffic,
    /// Who sent the frame that is being looked at.
    heard_from: Mac,
    /// A packet that came is being looked at: what is sent meanwhile is an answer, and no wish of ours.
    is_answering: bool,
    /// Moves with every change that the tables do not know of.
    changes: u32,
    ids: u64,
}

/// What an interface is, and what routers said about its link.
#[derive(Debug)]
struct Interface {
    config: InterfaceConfig,
    /// Largest IPv6 packet: RFC 4861 section 6.3.4.
    mtu_v6: u16,
    /// The hop limit that routers want, if any said so.
    hop_limit: Option<u8>,
}
