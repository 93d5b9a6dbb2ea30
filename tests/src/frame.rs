//! Ethernet frames made and read by hand.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::FrameSocket;

use crate::World;

/// An EtherType that IEEE keeps for experiments: no stack answers it.
const EXPERIMENT: [u8; 2] = [0x88, 0xb5];
/// Ethernet header and the sequence number.
const HEADER_LEN: usize = 14 + 4;

/// A frame of `len` bytes with a number, filled with bytes that follow from it.
///
/// # Panics
///
/// If `len` is too short for a header and the number.
pub fn numbered(number: u32, len: usize) -> Vec<u8> {
    assert!(len >= HEADER_LEN, "{len} bytes have no room for a header");
    let mut frame = Vec::with_capacity(len);
    frame.extend([0x02, 0, 0, 0, 0, 2]);
    frame.extend([0x02, 0, 0, 0, 0, 1]);
    frame.extend(EXPERIMENT);
    frame.extend(number.to_be_bytes());
    frame.extend((HEADER_LEN..len).map(|at| filling(number, at)));
    frame
}

/// The number of a frame that [`numbered`] made, if it is still as it was made.
pub fn number(frame: &[u8]) -> Option<u32> {
    let number = u32::from_be_bytes(frame.get(14..18)?.try_into().ok()?);
    let intact = frame[12..14] == EXPERIMENT
        && frame[HEADER_LEN..]
            .iter()
            .zip(HEADER_LEN..)
            .all(|(byte, at)| *byte == filling(number, at));
    intact.then_some(number)
}

fn filling(number: u32, at: usize) -> u8 {
    number.to_le_bytes()[at % 4].wrapping_add(at.to_le_bytes()[0])
}

/// A UDP datagram from the west to the east, in a flow that its source port names.
pub fn udp(source_port: u16, number: u32) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 2, 0x02, 0, 0, 0, 0, 1, 0x08, 0x00];
    let mut ip = vec![
        0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ];
    let sum = ip
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
        .sum::<u32>();
    let [high, low] = u16::try_from(sum % 0xffff)
        .map_or(0, |sum| !sum)
        .to_be_bytes();
    (ip[10], ip[11]) = (high, low);
    frame.extend(ip);
    frame.extend(source_port.to_be_bytes());
    frame.extend([0x13, 0x88, 0, 12, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame.resize(60, 0);
    frame
}

/// What arrived of frames that [`numbered`] made.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Different numbers, from the first that was asked for on.
    pub count: usize,
    /// Numbers that came more than once.
    pub duplicates: usize,
    /// Frames whose bytes were others.
    pub damaged: usize,
}

/// A stream of numbered frames from west to east.
#[derive(Debug)]
pub struct Stream {
    from: FrameSocket,
    len: usize,
    sent: u32,
    collector: Option<JoinHandle<()>>,
    collected: Arc<Collected>,
}

/// What the collecting thread has seen, and whether it is to end.
#[derive(Debug, Default)]
struct Collected {
    /// The numbers in the order of arrival; `None` for a damaged frame.
    numbers: Mutex<Vec<Option<u32>>>,
    enough: AtomicBool,
}

impl Stream {
    /// Opens both ends. What arrives is taken by a thread of its own: the kernel would keep some
    /// hundred frames for us, and drop the others.
    ///
    /// # Panics
    ///
    /// If a socket cannot be opened.
    pub fn open(world: &World, len: usize) -> Self {
        let open = |host| FrameSocket::open(host, "eth0").unwrap_or_else(|error| panic!("{error}"));
        let (from, to) = (open(&world.west), open(&world.east));
        let collected = Arc::new(Collected::default());
        let collector = thread::spawn({
            let collected = Arc::clone(&collected);
            move || collected.collect(&to)
        });
        Self {
            from,
            len,
            sent: 0,
            collector: Some(collector),
            collected,
        }
    }

    /// How many frames were sent.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// Sends one frame after the other, `gap` apart, until `more` says that it is enough.
    ///
    /// # Panics
    ///
    /// If the interface goes away.
    pub fn send_while(&mut self, gap: Duration, mut more: impl FnMut(u32) -> bool) {
        let (start, first) = (Instant::now(), self.sent);
        while more(self.sent - first) {
            let due = start + gap * (self.sent - first);
            while Instant::now() < due {
                thread::sleep(gap.min(Duration::from_millis(1)));
            }
            let frame = numbered(self.sent, self.len);
            self.from
                .send(&frame)
                .unwrap_or_else(|error| panic!("{error}"));
            self.sent += 1;
        }
    }

    /// What has arrived of the frames from number `first` on, once nothing more comes.
    ///
    /// # Panics
    ///
    /// If the collecting thread did.
    pub fn arrived(&self, first: u32) -> Arrived {
        let alive = self
            .collector
            .as_ref()
            .is_some_and(|thread| !thread.is_finished());
        assert!(alive, "the collecting thread has ended");
        let mut before = self.collected.count();
        loop {
            thread::sleep(Duration::from_millis(300));
            let now = self.collected.count();
            if now == before {
                break;
            }
            before = now;
        }
        let mut seen = vec![false; self.sent as usize];
        let mut arrived = Arrived::default();
        for number in self.collected.numbers().iter() {
            match number.and_then(|number| seen.get_mut(number as usize)) {
                None => arrived.damaged += 1,
                Some(true) => arrived.duplicates += 1,
                Some(new) => {
                    *new = true;
                    arrived.count += usize::from(number.is_some_and(|number| number >= first));
                }
            }
        }
        arrived
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Relaxed: nothing else is handed over with it.
        self.collected.enough.store(true, Ordering::Relaxed);
        // A panic of the thread was told by `arrived`.
        let _ = self.collector.take().map(JoinHandle::join);
    }
}

impl Collected {
    fn collect(&self, from: &FrameSocket) {
        let wait = Duration::from_millis(50);
        while !self.enough.load(Ordering::Relaxed) {
            let frame = from.receive(wait).unwrap_or_else(|error| panic!("{error}"));
            let Some(frame) = frame else { continue };
            // What the hosts say of their own is not counted.
            if frame.get(12..14) == Some(&EXPERIMENT[..]) {
                self.numbers().push(number(&frame));
            }
        }
    }

    fn numbers(&self) -> MutexGuard<'_, Vec<Option<u32>>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        self.numbers().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_byte_is_seen() {
        let mut frame = numbered(77, 100);
        assert_eq!(number(&frame), Some(77));
        frame[60] ^= 1;
        assert_eq!(number(&frame), None);
        assert_eq!(number(&frame[..10]), None);
    }

    #[test]
    fn checksum_of_the_ip_header_is_right() {
        let frame = udp(1000, 1);
        let words = frame[14..34]
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        assert_eq!(words.sum::<u32>() % 0xffff, 0);
        assert_eq!(frame.len(), 60);
    }
}
