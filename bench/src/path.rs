//! Data paths in one thread, packet by packet the same work each time: what `instructions` counts.
//!
//! Each path does what an application does, in bursts of 32 where its name says nothing else. Both ends of a ring are in the
//! one thread, each with a slot of its own; so are both ends of a conversation.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use forebay::netstack::wire::ethernet::Mac;
use forebay::netstack::{self, InterfaceConfig, Mbufs, Probing, Stack};
use forebay::pipeline::args::Queues;
use forebay::pipeline::stats::PortInfo;
use forebay::ring::FanInConfig;
use forebay::{
    BURST_MAX, Burst, Eal, Flags, Lcore, MbufConsumer, MbufProducer, Pool, PoolConfig, Port,
    PortConfig, PortId, Ports, QueueId, Ring, TxBuffer,
};

use crate::datagram::Datagram;
use crate::ours::environment;

const RING_SIZE: u32 = 1024;
const MBUFS: u32 = 8192;
/// Frames that are sent on a cable before the other end reads them: fewer than its ring holds.
const CABLE_ROUND: u32 = 1024;
/// Between two looks at a cable: the kernel shows frames a block at a time.
const CABLE_WAIT: Duration = Duration::from_micros(500);
/// Looks at a cable on which nothing comes.
const CABLE_LOOKS: u32 = 4000;
/// Where both ends of [`DataPath::UdpEcho`] listen.
const ECHO_PORT: u16 = 7;
/// What lies on the cable of [`DataPath::AfPacket`].
pub(crate) const CABLE: [&str; 2] = ["bench0", "bench1"];

/// A path through the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DataPath {
    /// Numbers through a ring with one producer, 32 at a time.
    #[value(name = "ring-spsc-32")]
    Spsc,
    /// The same, one at a time.
    #[value(name = "ring-spsc-1")]
    SpscSingle,
    /// Numbers through a ring with four lanes, the producers in turn.
    #[value(name = "ring-fanin-32")]
    Fanin,
    /// Mbufs allocated and freed.
    #[value(name = "pool-alloc-free-32")]
    AllocFree,
    /// Mbufs allocated by one slot, through a ring, freed by another.
    #[value(name = "handoff-32")]
    Handoff,
    /// Packets from one `net_null` port to another.
    #[value(name = "null-rx-tx")]
    Null,
    /// What server and client do with a packet, call by call and with their counters: received, through a ring, buffered, sent.
    #[value(name = "null-ring-txbuffer")]
    Pipeline,
    /// Frames out of one end of a cable by `net_af_packet` and in at the other.
    #[value(name = "af-packet-tx-rx")]
    AfPacket,
    /// UDP datagrams of 64 bytes a frame that two stacks send each other back: received, read, sent, transmitted. A packet is one
    /// datagram through one stack.
    #[value(name = "udp-echo")]
    UdpEcho,
}

impl DataPath {
    /// Its name.
    pub(crate) fn name(self) -> String {
        let name = self.to_possible_value();
        name.map_or_else(String::new, |name| name.get_name().to_owned())
    }

    /// Packets of the shorter run. A multiple of what each loop does at once.
    pub(crate) fn packets(self) -> u32 {
        match self {
            Self::AfPacket => 8 * CABLE_ROUND,
            _ => 32 * RING_SIZE,
        }
    }

    /// Moves so many packets.
    pub(crate) fn run(self, packets: u32) -> Result<()> {
        let mut args = ["-l0", "-m64", "--in-memory"].map(str::to_owned).to_vec();
        match self {
            Self::Null | Self::Pipeline => {
                args.extend([0, 1].map(|port| format!("--vdev=net_null{port},size=64")));
            }
            Self::AfPacket => {
                let port = |(number, iface)| format!("--vdev=net_af_packet{number},iface={iface}");
                args.extend(CABLE.into_iter().enumerate().map(port));
            }
            _ => {}
        }
        let eal = environment(&args)?;
        let bursts = packets / 32;
        match self {
            Self::Spsc => ring::<32>(&eal, packets),
            Self::SpscSingle => ring::<1>(&eal, packets),
            Self::Fanin => fan_in(&eal, bursts),
            Self::AllocFree => alloc_free(&eal, bursts),
            Self::Handoff => handoff(&eal, bursts),
            Self::Null => null(&eal, bursts),
            Self::Pipeline => pipeline(&eal, bursts),
            Self::AfPacket => cable(&eal, packets),
            Self::UdpEcho => udp_echo(&eal, bursts),
        }
    }
}

fn ring<const BURST: usize>(eal: &Eal, items: u32) -> Result<()> {
    let flags = Flags::SP_ENQ | Flags::SC_DEQ;
    let ring = Ring::create(eal.region(), "path", RING_SIZE, None, flags)?;
    let slots = (eal.claim_slot("sender")?, eal.claim_slot("receiver")?);
    let mut producer = ring.producer(slots.0.owner())?;
    let mut consumer = ring.consumer(slots.1.owner())?;
    let (values, mut out) = ([7; BURST], [0; BURST]);
    let mut left = items as usize;
    while left > 0 {
        if BURST == 1 {
            ensure!(producer.enqueue(values[0]).is_ok(), "the ring is full");
            ensure!(consumer.dequeue() == Some(7), "another item came");
        } else {
            ensure!(
                producer.enqueue_burst(&values).count == BURST,
                "the ring is full"
            );
            ensure!(
                consumer.dequeue_burst(&mut out).count == BURST,
                "items are missing"
            );
        }
        left -= BURST;
    }
    Ok(())
}

fn fan_in(eal: &Eal, bursts: u32) -> Result<()> {
    let config = FanInConfig {
        lanes: 5,
        lane_size: RING_SIZE,
        limit: RING_SIZE,
    };
    let ring = Ring::create_fan_in(eal.region(), "path", config, None)?;
    let receiver = eal.claim_slot("receiver")?;
    let senders = (0..4).map(|_| eal.claim_slot("sender"));
    let senders = senders.collect::<Result<Vec<_>, _>>()?;
    let mut consumer = ring.consumer(receiver.owner())?;
    let producers = senders.iter().map(|sender| ring.producer(sender.owner()));
    let mut producers = producers.collect::<Result<Vec<_>, _>>()?;
    let (values, mut out) = ([7; BURST_MAX], [0; BURST_MAX]);
    for _ in 0..bursts / 4 {
        for producer in &mut producers {
            let sent = producer.enqueue_burst(&values).count;
            ensure!(sent == BURST_MAX, "the ring is full");
        }
        for _ in 0..4 {
            let count = consumer.dequeue_burst(&mut out).count;
            ensure!(count == BURST_MAX, "items are missing");
        }
    }
    Ok(())
}

fn alloc_free(eal: &Eal, bursts: u32) -> Result<()> {
    let pool = pool(eal)?;
    let lcore = Lcore::new(eal.claim_slot("alone")?);
    let mut burst = Burst::new(&lcore);
    for _ in 0..bursts {
        allocate(&lcore, pool, &mut burst)?;
        burst.clear();
    }
    Ok(())
}

fn handoff(eal: &Eal, bursts: u32) -> Result<()> {
    let pool = pool(eal)?;
    let (sender, receiver) = lcores(eal)?;
    let (mut producer, mut consumer) = ends(eal, &sender, &receiver)?;
    let (mut out, mut taken) = (Burst::new(&sender), Burst::new(&receiver));
    for _ in 0..bursts {
        allocate(&sender, pool, &mut out)?;
        ensure!(
            producer.enqueue_burst(&mut out).count == BURST_MAX,
            "the ring is full"
        );
        let count = consumer.dequeue_burst(&receiver, &mut taken).count;
        ensure!(count == BURST_MAX, "packets are missing");
        taken.clear();
    }
    Ok(())
}

fn null(eal: &Eal, bursts: u32) -> Result<()> {
    let pool = pool(eal)?;
    let ports = Ports::probe(eal)?;
    let lcore = Lcore::new(eal.claim_slot("alone")?);
    start(&ports, pool)?;
    let mut rx = port(&ports, 0)?.rx_queue(QueueId(0), lcore.owner())?;
    let mut tx = port(&ports, 1)?.tx_queue(QueueId(0), lcore.owner())?;
    let mut burst = Burst::new(&lcore);
    for _ in 0..bursts {
        ensure!(
            rx.rx_burst(&lcore, &mut burst) == BURST_MAX,
            "packets are missing"
        );
        ensure!(tx.tx_burst(&mut burst) == BURST_MAX, "not all were sent");
    }
    Ok(())
}

fn pipeline(eal: &Eal, bursts: u32) -> Result<()> {
    let pool = pool(eal)?;
    let ports = Ports::probe(eal)?;
    let (server, client) = lcores(eal)?;
    start(&ports, pool)?;
    let (mut producer, mut consumer) = ends(eal, &server, &client)?;
    let mut rx = port(&ports, 0)?.rx_queue(QueueId(0), server.owner())?;
    let mut tx = port(&ports, 1)?.tx_queue(QueueId(0), client.owner())?;
    let info = PortInfo::create(eal.region(), &[0, 1], 1, Queues::Server)?;
    let (came_in, handed_out, counters) = (info.port(0), info.ring(0), info.client(0));
    let mut buffer = TxBuffer::new(&client);
    let (mut buffered, mut sent) = (0, 0);
    for _ in 0..bursts {
        // The server's `Spread::hand_out` and `Client::send`, with one client.
        let mut received = Burst::new(&server);
        let count = rx.rx_burst(&server, &mut received);
        ensure!(count == BURST_MAX, "packets are missing");
        let all = rx.last_burst();
        came_in.rx.add(all.packets);
        came_in.rx_segments.add(all.segments);
        let count = producer.enqueue_burst(&mut received).count;
        let left = received.totals();
        handed_out.rx.add(count as u64);
        let segments = all.segments.saturating_sub(left.segments);
        handed_out.rx_segments.add(segments);
        ensure!(left.packets == 0, "the ring is full");

        // The client's `turn`, `Outputs::send` and `flush_port`.
        let mut burst = Burst::new(&client);
        let count = consumer.dequeue_burst(&client, &mut burst).count;
        ensure!(count == BURST_MAX, "packets are missing");
        while !burst.is_empty() {
            let run = burst.run_of_port();
            ensure!(run.port == 0, "packets of another port");
            let mut packets = if run.len == burst.len() {
                std::mem::replace(&mut burst, Burst::new(&client))
            } else {
                burst.take_front(run.len)
            };
            counters.rx[0].add(run.totals.packets);
            counters.rx_segments[0].add(run.totals.segments);
            while !packets.is_empty() {
                buffered += buffer.append(&mut packets) as u64;
                if buffer.len() == BURST_MAX {
                    let before = tx.stats();
                    buffer.flush(&mut tx, |_| ());
                    let after = tx.stats();
                    let passed = after.packets.wrapping_sub(before.packets);
                    counters.tx[1].add(passed);
                    counters.tx_segments[1].add(after.segments.wrapping_sub(before.segments));
                    counters.tx_drop[1].add(buffered - passed);
                    sent += passed;
                    buffered = 0;
                }
            }
        }
    }
    let all = u64::from(bursts) * BURST_MAX as u64;
    ensure!(sent == all, "not all were sent");
    Ok(())
}

fn cable(eal: &Eal, frames: u32) -> Result<()> {
    let pool = pool(eal)?;
    let ports = Ports::probe(eal)?;
    let lcore = Lcore::new(eal.claim_slot("alone")?);
    start(&ports, pool)?;
    let mut tx = port(&ports, 0)?.tx_queue(QueueId(0), lcore.owner())?;
    let mut rx = port(&ports, 1)?.rx_queue(QueueId(0), lcore.owner())?;
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.resize(64, 0x5a);
    let mut burst = Burst::new(&lcore);
    for _ in 0..frames / CABLE_ROUND {
        for _ in 0..CABLE_ROUND / 32 {
            while let (true, Some(mbuf)) = (burst.room() > 0, lcore.mbuf_from(pool, &frame)) {
                ensure!(burst.push(mbuf).is_ok(), "the burst is full");
            }
            while !burst.is_empty() {
                tx.tx_burst(&mut burst);
            }
        }
        let (mut received, mut looks) = (0, 0);
        while received < CABLE_ROUND as usize {
            let count = rx.rx_burst(&lcore, &mut burst);
            burst.clear();
            received += count;
            if count == 0 {
                looks += 1;
                ensure!(looks < CABLE_LOOKS, "frames are missing");
                thread::sleep(CABLE_WAIT);
            }
        }
    }
    Ok(())
}

/// Two stacks, back to back: a burst of datagrams goes to and fro, so that no packet is allocated or freed.
fn udp_echo(eal: &Eal, bursts: u32) -> Result<()> {
    let pool = pool(eal)?;
    let lcore = Lcore::new(eal.claim_slot("alone")?);
    let hosts = [1, 2].map(|number| ([2, 0, 0, 0, 0, number], Ipv4Addr::new(10, 0, 0, number)));
    let mut stacks = Vec::new();
    for (here, there) in [(0, 1), (1, 0)] {
        let ((mac, address), (peer_mac, peer)) = (hosts[here], hosts[there]);
        let mut stack = Stack::new(netstack::Config::default(), Mbufs::new(&lcore, pool));
        let interface = stack.add_interface(InterfaceConfig::new(0, Mac(mac)))?;
        stack.add_address(interface, address.into(), 24, Probing::None)?;
        stack.add_neighbour(interface, peer.into(), Mac(peer_mac))?;
        let socket = stack.udp_bound((address, ECHO_PORT).into())?;
        stacks.push((stack, socket));
    }
    let datagram = Datagram {
        stations: (hosts[1].0, hosts[0].0),
        source: (hosts[1].1, ECHO_PORT),
        destination: (hosts[0].1, ECHO_PORT),
    };
    let frame = datagram.frame(64);
    let mut burst = Burst::new(&lcore);
    while burst.room() > 0 {
        let mbuf = lcore.mbuf_from(pool, &frame).context("the pool is empty")?;
        ensure!(burst.push(mbuf).is_ok(), "the burst is full");
    }
    for turn in 0..bursts {
        let (stack, id) = &mut stacks[turn as usize % 2];
        let now = netstack::Instant::from_nanos(u64::from(turn) * 1000);
        stack.receive(now, 0, burst.drain());
        let mut socket = stack.udp(*id);
        while let Some(datagram) = socket.recv_from() {
            ensure!(socket.reply(datagram).is_ok(), "a datagram was refused");
        }
        while let Some(packet) = stack.poll_transmit(0) {
            ensure!(burst.push(packet).is_ok(), "the burst is full");
        }
        ensure!(burst.room() == 0, "datagrams are missing");
    }
    Ok(())
}

fn pool(eal: &Eal) -> Result<Pool> {
    Ok(Pool::create(eal.region(), &PoolConfig::new("path", MBUFS))?)
}

fn allocate<'c>(lcore: &'c Lcore, pool: Pool, burst: &mut Burst<'c>) -> Result<()> {
    let count = lcore.alloc_burst(pool, burst, BURST_MAX);
    ensure!(count == BURST_MAX, "the pool is empty");
    Ok(())
}

fn lcores(eal: &Eal) -> Result<(Lcore, Lcore)> {
    let lcore = |name| -> Result<Lcore> { Ok(Lcore::new(eal.claim_slot(name)?)) };
    Ok((lcore("sender")?, lcore("receiver")?))
}

type Ends = (MbufProducer<'static>, MbufConsumer<'static>);

fn ends(eal: &Eal, sender: &Lcore, receiver: &Lcore) -> Result<Ends> {
    let flags = Flags::SP_ENQ | Flags::SC_DEQ;
    let ring = Ring::create(eal.region(), "path", RING_SIZE, None, flags)?;
    let consumer = MbufConsumer::new(ring.consumer(receiver.owner())?);
    Ok((MbufProducer::new(ring.producer(sender.owner())?), consumer))
}

fn port(ports: &Ports, number: u16) -> Result<&Port> {
    Ok(ports.port(PortId(number))?)
}

/// A queue each way on both ports.
fn start(ports: &Ports, pool: Pool) -> Result<()> {
    for number in [0, 1] {
        let port = port(ports, number)?;
        port.configure(1, 1, &PortConfig::default())?;
        port.rx_queue_setup(QueueId(0), 0, pool)?;
        port.tx_queue_setup(QueueId(0), 0)?;
        port.start()?;
    }
    Ok(())
}
