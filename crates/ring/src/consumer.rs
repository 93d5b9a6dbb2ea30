//! The consuming end of a ring, whatever its kind.

use crate::claim::{Claim, Sleepers, owner_in};
use crate::error::NoBulk;
use crate::fanin;
use crate::gauge::Gauge;
use crate::mpmc;
use crate::spsc::{self, Shown, saturated};
use crate::sync::{AtomicU64, Ordering};
use eal::Owner;
use eal::sleep::{Found, Source};

/// What a dequeue did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "the items are out of the ring"]
pub struct Dequeued {
    /// How many items were taken: so many of `out` are filled.
    pub count: usize,
    /// How many wait still, as far as known: producers may have added some since.
    pub left: usize,
}

/// One lane, many, or the array of all.
#[derive(Debug)]
pub(crate) enum Lanes<'r> {
    One(spsc::Consumer<'r>),
    Many(fanin::Consumer<'r>),
    Shared(mpmc::Consumer<'r>),
}

/// The consuming end: dropping it closes the ring, unless others consume too.
///
/// Taking is done in two steps, so that a consumer killed in between loses nothing:
/// [`peek_burst`](Self::peek_burst) shows what is next, and [`release`](Self::release) takes
/// it out once it has a new owner. [`dequeue_burst`](Self::dequeue_burst) does both at once.
///
/// In a ring with many consumers a peek *claims* one item, which the others then do not see. A sweep takes over what a dead
/// consumer has claimed; dropping the end takes it out.
#[derive(Debug)]
pub struct Consumer<'r> {
    lanes: Lanes<'r>,
    gauge: Gauge<'r>,
    /// The producers' words, by lane.
    producers: &'r [AtomicU64],
    /// Who of many consumers sleeps.
    sleepers: Sleepers<'r>,
    /// Dropped last, when all that was taken is released.
    claim: Claim<'r>,
}

impl<'r> Consumer<'r> {
    pub(crate) fn new(
        lanes: Lanes<'r>,
        gauge: Gauge<'r>,
        producers: &'r [AtomicU64],
        sleepers: Sleepers<'r>,
        claim: Claim<'r>,
    ) -> Self {
        Self {
            lanes,
            gauge,
            producers,
            sleepers,
            claim,
        }
    }

    /// Whom the end was claimed for.
    #[inline]
    pub fn owner(&self) -> Owner {
        self.claim.owner()
    }

    /// Says that this thread is about to sleep, or is awake: as long as it sleeps, producers ring the doorbell of its slot after
    /// they have published. In the hands of [`eal::sleep::sleep`], which has the barrier and the second look.
    pub(crate) fn set_sleeping(&mut self, sleeps: bool) {
        self.claim.set_sleeping(sleeps);
        if let (Lanes::Shared(_), Some(slot)) = (&self.lanes, self.claim.owner().slot()) {
            self.sleepers.set(slot, sleeps);
        }
    }

    /// Shows the next items, as many as `out` has room for, and leaves them in the ring. They
    /// are of one lane, and come again until they are released.
    #[inline]
    pub fn peek_burst(&mut self, out: &mut [u32]) -> usize {
        let (count, known) = match &mut self.lanes {
            Lanes::One(lane) => (lane.peek(out), u64::from(lane.known())),
            Lanes::Many(lanes) => (lanes.peek(out), lanes.known()),
            Lanes::Shared(array) => (claim(array, out), u64::from(array.waiting())),
        };
        self.gauge.tell(known);
        count as usize
    }

    /// Takes the first `count` items of the last peek out of the ring; no more than it showed.
    #[inline]
    pub fn release(&mut self, count: usize) {
        match &mut self.lanes {
            Lanes::One(lane) => {
                lane.release(saturated(count));
            }
            Lanes::Many(lanes) => lanes.release(saturated(count)),
            Lanes::Shared(array) => {
                if count > 0 {
                    array.close();
                }
            }
        }
    }

    /// Takes as many items as there are and `out` has room for.
    #[inline]
    pub fn dequeue_burst(&mut self, out: &mut [u32]) -> Dequeued {
        let Lanes::One(lane) = &mut self.lanes else {
            return self.dequeue_burst_of_many(out);
        };
        let Shown { count, waiting } = lane.dequeue_burst(out);
        self.gauge.tell(waiting.into());
        Dequeued {
            count: count as usize,
            left: waiting.wrapping_sub(count) as usize,
        }
    }

    /// [`dequeue_burst`](Self::dequeue_burst) of any ring but one to one.
    #[inline(never)]
    fn dequeue_burst_of_many(&mut self, out: &mut [u32]) -> Dequeued {
        let Lanes::Many(lanes) = &mut self.lanes else {
            return self.dequeue_burst_shared(out);
        };
        let taken = lanes.dequeue_burst(out);
        self.gauge.tell(taken.waiting);
        let count = taken.count as usize;
        if count >= out.len() || count == 0 {
            let left = usize::try_from(taken.left).unwrap_or(usize::MAX);
            return Dequeued { count, left };
        }
        self.dequeue_more(out, count)
    }

    /// Goes on with the other lanes where one had less than `out` has room for: `count` are there already.
    #[inline(never)]
    fn dequeue_more(&mut self, out: &mut [u32], mut count: usize) -> Dequeued {
        // Each turn fills a slot of `out` or is the last.
        while let Lanes::Many(lanes) = &mut self.lanes
            && let Some(rest) = out.get_mut(count..).filter(|rest| !rest.is_empty())
        {
            let taken = lanes.dequeue_burst(rest);
            self.gauge.tell(taken.waiting);
            count += taken.count as usize;
            if taken.count == 0 {
                break;
            }
        }
        Dequeued {
            count,
            left: self.known(),
        }
    }

    /// [`dequeue_burst`](Self::dequeue_burst) where there are other consumers.
    fn dequeue_burst_shared(&mut self, out: &mut [u32]) -> Dequeued {
        let Lanes::Shared(array) = &mut self.lanes else {
            return Dequeued::default();
        };
        let count = array.dequeue_burst(out) as usize;
        let left = array.known() as usize;
        self.gauge.tell((count + left) as u64);
        Dequeued { count, left }
    }

    /// Takes as many items as `out` has room for, or none.
    ///
    /// # Errors
    ///
    /// [`NoBulk`] in a ring with many consumers.
    #[inline]
    pub fn dequeue_bulk(&mut self, out: &mut [u32]) -> Result<Dequeued, NoBulk> {
        if let Lanes::Shared(_) = &self.lanes {
            return Err(NoBulk);
        }
        if self.known() < out.len() && self.len() < out.len() {
            return Ok(Dequeued {
                count: 0,
                left: self.known(),
            });
        }
        Ok(self.dequeue_burst(out))
    }

    /// Takes one item. Slow: take [`dequeue_burst`](Self::dequeue_burst) where there may be more.
    #[inline]
    pub fn dequeue(&mut self) -> Option<u32> {
        let Lanes::One(lane) = &mut self.lanes else {
            return self.dequeue_of_many();
        };
        let (item, waiting) = lane.dequeue()?;
        self.gauge.tell(waiting.into());
        Some(item)
    }

    /// [`dequeue`](Self::dequeue) of any ring but one to one.
    #[inline(never)]
    fn dequeue_of_many(&mut self) -> Option<u32> {
        if let Lanes::Shared(array) = &mut self.lanes {
            let item = array.dequeue()?;
            self.gauge.tell(u64::from(array.known()) + 1);
            return Some(item);
        }
        let mut item = [0];
        let taken = self.dequeue_burst_of_many(&mut item);
        (taken.count == 1).then_some(item[0])
    }

    /// How many items wait, after a look at all lanes.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a look at a moving thing: compare the number"
    )]
    pub fn len(&mut self) -> usize {
        match &mut self.lanes {
            Lanes::One(lane) => return lane.look() as usize,
            Lanes::Many(lanes) => lanes.look(),
            // Hints may lag, so the slots are counted.
            Lanes::Shared(array) => return array.len(),
        }
        self.known()
    }

    /// How many items wait as far as known, without a look.
    #[inline]
    pub fn known(&self) -> usize {
        match &self.lanes {
            Lanes::One(lane) => lane.known() as usize,
            Lanes::Many(lanes) => usize::try_from(lanes.known()).unwrap_or(usize::MAX),
            Lanes::Shared(array) => array.waiting() as usize,
        }
    }

    /// Who produces into the lane last peeked, now: [`Owner::NONE`] once it has let go, and where there are no lanes.
    pub fn lane_producer(&self) -> Owner {
        let lane = match &self.lanes {
            Lanes::One(_) => 0,
            Lanes::Many(lanes) => lanes.lane(),
            Lanes::Shared(_) => return Owner::NONE,
        };
        let word = self
            .producers
            .get(lane)
            .map_or(0, |word| word.load(Ordering::Relaxed));
        owner_in(word)
    }

    /// Counts from now on how often the fill rises to `items`, in
    /// [`Ring::watermark_hits`](crate::Ring::watermark_hits); `None` stops counting.
    pub fn set_watermark(&mut self, items: Option<usize>) {
        self.gauge.set_watermark(items.map(|items| items as u64));
    }
}

impl Source for Consumer<'_> {
    fn sleep_begin(&mut self) {
        self.set_sleeping(true);
    }

    fn look(&mut self) -> Found {
        if self.len() > 0 {
            Found::InRing
        } else {
            Found::Nothing
        }
    }

    fn sleep_end(&mut self) {
        self.set_sleeping(false);
    }
}

/// Claims the next item, if there is room to show it.
fn claim(array: &mut mpmc::Consumer<'_>, out: &mut [u32]) -> u32 {
    let Some(place) = out.first_mut() else {
        return 0;
    };
    let Some(item) = array.claim() else { return 0 };
    *place = item;
    // What waits behind it is known for who asks next.
    array.known();
    1
}
