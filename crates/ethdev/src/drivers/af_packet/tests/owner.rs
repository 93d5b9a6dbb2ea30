//! Who drives a queue, and what is lost or not when that changes.

use super::*;

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
