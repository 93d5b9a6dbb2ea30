//! `net_null`: makes packets from nothing, swallows what is sent. For measuring everything else.
//!
//! The bytes of a packet are whatever the buffer held before; with `copy=1` they are zeros, written, and what is sent is
//! read, so that memory is touched as a device's packets would.

use mbuf::{Burst, Lcore, Pool};

use crate::args::{DevArgs, Key, PortConfig};
use crate::capabilities::Capabilities;
use crate::driver::{
    self, Attach, Device, DeviceInfo, Driver, Handed, PortId, Probe, QueueContext, QueueId, Wakeup,
};
use crate::error::Error;
use crate::mac::MacAddress;
use crate::stats::DropReason;
use crate::table::QUEUES_MAX;

/// Shortest frame without checksum, as on a wire.
const SIZE_DEFAULT: u16 = 64;
/// An Ethernet header.
const SIZE_MIN: u16 = 14;
/// Jumbo frames.
const SIZE_MAX: u16 = 9600;
/// Bytes copied at a time.
const COPY_LEN: usize = 2048;

/// The driver.
#[derive(Debug)]
pub struct Null;

impl Driver for Null {
    fn name(&self) -> &'static str {
        "net_null"
    }

    fn usage(&self) -> &'static str {
        "net_null0[,size=BYTES][,copy=1][,no-rx=1]"
    }

    fn keys(&self) -> &'static [Key] {
        const { &[Key::once("size"), Key::once("copy"), Key::once("no-rx")] }
    }

    fn probe(&self, cx: &Probe<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        NullDevice::open(cx.port, args)
    }

    fn attach(&self, cx: &Attach<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        NullDevice::open(cx.port, args)
    }
}

#[derive(Debug)]
struct NullDevice {
    port: PortId,
    size: u16,
    copy: bool,
    no_rx: bool,
    promiscuous: bool,
}

impl NullDevice {
    fn open(port: PortId, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        let size = args
            .number("size", SIZE_MIN..=SIZE_MAX)?
            .unwrap_or(SIZE_DEFAULT);
        Ok(Box::new(Self {
            port,
            size,
            copy: args.flag("copy")?,
            no_rx: args.flag("no-rx")?,
            promiscuous: true,
        }))
    }
}

impl Device for NullDevice {
    fn info(&self) -> DeviceInfo {
        let queues = u16::try_from(QUEUES_MAX).unwrap_or(u16::MAX);
        DeviceInfo {
            interface: None,
            mac: MacAddress::local(b'n', self.port.0),
            mtu: SIZE_MAX - SIZE_MIN,
            max_rx_queues: queues,
            max_tx_queues: queues,
            default_descriptors: 512,
            max_descriptors: u32::MAX,
            capabilities: Capabilities::TX_SCATTER
                | Capabilities::TX_CHECKSUM
                | Capabilities::TX_GSO_TCP4
                | Capabilities::TX_GSO_TCP6
                | Capabilities::PROMISCUOUS,
            node: None,
            promiscuous: self.promiscuous,
        }
    }

    fn configure(&mut self, _rx: u16, _tx: u16, _config: &PortConfig) -> Result<(), Error> {
        Ok(())
    }

    fn rx_queue_setup(
        &mut self,
        _queue: QueueId,
        _descriptors: u32,
        pool: Pool,
    ) -> Result<(), Error> {
        driver::check_room(pool, Null.name(), self.size.into())
    }

    fn tx_queue_setup(&mut self, _queue: QueueId, _descriptors: u32) -> Result<(), Error> {
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        // No frame has another addressee here: the mode is only what was said.
        self.promiscuous = on;
        Ok(())
    }

    fn rx_queue(
        &mut self,
        cx: QueueContext,
        _handed: Option<Handed>,
    ) -> Result<Box<dyn driver::RxQueue>, Error> {
        Ok(Box::new(NullRx {
            cx,
            size: self.size,
            copy: self.copy,
            no_rx: self.no_rx,
        }))
    }

    fn tx_queue(
        &mut self,
        _cx: QueueContext,
        _handed: Option<Handed>,
    ) -> Result<Box<dyn driver::TxQueue>, Error> {
        Ok(Box::new(NullTx { copy: self.copy }))
    }
}

struct NullRx {
    cx: QueueContext,
    size: u16,
    copy: bool,
    no_rx: bool,
}

impl driver::RxQueue for NullRx {
    fn wakeup(&self) -> Wakeup<'_> {
        if self.no_rx {
            Wakeup::Never
        } else {
            Wakeup::Poll
        }
    }

    fn rx_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize {
        let (Some(pool), false) = (self.cx.pool, self.no_rx) else {
            return 0;
        };
        let (before, wanted) = (burst.len(), burst.room());
        // The pool's room was compared with the size when the queue was set up.
        let count = lcore.alloc_burst_of(pool, burst, wanted, self.size);
        if count < wanted {
            self.cx
                .counters
                .dropped(DropReason::NoBuffer, (wanted - count) as u64);
        }
        if self.copy {
            for mut mbuf in burst.iter_mut().skip(before) {
                if let Some(data) = mbuf.data_mut() {
                    data.fill(0);
                }
            }
        }
        count
    }
}

struct NullTx {
    copy: bool,
}

impl driver::TxQueue for NullTx {
    fn tx_burst(&mut self, burst: &mut Burst<'_>) -> usize {
        let count = burst.len();
        if self.copy {
            let mut out = [0; COPY_LEN];
            for mbuf in burst.iter() {
                for part in mbuf.segments().flat_map(|segment| segment.chunks(COPY_LEN)) {
                    out[..part.len()].copy_from_slice(part);
                    std::hint::black_box(&mut out);
                }
            }
        }
        burst.clear();
        count
    }
}
