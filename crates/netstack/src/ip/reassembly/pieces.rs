//! What is there of one datagram: pieces in order, none over another.

use super::headers::{Headers, Key};
use crate::packet::Packet;
use crate::stats::Reason;

/// Adjacent fragments, put together, or one.
#[derive(Debug)]
pub(super) struct Piece<P> {
    pub(super) offset: usize,
    pub(super) len: usize,
    pub(super) packet: P,
}

impl<P> Piece<P> {
    const fn end(&self) -> usize {
        self.offset + self.len
    }
}

/// One datagram.
#[derive(Debug)]
pub(super) struct Slot<P> {
    pub(super) key: Option<Key>,
    /// In order, and apart from each other or too large to be one.
    pub(super) pieces: Vec<Piece<P>>,
    pub(super) first: Option<(Headers, usize)>,
    /// Where the data end, once the last fragment is there.
    pub(super) total: Option<usize>,
    pub(super) fragments: u32,
    /// A bit for each of the four values of congestion notification.
    pub(super) ecn_seen: u8,
    /// Nothing is kept, and what comes is dropped, too, until the time is over.
    pub(super) refused: Option<Reason>,
}

/// Why a fragment is not kept.
pub(super) enum Verdict {
    /// It alone is dropped.
    Ignored(Reason),
    /// Its datagram is.
    Fatal(Reason),
}

impl<P: Packet> Slot<P> {
    /// Where among the pieces the bytes from `offset` to `end` belong, if they do.
    pub(super) fn judge(
        &self,
        offset: usize,
        end: usize,
        more: bool,
        packet: &P,
    ) -> Result<usize, Verdict> {
        if let Some(reason) = self.refused {
            return Err(Verdict::Fatal(reason));
        }
        let contradicts = match self.total {
            // Only the last one ends where the data end.
            Some(total) => end > total || more == (end == total),
            // Each that is there said that more follows.
            None => !more && self.pieces.last().is_some_and(|last| last.end() >= end),
        };
        if contradicts {
            return Err(Verdict::Fatal(Reason::FragmentMalformed));
        }
        let place = self.pieces.partition_point(|piece| piece.offset <= offset);
        let before = place
            .checked_sub(1)
            .and_then(|place| self.pieces.get(place));
        let before = before.filter(|before| before.end() > offset);
        let behind = self.pieces.get(place).filter(|behind| behind.offset < end);
        match (before, behind) {
            (None, None) => Ok(place),
            // RFC 8200 section 4.5 lets exact duplicates be ignored. Bytes that are there already, and the same, harm no more.
            (Some(before), None) if before.end() >= end && before.holds(offset, packet) => {
                Err(Verdict::Ignored(Reason::FragmentDuplicate))
            }
            // RFC 5722 section 4, and RFC 8200 section 4.5; for IPv4 alike, as nobody honest does this.
            _ => Err(Verdict::Fatal(Reason::FragmentOverlap)),
        }
    }

    /// Puts a piece at its place, and returns how many packets were copied into others; `None` if there are too many pieces.
    pub(super) fn insert(
        &mut self,
        place: usize,
        mut piece: Piece<P>,
        pieces_max: usize,
    ) -> Option<usize> {
        let mut gone = 0;
        if let Some(behind) = self.pieces.get(place)
            && behind.offset == piece.end()
            && piece.absorb(behind)
        {
            self.pieces.remove(place);
            gone += 1;
        }
        if let Some(before) = place
            .checked_sub(1)
            .and_then(|before| self.pieces.get_mut(before))
            && before.end() == piece.offset
            && before.absorb(&piece)
        {
            return Some(gone + 1);
        }
        let mut place = place;
        if self.pieces.len() >= pieces_max {
            // The same as the end would bring, but earlier: what follows the beginning is hung behind it.
            self.join_two()?;
            place = place.saturating_sub(1);
        }
        self.pieces.insert(place, piece);
        Some(gone)
    }

    /// Joins the first two pieces, if one follows the other.
    fn join_two(&mut self) -> Option<()> {
        let [first, second, ..] = self.pieces.as_slice() else {
            return None;
        };
        if first.end() != second.offset {
            return None;
        }
        let second = self.pieces.remove(1);
        let first = self.pieces.first_mut()?;
        first.len += second.len;
        first.packet.join(second.packet).ok()
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.first = None;
        self.total = None;
        self.fragments = 0;
        self.ecn_seen = 0;
        self.refused = None;
    }
}

impl<P: Packet> Piece<P> {
    /// Copies all of `other` behind the data; `false`, and nothing done, if the frame has no room for it.
    fn absorb(&mut self, other: &Self) -> bool {
        let Some(room) = self.packet.append(other.len) else {
            return false;
        };
        other.packet.copy_out(0, room);
        self.len += other.len;
        true
    }

    /// Whether the bytes from `offset` of the datagram on are those of `packet`.
    fn holds(&self, offset: usize, packet: &P) -> bool {
        let Some(start) = offset.checked_sub(self.offset) else {
            return false;
        };
        let (mut ours, mut theirs) = ([0; 256], [0; 256]);
        for at in (0..packet.len()).step_by(theirs.len()) {
            let len = packet.copy_out(at, &mut theirs);
            self.packet.copy_out(start + at, &mut ours);
            if len == 0 || ours.get(..len) != theirs.get(..len) {
                return false;
            }
        }
        true
    }
}

/// All pieces as one packet; `None` if they are too many for one.
pub(super) fn join_all<P: Packet>(mut pieces: impl Iterator<Item = Piece<P>>) -> Option<P> {
    let mut whole = pieces.next()?.packet;
    for piece in pieces {
        whole.join(piece.packet).ok()?;
    }
    Some(whole)
}
