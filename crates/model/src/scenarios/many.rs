//! Rings of many to many.

use super::rings::{receive_and_free, receive_and_keep, send_three, send_two};
use super::{MORTAL_R, R, make_mpmc, nothing, second_primary, secondary, victim};
use crate::explore::Scenario;
use crate::script::Script;
use mbuf::{Lcore, MbufConsumer, MbufProducer};

/// Packets that go round while another stands still: all laps that slots tell apart, less one, so that what it saw looks like the
/// lap before.
const LONG: usize = 14;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "many: a producer dies",
            setup: |region| make_mpmc(region, 4, 2),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_three),
                secondary("B", 1, receive_and_keep),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "many: a consumer dies",
            setup: |region| make_mpmc(region, 3, 2),
            mark: nothing,
            casts: vec![
                secondary("A", 0, send_two),
                victim("B", 1, receive_and_free),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "many: a consumer and its producer die",
            setup: |region| make_mpmc(region, 3, 2),
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
            name: "many: two consumers",
            setup: |region| make_mpmc(region, 3, 2),
            mark: nothing,
            casts: vec![
                secondary("A", 0, send_two),
                victim("B", 1, take_one),
                secondary("C", 2, take_one),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "many: the sweeper dies over a claim",
            setup: |region| make_mpmc(region, 3, 2),
            mark: nothing,
            casts: vec![
                secondary("A", 0, send_two),
                victim("B", 1, receive_and_free),
                MORTAL_R,
                second_primary(2),
            ],
            preemptions: 0,
            deaths: 2,
        },
        Scenario {
            name: "many: one alone",
            setup: |region| make_mpmc(region, 4, 2),
            mark: nothing,
            casts: vec![victim("A", 0, take_one), secondary("B", 1, pass_through), R],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "many: a claim is closed while it is passed over",
            setup: |region| make_mpmc(region, 4, 2),
            mark: nothing,
            casts: vec![
                victim("A", 0, take_one),
                secondary("B", 1, pass_through_after_one),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "many: one alone, hints lag",
            setup: |region| make_mpmc(region, 6, 4),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_three_at_once),
                secondary("B", 1, pass_through),
                R,
            ],
            preemptions: 0,
            deaths: 1,
        },
        Scenario {
            name: "many: an exact size",
            setup: |region| make_mpmc(region, 6, 3),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_three_at_once),
                secondary("B", 1, take_one),
                R,
            ],
            preemptions: 1,
            deaths: 1,
        },
        Scenario {
            name: "many: a producer stands still for long",
            setup: |region| make_mpmc(region, 4, 2),
            mark: nothing,
            casts: vec![
                secondary("A", 0, send_surely),
                secondary("B", 1, go_round),
                R,
            ],
            preemptions: 1,
            deaths: 0,
        },
        Scenario {
            name: "many: a consumer stands still for long",
            setup: |region| make_mpmc(region, 4, 2),
            mark: nothing,
            casts: vec![secondary("A", 0, take_one), secondary("B", 1, go_round), R],
            preemptions: 1,
            deaths: 0,
        },
    ]
}

fn send_three_at_once(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut ring = script.sender("ring", &lcore);
    script.ready();
    let three = script.alloc_burst(&lcore, pool, 3);
    script.send_burst(&mut ring, three);
    script.rest();
}

/// Sends one where there is room all the time.
fn send_surely(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut ring = script.sender("ring", &lcore);
    script.ready();
    if let Some(one) = script.alloc(&lcore, pool) {
        script.let_go(&one);
        assert!(ring.enqueue(one).is_ok(), "there was room");
    }
    script.rest();
}

/// Takes one packet at most, and keeps it.
fn take_one(script: &Script) {
    let lcore = script.join();
    let mut ring = script.receiver("ring", &lcore);
    script.ready();
    let one = ring.dequeue(&lcore);
    one.iter().for_each(|one| script.take(one));
    script.rest();
}

/// Empties the ring and passes packets through it, wherever all others stand still. One of them may take one.
fn pass_through(script: &Script) {
    let lcore = script.join();
    let mut sender = script.sender("ring", &lcore);
    let mut receiver = script.receiver("ring", &lcore);
    script.ready();
    go_through(script, &lcore, &mut sender, &mut receiver);
    script.rest();
}

/// The same where one packet waits already, for another to claim.
fn pass_through_after_one(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut sender = script.sender("ring", &lcore);
    let mut receiver = script.receiver("ring", &lcore);
    if let Some(one) = script.alloc(&lcore, pool) {
        script.send(&mut sender, one);
    }
    script.ready();
    go_through(script, &lcore, &mut sender, &mut receiver);
    script.rest();
}

fn go_through(
    script: &Script,
    lcore: &Lcore,
    sender: &mut MbufProducer<'_>,
    receiver: &mut MbufConsumer<'_>,
) {
    let pool = script.pool();
    let mut missing = 0;
    for _ in 0..4 {
        // What others have sent comes first.
        let burst = script.receive(receiver, lcore);
        script.free_burst(burst);
        let Some(one) = script.alloc(lcore, pool) else {
            continue;
        };
        script.let_go(&one);
        if let Err(one) = sender.enqueue(one) {
            script.take(&one);
            script.free(one);
            // Somebody has filled it since.
            missing += 1;
            continue;
        }
        let burst = script.receive(receiver, lcore);
        missing += usize::from(burst.is_empty());
        script.free_burst(burst);
    }
    assert!(missing <= 1, "{missing} of 4 packets did not go through");
}

/// Sends and receives by turns.
fn go_round(script: &Script) {
    let lcore = script.join();
    let pool = script.pool();
    let mut sender = script.sender("ring", &lcore);
    let mut receiver = script.receiver("ring", &lcore);
    script.ready();
    let Some(one) = script.alloc(&lcore, pool) else {
        script.rest();
    };
    let mut one = Some(one);
    for _ in 0..LONG {
        let Some(mbuf) = one.take() else { break };
        script.let_go(&mbuf);
        drop(sender.enqueue(mbuf));
        one = receiver.dequeue(&lcore);
        one.iter().for_each(|one| script.take(one));
    }
    if let Some(one) = one {
        script.let_go(&one);
        drop(sender.enqueue(one));
    }
    script.rest();
}
