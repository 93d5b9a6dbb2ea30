//! IPv6 extension headers: the walk from the fixed header to the payload. RFC 8200 section 4.

use super::ipv6::{self, Ipv6};
use super::{Malformed, Protocol, take};

/// Extension headers of a packet; more are none that anybody sends (RFC 8504 section 5.3 has a host limit them).
pub const HEADERS_MAX: usize = 8;
/// Options of a header that are no padding (the same section).
pub const OPTIONS_MAX: usize = 8;

/// Place of the next header's number in the fixed header.
const NEXT_HEADER_AT: usize = 6;
/// Extension headers are counted in units of as many bytes.
const UNIT: usize = 8;

/// What the walk ended at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// What the payload is: of the fragment, if there is one that is not the whole.
    pub protocol: Protocol,
    /// Where the payload begins, from the packet's first byte.
    pub offset: usize,
    /// Where the payload's protocol is named: whoever does not speak it says so with a parameter problem of code 1.
    pub named_at: usize,
    /// The fragment header. If it is not [whole](FragmentHeader::is_whole), it is where the walk ended.
    pub fragment: Option<Fragment>,
    /// Routers shall look at the packet: RFC 2711.
    pub router_alert: bool,
}

/// A fragment header and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// Its fields.
    pub header: FragmentHeader,
    /// Where it begins, from the packet's first byte: where the payload will, once it is put together.
    pub at: usize,
    /// Where it is named.
    pub named_at: usize,
}

/// The fields of a fragment header: section 4.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentHeader {
    /// What the payload is, once it is put together.
    pub next_header: Protocol,
    /// Where the piece belongs, in bytes: a multiple of 8.
    pub offset: u16,
    /// Pieces follow.
    pub more: bool,
    /// Names the packet.
    pub id: u32,
}

impl FragmentHeader {
    /// Bytes of the header.
    pub const LEN: usize = 8;

    /// Reads the header that `bytes` begin with.
    ///
    /// # Errors
    ///
    /// There are fewer bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let ([next_header, _, high, low, id @ ..], _): ([u8; Self::LEN], _) = take(bytes)?;
        let offset = u16::from_be_bytes([high, low]);
        Ok(Self {
            next_header: Protocol(next_header),
            offset: offset & !7,
            more: offset & 1 != 0,
            id: u32::from_be_bytes(id),
        })
    }

    /// Writes the header.
    pub const fn write(&self, out: &mut [u8; Self::LEN]) {
        let [high, low] = (self.offset & !7 | self.more as u16).to_be_bytes();
        let [a, b, c, d] = self.id.to_be_bytes();
        *out = [self.next_header.0, 0, high, low, a, b, c, d];
    }

    /// Whether it is the only piece: RFC 6946 has it treated as if it were none.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.offset == 0 && !self.more
    }
}

/// Why the walk was given up; the packet is to be dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// What was found.
    pub why: Why,
    /// What its source is to be told, if anything. Code 2 is told even if the packet was to a group (RFC 4443 section 2.4 (e.3)).
    pub problem: Option<Problem>,
}

/// What a packet was refused for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The bytes end in a header.
    Truncated,
    /// A header contradicts itself, or stands where it may not.
    Malformed,
    /// There are too many headers or options.
    TooMany,
    /// An option that is not understood and may not be skipped.
    Option,
    /// A routing header that wants the packet passed on.
    Routing,
}

/// The fields of an ICMPv6 parameter problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// A wrong field (0), an unknown next header (1), an unknown option (2).
    pub code: u8,
    /// Which byte of the packet.
    pub pointer: u32,
}

impl Refusal {
    const fn silent(why: Why) -> Self {
        Self { why, problem: None }
    }

    fn told(why: Why, code: u8, at: usize) -> Self {
        let pointer = u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            why,
            problem: Some(Problem { code, pointer }),
        }
    }
}

/// Walks the extension headers of a packet; `bytes` are those behind its fixed header.
///
/// # Errors
///
/// One is malformed or has to be refused.
#[inline]
pub fn walk(ip: &Ipv6, bytes: &[u8]) -> Result<Chain, Refusal> {
    let walk = Walk {
        chain: Chain {
            protocol: ip.next_header(),
            offset: ipv6::HEADER_LEN,
            named_at: NEXT_HEADER_AT,
            fragment: None,
            router_alert: false,
        },
        to_group: ip.destination().is_multicast(),
    };
    // Nearly always there are none.
    if is_upper(walk.chain.protocol) {
        return Ok(walk.chain);
    }
    walk.run(bytes)
}

/// Walks on behind a fragment header, in the payload that was put together of all pieces, as if that header had never been.
///
/// # Errors
///
/// As [`walk`].
pub fn walk_on(ip: &Ipv6, fragment: &Fragment, payload: &[u8]) -> Result<Chain, Refusal> {
    let walk = Walk {
        chain: Chain {
            protocol: fragment.header.next_header,
            offset: fragment.at,
            named_at: fragment.named_at,
            fragment: None,
            router_alert: false,
        },
        to_group: ip.destination().is_multicast(),
    };
    walk.run(payload)
}

/// Whether a first fragment has all headers, that of the upper protocol included: RFC 7112 section 5. `payload` is what stands behind
/// the fragment header. What is wrong with the headers otherwise is found when all is [put together](walk_on).
#[must_use]
pub fn has_all_headers(ip: &Ipv6, fragment: &Fragment, payload: &[u8]) -> bool {
    match walk_on(ip, fragment, payload) {
        Ok(chain) => {
            let upper = match chain.protocol {
                Protocol::TCP => 20,
                Protocol::UDP | Protocol::ICMPV6 => 8,
                Protocol::NO_NEXT_HEADER => 0,
                // Whatever it is, it begins here.
                _ => 1,
            };
            payload.len() >= chain.offset.saturating_sub(fragment.at) + upper
        }
        Err(refusal) => refusal.why != Why::Truncated,
    }
}

/// Whether it is no extension header that we read.
#[inline]
const fn is_upper(protocol: Protocol) -> bool {
    !matches!(
        protocol,
        Protocol::HOP_BY_HOP
            | Protocol::ROUTING
            | Protocol::FRAGMENT
            | Protocol::DESTINATION_OPTIONS
    )
}

/// A walk on its way: what it would end with here.
#[derive(Debug)]
struct Walk {
    chain: Chain,
    to_group: bool,
}

impl Walk {
    fn run(mut self, mut rest: &[u8]) -> Result<Chain, Refusal> {
        for _ in 0..=HEADERS_MAX {
            let kind = self.chain.protocol;
            if is_upper(kind) {
                return Ok(self.chain);
            }
            let at = self.chain.offset;
            let truncated = Refusal::silent(Why::Truncated);
            if kind == Protocol::FRAGMENT {
                let header = FragmentHeader::parse(rest).map_err(|_| truncated)?;
                if self.chain.fragment.is_some() {
                    return Err(Refusal::silent(Why::Malformed));
                }
                self.chain.fragment = Some(Fragment {
                    header,
                    at,
                    named_at: self.chain.named_at,
                });
                rest = self.step(header.next_header, FragmentHeader::LEN, rest);
                if !header.is_whole() {
                    return Ok(self.chain);
                }
                continue;
            }
            let [next_header, units, _, segments_left] = *rest.first_chunk().ok_or(truncated)?;
            let len = (usize::from(units) + 1) * UNIT;
            let header = rest.get(..len).ok_or(truncated)?;
            if kind == Protocol::ROUTING {
                // Section 4.4, and RFC 5095 section 3 for type 0: we pass nothing on, whatever the type.
                if segments_left != 0 {
                    return Err(Refusal::told(Why::Routing, 0, at + 2));
                }
            } else {
                // Section 4: hop-by-hop options follow the fixed header, or are not recognised.
                let is_hop_by_hop = kind == Protocol::HOP_BY_HOP;
                if is_hop_by_hop && self.chain.named_at != NEXT_HEADER_AT {
                    return Err(Refusal::told(Why::Malformed, 1, self.chain.named_at));
                }
                self.options(header, is_hop_by_hop)?;
            }
            rest = self.step(Protocol(next_header), len, rest);
        }
        Err(Refusal::silent(Why::TooMany))
    }

    /// Goes on behind a header of `len` bytes.
    fn step<'a>(&mut self, next: Protocol, len: usize, rest: &'a [u8]) -> &'a [u8] {
        self.chain.protocol = next;
        // Every extension header begins with the number of the next one.
        self.chain.named_at = self.chain.offset;
        self.chain.offset += len;
        rest.get(len..).unwrap_or_default()
    }

    /// Looks at the options of a whole header: section 4.2.
    fn options(&mut self, header: &[u8], is_hop_by_hop: bool) -> Result<(), Refusal> {
        const PAD_1: u8 = 0;
        const PAD_N: u8 = 1;
        const ROUTER_ALERT: u8 = 5;
        let mut at = 2;
        let mut options = 0;
        while let Some(kind) = header.get(at) {
            if *kind == PAD_1 {
                at += 1;
                continue;
            }
            let malformed = Refusal::silent(Why::Malformed);
            let len = usize::from(*header.get(at + 1).ok_or(malformed)?);
            let data = header.get(at + 2..at + 2 + len).ok_or(malformed)?;
            match *kind {
                PAD_N => {}
                ROUTER_ALERT if is_hop_by_hop && data.len() == 2 => self.chain.router_alert = true,
                unknown => self.unknown_option(unknown, self.chain.offset + at)?,
            }
            if *kind != PAD_N {
                options += 1;
            }
            if options > OPTIONS_MAX {
                return Err(Refusal::silent(Why::TooMany));
            }
            at += 2 + len;
        }
        Ok(())
    }

    /// Does what the option's two highest bits say: section 4.2.
    fn unknown_option(&self, kind: u8, at: usize) -> Result<(), Refusal> {
        match kind >> 6 {
            0 => Ok(()),
            1 => Err(Refusal::silent(Why::Option)),
            3 if self.to_group => Err(Refusal::silent(Why::Option)),
            _ => Err(Refusal::told(Why::Option, 2, at)),
        }
    }
}

/// Bytes of hop-by-hop options with a router alert.
pub const ROUTER_ALERT_LEN: usize = 8;

/// Writes hop-by-hop options that have routers look at a message of multicast listener discovery: RFC 2711 section 2.1.
pub const fn write_router_alert(next_header: Protocol, out: &mut [u8; ROUTER_ALERT_LEN]) {
    // The alert, its value zero, and two bytes of padding.
    *out = [next_header.0, 0, 5, 2, 0, 0, 1, 0];
}

#[cfg(test)]
mod tests {
    use core::net::Ipv6Addr;

    use proptest::prelude::*;

    use super::*;

    const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    fn ip(next_header: Protocol, destination: Ipv6Addr) -> Ipv6 {
        let repr = ipv6::Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 0,
            next_header,
            hop_limit: 64,
            source: HOST,
            destination,
        };
        let mut out = [0; ipv6::HEADER_LEN];
        repr.write(&mut out);
        Ipv6::parse(&out).unwrap()
    }

    fn walked(next_header: Protocol, bytes: &[u8]) -> Result<Chain, Refusal> {
        walk(&ip(next_header, HOST), bytes)
    }

    fn told(why: Why, code: u8, pointer: u32) -> Result<Chain, Refusal> {
        Err(Refusal {
            why,
            problem: Some(Problem { code, pointer }),
        })
    }

    fn silent(why: Why) -> Result<Chain, Refusal> {
        Err(Refusal { why, problem: None })
    }

    #[test]
    fn packet_without_extension_headers_ends_at_once() {
        for protocol in [
            Protocol::UDP,
            Protocol::NO_NEXT_HEADER,
            Protocol(50),
            Protocol(51),
        ] {
            let chain = walked(protocol, &[]).unwrap();
            assert_eq!(
                (chain.protocol, chain.offset, chain.named_at),
                (protocol, 40, 6)
            );
            assert_eq!((chain.fragment, chain.router_alert), (None, false));
        }
    }

    #[test]
    fn headers_are_walked_in_any_order_to_the_payload() {
        let bytes = [
            // Hop-by-hop: router alert, PadN of 0.
            60, 0, 5, 2, 0, 0, 1, 0, //
            // Destination options of 16 bytes: PadN of 12.
            43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
            // Routing header of any type that is at its end.
            44, 0, 99, 0, 0, 0, 0, 0, //
            // Atomic fragment.
            60, 0, 0, 0, 0, 0, 0, 7, //
            // Destination options: six Pad1.
            17, 0, 0, 0, 0, 0, 0, 0,
        ];
        let chain = walked(Protocol::HOP_BY_HOP, &bytes).unwrap();
        assert_eq!((chain.protocol, chain.offset), (Protocol::UDP, 40 + 48));
        assert_eq!(chain.named_at, 40 + 40);
        assert!(chain.router_alert);
        let fragment = chain.fragment.unwrap();
        assert_eq!((fragment.at, fragment.named_at), (40 + 32, 40 + 24));
        assert!(fragment.header.is_whole());
        assert_eq!(fragment.header.id, 7);
        for len in 0..bytes.len() {
            assert_eq!(
                walked(Protocol::HOP_BY_HOP, &bytes[..len]),
                silent(Why::Truncated)
            );
        }
    }

    #[test]
    fn walk_ends_at_a_fragment_and_goes_on_in_the_whole() {
        let piece = [60, 0, 0, 1, 0, 0, 0, 7, 17, 0, 1, 4, 0, 0, 0, 0];
        let ip = ip(Protocol::FRAGMENT, HOST);
        let chain = walk(&ip, &piece).unwrap();
        assert_eq!(
            (chain.protocol, chain.offset),
            (Protocol::DESTINATION_OPTIONS, 48)
        );
        let fragment = chain.fragment.unwrap();
        assert_eq!((fragment.at, fragment.named_at), (40, 6));
        assert!(fragment.header.more && !fragment.header.is_whole());

        let chain = walk_on(&ip, &fragment, &piece[8..]).unwrap();
        assert_eq!(
            (chain.protocol, chain.offset, chain.named_at),
            (Protocol::UDP, 48, 40)
        );

        // A payload that begins with another fragment header, or hop-by-hop options where they may not be.
        let nested = [44, 0, 0, 0, 0, 0, 0, 7, 17, 0, 0, 0, 0, 0, 0, 8];
        assert_eq!(walked(Protocol::FRAGMENT, &nested), silent(Why::Malformed));
    }

    #[test]
    fn first_fragment_has_all_headers_or_not() {
        let ip = ip(Protocol::FRAGMENT, HOST);
        let has_all = |first: u8, payload: &[u8]| {
            let bytes = [&[first, 0, 0, 1, 0, 0, 0, 7], payload].concat();
            let fragment = walk(&ip, &bytes).unwrap().fragment.unwrap();
            has_all_headers(&ip, &fragment, payload)
        };
        let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
        for (protocol, len) in [(17, 8), (58, 8), (6, 20), (59, 0), (99, 1)] {
            assert!(has_all(protocol, &vec![0; len]), "{protocol}");
            assert!(has_all(
                60,
                &[&options(protocol)[..], &vec![0; len]].concat()
            ));
            if len > 0 {
                assert!(!has_all(protocol, &vec![0; len - 1]), "{protocol}");
                let behind = [&options(protocol)[..], &vec![0; len - 1]].concat();
                assert!(!has_all(60, &behind), "{protocol}");
            }
        }
        // Options that go on in the next one; and those that are wrong, which shows later.
        assert!(!has_all(60, &[17, 1, 1, 4, 0, 0, 0, 0]));
        assert!(has_all(60, &[17, 0, 1, 9, 0, 0, 0, 0]));
    }

    #[test]
    fn hop_by_hop_options_stand_first_or_are_unknown() {
        let bytes = [0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0];
        let found = walked(Protocol::DESTINATION_OPTIONS, &bytes);
        assert_eq!(found, told(Why::Malformed, 1, 40));
        let found = walked(Protocol::HOP_BY_HOP, &bytes);
        assert_eq!(found, told(Why::Malformed, 1, 40));
    }

    #[test]
    fn routing_header_that_wants_to_go_on_is_refused_at_its_type() {
        // RFC 5095: type 0; and any other.
        for kind in [0, 2, 4, 200] {
            let bytes = [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, kind, 1, 0, 0, 0, 0];
            let mut bytes = bytes;
            bytes[0] = 43;
            let found = walked(Protocol::DESTINATION_OPTIONS, &bytes);
            assert_eq!(found, told(Why::Routing, 0, 48 + 2));
            bytes[8 + 3] = 0;
            assert!(walked(Protocol::DESTINATION_OPTIONS, &bytes).is_ok());
        }
    }

    #[test]
    fn unknown_options_are_treated_as_their_highest_bits_say() {
        let with = |kind, destination| {
            let bytes = [17, 0, 1, 0, kind, 1, 9, 0];
            walk(&ip(Protocol::DESTINATION_OPTIONS, destination), &bytes)
        };
        assert!(with(0x1e, HOST).is_ok());
        assert_eq!(with(0x5e, HOST), silent(Why::Option));
        assert_eq!(with(0x9e, HOST), told(Why::Option, 2, 44));
        assert_eq!(with(0xde, HOST), told(Why::Option, 2, 44));
        assert!(with(0x1e, GROUP).is_ok());
        assert_eq!(with(0x5e, GROUP), silent(Why::Option));
        assert_eq!(with(0x9e, GROUP), told(Why::Option, 2, 44));
        assert_eq!(with(0xde, GROUP), silent(Why::Option));
    }

    #[test]
    fn router_alert_counts_in_hop_by_hop_options_only() {
        let bytes = [17, 0, 5, 2, 0, 0, 1, 0];
        assert!(walked(Protocol::HOP_BY_HOP, &bytes).unwrap().router_alert);
        assert!(
            !walked(Protocol::DESTINATION_OPTIONS, &bytes)
                .unwrap()
                .router_alert
        );
        let mut out = [0xee; ROUTER_ALERT_LEN];
        write_router_alert(Protocol::UDP, &mut out);
        assert_eq!(out, bytes);
    }

    #[test]
    fn option_that_leads_out_of_its_header_is_refused() {
        for bytes in [[17, 0, 1, 5, 0, 0, 0, 0], [17, 0, 1, 3, 0, 0, 0, 1]] {
            let long = [bytes, [0; 8]].concat();
            assert_eq!(walked(Protocol::HOP_BY_HOP, &long), silent(Why::Malformed));
        }
    }

    #[test]
    fn more_headers_or_options_than_anybody_sends_are_refused() {
        let headers = |n: usize| {
            let mut bytes = [60, 0, 1, 4, 0, 0, 0, 0].repeat(n);
            bytes[(n - 1) * 8] = 17;
            walked(Protocol::DESTINATION_OPTIONS, &bytes)
        };
        assert!(headers(HEADERS_MAX).is_ok());
        assert_eq!(headers(HEADERS_MAX + 1), silent(Why::TooMany));

        let options = |n: usize| {
            let mut bytes = vec![17, 3];
            bytes.extend([0x1e, 0].repeat(n));
            bytes.resize(32, 0);
            walked(Protocol::DESTINATION_OPTIONS, &bytes)
        };
        assert!(options(OPTIONS_MAX).is_ok());
        assert_eq!(options(OPTIONS_MAX + 1), silent(Why::TooMany));
    }

    proptest! {
        #[test]
        fn fragment_header_that_is_written_is_read_again(next_header: u8, units in 0u16..8192, more: bool, id: u32) {
            let header = FragmentHeader { next_header: Protocol(next_header), offset: units * 8, more, id };
            let mut out = [0xee; FragmentHeader::LEN];
            header.write(&mut out);
            prop_assert_eq!(FragmentHeader::parse(&out), Ok(header));
            let theirs = etherparse::Ipv6FragmentHeader::new(
                next_header.into(), etherparse::IpFragOffset::try_new(units).unwrap(), more, id,
            );
            prop_assert_eq!(out, theirs.to_bytes());
        }

        #[test]
        fn whatever_is_found_lies_in_the_packet(
            first in prop::sample::select(vec![0u8, 43, 44, 60]), mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            likely in prop::collection::vec(prop::sample::select(vec![0u8, 17, 43, 44, 60]), 25), to_group: bool,
        ) {
            // Headers of eight bytes that hold PadN, so that the walk gets somewhere.
            for (header, next) in bytes.chunks_exact_mut(8).zip(likely) {
                if header[7] < 200 {
                    (header[0], header[1], header[2], header[3]) = (next, 0, 1, 4);
                }
            }
            let ip = ip(Protocol(first), if to_group { GROUP } else { HOST });
            let len = ipv6::HEADER_LEN + bytes.len();
            match walk(&ip, &bytes) {
                Ok(chain) => {
                    prop_assert!(chain.offset <= len && chain.named_at < chain.offset);
                    if let Some(fragment) = chain.fragment {
                        prop_assert!(fragment.at + FragmentHeader::LEN <= chain.offset);
                        prop_assert!(fragment.named_at < fragment.at);
                        let _ = walk_on(&ip, &fragment, &bytes);
                    }
                }
                Err(Refusal { problem: Some(problem), .. }) => prop_assert!((problem.pointer as usize) < len),
                Err(_) => {}
            }
        }
    }
}
