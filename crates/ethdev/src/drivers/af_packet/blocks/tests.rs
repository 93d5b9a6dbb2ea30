#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]

use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::*;

const BLOCK_LEN: u32 = 4096;
const BLOCKS: u32 = 4;
const GEOMETRY: Geometry = Geometry {
    block_len: BLOCK_LEN,
    block_count: BLOCKS,
    frame_len: 2048,
    retire_ms: 1,
};

/// The kernel's side of a ring, as `prb_*` in its `af_packet.c` does it.
struct Kernel {
    mapping: Mapping,
    fd: OwnedFd,
    block: usize,
    sequence: u32,
    offset: usize,
    packets: u32,
    last: Option<usize>,
}

impl Kernel {
    fn new() -> Self {
        let fd = memfd_create("ring", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&fd, GEOMETRY.len() as u64).unwrap();
        let mapping = Mapping::new(fd.as_fd(), GEOMETRY.len()).unwrap();
        let mut kernel = Self {
            mapping,
            fd,
            block: 0,
            sequence: 0,
            offset: 0,
            packets: 0,
            last: None,
        };
        kernel.open();
        kernel
    }

    fn set(&self, at: usize, word: u32) {
        self.mapping.words()[at / 4].store(word, Ordering::Release);
    }

    fn base(&self) -> usize {
        self.block * BLOCK_LEN as usize
    }

    fn open(&mut self) {
        self.sequence += 1;
        (self.offset, self.packets, self.last) = (BLOCK_HEADER_LEN, 0, None);
        self.set(self.base() + BLOCK_SEQUENCE * 4, self.sequence);
        self.set(self.base() + BLOCK_PACKETS * 4, 0);
        self.set(self.base() + BLOCK_USED * 4, 48);
    }

    /// Reserves the place of a frame that starts with the number `mark`.
    fn reserve(&mut self, len: usize) -> usize {
        let at = self.base() + self.offset;
        let step = (96 + len).next_multiple_of(8);
        self.set(at + NEXT * 4, step as u32);
        self.set(at + STATUS * 4, 0);
        self.offset += step;
        self.packets += 1;
        self.last = Some(at);
        self.set(self.base() + BLOCK_PACKETS * 4, self.packets);
        self.set(self.base() + BLOCK_USED * 4, self.offset as u32);
        at
    }

    fn complete(&self, at: usize, mark: u32, len: usize) {
        self.set(at + 96, mark);
        self.set(at + STATUS * 4, libc::TP_STATUS_USER);
        self.set(at + LEN * 4, len as u32);
        self.set(at + CAPTURED * 4, len as u32);
        let [a, b] = 96_u16.to_ne_bytes();
        let [c, d] = 110_u16.to_ne_bytes();
        self.set(at + MAC_NET * 4, u32::from_ne_bytes([a, b, c, d]));
        self.set(at + SECOND * 4, 1);
        let [a, b] = 1_u16.to_ne_bytes();
        self.set(at + TYPES * 4, u32::from_ne_bytes([a, b, 0, 0]));
        self.set(at + IFINDEX * 4, 7);
    }

    fn packet(&mut self, mark: u32) {
        let at = self.reserve(60);
        self.complete(at, mark, 60);
    }

    /// Hands the block over and opens the next.
    fn close(&mut self, timed_out: bool) {
        if let Some(last) = self.last {
            self.set(last + NEXT * 4, 0);
        }
        let status = libc::TP_STATUS_USER
            | if timed_out {
                libc::TP_STATUS_BLK_TMO
            } else {
                0
            };
        self.set(self.base() + BLOCK_STATUS * 4, status);
        self.block = (self.block + 1) % BLOCKS as usize;
        assert_eq!(
            self.mapping.words()[(self.base() + BLOCK_STATUS * 4) / 4].load(Ordering::Acquire),
            0,
            "the ring is full"
        );
        self.open();
    }

    fn ring(&self, record: &'static QueueRecord) -> BlockRing {
        BlockRing::open(self.fd.as_fd(), GEOMETRY, record).unwrap()
    }
}

fn record() -> &'static QueueRecord {
    Box::leak(Box::default())
}

/// The marks of all packets that can be had now.
fn take(ring: &mut BlockRing) -> Vec<u32> {
    take_up_to(ring, usize::MAX)
}

fn take_up_to(ring: &mut BlockRing, most: usize) -> Vec<u32> {
    let mut marks = Vec::new();
    while marks.len() < most {
        let Some(packet) = ring.next() else { break };
        let mut mark = [0; 4];
        assert!(ring.mapping().copy_out(packet.start, &mut mark));
        marks.push(u32::from_ne_bytes(mark));
        ring.pass(&packet);
    }
    marks
}

#[test]
fn packets_come_in_order_and_blocks_go_back() {
    let mut kernel = Kernel::new();
    let mut ring = kernel.ring(record());
    for lap in 0..20 {
        (0..5).for_each(|number| kernel.packet(lap * 5 + number));
        kernel.close(lap % 3 == 0);
        assert_eq!(take(&mut ring), (lap * 5..lap * 5 + 5).collect::<Vec<_>>());
    }
    assert_eq!(ring.take_malformed(), 0);
}

#[test]
fn open_block_is_looked_into_and_nothing_comes_twice() {
    if !LOOK_AHEAD {
        return;
    }
    let mut kernel = Kernel::new();
    let mut ring = kernel.ring(record());
    for lap in 0..20 {
        let first = lap * 10;
        kernel.packet(first);
        assert_eq!(take(&mut ring), [first]);
        let at = kernel.reserve(60);
        assert_eq!(take(&mut ring), [], "not complete yet");
        kernel.packet(first + 2);
        assert_eq!(take(&mut ring), [], "in order only");
        kernel.complete(at, first + 1, 60);
        assert_eq!(take(&mut ring), [first + 1, first + 2]);
        kernel.packet(first + 3);
        kernel.close(true);
        assert_eq!(take(&mut ring), [first + 3]);
    }
}

#[test]
fn rests_of_an_earlier_filling_are_never_taken_for_packets() {
    let mut kernel = Kernel::new();
    let mut ring = kernel.ring(record());
    // Under load: each block is full, and the next one too before it is given back, as it is. The last of them is zeroed.
    for _ in 1..BLOCKS {
        (0..20).for_each(|number| kernel.packet(number));
        kernel.close(false);
    }
    assert_eq!(take(&mut ring).len(), 20 * (BLOCKS as usize - 1));
    kernel.close(true);
    assert_eq!(take(&mut ring), []);
    // One packet, then only rests behind it: the block is not looked into.
    kernel.packet(100);
    assert_eq!(take(&mut ring), []);
    kernel.close(true);
    assert_eq!(take(&mut ring), [100]);
    let ahead = |number| if LOOK_AHEAD { vec![number] } else { vec![] };
    (0..BLOCKS - 3).for_each(|_| kernel.close(true));
    assert_eq!(take(&mut ring), []);
    kernel.packet(101);
    assert_eq!(take(&mut ring), ahead(101), "given back when none waited");
    (0..2).for_each(|_| kernel.close(true));
    take(&mut ring);
    // Zeroed as far as it was ever written, so now it is, and there is nothing behind the one packet.
    kernel.packet(102);
    assert_eq!(take(&mut ring), ahead(102));
    kernel.close(true);
    take(&mut ring);
    assert_eq!(ring.take_malformed(), 0);
}

#[test]
fn successor_does_not_look_into_rests_of_the_first_lap() {
    let mut kernel = Kernel::new();
    let record = record();
    let mut ring = kernel.ring(record);
    for _ in 1..BLOCKS {
        (0..20).for_each(|number| kernel.packet(number));
        kernel.close(false);
    }
    assert_eq!(take(&mut ring).len(), 20 * (BLOCKS as usize - 1));
    drop(ring);
    // The blocks behind are with the kernel, full of rests, and their numbers are still those of the first lap.
    let mut ring = kernel.ring(record);
    kernel.packet(50);
    kernel.close(false);
    assert_eq!(take(&mut ring), [50]);
    for mark in 100..110 {
        kernel.packet(mark);
        let mut all = take(&mut ring);
        kernel.close(true);
        all.extend(take(&mut ring));
        assert_eq!(all, [mark]);
    }
    assert_eq!(ring.take_malformed(), 0);
}

#[test]
fn place_that_the_kernel_could_not_fill_is_passed() {
    let mut kernel = Kernel::new();
    let mut ring = kernel.ring(record());
    kernel.packet(1);
    kernel.reserve(60);
    kernel.packet(2);
    kernel.close(true);
    assert_eq!(take(&mut ring), [1, 2]);
    assert_eq!(ring.take_malformed(), 0);
}

#[test]
fn successor_goes_on_behind_the_last_packet_taken() {
    for taken in 0..=12 {
        let mut kernel = Kernel::new();
        let record = record();
        let mut ring = kernel.ring(record);
        for block in 0..3 {
            (0..4).for_each(|number| kernel.packet(block * 4 + number));
            kernel.close(true);
        }
        let mut all = take_up_to(&mut ring, taken);
        drop(ring);
        let mut ring = kernel.ring(record);
        all.extend(take(&mut ring));
        assert_eq!(all, (0..12).collect::<Vec<_>>(), "after {taken}");
    }
}

/// Every order in which an owner's stores can be cut short, between the last packet of a block and the first of the next.
#[test]
fn successor_finds_its_place_wherever_the_owner_died() {
    for stores in 0..6 {
        for laps in [0, 1, 5] {
            let mut kernel = Kernel::new();
            let record = record();
            let mut ring = kernel.ring(record);
            for lap in 0..laps {
                kernel.packet(lap);
                kernel.close(true);
                take(&mut ring);
            }
            (10..13).for_each(|number| kernel.packet(number));
            kernel.close(true);
            (20..23).for_each(|number| kernel.packet(number));
            kernel.close(true);
            assert_eq!(take_up_to(&mut ring, 3), [10, 11, 12]);
            let block = ring.block;
            let following = ring.following(block);
            drop(ring);
            // What `give_back`, `enter` and `pass` store, as far as they came.
            let sequence = record.offset.load(Ordering::Relaxed);
            let steps: [&dyn Fn(); 5] = [
                &|| kernel.set(block * BLOCK_LEN as usize + BLOCK_STATUS * 4, 0),
                &|| record.block.store(following as u32, Ordering::Relaxed),
                &|| record.packet.store(0, Ordering::Relaxed),
                &|| record.offset.store(sequence + 1, Ordering::Relaxed),
                &|| record.packet.store(1, Ordering::Relaxed),
            ];
            steps[..stores].iter().for_each(|step| step());
            let mut ring = kernel.ring(record);
            let rest: &[u32] = if stores == 5 {
                &[21, 22]
            } else {
                &[20, 21, 22]
            };
            assert_eq!(
                take(&mut ring),
                rest,
                "after {stores} stores and {laps} laps"
            );
            kernel.packet(30);
            kernel.close(true);
            assert_eq!(take(&mut ring), [30]);
        }
    }
}

#[test]
fn block_given_back_and_filled_anew_is_read_last() {
    let mut kernel = Kernel::new();
    let record = record();
    let mut ring = kernel.ring(record);
    kernel.packet(1);
    kernel.close(true);
    assert_eq!(take_up_to(&mut ring, 1), [1]);
    drop(ring);
    // Died between giving block 0 back and the cursor; the kernel came round.
    kernel.set(BLOCK_STATUS * 4, 0);
    for number in 2..5 {
        kernel.packet(number);
        kernel.close(true);
    }
    kernel.packet(5);
    let mut ring = kernel.ring(record);
    assert_eq!(take(&mut ring), [2, 3, 4]);
    kernel.close(true);
    assert_eq!(take(&mut ring), [5]);
}

#[test]
fn cursors_of_another_ring_lead_to_the_oldest_packet() {
    let mut kernel = Kernel::new();
    let stale = record();
    stale.block.store(2, Ordering::Relaxed);
    stale.packet.store(9, Ordering::Relaxed);
    stale.offset.store(1234, Ordering::Relaxed);
    for number in 0..2 {
        kernel.packet(number);
        kernel.close(true);
    }
    assert_eq!(take(&mut kernel.ring(stale)), [0, 1]);
    stale.block.store(u32::MAX, Ordering::Relaxed);
    kernel.packet(2);
    kernel.close(true);
    assert_eq!(take(&mut kernel.ring(stale)), [2]);
}

proptest! {
    #[test]
    fn scribbled_ring_never_leads_out_of_it(words in proptest::collection::vec((0_usize..4096, prop_oneof![any::<u32>(), 0_u32..300]), 1..200),
        cursors in any::<[u32; 3]>(), blocks in any::<[bool; 4]>())
    {
        let mut kernel = Kernel::new();
        for (block, timed_out) in blocks.into_iter().enumerate().take(3) {
            (0..3).for_each(|number| kernel.packet(block as u32 * 3 + number));
            kernel.close(timed_out);
        }
        let record = record();
        record.block.store(cursors[0] % 6, Ordering::Relaxed);
        record.packet.store(cursors[1], Ordering::Relaxed);
        record.offset.store(cursors[2] % 6, Ordering::Relaxed);
        for (at, word) in words {
            kernel.set(at * 4, word);
        }
        let mut ring = kernel.ring(record);
        for _ in 0..200 {
            let Some(packet) = ring.next() else { break };
            let block = packet.start / BLOCK_LEN as usize * BLOCK_LEN as usize;
            prop_assert!(packet.start >= block + VNET_HEADER_LEN);
            prop_assert!(packet.start + packet.len <= block + BLOCK_LEN as usize);
            ring.pass(&packet);
        }
    }
}
