//! Up to 32 mbufs.

use super::*;
use crate::{BURST_MAX, Burst, MAGAZINE_LEN, OffloadFlags, Totals, TxOffload};

fn full<'c>(lcore: &'c Lcore, pool: Pool) -> Burst<'c> {
    let mut burst = Burst::new(lcore);
    for number in 0..BURST_MAX {
        burst
            .push(
                lcore
                    .mbuf_from(pool, &[u8::try_from(number).unwrap()])
                    .unwrap(),
            )
            .unwrap();
    }
    burst
}

fn firsts(burst: &Burst<'_>) -> Vec<u8> {
    burst.iter().map(|mbuf| mbuf.data()[0]).collect()
}

#[test]
fn burst_takes_what_it_has_room_for() {
    let pool = pool(80);
    let lcore = lcore(pool);
    let mut burst = Burst::new(&lcore);
    assert_eq!(lcore.alloc_burst(pool, &mut burst, 5), 5);
    assert_eq!(lcore.alloc_burst(pool, &mut burst, 100), BURST_MAX - 5);
    assert_eq!((burst.len(), burst.room()), (BURST_MAX, 0));
    assert_eq!(lcore.alloc_burst(pool, &mut burst, 1), 0);
    assert!(burst.push(lcore.alloc(pool).unwrap()).is_err());
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn bulk_is_all_or_none() {
    let pool = pool(20);
    let lcore = lcore(pool);
    let mut burst = Burst::new(&lcore);
    assert!(lcore.alloc_bulk(pool, &mut burst, 12));
    assert!(!lcore.alloc_bulk(pool, &mut burst, 9));
    assert_eq!((burst.len(), pool.in_use()), (12, 12));
    assert!(
        !lcore.alloc_bulk(pool, &mut burst, 21),
        "more than a burst holds"
    );
    assert!(lcore.alloc_bulk(pool, &mut burst, 8));
}

#[test]
fn order_is_kept_whatever_is_taken_out() {
    let pool = pool(80);
    let lcore = lcore(pool);
    let mut burst = full(&lcore, pool);
    let front = burst.take_front(3);
    assert_eq!((firsts(&front), firsts(&burst)[0]), (vec![0, 1, 2], 3));
    burst.free_front(2);
    burst.truncate(4);
    assert_eq!(firsts(&burst), [5, 6, 7, 8]);
    assert_eq!(burst.pop().unwrap().data(), [8]);
    let mut other = front;
    assert_eq!(other.append(&mut burst), 3);
    assert!(burst.is_empty());
    assert_eq!(firsts(&other), [0, 1, 2, 5, 6, 7]);
    let mut drain = other.drain();
    assert_eq!(drain.next().unwrap().data(), [0]);
    drop(drain);
    assert!(other.is_empty());
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn append_moves_what_fits() {
    let pool = pool(80);
    let lcore = lcore(pool);
    let (mut one, mut two) = (full(&lcore, pool), full(&lcore, pool));
    one.truncate(30);
    assert_eq!(one.append(&mut two), 2);
    assert_eq!((one.len(), two.len(), firsts(&two)[0]), (BURST_MAX, 30, 2));
}

#[test]
fn mbufs_of_another_thread_are_refused() {
    let pool = pool(80);
    let (one, two) = (lcore(pool), lcore(pool));
    let mut burst = Burst::new(&one);
    assert!(burst.push(two.alloc(pool).unwrap()).is_err());
    assert_eq!(two.alloc_burst(pool, &mut burst, 1), 0);
    let mut other = Burst::new(&two);
    two.alloc_burst(pool, &mut other, 3);
    assert_eq!(burst.append(&mut other), 0);
    assert_eq!((burst.len(), other.len()), (0, 3));
}

#[test]
fn changes_through_iter_mut_stay() {
    let pool = pool(80);
    let lcore = lcore(pool);
    let mut burst = full(&lcore, pool);
    for mut mbuf in burst.iter_mut() {
        mbuf.data_mut().unwrap()[0] += 100;
        mbuf.set_port(1);
    }
    assert_eq!(firsts(&burst)[31], 131);
    assert_eq!(burst.get(3).unwrap().data(), [103]);
    assert!(burst.get(32).is_none());
}

/// What safe code could do to get one mbuf twice.
#[test]
fn mbuf_swapped_out_of_a_burst_is_owned_once() {
    // The foreign slot has a magazine of its own.
    let pool = pool(count(MAGAZINE_LEN + 80));
    let (lcore, foreign) = (lcore(pool), lcore(pool));
    let mut burst = full(&lcore, pool);
    let mut taken = Vec::new();
    for (number, mut guard) in burst.iter_mut().enumerate() {
        match number {
            0 => taken.push(core::mem::replace(
                &mut *guard,
                lcore.mbuf_from(pool, b"new").unwrap(),
            )),
            1 => {
                taken.push(core::mem::replace(
                    &mut *guard,
                    lcore.mbuf_from(pool, b"lost").unwrap(),
                ));
                core::mem::forget(guard);
            }
            2 => taken.push(core::mem::replace(
                &mut *guard,
                foreign.mbuf_from(pool, b"alien").unwrap(),
            )),
            _ => break,
        }
    }
    assert_eq!(firsts(&burst)[..2], [b'n', 3]);
    assert_eq!(
        taken.iter().map(|mbuf| mbuf.data()[0]).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    core::mem::forget(burst.drain());
    drop((burst, taken));
    // The forgotten ones are gone until the slot is swept, and nothing is listed twice.
    assert!(listed(pool).values().all(|count| *count == 1));
    assert_eq!(listed(pool).len(), MAGAZINE_LEN + 80 - 1 - (BURST_MAX - 2));
}

/// One change of a packet. Whether it succeeds is not the question here.
fn change(pool: Pool, mbuf: &mut Mbuf<'_>, kind: usize, n: usize) {
    match kind {
        0 => drop(mbuf.append(n).is_some()),
        1 => drop(mbuf.prepend(n % 200).is_some()),
        2 => drop(mbuf.adj(n % 100)),
        3 => drop(mbuf.trim(n % 100)),
        4 => mbuf.set_port([0, 7, 0x7fff, crate::PORT_NONE][n % 4]),
        5 => {
            mbuf.set_offload(TxOffload {
                hdr_len: 54,
                gso_size: 500,
                ..TxOffload::default()
            });
            mbuf.set_flags(OffloadFlags::GSO);
        }
        6 => mbuf.set_flags(OffloadFlags::NONE),
        7 => drop(mbuf.extend_from_slice(pool, &[1; 5000][..n])),
        8 => drop(mbuf.linearize()),
        9 => drop(mbuf.reset_data(u16::try_from(n % 100).unwrap())),
        10 => drop(
            mbuf.clone_ref()
                .map(|clone| core::mem::replace(mbuf, clone)),
        ),
        _ => drop(
            mbuf.clone_deep(pool)
                .map(|clone| core::mem::replace(mbuf, clone)),
        ),
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, cases: 300, ..Default::default() })]

    #[test]
    fn briefs_say_what_the_metas_say(
        len in 0_u16..2000,
        changes in proptest::collection::vec((0_usize..8, 0_usize..14, 0_usize..5000), 0..40),
    ) {
        let pool = pool(600);
        let lcore = lcore(pool);
        let mut burst = Burst::new(&lcore);
        // What was used before must not shine through.
        lcore.alloc_burst_of(pool, &mut burst, 32, 1999);
        burst.arrived(0, 3, 1);
        burst.clear();
        lcore.alloc_burst_of(pool, &mut burst, 8, len);
        for (at, kind, n) in changes {
            if kind == 13 {
                burst.arrived(at, 5, 1);
            } else if let Some(mut mbuf) = burst.iter_mut().nth(at) {
                change(pool, &mut mbuf, kind, n);
            }
            let mut expected = Totals::default();
            for mbuf in burst.iter() {
                expected.packets += 1;
                expected.bytes += mbuf.part().meta.span().packet_len as u64;
                expected.segments += mbuf.wire_segments();
            }
            proptest::prop_assert_eq!(burst.totals(), expected);
            let ports: Vec<u16> = burst.iter().map(|mbuf| mbuf.port()).collect();
            let run = burst.run_of_port();
            proptest::prop_assert_eq!(run.port, ports[0]);
            let same = ports.iter().take_while(|port| **port == ports[0]).count();
            proptest::prop_assert_eq!((run.len, run.totals.packets), (same, same as u64));
        }
        drop(burst);
        drop(lcore);
        assert_at_rest(pool);
    }
}
