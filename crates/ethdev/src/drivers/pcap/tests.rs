//! Tests of capture-file ports: one process, a private region, files in a directory of their own.

use std::fs;
use std::path::{Path, PathBuf};

use eal::{Counter, Owner};
use mbuf::{Burst, OffloadFlags, PoolConfig, TxOffload};
use tempfile::TempDir;

use super::format::{Reader, Stamp, file_header, record_header};
use crate::driver::{Direction, QueueId};
use crate::stats::{DropReason, QueueState};
use crate::tests::{Group, first, receive, rx, send, tx};

fn capture(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = file_header(Stamp::Micro).to_vec();
    for frame in frames {
        let len = u32::try_from(frame.len()).unwrap();
        file.extend(record_header(
            Stamp::Micro,
            std::time::Duration::from_secs(7),
            len,
        ));
        file.extend(frame);
    }
    file
}

fn frames_of(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = Reader::open(fs::File::open(path).unwrap()).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        frames.push(frame.to_vec());
    }
    frames
}

/// Frames of all lengths that differ.
fn frames(count: usize) -> Vec<Vec<u8>> {
    let frame = |number: usize| {
        (0..60 + number * 37 % 3000)
            .map(|at| u8::try_from((number + at) % 251).unwrap())
            .collect()
    };
    (0..count).map(frame).collect()
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name).display().to_string()
    }

    fn name(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

#[test]
fn file_is_received_packet_for_packet_and_then_at_its_end() {
    let (group, files) = (Group::new(), Files::new());
    let (one, two) = (frames(70), frames(3));
    let vdev = format!(
        "net_pcap0,rx_pcap={},rx_pcap={}",
        files.write("one", &capture(&one)),
        files.write("two", &capture(&two))
    );
    let ports = group.primary(&[&vdev]);
    group.start(first(&ports), 2, 1);
    let lcore = group.lcore("test");
    let (mut rx0, mut rx1) = (rx(first(&ports), 0, &lcore), rx(first(&ports), 1, &lcore));
    let mut received = Vec::new();
    for burst in [32, 32, 6, 0, 0] {
        let packets = receive(&lcore, &mut rx0);
        assert_eq!(packets.len(), burst);
        received.extend(packets);
    }
    assert_eq!(received, one);
    assert_eq!(
        (rx0.stats().state, rx1.stats().state),
        (QueueState::AtEnd, QueueState::Running)
    );
    assert_eq!(rx0.stats().place, capture(&one).len() as u64);
    assert_eq!(receive(&lcore, &mut rx1), two);
    assert_eq!(group.pool.in_use(), 0);
}

#[test]
fn infinite_file_starts_over_and_an_empty_one_ends() {
    let (group, files) = (Group::new(), Files::new());
    let five = frames(5);
    let vdev = format!(
        "net_pcap0,rx_pcap={},rx_pcap={},infinite_rx=1",
        files.write("five", &capture(&five)),
        files.write("none", &capture(&[]))
    );
    let ports = group.primary(&[&vdev]);
    group.start(first(&ports), 2, 1);
    let lcore = group.lcore("test");
    let (mut rx0, mut rx1) = (rx(first(&ports), 0, &lcore), rx(first(&ports), 1, &lcore));
    let received: Vec<_> = (0..40).flat_map(|_| receive(&lcore, &mut rx0)).collect();
    // One pass through the file a burst at least, so that a burst ends.
    assert!(received.len() >= 200, "{}", received.len());
    assert!(
        received
            .iter()
            .zip(five.iter().cycle())
            .all(|(got, sent)| got == sent)
    );
    assert_eq!(rx0.stats().state, QueueState::Running);
    assert!(receive(&lcore, &mut rx1).is_empty());
    assert_eq!(rx1.stats().state, QueueState::AtEnd);
}

#[test]
fn what_is_sent_is_in_the_file() {
    let (group, files) = (Group::new(), Files::new());
    let ports = group.primary(&[
        &format!("net_pcap0,tx_pcap={}", files.name("out")),
        &format!("net_pcap1,tx_pcap={},stamp=us", files.name("micro")),
    ]);
    for port in &ports {
        group.start(port, 1, 1);
    }
    let lcore = group.lcore("test");
    let sent = frames(100);
    for port in &ports {
        let mut tx = tx(port, 0, &lcore);
        for burst in sent.chunks(32) {
            send(
                &group,
                &lcore,
                &mut tx,
                &burst.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            );
        }
        let bytes = sent.iter().map(|frame| frame.len() as u64).sum();
        assert_eq!(
            (tx.stats().packets, tx.stats().bytes, tx.stats().all_drops()),
            (100, bytes, 0)
        );
    }
    assert_eq!(frames_of(&files.path("out")), sent);
    assert_eq!(frames_of(&files.path("micro")), sent);
    assert_eq!(
        &fs::read(files.path("micro")).unwrap()[..4],
        &0xa1b2_c3d4_u32.to_le_bytes()
    );
    assert_eq!(group.pool.in_use(), 0);
}

#[test]
fn writers_in_several_threads_share_a_file_in_whole_records() {
    let (group, files) = (Group::new(), Files::new());
    let ports = group.primary(&[&format!(
        "net_pcap0,share=direct,tx_pcap={}",
        files.name("out")
    )]);
    group.start(first(&ports), 1, 3);
    // Two of them as another process would: with descriptors handed over.
    let joined = group.secondary();
    std::thread::scope(|scope| {
        for (queue, ports) in [(0_u8, &ports), (1, &joined), (2, &joined)] {
            let group = &group;
            scope.spawn(move || {
                let lcore = group.lcore("writer");
                let mut tx = tx(first(ports), queue.into(), &lcore);
                for round in 0..50_usize {
                    let frame = vec![queue; 60 + round * 29];
                    send(group, &lcore, &mut tx, &[&frame[..]; 5]);
                }
            });
        }
    });
    let written = frames_of(&files.path("out"));
    for queue in 0..3 {
        let lens: Vec<usize> = written
            .iter()
            .filter(|frame| frame[0] == queue)
            .map(Vec::len)
            .collect();
        let sent: Vec<usize> = (0..50).flat_map(|round| [60 + round * 29; 5]).collect();
        assert_eq!(lens, sent, "queue {queue}");
    }
    assert!(
        written
            .iter()
            .all(|frame| frame.iter().all(|byte| *byte == frame[0]))
    );
}

#[test]
fn partial_checksum_is_completed_and_clones_keep_theirs() {
    let (group, files) = (Group::new(), Files::new());
    let ports = group.primary(&[&format!("net_pcap0,tx_pcap={}", files.name("out"))]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    let mut tx = tx(first(&ports), 0, &lcore);
    let partial = |csum_offset| {
        let mut mbuf = lcore.mbuf_from(group.pool, &[1; 40]).unwrap();
        mbuf.set_flags(OffloadFlags::TX_L4_CSUM);
        mbuf.set_offload(TxOffload {
            csum_start: 20,
            csum_offset,
            ..TxOffload::default()
        });
        mbuf
    };
    let kept = partial(6);
    let mut burst = Burst::new(&lcore);
    for mbuf in [
        partial(6),
        kept.clone_ref().unwrap(),
        partial(50),
        lcore.mbuf_from(group.pool, &[2; 40]).unwrap(),
    ] {
        burst.push(mbuf).unwrap();
    }
    assert_eq!(tx.tx_burst(&mut burst), 4);
    // Ten words of 0x0101, the field's own among them, make 0x0a0a.
    let mut completed = vec![1; 40];
    completed[26..28].copy_from_slice(&(!0x0a0a_u16).to_be_bytes());
    assert_eq!(
        frames_of(&files.path("out")),
        [completed.clone(), completed, vec![2; 40]]
    );
    assert_eq!(kept.data(), [1; 40]);
    assert_eq!(
        (
            tx.stats().packets,
            tx.stats().bytes,
            tx.stats().dropped(DropReason::Checksum)
        ),
        (3, 120, 1)
    );
}

#[test]
fn vlan_tag_that_was_taken_off_is_put_back() {
    let (group, files) = (Group::new(), Files::new());
    let ports = group.primary(&[&format!("net_pcap0,tx_pcap={}", files.name("out"))]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    let mut mbuf = lcore.mbuf_from(group.pool, &[9; 60]).unwrap();
    mbuf.set_flags(OffloadFlags::TX_VLAN_INSERT);
    mbuf.set_vlan_tci(0x6123);
    let mut burst = Burst::new(&lcore);
    burst.push(mbuf).unwrap();
    assert_eq!(tx(first(&ports), 0, &lcore).tx_burst(&mut burst), 1);
    assert_eq!(
        frames_of(&files.path("out")),
        [[&[9; 12][..], &[0x81, 0, 0x61, 0x23], &[9; 48]].concat()]
    );
}

#[test]
fn damage_in_the_middle_stops_the_queue_with_its_place() {
    let (group, files) = (Group::new(), Files::new());
    let whole = capture(&frames(10));
    let vdev = format!(
        "net_pcap0,rx_pcap={},infinite_rx=1",
        files.write("cut", &whole[..whole.len() - 1])
    );
    let ports = group.primary(&[&vdev]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    let mut queue = rx(first(&ports), 0, &lcore);
    assert_eq!(receive(&lcore, &mut queue), frames(9));
    for _ in 0..3 {
        assert!(receive(&lcore, &mut queue).is_empty());
    }
    let stats = queue.stats();
    let start = capture(&frames(9)).len() as u64;
    assert_eq!(
        (
            stats.state,
            stats.place,
            stats.dropped(DropReason::Malformed),
            stats.errors
        ),
        (QueueState::Malformed, start, 1, 1)
    );
    assert_eq!(stats.state.to_string(), "malformed input");
}

#[test]
fn file_that_cannot_be_used_is_named_with_the_reason() {
    let (group, files) = (Group::new(), Files::new());
    let good = files.write("good", &capture(&frames(1)));
    let text = files.write("text", b"#!/bin/sh\necho this is no capture\n");
    let cut = files.write("cut", &capture(&frames(1))[..50]);
    for (args, reasons) in [
        (
            format!("rx_pcap={}", files.name("absent")),
            ["absent", "No such file", "check rx_pcap="],
        ),
        (
            format!("rx_pcap={text}"),
            ["text", "at byte 0", "neither pcap nor pcapng"],
        ),
        (format!("rx_pcap={cut}"), ["cut", "at byte 24", "cut short"]),
        (
            format!("rx_pcap={}", files.0.path().display()),
            ["net_pcap0", "not a regular file", ""],
        ),
        (
            format!("tx_pcap={}", files.name("no/such/directory")),
            ["directory", "No such file", "check tx_pcap="],
        ),
        (
            format!("tx_pcap={}", files.0.path().display()),
            ["net_pcap0", "not a regular file", ""],
        ),
        (
            format!("rx_pcap={good},tx_pcap={good}"),
            ["good", "another port or process", ""],
        ),
        (
            "tx_pcap=/dev/full".into(),
            ["/dev/full", "No space left", ""],
        ),
        ("stamp=ms".into(), ["stamp=ms", "not ns or us", ""]),
    ] {
        let refusal = group.refusal(&[&format!("net_pcap0,{args}")]);
        assert!(
            reasons.iter().all(|reason| refusal.contains(reason)),
            "{refusal}"
        );
    }
    let out = files.name("out");
    assert!(
        group
            .refusal(&[
                &format!("net_pcap0,tx_pcap={out}"),
                &format!("net_pcap1,tx_pcap={out}")
            ])
            .contains("another port or process")
    );
    // None of that has touched the input.
    assert_eq!(frames_of(&files.path("good")), frames(1));
}

#[test]
fn more_rx_queues_than_files_are_refused_with_both_numbers() {
    let (group, files) = (Group::new(), Files::new());
    let ports = group.primary(&[&format!(
        "net_pcap0,rx_pcap={}",
        files.write("one", &capture(&[]))
    )]);
    let error = first(&ports)
        .configure(2, 1, &crate::PortConfig::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("2 rx queues asked for, the driver has 1") && error.contains("rx_pcap=FILE"),
        "{error}"
    );
}

#[test]
fn frame_waits_for_buffers_and_is_not_lost() {
    let files = Files::new();
    let group = Group::with_pool(&PoolConfig::new("small", 20));
    let sent: Vec<Vec<u8>> = (0..30).map(|number| vec![number; 5000]).collect();
    let ports = group.primary(&[&format!(
        "net_pcap0,rx_pcap={}",
        files.write("long", &capture(&sent))
    )]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    let mut queue = rx(first(&ports), 0, &lcore);
    let mut received = Vec::new();
    while queue.stats().state == QueueState::Running && received.len() < 100 {
        received.extend(receive(&lcore, &mut queue));
    }
    assert_eq!(received, sent);
    assert_eq!(queue.stats().all_drops(), 0);
}

#[test]
fn frame_longer_than_any_chain_is_dropped_and_counted() {
    let (group, files) = (Group::new(), Files::new());
    let sent = [vec![1; 60], vec![2; 200_000], vec![3; 60]];
    let ports = group.primary(&[&format!(
        "net_pcap0,rx_pcap={}",
        files.write("long", &capture(&sent))
    )]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    let mut queue = rx(first(&ports), 0, &lcore);
    assert_eq!(receive(&lcore, &mut queue), [vec![1; 60], vec![3; 60]]);
    assert_eq!(queue.stats().dropped(DropReason::TooLong), 1);
    assert_eq!(group.pool.in_use(), 0);
}

#[test]
fn successor_in_another_process_goes_on_where_the_last_owner_stopped() {
    let (group, files) = (Group::new(), Files::new());
    let sent = frames(40);
    let ports = group.primary(&[&format!(
        "net_pcap0,rx_pcap={}",
        files.write("in", &capture(&sent))
    )]);
    group.start(first(&ports), 1, 1);
    let (lcore, other) = (group.lcore("first"), group.lcore("second"));
    let mut received = receive(&lcore, &mut rx(first(&ports), 0, &lcore));
    assert_eq!(
        first(&ports).queue_owner(Direction::Rx, QueueId(0)),
        Owner::NONE
    );
    let joined = group.secondary();
    received.extend(receive(&other, &mut rx(first(&joined), 0, &other)));
    assert_eq!(received, sent);
    // Configured anew, the file starts over.
    first(&ports).stop().unwrap();
    group.start(first(&ports), 1, 1);
    assert_eq!(
        receive(&lcore, &mut rx(first(&ports), 0, &lcore)),
        sent[..32]
    );
}

#[test]
fn port_without_files_receives_nothing_and_counts_what_it_drops() {
    let group = Group::new();
    let ports = group.primary(&["net_pcap0"]);
    group.start(first(&ports), 1, 1);
    let lcore = group.lcore("test");
    let (mut rx, mut tx) = (rx(first(&ports), 0, &lcore), tx(first(&ports), 0, &lcore));
    assert!(receive(&lcore, &mut rx).is_empty());
    send(&group, &lcore, &mut tx, &[&[0; 60], &[0; 60]]);
    assert_eq!(
        (
            tx.stats().packets,
            tx.stats().bytes,
            tx.stats().dropped(DropReason::NoSink)
        ),
        (0, 0, 2)
    );
    // Joined as a secondary too: there is nothing to hand over.
    drop(rx);
    let joined = group.secondary();
    assert!(receive(&lcore, &mut crate::tests::rx(first(&joined), 0, &lcore)).is_empty());
}

#[test]
fn record_cut_by_a_full_disk_is_taken_back_unless_somebody_wrote_since() {
    let files = Files::new();
    let record = |len: usize| {
        let mut bytes = record_header(
            Stamp::Nano,
            std::time::Duration::ZERO,
            u32::try_from(len).unwrap(),
        )
        .to_vec();
        bytes.resize(16 + len, 7);
        bytes
    };
    let counters = || {
        let records: &'static eal::queue::QueueRecord = Box::leak(Box::default());
        let detail: &'static [Counter; 16] = Box::leak(Box::default());
        crate::stats::QueueCounters::new(records, detail)
    };
    let lens = [16 + 60, 16 + 100, 16 + 60];
    for (written, whole, rest) in [
        (76 + 50, 1, 76),
        (76 + 8, 1, 76),
        (76 + 116 + 75, 2, 76 + 116),
        (0, 0, 0),
        (76, 1, 76),
    ] {
        let all = [record(60), record(100), record(60)].concat();
        let path = files.write("full", &all[..written]);
        let file = fs::OpenOptions::new()
            .read(true)
            .append(true)
            .open(&path)
            .unwrap();
        let queue = super::write::PcapTx::new(counters(), file, path.clone().into(), Stamp::Nano);
        assert_eq!(queue.take_back(&lens, written), whole);
        assert_eq!(fs::metadata(&path).unwrap().len(), rest, "{written}");
    }
    // Another writer's record behind ours: its end is not ours to cut.
    let ours = record(60);
    let path = files.write("full", &[&ours[..50], &record(900)].concat());
    let file = fs::OpenOptions::new()
        .read(true)
        .append(true)
        .open(&path)
        .unwrap();
    let queue = super::write::PcapTx::new(counters(), file, path.clone().into(), Stamp::Nano);
    assert_eq!(queue.take_back(&[76], 50), 0);
    assert_eq!(fs::metadata(&path).unwrap().len(), 50 + 916);
}
