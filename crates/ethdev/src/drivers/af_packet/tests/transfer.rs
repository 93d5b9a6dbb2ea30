//! TCP through two ports.

use super::*;

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
