//! What simulated processes are made of: the calls of a real one, and a note of what it has in hand.
//!
//! An mbuf is noted when a call has given it to the process, and struck off before the call that takes it away. So two
//! processes that hold one are found at once, whatever the memory says.

use std::sync::atomic::Ordering;
use std::time::Duration;

use eal::process::SlotSet;
use eal::sleep::{Bell, Cause, SLEEP_MAX, WaitSet, sleep};
use eal::{Region, Slot, SlotId};
use mbuf::sweep::{PHASES, Phase, sweep_phases};
use mbuf::{Burst, Lcore, Mbuf, MbufConsumer, MbufProducer, Pool};
use ring::Ring;

use crate::coroutine::Pause;
use crate::machine::Machine;
use crate::mutant::Mutant;
use crate::state::Id;
use crate::world::PRIMARIES;

/// The one pool of a scenario.
pub(crate) const POOL: &str = "pool";

/// A process, as its own code sees it.
pub(crate) struct Script {
    machine: &'static Machine,
    id: Id,
    pub(crate) region: &'static Region,
}

impl Script {
    pub(crate) fn new(machine: &'static Machine, id: Id) -> Self {
        let region = machine.state.borrow().processes[id].region;
        Self {
            machine,
            id,
            region,
        }
    }

    /// Takes a slot, and becomes its thread.
    pub(crate) fn join(&self) -> Lcore {
        Lcore::new(Slot::claim(self.region, "model").expect("there are slots"))
    }

    /// The pool.
    pub(crate) fn pool(&self) -> Pool {
        Pool::lookup(self.region, POOL).expect("the setup made it")
    }

    /// A ring.
    pub(crate) fn ring(&self, name: &str) -> Ring<'static> {
        Ring::lookup(self.region, name).expect("the setup made it")
    }

    /// The end of a ring that packets go into.
    pub(crate) fn sender(&self, ring: &str, lcore: &Lcore) -> MbufProducer<'static> {
        let end = self.ring(ring).producer(lcore.owner());
        MbufProducer::new(end.expect("nobody else has it"))
    }

    /// The end of a ring that packets come out of.
    pub(crate) fn receiver(&self, ring: &str, lcore: &Lcore) -> MbufConsumer<'static> {
        let end = self.ring(ring).consumer(lcore.owner());
        MbufConsumer::new(end.expect("nobody else has it"))
    }

    /// What follows is explored.
    pub(crate) fn ready(&self) {
        let is_beginning = self.machine.state.borrow().processes[self.id].is_beginning;
        if is_beginning {
            self.machine.wait(self.id, Pause::Ready);
        }
    }

    /// Keeps what it has, and does nothing any more.
    pub(crate) fn rest(&self) -> ! {
        self.machine.rest(self.id)
    }

    /// All mbufs of a packet, as the memory lists them, by a look that is no step.
    fn segments(&self, head: u32) -> Vec<u32> {
        let state = self.machine.state.borrow();
        let mut segments = vec![head];
        while segments.len() < 8 {
            let last = segments[segments.len() - 1];
            let pools = &state.words.pools;
            let found = pools
                .iter()
                .find_map(|pool| Some((pool, pool.number(last)?)));
            let Some((pool, number)) = found else { break };
            let Some(next) = pool.next(&self.machine.world, number) else {
                break;
            };
            segments.push(next);
        }
        segments
    }

    /// Notes that it has a packet.
    pub(crate) fn take(&self, mbuf: &Mbuf<'_>) {
        for index in self.segments(mbuf.index().bits()) {
            self.machine.acquire(self.id, index);
        }
    }

    /// Notes that it is about to let a packet go.
    pub(crate) fn let_go(&self, mbuf: &Mbuf<'_>) {
        for index in self.segments(mbuf.index().bits()) {
            self.machine.release(self.id, index);
        }
    }

    /// Takes one mbuf from the pool.
    pub(crate) fn alloc<'c>(&self, lcore: &'c Lcore, pool: Pool) -> Option<Mbuf<'c>> {
        let mbuf = lcore.alloc(pool)?;
        self.take(&mbuf);
        Some(mbuf)
    }

    /// Takes several at once.
    pub(crate) fn alloc_burst<'c>(&self, lcore: &'c Lcore, pool: Pool, count: usize) -> Burst<'c> {
        let mut burst = Burst::new(lcore);
        lcore.alloc_burst(pool, &mut burst, count);
        burst.iter().for_each(|mbuf| self.take(&mbuf));
        burst
    }

    /// Gives one back.
    pub(crate) fn free(&self, mbuf: Mbuf<'_>) {
        self.let_go(&mbuf);
        drop(mbuf);
    }

    /// Gives all back.
    pub(crate) fn free_burst(&self, burst: Burst<'_>) {
        burst.iter().for_each(|mbuf| self.let_go(&mbuf));
        drop(burst);
    }

    /// Sends what fits, and gives back the rest.
    pub(crate) fn send_burst(&self, ring: &mut MbufProducer<'_>, mut burst: Burst<'_>) {
        burst.iter().for_each(|mbuf| self.let_go(&mbuf));
        let _ = ring.enqueue_burst(&mut burst);
        drop(burst);
    }

    /// Sends one packet, or gives it back.
    pub(crate) fn send(&self, ring: &mut MbufProducer<'_>, mbuf: Mbuf<'_>) {
        self.let_go(&mbuf);
        drop(ring.enqueue(mbuf));
    }

    /// Receives what there is.
    pub(crate) fn receive<'c>(&self, ring: &mut MbufConsumer<'_>, lcore: &'c Lcore) -> Burst<'c> {
        let mut burst = Burst::new(lcore);
        let _ = ring.dequeue_burst(lcore, &mut burst);
        burst.iter().for_each(|mbuf| self.take(&mbuf));
        burst
    }

    /// Sleeps until there may be something in the ring.
    pub(crate) fn sleep(&self, ring: &mut MbufConsumer<'_>, lcore: &Lcore) {
        let bell = ModelBell {
            script: self,
            slot: lcore.slot_id(),
        };
        sleep(&bell, ring, false, SLEEP_MAX);
    }

    /// What a guard does: waits for deaths and sweeps, for ever.
    pub(crate) fn guard(&self, lcore: &Lcore) -> ! {
        self.guard_and(lcore, || {}, || {})
    }

    /// The same, and what it does besides before each sweep and after.
    pub(crate) fn guard_and(&self, lcore: &Lcore, before: impl Fn(), after: impl Fn()) -> ! {
        loop {
            self.machine.await_death(self.id);
            self.machine.sweep_begins(self.id);
            before();
            self.sweep(lcore);
            after();
            self.machine.sweep_ends(self.id);
        }
    }

    /// Sweeps once after all who are dead, and once more after what the sweep tells of.
    fn sweep(&self, lcore: &Lcore) {
        let mutant = self.machine.state.borrow().mutant;
        let mut also = SlotSet::default();
        for _ in 0..2 {
            also = sweep(self.region, lcore, also, mutant);
            if also.is_empty() {
                break;
            }
        }
    }

    /// Notes an mbuf that a device has.
    pub(crate) fn take_index(&self, index: u32) {
        self.machine.acquire(self.id, index);
    }

    /// Strikes it off.
    pub(crate) fn let_go_index(&self, index: u32) {
        self.machine.release(self.id, index);
    }
}

/// The doorbell of a slot: a word. The time of who waits for it never ends, so that a ring that was missed is seen.
struct ModelBell<'s> {
    script: &'s Script,
    slot: SlotId,
}

impl Bell for ModelBell<'_> {
    fn wait(&self, _others: &WaitSet<'_>, _timeout: Duration) -> Cause {
        self.script.machine.await_bell(self.script.id, self.slot);
        Cause::Rung
    }

    fn clear(&self) {
        let record = &self.script.region.slots()[self.slot.index()];
        record.bell().store(0, Ordering::Relaxed);
    }
}

/// A sweep, or one that a mutant has twisted; gives the slots to sweep next.
fn sweep(region: &'static Region, lcore: &Lcore, also: SlotSet, mutant: Option<Mutant>) -> SlotSet {
    let Some(Mutant::Mistake(mistake)) = mutant else {
        let report = mbuf::sweep::sweep(region, lcore, also);
        return report
            .expect("it is the primary")
            .map_or(also_none(), |report| report.strays);
    };
    // A mistake may leave some of the dead out: then it is made again.
    let mut strays = also_none();
    for also in [also, also_none(), also_none()] {
        let dead = region.claim_dead(also).expect("it is the primary");
        if dead.is_empty() {
            dead.finish();
            break;
        }
        strays = sweep_phases(region, lcore, dead, &phases(mistake)).strays;
    }
    strays
}

fn also_none() -> SlotSet {
    SlotSet::default()
}

/// Mistakes in the order of phases, by name.
pub(crate) const ORDERS: &[(&str, &[Phase])] = &[
    (
        "sweep without lanes",
        &[Phase::Magazines, Phase::Note, Phase::Scan, Phase::Wake],
    ),
    (
        "sweep without magazines",
        &[Phase::Lanes, Phase::Note, Phase::Scan, Phase::Wake],
    ),
    (
        "sweep without note",
        &[Phase::Lanes, Phase::Magazines, Phase::Scan, Phase::Wake],
    ),
    (
        "sweep without scan",
        &[Phase::Lanes, Phase::Magazines, Phase::Note, Phase::Wake],
    ),
    (
        "lanes after the scan",
        &[
            Phase::Magazines,
            Phase::Note,
            Phase::Scan,
            Phase::Lanes,
            Phase::Wake,
        ],
    ),
    (
        "magazines after the scan",
        &[
            Phase::Lanes,
            Phase::Note,
            Phase::Scan,
            Phase::Magazines,
            Phase::Wake,
        ],
    ),
    (
        "note after the scan",
        &[
            Phase::Lanes,
            Phase::Magazines,
            Phase::Scan,
            Phase::Note,
            Phase::Wake,
        ],
    ),
    (
        "sweep without wake",
        &[Phase::Lanes, Phase::Magazines, Phase::Note, Phase::Scan],
    ),
];

fn phases(mistake: &str) -> Vec<Phase> {
    let order = ORDERS.iter().find(|(name, _)| *name == mistake);
    order.map_or(PHASES.to_vec(), |(_, phases)| phases.to_vec())
}

/// All who live are killed at once, another primary sweeps, and all mbufs that no device has must be to be had.
pub(crate) fn all_die_and_all_is_there(machine: &'static Machine) -> Result<(), String> {
    for process in &machine.state.borrow().processes {
        process.region.forget_slots();
    }
    let region = machine.world.regions[PRIMARIES - 1];
    let slot = Slot::claim(region, "last").map_err(|error| error.to_string())?;
    let lcore = Lcore::new(slot);
    mbuf::sweep::sweep(region, &lcore, SlotSet::default()).map_err(|error| error.to_string())?;
    let state = machine.state.borrow();
    for words in &state.words.pools {
        let given =
            (0..words.count).filter(|number| machine.world.read(words.tag(*number)) >> 24 == 2);
        let expected = words.count - given.count();
        let pool = Pool::all(region)
            .find(|pool| u32::from(pool.id()) == words.id)
            .ok_or("the pool is gone")?;
        let mut burst = Burst::new(&lcore);
        lcore.alloc_burst(pool, &mut burst, words.count);
        if burst.len() != expected {
            return Err(format!("{} of {expected} mbufs are to be had", burst.len()));
        }
    }
    Ok(())
}
