//! What a loop does when it found nothing: ever less, and then it sleeps.
//!
//! ```text
//! without work   64 turns   192 turns, or 10 microseconds   100 turns, with devices    then
//!                spins      yields                          naps of 50 microseconds    sleeps until there is work, 100 ms at most
//! ```
//!
//! The naps bridge what a device takes to wake a sleeper: a conversation goes on without it, and only the first packet after a silence
//! waits. Work puts it all back; waking up for nothing does not.
//!
//! **If a process dies:** a sleeper is dead like any other; see [`eal::sleep`].

use std::hint;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use eal::process::SlotRecord;
use eal::sleep::{Cause, Found, Source, WaitSet, sleep};
use eal::sync::Ordering;
use eal::{Doorbell, Region, Slot};

use crate::stop::Stop;

/// Turns that only tell the processor's other thread to go ahead.
const SPIN_TURNS: u32 = 64;
/// Turns after that in which the core is lent to whoever wants it.
const YIELD_TURNS: u32 = 192;
/// How long a loop does so instead that looks into devices: such a turn takes ten times as long as one that looks into a ring. Twice
/// what a nap costs the processor: who looks longer can lose more by it than he can win.
const YIELD: Duration = Duration::from_micros(10);
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
pub(crate) struct Idle<'s> {
    turns: u32,
    /// Yields for a time, which began then.
    since: Option<Option<Instant>>,
    naps: u32,
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
pub(crate) enum Waited {
    /// A moment, by which nobody need have noticed.
    Little,
    /// A sleep: the clock went on, and who is there may have changed.
    Asleep,
}

impl<'s> Idle<'s> {
    /// Of the thread of `slot`. `busy_poll`: never sleep.
    pub(crate) fn new(slot: &Slot, busy_poll: bool, stop: &'s Stop) -> Self {
        let open = || {
            slot.doorbell()
                .inspect_err(|error| {
                    tracing::warn!("{error}; so this thread naps, and does not sleep")
                })
                .ok()
        };
        Self {
            turns: 0,
            since: None,
            naps: 0,
            busy_poll,
            bell: if busy_poll { None } else { open() },
            stop,
            region: slot.region(),
            record: slot.record(),
            fruitless: 0,
        }
    }

    /// Of a thread that looks into devices: it naps sooner.
    pub(crate) fn of_devices(slot: &Slot, busy_poll: bool, stop: &'s Stop) -> Self {
        Self {
            since: Some(None),
            ..Self::new(slot, busy_poll, stop)
        }
    }

    /// There was work.
    #[inline]
    pub(crate) fn reset(&mut self) {
        (self.turns, self.naps, self.fruitless) = (0, 0, 0);
        self.since = self.since.map(|_| None);
    }

    /// There was none in any of the sources: spins, yields, naps, sleeps. What is to be sent has been sent.
    pub(crate) fn wait(&mut self, sources: &mut dyn Source) -> Waited {
        self.wait_at_most(sources, SLEEP)
    }

    /// The same for who has something to do after `limit`, whether there is work or not.
    pub(crate) fn wait_at_most(&mut self, sources: &mut dyn Source, limit: Duration) -> Waited {
        if limit.is_zero() {
            return Waited::Little;
        }
        let nap = NAP.min(limit);
        self.turns = self.turns.saturating_add(1);
        if self.turns <= SPIN_TURNS {
            hint::spin_loop();
            return Waited::Little;
        }
        if self.busy_poll || self.yields() {
            thread::yield_now();
            return Waited::Little;
        }
        match &self.bell {
            None => thread::sleep(nap),
            Some(_) if sources.must_poll() => thread::sleep(nap),
            Some(_) if self.naps < NAP_TURNS && has_devices(sources) => {
                self.naps += 1;
                thread::sleep(nap);
            }
            Some(bell) => {
                // Relaxed: shown.
                self.record.sleeping.store(1, Ordering::Relaxed);
                let stop = self.stop;
                let cause = nap_or_sleep(bell, sources, stop, (self.fruitless, limit));
                self.record.sleeping.store(0, Ordering::Relaxed);
                self.note(cause);
                return Waited::Asleep;
            }
        }
        Waited::Little
    }

    /// Whether it is too early to do more than yield.
    fn yields(&mut self) -> bool {
        match &mut self.since {
            None => self.turns <= SPIN_TURNS + YIELD_TURNS,
            Some(since) => {
                let now = Instant::now();
                now.duration_since(*since.get_or_insert(now)) < YIELD
            }
        }
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

fn nap_or_sleep(
    bell: &Doorbell,
    sources: &mut dyn Source,
    stop: &Stop,
    (fruitless, limit): (u32, Duration),
) -> Cause {
    let mut sources = UntilStopped { sources, stop };
    if fruitless >= FRUITLESS_MAX {
        sleep(bell, &mut sources, false, WITHOUT_DEVICES.min(limit))
    } else {
        sleep(bell, &mut sources, true, SLEEP.min(limit))
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

    /// Until spins and yields are over.
    fn wait_little(idle: &mut Idle<'_>, source: &mut Quiet) {
        for _ in 0..SPIN_TURNS + YIELD_TURNS {
            assert_eq!(idle.wait(source), Waited::Little);
        }
    }

    #[test]
    fn loop_over_devices_yields_for_a_time() {
        let (slot, stop) = (slot(), Stop::on_signals().unwrap());
        let mut idle = Idle::of_devices(&slot, false, &stop);
        let mut source = QUIET;
        for _ in 0..=SPIN_TURNS {
            assert_eq!(idle.wait(&mut source), Waited::Little);
        }
        thread::sleep(YIELD);
        slot.region().ring_doorbell(slot.id());
        assert_eq!(idle.wait(&mut source), Waited::Asleep);
    }

    #[test]
    fn loop_without_work_sleeps_in_the_end_and_is_woken() {
        let (slot, stop) = (slot(), Stop::on_signals().unwrap());
        let mut idle = Idle::new(&slot, false, &stop);
        let mut source = QUIET;
        wait_little(&mut idle, &mut source);
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
    fn who_has_something_to_do_sleeps_no_longer_than_until_then() {
        let (slot, stop) = (slot(), Stop::on_signals().unwrap());
        let mut idle = Idle::new(&slot, false, &stop);
        let mut source = QUIET;
        wait_little(&mut idle, &mut source);
        let (limit, start) = (Duration::from_millis(5), std::time::Instant::now());
        assert_eq!(idle.wait_at_most(&mut source, limit), Waited::Asleep);
        assert!(start.elapsed() >= limit && start.elapsed() < SLEEP);
        assert_eq!(
            idle.wait_at_most(&mut source, Duration::ZERO),
            Waited::Little
        );
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
            wait_little(&mut idle, source);
            for _ in 0..NAP_TURNS + 10 {
                assert_eq!(idle.wait(source), Waited::Little);
            }
            assert_eq!(source.begun, 0);
        }
        assert_eq!(slot.record().run.sleeps.get(), 0);
    }
}
