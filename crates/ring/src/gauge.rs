//! How full a ring gets, for monitoring: the most that was seen waiting, and a watermark.
//!
//! The consumer writes, anybody reads. It knows how much waits whenever it looks at the
//! producers' positions, so this costs it a comparison a burst and a store only at a new
//! mark. What comes and goes between two looks is not seen.
//!
//! **If a process dies:** the marks stay; the next consumer goes on from them.

use crate::sync::{AtomicU64, Ordering};
use eal::counters::Counter;

/// What the consumer shares about the fill.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks<'r> {
    /// The most items seen waiting.
    pub(crate) high: &'r Counter,
    /// Fill that counts as high; 0 for none.
    pub(crate) watermark: &'r AtomicU64,
    /// Times that the fill rose to the watermark.
    pub(crate) rises: &'r Counter,
}

/// The consumer's side of them.
#[derive(Debug)]
pub(crate) struct Gauge<'r> {
    marks: Marks<'r>,
    /// What `marks.high` holds.
    high: u64,
    /// What `marks.watermark` holds, or a fill that is never reached.
    watermark: u64,
    /// Whether the fill was at the watermark when last told.
    above: bool,
    /// The least fill that says nothing new.
    quiet_from: u64,
    /// How many such fills there are, from that one on.
    quiet: u64,
}

impl<'r> Gauge<'r> {
    /// Goes on from the marks of the last consumer.
    pub(crate) fn new(marks: Marks<'r>) -> Self {
        let watermark = marks.watermark.load(Ordering::Relaxed);
        let watermark = if watermark == 0 { u64::MAX } else { watermark };
        let mut gauge = Self {
            marks,
            high: marks.high.get(),
            watermark,
            above: false,
            quiet_from: 0,
            quiet: 0,
        };
        gauge.settle();
        gauge
    }

    /// Takes note that `fill` items wait.
    #[inline]
    pub(crate) fn tell(&mut self, fill: u64) {
        if fill.wrapping_sub(self.quiet_from) >= self.quiet {
            self.mark(fill);
        }
    }

    /// What says nothing new: no more than the mark, and on the same side of the watermark.
    fn settle(&mut self) {
        let (from, new) = if self.above {
            (self.watermark, self.high.saturating_add(1))
        } else {
            (0, self.high.saturating_add(1).min(self.watermark))
        };
        self.quiet_from = from;
        self.quiet = new.saturating_sub(from);
    }

    #[cold]
    #[inline(never)]
    fn mark(&mut self, fill: u64) {
        if fill > self.high {
            self.high = fill;
            self.marks.high.set(fill);
        }
        let above = fill >= self.watermark;
        if above && !self.above {
            self.marks.rises.add(1);
        }
        self.above = above;
        self.settle();
    }

    /// Counts from now on how often the fill rises to `watermark`; `None` stops counting.
    pub(crate) fn set_watermark(&mut self, watermark: Option<u64>) {
        self.watermark = watermark.filter(|fill| *fill > 0).unwrap_or(u64::MAX);
        self.above = false;
        self.settle();
        let shared = if self.watermark == u64::MAX {
            0
        } else {
            self.watermark
        };
        self.marks.watermark.store(shared, Ordering::Relaxed);
    }
}
