//! The frames of the storm: Ethernet, IPv4 and UDP, and in it a number and a checksum.
//!
//! No kernel looks at them: their Ethernet address is nobody's, so that a byte that was changed on the way is not dropped
//! before it is counted.
//!
//! ```text
//! 0          14     34    42       50       58         66 ...
//! | Ethernet | IPv4 | UDP | stream | number | checksum | filling that follows from the number
//! ```

use super::random::mix;

/// The longest frame, at an MTU of 9000.
pub const FRAME_MAX: usize = 9014;
/// Source ports in turn: as many flows.
pub const FLOWS: u64 = 64;

const IP: usize = 14;
const UDP: usize = IP + 20;
const STREAM: usize = UDP + 8;
const NUMBER: usize = STREAM + 8;
const CHECKSUM: usize = NUMBER + 8;
const FILLING: usize = CHECKSUM + 8;

/// Addresses of nobody: locally administered, and a network that no host has.
const ETHERNET: [u8; IP] = [2, 0, 0, 0, 0, 0xbb, 2, 0, 0, 0, 0, 0xaa, 8, 0];

/// What a frame is to the storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// One of the stream, as it was sent.
    Number(u64),
    /// What the hosts say on their own behalf.
    Other,
    /// Neither: it was changed on the way, or is in the wrong place.
    Damaged,
}

/// How long frame `number` is: mostly short, often full, now and then so long that it takes several buffers.
pub fn len(number: u64) -> usize {
    let random = mix(number ^ 0x1e46);
    let range = match random % 8 {
        0 => 2000..FRAME_MAX,
        1..=3 => FILLING..200,
        _ => FILLING..1514,
    };
    let width = u64::try_from(range.len()).unwrap_or(1);
    range.start + usize::try_from((random >> 8) % width).unwrap_or(0)
}

/// Writes frame `number` of `stream` and says how long it is.
pub fn write(frame: &mut [u8; FRAME_MAX], stream: u64, number: u64) -> usize {
    let len = len(number);
    let frame = &mut frame[..len];
    let of = |from: usize| u16::try_from(len - from).unwrap_or(u16::MAX).to_be_bytes();
    let (flow, ip_len, udp_len) = ((number % FLOWS).to_le_bytes()[0], of(IP), of(UDP));
    frame[..IP].copy_from_slice(&ETHERNET);
    let mut ip = [
        0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2,
    ];
    ip[2..4].copy_from_slice(&ip_len);
    let sum = ip_checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    frame[IP..UDP].copy_from_slice(&ip);
    // No UDP checksum: ours is the better one.
    frame[UDP..STREAM].copy_from_slice(&[0xc0, flow, 0x13, 0x88, udp_len[0], udp_len[1], 0, 0]);
    frame[STREAM..NUMBER].copy_from_slice(&stream.to_be_bytes());
    frame[NUMBER..CHECKSUM].copy_from_slice(&number.to_be_bytes());
    for (at, chunk) in (0_u64..).zip(frame[FILLING..].chunks_mut(8)) {
        let word = (number ^ stream).wrapping_mul(0x2545_f491_4f6c_dd1d) ^ at;
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    let sum = checksum(frame);
    frame[CHECKSUM..FILLING].copy_from_slice(&sum.to_be_bytes());
    len
}

/// What a frame is that arrived where `stream` ends.
pub fn read(frame: &[u8], stream: u64) -> Seen {
    let word = |at: usize| {
        let bytes = frame.get(at..at + 8)?.try_into().ok()?;
        Some(u64::from_be_bytes(bytes))
    };
    let intact = frame.len() >= FILLING && word(CHECKSUM) == Some(checksum(frame));
    match (word(STREAM), word(NUMBER)) {
        (Some(found), Some(number)) if intact && found == stream && len(number) == frame.len() => {
            Seen::Number(number)
        }
        _ if is_of_a_host(frame) => Seen::Other,
        _ => Seen::Damaged,
    }
}

/// ARP, IPv6, and IPv4 from the hosts' own network.
fn is_of_a_host(frame: &[u8]) -> bool {
    let kind = frame.get(12..14);
    let is_ip = kind == Some(&[0x08, 0x00]) && frame.get(26..29) == Some(&[10, 0, 0]);
    is_ip || kind == Some(&[0x08, 0x06]) || kind == Some(&[0x86, 0xdd])
}

/// Over everything but the checksum itself. `frame` is long enough to have one.
fn checksum(frame: &[u8]) -> u64 {
    let words = frame[..CHECKSUM]
        .chunks(8)
        .chain(frame[FILLING..].chunks(8));
    words.fold(0xcbf2_9ce4_8422_2325, |sum: u64, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum ^ u64::from_le_bytes(word))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
    })
}

/// RFC 1071.
fn ip_checksum(header: &[u8; 20]) -> [u8; 2] {
    let words = header
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from(folded).map_or(0, |sum| !sum).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_reads_back_and_a_flipped_bit_is_found() {
        let mut buffer = [0; FRAME_MAX];
        for number in 0..64 {
            let len = write(&mut buffer, 5, number);
            assert_eq!(read(&buffer[..len], 5), Seen::Number(number));
            assert_eq!(read(&buffer[..len], 6), Seen::Damaged, "another stream");
            assert_eq!(read(&buffer[..len - 1], 5), Seen::Damaged, "cut off");
            for at in (0..len).step_by(7).filter(|at| !(12..30).contains(at)) {
                buffer[at] ^= 1;
                assert_eq!(read(&buffer[..len], 5), Seen::Damaged, "byte {at}");
                buffer[at] ^= 1;
            }
        }
    }

    #[test]
    fn frames_of_all_lengths_occur_and_hosts_are_not_counted() {
        let lens: Vec<_> = (0..1000).map(len).collect();
        assert!(lens.iter().any(|len| *len > 8000) && lens.iter().any(|len| *len < 100));
        assert!(lens.iter().all(|len| (FILLING..=FRAME_MAX).contains(len)));
        let mut arp = [0; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(read(&arp, 5), Seen::Other);
        assert_eq!(read(&[0; 60], 5), Seen::Damaged);
    }
}
