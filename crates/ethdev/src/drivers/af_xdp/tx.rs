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
use super::socket::Socket;
use crate::driver::{QueueContext, TxQueue};
use crate::drivers::vnet::outgoing::complete_ip;
use crate::stats::{DropReason, QueueCounters, QueueState};

/// How often the kernel is told of what it did not take at once. It sends 32 frames a call where it copies them.
const KICKS: usize = 64;
/// Bursts of what is sent that are looked after before each burst.
const DONE_BURSTS: usize = 4;
/// Where a VLAN tag goes.
const TAG_AT: usize = 12;
/// Octets of one.
const TAG_LEN: usize = 4;

/// The sending half of a queue.
#[derive(Debug)]
pub(super) struct XdpTx {
    half: Half,
    fd: Arc<OwnedFd>,
    pool: Pool,
    record: &'static QueueRecord,
    counters: QueueCounters,
    /// Whether a packet may lie in several frames.
    scatters: bool,
    /// Whether what the last owner left was looked after.
    is_adopted: bool,
}

impl XdpTx {
    /// Goes on where the queue's last owner stopped.
    pub(super) fn new(half: Half, socket: Socket, cx: &QueueContext) -> Self {
        let Socket {
            fd, pool, scatters, ..
        } = socket;
        Self {
            half,
            fd,
            pool,
            scatters,
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

    /// Makes a packet that cannot be given as it is one that can, in frames of the pool; or says why that cannot be. `None` where
    /// there is no buffer for it now.
    #[cold]
    fn make_ready<'c>(&self, mbuf: &Mbuf<'c>) -> Option<Result<Burst<'c>, DropReason>> {
        let flags = mbuf.flags();
        if flags.intersects(OffloadFlags::GSO) {
            return Some(Err(DropReason::TooLong));
        }
        if !flags.intersects(OffloadFlags::TX_L4_CSUM | OffloadFlags::TX_IP_CSUM) {
            return self.copy(mbuf);
        }
        // Others may show the same bytes.
        let mut whole = mbuf.clone_deep(mbuf.pool())?;
        let summed = complete(&mut whole).is_ok()
            && (!flags.contains(OffloadFlags::TX_IP_CSUM) || complete_ip(&mut whole).is_ok());
        if summed {
            self.copy(&whole)
        } else {
            Some(Err(DropReason::Checksum))
        }
    }

    /// A packet in frames of the pool, its tag put in.
    fn copy<'c>(&self, mbuf: &Mbuf<'c>) -> Option<Result<Burst<'c>, DropReason>> {
        let len = mbuf.packet_len();
        if len < TAG_AT {
            return Some(Err(DropReason::Malformed));
        }
        let mut parts = Burst::new(mbuf.lcore());
        let mut from = 0;
        while from < len {
            if parts.room() == 0 || (from > 0 && !self.scatters) {
                return Some(Err(DropReason::TooLong));
            }
            let mut part = mbuf.lcore().alloc(self.pool)?;
            // The tag goes between the addresses and the rest of the first part.
            let is_tagged = from == 0 && mbuf.flags().contains(OffloadFlags::TX_VLAN_INSERT);
            let tag = if is_tagged { TAG_LEN } else { 0 };
            let now = part.tailroom().saturating_sub(tag).min(len - from);
            let bytes = part.append(now + tag)?;
            let copied = if is_tagged {
                let [high, low] = mbuf.vlan_tci().to_be_bytes();
                let (addresses, rest) = bytes.split_at_mut(TAG_AT);
                rest[..TAG_LEN].copy_from_slice(&[0x81, 0, high, low]);
                mbuf.copy_out(0, addresses) + mbuf.copy_out(TAG_AT, &mut rest[TAG_LEN..])
            } else {
                mbuf.copy_out(from, bytes)
            };
            // A pool that gives buffers without room would have us here for ever.
            if copied != now || now == 0 {
                return Some(Err(DropReason::Malformed));
            }
            from += now;
            drop(parts.push(part));
        }
        Some(Ok(parts))
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
                    put_back(burst, mbuf);
                    break;
                }
                Some(Err(reason)) => self.counters.dropped_taken(reason, &mbuf),
                Some(Ok(mut parts)) => {
                    if !queue.give_parts(&mut parts) {
                        put_back(burst, mbuf);
                        break;
                    }
                }
            }
        }
        self.kick();
        before - burst.len()
    }
}

/// Puts an mbuf that was taken from the front of a burst back there: there is no buffer for it now, or no room.
fn put_back<'c>(burst: &mut Burst<'c>, mbuf: Mbuf<'c>) {
    let mut all = Burst::new(burst.lcore());
    drop(all.push(mbuf));
    all.append(burst);
    burst.append(&mut all);
}

impl Drop for XdpTx {
    fn drop(&mut self) {
        // What is left in the rings is the next owner's.
        self.kick();
    }
}
