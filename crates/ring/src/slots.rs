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

use crate::sync::{AtomicU64, Ordering};

/// The slots of one lane. A power of two of them, at least two; of a lane of an exact size some are never in use at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slots<'r> {
    words: &'r [AtomicU64],
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
        (spanned && fits).then_some(Self { words, capacity })
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

    /// Where `position` lies: the word, and whether in its high half.
    fn place(self, position: u32) -> (usize, bool) {
        let word = (position >> 1) as usize & (self.words.len() - 1);
        (word, position & 1 == 1)
    }

    /// Fills the slot at `position`.
    pub(crate) fn put(self, position: u32, item: u32) {
        #[cfg(loom)]
        self.track(position, 1, |slot| slot.with_mut(|_| ()));
        let (word, high) = self.place(position);
        if let Some(word) = self.words.get(word) {
            let old = word.load(Ordering::Relaxed);
            let new = if high {
                join(low_half(old), item)
            } else {
                join(item, high_half(old))
            };
            word.store(new, Ordering::Relaxed);
        }
    }

    /// Reads the slot at `position`.
    pub(crate) fn at(self, position: u32) -> u32 {
        #[cfg(loom)]
        self.track(position, 1, |slot| slot.with(|_| ()));
        let (word, high) = self.place(position);
        let pair = self
            .words
            .get(word)
            .map_or(0, |word| word.load(Ordering::Relaxed));
        if high {
            high_half(pair)
        } else {
            low_half(pair)
        }
    }

    /// Fills the slots from `position` on. At most `capacity` items; more would meet themselves.
    pub(crate) fn write(self, position: u32, items: &[u32]) {
        let (odd_start, items) = items.split_at(items.len().min((position & 1) as usize));
        for first in odd_start {
            self.put(position, *first);
        }
        let position = position.wrapping_add(position & 1);
        let (pairs, odd) = items.as_chunks::<2>();
        let (before, from) = self.split(position);
        let (here, wrapped) = pairs.split_at(pairs.len().min(from.len()));
        #[cfg(loom)]
        self.track(position, pairs.len() * 2, |slot| slot.with_mut(|_| ()));
        for (word, [low, high]) in from.iter().zip(here) {
            word.store(join(*low, *high), Ordering::Relaxed);
        }
        for (word, [low, high]) in before.iter().zip(wrapped) {
            word.store(join(*low, *high), Ordering::Relaxed);
        }
        if let [last] = odd {
            self.put(ahead(position, pairs.len() * 2), *last);
        }
    }

    /// Reads the slots from `position` on into all of `out`. At most `capacity` of them.
    pub(crate) fn read(self, position: u32, out: &mut [u32]) {
        let (odd_start, out) = out.split_at_mut(out.len().min((position & 1) as usize));
        for first in odd_start {
            *first = self.at(position);
        }
        let position = position.wrapping_add(position & 1);
        let (pairs, odd) = out.as_chunks_mut::<2>();
        let count = pairs.len();
        let (before, from) = self.split(position);
        let (here, wrapped) = pairs.split_at_mut(count.min(from.len()));
        #[cfg(loom)]
        self.track(position, count * 2, |slot| slot.with(|_| ()));
        for (word, pair) in from.iter().zip(here) {
            let both = word.load(Ordering::Relaxed);
            *pair = [low_half(both), high_half(both)];
        }
        for (word, pair) in before.iter().zip(wrapped) {
            let both = word.load(Ordering::Relaxed);
            *pair = [low_half(both), high_half(both)];
        }
        if let [last] = odd {
            *last = self.at(ahead(position, count * 2));
        }
    }

    /// The words before the one of `position`, and those from it on.
    fn split(self, position: u32) -> (&'r [AtomicU64], &'r [AtomicU64]) {
        let (word, _) = self.place(position);
        self.words.split_at_checked(word).unwrap_or((&[], &[]))
    }

    /// Tells loom that `count` slots from `position` on are used now.
    #[cfg(loom)]
    fn track(self, position: u32, count: usize, one: impl Fn(&loom::cell::UnsafeCell<()>)) {
        for offset in 0..count {
            one(&self.uses[ahead(position, offset) as usize & (self.uses.len() - 1)]);
        }
    }
}

/// The position `count` ahead, where `count` is no more than a burst.
#[expect(
    clippy::cast_possible_truncation,
    reason = "positions are counted modulo 2^32"
)]
fn ahead(position: u32, count: usize) -> u32 {
    position.wrapping_add(count as u32)
}

fn join(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn low_half(word: u64) -> u32 {
    word as u32
}

fn high_half(word: u64) -> u32 {
    low_half(word >> 32)
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
