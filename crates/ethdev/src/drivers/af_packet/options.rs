//! What a user may say of a port, named as DPDK's `net_af_packet` names it.

use rustix::param::page_size;

use super::blocks::RETIRE_MS;
use super::sys::Geometry;
use crate::args::{DevArgs, Key};
use crate::driver::Driver;
use crate::error::Error;

/// What `--help` shows.
pub(super) const USAGE: &str = "net_af_packet0,iface=NAME[,qpairs=N][,blocksz=BYTES][,framesz=BYTES][,framecnt=N][,qdisc_bypass=0|1][,fanout_mode=hash|lb|cpu|rollover|rnd|qm]";

/// The keys above.
pub(super) const KEYS: [Key; 7] = [
    Key::once("iface"),
    Key::once("qpairs"),
    Key::once("blocksz"),
    Key::once("framesz"),
    Key::once("framecnt"),
    Key::once("qdisc_bypass"),
    Key::once("fanout_mode"),
];

/// The largest frame there is: 64 KiB that are still to be cut, with Ethernet header and two tags.
pub(super) const FRAME_LEN_MAX: u32 = 65_536 + 14 + 8;
/// Octets of a block that are not its first frame's, rounded up: both headers, link address, `virtio_net_hdr`.
pub(super) const BLOCK_OVERHEAD: u32 = 48 + 112;

/// Holds the largest frame, and is small enough for 32 of them in 4 MiB.
const BLOCK_LEN: u32 = 128 << 10;
const BLOCK_LEN_MAX: u32 = 4 << 20;
/// As in DPDK. In a ring of version 3 frames are as long as they are, so this and the next only say how large the ring is.
const FRAME_LEN: u32 = 2048;
/// Four times DPDK's: 4 MiB a queue, twenty thousand small packets under load. Of a few packets each may take a block until its
/// time is over: then the ring holds what comes in 32 times that, an eighth of a second where blocks are looked into. A successor
/// has to be there by then.
const FRAME_COUNT: u32 = 2048;
const RING_LEN_MAX: u64 = 1 << 30;

/// How the kernel picks a queue for a frame, by the names of DPDK.
const FANOUT_MODES: [(&str, u32); 6] = [
    ("hash", libc::PACKET_FANOUT_HASH),
    ("lb", libc::PACKET_FANOUT_LB),
    ("cpu", libc::PACKET_FANOUT_CPU),
    ("rollover", libc::PACKET_FANOUT_ROLLOVER),
    ("rnd", libc::PACKET_FANOUT_RND),
    ("qm", libc::PACKET_FANOUT_QM),
];

/// The keys of a port, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    /// The kernel interface.
    pub interface: String,
    /// Most RX queues, if that was said.
    pub queue_pairs: Option<u16>,
    /// The receive ring of each queue.
    pub geometry: Geometry,
    /// Frames that the user thinks the ring holds.
    pub frame_count: u32,
    /// Whether what is sent passes over the interface's queueing discipline.
    pub qdisc_bypass: bool,
    /// How frames are spread over queues.
    pub fanout: u32,
}

impl Options {
    /// Checks the values.
    pub(super) fn parse(
        args: &DevArgs,
        driver: &dyn Driver,
        queues_max: u16,
    ) -> Result<Self, Error> {
        let interface = args.required("iface", driver)?.to_owned();
        let page = u32::try_from(page_size()).unwrap_or(4096);
        let block_len = args
            .number("blocksz", page..=BLOCK_LEN_MAX)?
            .unwrap_or(BLOCK_LEN.max(page));
        if !block_len.is_multiple_of(page) {
            return Err(args.bad_value(
                "blocksz",
                format!("not a multiple of the page size, {page}"),
            ));
        }
        let frame_len = args
            .number("framesz", 128..=block_len)?
            .unwrap_or(FRAME_LEN.min(block_len));
        if !frame_len.is_multiple_of(16) {
            return Err(args.bad_value("framesz", "not a multiple of 16"));
        }
        let frame_count = args.number("framecnt", 1..=1 << 20)?.unwrap_or(FRAME_COUNT);
        let ring_len = u64::from(frame_len) * u64::from(frame_count);
        if ring_len > RING_LEN_MAX {
            return Err(args.bad_value(
                "framecnt",
                format!(
                    "with framesz={frame_len} a ring of more than 1 GiB; at most {}",
                    RING_LEN_MAX / u64::from(frame_len)
                ),
            ));
        }
        // Two at least: one to read while the kernel fills the other.
        let block_count = u32::try_from(ring_len / u64::from(block_len))
            .unwrap_or(u32::MAX)
            .max(2);
        let fanout = match args.get("fanout_mode") {
            None => libc::PACKET_FANOUT_HASH,
            Some(name) => FANOUT_MODES
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, mode)| *mode)
                .ok_or_else(|| {
                    args.bad_value(
                        "fanout_mode",
                        format!(
                            "not one of {}",
                            FANOUT_MODES.map(|(known, _)| known).join(", ")
                        ),
                    )
                })?,
        };
        Ok(Self {
            interface,
            queue_pairs: args.number("qpairs", 1..=queues_max)?,
            geometry: Geometry {
                block_len,
                block_count,
                frame_len,
                retire_ms: RETIRE_MS,
            },
            frame_count,
            qdisc_bypass: args.flag("qdisc_bypass")?,
            fanout,
        })
    }

    /// The largest frame that a block holds, if that is not every frame.
    pub(super) fn frame_limit(&self) -> Option<u32> {
        let limit = self.geometry.block_len - BLOCK_OVERHEAD;
        (limit < FRAME_LEN_MAX).then_some(limit)
    }
}
