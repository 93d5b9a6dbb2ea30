//! Buffers between pool and hand.

use super::{MORTAL_R, R, make_pool, nothing, second_primary, secondary, victim};
use crate::explore::Scenario;
use crate::script::Script;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "alloc and free",
            setup: |region| make_pool(region, 3),
            mark: nothing,
            casts: vec![
                victim("A", 0, take_two_give_one),
                secondary("B", 1, take_two_give_one),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "exchange of magazines",
            setup: |region| make_pool(region, 4),
            mark: nothing,
            casts: vec![
                victim("A", 0, three_and_away),
                secondary("B", 1, take_two_give_one),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "frees that find magazines full",
            setup: |region| make_pool(region, 4),
            mark: nothing,
            casts: vec![
                victim("A", 0, four_and_back),
                secondary("B", 1, take_two_give_one),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "a sweep that is cut short",
            setup: |region| make_pool(region, 4),
            mark: nothing,
            casts: vec![victim("A", 0, three_and_away), MORTAL_R, second_primary(1)],
            preemptions: 1,
            deaths: 2,
        },
        Scenario {
            name: "clones and their originals",
            setup: |region| make_pool(region, 4),
            mark: nothing,
            casts: vec![victim("A", 0, clone_twice), R],
            preemptions: 1,
            deaths: 1,
        },
    ]
}

/// Takes two, gives one back, keeps one.
fn take_two_give_one(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    script.ready();
    let one = script.alloc(&lcore, pool);
    let _kept = script.alloc(&lcore, pool);
    if let Some(one) = one {
        script.free(one);
    }
    script.rest();
}

/// More than a magazine holds, and back, and away: its magazines are merged and its slot is given back.
fn three_and_away(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    script.ready();
    let burst = script.alloc_burst(&lcore, pool, 3);
    script.free_burst(burst);
}

/// All there is, and back one by one: magazines are exchanged when they are empty, and when they are full.
fn four_and_back(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    script.ready();
    let mut burst = script.alloc_burst(&lcore, pool, 4);
    while let Some(mbuf) = burst.pop() {
        script.free(mbuf);
    }
    script.rest();
}

/// Two users of one frame, and two of a chain: freed in an order that leaves the original to the clone.
fn clone_twice(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    script.ready();
    let Some(alone) = lcore.alloc(pool) else {
        return;
    };
    let clone = alone.clone_ref();
    drop(alone);
    drop(clone);
    let Some(mut original) = lcore.alloc(pool) else {
        return;
    };
    let Some(tail) = lcore.alloc(pool) else {
        return;
    };
    let _ = original.append_segment(tail);
    let clone = original.clone_ref();
    drop(original);
    drop(clone);
    script.rest();
}
