//! Whose each mbuf is: a word an mbuf, sixteen to a cache line, beside the metas.
//!
//! ```text
//! bits   31        30       29..0
//!        in ring   linked   Holder: the pool, a slot, or a queue of a port
//! ```
//!
//! Mbufs travel in bursts of neighbours, so that tags of a whole burst lie on two or three lines. Allocating, handing over and
//! giving back a plain mbuf touch nothing else that another core may have, but for its brief: what travels
//! between cores for the sake of safety is four bytes an mbuf and not a line.
//!
//! | bits    | written by                                                                          |
//! |---------|-------------------------------------------------------------------------------------|
//! | holder  | whoever has the mbuf in hand, or takes it from a place of which it is the one taker |
//! | in ring | the producer, before it enqueues; the consumer, when the ring lists it no more      |
//! | linked  | who has it in hand and links it: to a next segment, to its original, to clones      |
//!
//! They are one word and one store, since they have one writer at a time: the same. *Linked* may stay when the links are gone;
//! then the meta is asked.
//!
//! What travels between processes is ordered by the ring or the magazine it travels through; all accesses here are relaxed,
//! but for the tag `POOL`, whose place in the order `Magazine::give` needs.
//!
//! **If a process dies:** the tag tells the sweep whose the mbuf was. Its other bits mean nothing there: what is freed is
//! tagged `POOL`, without them.

use eal::SlotId;
use eal::holder::Holder;
use eal::process::SLOTS_MAX;

use crate::sync::{AtomicU32, Ordering, acquire, release};

/// The mbuf was sent and not yet received, and is nobody's `Mbuf`; only such a one is received.
const IN_RING: u32 = 1 << 31;

/// It may have further segments, clones or an original; without, giving it back is giving back one index.
const LINKED: u32 = 1 << 30;

/// The tag of one mbuf.
#[derive(Debug)]
#[repr(transparent)]
pub struct Tag(AtomicU32);

impl Tag {
    /// Who holds the mbuf.
    #[inline]
    #[must_use]
    pub fn holder(&self) -> Holder {
        holder_in(self.0.load(Ordering::Relaxed))
    }

    /// Who holds the mbuf, for those who look from outside, such as the tools: when this is `POOL`, the mbuf is listed.
    #[inline]
    pub(crate) fn holder_in_order(&self) -> Holder {
        // Acquire: pairs with the Release in `set_pool`.
        holder_in(self.0.load(acquire("pool")))
    }

    /// All of it, read once.
    #[inline]
    pub(crate) fn read(&self) -> Seen {
        Seen(self.0.load(Ordering::Relaxed))
    }

    /// Tags the mbuf, which is not in a ring and stands alone. Not for `POOL`: that tag has a place in the order, see
    /// [`set_pool`](Self::set_pool).
    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set(&self, holder: Holder) {
        // Relaxed: the step that follows (the count of a magazine, the head of a ring) is a release, and no
        // living process looks at the tag before it has acquired that.
        self.0.store(holder.bits(), Ordering::Relaxed);
    }

    /// Tags the mbuf from what was `seen`; `false` if it is another by now.
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set_from(&self, seen: Seen, holder: Holder) -> bool {
        // Relaxed: as in `set`.
        self.0
            .compare_exchange(seen.0, holder.bits(), Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// The last step of giving an mbuf back.
    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set_pool(&self) {
        // Release: whoever sees POOL sees the count that lists the mbuf. Pairs with the Acquire in `holder_in_order`.
        self.0.store(Holder::POOL.bits(), release("pool"));
    }

    /// What was `seen`, in the hands of `holder`: its marks stay.
    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn hand_to(&self, seen: Seen, holder: Holder) {
        // Relaxed: as in `set`.
        self.0.store(
            seen.0 & (IN_RING | LINKED) | holder.bits(),
            Ordering::Relaxed,
        );
    }

    /// The same for what [`is_plain_in_ring`](Seen::is_plain_in_ring).
    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn hand_plain_to(&self, holder: Holder) {
        // Relaxed: as in `set`.
        self.0.store(IN_RING | holder.bits(), Ordering::Relaxed);
    }

    /// What was `seen`, sent or not.
    #[inline]
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set_in_ring(&self, seen: Seen, sent: bool) {
        let sent = if sent { IN_RING } else { 0 };
        self.0.store(seen.0 & !IN_RING | sent, Ordering::Relaxed);
    }

    /// Says that the mbuf has links: before they are there.
    #[cfg_attr(forebay_model, track_caller)]
    pub(crate) fn set_linked(&self) {
        self.0
            .store(self.0.load(Ordering::Relaxed) | LINKED, Ordering::Relaxed);
    }

    /// A tag as it lies in a fresh zone, for tests that have none.
    #[cfg(test)]
    pub(crate) fn zeroed() -> Self {
        Self(AtomicU32::new(0))
    }
}

/// What one look at a tag showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen(u32);

impl Seen {
    #[inline]
    pub(crate) fn holder(self) -> Holder {
        holder_in(self.0)
    }

    /// Whether the mbuf was sent and not yet received.
    #[inline]
    pub(crate) fn is_in_ring(self) -> bool {
        self.0 & IN_RING != 0
    }

    /// Whether it may have further segments, clones or an original.
    #[inline]
    pub(crate) fn is_linked(self) -> bool {
        self.0 & LINKED != 0
    }

    /// Whether some slot sent it, nobody has received it yet, and it stands alone, as nearly all that a ring delivers: by one look.
    #[inline]
    pub(crate) fn is_plain_in_ring(self) -> bool {
        ((self.0 ^ PLAIN_IN_RING) as usize) < SLOTS_MAX
    }

    /// Whether it is free.
    #[inline]
    pub(crate) fn is_pool(self) -> bool {
        self.0 == Holder::POOL.bits()
    }
}

/// The tag of a plain mbuf in a ring, but for the number of the slot that sent it.
const PLAIN_IN_RING: u32 = match SlotId::new(0) {
    Some(slot) => IN_RING | Holder::slot(slot).bits(),
    None => panic!("there is a slot 0"),
};

fn holder_in(bits: u32) -> Holder {
    Holder::from_bits(bits & !(IN_RING | LINKED))
}

// No holder has these bits.
const _: () = {
    assert!(Holder::queue(u8::MAX, u8::MAX, true).bits() & (IN_RING | LINKED) == 0);
};

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn slot(number: u8) -> Holder {
        Holder::slot(SlotId::new(number).unwrap())
    }

    #[test]
    fn marks_stay_with_a_tag_that_changes_hands_and_go_with_the_pool() {
        let tag = Tag::zeroed();
        assert!(tag.read().is_pool());
        tag.set(slot(3));
        tag.set_linked();
        tag.set_in_ring(tag.read(), true);
        assert!(tag.read().is_in_ring() && tag.read().is_linked());
        assert_eq!(tag.holder(), slot(3));
        tag.hand_to(tag.read(), slot(63));
        assert!(tag.read().is_in_ring() && tag.read().is_linked());
        assert_eq!(tag.holder(), slot(63));
        tag.set_in_ring(tag.read(), false);
        assert!(!tag.read().is_in_ring() && tag.read().is_linked());
        tag.set_pool();
        assert!(tag.read().is_pool() && !tag.read().is_linked());
    }

    #[test]
    fn plain_one_in_a_ring_is_told_by_one_look() {
        let tag = Tag::zeroed();
        for number in [0, 1, 63] {
            tag.set(slot(number));
            assert!(!tag.read().is_plain_in_ring());
            tag.set_in_ring(tag.read(), true);
            assert!(tag.read().is_plain_in_ring());
            tag.set_linked();
            assert!(!tag.read().is_plain_in_ring());
        }
        for other in [
            Holder::POOL,
            Holder::queue(0, 0, false),
            Holder::from_bits(0x0100_0040),
        ] {
            tag.set(other);
            tag.set_in_ring(tag.read(), true);
            assert!(!tag.read().is_plain_in_ring(), "{other:?}");
        }
    }

    #[test]
    fn tag_is_swapped_from_what_was_seen_alone() {
        let tag = Tag::zeroed();
        tag.set(slot(1));
        let seen = tag.read();
        tag.set_in_ring(seen, true);
        assert!(!tag.set_from(seen, slot(2)));
        assert_eq!(tag.holder(), slot(1));
        assert!(tag.set_from(tag.read(), slot(2)));
        assert_eq!(tag.holder(), slot(2));
        assert!(!tag.read().is_in_ring());
    }
}
