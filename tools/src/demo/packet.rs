//! The packets of `demo --local`: Ethernet, IPv4, UDP, and in it a number and a checksum.

use std::collections::{BTreeMap, BTreeSet};

/// A packet's bytes, without the frame check sequence: the longest of ordinary Ethernet.
pub(super) const PACKET_LEN: usize = 1514;

const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const UDP_LEN: usize = 8;
const IPV4: usize = ETHERNET_LEN;
const UDP: usize = IPV4 + IPV4_LEN;
const NUMBER: usize = UDP + UDP_LEN;
const CHECKSUM: usize = NUMBER + 8;
const FILLING: usize = CHECKSUM + 8;

/// UDP source ports, in turn: as many flows.
const FLOWS: u64 = 64;
/// The discard port, RFC 863.
const DISCARD_PORT: u16 = 9;

/// Writes packet `number`.
pub(super) fn write(packet: &mut [u8], number: u64) {
    let (_, rest) = packet.split_at_mut(IPV4);
    let len = |from: usize| u16::try_from(PACKET_LEN - from).expect("an Ethernet frame is short");
    let [flow, ..] = (number % FLOWS).to_le_bytes();
    rest[..4].copy_from_slice(&[
        0x45,
        0,
        len(IPV4).to_be_bytes()[0],
        len(IPV4).to_be_bytes()[1],
    ]);
    rest[4..IPV4_LEN].copy_from_slice(&[0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = internet_checksum(&rest[..IPV4_LEN]).to_be_bytes();
    rest[10..12].copy_from_slice(&sum);
    packet[..ETHERNET_LEN].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0]);
    packet[UDP..UDP + 2].copy_from_slice(&[0xc0, flow]);
    packet[UDP + 2..UDP + 4].copy_from_slice(&DISCARD_PORT.to_be_bytes());
    packet[UDP + 4..UDP + 6].copy_from_slice(&len(UDP).to_be_bytes());
    // Zero: no UDP checksum. Ours is the better one.
    packet[UDP + 6..NUMBER].fill(0);
    packet[NUMBER..CHECKSUM].copy_from_slice(&number.to_be_bytes());
    for (index, chunk) in packet[FILLING..].chunks_mut(8).enumerate() {
        let word = mix(number.wrapping_add((index as u64) << 40)).to_le_bytes();
        chunk.copy_from_slice(&word[..chunk.len()]);
    }
    let sum = checksum(packet);
    packet[CHECKSUM..FILLING].copy_from_slice(&sum.to_be_bytes());
}

/// The number of a packet that is as it was written.
pub(super) fn read(packet: &[u8; PACKET_LEN]) -> Option<u64> {
    let word = |at: usize| {
        packet[at..]
            .first_chunk()
            .map_or(0, |bytes: &[u8; 8]| u64::from_be_bytes(*bytes))
    };
    (checksum(packet) == word(CHECKSUM)).then(|| word(NUMBER))
}

/// Over everything but the checksum itself.
fn checksum(packet: &[u8]) -> u64 {
    let words = packet[..CHECKSUM]
        .chunks(8)
        .chain(packet[FILLING..].chunks(8));
    words.fold(0xcbf2_9ce4_8422_2325, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(sum ^ u64::from_le_bytes(word))
    })
}

/// Spreads every bit over all others: the finish of SplitMix64.
fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// RFC 1071.
fn internet_checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits just above")
}

/// What arrived of one direction.
#[derive(Debug, Default)]
pub(super) struct Receipt {
    /// Different packets that arrived whole.
    pub(super) received: u64,
    /// Packets that arrived again.
    pub(super) duplicates: u64,
    /// Packets that are not as they were sent.
    pub(super) damaged: u64,
    /// Packets that a later one of the same flow overtook.
    pub(super) reordered: u64,
    /// All below this have arrived.
    complete: u64,
    /// Those above that have.
    beyond: BTreeSet<u64>,
    /// The highest number of each flow.
    latest: BTreeMap<u64, u64>,
}

impl Receipt {
    /// Takes note of a packet, by its number if it is whole.
    pub(super) fn note(&mut self, number: Option<u64>) {
        let Some(number) = number else {
            self.damaged += 1;
            return;
        };
        if number < self.complete || !self.beyond.insert(number) {
            self.duplicates += 1;
            return;
        }
        self.received += 1;
        let latest = self.latest.entry(number % FLOWS).or_insert(number);
        self.reordered += u64::from(number < *latest);
        *latest = number.max(*latest);
        while self.beyond.remove(&self.complete) {
            self.complete += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_reads_back_and_a_flipped_bit_is_found() {
        let mut packet = [0; PACKET_LEN];
        for number in [0, 1, 63, 1 << 40] {
            write(&mut packet, number);
            assert_eq!(read(&packet), Some(number));
            assert_eq!(internet_checksum(&packet[IPV4..UDP]), 0);
        }
        for at in 0..PACKET_LEN {
            packet[at] ^= 1;
            assert_eq!(read(&packet), None, "byte {at}");
            packet[at] ^= 1;
        }
    }

    #[test]
    fn receipt_tells_late_from_double_from_lost() {
        let mut receipt = Receipt::default();
        for number in [0, 2, 1, 1, 3 + FLOWS, 3, 3]
            .map(Some)
            .into_iter()
            .chain([None])
        {
            receipt.note(number);
        }
        let Receipt {
            received,
            duplicates,
            damaged,
            reordered,
            ..
        } = receipt;
        assert_eq!((received, duplicates, damaged, reordered), (5, 2, 1, 1));
    }
}
