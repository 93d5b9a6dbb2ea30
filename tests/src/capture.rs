//! pcap and pcapng files, written and read by hand, so that the driver's reader and writer are
//! compared with something else than themselves.

use std::fs;
use std::path::Path;

/// Which of the formats a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The classic one, little-endian, microseconds.
    Pcap,
    /// The classic one, big-endian, nanoseconds.
    PcapBigEndianNano,
    /// pcapng: a section, an interface, and an enhanced block for each packet.
    PcapNg,
}

/// All formats.
pub const FORMATS: [Format; 3] = [Format::Pcap, Format::PcapBigEndianNano, Format::PcapNg];

/// Writes `packets` to a file, a millisecond apart.
///
/// # Panics
///
/// If it cannot be written.
pub fn write(path: &Path, format: Format, packets: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    match format {
        Format::Pcap => {
            bytes.extend(0xa1b2_c3d4_u32.to_le_bytes());
            bytes.extend([2, 0, 4, 0]);
            bytes.extend([0; 8]);
            bytes.extend(262_144_u32.to_le_bytes());
            bytes.extend(1_u32.to_le_bytes());
            for (packet, time) in packets.iter().zip(0_u32..) {
                let len = len32(packet.len());
                for word in [1, time * 1000, len, len] {
                    bytes.extend(word.to_le_bytes());
                }
                bytes.extend(packet);
            }
        }
        Format::PcapBigEndianNano => {
            bytes.extend(0xa1b2_3c4d_u32.to_be_bytes());
            bytes.extend([0, 2, 0, 4]);
            bytes.extend([0; 8]);
            bytes.extend(262_144_u32.to_be_bytes());
            bytes.extend(1_u32.to_be_bytes());
            for (packet, time) in packets.iter().zip(0_u32..) {
                let len = len32(packet.len());
                for word in [1, time * 1_000_000, len, len] {
                    bytes.extend(word.to_be_bytes());
                }
                bytes.extend(packet);
            }
        }
        Format::PcapNg => {
            let mut section = 0x1a2b_3c4d_u32.to_le_bytes().to_vec();
            section.extend([1, 0, 0, 0]);
            section.extend([0xff; 8]);
            block(&mut bytes, 0x0a0d_0d0a, &section);
            block(&mut bytes, 1, &[1, 0, 0, 0, 0, 0, 4, 0]);
            for (packet, time) in packets.iter().zip(0_u32..) {
                let mut body = Vec::new();
                let len = len32(packet.len());
                for word in [0, 0, time * 1000, len, len] {
                    body.extend(word.to_le_bytes());
                }
                body.extend(packet);
                body.resize(body.len().next_multiple_of(4), 0);
                block(&mut bytes, 6, &body);
            }
        }
    }
    fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn block(bytes: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let len = len32(body.len() + 12);
    bytes.extend(kind.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    bytes.extend(body);
    bytes.extend(len.to_le_bytes());
}

fn len32(len: usize) -> u32 {
    u32::try_from(len).expect("test packets are short")
}

/// Reads the packets of a classic little-endian file.
///
/// # Panics
///
/// If it cannot be read, or is something else.
pub fn read(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let word = |at: usize| -> u32 {
        let bytes = bytes
            .get(at..at + 4)
            .and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(u32::from_le_bytes)
            .unwrap_or_else(|| panic!("{} is cut short", path.display()))
    };
    assert!(
        matches!(word(0), 0xa1b2_c3d4 | 0xa1b2_3c4d),
        "magic {:#x}",
        word(0)
    );
    assert_eq!(word(20), 1, "the link type is not Ethernet");
    let (mut packets, mut at) = (Vec::new(), 24);
    while at < bytes.len() {
        let (kept, len) = (word(at + 8), word(at + 12));
        assert_eq!(kept, len, "a packet was cut");
        let packet = bytes.get(at + 16..at + 16 + len as usize);
        packets.push(
            packet
                .unwrap_or_else(|| panic!("{} is cut short", path.display()))
                .to_vec(),
        );
        at += 16 + len as usize;
    }
    packets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcap");
        let packets = vec![vec![1; 60], vec![2; 61], vec![]];
        write(&path, Format::Pcap, &packets);
        assert_eq!(read(&path), packets);
    }

    #[test]
    fn blocks_of_pcapng_are_padded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        write(&path, Format::PcapNg, &[vec![1; 61]]);
        assert_eq!(fs::read(&path).unwrap().len() % 4, 0);
    }
}
