//! What a frame holds, and that it holds it still.

use super::*;

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
