//! The traffic of the storm: numbered frames both ways, and one TCP transfer after the other.
//!
//! A frame may be lost: whoever is killed takes some along, and full queues drop. What arrives must be as it was sent. A
//! number that comes again is counted apart: a killed process's successor may read or send once more what the dead one had
//! not ticked off.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::{FrameSocket, Transfer, Watch};

use super::packet::{self, FRAME_MAX, Seen};
use crate::World;

/// Bytes of one TCP transfer.
const TRANSFER_LEN: u64 = 4 << 20;
/// How long TCP may stand still: while nobody forwards it waits longer and longer between two attempts.
const TCP_PATIENCE: Duration = Duration::from_secs(60);
/// How often senders wake up.
const TICK: Duration = Duration::from_millis(1);
/// Damaged frames that are kept to be shown.
const KEPT_MAX: usize = 8;

/// Traffic that flows until it is stopped.
#[derive(Debug)]
pub struct Load {
    ways: [Arc<Way>; 2],
    tcp: Arc<Tcp>,
    stop: Arc<AtomicBool>,
    /// Until when nobody sends, in milliseconds since the start.
    silence: Arc<Silence>,
    /// Receivers go on after senders have ended.
    deaf: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
    receivers: Vec<JoinHandle<()>>,
}

/// Times in which nobody sends.
#[derive(Debug)]
struct Silence {
    start: Instant,
    until_ms: AtomicU64,
}

impl Silence {
    fn is_now(&self) -> bool {
        self.start.elapsed().as_millis() < u128::from(self.until_ms.load(Ordering::Relaxed))
    }
}

/// One direction. Each counter has one writing thread.
#[derive(Debug)]
struct Way {
    stream: u64,
    sent: AtomicU64,
    received: AtomicU64,
    twice: AtomicU64,
    damaged: AtomicU64,
    /// The beginnings of some damaged frames.
    kept: Mutex<Vec<String>>,
}

/// The TCP transfers.
#[derive(Debug, Default)]
struct Tcp {
    intact: AtomicU64,
    damaged: AtomicU64,
    broken: AtomicU64,
    /// The one under way.
    watch: Mutex<Arc<Watch>>,
    last_error: Mutex<String>,
}

/// What the load counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames sent.
    pub sent: u64,
    /// Different frames that arrived whole.
    pub received: u64,
    /// Frames that arrived again.
    pub twice: u64,
    /// Frames and TCP transfers that arrived otherwise than they were sent.
    pub corrupt: u64,
    /// TCP transfers that arrived whole.
    pub transfers: u64,
    /// TCP transfers that broke off.
    pub broken: u64,
    /// What was seen of damaged frames, and why transfers broke off.
    pub notes: Vec<String>,
}

impl Load {
    /// Starts `rate` frames a second each way, and TCP from west to east.
    ///
    /// # Panics
    ///
    /// If a socket cannot be opened.
    pub fn start(world: &Arc<World>, seed: u64, rate: u32) -> Self {
        let open = |host| FrameSocket::open(host, "eth0").unwrap_or_else(|error| panic!("{error}"));
        let stop = Arc::new(AtomicBool::new(false));
        let deaf = Arc::new(AtomicBool::new(false));
        let silence = Arc::new(Silence {
            start: Instant::now(),
            until_ms: AtomicU64::new(0),
        });
        let way = |number: u64| Arc::new(Way::new(super::random::mix(seed).wrapping_add(number)));
        let ways = [way(0), way(1)];
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for (way, (from, to)) in ways
            .iter()
            .zip([(&world.west, &world.east), (&world.east, &world.west)])
        {
            let (from, to) = (open(from), open(to));
            let (sending, stopped) = (Arc::clone(way), Arc::clone(&stop));
            let silence = Arc::clone(&silence);
            senders.push(thread::spawn(move || {
                sending.send(&from, rate, &silence, &stopped);
            }));
            let (receiving, deaf) = (Arc::clone(way), Arc::clone(&deaf));
            receivers.push(thread::spawn(move || receiving.receive(&to, &deaf)));
        }
        let tcp = Arc::new(Tcp::default());
        let (transferring, world, stopped) =
            (Arc::clone(&tcp), Arc::clone(world), Arc::clone(&stop));
        let quiet = Arc::clone(&silence);
        senders.push(thread::spawn(move || {
            transferring.run(&world, seed, &quiet, &stopped);
        }));
        Self {
            ways,
            tcp,
            stop,
            silence,
            deaf,
            senders,
            receivers,
        }
    }

    /// Nobody sends for so long; a TCP transfer under way goes on.
    pub fn pause(&self, time: Duration) {
        let until = (self.silence.start.elapsed() + time).as_millis();
        let until = u64::try_from(until).unwrap_or(u64::MAX);
        self.silence.until_ms.store(until, Ordering::Relaxed);
    }

    /// Whether nobody sends now.
    pub fn is_paused(&self) -> bool {
        self.silence.is_now()
    }

    /// What was counted so far.
    pub fn tally(&self) -> Tally {
        // Relaxed: numbers to look at, nothing hangs on them.
        let sum = |of: fn(&Way) -> &AtomicU64| {
            let counts = self.ways.iter().map(|way| of(way).load(Ordering::Relaxed));
            counts.sum::<u64>()
        };
        let tcp = &self.tcp;
        let lock =
            |of: &Mutex<Vec<String>>| of.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut notes: Vec<_> = self.ways.iter().flat_map(|way| lock(&way.kept)).collect();
        let error = tcp
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        notes.extend(Some(error).filter(|error| !error.is_empty()));
        Tally {
            sent: sum(|way| &way.sent),
            received: sum(|way| &way.received),
            twice: sum(|way| &way.twice),
            corrupt: sum(|way| &way.damaged) + tcp.damaged.load(Ordering::Relaxed),
            transfers: tcp.intact.load(Ordering::Relaxed),
            broken: tcp.broken.load(Ordering::Relaxed),
            notes,
        }
    }

    /// Different frames that arrived so far, by direction.
    pub fn received(&self) -> [u64; 2] {
        [0, 1].map(|way| self.ways[way].received.load(Ordering::Relaxed))
    }

    /// Ends sending, and waits until nothing arrives any more.
    pub fn stop(&mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.tcp
            .watch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .cancel();
        for sender in self.senders.drain(..) {
            // A panic is told in the tally.
            if sender.join().is_err() {
                self.ways[0].note("a sending thread panicked".to_owned());
            }
        }
        let start = Instant::now();
        let mut before = self.tally();
        while start.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(300));
            let now = self.tally();
            if now == before {
                break;
            }
            before = now;
        }
        self.deaf.store(true, Ordering::Relaxed);
        for receiver in self.receivers.drain(..) {
            if receiver.join().is_err() {
                self.ways[0].note("a receiving thread panicked".to_owned());
            }
        }
        self.tally()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !self.receivers.is_empty() {
            self.stop();
        }
    }
}

impl Way {
    fn new(stream: u64) -> Self {
        Self {
            stream,
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            twice: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            kept: Mutex::new(Vec::new()),
        }
    }

    fn note(&self, line: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(line);
        }
    }

    fn send(&self, from: &FrameSocket, rate: u32, silence: &Silence, stop: &AtomicBool) {
        let mut start = Instant::now();
        let mut frame = [0; FRAME_MAX];
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            if silence.is_now() {
                let before = Instant::now();
                thread::sleep(TICK);
                // A silence is not made up for.
                start += before.elapsed();
                continue;
            }
            let due = start.elapsed().as_micros() * u128::from(rate) / 1_000_000;
            // What was slept through is made up for little by little, not in one burst.
            let most = number + u64::from(rate).div_ceil(1000) * 8;
            let due = u64::try_from(due).unwrap_or(u64::MAX).min(most);
            while number < due {
                let len = packet::write(&mut frame, self.stream, number);
                number += 1;
                // Before it is sent: nothing may arrive that was not.
                self.sent.store(number, Ordering::Release);
                // A full queue of the kernel refuses; that is a loss like another.
                let _ = from.send(&frame[..len]);
            }
            thread::sleep(TICK);
        }
    }

    fn receive(&self, to: &FrameSocket, deaf: &AtomicBool) {
        let mut frame = vec![0; 1 << 17];
        let mut seen: Vec<u64> = Vec::new();
        while !deaf.load(Ordering::Relaxed) {
            let wait = Duration::from_millis(50);
            let len = match to.receive_in(&mut frame, wait) {
                Ok(Some(len)) => len,
                Ok(None) => continue,
                Err(error) => return self.note(error.to_string()),
            };
            let frame = &frame[..len];
            match packet::read(frame, self.stream) {
                // Acquire: pairs with the Release in `send`.
                Seen::Number(number) if number < self.sent.load(Ordering::Acquire) => {
                    let count = if is_first(&mut seen, number) {
                        &self.received
                    } else {
                        &self.twice
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Seen::Other => {}
                Seen::Number(_) | Seen::Damaged => {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                    let head = &frame[..len.min(80)];
                    self.note(format!("damaged frame of {len} bytes: {head:02x?}"));
                }
            }
        }
    }
}

/// Notes a number in a map of bits; says whether it is there for the first time.
fn is_first(seen: &mut Vec<u64>, number: u64) -> bool {
    let word = usize::try_from(number / 64).unwrap_or(usize::MAX - 1);
    if seen.len() <= word {
        seen.resize(word + 1024, 0);
    }
    let bit = 1 << (number % 64);
    let first = seen[word] & bit == 0;
    seen[word] |= bit;
    first
}

impl Tcp {
    /// One transfer after the other.
    fn run(&self, world: &World, seed: u64, silence: &Silence, stop: &AtomicBool) {
        for round in 0_u64.. {
            let watch = Arc::new(Watch::default());
            *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&watch);
            while silence.is_now() && !stop.load(Ordering::Relaxed) {
                thread::sleep(TICK);
            }
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let transfer = Transfer {
                stall: TCP_PATIENCE,
                ..Transfer::new(TRANSFER_LEN, seed.wrapping_add(round))
            };
            let to = (&world.east, World::EAST);
            match lab::tcp_transfer(&world.west, to, &transfer, &watch) {
                Ok(report) => {
                    let count = if report.is_intact() {
                        &self.intact
                    } else {
                        &self.damaged
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Err(lab::Error::Cancelled) => {}
                Err(error) => {
                    self.broken.fetch_add(1, Ordering::Relaxed);
                    let mut last = self
                        .last_error
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    *last = error.to_string();
                    drop(last);
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }
}
