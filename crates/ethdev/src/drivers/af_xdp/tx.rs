//! The sending half of a queue: frames go to the kernel as they lie, and come back when they are sent.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use eal::queue::QueueRecord;
use mbuf::checksum::complete;
use mbuf::{Burst, Lcore, Mbuf, OffloadFlags, Pool};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use super::rings::Half;
use super::rx::settle_renewed;
use crate::driver::{QueueContext, TxQueue};
use crate::drivers::vnet::outgoing::complete_ip;
use crate::stats::{DropReason, QueueCounters, QueueState};

/// How often the kernel is told of what it did not take at once. It sends 32 frames a call where it copies them.
const KICKS: usize = 64;
/// Bursts of what is sent that are looked after before each burst.
const DONE_BURSTS: usize = 4;
/// Where a VLAN tag goes.
const TAG_AT: usize = 12;

/// The sending half of a queue.
#[derive(Debug)]
pub(super) struct XdpTx {
    half: Half,
    fd: Arc<OwnedFd>,
    pool: Pool,
    record: &'static QueueRecord,
    counters: QueueCounters,
    /// Whether what the last owner left was looked after.
    is_adopted: bool,
}

impl XdpTx {
    /// Goes on where the queue's last owner stopped.
    pub(super) fn new(half: Half, fd: Arc<OwnedFd>, pool: Pool, cx: &QueueContext) -> Self {
        Self {
            half,
            fd,
            pool,
            record: cx.record,
            counters: cx.counters,
            is_adopted: false,
        }
    }

    #[cold]
    fn adopt(&mut self, lcore: &Lcore) {
        let queue = self.half.sending();
        settle_renewed(lcore, self.pool, self.record, queue.holder);
        queue.adopt(lcore);
        self.is_adopted = true;
    }

    /// Frees what was sent.
    fn take_done(&self, lcore: &Lcore) {
        for _ in 0..DONE_BURSTS {
            if !self.half.has_taken() {
                return;
            }
            let mut done = Burst::new(lcore);
            self.half.sending().take(lcore, &mut done);
        }
    }

    /// Tells the kernel to send, until it has taken all or has no room.
    fn kick(&self) {
        for _ in 0..KICKS {
            if !self.half.has_given() || !self.half.wants_wakeup() {
                return;
            }
            match send(&*self.fd, &[], SendFlags::DONTWAIT) {
                // Some were sent; or the call was interrupted, or what was sent before is not away yet.
                Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::BUSY) => {}
                // The ring of what was sent is full, or memory: what waits is sent with the next burst.
                Err(Errno::NOBUFS | Errno::NOMEM) => return,
                Err(error) => {
                    if error != Errno::NETDOWN {
                        let code = u64::from(error.raw_os_error().unsigned_abs());
                        self.counters.set_state(QueueState::Gone, code);
                    }
                    return;
                }
            }
        }
    }

    /// Makes a packet that cannot be given as it is one that can, in the pool's frames; or counts why that cannot be. `None` where
    /// there is no buffer for it now.
    #[cold]
    fn make_ready<'c>(&self, mbuf: &Mbuf<'c>) -> Option<Result<Mbuf<'c>, DropReason>> {
        let flags = mbuf.flags();
        if flags.intersects(OffloadFlags::GSO) {
            return Some(Err(DropReason::TooLong));
        }
        let mut copy = mbuf.lcore().alloc(self.pool)?;
        let tag = if flags.contains(OffloadFlags::TX_VLAN_INSERT) {
            4
        } else {
            0
        };
        let len = mbuf.packet_len();
        if len < TAG_AT {
            return Some(Err(DropReason::Malformed));
        }
        let Some(bytes) = copy.append(len + tag) else {
            return Some(Err(DropReason::TooLong));
        };
        let head = mbuf.copy_out(0, &mut bytes[..TAG_AT]);
        if tag > 0 {
            let [high, low] = mbuf.vlan_tci().to_be_bytes();
            bytes[TAG_AT..TAG_AT + 4].copy_from_slice(&[0x81, 0, high, low]);
        }
        let rest = mbuf.copy_out(TAG_AT, &mut bytes[TAG_AT + tag..]);
        if head + rest != len {
            return Some(Err(DropReason::Malformed));
        }
        if flags.intersects(OffloadFlags::TX_L4_CSUM | OffloadFlags::TX_IP_CSUM) {
            let mut offload = mbuf.offload();
            let shift = u16::try_from(tag).unwrap_or(0);
            offload.csum_start = offload.csum_start.saturating_add(shift);
            copy.set_offload(offload);
            copy.set_flags(flags.without(OffloadFlags::TX_VLAN_INSERT));
            let summed = complete(&mut copy).is_ok()
                && (!flags.contains(OffloadFlags::TX_IP_CSUM) || complete_ip(&mut copy).is_ok());
            if !summed {
                return Some(Err(DropReason::Checksum));
            }
        }
        Some(Ok(copy))
    }
}

impl TxQueue for XdpTx {
    fn tx_burst(&mut self, burst: &mut Burst<'_>) -> usize {
        let lcore = burst.lcore();
        if !self.is_adopted {
            self.adopt(lcore);
        }
        self.take_done(lcore);
        let before = burst.len();
        let queue = self.half.sending();
        loop {
            queue.give(burst);
            if burst.is_empty() || queue.room() == 0 {
                break;
            }
            // The first of what is left cannot be given as it is.
            let mut first = burst.take_front(1);
            let Some(mbuf) = first.pop() else { break };
            match self.make_ready(&mbuf) {
                None => {
                    // Back to the front: there is no buffer now.
                    let mut back = Burst::new(lcore);
                    drop(back.push(mbuf));
                    back.append(burst);
                    burst.append(&mut back);
                    break;
                }
                Some(Err(reason)) => self.counters.dropped_taken(reason, &mbuf),
                Some(Ok(copy)) => {
                    let mut ready = Burst::new(lcore);
                    drop(ready.push(copy));
                    queue.give(&mut ready);
                }
            }
        }
        self.kick();
        before - burst.len()
    }
}

impl Drop for XdpTx {
    fn drop(&mut self) {
        // What is left in the rings is the next owner's.
        self.kick();
    }
}
