//! ICMP for IPv4: echo and errors. RFC 792.

use core::net::Ipv4Addr;

use super::checksum::{Sum, update};
use super::ipv4::Ipv4;
use super::{Malformed, Protocol, take};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// Bytes of the packet that an error quotes: as many as a packet of 576 bytes holds (RFC 1812 section 4.3.2.3).
pub const QUOTE_MAX: usize = 576 - super::ipv4::HEADER_LEN - HEADER_LEN;

/// Why a destination is unreachable: the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Unreachable(pub u8);

impl Unreachable {
    /// No route to its network.
    pub const NET: Self = Self(0);
    /// The host does not answer.
    pub const HOST: Self = Self(1);
    /// The host does not speak the protocol.
    pub const PROTOCOL: Self = Self(2);
    /// Nobody listens on the port.
    pub const PORT: Self = Self(3);
    /// The packet is too large for the path, and may not be cut.
    pub const FRAGMENTATION_NEEDED: Self = Self(4);
    /// Forbidden by a filter: RFC 1812 section 5.2.7.1.
    pub const PROHIBITED: Self = Self(13);
}

/// A message's type, code and what they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// An answer to an echo request.
    EchoReply {
        /// Whose.
        id: u16,
        /// Which.
        sequence: u16,
    },
    /// Asks for the same back.
    EchoRequest {
        /// Whose.
        id: u16,
        /// Which.
        sequence: u16,
    },
    /// A packet did not get there.
    Unreachable {
        /// Why.
        code: Unreachable,
        /// With [`Unreachable::FRAGMENTATION_NEEDED`]: what the path takes (RFC 1191 section 4), zero from old routers.
        mtu: u16,
    },
    /// There is a better way.
    Redirect {
        /// For the network (0), the host (1), the network and service (2), the host and service (3).
        code: u8,
        /// Through whom.
        gateway: Ipv4Addr,
    },
    /// A packet was on its way too long (0), or its fragments did not all come in time (1).
    TimeExceeded {
        /// Which of the two.
        code: u8,
    },
    /// A header is wrong.
    ParameterProblem {
        /// The pointer leads to it (0), or an option is missing (1), or a length is wrong (2).
        code: u8,
        /// Which byte.
        pointer: u8,
    },
}

impl Message {
    const ECHO_REPLY: u8 = 0;
    const UNREACHABLE: u8 = 3;
    const REDIRECT: u8 = 5;
    const ECHO_REQUEST: u8 = 8;
    const TIME_EXCEEDED: u8 = 11;
    const PARAMETER_PROBLEM: u8 = 12;

    /// Whether it is about a packet, which it quotes: never answered by another error (RFC 1122 section 3.2.2).
    #[must_use]
    pub const fn is_error(&self) -> bool {
        !matches!(self, Self::EchoReply { .. } | Self::EchoRequest { .. })
    }

    /// Writes the header, with its checksum over itself and the `payload` that follows it.
    pub fn write(&self, header: &mut [u8; HEADER_LEN], payload: &[u8]) {
        let echo = |id: u16, sequence: u16| {
            let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
            [a, b, c, d]
        };
        let (kind, code, [a, b, c, d]) = match *self {
            Self::EchoReply { id, sequence } => (Self::ECHO_REPLY, 0, echo(id, sequence)),
            Self::EchoRequest { id, sequence } => (Self::ECHO_REQUEST, 0, echo(id, sequence)),
            Self::Unreachable { code, mtu } => (Self::UNREACHABLE, code.0, echo(0, mtu)),
            Self::Redirect { code, gateway } => (Self::REDIRECT, code, gateway.octets()),
            Self::TimeExceeded { code } => (Self::TIME_EXCEEDED, code, [0; 4]),
            Self::ParameterProblem { code, pointer } => {
                (Self::PARAMETER_PROBLEM, code, [pointer, 0, 0, 0])
            }
        };
        *header = [kind, code, 0, 0, a, b, c, d];
        let mut sum = Sum::new();
        sum.add_array(header);
        sum.add(payload);
        let [high, low] = sum.finish().to_be_bytes();
        *header = [kind, code, high, low, a, b, c, d];
    }
}

/// The header of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Icmpv4 {
    header: [u8; HEADER_LEN],
}

impl Icmpv4 {
    /// Reads the header that `bytes` begin with. The checksum, which is over the whole message, is the caller's.
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
    pub const fn kind(&self) -> u8 {
        self.header[0]
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

    /// What it says; `None` if of a type that a host has no use for.
    #[inline]
    #[must_use]
    pub fn message(&self) -> Option<Message> {
        let [kind, code, _, _, a, b, c, d] = self.header;
        let (id, sequence) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        Some(match kind {
            Message::ECHO_REPLY => Message::EchoReply { id, sequence },
            Message::ECHO_REQUEST => Message::EchoRequest { id, sequence },
            Message::UNREACHABLE => Message::Unreachable {
                code: Unreachable(code),
                mtu: sequence,
            },
            Message::REDIRECT => Message::Redirect {
                code,
                gateway: Ipv4Addr::new(a, b, c, d),
            },
            Message::TIME_EXCEEDED => Message::TimeExceeded { code },
            Message::PARAMETER_PROBLEM => Message::ParameterProblem { code, pointer: a },
            _ => return None,
        })
    }
}

/// The header of an echo request, its checksum zero: it is summed up with what follows.
#[inline]
#[must_use]
pub const fn echo_request(id: u16, sequence: u16) -> [u8; HEADER_LEN] {
    let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
    [Message::ECHO_REQUEST, 0, 0, 0, a, b, c, d]
}

/// Makes the reply of an echo request where it lies, whatever follows the header: RFC 1122 section 3.2.2.6.
///
/// A checksum that was right stays right, and one that was wrong, wrong.
#[inline]
pub const fn echo_reply_in_place(header: &mut [u8; HEADER_LEN]) {
    let [kind, code, high, low, rest @ ..] = *header;
    let [a, b, c, d] = rest;
    let before = u16::from_be_bytes([kind, code]);
    let after = u16::from_be_bytes([Message::ECHO_REPLY, 0]);
    let [high, low] = update(u16::from_be_bytes([high, low]), before, after).to_be_bytes();
    *header = [Message::ECHO_REPLY, 0, high, low, a, b, c, d];
}

/// The packet that an error is about, as far as it quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Who sent it; us, if the error is for us.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// What it carried.
    pub protocol: Protocol,
    /// How long it was.
    pub total_len: u16,
    /// What its payload began with: ports, and TCP's sequence number. Missing if it was a later fragment, or quoted too short.
    pub upper: Option<[u8; 8]>,
}

impl Quoted {
    /// Reads what follows the header of an error.
    ///
    /// # Errors
    ///
    /// There is no whole IPv4 header.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let ip = Ipv4::parse(bytes)?;
        let payload = bytes.get(ip.header_len()..).unwrap_or_default();
        let upper = (ip.fragment_offset() == 0 && ip.payload_len() >= 8)
            .then(|| payload.first_chunk().copied());
        Ok(Self {
            source: ip.source(),
            destination: ip.destination(),
            protocol: ip.protocol(),
            total_len: ip.total_len(),
            upper: upper.flatten(),
        })
    }
}

#[cfg(test)]
mod tests {
    use etherparse::icmpv4::{
        DestUnreachableHeader, ParameterProblemHeader, RedirectCode, RedirectHeader,
        TimeExceededCode,
    };
    use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type};
    use proptest::prelude::*;

    use super::super::checksum::checksum;
    use super::super::ipv4::{self, Repr};
    use super::*;

    /// An echo request without its checksum.
    const REQUEST: [u8; 16] = [
        8, 0, 0, 0, 0x12, 0x34, 0, 1, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
    ];

    #[test]
    fn request_becomes_a_reply_with_the_same_payload() {
        let mut bytes = REQUEST;
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        let request = Icmpv4::parse(&bytes).unwrap().message();
        assert_eq!(
            request,
            Some(Message::EchoRequest {
                id: 0x1234,
                sequence: 1
            })
        );

        echo_reply_in_place(bytes.first_chunk_mut().unwrap());
        let reply = Icmpv4::parse(&bytes).unwrap().message();
        assert_eq!(
            reply,
            Some(Message::EchoReply {
                id: 0x1234,
                sequence: 1
            })
        );
        assert_eq!(bytes[8..], REQUEST[8..]);
        assert_eq!(checksum(&bytes), 0);
    }

    #[test]
    fn types_that_a_host_has_no_use_for_are_none() {
        // Source quench: RFC 6633 has it ignored. Timestamp, address mask: nobody asks any more.
        for kind in [4, 9, 10, 13, 14, 17, 18, 255] {
            assert_eq!(Icmpv4::parse(&[kind; 8]).unwrap().message(), None);
        }
        assert_eq!(Icmpv4::parse(&[8; 7]), Err(Malformed::Truncated));
    }

    #[test]
    fn only_echo_is_no_error() {
        assert!(!Message::EchoRequest { id: 1, sequence: 1 }.is_error());
        assert!(!Message::EchoReply { id: 1, sequence: 1 }.is_error());
        assert!(Message::TimeExceeded { code: 0 }.is_error());
    }

    fn quote(fragment_offset: u16, upper: &[u8], len: u16) -> Vec<u8> {
        let repr = Repr {
            traffic_class: 0,
            payload_len: len,
            id: 1,
            dont_fragment: false,
            more_fragments: false,
            fragment_offset,
            ttl: 1,
            protocol: Protocol::UDP,
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
        };
        let mut header = [0; ipv4::HEADER_LEN];
        repr.write(&mut header);
        [&header, upper].concat()
    }

    #[test]
    fn quoted_packet_tells_whose_it_was() {
        let quoted = Quoted::parse(&quote(0, &[1, 2, 3, 4, 5, 6, 7, 8, 9], 1000)).unwrap();
        assert_eq!(quoted.source, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(quoted.destination, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!((quoted.protocol, quoted.total_len), (Protocol::UDP, 1020));
        assert_eq!(quoted.upper, Some([1, 2, 3, 4, 5, 6, 7, 8]));
    }

    #[test]
    fn quoted_packet_without_an_upper_header_has_none() {
        let upper = |bytes: &[u8]| Quoted::parse(bytes).unwrap().upper;
        assert_eq!(upper(&quote(8, &[1; 8], 8)), None);
        assert_eq!(upper(&quote(0, &[1; 7], 8)), None);
        assert_eq!(upper(&quote(0, &[1; 8], 7)), None);
        assert_eq!(
            Quoted::parse(&quote(0, &[], 8)[..19]),
            Err(Malformed::Truncated)
        );
    }

    fn messages() -> impl Strategy<Value = (Message, Icmpv4Type)> {
        let echo = |id, seq| IcmpEchoHeader { id, seq };
        prop_oneof![
            any::<(u16, u16)>().prop_map(move |(id, sequence)| (
                Message::EchoRequest { id, sequence },
                Icmpv4Type::EchoRequest(echo(id, sequence))
            )),
            any::<(u16, u16)>().prop_map(move |(id, sequence)| (
                Message::EchoReply { id, sequence },
                Icmpv4Type::EchoReply(echo(id, sequence))
            )),
            any::<u16>().prop_map(|mtu| (
                Message::Unreachable {
                    code: Unreachable::FRAGMENTATION_NEEDED,
                    mtu
                },
                Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::FragmentationNeeded {
                    next_hop_mtu: mtu
                })
            )),
            Just((
                Message::Unreachable {
                    code: Unreachable::PORT,
                    mtu: 0
                },
                Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port)
            )),
            any::<[u8; 4]>().prop_map(|gateway| (
                Message::Redirect {
                    code: 1,
                    gateway: gateway.into()
                },
                Icmpv4Type::Redirect(RedirectHeader {
                    code: RedirectCode::RedirectForHost,
                    gateway_internet_address: gateway
                })
            )),
            Just((
                Message::TimeExceeded { code: 1 },
                Icmpv4Type::TimeExceeded(TimeExceededCode::FragmentReassemblyTimeExceeded)
            )),
            any::<u8>().prop_map(|pointer| (
                Message::ParameterProblem { code: 0, pointer },
                Icmpv4Type::ParameterProblem(ParameterProblemHeader::PointerIndicatesError(
                    pointer
                ))
            )),
        ]
    }

    proptest! {
        #[test]
        fn message_is_the_one_that_etherparse_writes((ours, theirs) in messages(), payload: Vec<u8>) {
            let theirs = Icmpv4Header::with_checksum(theirs, &payload).to_bytes();
            let mut out = [0xee; HEADER_LEN];
            ours.write(&mut out, &payload);
            prop_assert_eq!(&out[..], &theirs[..]);
            let read = Icmpv4::parse(&out).unwrap();
            prop_assert_eq!(read.message(), Some(ours));
            prop_assert_eq!([read.kind(), read.code()], [out[0], out[1]]);
            prop_assert_eq!(read.checksum().to_be_bytes(), [out[2], out[3]]);
        }

        #[test]
        fn reply_is_as_right_as_the_request(mut bytes in prop::collection::vec(any::<u8>(), 8..64), is_right: bool) {
            bytes[0] = 8;
            if is_right {
                bytes[2..4].fill(0);
                let sum = checksum(&bytes);
                bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            }
            let before = checksum(&bytes) == 0;
            echo_reply_in_place(bytes.first_chunk_mut().unwrap());
            prop_assert_eq!(&bytes[..2], &[0, 0]);
            // All zero is its own case: RFC 1624 section 3.
            if bytes.iter().any(|byte| *byte != 0) {
                prop_assert_eq!(checksum(&bytes) == 0, before);
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Icmpv4::parse(&bytes).map(|icmp| icmp.message());
            let _ = Quoted::parse(&bytes);
        }
    }
}
