//! Deaths that meet: sweeps cut short, slots taken again, one death after another.

use super::rings::{receive_and_keep, send_one, send_two};
use super::{MORTAL_R, R, make_lane, make_pool, nothing, second_primary, secondary, victim};
use crate::explore::{Cast, Scenario, Start};
use crate::script::Script;
use crate::world::PRIMARIES;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "slots claimed at once",
            setup: |region| make_pool(region, 2),
            mark: nothing,
            casts: vec![
                victim("A", 0, join_and_take),
                secondary("B", 1, join_alone),
                R,
            ],
            preemptions: 2,
            deaths: 1,
        },
        Scenario {
            name: "restart into the slot",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_one),
                restart("A2", 2, 0, send_one_more),
                secondary("B", 1, receive_and_keep),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "restart, and death again",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_one),
                Cast {
                    killable: true,
                    ..restart("A2", 2, 0, send_one_more)
                },
                R,
            ],
            preemptions: 1,
            deaths: 2,
        },
        Scenario {
            name: "the consumer comes again",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                secondary("A", 0, send_two),
                victim("B", 1, receive_and_keep),
                restart("B2", 2, 1, consume_again),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "the sweeper dies over a lane",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                secondary("A", 0, send_two),
                victim("B", 1, receive_and_keep),
                MORTAL_R,
                second_primary(2),
            ],
            preemptions: 0,
            deaths: 2,
        },
        Scenario {
            name: "producer and sweeper die, the consumer goes on",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_two),
                secondary("B", 1, receive_and_keep),
                MORTAL_R,
                second_primary(2),
            ],
            preemptions: 1,
            deaths: 2,
        },
        Scenario {
            name: "the primary sends, and dies",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                Cast {
                    body: primary_sends,
                    ..MORTAL_R
                },
                secondary("B", 1, receive_and_keep),
                second_primary(0),
            ],
            preemptions: 1,
            deaths: 1,
        },
    ]
}

/// A process that comes any time after another died.
const fn restart(name: &'static str, number: usize, after: usize, body: fn(&Script)) -> Cast {
    Cast {
        name,
        region: PRIMARIES + number,
        start: Start::AfterDeathOf(after),
        killable: false,
        body,
    }
}

/// Takes a slot and a buffer in one go: nothing of it is a beginning.
fn join_and_take(script: &Script) {
    script.ready();
    let lcore = script.join();
    let _kept = script.alloc(&lcore, script.pool());
    script.rest();
}

/// Takes a slot, and nothing else.
fn join_alone(script: &Script) {
    script.ready();
    let _lcore = script.join();
    script.rest();
}

/// Joins where another was, and sends by the same lane if it is to be had.
fn send_one_more(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    if let Ok(end) = script.ring("ring").producer(lcore.owner()) {
        let mut end = mbuf::MbufProducer::new(end);
        if let Some(one) = script.alloc(&lcore, pool) {
            script.send(&mut end, one);
        }
    }
    script.rest();
}

/// Joins where another was, and reads on if the end is to be had.
fn consume_again(script: &Script) {
    let lcore = script.join();
    if let Ok(end) = script.ring("ring").consumer(lcore.owner()) {
        let mut end = mbuf::MbufConsumer::new(end);
        let _kept = script.receive(&mut end, &lcore);
        script.rest();
    }
    script.rest();
}

/// A primary that has a data path besides.
fn primary_sends(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut ring = script.sender("ring", &lcore);
    script.ready();
    let two = script.alloc_burst(&lcore, pool, 2);
    script.send_burst(&mut ring, two);
    script.rest();
}
