//! The receiving half of a queue: copies frames out of the ring into buffers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use eal::sleep::Found;
use mbuf::{Burst, Lcore, Mbuf, Pool, SEGMENTS_MAX};

use super::blocks::{BlockRing, Packet};
use super::sys::{self, Geometry};
use crate::driver::{QueueContext, RxQueue, Wakeup};
use crate::drivers::vnet::{self, VNET_HEADER_LEN};
use crate::stats::{DropReason, QueueCounters};

/// Octets of the two link addresses, behind which a VLAN tag stands.
const ADDRESSES_LEN: usize = 12;
/// Octets of a VLAN tag.
const TAG_LEN: usize = 4;
/// Octets that the first buffer of a packet must take: addresses and tag go in as one.
pub(super) const FIRST_SEGMENT_MIN: usize = 64;
/// After so many bursts without a packet the kernel is asked once more what it dropped.
const IDLE_POLLS: u32 = 1024;

/// The receiving half of a queue.
#[derive(Debug)]
pub(super) struct PacketRx {
    fd: OwnedFd,
    ring: BlockRing,
    pool: Pool,
    counters: QueueCounters,
    /// The second in which the kernel was last asked what it dropped, by the clock in the packets.
    second: u32,
    /// Bursts without a packet since the last one.
    idle: u32,
}

impl PacketRx {
    /// Goes on where the queue's last owner stopped.
    pub(super) fn open(
        fd: OwnedFd,
        geometry: Geometry,
        pool: Pool,
        cx: &QueueContext,
    ) -> io::Result<Self> {
        let ring = BlockRing::open(fd.as_fd(), geometry, cx.record)?;
        Ok(Self {
            fd,
            ring,
            pool,
            counters: cx.counters,
            second: 0,
            idle: 0,
        })
    }

    /// Copies `packet`, or says why it is dropped, with all buffers that were taken given back.
    fn copy<'c>(&self, lcore: &'c Lcore, packet: &Packet) -> Result<Mbuf<'c>, DropReason> {
        let mapping = self.ring.mapping();
        let no_buffer = DropReason::NoBuffer;
        let mut mbuf = lcore.alloc(self.pool).ok_or(no_buffer)?;
        let mut from = packet.start;
        let mut left = packet.len;
        let room = mbuf.tailroom();
        let tag = packet.vlan.filter(|_| left >= ADDRESSES_LEN);
        let tag_len = if tag.is_some() { TAG_LEN } else { 0 };
        let first = left.min(room.checked_sub(tag_len).ok_or(no_buffer)?);
        let to = mbuf.append(first + tag_len).ok_or(no_buffer)?;
        let copied = if let Some(tag) = tag {
            let (addresses, rest) = to.split_at_mut_checked(ADDRESSES_LEN).ok_or(no_buffer)?;
            let (place, rest) = rest.split_at_mut_checked(TAG_LEN).ok_or(no_buffer)?;
            place.copy_from_slice(&tag);
            mapping.copy_out(from, addresses) && mapping.copy_out(from + ADDRESSES_LEN, rest)
        } else {
            mapping.copy_out(from, to)
        };
        copied.then_some(()).ok_or(no_buffer)?;
        (from, left) = (from + first, left - first);
        while left > 0 {
            if mbuf.segment_count() == SEGMENTS_MAX {
                return Err(DropReason::TooLong);
            }
            let mut segment = lcore.alloc(self.pool).ok_or(no_buffer)?;
            let len = left.min(segment.tailroom());
            // A pool that gives buffers without room would have us here for ever.
            if len == 0 || !mapping.copy_out(from, segment.append(len).ok_or(no_buffer)?) {
                return Err(no_buffer);
            }
            mbuf.append_segment(segment)
                .map_err(|_| DropReason::TooLong)?;
            (from, left) = (from + len, left - len);
        }
        let mut header = [0; VNET_HEADER_LEN];
        if mapping.copy_out(packet.start - VNET_HEADER_LEN, &mut header) {
            vnet::note(header, if tag.is_some() { 4 } else { 0 }, &mut mbuf);
        }
        if packet.hash != 0 {
            mbuf.set_rss_hash(packet.hash);
        }
        Ok(mbuf)
    }

    /// Asks the kernel what it dropped, and counts it.
    fn count_missed(&mut self) {
        if let Ok(missed) = sys::take_missed(self.fd.as_fd()) {
            self.counters.missed(u64::from(missed));
        }
        let malformed = self.ring.take_malformed();
        if malformed != 0 {
            self.counters.dropped(DropReason::Malformed, malformed);
        }
    }
}

impl RxQueue for PacketRx {
    fn wakeup(&self) -> Wakeup<'_> {
        Wakeup::Descriptor(self.fd.as_fd())
    }

    fn sleep_begin(&mut self) {
        // An interface that went down is told once and not at every look: nobody could sleep.
        let _ = sys::take_error(self.fd.as_fd());
    }

    fn look(&mut self) -> Found {
        if self.ring.next().is_some() {
            Found::InDevice
        } else {
            Found::Nothing
        }
    }

    fn rx_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize {
        let before = burst.len();
        let mut looked = 0;
        // Packets that are dropped count too: a burst ends.
        let most = burst.room();
        while looked < most {
            let Some(packet) = self.ring.next() else {
                break;
            };
            looked += 1;
            if packet.second != self.second {
                self.second = packet.second;
                self.count_missed();
            }
            if packet.outgoing {
                // What the kernel let through although it was asked not to: nobody sent it to us.
            } else if !packet.whole {
                self.counters.dropped(DropReason::TooLong, 1);
            } else {
                match self.copy(lcore, &packet) {
                    // There is room: `looked` is below it.
                    Ok(mbuf) => drop(burst.push(mbuf)),
                    Err(reason) => self.counters.dropped(reason, 1),
                }
            }
            // Last: whoever dies before this leaves the packet to the successor.
            self.ring.pass(&packet);
        }
        if looked > 0 {
            self.idle = 0;
        } else if self.idle < IDLE_POLLS {
            self.idle += 1;
            if self.idle == IDLE_POLLS {
                self.count_missed();
            }
        }
        burst.len() - before
    }
}
