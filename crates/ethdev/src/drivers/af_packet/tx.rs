//! The sending half of a queue: hands frames to the kernel, up to a burst in one system call.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mbuf::checksum::checksum;
use mbuf::{BURST_MAX, Burst, Mbuf, MbufRef, OffloadFlags, SEGMENTS_MAX};

use super::sys::Messages;
use super::vnet;
use crate::driver::TxQueue;
use crate::stats::{DropReason, QueueCounters, QueueState};

/// Pieces of frames in one system call: four for each frame of a burst, and enough for the longest chain, with a tag put in.
const PIECES: usize = if BURST_MAX * 4 > SEGMENTS_MAX + 2 {
    BURST_MAX * 4
} else {
    SEGMENTS_MAX + 2
};

/// Where a VLAN tag goes, and the type of a frame without one is: behind both addresses.
const TAG_AT: usize = 12;
/// Octets of a VLAN tag.
const TAG_LEN: u16 = 4;

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
        let taken = self.prepare(burst);
        self.send_all(burst) + taken
    }
}

/// What is left to do to a frame, other than what `virtio_net_hdr` can ask of the kernel.
fn wants_work(flags: OffloadFlags) -> bool {
    flags.intersects(OffloadFlags::TX_IP_CSUM | OffloadFlags::TX_VLAN_INSERT)
}

/// Fills in the checksum of the IPv4 header, and takes the flag away. The kernel does that for no socket.
fn complete_ip(mbuf: &mut Mbuf<'_>) -> Result<(), DropReason> {
    let (start, len) = ip_header(mbuf.data()).ok_or(DropReason::Checksum)?;
    if mbuf.is_shared() {
        *mbuf = mbuf.clone_deep(mbuf.pool()).ok_or(DropReason::NoBuffer)?;
    }
    let header = mbuf
        .data_mut()
        .and_then(|data| data.get_mut(start..start + len))
        .ok_or(DropReason::Checksum)?;
    header[10..12].fill(0);
    let sum = checksum(header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    mbuf.set_flags(mbuf.flags().without(OffloadFlags::TX_IP_CSUM));
    Ok(())
}

/// Where the IPv4 header starts, behind up to two tags, and its length.
fn ip_header(frame: &[u8]) -> Option<(usize, usize)> {
    let mut at = TAG_AT;
    for _ in 0..=2 {
        match *frame.get(at..)?.first_chunk::<2>()? {
            [0x08, 0x00] => {
                let start = at + 2;
                let first = *frame.get(start)?;
                let len = usize::from(first & 15) * 4;
                let whole = frame.len() >= start + len;
                return (first >> 4 == 4 && len >= 20 && whole).then_some((start, len));
            }
            [0x81, 0x00] | [0x88, 0xa8] => at += usize::from(TAG_LEN),
            _ => return None,
        }
    }
    None
}

impl PacketTx {
    /// Does what the kernel cannot be asked for, and takes the frames with which that fails out: how many those were.
    fn prepare(&self, burst: &mut Burst<'_>) -> usize {
        if !burst.iter().any(|mbuf| wants_work(mbuf.flags())) {
            return 0;
        }
        let before = burst.len();
        let mut ready = Burst::new(burst.lcore());
        for mut mbuf in burst.drain() {
            let flags = mbuf.flags();
            let mut outcome = Ok(());
            if flags.contains(OffloadFlags::TX_IP_CSUM) {
                outcome = complete_ip(&mut mbuf);
            }
            if flags.contains(OffloadFlags::TX_VLAN_INSERT) && mbuf.len() < TAG_AT {
                outcome = Err(DropReason::Malformed);
            }
            match outcome {
                Ok(()) => drop(ready.push(mbuf)),
                Err(reason) => self.counters.dropped_taken(reason, &mbuf),
            }
        }
        burst.append(&mut ready);
        before - burst.len()
    }

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
        let tags = frames.each_ref().map(|mbuf| {
            let [high, low] = mbuf
                .as_ref()
                .map_or(0, |mbuf| mbuf.vlan_tci())
                .to_be_bytes();
            [0x81, 0, high, low]
        });
        let mut filling = self.messages.fill();
        for (mbuf, tag) in frames.iter().zip(&tags) {
            let Some(mbuf) = mbuf else { break };
            let split = mbuf.data().split_at_checked(TAG_AT);
            let pushed = match split {
                Some((addresses, rest)) if mbuf.flags().contains(OffloadFlags::TX_VLAN_INSERT) => {
                    let front = [addresses, tag, rest].into_iter();
                    filling.push(
                        vnet::header(mbuf, TAG_LEN),
                        front.chain(mbuf.segments().skip(1)),
                    )
                }
                _ => filling.push(vnet::header(mbuf, 0), mbuf.segments()),
            };
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
    fn header_of_ipv4_is_found_behind_tags_and_nowhere_else() {
        let frame = |types: &[u8], first: u8, len: usize| {
            let mut frame = vec![2; TAG_AT];
            frame.extend_from_slice(types);
            frame.push(first);
            frame.resize(TAG_AT + types.len() + len, 0);
            frame
        };
        let plain = [8, 0];
        let twice = [0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0];
        assert_eq!(ip_header(&frame(&plain, 0x45, 20)), Some((14, 20)));
        assert_eq!(ip_header(&frame(&twice, 0x46, 24)), Some((22, 24)));
        assert_eq!(ip_header(&frame(&plain, 0x46, 23)), None, "cut");
        assert_eq!(ip_header(&frame(&plain, 0x44, 20)), None, "too short");
        assert_eq!(ip_header(&frame(&plain, 0x65, 40)), None, "version 6");
        assert_eq!(ip_header(&frame(&[0x86, 0xdd], 0x45, 40)), None);
        assert_eq!(ip_header(&[0; 13]), None);
    }

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
