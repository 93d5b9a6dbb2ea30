//! The load at which both sides of a line over veth are measured: a part of what the slower of them carries.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::compare::Bench;
use crate::line::Work;
use crate::round::Round;
use crate::veth::{World, measure, stop};

/// A probe of the search.
const PROBE: Duration = Duration::from_millis(400);
/// The search for the most that a side carries: where it begins and ends, in packets a second, and how much a step adds.
const RATE_MIN: f64 = 20_000.0;
const RATE_MAX: f64 = 3_000_000.0;
const STEP: f64 = 1.3;
/// The best of so many tries counts; so many steps in a row that fail end the search.
const TRIES: u32 = 3;
const FAILURES: u32 = 2;
/// What may be lost of a load that is carried.
const CARRIED_LOSS: f64 = 0.005;
/// A generator below this part of its rate has no more to give.
const KEPT: f64 = 0.9;
/// At what part of the slower side's most both are measured.
const LOAD: f64 = 0.7;

/// Who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    /// DPDK as it is run, looking all the time; for echoes the kernel.
    Peer,
    /// DPDK, but sleeping for a moment when nothing comes.
    Napping,
}

/// What a probe of the search came to: packets a second that were sent, and the part of them that was lost.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Probed {
    rate: f64,
    loss: f64,
}

/// The most that is carried, in packets a second: up from [`RATE_MIN`] by [`STEP`], until [`FAILURES`] steps in a row fail, then
/// one look between the last that passed and the first that failed. If none passes, what was sent of the first.
fn saturation(mut probe: impl FnMut(f64) -> Result<Probed>) -> Result<f64> {
    let mut best = |asked: f64| -> Result<Probed> {
        let mut best = probe(asked)?;
        for _ in 1..TRIES {
            if best.loss <= CARRIED_LOSS {
                break;
            }
            let again = probe(asked)?;
            if again.loss < best.loss {
                best = again;
            }
        }
        Ok(best)
    };
    let (mut most, mut passed, mut failed) = (None, RATE_MIN, None);
    let (mut first, mut failures, mut asked) = (None, 0, RATE_MIN);
    while failures < FAILURES && asked < RATE_MAX {
        let found = best(asked)?;
        first.get_or_insert(found);
        if found.loss <= CARRIED_LOSS {
            most = Some(found.rate.max(most.unwrap_or(0.0)));
            (passed, failed, failures) = (asked, None, 0);
            if found.rate < KEPT * asked {
                eprintln!("the generator has no more to give");
                break;
            }
        } else {
            failed.get_or_insert(asked);
            failures += 1;
        }
        asked *= STEP;
    }
    let Some(most) = most else {
        let first = first.context("no step")?;
        eprintln!(
            "even {:.0} k/s are not carried: {:.2} % lost; measured from there",
            first.rate / 1e3,
            first.loss * 100.0
        );
        return Ok(first.rate);
    };
    let Some(failed) = failed else {
        return Ok(most);
    };
    let between = best((passed * failed).sqrt())?;
    Ok(if between.loss <= CARRIED_LOSS {
        most.max(between.rate)
    } else {
        most
    })
}

/// What is done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Task {
    /// Out of the other interface.
    Forward,
    /// Back, as a UDP datagram to who sent it.
    Echo,
}

/// By what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Sockets {
    Packet,
    Xdp,
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Kind {
    pub(crate) task: Task,
    /// Bytes of a frame.
    pub(crate) len: usize,
    pub(crate) sockets: Sockets,
}

/// What both sides can carry, and the load at which they are measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Load {
    what: Kind,
    /// The most that each carries, in packets a second.
    ours: f64,
    peer: f64,
    rate: f64,
}

impl Load {
    /// Finds it: the same search for both, each started once for it.
    pub(crate) fn find(bench: &Bench<'_>, what: Kind) -> Result<Self> {
        let most = |side| -> Result<f64> {
            let world = World::new(what)?;
            let processes = world.start(bench, side, what.sockets)?;
            let most = saturation(|rate| {
                bench.go_on()?;
                let window = world.window(&processes, rate, PROBE)?;
                eprintln!(
                    "veth, {:?}, {:?}, {} B: {side:?} at {:.1} k/s: {:.2} % lost",
                    what.task,
                    what.sockets,
                    what.len,
                    window.rate / 1e3,
                    window.loss * 100.0
                );
                Ok(Probed {
                    rate: window.rate,
                    loss: window.loss,
                })
            })?;
            stop(side, processes);
            Ok(most)
        };
        let ours = most(Side::Ours)?;
        let peer = if bench.has_peer(Work::Veth { what, naps: false }) {
            most(Side::Peer)?
        } else {
            ours
        };
        Ok(Self {
            what,
            ours,
            peer,
            rate: LOAD * ours.min(peer),
        })
    }

    /// One round of a side.
    pub(crate) fn round(&self, bench: &Bench<'_>, side: Side) -> Result<Round> {
        let what = self.what;
        let pages = match (what.task, side) {
            // Sockets lie where the kernel wants them.
            (Task::Echo, Side::Peer) => "the kernel's",
            _ => bench.pages.name(),
        };
        measure(bench, side, what, self.rate)?.round(pages)
    }

    /// What is told of it beside the ratio.
    pub(crate) fn text(&self, name: &str) -> String {
        format!(
            "SATURATION {name} ours={:.1} peer={:.1} k/s; measured at {:.1} k/s",
            self.ours / 1e3,
            self.peer / 1e3,
            self.rate / 1e3
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries so much, and loses all that is more.
    fn link(most: f64) -> impl FnMut(f64) -> Result<Probed> {
        move |rate: f64| {
            let loss = (1.0 - most / rate).max(0.0);
            Ok(Probed { rate, loss })
        }
    }

    #[test]
    fn search_ends_below_what_is_carried_and_within_a_step_of_it() {
        for most in [25_000.0, 100_000.0, 333_333.0, 1_000_000.0] {
            let found = saturation(link(most)).unwrap();
            assert!(
                found <= most * 1.01 && found > most / STEP,
                "{found} of {most}"
            );
        }
    }

    #[test]
    fn disturbed_probes_do_not_end_the_search() {
        let (mut carried, mut count) = (link(400_000.0), 0);
        let found = saturation(|rate| {
            count += 1;
            // Two of three, and one step as a whole.
            let disturbed = count % 3 != 0 || (100_000.0..120_000.0).contains(&rate);
            let found = carried(rate)?;
            Ok(if disturbed {
                Probed { loss: 0.3, ..found }
            } else {
                found
            })
        });
        assert!(found.unwrap() > 400_000.0 / STEP);
    }

    #[test]
    fn search_never_answers_nothing() {
        assert_eq!(saturation(link(1000.0)).unwrap(), RATE_MIN);
    }

    #[test]
    fn generator_that_keeps_no_more_ends_the_search() {
        let found = saturation(|rate| {
            let rate = f64::min(rate, 250_000.0);
            Ok(Probed { rate, loss: 0.0 })
        });
        assert_eq!(found.unwrap(), 250_000.0);
    }
}
