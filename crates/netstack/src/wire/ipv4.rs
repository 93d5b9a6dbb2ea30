//! IPv4: the header and its options. RFC 791.

use core::net::Ipv4Addr;

use super::checksum::{Sum, fold_64};
use super::{Malformed, Protocol, take};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of a header with all the options it may have.
pub const HEADER_LEN_MAX: usize = 60;

/// More fragments follow.
const MORE_FRAGMENTS: u16 = 0x2000;
/// No fragments may be made.
const DONT_FRAGMENT: u16 = 0x4000;
/// Where a fragment belongs, in units of eight bytes.
const OFFSET_MASK: u16 = 0x1fff;

/// The header of a packet: without its options, which [`options`](Self::options) finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4 {
    /// As numbers: they stay in registers, and sum up fast.
    words: [u32; HEADER_LEN / 4],
}

impl Ipv4 {
    /// Reads the header that `bytes`, which have its options, too, begin with.
    ///
    /// The checksum is the caller's: [`checksum_is_right`](Self::checksum_is_right). So is the packet: it may be longer than
    /// [`total_len`](Self::total_len), which is padding, but not shorter.
    ///
    /// # Errors
    ///
    /// The bytes end in the header, the version is not 4, or the lengths contradict each other.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (header, rest): ([u8; HEADER_LEN], _) = take(bytes)?;
        let mut words = [0; HEADER_LEN / 4];
        let (fours, _) = header.as_chunks();
        for (word, four) in words.iter_mut().zip(fours) {
            *word = u32::from_be_bytes(*four);
        }
        let ip = Self { words };
        // No options, which is nearly always so, is one comparison.
        if ip.words[0] >> 24 != 0x45 {
            if ip.words[0] >> 28 != 4 {
                return Err(Malformed::BadVersion);
            }
            let Some(options_len) = ip.header_len().checked_sub(HEADER_LEN) else {
                return Err(Malformed::BadLength);
            };
            if rest.len() < options_len {
                return Err(Malformed::Truncated);
            }
        }
        if usize::from(ip.total_len()) < ip.header_len() {
            return Err(Malformed::BadLength);
        }
        Ok(ip)
    }

    /// Bytes of the header and its options: 20 to 60.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        (self.words[0] >> 24 & 0xf) as usize * 4
    }

    /// Differentiated services and congestion: RFC 2474, RFC 3168.
    #[inline]
    #[must_use]
    pub const fn traffic_class(&self) -> u8 {
        (self.words[0] >> 16 & 0xff) as u8
    }

    /// Explicit congestion notification: RFC 3168 section 5.
    #[inline]
    #[must_use]
    pub const fn ecn(&self) -> u8 {
        self.traffic_class() & 3
    }

    /// Bytes of header and payload, at least [`header_len`](Self::header_len).
    #[inline]
    #[must_use]
    pub const fn total_len(&self) -> u16 {
        (self.words[0] & 0xffff) as u16
    }

    /// Bytes behind the header.
    #[inline]
    #[must_use]
    pub const fn payload_len(&self) -> u16 {
        // Not below zero: checked by `parse`.
        self.total_len()
            .wrapping_sub((self.words[0] >> 24 & 0xf) as u16 * 4)
    }

    /// Names the datagram that a fragment is of.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> u16 {
        (self.words[1] >> 16) as u16
    }

    #[inline]
    const fn flags_and_offset(&self) -> u16 {
        (self.words[1] & 0xffff) as u16
    }

    /// Whether no fragments may be made of it.
    #[inline]
    #[must_use]
    pub const fn dont_fragment(&self) -> bool {
        self.flags_and_offset() & DONT_FRAGMENT != 0
    }

    /// Whether fragments follow this one.
    #[inline]
    #[must_use]
    pub const fn more_fragments(&self) -> bool {
        self.flags_and_offset() & MORE_FRAGMENTS != 0
    }

    /// Where in the datagram the payload belongs, in bytes.
    #[inline]
    #[must_use]
    pub const fn fragment_offset(&self) -> u16 {
        (self.flags_and_offset() & OFFSET_MASK) * 8
    }

    /// Whether it is a piece only.
    #[inline]
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.flags_and_offset() & (OFFSET_MASK | MORE_FRAGMENTS) != 0
    }

    /// Time to live.
    #[inline]
    #[must_use]
    pub const fn ttl(&self) -> u8 {
        (self.words[2] >> 24) as u8
    }

    /// What the payload is.
    #[inline]
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        Protocol((self.words[2] >> 16 & 0xff) as u8)
    }

    /// The header's checksum.
    #[inline]
    #[must_use]
    pub const fn checksum(&self) -> u16 {
        (self.words[2] & 0xffff) as u16
    }

    /// From whom.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.words[3])
    }

    /// To whom.
    #[inline]
    #[must_use]
    pub const fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.words[4])
    }

    /// The header without its options, as it was.
    #[inline]
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let (fours, _) = bytes.as_chunks_mut();
        for (four, word) in fours.iter_mut().zip(self.words) {
            *four = word.to_be_bytes();
        }
        bytes
    }

    /// Whether the header's checksum is right; `bytes` are those that were parsed.
    #[inline(always)]
    #[must_use]
    pub fn checksum_is_right(&self, bytes: &[u8]) -> bool {
        if self.header_len() == HEADER_LEN {
            // Numbers sum up as memory does: RFC 1071 section 2 (B).
            return Sum::of_words(self.words).is_right();
        }
        self.sum_is_right(bytes)
    }

    /// With options, which are rare.
    #[cold]
    fn sum_is_right(&self, bytes: &[u8]) -> bool {
        let mut sum = Sum::new();
        sum.add(&self.to_bytes());
        sum.add(self.option_bytes(bytes));
        sum.is_right()
    }

    /// The bytes of the options; `bytes` are those that were parsed.
    #[inline]
    #[must_use]
    pub fn option_bytes<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(HEADER_LEN..self.header_len()).unwrap_or_default()
    }

    /// The options, one by one; `bytes` are those that were parsed.
    #[inline]
    #[must_use]
    pub fn options<'a>(&self, bytes: &'a [u8]) -> Options<'a> {
        Options {
            rest: self.option_bytes(bytes),
        }
    }
}

/// One option that is neither padding nor the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Option<'a> {
    kind: u8,
    bytes: &'a [u8],
}

impl<'a> Ipv4Option<'a> {
    /// Loose source and record route.
    pub const LSRR: u8 = 131;
    /// Strict source and record route.
    pub const SSRR: u8 = 137;
    /// Record route.
    pub const RECORD_ROUTE: u8 = 7;
    /// Internet timestamp.
    pub const TIMESTAMP: u8 = 68;
    /// Routers shall look at it: RFC 2113.
    pub const ROUTER_ALERT: u8 = 148;

    /// Which it is.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.kind
    }

    /// Whether every fragment has it, not only the first: RFC 791 section 3.1.
    #[must_use]
    pub const fn is_copied(&self) -> bool {
        self.kind & 0x80 != 0
    }

    /// The option, its kind and length included.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// The options of a header, one by one. Ends with the first that is malformed.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;

    /// Looks at all of them.
    ///
    /// # Errors
    ///
    /// One is malformed.
    pub fn check(self) -> Result<Seen, Malformed> {
        let mut seen = Seen::default();
        for option in self {
            match option?.kind {
                Ipv4Option::LSRR | Ipv4Option::SSRR => seen.source_route = true,
                Ipv4Option::ROUTER_ALERT => seen.router_alert = true,
                _ => {}
            }
        }
        Ok(seen)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<Ipv4Option<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let all = core::mem::take(&mut self.rest);
            let (kind, behind) = all.split_first()?;
            match *kind {
                Self::END => return None,
                Self::NO_OPERATION => self.rest = behind,
                kind => {
                    // The length counts itself and the kind: section 3.1.
                    let len = behind.first().map_or(0, |len| usize::from(*len));
                    let (true, Some((bytes, rest))) = (len >= 2, all.split_at_checked(len)) else {
                        return Some(Err(Malformed::BadLength));
                    };
                    self.rest = rest;
                    return Some(Ok(Ipv4Option { kind, bytes }));
                }
            }
        }
    }
}

/// What was found among the options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// The sender says which way to go: to be dropped, RFC 7126 sections 4.3 and 4.4.
    pub source_route: bool,
    /// Routers shall look at it.
    pub router_alert: bool,
}

/// The fields of a header to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repr {
    /// Differentiated services and congestion.
    pub traffic_class: u8,
    /// Bytes behind the header. With the header not more than 65535: the caller sees to it.
    pub payload_len: u16,
    /// Names the datagram.
    pub id: u16,
    /// No fragments may be made of it.
    pub dont_fragment: bool,
    /// Fragments follow.
    pub more_fragments: bool,
    /// Where the payload belongs: a multiple of 8.
    pub fragment_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: Protocol,
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
}

impl Repr {
    /// Bytes of a header with a router alert.
    pub const WITH_ROUTER_ALERT_LEN: usize = HEADER_LEN + 4;

    /// Writes the header with its checksum.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; HEADER_LEN]) {
        self.write_words(self.words(HEADER_LEN), true, out);
    }

    /// Writes the header with zero for a checksum: the device is asked for it.
    #[inline]
    pub fn write_without_checksum(&self, out: &mut [u8; HEADER_LEN]) {
        self.write_words(self.words(HEADER_LEN), false, out);
    }

    /// Writes the header, its checksum, and an option that has routers look at it: RFC 2113.
    pub fn write_with_router_alert(&self, out: &mut [u8; Self::WITH_ROUTER_ALERT_LEN]) {
        let [a, b, c, d, e] = self.words(Self::WITH_ROUTER_ALERT_LEN);
        let alert = u32::from_be_bytes([Ipv4Option::ROUTER_ALERT, 4, 0, 0]);
        self.write_words([a, b, c, d, e, alert], true, out);
    }

    /// The header, its checksum zero.
    #[inline(always)]
    fn words(&self, header_len: usize) -> [u32; HEADER_LEN / 4] {
        let words = u8::try_from(header_len / 4).unwrap_or(0);
        let header_len = u16::from(words) * 4;
        let [len_high, len_low] = self.payload_len.wrapping_add(header_len).to_be_bytes();
        let [id_high, id_low] = self.id.to_be_bytes();
        let mut flags = self.fragment_offset >> 3;
        if self.dont_fragment {
            flags |= DONT_FRAGMENT;
        }
        if self.more_fragments {
            flags |= MORE_FRAGMENTS;
        }
        let [flags, offset] = flags.to_be_bytes();
        [
            u32::from_be_bytes([0x40 | words, self.traffic_class, len_high, len_low]),
            u32::from_be_bytes([id_high, id_low, flags, offset]),
            u32::from_be_bytes([self.ttl, self.protocol.0, 0, 0]),
            self.source.to_bits(),
            self.destination.to_bits(),
        ]
    }

    #[inline(always)]
    fn write_words<const WORDS: usize, const LEN: usize>(
        &self,
        mut words: [u32; WORDS],
        with_checksum: bool,
        out: &mut [u8; LEN],
    ) {
        if with_checksum {
            // Still in registers. The words are numbers, not memory, so nothing is swapped; a carry cannot happen.
            let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
            if let [_, _, word, ..] = &mut words[..] {
                *word |= u32::from(!fold_64(sum));
            }
        }
        let (fours, _) = out.as_chunks_mut::<4>();
        for (four, word) in fours.iter_mut().zip(words) {
            *four = word.to_be_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IpDscp, IpEcn, IpFragOffset, Ipv4Header, Ipv4Options};
    use proptest::prelude::*;

    use super::super::checksum::checksum;
    use super::*;

    /// UDP of 95 bytes from 192.168.0.1 to 192.168.0.199, whose checksum is known.
    const KNOWN: [u8; HEADER_LEN] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    #[test]
    fn known_header_has_these_fields() {
        let ip = Ipv4::parse(&KNOWN).unwrap();
        assert_eq!(
            (ip.header_len(), ip.total_len(), ip.payload_len()),
            (20, 115, 95)
        );
        assert_eq!((ip.traffic_class(), ip.ecn(), ip.id()), (0, 0, 0));
        assert_eq!((ip.dont_fragment(), ip.more_fragments()), (true, false));
        assert_eq!((ip.fragment_offset(), ip.is_fragment()), (0, false));
        assert_eq!((ip.ttl(), ip.protocol()), (64, Protocol::UDP));
        assert_eq!(ip.checksum(), 0xb861);
        assert_eq!(ip.source(), Ipv4Addr::new(192, 168, 0, 1));
        assert_eq!(ip.destination(), Ipv4Addr::new(192, 168, 0, 199));
        assert!(ip.checksum_is_right(&KNOWN));
    }

    #[test]
    fn version_and_lengths_that_contradict_are_refused() {
        let with = |place: usize, value| {
            let mut bytes = KNOWN;
            bytes[place] = value;
            Ipv4::parse(&bytes)
        };
        assert_eq!(with(0, 0x65), Err(Malformed::BadVersion));
        assert_eq!(with(0, 0x44), Err(Malformed::BadLength));
        assert_eq!(with(0, 0x46), Err(Malformed::Truncated));
        assert_eq!(with(3, 19), Err(Malformed::BadLength));
        assert!(with(3, 20).is_ok());
        assert_eq!(Ipv4::parse(&KNOWN[..19]), Err(Malformed::Truncated));

        // Long enough for its options, but not in its own words.
        let mut options = [0; 24];
        options[..20].copy_from_slice(&KNOWN);
        (options[0], options[3]) = (0x46, 23);
        assert_eq!(Ipv4::parse(&options), Err(Malformed::BadLength));
    }

    #[test]
    fn options_are_told_apart_and_padding_is_none() {
        let seen = |options: &[u8]| Options { rest: options }.check();
        assert_eq!(seen(&[]), Ok(Seen::default()));
        assert_eq!(seen(&[1, 1, 1, 0]), Ok(Seen::default()));
        assert_eq!(seen(&[0, 137, 3, 4]), Ok(Seen::default()));
        for source_route in [Ipv4Option::LSRR, Ipv4Option::SSRR] {
            let found = seen(&[1, source_route, 7, 4, 10, 0, 0, 1]).unwrap();
            assert!(found.source_route && !found.router_alert);
        }
        let found = seen(&[
            Ipv4Option::TIMESTAMP,
            4,
            5,
            0,
            Ipv4Option::ROUTER_ALERT,
            4,
            0,
            0,
        ]);
        assert_eq!(
            found.map(|seen| (seen.source_route, seen.router_alert)),
            Ok((false, true))
        );
    }

    #[test]
    fn option_whose_length_leads_out_is_refused_once() {
        for options in [
            &[7][..],
            &[7, 0],
            &[7, 1, 0, 0],
            &[7, 5, 4, 0],
            &[1, 7, 4, 0],
        ] {
            let mut options = Options { rest: options };
            assert_eq!(options.next(), Some(Err(Malformed::BadLength)));
            assert_eq!(options.next(), None);
        }
    }

    #[test]
    fn fragments_copy_what_says_so() {
        let bytes = [7, 3, 4, 148, 4, 0, 0, 1];
        let options: Vec<_> = Options { rest: &bytes }.map(Result::unwrap).collect();
        assert_eq!((options[0].kind(), options[0].is_copied()), (7, false));
        assert_eq!((options[1].kind(), options[1].is_copied()), (148, true));
        assert_eq!(options[1].bytes(), &[148, 4, 0, 0]);
    }

    #[test]
    fn header_with_a_router_alert_is_whole() {
        let repr = repr_of(&Ipv4::parse(&KNOWN).unwrap());
        let mut out = [0xee; Repr::WITH_ROUTER_ALERT_LEN];
        repr.write_with_router_alert(&mut out);
        let ip = Ipv4::parse(&out).unwrap();
        assert_eq!((ip.header_len(), ip.payload_len()), (24, 95));
        assert!(ip.checksum_is_right(&out));
        assert!(ip.options(&out).check().unwrap().router_alert);
    }

    fn repr_of(ip: &Ipv4) -> Repr {
        Repr {
            traffic_class: ip.traffic_class(),
            payload_len: ip.payload_len(),
            id: ip.id(),
            dont_fragment: ip.dont_fragment(),
            more_fragments: ip.more_fragments(),
            fragment_offset: ip.fragment_offset(),
            ttl: ip.ttl(),
            protocol: ip.protocol(),
            source: ip.source(),
            destination: ip.destination(),
        }
    }

    prop_compose! {
        fn theirs()(
            class: u8, payload in 0u16..65000, id: u16, flags: (bool, bool), offset in 0u16..8192, ttl: u8, protocol: u8,
            source: [u8; 4], destination: [u8; 4], words in 0usize..=10, options: [u8; 40],
        ) -> Ipv4Header {
            let mut header = Ipv4Header::new(0, ttl, protocol.into(), source, destination).unwrap();
            header.options = Ipv4Options::try_from(&options[..words * 4]).unwrap();
            header.dscp = IpDscp::try_new(class >> 2).unwrap();
            header.ecn = IpEcn::try_new(class & 3).unwrap();
            header.total_len = payload + u16::try_from(header.header_len()).unwrap();
            header.identification = id;
            (header.dont_fragment, header.more_fragments) = flags;
            header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
            header.header_checksum = header.calc_header_checksum();
            header
        }
    }

    proptest! {
        #[test]
        fn header_is_the_one_that_etherparse_writes(theirs in theirs()) {
            let bytes = theirs.to_bytes();
            let ip = Ipv4::parse(&bytes).unwrap();
            prop_assert_eq!(ip.header_len(), theirs.header_len());
            prop_assert_eq!(ip.traffic_class(), theirs.dscp.value() << 2 | theirs.ecn.value());
            prop_assert_eq!(ip.ecn(), theirs.ecn.value());
            prop_assert_eq!(ip.total_len(), theirs.total_len);
            prop_assert_eq!(ip.payload_len(), theirs.payload_len().unwrap());
            prop_assert_eq!(ip.id(), theirs.identification);
            prop_assert_eq!(ip.dont_fragment(), theirs.dont_fragment);
            prop_assert_eq!(ip.more_fragments(), theirs.more_fragments);
            prop_assert_eq!(usize::from(ip.fragment_offset()), usize::from(theirs.fragment_offset.value()) * 8);
            prop_assert_eq!(ip.is_fragment(), theirs.is_fragmenting_payload());
            prop_assert_eq!((ip.ttl(), ip.protocol().0), (theirs.time_to_live, theirs.protocol.0));
            prop_assert_eq!(ip.checksum(), theirs.header_checksum);
            prop_assert_eq!(ip.source().octets(), theirs.source);
            prop_assert_eq!(ip.destination().octets(), theirs.destination);
            prop_assert_eq!(ip.option_bytes(&bytes), theirs.options.as_slice());
            prop_assert_eq!(&ip.to_bytes()[..], &bytes[..HEADER_LEN]);
            prop_assert!(ip.checksum_is_right(&bytes));
        }

        #[test]
        fn header_that_is_written_is_read_again(theirs in theirs()) {
            let bytes = theirs.to_bytes();
            let repr = repr_of(&Ipv4::parse(&bytes).unwrap());
            let mut out = [0xee; HEADER_LEN];
            repr.write(&mut out);
            let ip = Ipv4::parse(&out).unwrap();
            prop_assert_eq!(repr_of(&ip), repr);
            prop_assert_eq!(checksum(&out), 0);
            prop_assert!(ip.checksum_is_right(&out));
            if theirs.options.is_empty() {
                prop_assert_eq!(&out[..], &bytes[..]);
            }

            repr.write_without_checksum(&mut out);
            prop_assert_eq!((out[10], out[11]), (0, 0));
            prop_assert_eq!(repr_of(&Ipv4::parse(&out).unwrap()), repr);
        }

        #[test]
        fn flipped_bit_is_noticed(theirs in theirs(), bit: prop::sample::Index) {
            let mut bytes = theirs.to_bytes();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(ip) = Ipv4::parse(&bytes) && ip.header_len() == theirs.header_len() {
                prop_assert!(!ip.checksum_is_right(&bytes));
            }
        }

        #[test]
        fn no_bytes_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..80), usual: bool) {
            if usual && let Some(first) = bytes.first_mut() {
                *first = 0x40 | (*first & 0xf);
            }
            if let Ok(ip) = Ipv4::parse(&bytes) {
                let options = ip.options(&bytes);
                prop_assert!(options.clone().count() <= ip.header_len() - HEADER_LEN);
                let _ = options.check();
                let _ = ip.checksum_is_right(&bytes);
                // Others may have changed and shortened them meanwhile.
                prop_assert_eq!(ip.option_bytes(&[]), &[]);
            }
        }
    }
}
