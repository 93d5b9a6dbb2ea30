//! Every way in which the bytes of frames are reached, on one pool: what Miri looks at.

use std::thread;

use eal::sync::{AtomicU64, Ordering};

use super::*;
use crate::{Burst, HEADROOM};

#[test]
fn every_way_to_a_frame_stays_within_its_rights() {
    // Two magazines, so that both slots find one.
    let pool = pool(128);
    let one = lcore(pool);

    // One mbuf from end to end.
    let mut mbuf = one.mbuf_from(pool, b"payload").unwrap();
    mbuf.prepend(4).unwrap().copy_from_slice(b"head");
    mbuf.append(4).unwrap().copy_from_slice(b"tail");
    mbuf.data_mut().unwrap()[0] = b'H';
    mbuf.private_mut().fill(3);
    assert_eq!(
        (mbuf.data(), mbuf.private()),
        (&b"Headpayloadtail"[..], &[3; 16][..])
    );

    // Looked at and cut at once, and headers before it at once.
    let opened = mbuf.open().unwrap();
    let look = opened.look();
    assert!(opened.cut(4, 11) && look.data.len() == 15);
    mbuf.wrap(4, crate::OffloadFlags::NONE).unwrap()[..4].copy_from_slice(b"Head");
    assert_eq!(mbuf.data(), b"Headpayloadtail");

    // Shared, and alone again.
    let mut clone = mbuf.clone_ref().unwrap();
    assert!(mbuf.data_mut().is_none() && clone.data_mut().is_none());
    let (seen, too) = (clone.data(), mbuf.data());
    assert_eq!(seen, too);
    drop(clone);
    mbuf.data_mut().unwrap().fill(b'x');

    // A chain, written across its segments and made one again.
    assert!(mbuf.extend_from_slice(pool, &[b'y'; 150]));
    assert_eq!(
        (mbuf.segment_count(), mbuf.copy_in(10, &[b'z'; 150])),
        (2, 150)
    );
    assert!(mbuf.linearize());
    assert_eq!(
        mbuf.data(),
        [&[b'x'; 10][..], &[b'z'; 150], &[b'y'; 5]].concat()
    );

    // Two of a burst in hand at once.
    let mut burst = Burst::new(&one);
    burst.push(mbuf).unwrap();
    burst.push(one.mbuf_from(pool, b"second").unwrap()).unwrap();
    let mut guards: Vec<_> = burst.iter_mut().collect();
    let frames: Vec<&mut [u8]> = guards
        .iter_mut()
        .map(|mbuf| mbuf.data_mut().unwrap())
        .collect();
    for frame in frames {
        frame.fill(1);
    }
    drop(guards);
    assert!(
        burst
            .iter()
            .all(|mbuf| mbuf.data().iter().all(|byte| *byte == 1))
    );

    // On another thread, and back through the pool.
    let ring = Ring::create(pool.region(), "r", 4, None, SPSC).unwrap();
    let receiver = thread::spawn(move || {
        let two = lcore(pool);
        let mut consumer = MbufConsumer::new(ring.consumer(two.owner()).unwrap());
        let (mut burst, mut count) = (Burst::new(&two), 0);
        while count < 6 {
            if consumer.dequeue_burst(&two, &mut burst).count == 0 {
                thread::yield_now();
            }
            for mut mbuf in burst.drain() {
                mbuf.data_mut().unwrap()[0] += 1;
                assert_eq!(mbuf.data()[0], 2);
                count += 1;
            }
        }
    });
    while !ring.is_open() {
        thread::yield_now();
    }
    let mut producer = MbufProducer::new(ring.producer(one.owner()).unwrap());
    while burst.len() < 6 {
        burst.push(one.mbuf_from(pool, &[1; 9]).unwrap()).unwrap();
    }
    while !burst.is_empty() {
        if producer.enqueue_burst(&mut burst).count == 0 {
            thread::yield_now();
        }
    }
    receiver.join().unwrap();

    // Facts that lie: off the frame, and a clone of itself.
    let mut mbuf = one.mbuf_from(pool, b"lies").unwrap();
    let zone = pool.region().lookup(eal::ZoneKind::Pool, "pool").unwrap();
    let metas = config("pool", 128).shape().unwrap().plan().metas;
    let at = metas + mbuf.index().number() as usize * 64;
    let word = |offset: usize| zone.get::<AtomicU64>(at + offset).unwrap();
    for span in [u64::MAX, 0xff_0002, u64::from(ROOM) << 16 | 1] {
        word(8).store(span, Ordering::Relaxed);
        assert!(mbuf.data().is_empty() && mbuf.data_mut().is_none_or(|data| data.is_empty()));
        if let Some(room) = mbuf.append(8) {
            room.fill(0);
        }
        word(8).store(span, Ordering::Relaxed);
        if let Some(room) = mbuf.prepend(1) {
            room.fill(0);
        }
    }
    word(24).store(
        u64::from(mbuf.index().bits()) << 32 | 0xffff_ffff,
        Ordering::Relaxed,
    );
    word(8).store(u64::from(HEADROOM) | 4 << 16, Ordering::Relaxed);
    assert!(mbuf.data().len() == 4 && mbuf.data_mut().is_none());
    word(24).store(u64::MAX, Ordering::Relaxed);
    drop(mbuf);
    drop(burst);
    drop((producer, one));
    assert_at_rest(pool);
}
