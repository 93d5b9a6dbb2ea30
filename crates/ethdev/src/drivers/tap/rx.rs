//! The receiving half of a queue: a frame in each system call, straight into a buffer.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};

use mbuf::{Burst, Lcore, Mbuf, Pool, SEGMENTS_MAX};
use rustix::io::{Errno, readv};

use super::HEADER_LEN;
use crate::driver::{QueueContext, RxQueue, Wakeup};
use crate::drivers::vnet;
use crate::stats::{DropReason, QueueCounters, QueueState};

/// The longest frame there is: 64 KiB that are still to be cut, with Ethernet header and two tags, and one octet more, by which a
/// frame is known that is longer still.
const FRAME_ROOM: usize = 65_536 + 14 + 8 + 1;

/// The receiving half of a queue.
#[derive(Debug)]
pub(super) struct TapRx {
    fd: OwnedFd,
    pool: Pool,
    counters: QueueCounters,
    /// What does not fit a packet's first buffer, before it is known how many more are needed.
    rest: Box<[u8]>,
}

/// What a call found.
enum Found<'c> {
    Packet(Mbuf<'c>),
    Dropped(DropReason),
    Nothing,
}

impl TapRx {
    pub(super) fn new(fd: OwnedFd, pool: Pool, cx: &QueueContext) -> Self {
        Self {
            fd,
            pool,
            counters: cx.counters,
            rest: vec![0; FRAME_ROOM].into_boxed_slice(),
        }
    }

    /// The next frame. The kernel has it no more once it was read, so that without a buffer it is lost, and counted.
    fn read<'c>(&mut self, lcore: &'c Lcore) -> Found<'c> {
        let mut header = [0; HEADER_LEN];
        let mut first = lcore.alloc(self.pool);
        let room = first.as_ref().map_or(0, Mbuf::tailroom);
        let front = first.as_mut().and_then(|first| first.append(room));
        let mut pieces = [
            IoSliceMut::new(&mut header),
            IoSliceMut::new(front.unwrap_or_default()),
            IoSliceMut::new(&mut self.rest),
        ];
        let len = match readv(&self.fd, &mut pieces) {
            Ok(len) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Found::Nothing,
            Err(errno) => {
                // The interface was removed: it does not come back under this descriptor.
                if errno == Errno::BADFD {
                    let code = u64::from(errno.raw_os_error().unsigned_abs());
                    self.counters.set_state(QueueState::Gone, code);
                }
                return Found::Nothing;
            }
        };
        let Some(len) = len.checked_sub(HEADER_LEN) else {
            return Found::Dropped(DropReason::Malformed);
        };
        let Some(mut mbuf) = first else {
            return Found::Dropped(DropReason::NoBuffer);
        };
        mbuf.trim(room.saturating_sub(len));
        let rest = len.saturating_sub(room);
        if rest >= self.rest.len() {
            return Found::Dropped(DropReason::TooLong);
        }
        if let Err(reason) = chain(lcore, self.pool, &mut mbuf, &self.rest[..rest]) {
            return Found::Dropped(reason);
        }
        vnet::note(header, 0, &mut mbuf);
        Found::Packet(mbuf)
    }
}

/// Adds bytes to a packet, in as many buffers as they need.
fn chain<'c>(
    lcore: &'c Lcore,
    pool: Pool,
    mbuf: &mut Mbuf<'c>,
    mut rest: &[u8],
) -> Result<(), DropReason> {
    while !rest.is_empty() {
        if mbuf.segment_count() == SEGMENTS_MAX {
            return Err(DropReason::TooLong);
        }
        let mut segment = lcore.alloc(pool).ok_or(DropReason::NoBuffer)?;
        let (now, later) = rest.split_at(rest.len().min(segment.tailroom()));
        // A pool that gives buffers without room would have us here for ever.
        let place = segment.append(now.len()).filter(|place| !place.is_empty());
        place.ok_or(DropReason::NoBuffer)?.copy_from_slice(now);
        mbuf.append_segment(segment)
            .map_err(|_| DropReason::TooLong)?;
        rest = later;
    }
    Ok(())
}

impl RxQueue for TapRx {
    fn wakeup(&self) -> Wakeup<'_> {
        Wakeup::Descriptor(self.fd.as_fd())
    }

    fn rx_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize {
        let before = burst.len();
        // Frames that are dropped count too: a burst ends.
        for _ in 0..burst.room() {
            match self.read(lcore) {
                // There is room: there are no more turns than that.
                Found::Packet(mbuf) => drop(burst.push(mbuf)),
                Found::Dropped(reason) => self.counters.dropped(reason, 1),
                Found::Nothing => break,
            }
        }
        burst.len() - before
    }
}
