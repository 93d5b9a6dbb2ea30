//! Packets that are looked at and cut at once, and those that get all headers at once.

use super::*;
use crate::{Burst, HEADROOM, OffloadFlags};

const FLAGS: OffloadFlags = OffloadFlags::TX_L4_CSUM;

#[test]
fn opened_packet_shows_what_there_is_and_is_cut_as_told() {
    let pool = pool(8);
    let lcore = lcore(pool);
    let mut settled = lcore.mbuf_from(pool, b"0123456789").unwrap();
    settled.set_flags(FLAGS);
    // Nobody has asked for its metadata yet.
    let mut burst = Burst::new(&lcore);
    assert_eq!(lcore.alloc_burst_of(pool, &mut burst, 1, 10), 1);
    burst.arrived(0, 3, 1);
    let lazy = burst.pop().unwrap();
    for (mut mbuf, flags) in [(settled, FLAGS), (lazy, OffloadFlags::NONE)] {
        let (index, port) = (mbuf.index(), mbuf.port());
        for (front, len) in [
            (0, 11),
            (11, 0),
            (10, 1),
            (usize::MAX, 1),
            (1, usize::MAX),
            (65_536, 65_536),
        ] {
            assert!(!mbuf.open().unwrap().cut(front, len), "{front} {len}");
        }
        let before = mbuf.data().to_vec();
        let opened = mbuf.open().unwrap();
        let look = opened.look();
        assert_eq!((look.data, look.packet_len), (&before[..], 10));
        assert_eq!(look.flags, flags);
        assert!(opened.cut(3, 5));
        assert_eq!((mbuf.data(), mbuf.packet_len()), (&before[3..8], 5));
        assert_eq!(mbuf.headroom(), usize::from(HEADROOM) + 3);
        assert_eq!((mbuf.index(), mbuf.port()), (index, port));
        assert!(mbuf.open().unwrap().cut(5, 0) && mbuf.is_empty());
    }
}

#[test]
fn cut_packet_says_its_new_length_to_who_counts() {
    let pool = pool(4);
    let lcore = lcore(pool);
    let mut burst = Burst::new(&lcore);
    assert_eq!(lcore.alloc_burst_of(pool, &mut burst, 1, 60), 1);
    burst.arrived(0, 3, 1);
    let mut mbuf = burst.pop().unwrap();
    assert!(mbuf.open().unwrap().cut(42, 18));
    burst.push(mbuf).unwrap();
    assert_eq!(burst.totals().bytes, 18);
    assert_eq!(burst.run_of_port().port, 3);
    let mut mbuf = burst.pop().unwrap();
    assert_eq!(mbuf.wrap(42, FLAGS).unwrap().len(), 60);
    burst.push(mbuf).unwrap();
    assert_eq!(burst.totals().bytes, 60);
}

#[test]
fn chains_and_clones_are_not_opened_and_originals_are() {
    let pool = pool(8);
    let lcore = lcore(pool);
    let mut chain = lcore.mbuf_from(pool, &pattern(1, 300)).unwrap();
    assert!(chain.segment_count() > 1 && chain.open().is_none());
    assert!(chain.wrap(1, FLAGS).is_none());
    assert_eq!(bytes(&chain), pattern(1, 300));
    let mut original = lcore.mbuf_from(pool, b"shared").unwrap();
    let mut clone = original.clone_ref().unwrap();
    assert!(clone.open().is_none() && clone.wrap(1, FLAGS).is_none());
    // Its view is its own, its bytes are not.
    assert!(original.open().unwrap().cut(1, 3) && original.wrap(1, FLAGS).is_none());
    assert_eq!(
        (original.data(), clone.data()),
        (&b"har"[..], &b"shared"[..])
    );
    drop(clone);
    assert_eq!(original.wrap(1, FLAGS).unwrap(), b"shar");
}

#[test]
fn wrapped_packet_has_room_in_front_and_these_flags_alone() {
    let pool = pool(4);
    let lcore = lcore(pool);
    for is_lazy in [false, true] {
        let mut mbuf = if is_lazy {
            lcore.alloc(pool).unwrap()
        } else {
            lcore.mbuf_from(pool, b"data").unwrap()
        };
        let (len, room) = (mbuf.len(), usize::from(HEADROOM));
        mbuf.set_flags(OffloadFlags::RX_L4_GOOD);
        for n in [room + 1, 65_536, usize::MAX] {
            assert!(mbuf.wrap(n, FLAGS).is_none(), "{n}");
        }
        assert_eq!((mbuf.len(), mbuf.flags()), (len, OffloadFlags::RX_L4_GOOD));
        let data = mbuf.wrap(room, FLAGS).unwrap();
        data[..room].fill(7);
        assert_eq!(data.len(), room + len);
        assert_eq!((mbuf.flags(), mbuf.headroom()), (FLAGS, 0));
        assert!(mbuf.adj(room));
        assert_eq!(mbuf.data(), &b"data"[..len]);
    }
}
