//! Sleep: a consumer that runs the steps of `eal::sleep`, and producers that look at its flag.
//!
//! Who sleeps over an item finds that nobody rang for it. The kernel's `membarrier` is a fence on both sides here, as it is
//! in effect.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use eal::barrier::NO_BARRIER;
use eal::sleep::{Bell, Cause, EATEN_RING, Found, NO_SECOND_LOOK, Source, WaitSet, sleep};
use eal::sync::make_mistake;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread::{self, JoinHandle};

use super::{FanIn, ends, lane, leak, owner, take_fan_in};
use crate::claim::{Claim, Purpose, Watch};
use crate::fanin;
use crate::spsc;
use crate::sync::AtomicU64;

/// A thread is stopped so often at most, where it could go on: a few do for every mistake known, and more take hours.
const PREEMPTIONS: usize = 3;

/// What each model of sleep must see.
pub(super) const MISTAKES: [&str; 3] = [NO_BARRIER, NO_SECOND_LOOK, EATEN_RING];

/// A doorbell that remembers. Who waits for it in vain lets all producers come to their end, and looks again.
struct Doorbell {
    rung: Arc<AtomicBool>,
    producers: RefCell<Vec<JoinHandle<()>>>,
}

impl Bell for Doorbell {
    fn wait(&self, _others: &WaitSet<'_>, _timeout: Duration) -> Cause {
        if !self.rung.load(Ordering::SeqCst) {
            self.finish();
        }
        if self.rung.load(Ordering::SeqCst) {
            Cause::Rung
        } else {
            Cause::Time
        }
    }

    fn clear(&self) {
        self.rung.store(false, Ordering::SeqCst);
    }
}

impl Doorbell {
    fn finish(&self) {
        for producer in self.producers.take() {
            producer.join().unwrap();
        }
    }
}

/// The consumer's end: its word, and a lane or several.
struct End<L> {
    claim: Claim<'static>,
    lanes: L,
}

trait Lanes {
    fn fill(&mut self) -> u64;
}

impl Lanes for spsc::Consumer<'static> {
    fn fill(&mut self) -> u64 {
        self.look().into()
    }
}

impl Lanes for fanin::Consumer<'static> {
    fn fill(&mut self) -> u64 {
        self.look();
        self.known()
    }
}

impl<L: Lanes> Source for End<L> {
    fn sleep_begin(&mut self) {
        self.claim.set_sleeping(true);
    }

    fn look(&mut self) -> Found {
        if self.lanes.fill() > 0 {
            Found::InRing
        } else {
            Found::Nothing
        }
    }

    fn sleep_end(&mut self) {
        self.claim.set_sleeping(false);
    }
}

fn claim(word: &'static AtomicU64) -> Claim<'static> {
    Claim::take(word, owner(1), Purpose::Consume, |_| true).unwrap()
}

fn rest(bell: &Doorbell, end: &mut impl Source) {
    let cause = sleep(bell, end, false, Duration::MAX);
    assert!(
        matches!(cause, Cause::Work | Cause::Rung),
        "asleep with an item: {cause:?}"
    );
}

/// What a producer does after it has published.
fn wake(word: &AtomicU64, bell: &AtomicBool) {
    if let Some(slot) = Watch::of_process().sleeper(word) {
        assert_eq!(slot.get(), 0);
        bell.store(true, Ordering::SeqCst);
    }
}

/// Two bursts: the second comes while the consumer wakes up, or sleeps again.
fn who_sleeps_is_woken_by_each_burst() {
    let (mut producer, lanes) = ends(lane(2, 0));
    let word = leak(AtomicU64::new(0));
    let mut end = End {
        claim: claim(word),
        lanes,
    };
    let rung = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&rung);
    let pusher = thread::spawn(move || {
        for item in [1, 2] {
            assert!(producer.enqueue(item));
            wake(word, &its);
        }
    });
    let bell = Doorbell {
        rung,
        producers: RefCell::new(vec![pusher]),
    };
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match end.lanes.dequeue() {
            Some((item, _)) => seen.push(item),
            None => rest(&bell, &mut end),
        }
    }
    assert_eq!(seen, [1, 2]);
    bell.finish();
}

fn who_sleeps_is_woken_by_any_producer() {
    let ring = FanIn::new();
    let word = leak(AtomicU64::new(0));
    let mut end = End {
        claim: claim(word),
        lanes: ring.consumer(),
    };
    let rung = Arc::new(AtomicBool::new(false));
    let pushers = [0, 1].map(|number| {
        let (mut producer, its) = (ring.producer(number, 4), Arc::clone(&rung));
        thread::spawn(move || {
            assert!(producer.enqueue(7));
            wake(word, &its);
        })
    });
    let bell = Doorbell {
        rung,
        producers: RefCell::new(pushers.into()),
    };
    let mut seen = [Vec::new(), Vec::new()];
    while seen.concat().len() < 2 {
        let before = seen.concat().len();
        take_fan_in(&mut end.lanes, &mut seen);
        if seen.concat().len() == before {
            rest(&bell, &mut end);
        }
    }
    bell.finish();
}

const MODELS: [(&str, fn()); 2] = [
    ("each burst", who_sleeps_is_woken_by_each_burst),
    ("any producer", who_sleeps_is_woken_by_any_producer),
];

fn explore(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

#[test]
fn loom_models_of_sleep_hold() {
    for (name, model) in MODELS {
        println!("{name}");
        explore(model);
    }
}

#[test]
fn loom_catches_every_mistake_of_who_sleeps() {
    for mistake in MISTAKES {
        make_mistake(Some(mistake));
        let caught: Vec<_> = MODELS
            .iter()
            .filter(|(_, model)| catch_unwind(AssertUnwindSafe(|| explore(*model))).is_err())
            .map(|(name, _)| *name)
            .collect();
        make_mistake(None);
        println!("{mistake}: {}", caught.join(", "));
        assert!(!caught.is_empty(), "no model sees: {mistake}");
    }
}
