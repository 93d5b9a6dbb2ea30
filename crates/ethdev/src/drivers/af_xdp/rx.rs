//! The receiving half of a queue: frames that the kernel filled, as they lie.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use eal::queue::QueueRecord;
use eal::sleep::Found;
use eal::sync::Ordering;
use mbuf::frames::reclaim;
use mbuf::{BURST_MAX, Burst, Lcore, Mbuf, Pool};
use rustix::net::{RecvFlags, recv, sockopt};

use super::metadata::{LEN, Metadata};
use super::rings::Half;
use crate::driver::{QueueContext, RxQueue, Wakeup};
use crate::stats::{DropReason, QueueCounters};

/// Frames are given to the kernel by so many at least.
const FILL_MIN: u32 = 32;
/// Octets of the two link addresses, behind which a VLAN tag stands.
const ADDRESSES_LEN: usize = 12;
/// Octets of a VLAN tag.
const TAG_LEN: usize = 4;
/// After so many looks in vain, and after so many bursts, the kernel is asked what it dropped.
const LOOKS: u32 = 1024;

/// The receiving half of a queue.
#[derive(Debug)]
pub(super) struct XdpRx {
    half: Half,
    fd: Arc<OwnedFd>,
    pool: Pool,
    record: &'static QueueRecord,
    counters: QueueCounters,
    /// Whether what the last owner left was looked after.
    is_adopted: bool,
    /// Whether the socket wants to be asked for packets.
    busy_polls: bool,
    /// Whether metadata may stand before frames.
    describes: bool,
    looks: u32,
}

impl XdpRx {
    /// Goes on where the queue's last owner stopped.
    pub(super) fn new(
        half: Half,
        fd: Arc<OwnedFd>,
        pool: Pool,
        cx: &QueueContext,
        (busy_polls, describes): (bool, bool),
    ) -> Self {
        Self {
            half,
            fd,
            pool,
            record: cx.record,
            counters: cx.counters,
            is_adopted: false,
            busy_polls,
            describes,
            looks: 0,
        }
    }

    #[cold]
    fn adopt(&mut self, lcore: &Lcore) {
        let queue = self.half.receiving();
        settle_renewed(lcore, self.pool, self.record, queue.holder);
        queue.adopt(lcore);
        self.is_adopted = true;
    }

    /// Makes chains of packets that lie in several frames: of those from place `before` on, by the bits of `more`. How many packets.
    #[cold]
    fn join<'c>(&self, burst: &mut Burst<'c>, before: usize, more: u64) -> usize {
        let mut whole = burst.take_front(before);
        let mut parts = burst.take_front(burst.len());
        let (mut packet, mut goes_on) = (None::<Mbuf<'c>>, more);
        for part in parts.drain() {
            match &mut packet {
                None => packet = Some(part),
                Some(packet) => {
                    if packet.append_segment(part).is_err() {
                        self.counters.dropped(DropReason::TooLong, 1);
                    }
                }
            }
            if goes_on & 1 == 0
                && let Some(packet) = packet.take()
            {
                drop(whole.push(packet));
            }
            goes_on >>= 1;
        }
        burst.append(&mut whole);
        burst.len() - before
    }

    /// Gives the kernel frames in place of those that were taken.
    fn fill(&self, lcore: &Lcore) {
        let queue = self.half.receiving();
        let mut missing = self
            .half
            .given_len()
            .saturating_sub(self.half.outstanding());
        if missing < FILL_MIN {
            return;
        }
        while missing > 0 {
            let mut frames = Burst::new(lcore);
            let wanted = BURST_MAX.min(missing as usize);
            // Where the pool is dry, what the kernel has not is asked for again at the next burst.
            lcore.alloc_burst(self.pool, &mut frames, wanted);
            let given = u32::try_from(queue.give(&mut frames)).unwrap_or(0);
            if given == 0 {
                break;
            }
            missing = missing.saturating_sub(given);
        }
        if self.half.wants_wakeup() {
            self.wake();
        }
    }

    /// Has the kernel look at the fill ring.
    fn wake(&self) {
        let _ = recv(&*self.fd, &mut [0_u8; 0][..], RecvFlags::DONTWAIT);
    }

    /// Asks the kernel what it dropped, and counts what is new.
    #[cold]
    fn count_missed(&mut self) {
        self.looks = 0;
        let Ok(all) = sockopt::xdp_statistics(&*self.fd) else {
            return;
        };
        // Counted apart: no frame to put it into, and no room in the RX ring.
        let sum = all.rx_dropped + all.rx_ring_full.unwrap_or(0);
        let [low, _] = halves(sum);
        let before = self.record.missed.load(Ordering::Relaxed);
        self.record.missed.store(low, Ordering::Relaxed);
        self.counters.missed(low.wrapping_sub(before).into());
    }
}

/// Gives back what the socket of a former configuration had, if this one is new.
pub(super) fn settle_renewed(
    lcore: &Lcore,
    pool: Pool,
    record: &QueueRecord,
    holder: eal::holder::Holder,
) {
    if record.renewed.load(Ordering::Acquire) != 0 {
        reclaim(lcore, pool, holder);
        // Before anything is given: whoever dies over it leaves it to be done once more.
        record.renewed.store(0, Ordering::Release);
    }
}

/// Notes what the device said of a frame: its hash, and the tag that it took off, which goes back into the frame.
fn describe(mbuf: &mut Mbuf<'_>) {
    let Some(before) = mbuf.headroom_mut().and_then(<[u8]>::last_chunk_mut::<LEN>) else {
        return;
    };
    let Some(metadata) = Metadata::read(before) else {
        return;
    };
    // Once: what stands there is the next frame's if that comes without.
    before.fill(0);
    if let Some((hash, _)) = metadata.hash {
        mbuf.set_rss_hash(hash);
    }
    if let Some((kind, tag)) = metadata.tag
        && mbuf.len() >= ADDRESSES_LEN
        && let Some(front) = mbuf.prepend(TAG_LEN)
    {
        let [[a, b], [c, d]] = [kind.to_be_bytes(), tag.to_be_bytes()];
        front.fill(0);
        if let Some(frame) = mbuf.data_mut() {
            frame.copy_within(TAG_LEN..TAG_LEN + ADDRESSES_LEN, 0);
            frame[ADDRESSES_LEN..ADDRESSES_LEN + TAG_LEN].copy_from_slice(&[a, b, c, d]);
        }
    }
}

fn halves(word: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
    [
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    ]
}

impl RxQueue for XdpRx {
    fn rx_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize {
        if !self.is_adopted {
            self.adopt(lcore);
        }
        if self.busy_polls {
            self.wake();
        }
        let before = burst.len();
        let taken = self.half.receiving().take(lcore, burst);
        if self.describes {
            // They come from the core that received: all at once, and not one after the other.
            burst.prefetch_fronts(before);
            for (place, mut mbuf) in burst.iter_mut().skip(before).enumerate() {
                // Before a further part of a packet stands what the frame held earlier.
                let is_first = place == 0 || taken.more >> (place - 1) & 1 == 0;
                if is_first {
                    describe(&mut mbuf);
                }
            }
        }
        let taken = if taken.more == 0 {
            taken.count
        } else {
            self.join(burst, before, taken.more)
        };
        self.fill(lcore);
        self.looks += 1;
        if self.looks >= LOOKS {
            self.count_missed();
        }
        taken
    }

    fn wakeup(&self) -> Wakeup<'_> {
        Wakeup::Descriptor(self.fd.as_fd())
    }

    fn sleep_begin(&mut self) {
        self.count_missed();
    }

    fn look(&mut self) -> Found {
        if self.half.has_taken() {
            Found::InDevice
        } else {
            Found::Nothing
        }
    }
}

impl Drop for XdpRx {
    fn drop(&mut self) {
        self.count_missed();
    }
}
