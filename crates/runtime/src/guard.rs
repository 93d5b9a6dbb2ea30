//! The guard: the thread of a primary that learns of deaths and sweeps after them.
//!
//! ```text
//! a process dies -> the kernel lets go of its slot's lock byte, its pidfd gets ready, its connection closes
//! guard:  wakes -> looks which slots are dead -> sweeps them as one set -> logs what came back, and from where
//! ```
//!
//! | part                    | written by | read by |
//! |-------------------------|------------|---------|
//! | the zone `recovery.counters` | the guard  | tools   |
//!
//! It has a slot of its own, so that the threads that move packets never wait for a sweep. A primary that adopts a group looks at
//! the whole region first, sweeps what its predecessor and others left, and only then goes on.
//!
//! **If a process dies:** the guard with its primary, anywhere: what it had begun stays marked in the slots' words, and the next
//! primary's guard begins it again. While there is no primary nothing is swept, and the living run on.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use eal::counters::Counter;
use eal::process::SlotSet;
use eal::{Deaths, Eal, Joined, Region, ZoneKind};
use mbuf::sweep::has_orphans;
use mbuf::{Lcore, Report, sweep, verify};

/// Name of the zone with the counters.
pub const RECOVERY: &str = "recovery.counters";

const WORDS: usize = 16;

/// How long the guard sleeps when nothing tells it of a death: some die before they could be watched.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long it keeps looking after it was told of a death that no lock shows yet.
const DYING_MAX: Duration = Duration::from_millis(100);
/// How often it looks meanwhile.
const DYING_POLL: Duration = Duration::from_millis(2);

/// Why a group cannot be guarded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// This process is not the primary, or the group has no slot or no memory left.
    #[error(transparent)]
    Eal(#[from] eal::Error),
    /// What the last primary left cannot be used.
    #[error("what the last primary of group {prefix:?} left cannot be taken over: {source}")]
    Damaged {
        /// The group.
        prefix: String,
        /// What is damaged, and what to do about it.
        #[source]
        source: mbuf::Error,
    },
    /// The first sweep did not end.
    #[error(
        "the guard panicked in its first sweep; stop the group and clear it with `forebay clean`"
    )]
    Panicked,
    /// No thread could be started.
    #[error("cannot start the guard's thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// What all sweeps of a group gave back, also under former primaries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Sweeps.
    pub sweeps: u64,
    /// Slots that were swept.
    pub slots: u64,
    /// Mbufs that the dead had in hand.
    pub in_hand: u64,
    /// Mbufs that lay in their magazines.
    pub magazines: u64,
    /// Packets in rings that nobody consumed.
    pub rings: u64,
    /// Frames of device queues whose owner died: half given, or done with.
    pub queues: u64,
    /// Mbufs whose tag changed under a sweep.
    pub corrupt: u64,
    /// The longest sweep, in nanoseconds.
    pub longest_ns: u64,
}

impl Recovered {
    /// What was recovered in this group; `None` if it never had a guard.
    pub fn of(region: &Region) -> Option<Self> {
        let counters = Counters::lookup(region).ok()?;
        let read = |word: usize| counters.0.get(word).map_or(0, Counter::get);
        Some(Self {
            sweeps: read(0),
            slots: read(1),
            in_hand: read(2),
            magazines: read(3),
            rings: read(4),
            queues: read(5),
            corrupt: read(6),
            longest_ns: read(7),
        })
    }
}

/// The words of the zone.
#[derive(Debug, Clone, Copy)]
struct Counters<'r>(&'r [Counter]);

impl<'r> Counters<'r> {
    fn reserve(region: &'r Region) -> Result<Self, eal::Error> {
        match Self::lookup(region) {
            Err(eal::Error::NoZone { .. }) => {
                let len = WORDS * size_of::<Counter>();
                let zone = region.reserve(ZoneKind::Plain, RECOVERY, len, 64, None)?;
                Ok(Self(zone.slice(0, WORDS)?))
            }
            found => found,
        }
    }

    fn lookup(region: &'r Region) -> Result<Self, eal::Error> {
        let zone = region.lookup(ZoneKind::Plain, RECOVERY)?;
        Ok(Self(zone.slice(0, WORDS)?))
    }

    fn add(&self, report: &Report, reaped: u32, took: Duration) {
        let counts = [
            1,
            report.slots.len(),
            report.in_hand,
            report.magazines,
            report.rings,
            reaped,
            report.corrupt,
        ];
        for (counter, count) in self.0.iter().zip(counts) {
            counter.add(count.into());
        }
        if let Some(longest) = self.0.get(7) {
            longest.raise(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        }
    }
}

/// What looks after device queues that the dead drove, and tells how many frames it gave back.
type Reaper = Box<dyn FnMut(&Lcore) -> u32 + Send>;

/// The guard of a group. Dropping it ends its thread.
pub struct Guard {
    deaths: Arc<Deaths>,
    reaper: Arc<Mutex<Option<Reaper>>>,
    /// Closed to end the thread.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    /// Guards the group of this primary. If it was adopted, the whole region is looked at first; when this returns, all who
    /// are dead have been swept, half-swept ones too. Call it before anything is allocated.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] when what is there cannot be used; not the primary; no slot.
    pub fn start(eal: &Eal) -> Result<Self, Error> {
        let region = eal.region();
        let started = Instant::now();
        if eal.joined() == Joined::Adopted {
            verify::verify(region).map_err(|source| Error::Damaged {
                prefix: eal.args().prefix.clone(),
                source,
            })?;
            tracing::info!(
                "the region is whole; looked at in {:.1} ms",
                started.elapsed().as_secs_f64() * 1e3
            );
        }
        let counters = Counters::reserve(region)?;
        let slot = eal.claim_slot("guard")?;
        let deaths = Arc::new(eal.deaths());
        let reaper = Arc::new(Mutex::new(None));
        let (stop, stopped) = mpsc::channel();
        let (ready, first) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("forebay-guard".to_owned())
            .spawn({
                let (deaths, reaper) = (Arc::clone(&deaths), Arc::clone(&reaper));
                move || {
                    let watch = Watch {
                        region,
                        counters,
                        reaper,
                        lcore: Lcore::new(slot),
                    };
                    let outcome = watch.sweep(SlotSet::EMPTY);
                    let strays = outcome.as_ref().copied().ok();
                    let told = ready.send(outcome.map(drop)).is_ok();
                    if let Some(strays) = strays.filter(|_| told) {
                        watch.stand(&deaths, &stopped, strays);
                    }
                }
            })
            .map_err(Error::Thread)?;
        let guard = Self {
            deaths,
            reaper,
            stop: Some(stop),
            thread: Some(thread),
        };
        // A thread that ended without a word panicked.
        first.recv().map_err(|_| Error::Panicked)??;
        Ok(guard)
    }

    /// Has `reaper` look after each death for device queues that the dead drove, with the guard's own lcore:
    /// [`Ports::reap`](ethdev::Ports::reap).
    pub fn reap_with(&self, reaper: impl FnMut(&Lcore) -> u32 + Send + 'static) {
        let mut place = self.reaper.lock().unwrap_or_else(PoisonError::into_inner);
        *place = Some(Box::new(reaper));
    }

    /// Whether it still watches. If not, nobody sweeps any more: end the primary, and let the next one take over.
    pub fn is_alive(&self) -> bool {
        self.thread
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("is_alive", &self.is_alive())
            .finish_non_exhaustive()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.deaths.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the guard panicked; the dead of this group were not swept since");
        }
    }
}

/// What the thread works with.
struct Watch {
    region: &'static Region,
    counters: Counters<'static>,
    reaper: Arc<Mutex<Option<Reaper>>>,
    lcore: Lcore,
}

impl Watch {
    /// Sweeps whenever somebody has died, until it is told to stop.
    fn stand(&self, deaths: &Deaths, stopped: &mpsc::Receiver<()>, strays: SlotSet) {
        let mut strays = strays;
        while !matches!(stopped.try_recv(), Err(mpsc::TryRecvError::Disconnected)) {
            if deaths.wait(LOOK_EVERY) {
                self.let_die();
            }
            let is_quiet = self.region.dead_slots().is_empty()
                && strays.is_empty()
                && !has_orphans(self.region);
            if is_quiet {
                continue;
            }
            match self.sweep(strays) {
                Ok(found) => strays = found,
                Err(error) => {
                    // Not the primary any more: somebody else's turn.
                    tracing::error!("cannot sweep after the dead: {error}");
                    return;
                }
            }
        }
    }

    /// A connection closes a little before the lock is let go.
    fn let_die(&self) {
        let told = Instant::now();
        while self.region.dead_slots().is_empty() && told.elapsed() < DYING_MAX {
            std::thread::sleep(DYING_POLL);
        }
    }

    /// One sweep; returns the strays that it met, for the next.
    fn sweep(&self, also: SlotSet) -> Result<SlotSet, eal::Error> {
        let started = Instant::now();
        let names = self.names(self.region.dead_slots());
        let Some(report) = sweep(self.region, &self.lcore, also)? else {
            return Ok(SlotSet::EMPTY);
        };
        let mut reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner);
        let reaped = reaper.as_mut().map_or(0, |reap| reap(&self.lcore));
        drop(reaper);
        self.lcore.give_magazines_back();
        let took = started.elapsed();
        // Threads of this process that sleep look who is away now.
        self.region.ring_own_doorbells();
        self.counters.add(&report, reaped, took);
        let ms = took.as_secs_f64() * 1e3;
        if report.slots.is_empty() {
            tracing::info!("swept in {ms:.1} ms: {report}");
        } else {
            tracing::warn!(
                "swept in {ms:.1} ms after {names}: {report}, {reaped} frames of device queues"
            );
        }
        // The same ones again would be a slot that only seems free: no use in trying for ever.
        Ok(if report.strays == also {
            SlotSet::EMPTY
        } else {
            report.strays
        })
    }

    /// Who died, as they called themselves.
    fn names(&self, slots: SlotSet) -> String {
        let named = slots.iter().map(|slot| {
            let record = &self.region.slots()[slot.index()];
            format!("{:?} (process {})", record.name(), record.pid())
        });
        let named: Vec<_> = named.collect();
        if named.is_empty() {
            "strays".to_owned()
        } else {
            named.join(", ")
        }
    }
}
