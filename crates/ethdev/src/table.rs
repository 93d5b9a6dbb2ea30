//! What the group knows of the queues of one port: the zone `port.N.queues`.
//!
//! ```text
//! 0        rx records, 64 x 128    tx records, 64 x 128       owner, cursors, counters
//! 16 KiB   rx details, 64 x 128    tx details, 64 x 128       drops by reason
//! 32 KiB   rx set-up, 64 x 64      tx set-up, 64 x 64         pool, descriptors
//! ```
//!
//! | part             | written by                                              | read by                |
//! |------------------|---------------------------------------------------------|------------------------|
//! | record: owner    | compare-and-swap from nobody or from a dead owner       | everybody              |
//! | record, details  | the owner of the queue                                  | its successor, tools   |
//! | set-up           | the primary, before the port's state says started       | who takes a queue      |
//!
//! **If a process dies:** the zone stays; its owner words name the dead one until a successor takes them over. A primary
//! that dies while it sets up leaves a port that is not started, and its successor writes the words anew.

use eal::queue::QueueRecord;
use eal::sync::{AtomicU32, Ordering};
use eal::{Counter, Owner, Region, Zone, ZoneKind};
use mbuf::Pool;

use crate::driver::{Direction, PortId, QueueId};
use crate::error::Error;
use crate::stats::{DETAIL_WORDS, QueueCounters};

/// Queues of a port in one direction.
pub use eal::ports::QUEUES_MAX;

const RECORDS: usize = 2 * QUEUES_MAX;
const SETUP_WORDS: usize = 16;
const POOL_PLUS_ONE: usize = 0;
const DESCRIPTORS: usize = 1;

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
        let record = self.record(direction, queue);
        let cursors = [
            &record.intent,
            &record.producer,
            &record.block,
            &record.packet,
            &record.offset,
        ];
        for cursor in cursors {
            // Relaxed: the port's state is stored after this with Release.
            cursor.store(0, Ordering::Relaxed);
        }
        self.set_up(direction, queue, None, 0);
    }

    /// Takes a queue for `owner`, from nobody or from a dead owner.
    pub(crate) fn claim(
        &self,
        direction: Direction,
        queue: QueueId,
        owner: Owner,
    ) -> Result<Claim, Error> {
        let word = &self.record(direction, queue).owner;
        if owner.slot().is_none() {
            return Err(Error::Nobody { port: self.port });
        }
        // Acquire: what the last owner stored before it gave the queue back, cursors above all, is seen. Pairs with the
        // Release in `Claim::drop`, and after death with the kernel's letting go of the dead one's lock.
        let mut seen = word.load(Ordering::Acquire);
        loop {
            let holder = Owner::from_bits(seen);
            if holder != Owner::NONE && (holder == owner || self.region.owner_alive(holder)) {
                return Err(self.taken(direction, queue, holder));
            }
            // Release on success: that we have it is told after whatever we did before. Pairs with the load above.
            match word.compare_exchange(seen, owner.bits(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(Claim { word, owner }),
                Err(now) => seen = now,
            }
        }
    }

    fn taken(&self, direction: Direction, queue: QueueId, holder: Owner) -> Error {
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
                let holder =
                    Owner::from_bits(self.record(direction, queue).owner.load(Ordering::Acquire));
                if holder != Owner::NONE && self.region.owner_alive(holder) {
                    return Some(self.taken(direction, queue, holder));
                }
            }
        }
        None
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
