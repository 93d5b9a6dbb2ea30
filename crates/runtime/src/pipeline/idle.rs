//! What a loop does when it found nothing: ever less, and then it sleeps.
//!
//! ```text
//! turns without work   1 ..= 64    ..= 256    ..= 356 with devices         then
//!                      spins       yields     naps of 50 microseconds      sleeps until there is work, 100 ms at most
//! ```
//!
//! The naps bridge what a device takes to wake a sleeper: a conversation goes on without it, and only the first packet after a silence
//! waits. Work puts it all back; waking up for nothing does not.
//!
//! **If a process dies:** a sleeper is dead like any other; see [`eal::sleep`].

use std::hint;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use eal::process::SlotRecord;
use eal::sleep::{Cause, Found, Source, WaitSet, sleep};
use eal::sync::Ordering;
use eal::{Doorbell, Region, Slot};

use super::stop::Stop;

/// Turns that only tell the processor's other thread to go ahead.
const SPIN_TURNS: u32 = 64;
/// Turns, counted from the first, after which the core is lent to whoever wants it.
const YIELD_TURNS: u32 = 256;
/// Turns that nap, where there are devices: in all more than the 4 ms that `net_af_packet` takes to wake a sleeper.
const NAP_TURNS: u32 = 100;
/// How long a nap takes. A ring of 128 takes a million packets a second through it.
const NAP: Duration = Duration::from_micros(50);
/// The longest sleep.
const SLEEP: Duration = Duration::from_millis(100);
/// Times in a row that a device woke us and had nothing, after which we do without it for a moment: one that is broken must not keep
/// us up.
const FRUITLESS_MAX: u32 = 8;
/// That moment.
const WITHOUT_DEVICES: Duration = Duration::from_millis(4);

/// Counts the turns without work, and sleeps.
#[derive(Debug)]
pub(super) struct Idle<'s> {
    turns: u32,
    busy_poll: bool,
    /// `None`: not needed, or it cannot be had.
    bell: Option<Doorbell>,
    stop: &'s Stop,
    region: &'static Region,
    record: &'static SlotRecord,
    /// Times in a row that a device woke us for nothing.
    fruitless: u32,
}

/// What a wait was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// A moment, by which nobody need have noticed.
    Little,
    /// A sleep: the clock went on, and who is there may have changed.
    Asleep,
}

impl<'s> Idle<'s> {
    /// Of the thread of `slot`. `busy_poll`: never sleep.
    pub(super) fn new(slot: &Slot, busy_poll: bool, stop: &'s Stop) -> Self {
        let open = || {
            slot.doorbell()
                .inspect_err(|error| {
                    tracing::warn!("{error}; so this thread naps, and does not sleep")
                })
                .ok()
        };
        Self {
            turns: 0,
            busy_poll,
            bell: if busy_poll { None } else { open() },
            stop,
            region: slot.region(),
            record: slot.record(),
            fruitless: 0,
        }
    }

    /// There was work.
    #[inline]
    pub(super) fn reset(&mut self) {
        (self.turns, self.fruitless) = (0, 0);
    }

    /// There was none in any of the sources: spins, yields, naps, sleeps. What is to be sent has been sent.
    pub(super) fn wait(&mut self, sources: &mut dyn Source) -> Waited {
        self.turns = self.turns.saturating_add(1);
        match (self.turns, &self.bell) {
            (..=SPIN_TURNS, _) => hint::spin_loop(),
            (..=YIELD_TURNS, _) => thread::yield_now(),
            _ if self.busy_poll => thread::yield_now(),
            (_, None) => thread::sleep(NAP),
            (_, Some(_)) if sources.must_poll() => thread::sleep(NAP),
            (turns, Some(_)) if turns <= YIELD_TURNS + NAP_TURNS && has_devices(sources) => {
                thread::sleep(NAP);
            }
            (_, Some(bell)) => {
                // Relaxed: shown.
                self.record.sleeping.store(1, Ordering::Relaxed);
                let stop = self.stop;
                let cause = nap_or_sleep(bell, sources, stop, self.fruitless);
                self.record.sleeping.store(0, Ordering::Relaxed);
                self.note(cause);
                return Waited::Asleep;
            }
        }
        Waited::Little
    }

    fn note(&mut self, cause: Cause) {
        self.fruitless = match cause {
            Cause::Device => self.fruitless.saturating_add(1),
            Cause::Time if self.fruitless >= FRUITLESS_MAX => self.fruitless,
            _ => 0,
        };
        if cause != Cause::Work {
            self.record.run.sleeps.add(1);
        }
        // Without a primary nobody rings for who was killed before he rang.
        if cause == Cause::Late && self.region.primary_alive() {
            self.record.run.late.add(1);
        }
    }
}

fn has_devices(sources: &dyn Source) -> bool {
    let mut set = WaitSet::default();
    sources.wait_on(&mut set);
    !set.descriptors().is_empty()
}

fn nap_or_sleep(bell: &Doorbell, sources: &mut dyn Source, stop: &Stop, fruitless: u32) -> Cause {
    let mut sources = UntilStopped { sources, stop };
    if fruitless >= FRUITLESS_MAX {
        sleep(bell, &mut sources, false, WITHOUT_DEVICES)
    } else {
        sleep(bell, &mut sources, true, SLEEP)
    }
}

/// Work, or the end of it.
struct UntilStopped<'a> {
    sources: &'a mut dyn Source,
    stop: &'a Stop,
}

impl Source for UntilStopped<'_> {
    fn sleep_begin(&mut self) {
        self.sources.sleep_begin();
    }

    fn look(&mut self) -> Found {
        if self.stop.is_set() {
            Found::InDevice
        } else {
            self.sources.look()
        }
    }

    fn sleep_end(&mut self) {
        self.sources.sleep_end();
    }

    fn wait_on<'s>(&'s self, set: &mut WaitSet<'s>) {
        set.add(self.stop.as_fd());
        self.sources.wait_on(set);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source that is rung for, and one that is polled.
    struct Quiet {
        polled: bool,
        begun: u32,
        ended: u32,
    }

    const QUIET: Quiet = Quiet {
        polled: false,
        begun: 0,
        ended: 0,
    };

    impl Source for Quiet {
        fn must_poll(&self) -> bool {
            self.polled
        }

        fn sleep_begin(&mut self) {
            self.begun += 1;
        }

        fn look(&mut self) -> Found {
            Found::Nothing
        }

        fn sleep_end(&mut self) {
            self.ended += 1;
        }
    }

    fn slot() -> Slot {
        let region = Box::leak(Box::new(Region::anonymous(1 << 20).unwrap()));
        Slot::claim(region, "idle").unwrap()
    }

    #[test]
    fn loop_without_work_sleeps_in_the_end_and_is_woken() {
        let (slot, stop) = (slot(), Stop::on_signals().unwrap());
        let mut idle = Idle::new(&slot, false, &stop);
        let mut source = QUIET;
        for _ in 0..YIELD_TURNS {
            assert_eq!(idle.wait(&mut source), Waited::Little);
        }
        for _ in 0..3 {
            slot.region().ring_doorbell(slot.id());
            assert_eq!(idle.wait(&mut source), Waited::Asleep);
        }
        assert_eq!((source.begun, source.ended), (3, 3));
        let run = &slot.record().run;
        assert_eq!((run.sleeps.get(), run.late.get()), (3, 0));
        idle.reset();
        assert_eq!(idle.wait(&mut source), Waited::Little);
    }

    #[test]
    fn who_polls_or_was_asked_to_does_not_sleep() {
        let (slot, stop) = (slot(), Stop::on_signals().unwrap());
        let mut polled = Quiet {
            polled: true,
            ..QUIET
        };
        for (busy_poll, source) in [(false, &mut polled), (true, &mut { QUIET })] {
            let mut idle = Idle::new(&slot, busy_poll, &stop);
            for _ in 0..YIELD_TURNS + NAP_TURNS + 10 {
                assert_eq!(idle.wait(source), Waited::Little);
            }
            assert_eq!(source.begun, 0);
        }
        assert_eq!(slot.record().run.sleeps.get(), 0);
    }
}
