//! The receive ring: blocks that the kernel fills and hands over, walked packet by packet.
//!
//! ```text
//! ring   | block 0 | block 1 | ...
//! block  | status packets used sequence | packet | packet | ... | unused |
//! packet | header: next, lengths, status, VLAN, hash | link address | virtio_net_hdr | frame |
//!                                                                     ^ `mac` points at the frame
//! ```
//!
//! | part                | written by                                                           |
//! |---------------------|----------------------------------------------------------------------|
//! | status of a block   | the kernel, when it is full or its time is over; we, to give it back   |
//! | the rest of a block | the kernel, before that; zeroed by us before it is given back          |
//! | cursors in the queue record | the queue's owner                                              |
//!
//! The kernel hands a block over when it is full or [a timer](RETIRE_MS) finds it begun. Alone that costs a lone packet up
//! to that time at each port: with a millisecond 1.5 ms where a UDP round trip through two ports takes 0.11 ms with blocks looked into
//! (medians; two veth pairs, Linux 6.18, two cores; the transfer rate of TCP is the same). Version 2 of the ring hands over
//! each frame, but its frames have one size: those that large sends make come by a system call each, and the same TCP
//! transfer took four times as long. So this ring is of version 3 and **looks into the block that the kernel is
//! filling**: a packet there is whole once the kernel has written its header, which it does after the frame. What tells a
//! header from the rests of an earlier filling is that we give a block back zeroed, and look only into such blocks. We zero
//! what was handed over by the timer, and a full block if the next one is not there yet, since then there is time for it; under
//! load a block is given back as it is, and the next one is full before the timer. This leans on the order of the kernel's stores, hence on a processor that keeps
//! it: on others, blocks are taken when they are handed over.
//!
//! **A sleeper** waits for the socket: it is readable as long as the block before the one that the kernel fills is not given back, and who
//! waits is woken when a block is handed over. So the first packet after a silence is seen after up to [`RETIRE_MS`] milliseconds, and
//! whoever sleeps only after a silence of some more finds a conversation's packets by looking into the block.
//!
//! **If a process dies:** the cursors say which block was being read, in which filling of it (its sequence number), and
//! how many packets were taken: a successor finds its place by them, whichever store was the last. A packet is passed
//! after it was taken, so that a successor sees one twice rather than never.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use eal::queue::QueueRecord;

use super::sys::{Geometry, Mapping};
use crate::drivers::vnet::VNET_HEADER_LEN;

/// Milliseconds until a block that was begun is handed over. Sleepers are woken by that, and a reader that is away for longer than
/// this time times the number of blocks loses packets, however few come. So it is the shortest where packets wait for it, and
/// longer where blocks are looked into.
pub(super) const RETIRE_MS: u32 = if LOOK_AHEAD { 4 } else { 1 };

/// Octets of a block ahead of its first packet.
const BLOCK_HEADER_LEN: usize = 48;
/// Octets of a packet's header and link address.
const PACKET_HEADER_LEN: usize = 68;
/// Whether a block may be looked into before it is handed over: where stores are seen in the order of the program.
const LOOK_AHEAD: bool = cfg!(any(target_arch = "x86_64", target_arch = "x86"));

/// Words of a block's header.
const BLOCK_STATUS: usize = 2;
const BLOCK_PACKETS: usize = 3;
const BLOCK_USED: usize = 5;
/// The low half of 64 bits.
const BLOCK_SEQUENCE: usize = if cfg!(target_endian = "little") { 6 } else { 7 };

/// Words of a packet's header.
const NEXT: usize = 0;
const SECOND: usize = 1;
const CAPTURED: usize = 3;
const LEN: usize = 4;
const STATUS: usize = 5;
const MAC_NET: usize = 6;
const HASH: usize = 7;
const VLAN_TCI: usize = 8;
const VLAN_TPID: usize = 9;
const IFINDEX: usize = 13;
const TYPES: usize = 14;
const PACKET_WORDS: usize = 15;

/// `PACKET_OUTGOING`: seen on its way out of the interface.
const OUTGOING: u8 = 4;

/// A packet in the ring. All that is said here was read once and lies in bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    /// Where in the mapping the frame starts; [`VNET_HEADER_LEN`] octets before it, its `virtio_net_hdr`.
    pub start: usize,
    /// Octets of the frame that are there.
    pub len: usize,
    /// Whether that is all of it.
    pub whole: bool,
    /// A tag that the kernel took off: TPID and TCI as on the wire.
    pub vlan: Option<[u8; 4]>,
    /// The kernel's hash over the flow, 0 if it has none.
    pub hash: u32,
    /// Whether it was on its way out; an old kernel does not spare a fanout group those.
    pub outgoing: bool,
    /// When it came, in seconds.
    pub second: u32,
    /// Bytes to the next packet of the block; 0 for the last.
    next: usize,
}

/// A block that was handed over.
#[derive(Debug, Clone, Copy)]
struct Filled {
    packets: usize,
    timed_out: bool,
}

/// What we know of a block that only we remember.
#[derive(Debug, Clone, Copy)]
struct Care {
    /// Bytes from the start that may hold rests of an earlier filling.
    dirty: usize,
    /// Whether the block was given back without any.
    clean: bool,
}

/// The ring of one queue, and where we are in it.
#[derive(Debug)]
pub(super) struct BlockRing {
    mapping: Mapping,
    geometry: Geometry,
    record: &'static QueueRecord,
    /// The block being read.
    block: usize,
    /// Packets of it that were taken.
    packet: u32,
    /// Where in it the next one starts.
    offset: usize,
    /// Its filling, once it was seen.
    sequence: Option<u32>,
    /// Set once it was handed over.
    filled: Option<Filled>,
    care: Box<[Care]>,
    /// Blocks whose rest was given up since it made no sense.
    malformed: u64,
}

impl BlockRing {
    /// Maps the ring of `fd` and finds the place where the queue's last owner left it.
    pub(super) fn open(
        fd: BorrowedFd<'_>,
        geometry: Geometry,
        record: &'static QueueRecord,
    ) -> io::Result<Self> {
        Ok(Self::new(
            Mapping::new(fd, geometry.len())?,
            geometry,
            record,
        ))
    }

    fn new(mapping: Mapping, geometry: Geometry, record: &'static QueueRecord) -> Self {
        let untouched = Care {
            dirty: BLOCK_HEADER_LEN,
            clean: true,
        };
        let mut ring = Self {
            mapping,
            geometry,
            record,
            block: 0,
            packet: 0,
            offset: BLOCK_HEADER_LEN,
            sequence: None,
            filled: None,
            care: vec![untouched; geometry.block_count as usize].into_boxed_slice(),
            malformed: 0,
        };
        // Nobody has passed a packet yet, hence given a block back: the first fillings, up to the number of blocks, found
        // zeros. Later any block that was ever opened may hold rests: its number does not say whether it was zeroed.
        let first = record.offset.load(Ordering::Acquire) == 0;
        for block in 0..ring.care.len() {
            let sequence = ring
                .block_word(block, BLOCK_SEQUENCE)
                .load(Ordering::Relaxed);
            if sequence != 0 && !(first && sequence <= geometry.block_count) {
                ring.care[block] = Care {
                    dirty: geometry.block_len as usize,
                    clean: false,
                };
            }
        }
        ring.recover();
        ring
    }

    /// The memory that packets lie in.
    pub(super) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Blocks given up as malformed since the last call.
    pub(super) fn take_malformed(&mut self) -> u64 {
        std::mem::take(&mut self.malformed)
    }

    /// The next packet, which stays the next one until it was [passed](Self::pass).
    pub(super) fn next(&mut self) -> Option<Packet> {
        // Bounded by the ring: with others scribbling on it, blocks without packets might never end.
        for _ in 0..=self.care.len() {
            if self.filled.is_none() {
                self.look();
            }
            match self.filled {
                Some(filled) if (self.packet as usize) < filled.packets => match self.read(false) {
                    Some((packet, true)) => return Some(packet),
                    // The kernel reserved its place and then could not fill it in; it has counted that.
                    Some((packet, false)) => self.pass(&packet),
                    None => {
                        self.malformed += 1;
                        self.packet = u32::MAX;
                    }
                },
                Some(filled) => self.give_back(filled),
                None if LOOK_AHEAD && self.care[self.block].clean => {
                    return self.read(true).map(|(packet, _)| packet);
                }
                None => return None,
            }
        }
        None
    }

    /// Goes on behind `packet`, which was taken or dropped.
    pub(super) fn pass(&mut self, packet: &Packet) {
        if self.sequence.is_none() {
            let sequence = self
                .block_word(self.block, BLOCK_SEQUENCE)
                .load(Ordering::Relaxed);
            self.sequence = Some(sequence);
            // Before the first count of this filling, below. The successor is started after our death: no order needed
            // but that of the program, which `recover` accounts for.
            self.record.offset.store(sequence, Ordering::Release);
        }
        // Behind the last one nothing fits, so that nothing is read there.
        self.offset = if packet.next == 0 {
            self.geometry.block_len as usize
        } else {
            self.offset + packet.next
        };
        self.packet = self.packet.saturating_add(1);
        // Release: the packet was taken before. Read by `recover` in a successor, with Acquire.
        self.record.packet.store(self.packet, Ordering::Release);
    }

    /// Notes whether the block was handed over.
    fn look(&mut self) {
        // Acquire: what the kernel wrote into the block comes with the status.
        let status = self
            .block_word(self.block, BLOCK_STATUS)
            .load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER != 0 {
            let packets = self
                .block_word(self.block, BLOCK_PACKETS)
                .load(Ordering::Relaxed);
            let most = self.geometry.block_len as usize / PACKET_HEADER_LEN;
            self.filled = Some(Filled {
                packets: (packets as usize).min(most),
                timed_out: status & libc::TP_STATUS_BLK_TMO != 0,
            });
        }
    }

    /// Gives the block to the kernel and goes on to the next.
    fn give_back(&mut self, filled: Filled) {
        let block_len = self.geometry.block_len as usize;
        let base = self.block * block_len;
        let used = self
            .block_word(self.block, BLOCK_USED)
            .load(Ordering::Relaxed) as usize;
        let caught_up = !self.is_handed_over(self.following(self.block));
        let care = &mut self.care[self.block];
        care.dirty = care.dirty.max(used.min(block_len));
        care.clean = LOOK_AHEAD && (filled.timed_out || caught_up);
        if care.clean {
            self.mapping
                .zero(base + BLOCK_HEADER_LEN, care.dirty - BLOCK_HEADER_LEN);
            care.dirty = BLOCK_HEADER_LEN;
        }
        // Release: we have read and zeroed before the kernel writes again.
        self.block_word(self.block, BLOCK_STATUS)
            .store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.enter(self.following(self.block));
    }

    /// Starts reading `block`.
    fn enter(&mut self, block: usize) {
        (self.block, self.packet, self.offset) = (block, 0, BLOCK_HEADER_LEN);
        (self.sequence, self.filled) = (None, None);
        // The filling in the record is still that of the block before: `recover` sees by it that the count is not ours.
        self.record.block.store(
            u32::try_from(block).expect("as many blocks as a u32 says"),
            Ordering::Release,
        );
        self.record.packet.store(0, Ordering::Release);
    }

    /// The packet at our place, and whether the kernel has completed it; `None` if there is no sense in it, or, when
    /// `ahead` of the hand-over, if it is not complete.
    fn read(&self, ahead: bool) -> Option<(Packet, bool)> {
        let block_len = self.geometry.block_len as usize;
        let room = block_len.checked_sub(self.offset)?;
        if room < PACKET_HEADER_LEN {
            return None;
        }
        let at = self.block * block_len + self.offset;
        let words = self
            .mapping
            .words()
            .get(at / 4..)?
            .first_chunk::<PACKET_WORDS>()?;
        // Acquire: ahead of the hand-over, this word says that the frame is there, and the look at it comes after.
        let status = words[STATUS].load(Ordering::Acquire);
        let word = |number: usize| words[number].load(Ordering::Relaxed);
        let [m0, m1, n0, n1] = word(MAC_NET).to_ne_bytes();
        let (mac, net) = (
            usize::from(u16::from_ne_bytes([m0, m1])),
            u16::from_ne_bytes([n0, n1]),
        );
        let (captured, len) = (word(CAPTURED), word(LEN));
        let [h0, h1, kind, _] = word(TYPES).to_ne_bytes();
        let complete = status & libc::TP_STATUS_USER != 0;
        // The kernel writes these after the frame and in no order that it promises: all of them, or not yet.
        let all = [
            captured,
            len,
            u32::from(net),
            word(SECOND),
            word(IFINDEX),
            u32::from(u16::from_ne_bytes([h0, h1])),
        ];
        if ahead && !(complete && all.iter().all(|word| *word != 0)) {
            return None;
        }
        let next = word(NEXT) as usize;
        if !next.is_multiple_of(8) || next > room || next != 0 && next < PACKET_HEADER_LEN {
            return None;
        }
        if !complete {
            return Some((
                Packet {
                    start: at,
                    len: 0,
                    whole: false,
                    vlan: None,
                    hash: 0,
                    outgoing: false,
                    second: 0,
                    next,
                },
                false,
            ));
        }
        let captured = captured as usize;
        if mac < PACKET_HEADER_LEN + VNET_HEADER_LEN || captured > room.checked_sub(mac)? {
            return None;
        }
        let vlan = (status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            let [t0, t1, ..] = word(VLAN_TPID).to_ne_bytes();
            let tpid = if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 {
                u16::from_ne_bytes([t0, t1])
            } else {
                0x8100
            };
            let [a, b] = tpid.to_be_bytes();
            let [.., c, d] = word(VLAN_TCI).to_be_bytes();
            [a, b, c, d]
        });
        let packet = Packet {
            start: at + mac,
            len: captured,
            whole: captured == len as usize,
            vlan,
            hash: word(HASH),
            outgoing: kind == OUTGOING,
            second: word(SECOND),
            next,
        };
        Some((packet, true))
    }

    /// Finds our place from what the last owner of the queue left in its record.
    ///
    /// An owner stores in the order: status of the block (given back), block, packet = 0; then, with the first packet
    /// of the new block, its sequence number, packet = 1 and so on. It may have died behind any of these.
    fn recover(&mut self) {
        let count = self.geometry.block_count;
        // Acquire: pair with the stores of `pass` and `enter` in the dead process.
        let block = self.record.block.load(Ordering::Acquire);
        let packet = self.record.packet.load(Ordering::Acquire);
        let sequence = self.record.offset.load(Ordering::Acquire);
        let filling = |block: usize| {
            self.block_word(block, BLOCK_SEQUENCE)
                .load(Ordering::Acquire)
        };
        let Some(block) = usize::try_from(block)
            .ok()
            .filter(|block| *block < self.care.len())
        else {
            return self.recover_oldest();
        };
        let following = self.following(block);
        // Before the status, in this order: the kernel hands a block over and then opens the next. Having seen the next one
        // opened, we see this one handed over, unless it was given back. The other way round it might do both in between,
        // and a block with packets would be passed over.
        let followed = filling(following) == sequence.wrapping_add(1);
        let here = filling(block);
        let handed_over = self.block_word(block, BLOCK_STATUS).load(Ordering::Acquire)
            & libc::TP_STATUS_USER
            != 0;
        let next = sequence.wrapping_add(1);
        if here == sequence && sequence != 0 {
            if followed && !handed_over {
                // It was given back: the kernel has left it behind.
                return self.enter(following);
            }
            return self.resume(block, packet, sequence);
        }
        if here == sequence.wrapping_add(count) && sequence != 0 {
            // Given back and filled anew; older packets wait in the next one.
            return self.enter(following);
        }
        // As usual, between two blocks: this filling is the next one, or the one before was ours.
        if here == next || filling(self.preceding(block)) == sequence {
            return self.enter(block);
        }
        self.recover_oldest();
    }

    /// Goes on in `block` behind the first `packet` ones.
    fn resume(&mut self, block: usize, packet: u32, sequence: u32) {
        (self.block, self.sequence) = (block, Some(sequence));
        while self.packet < packet {
            let Some((passed, _)) = self.read(false) else {
                break;
            };
            self.offset = if passed.next == 0 {
                self.geometry.block_len as usize
            } else {
                self.offset + passed.next
            };
            self.packet += 1;
        }
    }

    /// Starts with the oldest block that was handed over or, without one, where the kernel is.
    fn recover_oldest(&mut self) {
        let (mut oldest, mut newest) = (None, None);
        for block in 0..self.care.len() {
            let sequence = self
                .block_word(block, BLOCK_SEQUENCE)
                .load(Ordering::Acquire);
            let handed_over = self.block_word(block, BLOCK_STATUS).load(Ordering::Acquire)
                & libc::TP_STATUS_USER
                != 0;
            // Distances rather than sizes: the numbers wrap.
            let older = |than: Option<(u32, usize)>| {
                than.is_none_or(|(other, _)| sequence.wrapping_sub(other) > u32::MAX / 2)
            };
            if handed_over && older(oldest) {
                oldest = Some((sequence, block));
            }
            if sequence != 0 && (newest.is_none() || !older(newest)) {
                newest = Some((sequence, block));
            }
        }
        self.enter(oldest.or(newest).map_or(0, |(_, block)| block));
    }

    /// For a decision that may be wrong by a moment.
    fn is_handed_over(&self, block: usize) -> bool {
        let status = self.block_word(block, BLOCK_STATUS).load(Ordering::Relaxed);
        status & libc::TP_STATUS_USER != 0
    }

    fn following(&self, block: usize) -> usize {
        if block + 1 < self.care.len() {
            block + 1
        } else {
            0
        }
    }

    fn preceding(&self, block: usize) -> usize {
        block.checked_sub(1).unwrap_or(self.care.len() - 1)
    }

    fn block_word(&self, block: usize, word: usize) -> &AtomicU32 {
        &self.mapping.words()[block * (self.geometry.block_len as usize / 4) + word]
    }
}

#[cfg(test)]
mod tests;
