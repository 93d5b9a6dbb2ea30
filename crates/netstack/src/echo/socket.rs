//! What an application does with an echo socket.

use core::net::IpAddr;

use super::failure::Failure;
use super::reply::Reply;
use super::table::EchoId;
use crate::error::Error;
use crate::packet::{Packet, Packets};
use crate::stack::{Header, Hop, Stack};
use crate::stats::Reason;
use crate::udp::{Unsent, refused};
use crate::wire::{Protocol, icmpv4, icmpv6, ipv4, ipv6};

/// Most bytes of data over IPv4: 65,535 without the headers of IP and ICMP.
const DATA_MAX_V4: usize = 65_507;
/// And over IPv6, whose header is not in its length.
const DATA_MAX_V6: usize = 65_527;

/// An echo socket, borrowed from its stack for a few calls. None of them waits.
#[derive(Debug)]
pub struct Echo<'s, A: Packets> {
    stack: &'s mut Stack<A>,
    id: EchoId,
}

impl<'s, A: Packets> Echo<'s, A> {
    pub(crate) fn new(stack: &'s mut Stack<A>, id: EchoId) -> Self {
        Self { stack, id }
    }

    /// The identifier of the socket's requests.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn ident(&self) -> Result<u16, Error> {
        Ok(self.stack.echo.get(self.id)?.ident)
    }

    /// How many replies wait to be read.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn queued(&self) -> Result<usize, Error> {
        self.stack.echo.queued(self.id)
    }

    /// The oldest reply that waits; `None` if there is none.
    #[inline]
    pub fn recv(&mut self) -> Option<Reply<A::Packet>> {
        self.stack.echo.pop(self.id)
    }

    /// The oldest failure that waits: what ICMP, or the search for the neighbour, said of a request.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn take_error(&mut self) -> Result<Option<Failure>, Error> {
        self.stack.echo.pop_failure(self.id)
    }

    /// Sends what `packet` holds as the data of a request with this number: RFC 792, RFC 4443 section 4.1.
    ///
    /// It is cut into fragments if its path does not take it whole.
    ///
    /// # Errors
    ///
    /// Nothing leads to `to`, there is no room now, or it is too long.
    pub fn send_to(
        &mut self,
        packet: A::Packet,
        to: IpAddr,
        sequence: u16,
    ) -> Result<(), Unsent<A::Packet>> {
        let way = match self.way(to, packet.len()) {
            Ok(way) => way,
            Err(error) => {
                return Err(Unsent {
                    error,
                    packet: Some(packet),
                });
            }
        };
        self.send_on(&way, packet, sequence)
            .map_err(|error| Unsent {
                error,
                packet: None,
            })
    }

    /// Sends a copy of `bytes` as the data of a request.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    pub fn send_bytes(&mut self, bytes: &[u8], to: IpAddr, sequence: u16) -> Result<(), Error> {
        let way = self.way(to, bytes.len())?;
        let packet = self.stack.copy(bytes).ok_or(Error::WouldBlock)?;
        self.send_on(&way, packet, sequence)
    }

    /// Looks up everything that does not hang on the data.
    fn way(&mut self, to: IpAddr, len: usize) -> Result<Way, Error> {
        let socket = self.stack.echo.get(self.id)?;
        let is_ipv6 = socket.local.is_ipv6();
        if is_ipv6 != to.is_ipv6() {
            return Err(Error::OtherVersion(to));
        }
        let (protocol, ip_len, max) = if is_ipv6 {
            (Protocol::ICMPV6, ipv6::HEADER_LEN, DATA_MAX_V6)
        } else {
            (Protocol::ICMPV4, ipv4::HEADER_LEN, DATA_MAX_V4)
        };
        if len > max {
            return Err(Error::TooLong { len, max });
        }
        let (ident, local, hop_limit) = (socket.ident, socket.local, socket.hop_limit);
        let (traffic_class, never_cut) = (socket.traffic_class, socket.never_cut);
        // RFC 4007 section 9: from an address of a link to others of that link, as for UDP.
        let is_near = matches!(
            (local, to),
            (IpAddr::V6(from), IpAddr::V6(to))
                if from.is_unicast_link_local() && (to.is_unicast_link_local() || to.is_multicast())
        );
        let by = is_near.then(|| self.stack.owner_of(&local)).flatten();
        let hop = self
            .stack
            .hop(to, by)
            .map_err(|reason| refused(reason, to))?;
        if !self.stack.has_room(&hop) {
            return Err(Error::WouldBlock);
        }
        if never_cut && ip_len + icmpv4::HEADER_LEN + len > usize::from(hop.mtu) {
            return Err(Error::PacketTooBig { to, mtu: hop.mtu });
        }
        Ok(Way {
            ident,
            header: Header {
                source: if local.is_unspecified() {
                    hop.source
                } else {
                    local
                },
                destination: to,
                protocol,
                // RFC 1112 section 6.1: what goes to a group stays on the link, unless somebody says otherwise.
                hop_limit: match hop_limit {
                    Some(limit) => limit,
                    None if to.is_multicast() => 1,
                    None => hop.hop_limit,
                },
                traffic_class,
                never_cut,
            },
            hop,
        })
    }

    fn send_on(&mut self, way: &Way, mut packet: A::Packet, sequence: u16) -> Result<(), Error> {
        let message = match way.header.protocol {
            Protocol::ICMPV4 => icmpv4::echo_request(way.ident, sequence),
            _ => icmpv6::echo_request(way.ident, sequence),
        };
        let sent = match packet.prepend(message.len()) {
            Some(room) => {
                room.copy_from_slice(&message);
                self.stack.send_icmp(&way.hop, &way.header, packet)
            }
            None => Err(Reason::Unreadable),
        };
        sent.map_err(|reason| {
            self.stack.drops.count(reason);
            refused(reason, way.header.destination)
        })
    }

    /// TTL or hop limit of what the socket sends; `None` for the stack's.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn set_hop_limit(&mut self, limit: Option<u8>) -> Result<(), Error> {
        self.stack.echo.get_mut(self.id)?.hop_limit = limit;
        Ok(())
    }

    /// TOS or traffic class of what the socket sends.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn set_traffic_class(&mut self, class: u8) -> Result<(), Error> {
        self.stack.echo.get_mut(self.id)?.traffic_class = class;
        Ok(())
    }

    /// Whether what does not fit its path is refused instead of cut: what Linux calls `IP_PMTUDISC_DO`.
    ///
    /// # Errors
    ///
    /// The socket was closed.
    pub fn set_never_cut(&mut self, never: bool) -> Result<(), Error> {
        self.stack.echo.get_mut(self.id)?.never_cut = never;
        Ok(())
    }

    /// Closes the socket; what nobody has read is dropped and counted.
    ///
    /// # Errors
    ///
    /// The socket was closed before.
    pub fn close(self) -> Result<(), Error> {
        let unread = self.stack.echo.close(self.id)?;
        self.stack.drops.add(Reason::EchoClosed, unread as u64);
        Ok(())
    }
}

/// Where a request goes and what its headers say.
struct Way {
    ident: u16,
    hop: Hop,
    header: Header,
}
