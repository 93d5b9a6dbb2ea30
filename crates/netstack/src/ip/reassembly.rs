//! Datagrams put together from their fragments, for both versions: RFC 791 section 3.2, RFC 8200 section 4.5.
//!
//! Each datagram has a place of a table, and its fragments are kept there in order, each as the packet that it came in; small
//! ones are copied into the frame before them, so that they do not hold a frame each. When nothing is missing, the packets
//! are joined to one. What overlaps is refused, the whole datagram with it (RFC 5722).
//!
//! Fragments hold memory until a stranger sends the rest, so everything has a limit, and a flood meets two of them: one source
//! has a share of the table, and what it has too much goes at its own expense; and when many sources together have too much,
//! the oldest datagram goes first, which leaves the newest the time in which honest ones are complete.

mod headers;
mod pieces;

use core::hash::{Hash, Hasher};
use core::net::IpAddr;
use core::time::Duration;
use std::hash::DefaultHasher;

use crate::packet::{Packet, Wishes};
use crate::stats::Reason;
use crate::time::Instant;

pub use headers::{HEADERS_MAX, Headers, Key};
use headers::{LENGTH_MAX, ecn, ecn_of_all};
use pieces::{Piece, Slot, Verdict, join_all};

/// Fragments begin at multiples of this.
const UNIT: usize = 8;

/// The limits. Memory for all of them is taken at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReassemblyConfig {
    /// Datagrams that wait for more.
    pub datagrams_max: usize,
    /// Of these, from one source. It may hold as large a part of `bytes_max` and `packets_max`, too.
    pub per_source_max: usize,
    /// Pieces of one datagram that could not be put together yet.
    pub pieces_max: usize,
    /// Bytes of data that wait, in all.
    pub bytes_max: usize,
    /// Packets that wait, in all: each may hold a whole frame for eight bytes.
    pub packets_max: usize,
    /// How long after its first fragment an IPv4 datagram is given up. RFC 1122 section 3.3.2 has 60 to 120 seconds; 16 bits
    /// of identification come round sooner, which is why everybody takes 30.
    pub timeout_v4: Duration,
    /// How long after its first fragment an IPv6 datagram is given up: RFC 8200 section 4.5.
    pub timeout_v6: Duration,
}

impl Default for ReassemblyConfig {
    fn default() -> Self {
        Self {
            datagrams_max: 64,
            per_source_max: 16,
            pieces_max: 128,
            bytes_max: 4 << 20,
            packets_max: 2048,
            timeout_v4: Duration::from_secs(30),
            timeout_v6: Duration::from_secs(60),
        }
    }
}

/// What became of a fragment.
#[derive(Debug)]
pub enum Outcome<P> {
    /// It was kept, and others are missing.
    Waiting,
    /// It was the last one that was missing.
    Complete(Datagram<P>),
    /// It was dropped, perhaps with all the others of its datagram.
    Dropped(Dropped<P>),
}

/// A datagram with nothing missing.
#[derive(Debug)]
pub struct Datagram<P> {
    /// All its data.
    pub packet: P,
    /// The headers of its first fragment.
    pub headers: Headers,
    /// The two bits of congestion notification that hold for the whole: RFC 3168 section 5.3.
    pub ecn: u8,
    /// How many fragments it came in.
    pub fragments: u32,
}

/// What was dropped, and why.
#[derive(Debug)]
pub struct Dropped<P> {
    /// Why.
    pub reason: Reason,
    /// How many fragments: this one, and those that went with it.
    pub fragments: u32,
    /// What the sender has to be told.
    pub problem: Option<Problem<P>>,
}

/// An ICMPv6 parameter problem, code 0, that RFC 8200 section 4.5 wants to be sent.
#[derive(Debug)]
pub struct Problem<P> {
    /// Where the wrong field is, in bytes from the start of the IPv6 header.
    pub pointer: u32,
    /// The fragment's data, for the quotation: its headers are the caller's.
    pub packet: P,
}

/// A datagram that was given up.
#[derive(Debug)]
pub struct Expired<P> {
    /// Which one.
    pub key: Key,
    /// Its first fragment, if that one came: then the sender is told by ICMP time exceeded, code 1 (RFC 792, RFC 4443
    /// section 3.3).
    pub first: Option<First<P>>,
    /// How many fragments were dropped with it.
    pub fragments: u32,
}

/// The fragment that a datagram begins with.
#[derive(Debug)]
pub struct First<P> {
    /// Its headers.
    pub headers: Headers,
    /// Its data, and perhaps more that followed.
    pub packet: P,
    /// How many bytes of `packet` are its own: what may be quoted.
    pub len: usize,
}

/// What a search looks at, close together.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Of the key.
    hash: u64,
    /// Of the source.
    source: u64,
    /// Which datagram it is since the start; 0 if there is none.
    serial: u64,
    until: Instant,
    bytes: usize,
    packets: usize,
}

impl Mark {
    const FREE: Self = Self {
        hash: 0,
        source: 0,
        serial: 0,
        until: Instant::MAX,
        bytes: 0,
        packets: 0,
    };

    const fn is_free(&self) -> bool {
        self.serial == 0
    }
}

/// Datagrams that wait for more of their fragments.
#[derive(Debug)]
pub struct Reassembly<P> {
    config: ReassemblyConfig,
    seed: u64,
    marks: Vec<Mark>,
    slots: Vec<Slot<P>>,
    /// Of the datagram that came last.
    serial: u64,
    bytes: usize,
    packets: usize,
    /// The first moment at which one is given up.
    earliest: Option<Instant>,
    evicted: u64,
}

impl<P: Packet> Reassembly<P> {
    /// None waits. `seed` is a random number that strangers do not know.
    #[must_use]
    pub fn new(config: ReassemblyConfig, seed: u64) -> Self {
        let slot = |_| Slot {
            key: None,
            pieces: Vec::with_capacity(config.pieces_max),
            first: None,
            total: None,
            fragments: 0,
            ecn_seen: 0,
            refused: None,
        };
        Self {
            config,
            seed,
            marks: vec![Mark::FREE; config.datagrams_max],
            slots: (0..config.datagrams_max).map(slot).collect(),
            serial: 0,
            bytes: 0,
            packets: 0,
            earliest: None,
            evicted: 0,
        }
    }

    /// Takes one fragment: its place in the datagram, the headers before it, and its data alone.
    ///
    /// `headers` are the IPv4 header with its options, or the IPv6 header with all that follows it up to the fragment header
    /// and with that, as they came. Those who have waited too long are asked for first, by
    /// [`poll_expired`](Self::poll_expired).
    pub fn add(
        &mut self,
        now: Instant,
        key: Key,
        offset: u16,
        more: bool,
        headers: &[u8],
        packet: P,
    ) -> Outcome<P> {
        let (offset, len) = (usize::from(offset), packet.len());
        let end = offset.saturating_add(len);
        if offset == 0 && !more {
            // RFC 6946 section 4: it has nothing to do with fragments of the same identification.
            return match Headers::new(headers) {
                Some(headers) => Outcome::Complete(Datagram {
                    packet,
                    headers,
                    ecn: ecn(headers.bytes()),
                    fragments: 1,
                }),
                None => dropped(Reason::FragmentLimit, 1),
            };
        }
        if !offset.is_multiple_of(UNIT) || len == 0 || (more && !len.is_multiple_of(UNIT)) {
            // RFC 8200 section 4.5: the payload length is to blame.
            return malformed(&key, 4, (len > 0).then_some(packet));
        }
        if key.length(headers.len(), end) > LENGTH_MAX {
            // RFC 8200 section 4.5: the offset is, which stands in the fragment header, the last one.
            return malformed(&key, headers.len().saturating_sub(6), Some(packet));
        }
        let Some(at) = self.find_or_open(now, key) else {
            return dropped(Reason::FragmentLimit, 1);
        };
        let verdict = match self.slots.get(at) {
            Some(slot) => slot.judge(offset, end, more, &packet),
            None => Err(Verdict::Fatal(Reason::FragmentLimit)),
        };
        let place = match verdict {
            Ok(place) => place,
            Err(Verdict::Ignored(reason)) => return dropped(reason, 1),
            Err(Verdict::Fatal(reason)) => return self.refuse(at, reason),
        };
        let kept = Headers::new(headers);
        if (offset == 0 && kept.is_none()) || !self.make_room(at, len) {
            return self.refuse(at, Reason::FragmentLimit);
        }
        let (Some(slot), Some(mark)) = (self.slots.get_mut(at), self.marks.get_mut(at)) else {
            return dropped(Reason::FragmentLimit, 1);
        };
        let piece = Piece {
            offset,
            len,
            packet,
        };
        let Some(gone) = slot.insert(place, piece, self.config.pieces_max) else {
            return self.refuse(at, Reason::FragmentLimit);
        };
        slot.fragments += 1;
        slot.ecn_seen |= 1 << ecn(headers);
        if offset == 0 {
            slot.first = kept.map(|kept| (kept, len));
        }
        if !more {
            slot.total = Some(end);
        }
        mark.bytes += len;
        self.bytes += len;
        // One came; those that were copied into others went.
        mark.packets = (mark.packets + 1).saturating_sub(gone);
        self.packets = (self.packets + 1).saturating_sub(gone);
        // No byte is there twice, so as many as the end says are all of them.
        if slot.total == Some(mark.bytes) {
            self.complete(at)
        } else {
            Outcome::Waiting
        }
    }

    /// A datagram that has waited too long; `None` if there is no further one.
    pub fn poll_expired(&mut self, now: Instant) -> Option<Expired<P>> {
        while self.earliest.is_some_and(|earliest| earliest <= now) {
            let at = self.oldest(|_, mark| mark.until <= now)?;
            let slot = self.slots.get_mut(at)?;
            let (key, fragments) = (slot.key, slot.fragments);
            let begins = slot.pieces.first().is_some_and(|piece| piece.offset == 0);
            let packet = begins.then(|| slot.pieces.swap_remove(0).packet);
            let first = slot
                .first
                .zip(packet)
                .map(|((headers, len), packet)| First {
                    headers,
                    packet,
                    len,
                });
            self.release(at);
            // Those that were refused have been counted.
            if let Some(key) = key.filter(|_| fragments > 0) {
                return Some(Expired {
                    key,
                    first,
                    fragments,
                });
            }
        }
        None
    }

    /// When [`poll_expired`](Self::poll_expired) has something to do.
    #[must_use]
    pub const fn next_timeout(&self) -> Option<Instant> {
        self.earliest
    }

    /// How many fragments made room for newer ones since this was asked last.
    pub const fn take_evicted(&mut self) -> u64 {
        core::mem::replace(&mut self.evicted, 0)
    }

    /// How many datagrams wait, those included of which nothing is wanted any more.
    #[must_use]
    pub fn datagrams(&self) -> usize {
        self.marks.iter().filter(|mark| !mark.is_free()).count()
    }

    /// How many bytes of data wait.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many packets wait.
    #[must_use]
    pub const fn packets(&self) -> usize {
        self.packets
    }

    /// A hash that strangers cannot foresee.
    fn hash(&self, of: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        of.hash(&mut hasher);
        hasher.finish()
    }

    /// The place of a datagram; if it has none, one that is free or is made so.
    fn find_or_open(&mut self, now: Instant, key: Key) -> Option<usize> {
        let hash = self.hash(&key);
        let mut places = self.marks.iter().zip(&self.slots);
        let found = places.position(|(mark, slot)| mark.hash == hash && slot.key == Some(key));
        if found.is_some() {
            return found;
        }
        let source = self.hash(&(key.interface, key.source));
        let from_source = self
            .marks
            .iter()
            .filter(|mark| mark.source == source && !mark.is_free());
        let at = if from_source.count() >= self.config.per_source_max {
            self.evict(|_, mark| mark.source == source)?
        } else if let Some(free) = self.marks.iter().position(Mark::is_free) {
            free
        } else {
            self.evict(|_, _| true)?
        };
        let until = now
            + match key.source {
                IpAddr::V4(_) => self.config.timeout_v4,
                IpAddr::V6(_) => self.config.timeout_v6,
            };
        self.serial += 1;
        *self.marks.get_mut(at)? = Mark {
            hash,
            source,
            serial: self.serial,
            until,
            ..Mark::FREE
        };
        self.slots.get_mut(at)?.key = Some(key);
        self.earliest = Some(self.earliest.map_or(until, |earliest| earliest.min(until)));
        Some(at)
    }

    /// Sees to it that a packet of `len` bytes may be kept for the datagram at `at`; `false` if that is too large for all
    /// there is.
    fn make_room(&mut self, at: usize, len: usize) -> bool {
        let (bytes_max, packets_max) = (self.config.bytes_max, self.config.packets_max);
        let share = |of: usize| {
            of.saturating_mul(self.config.per_source_max) / self.config.datagrams_max.max(1)
        };
        let (bytes_share, packets_share) = (
            share(bytes_max).min(bytes_max),
            share(packets_max).min(packets_max),
        );
        let over = |bytes: usize, packets: usize, bytes_max: usize, packets_max: usize| {
            bytes.saturating_add(len) > bytes_max || packets >= packets_max
        };
        // While all together have no more than one may, no one has more.
        while over(self.bytes, self.packets, bytes_share, packets_share) {
            let Some(source) = self.marks.get(at).map(|mark| mark.source) else {
                return false;
            };
            let from_source = self.marks.iter().filter(|mark| mark.source == source);
            let (bytes, packets) = from_source.fold((0, 0), |sum, mark| {
                (sum.0 + mark.bytes, sum.1 + mark.packets)
            });
            let gone = if over(bytes, packets, bytes_share, packets_share) {
                self.evict(|place, mark| mark.source == source && place != at && mark.packets > 0)
            } else if over(self.bytes, self.packets, bytes_max, packets_max) {
                self.evict(|place, mark| place != at && mark.packets > 0)
            } else {
                return true;
            };
            if gone.is_none() {
                return false;
            }
        }
        true
    }

    /// The oldest datagram of those that `which` picks.
    fn oldest(&self, which: impl Fn(usize, &Mark) -> bool) -> Option<usize> {
        let places = self.marks.iter().enumerate();
        let picked = places.filter(|(at, mark)| !mark.is_free() && which(*at, mark));
        picked.min_by_key(|(_, mark)| mark.serial).map(|(at, _)| at)
    }

    /// Drops the oldest datagram of those that `which` picks, and says where it was.
    fn evict(&mut self, which: impl Fn(usize, &Mark) -> bool) -> Option<usize> {
        let at = self.oldest(which)?;
        self.evicted += self.slots.get(at).map_or(0, |slot| slot.fragments.into());
        self.release(at);
        Some(at)
    }

    /// Drops what waits of a datagram, and goes on to drop what comes of it: RFC 8200 section 4.5, "including those not yet
    /// received".
    fn refuse(&mut self, at: usize, reason: Reason) -> Outcome<P> {
        self.forget_sizes(at);
        let Some(slot) = self.slots.get_mut(at) else {
            return dropped(reason, 1);
        };
        let fragments = slot.fragments + 1;
        slot.clear();
        slot.refused = Some(reason);
        dropped(reason, fragments)
    }

    /// Joins what is there.
    fn complete(&mut self, at: usize) -> Outcome<P> {
        let Some(slot) = self.slots.get_mut(at) else {
            return dropped(Reason::FragmentLimit, 1);
        };
        let (first, fragments, ecn_seen) = (slot.first, slot.fragments, slot.ecn_seen);
        let (key, total) = (slot.key, slot.total);
        let whole = join_all(slot.pieces.drain(..));
        self.release(at);
        let (Some((headers, _)), Some(key), Some(total)) = (first, key, total) else {
            return dropped(Reason::FragmentMalformed, fragments);
        };
        // The headers of the first fragment become the datagram's, and they may be longer than those of the others.
        if key.length(headers.bytes().len(), total) > LENGTH_MAX {
            return dropped(Reason::FragmentMalformed, fragments);
        }
        let Some(ecn) = ecn_of_all(ecn_seen, headers.bytes()) else {
            return dropped(Reason::FragmentMalformed, fragments);
        };
        let Some(mut packet) = whole else {
            return dropped(Reason::FragmentLimit, fragments);
        };
        // What a device found out about the first fragment does not hold for the whole.
        packet.ask(Wishes::default());
        Outcome::Complete(Datagram {
            packet,
            headers,
            ecn,
            fragments,
        })
    }

    /// Drops what waits of a datagram, and gives its place back.
    fn release(&mut self, at: usize) {
        self.forget_sizes(at);
        let (Some(slot), Some(mark)) = (self.slots.get_mut(at), self.marks.get_mut(at)) else {
            return;
        };
        slot.clear();
        slot.key = None;
        let until = mark.until;
        *mark = Mark::FREE;
        if self.earliest == Some(until) {
            let used = self.marks.iter().filter(|mark| !mark.is_free());
            self.earliest = used.map(|mark| mark.until).min();
        }
    }

    /// Counts the bytes and packets of a datagram no more.
    fn forget_sizes(&mut self, at: usize) {
        if let Some(mark) = self.marks.get_mut(at) {
            self.bytes = self
                .bytes
                .saturating_sub(core::mem::replace(&mut mark.bytes, 0));
            self.packets = self
                .packets
                .saturating_sub(core::mem::replace(&mut mark.packets, 0));
        }
    }
}

fn dropped<P>(reason: Reason, fragments: u32) -> Outcome<P> {
    Outcome::Dropped(Dropped {
        reason,
        fragments,
        problem: None,
    })
}

/// A fragment that is wrong by itself. The sender is told over IPv6; for IPv4 nothing says so.
fn malformed<P>(key: &Key, pointer: usize, packet: Option<P>) -> Outcome<P> {
    let packet = packet.filter(|_| key.source.is_ipv6());
    Outcome::Dropped(Dropped {
        reason: Reason::FragmentMalformed,
        fragments: 1,
        problem: packet.and_then(|packet| {
            let pointer = u32::try_from(pointer).ok()?;
            Some(Problem { pointer, packet })
        }),
    })
}

#[cfg(test)]
mod tests;
