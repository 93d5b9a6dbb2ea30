#![allow(
    clippy::cast_possible_truncation,
    reason = "the numbers of a test are small"
)]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use eal::{ProcType, Region, Slot};
use lab::{FrameSocket, Host, Offloads};
use mbuf::checksum::{checksum, complete};
use mbuf::{Burst, Lcore, Mbuf, OffloadFlags, PoolConfig};

use super::*;
use crate::stats::{DropReason, QueueState};
use crate::{Exchange, LocalExchange, Port as PortOf, Ports};

const WAIT: Duration = Duration::from_secs(10);

/// Memory, ports in it, and a thread's place.
struct Rig {
    ports: Ports,
    pool: Pool,
    lcore: Lcore,
    exchange: Arc<LocalExchange>,
}

fn open(host: &Host, vdevs: &[&str]) -> Result<Rig, Error> {
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(64 << 20).unwrap()));
    let pool = Pool::create(region, &PoolConfig::new("pool", 8192)).unwrap();
    let vdevs: Vec<String> = vdevs.iter().map(|vdev| (*vdev).to_owned()).collect();
    let exchange = Arc::new(LocalExchange::default());
    let handed: Arc<dyn Exchange> = exchange.clone();
    let open = || Ports::open(region, ProcType::Primary, &vdevs, handed);
    Ok(Rig {
        exchange,
        ports: host.run(open).unwrap()?,
        pool,
        lcore: Lcore::new(Slot::claim(region, "test").unwrap()),
    })
}

fn set_up(port: &PortOf, pool: Pool, rx: u16, tx: u16) -> Result<(), Error> {
    port.configure(rx, tx, &PortConfig::default())?;
    (0..rx).try_for_each(|queue| port.rx_queue_setup(QueueId(queue), 0, pool))?;
    (0..tx).try_for_each(|queue| port.tx_queue_setup(QueueId(queue), 0))?;
    port.start()
}

impl Rig {
    /// Opens and starts ports on `host`.
    fn start(host: &Host, vdevs: &[&str], rx: u16, tx: u16) -> Self {
        let rig = open(host, vdevs).unwrap_or_else(|error| panic!("{error}"));
        for port in &rig.ports {
            let pool = rig.pool;
            host.run(|| set_up(port, pool, rx, tx)).unwrap().unwrap();
        }
        rig
    }

    fn port(&self) -> &PortOf {
        self.ports.port(PortId(0)).unwrap()
    }

    fn rx(&self, queue: u16) -> crate::RxQueue {
        let owner = self.lcore.owner();
        self.port().rx_queue(QueueId(queue), owner).unwrap()
    }

    fn tx(&self, queue: u16) -> crate::TxQueue {
        let owner = self.lcore.owner();
        self.port().tx_queue(QueueId(queue), owner).unwrap()
    }

    fn packet(&self, bytes: &[u8]) -> Mbuf<'_> {
        let mut mbuf = self.lcore.alloc(self.pool).unwrap();
        assert!(mbuf.extend_from_slice(self.pool, bytes));
        mbuf
    }

    fn send(&self, tx: &mut crate::TxQueue, packets: impl IntoIterator<Item = Vec<u8>>) -> usize {
        let mut burst = Burst::new(&self.lcore);
        for bytes in packets {
            burst.push(self.packet(&bytes)).unwrap();
        }
        tx.tx_burst(&mut burst)
    }
}

fn host(name: &str) -> Host {
    Host::new(name).unwrap()
}

/// A frame of an experimental type with a number and bytes that follow from it.
fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    frame.extend(number.to_be_bytes());
    let noise = (0..).map(|at: u32| (number.wrapping_mul(2_654_435_761) ^ (at * 31)) as u8);
    frame.extend(noise.take(len.saturating_sub(frame.len())));
    frame
}

fn bytes(mbuf: &Mbuf<'_>) -> Vec<u8> {
    mbuf.segments().flatten().copied().collect()
}

/// Polls until `count` frames of these tests came or time is over.
fn receive(rx: &mut crate::RxQueue, lcore: &Lcore, count: usize) -> Vec<Vec<u8>> {
    let until = Instant::now() + WAIT;
    let mut frames = Vec::new();
    while frames.len() < count && Instant::now() < until {
        let mut burst = Burst::new(lcore);
        rx.rx_burst(lcore, &mut burst);
        frames.extend(burst.iter().map(|mbuf| bytes(&mbuf)).filter(is_of_test));
    }
    frames
}

#[expect(clippy::ptr_arg, reason = "for filter")]
fn is_of_test(frame: &Vec<u8>) -> bool {
    frame.windows(2).any(|two| two == [0x88, 0xb5])
}

/// The next frame of these tests that the host sees come in.
fn seen(socket: &FrameSocket) -> Vec<u8> {
    let until = Instant::now() + WAIT;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let frame = socket.receive(left).unwrap().expect("a frame");
        if is_of_test(&frame) {
            return frame;
        }
    }
}

/// How many descriptors an interface of `host` has as queues, attached and detached.
fn queues(host: &Host, name: &str) -> u32 {
    let socket = host.run(netdev::socket).unwrap().unwrap();
    let link = netdev::look(socket.as_fd(), name).unwrap();
    link.map_or(0, |link| link.tap.queues)
}

#[test]
fn every_frame_crosses_once_with_its_content_both_ways() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0,mac=02:00:00:00:00:77"], 1, 1);
        a.mtu("fb0", 9000).unwrap();
        assert!(rig.port().link().up, "the start brings it up");
        assert_eq!(rig.port().mac().to_string(), "02:00:00:00:00:77");
        let (mut rx, mut tx) = (rig.rx(0), rig.tx(0));
        let wire = FrameSocket::open(&a, "fb0").unwrap();
        for (number, len) in (18..=9014).step_by(331).chain([9014]).enumerate() {
            let frame = frame(number as u32, len);
            wire.send(&frame).unwrap();
            assert_eq!(receive(&mut rx, &rig.lcore, 1)[0], frame, "{len}");
            assert_eq!(rig.send(&mut tx, [frame.clone()]), 1);
            assert_eq!(seen(&wire), frame, "{len}");
        }
        let tags = [0x88, 0xa8, 0, 9, 0x81, 0, 0xa0, 5];
        let mut tagged = frame(1, 100);
        tagged.splice(12..12, tags);
        wire.send(&tagged).unwrap();
        assert_eq!(receive(&mut rx, &rig.lcore, 1), [tagged.clone()]);
        rig.send(&mut tx, [tagged.clone()]);
        assert_eq!(seen(&wire), tagged);
        let stats = rig.port().stats();
        assert_eq!(stats.rx.all_drops() + stats.tx.all_drops(), 0);
        drop((rx, tx));
        assert_eq!(rig.pool.in_use(), 0);
    });
}

/// The tag that was asked for is put in, and the header's checksum filled in.
#[test]
fn what_the_header_cannot_ask_for_is_done_in_software() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0"], 1, 1);
        let wire = FrameSocket::open(&a, "fb0").unwrap();
        let mut ip = frame(1, 60);
        ip[12..14].copy_from_slice(&[8, 0]);
        ip[14..34].copy_from_slice(&[
            0x45, 0, 0, 46, 0x88, 0xb5, 0, 0, 64, 99, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ]);
        let mut mbuf = rig.packet(&ip);
        mbuf.set_flags(OffloadFlags::TX_IP_CSUM | OffloadFlags::TX_VLAN_INSERT);
        mbuf.set_vlan_tci(5);
        let mut burst = Burst::new(&rig.lcore);
        burst.push(mbuf).unwrap();
        assert_eq!(rig.tx(0).tx_burst(&mut burst), 1);
        let came = seen(&wire);
        assert_eq!(came[12..16], [0x81, 0, 0, 5]);
        assert_eq!(checksum(&came[18..38]), 0);
        assert_eq!(came[38..], ip[34..]);
    });
}

/// Forwards between two ports on this thread until told to stop; counts packets larger than a frame may be.
fn forward(ports: &Ports, lcore: &Lcore, queues: u16, stop: &AtomicBool) -> (usize, usize) {
    let (mut large, mut open) = (0, 0);
    let port = |id| ports.port(PortId(id)).unwrap();
    let owner = lcore.owner();
    let mut ways: Vec<_> = [(0, 1), (1, 0)]
        .into_iter()
        .flat_map(|way| (0..queues).map(move |queue| (way, QueueId(queue))))
        .map(|((from, to), queue)| {
            let rx = port(from).rx_queue(queue, owner).unwrap();
            (rx, port(to).tx_queue(queue, owner).unwrap())
        })
        .collect();
    while !stop.load(Ordering::Relaxed) {
        for (rx, tx) in &mut ways {
            let mut burst = Burst::new(lcore);
            rx.rx_burst(lcore, &mut burst);
            for mbuf in burst.iter() {
                large += usize::from(mbuf.packet_len() > 1518);
                open += usize::from(mbuf.flags().contains(OffloadFlags::TX_L4_CSUM));
            }
            tx.tx_burst(&mut burst);
        }
    }
    (large, open)
}

/// Whether the checksum of an IPv4 TCP frame is right; `None` of another frame.
fn tcp_checksum_is_right(frame: &[u8]) -> Option<bool> {
    let ip = frame.get(14..).filter(|_| frame[12..14] == [8, 0])?;
    let header_len = usize::from(ip[0] & 15) * 4;
    let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    if ip[9] != 6 || ip.len() < len {
        return None;
    }
    let segment = &ip[header_len..len];
    let mut summed = ip[12..20].to_vec();
    summed.extend([0, 6]);
    summed.extend((segment.len() as u16).to_be_bytes());
    summed.extend(segment);
    Some(checksum(&summed) == 0)
}

/// A host on a TAP, this thread, a host on a TAP that passes on, and behind it one on a cable without any offload: what got
/// there was cut, and its checksum filled in, from what the headers said.
///
/// ```text
/// a fb0 --- forward --- fb1 b eth0 --- eth0 c
/// ```
fn transfer(count: u16, offloads: Offloads) -> (usize, usize) {
    let (a, b, c) = (host("a"), host("b"), host("c"));
    let middle = host("middle");
    let path = |host: &Host| {
        use std::os::fd::AsRawFd;
        format!("/proc/self/fd/{}", host.namespace().as_raw_fd())
    };
    let vdevs = [
        format!("net_tap0,iface=fb0,netns={}", path(&a)),
        format!("net_tap1,iface=fb1,netns={}", path(&b)),
    ];
    let rig = Rig::start(&middle, &[&vdevs[0], &vdevs[1]], count, count);
    lab::veth((&b, "eth0"), (&c, "eth0"), 1).unwrap();
    for (host, iface, offloads) in [
        (&b, "eth0", Offloads::OFF),
        (&c, "eth0", Offloads::OFF),
        (&a, "fb0", offloads),
        (&b, "fb1", offloads),
    ] {
        // A TAP has all of them but one that it can never have.
        if offloads == Offloads::OFF {
            host.offloads(iface, offloads).unwrap();
        }
        host.up(iface).unwrap();
    }
    b.forward().unwrap();
    for (host, iface, address) in [
        (&a, "fb0", "10.0.0.1/24"),
        (&b, "fb1", "10.0.0.2/24"),
        (&b, "eth0", "10.0.1.2/24"),
        (&c, "eth0", "10.0.1.3/24"),
        (&a, "fb0", "fd00::1/64"),
        (&b, "fb1", "fd00::2/64"),
    ] {
        host.address(iface, address).unwrap();
    }
    a.route("0.0.0.0/0", [10, 0, 0, 2].into()).unwrap();
    c.route("0.0.0.0/0", [10, 0, 1, 2].into()).unwrap();
    let sniffer = FrameSocket::open(&c, "eth0").unwrap();
    let stop = AtomicBool::new(false);
    let forwarded = std::thread::scope(|scope| {
        let (ports, stop_it) = (rig.ports.clone(), &stop);
        let region = rig.lcore.region();
        let forwarder = scope.spawn(move || {
            let lcore = Lcore::new(Slot::claim(region, "forwarder").unwrap());
            forward(&ports, &lcore, count, stop_it)
        });
        let capture = scope.spawn(|| {
            let (mut right, mut wrong, mut long) = (0, 0, 0);
            while let Some(frame) = sniffer.receive(Duration::from_millis(300)).unwrap() {
                long += usize::from(frame.len() > 1514);
                match tcp_checksum_is_right(&frame) {
                    Some(true) => right += 1,
                    Some(false) => wrong += 1,
                    None => {}
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            (right, wrong, long)
        });
        let far = std::net::IpAddr::from([10, 0, 1, 3]);
        let v6 = "fd00::2".parse().unwrap();
        for (from, to, address) in [(&a, &c, far), (&c, &a, [10, 0, 0, 1].into()), (&a, &b, v6)] {
            let ping = lab::ping(from, address, &lab::Ping::default()).unwrap();
            assert_eq!(ping.lost(), 0);
            for flow in 0..u64::from(count) {
                let transfer = lab::Transfer::new(8 << 20, flow);
                let report =
                    lab::tcp_transfer(from, (to, address), &transfer, &lab::Watch::default());
                assert!(report.unwrap().is_intact());
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (right, wrong, long) = capture.join().unwrap();
        // A sniffer that is too slow loses frames.
        assert!(
            right > 100 && wrong == 0 && long == 0,
            "{right} {wrong} {long}"
        );
        forwarder.join().unwrap()
    });
    assert_eq!(rig.pool.in_use(), 0);
    forwarded
}

#[test]
fn large_segments_and_open_checksums_pass_and_are_completed_behind() {
    lab::isolated!({
        for count in [1, 2, 4] {
            let (large, open) = transfer(count, Offloads::ON);
            assert!(large > 100 && open > 100, "{count}: {large} {open}");
        }
    });
}

#[test]
fn without_offloads_nothing_is_left_to_do() {
    lab::isolated!({
        assert_eq!(transfer(1, Offloads::OFF), (0, 0));
    });
}

/// An open checksum of a datagram, completed here, is what its receiver would have computed.
#[test]
fn open_checksum_can_be_completed_here() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0"], 1, 1);
        a.address("fb0", "10.0.0.1/24").unwrap();
        let mac = lab::MacAddress([2, 0, 0, 0, 0, 9]);
        a.neighbour("fb0", [10, 0, 0, 2].into(), mac).unwrap();
        let mut rx = rig.rx(0);
        let socket = a
            .run(|| std::net::UdpSocket::bind("10.0.0.1:0").unwrap())
            .unwrap();
        socket
            .send_to(&[0x88, 0xb5, 7, 7, 7], "10.0.0.2:9")
            .unwrap();
        let until = Instant::now() + WAIT;
        loop {
            assert!(Instant::now() < until, "no datagram");
            let mut burst = Burst::new(&rig.lcore);
            rx.rx_burst(&rig.lcore, &mut burst);
            let Some(mut mbuf) = burst.drain().find(|mbuf| is_of_test(&bytes(mbuf))) else {
                continue;
            };
            assert!(mbuf.flags().contains(OffloadFlags::TX_L4_CSUM));
            complete(&mut mbuf).unwrap();
            let datagram = bytes(&mbuf);
            let mut summed = datagram[26..].to_vec();
            summed.extend([0, 17]);
            summed.extend((datagram.len() as u16 - 34).to_be_bytes());
            // An odd byte stands at the end of what is summed up.
            summed.splice(21..21, [0]);
            assert_eq!(checksum(&summed), 0, "{datagram:02x?}");
            break;
        }
    });
}

fn datagram_frame(number: u32) -> Vec<u8> {
    let mut frame = frame(number, 80);
    frame[12..14].copy_from_slice(&[8, 0]);
    let [_, b, c, d] = number.to_be_bytes();
    frame[14..42].copy_from_slice(&[
        0x45, 0, 0, 66, 0x88, 0xb5, 0, 0, 64, 17, 0, 0, 10, b, c, d, 10, 0, 0, 2, 9, d, 0, 9, 0,
        46, 0, 0,
    ]);
    frame
}

#[test]
fn each_frame_comes_by_one_queue_and_all_queues_have_some() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0"], 4, 6);
        assert_eq!(queues(&a, "fb0"), 5, "four, and one that is detached");
        let wire = FrameSocket::open(&a, "fb0").unwrap();
        let mut all: Vec<_> = (0..4).map(|queue| rig.rx(queue)).collect();
        let mut came = HashSet::new();
        let mut by_queue = [0; 4];
        for number in 0..400 {
            wire.send(&datagram_frame(number)).unwrap();
        }
        let until = Instant::now() + WAIT;
        while came.len() < 400 && Instant::now() < until {
            for (rx, count) in all.iter_mut().zip(&mut by_queue) {
                let mut burst = Burst::new(&rig.lcore);
                rx.rx_burst(&rig.lcore, &mut burst);
                for mbuf in burst.iter() {
                    let frame = bytes(&mbuf);
                    if is_of_test(&frame) {
                        assert!(came.insert(frame), "twice");
                        *count += 1;
                    }
                }
            }
        }
        assert_eq!(came.len(), 400);
        assert!(by_queue.iter().all(|count| *count > 0), "{by_queue:?}");
        // More queues to send by than to receive by.
        for queue in 0..6 {
            assert_eq!(rig.send(&mut rig.tx(queue), [frame(queue.into(), 60)]), 1);
            assert_eq!(seen(&wire), frame(queue.into(), 60));
        }
    });
}

#[test]
fn queues_of_an_earlier_configuration_get_nothing_though_somebody_holds_them() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0"], 4, 1);
        let held: Vec<_> = (0..4)
            .map(|queue| {
                let key = crate::exchange::key(PortId(0), Direction::Rx, QueueId(queue));
                rig.exchange.fetch(&key).unwrap().unwrap()
            })
            .collect();
        rig.port().stop().unwrap();
        let (port, pool) = (rig.port(), rig.pool);
        a.run(|| set_up(port, pool, 1, 1)).unwrap().unwrap();
        assert_eq!(
            queues(&a, "fb0"),
            6,
            "one, the anchor, and four that are held"
        );
        let mut rx = rig.rx(0);
        let wire = FrameSocket::open(&a, "fb0").unwrap();
        let sent: Vec<_> = (0..100).map(datagram_frame).collect();
        sent.iter().for_each(|frame| wire.send(frame).unwrap());
        assert_eq!(receive(&mut rx, &rig.lcore, 100), sent);
        drop(held);
    });
}

#[test]
fn stopped_port_receives_nothing_and_goes_on_when_it_is_started() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0"], 1, 1);
        let wire = FrameSocket::open(&a, "fb0").unwrap();
        let mut rx = rig.rx(0);
        rig.port().stop().unwrap();
        wire.send(&frame(1, 60)).unwrap();
        rig.port().start().unwrap();
        wire.send(&frame(2, 60)).unwrap();
        assert_eq!(receive(&mut rx, &rig.lcore, 1), [frame(2, 60)]);
    });
}

#[test]
fn interface_that_is_down_or_gone_is_a_count() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0"], 1, 1);
        let (mut rx, mut tx) = (rig.rx(0), rig.tx(0));
        a.down("fb0").unwrap();
        assert!(!rig.port().link().up);
        assert_eq!(rig.send(&mut tx, [frame(1, 60), frame(2, 60)]), 2);
        assert_eq!(tx.stats().dropped(DropReason::LinkDown), 2);
        assert_eq!(
            (tx.stats().packets, tx.stats().state),
            (0, QueueState::Running)
        );
        a.up("fb0").unwrap();
        assert_eq!(rig.send(&mut tx, [frame(3, 60)]), 1);
        assert_eq!(tx.stats().packets, 1);
        a.remove("fb0").unwrap();
        assert_eq!(rig.send(&mut tx, [frame(4, 60)]), 1);
        assert_eq!(tx.stats().dropped(DropReason::LinkDown), 3);
        assert_eq!(tx.stats().state, QueueState::Gone);
        let mut burst = Burst::new(&rig.lcore);
        assert_eq!(rx.rx_burst(&rig.lcore, &mut burst), 0);
        assert_eq!(rx.stats().state, QueueState::Gone);
    });
}

#[test]
fn dry_pool_drops_and_counts_and_full_queue_is_counted_by_the_interface() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0"], 1, 1);
        let wire = FrameSocket::open(&a, "fb0").unwrap();
        let mut rx = rig.rx(0);
        let mut hoard = Vec::new();
        while let Some(mbuf) = rig.lcore.alloc(rig.pool) {
            hoard.push(mbuf);
        }
        wire.send(&frame(1, 60)).unwrap();
        let until = Instant::now() + WAIT;
        while rx.stats().dropped(DropReason::NoBuffer) == 0 && Instant::now() < until {
            rx.rx_burst(&rig.lcore, &mut Burst::new(&rig.lcore));
        }
        assert!(rx.stats().dropped(DropReason::NoBuffer) > 0);
        hoard.clear();
        for number in 0..1100 {
            let _ = wire.send(&frame(number, 60));
        }
        let came = receive(&mut rx, &rig.lcore, 1000);
        assert!(came.len() >= 1000, "{}", came.len());
        let xstats = rig.port().xstats();
        let dropped = xstats
            .iter()
            .find(|(name, _)| name == "rx_dropped_by_interface");
        assert!(dropped.unwrap().1 > 0, "{xstats:?}");
    });
}

#[test]
fn what_is_in_the_way_is_named_with_what_to_do() {
    lab::isolated!({
        let (a, b) = (host("a"), host("b"));
        lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
        let tun = |flags: i32, name: &str| {
            let fd = a.run(|| Place::open(None)?.open_tun()).unwrap().unwrap();
            sys::attach_as(fd.as_fd(), name, flags).unwrap();
            fd
        };
        let _one = tun(libc::IFF_TAP | libc::IFF_NO_PI, "one");
        let _tun = tun(
            libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_MULTI_QUEUE,
            "tun",
        );
        let busy = Rig::start(&a, &["net_tap0,iface=busy"], 1, 1);
        for (name, reason) in [
            ("a0", "no TAP (veth)"),
            ("tun", "carries no Ethernet frames"),
            ("one", "multi_queue"),
            ("busy", "is in use, by 2 descriptors"),
        ] {
            let error = open(&a, &[&format!("net_tap0,iface={name}")])
                .err()
                .unwrap();
            assert!(error.to_string().contains(reason), "{name}: {error}");
        }
        drop(busy);
        let error = open(&a, &["net_tap0,netns=/nowhere"]).err().unwrap();
        assert!(error.to_string().contains("/run/netns/NAME"), "{error}");
        let error = open(&a, &["net_tap0,netns=/dev/null"]).err().unwrap();
        assert!(error.to_string().contains("/proc/PID/ns/net"), "{error}");
        let refused = || {
            // Of this thread alone, which ends here.
            let none = rustix::thread::CapabilitySet::empty();
            let sets = rustix::thread::CapabilitySets {
                effective: none,
                permitted: none,
                inheritable: none,
            };
            rustix::thread::set_capabilities(None, sets).unwrap();
            let mut port = Port::open(PortId(0), &DevArgs::parse("net_tap0").unwrap())?;
            port.make()
        };
        let error = a.run(refused).unwrap().unwrap_err();
        let capability = "CAP_NET_ADMIN";
        assert!(
            matches!(error, Error::Privilege { capability: named, .. } if named == capability),
            "{error}"
        );
    });
}

#[test]
fn persistent_interface_stays_and_is_taken_again() {
    lab::isolated!({
        let a = host("a");
        for (args, stays) in [
            ("net_tap0,iface=fb0", false),
            ("net_tap0,iface=fb0,persist=1", true),
        ] {
            drop(Rig::start(&a, &[args], 1, 1));
            // The kernel ends it a moment after the last descriptor is closed.
            let until = Instant::now() + WAIT;
            while a.has("fb0") != stays && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(a.has("fb0"), stays);
        }
        let rig = Rig::start(&a, &["net_tap0,iface=fb0"], 2, 2);
        let wire = FrameSocket::open(&a, "fb0").unwrap();
        rig.send(&mut rig.tx(1), [frame(1, 60)]);
        assert_eq!(seen(&wire), frame(1, 60));
    });
}

/// The successor of a primary that left a port with one queue each way.
fn heir(host: &Host, args: &str) -> Port {
    let args = DevArgs::parse(args).unwrap();
    let mut port = host.run(|| Port::open(PortId(0), &args)).unwrap().unwrap();
    port.inherit(&Legacy {
        rx: 1,
        tx: 1,
        promiscuous: true,
        word: 0,
    });
    port
}

/// An open device with a queue each way, past the port.
fn device(host: &Host, args: &str) -> Port {
    let args = DevArgs::parse(args).unwrap();
    let open = || {
        let mut port = Port::open(PortId(0), &args)?;
        port.make()?;
        port.configure(1, 1, &PortConfig::default())?;
        port.tx_queue_setup(QueueId(0), 0)?;
        port.start()?;
        Ok::<_, Error>(port)
    };
    host.run(open).unwrap().unwrap()
}

#[test]
fn only_a_queue_that_the_port_would_open_itself_is_adopted() {
    lab::isolated!({
        let (a, b) = (host("a"), host("b"));
        let (rx, tx) = (Direction::Rx, Direction::Tx);
        let hand = |port: &Port| port.descriptors(QueueId(0), rx).unwrap().unwrap();
        let port = device(&a, "net_tap0,iface=fb0");
        let other = device(&a, "net_tap0,iface=fb1");
        let far = device(&b, "net_tap0,iface=fb0");
        let odd = a.run(|| Place::open(None)?.open_tun()).unwrap().unwrap();
        sys::attach_as(odd.as_fd(), "odd", libc::IFF_TAP | libc::IFF_NO_PI).unwrap();
        let of = |fd: OwnedFd| Handed {
            payload: hand(&port).payload,
            descriptors: vec![fd],
        };
        let null = std::fs::File::open("/dev/null").unwrap();
        let cases = [
            (Handed::default(), "its first word"),
            (of(null.into()), "no queue of a TAP"),
            (of(odd), "of another kind"),
            (hand(&other), "a queue of fb1, and not of fb0"),
            (hand(&far), "another network namespace"),
        ];
        let mut heir = heir(&a, "net_tap0,iface=fb0");
        for (number, (handed, reason)) in cases.into_iter().enumerate() {
            let refused = heir.adopt(QueueId(0), rx, handed).unwrap_err();
            assert!(refused.contains(reason), "{number}: {refused}");
            assert!(!heir.holds(QueueId(0), rx));
        }
        // Both directions are one descriptor.
        heir.adopt(QueueId(0), rx, hand(&port)).unwrap();
        assert!(heir.holds(QueueId(0), rx) && heir.holds(QueueId(0), tx));
        let kept = hand(&port);
        drop(port);
        assert_eq!(queues(&a, "fb0"), 1, "no queue is added");
        heir.rx_queue_setup(QueueId(0), 0, open(&a, &["net_null0"]).unwrap().pool)
            .unwrap();
        heir.start().unwrap();
        assert_eq!(queues(&a, "fb0"), 1);
        a.remove("fb0").unwrap();
        let refused = heir.adopt(QueueId(0), rx, kept).unwrap_err();
        assert!(refused.contains("gone"), "{refused}");
    });
}

/// A proxied interface goes with its primary, whose descriptors were the only ones. The next one makes it anew, up as a first one.
#[test]
fn interface_that_went_with_a_primary_is_up_again_with_the_next() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0,share=proxy"], 1, 1);
        let (region, pool, exchange) = (rig.lcore.region(), rig.pool, Arc::clone(&rig.exchange));
        let open = |role, vdevs: &[&str]| {
            let vdevs: Vec<String> = vdevs.iter().map(|vdev| (*vdev).to_owned()).collect();
            let exchange: Arc<dyn Exchange> = exchange.clone();
            a.run(|| Ports::open(region, role, &vdevs, exchange))
                .unwrap()
                .unwrap()
        };
        let joined = open(ProcType::Secondary, &[]);
        let lcore = Lcore::new(Slot::claim(region, "client").unwrap());
        let port = joined.port(PortId(0)).unwrap();
        let mut rx = port.rx_queue(QueueId(0), lcore.owner()).unwrap();
        drop(rig);
        let until = Instant::now() + WAIT;
        while a.has("fb0") && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(!a.has("fb0"));
        let next = open(ProcType::Primary, &["net_tap0,iface=fb0,share=proxy"]);
        let port = next.port(PortId(0)).unwrap();
        assert!(port.is_adopted());
        a.run(|| set_up(port, pool, 1, 1)).unwrap().unwrap();
        assert!(port.link().up, "as the first one was");
        let server = Lcore::new(Slot::claim(region, "server").unwrap());
        let mut proxies = next.proxies(&server).unwrap();
        let wire = FrameSocket::open(&a, "fb0").unwrap();
        wire.send(&frame(1, 60)).unwrap();
        let mut came = Vec::new();
        let until = Instant::now() + WAIT;
        while came.is_empty() && Instant::now() < until {
            proxies.serve();
            let mut burst = Burst::new(&lcore);
            rx.rx_burst(&lcore, &mut burst);
            came.extend(burst.iter().map(|mbuf| bytes(&mbuf)).filter(is_of_test));
        }
        assert_eq!(came, [frame(1, 60)]);
    });
}

/// What waits in the queue is the next reader's.
#[test]
fn frames_wait_for_the_successor() {
    lab::isolated!({
        let a = host("a");
        let rig = Rig::start(&a, &["net_tap0,iface=fb0"], 1, 1);
        let wire = FrameSocket::open(&a, "fb0").unwrap();
        let sent: Vec<_> = (0..100).map(|number| frame(number, 60)).collect();
        sent.iter().for_each(|frame| wire.send(frame).unwrap());
        let mut came = receive(&mut rig.rx(0), &rig.lcore, 32);
        let left = 100 - came.len();
        came.extend(receive(&mut rig.rx(0), &rig.lcore, left));
        assert_eq!(came, sent);
    });
}
