//! Echo sockets: opening them, and replies on their way up.

use core::net::IpAddr;

use super::Stack;
use super::input::Arrived;
use crate::echo::{Echo, EchoId, EchoInfo, Reply, unspecified};
use crate::error::Error;
use crate::packet::{Packet, Packets};
use crate::stats::Reason;
use crate::wire::icmpv4;

impl<A: Packets> Stack<A> {
    /// An echo socket of IPv4, with an identifier that nobody can foresee.
    ///
    /// # Errors
    ///
    /// There are as many as the configuration allows.
    pub fn echo_v4(&mut self) -> Result<EchoId, Error> {
        self.echo.open(unspecified(false), 0)
    }

    /// An echo socket of IPv6, with an identifier that nobody can foresee.
    ///
    /// # Errors
    ///
    /// There are as many as the configuration allows.
    pub fn echo_v6(&mut self) -> Result<EchoId, Error> {
        self.echo.open(unspecified(true), 0)
    }

    /// An echo socket that sends from `local` and hears what is sent there, or from and at all addresses if that is unspecified;
    /// with this identifier, or one that nobody can foresee if it is 0.
    ///
    /// # Errors
    ///
    /// Another socket of the version has the identifier, the stack does not have the address, or there are too many sockets.
    pub fn echo_bound(&mut self, local: IpAddr, ident: u16) -> Result<EchoId, Error> {
        if !local.is_unspecified() && !self.has_address(local) {
            return Err(Error::NoAddress(local));
        }
        self.echo.open(local, ident)
    }

    /// An echo socket, to use.
    #[inline]
    pub fn echo(&mut self, id: EchoId) -> Echo<'_, A> {
        Echo::new(self, id)
    }

    /// The next echo socket that got a reply, or a failure, when none waited: edge-triggered, as [`poll_ready`](Self::poll_ready)
    /// is for UDP.
    pub fn poll_echo_ready(&mut self) -> Option<EchoId> {
        self.echo.poll_ready()
    }

    /// All open echo sockets, for tools.
    pub fn echo_sockets(&self) -> impl Iterator<Item = EchoInfo> {
        self.echo.iter()
    }

    /// An echo reply came: RFC 1122 section 3.2.2.6, RFC 4443 section 4.2.
    ///
    /// Its identifier says whose it is, as for Linux, not who sends it: who is asked by a group answers from an address of its own.
    pub(super) fn echo_in(
        &mut self,
        arrived: &Arrived,
        mut packet: A::Packet,
        (ident, sequence): (u16, u16),
    ) -> Result<(), Reason> {
        // We ask from an address of ours, never from a group's.
        if arrived.is_to_many {
            return Err(Reason::IcmpUnrelated);
        }
        let socket = self.echo.find(arrived.destination, ident);
        let socket = socket.ok_or(Reason::IcmpUnrelated)?;
        // The headers of both versions are as long.
        if !packet.adj(arrived.upper_at + icmpv4::HEADER_LEN) {
            return Err(Reason::Unreadable);
        }
        let reply = Reply {
            packet,
            from: arrived.source,
            to: arrived.destination,
            sequence,
            hop_limit: arrived.hop_limit,
            traffic_class: arrived.traffic_class,
            interface: arrived.interface,
        };
        self.echo.deliver(socket, reply)
    }
}
