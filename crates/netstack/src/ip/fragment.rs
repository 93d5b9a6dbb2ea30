//! Packets that are larger than a link takes, cut into fragments: RFC 791 section 3.2, RFC 8200 section 4.5.
//!
//! Each fragment is a new packet that begins with its IP header and has room for others before it. The bytes are copied, since
//! the packet may have to be sent again, or may lie in frames that clones share. A fragment is as large as the link takes and
//! one packet holds, whichever is less, so that none is a chain.

use crate::packet::{Packet, Packets};
use crate::stats::Reason;

/// Fragments begin at multiples of this.
const UNIT: u16 = 8;

/// Most bytes that a length of 16 bits can say.
const LENGTH_MAX: usize = u16::MAX as usize;

/// Bytes of an IPv4 header without options, and with as many as there can be.
const IPV4_LEN: usize = 20;
const IPV4_LEN_MAX: usize = 60;

/// Of the field with the offset: may not be fragmented, more fragments follow, and the offset itself, in units.
const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// In the type of an IPv4 option: it is in all fragments, not in the first alone.
const OPTION_COPIED: u8 = 0x80;
const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;

/// Bytes of an IPv6 header, and of the fragment header.
const IPV6_LEN: usize = 40;
const FRAGMENT_LEN: usize = 8;

/// Most bytes of headers before each IPv6 fragment.
const HEADERS_MAX: usize = 128;

/// The next header that a fragment header is, and the one that may stand before it.
const NEXT_FRAGMENT: u8 = 44;
const NEXT_HOP_BY_HOP: u8 = 0;

/// Which bytes of the data go into one fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The first of them, a multiple of eight.
    pub offset: u16,
    /// How many.
    pub len: u16,
    /// Whether others follow: then `len` is a multiple of eight, too.
    pub more: bool,
}

/// The parts that data are cut into.
#[derive(Debug, Clone)]
pub struct Fragmenter {
    at: u16,
    payload_len: u16,
    part_max: u16,
}

impl Fragmenter {
    /// Cuts `payload_len` bytes so that each part fits `mtu` bytes behind headers of `headers_len`, the fragment header
    /// included; `None` if no eight bytes do.
    #[must_use]
    pub fn new(payload_len: u16, headers_len: usize, mtu: u16) -> Option<Self> {
        let room = u16::try_from(usize::from(mtu).checked_sub(headers_len)?).ok()?;
        let fits = payload_len <= room;
        // The last part may be of any length, the others not.
        let part_max = if fits {
            payload_len
        } else {
            room - room % UNIT
        };
        (fits || part_max > 0).then_some(Self {
            at: 0,
            payload_len,
            part_max,
        })
    }
}

impl Iterator for Fragmenter {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let left = self
            .payload_len
            .checked_sub(self.at)
            .filter(|left| *left > 0)?;
        let len = left.min(self.part_max);
        let offset = self.at;
        self.at = self.at.checked_add(len)?;
        Some(Part {
            offset,
            len,
            more: len < left,
        })
    }
}

/// Cuts an IPv4 packet, header first, into fragments that fit `mtu`, and gives each to `emit`: RFC 791 section 3.2.
///
/// A packet that fits is copied as it is, if one packet holds it. One that is a fragment already is cut into smaller ones. The checksum of TCP or UDP
/// has to be in its place: no device can fill it into fragments.
///
/// # Errors
///
/// Nothing is emitted if the header contradicts itself or the packet ([`Reason::Ipv4Malformed`], [`Reason::Ipv4Options`]), or
/// if the packet may not or cannot be cut ([`Reason::TooLarge`]). [`Reason::NoBuffer`] may come after some fragments.
pub fn fragment_v4<A: Packets>(
    packets: &mut A,
    whole: &A::Packet,
    mtu: u16,
    emit: &mut impl FnMut(A::Packet),
) -> Result<(), Reason> {
    let mut header = [0; IPV4_LEN_MAX];
    let there = whole.copy_out(0, &mut header);
    let total = u16::from_be_bytes([header[2], header[3]]);
    let field = u16::from_be_bytes([header[6], header[7]]);
    let header_len = usize::from(header[0] & 0xf) * 4;
    let first = header.get(..header_len).filter(|_| header_len <= there);
    let (4, Some(first)) = (header[0] >> 4, first) else {
        return Err(Reason::Ipv4Malformed);
    };
    let payload_len = usize::from(total).checked_sub(header_len);
    let payload_len = payload_len.and_then(|len| u16::try_from(len).ok());
    let (Some(payload_len), true) = (payload_len, header_len >= IPV4_LEN) else {
        return Err(Reason::Ipv4Malformed);
    };
    // The offset of a packet that is a fragment itself.
    let before = (field & OFFSET) * UNIT;
    let end = usize::from(before) + usize::from(total);
    if whole.len() < total.into() || end > LENGTH_MAX {
        return Err(Reason::Ipv4Malformed);
    }
    if total <= mtu {
        return copy(packets, whole, total.into(), emit);
    }
    if field & DONT_FRAGMENT != 0 {
        return Err(Reason::TooLarge);
    }
    let mut following = [0; IPV4_LEN_MAX];
    let following_len = copied_options(first, &mut following).ok_or(Reason::Ipv4Options)?;
    let following = following.get(..following_len).unwrap_or_default();
    let mut cut = Cut::new(packets, mtu)?;
    let parts = Fragmenter::new(payload_len, header_len, cut.room).ok_or(Reason::TooLarge)?;
    for part in parts {
        let header = if part.offset == 0 { first } else { following };
        let start = header_len + usize::from(part.offset);
        let packet = cut.fragment(whole, header, start, part.len.into(), |header| {
            // At most `mtu`, which has 16 bits.
            let len = u16::try_from(header.len())
                .unwrap_or(u16::MAX)
                .saturating_add(part.len);
            let last = !part.more && field & MORE_FRAGMENTS == 0;
            let more = if last { 0 } else { MORE_FRAGMENTS };
            put(header, 2, len.to_be_bytes());
            put(
                header,
                6,
                (more | (before.saturating_add(part.offset) / UNIT)).to_be_bytes(),
            );
            put(header, 10, [0; 2]);
            let sum = header_checksum(header);
            put(header, 10, sum.to_be_bytes());
        })?;
        emit(packet);
    }
    Ok(())
}

/// Cuts an IPv6 packet, header first and without fragment header, into fragments that fit `mtu`, and gives each to `emit`:
/// RFC 8200 section 4.5.
///
/// A packet that fits is copied as it is, if one packet holds it: a fragment header would do nothing but harm (RFC 8021). Before the fragment header
/// stay the IPv6 header and hop-by-hop options; a routing header is not looked for, as we send none.
///
/// # Errors
///
/// As for [`fragment_v4`], with [`Reason::Ipv6Malformed`] and [`Reason::Ipv6Extensions`].
pub fn fragment_v6<A: Packets>(
    packets: &mut A,
    whole: &A::Packet,
    id: u32,
    mtu: u16,
    emit: &mut impl FnMut(A::Packet),
) -> Result<(), Reason> {
    let mut headers = [0; HEADERS_MAX];
    let there = whole.copy_out(0, &mut headers);
    let total = IPV6_LEN + usize::from(u16::from_be_bytes([headers[4], headers[5]]));
    if headers[0] >> 4 != 6 || there < IPV6_LEN || whole.len() < total {
        return Err(Reason::Ipv6Malformed);
    }
    if total <= mtu.into() {
        return copy(packets, whole, total, emit);
    }
    // Where the next header is named, and where it begins.
    let (named, start) = match headers[6] {
        NEXT_HOP_BY_HOP => (
            IPV6_LEN,
            IPV6_LEN + 8 + usize::from(headers[IPV6_LEN + 1]) * 8,
        ),
        _ => (6, IPV6_LEN),
    };
    let end = start + FRAGMENT_LEN;
    let payload_len = total
        .checked_sub(start)
        .and_then(|len| u16::try_from(len).ok());
    let (Some(payload_len), true) = (payload_len, start <= there && end <= HEADERS_MAX) else {
        return Err(Reason::Ipv6Extensions);
    };
    let next = headers.get(named).copied().unwrap_or_default();
    put(&mut headers, named, [NEXT_FRAGMENT]);
    put(&mut headers, start, [next, 0]);
    put(&mut headers, start + 4, id.to_be_bytes());
    let headers = headers.get(..end).unwrap_or_default();
    let mut cut = Cut::new(packets, mtu)?;
    for part in Fragmenter::new(payload_len, end, cut.room).ok_or(Reason::TooLarge)? {
        let from = start + usize::from(part.offset);
        let packet = cut.fragment(whole, headers, from, part.len.into(), |headers| {
            let len = end - IPV6_LEN + usize::from(part.len);
            put(
                headers,
                4,
                u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes(),
            );
            put(
                headers,
                start + 2,
                (part.offset | u16::from(part.more)).to_be_bytes(),
            );
        })?;
        emit(packet);
    }
    Ok(())
}

/// Where fragments come from.
struct Cut<'a, A: Packets> {
    packets: &'a mut A,
    /// What the room was found out with, until it is used.
    first: Option<A::Packet>,
    /// What a fragment may have: what fits the link and one packet.
    room: u16,
}

impl<'a, A: Packets> Cut<'a, A> {
    fn new(packets: &'a mut A, mtu: u16) -> Result<Self, Reason> {
        let mut first = packets.alloc().ok_or(Reason::NoBuffer)?;
        let (mut room, mut step) = (0, mtu);
        while step > 0 && room < mtu {
            let n = step.min(mtu - room);
            if first.append(n.into()).is_some() {
                room += n;
            } else {
                step /= 2;
            }
        }
        if !first.truncate(0) {
            return Err(Reason::Unreadable);
        }
        Ok(Self {
            packets,
            first: Some(first),
            room,
        })
    }

    /// A packet of `headers`, as `set` changes them, and of the bytes of `whole` from `start` on.
    fn fragment(
        &mut self,
        whole: &A::Packet,
        headers: &[u8],
        start: usize,
        len: usize,
        set: impl FnOnce(&mut [u8]),
    ) -> Result<A::Packet, Reason> {
        let packet = self.first.take().or_else(|| self.packets.alloc());
        let mut packet = packet.ok_or(Reason::NoBuffer)?;
        let room = packet.append(headers.len() + len).ok_or(Reason::TooLarge)?;
        let (ours, data) = room
            .split_at_mut_checked(headers.len())
            .ok_or(Reason::TooLarge)?;
        ours.copy_from_slice(headers);
        set(ours);
        if whole.copy_out(start, data) == len {
            Ok(packet)
        } else {
            Err(Reason::Unreadable)
        }
    }
}

/// Copies the first `len` bytes, the whole of a packet, padding left out.
fn copy<A: Packets>(
    packets: &mut A,
    whole: &A::Packet,
    len: usize,
    emit: &mut impl FnMut(A::Packet),
) -> Result<(), Reason> {
    let mut packet = packets.alloc().ok_or(Reason::NoBuffer)?;
    let room = packet.append(len).ok_or(Reason::TooLarge)?;
    if whole.copy_out(0, room) != len {
        return Err(Reason::Unreadable);
    }
    emit(packet);
    Ok(())
}

/// Writes the header for all fragments but the first, which has only the options that are copied, and returns its length;
/// `None` if the options contradict themselves.
fn copied_options(header: &[u8], out: &mut [u8; IPV4_LEN_MAX]) -> Option<usize> {
    let (fixed, mut options) = header.split_at_checked(IPV4_LEN)?;
    out.get_mut(..IPV4_LEN)?.copy_from_slice(fixed);
    let mut at = IPV4_LEN;
    while let [kind, rest @ ..] = options {
        let len = match *kind {
            OPTION_END => break,
            OPTION_NOTHING => {
                options = rest;
                continue;
            }
            _ => usize::from(*rest.first()?),
        };
        let (option, behind) = options.split_at_checked(len).filter(|_| len >= 2)?;
        if kind & OPTION_COPIED != 0 {
            out.get_mut(at..at + len)?.copy_from_slice(option);
            at += len;
        }
        options = behind;
    }
    // What is left of the last word is the end of options, which is zero.
    let len = at.next_multiple_of(4);
    // At most 15 words.
    let words = u8::try_from(len / 4).ok()?;
    out[0] = 0x40 | words;
    Some(len)
}

/// Writes a field where it belongs.
fn put<const N: usize>(header: &mut [u8], at: usize, field: [u8; N]) {
    if let Some(place) = header.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = field;
    }
}

/// The checksum of an IPv4 header whose checksum is zero: RFC 791 section 3.1.
fn header_checksum(header: &[u8]) -> u16 {
    let (words, _) = header.as_chunks::<2>();
    let sum: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = (sum + (sum >> 16)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests;
