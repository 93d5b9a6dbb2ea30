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
mod attach;
#[allow(unsafe_code, reason = "the system call bpf(2)")]
mod bpf;
mod btf;
mod filter;
mod found;
mod metadata;
mod options;
mod program;
mod rings;
mod rx;
mod socket;
#[allow(unsafe_code, reason = "system calls and the rings they share")]
mod sys;
mod tx;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use eal::Region;
use eal::holder::Holder;
use eal::ports::QUEUES_MAX;
use eal::queue::QueueRecord;
use mbuf::frames::reclaim;
use mbuf::{Lcore, Pool};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};

pub use self::found::restore_interfaces;

use self::filter::Filter;
use self::found::{Found, index_of};
use self::options::{KEYS, Options, USAGE};
use self::rings::Half;
use self::rx::XdpRx;
use self::socket::Socket;
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
/// What the primary needs, as `setcap` names it. A user namespace will not do: programs are of the whole machine.
const CAPABILITIES_NEEDED: &str = "cap_net_raw,cap_net_admin,cap_bpf,cap_ipc_lock";
/// How long the queue of a socket that we let go of may still be bound.
const OWN_MAX: Duration = Duration::from_millis(200);

const CAPABILITIES: Capabilities = Capabilities::TX_CHECKSUM
    .union(Capabilities::TX_SCATTER)
    .union(Capabilities::RX_SCATTER)
    .union(Capabilities::RSS_HASH)
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
                    "{interface} has {rx} queues, of which start_queue={first} leaves {}; `ethtool -L {interface} combined N` gives it more where it can",
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
    /// Whether the program puts metadata before frames.
    describes: bool,
    /// Of a port that was closed: the pools of its sockets.
    closed: Vec<Pool>,
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
            describes: false,
            closed: Vec::new(),
        }
    }

    fn kernel<'a>(&'a self, what: &'a str) -> impl Fn(io::Error) -> Error + 'a {
        move |source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::Privilege {
                device: self.device.clone(),
                what: "changing the interface",
                capability: "CAP_NET_ADMIN",
                capability_flag: CAPABILITIES_NEEDED,
                or: "",
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

    /// Whether frames of a pool can be a socket's memory.
    fn check_frames(&self, pool: Pool) -> Result<(), Error> {
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
        Ok(())
    }

    /// Whether packets of the interface's MTU take several frames of a pool.
    fn scatters(&self, pool: Pool) -> bool {
        self.interface_mtu() > mtu_of(pool)
    }

    /// The refusal of an MTU whose packets take several frames, where the kernel cannot do that.
    fn too_long(&self, pool: Pool, mtu: u16) -> Error {
        let (most, interface) = (mtu_of(pool), &self.options.interface);
        let remedy = if pool.data_room() == 2048 {
            "make the pool with a data room of 4096, or "
        } else {
            ""
        };
        Error::Frames {
            device: self.device.clone(),
            pool: pool.name().to_string(),
            reason: format!(
                "take packets up to an MTU of {most}, that of {interface} is {mtu}, and its driver or this kernel (before 6.6) cannot put a packet into several; {remedy}lower it: `ip link set {interface} mtu {most}`"
            ),
        }
    }

    fn record(&self, queue: QueueId, direction: Direction) -> Result<&'static QueueRecord, Error> {
        Ok(QueueTable::lookup(self.region, self.id)?.record(direction, queue))
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
            let (link, describes) = self.attach(map.as_fd())?;
            (self.link, self.describes) = (Some(Arc::new(link)), describes);
        }
        for socket in self.sockets.iter_mut().flatten() {
            socket.describes = self.describes;
        }
        Ok(())
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

/// The largest MTU whose packets one frame of a pool takes.
fn mtu_of(pool: Pool) -> u16 {
    pool.data_room() - XDP_HEADROOM - LINK_LEN
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

    fn more_queues(&self, count: u16) -> Option<String> {
        let limit = if self.options.queue_count.is_some_and(|most| most < count) {
            "raise queue_count=, and "
        } else {
            ""
        };
        let (interface, first) = (&self.options.interface, self.options.start_queue);
        let all = u32::from(first) + u32::from(count);
        Some(format!(
            "{limit}give {interface} as many where it can have them: `ethtool -L {interface} combined {all}`"
        ))
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
        self.check_frames(pool)?;
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
        self.closed = self
            .sockets
            .iter()
            .map_while(|socket| Some(socket.as_ref()?.pool))
            .collect();
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
        // Sockets that are bound for packets of one frame stay so.
        for socket in self.sockets.iter().flatten() {
            if !socket.scatters && mtu > mtu_of(socket.pool) {
                return Err(self.too_long(socket.pool, mtu));
            }
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
            (busy_polls, socket.describes),
        )))
    }

    fn tx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn TxQueue>, Error> {
        let (half, socket) = self.half(&cx, handed)?;
        Ok(Box::new(XdpTx::new(half, socket, &cx)))
    }

    fn has_frames(&self) -> bool {
        true
    }

    fn reclaim(&mut self, lcore: &Lcore) -> u32 {
        let mut reclaimed = 0;
        for (queue, pool) in (0..).map(QueueId).zip(std::mem::take(&mut self.closed)) {
            // Where another socket can be bound the last one is gone, its mappings too. Without an interface no frame comes.
            if self.index() != 0
                && let Err(error) = self.open_socket(queue, pool, OWN_MAX)
            {
                // Others have it, and it goes on.
                tracing::debug!("{}: queue {queue} keeps its frames: {error}", self.device);
                break;
            }
            for direction in [Direction::Rx, Direction::Tx] {
                reclaimed += reclaim(lcore, pool, holder(self.id, queue, direction));
            }
        }
        reclaimed
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
