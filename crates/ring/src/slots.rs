//! The slots of a lane: 32-bit items, two to a word.
//!
//! ```text
//! word      |     0     |     1     |     2     |     3     |   one AtomicU64 each
//! slot      |  1     0  |  3     2  |  5     4  |  7     6  |   even slot: low half
//! position  |  9     8  | 11     2  |  5     4  |  7     6  |   slot = position mod size
//!                           ^ tail = 11: the next write goes into slot 3
//! ```
//!
//! A burst moves whole words where it can. Where it begins or ends in the middle of one,
//! the producer rewrites the word with the other half as it was. That is no
//! read-modify-write: nobody but the producer ever writes a slot. The consumer may be
//! reading the other half meanwhile, and finds the same bits there before and after.
//!
//! | part  | written by   | read by                                |
//! |-------|--------------|----------------------------------------|
//! | slots | the producer | the consumer; the producer, odd halves |
//!
//! All access is relaxed: the lane's head and tail say which slots are whose.
//!
//! **If a process dies:** slots that were not yet published are nobody's, and the next
//! producer fills them again.

use core::hint::cold_path;

use crate::sync::{AtomicU64, Ordering};

/// The slots of one lane. A power of two of them, at least two; of a lane of an exact size some are never in use at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots<'r> {
    words: &'r [AtomicU64],
    /// One less than there are words.
    mask: u32,
    /// How many items may wait in them.
    capacity: u32,
    /// Says to loom, item by item, who uses a slot, so that it sees an overlap.
    #[cfg(loom)]
    uses: &'r [loom::cell::UnsafeCell<()>],
}

impl<'r> Slots<'r> {
    /// Views `words` as slots, of which `capacity` may be in use at a time; `None` unless their number is a power of two that
    /// positions can span, and enough.
    #[cfg(not(loom))]
    pub(crate) fn new(words: &'r [AtomicU64], capacity: u32) -> Option<Self> {
        let spanned = words.len().is_power_of_two() && words.len() <= 1 << 30;
        let fits = capacity as usize <= words.len() * 2;
        let mask = u32::try_from(words.len()).ok()?.checked_sub(1)?;
        (spanned && fits).then_some(Self {
            words,
            mask,
            capacity,
        })
    }

    /// Views nothing: loom's atomics are not what lies in memory.
    #[cfg(loom)]
    pub(crate) fn new(_words: &'r [AtomicU64], _capacity: u32) -> Option<Self> {
        None
    }

    /// `size` slots that live until the end of the model.
    #[cfg(all(loom, test))]
    pub(crate) fn leaked(size: usize) -> Self {
        Self {
            mask: u32::try_from(size / 2).unwrap() - 1,
            capacity: u32::try_from(size).unwrap(),
            words: Box::leak((0..size / 2).map(|_| AtomicU64::new(0)).collect()),
            uses: Box::leak((0..size).map(|_| loom::cell::UnsafeCell::new(())).collect()),
        }
    }

    /// How many items fit.
    #[inline]
    pub(crate) fn capacity(self) -> u32 {
        self.capacity
    }

    /// The number of the word that `position` lies in.
    #[inline]
    fn word(&self, position: u32) -> usize {
        (position >> 1 & self.mask) as usize
    }

    /// Fills the slot at `position`.
    #[inline]
    pub(crate) fn put(self, position: u32, item: u32) {
        #[cfg(loom)]
        self.track(position, 1, |slot| slot.with_mut(|_| ()));
        if let Some(word) = self.words.get(self.word(position)) {
            let old = word.load(Ordering::Relaxed);
            // The half that changes, by the bits in which it does.
            let shift = (position & 1) * 32;
            let change = low_half(old >> shift) ^ item;
            let new = old ^ u64::from(change) << shift;
            word.store(new, Ordering::Relaxed);
        }
    }

    /// Reads the slot at `position`.
    #[inline]
    pub(crate) fn at(self, position: u32) -> u32 {
        #[cfg(loom)]
        self.track(position, 1, |slot| slot.with(|_| ()));
        let Some(word) = self.words.get(self.word(position)) else {
            cold_path();
            return 0;
        };
        low_half(word.load(Ordering::Relaxed) >> ((position & 1) * 32))
    }

    /// Fills the slots from `position` on. At most `capacity` items; more would meet themselves.
    #[inline]
    pub(crate) fn write(&self, position: u32, items: &[u32]) {
        match items.as_chunks() {
            (pairs, []) if !is_odd(position) => self.write_pairs(position, pairs),
            ([], [item]) => self.put(position, *item),
            _ => self.write_ragged(position, items),
        }
    }

    /// The same where it begins or ends in the middle of a word.
    #[inline(never)]
    fn write_ragged(&self, mut position: u32, mut items: &[u32]) {
        if is_odd(position)
            && let [first, rest @ ..] = items
        {
            self.put(position, *first);
            (position, items) = (position.wrapping_add(1), rest);
        }
        let (pairs, odd) = items.as_chunks();
        self.write_pairs(position, pairs);
        if let [last] = odd {
            self.put(ahead(position, pairs.len() * 2), *last);
        }
    }

    /// Fills whole words.
    #[inline]
    fn write_pairs(&self, position: u32, pairs: &[[u32; 2]]) {
        #[cfg(loom)]
        self.track(position, pairs.len() * 2, |slot| slot.with_mut(|_| ()));
        match self.run(position, pairs.len()) {
            Some(words) => fill(words, pairs),
            None => self.write_around(position, pairs),
        }
    }

    /// The same where it goes on at the first one.
    #[cold]
    #[inline(never)]
    fn write_around(&self, position: u32, pairs: &[[u32; 2]]) {
        // As many words as pairs, each time.
        let from = self.words.get(self.word(position)..).unwrap_or_default();
        let (here, wrapped) = pairs.split_at(from.len().min(pairs.len()));
        fill(from, here);
        fill(self.words.get(..wrapped.len()).unwrap_or_default(), wrapped);
    }

    /// Reads the slots from `position` on into all of `out`. At most `capacity` of them.
    #[inline]
    pub(crate) fn read(&self, position: u32, out: &mut [u32]) {
        match out.as_chunks_mut() {
            (pairs, []) if !is_odd(position) => self.read_pairs(position, pairs),
            ([], [item]) => *item = self.at(position),
            _ => self.read_ragged(position, out),
        }
    }

    /// The same where it begins or ends in the middle of a word.
    #[inline(never)]
    pub(crate) fn read_ragged(&self, mut position: u32, mut out: &mut [u32]) {
        if is_odd(position)
            && let [first, rest @ ..] = out
        {
            *first = self.at(position);
            (position, out) = (position.wrapping_add(1), rest);
        }
        let (pairs, odd) = out.as_chunks_mut();
        let after = ahead(position, pairs.len() * 2);
        self.read_pairs(position, pairs);
        if let [last] = odd {
            *last = self.at(after);
        }
    }

    /// Reads whole words.
    #[inline]
    fn read_pairs(&self, position: u32, pairs: &mut [[u32; 2]]) {
        #[cfg(loom)]
        self.track(position, pairs.len() * 2, |slot| slot.with(|_| ()));
        match self.run(position, pairs.len()) {
            Some(words) => copy(words, pairs),
            None => self.read_around(position, pairs),
        }
    }

    /// The same where it goes on at the first one.
    #[cold]
    #[inline(never)]
    fn read_around(&self, position: u32, pairs: &mut [[u32; 2]]) {
        // As many words as pairs, each time.
        let from = self.words.get(self.word(position)..).unwrap_or_default();
        let (here, wrapped) = pairs.split_at_mut(from.len().min(pairs.len()));
        copy(from, here);
        copy(self.words.get(..wrapped.len()).unwrap_or_default(), wrapped);
    }

    /// The words of `pairs` pairs from `position` on; `None` if they go on at the first word.
    #[inline]
    fn run(&self, position: u32, pairs: usize) -> Option<&'r [AtomicU64]> {
        self.words.get(self.word(position)..)?.get(..pairs)
    }

    /// Tells loom that `count` slots from `position` on are used now.
    #[cfg(loom)]
    fn track(self, position: u32, count: usize, one: impl Fn(&loom::cell::UnsafeCell<()>)) {
        for offset in 0..count {
            one(&self.uses[ahead(position, offset) as usize & (self.uses.len() - 1)]);
        }
    }
}

/// Words that are moved in one turn of a loop.
const AT_ONCE: usize = 4;

/// Fills `words` with as many `pairs`, no fewer and no more.
#[inline]
fn fill(words: &[AtomicU64], pairs: &[[u32; 2]]) {
    let (many_words, words) = words.as_chunks::<AT_ONCE>();
    let (many_pairs, pairs) = pairs.as_chunks::<AT_ONCE>();
    for (words, pairs) in many_words.iter().zip(many_pairs) {
        for (word, [low, high]) in words.iter().zip(pairs) {
            word.store(join(*low, *high), Ordering::Relaxed);
        }
    }
    for (word, [low, high]) in words.iter().zip(pairs) {
        word.store(join(*low, *high), Ordering::Relaxed);
    }
}

/// Reads `words` into as many `pairs`, no fewer and no more.
#[inline]
fn copy(words: &[AtomicU64], pairs: &mut [[u32; 2]]) {
    let (many_words, words) = words.as_chunks::<AT_ONCE>();
    let (many_pairs, pairs) = pairs.as_chunks_mut::<AT_ONCE>();
    for (words, pairs) in many_words.iter().zip(many_pairs) {
        for (word, pair) in words.iter().zip(pairs) {
            *pair = halves(word.load(Ordering::Relaxed));
        }
    }
    for (word, pair) in words.iter().zip(pairs) {
        *pair = halves(word.load(Ordering::Relaxed));
    }
}

#[inline]
fn is_odd(position: u32) -> bool {
    position & 1 == 1
}

/// The position `count` ahead, where `count` is no more than a burst.
#[expect(
    clippy::cast_possible_truncation,
    reason = "positions are counted modulo 2^32"
)]
#[inline]
pub(crate) fn ahead(position: u32, count: usize) -> u32 {
    position.wrapping_add(count as u32)
}

#[inline]
fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
#[inline]
fn low_half(word: u64) -> u32 {
    word as u32
}

#[inline]
fn high_half(word: u64) -> u32 {
    low_half(word >> 32)
}

#[inline]
fn halves(word: u64) -> [u32; 2] {
    [low_half(word), high_half(word)]
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn words(size: usize) -> Vec<AtomicU64> {
        (0..size / 2).map(|_| AtomicU64::new(0)).collect()
    }

    fn slots(words: &[AtomicU64]) -> Slots<'_> {
        let capacity = u32::try_from(words.len() * 2).unwrap();
        Slots::new(words, capacity).expect("a power of two")
    }

    #[test]
    fn every_run_is_read_back_from_every_position() {
        for size in [2_usize, 4, 8, 16] {
            for start in 0..2 * u32::try_from(size).unwrap() {
                for position in [start, 0_u32.wrapping_sub(start)] {
                    for count in 0..=size {
                        let memory = words(size);
                        let items: Vec<u32> = (1..).take(count).collect();
                        slots(&memory).write(position, &items);
                        let mut out = vec![0; count];
                        slots(&memory).read(position, &mut out);
                        assert_eq!(out, items, "size {size} position {position}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_run_leaves_all_other_slots_as_they_were() {
        for position in 0..16_u32 {
            for count in 0..8_u32 {
                let memory = words(8);
                let all = slots(&memory);
                all.write(0, &[100; 8]);
                all.write(position, &vec![7; count as usize]);
                for other in count..8 {
                    assert_eq!(all.at(position + other), 100, "{position} {count} {other}");
                }
            }
        }
    }

    #[test]
    fn words_that_are_no_power_of_two_are_refused() {
        for count in [0, 3, 5, 6, 7, 9] {
            assert!(Slots::new(&words(count * 2), 1).is_none(), "{count} words");
        }
        assert!(Slots::new(&words(2), 2).is_some());
        assert!(Slots::new(&words(2), 1).is_some());
        assert!(Slots::new(&words(2), 3).is_none());
    }
}
