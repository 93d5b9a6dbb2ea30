//! `net_pcap`: frames from capture files, and into them.
//!
//! ```text
//! rx_pcap=a.pcap,rx_pcap=b.pcapng    RX queue 0 reads a.pcap, RX queue 1 reads b.pcapng; once, or for ever with infinite_rx=1
//! tx_pcap=c.pcap,tx_pcap=d.pcap      TX queue q writes file q modulo 2
//! ```
//!
//! The primary opens the files. It writes those of all TX queues ([`proxy`](crate::proxy)), unless `share=direct`, and hands the
//! descriptors of others to whoever drives a queue. A reader has its own place in the file. Writers share one end of it: it is
//! opened for appending, and each burst is one `writev` of whole records, which the kernel does not mix with another's.
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
//! **If a process dies:** the primary's files stay open in the secondaries that kept them, and the next primary takes them over:
//! a TX file goes on at its end, locked all the time. One that nobody kept is no longer locked; it is opened again and appended
//! to, if it is a capture of the same kind. One that a living process writes and has not offered stays with that process:
//! nobody else gets a descriptor of it until it ends. An RX file is opened again; records count the frames that were taken of it.
//!
//! Its successor on an RX queue passes what the dead one had taken. A process killed inside
//! `writev` may leave the last record of its burst cut short in the file, followed by the records of others; a full
//! disk does not: the part that was written is taken back, and the queue stops with [`QueueState::Failed`](crate::QueueState::Failed).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use mbuf::{Burst, Lcore, Pool};
use rustix::fs::{FlockOperation, OFlags, fcntl_getfl, flock};
use rustix::io::Errno;
use tracing::warn;

use crate::args::{DevArgs, Key, PortConfig};
use crate::capabilities::Capabilities;
use crate::driver::{
    self, Attach, Device, DeviceInfo, Direction, Driver, Handed, Legacy, PortId, Probe,
    QueueContext, QueueId, Wakeup,
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

    fn is_shared(&self, direction: Direction) -> bool {
        // One end of a file, and one order in it.
        direction == Direction::Rx
    }

    fn probe(&self, cx: &Probe<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        let mut device = PcapDevice::new(cx.port, args)?;
        for path in &device.rx_paths {
            device.rx.push(Some(open_input(args, path)?));
        }
        for path in &device.tx_paths {
            let file = open_output(args, path, device.stamp, Before::Goes)?;
            device.tx.push(Some(file));
        }
        Ok(Box::new(device))
    }

    fn adopt(
        &self,
        cx: &Probe<'_>,
        args: &DevArgs,
        _left: &Legacy,
    ) -> Result<Box<dyn Device>, Error> {
        let mut device = PcapDevice::new(cx.port, args)?;
        // A file that is gone may still be had from who kept it.
        let inputs = device.rx_paths.iter();
        device.rx = inputs.map(|path| open_input(args, path).ok()).collect();
        device.tx = device.tx_paths.iter().map(|_| None).collect();
        device.args = Some(args.clone());
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
    /// In the primary, one for each path, but for those of an adopted port that are still to come; a secondary is handed its
    /// descriptors.
    rx: Vec<Option<File>>,
    tx: Vec<Option<File>>,
    /// Of an adopted port: to open what nobody kept.
    args: Option<DevArgs>,
    promiscuous: bool,
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
            args: None,
            promiscuous: true,
        })
    }

    /// Where a queue's file stands among those of its direction, if it has one.
    fn place(&self, direction: Direction, queue: QueueId) -> Option<usize> {
        let queue = usize::from(queue.0);
        match direction {
            Direction::Rx => (queue < self.rx_paths.len()).then_some(queue),
            Direction::Tx => queue.checked_rem(self.tx_paths.len()),
        }
    }

    /// The path of a queue's file, if it has one.
    fn path(&self, direction: Direction, queue: QueueId) -> Option<&PathBuf> {
        let place = self.place(direction, queue)?;
        match direction {
            Direction::Rx => self.rx_paths.get(place),
            Direction::Tx => self.tx_paths.get(place),
        }
    }

    /// The file of a queue, if it has one and it is open here.
    fn opened(&self, direction: Direction, queue: QueueId) -> Option<&File> {
        let place = self.place(direction, queue)?;
        let files = match direction {
            Direction::Rx => &self.rx,
            Direction::Tx => &self.tx,
        };
        files.get(place)?.as_ref()
    }

    /// Opens what nobody kept of an adopted port.
    fn open_anew(&mut self, direction: Direction, queue: QueueId) -> Result<(), Error> {
        let (Some(args), Some(path), Some(place)) = (
            &self.args,
            self.path(direction, queue),
            self.place(direction, queue),
        ) else {
            return Ok(());
        };
        if self.opened(direction, queue).is_some() {
            return Ok(());
        }
        let file = match direction {
            Direction::Rx => open_input(args, path)?,
            Direction::Tx => open_output(args, path, self.stamp, Before::Stays)?,
        };
        self.put(direction, place, file);
        Ok(())
    }

    fn put(&mut self, direction: Direction, place: usize, file: File) {
        let files = match direction {
            Direction::Rx => &mut self.rx,
            Direction::Tx => &mut self.tx,
        };
        if let Some(slot) = files.get_mut(place) {
            *slot = Some(file);
        }
    }

    /// A descriptor of our own for a queue's file, if it has one and we opened it.
    fn duplicate(&self, direction: Direction, queue: QueueId) -> Result<Option<OwnedFd>, Error> {
        let duplicate = self
            .opened(direction, queue)
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

/// What becomes of what a capture file holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Goes,
    /// If it begins as the file that we would write.
    Stays,
}

/// Creates a capture file, or takes the one that is there, and writes its header.
fn open_output(args: &DevArgs, path: &Path, stamp: Stamp, before: Before) -> Result<File, Error> {
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
        let header = file_header(stamp);
        let mut start = header;
        start.fill(0);
        // A file that is shorter begins otherwise.
        let begins = file.read_exact_at(&mut start, 0).is_ok() && start == header;
        if before == Before::Stays && begins {
            return Ok(file);
        }
        file.set_len(0).map_err(refused)?;
    }
    io::Write::write_all(&mut &file, &file_header(stamp)).map_err(refused)?;
    Ok(file)
}

/// Looks at what a secondary kept of a queue: a file that can be used as the path's would be, or why it cannot.
fn examine(path: &Path, direction: Direction, kept: Handed) -> Result<File, String> {
    let mut descriptors = kept.descriptors;
    let file = match (descriptors.pop(), descriptors.is_empty()) {
        (Some(fd), true) => File::from(fd),
        _ => return Err("one descriptor was expected".into()),
    };
    let unclear = |error: io::Error| format!("the kernel says of it: {error}");
    let kind = file.metadata().map_err(unclear)?;
    let device = direction == Direction::Tx && kind.file_type().is_char_device();
    if !kind.is_file() && !device {
        return Err("it is no file".into());
    }
    let flags = fcntl_getfl(&file).map_err(|errno| unclear(errno.into()))?;
    let fits = match direction {
        Direction::Rx => !flags.contains(OFlags::WRONLY),
        Direction::Tx => flags.contains(OFlags::RDWR | OFlags::APPEND),
    };
    if !fits {
        return Err("it is open for the other direction".into());
    }
    let same = |there: std::fs::Metadata| (there.dev(), there.ino()) == (kind.dev(), kind.ino());
    if !std::fs::metadata(path).is_ok_and(same) {
        warn!(
            "{}: moved or replaced since it was opened; the one that was opened is used on",
            path.display()
        );
    }
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
            promiscuous: self.promiscuous,
        }
    }

    fn configure(&mut self, _rx: u16, _tx: u16, _config: &PortConfig) -> Result<(), Error> {
        Ok(())
    }

    fn rx_queue_setup(
        &mut self,
        queue: QueueId,
        _descriptors: u32,
        _pool: Pool,
    ) -> Result<(), Error> {
        self.open_anew(Direction::Rx, queue)
    }

    fn tx_queue_setup(&mut self, queue: QueueId, _descriptors: u32) -> Result<(), Error> {
        self.open_anew(Direction::Tx, queue)
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

    fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        // No frame has another addressee here: the mode is only what was said.
        self.promiscuous = on;
        Ok(())
    }

    fn adopt(&mut self, queue: QueueId, direction: Direction, kept: Handed) -> Result<(), String> {
        let (Some(path), Some(place)) = (self.path(direction, queue), self.place(direction, queue))
        else {
            return Ok(());
        };
        let file = examine(path, direction, kept)?;
        // TX queues share a file, hence one lock on it: the first descriptor is that of all.
        if direction == Direction::Rx || self.opened(direction, queue).is_none() {
            self.put(direction, place, file);
        }
        Ok(())
    }

    fn holds(&self, queue: QueueId, direction: Direction) -> bool {
        self.place(direction, queue).is_none() || self.opened(direction, queue).is_some()
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
    fn wakeup(&self) -> Wakeup<'_> {
        Wakeup::Never
    }

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
