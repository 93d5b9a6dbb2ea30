//! The pipeline's counters, in the zone `MProc_port_info`, where any program can read them.
//!
//! The zone begins as `struct port_info` of DPDK's `client_server_mp` does, with room for 60
//! clients; what the lesson does not count stands behind it.
//!
//! ```text
//! offset 0     u16 num_ports, u16 id[16], then u16: clients, queue mode
//! offset 64    u64 rx[16]                                  packets received, by port
//! offset 192   { u64 tx[16], u64 tx_drop[16] } [60]        packets sent and dropped, by client and port
//! then         u64 rx_segments[16], u64 no_client[16]      by port
//! then         { u64 rx, rx_segments, rx_drop, 5 spare } [60]     handed to a client's ring
//! then         { u64 rx[16], rx_segments[16], tx_segments[16], u32 owner } [60]   by client and port
//! ```
//!
//! A *segment* is what goes over a wire: a packet that a host hands over whole for segmentation
//! counts as one packet and as many segments as will leave it.
//!
//! | part                                   | written by                         |
//! |----------------------------------------|------------------------------------|
//! | header                                 | the server, once, before any client |
//! | `rx`, `rx_segments`, `no_client`, rings | the server's packet thread         |
//! | `tx`, `tx_drop`, `tx_segments`, `rx`, `owner` of a client | that client     |
//!
//! Each writer has cache lines of its own.
//!
//! **If a process dies:** every word is a count of its own with one writer; none depends on
//! another. Whoever takes the dead one's place goes on counting from what stands there.

use eal::counters::Counter;
use eal::sync::{AtomicU16, AtomicU32, Ordering};
use eal::{Region, SLOTS_MAX, Zone, ZoneError, ZoneKind};

use super::args::Queues;

/// Name of the zone, as in the lesson.
pub const PORT_INFO: &str = "MProc_port_info";
/// Ports in the counters' tables, as `RTE_MAX_ETHPORTS` in the lesson.
pub const PORTS_MAX: usize = 16;
/// Clients of a server: every slot of the group but four, for the server and its successor.
pub const CLIENTS_MAX: u32 = 60;
const _: () = assert!(CLIENTS_MAX as usize + 4 == SLOTS_MAX);

const CLIENTS: usize = CLIENTS_MAX as usize;
const WORD: usize = size_of::<u64>();
/// `u16`s in the header line.
const HEADER_WORDS: usize = 32;
/// Where in the header the number of clients and the queue mode stand.
const CLIENT_COUNT: usize = 1 + PORTS_MAX;
const QUEUE_MODE: usize = CLIENT_COUNT + 1;

const RX: usize = 64;
const TX: usize = RX + PORTS_MAX * WORD;
const TX_STRIDE: usize = 2 * PORTS_MAX * WORD;
const SERVER: usize = TX + CLIENTS * TX_STRIDE;
const RINGS: usize = SERVER + 2 * PORTS_MAX * WORD;
const RING_WORDS: usize = 8;
const CLIENT: usize = RINGS + CLIENTS * RING_WORDS * WORD;
const CLIENT_OWNER: usize = 3 * PORTS_MAX * WORD;
const CLIENT_STRIDE: usize = CLIENT_OWNER + 64;
/// Bytes of the whole zone.
const LEN: usize = CLIENT + CLIENTS * CLIENT_STRIDE;

/// The zone `MProc_port_info`, mapped and checked.
#[derive(Debug, Clone, Copy)]
pub struct PortInfo<'r> {
    zone: Zone<'r>,
    header: &'r [AtomicU16],
}

/// What the server counts for one port.
#[derive(Debug, Clone, Copy)]
pub struct PortCounters<'r> {
    /// Packets received.
    pub rx: &'r Counter,
    /// Segments received.
    pub rx_segments: &'r Counter,
    /// Packets dropped because no client was there.
    pub no_client: &'r Counter,
}

/// What the server counts for one client's ring.
#[derive(Debug, Clone, Copy)]
pub struct RingCounters<'r> {
    /// Packets put into the ring.
    pub rx: &'r Counter,
    /// Segments put into the ring.
    pub rx_segments: &'r Counter,
    /// Packets dropped because the ring was full.
    pub rx_drop: &'r Counter,
}

/// What a client counts, a table by port each.
#[derive(Debug, Clone, Copy)]
pub struct ClientCounters<'r> {
    /// Packets taken: from its ring, or from its own receive queues.
    pub rx: &'r [Counter],
    /// Segments taken.
    pub rx_segments: &'r [Counter],
    /// Packets sent.
    pub tx: &'r [Counter],
    /// Packets that the port had no room for.
    pub tx_drop: &'r [Counter],
    /// Segments sent.
    pub tx_segments: &'r [Counter],
    /// Who the client is: [`eal::Owner`]'s bits. To be looked at, not claimed: two clients with
    /// one id are told apart by the ring or the queues that they take.
    pub owner: &'r AtomicU32,
}

impl<'r> PortInfo<'r> {
    /// Reserves the zone and fills its header in; a successor of the server finds it there and
    /// goes on counting.
    ///
    /// # Errors
    ///
    /// No room in the region, or this process is not the primary.
    pub fn create(
        region: &'r Region,
        ports: &[u16],
        clients: u32,
        queues: Queues,
    ) -> Result<Self, eal::Error> {
        let zone = match region.lookup(ZoneKind::Plain, PORT_INFO) {
            Ok(zone) => zone,
            Err(_) => region.reserve(ZoneKind::Plain, PORT_INFO, LEN, 64, None)?,
        };
        let info = Self::view(zone)?;
        for (index, port) in ports.iter().enumerate().take(PORTS_MAX) {
            info.header[1 + index].store(*port, Ordering::Relaxed);
        }
        let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let mode = u16::from(queues == Queues::Each);
        info.header[QUEUE_MODE].store(mode, Ordering::Relaxed);
        info.header[CLIENT_COUNT].store(count(clients as usize), Ordering::Relaxed);
        // Release: who sees the number of ports sees the rest. Pairs with the Acquire in `ports`.
        info.header[0].store(count(ports.len()), Ordering::Release);
        Ok(info)
    }

    /// Finds the zone.
    ///
    /// # Errors
    ///
    /// There is none: the group has no server.
    pub fn lookup(region: &'r Region) -> Result<Self, eal::Error> {
        Ok(Self::view(region.lookup(ZoneKind::Plain, PORT_INFO)?)?)
    }

    fn view(zone: Zone<'r>) -> Result<Self, ZoneError> {
        // The whole: a zone that is too short is refused here and not later.
        zone.slice::<Counter>(0, LEN / WORD)?;
        Ok(Self {
            zone,
            header: zone.slice(0, HEADER_WORDS)?,
        })
    }

    /// The ports in use, in the order of their table columns. Empty until the server is ready.
    pub fn ports(&self) -> Vec<u16> {
        // Acquire: pairs with the Release in `create`.
        let count = usize::from(self.header[0].load(Ordering::Acquire)).min(PORTS_MAX);
        self.header[1..=count]
            .iter()
            .map(|id| id.load(Ordering::Relaxed))
            .collect()
    }

    /// How many clients the server has rings or queues for.
    pub fn clients(&self) -> u32 {
        u32::from(self.header[CLIENT_COUNT].load(Ordering::Relaxed)).min(CLIENTS_MAX)
    }

    /// Who reads the ports.
    pub fn queues(&self) -> Queues {
        match self.header[QUEUE_MODE].load(Ordering::Relaxed) {
            0 => Queues::Server,
            _ => Queues::Each,
        }
    }

    /// Counters of the port in table column `port`.
    ///
    /// # Panics
    ///
    /// If `port` is [`PORTS_MAX`] or more.
    pub fn port(&self, port: usize) -> PortCounters<'r> {
        let server = self.table(SERVER, 2 * PORTS_MAX);
        PortCounters {
            rx: &self.table(RX, PORTS_MAX)[port],
            rx_segments: &server[..PORTS_MAX][port],
            no_client: &server[PORTS_MAX..][port],
        }
    }

    /// Counters of a client's ring.
    ///
    /// # Panics
    ///
    /// If `client` is [`CLIENTS_MAX`] or more.
    pub fn ring(&self, client: u32) -> RingCounters<'r> {
        let words = self.table(RINGS + at(client) * RING_WORDS * WORD, RING_WORDS);
        RingCounters {
            rx: &words[0],
            rx_segments: &words[1],
            rx_drop: &words[2],
        }
    }

    /// Counters that the client writes.
    ///
    /// # Panics
    ///
    /// If `client` is [`CLIENTS_MAX`] or more.
    pub fn client(&self, client: u32) -> ClientCounters<'r> {
        let (tx, tx_drop) = self
            .table(TX + at(client) * TX_STRIDE, 2 * PORTS_MAX)
            .split_at(PORTS_MAX);
        let own = self.table(CLIENT + at(client) * CLIENT_STRIDE, 3 * PORTS_MAX);
        let (rx, segments) = own.split_at(PORTS_MAX);
        let (rx_segments, tx_segments) = segments.split_at(PORTS_MAX);
        let owner = CLIENT + at(client) * CLIENT_STRIDE + CLIENT_OWNER;
        let owner = self.zone.get(owner).expect(CHECKED);
        ClientCounters {
            rx,
            rx_segments,
            tx,
            tx_drop,
            tx_segments,
            owner,
        }
    }

    fn table(&self, offset: usize, count: usize) -> &'r [Counter] {
        self.zone.slice(offset, count).expect(CHECKED)
    }
}

const CHECKED: &str = "`view` checked the length, and zones are 64-aligned";

fn at(client: u32) -> usize {
    assert!(client < CLIENTS_MAX, "client {client} has no counters");
    client as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zone_has_the_shape_of_the_lesson() {
        let region = Region::anonymous(1 << 20).unwrap();
        let info = PortInfo::create(&region, &[0, 3], 2, Queues::Server).unwrap();
        info.port(1).rx.add(7);
        info.client(1).tx[0].add(8);
        info.client(1).tx_drop[1].add(9);

        let raw = region.lookup(ZoneKind::Plain, "MProc_port_info").unwrap();
        let halves = raw.slice::<AtomicU16>(0, 3).unwrap();
        let halves: Vec<_> = halves
            .iter()
            .map(|half| half.load(Ordering::Relaxed))
            .collect();
        assert_eq!(halves, [2, 0, 3], "num_ports, id[0], id[1]");
        let word = |offset| raw.get::<Counter>(offset).unwrap().get();
        assert_eq!(word(64 + 8), 7, "rx[1]");
        assert_eq!(word(64 + 128 + 256), 8, "tx_stats[1].tx[0]");
        assert_eq!(word(64 + 128 + 256 + 128 + 8), 9, "tx_stats[1].tx_drop[1]");
    }

    #[test]
    fn no_two_counters_share_a_word_and_no_two_writers_a_line() {
        let region = Region::anonymous(1 << 20).unwrap();
        let info = PortInfo::create(&region, &[0, 1], CLIENTS_MAX, Queues::Each).unwrap();
        let mut seen = std::collections::BTreeMap::new();
        let mut note = |writer: u32, counter: &Counter| {
            let at = std::ptr::from_ref(counter) as usize;
            assert_eq!(seen.insert(at, writer), None, "two counters at one place");
        };
        for port in 0..PORTS_MAX {
            let port = info.port(port);
            for counter in [port.rx, port.rx_segments, port.no_client] {
                note(u32::MAX, counter);
            }
        }
        for client in 0..CLIENTS_MAX {
            let ring = info.ring(client);
            for counter in [ring.rx, ring.rx_segments, ring.rx_drop] {
                note(u32::MAX, counter);
            }
            let own = info.client(client);
            for table in [
                own.rx,
                own.rx_segments,
                own.tx,
                own.tx_drop,
                own.tx_segments,
            ] {
                table.iter().for_each(|counter| note(client, counter));
            }
        }
        let mut lines = std::collections::BTreeMap::new();
        for (at, writer) in seen {
            assert_eq!(
                *lines.entry(at / 64).or_insert(writer),
                writer,
                "two writers in one line"
            );
        }
    }

    #[test]
    fn successor_finds_the_counts_of_its_predecessor() {
        let region = Region::anonymous(1 << 20).unwrap();
        PortInfo::create(&region, &[0, 1], 2, Queues::Server)
            .unwrap()
            .port(0)
            .rx
            .add(5);
        let again = PortInfo::create(&region, &[0, 1], 3, Queues::Server).unwrap();
        assert_eq!((again.port(0).rx.get(), again.clients()), (5, 3));
        assert_eq!(PortInfo::lookup(&region).unwrap().ports(), [0, 1]);
    }
}
