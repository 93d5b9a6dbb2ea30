use core::net::{Ipv4Addr, Ipv6Addr};
use std::collections::BTreeMap;

use mbuf::{Lcore, Mbuf, Pool, PoolConfig};
use proptest::prelude::*;

use super::*;
use crate::interface::InterfaceId;
use crate::packet::{Bytes, Heap};

mod chain;
mod contradiction;
mod datagram;
mod limit;
mod model;

const HERE: InterfaceId = InterfaceId(0);
const DST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn key(source: u32, id: u16) -> Key {
    Key::v4(HERE, Ipv4Addr::from_bits(0x0a00_0100 + source), DST, 17, id)
}

fn key6(source: u32, id: u32) -> Key {
    let source = Ipv6Addr::from_bits((0x2001_0db8 << 96) + u128::from(source));
    Key::v6(HERE, source, Ipv6Addr::from_bits(1), id)
}

/// An IPv4 header of UDP, or an IPv6 header and a fragment header before UDP.
fn headers_of(key: &Key, ecn: u8) -> Vec<u8> {
    let mut headers = vec![0; 48];
    if key.source.is_ipv4() {
        headers.truncate(20);
        (headers[0], headers[1], headers[9]) = (0x45, ecn, 17);
    } else {
        (headers[0], headers[1], headers[6], headers[40]) = (0x60, ecn << 4, 44, 17);
    }
    headers
}

/// Bytes of which no two stretches are alike.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    let byte =
        |at: usize| (at.wrapping_mul(0x9e37_79b9).wrapping_add(seed * 77) >> 11).to_le_bytes()[0];
    (0..len).map(byte).collect()
}

/// A reassembly, and a count of what went in and out.
struct Bench {
    reassembly: Reassembly<Bytes>,
    heap: Heap,
    now: Instant,
    given: u64,
    completed: u64,
    dropped: BTreeMap<&'static str, u64>,
}

impl Bench {
    fn new(config: ReassemblyConfig) -> Self {
        Self {
            reassembly: Reassembly::new(config, 7),
            heap: Heap::new(100_000),
            now: Instant::from_millis(1),
            given: 0,
            completed: 0,
            dropped: BTreeMap::new(),
        }
    }

    fn usual() -> Self {
        Self::new(ReassemblyConfig::default())
    }

    fn count(&mut self, name: &'static str, fragments: u64) {
        *self.dropped.entry(name).or_default() += fragments;
    }

    fn add(&mut self, key: Key, offset: usize, more: bool, data: &[u8]) -> Outcome<Bytes> {
        let headers = headers_of(&key, 0);
        self.add_with(key, offset, more, &headers, data)
    }

    fn add_with(
        &mut self,
        key: Key,
        offset: usize,
        more: bool,
        headers: &[u8],
        data: &[u8],
    ) -> Outcome<Bytes> {
        let packet = self.heap.packet(data).unwrap();
        let offset = u16::try_from(offset).unwrap();
        self.given += 1;
        let outcome = self
            .reassembly
            .add(self.now, key, offset, more, headers, packet);
        match &outcome {
            Outcome::Waiting => {}
            Outcome::Complete(datagram) => self.completed += u64::from(datagram.fragments),
            Outcome::Dropped(dropped) => {
                self.count(dropped.reason.name(), dropped.fragments.into());
            }
        }
        let evicted = self.reassembly.take_evicted();
        self.count("evicted", evicted);
        outcome
    }

    fn expire(&mut self) -> Vec<Expired<Bytes>> {
        let expired: Vec<_> =
            std::iter::from_fn(|| self.reassembly.poll_expired(self.now)).collect();
        let fragments = expired
            .iter()
            .map(|expired| u64::from(expired.fragments))
            .sum();
        self.count("expired", fragments);
        expired
    }

    /// Waits until nothing waits, and sees whether each fragment and each packet went somewhere.
    fn close(&mut self) {
        while let Some(timeout) = self.reassembly.next_timeout() {
            self.now = self.now.max(timeout);
            self.expire();
        }
        let dropped: u64 = self.dropped.values().sum();
        assert_eq!(self.given, self.completed + dropped, "{:?}", self.dropped);
        let Reassembly { bytes, packets, .. } = self.reassembly;
        assert_eq!((self.reassembly.datagrams(), bytes, packets), (0, 0, 0));
        assert_eq!(self.heap.in_use(), 0);
    }
}

fn complete(outcome: Outcome<Bytes>) -> Vec<u8> {
    match outcome {
        Outcome::Complete(datagram) => {
            assert_eq!(datagram.headers.protocol(), 17);
            datagram.packet.data().to_vec()
        }
        other => panic!("not complete: {other:?}"),
    }
}

fn reason(outcome: Outcome<Bytes>) -> (Reason, u32) {
    match outcome {
        Outcome::Dropped(Dropped {
            reason,
            fragments,
            problem: None,
        }) => (reason, fragments),
        other => panic!("not dropped: {other:?}"),
    }
}

fn pointer(outcome: Outcome<Bytes>) -> u32 {
    match outcome {
        Outcome::Dropped(Dropped {
            reason: Reason::FragmentMalformed,
            fragments: 1,
            problem: Some(problem),
        }) => problem.pointer,
        other => panic!("no problem: {other:?}"),
    }
}

fn is_waiting(outcome: &Outcome<Bytes>) -> bool {
    matches!(outcome, Outcome::Waiting)
}

/// Places and ends of pieces of at most `size` bytes.
fn cuts(len: usize, size: usize) -> Vec<(usize, usize)> {
    let starts = (0..len).step_by(size);
    starts.map(|start| (start, len.min(start + size))).collect()
}
