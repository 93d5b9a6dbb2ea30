//! Packets of several segments.
//!
//! One index travels through a ring, so the links are part of what is sent: they are written before the ring publishes it.

use crate::SEGMENTS_MAX;
use crate::index::MbufIndex;
use crate::mbuf::{Mbuf, add_to_packet};
use crate::meta::{Links, Place, Span};
use crate::pool::Pool;

impl<'c> Mbuf<'c> {
    /// Hangs `other` behind the last segment.
    ///
    /// # Errors
    ///
    /// Gives `other` back if it is another thread's, or if the chain would have more than [`SEGMENTS_MAX`] segments.
    pub fn append_segment(&mut self, other: Self) -> Result<(), Self> {
        let (head, (last, count)) = (self.changing().meta, self.last());
        let (more, bytes) = (other.segment_count(), other.packet_len());
        let fits = u32::try_from(self.packet_len() + bytes).is_ok();
        if !core::ptr::eq(self.lcore(), other.lcore()) || count + more > SEGMENTS_MAX || !fits {
            return Err(other);
        }
        let links = last.meta.links();
        // Each segment before another says so, and so the head, which is what is freed and sent.
        last.tag.set_linked();
        last.meta.set_links(Links {
            next: other.leak(),
            ..links
        });
        add_to_packet(head, bytes as i64);
        set_segments(head, count + more);
        Ok(())
    }

    /// Copies bytes of the packet into `out`, from `offset` on, across segments, and returns how many there were.
    #[must_use]
    pub fn copy_out(&self, offset: usize, out: &mut [u8]) -> usize {
        let (mut skip, mut done) = (offset, 0);
        for bytes in self.segments() {
            let here = bytes.get(skip..).unwrap_or_default();
            skip -= skip.min(bytes.len());
            let n = here.len().min(out.len() - done);
            out[done..done + n].copy_from_slice(&here[..n]);
            done += n;
            if done == out.len() {
                break;
            }
        }
        done
    }

    /// Overwrites bytes of the packet, from `offset` on, across segments, and returns how many. Stops at the end and at a
    /// segment that clones share.
    #[must_use]
    pub fn copy_in(&mut self, offset: usize, bytes: &[u8]) -> usize {
        let (mut skip, mut done) = (offset, 0);
        for part in self.parts_mut() {
            let len = usize::from(part.0.span().len);
            if skip >= len {
                skip -= len;
                continue;
            }
            let Some((span, frame)) = part.into_frame() else {
                break;
            };
            let Some(here) = frame
                .get_mut(span.range())
                .and_then(|data| data.get_mut(skip..))
            else {
                break;
            };
            skip = 0;
            let n = here.len().min(bytes.len() - done);
            here[..n].copy_from_slice(&bytes[done..done + n]);
            done += n;
            if done == bytes.len() {
                break;
            }
        }
        done
    }

    /// Appends a copy of `bytes`, with further segments from `pool` as they are needed; `false`, and nothing done, if the pool
    /// runs dry or the chain would get too long.
    pub fn extend_from_slice(&mut self, pool: Pool, bytes: &[u8]) -> bool {
        if let Some(room) = self.append(bytes.len()) {
            room.copy_from_slice(bytes);
            return true;
        }
        let (here, mut rest) = bytes.split_at(bytes.len().min(self.tailroom()));
        // The new segments first: when they cannot be had, nothing has happened.
        let mut more: Option<Self> = None;
        while !rest.is_empty() {
            let Some(mut segment) = self.lcore().alloc(pool) else {
                return false;
            };
            let n = rest.len().min(usize::from(pool.data_room()));
            // Headroom is for headers: the segments behind the first have none.
            segment.reset_data(0);
            let Some(room) = segment.append(n) else {
                return false;
            };
            room.copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            match &mut more {
                None => more = Some(segment),
                Some(head) => {
                    if head.append_segment(segment).is_err() {
                        return false;
                    }
                }
            }
        }
        let (count, added) = (
            self.segment_count(),
            more.as_ref().map_or(0, Self::segment_count),
        );
        if count + added > SEGMENTS_MAX {
            return false;
        }
        if !here.is_empty() {
            match self.append(here.len()) {
                Some(room) => room.copy_from_slice(here),
                None => return false,
            }
        }
        more.is_none_or(|more| self.append_segment(more).is_ok())
    }

    /// Copies all segments into the first, and frees the others; `false`, and nothing done, if they do not fit there or if
    /// clones share it.
    pub fn linearize(&mut self) -> bool {
        if self.is_contiguous() {
            return true;
        }
        let total: usize = self.segments().map(<[u8]>::len).sum();
        let Some((span, frame)) = self.part_mut().into_frame() else {
            return false;
        };
        let Some(most) = frame.len().checked_sub(total) else {
            return false;
        };
        let Ok(most) = u16::try_from(most) else {
            return false;
        };
        // Headroom is given up only as far as the bytes need it.
        let off = span.off.min(most);
        frame.copy_within(span.range(), usize::from(off));
        let meta = self.changing().meta;
        let links = meta.links();
        meta.set_span(Span {
            off,
            len: span.len,
            // What follows is appended again below.
            packet_len: u32::from(span.len),
        });
        meta.set_links(Links {
            next: MbufIndex::NONE,
            ..links
        });
        set_segments(meta, 1);
        // The rest of the chain, cut off, is an mbuf of its own if its head is one of ours; if not, nothing is ours to free.
        let rest = self
            .lcore()
            .find(links.next)
            .filter(|(_, found)| found.tag.holder() == self.lcore().holder());
        let Some(rest) = rest.map(|_| Mbuf::from_checked(self.lcore(), links.next)) else {
            return true;
        };
        for bytes in rest.segments() {
            if let Some(room) = self.append(bytes.len()) {
                room.copy_from_slice(bytes);
            }
        }
        true
    }

    /// Empties the first segment and moves its start to `headroom`; `false` if the frame has not so many bytes, or if clones
    /// share it.
    pub fn reset_data(&mut self, headroom: u16) -> bool {
        let part = self.changing();
        if headroom > part.cache.pool().data_room() || part.is_shared() {
            return false;
        }
        let gone = part.span().len;
        let span = part.meta.span();
        part.meta.set_span(Span {
            off: headroom,
            len: 0,
            ..span
        });
        add_to_packet(part.meta, -i64::from(gone));
        true
    }
}

fn set_segments(head: &crate::meta::Meta, count: usize) {
    // At most SEGMENTS_MAX.
    let segments = u16::try_from(count).unwrap_or(u16::MAX);
    head.set_place(Place {
        segments,
        ..head.place()
    });
}
