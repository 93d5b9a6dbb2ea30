//! The Internet checksum (RFC 1071), and completing one that a sender left to the device.

use crate::flags::OffloadFlags;
use crate::mbuf::Mbuf;

/// Bytes of a checksum.
const FIELD_LEN: usize = 2;

/// A one's complement sum in the making, fed piece by piece.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sum {
    sum: u64,
    /// The next byte is the second of a word.
    odd: bool,
}

impl Sum {
    /// Nothing summed up yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// Adds the next bytes; pieces may have odd lengths.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if self.odd
            && let Some((first, rest)) = bytes.split_first()
        {
            self.add_word(u64::from(*first));
            self.odd = false;
            bytes = rest;
        }
        // Four bytes at a time: RFC 1071 section 2 (C), the sum of wider words folds to the same.
        let (fours, rest) = bytes.as_chunks::<4>();
        for four in fours {
            self.add_word(u64::from(u32::from_be_bytes(*four)));
        }
        let (twos, last) = rest.as_chunks::<2>();
        for two in twos {
            self.add_word(u64::from(u16::from_be_bytes(*two)));
        }
        if let [last] = last {
            self.add_word(u64::from(*last) << 8);
            self.odd = true;
        }
    }

    fn add_word(&mut self, word: u64) {
        // No overflow: words of 32 bits, and no packet has 2^32 of them.
        self.sum = self.sum.wrapping_add(word);
    }

    /// The checksum: the complement of the sum.
    #[must_use]
    pub fn finish(self) -> u16 {
        let mut sum = self.sum;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        // At most 16 bits: folded above.
        !u16::try_from(sum).unwrap_or(0)
    }
}

/// The checksum of some bytes.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = Sum::new();
    sum.add(bytes);
    sum.finish()
}

/// Why a partial checksum was not completed; the packet is to be dropped and counted, or cloned deep first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChecksumError {
    /// `csum_start` or `csum_offset` lead out of the packet.
    #[error("the checksum field lies outside the packet; drop it")]
    OutOfPacket,
    /// Clones by reference see the same bytes.
    #[error("clones share the bytes of the packet; complete a deep clone instead")]
    Shared,
}

/// Completes the checksum of a packet that carries [`OffloadFlags::TX_L4_CSUM`], and takes the flag away.
///
/// The field holds the sum of the pseudo header. From `csum_start` to the end, the field included, all is summed up, and the
/// complement goes into the field: what a device would do. A packet without the flag is left as it is.
///
/// # Errors
///
/// The field is not in the packet, or cannot be written; then nothing is changed.
pub fn complete(mbuf: &mut Mbuf<'_>) -> Result<(), ChecksumError> {
    if !mbuf.flags().contains(OffloadFlags::TX_L4_CSUM) {
        return Ok(());
    }
    let offload = mbuf.offload();
    let start = usize::from(offload.csum_start);
    let field = start + usize::from(offload.csum_offset);

    let (mut sum, mut skip, mut len) = (Sum::new(), start, 0);
    for bytes in mbuf.segments() {
        sum.add(bytes.get(skip..).unwrap_or_default());
        skip -= skip.min(bytes.len());
        len += bytes.len();
    }
    if field + FIELD_LEN > len {
        return Err(ChecksumError::OutOfPacket);
    }
    if mbuf.is_shared() {
        return Err(ChecksumError::Shared);
    }
    // Zero says "no checksum" in UDP (RFC 768), and is the same number to all others.
    let value = match sum.finish() {
        0 => 0xffff,
        value => value,
    };
    if mbuf.copy_in(field, &value.to_be_bytes()) != FIELD_LEN {
        return Err(ChecksumError::Shared);
    }
    mbuf.set_flags(mbuf.flags().without(OffloadFlags::TX_L4_CSUM));
    Ok(())
}
