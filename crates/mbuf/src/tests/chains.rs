//! Packets of several segments.

use super::*;
use crate::SEGMENTS_MAX;

#[test]
fn long_packet_becomes_a_chain_and_reads_as_one() {
    let pool = pool(16);
    let lcore = lcore(pool);
    let data = pattern(1, 1000);
    let mut mbuf = lcore.mbuf_from(pool, &data).unwrap();
    // 128 behind the headroom, then whole frames of 256.
    assert_eq!(
        mbuf.segments().map(<[u8]>::len).collect::<Vec<_>>(),
        [128, 256, 256, 256, 104]
    );
    assert_eq!((mbuf.packet_len(), mbuf.segment_count()), (1000, 5));
    assert!(!mbuf.is_contiguous());
    let mut out = [0; 300];
    assert_eq!(mbuf.copy_out(100, &mut out), 300);
    assert_eq!(out, data[100..400]);
    assert_eq!(mbuf.copy_out(900, &mut out), 100);
    assert_eq!(mbuf.copy_out(1000, &mut out), 0);

    assert_eq!(mbuf.tailroom(), 152);
    mbuf.append(2).unwrap().copy_from_slice(b"!!");
    assert!(mbuf.trim(50) && mbuf.adj(28));
    assert_eq!(mbuf.packet_len(), 1000 + 2 - 50 - 28);
    assert_eq!(bytes(&mbuf), data[28..952]);
    assert_eq!(mbuf.copy_in(90, &[9; 200]), 200);
    assert_eq!(bytes(&mbuf)[89..91], [data[117], 9]);
    assert_eq!(bytes(&mbuf)[289..291], [9, data[318]]);
    assert_eq!(mbuf.copy_in(920, &[9; 200]), 4);
    drop(mbuf);
    drop(lcore);
    assert_at_rest(pool);
}

#[test]
fn chain_has_a_longest_length() {
    let pool = pool(200);
    let lcore = lcore(pool);
    let mut chain = lcore.mbuf_from(pool, b"0").unwrap();
    for _ in 1..SEGMENTS_MAX {
        chain
            .append_segment(lcore.mbuf_from(pool, b"1").unwrap())
            .unwrap();
    }
    assert_eq!(
        (chain.segment_count(), chain.packet_len()),
        (SEGMENTS_MAX, SEGMENTS_MAX)
    );
    let refused = chain
        .append_segment(lcore.mbuf_from(pool, b"no").unwrap())
        .unwrap_err();
    assert_eq!(refused.data(), b"no");
    let before = pool.in_use();
    let tail = chain.tailroom();
    assert!(
        !chain.extend_from_slice(pool, &vec![1; tail + 1]),
        "one more segment than fits"
    );
    assert_eq!(pool.in_use(), before);
    assert_eq!(chain.packet_len(), SEGMENTS_MAX);
    assert!(chain.extend_from_slice(pool, &vec![1; tail]));
    drop((chain, refused));
    drop(lcore);
    assert_at_rest(pool);
}

#[test]
fn extension_that_finds_the_pool_dry_changes_nothing() {
    let pool = pool(3);
    let lcore = lcore(pool);
    let mut mbuf = lcore.mbuf_from(pool, b"start").unwrap();
    assert!(!mbuf.extend_from_slice(pool, &[7; 700]));
    assert_eq!((mbuf.data(), mbuf.segment_count()), (&b"start"[..], 1));
    assert_eq!(pool.in_use(), 1);
    assert!(mbuf.extend_from_slice(pool, &[7; 600]));
    assert_eq!(mbuf.packet_len(), 605);
    assert!(lcore.mbuf_from(pool, b"x").is_none());
}

#[test]
fn segment_of_another_thread_is_refused() {
    let pool = pool(200);
    let (one, two) = (lcore(pool), lcore(pool));
    let mut here = one.mbuf_from(pool, b"here").unwrap();
    let there = two.mbuf_from(pool, b"there").unwrap();
    assert_eq!(here.append_segment(there).unwrap_err().data(), b"there");
}

#[test]
fn linearize_gathers_what_one_frame_can_hold() {
    let pool = pool(8);
    let lcore = lcore(pool);
    let data = pattern(2, 250);
    let mut mbuf = lcore.mbuf_from(pool, &data[..3]).unwrap();
    for piece in data[3..].chunks(90) {
        mbuf.append_segment(lcore.mbuf_from(pool, piece).unwrap())
            .unwrap();
    }
    assert!(mbuf.linearize());
    assert_eq!(mbuf.data(), data);
    assert_eq!(
        (mbuf.segment_count(), mbuf.packet_len(), mbuf.headroom()),
        (1, 250, 6)
    );
    assert_eq!(pool.in_use(), 1);
    assert!(mbuf.extend_from_slice(pool, &[1; 7]));
    assert!(!mbuf.linearize(), "257 bytes in a frame of 256");
    assert_eq!((mbuf.packet_len(), mbuf.segment_count()), (257, 2));
    drop(mbuf);
    drop(lcore);
    assert_at_rest(pool);
}
