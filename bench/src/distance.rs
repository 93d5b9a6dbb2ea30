//! How far the two cores are from each other: what a cache line takes there and back.
//!
//! A virtual machine's cores are threads of its host, which moves them about: here they are neighbours on one
//! third-level cache for a while (100 ns there and back) and in two corners of the processor for another (470 ns), from
//! a tenth of a second to minutes each. All that goes from core to core costs three to five times as much in the second, ours and the peer's.
//! So every side of a round waits for neighbours, not for ever, and what it had stands in the round.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use forebay::eal::core::pin_thread;
use serde::Serialize;

use crate::statistics::Quartiles;

/// Up to this the cores count as neighbours: between the two kinds of the module's doc.
const NEAR_NS: f64 = 250.0;
/// Times there and back that are clocked at once, and how often: a look takes one to three milliseconds.
const TRIPS: u32 = 400;
const CLOCKED: usize = 15;
/// Neighbours for that many looks, this far apart, stay so for a while.
const LOOKS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(20);
/// How long one side waits for neighbours, and all sides of a run together.
const WAIT_MAX: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(600);

/// A line of its own, so that only the word travels.
#[repr(align(128))]
struct Ball(AtomicU32);

/// What one side of a round had, in nanoseconds there and back.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Distance {
    pub(crate) before: f64,
    pub(crate) after: f64,
}

/// How much waiting is left.
#[derive(Debug)]
pub(crate) struct Patience(Duration);

impl Distance {
    /// Whether the cores were neighbours before and after: `None` if they moved.
    pub(crate) fn is_near(self) -> Option<bool> {
        let (before, after) = (self.before <= NEAR_NS, self.after <= NEAR_NS);
        (before == after).then_some(before)
    }
}

impl Patience {
    /// Of a run.
    pub(crate) const fn new() -> Self {
        Self(PATIENCE)
    }

    /// Waits until the cores are neighbours, if they get so in time, and tells how far they are.
    ///
    /// # Errors
    ///
    /// As for [`distance`].
    pub(crate) fn neighbours(&mut self) -> Result<f64> {
        let start = Instant::now();
        let wait_max = self.0.min(WAIT_MAX);
        let mut near = 0;
        loop {
            let ns = distance()?;
            near = if ns <= NEAR_NS { near + 1 } else { 0 };
            if near >= LOOKS || start.elapsed() >= wait_max {
                self.0 = self.0.saturating_sub(start.elapsed());
                return Ok(ns);
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Nanoseconds that a line takes from core 0 to core 1 and back: the median of some.
///
/// # Errors
///
/// When the cores cannot be had.
pub(crate) fn distance() -> Result<f64> {
    let (ball, over) = (Ball(AtomicU32::new(0)), AtomicBool::new(false));
    let (ball, over) = (&ball, &over);
    thread::scope(|scope| {
        let other = scope.spawn(move || -> Result<()> {
            pin_thread(&[1])?;
            while !over.load(Ordering::Relaxed) {
                let seen = ball.0.load(Ordering::Relaxed);
                if seen % 2 == 1 {
                    ball.0.store(seen.wrapping_add(1), Ordering::Relaxed);
                }
            }
            Ok(())
        });
        let here = scope.spawn(move || -> Result<f64> {
            let clocked = pin_thread(&[0]).map(|()| {
                let trip = || {
                    let sent = ball.0.load(Ordering::Relaxed).wrapping_add(1);
                    ball.0.store(sent, Ordering::Relaxed);
                    // Nobody answers if the other could not be pinned.
                    while ball.0.load(Ordering::Relaxed) == sent && !other.is_finished() {}
                };
                (0..=CLOCKED)
                    .map(|_| {
                        let start = Instant::now();
                        (0..TRIPS).for_each(|_| trip());
                        start.elapsed().as_secs_f64() * 1e9 / f64::from(TRIPS)
                    })
                    // Until both threads run, the first takes longer.
                    .skip(1)
                    .collect::<Vec<f64>>()
            });
            over.store(true, Ordering::Relaxed);
            other.join().expect("it does not panic")?;
            Ok(Quartiles::of(clocked?).expect("there are some").median)
        });
        here.join().expect("it does not panic")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_takes_some_time_there_and_back() {
        if thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
            println!("skipped: one core only");
            return;
        }
        let ns = distance().unwrap();
        assert!(ns > 1.0, "{ns}");
    }

    #[test]
    fn cores_that_moved_are_neither_near_nor_far() {
        let of = |before, after| Distance { before, after }.is_near();
        assert_eq!(of(105.0, 110.0), Some(true));
        assert_eq!(of(470.0, 480.0), Some(false));
        assert_eq!((of(105.0, 470.0), of(470.0, 105.0)), (None, None));
    }
}
