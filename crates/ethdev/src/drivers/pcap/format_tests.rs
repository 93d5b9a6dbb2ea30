//! Tests of the capture file formats.

use proptest::prelude::*;

use super::*;

fn pcap(stamp: Stamp, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = file_header(stamp).to_vec();
    for (number, frame) in frames.iter().enumerate() {
        let time = Duration::new(1_700_000_000 + number as u64, 123_456_789);
        file.extend(record_header(
            stamp,
            time,
            u32::try_from(frame.len()).unwrap(),
        ));
        file.extend(frame);
    }
    file
}

/// A pcapng file in either byte order.
struct PcapNg {
    bytes: Vec<u8>,
    big_endian: bool,
}

impl PcapNg {
    fn new(big_endian: bool) -> Self {
        let mut file = Self {
            bytes: Vec::new(),
            big_endian,
        };
        let body = [
            file.word(BYTE_ORDER),
            file.half(1),
            file.half(0),
            vec![0xff; 8],
        ]
        .concat();
        file.block(SECTION, &body);
        file
    }

    fn word(&self, value: u32) -> Vec<u8> {
        if self.big_endian {
            value.to_be_bytes().to_vec()
        } else {
            value.to_le_bytes().to_vec()
        }
    }

    fn half(&self, value: u16) -> Vec<u8> {
        if self.big_endian {
            value.to_be_bytes().to_vec()
        } else {
            value.to_le_bytes().to_vec()
        }
    }

    fn block(&mut self, kind: u32, body: &[u8]) {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let len = self.word(u32::try_from(12 + body.len() + padding.len()).unwrap());
        let kind = self.word(kind);
        self.bytes
            .extend([kind, len.clone(), body.to_vec(), padding, len].concat());
    }

    fn interface(&mut self, link: u16, snaplen: u32) {
        let body = [self.half(link), self.half(0), self.word(snaplen)].concat();
        self.block(INTERFACE, &body);
    }

    fn enhanced(&mut self, interface: u32, frame: &[u8]) {
        let len = self.word(u32::try_from(frame.len()).unwrap());
        let padded = [
            frame,
            &vec![0; frame.len().next_multiple_of(4) - frame.len()],
        ]
        .concat();
        // Option 2 (flags), four bytes, then the end of options.
        let options = [
            self.half(2),
            self.half(4),
            self.word(1),
            self.half(0),
            self.half(0),
        ]
        .concat();
        let body = [
            self.word(interface),
            self.word(0),
            self.word(7),
            len.clone(),
            len,
            padded,
            options,
        ]
        .concat();
        self.block(ENHANCED_PACKET, &body);
    }

    fn simple(&mut self, original_len: u32, frame: &[u8]) {
        let body = [self.word(original_len), frame.to_vec()].concat();
        self.block(SIMPLE_PACKET, &body);
    }
}

/// All frames, and what ended them. Never more than the file could hold.
fn read(file: &[u8]) -> (Vec<Vec<u8>>, Option<Malformed>) {
    let mut frames = Vec::new();
    let mut reader = match Reader::open(file) {
        Ok(reader) => reader,
        Err(malformed) => return (frames, Some(malformed)),
    };
    for _ in 0..=file.len() {
        match reader.next_frame() {
            Ok(Some(frame)) => frames.push(frame.to_vec()),
            Ok(None) => return (frames, None),
            Err(malformed) => return (frames, Some(malformed)),
        }
    }
    panic!("more frames than bytes");
}

#[test]
fn frames_come_back_from_every_kind_of_pcap() {
    let frames = vec![vec![1; 60], vec![2; 1514], vec![], vec![3; FRAME_MAX]];
    for stamp in [Stamp::Micro, Stamp::Nano] {
        let (read_back, end) = read(&pcap(stamp, &frames));
        assert!(end.is_none());
        assert_eq!(read_back, frames);
    }
    for magic in [0xa1b2_c3d4_u32, 0xa1b2_3c4d] {
        let mut file = magic.to_be_bytes().to_vec();
        file.extend([
            0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1,
        ]);
        for len in [60_u32, 61] {
            for word in [5, 6, len, len] {
                file.extend(word.to_be_bytes());
            }
            file.extend(vec![9; len as usize]);
        }
        let (read_back, end) = read(&file);
        assert!(end.is_none(), "{end:?}");
        assert_eq!(read_back, [vec![9; 60], vec![9; 61]]);
    }
}

#[test]
fn header_that_is_written_names_its_unit_and_ethernet() {
    for (stamp, nano) in [(Stamp::Micro, false), (Stamp::Nano, true)] {
        let bytes = file_header(stamp);
        let (_, header) = pcap_parser::parse_pcap_header(&bytes).unwrap();
        assert_eq!(
            (
                header.is_nanosecond_precision(),
                header.network,
                header.snaplen
            ),
            (nano, Linktype::ETHERNET, 262_144)
        );
    }
    let time = Duration::new(7, 123_456_789);
    let record = |stamp| {
        let bytes = record_header(stamp, time, 0);
        let (_, record) = pcap_parser::parse_pcap_frame(&bytes).unwrap();
        (record.ts_sec, record.ts_usec)
    };
    assert_eq!(
        (record(Stamp::Micro), record(Stamp::Nano)),
        ((7, 123_456), (7, 123_456_789))
    );
}

#[test]
fn frames_come_back_from_pcapng_in_both_byte_orders() {
    for big_endian in [false, true] {
        let mut file = PcapNg::new(big_endian);
        file.interface(1, 0);
        file.interface(1, 65_535);
        file.enhanced(0, &[1; 61]);
        // A statistics block, and a custom block larger than the window.
        file.block(5, &[0; 12]);
        file.block(0xbad, &vec![7; WINDOW_LEN + 100]);
        file.enhanced(1, &[2; 60]);
        file.simple(99, &[3; 99]);
        // A second section forgets the interfaces of the first; the order may change.
        let mut second = PcapNg::new(!big_endian);
        second.interface(1, 64);
        second.simple(1514, &[4; 64]);
        file.bytes.extend(second.bytes);
        let (frames, end) = read(&file.bytes);
        assert!(end.is_none(), "{end:?}");
        assert_eq!(frames, [vec![1; 61], vec![2; 60], vec![3; 99], vec![4; 64]]);
    }
}

#[test]
fn what_is_no_capture_is_told_with_place_and_reason() {
    let mut foreign = file_header(Stamp::Micro);
    foreign[20] = 113;
    let mut ng_link = PcapNg::new(false);
    ng_link.interface(113, 0);
    ng_link.enhanced(0, &[0; 60]);
    let mut no_interface = PcapNg::new(true);
    no_interface.enhanced(3, &[0; 60]);
    let mut odd = PcapNg::new(false);
    odd.bytes
        .extend([0xad, 0x0b, 0, 0, 13, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut too_long = pcap(Stamp::Nano, &[]);
    too_long.extend([[0; 4], [0; 4], [0xff; 4], [0xff; 4]].concat());
    for (file, text) in [
        (&b""[..], "at byte 0: neither pcap nor pcapng"),
        (
            b"GET / HTTP/1.1\r\n\r\nand so on and on",
            "at byte 0: neither pcap nor pcapng",
        ),
        (
            &file_header(Stamp::Micro)[..20],
            "at byte 0: the file is cut short",
        ),
        (&foreign, "at byte 0: link type 113 is not Ethernet"),
        (&ng_link.bytes, "at byte 48: link type 113 is not Ethernet"),
        (&no_interface.bytes, "at byte 28: a packet of interface 3"),
        (
            &odd.bytes,
            "at byte 28: a block of type 0xbad with length 13",
        ),
        (&too_long, "at byte 24: a frame of 4294967295 bytes"),
    ] {
        let error = Reader::open(file).unwrap_err().to_string();
        assert!(error.starts_with(text), "{error}");
        assert!(error.contains("; "), "no remedy: {error}");
    }
}

#[test]
fn frames_before_the_damage_are_read() {
    let whole = pcap(Stamp::Nano, &[vec![1; 60], vec![2; 60], vec![3; 60]]);
    let (frames, end) = read(&whole[..whole.len() - 1]);
    assert_eq!(frames.len(), 2);
    let end = end.unwrap();
    assert!(
        matches!(
            end,
            Malformed {
                offset: 176,
                damage: Damage::Truncated
            }
        ),
        "{end:?}"
    );
}

#[test]
fn damage_is_told_again_and_again() {
    let whole = pcap(Stamp::Nano, &[vec![1; 60], vec![2; 60]]);
    let mut reader = Reader::open(&whole[..whole.len() - 1]).unwrap();
    assert!(reader.next_frame().unwrap().is_some());
    for _ in 0..3 {
        assert_eq!(reader.next_frame().unwrap_err().offset, 100);
    }
}

#[test]
fn rewound_file_starts_over() {
    let whole = pcap(Stamp::Micro, &[vec![1; 60], vec![2; 61]]);
    let mut reader = Reader::open(&whole[..]).unwrap();
    for _ in 0..3 {
        assert_eq!(reader.next_frame().unwrap(), Some(&[1; 60][..]));
        assert_eq!(reader.next_frame().unwrap(), Some(&[2; 61][..]));
        assert_eq!(reader.next_frame().unwrap(), None);
        reader.rewind().unwrap();
    }
}

/// Valid files with bytes flipped, so that the parsers behind the first checks are reached.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let frames = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..5);
    let flips = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (
        frames,
        flips,
        0..4,
        any::<prop::sample::Index>(),
        any::<bool>(),
    )
        .prop_map(|(frames, flips, kind, cut, cuts)| {
            let mut file = match kind {
                0 => pcap(Stamp::Micro, &frames),
                1 => pcap(Stamp::Nano, &frames),
                kind => {
                    let mut file = PcapNg::new(kind == 3);
                    file.interface(1, 0);
                    for frame in &frames {
                        file.enhanced(0, frame);
                        file.simple(u32::try_from(frame.len()).unwrap(), frame);
                        file.block(4, frame);
                    }
                    file.bytes
                }
            };
            for (place, byte) in flips {
                let place = place.index(file.len());
                file[place] = byte;
            }
            if cuts {
                file.truncate(cut.index(file.len()));
            }
            file
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_end(file in proptest::collection::vec(any::<u8>(), 0..400)) {
        read(&file);
    }

    #[test]
    fn damaged_files_end(file in damaged()) {
        let (frames, _) = read(&file);
        prop_assert!(frames.iter().map(Vec::len).sum::<usize>() <= file.len());
    }

    #[test]
    fn what_is_written_is_read_back(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 0..20), nano: bool) {
        let (read_back, end) = read(&pcap(if nano { Stamp::Nano } else { Stamp::Micro }, &frames));
        prop_assert!(end.is_none());
        prop_assert_eq!(read_back, frames);
    }
}
