//! One mbuf.

use super::*;
use crate::{BadIndex, HEADROOM, MAGAZINE_LEN, OffloadFlags, PORT_NONE, TxOffload};

#[test]
fn fresh_mbuf_is_empty_and_has_the_usual_headroom() {
    let pool = pool(4);
    let lcore = lcore(pool);
    let mbuf = lcore.alloc(pool).unwrap();
    assert_eq!(
        (mbuf.len(), mbuf.packet_len(), mbuf.segment_count()),
        (0, 0, 1)
    );
    assert_eq!(mbuf.headroom(), usize::from(HEADROOM));
    assert_eq!(mbuf.tailroom(), usize::from(ROOM - HEADROOM));
    assert_eq!(
        (mbuf.port(), mbuf.flags(), mbuf.rss_hash()),
        (PORT_NONE, OffloadFlags::NONE, None)
    );
    assert_eq!(pool.holder(mbuf.index()), Some(lcore.holder()));
    assert_eq!(mbuf.pool().id(), pool.id());
}

#[test]
fn both_ends_grow_and_shrink_within_the_frame() {
    let pool = pool(4);
    let lcore = lcore(pool);
    let mut mbuf = lcore.mbuf_from(pool, b"payload").unwrap();
    mbuf.prepend(4).unwrap().copy_from_slice(b"head");
    mbuf.append(4).unwrap().copy_from_slice(b"tail");
    assert_eq!(mbuf.data(), b"headpayloadtail");
    assert!(mbuf.adj(2) && mbuf.trim(3));
    assert_eq!(mbuf.data(), b"adpayloadt");
    assert_eq!(mbuf.packet_len(), 10);
    assert!(!mbuf.adj(11) && !mbuf.trim(11) && !mbuf.adj(usize::MAX));
    assert_eq!(mbuf.data(), b"adpayloadt");

    assert!(mbuf.prepend(mbuf.headroom() + 1).is_none());
    assert!(mbuf.append(mbuf.tailroom() + 1).is_none());
    assert!(mbuf.prepend(usize::MAX).is_none() && mbuf.append(usize::MAX).is_none());
    assert_eq!(mbuf.data(), b"adpayloadt");
    let (head, tail) = (mbuf.headroom(), mbuf.tailroom());
    mbuf.prepend(head).unwrap().fill(1);
    mbuf.append(tail).unwrap().fill(2);
    assert_eq!(mbuf.len(), usize::from(ROOM));
    assert_eq!((mbuf.headroom(), mbuf.tailroom()), (0, 0));
    mbuf.data_mut().unwrap()[head] = b'A';
    assert_eq!(mbuf.data()[head], b'A');
}

#[test]
fn facts_are_kept_apart() {
    let pool = pool(4);
    let lcore = lcore(pool);
    let mut mbuf = lcore.alloc(pool).unwrap();
    let offload = TxOffload {
        csum_start: 34,
        csum_offset: 16,
        hdr_len: 54,
        gso_size: 1448,
        gso_type: 1,
    };
    mbuf.set_port(3);
    mbuf.set_queue(4);
    mbuf.set_vlan_tci(0x2005);
    mbuf.set_rss_hash(0xdead_beef);
    mbuf.set_offload(offload);
    mbuf.set_flags(mbuf.flags() | OffloadFlags::TX_L4_CSUM);
    assert_eq!((mbuf.port(), mbuf.queue(), mbuf.vlan_tci()), (3, 4, 0x2005));
    assert_eq!(mbuf.rss_hash(), Some(0xdead_beef));
    assert_eq!(mbuf.offload(), offload);
    assert_eq!(
        mbuf.flags(),
        OffloadFlags::TX_L4_CSUM | OffloadFlags::RSS_HASH
    );
    mbuf.set_flags(OffloadFlags::NONE);
    assert_eq!((mbuf.rss_hash(), mbuf.offload()), (None, offload));
    // The next user of the same mbuf finds nothing of it.
    let index = mbuf.index();
    drop(mbuf);
    let mbuf = lcore.alloc(pool).unwrap();
    assert_eq!(mbuf.index(), index);
    assert_eq!(
        (mbuf.port(), mbuf.flags(), mbuf.vlan_tci()),
        (PORT_NONE, OffloadFlags::NONE, 0)
    );
}

#[test]
fn private_area_belongs_to_one_mbuf() {
    let pool = pool(4);
    let lcore = lcore(pool);
    let (mut one, mut two) = (lcore.alloc(pool).unwrap(), lcore.alloc(pool).unwrap());
    one.private_mut().fill(1);
    two.private_mut().fill(2);
    assert_eq!(one.private(), [1; 16]);
    assert_eq!(two.private(), [2; 16]);
    let none = Pool::create(region(1 << 20), &PoolConfig::new("none", 1)).unwrap();
    let other = super::lcore(none);
    assert!(other.alloc(none).unwrap().private_mut().is_empty());
}

#[test]
fn empty_pool_gives_none_and_counts_it() {
    let pool = pool(3);
    let lcore = lcore(pool);
    let all: Vec<Mbuf<'_>> = core::iter::from_fn(|| lcore.alloc(pool)).collect();
    assert_eq!((all.len(), pool.in_use()), (3, 3));
    assert_eq!(lcore.counters().alloc_failed.get(), 1);
    drop(all);
    assert!(lcore.alloc(pool).is_some());
}

#[test]
fn pool_of_another_region_gives_none() {
    let (here, there) = (pool(3), pool(3));
    let lcore = lcore(here);
    assert!(lcore.alloc(there).is_none());
    assert_eq!(there.in_use(), 0);
    // Nor does the one of the same id that is known here stand in for it.
    assert_eq!(here.id(), there.id());
    let known = lcore.alloc(here).unwrap();
    assert!(lcore.alloc(there).is_none());
    drop(known);
    assert_eq!(here.in_use(), 0);
}

#[test]
fn index_is_adopted_once_and_by_its_holder_only() {
    let pool = pool(4);
    let (lcore, other) = (lcore(pool), lcore(pool));
    let mbuf = lcore.mbuf_from(pool, b"frame").unwrap();
    let index = mbuf.index();
    assert_eq!(lcore.adopt(index).unwrap_err(), BadIndex::Owned(index));
    assert_eq!(mbuf.into_raw(), index);
    assert_eq!(pool.in_use(), 1);
    assert_eq!(other.adopt(index).unwrap_err(), BadIndex::Holder(index));
    let mbuf = lcore.adopt(index).unwrap();
    assert_eq!(mbuf.data(), b"frame");
    assert_eq!(mbuf.flags(), OffloadFlags::NONE);
    assert_eq!(lcore.adopt(index).unwrap_err(), BadIndex::Owned(index));
    let nowhere = MbufIndex::new(9, 9);
    assert_eq!(lcore.adopt(nowhere).unwrap_err(), BadIndex::Range(nowhere));
    assert_eq!(
        lcore.adopt(MbufIndex::new(pool.id(), 4)).unwrap_err(),
        BadIndex::Range(MbufIndex::new(pool.id(), 4))
    );
}

#[test]
fn lcore_gives_all_back_when_it_goes() {
    let count = 2 * MAGAZINE_LEN + 22;
    let pool = pool(super::count(count));
    let lcore = lcore(pool);
    let slot = lcore.slot_id();
    let mbufs: Vec<Mbuf<'_>> = core::iter::from_fn(|| lcore.alloc(pool)).collect();
    assert_eq!(mbufs.len(), count);
    drop(mbufs);
    // A full magazine went back to the pool; the rest lies in the slot's own.
    assert_eq!(pool.cached_by(lcore.owner()), count - MAGAZINE_LEN);
    drop(lcore);
    assert_at_rest(pool);
    assert_eq!(super::lcore(pool).slot_id(), slot, "the slot is free again");
}
