//! The Internet checksum: RFC 1071.
//!
//! Words are summed as they lie in memory and swapped once at the end, which gives the same (section 2 (B)); and they are summed
//! eight bytes at a time, since a carry out of the top comes in again at the bottom, whatever the width (section 2 (C)).

use core::net::{Ipv4Addr, Ipv6Addr};

use super::Protocol;

/// A one's complement sum in the making, fed piece by piece; pieces may have odd lengths.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    /// Modulo 2^64 - 1, in the machine's byte order.
    sum: u64,
    /// The next byte is the second of a word.
    odd: bool,
}

impl Sum {
    /// Nothing summed up yet.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// The sum of a few words, all in the machine's order or all as numbers.
    #[inline(always)]
    pub(crate) fn of_words<const N: usize>(words: [u32; N]) -> Self {
        // No header has so many words that they overflow.
        let sum = words.iter().map(|word| u64::from(*word)).sum();
        Self { sum, odd: false }
    }

    /// The pseudo header of UDP and TCP over IPv4: RFC 768, RFC 9293 section 3.1.
    #[inline(always)]
    #[must_use]
    pub fn pseudo_v4(
        source: Ipv4Addr,
        destination: Ipv4Addr,
        protocol: Protocol,
        len: u16,
    ) -> Self {
        let addresses = u64::from(u32::from_ne_bytes(source.octets()))
            + u64::from(u32::from_ne_bytes(destination.octets()));
        let rest = u64::from(u16::from(protocol.0).to_be()) + u64::from(len.to_be());
        Self {
            sum: addresses + rest,
            odd: false,
        }
    }

    /// The pseudo header of everything over IPv6: RFC 8200 section 8.1.
    #[inline]
    #[must_use]
    pub fn pseudo_v6(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        protocol: Protocol,
        len: u32,
    ) -> Self {
        let mut sum = Self {
            sum: u64::from(u32::from(protocol.0).to_be()) + u64::from(len.to_be()),
            odd: false,
        };
        sum.add_array(&source.octets());
        sum.add_array(&destination.octets());
        sum
    }

    /// Adds the next bytes.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        let odd = !bytes.len().is_multiple_of(2);
        self.combine(Self {
            sum: words(bytes),
            odd,
        });
    }

    /// Adds the last bytes, from an even place on: what follows cannot be added any more. Few of them cost a few instructions.
    #[inline(always)]
    pub fn add_last(&mut self, bytes: &[u8]) {
        const FEW: usize = 64;
        let Some(last) = bytes.last_chunk().filter(|_| bytes.len() < FEW) else {
            self.sum = carry_around(self.sum, words(bytes));
            return;
        };
        let mut sum = u128::from(self.sum);
        let rest = add_halves(&mut sum, bytes);
        // Those that were added are shifted out; the others stay at their places. None left is a shift by all bits.
        let left = u32::try_from(rest.len()).unwrap_or(0);
        let last = u64::from_le_bytes(*last);
        let last = last.checked_shr(u64::BITS - u8::BITS * left);
        sum += u128::from(last.unwrap_or(0).to_le());
        self.sum = halves(sum);
    }

    /// Adds the next bytes, whose number is known where this is compiled: a header costs a few instructions.
    #[inline]
    pub fn add_array<const N: usize>(&mut self, bytes: &[u8; N]) {
        self.combine(Self {
            sum: words_inline(bytes),
            odd: !N.is_multiple_of(2),
        });
    }

    /// Adds the next two bytes, a number in network order, at an even place.
    #[inline]
    pub fn add_u16(&mut self, word: u16) {
        self.sum = carry_around(self.sum, u64::from(word.to_be()));
    }

    /// Adds what was summed up elsewhere over the bytes that follow.
    #[inline]
    pub fn combine(&mut self, next: Self) {
        // Section 2 (B): the sum of swapped words is the swapped sum.
        let sum = if self.odd {
            next.sum.rotate_left(u8::BITS)
        } else {
            next.sum
        };
        self.sum = carry_around(self.sum, sum);
        self.odd ^= next.odd;
    }

    /// The sum itself: what a device wants to find in the field of a checksum that it completes.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        u16::from_be(fold_64(self.sum))
    }

    /// The checksum: the complement of the sum.
    #[inline]
    #[must_use]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }

    /// The checksum for UDP, where zero says that there is none: RFC 768.
    #[inline]
    #[must_use]
    pub const fn finish_udp(self) -> u16 {
        match self.finish() {
            0 => 0xffff,
            sum => sum,
        }
    }

    /// Whether bytes that hold their own checksum, all summed up, are whole.
    #[inline]
    #[must_use]
    pub const fn is_right(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The one's complement sum of the four words of a number.
#[inline(always)]
pub(crate) const fn fold_64(sum: u64) -> u16 {
    // Adding the halves crosswise leaves their sum, with its carry added, in the upper half.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// Adds, and adds the carry.
#[inline]
const fn carry_around(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    // Where there is a carry, the sum is at most 2^64 - 2.
    sum.wrapping_add(carry as u64)
}

/// [`words_inline`], once for all callers.
#[inline(never)]
fn words(bytes: &[u8]) -> u64 {
    words_inline(bytes)
}

/// The sum of bytes from an even place on, in the machine's order, modulo 2^64 - 1.
#[inline(always)]
fn words_inline(bytes: &[u8]) -> u64 {
    let mut sum = 0;
    let (blocks, rest) = bytes.as_chunks::<64>();
    for block in blocks {
        add_eights(&mut sum, block);
    }
    let mut rest = add_halves(&mut sum, rest);
    let mut last = 0;
    if let Some((four, tail)) = rest.split_first_chunk() {
        last = u64::from(u32::from_ne_bytes(*four));
        rest = tail;
    }
    if let Some((two, tail)) = rest.split_first_chunk() {
        last += u64::from(u16::from_ne_bytes(*two));
        rest = tail;
    }
    if let [byte] = rest {
        // Padded with a zero: section 1.
        last += u64::from(u16::from_ne_bytes([*byte, 0]));
    }
    sum += u128::from(last);
    halves(sum)
}

/// Adds the eights of fewer than 64 bytes, and returns what is left. It halves each time, so that a short slice takes a few
/// branches and no loop.
#[inline(always)]
fn add_halves<'b>(sum: &mut u128, mut rest: &'b [u8]) -> &'b [u8] {
    if let Some((half, tail)) = rest.split_first_chunk::<32>() {
        add_eights(sum, half);
        rest = tail;
    }
    if let Some((half, tail)) = rest.split_first_chunk::<16>() {
        add_eights(sum, half);
        rest = tail;
    }
    if let Some((half, tail)) = rest.split_first_chunk::<8>() {
        add_eights(sum, half);
        rest = tail;
    }
    rest
}

/// The halves of a sum, one added to the other.
#[inline(always)]
fn halves(sum: u128) -> u64 {
    let [low, high] = crate::hash::words(sum);
    carry_around(low, high)
}

/// Adds a multiple of eight bytes. Carries gather in the upper half, an addition each: no slice has 2^64 words.
#[inline(always)]
fn add_eights<const N: usize>(sum: &mut u128, bytes: &[u8; N]) {
    let (eights, _) = bytes.as_chunks::<8>();
    for eight in eights {
        *sum += u128::from(u64::from_ne_bytes(*eight));
    }
}

/// The checksum of some bytes.
#[inline]
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.finish()
}

/// The checksum after a word at an even place was changed: RFC 1624 section 3.
#[inline]
#[must_use]
pub const fn update(checksum: u16, before: u16, after: u16) -> u16 {
    let sum = carry_16(carry_16(!checksum, !before), after);
    !sum
}

/// Adds, and adds the carry.
#[inline]
const fn carry_16(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry as u16)
}

#[cfg(test)]
mod tests {
    use etherparse::checksum::Sum16BitWords;
    use proptest::prelude::*;

    use super::*;

    /// RFC 1071 section 4.1, word for word.
    fn plainly(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn example_of_rfc_1071_sums_up_to_what_it_says() {
        let mut sum = Sum::new();
        sum.add(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold(), 0xddf2);
        assert_eq!(sum.finish(), 0x220d);
    }

    #[test]
    fn ones_everywhere_carry_at_every_length() {
        for len in 0..300 {
            let bytes = vec![0xff; len];
            assert_eq!(checksum(&bytes), plainly(&bytes), "{len}");
        }
    }

    #[test]
    fn nothing_sums_up_to_nothing_and_udp_says_so_otherwise() {
        assert_eq!(Sum::new().fold(), 0);
        assert_eq!(checksum(&[0xff, 0xff]), 0);
        let mut sum = Sum::new();
        sum.add_u16(0xffff);
        assert_eq!((sum.finish(), sum.finish_udp()), (0, 0xffff));
        assert!(sum.is_right());
    }

    #[test]
    fn example_of_rfc_1624_is_updated_as_it_says() {
        // Section 4: the header's checksum was 0xdd2f, and 0x5555 became 0x3285.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest! {
        #[test]
        fn last_bytes_sum_up_as_all_others(first in proptest::collection::vec(any::<[u8; 2]>(), 0..10), last in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut sum = Sum::new();
            sum.add(first.as_flattened());
            let (mut one, mut other) = (sum, sum);
            one.add(&last);
            other.add_last(&last);
            prop_assert_eq!(one.fold(), other.fold());
        }

        #[test]
        fn any_bytes_sum_up_as_the_rfc_does_it(bytes: Vec<u8>) {
            prop_assert_eq!(checksum(&bytes), plainly(&bytes));
            let theirs = Sum16BitWords::new().add_slice(&bytes).ones_complement();
            prop_assert_eq!(checksum(&bytes), u16::from_be(theirs));
        }

        #[test]
        fn pieces_sum_up_as_the_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..90), 0..8)) {
            let (mut sum, mut combined) = (Sum::new(), Sum::new());
            for piece in &pieces {
                sum.add(piece);
                let mut alone = Sum::new();
                alone.add(piece);
                combined.combine(alone);
            }
            prop_assert_eq!(sum.finish(), plainly(&pieces.concat()));
            prop_assert_eq!(combined.finish(), plainly(&pieces.concat()));
        }

        #[test]
        fn pseudo_headers_sum_up_as_their_bytes(
            v4: [[u8; 4]; 2], v6: [[u8; 16]; 2], protocol: u8, len: u16, long: u32, payload: Vec<u8>,
        ) {
            let mut sum = Sum::pseudo_v4(v4[0].into(), v4[1].into(), Protocol(protocol), len);
            sum.add(&payload);
            let bytes = [&v4.concat()[..], &[0, protocol], &len.to_be_bytes(), &payload].concat();
            prop_assert_eq!(sum.finish(), plainly(&bytes));

            let mut sum = Sum::pseudo_v6(v6[0].into(), v6[1].into(), Protocol(protocol), long);
            sum.add(&payload);
            let bytes = [&v6.concat()[..], &long.to_be_bytes(), &[0, 0, 0, protocol], &payload].concat();
            prop_assert_eq!(sum.finish(), plainly(&bytes));
        }

        #[test]
        fn update_is_as_summing_up_again(mut words in prop::collection::vec(any::<u16>(), 1..40), place: prop::sample::Index, after: u16) {
            // Not all zero: then the sum may be minus zero, as RFC 1624 section 3 explains.
            words.push(1);
            let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
            let old = checksum(&bytes(&words));
            let place = place.index(words.len() - 1);
            let before = core::mem::replace(&mut words[place], after);
            prop_assert_eq!(update(old, before, after), checksum(&bytes(&words)));
        }

        #[test]
        fn bytes_with_their_checksum_are_right(words in prop::collection::vec(any::<[u8; 2]>(), 1..40), flip: prop::sample::Index) {
            let mut bytes = words.concat();
            bytes.extend(checksum(&bytes).to_be_bytes());
            let mut sum = Sum::new();
            sum.add(&bytes);
            prop_assert!(sum.is_right());

            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut sum = Sum::new();
            sum.add(&bytes);
            prop_assert!(!sum.is_right());
        }
    }
}
