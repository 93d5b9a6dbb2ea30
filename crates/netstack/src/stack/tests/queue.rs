//! Limits: what does not fit is refused or counted, and nothing else is lost.

use super::*;

#[test]
fn transmit_queue_that_is_full_says_so_and_gives_the_packet_back() {
    let config = Config {
        transmit_max: 4,
        ..Config::default()
    };
    for address in BOTH {
        let mut host = Host::with(config.clone());
        let socket = host.socket(address(0), 1000);
        let to = at(address(1), 9);
        for number in 0..4_u8 {
            host.stack.udp(socket).send_bytes(&[number], to).unwrap();
        }
        let before = host.stack.drops().total();
        assert_eq!(
            host.stack.udp(socket).send_bytes(b"x", to),
            Err(Error::WouldBlock)
        );
        let packet = host.heap.packet(b"kept").unwrap();
        let unsent = host.stack.udp(socket).send_to(packet, to).unwrap_err();
        assert_eq!(
            (unsent.error, unsent.packet.unwrap().data()),
            (Error::WouldBlock, &b"kept"[..])
        );
        assert_eq!(host.stack.drops().total(), before, "refused is not dropped");
        let sent: Vec<_> = host
            .sent()
            .iter()
            .map(|frame| seen(frame).data[8])
            .collect();
        assert_eq!(sent, [0, 1, 2, 3]);
        // Segments go as far as there is room, and say how far.
        let segments = host.stack.udp(socket).send_segments(&[1; 1000], 100, to);
        assert_eq!((segments, host.stack.to_transmit(0)), (Ok(400), 4));
        let segments = host.stack.udp(socket).send_segments(&[1; 1000], 100, to);
        assert_eq!(segments, Err(Error::WouldBlock));
    }
}

#[test]
fn answers_that_find_no_room_are_counted() {
    let config = Config {
        transmit_max: 2,
        ..Config::default()
    };
    let mut host = Host::with(config);
    let message = icmp(v4(1), v4(0), 8, 0, &[0; 4]);
    let frame = framed(US, &ip(v4(1), v4(0), ICMPV4, &message));
    host.hears(&frame);
    host.hears(&frame);
    host.drops(&frame, Reason::TransmitQueueFull);
    assert_eq!(host.sent().len(), 2);
}

#[test]
fn socket_queue_that_is_full_drops_the_newest() {
    let mut config = Config::default();
    (config.udp.queue_max, config.udp.queued_max) = (3, 5);
    let mut host = Host::with(config);
    let (a, b) = (host.socket(v4(0), 1000), host.socket(v4(0), 1001));
    let frame = |port, number: u8| datagram(at(v4(1), 5), at(v4(0), port), &[number]);
    for number in 0..3 {
        host.hears(&frame(1000, number));
    }
    host.swallows(&frame(1000, 3), Reason::UdpQueueFull);
    // All together have room for five.
    host.hears(&frame(1001, 0));
    host.hears(&frame(1001, 1));
    host.swallows(&frame(1001, 2), Reason::UdpQueueFull);
    assert_eq!(
        host.stack
            .udp_sockets()
            .map(|socket| socket.dropped)
            .sum::<u64>(),
        2
    );
    for (socket, count) in [(a, 3), (b, 2)] {
        assert_eq!(host.stack.udp(socket).queued(), Ok(count));
        let mut read = Vec::new();
        host.stack.udp(socket).recv_burst(10, &mut read);
        let read: Vec<_> = read
            .iter()
            .map(|datagram| datagram.packet.data()[0])
            .collect();
        assert_eq!(read, (0..u8::try_from(count).unwrap()).collect::<Vec<_>>());
    }
    assert_eq!(host.heap.in_use(), 0);
    host.stack.udp(a).set_queue_max(1).unwrap();
    host.hears(&frame(1000, 0));
    host.swallows(&frame(1000, 1), Reason::UdpQueueFull);
}

#[test]
fn packets_for_silent_neighbours_are_bounded_and_counted() {
    let mut host = Host::new();
    let each = host.stack.config().neighbours.waiting_max_each as u64;
    let socket = host.stack.udp_v4().unwrap();
    let to = at(IpAddr::from([10, 0, 0, 99]), 9);
    for _ in 0..each + 5 {
        // The oldest goes: the caller hears nothing of it, or that there was no room.
        let _ = host.stack.udp(socket).send_bytes(b"x", to);
    }
    assert_eq!(host.stack.drops().of(Reason::NeighbourQueueFull), 5);
    assert_eq!(
        host.heap.in_use() as u64,
        each + host.stack.to_transmit(0) as u64
    );
    host.wait(Duration::from_secs(10));
    assert_eq!(host.stack.drops().of(Reason::NeighbourFailed), each);
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn neighbours_that_make_room_take_what_waits_along_as_table_full() {
    let mut config = Config::default();
    config.neighbours.entries_max = 8;
    let mut host = Host::with(config);
    let socket = host.stack.udp_v4().unwrap();
    for number in 10..40 {
        let to = at(IpAddr::from([10, 0, 0, number]), 9);
        let _ = host.stack.udp(socket).send_bytes(b"x", to);
    }
    let dropped = host.stack.drops().clone();
    assert_eq!(dropped.of(Reason::NeighbourQueueFull), 0);
    assert!(dropped.of(Reason::NeighbourTableFull) > 0, "{dropped:?}");
    host.wait(Duration::from_secs(10));
    let failed = host.stack.drops().of(Reason::NeighbourFailed);
    assert_eq!(failed + dropped.of(Reason::NeighbourTableFull), 30);
    assert_eq!(host.heap.in_use(), 0);
}

#[test]
fn without_buffers_nothing_is_lost_but_time() {
    let heap = Heap::new(3);
    let mut host = Host::new();
    let config = Config {
        seed: 7,
        ..Config::default()
    };
    host.stack = Stack::new(config, heap.clone());
    host.stack
        .add_interface(InterfaceConfig::new(0, US))
        .unwrap();
    host.stack
        .add_address(LINK, v4(0), 24, Probing::None)
        .unwrap();
    host.stack.add_neighbour(LINK, v4(1), THEM).unwrap();
    let socket = host.socket(v4(0), 1000);
    let to = at(v4(1), 9);
    for _ in 0..3 {
        host.stack.udp(socket).send_bytes(b"x", to).unwrap();
    }
    assert_eq!(
        host.stack.udp(socket).send_bytes(b"x", to),
        Err(Error::WouldBlock)
    );
    assert_eq!(host.sent().len(), 3);
    host.stack.udp(socket).send_bytes(b"x", to).unwrap();
}

#[test]
fn tables_that_are_full_say_which_and_how_to_mend_it() {
    let mut config = Config {
        interfaces_max: 1,
        routes_max: 4,
        ..Config::default()
    };
    config.udp.sockets_max = 1;
    let mut host = Host::with(config);
    let full = |error: Error| match error {
        Error::Full { key, .. } => key,
        other => panic!("{other}"),
    };
    let error = host
        .stack
        .add_interface(InterfaceConfig::new(1, US))
        .unwrap_err();
    assert_eq!(full(error), "interfaces_max");
    host.stack.udp_v4().unwrap();
    assert_eq!(full(host.stack.udp_v4().unwrap_err()), "udp.sockets_max");
    let network = |number: u8| IpAddr::from([10, number, 0, 0]);
    host.stack.add_route(network(1), 16, v4(1)).unwrap();
    assert_eq!(
        full(host.stack.add_route(network(2), 16, v4(1)).unwrap_err()),
        "routes_max"
    );
    // And what could not be done leaves nothing behind.
    let addresses = host.stack.addresses().count();
    let added = host
        .stack
        .add_address(LINK, IpAddr::from([10, 5, 0, 1]), 16, Probing::None);
    assert_eq!(full(added.unwrap_err()), "routes_max");
    assert_eq!(host.stack.addresses().count(), addresses);
}
