//! `net_pcap` ports: what goes in comes out, packet for packet.
#![forbid(unsafe_code)]

use std::path::Path;

use forebay_tests::capture::{self, FORMATS, Format};
use forebay_tests::{Group, Setup, World, frame, wait_for};
use lab::FrameSocket;

/// Packets of every length that a frame can have, each different.
fn packets(count: u32) -> Vec<Vec<u8>> {
    let len = |number: u32| 60 + usize::try_from(number * 37 % 1455).unwrap();
    (0..count)
        .map(|number| frame::numbered(number, len(number)))
        .collect()
}

fn vdev(number: u32, dir: &Path) -> String {
    let dir = dir.display();
    format!("net_pcap{number},rx_pcap={dir}/in{number},tx_pcap={dir}/out{number}")
}

/// The client reads the one file and writes the other; the server is not in the way, so that nothing
/// is read before somebody is there.
#[test]
fn what_is_read_is_written_packet_for_packet() {
    lab::isolated!({
        let world = World::new();
        let packets = packets(1000);
        for format in FORMATS {
            let dir = tempfile::tempdir().unwrap();
            capture::write(&dir.path().join("in0"), format, &packets);
            capture::write(&dir.path().join("in1"), Format::Pcap, &packets[..10]);
            let vdevs = [vdev(0, dir.path()), vdev(1, dir.path())];
            let setup = Setup {
                server: vec!["--queues".into(), "each".into()],
                ..Setup::ports(1, &vdevs)
            };
            let group = Group::start(&world, setup);
            wait_for("all packets to pass", || {
                (group.sample().tx() >= 1010).then_some(())
            });
            let sample = group.settle();
            assert_eq!(
                (sample.tx(), sample.dropped()),
                (1010, 0),
                "{:?}",
                sample.json()
            );
            group.finish();
            let (out0, out1) = (dir.path().join("out0"), dir.path().join("out1"));
            assert!(
                capture::read(&out1) == packets,
                "{format:?}: others, or in another order"
            );
            assert!(
                capture::read(&out0) == packets[..10],
                "{format:?}: others on the way back"
            );
        }
    });
}

/// Two processes append to one file.
#[test]
fn clients_write_one_file_and_no_packet_is_torn() {
    lab::isolated!({
        let dir = tempfile::tempdir().unwrap();
        let world = World::new();
        world.introduce();
        capture::write(&dir.path().join("in1"), Format::Pcap, &[]);
        let vdevs = ["net_af_packet0,iface=veth0".to_owned(), vdev(1, dir.path())];
        let group = Group::start(&world, Setup::ports(2, &vdevs));
        let packets = packets(2000);
        let wire = FrameSocket::open(&world.west, "eth0").unwrap();
        // A host may have spoken before a client was there.
        let earlier = group.settle().dropped();
        for burst in packets.chunks(16) {
            let before = group.sample().tx();
            for packet in burst {
                wire.send(packet).unwrap();
            }
            wait_for("a burst to pass", || {
                (group.sample().tx() >= before + 8).then_some(())
            });
        }
        let sample = group.settle();
        assert_eq!(sample.dropped(), earlier, "{:?}", sample.json());
        assert!(
            sample.client_rx(0) > 500 && sample.client_rx(1) > 500,
            "{:?}",
            sample.json()
        );
        group.finish();
        let out = capture::read(&dir.path().join("out1"));
        // The hosts have a few words of their own to say.
        let of_test = |packet: &&Vec<u8>| packet.get(12..14) == Some(&[0x88, 0xb5]);
        let mut out: Vec<_> = out.iter().filter(of_test).cloned().collect();
        assert!(
            out.iter().all(|packet| frame::number(packet).is_some()),
            "a packet was torn"
        );
        out.sort_by_key(|packet| frame::number(packet));
        assert!(
            out == packets,
            "other packets came out: {} of {}",
            out.len(),
            packets.len()
        );
    });
}

#[test]
fn capture_that_repeats_does_not_end() {
    lab::isolated!({
        let dir = tempfile::tempdir().unwrap();
        let world = World::new();
        let packets = packets(50);
        capture::write(&dir.path().join("in0"), Format::PcapNg, &packets);
        capture::write(&dir.path().join("in1"), Format::Pcap, &[]);
        let vdevs = [vdev(0, dir.path()) + ",infinite_rx=1", vdev(1, dir.path())];
        let group = Group::start(&world, Setup::ports(1, &vdevs));
        wait_for("the capture to come round", || {
            (group.sample().tx() > 500).then_some(())
        });
        group.finish_busy();
        let out = capture::read(&dir.path().join("out1"));
        assert!(out.len() > 500);
        assert!(
            out.iter().all(|packet| packets.contains(packet)),
            "a packet that was never read"
        );
    });
}
