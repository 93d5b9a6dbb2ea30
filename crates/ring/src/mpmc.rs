//! Many producers, many consumers: one array of slots that all of them use.
//!
//! ```text
//! bits   63      42 41     34 33    32 31           0
//!       |    lap   |  owner  |  state |    item      |      one word a slot: all that is true is said here
//!
//! position p lies in slot p mod C, in lap p div C
//!
//!                  enqueue                 claim                    close
//! EMPTY, lap L  ------------>  FULL, L  ---------->  CLAIMED, L  ---------->  EMPTY, lap L+1
//!                                 |                     |  pass over            ^
//!                                 |                     v                       |
//!                                 |                  CLAIMED, L+1  -------------+  (EMPTY, lap L+2)
//!                                 +---------------------------------------------+
//!                                             take: a number, which nobody tags
//! ```
//!
//! Elements go one by one, each with one compare-and-swap of its slot. `tail` and `head` only hint where to look:
//!
//! - every position before `tail` was filled or passed over, every one before `head` was taken or passed over;
//! - each end keeps a position of its own of which the same holds, from what it did and saw itself, at most [`LAG_MAX`] ahead
//!   of the hint that it last read; it moves the hint when it is that far ahead, not for each element.
//!
//! So a hint may lag, and whoever comes walks over what is filled or taken already; it never leads. A position is filled
//! only after those before it: no gap arises. Laps are compared as signed numbers of 22 bits, which is sound since the
//! position stands at most [`LAG_MAX`] ahead of a hint that was looked at before *and after* the slot (the second look).
//!
//! A consumer that died or stopped between claim and close costs its slot, not the ring: a producer that meets the claim one lap later
//! passes over it. A claim names its owner, so that the sweep can close it.
//!
//! **Sizes.** The array has a power of two of slots, at least two for each slot of the process table, since each may hold a
//! claim. A ring for fewer items than that looks one slot more: position p may be filled once p − N is taken.
//!
//! | word       | written by                                                     |
//! |------------|----------------------------------------------------------------|
//! | slots      | all ends, by compare-and-swap from the very word that was read |
//! | tail, head | all ends of one side, by compare-and-swap                      |
//!
//! **If a process dies:** before its compare-and-swap nothing happened, after it all has. The hints lag, and others help
//! themselves. A claim it held stays: its item is listed there until the sweep has taken it over.

use crate::sync::{AtomicU64, Ordering, acquire, both, release};
use eal::counters::Counter;
use eal::sync::mutated;
use eal::{SLOTS_MAX, SlotId};

/// How far an end may be ahead of the hint before it moves it: a burst.
const LAG_MAX: u64 = 32;

/// The least slots of an array. The crash model wants small ones, and has few who claim.
pub(crate) const ARRAY_MIN: u32 = if cfg!(any(forebay_model, loom)) {
    2
} else {
    128
};

const _: () = assert!(cfg!(any(forebay_model, loom)) || ARRAY_MIN as usize == 2 * SLOTS_MAX);

/// Pauses before a busy end says that there is no room, or no item. The other end is at work on that very cache line then, and
/// who looks all the time takes it away from it for each item.
const PAUSES: u32 = if cfg!(any(forebay_model, loom)) { 0 } else { 8 };

/// Steps that one element may take. Each but the last is over an element that somebody else moved meanwhile, or over a claim, so
/// this many are never seen: something scribbles.
const STEPS_MAX: u32 = if cfg!(forebay_model) { 64 } else { 1 << 16 };

const STATE: u64 = 3 << 32;
const EMPTY: u64 = 0;
const FULL: u64 = 1 << 32;
const CLAIMED: u64 = 2 << 32;

const OWNER_SHIFT: u32 = 34;
const OWNER: u64 = 0xff << OWNER_SHIFT;

/// Bits of a lap: the highest ones, so that it wraps by itself. In the crash model laps come round while it looks.
const LAP_BITS: u32 = if cfg!(forebay_model) { 3 } else { 22 };
/// One lap on.
const LAP_SHIFT: u32 = 64 - LAP_BITS;
const LAP: u64 = 1 << LAP_SHIFT;

/// What all ends share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Array<'r> {
    /// Hint: the next position to empty.
    pub(crate) head: &'r AtomicU64,
    /// Hint: the next position to fill.
    pub(crate) tail: &'r AtomicU64,
    slots: &'r [AtomicU64],
    /// Items that the ring holds: no more than there are slots.
    capacity: u64,
    lag: u64,
    /// Laps are `position >> lap_shift`.
    lap_shift: u32,
}

/// How a slot stands to a position, at a moment when the position was at the hint or shortly ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Its turn to be filled.
    Empty,
    /// Filled for this position, and not taken.
    Full,
    /// Taken at this position, passed over, or a lap ahead.
    Taken,
    /// Filled a lap ago, and not taken since.
    Behind,
    /// Claimed a lap ago, and not closed since.
    BehindClaimed,
    /// Nothing that the ends leave there: somebody scribbles.
    Impossible,
}

/// Moves a word on, if it is still what was read.
#[inline]
fn swap(slot: &AtomicU64, from: u64, to: u64) -> bool {
    // Release: who sees this word sees what was written before: the item's contents before it was filled in, its tag before its
    // claim was closed. Acquire: the reverse. Pairs with itself, and with the Acquire in `look`.
    slot.compare_exchange(from, to, both("slot"), Ordering::Relaxed)
        .is_ok()
}

/// Reads a word to judge by it. What is read after it is at least as new.
#[inline]
fn look(slot: &AtomicU64) -> u64 {
    // Acquire: pairs with the Release in `swap`.
    slot.load(acquire("slot"))
}

/// Reads a hint.
#[inline]
fn hint(word: &AtomicU64) -> u64 {
    // Acquire: the positions before it are seen as filled, or taken. Pairs with the Release in `advance`.
    word.load(acquire("hint"))
}

/// Moves a hint, if nobody else has.
#[inline]
fn advance(word: &AtomicU64, from: u64, to: u64) {
    // Release: pairs with the Acquire in `hint`. It may fail: whoever moved it has seen the same.
    let _ = word.compare_exchange(from, to, release("hint"), Ordering::Relaxed);
}

/// Waits a little for the other end.
fn hesitate() {
    for _ in 0..PAUSES {
        std::hint::spin_loop();
    }
}

/// Which of two positions is further on.
#[inline]
fn later(ours: u64, hint: u64, lag: u64) -> u64 {
    if ours.wrapping_sub(hint) <= lag {
        ours
    } else {
        hint
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is the item")]
fn item_in(word: u64) -> u32 {
    word as u32
}

/// Who holds the claim of a word.
fn claimer(word: u64) -> Option<SlotId> {
    let number = (word & OWNER) >> OWNER_SHIFT;
    (word & STATE == CLAIMED).then_some(())?;
    SlotId::new(u8::try_from(number.checked_sub(1)?).ok()?)
}

/// A word whose claim is closed: the next lap may fill it.
fn closed(word: u64) -> u64 {
    (word & !(LAP - 1)).wrapping_add(LAP) | EMPTY
}

impl<'r> Array<'r> {
    /// An array for `capacity` items; `None` unless its slots are a power of two and enough for that.
    pub(crate) fn new(
        head: &'r AtomicU64,
        tail: &'r AtomicU64,
        slots: &'r [AtomicU64],
        capacity: u32,
    ) -> Option<Self> {
        let fits = slots.len().is_power_of_two() && capacity as usize <= slots.len();
        (fits && capacity > 0).then(|| Self {
            head,
            tail,
            slots,
            capacity: capacity.into(),
            lag: (u64::from(capacity) / 2).clamp(1, LAG_MAX),
            lap_shift: slots.len().trailing_zeros(),
        })
    }

    #[inline]
    fn slot(&self, position: u64) -> &'r AtomicU64 {
        // `new` saw a power of two, so the place is in range.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low bits are the place"
        )]
        let place = position as usize & (self.slots.len() - 1);
        &self.slots[place]
    }

    /// The lap of a position, in its place in a word.
    #[inline]
    fn lap(&self, position: u64) -> u64 {
        (position >> self.lap_shift) << LAP_SHIFT
    }

    /// How a word stands to its position.
    fn stand(&self, word: u64, position: u64) -> Stand {
        let ahead = (word & !(LAP - 1))
            .wrapping_sub(self.lap(position))
            .cast_signed()
            >> LAP_SHIFT;
        match (ahead, word & STATE) {
            (0, EMPTY) => Stand::Empty,
            (0, FULL) => Stand::Full,
            (0, CLAIMED) => Stand::Taken,
            (1.., EMPTY | FULL | CLAIMED) => Stand::Taken,
            (-1, FULL) => Stand::Behind,
            (-1, CLAIMED) => Stand::BehindClaimed,
            _ => Stand::Impossible,
        }
    }

    /// How many items wait, counted in the slots.
    pub(crate) fn len(&self) -> u32 {
        let full = self
            .slots
            .iter()
            .filter(|slot| slot.load(Ordering::Relaxed) & STATE == FULL);
        u32::try_from(full.count()).unwrap_or(u32::MAX)
    }

    /// Shows every item that waits or is claimed, while the ends may move.
    ///
    /// What was taken before the look and is not among them, its taker has written to already (tags, above all).
    pub(crate) fn walk(&self, mut item: impl FnMut(u32)) {
        for slot in self.slots {
            let word = look(slot);
            let is_listed = word & STATE == FULL
                || word & STATE == CLAIMED && !mutated("claims are not listed");
            if is_listed {
                item(item_in(word));
            }
        }
    }

    /// Whether slots and hints are what the ends leave behind, as far as a look at moving ends can tell.
    pub(crate) fn check(&self) -> Result<(), Odd> {
        let (head, tail) = (hint(self.head), hint(self.tail));
        let filled = tail.wrapping_sub(head).cast_signed();
        let (slots, lag) = (self.slots.len() as u64, self.lag.cast_signed());
        if filled < -lag || filled > slots.cast_signed() + lag {
            return Err(Odd::Hints { head, tail });
        }
        for (number, slot) in (0..).zip(self.slots) {
            let word = look(slot);
            let sound = match word & STATE {
                EMPTY => word & OWNER == 0 && item_in(word) == 0,
                FULL => word & OWNER == 0,
                CLAIMED => claimer(word).is_some(),
                _ => false,
            };
            // Of the lap around the tail, or just filled again, or left behind by it.
            let position = tail & !(slots - 1) | number;
            let ahead = (word & !(LAP - 1))
                .wrapping_sub(self.lap(position))
                .cast_signed()
                >> LAP_SHIFT;
            if !sound || !(-2..=2).contains(&ahead) {
                return Err(Odd::Slot { number, word });
            }
        }
        Ok(())
    }

    /// Claims of those who will never close them. `is_gone` is asked of each claimer before the claim is looked at again and after:
    /// a newcomer in the same slot of the process table, who claimed the same item at the same place meanwhile, is there then.
    pub(crate) fn left_claims(
        &self,
        is_gone: impl Fn(SlotId) -> bool,
    ) -> impl Iterator<Item = LeftClaim<'r>> {
        self.slots.iter().filter_map(move |slot| {
            let word = look(slot);
            let claimer = claimer(word).filter(|claimer| is_gone(*claimer))?;
            let again = look(slot);
            let is_same = again & (LAP - 1) == word & (LAP - 1);
            (is_same && is_gone(claimer)).then_some(LeftClaim { slot, word: again })
        })
    }
}

/// What cannot be in a ring of many to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    /// The hints are too far apart.
    Hints { head: u64, tail: u64 },
    /// A slot says what no end leaves there.
    Slot { number: u64, word: u64 },
}

/// The claim of one who is gone.
#[derive(Debug)]
pub struct LeftClaim<'r> {
    slot: &'r AtomicU64,
    word: u64,
}

impl LeftClaim<'_> {
    /// What was claimed.
    pub fn item(&self) -> u32 {
        item_in(self.word)
    }

    /// Closes it: the slot may be filled again. Only when the item has a new owner.
    pub fn close(self) {
        close(self.slot, self.word);
    }
}

/// Closes a claim, whatever passed over it meanwhile. `false` if it is not there: somebody scribbles.
fn close(slot: &AtomicU64, mut word: u64) -> bool {
    for _ in 0..STEPS_MAX {
        if swap(slot, word, closed(word)) {
            return true;
        }
        let now = look(slot);
        if now & (LAP - 1) != word & (LAP - 1) {
            break;
        }
        word = now;
    }
    false
}

/// An end that fills.
#[derive(Debug)]
pub(crate) struct Producer<'r> {
    array: Array<'r>,
    /// All before it are filled or passed over.
    position: u64,
    /// What `head` held when we last looked. It may only have grown since.
    head_seen: u64,
    /// Whether the last attempt was in vain: then it is looked before it is swapped, and not waited.
    is_wary: bool,
    faults: &'r Counter,
}

impl<'r> Producer<'r> {
    pub(crate) fn attach(array: Array<'r>, faults: &'r Counter) -> Self {
        Self {
            array,
            position: hint(array.tail),
            head_seen: hint(array.head),
            is_wary: true,
            faults,
        }
    }

    /// Adds one item; `false` if there is no room.
    #[inline]
    pub(crate) fn enqueue(&mut self, item: u32) -> bool {
        let array = self.array;
        if !self.is_wary && array.capacity == array.slots.len() as u64 {
            let tail = hint(array.tail);
            let position = later(self.position, tail, array.lag);
            let empty = array.lap(position) | EMPTY;
            // No look is judged by, so there is no second: the swap itself is from the one word that may be filled.
            if swap(array.slot(position), empty, empty | FULL | u64::from(item)) {
                self.gone_to(position.wrapping_add(1), tail);
                return true;
            }
        }
        self.enqueue_slowly(item)
    }

    /// Adds what fits of `items`, from the front.
    #[inline]
    pub(crate) fn enqueue_burst(&mut self, items: &[u32]) -> u32 {
        let mut count = 0;
        for item in items {
            if !self.enqueue(*item) {
                break;
            }
            count += 1;
        }
        count
    }

    /// Looks before it swaps, and says why not.
    #[inline(never)]
    fn enqueue_slowly(&mut self, item: u32) -> bool {
        let array = self.array;
        let mut is_busy = !self.is_wary;
        self.is_wary = true;
        for _ in 0..STEPS_MAX {
            // Step 1.
            let tail = hint(array.tail);
            let position = later(self.position, tail, array.lag);
            self.position = position;
            // Step 2.
            let slot = array.slot(position);
            let word = look(slot);
            let before = position.wrapping_sub(array.capacity);
            let is_full = array.capacity < array.slots.len() as u64
                && array.stand(look(array.slot(before)), before) == Stand::Full;
            // Step 3: the second look.
            if hint(array.tail) != tail && !mutated("no second look") {
                continue;
            }
            match array.stand(word, position) {
                Stand::Empty if !is_full => {
                    if swap(slot, word, array.lap(position) | FULL | u64::from(item)) {
                        self.gone_to(position.wrapping_add(1), tail);
                        self.is_wary = false;
                        return true;
                    }
                }
                Stand::Full | Stand::Taken if !mutated("nobody helps") => {
                    self.gone_to(position.wrapping_add(1), tail);
                }
                Stand::BehindClaimed if !mutated("claims are not passed over") => {
                    let passed = swap(slot, word, word.wrapping_add(LAP));
                    if passed || mutated("passing over in vain counts") {
                        self.gone_to(position.wrapping_add(1), tail);
                    }
                }
                Stand::Empty | Stand::Behind => {
                    if !std::mem::take(&mut is_busy) {
                        self.settle();
                        return false;
                    }
                    hesitate();
                }
                _ => break,
            }
        }
        self.faults.add(1);
        false
    }

    /// All before `position` are filled now, as we did or saw.
    #[inline]
    fn gone_to(&mut self, position: u64, tail: u64) {
        self.position = position;
        if position.wrapping_sub(tail) >= self.array.lag {
            advance(self.array.tail, tail, position);
        }
    }

    /// Moves the hint to where we are.
    fn settle(&mut self) {
        let tail = hint(self.array.tail);
        let ahead = self.position.wrapping_sub(tail);
        if ahead > 0 && ahead <= self.array.lag {
            advance(self.array.tail, tail, self.position);
        }
    }

    /// Room as far as known.
    #[inline]
    pub(crate) fn known_free(&mut self) -> u32 {
        let capacity = self.array.capacity;
        if self.position.wrapping_sub(self.head_seen) >= capacity {
            self.head_seen = hint(self.array.head);
        }
        // Hints lag: that of the producers may stand before what consumers have taken, and then nothing is filled. And not more
        // than fits.
        let filled = self.position.wrapping_sub(self.head_seen).cast_signed();
        let filled = filled.max(0).cast_unsigned().min(capacity);
        u32::try_from(capacity - filled).unwrap_or(0)
    }

    /// Room after a fresh look.
    pub(crate) fn look(&mut self) -> u32 {
        self.head_seen = hint(self.array.head);
        self.position = later(self.position, hint(self.array.tail), self.array.lag);
        self.known_free()
    }
}

impl Drop for Producer<'_> {
    fn drop(&mut self) {
        self.settle();
    }
}

/// An end that empties.
#[derive(Debug)]
pub(crate) struct Consumer<'r> {
    array: Array<'r>,
    /// Who claims, in its place in a word.
    me: u64,
    /// All before it are taken or passed over.
    position: u64,
    /// What `tail` held when we last looked.
    tail_seen: u64,
    /// Whether the last attempt brought something: then one in vain waits a little.
    is_busy: bool,
    /// What we have claimed and not closed: its position and word.
    claimed: Option<(u64, u64)>,
    faults: &'r Counter,
}

impl<'r> Consumer<'r> {
    pub(crate) fn attach(array: Array<'r>, me: SlotId, faults: &'r Counter) -> Self {
        Self {
            array,
            me: (me.index() as u64 + 1) << OWNER_SHIFT,
            position: hint(array.head),
            tail_seen: hint(array.tail),
            is_busy: false,
            claimed: None,
            faults,
        }
    }

    /// Takes one item: out of the ring at once, so only what needs no tag.
    #[inline]
    pub(crate) fn dequeue(&mut self) -> Option<u32> {
        if self.claimed.is_some() {
            let item = self.claim();
            self.close();
            return item;
        }
        Some(item_in(self.seize(closed)?))
    }

    /// Takes as many items as there are and `out` has room for.
    #[inline]
    pub(crate) fn dequeue_burst(&mut self, out: &mut [u32]) -> u32 {
        let mut count = 0;
        for place in out {
            let Some(item) = self.dequeue() else { break };
            *place = item;
            count += 1;
        }
        count
    }

    /// Keeps the next item from all other consumers and shows it; the same again until it is closed.
    pub(crate) fn claim(&mut self) -> Option<u32> {
        if let Some((_, word)) = self.claimed {
            return Some(item_in(word));
        }
        let me = self.me;
        let to = |full: u64| {
            if mutated("an item is taken without a claim") {
                return closed(full);
            }
            full & !(STATE | OWNER) | CLAIMED | me
        };
        let word = self.seize(to)?;
        // `seize` has gone one beyond it.
        let claimed = to(word);
        self.claimed = Some((self.position.wrapping_sub(1), claimed));
        Some(item_in(word))
    }

    /// Takes what is claimed out of the ring: it has a new owner.
    pub(crate) fn close(&mut self) -> bool {
        let Some((position, word)) = self.claimed.take() else {
            return false;
        };
        if word & STATE == CLAIMED && !close(self.array.slot(position), word) {
            self.faults.add(1);
        }
        true
    }

    /// Moves the next full slot to what `to` makes of it, and gives what was there.
    #[inline]
    fn seize(&mut self, to: impl Fn(u64) -> u64) -> Option<u64> {
        let array = self.array;
        for _ in 0..STEPS_MAX {
            // Step 1.
            let head = hint(array.head);
            let position = later(self.position, head, array.lag);
            self.position = position;
            // Step 2.
            let slot = array.slot(position);
            let word = look(slot);
            // Step 3: the second look.
            if hint(array.head) != head && !mutated("no second look") {
                continue;
            }
            // Its lap, state and owner in one comparison.
            if word & !u64::from(u32::MAX) == array.lap(position) | FULL {
                if swap(slot, word, to(word)) {
                    self.gone_to(position.wrapping_add(1), head);
                    self.is_busy = true;
                    return Some(word);
                }
                continue;
            }
            match array.stand(word, position) {
                Stand::Taken if !mutated("nobody helps") => {
                    self.gone_to(position.wrapping_add(1), head)
                }
                Stand::Empty | Stand::Behind | Stand::BehindClaimed => {
                    if !std::mem::take(&mut self.is_busy) {
                        self.settle();
                        return None;
                    }
                    hesitate();
                }
                _ => break,
            }
        }
        self.faults.add(1);
        None
    }

    /// All before `position` are taken now, as we did or saw.
    #[inline]
    fn gone_to(&mut self, position: u64, head: u64) {
        self.position = position;
        if position.wrapping_sub(head) >= self.array.lag {
            advance(self.array.head, head, position);
        }
    }

    /// Moves the hint to where we are.
    #[inline]
    fn settle(&mut self) {
        let head = hint(self.array.head);
        let ahead = self.position.wrapping_sub(head);
        if ahead > 0 && ahead <= self.array.lag {
            advance(self.array.head, head, self.position);
        }
    }

    /// How many items wait as far as known.
    #[inline]
    pub(crate) fn known(&mut self) -> u32 {
        if self.waiting() == 0 {
            self.look();
        }
        self.waiting()
    }

    /// How many items wait, counted in the slots.
    pub(crate) fn len(&self) -> usize {
        self.array.len() as usize
    }

    /// The same as [`known`](Self::known) without a look.
    #[inline]
    pub(crate) fn waiting(&self) -> u32 {
        let filled = self.tail_seen.wrapping_sub(self.position);
        // The hint of the producers lags, also behind what we took: that is a distance below zero.
        if filled > self.array.capacity {
            return 0;
        }
        u32::try_from(filled).unwrap_or(0)
    }

    /// Looks how far the producers are: by their hint, and by the next slot where that is behind.
    #[inline]
    pub(crate) fn look(&mut self) {
        self.position = later(self.position, hint(self.array.head), self.array.lag);
        self.tail_seen = hint(self.array.tail);
        if self.waiting() == 0 {
            let word = look(self.array.slot(self.position));
            let is_full = self.array.stand(word, self.position) == Stand::Full;
            self.tail_seen = self.position.wrapping_add(u64::from(is_full));
        }
    }
}

impl Drop for Consumer<'_> {
    fn drop(&mut self) {
        self.close();
        self.settle();
    }
}
