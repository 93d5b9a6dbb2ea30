//! Many producers, one consumer: a lane for each producer.
//!
//! ```text
//! tails    | t0 t1 t2 ... t15 | t16 ...             packed: the consumer reads all of them
//! heads    | h0 | | h1 | | h2 | ...                 a cache line each
//! slots    | lane 0 ... | lane 1 ... | lane 2 ...
//! ```
//!
//! The consumer compares the tails with its own copies, so an idle lane costs one load in a
//! line that nobody writes, and there is no read-modify-write anywhere. It serves in rounds: each lane
//! that had something when it last looked is served one burst a round, and it looks at all
//! tails at least every [`ROUNDS_A_LOOK`] rounds. So a lane waits for at most that many
//! bursts of each other lane.
//!
//! **The limit** beside each lane's size is soft. A producer looks at tails and heads of all lanes when its credit is used
//! up, and takes a new credit of at most `C = max(`[`CREDIT_MIN`]`, limit / lanes, its burst)`,
//! and never more than was free. What others do on the credit they still have, it cannot see. So
//! with `P` producers at work no more than `limit + (P - 1) * C` items wait at any time, as
//! far as their looks are current (a store under way to memory counts as credit still
//! held); and each lane never holds more than its size, limit or not.
//!
//! | word        | written by          | read by                       |
//! |-------------|---------------------|-------------------------------|
//! | tail of i   | the producer of i   | the consumer; all producers   |
//! | head of i   | the consumer        | all producers                 |
//! | slots of i  | the producer of i   | the consumer                  |
//!
//! **If a process dies:** as in a single lane; a dead producer can leave only its own lane,
//! and a lane is always consistent. Credit is private and dies with its holder.

use crate::spsc::{self, Lane, Shown, distance, saturated};
use crate::sync::{AtomicU32, CacheLine, Ordering};
use eal::counters::Counter;

/// Rounds on what is known before the consumer looks at all tails again.
pub(crate) const ROUNDS_A_LOOK: u32 = 4;

/// The least credit that a producer takes when the limit has room for it: a burst.
pub(crate) const CREDIT_MIN: u32 = 32;

/// Lanes a ring can have: the bits of the consumer's map, and the slots of a group.
pub(crate) const LANES_MAX: usize = 64;

/// The total that all lanes together shall hold.
#[derive(Debug)]
pub(crate) struct Limit<'r> {
    tails: &'r [AtomicU32],
    heads: &'r [CacheLine<AtomicU32>],
    /// The least credit that is taken where the limit has room for it.
    credit: u32,
    /// What each head held when we last looked. A lane whose tail is there is empty.
    heads_seen: [u32; LANES_MAX],
    lane_size: u32,
    limit: u32,
}

impl<'r> Limit<'r> {
    /// A limit over the lanes of these tails and heads; `None` if their sizes are limit enough.
    pub(crate) fn new(
        tails: &'r [AtomicU32],
        heads: &'r [CacheLine<AtomicU32>],
        lane_size: u32,
        limit: u32,
    ) -> Option<Self> {
        let room = u64::from(lane_size).saturating_mul(tails.len() as u64);
        (u64::from(limit) < room).then(|| {
            let mut heads_seen = [0; LANES_MAX];
            for (seen, head) in heads_seen.iter_mut().zip(heads) {
                *seen = head.0.load(Ordering::Relaxed);
            }
            let share = limit / saturated(tails.len()).max(1);
            Self {
                tails,
                heads,
                credit: share.max(CREDIT_MIN),
                heads_seen,
                lane_size,
                limit,
            }
        })
    }

    /// How many items may be added before the next look.
    fn grant(&mut self, wanted: u32) -> u32 {
        let credit = self.credit.max(wanted);
        // What was seen of the heads may do: they have only grown since, and each is a line
        // of its own to fetch.
        let mut free = self.free();
        if free < credit {
            free = self.look();
        }
        free.min(credit)
    }

    /// What is missing to the limit, with the heads as last seen: no more than there is.
    fn free(&self) -> u32 {
        let lanes = self.tails.iter().zip(&self.heads_seen);
        let filled = lanes.map(|(tail, head_seen)| {
            // Relaxed: the sum is soft anyhow, and no item is read on its word.
            let filled = distance(*head_seen, tail.load(Ordering::Relaxed));
            // More than fits: the consumer has gone on since.
            u64::from(filled.min(self.lane_size))
        });
        self.left(filled.sum())
    }

    /// What is missing to the limit when so many wait.
    fn left(&self, filled: u64) -> u32 {
        let left = u64::from(self.limit).saturating_sub(filled);
        u32::try_from(left).unwrap_or(self.limit)
    }

    /// Looks how far the consumer is in the lanes that are not known to be empty; what is missing to the limit then.
    fn look(&mut self) -> u32 {
        let mut total = 0;
        let lanes = self.tails.iter().zip(self.heads).zip(&mut self.heads_seen);
        for ((tail, head), head_seen) in lanes {
            // Relaxed: as in `free`.
            if tail.load(Ordering::Relaxed) == *head_seen {
                continue;
            }
            *head_seen = head.0.load(Ordering::Relaxed);
            // A lane whose ends are too far apart is damaged and gives nothing: it shall not
            // count against the others.
            let tail = tail.load(Ordering::Relaxed);
            let filled = distance(*head_seen, tail);
            if filled > self.lane_size {
                *head_seen = tail;
            } else {
                total += u64::from(filled);
            }
        }
        self.left(total)
    }
}

/// The filling end of one lane.
#[derive(Debug)]
pub(crate) struct Producer<'r> {
    lane: spsc::Producer<'r>,
    /// How far may be filled without a look: as far as the lane is known to be free, and the credit reaches.
    until: u32,
    /// How far the credit reaches: how many items may be added before the limit is looked at.
    credit_until: u32,
    /// The total to keep to; `None` for a ring of one lane.
    limit: Option<Limit<'r>>,
}

impl<'r> Producer<'r> {
    /// Goes on where the lane's last producer stopped. The caller has claimed the lane.
    pub(crate) fn attach(lane: Lane<'r>, limit: Option<Limit<'r>>, faults: &'r Counter) -> Self {
        let lane = spsc::Producer::attach(lane, faults);
        Self {
            until: lane.position(),
            credit_until: lane.position(),
            lane,
            limit,
        }
    }

    /// Adds one item; `false` if there is no room.
    #[inline]
    pub(crate) fn enqueue(&mut self, item: u32) -> bool {
        if self.known_free() == 0 && self.free_for(1) == 0 {
            return false;
        }
        self.lane.fill_one(item);
        true
    }

    /// Adds what fits of `items` and returns how many that was.
    #[inline]
    pub(crate) fn enqueue_burst(&mut self, items: &[u32]) -> u32 {
        let wanted = items.len();
        // No look is due where they fit, and are not none.
        if wanted.wrapping_sub(1) >= self.known_free() as usize
            && (wanted == 0 || (self.free_for(saturated(wanted)) as usize) < wanted)
        {
            return self.enqueue_some(items);
        }
        self.lane.fill(items);
        saturated(wanted)
    }

    /// Adds as many as are known to fit.
    #[inline(never)]
    fn enqueue_some(&mut self, items: &[u32]) -> u32 {
        let fitting = items.len().min(self.known_free() as usize);
        let (fitting, _) = items.split_at(fitting);
        if !fitting.is_empty() {
            self.lane.fill(fitting);
        }
        saturated(fitting.len())
    }

    /// Adds all of `items`, or none.
    #[inline]
    pub(crate) fn enqueue_bulk(&mut self, items: &[u32]) -> u32 {
        let wanted = saturated(items.len());
        if self.known_free() < wanted && self.free_for(wanted) < wanted {
            return 0;
        }
        self.enqueue_burst(items)
    }

    /// Room as far as known: never more than there is.
    #[inline]
    pub(crate) fn known_free(&self) -> u32 {
        distance(self.lane.position(), self.until)
    }

    /// Room after a fresh look.
    pub(crate) fn look(&mut self) -> u32 {
        self.lane.look();
        let free = self.lane.known_free();
        let credit = self.renewed(free);
        self.keep_to(credit, free)
    }

    /// Room; looks at the shared head, and at the other lanes, only if what is known of it, or of the credit, does not cover
    /// `wanted`.
    #[inline(never)]
    fn free_for(&mut self, wanted: u32) -> u32 {
        let mut credit = distance(self.lane.position(), self.credit_until);
        if credit < wanted {
            credit = self.renewed(wanted);
        }
        let free = self.lane.free_for(wanted.min(credit));
        self.keep_to(credit, free)
    }

    /// Takes note of a credit, and of the room in the lane.
    fn keep_to(&mut self, credit: u32, free: u32) -> u32 {
        let position = self.lane.position();
        self.credit_until = position.wrapping_add(credit);
        self.until = position.wrapping_add(credit.min(free));
        credit.min(free)
    }

    fn renewed(&mut self, wanted: u32) -> u32 {
        self.limit
            .as_mut()
            .map_or(u32::MAX, |limit| limit.grant(wanted))
    }
}

/// The emptying end of all lanes.
#[derive(Debug)]
pub(crate) struct Consumer<'r> {
    lanes: Box<[spsc::Consumer<'r>]>,
    /// Lanes known to hold something, a bit each.
    stocked: u64,
    /// Those of them that have not been served in this round.
    round: u64,
    /// Rounds since all tails were looked at.
    rounds: u32,
    /// The lane last peeked.
    lane: usize,
    /// Whether something that was peeked in it is not released yet: then it is peeked again.
    is_peeking: bool,
    /// How many items are known to wait, in all lanes.
    known: u64,
}

impl<'r> Consumer<'r> {
    /// Goes on where the last consumer stopped. The caller has claimed the end.
    pub(crate) fn attach(lanes: impl Iterator<Item = Lane<'r>>, faults: &'r Counter) -> Self {
        let lanes = lanes
            .take(LANES_MAX)
            .map(|lane| spsc::Consumer::attach(lane, faults));
        Self {
            lanes: lanes.collect(),
            stocked: 0,
            round: 0,
            rounds: 0,
            lane: 0,
            is_peeking: false,
            known: 0,
        }
    }

    /// Copies the next items of one lane into `out` and leaves them there.
    #[inline]
    pub(crate) fn peek(&mut self, out: &mut [u32]) -> u32 {
        if !self.is_peeking && !self.choose() {
            return 0;
        }
        let Some(lane) = self.lanes.get_mut(self.lane) else {
            return 0;
        };
        let before = lane.known();
        let count = lane.peek(out);
        self.known += u64::from(lane.known() - before);
        self.is_peeking = count > 0;
        count
    }

    /// Takes the next items of one lane, as many as there are and `out` has room for. Then it is the next lane's turn.
    #[inline(always)]
    pub(crate) fn dequeue_burst(&mut self, out: &mut [u32]) -> Taken {
        let none = |waiting| Taken {
            count: 0,
            waiting,
            left: waiting,
        };
        if self.is_peeking {
            self.is_peeking = false;
        } else if !self.choose() {
            return none(self.known);
        }
        let (number, known) = (self.lane, self.known);
        let Some(lane) = self.lanes.get_mut(number) else {
            return none(known);
        };
        let before = lane.known();
        let Shown { count, waiting } = lane.dequeue_burst(out);
        // No less than the lane has, and that no less than what is taken.
        let all = known.wrapping_add(waiting.wrapping_sub(before).into());
        let left = all.wrapping_sub(count.into());
        self.known = left;
        let others = !(1 << number);
        if waiting == count {
            self.stocked &= others;
        }
        self.round &= others;
        Taken {
            count,
            waiting: all,
            left,
        }
    }

    /// Gives the first `count` slots of the last peek back, no more than it showed.
    /// Once all are back, or some and no more are wanted, it is the next lane's turn.
    #[inline]
    pub(crate) fn release(&mut self, count: u32) {
        let Some(lane) = self.lanes.get_mut(self.lane) else {
            return;
        };
        let released = lane.release(count);
        self.known = self.known.saturating_sub(u64::from(released));
        if lane.known() == 0 {
            self.stocked &= !(1 << self.lane);
        }
        self.is_peeking = lane.peeked() > 0;
        if !self.is_peeking {
            self.round &= !(1 << self.lane);
        }
    }

    /// The lane last peeked.
    pub(crate) fn lane(&self) -> usize {
        self.lane
    }

    /// How many items wait as far as known: never more than there are.
    #[inline]
    pub(crate) fn known(&self) -> u64 {
        self.known
    }

    /// Looks at all tails.
    #[inline(never)]
    pub(crate) fn look(&mut self) {
        self.rounds = 0;
        let (mut known, mut stocked) = (0, 0);
        for (number, lane) in self.lanes.iter_mut().enumerate() {
            let waiting = lane.look();
            if waiting > 0 {
                known += u64::from(waiting);
                stocked |= 1 << number;
            }
        }
        self.known = known;
        self.stocked = stocked;
    }

    /// Turns to the next lane of the round, or of a new one; `false` if all are empty.
    #[inline]
    fn choose(&mut self) -> bool {
        if self.round == 0 {
            self.rounds += 1;
            if self.stocked == 0 || self.rounds >= ROUNDS_A_LOOK {
                self.look();
            }
            self.round = self.stocked;
        }
        self.lane = self.round.trailing_zeros() as usize;
        self.round != 0
    }
}

/// What a consumer took out of one lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// How many items.
    pub(crate) count: u32,
    /// How many waited in all lanes as far as known, these among them.
    pub(crate) waiting: u64,
    /// How many do still.
    pub(crate) left: u64,
}
