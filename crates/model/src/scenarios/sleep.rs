//! Consumers that sleep, and producers that die before they ring.

use super::rings::{send_one, send_two};
use super::{R, make_fan_in, make_lane, nothing, secondary, victim};
use crate::explore::Scenario;
use crate::script::Script;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "the consumer sleeps, the producer dies",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_two),
                secondary("B", 1, receive_asleep),
                R,
            ],
            preemptions: 2,
            deaths: 1,
        },
        Scenario {
            name: "the consumer sleeps, the sweeper dies",
            setup: |region| make_lane(region, 3),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_one),
                secondary("B", 1, receive_asleep),
                super::MORTAL_R,
                super::second_primary(2),
            ],
            preemptions: 1,
            deaths: 2,
        },
        // Nobody sweeps: what the living send is seen all the same.
        Scenario {
            name: "two send to who sleeps, and nobody sweeps",
            setup: |region| make_fan_in(region, 4),
            mark: nothing,
            casts: vec![
                victim("A", 0, send_one),
                secondary("B", 1, send_one),
                secondary("C", 2, receive_asleep),
            ],
            preemptions: 2,
            deaths: 1,
        },
    ]
}

/// Takes what comes, for ever, and sleeps in between.
fn receive_asleep(script: &Script) {
    let lcore = script.join();
    let mut ring = script.receiver("ring", &lcore);
    script.ready();
    let mut kept = Vec::new();
    loop {
        let burst = script.receive(&mut ring, &lcore);
        if burst.is_empty() {
            script.sleep(&mut ring, &lcore);
        }
        kept.push(burst);
    }
}
