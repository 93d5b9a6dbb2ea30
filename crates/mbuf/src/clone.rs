//! Two ways to have a packet twice.
//!
//! *By reference*: the clone shows the frame of its original and counts as a user of it. The frame goes back when the last
//! user is gone, and while there are several nobody writes it. Such clones exist within one slot only, so the count of users
//! has one writer; a ring of mbufs copies them before they leave (see `handoff`).
//!
//! *Deep*: another mbuf with a copy of the bytes, free to go anywhere.

use crate::index::MbufIndex;
use crate::mbuf::{Mbuf, Part};
use crate::meta::{IN_TRANSIT, Links, Meta, Place};
use crate::pool::Pool;

impl<'c> Mbuf<'c> {
    /// A clone by reference, segment for segment; `None` if the pool runs dry. From the pool of this mbuf.
    #[must_use]
    pub fn clone_ref(&self) -> Option<Self> {
        let pool = self.pool();
        let mut head: Option<Self> = None;
        let mut last: Option<&'static Meta> = None;
        for part in self.parts() {
            let direct = part.direct()?;
            let users = direct.meta.refs().checked_add(1)?;
            let clone = self.lcore().alloc(pool)?;
            let Part { tag, meta, .. } = clone.changing();
            copy_facts(part.meta, meta);
            meta.set_span(part.meta.span());
            // A user first, then shown: when the clone is dropped half made, it is one user less again.
            direct.tag.set_linked();
            direct.meta.set_refs(users);
            tag.set_linked();
            meta.set_links(Links {
                next: MbufIndex::NONE,
                original: direct.index,
            });
            match last.replace(meta) {
                None => head = Some(clone),
                Some(last) => {
                    let links = last.links();
                    last.set_links(Links {
                        next: clone.leak(),
                        ..links
                    });
                }
            }
        }
        head
    }

    /// A deep clone in mbufs of `pool`; `None` if it runs dry, or if the copy would be a chain too long.
    #[must_use]
    pub fn clone_deep(&self, pool: Pool) -> Option<Self> {
        let mut copy = self.lcore().alloc(pool)?;
        for bytes in self.segments() {
            if !copy.extend_from_slice(pool, bytes) {
                return None;
            }
        }
        let (from, to) = (self.part().meta, copy.changing().meta);
        let segments = to.place().segments;
        copy_facts(from, to);
        to.set_place(Place {
            segments,
            ..to.place()
        });
        for (to, from) in copy.private_mut().iter_mut().zip(self.private()) {
            *to = *from;
        }
        Some(copy)
    }
}

/// Copies what is known of a packet, but for where its bytes are.
fn copy_facts(from: &Meta, to: &Meta) {
    to.set_place(from.place());
    to.set_flags(from.flags() & !IN_TRANSIT);
    to.set_offload(from.offload());
    to.set_rss_hash(from.rss_hash());
}
