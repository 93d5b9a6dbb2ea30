//! Ports on kernel interfaces by AF_XDP: packets lie in the group's buffers, and the interface stays the kernel's.
//!
//! ```text
//!  kernel:   XDP program of the filter (program.rs) --- map: queue -> socket
//!               | what matches                 \ what does not: up the kernel
//!            socket of queue i, its memory the frames of a pool
//!               | fill, RX                        | TX, completion
//!  process:  RX queue i                          TX queue i            (rings.rs)
//! ```
//!
//! One socket a queue of the interface, with both directions; RX and TX half have rings of their own, so that two processes may
//! drive them. The primary makes sockets, program and map, and hands them out; a secondary maps the rings of its queues and needs
//! no privilege.
//!
//! **If a process dies:** sockets, program and map live as long as anybody has a descriptor, and every secondary keeps all of them:
//! the next primary takes them over (`adoption.rs`). Frames that the kernel has are tagged as the queue's, and who claims a dead
//! one's queue finds in rings and record which ones it had in hand (`mbuf::frames`). How the interface was before it was changed stands in the
//! region (`found.rs`).

mod adoption;
mod assembler;
#[allow(unsafe_code, reason = "the system call bpf(2)")]
mod bpf;
mod filter;
mod found;
mod options;
mod program;
mod rings;
mod rx;
#[allow(unsafe_code, reason = "system calls and the rings they share")]
mod sys;
mod tx;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use eal::Region;
use eal::holder::Holder;
use eal::ports::QUEUES_MAX;
use eal::queue::QueueRecord;
use eal::sync::Ordering;
use mbuf::{Lcore, Pool};
use rustix::io::Errno;
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

pub use self::found::restore_interfaces;

use self::bpf::{Load, Mode};
use self::filter::Filter;
use self::found::{Found, index_of};
use self::options::{Attaching, Copying, KEYS, Options, USAGE};
use self::program::{OnMatch, assemble};
use self::rings::{Half, Sizes};
use self::rx::XdpRx;
use self::tx::XdpTx;
use crate::args::{DevArgs, Key, PortConfig, did_you_mean, list};
use crate::capabilities::Capabilities;
use crate::driver::{
    Attach, Device, DeviceInfo, Direction, Driver, Handed, Legacy, Link, PortId, Probe,
    QueueContext, QueueId, RxQueue, TxQueue,
};
use crate::drivers::netdev;
use crate::error::Error;
use crate::interfaces::interfaces;
use crate::mac::MacAddress;
use crate::table::QueueTable;

const NAME: &str = "net_af_xdp";

/// Octets of a frame before a packet that XDP keeps for programs (`XDP_PACKET_HEADROOM`).
const XDP_HEADROOM: u16 = 256;
/// Octets of a frame that are not of the MTU: the Ethernet header, and two tags.
const LINK_LEN: u16 = 14 + 8;
/// Descriptors of a ring: half of DPDK's, since what lies there is not in the cache.
const DESCRIPTORS: u32 = 1024;
const DESCRIPTORS_MAX: u32 = 1 << 14;
/// Of a ring that nobody drives.
const DESCRIPTORS_MIN: u32 = 64;
/// Bytes that may be under way from one queue where the kernel copies, as it counts them.
const SEND_ROOM: i32 = 8 << 20;
/// How long a queue of the interface may still be another socket's, one that was let go of a moment ago.
const BUSY_MAX: Duration = Duration::from_secs(2);
const BUSY_POLL: Duration = Duration::from_millis(10);

const CAPABILITIES: Capabilities = Capabilities::TX_CHECKSUM
    .union(Capabilities::TX_SCATTER)
    .union(Capabilities::PROMISCUOUS)
    .union(Capabilities::SET_MTU)
    .union(Capabilities::SET_MAC);

/// `net_af_xdp`
#[derive(Debug)]
pub(super) struct AfXdp;

impl Driver for AfXdp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn usage(&self) -> &'static str {
        USAGE
    }

    fn keys(&self) -> &'static [Key] {
        &KEYS
    }

    fn hands_descriptors(&self) -> bool {
        true
    }

    fn probe(&self, cx: &Probe<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        let port = self.open(cx, args)?;
        port.look_for_others()?;
        for what in port
            .found
            .iter()
            .flat_map(|found| found.restore(port.control.as_fd()))
        {
            tracing::info!(
                "{}: put back what the last primary left: the {what}",
                port.device
            );
        }
        Ok(Box::new(port))
    }

    fn adopt(
        &self,
        cx: &Probe<'_>,
        args: &DevArgs,
        left: &Legacy,
    ) -> Result<Box<dyn Device>, Error> {
        let mut port = self.open(cx, args)?;
        port.inherit(left);
        Ok(Box::new(port))
    }

    fn attach(&self, cx: &Attach<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        let options = Options::parse(args, self, queues_max())?;
        let device = args.name().to_owned();
        let control = control_socket(&device)?;
        Ok(Box::new(Port::new(
            device,
            options,
            (cx.region, cx.port),
            (cx.mac, cx.mtu),
            control,
        )))
    }
}

impl AfXdp {
    /// A port that the primary opens, without queues.
    fn open(&self, cx: &Probe<'_>, args: &DevArgs) -> Result<Port, Error> {
        let mut options = Options::parse(args, self, queues_max())?;
        let device = args.name().to_owned();
        let control = control_socket(&device)?;
        let interface = options.interface.clone();
        if index_of(control.as_fd(), &interface) == 0 {
            let known = interfaces();
            return Err(Error::NoInterface {
                device,
                hint: did_you_mean(&interface, known.iter().map(String::as_str)),
                interface,
                known: list(known.iter()),
            });
        }
        let (mac, ethernet) =
            netdev::mac(control.as_fd(), &interface).map_err(|source| Error::Kernel {
                device: device.clone(),
                what: format!("read the address of {interface}"),
                source,
            })?;
        if !ethernet {
            return Err(args.bad_value(
                "iface",
                "not an Ethernet interface; take one that has Ethernet addresses",
            ));
        }
        let addresses: Vec<_> = netdev::addresses(&interface)
            .unwrap_or_default()
            .into_iter()
            // Every interface has one of its own accord, and nobody is reached by it but on the link.
            .filter(|address| !matches!(address, std::net::IpAddr::V6(v6) if v6.is_unicast_link_local()))
            .collect();
        match &mut options.filter {
            Some(filter) => filter.share_with_kernel(&addresses),
            None => {
                if let Some(address) = addresses.first() {
                    return Err(args.bad_value(
                        "iface",
                        format!(
                            "the kernel has the address {address} on it, and would lose all traffic to it, ssh too; say what the group is to have, as in addr=ADDRESS or match=tcp:80,443;udp:53, or match=all if that is meant"
                        ),
                    ));
                }
                options.filter = Some(Filter::ALL);
            }
        }
        let mut port = Port::new(device, options, (cx.region, cx.port), (mac, 0), control);
        port.found = Some(Found::reserve(cx.region, cx.port)?);
        let (rx, _) = port.channels();
        let first = port.options.start_queue;
        if u32::from(first) >= rx {
            return Err(args.bad_value(
                "start_queue",
                format!("{interface} has {rx} queues, counted from 0; `ethtool -L {interface} combined N` gives it more where it can"),
            ));
        }
        if let Some(count) = port.options.queue_count
            && u32::from(first) + u32::from(count) > rx
        {
            return Err(args.bad_value(
                "queue_count",
                format!(
                    "{interface} has {rx} queues; from start_queue={first} on there are {}, and `ethtool -L {interface} combined N` gives it more where it can",
                    rx - u32::from(first)
                ),
            ));
        }
        if !port.link().up {
            tracing::warn!(
                "{}: {interface} is down; bring it up with `ip link set {interface} up`",
                port.device
            );
        }
        Ok(port)
    }
}

fn queues_max() -> u16 {
    u16::try_from(QUEUES_MAX).expect("64 queues")
}

/// A socket for questions about interfaces: any will do, and this one needs no privilege.
fn control_socket(device: &str) -> Result<OwnedFd, Error> {
    socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|source| Error::Kernel {
        device: device.to_owned(),
        what: "open a socket".into(),
        source: source.into(),
    })
}

/// One socket, and what it was made with.
#[derive(Debug, Clone)]
struct Socket {
    fd: Arc<OwnedFd>,
    sizes: Sizes,
    pool: Pool,
}

/// An open port.
#[derive(Debug)]
struct Port {
    device: String,
    options: Options,
    region: &'static Region,
    id: PortId,
    /// As it was when the port was opened: told when the interface is gone.
    mac: MacAddress,
    mtu: u16,
    /// For questions about the interface.
    control: OwnedFd,
    /// In the primary: how the interface was.
    found: Option<Found>,
    /// What RX queues were set up with, and TX queues.
    rx: Vec<Option<(Pool, u32)>>,
    tx: Vec<Option<u32>>,
    /// A socket a queue. Empty in a secondary.
    sockets: Vec<Option<Socket>>,
    map: Option<Arc<OwnedFd>>,
    link: Option<Arc<OwnedFd>>,
    promiscuous: bool,
}

impl Port {
    fn new(
        device: String,
        options: Options,
        (region, id): (&'static Region, PortId),
        (mac, mtu): (MacAddress, u16),
        control: OwnedFd,
    ) -> Self {
        Self {
            device,
            options,
            region,
            id,
            mac,
            mtu,
            control,
            found: None,
            rx: Vec::new(),
            tx: Vec::new(),
            sockets: Vec::new(),
            map: None,
            link: None,
            promiscuous: false,
        }
    }

    fn kernel<'a>(&'a self, what: &'a str) -> impl Fn(io::Error) -> Error + 'a {
        move |source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::Privilege {
                device: self.device.clone(),
                what: "changing the interface",
                capability: "CAP_NET_ADMIN",
                capability_flag: "cap_net_admin",
                source,
            },
            _ => Error::Kernel {
                device: self.device.clone(),
                what: format!("{what} {}", self.options.interface),
                source,
            },
        }
    }

    fn index(&self) -> u32 {
        index_of(self.control.as_fd(), &self.options.interface)
    }

    fn interface_mtu(&self) -> u16 {
        let mtu = netdev::mtu(self.control.as_fd(), &self.options.interface);
        mtu.map_or(self.mtu, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX))
    }

    /// RX and TX queues of the interface.
    fn channels(&self) -> (u32, u32) {
        netdev::channels(self.control.as_fd(), &self.options.interface).unwrap_or((1, 1))
    }

    /// Queues of the interface that the port may have.
    fn queues_of(&self, channels: u32) -> u16 {
        let behind = channels.saturating_sub(self.options.start_queue.into());
        let most = self.options.queue_count.unwrap_or(queues_max());
        u16::try_from(behind)
            .unwrap_or(u16::MAX)
            .min(most)
            .min(queues_max())
    }

    /// Refuses an interface that has somebody else's program on it.
    fn look_for_others(&self) -> Result<(), Error> {
        let socket = netdev::socket().map_err(self.kernel("ask about"))?;
        let name = &self.options.interface;
        let link = netdev::look(socket.as_fd(), name).map_err(self.kernel("ask about"))?;
        let Some(xdp) = link.and_then(|link| link.xdp) else {
            return Ok(());
        };
        if self.options.force {
            return Ok(());
        }
        Err(Error::InterfaceTaken {
            device: self.device.clone(),
            interface: name.clone(),
            reason: format!(
                "has an XDP program already, number {} (`bpftool prog show id {}` tells whose); stop who attached it, or take it away with `ip link set {name} xdp off`, or say force=1",
                xdp.program, xdp.program
            ),
        })
    }

    /// Whether frames of a pool can be a socket's memory, and take the packets of an MTU.
    fn check_frames(&self, pool: Pool, mtu: u16) -> Result<(), Error> {
        let frame = pool.data_room();
        if ![2048, 4096].contains(&frame) {
            return Err(Error::Frames {
                device: self.device.clone(),
                pool: pool.name().to_string(),
                reason: format!(
                    "are {frame} bytes long, and AF_XDP takes 2048 or 4096; make the pool with such a data room"
                ),
            });
        }
        let most = frame - XDP_HEADROOM - LINK_LEN;
        if mtu <= most {
            return Ok(());
        }
        let remedy = if frame == 2048 && mtu <= 4096 - XDP_HEADROOM - LINK_LEN {
            "make the pool with a data room of 4096, or "
        } else {
            ""
        };
        Err(Error::Frames {
            device: self.device.clone(),
            pool: pool.name().to_string(),
            reason: format!(
                "take packets up to an MTU of {most}, and that of {} is {mtu}; {remedy}lower it: `ip link set {} mtu {most}`",
                self.options.interface, self.options.interface
            ),
        })
    }

    fn record(&self, queue: QueueId, direction: Direction) -> Result<&'static QueueRecord, Error> {
        Ok(QueueTable::lookup(self.region, self.id)?.record(direction, queue))
    }

    /// Makes the socket of a queue. Nothing comes by it yet: it is in no map.
    fn open_socket(&self, queue: QueueId, pool: Pool) -> Result<Socket, Error> {
        let number = usize::from(queue.0);
        let rx = self.rx.get(number).copied().flatten().map(|(_, len)| len);
        let tx = self.tx.get(number).copied().flatten();
        let size =
            |wanted: Option<u32>| wanted.unwrap_or(0).next_power_of_two().max(DESCRIPTORS_MIN);
        let sizes = Sizes {
            rx: size(rx),
            tx: size(tx),
            fill: size(rx),
            completion: size(tx),
        };
        let fd = socket_with(
            AddressFamily::XDP,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| self.no_socket(error))?;
        sys::register(fd.as_fd(), pool).map_err(|source| self.no_memory(pool, source))?;
        let rings = || {
            sockopt::set_xdp_umem_fill_ring_size(&fd, sizes.fill)?;
            sockopt::set_xdp_umem_completion_ring_size(&fd, sizes.completion)?;
            if rx.is_some() {
                sockopt::set_xdp_rx_ring_size(&fd, sizes.rx)?;
            }
            if tx.is_some() {
                sockopt::set_xdp_tx_ring_size(&fd, sizes.tx)?;
            }
            Ok::<_, Errno>(())
        };
        rings().map_err(|error| self.kernel("make rings for a queue of")(error.into()))?;
        let _ = sys::set_send_room(fd.as_fd(), SEND_ROOM);
        if self.options.busy_budget > 0 {
            sys::prefer_busy_poll(fd.as_fd(), self.options.busy_budget)
                .map_err(self.kernel("prefer busy polling on"))?;
        }
        self.bind(fd.as_fd(), queue)?;
        Ok(Socket {
            fd: Arc::new(fd),
            sizes,
            pool,
        })
    }

    fn bind(&self, fd: BorrowedFd<'_>, queue: QueueId) -> Result<(), Error> {
        let device_queue = u32::from(self.options.start_queue) + u32::from(queue.0);
        let copying = match self.options.copying {
            Copying::Auto => SocketAddrXdpFlags::empty(),
            Copying::Never => SocketAddrXdpFlags::XDP_ZEROCOPY,
            Copying::Always => SocketAddrXdpFlags::XDP_COPY,
        };
        let flags = copying | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        let address = SocketAddrXdp::new(flags, self.index(), device_queue);
        let started = Instant::now();
        loop {
            let error = match bind(fd, &address) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error == Errno::BUSY && started.elapsed() < BUSY_MAX {
                // Whoever let go of it a moment ago: the kernel takes its time.
                thread::sleep(BUSY_POLL);
                continue;
            }
            let interface = &self.options.interface;
            return Err(match error {
                Errno::BUSY => Error::InterfaceTaken {
                    device: self.device.clone(),
                    interface: interface.clone(),
                    reason: format!(
                        "has another AF_XDP socket on queue {device_queue}, of another group or program; stop that one, or take other queues with start_queue="
                    ),
                },
                Errno::INVAL => Error::InterfaceTaken {
                    device: self.device.clone(),
                    interface: interface.clone(),
                    reason: format!(
                        "has no queue {device_queue}; `ethtool -l {interface}` tells how many there are"
                    ),
                },
                Errno::OPNOTSUPP if self.options.copying == Copying::Never => Error::InterfaceTaken {
                    device: self.device.clone(),
                    interface: interface.clone(),
                    reason: "has a driver that cannot do without copying; take mode=copy, or mode=auto".into(),
                },
                error => self.kernel("bind a socket to")(error.into()),
            });
        }
    }

    fn no_socket(&self, error: Errno) -> Error {
        let source = io::Error::from(error);
        match error {
            Errno::PERM | Errno::ACCESS => Error::Privilege {
                device: self.device.clone(),
                what: "an AF_XDP socket",
                capability: "CAP_NET_RAW",
                capability_flag: "cap_net_raw,cap_net_admin,cap_bpf,cap_ipc_lock",
                source,
            },
            Errno::AFNOSUPPORT => Error::Kernel {
                device: self.device.clone(),
                what: "open an AF_XDP socket: this kernel has none (CONFIG_XDP_SOCKETS); take net_af_packet".into(),
                source,
            },
            _ => Error::Kernel {
                device: self.device.clone(),
                what: "open an AF_XDP socket".into(),
                source,
            },
        }
    }

    fn no_memory(&self, pool: Pool, source: io::Error) -> Error {
        let (_, len) = pool.frames();
        let what = match source.raw_os_error() {
            Some(libc::ENOBUFS | libc::ENOMEM) => format!(
                "lock the {} KiB of pool {} in memory: run the primary with CAP_IPC_LOCK, or raise `ulimit -l` to as much for each queue",
                len / 1024,
                pool.name()
            ),
            _ => format!("register the frames of pool {}", pool.name()),
        };
        Error::Kernel {
            device: self.device.clone(),
            what,
            source,
        }
    }

    /// Makes the sockets that are missing, of queues whose both directions were set up.
    fn open_sockets(&mut self) -> Result<(), Error> {
        let pool = self.rx.iter().flatten().map(|(pool, _)| *pool).next();
        let pool = pool.or_else(|| {
            self.sockets
                .iter()
                .flatten()
                .map(|socket| socket.pool)
                .next()
        });
        let Some(first_pool) = pool else {
            return Err(Error::Frames {
                device: self.device.clone(),
                pool: "none".into(),
                reason: "can be sent from: configure one RX queue at least, whose pool is the memory of all sockets".into(),
            });
        };
        for queue in (0..).take(self.sockets.len()).map(QueueId) {
            let number = usize::from(queue.0);
            let is_ready = self.rx.get(number).is_none_or(Option::is_some)
                && self.tx.get(number).is_none_or(Option::is_some);
            if self.sockets[number].is_some() || !is_ready {
                continue;
            }
            let pool = self
                .rx
                .get(number)
                .copied()
                .flatten()
                .map_or(first_pool, |(pool, _)| pool);
            let socket = self.open_socket(queue, pool)?;
            for direction in [Direction::Rx, Direction::Tx] {
                let record = self.record(queue, direction)?;
                record.missed.store(0, Ordering::Relaxed);
                // Bound, so that no other socket has the queue. Release: whoever drives it gives back what that one had.
                record.renewed.store(1, Ordering::Release);
            }
            self.sockets[number] = Some(socket);
        }
        Ok(())
    }

    /// Has the program give the sockets what comes by their queues.
    fn admit(&mut self) -> Result<(), Error> {
        let first = u32::from(self.options.start_queue);
        if self.map.is_none() {
            let entries = first + u32::try_from(self.sockets.len()).unwrap_or(0);
            let map = bpf::create_xskmap(entries).map_err(|source| self.no_program(source))?;
            self.map = Some(Arc::new(map));
        }
        let map = self.map.clone().expect("made above");
        for (queue, socket) in (0..).zip(&self.sockets).take(self.rx.len()) {
            if let Some(socket) = socket {
                bpf::set_element(map.as_fd(), first + queue, socket.fd.as_fd())
                    .map_err(self.kernel("receive by a socket on"))?;
            }
        }
        if self.link.is_none() {
            self.link = Some(Arc::new(self.attach(map.as_fd())?));
        }
        Ok(())
    }

    fn attach(&self, map: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
        let filter = self.options.filter.clone().unwrap_or(Filter::ALL);
        let program = assemble(&filter, OnMatch::Redirect(map));
        let program =
            bpf::load(&program, Load::default()).map_err(|source| self.no_program(source))?;
        let modes: &[Mode] = match self.options.attaching {
            Attaching::Auto => &[Mode::Native, Mode::Generic],
            Attaching::Native => &[Mode::Native],
            Attaching::Generic => &[Mode::Generic],
        };
        let mut last = io::Error::from(io::ErrorKind::Unsupported);
        for mode in modes {
            let mut attached = bpf::attach(program.as_fd(), self.index(), *mode);
            if self.options.force
                && attached
                    .as_ref()
                    .is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
            {
                let socket = netdev::socket().map_err(self.kernel("ask about"))?;
                if let Err(error) = netdev::detach_xdp(socket.as_fd(), self.index()) {
                    tracing::warn!(
                        "{}: cannot take the other program away: {error}",
                        self.device
                    );
                }
                attached = bpf::attach(program.as_fd(), self.index(), *mode);
            }
            match attached {
                Ok(link) => {
                    if (*mode, self.options.attaching) == (Mode::Generic, Attaching::Auto) {
                        tracing::warn!(
                            "{}: the driver of {} cannot run XDP programs; the kernel runs it behind the driver, which costs a copy, and puts all on queue 0 of some drivers",
                            self.device,
                            self.options.interface
                        );
                    }
                    return Ok(link);
                }
                Err(error) => last = error,
            }
            if last.raw_os_error() == Some(libc::EBUSY) {
                break;
            }
        }
        if last.raw_os_error() == Some(libc::EBUSY) {
            self.look_for_others()?;
            let interface = self.options.interface.clone();
            return Err(Error::InterfaceTaken {
                device: self.device.clone(),
                interface,
                reason: "has an XDP program that only who attached it can take away; stop that one"
                    .into(),
            });
        }
        Err(self.kernel("attach the XDP program to")(last))
    }

    fn no_program(&self, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::Privilege {
                device: self.device.clone(),
                what: "an XDP program",
                capability: "CAP_BPF and CAP_NET_ADMIN",
                capability_flag: "cap_bpf,cap_net_admin,cap_net_raw,cap_ipc_lock",
                source,
            },
            _ => Error::Kernel {
                device: self.device.clone(),
                what: "load the XDP program".into(),
                source,
            },
        }
    }

    /// Has the hardware spread frames over the queues of the port alone, where it can.
    fn spread(&self) {
        let (control, name) = (self.control.as_fd(), self.options.interface.as_str());
        let count = u32::try_from(self.rx.len()).unwrap_or(1).max(1);
        let (rx, _) = self.channels();
        let table = netdev::indirection(control, name).unwrap_or_default();
        if table.is_empty() {
            if rx > count {
                tracing::warn!(
                    "{}: {name} has {rx} RX queues, of which the port drives {count}, and cannot be told to use these alone; what comes by the others goes to the kernel: configure {rx}, or `ethtool -L {name} combined {count}`",
                    self.device
                );
            }
            return;
        }
        let first = u32::from(self.options.start_queue);
        let wanted: Vec<u32> = (0..)
            .take(table.len())
            .map(|entry| first + entry % count)
            .collect();
        if wanted == table {
            return;
        }
        let noted = self
            .found
            .is_some_and(|found| found.note_table(self.index(), &table));
        if noted && let Err(error) = netdev::set_indirection(control, name, &wanted) {
            tracing::warn!(
                "{}: cannot have {name} spread frames over queues {first} to {}: {error}; what comes by others goes to the kernel",
                self.device,
                first + count - 1
            );
        }
    }

    fn socket(&self, queue: QueueId, direction: Direction) -> Option<&Socket> {
        let count = match direction {
            Direction::Rx => self.rx.len(),
            Direction::Tx => self.tx.len(),
        };
        let number = usize::from(queue.0);
        self.sockets
            .get(number)
            .filter(|_| number < count)?
            .as_ref()
    }

    /// What drives one half of a queue: of our own socket, or of one that was handed over.
    fn half(&self, cx: &QueueContext, handed: Option<Handed>) -> Result<(Half, Socket), Error> {
        let socket = match handed {
            None => self
                .socket(cx.queue, cx.direction)
                .cloned()
                .ok_or_else(|| {
                    self.kernel("drive a queue without a socket on")(io::ErrorKind::NotFound.into())
                })?,
            Some(handed) => {
                let bad = |reason: String| Error::BadDescriptors {
                    port: cx.port,
                    direction: cx.direction,
                    queue: cx.queue,
                    reason,
                };
                adoption::take_apart(handed, self.region)
                    .map_err(bad)?
                    .socket
            }
        };
        let place = (holder(cx.port, cx.queue, cx.direction), cx.record);
        let half = Half::map(
            socket.fd.as_fd(),
            cx.direction,
            socket.sizes,
            socket.pool,
            place,
        )
        .map_err(self.kernel("map the rings of a socket of"))?;
        Ok((half, socket))
    }
}

/// The tag of what the kernel has of a queue.
fn holder(port: PortId, queue: QueueId, direction: Direction) -> Holder {
    let byte = |number: u16| u8::try_from(number).unwrap_or(u8::MAX);
    Holder::queue(byte(port.0), byte(queue.0), direction == Direction::Tx)
}

impl Device for Port {
    fn info(&self) -> DeviceInfo {
        let (rx, tx) = self.channels();
        DeviceInfo {
            interface: Some(self.options.interface.clone()),
            mac: netdev::mac(self.control.as_fd(), &self.options.interface)
                .map_or(self.mac, |(mac, _)| mac),
            mtu: self.interface_mtu(),
            max_rx_queues: self.queues_of(rx),
            max_tx_queues: self.queues_of(tx),
            default_descriptors: DESCRIPTORS,
            max_descriptors: DESCRIPTORS_MAX,
            capabilities: CAPABILITIES,
            node: None,
            promiscuous: self.promiscuous,
        }
    }

    fn configure(&mut self, rx: u16, tx: u16, config: &PortConfig) -> Result<(), Error> {
        if let Some(mtu) = config.mtu {
            self.set_mtu(mtu)?;
        }
        self.rx = (0..rx).map(|_| None).collect();
        self.tx = (0..tx).map(|_| None).collect();
        // Sockets of an earlier configuration go: rings cannot be made longer.
        self.sockets = (0..rx.max(tx)).map(|_| None).collect();
        self.map = None;
        Ok(())
    }

    fn rx_queue_setup(
        &mut self,
        queue: QueueId,
        descriptors: u32,
        pool: Pool,
    ) -> Result<(), Error> {
        self.check_frames(pool, self.interface_mtu())?;
        if let Some(place) = self.rx.get_mut(usize::from(queue.0)) {
            *place = Some((pool, descriptors));
        }
        Ok(())
    }

    fn tx_queue_setup(&mut self, queue: QueueId, descriptors: u32) -> Result<(), Error> {
        if let Some(place) = self.tx.get_mut(usize::from(queue.0)) {
            *place = Some(descriptors);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        self.open_sockets()?;
        self.admit()?;
        self.spread();
        let zero_copy = |socket: &Socket| sys::is_zero_copy(socket.fd.as_fd());
        if !self.sockets.iter().flatten().all(zero_copy) {
            tracing::info!(
                "{}: the kernel copies each packet once between {} and the group's buffers",
                self.device,
                self.options.interface
            );
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Error> {
        if let Some(link) = self.link.take() {
            // Whoever else has the link: nothing comes by it any more.
            bpf::detach(link.as_fd()).map_err(self.kernel("take the XDP program from"))?;
        }
        if let Some(found) = self.found {
            found.restore(self.control.as_fd());
        }
        Ok(())
    }

    fn close(&mut self) {
        self.sockets.clear();
        (self.map, self.link) = (None, None);
    }

    fn link(&self) -> Link {
        let flags = netdev::flags(self.control.as_fd(), &self.options.interface).unwrap_or(0);
        let both = libc::IFF_UP | libc::IFF_RUNNING;
        Link {
            up: flags & both == both,
            ..Link::VIRTUAL
        }
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        for (pool, _) in self.rx.iter().flatten() {
            self.check_frames(*pool, mtu)?;
        }
        let (control, name) = (self.control.as_fd(), &self.options.interface);
        if let (Some(found), Ok(now)) = (self.found, netdev::mtu(control, name))
            && now != u32::from(mtu)
        {
            found.note_mtu(self.index(), now);
        }
        netdev::set_mtu(control, name, mtu).map_err(self.kernel("set the MTU of"))
    }

    fn set_mac(&mut self, mac: MacAddress) -> Result<(), Error> {
        netdev::set_mac(self.control.as_fd(), &self.options.interface, mac)
            .map_err(self.kernel("set the address of"))?;
        self.mac = mac;
        Ok(())
    }

    fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        if on != self.promiscuous {
            let (control, name) = (self.control.as_fd(), &self.options.interface);
            let flags = netdev::flags(control, name).map_err(self.kernel("look at"))?;
            if let Some(found) = self.found {
                found.note_promiscuous(self.index(), flags & libc::IFF_PROMISC != 0);
            }
            netdev::set_promiscuous(control, name, on)
                .map_err(self.kernel("change the mode of"))?;
            self.promiscuous = on;
        }
        Ok(())
    }

    fn stats(&self) -> Vec<(&'static str, u64)> {
        let mut sums = [0_u64; 6];
        let all = self.sockets.iter().flatten();
        for counts in all.filter_map(|socket| sockopt::xdp_statistics(&*socket.fd).ok()) {
            let counts = [
                counts.rx_dropped,
                counts.rx_ring_full.unwrap_or(0),
                counts.rx_fill_ring_empty_descs.unwrap_or(0),
                counts.rx_invalid_descs,
                counts.tx_invalid_descs,
                counts.tx_ring_empty_descs.unwrap_or(0),
            ];
            sums.iter_mut()
                .zip(counts)
                .for_each(|(sum, count)| *sum += count);
        }
        let names = [
            "xdp_rx_dropped",
            "xdp_rx_ring_full",
            "xdp_fill_ring_empty",
            "xdp_rx_invalid_descriptors",
            "xdp_tx_invalid_descriptors",
            "xdp_tx_ring_empty",
        ];
        names.into_iter().zip(sums).collect()
    }

    fn descriptors(&self, queue: QueueId, direction: Direction) -> Result<Option<Handed>, Error> {
        let all = (self.socket(queue, direction), &self.map, &self.link);
        let (Some(socket), Some(map), Some(link)) = all else {
            return Ok(None);
        };
        adoption::hand_out(socket, map, link)
            .map(Some)
            .map_err(self.kernel("share a socket of"))
    }

    fn adopt(&mut self, queue: QueueId, direction: Direction, kept: Handed) -> Result<(), String> {
        self.take_back(queue, direction, kept)
    }

    fn holds(&self, queue: QueueId, direction: Direction) -> bool {
        self.socket(queue, direction).is_some()
    }

    fn rx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn RxQueue>, Error> {
        let (half, socket) = self.half(&cx, handed)?;
        let busy_polls = self.options.busy_budget > 0;
        Ok(Box::new(XdpRx::new(
            half,
            socket.fd,
            socket.pool,
            &cx,
            busy_polls,
        )))
    }

    fn tx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn TxQueue>, Error> {
        let (half, socket) = self.half(&cx, handed)?;
        Ok(Box::new(XdpTx::new(half, socket.fd, socket.pool, &cx)))
    }

    fn reap(&mut self, lcore: &Lcore) -> u32 {
        let mut reaped = 0;
        for queue in (0..).take(self.tx.len()).map(QueueId) {
            let (Some(socket), Ok(record)) = (
                self.socket(queue, Direction::Tx),
                self.record(queue, Direction::Tx),
            ) else {
                continue;
            };
            let place = (holder(self.id, queue, Direction::Tx), record);
            let (fd, sizes) = (socket.fd.as_fd(), socket.sizes);
            if let Ok(half) = Half::map(fd, Direction::Tx, sizes, socket.pool, place) {
                reaped += half.sending().reap(lcore).unwrap_or(0);
            }
        }
        reaped
    }
}
