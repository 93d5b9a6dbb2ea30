//! What the group knows of the queues of one port: the zone `port.N.queues`.
//!
//! ```text
//! 0        rx records, 64 x 128    tx records, 64 x 128       owner, cursors, counters
//! 16 KiB   rx details, 64 x 128    tx details, 64 x 128       drops by reason
//! 32 KiB   rx set-up, 64 x 64      tx set-up, 64 x 64         pool, descriptors, edition, driver's word, stand-in
//! ```
//!
//! | part             | written by                                              | read by                |
//! |------------------|---------------------------------------------------------|------------------------|
//! | record: owner    | compare-and-swap from nobody or from a dead owner       | everybody              |
//! | record: wanted   | compare-and-swap: who waits for the stand-in, from nobody or a dead one, and back; the stand-in, back to nobody | the stand-in |
//! | record, details  | the owner of the queue                                  | its successor, tools   |
//! | set-up           | the primary: before the port's state says started; and of a queue that nobody drives | who takes a queue |
//!
//! **Editions.** What the primary hands out for a queue carries the queue's edition, which changes whenever the queue is made
//! anew. A process keeps what it was handed, and may drive a queue with that, or offer it to the next primary, as long as the
//! edition is the same. So a socket that was replaced is never taken for the one that replaced it.
//!
//! **Standing in.** A thread of the primary drives a queue whose process is away, and has said so in the set-up: its owner word.
//! Who comes for such a queue writes its own into `wanted` and waits; the stand-in sees that before its next burst and lets go.
//!
//! **If a process dies:** the zone stays; its owner words name the dead one until a successor takes them over, and `wanted` that
//! names a dead one is nobody's. A stand-in that dies is an owner that died: who waits for it takes the queue from it. A primary
//! that dies while it sets up leaves a port that is not started, and its successor writes the words anew; one that dies while it
//! makes a single queue of an adopted port anew leaves an edition of which nobody has descriptors, and its successor makes
//! another.

use std::time::Duration;

use eal::queue::QueueRecord;
use eal::sync::{AtomicU32, Ordering, fence};
use eal::{Counter, Owner, Region, SLOTS_MAX, Zone, ZoneKind};
use mbuf::Pool;

use crate::driver::{Direction, PortId, QueueId};
use crate::error::{Error, PortState};
use crate::record::Record;
use crate::stats::{DETAIL_WORDS, QueueCounters, QueueState};

/// Queues of a port in one direction.
pub use eal::ports::QUEUES_MAX;

const RECORDS: usize = 2 * QUEUES_MAX;
const SETUP_WORDS: usize = 16;
const POOL_PLUS_ONE: usize = 0;
const DESCRIPTORS: usize = 1;
/// Counts how often the queue was made anew.
const EDITION: usize = 2;
/// A word of the driver for the next primary. One for the port: it lies with RX queue 0.
const WORD: usize = 3;
/// RX: the owner word of who drives the queue for the absent. Means something while it is the queue's owner word.
const STAND_IN: usize = 4;

/// How long a stand-in has to let go: steps, and the length of each. Its thread looks before each burst.
const HANDOVER_STEPS: usize = 1000;
const HANDOVER_STEP: Duration = Duration::from_millis(1);

type Detail = [Counter; DETAIL_WORDS];
type Setup = [AtomicU32; SETUP_WORDS];

const DETAILS_AT: usize = RECORDS * size_of::<QueueRecord>();
const SETUPS_AT: usize = DETAILS_AT + RECORDS * size_of::<Detail>();
const LEN: usize = SETUPS_AT + RECORDS * size_of::<Setup>();
const _: () = assert!(LEN == 40 << 10);

/// All queues of a port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueTable {
    region: &'static Region,
    port: PortId,
    records: &'static [QueueRecord],
    details: &'static [Detail],
    setups: &'static [Setup],
}

impl QueueTable {
    /// The zone of a port, made if it is not there yet. Primary only.
    pub(crate) fn reserve(region: &'static Region, port: PortId) -> Result<Self, Error> {
        match Self::lookup(region, port) {
            Err(Error::Eal(eal::Error::NoZone { .. })) => {
                let zone = region.reserve(ZoneKind::Plain, &Self::name(port), LEN, 4096, None)?;
                Self::view(region, port, &zone)
            }
            found => found,
        }
    }

    /// The zone of a port that the primary has opened.
    pub(crate) fn lookup(region: &'static Region, port: PortId) -> Result<Self, Error> {
        let zone = region.lookup(ZoneKind::Plain, &Self::name(port))?;
        Self::view(region, port, &zone)
    }

    fn name(port: PortId) -> String {
        format!("port.{port}.queues")
    }

    fn view(region: &'static Region, port: PortId, zone: &Zone<'static>) -> Result<Self, Error> {
        let damaged = |error: eal::ZoneError| Error::Damaged {
            port,
            reason: error.to_string(),
        };
        Ok(Self {
            region,
            port,
            records: zone.slice(0, RECORDS).map_err(damaged)?,
            details: zone.slice(DETAILS_AT, RECORDS).map_err(damaged)?,
            setups: zone.slice(SETUPS_AT, RECORDS).map_err(damaged)?,
        })
    }

    /// Of a queue that is less than [`QUEUES_MAX`]; a larger number finds the last one, never a place outside.
    fn place(direction: Direction, queue: QueueId) -> usize {
        let queue = usize::from(queue.0).min(QUEUES_MAX - 1);
        match direction {
            Direction::Rx => queue,
            Direction::Tx => QUEUES_MAX + queue,
        }
    }

    pub(crate) fn record(&self, direction: Direction, queue: QueueId) -> &'static QueueRecord {
        &self.records[Self::place(direction, queue)]
    }

    pub(crate) fn counters(&self, direction: Direction, queue: QueueId) -> QueueCounters {
        let place = Self::place(direction, queue);
        QueueCounters::new(&self.records[place], &self.details[place])
    }

    /// Says how a queue was set up. Primary only.
    pub(crate) fn set_up(
        &self,
        direction: Direction,
        queue: QueueId,
        pool: Option<Pool>,
        descriptors: u32,
    ) {
        let setup = &self.setups[Self::place(direction, queue)];
        // Relaxed, here and below: the port's state is stored after this with Release, and loaded with Acquire before
        // anybody takes a queue.
        setup[POOL_PLUS_ONE].store(
            pool.map_or(0, |pool| u32::from(pool.id()) + 1),
            Ordering::Relaxed,
        );
        setup[DESCRIPTORS].store(descriptors, Ordering::Relaxed);
    }

    /// The pool and the descriptors of a queue.
    pub(crate) fn setup(
        &self,
        direction: Direction,
        queue: QueueId,
    ) -> Result<(Option<Pool>, u32), Error> {
        let setup = &self.setups[Self::place(direction, queue)];
        let descriptors = setup[DESCRIPTORS].load(Ordering::Relaxed);
        let Some(id) = setup[POOL_PLUS_ONE].load(Ordering::Relaxed).checked_sub(1) else {
            return Ok((None, descriptors));
        };
        let pool = Pool::all(self.region).find(|pool| u32::from(pool.id()) == id);
        let reason =
            || format!("{direction} queue {queue} fills from pool {id}, which is not there");
        Ok((
            Some(pool.ok_or_else(|| Error::Damaged {
                port: self.port,
                reason: reason(),
            })?),
            descriptors,
        ))
    }

    /// Starts a queue's counters and cursors over. For the primary, while nobody has the queue.
    pub(crate) fn clear(&self, direction: Direction, queue: QueueId) {
        self.counters(direction, queue).clear();
        self.rewind(direction, queue);
        self.set_up(direction, queue, None, 0);
    }

    /// Starts a queue's cursors over: for a device queue that was made anew.
    fn rewind(&self, direction: Direction, queue: QueueId) {
        let record = self.record(direction, queue);
        let cursors = [
            &record.intent,
            &record.producer,
            &record.block,
            &record.packet,
            &record.offset,
        ];
        for cursor in cursors {
            // Relaxed: the port's state is stored after this with Release, or the new descriptors are handed out after it.
            cursor.store(0, Ordering::Relaxed);
        }
        self.counters(direction, queue)
            .set_state(QueueState::Running, 0);
    }

    /// The edition of a queue, which goes with what is handed out for it.
    pub(crate) fn edition(&self, direction: Direction, queue: QueueId) -> u32 {
        // Relaxed: compared with what comes by another way, and a mismatch is asked for again.
        self.setups[Self::place(direction, queue)][EDITION].load(Ordering::Relaxed)
    }

    /// What was handed out for a queue is good no more. For the primary, while nobody can take the queue.
    pub(crate) fn renew(&self, direction: Direction, queue: QueueId) {
        let edition = self.edition(direction, queue).wrapping_add(1);
        self.setups[Self::place(direction, queue)][EDITION].store(edition, Ordering::Relaxed);
    }

    /// As [`renew`](Self::renew), and cursors start over. For the primary, of a queue that it drives itself.
    pub(crate) fn remake(&self, direction: Direction, queue: QueueId) {
        self.renew(direction, queue);
        self.rewind(direction, queue);
    }

    /// As [`remake`](Self::remake), of a queue of a started port, unless somebody living drives it: then
    /// `false`, and nothing has changed. For the primary.
    pub(crate) fn renew_undriven(&self, direction: Direction, queue: QueueId) -> bool {
        let word = &self.setups[Self::place(direction, queue)][EDITION];
        let edition = word.load(Ordering::Relaxed);
        if self.driver_of(direction, queue).is_some() {
            return false;
        }
        word.store(edition.wrapping_add(1), Ordering::Relaxed);
        // Whoever claims the queue now sees the new edition, of which it has nothing before we hand it out; or we see the claim.
        // Pairs with the fence in `Port::look_again`.
        fence(Ordering::SeqCst);
        if self.driver_of(direction, queue).is_some() {
            word.store(edition, Ordering::Relaxed);
            return false;
        }
        self.rewind(direction, queue);
        true
    }

    /// The word that the driver left for the next primary.
    pub(crate) fn word(&self) -> u32 {
        self.setups[Self::place(Direction::Rx, QueueId(0))][WORD].load(Ordering::Relaxed)
    }

    /// Leaves it. Primary only.
    pub(crate) fn set_word(&self, word: u32) {
        self.setups[Self::place(Direction::Rx, QueueId(0))][WORD].store(word, Ordering::Relaxed);
    }

    /// Who drives a queue, if that one lives.
    pub(crate) fn driver_of(&self, direction: Direction, queue: QueueId) -> Option<Owner> {
        let word = &self.record(direction, queue).owner;
        // Acquire: as in `try_claim`.
        let holder = Owner::from_bits(word.load(Ordering::Acquire));
        self.lives(holder).then_some(holder)
    }

    fn lives(&self, owner: Owner) -> bool {
        owner != Owner::NONE && self.region.owner_alive(owner)
    }

    /// Takes a queue for `owner`: from nobody, from a dead owner, or from one who stands in for the absent, as soon as that one
    /// lets go.
    pub(crate) fn claim(
        &self,
        direction: Direction,
        queue: QueueId,
        owner: Owner,
    ) -> Result<Claim, Error> {
        if owner.slot().is_none() {
            return Err(Error::Nobody { port: self.port });
        }
        let stand_in = &self.setups[Self::place(direction, queue)][STAND_IN];
        let mut holder = match self.try_claim(direction, queue, owner) {
            Ok(claim) => {
                // Who stood in before may take the queue for itself now.
                // Relaxed, here and below: who does not see it yet waits for us in vain rather than being refused at once.
                if stand_in.load(Ordering::Relaxed) == owner.bits() {
                    stand_in.store(0, Ordering::Relaxed);
                }
                return Ok(claim);
            }
            Err(holder) => holder,
        };
        let request = Request {
            wanted: &self.record(direction, queue).wanted,
            owner,
        };
        for _ in 0..HANDOVER_STEPS {
            // Its word was stored before the claim that we saw with Acquire in `try_claim`.
            if holder == owner || stand_in.load(Ordering::Relaxed) != holder.bits() {
                break;
            }
            request.make(|other| self.lives(other));
            // It may sleep, and would see us only when something else wakes it.
            if let Some(slot) = holder.slot() {
                self.region.ring_doorbell(slot);
            }
            std::thread::sleep(HANDOVER_STEP);
            match self.try_claim(direction, queue, owner) {
                Ok(claim) => return Ok(claim),
                Err(now) => holder = now,
            }
        }
        Err(self.taken(direction, queue, holder))
    }

    /// Takes an RX queue for a thread of the primary, until somebody comes for it. Primary only.
    pub(crate) fn stand_in(&self, queue: QueueId, owner: Owner) -> Result<Claim, Error> {
        if owner.slot().is_none() {
            return Err(Error::Nobody { port: self.port });
        }
        if let Some(holder) = self.driver_of(Direction::Rx, queue) {
            return Err(self.taken(Direction::Rx, queue, holder));
        }
        // Before the claim: who sees that sees this.
        self.setups[Self::place(Direction::Rx, queue)][STAND_IN]
            .store(owner.bits(), Ordering::Relaxed);
        self.try_claim(Direction::Rx, queue, owner)
            .map_err(|holder| self.taken(Direction::Rx, queue, holder))
    }

    /// Who waits for a stand-in to let go of a queue, if that one lives; a dead one's request is taken away. For the primary.
    pub(crate) fn wanted_by(&self, queue: QueueId) -> Option<Owner> {
        let seen = Owner::from_bits(
            self.record(Direction::Rx, queue)
                .wanted
                .load(Ordering::Relaxed),
        );
        if seen == Owner::NONE {
            return None;
        }
        if self.lives(seen) {
            return Some(seen);
        }
        self.dismiss(queue, seen);
        None
    }

    /// Takes a request away. Who made it and still waits makes it again.
    pub(crate) fn dismiss(&self, queue: QueueId, request: Owner) {
        let wanted = &self.record(Direction::Rx, queue).wanted;
        drop(Request {
            wanted,
            owner: request,
        });
    }

    /// Takes a queue from nobody or from a dead owner; else the living one.
    fn try_claim(
        &self,
        direction: Direction,
        queue: QueueId,
        owner: Owner,
    ) -> Result<Claim, Owner> {
        let word = &self.record(direction, queue).owner;
        // Acquire: what the last owner stored before it gave the queue back, cursors above all, is seen. Pairs with the
        // Release in `Claim::drop`, and after death with the kernel's letting go of the dead one's lock.
        let mut seen = word.load(Ordering::Acquire);
        let mut holder = Owner::from_bits(seen);
        // Each turn but the last somebody else took or gave back the queue in between.
        for _ in 0..SLOTS_MAX {
            holder = Owner::from_bits(seen);
            if holder != Owner::NONE && (holder == owner || self.region.owner_alive(holder)) {
                return Err(holder);
            }
            // Release on success: that we have it is told after whatever we did before. Pairs with the load above.
            match word.compare_exchange(seen, owner.bits(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(Claim { word, owner }),
                Err(now) => seen = now,
            }
        }
        Err(holder)
    }

    /// Takes the port out of use by that state in its record, unless somebody living drives a queue: then nothing has changed,
    /// and the error says who does. For the primary.
    pub(crate) fn shut(&self, record: Record, state: PortState) -> Result<(), Error> {
        if let Some(taken) = self.first_taken() {
            return Err(taken);
        }
        let before = record.state();
        record.set_state(state);
        // Whoever claims a queue now sees that, or we see the claim. Pairs with the fence in `Port::look_again`. A primary that
        // dies before it takes the state back leaves a port that is driven and does not say so: the next one adopts it too.
        fence(Ordering::SeqCst);
        match self.first_taken() {
            None => Ok(()),
            Some(taken) => {
                record.set_state(before);
                Err(taken)
            }
        }
    }

    /// The error that names who has a queue.
    pub(crate) fn taken(&self, direction: Direction, queue: QueueId, holder: Owner) -> Error {
        let slot = holder.slot();
        Error::Taken {
            port: self.port,
            direction,
            queue,
            slot: slot.map_or(u8::MAX, eal::SlotId::get),
            pid: slot.map_or(0, |slot| self.region.slots()[slot.index()].pid()),
        }
    }

    /// The first queue that a living process has, as the error that says so.
    pub(crate) fn first_taken(&self) -> Option<Error> {
        for direction in [Direction::Rx, Direction::Tx] {
            for queue in (0..).take(QUEUES_MAX).map(QueueId) {
                if let Some(holder) = self.driver_of(direction, queue) {
                    return Some(self.taken(direction, queue, holder));
                }
            }
        }
        None
    }
}

/// Our wish for a queue that a stand-in drives. Dropping it takes it back.
struct Request {
    wanted: &'static AtomicU32,
    owner: Owner,
}

impl Request {
    /// Says so, unless somebody living said so before us: both wait, and one comes first.
    fn make(&self, lives: impl Fn(Owner) -> bool) {
        // Relaxed, here and below: the word asks for something and orders nothing.
        let seen = self.wanted.load(Ordering::Relaxed);
        if seen != self.owner.bits() && !lives(Owner::from_bits(seen)) {
            let _ = self.wanted.compare_exchange(
                seen,
                self.owner.bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let (ours, nobody) = (self.owner.bits(), Owner::NONE.bits());
        let _ = self
            .wanted
            .compare_exchange(ours, nobody, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// A queue that is ours. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Claim {
    word: &'static AtomicU32,
    owner: Owner,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Release: cursors and counters are stored before the queue is anybody's. Pairs with the Acquire in
        // `QueueTable::claim`. Failing means that the word was damaged or that we were taken for dead; then it is not ours.
        let _ = self.word.compare_exchange(
            self.owner.bits(),
            Owner::NONE.bits(),
            Ordering::Release,
            Ordering::Relaxed,
        );
    }
}
