//! The sending half of a queue: hands frames to the kernel, up to a burst in one system call.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mbuf::{BURST_MAX, Burst, MbufRef, OffloadFlags, SEGMENTS_MAX};

use super::sys::Messages;
use crate::driver::TxQueue;
use crate::drivers::vnet::outgoing;
use crate::stats::{DropReason, QueueCounters, QueueState};

/// Pieces of frames in one system call: four for each frame of a burst, and enough for the longest chain, with a tag put in.
const PIECES: usize = if BURST_MAX * 4 > SEGMENTS_MAX + 2 {
    BURST_MAX * 4
} else {
    SEGMENTS_MAX + 2
};

/// The sending half of a queue.
#[derive(Debug)]
pub(super) struct PacketTx {
    fd: OwnedFd,
    messages: Messages,
    counters: QueueCounters,
}

/// What to do with the frame that the kernel did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The call was interrupted before it began.
    Again,
    /// No room now.
    Wait,
    /// This frame can never be sent.
    Frame(DropReason),
    /// No frame can be sent: the interface is down or gone.
    Link,
}

impl PacketTx {
    pub(super) fn new(fd: OwnedFd, counters: QueueCounters) -> Self {
        Self {
            fd,
            messages: Messages::new(BURST_MAX, PIECES),
            counters,
        }
    }
}

impl Refusal {
    fn of(error: &io::Error, segmented: bool) -> Self {
        match error.raw_os_error() {
            Some(libc::EINTR) => Self::Again,
            // A device that cannot cut frames refuses them so if its queueing discipline is passed over, for ever.
            Some(libc::ENOBUFS) if segmented => Self::Frame(DropReason::NoRoom),
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Self::Wait,
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) => Self::Link,
            Some(libc::EMSGSIZE) => Self::Frame(DropReason::TooLong),
            // EINVAL, for instance: a header that does not fit the frame.
            _ => Self::Frame(DropReason::Refused),
        }
    }
}

impl TxQueue for PacketTx {
    fn tx_burst(&mut self, burst: &mut Burst<'_>) -> usize {
        let taken = outgoing::prepare(burst, &self.counters);
        self.send_all(burst) + taken
    }
}

impl PacketTx {
    fn send_all(&mut self, burst: &mut Burst<'_>) -> usize {
        let mut taken = 0;
        while !burst.is_empty() {
            let (done, goes_on) = self.send(burst);
            burst.free_front(done);
            taken += done;
            if !goes_on || done == 0 {
                break;
            }
        }
        taken
    }
}

impl PacketTx {
    /// Sends from the front of `burst`: how many of its frames are done with, and whether the rest is worth a try.
    fn send(&mut self, burst: &Burst<'_>) -> (usize, bool) {
        // Held before they are pointed into: what is sent from lies in them until the call is over.
        let frames: [Option<MbufRef<'_, '_>>; BURST_MAX] =
            std::array::from_fn(|number| burst.get(number));
        let tags = frames.each_ref().map(|mbuf| outgoing::tag(mbuf.as_deref()));
        let mut filling = self.messages.fill();
        for (mbuf, tag) in frames.iter().zip(&tags) {
            let Some(mbuf) = mbuf else { break };
            let (header, pieces) = outgoing::pieces(mbuf, tag);
            let pushed = filling.push(header, pieces);
            if !pushed {
                break;
            }
        }
        let mut done = 0;
        // Each turn is done with a frame or ends; interruptions are bounded by the signals that arrive.
        while done < filling.len() {
            let error = match filling.send(self.fd.as_fd(), done) {
                Ok(sent) => {
                    done += sent;
                    continue;
                }
                Err(error) => error,
            };
            let Some(first) = frames.get(done).and_then(Option::as_ref) else {
                break;
            };
            match Refusal::of(&error, first.flags().intersects(OffloadFlags::GSO)) {
                Refusal::Again => {}
                Refusal::Wait => return (done, false),
                Refusal::Frame(reason) => {
                    self.counters.dropped_taken(reason, first);
                    done += 1;
                }
                Refusal::Link => {
                    if error.raw_os_error() != Some(libc::ENETDOWN) {
                        let code = u64::from(error.raw_os_error().unwrap_or(0).unsigned_abs());
                        self.counters.set_state(QueueState::Gone, code);
                    }
                    frames
                        .iter()
                        .flatten()
                        .skip(done)
                        .for_each(|mbuf| self.counters.dropped_taken(DropReason::LinkDown, mbuf));
                    return (burst.len(), false);
                }
            }
        }
        (done, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let of = |code, segmented| Refusal::of(&io::Error::from_raw_os_error(code), segmented);
        assert_eq!(of(libc::EAGAIN, true), Refusal::Wait);
        assert_eq!(of(libc::ENOBUFS, false), Refusal::Wait);
        assert_eq!(of(libc::ENOBUFS, true), Refusal::Frame(DropReason::NoRoom));
        assert_eq!(
            of(libc::EMSGSIZE, false),
            Refusal::Frame(DropReason::TooLong)
        );
        assert_eq!(of(libc::EINVAL, false), Refusal::Frame(DropReason::Refused));
        assert_eq!(of(libc::ENETDOWN, false), Refusal::Link);
        assert_eq!(of(libc::ENXIO, false), Refusal::Link);
    }
}
