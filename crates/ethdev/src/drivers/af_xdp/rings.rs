//! The four rings of a socket, and what their descriptors say of frames.
//!
//! ```text
//!           given to the kernel                 taken from it
//! RX half   fill:  where a packet may go        RX:         where one lies, and how long it is
//! TX half   TX:    where one lies, how long     completion: where one lay that was sent
//!
//! address   | number of the mbuf in its pool | offset in its frame |      the pool's frames are the socket's memory
//! ```
//!
//! Each half is one [`FrameQueue`]: what is given is tagged as the queue's first, what is taken is tagged as ours first
//! (`mbuf::frames`). Producer and consumer of each ring are the kernel's words; each of them has one writer.
//!
//! **If a process dies:** the rings stay as they are as long as anybody has the socket. `mbuf::frames` says who has what.

use std::io;
use std::os::fd::BorrowedFd;

use eal::holder::Holder;
use eal::queue::QueueRecord;
use eal::sync::{AtomicU32, AtomicU64, Ordering};
use mbuf::frames::{Descriptors, Extent, FrameQueue, FrameRing};
use mbuf::{MbufIndex, Pool};
use rustix::net::sockopt;
use rustix::net::xdp::{
    XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING, XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING,
    XdpRingOffset,
};

use super::sys::Mapping;
use crate::driver::Direction;

/// `XDP_PKT_CONTD`
const CONTINUED: u32 = 1;
/// `XDP_RING_NEED_WAKEUP`
const NEED_WAKEUP: u32 = 1;

/// How many descriptors each ring of a socket has: powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) rx: u32,
    pub(super) tx: u32,
    pub(super) fill: u32,
    pub(super) completion: u32,
}

/// How addresses say frames of a pool.
#[derive(Debug, Clone, Copy)]
struct Frames {
    pool: u8,
    /// Bits of an offset in a frame.
    shift: u32,
}

/// Descriptors of eight octets: an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses<'m> {
    words: &'m [AtomicU64],
    frames: Frames,
}

/// Descriptors of sixteen: an address, a length, and whether the packet goes on in the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packets<'m> {
    words: &'m [AtomicU64],
    frames: Frames,
}

/// One ring, mapped.
#[derive(Debug)]
struct Ring {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    flags: Option<usize>,
    descriptors: usize,
    len: u32,
}

/// The two rings of one half.
#[derive(Debug)]
pub(super) struct Half {
    given: Ring,
    taken: Ring,
    frames: Frames,
    holder: Holder,
    record: &'static QueueRecord,
}

/// The receiving half.
pub(super) type Receiving<'m> = FrameQueue<'m, Addresses<'m>, Packets<'m>>;
/// The sending half.
pub(super) type Sending<'m> = FrameQueue<'m, Packets<'m>, Addresses<'m>>;

impl Frames {
    fn of(pool: Pool) -> Self {
        Self {
            pool: pool.id(),
            shift: pool.data_room().trailing_zeros(),
        }
    }

    #[inline]
    fn address(self, index: MbufIndex, offset: u16) -> u64 {
        u64::from(index.number()) << self.shift | u64::from(offset)
    }

    #[inline]
    fn index(self, address: u64) -> MbufIndex {
        match u32::try_from(address >> self.shift) {
            Ok(number) if number < mbuf::POOL_COUNT_MAX => MbufIndex::new(self.pool, number),
            _ => MbufIndex::NONE,
        }
    }

    #[inline]
    fn offset(self, address: u64) -> u16 {
        // At most 16 bits are left, since a frame is no longer than a `u16` says.
        u16::try_from(address & ((1 << self.shift) - 1)).unwrap_or(u16::MAX)
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(0)
}

impl Addresses<'_> {
    #[inline]
    fn at(&self, position: u32) -> Option<&AtomicU64> {
        self.words
            .get(position as usize & self.words.len().wrapping_sub(1))
    }
}

impl Descriptors for Addresses<'_> {
    #[inline]
    fn len(&self) -> u32 {
        count(self.words.len())
    }

    #[inline]
    fn put(&self, position: u32, index: MbufIndex, _bytes: Extent) {
        if let Some(word) = self.at(position) {
            word.store(self.frames.address(index, 0), Ordering::Relaxed);
        }
    }

    #[inline]
    fn get(&self, position: u32) -> (MbufIndex, Option<Extent>) {
        let address = self.at(position).map(|word| word.load(Ordering::Relaxed));
        let index = address.map_or(MbufIndex::NONE, |address| self.frames.index(address));
        (index, None)
    }
}

impl Packets<'_> {
    #[inline]
    fn at(&self, position: u32) -> Option<&[AtomicU64; 2]> {
        let (pairs, _) = self.words.as_chunks::<2>();
        pairs.get(position as usize & pairs.len().wrapping_sub(1))
    }
}

impl Descriptors for Packets<'_> {
    #[inline]
    fn len(&self) -> u32 {
        count(self.words.len() / 2)
    }

    #[inline]
    fn put(&self, position: u32, index: MbufIndex, bytes: Extent) {
        if let Some([address, len]) = self.at(position) {
            let start = self.frames.address(index, bytes.offset);
            address.store(start, Ordering::Relaxed);
            // The length is the first word of the two, in the order of this machine; the other is for options.
            let options = if bytes.more { CONTINUED } else { 0 };
            let words = [u32::from(bytes.len), options];
            len.store(join(words), Ordering::Relaxed);
        }
    }

    #[inline]
    fn get(&self, position: u32) -> (MbufIndex, Option<Extent>) {
        let Some([address, len]) = self.at(position) else {
            return (MbufIndex::NONE, None);
        };
        let address = address.load(Ordering::Relaxed);
        let [len, options] = split(len.load(Ordering::Relaxed));
        let bytes = Extent {
            offset: self.frames.offset(address),
            len: u16::try_from(len).unwrap_or(u16::MAX),
            more: options & CONTINUED != 0,
        };
        (self.frames.index(address), Some(bytes))
    }
}

/// Two words as they lie in memory.
#[inline]
fn join([first, second]: [u32; 2]) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[inline]
fn split(both: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = both.to_ne_bytes();
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
    ]
}

impl Ring {
    fn map(
        fd: BorrowedFd<'_>,
        page_offset: u64,
        places: XdpRingOffset,
        len: u32,
        descriptor: usize,
    ) -> io::Result<Self> {
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let place = |offset: u64| usize::try_from(offset).map_err(|_| bad());
        let descriptors = place(places.desc)?;
        let bytes = (len as usize).checked_mul(descriptor).ok_or_else(bad)?;
        let ring = Self {
            mapping: Mapping::new(fd, page_offset, descriptors + bytes)?,
            producer: place(places.producer)?,
            consumer: place(places.consumer)?,
            flags: places.flags.map(place).transpose()?,
            descriptors,
            len,
        };
        // Looked at once, so that later nothing has to be.
        let words = [ring.producer, ring.consumer].map(|word| ring.mapping.word(word).is_some());
        let all = ring.mapping.words(descriptors, bytes / 8).is_some();
        (words == [true; 2] && all && len.is_power_of_two())
            .then_some(ring)
            .ok_or_else(bad)
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU32 {
        let word = self.mapping.word(offset);
        word.expect("looked at when the ring was mapped")
    }

    #[inline]
    fn words(&self, each: usize) -> &[AtomicU64] {
        let words = self
            .mapping
            .words(self.descriptors, self.len as usize * each);
        words.expect("looked at when the ring was mapped")
    }

    #[inline]
    fn addresses(&self, frames: Frames) -> FrameRing<'_, Addresses<'_>> {
        FrameRing {
            producer: self.word(self.producer),
            consumer: self.word(self.consumer),
            descriptors: Addresses {
                words: self.words(1),
                frames,
            },
        }
    }

    #[inline]
    fn packets(&self, frames: Frames) -> FrameRing<'_, Packets<'_>> {
        FrameRing {
            producer: self.word(self.producer),
            consumer: self.word(self.consumer),
            descriptors: Packets {
                words: self.words(2),
                frames,
            },
        }
    }
}

impl Half {
    /// Maps the rings of one direction of a socket whose memory are the frames of `pool`.
    pub(super) fn map(
        fd: BorrowedFd<'_>,
        direction: Direction,
        sizes: Sizes,
        pool: Pool,
        (holder, record): (Holder, &'static QueueRecord),
    ) -> io::Result<Self> {
        let places = sockopt::xdp_mmap_offsets(fd)?;
        let [given, taken] = match direction {
            Direction::Rx => [
                Ring::map(fd, XDP_UMEM_PGOFF_FILL_RING, places.fr, sizes.fill, 8)?,
                Ring::map(fd, XDP_PGOFF_RX_RING, places.rx, sizes.rx, 16)?,
            ],
            Direction::Tx => {
                let at = XDP_UMEM_PGOFF_COMPLETION_RING;
                [
                    Ring::map(fd, XDP_PGOFF_TX_RING, places.tx, sizes.tx, 16)?,
                    Ring::map(fd, at, places.cr, sizes.completion, 8)?,
                ]
            }
        };
        Ok(Self {
            given,
            taken,
            frames: Frames::of(pool),
            holder,
            record,
        })
    }

    /// Of the RX half.
    #[inline]
    pub(super) fn receiving(&self) -> Receiving<'_> {
        FrameQueue {
            record: self.record,
            holder: self.holder,
            pool: self.frames.pool,
            given: self.given.addresses(self.frames),
            taken: self.taken.packets(self.frames),
        }
    }

    /// Of the TX half.
    #[inline]
    pub(super) fn sending(&self) -> Sending<'_> {
        FrameQueue {
            record: self.record,
            holder: self.holder,
            pool: self.frames.pool,
            given: self.given.packets(self.frames),
            taken: self.taken.addresses(self.frames),
        }
    }

    /// Whether the kernel waits to be told of what it is given.
    #[inline]
    pub(super) fn wants_wakeup(&self) -> bool {
        let flags = self.given.flags.and_then(|at| self.given.mapping.word(at));
        // Relaxed: set after the kernel looked in vain; the call that follows looks again.
        flags.is_none_or(|flags| flags.load(Ordering::Relaxed) & NEED_WAKEUP != 0)
    }

    /// Whether the kernel has not taken all that it was given.
    #[inline]
    pub(super) fn has_given(&self) -> bool {
        self.given_waiting() > 0
    }

    fn given_waiting(&self) -> u32 {
        let ring = &self.given;
        let producer = ring.word(ring.producer).load(Ordering::Relaxed);
        producer.wrapping_sub(ring.word(ring.consumer).load(Ordering::Relaxed))
    }

    /// Whether something waits to be taken.
    #[inline]
    pub(super) fn has_taken(&self) -> bool {
        let ring = &self.taken;
        let producer = ring.word(ring.producer).load(Ordering::Relaxed);
        producer != ring.word(ring.consumer).load(Ordering::Relaxed)
    }

    /// Of the RX half: frames that the kernel has, filled ones that were not taken among them.
    #[inline]
    pub(super) fn outstanding(&self) -> u32 {
        let given = self.given.word(self.given.producer).load(Ordering::Relaxed);
        // Each of what it was given comes back by exactly one descriptor.
        given.wrapping_sub(self.taken.word(self.taken.consumer).load(Ordering::Relaxed))
    }

    /// Descriptors of the ring to the kernel.
    pub(super) fn given_len(&self) -> u32 {
        self.given.len
    }
}
