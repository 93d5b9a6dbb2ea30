//! Pieces in real mbufs.

use super::*;

fn pool(count: u32, data_room: u16) -> Pool {
    let config = PoolConfig {
        data_room,
        ..PoolConfig::new("packets", count)
    };
    let len = Pool::len_for(&config).unwrap() + (1 << 18);
    let region = Box::leak(Box::new(eal::Region::anonymous(len).unwrap()));
    Pool::create(region, &config).unwrap()
}

/// A fragment as a device delivers it, its headers cut off.
fn received<'c>(lcore: &'c Lcore, pool: Pool, data: &[u8]) -> Mbuf<'c> {
    let mut mbuf = lcore.mbuf_from(pool, &[0; 34]).unwrap();
    assert!(mbuf.extend_from_slice(pool, data) && mbuf.adj(34));
    mbuf
}

/// Sends `data` in pieces of `size` in an order, and says how many mbufs were taken at most.
fn through_mbufs(
    data: &[u8],
    size: usize,
    data_room: u16,
    shuffle: impl Fn(&mut Vec<(usize, usize)>),
) -> u32 {
    let pool = pool(320, data_room);
    let lcore = Lcore::new(eal::Slot::claim(pool.region(), "test").unwrap());
    let mut reassembly = Reassembly::new(ReassemblyConfig::default(), 1);
    let mut arrivals = cuts(data.len(), size);
    shuffle(&mut arrivals);
    let (mut most, mut done) = (0, false);
    for (start, end) in arrivals {
        let packet = received(&lcore, pool, &data[start..end]);
        let (offset, more) = (u16::try_from(start).unwrap(), end < data.len());
        let headers = headers_of(&key(1, 1), 0);
        match reassembly.add(Instant::ZERO, key(1, 1), offset, more, &headers, packet) {
            Outcome::Waiting => {}
            Outcome::Complete(datagram) => {
                let bytes: Vec<u8> = datagram.packet.segments().flatten().copied().collect();
                assert!(bytes == data, "{size}: other bytes");
                assert!(datagram.packet.segment_count() <= mbuf::SEGMENTS_MAX);
                done = true;
            }
            Outcome::Dropped(dropped) => panic!("{size}: {dropped:?}"),
        }
        most = most.max(pool.in_use());
    }
    assert!(done, "{size}: not complete");
    assert_eq!(pool.in_use(), 0);
    most
}

#[test]
fn large_datagrams_of_real_mbufs_are_complete_in_any_order_and_give_all_back() {
    let data = pattern(4, 65_000);
    for size in [1456, 976, 944, 528, 8] {
        through_mbufs(&data, size, mbuf::DATA_ROOM, |_| {});
        through_mbufs(&data, size, mbuf::DATA_ROOM, |arrivals| arrivals.reverse());
        // Neighbours change places.
        through_mbufs(&data, size, mbuf::DATA_ROOM, |arrivals| {
            arrivals.chunks_mut(2).for_each(<[_]>::reverse);
        });
        if size > 8 {
            for seed in 1..6 {
                through_mbufs(&data, size, mbuf::DATA_ROOM, |arrivals| {
                    arrivals.sort_by_key(|cut| {
                        (cut.0 + 1).wrapping_mul(0x9e37_79b9 * seed) & 0xffff_ffff
                    });
                });
            }
        }
    }
}

#[test]
fn small_pieces_do_not_hold_a_frame_each() {
    let data = pattern(4, 65_000);
    assert!(through_mbufs(&data, 8, mbuf::DATA_ROOM, |_| {}) < 40);
    assert!(through_mbufs(&data, 528, mbuf::DATA_ROOM, |_| {}) < 50);
}

#[test]
fn pieces_that_are_chains_themselves_become_one_datagram() {
    for (size, data_room, len) in [
        (4096, 2048, 65_000),
        (8 * 1117, 2048, 65_000),
        (1456, 1152, 60_000),
        (8 * 1117, 1152, 65_000),
    ] {
        let data = pattern(4, len);
        through_mbufs(&data, size, data_room, |_| {});
        through_mbufs(&data, size, data_room, |arrivals| arrivals.reverse());
    }
}

#[test]
fn mbufs_that_wait_are_given_back_when_the_time_is_over_and_when_all_ends() {
    let pool = pool(64, mbuf::DATA_ROOM);
    let lcore = Lcore::new(eal::Slot::claim(pool.region(), "test").unwrap());
    let mut reassembly = Reassembly::new(ReassemblyConfig::default(), 1);
    let headers = headers_of(&key(1, 1), 0);
    for id in 0..10 {
        let packet = received(&lcore, pool, &[1; 1000]);
        reassembly.add(Instant::ZERO, key(1, id), 0, true, &headers, packet);
    }
    assert_eq!(pool.in_use(), 10);
    let later = reassembly.next_timeout().unwrap();
    assert_eq!(
        std::iter::from_fn(|| reassembly.poll_expired(later)).count(),
        10
    );
    assert_eq!(pool.in_use(), 0);
    let packet = received(&lcore, pool, &[1; 1000]);
    reassembly.add(Instant::ZERO, key(1, 1), 0, true, &headers, packet);
    drop(reassembly);
    assert_eq!(pool.in_use(), 0);
}
