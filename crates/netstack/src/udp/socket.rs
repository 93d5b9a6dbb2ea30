//! What an application does with a UDP socket.

use core::net::{IpAddr, SocketAddr};

use super::queue::Datagram;
use super::table::UdpId;
use super::zone;
use crate::error::Error;
use crate::packet::{Packet, Packets};
use crate::stack::{Header, Hop, Stack, Upper};
use crate::stats::Reason;
use crate::wire::Protocol;

/// Most bytes of a datagram over IPv4: 65,535 without the headers of IP and UDP.
const DATAGRAM_MAX_V4: usize = 65_507;
/// And over IPv6, whose header is not in its length.
const DATAGRAM_MAX_V6: usize = 65_527;

/// Why a packet, or a datagram, was not sent, and the same, unless it is gone.
#[derive(Debug)]
pub struct Unsent<P> {
    /// Why.
    pub error: Error,
    /// What was to be sent, as it was; `None` if it was dropped, and counted.
    pub packet: Option<P>,
}

/// A UDP socket, borrowed from its stack for a few calls. None of them waits.
#[derive(Debug)]
pub struct Udp<'s, A: Packets> {
    stack: &'s mut Stack<A>,
    id: UdpId,
}

impl<'s, A: Packets> Udp<'s, A> {
    pub(crate) fn new(stack: &'s mut Stack<A>, id: UdpId) -> Self {
        Self { stack, id }
    }

    /// Gives the socket an address, or all addresses of the stack if it is unspecified, or a group, and a port, or a free one if
    /// it is 0.
    ///
    /// An address of the link with a [zone](crate::InterfaceId::scope_id) has to be on that interface. The zone is not kept: where
    /// two interfaces have the same address of the link, the socket hears both.
    ///
    /// # Errors
    ///
    /// Another socket has it, the stack does not have the address, or the socket is bound.
    pub fn bind(&mut self, local: SocketAddr) -> Result<(), Error> {
        let address = local.ip();
        let is_one = !address.is_unspecified() && !address.is_multicast();
        let has_it = match zone::named(self.stack, local)? {
            Some(interface) => self.stack.is_ours(interface, address),
            None => self.stack.has_address(address),
        };
        if is_one && !has_it {
            return Err(Error::NoAddress(address));
        }
        self.stack.udp.bind(self.id, local)
    }

    /// Has the socket hear `peer` only, and send to it where nothing else is said. What waits to be read is dropped.
    ///
    /// A [zone](crate::InterfaceId::scope_id) says by which interface an address of the link is reached. It is not looked at when
    /// something comes: two peers that have the same address on two links are taken for one.
    ///
    /// # Errors
    ///
    /// No route, or no address of ours, leads there; or another socket has these two ends.
    pub fn connect(&mut self, peer: SocketAddr) -> Result<(), Error> {
        let by = zone::of(self.stack, peer, self.local()?)?;
        let hop = self
            .stack
            .hop(peer.ip(), by)
            .map_err(|reason| refused(reason, peer.ip()))?;
        let unread = self.queued()?;
        let connected = self.stack.udp.connect(self.id, Some((peer, hop.source)));
        if connected.is_ok() {
            self.stack.drops.add(Reason::UdpClosed, unread.into());
        }
        connected
    }

    /// Has the socket hear everybody again.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn disconnect(&mut self) -> Result<(), Error> {
        self.stack.udp.connect(self.id, None)
    }

    /// What the socket is bound to.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn local(&self) -> Result<Option<SocketAddr>, Error> {
        Ok(self.stack.udp.get(self.id)?.local)
    }

    /// Whom the socket is connected to.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn peer(&self) -> Result<Option<SocketAddr>, Error> {
        Ok(self.stack.udp.get(self.id)?.peer)
    }

    /// How many datagrams wait to be read.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn queued(&self) -> Result<u32, Error> {
        self.stack.udp.queued(self.id)
    }

    /// The oldest datagram that waits; `None` if there is none.
    ///
    /// Where it comes from has a [zone](crate::InterfaceId::scope_id) if that is an address of the link: what is sent there goes back
    /// by the interface that it came by.
    #[inline]
    pub fn recv_from(&mut self) -> Option<Datagram<A::Packet>> {
        self.stack.udp.pop(self.id)
    }

    /// Moves up to `max` datagrams that wait to `out`, and returns how many.
    pub fn recv_burst(&mut self, max: usize, out: &mut impl Extend<Datagram<A::Packet>>) -> usize {
        let mut count = 0;
        let next = || {
            let datagram = (count < max).then(|| self.stack.udp.pop(self.id)).flatten();
            count += usize::from(datagram.is_some());
            datagram
        };
        out.extend(core::iter::from_fn(next));
        count
    }

    /// What ICMP, or the search for the neighbour, said of something that was sent; asked for once.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn take_error(&mut self) -> Result<Option<Error>, Error> {
        Ok(self.stack.udp.get_mut(self.id)?.error.take())
    }

    /// Sends a datagram back to who sent it, from the address that it was sent to, with what its packet holds by now.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to), with the datagram.
    pub fn reply(
        &mut self,
        mut datagram: Datagram<A::Packet>,
    ) -> Result<(), Unsent<Datagram<A::Packet>>> {
        let (from, to) = (datagram.from, datagram.to);
        if let Some(port) = self.quick_port(&mut datagram.packet, Some(&to), &from) {
            self.stack.quick_out(port, datagram.packet);
            return Ok(());
        }
        let sent = self.send_long(datagram.packet, Some(to), from);
        sent.map_err(|unsent| {
            let packet = unsent.packet.map(|packet| Datagram { packet, ..datagram });
            Unsent {
                error: unsent.error,
                packet,
            }
        })
    }

    /// Sends what `packet` holds from an address of ours: as a rule the one that the question was sent to.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    pub fn send_from(
        &mut self,
        packet: A::Packet,
        source: IpAddr,
        to: SocketAddr,
    ) -> Result<(), Unsent<A::Packet>> {
        self.send_packet(packet, Some(source), to)
    }

    /// Sends what `packet` holds as one datagram.
    ///
    /// It is cut into fragments if its path does not take it whole. To an address of the link, or an IPv6 group, it goes by the
    /// interface of its [zone](crate::InterfaceId::scope_id); if it says none, by that of the address of the link that the socket is
    /// bound to, or by the first one.
    ///
    /// # Errors
    ///
    /// Nothing leads to `to`, there is no room now, or it is too long.
    pub fn send_to(&mut self, packet: A::Packet, to: SocketAddr) -> Result<(), Unsent<A::Packet>> {
        self.send_packet(packet, None, to)
    }

    /// Sends what `packet` holds to whom the socket is connected to.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to); the socket is not connected.
    pub fn send(&mut self, packet: A::Packet) -> Result<(), Unsent<A::Packet>> {
        match self.peer() {
            Ok(Some(to)) => self.send_packet(packet, None, to),
            Ok(None) => Err(Unsent {
                error: Error::NotConnected,
                packet: Some(packet),
            }),
            Err(error) => Err(Unsent {
                error,
                packet: Some(packet),
            }),
        }
    }

    fn send_packet(
        &mut self,
        mut packet: A::Packet,
        source: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<(), Unsent<A::Packet>> {
        match self.quick_port(&mut packet, source.as_ref(), &to) {
            Some(port) => {
                self.stack.quick_out(port, packet);
                Ok(())
            }
            None => self.send_long(packet, source, to),
        }
    }

    /// Has a usual datagram get its headers, and says by which port it goes.
    #[inline(always)]
    fn quick_port(
        &mut self,
        packet: &mut A::Packet,
        source: Option<&IpAddr>,
        to: &SocketAddr,
    ) -> Option<u16> {
        if zone::matters(self.stack, to) {
            return None;
        }
        self.stack.quick_headers(self.id, packet, source, to)
    }

    /// Sends what is not the usual datagram.
    #[cold]
    fn send_long(
        &mut self,
        packet: A::Packet,
        source: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<(), Unsent<A::Packet>> {
        let way = match self.way(source, to, packet.len()) {
            Ok(way) => way,
            Err(error) => {
                return Err(Unsent {
                    error,
                    packet: Some(packet),
                });
            }
        };
        self.stack
            .send(&way.hop, &way.header, way.upper, packet)
            .map_err(|reason| {
                self.stack.drops.count(reason);
                Unsent {
                    error: refused(reason, to.ip()),
                    packet: None,
                }
            })
    }

    /// Sends a copy of `bytes` as one datagram.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    pub fn send_bytes(&mut self, bytes: &[u8], to: SocketAddr) -> Result<(), Error> {
        let way = self.way(None, to, bytes.len())?;
        self.send_copy(bytes, &way, to)
    }

    /// Sends a copy of `bytes` as datagrams of `size` bytes each to one peer, the last one perhaps shorter, and returns how many
    /// bytes it sent: fewer than all if there is no room for more. What Linux calls `UDP_SEGMENT`.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to), if nothing was sent; a size of 0 is too small to send anything.
    pub fn send_segments(
        &mut self,
        bytes: &[u8],
        size: usize,
        to: SocketAddr,
    ) -> Result<usize, Error> {
        let way = self.way(None, to, size.min(bytes.len()))?;
        let mut sent = 0;
        for segment in bytes.chunks(size.max(1)) {
            let room = self.stack.has_room(&way.hop);
            match if room {
                self.send_copy(segment, &way, to)
            } else {
                Err(Error::WouldBlock)
            } {
                Ok(()) => sent += segment.len(),
                Err(error) if sent == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(sent)
    }

    fn send_copy(&mut self, bytes: &[u8], way: &Way, to: SocketAddr) -> Result<(), Error> {
        let packet = self.stack.copy(bytes).ok_or(Error::WouldBlock)?;
        self.stack
            .send(&way.hop, &way.header, way.upper, packet)
            .map_err(|reason| {
                self.stack.drops.count(reason);
                refused(reason, to.ip())
            })
    }

    /// Looks up everything that does not hang on the data.
    #[inline]
    fn way(&mut self, source: Option<IpAddr>, to: SocketAddr, len: usize) -> Result<Way, Error> {
        let socket = self.stack.udp.get(self.id)?;
        if socket.is_ipv6 != to.is_ipv6() {
            return Err(Error::OtherVersion(to.ip()));
        }
        let max = if socket.is_ipv6 {
            DATAGRAM_MAX_V6
        } else {
            DATAGRAM_MAX_V4
        };
        if len > max {
            return Err(Error::TooLong { len, max });
        }
        let Some(local) = socket.local else {
            let any = SocketAddr::new(socket.unspecified(), 0);
            self.stack.udp.bind(self.id, any)?;
            return self.way(source, to, len);
        };
        let (hop_limit, traffic_class) = (socket.hop_limit, socket.traffic_class);
        let (checksum, never_cut) = (!socket.no_checksum || socket.is_ipv6, socket.never_cut);
        let by = zone::of(self.stack, to, Some(local))?;
        let hop = self
            .stack
            .hop(to.ip(), by)
            .map_err(|reason| refused(reason, to.ip()))?;
        if !self.stack.has_room(&hop) {
            return Err(Error::WouldBlock);
        }
        let usual = if local.ip().is_unspecified() || local.ip().is_multicast() {
            hop.source
        } else {
            local.ip()
        };
        let source = match source {
            Some(source) if source != usual => {
                // An answer to what was sent to a group or to everybody comes from one of us.
                if self.stack.has_address(source) {
                    source
                } else {
                    usual
                }
            }
            _ => usual,
        };
        if never_cut
            && len + 8 > usize::from(hop.mtu).saturating_sub(if to.is_ipv6() { 40 } else { 20 })
        {
            return Err(Error::PacketTooBig {
                to: to.ip(),
                mtu: hop.mtu,
            });
        }
        Ok(Way {
            hop,
            header: Header {
                source,
                destination: to.ip(),
                protocol: Protocol::UDP,
                // RFC 1112 section 6.1: what goes to a group stays on the link, unless somebody says otherwise.
                hop_limit: match hop_limit {
                    Some(limit) => limit,
                    None if to.ip().is_multicast() => 1,
                    None => hop.hop_limit,
                },
                traffic_class,
                never_cut,
            },
            upper: Upper::Udp {
                source: local.port(),
                destination: to.port(),
                checksum,
            },
        })
    }

    /// Says that what the socket sends to a peer gets there: its answers prove it. A neighbour on the way there need not be asked
    /// then: RFC 4861 section 7.3.1, and what Linux calls `MSG_CONFIRM`.
    ///
    /// # Errors
    ///
    /// The socket was closed, or no interface is in the zone.
    pub fn confirm(&mut self, to: SocketAddr) -> Result<(), Error> {
        let by = zone::of(self.stack, to, self.local()?)?;
        self.stack.confirm(to.ip(), by);
        Ok(())
    }

    /// TTL or hop limit of what the socket sends; `None` for the stack's.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn set_hop_limit(&mut self, limit: Option<u8>) -> Result<(), Error> {
        self.stack
            .udp
            .change(self.id, |socket| socket.hop_limit = limit)
    }

    /// TOS or traffic class of what the socket sends.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn set_traffic_class(&mut self, class: u8) -> Result<(), Error> {
        self.stack
            .udp
            .change(self.id, |socket| socket.traffic_class = class)
    }

    /// Whether what the socket sends over IPv4 goes without a checksum. Over IPv6 it never does.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn set_no_checksum(&mut self, none: bool) -> Result<(), Error> {
        self.stack
            .udp
            .change(self.id, |socket| socket.no_checksum = none)
    }

    /// Whether what does not fit its path is refused instead of cut: what Linux calls `IP_PMTUDISC_DO`.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn set_never_cut(&mut self, never: bool) -> Result<(), Error> {
        self.stack
            .udp
            .change(self.id, |socket| socket.never_cut = never)
    }

    /// Most datagrams that wait to be read.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn set_queue_max(&mut self, max: u32) -> Result<(), Error> {
        self.stack.udp.set_queue_max(self.id, max)
    }

    /// Closes the socket; what nobody has read is dropped and counted.
    ///
    /// # Errors
    ///
    /// The socket was closed before.
    pub fn close(self) -> Result<(), Error> {
        let unread = self.stack.udp.close(self.id)?;
        self.stack.drops.add(Reason::UdpClosed, unread.into());
        Ok(())
    }
}

/// Where a datagram goes and what its headers say.
struct Way {
    hop: Hop,
    header: Header,
    upper: Upper,
}

/// What an application is told about a packet that went nowhere.
pub(crate) fn refused(reason: Reason, to: IpAddr) -> Error {
    match reason {
        Reason::NoRoute => Error::NoRoute(to),
        Reason::NoSource => Error::NoSource(to),
        Reason::TooLarge => Error::TooLong {
            len: usize::from(u16::MAX) + 1,
            max: usize::from(u16::MAX),
        },
        Reason::NeighbourFailed => Error::Unreachable(to),
        _ => Error::WouldBlock,
    }
}
