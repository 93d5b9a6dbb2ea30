//! What the group knows of one mbuf: one cache line beside its frame.
//!
//! ```text
//! offset  0        4      8                     16                          24
//!         | unused | refs | data: off len total | place: port queue segs vlan |
//!        24                     32      40        48         52       56       64
//!         | links: next original | flags | offload | rss_hash | unused | unused |
//! ```
//!
//! | word   | written by                                                             |
//! |--------|------------------------------------------------------------------------|
//! | refs   | the slot that holds the mbuf and all its clones: clones never leave their slot |
//! | others | the holder, whom the [`tag`](crate::tag) names                         |
//!
//! So every word has one writer at a time, and a plain load and store does for a reference count. What travels between
//! processes is ordered by the ring or the magazine it travels through; all accesses here are relaxed.
//!
//! An mbuf that was allocated and of which nobody has asked more than its brief says is *lazy*: here stands
//! what its last user left.
//!
//! **If a process dies:** the tag tells the sweep whose the mbuf was, and whether there are links to go by. All words here are
//! written anew before the mbuf's next holder reads one, so that it does not matter which of them its last user got to write.

use crate::brief::{Facts, Seen};
use crate::flags::{OffloadFlags, TxOffload};
use crate::index::MbufIndex;
use crate::shape::HEADROOM;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The shape and the offload data of one mbuf.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Meta {
    unused_first: AtomicU32,
    /// Users of the frame: the mbuf itself, as long as it lives, and its clones.
    refs: AtomicU32,
    /// [`Span`].
    data: AtomicU64,
    /// [`Place`].
    place: AtomicU64,
    /// [`Links`].
    links: AtomicU64,
    /// `OffloadFlags`, the kind of segmentation above them, [`IN_TRANSIT`] at the top.
    flags: AtomicU64,
    /// Where the checksum goes, how long the headers and the segments are.
    offload: AtomicU64,
    /// Valid if the flags say so.
    rss_hash: AtomicU32,
    unused: [AtomicU32; 3],
}

// What one process writes, the other must find at the same offset, and on one line.
#[cfg(not(loom))]
const _: () = assert!(size_of::<Meta>() == 64 && align_of::<Meta>() == 64);

/// In the flags: the mbuf was made a bare index and is nobody's `Mbuf`; only such a one can be adopted.
pub(crate) const IN_TRANSIT: u64 = 1 << 63;

/// Where the bytes lie in the frame, and how long the packet is with all its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) off: u16,
    pub(crate) len: u16,
    pub(crate) packet_len: u32,
}

impl Span {
    const fn bits(self) -> u64 {
        self.off as u64 | (self.len as u64) << 16 | (self.packet_len as u64) << 32
    }

    const fn from_bits(bits: u64) -> Self {
        Self {
            off: (bits & 0xffff) as u16,
            len: (bits >> 16 & 0xffff) as u16,
            packet_len: (bits >> 32) as u32,
        }
    }
}

/// Where the packet came from, and how many segments it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) port: u16,
    pub(crate) queue: u16,
    pub(crate) segments: u16,
    pub(crate) vlan: u16,
}

impl Place {
    const fn bits(self) -> u64 {
        self.port as u64
            | (self.queue as u64) << 16
            | (self.segments as u64) << 32
            | (self.vlan as u64) << 48
    }

    const fn from_bits(bits: u64) -> Self {
        Self {
            port: (bits & 0xffff) as u16,
            queue: (bits >> 16 & 0xffff) as u16,
            segments: (bits >> 32 & 0xffff) as u16,
            vlan: (bits >> 48) as u16,
        }
    }
}

/// The next segment, and the mbuf whose frame this one shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Links {
    /// [`MbufIndex::NONE`] in the last segment.
    pub(crate) next: MbufIndex,
    /// [`MbufIndex::NONE`] in a direct mbuf, which shows its own frame.
    pub(crate) original: MbufIndex,
}

impl Links {
    /// One segment, its own frame.
    pub(crate) const NONE: Self = Self {
        next: MbufIndex::NONE,
        original: MbufIndex::NONE,
    };

    const fn bits(self) -> u64 {
        self.next.bits() as u64 | (self.original.bits() as u64) << 32
    }

    const fn from_bits(bits: u64) -> Self {
        Self {
            next: MbufIndex::from_bits((bits & 0xffff_ffff) as u32),
            original: MbufIndex::from_bits((bits >> 32) as u32),
        }
    }
}

/// The port of an mbuf that came from none.
pub const PORT_NONE: u16 = u16::MAX;

impl Meta {
    /// Writes what a lazy brief says: one segment behind the headroom, no flag.
    #[inline(never)]
    pub(crate) fn settle(&self, brief: Seen) {
        self.refs.store(1, Ordering::Relaxed);
        self.set_span(Span {
            off: HEADROOM,
            len: brief.len(),
            packet_len: u32::from(brief.len()),
        });
        self.set_place(Place {
            port: brief.port(),
            queue: brief.queue(),
            segments: 1,
            vlan: 0,
        });
        self.set_links(Links::NONE);
        self.set_flags(0);
    }

    /// Whether the mbuf stands alone: one segment, its own frame, no clone. Then giving it back is giving back one index.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.is_alone() && self.refs() == 1
    }

    #[inline]
    pub(crate) fn refs(&self) -> u32 {
        self.refs.load(Ordering::Relaxed)
    }

    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set_refs(&self, refs: u32) {
        self.refs.store(refs, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn span(&self) -> Span {
        Span::from_bits(self.data.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_span(&self, span: Span) {
        self.data.store(span.bits(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn place(&self) -> Place {
        Place::from_bits(self.place.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_place(&self, place: Place) {
        self.place.store(place.bits(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn links(&self) -> Links {
        Links::from_bits(self.links.load(Ordering::Relaxed))
    }

    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set_links(&self, links: Links) {
        self.links.store(links.bits(), Ordering::Relaxed);
    }

    /// Whether it is one segment, and shows its own frame.
    #[inline]
    pub(crate) fn is_alone(&self) -> bool {
        self.links.load(Ordering::Relaxed) == Links::NONE.bits()
    }

    #[inline]
    pub(crate) fn flags(&self) -> u64 {
        self.flags.load(Ordering::Relaxed)
    }

    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set_flags(&self, flags: u64) {
        self.flags.store(flags, Ordering::Relaxed);
    }

    /// What is asked of the packet, as its brief would tell it.
    #[inline]
    pub(crate) fn facts(&self) -> Facts {
        Facts {
            port: self.place().port,
            len: self.span().packet_len,
            segments: self.wire_segments(),
        }
    }

    /// Packets on a wire: see `Mbuf::wire_segments`.
    #[inline]
    pub(crate) fn wire_segments(&self) -> u64 {
        let flags = self.flags();
        if flags & OffloadFlags::GSO.bits() == 0 {
            return 1;
        }
        let offload = TxOffload::from_bits(self.offload(), flags);
        let headers = u32::from(offload.hdr_len);
        let payload = self.span().packet_len.saturating_sub(headers);
        let pieces = payload.div_ceil(u32::from(offload.gso_size).max(1));
        u64::from(pieces.max(1))
    }

    #[inline]
    pub(crate) fn offload(&self) -> u64 {
        self.offload.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_offload(&self, offload: u64) {
        self.offload.store(offload, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn rss_hash(&self) -> u32 {
        self.rss_hash.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn set_rss_hash(&self, hash: u32) {
        self.rss_hash.store(hash, Ordering::Relaxed);
    }

    /// A line as it lies in a fresh zone, for models that have none.
    #[cfg(test)]
    pub(crate) fn zeroed() -> Self {
        Self {
            unused_first: AtomicU32::new(0),
            refs: AtomicU32::new(0),
            data: AtomicU64::new(0),
            place: AtomicU64::new(0),
            links: AtomicU64::new(0),
            flags: AtomicU64::new(0),
            offload: AtomicU64::new(0),
            rss_hash: AtomicU32::new(0),
            unused: [AtomicU32::new(0), AtomicU32::new(0), AtomicU32::new(0)],
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn words_read_back_as_what_was_packed() {
        let meta = Meta::zeroed();
        let span = Span {
            off: 1,
            len: 0xfffe,
            packet_len: 0xdead_beef,
        };
        let place = Place {
            port: 1,
            queue: 2,
            segments: 3,
            vlan: 0xffff,
        };
        let links = Links {
            next: MbufIndex::new(3, 9),
            original: MbufIndex::NONE,
        };
        meta.set_span(span);
        meta.set_place(place);
        meta.set_links(links);
        assert_eq!(
            (meta.span(), meta.place(), meta.links()),
            (span, place, links)
        );
    }

    #[test]
    fn fresh_mbuf_carries_nothing_of_its_last_use() {
        let meta = Meta::zeroed();
        meta.set_flags(u64::MAX);
        meta.set_links(Links {
            next: MbufIndex::new(1, 1),
            original: MbufIndex::new(1, 2),
        });
        meta.set_refs(7);
        assert!(!meta.is_plain());
        meta.settle(Seen::fresh(0));
        assert!(meta.is_plain());
        assert_eq!(
            (meta.flags(), meta.span().len, meta.span().packet_len),
            (0, 0, 0)
        );
        assert_eq!((meta.place().segments, meta.place().port), (1, PORT_NONE));
        meta.settle(Seen::fresh(60).come_by(3, 7).unwrap());
        assert_eq!((meta.span().off, meta.span().packet_len), (HEADROOM, 60));
        assert_eq!((meta.place().port, meta.place().queue), (3, 7));
    }
}
