//! Buffers from slot to slot.

use super::{R, make_fan_in, make_lane, nothing, secondary, victim};
use crate::explore::Scenario;
use crate::script::Script;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "enqueue, the producer dies",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_three),
                secondary("B", 1, receive_and_keep),
                R,
            ],
            preemptions: 2,
            deaths: 1,
        },
        Scenario {
            name: "dequeue, the consumer dies",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                secondary("A", 0, send_two),
                victim("B", 1, receive_and_free),
                R,
            ],
            preemptions: 2,
            deaths: 1,
        },
        Scenario {
            name: "both ends die",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_two),
                victim("B", 1, receive_and_free),
                R,
            ],
            preemptions: 1,
            deaths: 2,
        },
        Scenario {
            name: "chains through a ring",
            setup: |region| make_lane(region, 4),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_chain),
                victim("B", 1, receive_and_free),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "clones through a ring",
            setup: |region| make_lane(region, 4),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_clone),
                victim("B", 1, receive_and_keep),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "fan-in",
            setup: |region| make_fan_in(region, 4),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_one),
                secondary("B", 1, send_one),
                victim("C", 2, receive_and_free),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "ends change hands",
            setup: |region| make_lane(region, 2),
            mark: nothing,
            casts: vec![
                victim("A", 0, come_and_go),
                secondary("B", 1, come_and_go),
                R,
            ],
            preemptions: 2,
            deaths: 1,
        },
        Scenario {
            name: "rivals for a consumer's end",
            setup: |region| make_lane(region, 2),
            mark: nothing,
            casts: vec![
                secondary("A", 0, leave_two_behind),
                secondary("B", 1, take_the_end),
                secondary("C", 2, take_the_end),
                R,
            ],
            preemptions: 2,
            deaths: 0,
        },
        Scenario {
            name: "a producer's end changes hands",
            setup: |region| make_lane(region, 4),
            mark: nothing,
            casts: vec![
                secondary("A", 0, send_one_and_let_go),
                secondary("B", 1, send_one_and_let_go),
                secondary("C", 2, receive_when_asked),
                R,
            ],
            preemptions: 2,
            deaths: 0,
        },
        Scenario {
            name: "a packet passed on",
            setup: |region| {
                make_lane(region, 2);
                super::make_ring(region, "back");
            },
            mark: nothing,
            casts: vec![victim("A", 0, send_and_receive), victim("B", 1, forward), R],
            preemptions: 1,
            deaths: 1,
        },
    ]
}

/// One, then two: more than fit if the reader is late.
pub(super) fn send_three(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut ring = script.sender("ring", &lcore);
    script.ready();
    if let Some(one) = script.alloc(&lcore, pool) {
        script.send(&mut ring, one);
    }
    let two = script.alloc_burst(&lcore, pool, 2);
    script.send_burst(&mut ring, two);
    script.rest();
}

pub(super) fn send_two(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut ring = script.sender("ring", &lcore);
    script.ready();
    let two = script.alloc_burst(&lcore, pool, 2);
    script.send_burst(&mut ring, two);
    script.rest();
}

pub(super) fn send_one(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut ring = script.sender("ring", &lcore);
    script.ready();
    if let Some(one) = script.alloc(&lcore, pool) {
        script.send(&mut ring, one);
    }
    script.rest();
}

pub(super) fn receive_and_keep(script: &Script) {
    let lcore = script.join();
    let mut ring = script.receiver("ring", &lcore);
    script.ready();
    let _kept = script.receive(&mut ring, &lcore);
    script.rest();
}

pub(super) fn receive_and_free(script: &Script) {
    let lcore = script.join();
    let mut ring = script.receiver("ring", &lcore);
    script.ready();
    for _ in 0..2 {
        let burst = script.receive(&mut ring, &lcore);
        script.free_burst(burst);
    }
    script.rest();
}

/// A packet of two segments, and then one of one.
fn send_chain(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut ring = script.sender("ring", &lcore);
    // What is a chain now was one before, the other way round: the links of then must not show.
    if let (Some(mut head), Some(tail)) = (lcore.alloc(pool), lcore.alloc(pool)) {
        let _ = head.append_segment(tail);
    }
    script.ready();
    let (head, tail) = (lcore.alloc(pool), lcore.alloc(pool));
    if let (Some(mut head), Some(tail)) = (head, tail) {
        let _ = head.append_segment(tail);
        script.send(&mut ring, head);
    }
    if let Some(one) = script.alloc(&lcore, pool) {
        script.send(&mut ring, one);
    }
    script.rest();
}

/// A clone by reference, which is copied before it leaves.
fn send_clone(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut ring = script.sender("ring", &lcore);
    script.ready();
    let Some(original) = script.alloc(&lcore, pool) else {
        return;
    };
    if let Some(clone) = original.clone_ref() {
        drop(ring.enqueue(clone));
    }
    script.free(original);
    script.rest();
}

/// Takes whichever end it can get, uses it and lets go: ends, lanes and the ring's openness change hands.
fn come_and_go(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    script.ready();
    if let Ok(end) = script.ring("ring").consumer(lcore.owner()) {
        let mut end = mbuf::MbufConsumer::new(end);
        let burst = script.receive(&mut end, &lcore);
        script.free_burst(burst);
    } else if let Ok(end) = script.ring("ring").producer(lcore.owner()) {
        let mut end = mbuf::MbufProducer::new(end);
        if let Some(one) = script.alloc(&lcore, pool) {
            script.send(&mut end, one);
        }
    }
    script.rest();
}

/// Fills a ring that nobody consumes then.
fn leave_two_behind(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let receiver = script.receiver("ring", &lcore);
    let mut ring = script.sender("ring", &lcore);
    let two = script.alloc_burst(&lcore, pool, 2);
    script.send_burst(&mut ring, two);
    drop(receiver);
    script.ready();
    script.rest();
}

/// Reads a ring if it gets the end.
fn take_the_end(script: &Script) {
    let lcore = script.join();
    script.ready();
    let Ok(end) = script.ring("ring").consumer(lcore.owner()) else {
        script.rest();
    };
    let mut end = mbuf::MbufConsumer::new(end);
    let _kept = script.receive(&mut end, &lcore);
    script.rest();
}

/// Sends by a ring if it gets the end, and lets go of it.
fn send_one_and_let_go(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    script.ready();
    if let Ok(end) = script.ring("ring").producer(lcore.owner()) {
        let mut end = mbuf::MbufProducer::new(end);
        if let Some(one) = script.alloc(&lcore, pool) {
            script.send(&mut end, one);
        }
    }
    script.rest();
}

/// Keeps a ring open, and reads nothing.
fn receive_when_asked(script: &Script) {
    let lcore = script.join();
    let _ring = script.receiver("ring", &lcore);
    script.ready();
    script.rest();
}

/// Sends one and sees it again.
fn send_and_receive(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut ring = script.sender("ring", &lcore);
    let mut back = script.receiver("back", &lcore);
    script.ready();
    if let Some(one) = script.alloc(&lcore, pool) {
        script.send(&mut ring, one);
    }
    let _kept = script.receive(&mut back, &lcore);
    script.rest();
}

fn forward(script: &Script) {
    let lcore = script.join();
    let mut ring = script.receiver("ring", &lcore);
    let mut back = script.sender("back", &lcore);
    script.ready();
    let burst = script.receive(&mut ring, &lcore);
    script.send_burst(&mut back, burst);
    script.rest();
}
