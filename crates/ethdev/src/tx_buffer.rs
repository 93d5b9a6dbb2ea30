//! Packets that wait until a burst of them can be sent.

use std::fmt;

use mbuf::{Burst, Lcore, Mbuf};

use crate::queue::TxQueue;

/// Collects packets for one TX queue and sends 32 at a time. What the queue does not take goes to the drop callback.
pub struct TxBuffer<'c> {
    burst: Burst<'c>,
    on_drop: Box<dyn FnMut(&mut Burst<'c>) + 'c>,
    dropped: u64,
}

impl fmt::Debug for TxBuffer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxBuffer")
            .field("len", &self.burst.len())
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

impl<'c> TxBuffer<'c> {
    /// An empty buffer, whose drop callback frees.
    #[must_use]
    pub fn new(lcore: &'c Lcore) -> Self {
        Self {
            burst: Burst::new(lcore),
            on_drop: Box::new(|_| {}),
            dropped: 0,
        }
    }

    /// Calls `on_drop` with the packets that a queue did not take; what it leaves in the burst is freed.
    #[must_use]
    pub fn with_drop_callback(mut self, on_drop: impl FnMut(&mut Burst<'c>) + 'c) -> Self {
        self.on_drop = Box::new(on_drop);
        self
    }

    /// Adds a packet, and sends when 32 are there. Returns how many were sent.
    pub fn buffer(&mut self, mbuf: Mbuf<'c>, queue: &mut TxQueue) -> usize {
        if self.push(mbuf) == 0 {
            self.send(queue)
        } else {
            0
        }
    }

    /// Adds a packet and returns how many more fit. One that does not fit any more is dropped and counted.
    pub fn push(&mut self, mbuf: Mbuf<'c>) -> usize {
        if let Err(mbuf) = self.burst.push(mbuf) {
            drop(mbuf);
            self.dropped += 1;
        }
        self.burst.room()
    }

    /// Moves packets from the front of `burst`, as many as fit, and returns how many. Send when 32 are there.
    #[inline]
    pub fn append(&mut self, burst: &mut Burst<'c>) -> usize {
        self.burst.append(burst)
    }

    /// Sends what is there, and hands what the queue does not take to the drop callback. Returns how many were sent.
    pub fn send(&mut self, queue: &mut TxQueue) -> usize {
        let mut on_drop = std::mem::replace(&mut self.on_drop, Box::new(|_| {}));
        let sent = self.flush(queue, &mut on_drop);
        self.on_drop = on_drop;
        sent
    }

    /// As [`send`](Self::send), with a drop callback for this once.
    pub fn flush(&mut self, queue: &mut TxQueue, on_drop: impl FnOnce(&mut Burst<'c>)) -> usize {
        let sent = queue.tx_burst(&mut self.burst);
        if !self.burst.is_empty() {
            self.dropped += self.burst.len() as u64;
            on_drop(&mut self.burst);
            self.burst.clear();
        }
        sent
    }

    /// Packets that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.burst.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.burst.is_empty()
    }

    /// Packets that went to a drop callback, or did not fit.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}
