//! The same packet twice.

use super::*;
use crate::OffloadFlags;

#[test]
fn clone_by_reference_shows_the_same_bytes_and_locks_them() {
    let pool = pool(8);
    let lcore = lcore(pool);
    let mut mbuf = lcore.mbuf_from(pool, b"shared").unwrap();
    mbuf.set_port(5);
    mbuf.set_rss_hash(77);
    let mut clone = mbuf.clone_ref().unwrap();
    assert_eq!(
        (clone.data(), clone.packet_len(), clone.port()),
        (&b"shared"[..], 6, 5)
    );
    assert_eq!(clone.rss_hash(), Some(77));
    assert_eq!(clone.data().as_ptr(), mbuf.data().as_ptr());
    assert!(mbuf.data_mut().is_none() && clone.data_mut().is_none());
    assert!(mbuf.append(1).is_none() && mbuf.prepend(1).is_none() && clone.prepend(1).is_none());
    assert_eq!((mbuf.headroom(), clone.tailroom()), (0, 0));
    assert_eq!(mbuf.copy_in(0, b"x"), 0);
    // Views are each one's own.
    assert!(clone.adj(2) && mbuf.trim(1));
    assert_eq!((clone.data(), mbuf.data()), (&b"ared"[..], &b"share"[..]));
    drop(clone);
    assert_eq!(mbuf.data_mut().unwrap(), b"share");
}

#[test]
fn frame_goes_back_when_its_last_user_is_gone() {
    let pool = pool(8);
    let lcore = lcore(pool);
    let mbuf = lcore.mbuf_from(pool, b"shared").unwrap();
    let index = mbuf.index();
    let clone = mbuf.clone_ref().unwrap();
    let of_clone = clone.clone_ref().unwrap();
    drop(mbuf);
    assert_eq!(pool.holder(index), Some(lcore.holder()));
    assert_eq!((clone.data(), pool.in_use()), (&b"shared"[..], 3));
    drop(clone);
    assert_eq!((of_clone.data(), pool.in_use()), (&b"shared"[..], 2));
    drop(of_clone);
    assert_eq!(pool.in_use(), 0);
    drop(lcore);
    assert_at_rest(pool);
}

#[test]
fn chain_is_cloned_segment_for_segment() {
    let pool = pool(16);
    let lcore = lcore(pool);
    let data = pattern(3, 700);
    let mbuf = lcore.mbuf_from(pool, &data).unwrap();
    let clone = mbuf.clone_ref().unwrap();
    assert_eq!((clone.segment_count(), clone.packet_len()), (4, 700));
    drop(mbuf);
    assert_eq!(bytes(&clone), data);
    assert_eq!(pool.in_use(), 8);
    drop(clone);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn clone_that_finds_the_pool_dry_leaves_no_user_behind() {
    let pool = pool(5);
    let lcore = lcore(pool);
    let mut mbuf = lcore.mbuf_from(pool, &[1; 600]).unwrap();
    assert_eq!(mbuf.segment_count(), 3);
    assert!(mbuf.clone_ref().is_none());
    assert_eq!(pool.in_use(), 3);
    assert!(!mbuf.is_shared());
    assert!(mbuf.data_mut().is_some());
}

#[test]
fn deep_clone_has_bytes_of_its_own() {
    let (pool, data) = (pool(32), pattern(4, 600));
    let lcore = lcore(pool);
    let mut mbuf = lcore.mbuf_from(pool, &data).unwrap();
    mbuf.set_flags(OffloadFlags::RX_L4_GOOD);
    mbuf.set_vlan_tci(9);
    mbuf.private_mut().fill(8);
    let mut copy = mbuf.clone_deep(pool).unwrap();
    assert_eq!(
        (bytes(&copy), copy.flags(), copy.vlan_tci()),
        (data.clone(), OffloadFlags::RX_L4_GOOD, 9)
    );
    assert_eq!(
        (copy.packet_len(), copy.segment_count(), copy.private()),
        (600, 3, &[8; 16][..])
    );
    copy.data_mut().unwrap().fill(0);
    assert_eq!(bytes(&mbuf), data);
    // Of a clone by reference too.
    let deep = mbuf.clone_ref().unwrap().clone_deep(pool).unwrap();
    assert!(!deep.is_shared());
    assert_eq!(bytes(&deep), data);
    drop((mbuf, copy, deep));
    drop(lcore);
    assert_at_rest(pool);
}
