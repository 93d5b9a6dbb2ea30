//! Frames on their way out with a `virtio_net_hdr`: what the header cannot ask for is done here, and tags are put in.

use mbuf::checksum::checksum;
use mbuf::{Burst, Mbuf, OffloadFlags};

use super::{VNET_HEADER_LEN, header};
use crate::stats::{DropReason, QueueCounters};

/// Where a VLAN tag goes, and the type of a frame without one is: behind both addresses.
const TAG_AT: usize = 12;
/// Octets of a VLAN tag.
const TAG_LEN: u16 = 4;
/// Pieces by which a frame may have more than its segments: the first is cut in two, the tag between them.
pub(crate) const EXTRA_PIECES: usize = 2;

/// The tag to put into a frame, as [`pieces`] takes it. Of a frame that gets none it means nothing.
pub(crate) fn tag(mbuf: Option<&Mbuf<'_>>) -> [u8; TAG_LEN as usize] {
    let [high, low] = mbuf.map_or(0, Mbuf::vlan_tci).to_be_bytes();
    [0x81, 0, high, low]
}

/// The header to send a frame with, and its bytes: at most [`EXTRA_PIECES`] more than it has segments.
pub(crate) fn pieces<'p>(
    mbuf: &'p Mbuf<'_>,
    tag: &'p [u8; TAG_LEN as usize],
) -> ([u8; VNET_HEADER_LEN], impl Iterator<Item = &'p [u8]>) {
    let whole = mbuf.data();
    let wanted = mbuf.flags().contains(OffloadFlags::TX_VLAN_INSERT);
    let split = wanted.then(|| whole.split_at_checked(TAG_AT)).flatten();
    let (shift, front, unused): (_, [&[u8]; 3], _) = match split {
        Some((addresses, rest)) => (TAG_LEN, [addresses, tag, rest], 0),
        None => (0, [&[], &[], whole], 2),
    };
    let front = front.into_iter().skip(unused);
    (header(mbuf, shift), front.chain(mbuf.segments().skip(1)))
}

/// Does what the kernel cannot be asked for, and takes the frames with which that fails out of the burst and counts them. How
/// many those were.
pub(crate) fn prepare(burst: &mut Burst<'_>, counters: &QueueCounters) -> usize {
    if !burst.iter().any(|mbuf| wants_work(mbuf.flags())) {
        return 0;
    }
    let before = burst.len();
    let mut ready = Burst::new(burst.lcore());
    for mut mbuf in burst.drain() {
        let flags = mbuf.flags();
        let mut outcome = Ok(());
        if flags.contains(OffloadFlags::TX_IP_CSUM) {
            outcome = complete_ip(&mut mbuf);
        }
        if flags.contains(OffloadFlags::TX_VLAN_INSERT) && mbuf.len() < TAG_AT {
            outcome = Err(DropReason::Malformed);
        }
        match outcome {
            Ok(()) => drop(ready.push(mbuf)),
            Err(reason) => counters.dropped_taken(reason, &mbuf),
        }
    }
    burst.append(&mut ready);
    before - burst.len()
}

/// What is left to do to a frame, other than what `virtio_net_hdr` can ask of the kernel.
fn wants_work(flags: OffloadFlags) -> bool {
    flags.intersects(OffloadFlags::TX_IP_CSUM | OffloadFlags::TX_VLAN_INSERT)
}

/// Fills in the checksum of the IPv4 header, and takes the flag away. The kernel does that for no socket.
pub(crate) fn complete_ip(mbuf: &mut Mbuf<'_>) -> Result<(), DropReason> {
    let (start, len) = ip_header(mbuf.data()).ok_or(DropReason::Checksum)?;
    if mbuf.is_shared() {
        *mbuf = mbuf.clone_deep(mbuf.pool()).ok_or(DropReason::NoBuffer)?;
    }
    let header = mbuf
        .data_mut()
        .and_then(|data| data.get_mut(start..start + len))
        .ok_or(DropReason::Checksum)?;
    header[10..12].fill(0);
    let sum = checksum(header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    mbuf.set_flags(mbuf.flags().without(OffloadFlags::TX_IP_CSUM));
    Ok(())
}

/// Where the IPv4 header starts, behind up to two tags, and its length.
fn ip_header(frame: &[u8]) -> Option<(usize, usize)> {
    let mut at = TAG_AT;
    for _ in 0..=2 {
        match *frame.get(at..)?.first_chunk::<2>()? {
            [0x08, 0x00] => {
                let start = at + 2;
                let first = *frame.get(start)?;
                let len = usize::from(first & 15) * 4;
                let whole = frame.len() >= start + len;
                return (first >> 4 == 4 && len >= 20 && whole).then_some((start, len));
            }
            [0x81, 0x00] | [0x88, 0xa8] => at += usize::from(TAG_LEN),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_of_ipv4_is_found_behind_tags_and_nowhere_else() {
        let frame = |types: &[u8], first: u8, len: usize| {
            let mut frame = vec![2; TAG_AT];
            frame.extend_from_slice(types);
            frame.push(first);
            frame.resize(TAG_AT + types.len() + len, 0);
            frame
        };
        let plain = [8, 0];
        let twice = [0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0];
        assert_eq!(ip_header(&frame(&plain, 0x45, 20)), Some((14, 20)));
        assert_eq!(ip_header(&frame(&twice, 0x46, 24)), Some((22, 24)));
        assert_eq!(ip_header(&frame(&plain, 0x46, 23)), None, "cut");
        assert_eq!(ip_header(&frame(&plain, 0x44, 20)), None, "too short");
        assert_eq!(ip_header(&frame(&plain, 0x65, 40)), None, "version 6");
        assert_eq!(ip_header(&frame(&[0x86, 0xdd], 0x45, 40)), None);
        assert_eq!(ip_header(&[0; 13]), None);
    }
}
