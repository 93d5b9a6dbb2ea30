//! What happens at each step: a choice, then the access, then what is remembered of it.
//!
//! Before each store, and before each load of a word that another process writes, the process may be preempted; before each
//! store it may be killed as well, since between two stores nobody can tell where it died. All choices are made by the
//! [`Trail`](crate::state::Trail), so that the same trail runs the same way.
//!
//! **If a process dies:** it unwinds, and whatever its destructors store is swallowed.

use std::cell::{Cell, RefCell};
use std::panic::{Location, resume_unwind};

use eal::SlotId;
use eal::sync::model::{Change, Driver, Word};

use crate::coroutine::{Pause, Resume, suspend};
use crate::mutant::Mutant;
use crate::state::{ANYBODY, Action, Delayed, Id, OVERLOOKED, State, Status, mix};
use crate::words::{Class, Words};
use crate::world::World;

/// Loads of one process on end, after which it runs in circles.
const LOADS_MAX: u32 = 50_000;

/// What a killed process unwinds with.
pub(crate) struct Killed;

/// The group's memory, and all that simulated processes do to it.
pub(crate) struct Machine {
    pub(crate) world: World,
    pub(crate) state: RefCell<State>,
    /// The process that runs now; nobody's accesses are no steps.
    pub(crate) running: Cell<Option<Id>>,
}

impl Machine {
    /// A machine on a new group. It lives as long as the program.
    ///
    /// # Errors
    ///
    /// What the operating system or the region says.
    pub(crate) fn new() -> Result<&'static Self, Box<dyn std::error::Error>> {
        Ok(Box::leak(Box::new(Self {
            world: World::new()?,
            state: RefCell::default(),
            running: Cell::new(None),
        })))
    }

    /// The running process, if its steps count, and what it is about to touch.
    fn step_of(&self, word: &dyn Word) -> Option<(Id, usize)> {
        let id = self.running.get()?;
        let state = self.state.try_borrow().ok()?;
        let address = word.address();
        let [data, control] = state.processes[id].maps;
        let offset = |(start, len): (usize, usize)| {
            let bytes = address.wrapping_sub(start);
            (bytes < len).then_some(bytes / size_of::<u32>())
        };
        let number = offset(data).or_else(|| Some(offset(control)? + data.1 / size_of::<u32>()))?;
        Some((id, number))
    }

    /// Where the process may be killed or preempted.
    fn point(&self, id: Id, can_die: bool, yields_to: u8) {
        let mut yields_to = yields_to;
        loop {
            let action = {
                let mut state = self.state.borrow_mut();
                if state.processes[id].is_beginning {
                    return;
                }
                state.steps += 1;
                let Some(action) = state.decide(id, can_die, yields_to) else {
                    drop(state);
                    self.over(id);
                };
                if let Action::Yield(other) = action {
                    state.next = Some(other);
                    state.log(|state| {
                        let names = [id, other].map(|id| state.processes[id].name);
                        format!("-- {} stops, {} goes on", names[0], names[1])
                    });
                }
                action
            };
            match action {
                Action::Go => return,
                Action::Die => self.kill(id),
                Action::Yield(_) => {
                    self.wait(id, Pause::Preempted);
                    // Whoever let us go on could have turned to the others himself.
                    yields_to = 0;
                }
            }
        }
    }

    /// Stops until it is this process's turn again.
    pub(crate) fn wait(&self, id: Id, pause: Pause) {
        if suspend(pause) == Resume::Die {
            self.over(id);
        }
    }

    /// The death of a process that the explorer chose.
    fn kill(&self, id: Id) -> ! {
        {
            let mut state = self.state.borrow_mut();
            state.processes[id].status = Status::Dead;
            state.unswept |= 1 << id;
            state.hands.retain(|_, holder| *holder != id);
            state.log(|state| format!("-- {} is killed", state.processes[id].name));
        }
        self.over(id)
    }

    /// Unwinds a process whose stores count no more.
    fn over(&self, id: Id) -> ! {
        {
            let mut state = self.state.borrow_mut();
            state.processes[id].is_dying = true;
            state.processes[id].delayed.clear();
        }
        resume_unwind(Box::new(Killed))
    }

    /// Ends the run as a failure, and with it the process that found it.
    pub(crate) fn fail(&self, id: Id, why: String) -> ! {
        self.state.borrow_mut().fail(why);
        self.over(id)
    }

    fn is_dying(&self, id: Id) -> bool {
        self.state
            .try_borrow()
            .map_or(true, |state| state.processes[id].is_dying)
    }

    /// A store or a read-modify-write of a process.
    fn changed(
        &self,
        word: &dyn Word,
        change: Change<'_>,
        sees: bool,
        place: &'static Location<'static>,
    ) -> (u64, bool) {
        let Some((id, number)) = self.step_of(word) else {
            return apply(word, change);
        };
        if self.is_dying(id) {
            return (word.read(), false);
        }
        let wide = word.width() == 8;
        let (class, yields_to) = {
            let mut state = self.state.borrow_mut();
            let class = if word.width() < 4 {
                Class::Shown
            } else {
                state.words.class(number)
            };
            let others = if class == Class::Shown {
                0
            } else {
                state.touches_others(id, number, true)
            };
            (class, others)
        };
        if class == Class::Shown {
            return self.shown(word, number, change);
        }
        self.point(id, true, yields_to);
        let mut state = self.state.borrow_mut();
        state.processes[id].loads = 0;
        let site = state.sites.of(place);
        if !state.processes[id].is_beginning {
            if state.reached.len() <= site.0 {
                state.reached.resize(site.0 + 1, false);
            }
            state.reached[site.0] = true;
        }
        // Beginnings are as they should be: what they make is what the scenario is about.
        let mutant = state.mutant.filter(|_| !state.processes[id].is_beginning);
        let delay = match mutant {
            Some(Mutant::Late(late, delay)) if late == site => Some(delay),
            _ => None,
        };
        let is_late = delay.is_some();
        let same_word = state.processes[id]
            .delayed
            .iter()
            .any(|delayed| delayed.number == number);
        if same_word && !is_late {
            // A processor keeps the stores to one word in order.
            state.catch_up(&self.world, id);
        }
        let old = state.read(&self.world, id, number, wide);
        let new = change(old);
        let kind = if sees { mix(old, 2) } else { 1 };
        state.remember(id, mix(mix(number as u64, kind), new.unwrap_or(u64::MAX)));
        let Some(value) = new else {
            state.log(|state| state.line(id, place, number, "is not what it wants, but", old));
            return (old, false);
        };
        if mutant == Some(Mutant::Dropped(site)) {
            state.log(|state| state.line(id, place, number, "should become, and does not,", value));
            return (old, true);
        }
        if let Some(delay) = delay {
            state.processes[id].delay = delay;
            state.log(|state| state.line(id, place, number, "will be, later,", value));
            state.processes[id].delayed.push(Delayed {
                number,
                wide,
                value,
            });
            return (old, true);
        }
        state.write(&self.world, number, wide, value);
        state.log(|state| state.line(id, place, number, "<-", value));
        let process = &mut state.processes[id];
        let mut catches_up = false;
        if class == Class::Strong && !process.delayed.is_empty() {
            process.delay = process.delay.saturating_sub(1);
            catches_up = process.delay == 0;
        }
        drop(state);
        if catches_up {
            self.point(id, true, ANYBODY);
            let mut state = self.state.borrow_mut();
            state.catch_up(&self.world, id);
            state.log(|state| format!("{}: what was delayed is stored", state.processes[id].name));
        }
        (old, true)
    }

    /// A change of what is only shown: no step, but undone before the next run.
    fn shown(&self, word: &dyn Word, number: usize, change: Change<'_>) -> (u64, bool) {
        let mut state = self.state.borrow_mut();
        let old = word.read();
        let Some(value) = change(old) else {
            return (old, false);
        };
        if word.width() < 4 {
            word.write(value);
        } else {
            state.write(&self.world, number, word.width() == 8, value);
            state.changes -= 1;
        }
        (old, true)
    }
}

/// A change that nobody watches.
fn apply(word: &dyn Word, change: Change<'_>) -> (u64, bool) {
    let old = word.read();
    match change(old) {
        Some(value) => {
            word.write(value);
            (old, true)
        }
        None => (old, false),
    }
}

impl Driver for Machine {
    fn load(&self, word: &dyn Word, _place: &'static Location<'static>) -> u64 {
        let Some((id, number)) = self.step_of(word) else {
            return word.read();
        };
        if self.is_dying(id) || word.width() < 4 {
            return word.read();
        }
        let yields_to = {
            let mut state = self.state.borrow_mut();
            if state.words.class(number) == Class::Shown {
                return word.read();
            }
            state.processes[id].loads += 1;
            if state.processes[id].loads > LOADS_MAX {
                drop(state);
                self.fail(id, "it runs in circles".to_owned());
            }
            state.touches_others(id, number, false)
        };
        if yields_to != 0 {
            self.point(id, false, yields_to);
        }
        let mut state = self.state.borrow_mut();
        let value = state.read(&self.world, id, number, word.width() == 8);
        state.remember(id, mix(mix(number as u64, 3), value));
        value
    }

    fn store(&self, word: &dyn Word, value: u64, place: &'static Location<'static>) {
        self.changed(word, &|_| Some(value), false, place);
    }

    fn change(
        &self,
        word: &dyn Word,
        change: Change<'_>,
        place: &'static Location<'static>,
    ) -> (u64, bool) {
        self.changed(word, change, true, place)
    }

    fn pause(&self) {
        let Some(id) = self.running.get() else { return };
        if self.is_dying(id) {
            return;
        }
        {
            let mut state = self.state.borrow_mut();
            state.catch_up(&self.world, id);
            // What changed while it looked may be what it waits for: only if nothing did since its last pause, it need not look.
            let changes = state.changes;
            let last = std::mem::replace(&mut state.processes[id].last_pause, changes);
            state.processes[id].status = Status::Paused(last);
        }
        self.wait(id, Pause::Waiting);
    }

    fn before_call(&self) {
        if let Some(id) = self.running.get()
            && !self.is_dying(id)
        {
            self.point(id, false, ANYBODY);
        }
    }

    fn after_call(&self, outcome: u64, changes: bool) {
        if let Some(id) = self.running.get()
            && !self.is_dying(id)
        {
            let mut state = self.state.borrow_mut();
            state.remember(id, mix(outcome, 4));
            state.changes += u64::from(changes);
        }
    }

    fn mutated(&self, mistake: &str) -> bool {
        // What the explorer does itself is without mistake.
        self.running.get().is_some()
            && matches!(self.state.borrow().mutant, Some(Mutant::Mistake(name)) if name == mistake)
    }
}

impl Machine {
    /// A process has an mbuf in hand now.
    pub(crate) fn acquire(&self, id: Id, index: u32) {
        let before = self.state.borrow_mut().hands.insert(index, id);
        if let Some(other) = before {
            let name = self.state.borrow().processes[other].name;
            self.fail(
                id,
                format!(
                    "mbuf {} is in hand twice, of {name} as well",
                    index & 0xff_ffff
                ),
            );
        }
    }

    /// A process is about to let an mbuf go.
    pub(crate) fn release(&self, id: Id, index: u32) {
        let mut state = self.state.borrow_mut();
        if state.hands.get(&index) == Some(&id) {
            state.hands.remove(&index);
        }
    }

    /// Waits for a death that nobody swept after.
    pub(crate) fn await_death(&self, id: Id) {
        {
            let mut state = self.state.borrow_mut();
            state.catch_up(&self.world, id);
            state.processes[id].status = Status::AwaitsDeath(state.changes);
        }
        self.wait(id, Pause::Waiting);
    }

    /// Waits until the doorbell of the slot is rung, if it takes for ever.
    pub(crate) fn await_bell(&self, id: Id, slot: SlotId) {
        {
            let mut state = self.state.borrow_mut();
            state.catch_up(&self.world, id);
            state.processes[id].status = Status::Asleep(slot);
            state.log(|state| format!("-- {} sleeps", state.processes[id].name));
        }
        self.wait(id, Pause::Waiting);
    }

    /// A sweep begins: it takes care of all who are dead by now.
    pub(crate) fn sweep_begins(&self, id: Id) {
        let mut state = self.state.borrow_mut();
        state.processes[id].sweeping = state.unswept;
    }

    /// It has ended.
    pub(crate) fn sweep_ends(&self, id: Id) {
        let mut state = self.state.borrow_mut();
        let swept = std::mem::take(&mut state.processes[id].sweeping);
        state.unswept &= !(swept | OVERLOOKED);
        // Somebody who wants a slot locks its byte for a moment, and hides a death by it: a guard looks again.
        let held = |slot| {
            let processes = &state.processes;
            processes.iter().any(|process| process.region.holds(slot))
        };
        let overlooked = eal::SlotId::all()
            .any(|slot| self.world.read(Words::slot(slot.index())) & 0xff == 1 && !held(slot));
        if overlooked {
            state.unswept |= OVERLOOKED;
        }
    }

    /// Keeps what it has, and does nothing any more.
    pub(crate) fn rest(&self, id: Id) -> ! {
        self.point(id, true, ANYBODY);
        {
            let mut state = self.state.borrow_mut();
            state.catch_up(&self.world, id);
            state.processes[id].status = Status::Resting;
        }
        loop {
            self.wait(id, Pause::Waiting);
        }
    }
}
