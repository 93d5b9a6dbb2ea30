//! The sending half of a queue: a frame in each system call, from where it lies.

use std::io::IoSlice;
use std::os::fd::OwnedFd;

use mbuf::{Burst, Mbuf, SEGMENTS_MAX};
use rustix::io::{Errno, writev};

use crate::driver::TxQueue;
use crate::drivers::vnet::outgoing;
use crate::stats::{DropReason, QueueCounters, QueueState};

/// Pieces of the longest chain, with its header and a tag put in.
const PIECES: usize = 1 + SEGMENTS_MAX + outgoing::EXTRA_PIECES;

/// The sending half of a queue.
#[derive(Debug)]
pub(super) struct TapTx {
    fd: OwnedFd,
    counters: QueueCounters,
}

/// Why a frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// No room now.
    Wait,
    /// This frame can never be sent.
    Frame(DropReason),
    /// No frame can be sent: the interface is down.
    Down,
    /// The interface is gone.
    Gone,
}

impl Refusal {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::INTR => Self::Wait,
            Errno::IO | Errno::NETDOWN => Self::Down,
            Errno::BADFD => Self::Gone,
            Errno::MSGSIZE | Errno::TOOBIG => Self::Frame(DropReason::TooLong),
            // EINVAL, for instance: a header that does not fit the frame.
            _ => Self::Frame(DropReason::Refused),
        }
    }
}

impl TapTx {
    pub(super) fn new(fd: OwnedFd, counters: QueueCounters) -> Self {
        Self { fd, counters }
    }

    fn send(&self, mbuf: &Mbuf<'_>) -> Result<(), Errno> {
        let tag = outgoing::tag(Some(mbuf));
        let (header, frame) = outgoing::pieces(mbuf, &tag);
        let mut pieces = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        for (piece, bytes) in pieces
            .iter_mut()
            .zip([&header[..]].into_iter().chain(frame))
        {
            *piece = IoSlice::new(bytes);
            count += 1;
        }
        writev(&self.fd, &pieces[..count]).map(drop)
    }
}

impl TxQueue for TapTx {
    fn tx_burst(&mut self, burst: &mut Burst<'_>) -> usize {
        let taken = outgoing::prepare(burst, &self.counters);
        let mut done = 0;
        let mut link_down = false;
        for mbuf in burst.iter() {
            let refused = match self.send(&mbuf) {
                Ok(()) => None,
                Err(errno) => Some((Refusal::of(errno), errno)),
            };
            match refused {
                None => {}
                Some((Refusal::Wait, _)) => break,
                Some((Refusal::Frame(reason), _)) => self.counters.dropped_taken(reason, &mbuf),
                Some((refusal, errno)) => {
                    if refusal == Refusal::Gone {
                        let code = u64::from(errno.raw_os_error().unsigned_abs());
                        self.counters.set_state(QueueState::Gone, code);
                    }
                    link_down = true;
                    break;
                }
            }
            done += 1;
        }
        if link_down {
            for mbuf in burst.iter().skip(done) {
                self.counters.dropped_taken(DropReason::LinkDown, &mbuf);
            }
            done = burst.len();
        }
        burst.free_front(done);
        taken + done
    }
}
