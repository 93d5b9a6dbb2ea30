//! `virtio_net_hdr`: what a frame still needs done to it, before it may go on a wire. For all drivers whose frames carry one.
//!
//! ```text
//! octet | 0 flags | 1 kind | 2 header length | 4 segment size | 6 checksum start | 8 checksum offset |
//! ```
//!
//! Numbers are in the machine's order: `PACKET_VNET_HDR` and a TAP mean the old form of the header unless told otherwise. A frame
//! that another host of this machine sent comes with its checksum open and larger than the MTU; forwarded with the same header it
//! goes on so, and whoever needs it complete (a wire, a stack) completes it. What the header has no words for is done in
//! software: [`outgoing`].

pub(super) mod outgoing;

use mbuf::{Mbuf, OffloadFlags, TxOffload};

/// Octets of a `virtio_net_hdr` in its short form: without the count of buffers.
pub(super) const VNET_HEADER_LEN: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_F_DATA_VALID`
const CHECKSUM_GOOD: u8 = 2;
/// `VIRTIO_NET_HDR_GSO_TCPV4`
const TCP4: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_UDP`: to be cut into IP fragments. Kernels make these no more.
const UDP_FRAGMENTS: u8 = 3;
/// `VIRTIO_NET_HDR_GSO_TCPV6`
const TCP6: u8 = 4;
/// `VIRTIO_NET_HDR_GSO_UDP_L4`
const UDP: u8 = 5;
/// `VIRTIO_NET_HDR_GSO_ECN`: joins one of the above.
const ECN: u8 = 0x80;

/// Notes in `mbuf` what the kernel says of the frame; `shift` octets were put in ahead of what the header counts.
pub(super) fn note(header: [u8; VNET_HEADER_LEN], shift: u16, mbuf: &mut Mbuf<'_>) {
    let [flags, kind, l0, l1, z0, z1, s0, s1, o0, o1] = header;
    if flags & (NEEDS_CHECKSUM | CHECKSUM_GOOD) == 0 && kind == 0 {
        return;
    }
    let number = |a, b| u16::from_ne_bytes([a, b]);
    let mut noted = mbuf.flags();
    let mut offload = TxOffload::default();
    if flags & NEEDS_CHECKSUM != 0 {
        noted |= OffloadFlags::TX_L4_CSUM;
        offload.csum_start = number(s0, s1).saturating_add(shift);
        offload.csum_offset = number(o0, o1);
    } else if flags & CHECKSUM_GOOD != 0 {
        noted |= OffloadFlags::RX_L4_GOOD;
    }
    if kind != 0 {
        noted |= match kind & !ECN {
            TCP4 => OffloadFlags::GSO_TCP4,
            TCP6 => OffloadFlags::GSO_TCP6,
            _ => OffloadFlags::GSO_UDP,
        };
        if kind & ECN != 0 {
            noted |= OffloadFlags::GSO_ECN;
        }
        offload.gso_type = kind;
        offload.gso_size = number(z0, z1);
        offload.hdr_len = header_len(mbuf.data(), kind & !ECN, offload.csum_start)
            .unwrap_or(number(l0, l1).saturating_add(shift));
    }
    mbuf.set_flags(noted);
    mbuf.set_offload(offload);
}

/// Octets of all headers of a large frame. The kernel says how much it had in one piece, which may be all of it.
fn header_len(frame: &[u8], kind: u8, transport: u16) -> Option<u16> {
    if !matches!(kind, TCP4 | TCP6) {
        return transport.checked_add(8).filter(|_| transport != 0);
    }
    let words = frame.get(usize::from(transport) + 12)? >> 4;
    transport
        .checked_add(u16::from(words) * 4)
        .filter(|_| transport != 0 && words >= 5)
}

/// The header to send `mbuf` with, if `shift` octets are put in behind its addresses. The kernel checks it against the frame.
pub(super) fn header(mbuf: &Mbuf<'_>, shift: u16) -> [u8; VNET_HEADER_LEN] {
    let flags = mbuf.flags();
    let wanted = OffloadFlags::TX_L4_CSUM | OffloadFlags::GSO;
    if !flags.intersects(wanted) {
        return [0; VNET_HEADER_LEN];
    }
    let offload = mbuf.offload();
    let mut header = [0; VNET_HEADER_LEN];
    let mut put =
        |at: usize, number: u16| header[at..at + 2].copy_from_slice(&number.to_ne_bytes());
    if flags.intersects(OffloadFlags::TX_L4_CSUM) {
        put(6, offload.csum_start.saturating_add(shift));
        put(8, offload.csum_offset);
    }
    if flags.intersects(OffloadFlags::GSO) {
        put(2, offload.hdr_len.saturating_add(shift));
        put(4, offload.gso_size);
        header[1] = if flags.intersects(OffloadFlags::GSO_TCP4) {
            TCP4
        } else if flags.intersects(OffloadFlags::GSO_TCP6) {
            TCP6
        } else if offload.gso_type & !ECN == UDP_FRAGMENTS {
            UDP_FRAGMENTS
        } else {
            UDP
        };
        if flags.contains(OffloadFlags::GSO_ECN) {
            header[1] |= ECN;
        }
    }
    if flags.intersects(OffloadFlags::TX_L4_CSUM) {
        header[0] = NEEDS_CHECKSUM;
    }
    header
}
