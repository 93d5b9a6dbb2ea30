//! Models: every interleaving that loom finds, of what two or three threads do to one ring.
//!
//! A model runs as it stands and must hold; then each ordering of the crate is weakened to
//! relaxed, one at a time, and some model must fail. Loom does not let a load see a store of the
//! future, so what an ordering keeps from happening *later* would go unnoticed in the items; each slot therefore has a cell
//! beside it (`Slots::uses`) whose every use loom checks for being ordered after the last.

mod sleeping;

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::thread;

use crate::claim::{Claim, Purpose};
use crate::fanin::{self, Limit};
use crate::flags::Flags;
use crate::layout::{HEADER_WORDS, Header, Shape, Unreadable};
use crate::mpmc::{self, Array};
use crate::slots::Slots;
use crate::spsc::{Consumer, Lane};
use crate::sync::mutant::{Site, is_weakened, weaken};
use crate::sync::{AtomicU32, AtomicU64, CacheLine};
use eal::sync::mutated;
use eal::{Counter, Owner, SlotId};

/// What a model is called, and what it does.
type Model = (&'static str, fn());

const MODELS: &[Model] = &[
    (
        "burst_is_seen_whole_and_in_order",
        burst_is_seen_whole_and_in_order,
    ),
    (
        "slot_is_not_filled_while_it_is_read",
        slot_is_not_filled_while_it_is_read,
    ),
    ("parts_of_a_peek_come_again", parts_of_a_peek_come_again),
    (
        "odd_ends_leave_the_other_half_alone",
        odd_ends_leave_the_other_half_alone,
    ),
    (
        "fan_in_lanes_are_seen_whole_and_in_order",
        fan_in_lanes_are_seen_whole_and_in_order,
    ),
    (
        "fan_in_slot_is_not_filled_while_it_is_read",
        fan_in_slot_is_not_filled_while_it_is_read,
    ),
    (
        "next_producer_goes_on_where_the_last_stopped",
        next_producer_goes_on_where_the_last_stopped,
    ),
    (
        "next_consumer_goes_on_where_the_last_stopped",
        next_consumer_goes_on_where_the_last_stopped,
    ),
    (
        "header_is_seen_whole_or_not_at_all",
        header_is_seen_whole_or_not_at_all,
    ),
    (
        "many_items_are_seen_with_their_contents",
        many_items_are_seen_with_their_contents,
    ),
    (
        "many_producers_and_consumers_lose_nothing",
        many_producers_and_consumers_lose_nothing,
    ),
    (
        "many_hints_are_no_further_than_the_slots",
        many_hints_are_no_further_than_the_slots,
    ),
    (
        "many_claims_are_listed_until_they_are_tagged",
        many_claims_are_listed_until_they_are_tagged,
    ),
    (
        "many_claims_are_closed_while_they_are_passed_over",
        many_claims_are_closed_while_they_are_passed_over,
    ),
];

/// The sources that use orderings.
const SOURCES: &[&str] = &[
    include_str!("claim.rs"),
    include_str!("consumer.rs"),
    include_str!("fanin.rs"),
    include_str!("gauge.rs"),
    include_str!("layout.rs"),
    include_str!("mpmc.rs"),
    include_str!("parts.rs"),
    include_str!("producer.rs"),
    include_str!("ring.rs"),
    include_str!("slots.rs"),
    include_str!("spsc.rs"),
];

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A lane of `size` slots whose positions start at `position`.
fn lane(size: usize, position: u32) -> Lane<'static> {
    Lane {
        tail: leak(AtomicU32::new(position)),
        head: leak(AtomicU32::new(position)),
        slots: Slots::leaked(size),
    }
}

fn counter() -> &'static Counter {
    leak(Counter::default())
}

fn producer(lane: Lane<'static>) -> fanin::Producer<'static> {
    fanin::Producer::attach(lane, None, counter())
}

fn ends(lane: Lane<'static>) -> (fanin::Producer<'static>, Consumer<'static>) {
    (producer(lane), Consumer::attach(lane, counter()))
}

fn take(consumer: &mut Consumer<'_>, room: usize, seen: &mut Vec<u32>) {
    let mut out = [0; 4];
    let count = consumer.peek(&mut out[..room]);
    seen.extend(&out[..count as usize]);
    consumer.release(count);
}

fn burst_is_seen_whole_and_in_order() {
    let (mut producer, mut consumer) = ends(lane(2, 0));
    let pusher = thread::spawn(move || {
        assert_eq!(producer.enqueue_burst(&[1, 2]), 2);
        producer.enqueue_burst(&[3])
    });
    let mut seen = Vec::new();
    take(&mut consumer, 2, &mut seen);
    assert!(seen.len() != 1, "half a burst");
    take(&mut consumer, 2, &mut seen);
    let third = pusher.join().unwrap() as usize;
    take(&mut consumer, 2, &mut seen);
    assert_eq!(seen, &[1, 2, 3][..2 + third]);
}

fn slot_is_not_filled_while_it_is_read() {
    let (mut producer, mut consumer) = ends(lane(2, u32::MAX - 1));
    assert_eq!(producer.enqueue_burst(&[1, 2]), 2);
    let pusher = thread::spawn(move || producer.enqueue_burst(&[3, 4]));
    let mut seen = Vec::new();
    take(&mut consumer, 1, &mut seen);
    take(&mut consumer, 1, &mut seen);
    let more = pusher.join().unwrap() as usize;
    take(&mut consumer, 2, &mut seen);
    assert_eq!(seen, &[1, 2, 3, 4][..2 + more]);
}

/// Three bursts of different length through two slots, taken in three ways.
fn parts_of_a_peek_come_again() {
    let (mut producer, mut consumer) = ends(lane(2, u32::MAX));
    let pusher = thread::spawn(move || {
        let mut sent = producer.enqueue_burst(&[1, 2]);
        for _ in 0..2 {
            sent += u32::from(producer.enqueue(sent + 1));
        }
        sent
    });
    let (mut seen, mut out) = (Vec::new(), [0; 2]);
    if consumer.peek(&mut out) == 2 {
        consumer.release(1);
        seen.push(out[0]);
    }
    seen.extend(consumer.dequeue().map(|(item, _)| item));
    let sent = pusher.join().unwrap();
    take(&mut consumer, 2, &mut seen);
    take(&mut consumer, 2, &mut seen);
    assert_eq!(seen, (1..=sent).collect::<Vec<_>>());
}

fn odd_ends_leave_the_other_half_alone() {
    let (mut producer, mut consumer) = ends(lane(4, 1));
    assert_eq!(producer.enqueue_burst(&[1, 2]), 2);
    // Fills the other half of both words that the consumer reads.
    let pusher = thread::spawn(move || producer.enqueue_burst(&[3, 4]));
    let mut seen = Vec::new();
    take(&mut consumer, 2, &mut seen);
    assert_eq!(pusher.join().unwrap(), 2);
    take(&mut consumer, 4, &mut seen);
    take(&mut consumer, 4, &mut seen);
    assert_eq!(seen, [1, 2, 3, 4]);
}

/// Two lanes of two, and a limit.
struct FanIn {
    lanes: [Lane<'static>; 2],
    tails: &'static [AtomicU32],
    heads: &'static [CacheLine<AtomicU32>],
}

impl FanIn {
    fn new() -> Self {
        let tails: &'static [AtomicU32] = leak([AtomicU32::new(0), AtomicU32::new(0)]);
        let heads: &'static [CacheLine<AtomicU32>] =
            leak([CacheLine(AtomicU32::new(0)), CacheLine(AtomicU32::new(0))]);
        let lanes = [0, 1].map(|number| Lane {
            tail: &tails[number],
            head: &heads[number].0,
            slots: Slots::leaked(2),
        });
        Self {
            lanes,
            tails,
            heads,
        }
    }

    fn producer(&self, number: usize, limit: u32) -> fanin::Producer<'static> {
        let limit = Limit::new(self.tails, self.heads, 2, limit);
        fanin::Producer::attach(self.lanes[number], limit, counter())
    }

    fn consumer(&self) -> fanin::Consumer<'static> {
        fanin::Consumer::attach(self.lanes.into_iter(), counter())
    }
}

fn take_fan_in(consumer: &mut fanin::Consumer<'_>, seen: &mut [Vec<u32>; 2]) {
    let mut out = [0; 2];
    let count = consumer.peek(&mut out);
    seen[consumer.lane().min(1)].extend(&out[..count as usize]);
    consumer.release(count);
}

fn fan_in_lanes_are_seen_whole_and_in_order() {
    let ring = FanIn::new();
    let (mut first, mut second) = (ring.producer(0, 4), ring.producer(1, 4));
    let mut consumer = ring.consumer();
    let pushers = [
        thread::spawn(move || first.enqueue_burst(&[1, 2])),
        thread::spawn(move || second.enqueue_burst(&[11])),
    ];
    let mut seen = [Vec::new(), Vec::new()];
    take_fan_in(&mut consumer, &mut seen);
    assert!(seen[0].len() != 1, "half a burst");
    assert_eq!(pushers.map(|pusher| pusher.join().unwrap()), [2, 1]);
    for _ in 0..2 {
        take_fan_in(&mut consumer, &mut seen);
    }
    assert_eq!(seen, [vec![1, 2], vec![11]]);
}

fn fan_in_slot_is_not_filled_while_it_is_read() {
    let ring = FanIn::new();
    let (mut first, mut second) = (ring.producer(0, 3), ring.producer(1, 3));
    let mut consumer = ring.consumer();
    assert_eq!(first.enqueue_burst(&[1, 2]), 2);
    let pusher = thread::spawn(move || first.enqueue_burst(&[3, 4]));
    assert_eq!(second.enqueue_burst(&[11]), 1);
    let mut seen = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        take_fan_in(&mut consumer, &mut seen);
    }
    let more = pusher.join().unwrap() as usize;
    for _ in 0..2 {
        take_fan_in(&mut consumer, &mut seen);
    }
    assert_eq!(seen, [[1, 2, 3, 4][..2 + more].to_vec(), vec![11]]);
}

fn owner(number: u32) -> Owner {
    Owner::from_bits(number)
}

/// Two threads fill one lane, one after the other, as the word of its end lets them.
fn next_producer_goes_on_where_the_last_stopped() {
    let (lane, word) = (lane(4, 0), leak(AtomicU64::new(0)));
    let fill = move |number| {
        let claim = Claim::take(word, owner(number), Purpose::Produce, |_| true).ok()?;
        let count = producer(lane).enqueue_burst(&[number, number]);
        drop(claim);
        Some(count)
    };
    let other = thread::spawn(move || fill(1));
    let mine = fill(2);
    let theirs = other.join().unwrap();
    assert!(mine == Some(2) || theirs == Some(2), "nobody got the end");
    let mut seen = Vec::new();
    take(&mut Consumer::attach(lane, counter()), 4, &mut seen);
    let expected = mine.unwrap_or(0) + theirs.unwrap_or(0);
    assert_eq!(seen.len(), expected as usize, "{seen:?}");
    assert!(seen.chunks(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
}

/// Two threads empty one lane, one after the other, as the word of its end lets them.
fn next_consumer_goes_on_where_the_last_stopped() {
    let (lane, word) = (lane(4, 0), leak(AtomicU64::new(0)));
    assert_eq!(producer(lane).enqueue_burst(&[1, 2, 3, 4]), 4);
    let empty = move |number| {
        let mut seen = Vec::new();
        if let Ok(claim) = Claim::take(word, owner(number), Purpose::Consume, |_| true) {
            take(&mut Consumer::attach(lane, counter()), 2, &mut seen);
            drop(claim);
        }
        seen
    };
    let other = thread::spawn(move || empty(1));
    let mut seen = empty(2);
    seen.extend(other.join().unwrap());
    seen.sort_unstable();
    assert!(seen == [1, 2] || seen == [1, 2, 3, 4], "{seen:?}");
}

fn header_is_seen_whole_or_not_at_all() {
    let words: &'static [AtomicU64; HEADER_WORDS] = leak([0; HEADER_WORDS].map(AtomicU64::new));
    let shape = Shape::new("", Flags::SC_DEQ, 128, 4, 256).unwrap();
    let creator = thread::spawn(move || Header(words).announce(shape));
    match Header(words).read() {
        Ok(seen) => assert_eq!(seen, shape),
        Err(why) => assert_eq!(why, Unreadable::Unfinished),
    }
    creator.join().unwrap();
    assert_eq!(Header(words).read(), Ok(shape));
}

/// An array of two slots for many to many.
fn array() -> (Array<'static>, &'static Counter) {
    let slots: &'static [AtomicU64] = Box::leak((0..2).map(|_| AtomicU64::new(0)).collect());
    let (head, tail) = (leak(AtomicU64::new(0)), leak(AtomicU64::new(0)));
    (Array::new(head, tail, slots, 2).unwrap(), counter())
}

fn consumer_of_many(
    array: Array<'static>,
    number: u8,
    faults: &'static Counter,
) -> mpmc::Consumer<'static> {
    mpmc::Consumer::attach(array, SlotId::new(number).unwrap(), faults)
}

/// Takes what is left.
fn drained(array: Array<'static>, faults: &'static Counter) -> Vec<u32> {
    let mut end = consumer_of_many(array, 9, faults);
    std::iter::from_fn(|| end.dequeue()).collect()
}

fn many_items_are_seen_with_their_contents() {
    let (array, faults) = array();
    let contents: &'static [loom::cell::UnsafeCell<u32>; 2] =
        leak([0, 0].map(loom::cell::UnsafeCell::new));
    let producer = thread::spawn(move || {
        let mut end = mpmc::Producer::attach(array, faults);
        contents[1].with_mut(|_| ());
        assert!(end.enqueue(1));
    });
    let consumer = thread::spawn(move || {
        let item = consumer_of_many(array, 1, faults).dequeue();
        item.inspect(|item| contents[*item as usize].with(|_| ()))
    });
    let mine = consumer_of_many(array, 2, faults).dequeue();
    mine.inspect(|item| contents[*item as usize].with(|_| ()));
    producer.join().unwrap();
    let theirs = consumer.join().unwrap();
    let mut seen = drained(array, faults);
    seen.extend(mine.into_iter().chain(theirs));
    assert_eq!((seen, faults.get()), (vec![1], 0));
}

fn many_producers_and_consumers_lose_nothing() {
    let (array, faults) = array();
    let send =
        move |item| thread::spawn(move || mpmc::Producer::attach(array, faults).enqueue(item));
    let producers = [send(1), send(2)];
    let consumer = thread::spawn(move || consumer_of_many(array, 1, faults).dequeue());
    let mine = consumer_of_many(array, 2, faults).dequeue();
    assert!(producers.map(|end| end.join().unwrap()) == [true, true]);
    let mut seen = drained(array, faults);
    seen.extend(mine.into_iter().chain(consumer.join().unwrap()));
    seen.sort_unstable();
    assert_eq!((seen, faults.get()), (vec![1, 2], 0));
}

/// Who sees a hint sees the slots before it as filled: nothing that cannot be.
fn many_hints_are_no_further_than_the_slots() {
    let (array, faults) = array();
    let other = thread::spawn(move || {
        let mut end = mpmc::Producer::attach(array, faults);
        usize::from(end.enqueue(1)) + usize::from(end.enqueue(2))
    });
    let more = mpmc::Producer::attach(array, faults).enqueue(3);
    // Three want to get into two slots.
    let entered = other.join().unwrap() + usize::from(more);
    assert_eq!((entered, drained(array, faults).len()), (2, 2));
    assert_eq!(faults.get(), 0);
}

/// Who does not see an item in the ring any more sees that its taker has tagged it.
fn many_claims_are_listed_until_they_are_tagged() {
    let (array, faults) = array();
    let tag: &'static AtomicU32 = leak(AtomicU32::new(0));
    assert!(mpmc::Producer::attach(array, faults).enqueue(1));
    let consumer = thread::spawn(move || {
        let mut end = consumer_of_many(array, 1, faults);
        assert_eq!(end.claim(), Some(1));
        tag.store(1, crate::sync::Ordering::Relaxed);
        end.close();
    });
    let mut listed = false;
    array.walk(|_| listed = true);
    assert!(listed || tag.load(crate::sync::Ordering::Relaxed) == 1);
    consumer.join().unwrap();
    assert_eq!(faults.get(), 0);
}

fn many_claims_are_closed_while_they_are_passed_over() {
    let (array, faults) = array();
    let mut producer = mpmc::Producer::attach(array, faults);
    assert!(producer.enqueue(1) && producer.enqueue(2));
    let mut claimer = consumer_of_many(array, 1, faults);
    assert_eq!(claimer.claim(), Some(1));
    let closer = thread::spawn(move || claimer.close());
    let mut other = consumer_of_many(array, 2, faults);
    assert_eq!(other.dequeue(), Some(2));
    // Whether the claim is there still or not.
    assert!(producer.enqueue(3));
    assert!(closer.join().unwrap());
    assert_eq!(other.dequeue(), Some(3));
    assert!(producer.enqueue(4));
    assert_eq!((drained(array, faults), faults.get()), (vec![4], 0));
}

/// Preemptions of a model of more than two threads.
const PREEMPTIONS: usize = 2;

fn explore(model: fn()) {
    let mut builder = loom::model::Builder::new();
    let is_large = MODELS
        .iter()
        .any(|(name, known)| std::ptr::fn_addr_eq(*known, model) && name.starts_with("many"));
    if is_large && builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(PREEMPTIONS);
    }
    builder.check(model);
}

/// Every use of a strong ordering, as the sources say.
fn sites() -> Vec<Site> {
    let mut sites = Vec::new();
    for source in SOURCES {
        for ordering in ["release", "acquire"] {
            for name in [ordering, "both"] {
                for (at, call) in source.match_indices(&format!("{name}(\"")) {
                    let pair = source[at + call.len()..].split('"').next().unwrap();
                    sites.push(Site { ordering, pair });
                }
            }
        }
    }
    sites
}

#[test]
fn loom_models_hold() {
    for (name, model) in MODELS {
        println!("{name}");
        explore(*model);
    }
}

/// Strong orderings are asked for by name, and by two names each: else none could be weakened.
#[test]
fn loom_knows_every_ordering_and_its_counterpart() {
    for source in SOURCES {
        for strong in [
            "Ordering::Acquire",
            "Ordering::Release",
            "Ordering::AcqRel",
            "Ordering::SeqCst",
        ] {
            assert!(!source.contains(strong), "{strong} without a name");
        }
    }
    let sites = sites();
    for Site { ordering, pair } in &sites {
        let counterpart = if *ordering == "release" {
            "acquire"
        } else {
            "release"
        };
        let uses = |ordering| {
            sites
                .iter()
                .filter(|site| **site == Site { ordering, pair })
                .count()
        };
        // A word that all replace is also looked at.
        let looks = usize::from(*pair == "slot" && *ordering == "acquire");
        let counterparts = usize::from(*pair == "slot" && counterpart == "acquire");
        let expected = (1 + looks, 1 + counterparts);
        assert_eq!((uses(ordering), uses(counterpart)), expected, "of {pair:?}");
    }
    assert!(!sites.is_empty());
}

#[test]
fn loom_catches_every_weakened_ordering() {
    // A model that fails as it should says nothing.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !is_weakened() && !sleeping::MISTAKES.iter().any(|mistake| mutated(mistake)) {
            usual(info);
        }
    }));
    let mut uncaught = Vec::new();
    for site in sites() {
        weaken(Some(site));
        let fails =
            |(_, model): &&Model| catch_unwind(AssertUnwindSafe(|| explore(*model))).is_err();
        let caught = MODELS.iter().find(fails).map(|(name, _)| *name);
        weaken(None);
        println!(
            "{}({:?}) relaxed: {}",
            site.ordering,
            site.pair,
            caught.unwrap_or("nothing fails")
        );
        if caught.is_none() {
            uncaught.push(site);
        }
    }
    assert!(uncaught.is_empty(), "no model needs {uncaught:?}");
}
