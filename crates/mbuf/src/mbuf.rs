//! One owned buffer: headroom, data, tailroom. Dropping it gives it back.
//!
//! ```text
//! frame   | headroom          | data             | tailroom                |
//!         0                   off                off + len               data_room
//!             prepend <-|-> adj        trim <-|-> append
//! ```
//!
//! An `Mbuf` is the only one of its index in all processes that keep the protocol, so its frame may be read and written as
//! plain bytes. One is made of what a magazine of this slot lists and the pool's tag calls free; of what a ring delivers,
//! marked as sent, and unmarked by that; of what `into_raw` took apart, marked so, and unmarked by that; and, for the length
//! of a borrow, of what a burst owns. Each ends the place it comes from. How far words in the zone can be trusted for this,
//! [`pool`](crate::pool) says. It is bound to its lcore and cannot be sent to another thread: what is to go there goes
//! through a ring.
//!
//! Offset and length lie in shared memory. They are read once an operation and checked against the frame; what does not fit
//! is an empty segment. Another process that breaks the protocol may change the bytes under us, so copy a header before
//! you check it; it cannot lead us out of the frame.
//!
//! **If a process dies:** its mbufs carry its slot's tag, and the sweep gives them back.

use core::fmt;
use core::slice;

use crate::brief::{Brief, Seen};
use crate::cache::Cache;
use crate::flags::{OffloadFlags, TxOffload};
use crate::index::MbufIndex;
use crate::lcore::Lcore;
use crate::magazine::Record;
use crate::meta::{IN_TRANSIT, Links, Meta, Place, Span};
use crate::pool::Pool;
use crate::shape::HEADROOM;
use crate::tag::Tag;

/// A packet as it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look<'m> {
    /// The bytes of the first segment.
    pub data: &'m [u8],
    /// Bytes in all segments.
    pub packet_len: usize,
    /// What is known of it, and wanted for it.
    pub flags: OffloadFlags,
    meta: &'m Meta,
}

impl Look<'_> {
    /// The VLAN tag, as far as the flags say that there is one.
    #[inline]
    #[must_use]
    pub fn vlan_tci(&self) -> u16 {
        self.meta.place().vlan
    }

    /// Checksum and segmentation; valid as far as the flags say.
    #[inline]
    #[must_use]
    pub fn offload(&self) -> TxOffload {
        TxOffload::from_bits(self.meta.offload(), self.meta.flags())
    }
}

/// A packet of one segment that is looked at, and that may then be cut.
#[derive(Debug)]
pub struct Opened<'m> {
    look: Look<'m>,
    brief: &'m Brief,
    /// What the brief said.
    seen: Seen,
    /// Where the data begins in the frame.
    off: u16,
}

impl<'m> Opened<'m> {
    /// How it looks.
    #[inline]
    #[must_use]
    pub fn look(&self) -> Look<'m> {
        self.look
    }

    /// Cuts the packet down to the `len` bytes from `front` on; `false`, and nothing done, if it has not so many.
    #[inline(always)]
    #[must_use]
    pub fn cut(self, front: usize, len: usize) -> bool {
        let all = self.look.data.len();
        if front > all || len > all - front {
            return false;
        }
        let (Ok(front), Ok(len)) = (u16::try_from(front), u16::try_from(len)) else {
            return false;
        };
        if self.seen.is_lazy() {
            self.look.meta.settle(self.seen);
        }
        self.look.meta.set_span(Span {
            off: self.off + front,
            len,
            packet_len: u32::from(len),
        });
        self.brief.write(Seen::UNKNOWN);
        true
    }
}

/// A packet buffer that this thread owns: one segment, or the first of a chain.
#[must_use = "dropping an mbuf frees it"]
pub struct Mbuf<'c> {
    lcore: &'c Lcore,
    /// Of a pool that `lcore` knows, and within its range.
    index: MbufIndex,
}

impl<'c> Mbuf<'c> {
    /// The mbuf of an index that was checked and that this slot has in hand.
    #[inline]
    pub(crate) fn from_checked(lcore: &'c Lcore, index: MbufIndex) -> Self {
        Self { lcore, index }
    }

    /// Which mbuf of the group it is.
    #[inline]
    #[must_use]
    pub fn index(&self) -> MbufIndex {
        self.index
    }

    /// The thread that it belongs to.
    #[inline]
    #[must_use]
    pub fn lcore(&self) -> &'c Lcore {
        self.lcore
    }

    /// The pool that it goes back to.
    #[must_use]
    pub fn pool(&self) -> Pool {
        *self.part().cache.pool()
    }

    /// Takes it apart: the index is still held by this slot, and [`Lcore::adopt`] makes it an mbuf again. For drivers.
    pub fn into_raw(self) -> MbufIndex {
        let meta = self.part().meta;
        meta.set_flags(meta.flags() | IN_TRANSIT);
        self.leak()
    }

    /// Lets go of it without giving it back.
    #[inline]
    pub(crate) fn leak(self) -> MbufIndex {
        let index = self.index;
        core::mem::forget(self);
        index
    }

    /// The pool's magazines, and what there is of it.
    #[inline]
    fn find(&self) -> (&'c Cache, Record<'static>) {
        self.lcore
            .find(self.index)
            .expect("an mbuf's index was checked against its pool when the mbuf was made")
    }

    /// Its first segment.
    #[inline]
    pub(crate) fn part(&self) -> Part<'_> {
        let (cache, record) = self.find();
        Part::new(self.lcore, cache, record, self.index)
    }

    /// Its first segment, for who changes what the brief says of the packet: that is forgotten.
    #[inline]
    pub(crate) fn changing(&self) -> Part<'_> {
        let part = self.part();
        part.brief.write(Seen::UNKNOWN);
        part
    }

    /// Its first segment, to write.
    #[inline]
    pub(crate) fn part_mut(&mut self) -> PartMut<'_> {
        PartMut(self.part())
    }

    /// All its segments, as far as the links lead to mbufs of this slot.
    #[inline]
    pub(crate) fn parts(&self) -> Parts<'_> {
        Parts {
            lcore: self.lcore,
            next: Some(self.part()),
            left: crate::SEGMENTS_MAX,
        }
    }

    /// All its segments, to write one after the other.
    pub(crate) fn parts_mut(&mut self) -> impl Iterator<Item = PartMut<'_>> {
        self.parts().map(PartMut)
    }

    /// The last segment, to write, and the number of all.
    pub(crate) fn last_mut(&mut self) -> (PartMut<'_>, usize) {
        let (last, count) = self.last();
        (PartMut(last), count)
    }

    /// The last segment, and the number of all.
    #[inline]
    pub(crate) fn last(&self) -> (Part<'_>, usize) {
        let mut last = (self.part(), 1);
        if last.0.meta.links().next.is_none() {
            return last;
        }
        for (number, part) in self.parts().enumerate() {
            last = (part, number + 1);
        }
        last
    }

    /// The bytes of the first segment.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.part().bytes()
    }

    /// All that who parses a packet asks of it, at the price of one question.
    #[inline]
    #[must_use]
    pub fn look(&self) -> Look<'_> {
        let part = self.part();
        let (data, links) = (part.bytes(), part.meta.links());
        Look {
            data,
            packet_len: if links.next.is_none() {
                data.len()
            } else {
                part.meta.span().packet_len as usize
            },
            flags: OffloadFlags::from_bits(part.meta.flags()),
            meta: part.meta,
        }
    }

    /// A packet that is one segment and no clone, to be looked at and then cut: [`look`](Self::look), [`adj`](Self::adj) and
    /// [`trim`](Self::trim) at the price of one. `None` if it is not such a one.
    #[inline(always)]
    pub fn open(&mut self) -> Option<Opened<'_>> {
        let (cache, record) = self.find();
        let (meta, seen) = (record.meta, record.brief.read());
        let (off, len, flags) = if seen.is_lazy() {
            (HEADROOM, seen.len(), 0)
        } else {
            if !meta.is_alone() {
                return None;
            }
            let span = meta.span();
            (span.off, span.len, meta.flags())
        };
        let len = usize::from(len);
        let start = cache.pool().frame(self.index, usize::from(off), len)?;
        // SAFETY: `frame` gave `len` bytes inside the zone, mapped for ever. Only this `Mbuf` and its clones lead to them, in a group
        // that keeps the protocol (see the module); it is borrowed alone, and none of them writes meanwhile.
        let data = unsafe { slice::from_raw_parts(start.as_ptr(), len) };
        Some(Opened {
            look: Look {
                data,
                packet_len: len,
                flags: OffloadFlags::from_bits(flags),
                meta,
            },
            brief: record.brief,
            seen,
            off,
        })
    }

    /// Makes room for `n` bytes before the data of a packet of one segment, replaces all flags, and returns the whole of it;
    /// `None`, and nothing done, if there is not so much headroom, clones share it, or it has several segments.
    #[inline(always)]
    pub fn wrap(&mut self, n: usize, flags: OffloadFlags) -> Option<&mut [u8]> {
        let (cache, record) = self.find();
        let meta = record.settled();
        if !meta.is_plain() {
            return None;
        }
        let (span, n) = (meta.span(), u16::try_from(n).ok()?);
        let off = span.off.checked_sub(n)?;
        let len = span.len.checked_add(n)?;
        let start = cache
            .pool()
            .frame(self.index, usize::from(off), usize::from(len))?;
        meta.set_span(Span {
            off,
            len,
            packet_len: u32::from(len),
        });
        let before = meta.flags();
        let after = before & !OffloadFlags::MASK | flags.bits();
        if after != before {
            meta.set_flags(after);
        }
        record.brief.write(Seen::UNKNOWN);
        // SAFETY: `frame` gave `len` bytes inside the zone, mapped for ever. Only this `Mbuf`, which is borrowed alone, leads to
        // them in a group that keeps the protocol (see the module): it is direct and has no clone, checked above.
        Some(unsafe { slice::from_raw_parts_mut(start.as_ptr(), usize::from(len)) })
    }

    /// The bytes of the first segment, to write; `None` if clones share them.
    #[inline]
    #[must_use]
    pub fn data_mut(&mut self) -> Option<&mut [u8]> {
        let (span, frame) = self.part_mut().into_frame()?;
        frame.get_mut(span.range())
    }

    /// Bytes in the first segment.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.part().span().len)
    }

    /// Whether the first segment has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in all segments. A number to count with: bytes are where [`segments`](Self::segments) shows them.
    #[inline]
    #[must_use]
    pub fn packet_len(&self) -> usize {
        let part = self.part();
        if part.meta.links().next.is_none() {
            usize::from(part.span().len)
        } else {
            part.meta.span().packet_len as usize
        }
    }

    /// Bytes before the data that [`prepend`](Self::prepend) can use.
    #[must_use]
    pub fn headroom(&self) -> usize {
        let part = self.part();
        if part.is_shared() {
            0
        } else {
            usize::from(part.span().off)
        }
    }

    /// The bytes before the data: what a device may have put there. `None` if clones share the frame.
    #[inline]
    pub fn headroom_mut(&mut self) -> Option<&mut [u8]> {
        let (span, frame) = self.part_mut().into_frame()?;
        frame.get_mut(..span.off.into())
    }

    /// Bytes behind the data of the last segment that [`append`](Self::append) can use.
    #[must_use]
    pub fn tailroom(&self) -> usize {
        self.last().0.tailroom()
    }

    /// Makes room for `n` bytes before the data and returns it; `None` if there is not so much headroom.
    #[inline]
    pub fn prepend(&mut self, n: usize) -> Option<&mut [u8]> {
        let part = PartMut(self.changing());
        let (mut span, meta) = (part.0.span(), part.0.meta);
        let short = u16::try_from(n).ok()?;
        span.off = span.off.checked_sub(short)?;
        let (_, frame) = part.into_frame()?;
        // What leaves the headroom enters the data, so the frame bounds this sum too.
        span.len = span.len.checked_add(short)?;
        span.packet_len = span.packet_len.wrapping_add(u32::from(short));
        meta.set_span(span);
        frame.get_mut(usize::from(span.off)..)?.get_mut(..n)
    }

    /// Makes room for `n` bytes behind the data of the last segment and returns it; `None` if there is not so much tailroom.
    #[inline]
    pub fn append(&mut self, n: usize) -> Option<&mut [u8]> {
        let head = self.changing();
        let last = if head.meta.links().next.is_none() {
            head
        } else {
            self.last().0
        };
        let (head, meta) = (head.meta, last.meta);
        let (span, frame) = PartMut(last).into_frame()?;
        let room = frame.get_mut(span.range().end..)?.get_mut(..n)?;
        let short = u16::try_from(n).ok()?;
        meta.set_span(Span {
            len: span.len.checked_add(short)?,
            ..span
        });
        add_to_packet(head, i64::from(short));
        Some(room)
    }

    /// Cuts `n` bytes off the front of the first segment; `false`, and nothing done, if it has fewer.
    #[inline]
    pub fn adj(&mut self, n: usize) -> bool {
        let part = self.changing();
        let mut span = part.span();
        let Some(short) = u16::try_from(n).ok().filter(|short| *short <= span.len) else {
            return false;
        };
        span.off += short;
        span.len -= short;
        span.packet_len = span.packet_len.wrapping_sub(u32::from(short));
        part.meta.set_span(span);
        true
    }

    /// Cuts `n` bytes off the end of the last segment; `false`, and nothing done, if it has fewer.
    #[inline]
    pub fn trim(&mut self, n: usize) -> bool {
        let head = self.changing().meta;
        let (last, _) = self.last_mut();
        let (span, meta) = (last.0.span(), last.0.meta);
        let Some(short) = u16::try_from(n).ok().filter(|short| *short <= span.len) else {
            return false;
        };
        meta.set_span(Span {
            len: span.len - short,
            ..span
        });
        add_to_packet(head, -i64::from(short));
        true
    }

    /// The bytes of each segment in turn.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.parts().map(|part| part.bytes())
    }

    /// How many segments it has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.last().1
    }

    /// Whether all its bytes lie in one piece: [`data`](Self::data) is the whole packet.
    #[inline]
    #[must_use]
    pub fn is_contiguous(&self) -> bool {
        self.part().meta.links().next.is_none()
    }

    /// Whether clones by reference see the same bytes; then they cannot be written.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.parts().any(|part| part.is_shared())
    }

    /// The port that it came by, [`PORT_NONE`](crate::PORT_NONE) if none.
    #[inline]
    #[must_use]
    pub fn port(&self) -> u16 {
        self.part().meta.place().port
    }

    /// Says which port it came by.
    #[inline]
    pub fn set_port(&mut self, port: u16) {
        let meta = self.changing().meta;
        meta.set_place(Place {
            port,
            ..meta.place()
        });
    }

    /// The queue that it came by.
    #[inline]
    #[must_use]
    pub fn queue(&self) -> u16 {
        self.part().meta.place().queue
    }

    /// Says which queue it came by.
    #[inline]
    pub fn set_queue(&mut self, queue: u16) {
        let meta = self.part().meta;
        meta.set_place(Place {
            queue,
            ..meta.place()
        });
    }

    /// The VLAN tag that the device took out, or is to put in; the flags say which.
    #[inline]
    #[must_use]
    pub fn vlan_tci(&self) -> u16 {
        self.part().meta.place().vlan
    }

    /// Sets the VLAN tag; the flags say what it means.
    #[inline]
    pub fn set_vlan_tci(&mut self, vlan: u16) {
        let meta = self.part().meta;
        meta.set_place(Place {
            vlan,
            ..meta.place()
        });
    }

    /// The hash that spreads flows, if somebody computed it.
    #[inline]
    #[must_use]
    pub fn rss_hash(&self) -> Option<u32> {
        let meta = self.part().meta;
        (meta.flags() & OffloadFlags::RSS_HASH.bits() != 0).then(|| meta.rss_hash())
    }

    /// Keeps the hash, and says that it is there.
    #[inline]
    pub fn set_rss_hash(&mut self, hash: u32) {
        let meta = self.part().meta;
        meta.set_rss_hash(hash);
        meta.set_flags(meta.flags() | OffloadFlags::RSS_HASH.bits());
    }

    /// What is known of the packet and wanted for it.
    #[inline]
    #[must_use]
    pub fn flags(&self) -> OffloadFlags {
        OffloadFlags::from_bits(self.part().meta.flags())
    }

    /// Replaces the flags.
    #[inline]
    pub fn set_flags(&mut self, flags: OffloadFlags) {
        let meta = self.changing().meta;
        meta.set_flags(meta.flags() & !OffloadFlags::MASK | flags.bits());
    }

    /// Checksum and segmentation; valid as far as the flags say.
    #[inline]
    #[must_use]
    pub fn offload(&self) -> TxOffload {
        let meta = self.part().meta;
        TxOffload::from_bits(meta.offload(), meta.flags())
    }

    /// How many packets leave a wire for this one: more than one if a host left the segmentation to the device.
    #[inline]
    #[must_use]
    pub fn wire_segments(&self) -> u64 {
        self.part().meta.wire_segments()
    }

    /// Sets checksum and segmentation; the flags say what of it is wanted.
    #[inline]
    pub fn set_offload(&mut self, offload: TxOffload) {
        let meta = self.changing().meta;
        let kind = u64::from(offload.gso_type) << TxOffload::TYPE_SHIFT;
        meta.set_offload(offload.bits());
        meta.set_flags(meta.flags() & !TxOffload::TYPE_MASK | kind);
    }

    /// The application's own bytes beside this mbuf; as many as the pool was made with. A clone has its own.
    #[must_use]
    pub fn private(&self) -> &[u8] {
        let pool = self.part().cache.pool();
        let Some(start) = pool.private(self.index) else {
            return &[];
        };
        // SAFETY: `private` gave `private_size` bytes inside the zone, mapped for ever; only the one `Mbuf` of this index
        // leads to them (one in a group that keeps the protocol: see the module), and it is borrowed.
        unsafe { slice::from_raw_parts(start.as_ptr(), usize::from(pool.private_size())) }
    }

    /// The application's own bytes, to write.
    pub fn private_mut(&mut self) -> &mut [u8] {
        let pool = self.part().cache.pool();
        let Some(start) = pool.private(self.index) else {
            return &mut [];
        };
        // SAFETY: as in `private`; the `Mbuf` is borrowed alone.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), usize::from(pool.private_size())) }
    }
}

/// Adds to the length that the head of a chain has for the whole packet.
pub(crate) fn add_to_packet(head: &Meta, bytes: i64) {
    let span = head.span();
    let sum = i64::from(span.packet_len).wrapping_add(bytes);
    head.set_span(Span {
        packet_len: u32::try_from(sum).unwrap_or(0),
        ..span
    });
}

impl Drop for Mbuf<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lcore.free(&[self.index.bits()]);
    }
}

impl fmt::Debug for Mbuf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("index", &self.index)
            .field("packet_len", &self.packet_len())
            .field("segments", &self.segment_count())
            .field("flags", &self.flags())
            .finish_non_exhaustive()
    }
}

impl Span {
    /// Where the bytes lie in the frame.
    #[inline]
    pub(crate) fn range(self) -> core::ops::Range<usize> {
        usize::from(self.off)..usize::from(self.off) + usize::from(self.len)
    }
}

/// One segment of a borrowed mbuf.
#[derive(Clone, Copy)]
pub(crate) struct Part<'m> {
    pub(crate) lcore: &'m Lcore,
    pub(crate) cache: &'m Cache,
    pub(crate) tag: &'static Tag,
    brief: &'static Brief,
    pub(crate) meta: &'static Meta,
    pub(crate) index: MbufIndex,
}

impl<'m> Part<'m> {
    /// Of an mbuf that `lcore` holds.
    #[inline]
    fn new(lcore: &'m Lcore, cache: &'m Cache, record: Record<'static>, index: MbufIndex) -> Self {
        Self {
            lcore,
            cache,
            tag: record.tag,
            brief: record.brief,
            meta: record.settled(),
            index,
        }
    }

    /// The mbuf whose frame this one shows: itself, or the original of a clone. `None` if that is not an mbuf of this slot.
    #[inline]
    pub(crate) fn direct(&self) -> Option<Self> {
        let original = self.meta.links().original;
        if original.is_none() {
            return Some(*self);
        }
        let (cache, record) = self.lcore.find(original)?;
        let ours = record.tag.holder() == self.lcore.holder();
        ours.then(|| Self::new(self.lcore, cache, record, original))
    }

    /// Offset and length, read once; empty if they do not fit the frame.
    #[inline]
    pub(crate) fn span(&self) -> Span {
        let span = self.meta.span();
        match self.direct() {
            Some(direct) if span.range().end <= usize::from(direct.cache.pool().data_room()) => {
                span
            }
            _ => Span {
                off: 0,
                len: 0,
                ..span
            },
        }
    }

    /// Whether others than this mbuf may see its bytes.
    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        !self.meta.links().original.is_none() || self.meta.refs() > 1
    }

    /// Bytes of the frame behind the data that may be written.
    #[inline]
    pub(crate) fn tailroom(&self) -> usize {
        if self.is_shared() {
            return 0;
        }
        usize::from(self.cache.pool().data_room()).saturating_sub(self.span().range().end)
    }

    /// The bytes.
    #[inline]
    pub(crate) fn bytes(&self) -> &'m [u8] {
        let span = self.meta.span();
        let (off, len) = (usize::from(span.off), usize::from(span.len));
        let Some(direct) = self.direct() else {
            return &[];
        };
        let Some(start) = direct.cache.pool().frame(direct.index, off, len) else {
            return &[];
        };
        // SAFETY: `frame` gave `len` bytes inside the zone, mapped for ever. Whoever leads to them is an `Mbuf` of this
        // thread, in a group that keeps the protocol (see the module): the one this part was borrowed from for `'m`, or a
        // clone of it, which does not write while it is one.
        unsafe { slice::from_raw_parts(start.as_ptr(), len) }
    }
}

/// One segment of an mbuf that is borrowed alone.
pub(crate) struct PartMut<'m>(pub(crate) Part<'m>);

impl<'m> PartMut<'m> {
    /// The whole frame, to write, and where the data lies in it; `None` if clones share it.
    #[inline]
    pub(crate) fn into_frame(self) -> Option<(Span, &'m mut [u8])> {
        let part = self.0;
        if part.is_shared() {
            return None;
        }
        let room = usize::from(part.cache.pool().data_room());
        let start = part.cache.pool().frame(part.index, 0, room)?;
        // SAFETY: `frame` gave `room` bytes inside the zone, mapped for ever. Only the `Mbuf` that this part was borrowed
        // from, alone and for `'m`, leads to them: it is the only one of its index in a group that keeps the protocol (see
        // the module), it is direct and it has no clone, both checked above.
        let frame = unsafe { slice::from_raw_parts_mut(start.as_ptr(), room) };
        Some((part.span(), frame))
    }
}

/// Follows the links of a chain.
pub(crate) struct Parts<'m> {
    lcore: &'m Lcore,
    next: Option<Part<'m>>,
    left: usize,
}

impl<'m> Iterator for Parts<'m> {
    type Item = Part<'m>;

    #[inline]
    fn next(&mut self) -> Option<Part<'m>> {
        let part = self.next.take()?;
        self.left -= 1;
        let Links { next, .. } = part.meta.links();
        if !next.is_none() && self.left > 0 {
            // A link from shared memory: followed only to what is in range and held by us.
            self.next = self.lcore.find(next).and_then(|(cache, record)| {
                let ours = record.tag.holder() == self.lcore.holder();
                ours.then(|| Part::new(self.lcore, cache, record, next))
            });
        }
        Some(part)
    }
}
