#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use eal::queue::QueueRecord;
use eal::{Counter, Owner, Region, Slot};
use lab::{FrameSocket, Host};
use mbuf::{BURST_MAX, Burst, HEADROOM, Lcore, Mbuf, PoolConfig};

use super::*;
use crate::driver::PortId;
use crate::stats::{DropReason, QueueCounters};

const WAIT: Duration = Duration::from_secs(10);

/// Memory for one test: a region, a pool of `count` buffers.
fn memory(count: u32) -> (&'static Region, Pool) {
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(64 << 20).unwrap()));
    let pool = Pool::create(region, &PoolConfig::new("pool", count)).unwrap();
    (region, pool)
}

fn lcore(region: &'static Region) -> Lcore {
    Lcore::new(Slot::claim(region, "test").unwrap())
}

/// A port with its queues' shared words, as the port layer keeps them.
struct Opened {
    device: Box<dyn Device>,
    region: &'static Region,
    pool: Pool,
    shared: HashMap<(Direction, u16), (&'static QueueRecord, QueueCounters)>,
}

impl Opened {
    /// Opens and starts a port on an interface of `host`.
    fn start(
        host: &Host,
        (region, pool): (&'static Region, Pool),
        args: &str,
        rx: u16,
        tx: u16,
    ) -> Self {
        let args = DevArgs::parse(args).unwrap();
        let device = host
            .run(|| open(region, &args, rx, tx, pool))
            .unwrap()
            .unwrap();
        Self {
            device,
            region,
            pool,
            shared: HashMap::new(),
        }
    }

    fn context(&mut self, direction: Direction, queue: u16) -> QueueContext {
        let (record, counters) = *self.shared.entry((direction, queue)).or_insert_with(|| {
            let record: &'static QueueRecord = Box::leak(Box::default());
            let detail: &'static [Counter; 16] = Box::leak(Box::default());
            (record, QueueCounters::new(record, detail))
        });
        QueueContext {
            region: self.region,
            port: PortId(0),
            queue: QueueId(queue),
            direction,
            record,
            counters,
            pool: Some(self.pool),
            descriptors: 0,
            owner: Owner::NONE,
        }
    }

    fn rx(&mut self, queue: u16) -> Box<dyn RxQueue> {
        let cx = self.context(Direction::Rx, queue);
        self.device.rx_queue(cx, None).unwrap()
    }

    fn tx(&mut self, queue: u16) -> Box<dyn TxQueue> {
        let cx = self.context(Direction::Tx, queue);
        self.device.tx_queue(cx, None).unwrap()
    }

    fn counters(&mut self, direction: Direction, queue: u16) -> QueueCounters {
        self.context(direction, queue).counters
    }
}

fn open(
    region: &'static Region,
    args: &DevArgs,
    rx: u16,
    tx: u16,
    pool: Pool,
) -> Result<Box<dyn Device>, Error> {
    let mut device = AfPacket.probe(
        &Probe {
            region,
            port: PortId(0),
            vdevs: &[],
        },
        args,
    )?;
    device.configure(rx, tx, &PortConfig::default())?;
    (0..rx).try_for_each(|queue| device.rx_queue_setup(QueueId(queue), 0, pool))?;
    (0..tx).try_for_each(|queue| device.tx_queue_setup(QueueId(queue), 0))?;
    device.start()?;
    Ok(device)
}

/// Two hosts and a cable, both ends up, IPv6 silent.
fn cable(a: &str, b: &str) -> (Host, Host) {
    let hosts = (Host::new(a).unwrap(), Host::new(b).unwrap());
    lab::veth((&hosts.0, "a0"), (&hosts.1, "b0"), 1).unwrap();
    for (host, iface) in [(&hosts.0, "a0"), (&hosts.1, "b0")] {
        host.disable_ipv6(iface).unwrap();
        host.up(iface).unwrap();
    }
    hosts
}

/// A frame of an experimental type with a number and bytes that follow from it.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.extend(number.to_be_bytes());
    let mut state = number.wrapping_mul(2_654_435_761) | 1;
    let noise = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    });
    frame.extend(noise.take(len.saturating_sub(frame.len())));
    frame
}

/// A frame with VLAN tags, outermost first.
fn tagged(number: u32, len: usize, tags: &[[u8; 4]]) -> Vec<u8> {
    let mut frame = frame(number, len);
    frame.splice(12..12, tags.concat());
    frame
}

fn bytes(mbuf: &Mbuf<'_>) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}

/// Polls until `count` packets came or time is over.
fn receive(rx: &mut Box<dyn RxQueue>, lcore: &Lcore, count: usize) -> Vec<Vec<u8>> {
    let until = Instant::now() + WAIT;
    let mut frames = Vec::new();
    while frames.len() < count && Instant::now() < until {
        let mut burst = Burst::new(lcore);
        rx.rx_burst(lcore, &mut burst);
        frames.extend(burst.iter().map(|mbuf| bytes(&mbuf)));
    }
    frames
}

/// What still comes within a twentieth of a second: ten times as long as the kernel keeps a packet back.
fn rest(rx: &mut Box<dyn RxQueue>, lcore: &Lcore) -> Vec<Vec<u8>> {
    let until = Instant::now() + Duration::from_millis(50);
    let mut frames = Vec::new();
    while Instant::now() < until {
        let mut burst = Burst::new(lcore);
        rx.rx_burst(lcore, &mut burst);
        frames.extend(burst.iter().map(|mbuf| bytes(&mbuf)));
    }
    frames
}

#[test]
fn every_frame_arrives_once_with_its_content() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(4096);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        let (mut rx, lcore) = (port.rx(0), lcore(memory.0));
        let sender = FrameSocket::open(&b, "b0").unwrap();
        let mut numbers = 0..;
        for len in (18..=1514).step_by(17).chain([1514]) {
            let sent: Vec<_> = numbers
                .by_ref()
                .take(3)
                .map(|number| frame(number, len))
                .collect();
            sent.iter().for_each(|frame| sender.send(frame).unwrap());
            assert_eq!(receive(&mut rx, &lcore, 3), sent, "{len}");
        }
        assert_eq!(rest(&mut rx, &lcore), Vec::<Vec<u8>>::new());
        assert_eq!(port.counters(Direction::Rx, 0).read().all_drops(), 0);
        drop((rx, lcore));
        assert_eq!(memory.1.in_use(), 0);
    });
}

/// Two cores send while the ring is looked into: a frame seen too early would have rests in it.
#[test]
fn frames_are_whole_when_many_send_at_once() {
    lab::isolated!({
        const EACH: u32 = 40_000;
        let (a, b) = cable("a", "b");
        let memory = memory(4096);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0,framecnt=16384", 1, 1);
        let (mut rx, lcore) = (port.rx(0), lcore(memory.0));
        let done = AtomicBool::new(false);
        let mut seen = vec![0_u8; 2 * EACH as usize];
        std::thread::scope(|scope| {
            let senders = [0, EACH].map(|first| {
                let sender = FrameSocket::open(&b, "b0").unwrap();
                scope.spawn(move || {
                    for number in first..first + EACH {
                        let len = 18 + (number as usize * 7919) % 1400;
                        sender.send(&frame(number, len)).unwrap();
                        // Lulls of more than a millisecond, so that blocks are handed over by the timer too.
                        if number % 1000 == 0 {
                            std::thread::sleep(Duration::from_millis(3));
                        }
                    }
                })
            });
            scope.spawn(|| {
                senders
                    .into_iter()
                    .for_each(|sender| sender.join().unwrap());
                std::thread::sleep(Duration::from_millis(20));
                done.store(true, Ordering::Release);
            });
            let mut idle = false;
            while !(idle && done.load(Ordering::Acquire)) {
                let mut burst = Burst::new(&lcore);
                idle = rx.rx_burst(&lcore, &mut burst) == 0;
                for mbuf in burst.iter() {
                    let data = mbuf.data();
                    let number = u32::from_be_bytes(data[14..18].try_into().unwrap());
                    assert!(
                        data == frame(number, data.len()),
                        "frame {number} is damaged"
                    );
                    seen[number as usize] += 1;
                }
            }
            assert_eq!(rest(&mut rx, &lcore).len(), 0);
        });
        let missed = port.counters(Direction::Rx, 0).read().missed;
        assert!(seen.iter().all(|count| *count <= 1));
        let lost = seen.iter().filter(|count| **count == 0).count();
        assert_eq!(lost as u64, missed, "what is lost the kernel has counted");
        assert_eq!(port.counters(Direction::Rx, 0).read().all_drops(), 0);
    });
}

#[test]
fn vlan_tags_come_back_as_they_were() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(1024);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        let (mut rx, mut tx, lcore) = (port.rx(0), port.tx(0), lcore(memory.0));
        let far = FrameSocket::open(&b, "b0").unwrap();
        let cases: [&[[u8; 4]]; 6] = [
            &[[0x81, 0, 0, 5]],
            // Priority only: the identifier is 0, and with priority 0 the whole word is.
            &[[0x81, 0, 0, 0]],
            &[[0x81, 0, 0xff, 0xff]],
            &[[0x88, 0xa8, 0, 7]],
            &[[0x88, 0xa8, 0, 7], [0x81, 0, 0x20, 9]],
            &[[0x81, 0, 0, 7], [0x81, 0, 0, 9]],
        ];
        for (number, tags) in (0..).zip(cases) {
            for len in [60, 1514 - 4 * tags.len()] {
                let sent = tagged(number, len, tags);
                far.send(&sent).unwrap();
                assert_eq!(
                    receive(&mut rx, &lcore, 1),
                    std::slice::from_ref(&sent),
                    "received with {tags:x?}"
                );
                let mut burst = Burst::new(&lcore);
                burst
                    .push(lcore.mbuf_from(memory.1, &sent).unwrap())
                    .unwrap();
                assert_eq!(tx.tx_burst(&mut burst), 1);
                assert_eq!(
                    far.receive(WAIT).unwrap(),
                    Some(sent),
                    "sent with {tags:x?}"
                );
            }
        }
    });
}

/// Offsets count from the start of the frame, so they move when a tag is taken off or put back.
#[test]
fn open_checksum_and_large_segment_keep_their_offsets_behind_tags() {
    use mbuf::{OffloadFlags, TxOffload};
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(1024);
        let mut near = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        let mut far = Opened::start(&b, memory, "net_af_packet0,iface=b0", 1, 1);
        let (mut tx, mut rx, lcore) = (near.tx(0), far.rx(0), lcore(memory.0));
        let tags: [&[[u8; 4]]; 3] = [
            &[],
            &[[0x81, 0, 0, 5]],
            &[[0x88, 0xa8, 0, 7], [0x81, 0, 0, 9]],
        ];
        for (tags, large) in tags
            .into_iter()
            .flat_map(|tags| [(tags, false), (tags, true)])
        {
            let shift = 4 * tags.len() as u16;
            let sent = tcp_segment(tags, if large { 20_000 } else { 1000 });
            let mut mbuf = lcore.mbuf_from(memory.1, &sent[..64]).unwrap();
            assert!(mbuf.extend_from_slice(memory.1, &sent[64..]));
            let gso = OffloadFlags::GSO_TCP4 | OffloadFlags::GSO_ECN;
            let flags = OffloadFlags::TX_L4_CSUM | if large { gso } else { OffloadFlags::NONE };
            let offload = TxOffload {
                csum_start: 34 + shift,
                csum_offset: 16,
                hdr_len: if large { 54 + shift } else { 0 },
                gso_size: if large { 1400 } else { 0 },
                gso_type: if large { 0x81 } else { 0 },
            };
            mbuf.set_flags(flags);
            mbuf.set_offload(offload);
            let mut burst = Burst::new(&lcore);
            burst.push(mbuf).unwrap();
            assert_eq!(tx.tx_burst(&mut burst), 1);
            let until = Instant::now() + WAIT;
            while burst.is_empty() && Instant::now() < until {
                rx.rx_burst(&lcore, &mut burst);
            }
            let came = burst.get(0).unwrap();
            assert!(bytes(&came) == sent, "{tags:x?} {large}");
            assert_eq!(
                came.flags().without(OffloadFlags::RSS_HASH),
                flags,
                "{tags:x?}"
            );
            assert_eq!(came.offload(), offload, "{tags:x?}");
        }
        assert_eq!(near.counters(Direction::Tx, 0).read().all_drops(), 0);
    });
}

/// A TCP segment over IPv4 whose checksum field holds the sum of the pseudo header alone.
fn tcp_segment(tags: &[[u8; 4]], payload: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(tags.concat());
    frame.extend([8, 0]);
    let [high, low] = (payload as u16 + 40).to_be_bytes();
    frame.extend([
        0x45, 0, high, low, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame.extend([
        0, 80, 0, 90, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0x12, 0x34, 0, 0,
    ]);
    frame.extend((0..payload).map(|number| number as u8));
    frame
}

#[test]
fn jumbo_frames_pass_as_chains() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        a.mtu("a0", 9000).unwrap();
        b.mtu("b0", 9000).unwrap();
        let memory = memory(1024);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        assert_eq!(port.device.info().mtu, 9000);
        let (mut rx, mut tx, lcore) = (port.rx(0), port.tx(0), lcore(memory.0));
        let far = FrameSocket::open(&b, "b0").unwrap();
        let room = usize::from(memory.1.data_room() - HEADROOM);
        for len in [room - 4, room, room + 1, 2 * room, 9014] {
            for tags in [&[][..], &[[0x81, 0, 0, 5]]] {
                let sent = tagged(1, len, tags);
                far.send(&sent).unwrap();
                let until = Instant::now() + WAIT;
                let mut burst = Burst::new(&lcore);
                while burst.is_empty() && Instant::now() < until {
                    rx.rx_burst(&lcore, &mut burst);
                }
                let mbuf = burst.get(0).unwrap();
                assert_eq!(bytes(&mbuf), sent, "{len} {tags:x?}");
                assert_eq!(
                    (mbuf.packet_len(), mbuf.segment_count()),
                    (sent.len(), sent.len().div_ceil(room))
                );
                drop(mbuf);
                assert_eq!(tx.tx_burst(&mut burst), 1);
                assert_eq!(far.receive(WAIT).unwrap(), Some(sent), "sent on");
            }
        }
        assert_eq!(port.counters(Direction::Tx, 0).read().all_drops(), 0);
        drop((rx, tx, lcore));
        assert_eq!(memory.1.in_use(), 0);
    });
}

#[test]
fn what_can_never_be_sent_is_dropped_and_the_rest_goes() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(1024);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        let (mut tx, lcore) = (port.tx(0), lcore(memory.0));
        let far = FrameSocket::open(&b, "b0").unwrap();
        let mut burst = Burst::new(&lcore);
        for (number, len) in [(0, 60), (1, 1600), (2, 60), (3, 60), (4, 1600)] {
            let mut mbuf = lcore.mbuf_from(memory.1, &frame(number, len)).unwrap();
            if number == 2 {
                // A header that asks for a checksum behind the end.
                mbuf.set_flags(mbuf::OffloadFlags::TX_L4_CSUM);
                mbuf.set_offload(mbuf::TxOffload {
                    csum_start: 500,
                    ..Default::default()
                });
            }
            burst.push(mbuf).unwrap();
        }
        assert_eq!(tx.tx_burst(&mut burst), 5);
        assert_eq!(far.receive(WAIT).unwrap(), Some(frame(0, 60)));
        assert_eq!(far.receive(WAIT).unwrap(), Some(frame(3, 60)));
        assert_eq!(far.receive(Duration::from_millis(50)).unwrap(), None);
        let stats = port.counters(Direction::Tx, 0).read();
        assert_eq!(
            (
                stats.dropped(DropReason::TooLong),
                stats.dropped(DropReason::Refused)
            ),
            (2, 1)
        );
        drop((tx, burst));
        drop(lcore);
        assert_eq!(memory.1.in_use(), 0);
    });
}

#[test]
fn fanout_gives_each_frame_to_one_queue_and_no_own_one_back() {
    lab::isolated!({
        for (queues, mode) in [(2_u16, "hash"), (4, "hash"), (4, "lb"), (3, "rnd")] {
            let (a, b) = cable("a", "b");
            let memory = memory(4096);
            // Blocks for every frame that may come alone.
            let ring = "blocksz=16384,framecnt=2048";
            let args = format!("net_af_packet0,iface=a0,qpairs={queues},fanout_mode={mode},{ring}");
            let mut port = Opened::start(&a, memory, &args, queues, queues);
            let lcore = lcore(memory.0);
            let mut rx: Vec<_> = (0..queues).map(|queue| port.rx(queue)).collect();
            let mut tx: Vec<_> = (0..queues).map(|queue| port.tx(queue)).collect();
            let far = FrameSocket::open(&b, "b0").unwrap();
            let mut seen = [0; 2000];
            let mut used = vec![0; usize::from(queues)];
            for number in 0..2000_u32 {
                far.send(&datagram(number)).unwrap();
                // And frames of our own go out meanwhile, by each queue.
                let mut burst = Burst::new(&lcore);
                burst
                    .push(lcore.mbuf_from(memory.1, &frame(number, 60)).unwrap())
                    .unwrap();
                assert_eq!(
                    tx[number as usize % usize::from(queues)].tx_burst(&mut burst),
                    1
                );
                if number % 100 != 99 {
                    continue;
                }
                // All that was sent, and what comes twice.
                let (twice, until) = (Duration::from_millis(20), Instant::now() + WAIT);
                let mut last = Instant::now();
                while last.elapsed() < twice
                    || used.iter().sum::<usize>() <= number as usize && Instant::now() < until
                {
                    let before: usize = used.iter().sum();
                    for (queue, used) in rx.iter_mut().zip(&mut used) {
                        let mut burst = Burst::new(&lcore);
                        *used += queue.rx_burst(&lcore, &mut burst);
                        for mbuf in burst.iter() {
                            let number =
                                u32::from_be_bytes(mbuf.data()[42..46].try_into().unwrap());
                            assert_eq!(mbuf.data(), datagram(number));
                            seen[number as usize] += 1;
                        }
                    }
                    if used.iter().sum::<usize>() > before {
                        last = Instant::now();
                    }
                }
            }
            assert!(seen.iter().all(|count| *count == 1), "{mode}: {seen:?}");
            assert!(used.iter().all(|used| *used > 100), "{mode}: {used:?}");
        }
    });
}

/// A UDP datagram over IPv4 of a flow that its number chooses.
fn datagram(number: u32) -> Vec<u8> {
    let [.., high, low] = number.to_be_bytes();
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([
        0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, high, low, 10, 1, low, high,
    ]);
    frame.extend([high, low, 0, 53, 0, 12, 0, 0]);
    frame.extend(number.to_be_bytes());
    frame
}

#[test]
fn successor_goes_on_where_the_last_owner_stopped() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(4096);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        let lcore = lcore(memory.0);
        let far = FrameSocket::open(&b, "b0").unwrap();
        let mut expected = 0;
        for round in 0..300_u32 {
            for number in round * 50..round * 50 + 50 {
                far.send(&frame(number, 60 + number as usize % 1400))
                    .unwrap();
            }
            // Each owner takes some, leaves some, and may leave in the middle of a block that is still being filled.
            let mut rx = port.rx(0);
            let last = round * 50 + 50 - round % 41;
            for frame_seen in receive(&mut rx, &lcore, 1) {
                assert_eq!(
                    frame_seen,
                    frame(expected, frame_seen.len()),
                    "round {round}"
                );
                expected += 1;
            }
            while expected < last {
                let mut burst = Burst::new(&lcore);
                rx.rx_burst(&lcore, &mut burst);
                for mbuf in burst.iter() {
                    assert_eq!(
                        bytes(&mbuf),
                        frame(expected, mbuf.packet_len()),
                        "round {round}"
                    );
                    expected += 1;
                }
            }
        }
        let mut rx = port.rx(0);
        expected += u32::try_from(rest(&mut rx, &lcore).len()).unwrap();
        assert_eq!(expected, 15_000);
    });
}

/// As while one owner of the queue is gone and the next one is not there yet.
#[test]
fn reader_that_is_away_for_a_tenth_of_a_second_misses_nothing() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(1024);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        let (mut rx, lcore) = (port.rx(0), lcore(memory.0));
        let far = FrameSocket::open(&b, "b0").unwrap();
        let (mut sent, until) = (0, Instant::now() + Duration::from_millis(100));
        while Instant::now() < until {
            far.send(&frame(sent, 60)).unwrap();
            sent += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
        let came = receive(&mut rx, &lcore, sent as usize);
        assert_eq!(came.len(), sent as usize);
        assert!(sent > 2, "nothing to speak of was sent");
        assert_eq!(port.counters(Direction::Rx, 0).read().missed, 0);
    });
}

#[test]
fn full_ring_and_dry_pool_are_counted() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(128);
        let mut port = Opened::start(
            &a,
            memory,
            "net_af_packet0,iface=a0,blocksz=4096,framecnt=16",
            1,
            1,
        );
        let lcore = lcore(memory.0);
        let mut rx = port.rx(0);
        let far = FrameSocket::open(&b, "b0").unwrap();
        let burst = |from: u32| {
            (from..from + 1000).for_each(|number| far.send(&frame(number, 60)).unwrap())
        };
        burst(0);
        let first = rest(&mut rx, &lcore).len() as u64;
        let stats = port.counters(Direction::Rx, 0).read();
        assert!(first > 0 && stats.missed > 0, "{first} {}", stats.missed);
        assert_eq!(first + stats.missed, 1000);
        // Nothing to put packets into.
        let mut hold = Vec::new();
        while let Some(mbuf) = lcore.alloc(memory.1) {
            hold.push(mbuf);
        }
        burst(0);
        assert_eq!(rest(&mut rx, &lcore).len(), 0);
        let now = port.counters(Direction::Rx, 0).read();
        assert!(now.dropped(DropReason::NoBuffer) > 0);
        assert_eq!(
            now.dropped(DropReason::NoBuffer) + now.missed - stats.missed,
            1000
        );
        // And on it goes.
        drop(hold);
        far.send(&frame(7, 60)).unwrap();
        assert_eq!(receive(&mut rx, &lcore, 1), [frame(7, 60)]);
        // A frame that no block holds.
        a.mtu("a0", 9000).unwrap();
        b.mtu("b0", 9000).unwrap();
        far.send(&frame(8, 9000)).unwrap();
        far.send(&frame(9, 60)).unwrap();
        assert_eq!(receive(&mut rx, &lcore, 1), [frame(9, 60)]);
        assert_eq!(
            port.counters(Direction::Rx, 0)
                .read()
                .dropped(DropReason::TooLong),
            1
        );
    });
}

#[test]
fn interface_that_goes_away_is_a_count() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(1024);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 2, 1);
        let lcore = lcore(memory.0);
        let (mut rx, mut tx) = (port.rx(0), port.tx(0));
        let send = |tx: &mut Box<dyn TxQueue>| {
            let mut burst = Burst::new(&lcore);
            (0..8).for_each(|number| {
                burst
                    .push(lcore.mbuf_from(memory.1, &frame(number, 60)).unwrap())
                    .unwrap()
            });
            (tx.tx_burst(&mut burst), burst.len())
        };
        let until = Instant::now() + WAIT;
        while !port.device.link().up && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(port.device.link().up);
        assert_eq!(send(&mut tx), (8, 0));
        a.down("a0").unwrap();
        assert!(!port.device.link().up);
        assert_eq!(send(&mut tx), (8, 0));
        assert_eq!(
            port.counters(Direction::Tx, 0)
                .read()
                .dropped(DropReason::LinkDown),
            8
        );
        assert_eq!(rest(&mut rx, &lcore).len(), 0);
        // Down and up again is an interruption, no more.
        a.up("a0").unwrap();
        let far = FrameSocket::open(&b, "b0").unwrap();
        assert_eq!(send(&mut tx), (8, 0));
        assert_eq!(far.receive(WAIT).unwrap(), Some(frame(0, 60)));
        far.send(&frame(1, 60)).unwrap();
        let mut other = port.rx(1);
        let until = Instant::now() + WAIT;
        let mut came = 0;
        while came == 0 && Instant::now() < until {
            came = rest(&mut rx, &lcore).len() + rest(&mut other, &lcore).len();
        }
        assert_eq!(came, 1);
        a.remove("a0").unwrap();
        assert_eq!(send(&mut tx), (8, 0));
        assert_eq!(rest(&mut rx, &lcore).len(), 0);
        assert!(!port.device.link().up);
        assert_eq!(
            port.counters(Direction::Tx, 0)
                .read()
                .dropped(DropReason::LinkDown),
            16
        );
        assert_eq!(
            port.counters(Direction::Tx, 0).read().state,
            crate::stats::QueueState::Gone
        );
        let error = port.device.set_mtu(1400).unwrap_err().to_string();
        assert!(error.contains("a0"), "{error}");
        assert_eq!(port.device.info().mac.0[0] & 1, 0);
        port.device.stop().unwrap();
        port.device.close();
    });
}

#[test]
fn stopped_port_receives_nothing() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(1024);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        let (mut rx, lcore) = (port.rx(0), lcore(memory.0));
        let far = FrameSocket::open(&b, "b0").unwrap();
        port.device.stop().unwrap();
        far.send(&frame(1, 60)).unwrap();
        assert_eq!(rest(&mut rx, &lcore).len(), 0);
        port.device.start().unwrap();
        far.send(&frame(2, 60)).unwrap();
        assert_eq!(receive(&mut rx, &lcore, 1), [frame(2, 60)]);
        // Frames for others come while the mode is promiscuous, and that is what it starts in.
        port.device.set_promiscuous(false).unwrap();
        far.send(&frame(3, 60)).unwrap();
        assert_eq!(
            rest(&mut rx, &lcore),
            [frame(3, 60)],
            "a cable has two ends, and veth filters nothing"
        );
        port.device.set_promiscuous(true).unwrap();
    });
}

#[test]
fn queue_is_driven_with_what_was_handed_over_and_nothing_else() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(1024);
        let args = "net_af_packet0,iface=a0";
        let mut port = Opened::start(&a, memory, args, 1, 1);
        let parsed = DevArgs::parse(args).unwrap();
        let cx = Attach {
            region: memory.0,
            port: PortId(0),
            vdevs: &[],
            mac: MacAddress([2, 0, 0, 0, 0, 9]),
            mtu: 1500,
        };
        // In another namespace, as a process of its own may be.
        let mut joined = b.run(|| AfPacket.attach(&cx, &parsed)).unwrap().unwrap();
        let hand = |direction| {
            port.device
                .descriptors(QueueId(0), direction)
                .unwrap()
                .unwrap()
        };
        let (for_rx, for_tx) = (hand(Direction::Rx), hand(Direction::Tx));
        let (wrong_rx, wrong_tx) = (hand(Direction::Tx), hand(Direction::Rx));
        let mut swapped = hand(Direction::Rx);
        swapped.descriptors = hand(Direction::Tx).descriptors;
        let mut cut_otherwise = hand(Direction::Rx);
        cut_otherwise.payload[8..12].copy_from_slice(&3_u32.to_le_bytes());
        let mut senseless = hand(Direction::Rx);
        senseless.payload[4..12].fill(0xff);
        let (rx_cx, tx_cx) = (
            port.context(Direction::Rx, 0),
            port.context(Direction::Tx, 0),
        );
        for handed in [
            wrong_rx,
            swapped,
            cut_otherwise,
            senseless,
            Handed::default(),
        ] {
            assert!(joined.rx_queue(rx_cx, Some(handed)).is_err());
        }
        for handed in [wrong_tx, Handed::default()] {
            assert!(joined.tx_queue(tx_cx, Some(handed)).is_err());
        }
        let until = Instant::now() + WAIT;
        while !port.device.link().up && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut rx = joined.rx_queue(rx_cx, Some(for_rx)).unwrap();
        let mut tx = joined.tx_queue(tx_cx, Some(for_tx)).unwrap();
        // The first owner of the sockets goes; they stay.
        port.device.close();
        let lcore = lcore(memory.0);
        let far = FrameSocket::open(&b, "b0").unwrap();
        far.send(&frame(1, 60)).unwrap();
        assert_eq!(receive(&mut rx, &lcore, 1), [frame(1, 60)]);
        let mut burst = Burst::new(&lcore);
        burst
            .push(lcore.mbuf_from(memory.1, &frame(2, 60)).unwrap())
            .unwrap();
        assert_eq!(tx.tx_burst(&mut burst), 1);
        assert_eq!(far.receive(WAIT).unwrap(), Some(frame(2, 60)));
        assert!(
            joined.link().up,
            "asked through the socket that was handed over"
        );
    });
}

/// Two ports, forwarded into each other by this thread, until told to stop.
fn forward(ports: &mut [Opened; 2], lcore: &Lcore, stop: &AtomicBool, large: &mut usize) {
    let [left, right] = ports;
    let mut ways = [(left.rx(0), right.tx(0)), (right.rx(0), left.tx(0))];
    while !stop.load(Ordering::Relaxed) {
        for (rx, tx) in &mut ways {
            let mut burst = Burst::new(lcore);
            rx.rx_burst(lcore, &mut burst);
            *large += burst.iter().filter(|mbuf| mbuf.packet_len() > 1514).count();
            while !burst.is_empty() && !stop.load(Ordering::Relaxed) {
                tx.tx_burst(&mut burst);
            }
        }
    }
}

fn transfer_through_two_ports(left: lab::Offloads, right: lab::Offloads, args: &str) -> usize {
    let (a, b, middle) = (
        Host::new("a").unwrap(),
        Host::new("b").unwrap(),
        Host::new("m").unwrap(),
    );
    lab::veth((&a, "a0"), (&middle, "west"), 1).unwrap();
    lab::veth((&b, "b0"), (&middle, "east"), 1).unwrap();
    for (host, iface, offloads) in [
        (&a, "a0", left),
        (&middle, "west", left),
        (&middle, "east", right),
        (&b, "b0", right),
    ] {
        host.offloads(iface, offloads).unwrap();
        host.disable_ipv6(iface).unwrap();
        host.up(iface).unwrap();
    }
    a.address("a0", "10.0.0.1/24").unwrap();
    b.address("b0", "10.0.0.2/24").unwrap();
    let memory = memory(8192);
    let mut ports = ["west", "east"].map(|iface| {
        let args = format!("net_af_packet0,iface={iface}{args}");
        Opened::start(&middle, memory, &args, 1, 1)
    });
    let stop = AtomicBool::new(false);
    let mut large = 0;
    std::thread::scope(|scope| {
        let forwarder = scope.spawn(|| {
            let lcore = lcore(memory.0);
            forward(&mut ports, &lcore, &stop, &mut large);
        });
        for (from, to, address) in [(&a, &b, [10, 0, 0, 2]), (&b, &a, [10, 0, 0, 1])] {
            let ping = lab::ping(from, address.into(), &lab::Ping::default()).unwrap();
            assert_eq!(ping.lost(), 0);
            let report = lab::tcp_transfer(
                from,
                (to, address.into()),
                &lab::Transfer::new(8 << 20, 1),
                &lab::Watch::default(),
            )
            .unwrap();
            assert!(report.is_intact());
        }
        stop.store(true, Ordering::Relaxed);
        forwarder.join().unwrap();
    });
    assert_eq!(memory.1.in_use(), 0);
    large
}

#[test]
fn tcp_passes_two_ports_with_its_large_segments_whole() {
    lab::isolated!({
        let large = transfer_through_two_ports(lab::Offloads::ON, lab::Offloads::ON, "");
        assert!(large > 100, "{large}");
    });
}

#[test]
fn tcp_passes_two_ports_without_offloads() {
    lab::isolated!({
        assert_eq!(
            transfer_through_two_ports(lab::Offloads::OFF, lab::Offloads::OFF, ""),
            0
        );
    });
}

/// The kernel cuts the large segments on the way out: the default way of sending leaves that to it.
#[test]
fn tcp_passes_from_a_link_with_offloads_to_one_without() {
    lab::isolated!({
        let large = transfer_through_two_ports(lab::Offloads::ON, lab::Offloads::OFF, "");
        assert!(large > 10, "{large}");
    });
}

#[test]
fn missing_interface_is_named_with_those_there_are() {
    lab::isolated!({
        let (a, _b) = cable("a", "b");
        let memory = memory(128);
        let probe = |text: &str| {
            let args = DevArgs::parse(text).unwrap();
            a.run(|| open(memory.0, &args, 1, 1, memory.1).map(drop))
                .unwrap()
                .unwrap_err()
                .to_string()
        };
        let error = probe("net_af_packet0,iface=ao");
        assert!(
            error.contains("\"ao\"")
                && error.contains("did you mean a0")
                && error.contains("interfaces here are a0"),
            "{error}"
        );
        assert!(probe("net_af_packet0").contains("iface="));
        assert!(probe("net_af_packet0,iface=0123456789abcdefgh").contains("no interface"));
    });
}

#[test]
fn interface_that_is_down_is_opened() {
    lab::isolated!({
        let a = Host::new("a").unwrap();
        let b = Host::new("b").unwrap();
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        let memory = memory(1024);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        assert!(!port.device.link().up);
        let (mut rx, lcore) = (port.rx(0), lcore(memory.0));
        a.up("a0").unwrap();
        b.up("b0").unwrap();
        let far = FrameSocket::open(&b, "b0").unwrap();
        far.send(&frame(1, 60)).unwrap();
        let until = Instant::now() + WAIT;
        // The kernel says so a moment later.
        while !port.device.link().up && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(port.device.link().up);
        let mut came = false;
        // Neighbour discovery speaks too.
        while !came && Instant::now() < until {
            came = rest(&mut rx, &lcore).contains(&frame(1, 60));
        }
        assert!(came);
    });
}

#[test]
fn missing_privilege_is_named() {
    lab::isolated!({
        let (a, _b) = cable("a", "b");
        let memory = memory(128);
        let args = DevArgs::parse("net_af_packet0,iface=a0").unwrap();
        let error = a.run(|| {
            // Of this thread alone, which ends here.
            let none = rustix::thread::CapabilitySet::empty();
            let sets = rustix::thread::CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            };
            rustix::thread::set_capabilities(None, sets).unwrap();
            open(memory.0, &args, 1, 1, memory.1).map(drop)
        });
        let error = error.unwrap().unwrap_err();
        assert!(
            matches!(
                error,
                Error::Privilege {
                    capability: "CAP_NET_RAW",
                    ..
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("user namespace"), "{error}");
    });
}

#[test]
fn wrong_values_are_refused_with_what_would_be_right() {
    let parse = |text: &str| {
        Options::parse(&DevArgs::parse(text).unwrap(), &AfPacket, 64)
            .map(drop)
            .map_err(|error| error.to_string())
    };
    for (key, reason) in [
        ("blocksz=5000", "multiple of the page size"),
        ("blocksz=100", "not a number from"),
        ("framesz=2047", "multiple of 16"),
        ("framesz=1000000", "not a number from"),
        ("framecnt=0", "not a number from"),
        ("framecnt=1000000", "more than 1 GiB"),
        ("qpairs=65", "from 1 to 64"),
        ("qdisc_bypass=2", "not 0 or 1"),
        ("fanout_mode=hsah", "hash, lb, cpu"),
    ] {
        let error = parse(&format!("net_af_packet0,iface=x,{key}")).unwrap_err();
        assert!(error.contains(reason), "{key}: {error}");
    }
    // As DPDK's own defaults would be written.
    parse("net_af_packet0,iface=x,qpairs=1,blocksz=4096,framesz=2048,framecnt=512,qdisc_bypass=0")
        .unwrap();
}

#[test]
fn burst_of_long_chains_goes_out_in_order() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        a.mtu("a0", 9000).unwrap();
        b.mtu("b0", 9000).unwrap();
        let memory = memory(4096);
        let mut port = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        let (mut tx, lcore) = (port.tx(0), lcore(memory.0));
        let far = FrameSocket::open(&b, "b0").unwrap();
        let mut burst = Burst::new(&lcore);
        for number in 0..BURST_MAX as u32 {
            // Sixty pieces each: two frames to a system call.
            let bytes = frame(number, 600);
            let mut chain: Option<Mbuf<'_>> = None;
            for piece in bytes.chunks(10) {
                let mbuf = lcore.mbuf_from(memory.1, piece).unwrap();
                match &mut chain {
                    None => chain = Some(mbuf),
                    Some(chain) => chain.append_segment(mbuf).unwrap(),
                }
            }
            burst.push(chain.unwrap()).unwrap();
        }
        assert_eq!(tx.tx_burst(&mut burst), BURST_MAX);
        for number in 0..BURST_MAX as u32 {
            assert_eq!(far.receive(WAIT).unwrap(), Some(frame(number, 600)));
        }
    });
}

#[test]
fn tag_and_header_checksum_that_were_asked_for_are_in_what_is_sent() {
    use mbuf::OffloadFlags;

    lab::isolated!({
        let (a, b) = cable("a", "b");
        let memory = memory(1024);
        let mut near = Opened::start(&a, memory, "net_af_packet0,iface=a0", 1, 1);
        let mut far = Opened::start(&b, memory, "net_af_packet1,iface=b0", 1, 1);
        let (mut rx, mut tx, lcore) = (far.rx(0), near.tx(0), lcore(memory.0));
        let mut plain = frame(1, 60);
        plain[12..14].copy_from_slice(&[8, 0]);
        plain[14..34].copy_from_slice(&[
            0x45, 0, 0, 46, 0, 1, 0, 0, 64, 17, 0xde, 0xad, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        let mut whole = plain.clone();
        whole[24..26].fill(0);
        let sum = mbuf::checksum::checksum(&whole[14..34]);
        whole[24..26].copy_from_slice(&sum.to_be_bytes());
        let tagged = |frame: &[u8]| [&frame[..12], &[0x81, 0, 0x20, 5], &frame[12..]].concat();
        let (ip, tag) = (OffloadFlags::TX_IP_CSUM, OffloadFlags::TX_VLAN_INSERT);
        let mut burst = Burst::new(&lcore);
        for (frame, flags) in [
            (&plain[..], ip),
            (&plain, tag),
            (&plain, ip | tag),
            // No IPv4 header, and no addresses to put a tag behind: dropped.
            (&frame(2, 60), ip),
            (&[2; 11], tag),
        ] {
            let mut mbuf = lcore.mbuf_from(memory.1, frame).unwrap();
            mbuf.set_vlan_tci(0x2005);
            mbuf.set_flags(flags);
            burst.push(mbuf).unwrap();
        }
        assert_eq!(tx.tx_burst(&mut burst), 5);
        assert!(burst.is_empty());
        let sent = [whole.clone(), tagged(&plain), tagged(&whole)];
        assert_eq!(receive(&mut rx, &lcore, 3), sent);
        assert_eq!(rest(&mut rx, &lcore), Vec::<Vec<u8>>::new());
        let stats = near.counters(Direction::Tx, 0).read();
        assert_eq!(stats.dropped(DropReason::Checksum), 1);
        assert_eq!(stats.dropped(DropReason::Malformed), 1);
        drop(burst);
        drop((rx, tx, lcore));
        assert_eq!(memory.1.in_use(), 0);
    });
}

/// What a former primary left of a port on `a0`, and the successor that looks at it.
fn heir(host: &Host, region: &'static Region, args: &str, promiscuous: bool) -> Box<dyn Device> {
    let args = DevArgs::parse(args).unwrap();
    let left = Legacy {
        rx: 1,
        tx: 1,
        promiscuous,
        word: 0,
    };
    let cx = Probe {
        region,
        port: PortId(0),
        vdevs: &[],
    };
    let adopt = || AfPacket.adopt(&cx, &args, &left);
    host.run(adopt).unwrap().unwrap()
}

#[test]
fn only_a_socket_that_the_port_would_open_itself_is_adopted() {
    lab::isolated!({
        let (a, b) = cable("a", "b");
        lab::veth((&a, "a1"), (&b, "b1"), 1).unwrap();
        let memory = memory(1024);
        let args = "net_af_packet0,iface=a0";
        let port = Opened::start(&a, memory, args, 1, 1);
        let hand = |port: &Opened, direction| {
            let handed = port.device.descriptors(QueueId(0), direction);
            handed.unwrap().unwrap()
        };
        let (rx, tx) = (Direction::Rx, Direction::Tx);
        // Of one port in what another one says.
        let as_of = |port: &Opened, direction| Handed {
            payload: hand(&Opened::start(&a, memory, args, 1, 1), direction).payload,
            descriptors: hand(port, direction).descriptors,
        };
        let other = Opened::start(&a, memory, "net_af_packet0,iface=a1", 1, 1);
        let far = Opened::start(&b, memory, "net_af_packet0,iface=b0", 1, 1);
        assert_eq!(a.index("a0").unwrap(), b.index("b0").unwrap());
        let long = Opened::start(&a, memory, "net_af_packet0,iface=a0,framecnt=4096", 1, 1);
        let swapped = |payload, descriptors| Handed {
            payload: hand(&port, payload).payload,
            descriptors: hand(&port, descriptors).descriptors,
        };
        let file = Handed {
            payload: hand(&port, rx).payload,
            descriptors: vec![std::fs::File::open("/dev/null").unwrap().into()],
        };
        let cases = [
            (rx, hand(&port, tx), "its first word"),
            (tx, hand(&port, rx), "its first word"),
            (rx, Handed::default(), "its first word"),
            (rx, file, "no packet socket for this direction"),
            (rx, swapped(rx, tx), "no packet socket for this direction"),
            (tx, swapped(tx, rx), "bound for the other direction"),
            (rx, hand(&long, rx), "cut otherwise"),
            (rx, as_of(&long, rx), "cannot be mapped"),
            (rx, as_of(&other, rx), "bound to interface number"),
            (tx, as_of(&other, tx), "bound to interface number"),
            (rx, as_of(&far, rx), "another network namespace"),
            (tx, as_of(&far, tx), "another network namespace"),
        ];
        let mut heir = heir(&a, memory.0, args, true);
        for (number, (direction, handed, reason)) in cases.into_iter().enumerate() {
            let refused = heir.adopt(QueueId(0), direction, handed).unwrap_err();
            assert!(refused.contains(reason), "{number}: {refused}");
            assert!(!heir.holds(QueueId(0), direction));
        }
        for direction in [rx, tx] {
            heir.adopt(QueueId(0), direction, hand(&port, direction))
                .unwrap();
            assert!(heir.holds(QueueId(0), direction));
        }
        // An interface made anew is another one.
        let kept = [rx, tx].map(|direction| (direction, hand(&port, direction)));
        a.remove("a0").unwrap();
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        for (direction, handed) in kept {
            let refused = heir.adopt(QueueId(0), direction, handed).unwrap_err();
            assert!(
                refused.contains("bound to interface number -1"),
                "{refused}"
            );
        }
    });
}

/// How many ask for the frames to other addresses of an interface, as the kernel counts them: a veth shows nothing of it.
fn promiscuity(host: &Host, iface: &str) -> u32 {
    use rustix::net::{RecvFlags, SendFlags, recv, send};
    const GET_LINK: u16 = 18;
    const HEADERS_LEN: usize = 32;
    const PROMISCUITY: u16 = 30;
    let index = host.index(iface).unwrap();
    let mut request = [0; HEADERS_LEN];
    request[0] = HEADERS_LEN as u8;
    request[4..6].copy_from_slice(&GET_LINK.to_ne_bytes());
    request[6] = 1;
    request[20..24].copy_from_slice(&index.to_ne_bytes());
    // Without a protocol, that of routes.
    let flags = SocketFlags::CLOEXEC;
    let open = || socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None);
    let socket = host.run(open).unwrap().unwrap();
    send(&socket, &request, SendFlags::empty()).unwrap();
    let mut answer = vec![0; 1 << 16];
    let (_, len) = recv(&socket, &mut answer[..], RecvFlags::empty()).unwrap();
    let mut at = HEADERS_LEN;
    while at < len {
        let number = |at: usize| u16::from_ne_bytes([answer[at], answer[at + 1]]);
        if number(at + 2) == PROMISCUITY {
            return u32::from_ne_bytes(answer[at + 4..at + 8].try_into().unwrap());
        }
        at += usize::from(number(at)).next_multiple_of(4);
    }
    panic!("the kernel does not say");
}

#[test]
fn adopted_socket_is_in_the_mode_that_the_record_says() {
    lab::isolated!({
        let (a, _b) = cable("a", "b");
        let memory = memory(128);
        let args = "net_af_packet0,iface=a0";
        let port = Opened::start(&a, memory, args, 1, 1);
        let kept = || {
            let handed = port.device.descriptors(QueueId(0), Direction::Rx);
            handed.unwrap().unwrap()
        };
        assert!(port.device.info().promiscuous);
        assert_eq!(promiscuity(&a, "a0"), 1);
        let mut on = heir(&a, memory.0, args, true);
        on.adopt(QueueId(0), Direction::Rx, kept()).unwrap();
        assert_eq!(promiscuity(&a, "a0"), 1);
        // One that died between noting that the mode ends and telling this socket; then one that died after both.
        for _ in 0..2 {
            let mut off = heir(&a, memory.0, args, false);
            off.adopt(QueueId(0), Direction::Rx, kept()).unwrap();
            assert!(!off.info().promiscuous);
            assert_eq!(promiscuity(&a, "a0"), 0);
        }
        let mut off = heir(&a, memory.0, args, false);
        off.adopt(QueueId(0), Direction::Rx, kept()).unwrap();
        off.set_promiscuous(true).unwrap();
        assert_eq!(promiscuity(&a, "a0"), 1);
    });
}
