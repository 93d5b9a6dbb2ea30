//! The stack on `net_af_xdp`, whose interface has no address of the kernel's.

use std::time::Duration;

use forebay_tests::{Counts, Pair, Wire};
use lab::{Echo, Offloads, Ping};

use crate::{may_use_af_xdp, with_af_xdp};

#[test]
fn stack_answers_through_af_xdp() {
    with_af_xdp!({
        // Checksums are complete, since XDP takes a frame as it is.
        let mut pair = Pair::build(Wire::Xdp, Offloads::OFF);
        pair.open(&Pair::IPS);
        let mut bytes = 0;
        for to in [Pair::OURS, Pair::OURS_V6] {
            for (count, payload_len) in [(10_000, 56), (20, 8000), (20, 65_000)] {
                let how = Ping {
                    count,
                    interval: Duration::ZERO,
                    payload_len,
                    ..Ping::default()
                };
                let report = lab::ping(&pair.linux, to, &how).unwrap();
                assert_eq!((report.lost(), report.damaged), (0, 0), "{to}: {report:?}");
            }
            for (count, payload_len, window) in [(15_000, 1400, 16), (500, 60_000, 1)] {
                let how = Echo {
                    count,
                    payload_len,
                    window,
                    ..Echo::default()
                };
                let report = lab::udp_echo(&pair.linux, Pair::echo(to), &how).unwrap();
                println!("{to}: {report:?}");
                assert!(report.is_whole(), "{to}: {report:?}");
                bytes += report.bytes;
            }
        }
        assert!(bytes > 100_000_000, "{bytes}");
        assert_eq!(pair.finish().of("echoed_bytes"), bytes);
    });
}

#[test]
fn stack_asks_through_af_xdp() {
    with_af_xdp!({
        let pair = Pair::build(Wire::Xdp, Offloads::OFF);
        for to in [Pair::LINUX, Pair::LINUX_V6].map(|to| to.to_string()) {
            for (count, size) in [("10000", "56"), ("100", "8000"), ("100", "65000")] {
                let ended = pair.ping(&["-f", "-c", count, "-s", size, "--json", &to]);
                assert_eq!(ended.status.code(), Some(0), "{ended}");
                let counts = Counts::read(ended.stdout.last().unwrap());
                println!("{to}, {size} bytes: {counts:?}");
                assert_eq!(counts.of("received").to_string(), count, "{ended}");
                assert_eq!(counts.of("damaged") + counts.of("duplicates"), 0);
            }
        }
    });
}
