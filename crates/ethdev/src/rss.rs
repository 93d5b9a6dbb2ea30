//! Receive-side scaling in software: the hash that spreads flows, and the table from hash to queue.
//!
//! ```text
//! frame -> Flow (addresses, and ports if there are any) -> Toeplitz -> 32 bits -> reta[hash % 512] -> queue or process
//! ```
//!
//! The hash is the devices' own (Toeplitz), bit for bit, so that a packet hashed by a device and one hashed here meet
//! in one place. It is computed with a table for each byte of the input, eight table look-ups for two IPv4
//! addresses, in place of a shift for each bit.

use std::fmt;
use std::sync::LazyLock;

use eal::sync::{AtomicU16, Ordering};
use mbuf::Mbuf;

use crate::flow::Flow;

/// Entries of a redirection table: as many as the devices have that have most in common use.
pub const RETA_LEN: usize = eal::ports::RETA_LEN;

/// Bytes of a key: enough for two IPv6 addresses and two ports.
pub const KEY_LEN: usize = 40;

/// Most bytes that are hashed: two IPv6 addresses and two ports.
const INPUT_MAX: usize = 36;

/// The secret that the hash depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RssKey(pub [u8; KEY_LEN]);

impl RssKey {
    /// The key of Microsoft's verification suite, which most devices start with.
    pub const MICROSOFT: Self = Self([
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ]);

    /// The key of the mlx drivers, which F-Stack uses.
    pub const MELLANOX: Self = Self([
        0xd1, 0x81, 0xc6, 0x2c, 0xf7, 0xf4, 0xdb, 0x5b, 0x19, 0x83, 0xa2, 0xfc, 0x94, 0x3e, 0x1a,
        0xdb, 0xd9, 0x38, 0x9e, 0x6b, 0xd1, 0x03, 0x9c, 0x2c, 0xa7, 0x44, 0x99, 0xad, 0x59, 0x3d,
        0x56, 0xd9, 0xf3, 0x25, 0x3c, 0x06, 0x2a, 0xdc, 0x1f, 0xfc,
    ]);

    /// A key that repeats every 16 bits: both directions of a flow have one hash.
    pub const SYMMETRIC: Self = {
        let mut key = [0x6d; KEY_LEN];
        let mut at = 1;
        while at < KEY_LEN {
            key[at] = 0x5a;
            at += 2;
        }
        Self(key)
    };
}

impl Default for RssKey {
    fn default() -> Self {
        Self::MICROSOFT
    }
}

/// The Toeplitz hash under one key.
pub struct Toeplitz {
    /// For each place in the input and each byte there, what it adds to the hash.
    tables: Box<[[u32; 256]; INPUT_MAX]>,
}

impl fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Toeplitz").finish_non_exhaustive()
    }
}

impl Default for Toeplitz {
    fn default() -> Self {
        Self::new(&RssKey::default())
    }
}

impl Toeplitz {
    /// Prepares the tables of a key: 36 KiB, of which IPv4 touches 12.
    #[must_use]
    pub fn new(key: &RssKey) -> Self {
        let mut tables = Box::new([[0; 256]; INPUT_MAX]);
        for (place, table) in tables.iter_mut().enumerate() {
            // The 40 bits of the key that the byte at `place` can meet: 32 for each of its eight bits, one further each time.
            let window = key.0[place..]
                .iter()
                .take(5)
                .fold(0_u64, |window, byte| window << 8 | u64::from(*byte));
            for bit in 0..8_usize {
                // Truncated on purpose: bits 39-bit down to 8-bit of the window.
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the low 32 bits of the shifted window are meant"
                )]
                let added = (window >> (8 - bit)) as u32;
                let mask = 0x80 >> bit;
                for (byte, entry) in table.iter_mut().enumerate() {
                    if byte & mask != 0 {
                        *entry ^= added;
                    }
                }
            }
        }
        Self { tables }
    }

    /// The hash of at most 36 bytes; does not compile with more.
    #[must_use]
    #[inline]
    pub fn bytes<const N: usize>(&self, input: &[u8; N]) -> u32 {
        const { assert!(N <= INPUT_MAX) };
        self.tables
            .iter()
            .zip(input)
            .fold(0, |hash, (table, byte)| hash ^ table[usize::from(*byte)])
    }

    /// The hash of a flow.
    #[must_use]
    #[inline]
    pub fn flow(&self, flow: &Flow) -> u32 {
        match *flow {
            Flow::Ipv4 {
                source,
                destination,
                ports: None,
            } => self.bytes(&join::<4, 4, 8>(source, destination)),
            Flow::Ipv4 {
                source,
                destination,
                ports: Some(ports),
            } => self.bytes(&join::<8, 4, 12>(
                join::<4, 4, 8>(source, destination),
                ports,
            )),
            Flow::Ipv6 {
                source,
                destination,
                ports: None,
            } => self.bytes(&join::<16, 16, 32>(source, destination)),
            Flow::Ipv6 {
                source,
                destination,
                ports: Some(ports),
            } => self.bytes(&join::<32, 4, 36>(
                join::<16, 16, 32>(source, destination),
                ports,
            )),
        }
    }

    /// The hash of an Ethernet frame; `None` for one that carries no IP, which is to go to queue 0.
    #[must_use]
    #[inline]
    pub fn frame(&self, frame: &[u8]) -> Option<u32> {
        Flow::of(frame).map(|flow| self.flow(&flow))
    }

    /// The hash that the device put into the mbuf, or else that of its first segment.
    #[must_use]
    #[inline]
    pub fn mbuf(&self, mbuf: &Mbuf<'_>) -> Option<u32> {
        mbuf.rss_hash().or_else(|| self.frame(mbuf.data()))
    }
}

/// The hash of an Ethernet frame under the default key; 0 for one that carries no IP.
#[must_use]
pub fn hash_frame(frame: &[u8]) -> u32 {
    static DEFAULT: LazyLock<Toeplitz> = LazyLock::new(Toeplitz::default);
    DEFAULT.frame(frame).unwrap_or(0)
}

/// `a` and `b` behind each other.
#[inline]
fn join<const A: usize, const B: usize, const C: usize>(a: [u8; A], b: [u8; B]) -> [u8; C] {
    const { assert!(A + B == C) };
    let mut joined = [0; C];
    joined[..A].copy_from_slice(&a);
    joined[A..].copy_from_slice(&b);
    joined
}

/// The redirection table of a port: which queue, or which process, a hash belongs to.
///
/// The primary writes it, in the control part of the region; everybody reads.
#[derive(Debug, Clone, Copy)]
pub struct Reta<'r> {
    entries: &'r [AtomicU16; RETA_LEN],
}

impl<'r> Reta<'r> {
    /// Takes the table's memory; `None` unless it has [`RETA_LEN`] entries.
    #[must_use]
    pub fn new(entries: &'r [AtomicU16]) -> Option<Self> {
        Some(Self {
            entries: entries.try_into().ok()?,
        })
    }

    /// The queue for a hash. A number beyond what the reader has is for the reader to check.
    #[must_use]
    #[inline]
    pub fn queue(&self, hash: u32) -> u16 {
        // Relaxed: an entry stands for itself; a packet that sees the old one goes where its flow went before.
        self.entries[hash as usize % RETA_LEN].load(Ordering::Relaxed)
    }

    /// Spreads the entries evenly over `queues`, in order. An empty list changes nothing. For the primary only.
    pub fn spread(&self, queues: &[u16]) {
        for (entry, queue) in self.entries.iter().zip(queues.iter().cycle()) {
            entry.store(*queue, Ordering::Relaxed);
        }
    }

    /// All entries, each read once.
    pub fn entries(&self) -> impl Iterator<Item = u16> + use<'r> {
        self.entries
            .iter()
            .map(|entry| entry.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn ports(source: u16, destination: u16) -> [u8; 4] {
        join(source.to_be_bytes(), destination.to_be_bytes())
    }

    /// The definition: one bit of the input at a time.
    fn by_bits(key: &RssKey, input: &[u8]) -> u32 {
        let bit = |at: usize| u32::from(key.0[at / 8] >> (7 - at % 8) & 1);
        let mut hash = 0;
        for at in 0..8 * input.len() {
            if input[at / 8] >> (7 - at % 8) & 1 == 1 {
                hash ^= (0..32).fold(0, |window, place| window << 1 | bit(at + place));
            }
        }
        hash
    }

    #[test]
    fn ipv4_hashes_are_those_of_the_verification_suite() {
        let hash = Toeplitz::new(&RssKey::MICROSOFT);
        for (destination, source, addresses, with_ports) in [
            (
                ("161.142.100.80", 1766),
                ("66.9.149.187", 2794),
                0x323e_8fc2,
                0x51cc_c178,
            ),
            (
                ("65.69.140.83", 4739),
                ("199.92.111.2", 14230),
                0xd718_262a,
                0xc626_b0ea,
            ),
            (
                ("12.22.207.184", 38024),
                ("24.19.198.95", 12898),
                0xd2d0_a5de,
                0x5c2b_394a,
            ),
            (
                ("209.142.163.6", 2217),
                ("38.27.205.30", 48228),
                0x8298_9176,
                0xafc7_327f,
            ),
            (
                ("202.188.127.2", 1303),
                ("153.39.163.191", 44251),
                0x5d18_09c5,
                0x10e8_28a2,
            ),
        ] {
            let address = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
            let flow = |ports| Flow::Ipv4 {
                source: address(source.0),
                destination: address(destination.0),
                ports,
            };
            assert_eq!(hash.flow(&flow(None)), addresses, "{source:?}");
            assert_eq!(
                hash.flow(&flow(Some(ports(source.1, destination.1)))),
                with_ports,
                "{source:?}"
            );
        }
    }

    #[test]
    fn ipv6_hashes_are_those_of_the_verification_suite() {
        let hash = Toeplitz::new(&RssKey::MICROSOFT);
        for (destination, source, addresses, with_ports) in [
            (
                ("3ffe:2501:200:3::1", 1766),
                ("3ffe:2501:200:1fff::7", 2794),
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                ("ff02::1", 4739),
                ("3ffe:501:8::260:97ff:fe40:efab", 14230),
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                ("fe80::200:f8ff:fe21:67cf", 38024),
                ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
                0x4b61_e985,
                0x02d1_feef,
            ),
        ] {
            let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
            let flow = |ports| Flow::Ipv6 {
                source: address(source.0),
                destination: address(destination.0),
                ports,
            };
            assert_eq!(hash.flow(&flow(None)), addresses, "{source:?}");
            assert_eq!(
                hash.flow(&flow(Some(ports(source.1, destination.1)))),
                with_ports,
                "{source:?}"
            );
        }
    }

    #[test]
    fn spread_table_names_every_queue_equally_often() {
        let entries: [AtomicU16; RETA_LEN] = std::array::from_fn(|_| AtomicU16::new(9));
        let reta = Reta::new(&entries).unwrap();
        reta.spread(&[0, 2, 3, 7]);
        for queue in [0, 2, 3, 7] {
            assert_eq!(
                reta.entries().filter(|entry| *entry == queue).count(),
                RETA_LEN / 4
            );
        }
        assert_eq!(
            (reta.queue(1), reta.queue(513), reta.queue(u32::MAX)),
            (2, 2, 7)
        );
        reta.spread(&[]);
        assert_eq!(reta.queue(1), 2);
    }

    /// `cargo test --release -p forebay-ethdev -- --ignored --nocapture toeplitz_speed`
    #[test]
    #[ignore = "a measurement, not a test"]
    fn toeplitz_speed() {
        let hash = Toeplitz::default();
        let mut input = [7_u8; 12];
        let start = std::time::Instant::now();
        let mut sum = 0;
        for round in 0..50_000_000_u32 {
            input[..4].copy_from_slice(&round.to_ne_bytes());
            sum ^= hash.bytes(std::hint::black_box(&input));
        }
        println!(
            "{:.2} ns an IPv4 4-tuple ({sum})",
            start.elapsed().as_nanos() as f64 / 5e7
        );
    }

    proptest! {
        #[test]
        fn tables_agree_with_the_definition(key in any::<[u8; KEY_LEN]>(), input in any::<[[u8; 12]; 3]>()) {
            let (key, input): (_, [u8; 36]) = (RssKey(key), input.concat().try_into().unwrap());
            prop_assert_eq!(Toeplitz::new(&key).bytes(&input), by_bits(&key, &input));
        }

        #[test]
        fn symmetric_key_gives_both_directions_one_hash(a in any::<[u8; 16]>(), b in any::<[u8; 16]>(), p: u16, q: u16) {
            let hash = Toeplitz::new(&RssKey::SYMMETRIC);
            let flow = |source, destination, ports| hash.flow(&Flow::Ipv6 { source, destination, ports: Some(ports) });
            prop_assert_eq!(flow(a, b, ports(p, q)), flow(b, a, ports(q, p)));
            let short = |address: [u8; 16]| [address[0], address[1], address[2], address[3]];
            let flow = |source, destination, ports| hash.flow(&Flow::Ipv4 { source: short(source), destination: short(destination), ports: Some(ports) });
            prop_assert_eq!(flow(a, b, ports(p, q)), flow(b, a, ports(q, p)));
        }
    }
}
