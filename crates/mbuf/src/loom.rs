//! Models: every interleaving that loom finds, of what two slots do to magazines of two.
//!
//! A model runs as it stands and must hold; then each ordering of the crate is weakened to relaxed, one at a time, and some
//! model must fail. Each mbuf has a cell that stands for its frame: loom checks that each use of it is ordered after the last.

use std::panic::{AssertUnwindSafe, catch_unwind};

use loom::cell::UnsafeCell;
use loom::thread;

use eal::{Holder, Owner, SlotId};

use crate::brief::Seen;
use crate::index::MbufIndex;
use crate::magazine::{Held, MAGAZINE_LEN, Magazine, Need, Rack, Range};
use crate::meta::Meta;
use crate::pool::Header;
use crate::shape::PoolConfig;
use crate::sync::AtomicU32;
use crate::sync::mutant::{Site, weaken};
use crate::tag::Tag;

/// What a model is called, and what it does.
type Model = (&'static str, fn());

const MODELS: &[Model] = &[
    ("mbuf_has_one_owner_at_a_time", mbuf_has_one_owner_at_a_time),
    (
        "two_owners_exchange_magazines",
        two_owners_exchange_magazines,
    ),
    (
        "given_is_listed_before_it_is_counted",
        given_is_listed_before_it_is_counted,
    ),
    (
        "taken_is_tagged_before_it_is_uncounted",
        taken_is_tagged_before_it_is_uncounted,
    ),
    (
        "pool_tag_says_that_it_is_listed",
        pool_tag_says_that_it_is_listed,
    ),
    (
        "header_is_seen_whole_or_not_at_all",
        header_is_seen_whole_or_not_at_all,
    ),
];

/// The sources that use orderings.
const SOURCES: &[&str] = &[
    include_str!("magazine.rs"),
    include_str!("tag.rs"),
    include_str!("pool.rs"),
    include_str!("cache.rs"),
    include_str!("handoff.rs"),
    include_str!("lcore.rs"),
];

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn slot(number: u8) -> SlotId {
    SlotId::new(number).unwrap()
}

fn owner(number: u8) -> Owner {
    Owner::new(slot(number), 1)
}

/// The frames: loom reports a use that is not ordered after the last one.
struct Frames(Vec<UnsafeCell<u32>>);

/// A pool of `count` mbufs in magazines of two, one of them empty.
#[derive(Clone, Copy)]
struct Small {
    rack: Rack<'static>,
    range: Range<'static>,
    frames: &'static Frames,
}

/// What slot `me` takes with.
fn fresh(me: u8) -> (Holder, Seen) {
    (Holder::slot(slot(me)), Seen::fresh(0))
}

impl Small {
    fn new(count: u32) -> Self {
        let metas: Vec<Meta> = (0..count).map(|_| Meta::zeroed()).collect();
        let full = (count as usize).div_ceil(MAGAZINE_LEN);
        let magazines: Vec<Magazine> = (0..=full).map(|_| Magazine::zeroed()).collect();
        let rack = Rack {
            magazines: Vec::leak(magazines),
            hints: Vec::leak((0..=full).map(|_| AtomicU32::new(0)).collect()),
        };
        let mut numbers = (0..count).map(|number| MbufIndex::new(0, number));
        for (number, magazine) in rack.magazines.iter().enumerate() {
            let count = magazine.stock(numbers.by_ref().take(MAGAZINE_LEN));
            rack.release(Held {
                magazine,
                number,
                count,
            });
        }
        let tags: Vec<Tag> = (0..count).map(|_| Tag::zeroed()).collect();
        let range = Range {
            tags: Vec::leak(tags),
            briefs: &[],
            metas: Vec::leak(metas),
            first: MbufIndex::new(0, 0),
        };
        let frames = leak(Frames((0..count).map(|_| UnsafeCell::new(0)).collect()));
        Self {
            rack,
            range,
            frames,
        }
    }

    /// Takes one mbuf from a magazine that is free, uses it, gives it back and lets go.
    fn turn(self, me: u8) -> bool {
        let Some(mut held) = self.rack.claim(owner(me), Need::Stock) else {
            return false;
        };
        let mut out = [0];
        let done = held
            .magazine
            .take(self.range, held.count, fresh(me), &mut out);
        assert_eq!((done.taken, done.bad), (1, 0), "a listed mbuf is free");
        self.write(out[0], me);
        held.count = done.left + held.magazine.give(self.range, done.left, &out, |_| true);
        self.rack.release(held);
        true
    }

    /// Writes the frame, as its only owner.
    fn write(self, index: u32, me: u8) {
        let index = MbufIndex::from_bits(index);
        let tag = self.range.tag(index).unwrap();
        assert_eq!(tag.holder(), Holder::slot(slot(me)));
        self.frames.0[index.number() as usize].with_mut(|_| {});
        assert_eq!(
            tag.holder(),
            Holder::slot(slot(me)),
            "nobody else writes our tag"
        );
    }

    /// When all is at rest: every mbuf listed once, nothing owned, every hint right.
    fn check(self, count: usize) {
        let mut listed: Vec<u32> = self
            .rack
            .magazines
            .iter()
            .flat_map(|m| m.entries())
            .map(MbufIndex::bits)
            .collect();
        listed.sort_unstable();
        assert_eq!(listed.len(), count);
        listed.dedup();
        assert_eq!(listed.len(), count, "an mbuf is listed twice");
        for (number, magazine) in self.rack.magazines.iter().enumerate() {
            assert_eq!(magazine.owner(), Owner::NONE);
            let hint = self.rack.hints[number].load(eal::sync::Ordering::Relaxed);
            assert_eq!(hint & 1 != 0, magazine.count() > 0, "hint of stock");
            assert_eq!(hint & 2 != 0, magazine.count() < MAGAZINE_LEN);
        }
    }
}

fn mbuf_has_one_owner_at_a_time() {
    let pool = Small::new(1);
    let other = thread::spawn(move || pool.turn(1));
    let mine = pool.turn(2);
    let theirs = other.join().unwrap();
    assert!(mine || theirs);
    pool.check(1);
}

/// One takes from a full magazine and lets it go empty, the other fills an empty one: magazines change hands both ways.
fn two_owners_exchange_magazines() {
    let pool = Small::new(2);
    let giver = thread::spawn(move || {
        let Some(from) = pool.rack.claim(owner(1), Need::Stock) else {
            return;
        };
        let mut out = [0; 2];
        let done = from
            .magazine
            .take(pool.range, from.count, fresh(1), &mut out);
        pool.rack.release(Held {
            count: done.left,
            ..from
        });
        for index in &out[..done.taken] {
            pool.write(*index, 1);
        }
        // There is always room: two magazines for two mbufs, and the other thread has at most one.
        loop {
            if let Some(to) = pool.rack.claim(owner(1), Need::Room) {
                let given = to
                    .magazine
                    .give(pool.range, to.count, &out[..done.taken], |_| true);
                pool.rack.release(Held {
                    count: to.count + given,
                    ..to
                });
                assert!(given == done.taken || to.count > 0);
                return;
            }
            thread::yield_now();
        }
    });
    pool.turn(2);
    giver.join().unwrap();
    pool.check(2);
}

fn given_is_listed_before_it_is_counted() {
    let pool = Small::new(2);
    // An entry not yet written shows as number 0, so give another one.
    let magazine = &pool.rack.magazines[1];
    let giver = thread::spawn(move || magazine.give(pool.range, 0, &[1], |_| true));
    for index in magazine.entries() {
        assert_eq!(index.bits(), 1, "an entry that was not written yet");
    }
    giver.join().unwrap();
}

fn taken_is_tagged_before_it_is_uncounted() {
    let pool = Small::new(1);
    let magazine = &pool.rack.magazines[0];
    let taker = thread::spawn(move || {
        magazine.take(pool.range, 1, fresh(1), &mut [0]);
    });
    if magazine.count() == 0 {
        let holder = pool.range.tags[0].holder();
        assert_eq!(
            holder,
            Holder::slot(slot(1)),
            "listed nowhere, and tagged POOL"
        );
    }
    taker.join().unwrap();
}

fn pool_tag_says_that_it_is_listed() {
    let pool = Small::new(1);
    let (tag, magazine) = (&pool.range.tags[0], &pool.rack.magazines[1]);
    tag.set(Holder::slot(slot(1)));
    // The one that looks is spawned: loom, which goes by the last access to a word, would not try it behind one that also loads the tag.
    let looker = thread::spawn(move || {
        if tag.holder_in_order() == Holder::POOL {
            assert_eq!(magazine.count(), 1, "tagged POOL, and listed nowhere");
        }
    });
    magazine.give(pool.range, 0, &[0], |_| true);
    looker.join().unwrap();
}

fn header_is_seen_whole_or_not_at_all() {
    let header = leak(Header::zeroed());
    let shape = PoolConfig::new("pool", 9).shape().unwrap();
    let maker = thread::spawn(move || header.announce(3, shape));
    let facts = header.read();
    assert!(!facts.is_ready() || facts.says(3, shape), "{facts:?}");
    maker.join().unwrap();
    assert!(header.read().says(3, shape));
}

fn explore(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Every `release("x")` and `acquire("x")` in the sources.
fn sites() -> Vec<Site> {
    let mut sites = Vec::new();
    for ordering in ["release", "acquire"] {
        let call = format!("{ordering}(\"");
        for source in SOURCES {
            for (_, rest) in source
                .match_indices(&call)
                .map(|(at, _)| source.split_at(at + call.len()))
            {
                let pair = rest.split('"').next().unwrap();
                let site = Site { ordering, pair };
                if !sites.contains(&site) {
                    sites.push(site);
                }
            }
        }
    }
    sites
}

#[test]
fn models_hold() {
    for (name, model) in MODELS {
        println!("{name}");
        explore(*model);
    }
}

#[test]
fn every_ordering_is_needed_by_some_model() {
    let sites = sites();
    assert_eq!(sites.len(), 8, "{sites:?}");
    let mut uncaught = Vec::new();
    for site in sites {
        weaken(Some(site));
        let fails =
            |(_, model): &&Model| catch_unwind(AssertUnwindSafe(|| explore(*model))).is_err();
        let caught: Vec<&str> = MODELS.iter().filter(fails).map(|(name, _)| *name).collect();
        weaken(None);
        println!(
            "{}({:?}) relaxed: {}",
            site.ordering,
            site.pair,
            caught.join(", ")
        );
        if caught.is_empty() {
            uncaught.push(site);
        }
    }
    assert!(uncaught.is_empty(), "no model needs {uncaught:?}");
}
