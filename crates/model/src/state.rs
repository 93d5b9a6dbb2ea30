//! Everything that changes while a scenario runs: processes, memory, choices, what was seen.
//!
//! A state that was seen before, with at least as many preemptions left, is not gone on with. Two states are one if the memory
//! is, if every process has seen the same values in the same order (then its own variables are the same too), and if the same
//! processes are dead.

use std::collections::{BTreeMap, HashMap};
use std::panic::Location;

use eal::{Region, SlotId};

use crate::mutant::{Mutant, Sites};
use crate::words::{Class, Words};
use crate::world::World;

/// Number of a simulated process.
pub(crate) type Id = usize;

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Its time has not come.
    Unstarted,
    /// It has something to do.
    Runnable,
    /// It waits for a death that was not swept after, or for a change after so many of them if one was overlooked.
    AwaitsDeath(u64),
    /// It waits until there were more changes than so many.
    Paused(u64),
    /// It waits until the doorbell of its slot is rung.
    Asleep(SlotId),
    /// It lives, keeps what it has, and does nothing any more.
    Resting,
    /// It ended by itself.
    Done,
    /// It was killed.
    Dead,
}

/// A store that waits for its mutant's delay.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delayed {
    pub(crate) number: usize,
    pub(crate) wide: bool,
    pub(crate) value: u64,
}

/// A simulated process, as the machine knows it.
pub(crate) struct Process {
    pub(crate) name: &'static str,
    pub(crate) region: &'static Region,
    /// Where it maps the data part and the control part, and how long they are.
    pub(crate) maps: [(usize, usize); 2],
    pub(crate) status: Status,
    pub(crate) killable: bool,
    /// Its steps are not explored yet.
    pub(crate) is_beginning: bool,
    /// From here on its stores do nothing.
    pub(crate) is_dying: bool,
    /// All that it has seen and done, as one number.
    pub(crate) history: u64,
    pub(crate) delayed: Vec<Delayed>,
    /// Stores until they take effect.
    pub(crate) delay: u8,
    /// Deaths that the sweep that it is in the middle of takes care of, a bit each.
    pub(crate) sweeping: u32,
    pub(crate) loads: u32,
    /// Changes when it last began to wait.
    pub(crate) last_pause: u64,
}

impl Process {
    pub(crate) fn new(name: &'static str, region: &'static Region, killable: bool) -> Self {
        Self {
            name,
            region,
            maps: [region.data_words(), region.control_words()]
                .map(|words| (words.as_ptr().addr(), size_of_val(words))),
            status: Status::Unstarted,
            killable,
            is_beginning: false,
            is_dying: false,
            history: 0,
            delayed: Vec::new(),
            delay: 0,
            sweeping: 0,
            loads: 0,
            last_pause: 0,
        }
    }
}

/// A choice that was made, and among how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) taken: u8,
    pub(crate) of: u8,
}

/// All choices of a run: those to repeat, and behind them the first one each time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trail {
    pub(crate) choices: Vec<Choice>,
    next: usize,
}

impl Trail {
    /// From the start again.
    pub(crate) fn rewind(&mut self) {
        self.next = 0;
    }

    /// Turns to the next trail: the last choice that has another alternative takes it. `false` at the end of all.
    pub(crate) fn advance(&mut self) -> bool {
        while let Some(last) = self.choices.last_mut() {
            last.taken += 1;
            if last.taken < last.of {
                return true;
            }
            self.choices.pop();
        }
        false
    }
}

/// What a process does at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Go,
    Die,
    Yield(Id),
}

/// Everything that changes while a scenario runs.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) words: Words,
    pub(crate) processes: Vec<Process>,
    /// What each word was when the scenario began.
    pub(crate) base: Vec<u32>,
    dirty: Vec<usize>,
    is_dirty: Vec<bool>,
    /// The memory as one number.
    memory: u64,
    pub(crate) changes: u64,
    /// Who was seen to read and to write each word, a bit each: what choices go by, and what was seen since.
    pub(crate) shared: Masks,
    pub(crate) seen: Masks,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) sites: Sites,
    /// Sites of this scenario, by number.
    pub(crate) reached: Vec<bool>,
    pub(crate) trail: Trail,
    pub(crate) preemptions_left: u8,
    pub(crate) deaths_left: u8,
    pub(crate) visited: HashMap<u64, u8>,
    /// The run need not go on: seen before, or failed.
    pub(crate) is_over: bool,
    pub(crate) violation: Option<String>,
    /// Who has which mbuf in hand.
    pub(crate) hands: BTreeMap<u32, Id>,
    /// The dead that no sweep took care of, a bit each.
    pub(crate) unswept: u32,
    /// Who goes on after a preemption.
    pub(crate) next: Option<Id>,
    /// Doorbells that were rung and not emptied, a bit each: what the memory says.
    rung: u64,
    pub(crate) log: Option<Vec<String>>,
    pub(crate) steps: u64,
}

/// Who reads and who writes each word.
#[derive(Debug, Clone, Default)]
pub(crate) struct Masks {
    pub(crate) readers: Vec<u8>,
    pub(crate) writers: Vec<u8>,
}

impl Masks {
    pub(crate) fn new(len: usize) -> Self {
        Self {
            readers: vec![0; len],
            writers: vec![0; len],
        }
    }
}

/// Among the dead: somebody whom the last sweep did not find.
pub(crate) const OVERLOOKED: u32 = 1 << 31;

/// All processes.
pub(crate) const ANYBODY: u8 = u8::MAX;

const fn bit(id: Id) -> u8 {
    1 << id
}

/// Two numbers as one.
pub(crate) const fn mix(a: u64, b: u64) -> u64 {
    let mut x = a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl State {
    /// Everything as it was when the scenario began.
    pub(crate) fn restore(&mut self, world: &World) {
        for number in self.dirty.drain(..) {
            world.write(number, self.base[number]);
            self.is_dirty[number] = false;
        }
        self.memory = 0;
        self.changes = 0;
        self.hands.clear();
        self.unswept = 0;
        self.next = None;
        self.rung = 0;
        self.is_over = false;
        self.violation = None;
        self.trail.rewind();
    }

    /// The data part as it was, whoever changed it.
    pub(crate) fn restore_all(&self, world: &World) {
        for (number, value) in self.base.iter().enumerate().take(self.words.used) {
            if world.read(number) != *value {
                world.write(number, *value);
            }
        }
    }

    /// Takes the memory as it is for the beginning of a scenario.
    pub(crate) fn begin(&mut self, world: &World, words: Words) {
        self.words = words;
        self.base = world.image();
        self.dirty.clear();
        self.is_dirty = vec![false; world.len()];
        self.shared = Masks::new(world.len());
        self.seen = Masks::new(world.len());
    }

    /// Who may go on.
    pub(crate) fn is_enabled(&self, id: Id) -> bool {
        match self.processes[id].status {
            Status::Runnable => true,
            Status::AwaitsDeath(changes) => {
                self.unswept & !OVERLOOKED != 0 || (self.unswept != 0 && self.changes > changes)
            }
            Status::Paused(changes) => self.changes > changes,
            Status::Asleep(slot) => self.rung & 1 << slot.get() != 0,
            Status::Unstarted | Status::Resting | Status::Done | Status::Dead => false,
        }
    }

    /// All that may go on, but one.
    pub(crate) fn enabled_but(&self, id: Option<Id>) -> impl Iterator<Item = Id> + '_ {
        (0..self.processes.len()).filter(move |other| Some(*other) != id && self.is_enabled(*other))
    }

    /// One of `of`; `None` if this state was seen before.
    pub(crate) fn choose(&mut self, of: usize, point: u64) -> Option<usize> {
        if of == 1 {
            return Some(0);
        }
        if let Some(choice) = self.trail.choices.get(self.trail.next) {
            self.trail.next += 1;
            return Some(usize::from(choice.taken));
        }
        let key = mix(self.digest(), point);
        let left = self.preemptions_left + 1;
        let best = self.visited.entry(key).or_default();
        if *best >= left {
            self.is_over = true;
            return None;
        }
        *best = left;
        let of = u8::try_from(of).unwrap_or(u8::MAX);
        self.trail.choices.push(Choice { taken: 0, of });
        self.trail.next += 1;
        Some(0)
    }

    /// The state as one number.
    pub(crate) fn digest(&self) -> u64 {
        let mut all = mix(self.memory, u64::from(self.unswept));
        for (index, id) in &self.hands {
            all = mix(all, mix(u64::from(*index), *id as u64));
        }
        for process in &self.processes {
            let status = match process.status {
                Status::Unstarted => 1,
                Status::Runnable => 2,
                Status::AwaitsDeath(changes) => 18 + (self.changes > changes) as u64,
                Status::Paused(changes) => 16 + (self.changes > changes) as u64,
                Status::Asleep(_) => 7,
                Status::Resting => 4,
                Status::Done => 5,
                Status::Dead => 6,
            };
            // What one had seen that does nothing any more matters to nobody.
            let history = match process.status {
                Status::Resting | Status::Done | Status::Dead => 0,
                _ => process.history,
            };
            all = mix(all, mix(status, history) ^ u64::from(process.sweeping));
            all = mix(all, u64::from(process.delay));
            for delayed in &process.delayed {
                all = mix(all, mix(delayed.number as u64, delayed.value));
            }
        }
        all
    }

    pub(crate) fn decide(&mut self, id: Id, can_die: bool, yields_to: u8) -> Option<Action> {
        if self.is_over {
            return None;
        }
        let mut actions = [Action::Go; 8];
        let mut count = 1;
        let mut add = |action| {
            if let Some(place) = actions.get_mut(count) {
                *place = action;
                count += 1;
            }
        };
        if can_die && self.deaths_left > 0 && self.processes[id].killable {
            add(Action::Die);
        }
        if yields_to != 0 && self.preemptions_left > 0 {
            self.enabled_but(Some(id))
                .filter(|other| yields_to & bit(*other) != 0)
                .for_each(|other| add(Action::Yield(other)));
        }
        let point = mix(id as u64, u64::from(can_die) | u64::from(yields_to) << 1);
        let action = actions[self.choose(count, point)?];
        match action {
            Action::Go => {}
            Action::Die => self.deaths_left -= 1,
            Action::Yield(_) => self.preemptions_left -= 1,
        }
        Some(action)
    }

    /// Notes an access, and says which others have to do with the word.
    pub(crate) fn touches_others(&mut self, id: Id, number: usize, writes: bool) -> u8 {
        let seen = if writes {
            &mut self.seen.writers
        } else {
            &mut self.seen.readers
        };
        if let Some(seen) = seen.get_mut(number) {
            *seen |= bit(id);
        }
        let others = |mask: &[u8]| mask.get(number).map_or(0, |mask| mask & !bit(id));
        let readers = if writes {
            others(&self.shared.readers)
        } else {
            0
        };
        others(&self.shared.writers) | readers
    }

    pub(crate) fn write(&mut self, world: &World, number: usize, wide: bool, value: u64) {
        let [low, high] =
            [value & 0xffff_ffff, value >> 32].map(|half| u32::try_from(half).unwrap_or(0));
        self.write_half(world, number, low);
        if wide {
            self.write_half(world, number + 1, high);
        }
        self.changes += 1;
    }

    fn write_half(&mut self, world: &World, number: usize, value: u32) {
        let old = world.read(number);
        if old == value {
            return;
        }
        if self.words.class(number) != Class::Shown {
            let term = |value| mix(number as u64 + 1, u64::from(value) + 1);
            self.memory ^= term(old) ^ term(value);
        }
        if let Some(dirty) = self.is_dirty.get_mut(number)
            && !*dirty
        {
            *dirty = true;
            self.dirty.push(number);
        }
        world.write(number, value);
        if let Some(slot) = Words::bell_of(number) {
            self.rung = self.rung & !(1 << slot) | u64::from(value != 0) << slot;
        }
    }

    /// What a process sees in a word: its own delayed stores first.
    pub(crate) fn read(&self, world: &World, id: Id, number: usize, wide: bool) -> u64 {
        let delayed = self.processes[id].delayed.iter().rev();
        let own = delayed
            .filter(|delayed| delayed.number == number)
            .map(|delayed| delayed.value);
        own.into_iter().next().unwrap_or_else(|| {
            if wide {
                world.read_wide(number)
            } else {
                u64::from(world.read(number))
            }
        })
    }

    pub(crate) fn remember(&mut self, id: Id, what: u64) {
        let process = &mut self.processes[id];
        process.history = mix(process.history, what);
    }

    /// Lets the delayed stores of a process take effect.
    pub(crate) fn catch_up(&mut self, world: &World, id: Id) {
        for Delayed {
            number,
            wide,
            value,
        } in std::mem::take(&mut self.processes[id].delayed)
        {
            self.write(world, number, wide, value);
        }
    }

    /// Writes a line of the schedule, if one is kept.
    pub(crate) fn log(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.log.is_some() {
            let line = line(self);
            if let Some(log) = &mut self.log {
                log.push(line);
            }
        }
    }

    /// Ends the run as a failure.
    pub(crate) fn fail(&mut self, why: String) {
        if self.violation.is_none() {
            self.violation = Some(why);
        }
        self.is_over = true;
    }
}

impl State {
    pub(crate) fn line(
        &self,
        id: Id,
        place: &Location<'_>,
        number: usize,
        verb: &str,
        value: u64,
    ) -> String {
        let file = place
            .file()
            .trim_start_matches("crates/")
            .replace("/src/", "/");
        format!(
            "{}: {} {verb} {value:#x}   {file}:{}",
            self.processes[id].name,
            self.words.name(number),
            place.line()
        )
    }
}
