//! What the stack reads, changes and passes on: an mbuf, or bytes on the heap where there is no group.

use mbuf::{Lcore, Mbuf, OffloadFlags, Pool, TxOffload};

/// What a device has found out about a packet that it received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Received {
    /// The IPv4 header's checksum: right or wrong, if the device looked.
    pub ip_checksum: Option<bool>,
    /// The checksum of TCP or UDP: right or wrong, if the device looked. Right, too, where the sender is on this machine and
    /// left it out.
    pub l4_checksum: Option<bool>,
    /// The VLAN tag that the device took out of the frame.
    pub vlan: Option<u16>,
    /// The packet is many UDP datagrams, of so many bytes each but for the last one, which a host on this machine left for its
    /// device to cut, or a device has put together.
    pub datagram_len: Option<core::num::NonZeroU16>,
}

/// What a device is asked to do to a packet that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Fill in the IPv4 header's checksum.
    pub ip_checksum: bool,
    /// Sum up from `.0` to the end and store at `.1` from there; the field holds the pseudo header's sum.
    pub l4_checksum: Option<(u16, u16)>,
}

impl Wishes {
    /// As a device is asked.
    const fn flags(self) -> OffloadFlags {
        let ip = if self.ip_checksum {
            OffloadFlags::TX_IP_CSUM
        } else {
            OffloadFlags::NONE
        };
        let l4 = if self.l4_checksum.is_some() {
            OffloadFlags::TX_L4_CSUM
        } else {
            OffloadFlags::NONE
        };
        OffloadFlags::from_bits(ip.bits() | l4.bits())
    }
}

/// A packet as it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look<'p> {
    /// The first segment.
    pub data: &'p [u8],
    /// Bytes in all segments.
    pub len: usize,
    /// What the device found out.
    pub received: Received,
}

/// One packet: some room, the bytes of it that are data, perhaps in several segments.
///
/// Whoever drops one gives its memory back. What the stack has to look at or to write lies in the first segment.
pub trait Packet: Sized {
    /// What [`open`](Self::open) gives.
    type Opened<'p>: Opened
    where
        Self: 'p;

    /// Bytes in all segments.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first segment.
    fn data(&self) -> &[u8];

    /// The first segment, to write; `None` if others see it, too.
    fn data_mut(&mut self) -> Option<&mut [u8]>;

    /// Room for `n` bytes before the data, which now begin with it; `None` if there is not so much.
    fn prepend(&mut self, n: usize) -> Option<&mut [u8]>;

    /// Room for `n` bytes behind the data of the last segment, which now end with it; `None` if there is not so much.
    fn append(&mut self, n: usize) -> Option<&mut [u8]>;

    /// Cuts `n` bytes off the front of the first segment; `false`, and nothing done, if it has fewer.
    #[must_use]
    fn adj(&mut self, n: usize) -> bool;

    /// Cuts bytes off the end, so that `len` are left; `false`, and nothing done, if that is not possible.
    #[must_use]
    fn truncate(&mut self, len: usize) -> bool;

    /// Sees to it that the first segment has `n` bytes; `false` if that is not possible.
    #[must_use]
    fn pull_up(&mut self, n: usize) -> bool;

    /// Copies bytes from `offset` on into `out`, across segments, and returns how many there were.
    fn copy_out(&self, offset: usize, out: &mut [u8]) -> usize;

    /// The bytes of each segment in turn.
    fn segments(&self) -> impl Iterator<Item = &[u8]>;

    /// Puts the bytes of `other` behind ours.
    ///
    /// # Errors
    ///
    /// Gives `other` back, and changes nothing, if that would be too many segments.
    fn join(&mut self, other: Self) -> Result<(), Self>;

    /// All that who parses a packet asks of it.
    fn look(&self) -> Look<'_>;

    /// A packet of one segment, to be looked at and then cut; `None` if it has several.
    fn open(&mut self) -> Option<Self::Opened<'_>>;

    /// Does what [`prepend`](Self::prepend) and [`ask`](Self::ask) do to a packet of one segment, and returns the whole of it;
    /// `None` if it cannot, or if there are several segments: then its bytes are as they were.
    fn wrap(&mut self, n: usize, wishes: Wishes) -> Option<&mut [u8]>;

    /// Forgets what was found out or asked for, and asks for this.
    fn ask(&mut self, wishes: Wishes);
}

/// A packet of one segment that is looked at, and that may then be cut.
pub trait Opened {
    /// How it looks.
    fn look(&self) -> Look<'_>;

    /// Cuts it down to the `len` bytes from `front` on; `false`, and nothing done, if it has not so many.
    #[must_use]
    fn cut(self, front: usize, len: usize) -> bool;
}

/// Where new packets come from.
pub trait Packets {
    /// What they are.
    type Packet: Packet;

    /// An empty packet with room for the stack's headers before the data; `None` if there is no memory now.
    fn alloc(&mut self) -> Option<Self::Packet>;
}

/// Mbufs of one pool for one lcore.
#[derive(Debug, Clone, Copy)]
pub struct Mbufs<'c> {
    lcore: &'c Lcore,
    pool: Pool,
}

impl<'c> Mbufs<'c> {
    /// Takes them from `pool`.
    #[must_use]
    pub fn new(lcore: &'c Lcore, pool: Pool) -> Self {
        Self { lcore, pool }
    }
}

impl<'c> Packets for Mbufs<'c> {
    type Packet = Mbuf<'c>;

    #[inline]
    fn alloc(&mut self) -> Option<Mbuf<'c>> {
        self.lcore.alloc(self.pool)
    }
}

/// What a chain must be able to hold: the longest datagram.
const DATAGRAM_LEN: usize = 1 << 16;

/// Moves the bytes of a single segment to the start of its frame, so that all the rest of it is tailroom; does nothing to one
/// that clones share.
fn move_to_start(mbuf: &mut Mbuf) {
    let (headroom, len) = (mbuf.headroom(), Mbuf::len(mbuf));
    if Mbuf::prepend(mbuf, headroom).is_none() {
        return;
    }
    if let Some(bytes) = Mbuf::data_mut(mbuf)
        && let Some(end) = headroom.checked_add(len).filter(|end| *end <= bytes.len())
    {
        bytes.copy_within(headroom..end, 0);
    }
    mbuf.trim(headroom);
}

impl Opened for mbuf::Opened<'_> {
    #[inline(always)]
    fn look(&self) -> Look<'_> {
        looked(&mbuf::Opened::look(self))
    }

    #[inline(always)]
    fn cut(self, front: usize, len: usize) -> bool {
        mbuf::Opened::cut(self, front, len)
    }
}

impl<'c> Packet for Mbuf<'c> {
    type Opened<'p>
        = mbuf::Opened<'p>
    where
        'c: 'p;

    #[inline]
    fn len(&self) -> usize {
        self.packet_len()
    }

    #[inline]
    fn data(&self) -> &[u8] {
        Mbuf::data(self)
    }

    #[inline]
    fn data_mut(&mut self) -> Option<&mut [u8]> {
        Mbuf::data_mut(self)
    }

    #[inline]
    fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        Mbuf::prepend(self, n)
    }

    #[inline]
    fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        Mbuf::append(self, n)
    }

    #[inline]
    fn adj(&mut self, n: usize) -> bool {
        Mbuf::adj(self, n)
    }

    #[inline]
    fn truncate(&mut self, len: usize) -> bool {
        let Some(n) = self.packet_len().checked_sub(len) else {
            return false;
        };
        n == 0 || self.trim(n) || (self.linearize() && self.trim(n))
    }

    fn pull_up(&mut self, n: usize) -> bool {
        Mbuf::data(self).len() >= n || (self.linearize() && Mbuf::data(self).len() >= n)
    }

    fn copy_out(&self, offset: usize, out: &mut [u8]) -> usize {
        Mbuf::copy_out(self, offset, out)
    }

    #[inline]
    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        Mbuf::segments(self)
    }

    fn join(&mut self, mut other: Self) -> Result<(), Self> {
        let (len, tailroom) = (other.packet_len(), self.tailroom());
        if len <= tailroom
            && let Some(room) = Mbuf::append(self, len)
        {
            // Small pieces share a frame.
            let copied = Mbuf::copy_out(&other, 0, room);
            if copied < len {
                // Less was there than was said.
                self.trim(len - copied);
            }
            return Ok(());
        }
        // Whole frames behind ours would hold what is still to come of the longest datagram: then nothing need be copied.
        let (count, frame) = (self.segment_count(), usize::from(other.pool().data_room()));
        let frames_left = mbuf::SEGMENTS_MAX.saturating_sub(count);
        if self.packet_len() + frames_left * frame >= DATAGRAM_LEN + frame {
            return self.append_segment(other);
        }
        let n = Mbuf::len(&other).min(tailroom);
        // What would be refused, or could not become one segment, is left as it is.
        let joins = core::ptr::eq(self.lcore(), other.lcore())
            && u32::try_from(self.packet_len() + len).is_ok();
        let shrinks =
            other.is_contiguous() || (!other.is_shared() && len.saturating_sub(n) <= frame);
        if joins
            && shrinks
            && frames_left > 0
            && let Some(room) = Mbuf::append(self, n)
        {
            let _ = Mbuf::copy_out(&other, 0, room);
            if Mbuf::adj(&mut other, n) && other.linearize() {
                move_to_start(&mut other);
            }
        }
        self.append_segment(other)
    }

    #[inline]
    fn look(&self) -> Look<'_> {
        looked(&Mbuf::look(self))
    }

    #[inline(always)]
    fn open(&mut self) -> Option<mbuf::Opened<'_>> {
        Mbuf::open(self)
    }

    #[inline(always)]
    fn wrap(&mut self, n: usize, wishes: Wishes) -> Option<&mut [u8]> {
        if wishes.l4_checksum.is_some() {
            set_offload(self, wishes);
        }
        Mbuf::wrap(self, n, wishes.flags())
    }

    #[inline]
    fn ask(&mut self, wishes: Wishes) {
        if wishes.l4_checksum.is_some() {
            set_offload(self, wishes);
        }
        if wishes.flags() != self.flags() {
            self.set_flags(wishes.flags());
        }
    }
}

#[inline(never)]
fn set_offload(mbuf: &mut Mbuf<'_>, wishes: Wishes) {
    if let Some((csum_start, csum_offset)) = wishes.l4_checksum {
        mbuf.set_offload(TxOffload {
            csum_start,
            csum_offset,
            ..TxOffload::default()
        });
    }
}

/// An mbuf, as the stack looks at it.
#[inline]
fn looked<'m>(look: &mbuf::Look<'m>) -> Look<'m> {
    Look {
        data: look.data,
        len: look.packet_len,
        received: if look.flags.is_empty() {
            Received::default()
        } else {
            received(look)
        },
    }
}

/// What flags say, and what stands beside them.
#[inline(always)]
fn received(look: &mbuf::Look<'_>) -> Received {
    let flags = look.flags;
    let found = |good, bad| match (flags.intersects(good), flags.intersects(bad)) {
        (_, true) => Some(false),
        (true, _) => Some(true),
        _ => None,
    };
    Received {
        ip_checksum: found(OffloadFlags::RX_IP_GOOD, OffloadFlags::RX_IP_BAD),
        l4_checksum: found(
            OffloadFlags::RX_L4_GOOD | OffloadFlags::TX_L4_CSUM,
            OffloadFlags::RX_L4_BAD,
        ),
        vlan: flags
            .contains(OffloadFlags::VLAN_STRIPPED)
            .then(|| look.vlan_tci()),
        datagram_len: if flags.contains(OffloadFlags::GSO_UDP) {
            core::num::NonZeroU16::new(look.offload().gso_size)
        } else {
            None
        },
    }
}

/// Packets of bytes on the heap, for tests, fuzzing, and who has no group. Up to so many are out at a time.
#[derive(Debug, Clone, Default)]
pub struct Heap {
    out: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    max: usize,
}

impl Heap {
    /// At most `max` packets at a time.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// How many are out.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.out.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// A packet with these bytes, as a device would deliver it; `None` if too many are out.
    #[must_use]
    pub fn packet(&self, bytes: &[u8]) -> Option<Bytes> {
        use std::sync::atomic::Ordering;
        let added = self
            .out
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |out| {
                (out < self.max).then_some(out + 1)
            });
        added.ok()?;
        let mut room = vec![0; mbuf::HEADROOM.into()];
        room.extend_from_slice(bytes);
        Some(Bytes {
            start: mbuf::HEADROOM.into(),
            room,
            received: Received::default(),
            wishes: Wishes::default(),
            heap: self.clone(),
        })
    }
}

impl Packets for Heap {
    type Packet = Bytes;

    fn alloc(&mut self) -> Option<Bytes> {
        self.packet(&[])
    }
}

/// One packet of a [`Heap`]: a single segment of any length.
#[derive(Debug)]
pub struct Bytes {
    start: usize,
    room: Vec<u8>,
    /// What a device would have found out.
    pub received: Received,
    /// What a device is asked for.
    pub wishes: Wishes,
    heap: Heap,
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.heap
            .out
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Opened for &mut Bytes {
    fn look(&self) -> Look<'_> {
        Packet::look(*self)
    }

    fn cut(self, front: usize, len: usize) -> bool {
        let end = front.checked_add(len).filter(|end| *end <= self.len());
        if let Some(end) = end {
            self.room.truncate(self.start + end);
            self.start += front;
        }
        end.is_some()
    }
}

impl Packet for Bytes {
    type Opened<'p> = &'p mut Self;

    fn len(&self) -> usize {
        self.room.len() - self.start
    }

    fn data(&self) -> &[u8] {
        &self.room[self.start..]
    }

    fn data_mut(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.room[self.start..])
    }

    fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(n)?;
        self.room.get_mut(self.start..self.start + n)
    }

    fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        // As much as an mbuf has, so that tests meet the same limits.
        let len = self.room.len();
        if len + n > mbuf::DATA_ROOM.into() {
            return None;
        }
        self.room.resize(len + n, 0);
        self.room.get_mut(len..)
    }

    fn adj(&mut self, n: usize) -> bool {
        let fits = n <= self.len();
        if fits {
            self.start += n;
        }
        fits
    }

    fn truncate(&mut self, len: usize) -> bool {
        let fits = len <= self.len();
        if fits {
            self.room.truncate(self.start + len);
        }
        fits
    }

    fn pull_up(&mut self, n: usize) -> bool {
        n <= self.len()
    }

    fn copy_out(&self, offset: usize, out: &mut [u8]) -> usize {
        let here = self.data().get(offset..).unwrap_or_default();
        let n = here.len().min(out.len());
        out[..n].copy_from_slice(&here[..n]);
        n
    }

    fn segments(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(self.data())
    }

    fn join(&mut self, other: Self) -> Result<(), Self> {
        self.room.extend_from_slice(other.data());
        Ok(())
    }

    fn look(&self) -> Look<'_> {
        Look {
            data: self.data(),
            len: self.len(),
            received: self.received,
        }
    }

    fn open(&mut self) -> Option<&mut Self> {
        Some(self)
    }

    fn wrap(&mut self, n: usize, wishes: Wishes) -> Option<&mut [u8]> {
        self.start = self.start.checked_sub(n)?;
        self.ask(wishes);
        self.room.get_mut(self.start..)
    }

    fn ask(&mut self, wishes: Wishes) {
        self.received = Received::default();
        self.wishes = wishes;
    }
}

#[cfg(test)]
mod tests {
    use mbuf::{PoolConfig, SEGMENTS_MAX};

    use super::*;

    fn pool(data_room: u16) -> Pool {
        let config = PoolConfig {
            data_room,
            ..PoolConfig::new("packets", 300)
        };
        let len = Pool::len_for(&config).unwrap() + (1 << 18);
        let region = Box::leak(Box::new(eal::Region::anonymous(len).unwrap()));
        Pool::create(region, &config).unwrap()
    }

    fn lcore(pool: Pool) -> Lcore {
        Lcore::new(eal::Slot::claim(pool.region(), "test").unwrap())
    }

    fn pattern(seed: usize, len: usize) -> Vec<u8> {
        (0..len)
            .map(|at| ((at + seed).wrapping_mul(0x9e37_79b9) >> 11).to_le_bytes()[0])
            .collect()
    }

    fn bytes(packet: &Mbuf) -> Vec<u8> {
        let bytes: Vec<u8> = packet.segments().flatten().copied().collect();
        assert_eq!(bytes.len(), packet.packet_len());
        bytes
    }

    /// Joins pieces of these lengths, and returns the chain with how many were taken.
    fn chain<'c>(
        lcore: &'c Lcore,
        pool: Pool,
        lens: impl IntoIterator<Item = usize>,
    ) -> (Mbuf<'c>, usize) {
        let (mut whole, mut expected) = (lcore.alloc(pool).unwrap(), Vec::new());
        let mut taken = 0;
        for (number, len) in lens.into_iter().enumerate() {
            let data = pattern(number * 100, len);
            let mut piece = lcore.mbuf_from(pool, &[0; 20]).unwrap();
            assert!(piece.extend_from_slice(pool, &data) && Mbuf::adj(&mut piece, 20));
            match whole.join(piece) {
                Ok(()) => expected.extend_from_slice(&data),
                Err(piece) => {
                    assert_eq!(bytes(&piece), data, "given back as it was");
                    assert!(bytes(&whole) == expected, "and nothing changed");
                    break;
                }
            }
            assert!(bytes(&whole) == expected, "piece {number} of {len}");
            assert!(whole.segment_count() <= SEGMENTS_MAX);
            taken += 1;
        }
        (whole, taken)
    }

    #[test]
    fn joined_mbufs_hold_the_longest_datagram_in_pieces_of_any_size() {
        for data_room in [1152, 2048, 9216] {
            let pool = pool(data_room);
            let lcore = lcore(pool);
            let lens = [64, 528, 560, 936, 944, 976, 1000, 1456, 1480, 1880, 1896];
            // Each in one frame, behind the 128 bytes of headroom and the 20 of a header.
            for len in lens.into_iter().filter(|len| len + 148 <= data_room.into()) {
                let count = 65_535_usize.div_ceil(len);
                let (whole, taken) = chain(&lcore, pool, std::iter::repeat_n(len, count));
                assert_eq!(taken, count, "{len} in {data_room}");
                drop(whole);
                assert_eq!(pool.in_use(), 0);
            }
        }
    }

    #[test]
    fn few_large_mbufs_are_hung_behind_each_other_and_not_copied() {
        let pool = pool(2048);
        let lcore = lcore(pool);
        let (whole, _) = chain(&lcore, pool, [1400; 40]);
        assert_eq!(whole.segment_count(), 40);
        let (whole, _) = chain(&lcore, pool, [100; 19]);
        assert_eq!(whole.segment_count(), 1);
    }

    #[test]
    fn full_chain_gives_the_next_back_as_it_was_and_stays_as_it_is() {
        let pool = pool(1152);
        let lcore = lcore(pool);
        for len in [64, 700, 1000] {
            let (_, taken) = chain(&lcore, pool, std::iter::repeat_n(len, 2000));
            assert!(taken < 2000 && taken * len > 65_535, "{taken} of {len}");
        }
        assert_eq!(pool.in_use(), 0);
        // What was chained with room left in it takes what fits there, and nothing else.
        let mut whole = lcore.mbuf_from(pool, b"0").unwrap();
        for _ in 1..SEGMENTS_MAX {
            whole
                .append_segment(lcore.mbuf_from(pool, b"1").unwrap())
                .unwrap();
        }
        let (data, before) = (pattern(1, 1024), bytes(&whole));
        let refused = whole
            .join(lcore.mbuf_from(pool, &data).unwrap())
            .unwrap_err();
        assert_eq!((bytes(&refused), bytes(&whole)), (data, before));
        whole.join(lcore.mbuf_from(pool, b"fits").unwrap()).unwrap();
        assert_eq!(bytes(&whole)[60..], *b"1111fits");
        drop((whole, refused));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn mbufs_of_another_thread_are_given_back_whole() {
        let pool = pool(1152);
        let (ours, theirs) = (lcore(pool), lcore(pool));
        let mut refused_with_room = 0;
        for count in 1..60 {
            let (mut whole, _) = chain(&ours, pool, std::iter::repeat_n(900, count));
            let (before, room) = (bytes(&whole), whole.tailroom());
            let data = pattern(1, 1000);
            match whole.join(theirs.mbuf_from(pool, &data).unwrap()) {
                // Copied, all of it.
                Ok(()) => assert!(room >= 1000 && bytes(&whole)[900 * count..] == data),
                Err(refused) => {
                    refused_with_room += usize::from(room > 0);
                    assert!(
                        bytes(&refused) == data && bytes(&whole) == before,
                        "{count}"
                    );
                }
            }
        }
        assert!(refused_with_room > 50);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn clones_are_joined_without_being_written() {
        let pool = pool(1152);
        let lcore = lcore(pool);
        for count in [1, 40, 60] {
            let (mut whole, _) = chain(&lcore, pool, std::iter::repeat_n(900, count));
            let mut expected = bytes(&whole);
            let data = pattern(1, 1000);
            let original = lcore.mbuf_from(pool, &data).unwrap();
            let clone = original.clone_ref().unwrap();
            whole.join(clone).unwrap();
            expected.extend_from_slice(&data);
            assert!(bytes(&whole) == expected, "{count}");
            assert_eq!(bytes(&original), data);
            let (mut more, seen) = (original.clone_ref().unwrap(), bytes(&original));
            more.join(lcore.mbuf_from(pool, b"more").unwrap()).unwrap();
            assert_eq!(bytes(&original), seen);
            assert_eq!(bytes(&more)[1000..], *b"more");
        }
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn empty_mbufs_are_joined() {
        let pool = pool(2048);
        let lcore = lcore(pool);
        let (whole, taken) = chain(&lcore, pool, [0, 10, 0, 1900, 0]);
        assert_eq!((taken, whole.packet_len()), (5, 1910));
    }
}
