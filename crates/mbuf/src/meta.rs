//! What the group knows of one mbuf: one cache line beside its frame.
//!
//! ```text
//! offset  0        4      8                     16                          24
//!         | holder | refs | data: off len total | place: port queue segs vlan |
//!        24                     32      40        48         52       56       64
//!         | links: next original | flags | offload | rss_hash | unused | unused |
//! ```
//!
//! | word   | written by                                                                          |
//! |--------|-------------------------------------------------------------------------------------|
//! | holder | whoever has the mbuf in hand, or takes it from a place of which it is the one taker |
//! | refs   | the slot that holds the mbuf and all its clones: clones never leave their slot      |
//! | others | the holder                                                                          |
//!
//! So every word has one writer at a time, and a plain load and store does for a reference count. What travels between
//! processes is ordered by the ring or the magazine it travels through; all accesses here are relaxed, but for the tag
//! `POOL`, whose place in the order `Magazine::give` needs.
//!
//! **If a process dies:** the holder tells the sweep whose the mbuf was. All other words are written anew when the mbuf is
//! allocated again, so that it does not matter which of them its last user got to write.

use eal::holder::Holder;

use crate::index::MbufIndex;
use crate::sync::{AtomicU32, AtomicU64, Ordering, acquire, release};

/// The tag, the shape and the offload data of one mbuf.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Meta {
    /// [`Holder`]: whose the mbuf is.
    holder: AtomicU32,
    /// Users of the frame: the mbuf itself, as long as it lives, and its clones.
    refs: AtomicU32,
    /// [`Span`].
    data: AtomicU64,
    /// [`Place`].
    place: AtomicU64,
    /// [`Links`].
    links: AtomicU64,
    /// `OffloadFlags`, the kind of segmentation above them, [`IN_RING`] and [`IN_TRANSIT`] at the top.
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

/// In the flags: the segment was sent and not yet received, and is nobody's `Mbuf`; only such a one is received.
/// Another bit than [`IN_TRANSIT`], so that the sender cannot adopt what it has sent.
pub(crate) const IN_RING: u64 = 1 << 62;

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
        let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
        Self {
            off: u16::from_le_bytes([a, b]),
            len: u16::from_le_bytes([c, d]),
            packet_len: u32::from_le_bytes([e, f, g, h]),
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
        let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
        Self {
            port: u16::from_le_bytes([a, b]),
            queue: u16::from_le_bytes([c, d]),
            segments: u16::from_le_bytes([e, f]),
            vlan: u16::from_le_bytes([g, h]),
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
        let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
        Self {
            next: MbufIndex::from_bits(u32::from_le_bytes([a, b, c, d])),
            original: MbufIndex::from_bits(u32::from_le_bytes([e, f, g, h])),
        }
    }
}

/// The port of an mbuf that came from none.
pub const PORT_NONE: u16 = u16::MAX;

impl Meta {
    /// Who holds the mbuf.
    #[inline]
    #[must_use]
    pub fn holder(&self) -> Holder {
        Holder::from_bits(self.holder.load(Ordering::Relaxed))
    }

    /// Who holds the mbuf, for those who look from outside, such as the sweep's scan: when this is `POOL`, the mbuf is listed.
    #[inline]
    pub(crate) fn holder_in_order(&self) -> Holder {
        // Acquire: pairs with the Release in `tag_pool`.
        Holder::from_bits(self.holder.load(acquire("pool")))
    }

    /// Tags the mbuf. Not for `POOL`: that tag has a place in the order, see [`tag_pool`](Self::tag_pool).
    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn tag(&self, holder: Holder) {
        // Relaxed: the step that follows (the count of a magazine, the head of a ring) is a release, and no
        // living process looks at the tag before it has acquired that.
        self.holder.store(holder.bits(), Ordering::Relaxed);
    }

    /// Tags the mbuf from the very tag that was `seen`; `false` if it is another by now.
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn tag_from(&self, seen: Holder, holder: Holder) -> bool {
        // Relaxed: as in `tag`.
        self.holder
            .compare_exchange(
                seen.bits(),
                holder.bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// The last step of giving an mbuf back.
    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn tag_pool(&self) {
        // Release: whoever sees POOL sees the count that lists the mbuf. Pairs with the Acquire in `holder_in_order`.
        self.holder.store(Holder::POOL.bits(), release("pool"));
    }

    /// Makes this a fresh mbuf: one segment, empty, no flag, `headroom` bytes before the data.
    #[inline]
    pub(crate) fn renew(&self, headroom: u16) {
        const FRESH: Place = Place {
            port: PORT_NONE,
            queue: 0,
            segments: 1,
            vlan: 0,
        };
        self.refs.store(1, Ordering::Relaxed);
        self.set_span(Span {
            off: headroom,
            len: 0,
            packet_len: 0,
        });
        self.set_place(FRESH);
        self.set_links(Links::NONE);
        self.set_flags(0);
    }

    /// Whether the mbuf stands alone: one segment, its own frame, no clone. Then giving it back is giving back one index.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.links.load(Ordering::Relaxed) == Links::NONE.bits() && self.refs() == 1
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

    #[inline]
    pub(crate) fn flags(&self) -> u64 {
        self.flags.load(Ordering::Relaxed)
    }

    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set_flags(&self, flags: u64) {
        self.flags.store(flags, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn is_in_ring(&self) -> bool {
        self.flags() & IN_RING != 0
    }

    /// Says whether the mbuf was sent and not yet received.
    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set_in_ring(&self, sent: bool) {
        let sent = if sent { IN_RING } else { 0 };
        self.set_flags(self.flags() & !IN_RING | sent);
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
            holder: AtomicU32::new(0),
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

/// The `Meta` of `index`, if it is one of the pool whose first index is `first`.
///
/// The one check that every index from shared memory passes before it is used.
#[inline]
pub(crate) fn meta_of(metas: &[Meta], first: MbufIndex, index: MbufIndex) -> Option<&Meta> {
    // Another pool's index wraps round to a number that no pool has: ids are the top byte, lengths at most 2^24.
    metas.get(index.bits().wrapping_sub(first.bits()) as usize)
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
        meta.renew(128);
        assert!(meta.is_plain());
        assert_eq!(
            (meta.flags(), meta.span().len, meta.span().packet_len),
            (0, 0, 0)
        );
        assert_eq!((meta.place().segments, meta.place().port), (1, PORT_NONE));
    }

    #[test]
    fn index_of_another_pool_or_past_the_end_has_no_meta() {
        let metas: Vec<Meta> = (0..4).map(|_| Meta::zeroed()).collect();
        let first = MbufIndex::new(3, 0);
        assert!(meta_of(&metas, first, MbufIndex::new(3, 3)).is_some());
        for outside in [
            MbufIndex::new(3, 4),
            MbufIndex::new(2, 0),
            MbufIndex::new(4, 1),
            MbufIndex::NONE,
        ] {
            assert!(meta_of(&metas, first, outside).is_none(), "{outside}");
        }
    }
}
