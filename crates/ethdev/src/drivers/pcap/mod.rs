//! `net_pcap`: frames from capture files, and into them.
//!
//! ```text
//! rx_pcap=a.pcap,rx_pcap=b.pcapng    RX queue 0 reads a.pcap, RX queue 1 reads b.pcapng; once, or for ever with infinite_rx=1
//! tx_pcap=c.pcap,tx_pcap=d.pcap      TX queue q writes file q modulo 2
//! ```
//!
//! The primary opens the files and hands their descriptors to whoever drives a queue. A reader has its own place in the
//! file. Writers share one end of it: it is opened for appending, and each burst is one `writev` of whole records,
//! which the kernel does not mix with another's.
//!
//! Without `rx_pcap` nothing is received, without `tx_pcap` what is sent is dropped and counted. A frame is written as it
//! would be seen on the wire, its checksum completed and its VLAN tag in place; one that a device would cut is written
//! whole. Writing takes the wall clock once a burst, for the time stamps.
//!
//! | part                                    | written by             | read by       |
//! |-----------------------------------------|------------------------|---------------|
//! | queue record `block`, `packet`: frames taken in this pass through the file | the queue's owner | its successor |
//! | the end of a TX file                    | owners of TX queues    | whoever opens the file |
//!
//! **If a process dies:** its successor on an RX queue passes what the dead one had taken. A process killed inside
//! `writev` may leave the last record of its burst cut short in the file, followed by the records of others; a full
//! disk does not: the part that was written is taken back, and the queue stops with [`QueueState::Failed`](crate::QueueState::Failed).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use mbuf::{Burst, Lcore, Pool};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::args::{DevArgs, Key, PortConfig};
use crate::capabilities::Capabilities;
use crate::driver::{
    self, Attach, Device, DeviceInfo, Direction, Driver, Handed, PortId, Probe, QueueContext,
    QueueId,
};
use crate::error::Error;
use crate::mac::MacAddress;
use crate::stats::{DropReason, QueueCounters};
use crate::table::QUEUES_MAX;

pub mod format;
mod read;
mod write;

use format::{Reader, Stamp, file_header};
use read::PcapRx;
use write::PcapTx;

/// Room for a queue that no descriptors are counted for.
const DESCRIPTORS_DEFAULT: u32 = 512;

/// The driver.
#[derive(Debug)]
pub struct Pcap;

impl Driver for Pcap {
    fn name(&self) -> &'static str {
        "net_pcap"
    }

    fn usage(&self) -> &'static str {
        "net_pcap0[,rx_pcap=FILE]...[,tx_pcap=FILE]...[,infinite_rx=1][,stamp=ns|us]"
    }

    fn keys(&self) -> &'static [Key] {
        const {
            &[
                Key::many("rx_pcap"),
                Key::many("tx_pcap"),
                Key::once("infinite_rx"),
                Key::once("stamp"),
            ]
        }
    }

    fn hands_descriptors(&self) -> bool {
        true
    }

    fn probe(&self, cx: &Probe<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        let mut device = PcapDevice::new(cx.port, args)?;
        for path in &device.rx_paths {
            device.rx.push(open_input(args, path)?);
        }
        for path in &device.tx_paths {
            device.tx.push(open_output(args, path, device.stamp)?);
        }
        Ok(Box::new(device))
    }

    fn attach(&self, cx: &Attach<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        Ok(Box::new(PcapDevice::new(cx.port, args)?))
    }
}

#[derive(Debug)]
struct PcapDevice {
    port: PortId,
    name: String,
    rx_paths: Vec<PathBuf>,
    tx_paths: Vec<PathBuf>,
    infinite: bool,
    stamp: Stamp,
    /// In the primary; a secondary is handed its descriptors.
    rx: Vec<File>,
    tx: Vec<File>,
}

impl PcapDevice {
    fn new(port: PortId, args: &DevArgs) -> Result<Self, Error> {
        let stamp = match args.get("stamp") {
            None | Some("ns") => Stamp::Nano,
            Some("us") => Stamp::Micro,
            Some(_) => return Err(args.bad_value("stamp", "not ns or us")),
        };
        let paths = |key| args.all(key).map(PathBuf::from).collect::<Vec<_>>();
        for key in ["rx_pcap", "tx_pcap"] {
            let count = args.all(key).count();
            if count > QUEUES_MAX {
                return Err(args.bad_value(
                    key,
                    format!("one of {count} files; a port has {QUEUES_MAX} queues at most"),
                ));
            }
        }
        Ok(Self {
            port,
            name: args.name().to_owned(),
            rx_paths: paths("rx_pcap"),
            tx_paths: paths("tx_pcap"),
            infinite: args.flag("infinite_rx")?,
            stamp,
            rx: Vec::new(),
            tx: Vec::new(),
        })
    }

    /// The path of a queue's file, if it has one.
    fn path(&self, direction: Direction, queue: QueueId) -> Option<&PathBuf> {
        let queue = usize::from(queue.0);
        match direction {
            Direction::Rx => self.rx_paths.get(queue),
            Direction::Tx => queue
                .checked_rem(self.tx_paths.len())
                .and_then(|file| self.tx_paths.get(file)),
        }
    }

    /// A descriptor of our own for a queue's file, if it has one and we opened it.
    fn duplicate(&self, direction: Direction, queue: QueueId) -> Result<Option<OwnedFd>, Error> {
        let queue = usize::from(queue.0);
        let file = match direction {
            Direction::Rx => self.rx.get(queue),
            Direction::Tx => queue
                .checked_rem(self.tx.len())
                .and_then(|file| self.tx.get(file)),
        };
        let duplicate = file
            .map(|file| file.as_fd().try_clone_to_owned())
            .transpose();
        duplicate.map_err(|source| Error::Kernel {
            device: self.name.clone(),
            what: "duplicate a descriptor".into(),
            source,
        })
    }

    /// The file of a queue, with its path: our own, or the one that was handed over.
    fn file(
        &self,
        cx: &QueueContext,
        handed: Option<Handed>,
    ) -> Result<Option<(File, PathBuf)>, Error> {
        let Some(path) = self.path(cx.direction, cx.queue) else {
            return Ok(None);
        };
        let bad = |reason: String| Error::BadDescriptors {
            port: cx.port,
            direction: cx.direction,
            queue: cx.queue,
            reason,
        };
        let fd = match handed {
            None => self
                .duplicate(cx.direction, cx.queue)?
                .ok_or_else(|| bad("the port is closed".into()))?,
            Some(Handed {
                mut descriptors, ..
            }) => match descriptors.pop() {
                Some(fd) if descriptors.is_empty() => fd,
                _ => return Err(bad("one descriptor was expected".into())),
            },
        };
        Ok(Some((File::from(fd), path.clone())))
    }

    fn error(&self, path: &Path, reason: impl ToString) -> Error {
        Error::File {
            device: self.name.clone(),
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Opens a capture file and looks at it as far as its first frame.
fn open_input(args: &DevArgs, path: &Path) -> Result<File, Error> {
    let error = |reason: String| Error::File {
        device: args.name().to_owned(),
        path: path.to_owned(),
        reason,
    };
    let refused = |e: io::Error| error(format!("{e}; check rx_pcap="));
    // Looked at before it is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(refused)?.is_file() {
        return Err(error(
            "not a regular file, and a capture is read at any place; copy it into one".into(),
        ));
    }
    let file = File::open(path).map_err(refused)?;
    let busy =
        || error("a tx_pcap= of another port or process writes it; read another file".into());
    lock(&file, FlockOperation::NonBlockingLockShared).map_err(|_| busy())?;
    Reader::open(&file).map_err(|malformed| error(malformed.to_string()))?;
    Ok(file)
}

/// Creates a capture file, or empties the one that is there, and writes its header.
fn open_output(args: &DevArgs, path: &Path, stamp: Stamp) -> Result<File, Error> {
    let error = |reason: String| Error::File {
        device: args.name().to_owned(),
        path: path.to_owned(),
        reason,
    };
    let refused = |e: io::Error| error(format!("{e}; check tx_pcap="));
    let kind = std::fs::metadata(path).map(|metadata| metadata.file_type());
    if kind.is_ok_and(|kind| !kind.is_file() && !kind.is_char_device()) {
        return Err(error("not a regular file; name one, or /dev/null".into()));
    }
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)
        .map_err(refused)?;
    if file.metadata().map_err(refused)?.is_file() {
        let busy =
            || error("another port or process reads or writes it; write another file".into());
        lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| busy())?;
        file.set_len(0).map_err(refused)?;
    }
    io::Write::write_all(&mut &file, &file_header(stamp)).map_err(refused)?;
    Ok(file)
}

/// Says that we read or write a file, until all copies of the descriptor are closed.
fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    match flock(file, operation) {
        Err(errno @ Errno::WOULDBLOCK) => Err(errno),
        // A file system without locks: then nobody is kept out.
        _ => Ok(()),
    }
}

impl Device for PcapDevice {
    fn info(&self) -> DeviceInfo {
        let queues = u16::try_from(QUEUES_MAX).unwrap_or(u16::MAX);
        let files = u16::try_from(self.rx_paths.len()).unwrap_or(queues);
        DeviceInfo {
            interface: None,
            mac: MacAddress::local(b'p', self.port.0),
            mtu: u16::MAX,
            max_rx_queues: if files == 0 { queues } else { files },
            max_tx_queues: queues,
            default_descriptors: DESCRIPTORS_DEFAULT,
            max_descriptors: u32::MAX,
            capabilities: Capabilities::RX_SCATTER
                | Capabilities::TX_SCATTER
                | Capabilities::TX_CHECKSUM
                | Capabilities::PROMISCUOUS,
            node: None,
        }
    }

    fn configure(&mut self, _rx: u16, _tx: u16, _config: &PortConfig) -> Result<(), Error> {
        Ok(())
    }

    fn rx_queue_setup(
        &mut self,
        _queue: QueueId,
        _descriptors: u32,
        _pool: Pool,
    ) -> Result<(), Error> {
        Ok(())
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

    fn close(&mut self) {
        self.rx.clear();
        self.tx.clear();
    }

    fn set_promiscuous(&mut self, _on: bool) -> Result<(), Error> {
        Ok(())
    }

    fn descriptors(&self, queue: QueueId, direction: Direction) -> Result<Option<Handed>, Error> {
        let descriptors = self.duplicate(direction, queue)?.into_iter().collect();
        Ok(Some(Handed {
            payload: Vec::new(),
            descriptors,
        }))
    }

    fn rx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn driver::RxQueue>, Error> {
        let Some((file, path)) = self.file(&cx, handed)? else {
            return Ok(Box::new(Silent));
        };
        let reader = Reader::open(file).map_err(|malformed| self.error(&path, malformed))?;
        Ok(Box::new(PcapRx::new(cx, reader, path, self.infinite)))
    }

    fn tx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn driver::TxQueue>, Error> {
        match self.file(&cx, handed)? {
            Some((file, path)) => Ok(Box::new(PcapTx::new(cx.counters, file, path, self.stamp))),
            None => Ok(Box::new(NoSink {
                counters: cx.counters,
            })),
        }
    }
}

/// An RX queue without a file.
struct Silent;

impl driver::RxQueue for Silent {
    fn rx_burst<'c>(&mut self, _lcore: &'c Lcore, _burst: &mut Burst<'c>) -> usize {
        0
    }
}

/// A TX queue without a file.
struct NoSink {
    counters: QueueCounters,
}

impl driver::TxQueue for NoSink {
    fn tx_burst(&mut self, burst: &mut Burst<'_>) -> usize {
        let count = burst.len();
        for mbuf in burst.iter() {
            self.counters.dropped_taken(DropReason::NoSink, &mbuf);
        }
        burst.clear();
        count
    }
}

#[cfg(test)]
mod tests;
