//! The two magazines that a slot has of one pool, and when it exchanges them.
//!
//! Allocations take from the *loaded* one and frees add to it; when that cannot go on, the *spare* one takes its place, and
//! only when neither will do is one exchanged with the pool. With two, a burst to and fro over the edge of a magazine costs
//! no exchange.
//!
//! **If a process dies:** see [`magazine`](crate::magazine); both magazines carry the slot's owner word.

use core::cell::Cell;

use crate::brief::Seen;
use crate::lcore::Lcore;
use crate::magazine::{Held, MAGAZINE_LEN, Need};
use crate::pool::Pool;
use crate::tag;

/// Magazines whose owner words an allocation looks at when no hint leads to a free mbuf.
const LOOKS: usize = 256;

/// Magazines with bad entries that an allocation goes through before it gives up.
const BARREN_MAX: usize = 8;

/// Times that a free looks through all magazines before it keeps the mbufs in hand.
const PASSES: usize = 8;

/// What a slot has of a pool.
#[derive(Debug)]
pub(crate) struct Cache {
    pool: Pool,
    loaded: Cell<Option<Held<'static>>>,
    spare: Cell<Option<Held<'static>>>,
    /// Where the next look at owner words starts.
    cursor: Cell<usize>,
}

impl Cache {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            pool,
            loaded: Cell::new(None),
            spare: Cell::new(None),
            cursor: Cell::new(0),
        }
    }

    #[inline]
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Alloc: fills `out` as far as the pool allows and returns how far. What is taken is fresh.
    #[inline]
    pub(crate) fn take(&self, lcore: &Lcore, len: u16, out: &mut [u32]) -> usize {
        let range = self.pool.range();
        let mark = (lcore.holder(), Seen::fresh(len));
        let (mut taken, mut barren) = (0, 0);
        while taken < out.len() && barren < BARREN_MAX {
            let Some(held) = self.loaded.get().filter(|held| held.count > 0) else {
                if self.restock(lcore) {
                    continue;
                }
                break;
            };
            let done = held
                .magazine
                .take(range, held.count, mark, &mut out[taken..]);
            self.loaded.set(Some(Held {
                count: done.left,
                ..held
            }));
            taken += done.taken;
            if done.bad > 0 {
                // Nobody but a scribbler lists what is not free, and he may go on for ever.
                barren += 1;
                lcore.counters().bad_entry.add(done.bad as u64);
            }
        }
        taken
    }

    /// Free: lists mbufs of this pool that the slot holds, up to the first whose tag does not `suit` or that is none of this pool.
    /// Returns how many.
    #[inline]
    pub(crate) fn give(
        &self,
        lcore: &Lcore,
        indices: &[u32],
        suits: impl Fn(tag::Seen) -> bool,
    ) -> usize {
        let mut given = 0;
        while given < indices.len() {
            let Some(held) = self.loaded.get().filter(|held| held.count < MAGAZINE_LEN) else {
                if self.make_room(lcore) {
                    continue;
                }
                // Not lost: they carry the slot's tag, and the sweep after it will find them.
                lcore.counters().no_room.add((indices.len() - given) as u64);
                return indices.len();
            };
            let range = self.pool.range();
            let more = held
                .magazine
                .give(range, held.count, &indices[given..], &suits);
            self.loaded.set(Some(Held {
                count: held.count + more,
                ..held
            }));
            given += more;
            if more == 0 {
                break;
            }
        }
        given
    }

    /// Finds a magazine with entries, now that the loaded one has none.
    #[cold]
    fn restock(&self, lcore: &Lcore) -> bool {
        if self.spare.get().is_some_and(|spare| spare.count > 0) {
            self.loaded.swap(&self.spare);
            return true;
        }
        self.retire_spare();
        let rack = self.pool.rack();
        let claimed = rack.claim(lcore.owner(), Need::Stock).or_else(|| {
            // The hints know of none. They may be wrong; a few owner words each time tell in the end.
            let start = self.cursor.get();
            self.cursor
                .set((start + LOOKS) % rack.magazines.len().max(1));
            rack.claim_unhinted(lcore.owner(), Need::Stock, start, LOOKS)
        });
        self.load(claimed)
    }

    /// Finds a magazine with room, now that the loaded one has none.
    #[cold]
    fn make_room(&self, lcore: &Lcore) -> bool {
        if self
            .spare
            .get()
            .is_some_and(|spare| spare.count < MAGAZINE_LEN)
        {
            self.loaded.swap(&self.spare);
            return true;
        }
        self.retire_spare();
        let rack = self.pool.rack();
        // There is one (the count of magazines sees to it), but others move while we look; so look again, within bounds.
        let claimed = (0..PASSES).find_map(|_| {
            let all = rack.magazines.len();
            rack.claim(lcore.owner(), Need::Room)
                .or_else(|| rack.claim_unhinted(lcore.owner(), Need::Room, 0, all))
        });
        self.load(claimed)
    }

    /// Exchange, step 2: lets the spare magazine go, and makes the loaded one the spare.
    fn retire_spare(&self) {
        if let Some(spare) = self.spare.take() {
            self.pool.rack().release(spare);
        }
        self.spare.set(self.loaded.take());
    }

    /// Exchange, step 3, is done: loads what was claimed, or else what was loaded before.
    fn load(&self, claimed: Option<Held<'static>>) -> bool {
        self.loaded.set(claimed.or_else(|| self.spare.take()));
        claimed.is_some()
    }

    /// Gives both magazines back, merged with each other and with one that lies there half full, so that exits do not leave
    /// the pool in crumbs.
    pub(crate) fn close(&self, lcore: &Lcore) {
        let rack = self.pool.rack();
        let (mut one, mut two) = (self.loaded.take(), self.spare.take());
        if let (Some(one), Some(two)) = (&mut one, &mut two) {
            self.merge(lcore, one, two);
        }
        for mut held in [one, two].into_iter().flatten() {
            if Need::Partial.met_by(held.count)
                && let Some(mut other) = rack.claim(lcore.owner(), Need::Partial)
            {
                self.merge(lcore, &mut held, &mut other);
                rack.release(other);
            }
            rack.release(held);
        }
    }

    /// Moves entries of one of our magazines to another, until that is full or this one empty: alloc, then free.
    fn merge(&self, lcore: &Lcore, from: &mut Held<'_>, to: &mut Held<'_>) {
        let range = self.pool.range();
        let mut moving = [0; MAGAZINE_LEN];
        let moving = &mut moving[..from.count.min(MAGAZINE_LEN - to.count)];
        let done = from
            .magazine
            .take(range, from.count, (lcore.holder(), Seen::fresh(0)), moving);
        from.count = done.left;
        to.count += to
            .magazine
            .give(range, to.count, &moving[..done.taken], |_| true);
        lcore.counters().bad_entry.add(done.bad as u64);
    }
}
