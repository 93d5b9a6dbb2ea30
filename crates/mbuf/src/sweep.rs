//! After a death: every buffer that the dead held is given back, while all others run.
//!
//! ```text
//! 1. choose    dead slots -> SWEEPING            eal: `Region::claim_dead`
//! 2. lanes     rings that nobody living consumes are emptied; what the dead had claimed of many consumers' rings is taken over
//! 3. magazines of the dead: what is listed is free, then the magazine is
//! 4. note      what is listed in any ring is not in a dead one's hands
//! 5. scan      what carries a dead one's tag and was not noted is free
//! 6. wake      consumers of rings that are not empty: who published and died may not have rung
//! 7. free      slots -> FREE
//! ```
//!
//! | word               | written by                                                        |
//! |--------------------|-------------------------------------------------------------------|
//! | state of a slot    | the primary                                                       |
//! | tags of the dead   | this sweep, and a living consumer that takes from a ring          |
//! | magazines of the dead | this sweep                                                     |
//! | heads of rings that nobody consumes | this sweep, which has claimed that end           |
//! | claims of the dead in rings of many consumers | this sweep, which alone closes them    |
//!
//! All dead slots are swept as one set, phase by phase. The order is what makes it right; `docs/protocol.md`, section 4, says why,
//! and the crash model runs this code with each phase left out or moved. Three things differ from what is said there. Lanes are
//! found by their consumer, who is dead or nobody, not by slots: so slots that are FREE need not be swept with the rest, and a
//! newcomer finds a slot at once. And *all* rings are noted: a slot's number changes hands, and with it the tags of what a
//! former occupant left in a ring. And device queues are not its business: [`frames`](crate::frames) says why.
//!
//! **If a process dies:** the sweeper, anywhere: its slot is dead like any other, slots that it claimed stay SWEEPING, and
//! the next primary starts again at 1 with all of them as one set. Every step can be repeated: what was given back is tagged
//! `POOL`, what the sweeper had in hand carries its tag.

use std::fmt;

use eal::holder::{Holder, HolderKind};
use eal::process::SlotSet;
use eal::region::{DeadSlots, Region};
use eal::sync::mutated;
use eal::{SlotId, SlotState, ZoneKind};
use ring::Ring;

use crate::SEGMENTS_MAX;
use crate::burst::Burst;
use crate::error::Error;
use crate::handoff::{MbufConsumer, take_over};
use crate::index::MbufIndex;
use crate::lcore::Lcore;
use crate::pool::Pool;

/// Mbufs given back at a time by the scan.
const BATCH: usize = 32;

/// Bursts that emptying a ring may take beyond what waits there when it begins.
const MORE_BURSTS: usize = 2;

/// A step of the sweep, between choosing the slots and giving them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Empty the rings that nobody living consumes.
    Lanes,
    /// Give the magazines of the dead back.
    Magazines,
    /// Note what lies in rings.
    Note,
    /// Free what the dead had in hand.
    Scan,
    /// Wake who may sleep over what the dead published.
    Wake,
}

/// The phases in the order that is right.
pub const PHASES: [Phase; 5] = [
    Phase::Lanes,
    Phase::Magazines,
    Phase::Note,
    Phase::Scan,
    Phase::Wake,
];

/// What a sweep gave back, by the place where it was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The slots that were swept.
    pub slots: SlotSet,
    /// Mbufs that the dead had in hand.
    pub in_hand: u32,
    /// Mbufs that lay in their magazines.
    pub magazines: u32,
    /// Packets in rings that they consumed, or that nobody did.
    pub rings: u32,
    /// Mbufs whose tag changed under the sweep: somebody scribbles.
    pub corrupt: u32,
    /// Rings and pools that could not be opened, so that what the dead had in hand was left alone.
    pub unreadable: u32,
    /// FREE slots whose tag some mbuf carries that lies nowhere: to be swept too.
    pub strays: SlotSet,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slots,
            in_hand,
            magazines,
            rings,
            ..
        } = self;
        if slots.is_empty() {
            return write!(f, "{rings} packets in rings that nobody consumes");
        }
        write!(
            f,
            "slots {slots}: {in_hand} buffers in hand, {magazines} in magazines, {rings} in rings"
        )?;
        if self.corrupt > 0 {
            write!(
                f,
                ", {} changed under the sweep and left alone",
                self.corrupt
            )?;
        }
        if self.unreadable > 0 {
            write!(
                f,
                "; what they had in hand stays out, since {} rings or pools are damaged: restart the group when you can",
                self.unreadable
            )?;
        }
        Ok(())
    }
}

/// Sweeps after all that are dead, as one set, and after the FREE slots of `also`; `None` if there are none. For the primary,
/// on a thread that does nothing else with `lcore`, whose process must hold the group's lock.
///
/// # Errors
///
/// [`eal::Error::NotPrimary`].
pub fn sweep(
    region: &'static Region,
    lcore: &Lcore,
    also: SlotSet,
) -> Result<Option<Report>, eal::Error> {
    let dead = region.claim_dead(also)?;
    if dead.is_empty() {
        if !has_orphans(region) {
            return Ok(None);
        }
        // What a consumer that ended well left in its ring, and a late burst of its producer.
        return Ok(Some(sweep_phases(region, lcore, dead, &[Phase::Lanes])));
    }
    Ok(Some(sweep_phases(region, lcore, dead, &PHASES)))
}

/// Whether packets wait in a ring that nobody consumes.
pub fn has_orphans(region: &'static Region) -> bool {
    Ring::all(region)
        .filter(Ring::carries_mbufs)
        .any(|ring| ring.consumer_owner() == eal::Owner::NONE && ring.len() > 0)
}

/// A sweep of chosen slots in a chosen order of phases: for the model, which shows that no other order will do.
#[doc(hidden)]
pub fn sweep_phases(
    region: &'static Region,
    lcore: &Lcore,
    dead: DeadSlots<'_>,
    phases: &[Phase],
) -> Report {
    let mut sweep = Sweep {
        region,
        lcore,
        report: Report {
            slots: dead.slots(),
            ..Report::default()
        },
        dead,
        // Read once: a ring that begins to carry mbufs now is treated alike throughout.
        rings: Ring::all(region)
            .map(|ring| (ring, ring.carries_mbufs()))
            .collect(),
        pools: Pool::all(region).map(Noted::new).collect(),
    };
    for noted in &sweep.pools {
        // Or packets of a pool that this thread looked for in vain before would be refused.
        lcore.meet_again(&noted.pool);
    }
    sweep.report.unreadable = sweep.unreadable();
    for phase in phases {
        // What lies in a ring or pool that cannot be looked into cannot be noted: rather keep too much than free too much.
        if *phase != Phase::Scan || sweep.report.unreadable == 0 {
            sweep.run(*phase);
        }
    }
    // Nothing stays with a thread that sleeps until the next death.
    lcore.give_magazines_back();
    sweep.dead.finish();
    sweep.report
}

/// A sweep under way.
struct Sweep<'s> {
    region: &'static Region,
    lcore: &'s Lcore,
    dead: DeadSlots<'s>,
    /// All rings, and whether they carry mbufs.
    rings: Vec<(Ring<'static>, bool)>,
    pools: Vec<Noted>,
    report: Report,
}

/// A pool, and which of its mbufs lie in rings: private to the sweep.
struct Noted {
    pool: Pool,
    bits: Vec<u64>,
}

impl Noted {
    fn new(pool: Pool) -> Self {
        let words = (pool.count() as usize).div_ceil(64);
        Self {
            pool,
            bits: vec![0; words],
        }
    }

    fn note(&mut self, number: u32) {
        if let Some(word) = self.bits.get_mut(number as usize / 64) {
            *word |= 1 << (number % 64);
        }
    }

    fn has(&self, number: usize) -> bool {
        self.bits
            .get(number / 64)
            .is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

impl Sweep<'_> {
    fn run(&mut self, phase: Phase) {
        match phase {
            Phase::Lanes => self.lanes(),
            Phase::Magazines => self.magazines(),
            Phase::Note => self.note(),
            Phase::Scan => self.scan(),
            Phase::Wake => self.wake(),
        }
    }

    /// Takes over what dead consumers of many had claimed, then empties each ring whose consumers are dead or nobody. A successor
    /// that claims the end first finds all there, and what it takes it tags.
    fn lanes(&mut self) {
        self.claims();
        // Rings of other things, and those that nobody has sent by yet, are closed, so that producers see that nobody comes; what
        // lies in them is for the next consumer.
        for (ring, _) in self.rings.iter().filter(|(_, mbufs)| !mbufs) {
            let owner = ring.consumer_owner();
            if owner != eal::Owner::NONE && !self.region.owner_alive(owner) {
                drop(ring.drain(self.lcore.owner()));
            }
        }
        for (ring, _) in self.rings.iter().filter(|(_, mbufs)| *mbufs) {
            let owner = ring.consumer_owner();
            let is_consumed = ring.consumers().any(|owner| self.region.owner_alive(owner));
            if is_consumed || (owner == eal::Owner::NONE && ring.len() == 0) {
                continue;
            }
            // Taken by a successor meanwhile, or damaged: then what lies there is noted below.
            let Ok(end) = ring.drain(self.lcore.owner()) else {
                continue;
            };
            let mut end = MbufConsumer::new(end);
            // As many as there are now: a busy producer that has not seen yet that the ring is closed must not hold us up.
            let bursts = end.len().div_ceil(crate::BURST_MAX) * ring.lanes() as usize + MORE_BURSTS;
            let mut burst = Burst::new(self.lcore);
            for _ in 0..bursts {
                let done = end.dequeue_burst(self.lcore, &mut burst);
                self.report.rings += u32::try_from(done.count).unwrap_or(u32::MAX);
                burst.clear();
                if done.left == 0 && end.is_empty() {
                    break;
                }
            }
        }
    }

    /// What the dead had claimed: tag, then close, then free. The claim names them until it is closed, so that whoever sweeps after
    /// this one finds what it has not closed.
    fn claims(&mut self) {
        if mutated("the sweep leaves claims") {
            return;
        }
        for (ring, mbufs) in &self.rings {
            ring.forget_dead_consumers();
            // A claim of a slot that is FREE was left by one who ended without closing it.
            let is_gone = |slot: SlotId| {
                self.dead.contains(slot)
                    || self.region.slots()[slot.index()].state().0 == SlotState::Free
            };
            for claim in ring.left_claims(is_gone) {
                if !mbufs {
                    // A number: whoever had it in hand is gone.
                    claim.close();
                    continue;
                }
                let mut burst = Burst::new(self.lcore);
                take_over(self.lcore, &mut burst, claim);
                self.report.rings += u32::try_from(burst.len()).unwrap_or(u32::MAX);
                burst.clear();
            }
        }
    }

    fn magazines(&mut self) {
        let Self { dead, pools, .. } = self;
        let is_dead = |holder: Holder| held_by(holder).is_some_and(|slot| dead.contains(slot));
        for Noted { pool, .. } in pools {
            let (_, entries) = pool
                .rack()
                .free_of(|owner| dead.owns(owner), pool.range(), is_dead);
            self.report.magazines += entries;
        }
    }

    /// Zones of rings and pools that are finished and cannot be opened: somebody scribbled over their headers.
    fn unreadable(&self) -> u32 {
        let (mut rings, mut pools) = (0, 0);
        for zone in self.region.zones() {
            let name = zone.name();
            match zone.kind() {
                ZoneKind::Ring => match Ring::lookup(self.region, name.as_str()) {
                    Ok(_) | Err(ring::Error::Unfinished { .. }) => {}
                    Err(_) => rings += 1,
                },
                ZoneKind::Pool => match Pool::lookup(self.region, name.as_str()) {
                    Ok(_) | Err(Error::Unfinished { .. }) => {}
                    Err(_) => pools += 1,
                },
                ZoneKind::Plain => {}
            }
        }
        rings + pools
    }

    /// Notes what lies in rings, chains walked. Numbers in rings of other things may be noted
    /// too: that frees too little, for a while, and never too much.
    fn note(&mut self) {
        let Self { rings, pools, .. } = self;
        for (ring, _) in rings {
            ring.walk(|item| note_chain(pools, MbufIndex::from_bits(item)));
        }
    }

    /// Frees what carries a dead one's tag and was not noted.
    fn scan(&mut self) {
        let Self {
            dead,
            pools,
            lcore,
            report,
            region,
            ..
        } = self;
        for noted in pools.iter() {
            let range = noted.pool.range();
            let mut batch = Vec::with_capacity(BATCH);
            for (number, tag) in range.tags.iter().enumerate() {
                // Read once: the tag that is judged is the one that is swapped.
                let seen = tag.read();
                let Some(slot) = held_by(seen.holder()) else {
                    continue;
                };
                if noted.has(number) {
                    continue;
                }
                if !dead.contains(slot) && !mutated("the scan takes what the living hold") {
                    if region.slots()[slot.index()].state().0 == SlotState::Free {
                        report.strays.insert(slot);
                    }
                    continue;
                }
                if !tag.set_from(seen, lcore.holder()) {
                    report.corrupt += 1;
                    continue;
                }
                report.in_hand += 1;
                // In range: a pool has at most 2^24 mbufs.
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                batch.push(MbufIndex::new(noted.pool.id(), number).bits());
                if batch.len() == BATCH {
                    lcore.give_back(&noted.pool, &batch);
                    batch.clear();
                }
            }
            lcore.give_back(&noted.pool, &batch);
        }
    }
}

impl Sweep<'_> {
    /// Rings for every ring that is not empty, whether its consumer says that it sleeps or not: whose lane of it is a dead one's
    /// need not be looked at, since a ring too many wakes somebody for nothing, and one too few leaves him asleep.
    fn wake(&self) {
        for (ring, _) in &self.rings {
            if ring.len() > 0 {
                let consumers = ring.consumers().filter_map(eal::Owner::slot);
                consumers.for_each(|slot| self.region.ring_doorbell(slot));
            }
        }
    }
}

/// The slot that a tag names.
fn held_by(holder: Holder) -> Option<SlotId> {
    match holder.kind() {
        HolderKind::Slot(slot) => Some(slot),
        _ => None,
    }
}

/// Notes an mbuf that lies in a ring, and its segments. Links may change under us, when a living consumer takes the packet: then
/// more is noted than needed.
fn note_chain(pools: &mut [Noted], head: MbufIndex) {
    let mut next = Some(head);
    for _ in 0..SEGMENTS_MAX {
        let Some(index) = next else { return };
        let Some(noted) = pools
            .iter_mut()
            .find(|noted| noted.pool.id() == index.pool())
        else {
            return;
        };
        noted.note(index.number());
        next = noted
            .pool
            .next(index)
            .filter(|_| !mutated("the note does not follow chains"));
    }
}
