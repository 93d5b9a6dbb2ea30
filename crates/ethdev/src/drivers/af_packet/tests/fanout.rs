//! Several queues of one interface.

use super::*;

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
