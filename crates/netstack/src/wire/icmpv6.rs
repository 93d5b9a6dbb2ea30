//! ICMP for IPv6: echo and errors. RFC 4443.

use core::net::Ipv6Addr;

use super::checksum::{Sum, update};
use super::ipv6::{self, Ipv6};
use super::{Malformed, Protocol, extension, take};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// Bytes of the packet that an error quotes: as many as every path takes (section 2.4 (c)).
pub const QUOTE_MAX: usize = 1280 - ipv6::HEADER_LEN - HEADER_LEN;

/// Types of messages that other files read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub u8);

impl Kind {
    /// Multicast listener query: RFC 2710, RFC 3810.
    pub const LISTENER_QUERY: Self = Self(130);
    /// Multicast listener report of version 1.
    pub const LISTENER_REPORT: Self = Self(131);
    /// Multicast listener done, of version 1.
    pub const LISTENER_DONE: Self = Self(132);
    /// Router solicitation: RFC 4861.
    pub const ROUTER_SOLICIT: Self = Self(133);
    /// Router advertisement.
    pub const ROUTER_ADVERTISE: Self = Self(134);
    /// Neighbour solicitation.
    pub const NEIGHBOUR_SOLICIT: Self = Self(135);
    /// Neighbour advertisement.
    pub const NEIGHBOUR_ADVERTISE: Self = Self(136);
    /// Redirect.
    pub const REDIRECT: Self = Self(137);
    /// Multicast listener report of version 2.
    pub const LISTENER_REPORT_V2: Self = Self(143);

    const UNREACHABLE: Self = Self(1);
    const PACKET_TOO_BIG: Self = Self(2);
    const TIME_EXCEEDED: Self = Self(3);
    const PARAMETER_PROBLEM: Self = Self(4);
    const ECHO_REQUEST: Self = Self(128);
    const ECHO_REPLY: Self = Self(129);

    /// Whether it is about a packet, which it quotes, even if unknown: never answered by another error (section 2.4 (e)).
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.0 < 128
    }

    /// Whether it is of neighbour discovery: [`ndp`](super::ndp) reads it.
    #[must_use]
    pub const fn is_ndp(self) -> bool {
        matches!(self.0, 133..=137)
    }

    /// Whether it is of multicast listener discovery: [`mld`](super::mld) reads it.
    #[must_use]
    pub const fn is_mld(self) -> bool {
        matches!(self.0, 130..=132 | 143)
    }
}

/// Why a destination is unreachable: the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unreachable(pub u8);

impl Unreachable {
    /// No route.
    pub const NO_ROUTE: Self = Self(0);
    /// Forbidden by a filter.
    pub const PROHIBITED: Self = Self(1);
    /// Beyond the scope of the source's address.
    pub const BEYOND_SCOPE: Self = Self(2);
    /// The host does not answer.
    pub const ADDRESS: Self = Self(3);
    /// Nobody listens on the port.
    pub const PORT: Self = Self(4);
}

/// A message's type, code and what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A packet did not get there.
    Unreachable {
        /// Why.
        code: Unreachable,
    },
    /// A packet is too large for the path.
    PacketTooBig {
        /// What it takes.
        mtu: u32,
    },
    /// A packet was on its way too long (0), or its fragments did not all come in time (1).
    TimeExceeded {
        /// Which of the two.
        code: u8,
    },
    /// A header has a wrong field (0), an unknown next header (1), or an unknown option (2).
    ParameterProblem {
        /// Which of the three.
        code: u8,
        /// Which byte of the packet.
        pointer: u32,
    },
    /// Asks for the same back.
    EchoRequest {
        /// Whose.
        id: u16,
        /// Which.
        sequence: u16,
    },
    /// An answer to an echo request.
    EchoReply {
        /// Whose.
        id: u16,
        /// Which.
        sequence: u16,
    },
}

impl Message {
    /// Writes the header, with its checksum over the addresses, itself and the `payload` that follows it.
    pub fn write(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        header: &mut [u8; HEADER_LEN],
        payload: &[u8],
    ) {
        let echo = |id: u16, sequence: u16| {
            let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
            [a, b, c, d]
        };
        let (kind, code, [a, b, c, d]) = match *self {
            Self::Unreachable { code } => (Kind::UNREACHABLE, code.0, [0; 4]),
            Self::PacketTooBig { mtu } => (Kind::PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            Self::TimeExceeded { code } => (Kind::TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer } => {
                (Kind::PARAMETER_PROBLEM, code, pointer.to_be_bytes())
            }
            Self::EchoRequest { id, sequence } => (Kind::ECHO_REQUEST, 0, echo(id, sequence)),
            Self::EchoReply { id, sequence } => (Kind::ECHO_REPLY, 0, echo(id, sequence)),
        };
        *header = [kind.0, code, 0, 0, a, b, c, d];
        let len = header.len().saturating_add(payload.len());
        let mut sum = pseudo(source, destination, len);
        sum.add_array(header);
        sum.add(payload);
        let [high, low] = sum.finish().to_be_bytes();
        *header = [kind.0, code, high, low, a, b, c, d];
    }
}

/// The sum of the pseudo header of a message of `len` bytes: section 2.3.
#[inline]
#[must_use]
pub fn pseudo(source: Ipv6Addr, destination: Ipv6Addr, len: usize) -> Sum {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    Sum::pseudo_v6(source, destination, Protocol::ICMPV6, len)
}

/// Fills in the checksum of a whole message, whose field is zero.
pub(super) fn seal(source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8]) {
    let mut sum = pseudo(source, destination, message.len());
    sum.add(message);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.finish().to_be_bytes());
    }
}

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmpv6 {
    header: [u8; HEADER_LEN],
}

impl Icmpv6 {
    /// Reads the header that `bytes` begin with. The checksum, which is over the whole message and [`pseudo`], is the caller's.
    ///
    /// # Errors
    ///
    /// There are fewer bytes.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (header, _) = take(bytes)?;
        Ok(Self { header })
    }

    /// Type.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> Kind {
        Kind(self.header[0])
    }

    /// Code.
    #[inline]
    #[must_use]
    pub const fn code(&self) -> u8 {
        self.header[1]
    }

    /// The checksum.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        u16::from_be_bytes([self.header[2], self.header[3]])
    }

    /// What it says; `None` if it is neither echo nor a known error.
    #[inline]
    #[must_use]
    pub const fn message(&self) -> Option<Message> {
        let [_, code, _, _, a, b, c, d] = self.header;
        let (id, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let number = u32::from_be_bytes([a, b, c, d]);
        Some(match self.kind() {
            Kind::UNREACHABLE => Message::Unreachable {
                code: Unreachable(code),
            },
            Kind::PACKET_TOO_BIG => Message::PacketTooBig { mtu: number },
            Kind::TIME_EXCEEDED => Message::TimeExceeded { code },
            Kind::PARAMETER_PROBLEM => Message::ParameterProblem {
                code,
                pointer: number,
            },
            Kind::ECHO_REQUEST => Message::EchoRequest { id, sequence },
            Kind::ECHO_REPLY => Message::EchoReply { id, sequence },
            _ => return None,
        })
    }
}

/// The header of an echo request, its checksum zero: it is summed up with what follows, and with [`pseudo`].
#[inline]
#[must_use]
pub const fn echo_request(id: u16, sequence: u16) -> [u8; HEADER_LEN] {
    let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
    [Kind::ECHO_REQUEST.0, 0, 0, 0, a, b, c, d]
}

/// Makes the reply of an echo request where it lies, whatever follows the header: section 4.2.
///
/// A checksum that was right stays right if the addresses only changed places, since a sum does not mind. If the request was to a
/// group, the source is another: take [`Message::write`].
#[inline]
pub const fn echo_reply_in_place(header: &mut [u8; HEADER_LEN]) {
    let [kind, code, high, low, a, b, c, d] = *header;
    let before = u16::from_be_bytes([kind, code]);
    let after = u16::from_be_bytes([Kind::ECHO_REPLY.0, 0]);
    let [high, low] = update(u16::from_be_bytes([high, low]), before, after).to_be_bytes();
    *header = [Kind::ECHO_REPLY.0, 0, high, low, a, b, c, d];
}

/// The packet that an error is about, as far as it quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Who sent it; us, if the error is for us.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// What it carried, behind its extension headers.
    pub protocol: Protocol,
    /// What its payload began with: ports, and TCP's sequence number. Missing if it was a later fragment, or quoted too short.
    pub upper: Option<[u8; 8]>,
}

impl Quoted {
    /// Reads what follows the header of an error.
    ///
    /// # Errors
    ///
    /// There is no whole IPv6 header, or its extension headers are none that we would send.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let ip = Ipv6::parse(bytes)?;
        let rest = bytes.get(ipv6::HEADER_LEN..).unwrap_or_default();
        let chain = extension::walk(&ip, rest).map_err(|_| Malformed::BadField)?;
        let is_later = chain
            .fragment
            .is_some_and(|fragment| fragment.header.offset != 0);
        let payload = bytes.get(chain.offset..).unwrap_or_default();
        let upper = (!is_later).then(|| payload.first_chunk().copied());
        Ok(Self {
            source: ip.source(),
            destination: ip.destination(),
            protocol: chain.protocol,
            upper: upper.flatten(),
        })
    }
}

#[cfg(test)]
mod tests {
    use etherparse::icmpv6::{
        DestUnreachableCode, ParameterProblemCode, ParameterProblemHeader, TimeExceededCode,
    };
    use etherparse::{IcmpEchoHeader, Icmpv6Header, Icmpv6Type};
    use proptest::prelude::*;

    use super::super::ipv6::Repr;
    use super::*;

    fn is_right(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> bool {
        let mut sum = pseudo(source, destination, message.len());
        sum.add(message);
        sum.is_right()
    }

    #[test]
    fn kinds_are_told_apart() {
        assert!(Kind(127).is_error() && !Kind::ECHO_REQUEST.is_error());
        assert!(Kind::REDIRECT.is_ndp() && !Kind::REDIRECT.is_mld());
        assert!(Kind::LISTENER_REPORT_V2.is_mld() && !Kind::LISTENER_DONE.is_ndp());
        assert_eq!(Icmpv6::parse(&[135; 8]).unwrap().message(), None);
        assert_eq!(Icmpv6::parse(&[5; 8]).unwrap().message(), None);
        assert_eq!(Icmpv6::parse(&[128; 7]), Err(Malformed::Truncated));
    }

    fn quote(next_header: Protocol, payload: &[u8]) -> Vec<u8> {
        let repr = Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 1000,
            next_header,
            hop_limit: 1,
            source: "fe80::1".parse().unwrap(),
            destination: "fe80::2".parse().unwrap(),
        };
        let mut header = [0; ipv6::HEADER_LEN];
        repr.write(&mut header);
        [&header, payload].concat()
    }

    #[test]
    fn quoted_packet_tells_whose_it_was() {
        let quoted = Quoted::parse(&quote(Protocol::UDP, &[1, 2, 3, 4, 5, 6, 7, 8, 9])).unwrap();
        assert_eq!(quoted.source, "fe80::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(quoted.destination, "fe80::2".parse::<Ipv6Addr>().unwrap());
        assert_eq!(quoted.protocol, Protocol::UDP);
        assert_eq!(quoted.upper, Some([1, 2, 3, 4, 5, 6, 7, 8]));
    }

    #[test]
    fn quoted_fragments_have_the_upper_header_in_the_first() {
        let fragment = |offset: u8, upper: &[u8]| {
            let bytes = [&[17, 0, 0, offset | 1, 0, 0, 0, 9], upper].concat();
            Quoted::parse(&quote(Protocol::FRAGMENT, &bytes)).unwrap()
        };
        assert_eq!(fragment(0, &[7; 8]).upper, Some([7; 8]));
        assert_eq!(fragment(0, &[7; 8]).protocol, Protocol::UDP);
        assert_eq!(fragment(0, &[7; 7]).upper, None);
        assert_eq!(fragment(8, &[7; 8]).upper, None);
        assert_eq!(
            Quoted::parse(&quote(Protocol::UDP, &[])[..39]),
            Err(Malformed::Truncated)
        );
    }

    fn messages() -> impl Strategy<Value = (Message, Icmpv6Type)> {
        let echo = |id, seq| IcmpEchoHeader { id, seq };
        prop_oneof![
            any::<(u16, u16)>().prop_map(move |(id, sequence)| (
                Message::EchoRequest { id, sequence },
                Icmpv6Type::EchoRequest(echo(id, sequence))
            )),
            any::<(u16, u16)>().prop_map(move |(id, sequence)| (
                Message::EchoReply { id, sequence },
                Icmpv6Type::EchoReply(echo(id, sequence))
            )),
            any::<u32>().prop_map(|mtu| (
                Message::PacketTooBig { mtu },
                Icmpv6Type::PacketTooBig { mtu }
            )),
            Just((
                Message::Unreachable {
                    code: Unreachable::PORT
                },
                Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port)
            )),
            Just((
                Message::TimeExceeded { code: 1 },
                Icmpv6Type::TimeExceeded(TimeExceededCode::FragmentReassemblyTimeExceeded)
            )),
            any::<u32>().prop_map(|pointer| (
                Message::ParameterProblem { code: 2, pointer },
                Icmpv6Type::ParameterProblem(ParameterProblemHeader {
                    code: ParameterProblemCode::UnrecognizedIpv6Option,
                    pointer
                })
            )),
        ]
    }

    proptest! {
        #[test]
        fn message_is_the_one_that_etherparse_writes(
            (ours, theirs) in messages(), source: [u8; 16], destination: [u8; 16], payload: Vec<u8>,
        ) {
            let theirs = Icmpv6Header::with_checksum(theirs, source, destination, &payload).unwrap().to_bytes();
            let mut out = [0xee; HEADER_LEN];
            ours.write(source.into(), destination.into(), &mut out, &payload);
            prop_assert_eq!(&out[..], &theirs[..]);
            let read = Icmpv6::parse(&out).unwrap();
            prop_assert_eq!(read.message(), Some(ours));
            prop_assert_eq!([read.kind().0, read.code()], [out[0], out[1]]);
            prop_assert_eq!(read.checksum().to_be_bytes(), [out[2], out[3]]);
            let mut whole = [&out, &payload[..]].concat();
            prop_assert!(is_right(source.into(), destination.into(), &whole));

            whole[2..4].fill(0);
            seal(source.into(), destination.into(), &mut whole);
            prop_assert_eq!(&whole[..8], &out[..]);
        }

        #[test]
        fn reply_is_as_right_as_the_request(
            id: u16, sequence: u16, source: [u8; 16], destination: [u8; 16], payload: Vec<u8>,
        ) {
            let (source, destination) = (source.into(), destination.into());
            let mut out = [0; HEADER_LEN];
            Message::EchoRequest { id, sequence }.write(source, destination, &mut out, &payload);
            echo_reply_in_place(&mut out);
            let reply = Icmpv6::parse(&out).unwrap().message();
            prop_assert_eq!(reply, Some(Message::EchoReply { id, sequence }));
            prop_assert!(is_right(destination, source, &[&out, &payload[..]].concat()));
        }

        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100), next_header in prop::option::of(prop::sample::select(vec![0, 43, 44, 60]))) {
            let _ = Icmpv6::parse(&bytes).map(|icmp| icmp.message());
            if let (Some(next_header), Some(header)) = (next_header, bytes.first_chunk_mut::<8>()) {
                (header[0], header[6]) = (0x60, next_header);
            }
            let _ = Quoted::parse(&bytes);
        }
    }
}
