//! All ways to run a scenario, within its bounds.
//!
//! Depth first, each run from the start: choices are repeated as far as the trail goes, then the first alternative is taken
//! each time. At the end of a run the judge looks at the memory, and then all who live are killed at once, another primary
//! sweeps, and all mbufs must be to be had.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use corosensei::stack::DefaultStack;
use eal::Region;
use eal::sync::model::drive;

use crate::coroutine::{Coroutine, Resume};
use crate::judge;
use crate::machine::{Killed, Machine};
use crate::mutant::{Mutant, Site};
use crate::script::{self, Script};
use crate::state::{Id, Masks, Process, Status};
use crate::words::Words;

/// Bytes of a simulated process's stack.
const STACK: usize = 256 << 10;

/// When a process begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Before the first step: what it does until it says that it is ready is not explored.
    First,
    /// Any time after another was killed.
    AfterDeathOf(Id),
}

/// A process of a scenario.
#[derive(Clone, Copy)]
pub(crate) struct Cast {
    /// What it is called in schedules.
    pub(crate) name: &'static str,
    /// Its place among the regions of the world.
    pub(crate) region: usize,
    pub(crate) start: Start,
    pub(crate) killable: bool,
    pub(crate) body: fn(&Script),
}

/// What is run.
#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Makes pools and rings, before anything is explored.
    pub(crate) setup: fn(&'static Region),
    /// Says of words what the zones do not.
    pub(crate) mark: fn(&'static Region, &mut Words),
    pub(crate) casts: Vec<Cast>,
    pub(crate) preemptions: u8,
    pub(crate) deaths: u8,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) runs: u64,
    pub(crate) steps: u64,
    pub(crate) ends: u64,
    pub(crate) time: Duration,
    /// What is wrong, and the schedule that shows it.
    pub(crate) failure: Option<(String, Vec<String>)>,
    /// Stopped for its time before it had seen all.
    pub(crate) cut_short: bool,
}

thread_local! {
    /// Whether a simulated process runs: its panics are an outcome, not a message.
    static IS_EXPECTED: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Goes through scenarios on one machine.
pub(crate) struct Explorer {
    pub(crate) machine: &'static Machine,
    stacks: Vec<DefaultStack>,
    coroutines: Vec<Option<Coroutine>>,
}

impl Explorer {
    /// An explorer, in charge of this thread.
    ///
    /// # Errors
    ///
    /// What the operating system or the region says.
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let machine = Machine::new()?;
        drive(Some(machine));
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_EXPECTED.get() {
                PANIC.set(Some(info.to_string().replace('\n', " ")));
            } else {
                default(info);
            }
        }));
        Ok(Self {
            machine,
            stacks: Vec::new(),
            coroutines: Vec::new(),
        })
    }

    /// Makes what the scenario needs, and forgets the one before.
    pub(crate) fn prepare(&mut self, scenario: &Scenario) {
        let world = &self.machine.world;
        world.clear();
        let primary = world.regions[0];
        (scenario.setup)(primary);
        let mut words = Words::of(world, primary);
        (scenario.mark)(primary, &mut words);
        let mut state = self.machine.state.borrow_mut();
        state.begin(world, words);
        state.mutant = None;
        state.reached.clear();
    }

    /// Explores a prepared scenario until all is seen or something is wrong.
    pub(crate) fn explore(
        &mut self,
        scenario: &Scenario,
        mutant: Option<Mutant>,
        (runs_max, time_max): (u64, Duration),
    ) -> Outcome {
        let start = Instant::now();
        let mut outcome = Outcome::default();
        // First without preemptions, which tells what words are shared; then with all of them, and again if more are.
        let mut bounds = vec![0];
        if mutant.is_some() {
            bounds = vec![scenario.preemptions.min(1)];
            if scenario.preemptions > 1 {
                bounds.push(scenario.preemptions);
            }
        } else {
            bounds.push(scenario.preemptions);
        }
        let mut round = 0;
        while let Some(bound) = bounds.get(round).copied() {
            round += 1;
            self.round(
                scenario,
                mutant,
                bound,
                (runs_max, start + time_max),
                &mut outcome,
            );
            if outcome.failure.is_some() || outcome.cut_short {
                break;
            }
            let mut state = self.machine.state.borrow_mut();
            let grew = state.shared.readers != state.seen.readers
                || state.shared.writers != state.seen.writers;
            if mutant.is_none() {
                state.shared = state.seen.clone();
                if grew && round == bounds.len() {
                    bounds.push(scenario.preemptions);
                }
            }
        }
        outcome.time = start.elapsed();
        outcome
    }

    fn round(
        &mut self,
        scenario: &Scenario,
        mutant: Option<Mutant>,
        bound: u8,
        (runs_max, deadline): (u64, Instant),
        outcome: &mut Outcome,
    ) {
        {
            let mut state = self.machine.state.borrow_mut();
            state.mutant = mutant;
            state.visited.clear();
            state.trail = Default::default();
        }
        let mut ends = HashSet::new();
        loop {
            self.run(scenario, bound, &mut ends);
            outcome.runs += 1;
            let mut state = self.machine.state.borrow_mut();
            if let Some(why) = state.violation.take() {
                drop(state);
                outcome.failure = Some((why, self.replay(scenario, bound)));
                break;
            }
            if !state.trail.advance() {
                break;
            }
            drop(state);
            let late = outcome.runs.is_multiple_of(256) && Instant::now() > deadline;
            if late || outcome.runs >= runs_max {
                outcome.cut_short = true;
                break;
            }
        }
        outcome.ends += ends.len() as u64;
        outcome.steps += std::mem::take(&mut self.machine.state.borrow_mut().steps);
        // So that the memory is as it was.
        self.machine.state.borrow_mut().restore(&self.machine.world);
    }

    /// The schedule of the last run.
    fn replay(&mut self, scenario: &Scenario, bound: u8) -> Vec<String> {
        self.machine.state.borrow_mut().log = Some(Vec::new());
        self.run(scenario, bound, &mut HashSet::new());
        self.machine
            .state
            .borrow_mut()
            .log
            .take()
            .unwrap_or_default()
    }

    /// One run along the trail.
    fn run(&mut self, scenario: &Scenario, bound: u8, ends: &mut HashSet<u64>) {
        let machine = self.machine;
        {
            let mut state = machine.state.borrow_mut();
            state.restore(&machine.world);
            state.preemptions_left = bound;
            state.deaths_left = scenario.deaths;
            state.processes = scenario
                .casts
                .iter()
                .map(|cast| {
                    Process::new(cast.name, machine.world.regions[cast.region], cast.killable)
                })
                .collect();
        }
        self.coroutines = scenario.casts.iter().map(|_| None).collect();
        for (id, cast) in scenario.casts.iter().enumerate() {
            if cast.start == Start::First {
                self.set(id, |process| {
                    process.status = Status::Runnable;
                    process.is_beginning = true;
                });
                self.resume(scenario, id);
                self.set(id, |process| process.is_beginning = false);
            }
        }
        let mut current = None;
        while !machine.state.borrow().is_over {
            let Some(id) = current.take().or_else(|| self.next()) else {
                break;
            };
            self.set(id, |process| process.status = Status::Runnable);
            self.resume(scenario, id);
            current = machine.state.borrow_mut().next.take();
        }
        if !machine.state.borrow().is_over {
            self.end(ends);
        }
        self.shut_down();
    }

    fn set(&self, id: Id, change: impl FnOnce(&mut Process)) {
        if let Some(process) = self.machine.state.borrow_mut().processes.get_mut(id) {
            change(process);
        }
    }

    /// Who goes on when nobody does: any.
    fn next(&self) -> Option<Id> {
        let mut state = self.machine.state.borrow_mut();
        let enabled: Vec<Id> = state.enabled_but(None).collect();
        if enabled.is_empty() {
            let paused = |process: &Process| matches!(process.status, Status::Paused(_));
            if state.processes.iter().any(paused) {
                state.fail("somebody waits for what never comes".to_owned());
            }
            return None;
        }
        let chosen = state.choose(enabled.len(), u64::MAX)?;
        let id = enabled[chosen];
        state.log(|state| format!("-- {} goes on", state.processes[id].name));
        Some(id)
    }

    /// Lets a process go on until it stops, and looks why it did.
    fn resume(&mut self, scenario: &Scenario, id: Id) {
        let machine = self.machine;
        let mut coroutine = match self.coroutines[id].take() {
            Some(coroutine) => coroutine,
            None => self.spawn(id, scenario.casts[id].body),
        };
        machine.running.set(Some(id));
        IS_EXPECTED.set(true);
        let pause = coroutine.resume(Resume::Run);
        IS_EXPECTED.set(false);
        machine.running.set(None);
        if pause.is_some() {
            self.coroutines[id] = Some(coroutine);
            return;
        }
        self.stacks.extend(coroutine.into_stack());
        if machine.state.borrow().processes[id].status == Status::Dead {
            machine.state.borrow().processes[id].region.forget_slots();
            for (other, cast) in scenario.casts.iter().enumerate() {
                if cast.start == Start::AfterDeathOf(id) {
                    self.set(other, |process| process.status = Status::Runnable);
                }
            }
        }
    }

    fn spawn(&mut self, id: Id, body: fn(&Script)) -> Coroutine {
        let stack = self.stacks.pop().unwrap_or_else(|| {
            DefaultStack::new(STACK).expect("a stack is as little memory as a stack is")
        });
        let machine = self.machine;
        Coroutine::new(stack, move |_| {
            let script = Script::new(machine, id);
            let outcome = catch_unwind(AssertUnwindSafe(|| body(&script)));
            IS_EXPECTED.set(false);
            let mut state = machine.state.borrow_mut();
            match outcome {
                Ok(()) => {
                    state.catch_up(&machine.world, id);
                    state.processes[id].status = Status::Done;
                    let kept = state.hands.values().any(|holder| *holder == id);
                    if kept {
                        let name = state.processes[id].name;
                        state.fail(format!("{name} ended with an mbuf in hand"));
                    }
                }
                Err(payload) if payload.is::<Killed>() => {}
                Err(_) => {
                    let message = PANIC.take().unwrap_or_default();
                    let name = state.processes[id].name;
                    state.fail(format!("{name} panicked: {message}"));
                    state.processes[id].is_dying = true;
                }
            }
        })
    }

    /// What the memory is like when nobody has anything to do.
    fn end(&self, ends: &mut HashSet<u64>) {
        let machine = self.machine;
        let is_new = ends.insert(machine.state.borrow().digest());
        if !is_new {
            return;
        }
        let faults = judge::faults(machine);
        if let Some(fault) = faults.first() {
            machine
                .state
                .borrow_mut()
                .fail(format!("at the end: {fault}"));
            return;
        }
        let all_died = script::all_die_and_all_is_there(machine);
        let mut state = machine.state.borrow_mut();
        // Nobody watched what that stored.
        state.restore_all(&machine.world);
        if let Err(fault) = all_died {
            state.fail(format!("after all have died: {fault}"));
        }
    }

    /// Ends what is left of a run. Nothing that it does counts.
    fn shut_down(&mut self) {
        let machine = self.machine;
        for (id, coroutine) in self.coroutines.iter_mut().enumerate() {
            let Some(mut coroutine) = coroutine.take() else {
                continue;
            };
            if coroutine.is_suspended() {
                self.machine.state.borrow_mut().processes[id].is_dying = true;
                machine.running.set(Some(id));
                coroutine.resume(Resume::Die);
                machine.running.set(None);
            }
            self.stacks.extend(coroutine.into_stack());
        }
        for process in &machine.state.borrow().processes {
            if process.status != Status::Unstarted {
                process.region.forget_slots();
            }
        }
    }

    /// The sites that the scenario reached.
    pub(crate) fn reached(&self) -> Vec<Site> {
        let state = self.machine.state.borrow();
        let reached = state.reached.iter().enumerate();
        reached
            .filter_map(|(number, reached)| reached.then_some(Site(number)))
            .collect()
    }

    /// Which words the scenario found to be shared, to explore its mutants with.
    pub(crate) fn shared(&self) -> Masks {
        self.machine.state.borrow().shared.clone()
    }

    /// Puts back what [`shared`](Self::shared) gave.
    pub(crate) fn set_shared(&self, shared: Masks) {
        self.machine.state.borrow_mut().shared = shared;
    }
}
