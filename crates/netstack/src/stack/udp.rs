//! UDP on its way up.

use core::net::SocketAddr;
use core::num::NonZeroU16;

use super::Stack;
use super::error::Complaint;
use super::input::Arrived;
use super::output::pseudo;
use crate::error::Error;
use crate::packet::{Packet, Packets};
use crate::stats::Reason;
use crate::udp::{Datagram, Delivered, SocketInfo, Udp, UdpId};
use crate::wire::{self, Protocol};

/// Sockets that get what is sent to a group or to everybody: most copies that one datagram makes.
const COPIES_MAX: usize = 64;

impl<A: Packets> Stack<A> {
    /// A UDP socket, bound to nothing, of IPv4.
    ///
    /// # Errors
    ///
    /// There are as many as the configuration allows.
    pub fn udp_v4(&mut self) -> Result<UdpId, Error> {
        self.udp.open(false)
    }

    /// A UDP socket, bound to nothing, of IPv6.
    ///
    /// # Errors
    ///
    /// There are as many as the configuration allows.
    pub fn udp_v6(&mut self) -> Result<UdpId, Error> {
        self.udp.open(true)
    }

    /// A UDP socket bound to an address and a port: [`Udp::bind`].
    ///
    /// # Errors
    ///
    /// As [`Udp::bind`] says.
    pub fn udp_bound(&mut self, local: SocketAddr) -> Result<UdpId, Error> {
        let id = self.udp.open(local.is_ipv6())?;
        match self.udp(id).bind(local) {
            Ok(()) => Ok(id),
            Err(error) => {
                self.udp(id).close()?;
                Err(error)
            }
        }
    }

    /// A socket, to use.
    #[inline]
    pub fn udp(&mut self, id: UdpId) -> Udp<'_, A> {
        Udp::new(self, id)
    }

    /// The next socket with something to read, or an error, that was not named since it last had nothing: edge-triggered, as
    /// `EPOLLET` is.
    pub fn poll_ready(&mut self) -> Option<UdpId> {
        self.udp.poll_ready()
    }

    /// All open sockets, for tools.
    pub fn udp_sockets(&self) -> impl Iterator<Item = SocketInfo> {
        self.udp.iter()
    }

    /// A datagram came.
    #[inline]
    pub(super) fn udp_in(&mut self, arrived: Arrived, mut packet: A::Packet) -> Result<(), Reason> {
        let at = arrived.upper_at;
        let rest = packet.data().get(at..).ok_or(Reason::UdpMalformed)?;
        let udp = wire::udp::Udp::parse(rest).map_err(|_| Reason::UdpMalformed)?;
        let end = at + usize::from(udp.length());
        if end > packet.len() {
            return Err(Reason::UdpMalformed);
        }
        let is_right = match arrived.l4_checksum {
            Some(is_right) => is_right,
            // RFC 768: none was made. RFC 8200 section 8.1: over IPv6 one has to be.
            None if udp.checksum() == 0 => arrived.source.is_ipv4(),
            None => {
                let mut sum = pseudo(
                    arrived.source,
                    arrived.destination,
                    Protocol::UDP,
                    udp.length(),
                );
                if rest.len() >= usize::from(udp.length()) {
                    sum.add(rest.get(..udp.length().into()).unwrap_or_default());
                } else {
                    let (mut skip, mut left) = (at, usize::from(udp.length()));
                    for bytes in packet.segments() {
                        let here = bytes.get(skip..).unwrap_or_default();
                        skip -= skip.min(bytes.len());
                        let here = here.get(..left.min(here.len())).unwrap_or_default();
                        left -= here.len();
                        sum.add(here);
                    }
                }
                sum.is_right()
            }
        };
        if !is_right {
            return Err(Reason::UdpChecksum);
        }
        let to = SocketAddr::new(arrived.destination, udp.destination());
        let from = SocketAddr::new(arrived.source, udp.source());
        if arrived.is_to_many {
            return self.udp_to_many(
                &arrived,
                (from, to),
                (at + wire::udp::Udp::LEN, end),
                &packet,
            );
        }
        let Some(socket) = self.udp.find(to, from) else {
            self.complain(&arrived, &packet, Complaint::Port);
            return Err(Reason::UdpNoSocket);
        };
        let fits = end == packet.len() || packet.truncate(end);
        if !fits || !packet.adj(at + wire::udp::Udp::LEN) {
            return Err(Reason::Unreadable);
        }
        match arrived.datagram_len {
            Some(each) if packet.len() > usize::from(each.get()) => {
                self.hand_over_many(socket, (from, to), &arrived, &packet, each)
            }
            _ => self.hand_over(socket, (from, to), &arrived, packet),
        }
    }

    /// Takes datagrams apart that came in one piece: each would have been a packet on a wire.
    #[cold]
    fn hand_over_many(
        &mut self,
        socket: u32,
        ends: (SocketAddr, SocketAddr),
        arrived: &Arrived,
        packet: &A::Packet,
        each: NonZeroU16,
    ) -> Result<(), Reason> {
        let (len, each) = (packet.len(), usize::from(each.get()));
        let mut outcome = Ok(());
        for start in (0..len).step_by(each) {
            // Each that is lost counts, the last one by whoever called.
            if let Err(reason) = outcome {
                self.drops.count(reason);
            }
            outcome = match self.copy_range(packet, start, len.min(start + each)) {
                Some(datagram) => self.hand_over(socket, ends, arrived, datagram),
                None => Err(Reason::NoBuffer),
            };
        }
        outcome
    }

    #[inline]
    fn hand_over(
        &mut self,
        socket: u32,
        (from, to): (SocketAddr, SocketAddr),
        arrived: &Arrived,
        packet: A::Packet,
    ) -> Result<(), Reason> {
        let datagram = Datagram {
            packet,
            from,
            to: to.ip(),
            interface: arrived.interface,
            traffic_class: arrived.traffic_class,
        };
        match self.udp.deliver_to(socket, datagram) {
            Delivered::Queued => Ok(()),
            Delivered::Full => Err(Reason::UdpQueueFull),
            Delivered::NoSocket => Err(Reason::UdpNoSocket),
        }
    }

    /// A copy for each socket that wants it: RFC 1122 section 4.1.3.5 leaves it open, and this is what BSD began.
    fn udp_to_many(
        &mut self,
        arrived: &Arrived,
        ends: (SocketAddr, SocketAddr),
        (start, end): (usize, usize),
        packet: &A::Packet,
    ) -> Result<(), Reason> {
        let (mut sockets, mut count) = ([0; COPIES_MAX], 0);
        self.udp.wanting(ends.1, ends.0, |socket| {
            if let Some(place) = sockets.get_mut(count) {
                *place = socket;
                count += 1;
            }
        });
        let sockets = sockets.get(..count).unwrap_or_default();
        let whole = end.saturating_sub(start).max(1);
        // As in `hand_over_many`: datagrams that came in one piece are as many.
        let each = match arrived.datagram_len {
            Some(each) => usize::from(each.get()).min(whole),
            None => whole,
        };
        let mut outcome = self.copy_to_all(
            sockets,
            ends,
            arrived,
            (start, end.min(start + each)),
            packet,
        );
        for start in (start..end).step_by(each).skip(1) {
            if let Err(reason) = outcome {
                self.drops.count(reason);
            }
            let part = (start, end.min(start + each));
            outcome = self.copy_to_all(sockets, ends, arrived, part, packet);
        }
        outcome
    }

    /// Hands a copy of part of a packet to each of these sockets; the error is that of the last one.
    fn copy_to_all(
        &mut self,
        sockets: &[u32],
        ends: (SocketAddr, SocketAddr),
        arrived: &Arrived,
        (start, end): (usize, usize),
        packet: &A::Packet,
    ) -> Result<(), Reason> {
        let mut outcome = Err(Reason::UdpNoSocket);
        for socket in sockets {
            outcome = match self.copy_range(packet, start, end) {
                Some(copy) => self.hand_over(*socket, ends, arrived, copy),
                None => Err(Reason::NoBuffer),
            };
        }
        outcome
    }
}
