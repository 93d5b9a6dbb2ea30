//! The Internet checksum.

use proptest::prelude::*;

use super::*;
use crate::checksum::{ChecksumError, Sum, checksum, complete};
use crate::{OffloadFlags, TxOffload};

/// As RFC 1071 has it in words.
fn plain(bytes: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        sum += u32::from(word);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

#[test]
fn example_of_rfc_1071_comes_out() {
    assert_eq!(
        checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
        !0xddf2
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_of_any_length_sum_up_as_the_whole(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        cuts in proptest::collection::vec(0_usize..300, 0..5),
    ) {
        let mut sum = Sum::new();
        let mut rest = &bytes[..];
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            sum.add(piece);
            rest = after;
        }
        sum.add(rest);
        prop_assert_eq!(sum.finish(), plain(&bytes));
    }
}

/// A packet with a partial checksum at 6 behind `start`.
fn partial<'c>(lcore: &'c Lcore, pool: Pool, data: &[u8], start: u16, pieces: usize) -> Mbuf<'c> {
    let mut chunks = data.chunks(data.len().div_ceil(pieces));
    let mut mbuf = lcore.mbuf_from(pool, chunks.next().unwrap()).unwrap();
    for chunk in chunks {
        mbuf.append_segment(lcore.mbuf_from(pool, chunk).unwrap())
            .unwrap();
    }
    mbuf.set_flags(OffloadFlags::TX_L4_CSUM | OffloadFlags::RSS_HASH);
    mbuf.set_offload(TxOffload {
        csum_start: start,
        csum_offset: 6,
        ..TxOffload::default()
    });
    mbuf
}

#[test]
fn completed_checksum_verifies_in_one_piece_and_in_chains() {
    let pool = pool(64);
    let lcore = lcore(pool);
    for len in [8, 9, 40, 99, 100] {
        for pieces in 1..len.min(30) {
            let mut data = pattern(len, 14 + len);
            // The field holds the sum of the pseudo header.
            let pseudo = 0x1234_u16;
            data[20..22].copy_from_slice(&pseudo.to_be_bytes());
            let mut mbuf = partial(&lcore, pool, &data, 14, pieces);
            complete(&mut mbuf).unwrap();
            assert_eq!(mbuf.flags(), OffloadFlags::RSS_HASH);
            let done = bytes(&mbuf);
            let mut all = pseudo.to_be_bytes().to_vec();
            all.extend(&done[14..]);
            assert_eq!(plain(&all), 0, "{len} bytes in {pieces} pieces");
            data[20..22].copy_from_slice(&done[20..22]);
            assert_eq!(done, data, "nothing else has changed");
        }
    }
}

#[test]
fn zero_is_sent_as_its_other_form() {
    let pool = pool(4);
    let lcore = lcore(pool);
    let mut mbuf = partial(&lcore, pool, &[0xff, 0xff, 0, 0, 0, 0, 0, 0], 0, 1);
    complete(&mut mbuf).unwrap();
    assert_eq!(mbuf.data()[6..], [0xff, 0xff]);
}

#[test]
fn field_outside_the_packet_is_refused() {
    let pool = pool(4);
    let lcore = lcore(pool);
    for (start, len) in [(0, 7), (14, 21), (u16::MAX, 100)] {
        let data = pattern(0, len);
        let mut mbuf = partial(&lcore, pool, &data, start, 1);
        assert_eq!(complete(&mut mbuf), Err(ChecksumError::OutOfPacket));
        assert_eq!(mbuf.data(), data);
    }
}

#[test]
fn shared_bytes_are_left_alone() {
    let pool = pool(8);
    let lcore = lcore(pool);
    let mbuf = partial(&lcore, pool, &pattern(0, 40), 14, 1);
    let mut clone = mbuf.clone_ref().unwrap();
    assert_eq!(complete(&mut clone), Err(ChecksumError::Shared));
    assert_eq!(mbuf.data(), pattern(0, 40));
    complete(&mut clone.clone_deep(pool).unwrap()).unwrap();
}

#[test]
fn packet_without_the_flag_is_left_alone() {
    let pool = pool(4);
    let lcore = lcore(pool);
    let mut mbuf = lcore.mbuf_from(pool, &[1; 20]).unwrap();
    complete(&mut mbuf).unwrap();
    assert_eq!(mbuf.data(), [1; 20]);
}
