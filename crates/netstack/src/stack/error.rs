//! Telling senders what became of their packets: the ICMP errors that we send. RFC 1122 section 3.2.2, RFC 4443 section 2.4.

use super::input::Arrived;
use super::{Header, Stack, Upper};
use crate::packet::{Packet, Packets};
use crate::stats::Reason;
use crate::wire::checksum::Sum;
use crate::wire::{Protocol, icmpv4, icmpv6};

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    /// Nobody listens on the port.
    Port,
    /// We do not speak the protocol; where its number stands, for IPv6.
    Protocol(u32),
    /// The other fragments did not come.
    Reassembly,
    /// An IPv6 header says something that it may not: a code, and where.
    Parameter(u8, u32),
    /// As before, and even a packet to a group is answered.
    Option(u32),
}

impl Complaint {
    /// Type, code, and the four bytes behind the checksum.
    const fn v4(self) -> Option<(u8, u8, u32)> {
        match self {
            Self::Port => Some((3, 3, 0)),
            Self::Protocol(_) => Some((3, 2, 0)),
            Self::Reassembly => Some((11, 1, 0)),
            Self::Parameter(..) | Self::Option(_) => None,
        }
    }

    const fn v6(self) -> (u8, u8, u32) {
        match self {
            Self::Port => (1, 4, 0),
            Self::Protocol(pointer) => (4, 1, pointer),
            Self::Reassembly => (3, 1, 0),
            Self::Parameter(code, pointer) => (4, code, pointer),
            Self::Option(pointer) => (4, 2, pointer),
        }
    }
}

impl<A: Packets> Stack<A> {
    /// Sends an ICMP error about a packet, if one may be sent.
    pub(super) fn complain(&mut self, arrived: &Arrived, packet: &A::Packet, complaint: Complaint) {
        // RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e.3): not about what came to many, but for an option that says so.
        if arrived.is_to_many && !matches!(complaint, Complaint::Option(_))
            || arrived.source.is_unspecified()
        {
            return;
        }
        let is_ipv4 = arrived.source.is_ipv4();
        let (kind, code, rest) = match (is_ipv4, complaint.v4()) {
            (true, Some(message)) => message,
            (true, None) => return,
            (false, _) => complaint.v6(),
        };
        if is_about_error(arrived, packet) || !self.errors_rate.allow(self.now) {
            return;
        }
        let max = if is_ipv4 {
            icmpv4::QUOTE_MAX
        } else {
            icmpv6::QUOTE_MAX
        };
        let len = packet.len().saturating_sub(arrived.ip_at).min(max);
        let sent = self.error_message(arrived, (kind, code, rest), packet, len);
        match sent {
            Ok(()) => self.traffic.errors_sent += 1,
            Err(reason) => self.drops.count(reason),
        }
    }

    fn error_message(
        &mut self,
        arrived: &Arrived,
        (kind, code, rest): (u8, u8, u32),
        about: &A::Packet,
        len: usize,
    ) -> Result<(), Reason> {
        let to = arrived.source;
        let hop = self.hop(to, self.scope(arrived.interface, to))?;
        let source = if arrived.is_to_many {
            hop.source
        } else {
            arrived.destination
        };
        let mut message = self.packets.alloc().ok_or(Reason::NoBuffer)?;
        let room = message
            .append(icmpv4::HEADER_LEN + len)
            .ok_or(Reason::NoBuffer)?;
        let (header, quote) = room.split_first_chunk_mut().ok_or(Reason::NoBuffer)?;
        let [a, b, c, d] = rest.to_be_bytes();
        *header = [kind, code, 0, 0, a, b, c, d];
        if about.copy_out(arrived.ip_at, quote) != len {
            return Err(Reason::Unreadable);
        }
        let header = Header {
            source,
            destination: to,
            protocol: if to.is_ipv4() {
                Protocol::ICMPV4
            } else {
                Protocol::ICMPV6
            },
            hop_limit: hop.hop_limit,
            traffic_class: 0,
            never_cut: false,
        };
        self.send_icmp(&hop, &header, message)
    }

    /// Fills in the checksum of an ICMP message, zero until now, and sends it. Devices sum up TCP and UDP alone.
    pub(crate) fn send_icmp(
        &mut self,
        hop: &super::Hop,
        header: &Header,
        mut message: A::Packet,
    ) -> Result<(), Reason> {
        let len = u16::try_from(message.len()).map_err(|_| Reason::TooLarge)?;
        // RFC 4443 section 2.3: over IPv6 the pseudo header belongs to it.
        let mut sum = if header.destination.is_ipv4() {
            Sum::new()
        } else {
            header.pseudo(len)
        };
        message.segments().for_each(|bytes| sum.add(bytes));
        let place = message.data_mut().and_then(|data| data.get_mut(2..4));
        place
            .ok_or(Reason::Unreadable)?
            .copy_from_slice(&sum.finish().to_be_bytes());
        self.send(hop, header, Upper::Whole, message)
    }
}

/// Whether a packet is itself an ICMP error, or a redirect, or too short to tell.
fn is_about_error<P: Packet>(arrived: &Arrived, packet: &P) -> bool {
    let mut kind = [0];
    let has_kind = packet.copy_out(arrived.upper_at, &mut kind) == 1;
    match arrived.protocol {
        Protocol::ICMPV4 => !has_kind || !matches!(kind, [0 | 8 | 13 | 14]),
        Protocol::ICMPV6 => !has_kind || kind[0] < 128 || kind[0] == 137,
        _ => false,
    }
}
