//! An RX queue that reads a capture file.

use std::fs::File;
use std::path::PathBuf;

use eal::sync::Ordering;
use mbuf::{Burst, Lcore, SEGMENTS_MAX};
use tracing::warn;

use super::format::Reader;
use crate::driver::{QueueContext, RxQueue, Wakeup};
use crate::stats::{DropReason, QueueState};

/// Reads frames from the place where the last owner of the queue stopped.
pub(super) struct PcapRx {
    cx: QueueContext,
    reader: Reader<File>,
    path: PathBuf,
    infinite: bool,
    /// Frames taken in this pass through the file: what the queue's record keeps.
    taken: u64,
    stopped: bool,
}

impl PcapRx {
    pub(super) fn new(
        cx: QueueContext,
        reader: Reader<File>,
        path: PathBuf,
        infinite: bool,
    ) -> Self {
        let mut queue = Self {
            cx,
            reader,
            path,
            infinite,
            taken: 0,
            stopped: false,
        };
        let before = queue.cursor();
        // What cannot be passed ends the file for the first burst, which says so.
        while queue.taken < before && matches!(queue.reader.next_frame(), Ok(Some(_))) {
            queue.taken += 1;
        }
        queue
    }

    /// Frames that earlier owners took. Relaxed, here and below: one owner at a time, and the owner word orders them.
    fn cursor(&self) -> u64 {
        let word = |word: &eal::sync::AtomicU32| u64::from(word.load(Ordering::Relaxed));
        word(&self.cx.record.block) << 32 | word(&self.cx.record.packet)
    }

    fn store_cursor(&self) {
        let [a, b, c, d, e, f, g, h] = self.taken.to_le_bytes();
        self.cx
            .record
            .block
            .store(u32::from_le_bytes([e, f, g, h]), Ordering::Relaxed);
        self.cx
            .record
            .packet
            .store(u32::from_le_bytes([a, b, c, d]), Ordering::Relaxed);
    }

    /// Receives no more; says why where `forebay ports` and the log show it.
    fn stop(&mut self, state: QueueState, place: u64) {
        self.stopped = true;
        self.cx.counters.set_state(state, place);
    }

    /// At the end of the file: from the start again, or stop. Whether there is more.
    fn end(&mut self) -> bool {
        let offset = self.reader.offset();
        // A file without frames would be read for ever and never.
        if !self.infinite || self.taken == 0 {
            self.stop(QueueState::AtEnd, offset);
            return false;
        }
        self.taken = 0;
        match self.reader.rewind() {
            Ok(()) => true,
            Err(malformed) => {
                warn!(
                    "{}: {malformed}; it was changed while it was read",
                    self.path.display()
                );
                self.stop(QueueState::Malformed, malformed.offset);
                false
            }
        }
    }
}

impl RxQueue for PcapRx {
    fn wakeup(&self) -> Wakeup<'_> {
        // A file has more, or has not: also while there is no buffer for it.
        if self.stopped {
            Wakeup::Never
        } else {
            Wakeup::Poll
        }
    }

    fn rx_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize {
        let Some(pool) = self.cx.pool else { return 0 };
        let before = burst.len();
        let mut rewound = false;
        // Bounded by the room, and by one pass through the file: a frame that is dropped takes no room.
        while !self.stopped && burst.room() > 0 {
            // The buffer first: a file waits until there is one, and no frame is lost.
            let Some(mut mbuf) = lcore.alloc(pool) else {
                break;
            };
            match self.reader.next_frame() {
                Ok(Some(frame)) => {
                    if mbuf.extend_from_slice(pool, frame) {
                        if burst.push(mbuf).is_err() {
                            debug_assert!(false, "there was room");
                        }
                    } else {
                        let more = SEGMENTS_MAX.min(pool.count() as usize).saturating_sub(1);
                        if frame.len() <= mbuf.tailroom() + more * usize::from(pool.data_room()) {
                            // The pool ran dry in the middle of a chain; the frame is there again for the next burst.
                            self.reader.unread();
                            break;
                        }
                        self.cx.counters.dropped(DropReason::TooLong, 1);
                    }
                    self.taken += 1;
                }
                Ok(None) => {
                    if rewound || !self.end() {
                        break;
                    }
                    rewound = true;
                }
                Err(malformed) => {
                    warn!(
                        "{}: {malformed}; queue {} of port {} stops there",
                        self.path.display(),
                        self.cx.queue,
                        self.cx.port
                    );
                    self.cx.counters.dropped(DropReason::Malformed, 1);
                    self.stop(QueueState::Malformed, malformed.offset);
                }
            }
        }
        let count = burst.len() - before;
        // After the packets were taken: a successor reads one again rather than never.
        self.store_cursor();
        count
    }
}
