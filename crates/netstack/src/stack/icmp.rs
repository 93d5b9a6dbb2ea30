//! ICMP for both versions: RFC 792, RFC 1122 section 3.2.2, RFC 4443.

use core::net::{IpAddr, SocketAddr};

use super::input::Arrived;
use super::output::pseudo;
use super::{Header, Stack, Upper};
use crate::echo::{Failure, Why};
use crate::error::Error;
use crate::interface::InterfaceId;
use crate::ip::path::plateau_below;
use crate::packet::{Packet, Packets};
use crate::stats::Reason;
use crate::wire::checksum::{self, Sum};
use crate::wire::{Protocol, icmpv4, icmpv6};

/// Bytes of an ICMP error that are looked at: its header, an IP header with options, ports.
const LOOK_LEN: usize = 128;

/// What an ICMP error says to the socket whose packet it quotes.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    why: Why,
    /// The host is there, but nobody there wants it.
    is_refused: bool,
}

impl Trouble {
    const fn new(why: Why) -> Self {
        Self {
            why,
            is_refused: false,
        }
    }

    const fn refused(why: Why) -> Self {
        Self {
            why,
            is_refused: true,
        }
    }
}

/// A packet of ours, of either version, as far as an error quotes it, or as it still lies here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quoted {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    /// As its header says.
    len: u16,
    upper: Option<[u8; 8]>,
}

impl From<icmpv4::Quoted> for Quoted {
    fn from(quoted: icmpv4::Quoted) -> Self {
        Self {
            source: quoted.source.into(),
            destination: quoted.destination.into(),
            protocol: quoted.protocol,
            len: quoted.total_len,
            upper: quoted.upper,
        }
    }
}

impl From<icmpv6::Quoted> for Quoted {
    fn from(quoted: icmpv6::Quoted) -> Self {
        Self {
            source: quoted.source.into(),
            destination: quoted.destination.into(),
            protocol: quoted.protocol,
            len: u16::MAX,
            upper: quoted.upper,
        }
    }
}

/// The socket that sent a packet.
#[derive(Debug, Clone, Copy)]
enum Sender {
    Udp {
        from: SocketAddr,
        to: SocketAddr,
    },
    Echo {
        socket: u32,
        sequence: u16,
    },
    /// Not to be told from what is quoted, or the stack itself.
    Unknown,
}

impl<A: Packets> Stack<A> {
    pub(super) fn icmpv4(&mut self, arrived: Arrived, packet: A::Packet) -> Result<(), Reason> {
        use icmpv4::{Message, Unreachable};

        let at = arrived.upper_at;
        let bytes = packet.data().get(at..).unwrap_or_default();
        let icmp = icmpv4::Icmpv4::parse(bytes).map_err(|_| Reason::IcmpMalformed)?;
        if !sum_from(&packet, at, Sum::new()).is_right() {
            return Err(Reason::IcmpChecksum);
        }
        let trouble = match icmp.message().ok_or(Reason::IcmpType)? {
            Message::EchoRequest { .. } => {
                if arrived.is_to_many && !self.config.icmp.echo_to_broadcast {
                    return Err(Reason::IcmpBroadcast);
                }
                return self.answer(arrived, packet);
            }
            Message::EchoReply { id, sequence } => {
                return self.echo_in(&arrived, packet, (id, sequence));
            }
            Message::Redirect { .. } => return Err(Reason::IcmpRedirect),
            Message::Unreachable { code, mtu } => match code {
                // RFC 1122 section 3.2.2.1: hard errors.
                Unreachable::PROTOCOL | Unreachable::PORT => {
                    Trouble::refused(Why::Unreachable { code: code.0 })
                }
                Unreachable::FRAGMENTATION_NEEDED => Trouble::new(Why::TooBig { mtu }),
                _ => Trouble::new(Why::Unreachable { code: code.0 }),
            },
            Message::TimeExceeded { code } => Trouble::new(Why::TimeExceeded { code }),
            Message::ParameterProblem { code, pointer } => Trouble::new(Why::Parameter {
                code,
                pointer: pointer.into(),
            }),
        };
        let mut bytes = [0; LOOK_LEN];
        let len = packet.copy_out(at + icmpv4::HEADER_LEN, &mut bytes);
        let quoted = icmpv4::Quoted::parse(bytes.get(..len).unwrap_or_default());
        let quoted = quoted.map_err(|_| Reason::IcmpMalformed)?;
        self.trouble(&arrived, trouble, &quoted.into())
    }

    pub(super) fn icmpv6(&mut self, arrived: Arrived, packet: A::Packet) -> Result<(), Reason> {
        use icmpv6::{Message, Unreachable};

        let at = arrived.upper_at;
        let bytes = packet.data().get(at..).unwrap_or_default();
        let icmp = icmpv6::Icmpv6::parse(bytes).map_err(|_| Reason::IcmpMalformed)?;
        let len = packet.len().saturating_sub(at);
        let len = u16::try_from(len).map_err(|_| Reason::IcmpMalformed)?;
        let pseudo = pseudo(arrived.source, arrived.destination, Protocol::ICMPV6, len);
        if !sum_from(&packet, at, pseudo).is_right() {
            return Err(Reason::IcmpChecksum);
        }
        if icmp.kind().is_ndp() {
            return self.ndp(&arrived, icmp.kind(), &packet);
        }
        // RFC 4291 section 2.5.2; listeners may report from it, which is for routers.
        if arrived.source.is_unspecified() {
            return Err(Reason::IpSource);
        }
        if icmp.kind().is_mld() {
            return self.mld(&arrived, icmp.kind(), &packet);
        }
        let trouble = match icmp.message().ok_or(Reason::IcmpType)? {
            Message::EchoRequest { .. } => return self.answer(arrived, packet),
            Message::EchoReply { id, sequence } => {
                return self.echo_in(&arrived, packet, (id, sequence));
            }
            Message::Unreachable { code } => Trouble {
                why: Why::Unreachable { code: code.0 },
                is_refused: code == Unreachable::PORT,
            },
            Message::ParameterProblem { code, pointer } => Trouble {
                why: Why::Parameter { code, pointer },
                is_refused: code == 1,
            },
            Message::PacketTooBig { mtu } => Trouble::new(Why::TooBig {
                mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            }),
            Message::TimeExceeded { code } => Trouble::new(Why::TimeExceeded { code }),
        };
        let mut bytes = [0; LOOK_LEN];
        let len = packet.copy_out(at + icmpv6::HEADER_LEN, &mut bytes);
        let quoted = icmpv6::Quoted::parse(bytes.get(..len).unwrap_or_default());
        let quoted = quoted.map_err(|_| Reason::IcmpMalformed)?;
        self.trouble(&arrived, trouble, &quoted.into())
    }

    /// Sends an echo request back as a reply: the same data, in the same buffer.
    fn answer(&mut self, arrived: Arrived, mut packet: A::Packet) -> Result<(), Reason> {
        if !self.echoes_rate.allow(self.now) {
            return Err(Reason::IcmpRate);
        }
        let to = arrived.source;
        let hop = self.hop(to, self.scope(arrived.interface, to))?;
        if !packet.adj(arrived.upper_at) {
            return Err(Reason::Unreadable);
        }
        let source = if arrived.is_to_many {
            hop.source
        } else {
            arrived.destination
        };
        let protocol = arrived.protocol;
        let data = packet.data_mut().ok_or(Reason::Unreadable)?;
        let icmp = data.first_chunk_mut().ok_or(Reason::Unreadable)?;
        if protocol == Protocol::ICMPV4 {
            icmpv4::echo_reply_in_place(icmp);
        } else {
            icmpv6::echo_reply_in_place(icmp);
            if let (true, IpAddr::V6(before), IpAddr::V6(after)) =
                (arrived.is_to_many, arrived.destination, source)
            {
                // The pseudo header has another address now.
                let mut sum = u16::from_be_bytes([icmp[2], icmp[3]]);
                for (before, after) in before.segments().into_iter().zip(after.segments()) {
                    sum = checksum::update(sum, before, after);
                }
                [icmp[2], icmp[3]] = sum.to_be_bytes();
            }
        }
        let header = Header {
            source,
            destination: to,
            protocol,
            hop_limit: hop.hop_limit,
            // RFC 1812 section 4.3.2.5 and RFC 4443 leave it to us: what asks with priority is answered with it.
            traffic_class: arrived.traffic_class,
            never_cut: false,
        };
        self.traffic.echoes += 1;
        self.send(&hop, &header, Upper::Whole, packet)
    }

    /// Somebody says that a packet of ours did not arrive.
    fn trouble(
        &mut self,
        arrived: &Arrived,
        trouble: Trouble,
        quoted: &Quoted,
    ) -> Result<(), Reason> {
        // RFC 5927 section 4.1: who quotes what we did not send made it up. More cannot be asked of what is not TCP.
        if !self.has_address(quoted.source)
            || quoted.destination.is_multicast()
            || arrived.is_to_many
        {
            return Err(Reason::IcmpUnrelated);
        }
        let sender = self.sender(quoted).ok_or(Reason::IcmpUnrelated)?;
        let to = quoted.destination;
        let mut why = trouble.why;
        let mut known = None;
        if let Why::TooBig { mtu } = &mut why {
            if *mtu == 0 {
                // RFC 1191 section 5: routers of before do not say.
                *mtu = plateau_below(quoted.len);
            }
            known = self.paths.update(self.now, to, *mtu);
        }
        match sender {
            Sender::Udp { from, to: peer } => {
                let error = match why {
                    Why::TooBig { .. } => known.map(|mtu| Error::PacketTooBig { to, mtu }),
                    _ if trouble.is_refused => Some(Error::Refused(peer)),
                    _ => Some(Error::Unreachable(to)),
                };
                if let Some(error) = error {
                    self.udp.fail(from, peer, error);
                }
            }
            Sender::Echo { socket, sequence } => {
                let by = arrived.source;
                let failure = Failure {
                    to,
                    sequence,
                    by,
                    why,
                };
                self.echo.fail(socket, failure)?;
            }
            Sender::Unknown => {}
        }
        self.traffic.errors_received += 1;
        Ok(())
    }

    /// Whose packet it is; `None` if nobody here can have sent it.
    fn sender(&self, quoted: &Quoted) -> Option<Sender> {
        /// The types of echo requests.
        const REQUEST_V4: u8 = icmpv4::echo_request(0, 0)[0];
        const REQUEST_V6: u8 = icmpv6::echo_request(0, 0)[0];

        match (quoted.protocol, quoted.upper) {
            (Protocol::UDP, Some([a, b, c, d, ..])) => {
                let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                let from = SocketAddr::new(quoted.source, from);
                let to = SocketAddr::new(quoted.destination, to);
                self.udp.find(from, to)?;
                Some(Sender::Udp { from, to })
            }
            (Protocol::ICMPV4, Some([REQUEST_V4, _, _, _, a, b, c, d]))
            | (Protocol::ICMPV6, Some([REQUEST_V6, _, _, _, a, b, c, d])) => {
                let socket = self.echo.find(quoted.source, u16::from_be_bytes([a, b]))?;
                let sequence = u16::from_be_bytes([c, d]);
                Some(Sender::Echo { socket, sequence })
            }
            (Protocol::UDP | Protocol::ICMPV4 | Protocol::ICMPV6, _) => Some(Sender::Unknown),
            _ => None,
        }
    }

    /// Tells the socket that sent a packet, if it is there, that its neighbour does not answer: RFC 1122 section 2.3.2.2, RFC 4861
    /// section 7.2.2.
    pub(super) fn tell_sender(&mut self, quoted: &Quoted) {
        let to = quoted.destination;
        match self.sender(quoted) {
            Some(Sender::Udp { from, to: peer }) => {
                self.udp.fail(from, peer, Error::Unreachable(to));
            }
            Some(Sender::Echo { socket, sequence }) => {
                let failure = Failure {
                    to,
                    sequence,
                    by: quoted.source,
                    why: Why::Silence,
                };
                // The packet itself is counted by who called.
                let _ = self.echo.fail(socket, failure);
            }
            Some(Sender::Unknown) | None => {}
        }
    }

    /// By which interface an address is to be reached that is the same on all of them.
    pub(super) fn scope(&self, interface: InterfaceId, to: IpAddr) -> Option<InterfaceId> {
        match to {
            IpAddr::V6(to) if to.is_unicast_link_local() || to.is_multicast() => Some(interface),
            _ => None,
        }
    }
}

/// Sums up a packet from a place on.
pub(super) fn sum_from<P: Packet>(packet: &P, at: usize, mut sum: Sum) -> Sum {
    let mut skip = at;
    for bytes in packet.segments() {
        sum.add(bytes.get(skip..).unwrap_or_default());
        skip -= skip.min(bytes.len());
    }
    sum
}
