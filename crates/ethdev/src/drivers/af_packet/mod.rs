//! Ports on kernel interfaces by packet sockets (`AF_PACKET`): any interface, any kernel, one privilege.
//!
//! ```text
//!           RX queue i                                    TX queue i
//!  kernel:  packet socket, ring of version 3, fanout      packet socket bound to no protocol
//!              | blocks, mapped by whoever polls             ^ sendmmsg
//!  process: copied into buffers, tags put back            pieces of buffers, virtio_net_hdr first
//! ```
//!
//! One socket a direction: the receive ring and sending have no lock in common, and a socket bound to no protocol is not
//! looked at when frames arrive. The kernel still sees each packet: its stack should have no address on the
//! interface, or answers too. See `docs/drivers.md`.
//!
//! **If a process dies:** the sockets live as long as anybody has a descriptor of them, and every secondary keeps all of them:
//! the next primary takes them over (`adoption.rs`), and a new RX socket joins the others. Where in the ring to go on, the queue
//! record says (`blocks.rs`). Frames that the kernel has taken from a TX queue are copies, so that nothing of a pool lies in the
//! kernel.

mod adoption;
mod blocks;
mod options;
mod rx;
#[allow(unsafe_code, reason = "system calls and the ring they share")]
mod sys;
mod tx;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use eal::ports::QUEUES_MAX;
use mbuf::Pool;
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use self::options::{KEYS, Options, USAGE};
use self::rx::{FIRST_SEGMENT_MIN, PacketRx};
use self::sys::Geometry;
use self::tx::PacketTx;
use crate::args::{DevArgs, Key, PortConfig, did_you_mean, list};
use crate::capabilities::Capabilities;
use crate::driver::{
    Attach, Device, DeviceInfo, Direction, Driver, Handed, Legacy, Link, Probe, QueueContext,
    QueueId, RxQueue, TxQueue, check_room,
};
use crate::drivers::netdev;
use crate::error::{Error, OR_USER_NAMESPACE};
use crate::interfaces::interfaces;
use crate::mac::MacAddress;

const NAME: &str = "net_af_packet";

/// Bytes that may be under way in the kernel from one TX queue, as it counts them: forty frames of 64 KiB, some thousand
/// small ones.
const SEND_ROOM: i32 = 4 << 20;

/// First word of what a secondary is handed, one for each direction.
const HANDED_RX: u32 = 0x4150_5231;
const HANDED_TX: u32 = 0x4150_5431;

const CAPABILITIES: Capabilities = Capabilities::RX_CHECKSUM
    .union(Capabilities::TX_CHECKSUM)
    .union(Capabilities::TX_GSO_TCP4)
    .union(Capabilities::TX_GSO_TCP6)
    .union(Capabilities::RX_SCATTER)
    .union(Capabilities::TX_SCATTER)
    .union(Capabilities::RSS_HASH)
    .union(Capabilities::PROMISCUOUS)
    .union(Capabilities::SET_MTU)
    .union(Capabilities::SET_MAC);

/// `net_af_packet`
#[derive(Debug)]
pub(super) struct AfPacket;

impl Driver for AfPacket {
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

    fn probe(&self, _cx: &Probe<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        Ok(Box::new(self.open(args)?))
    }

    fn adopt(
        &self,
        _cx: &Probe<'_>,
        args: &DevArgs,
        left: &Legacy,
    ) -> Result<Box<dyn Device>, Error> {
        let mut port = self.open(args)?;
        port.inherit(left);
        Ok(Box::new(port))
    }

    fn attach(&self, cx: &Attach<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        let options = Options::parse(args, self, queues_max())?;
        let device = args.name().to_owned();
        // Any socket can be asked for the state of an interface, and this one needs no privilege.
        let control = socket_with(
            AddressFamily::INET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|source| Error::Kernel {
            device: device.clone(),
            what: "open a socket".into(),
            source: source.into(),
        })?;
        Ok(Box::new(Port::new(
            device, options, cx.mac, cx.mtu, control,
        )))
    }
}

impl AfPacket {
    /// A port that the primary opens, without queues.
    fn open(&self, args: &DevArgs) -> Result<Port, Error> {
        let options = Options::parse(args, self, queues_max())?;
        let device = args.name().to_owned();
        let control = sys::packet_socket().map_err(|source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::Privilege {
                device: device.clone(),
                what: "a packet socket",
                capability: "CAP_NET_RAW",
                capability_flag: "cap_net_raw",
                or: OR_USER_NAMESPACE,
                source,
            },
            _ => Error::Kernel {
                device: device.clone(),
                what: "open a packet socket".into(),
                source,
            },
        })?;
        name_to_index(&control, &options.interface)
            .map_err(|_| no_interface(&device, &options.interface))?;
        let (mac, ethernet) =
            netdev::mac(control.as_fd(), &options.interface).map_err(|source| Error::Kernel {
                device: device.clone(),
                what: format!("read the address of {}", options.interface),
                source,
            })?;
        if !ethernet {
            return Err(args.bad_value(
                "iface",
                "not an Ethernet interface; take one that has Ethernet addresses",
            ));
        }
        if let Some(limit) = options.frame_limit() {
            tracing::warn!(
                "{device}: blocksz={} holds frames of up to {limit} bytes; longer ones, as hosts send them to be cut later, are dropped and counted",
                options.geometry.block_len
            );
        }
        let port = Port::new(device, options, mac, 0, control);
        if !port.link().up {
            tracing::warn!(
                "{}: {} is down; bring it up with `ip link set {} up`",
                port.device,
                port.options.interface,
                port.options.interface
            );
        }
        Ok(port)
    }
}

fn queues_max() -> u16 {
    u16::try_from(QUEUES_MAX).expect("64 queues")
}

/// An open port.
#[derive(Debug)]
struct Port {
    device: String,
    options: Options,
    /// As it was when the port was opened: told when the interface is gone.
    mac: MacAddress,
    mtu: u16,
    /// For questions about the interface: a packet socket in the primary; elsewhere any, then one that was handed over,
    /// since that one knows the namespace.
    control: OwnedFd,
    /// Empty in a secondary.
    rx: Vec<Option<OwnedFd>>,
    tx: Vec<Option<OwnedFd>>,
    promiscuous: bool,
    /// Of an adopted port: the group that the last primary's RX sockets shared frames in, as [`sys::fanout_word`] says it.
    left_group: u32,
}

impl Port {
    fn new(device: String, options: Options, mac: MacAddress, mtu: u16, control: OwnedFd) -> Self {
        Self {
            device,
            options,
            mac,
            mtu,
            control,
            rx: Vec::new(),
            tx: Vec::new(),
            promiscuous: true,
            left_group: 0,
        }
    }

    fn kernel<'a>(&'a self, what: &'a str) -> impl Fn(io::Error) -> Error + 'a {
        move |source| match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENXIO) => no_interface(&self.device, &self.options.interface),
            Some(libc::EPERM | libc::EACCES) => Error::Privilege {
                device: self.device.clone(),
                what: "changing the interface",
                capability: "CAP_NET_ADMIN",
                capability_flag: "cap_net_admin",
                or: OR_USER_NAMESPACE,
                source,
            },
            _ => Error::Kernel {
                device: self.device.clone(),
                what: format!("{what} {}", self.options.interface),
                source,
            },
        }
    }

    /// The number of the interface for a socket: an interface made anew has another, and a thread may have gone to a
    /// namespace where a number means something else.
    fn index_for(&self, fd: &OwnedFd) -> io::Result<u32> {
        Ok(name_to_index(fd, &self.options.interface)?)
    }

    /// `IFF_UP` and the like; nothing of an interface that is gone.
    fn interface_flags(&self) -> i32 {
        netdev::flags(self.control.as_fd(), &self.options.interface).unwrap_or(0)
    }

    fn open_rx(&self) -> Result<OwnedFd, Error> {
        let geometry = self.options.geometry;
        let open = || {
            let fd = sys::packet_socket()?;
            sys::set_rx_ring(fd.as_fd(), geometry)?;
            sys::ignore_outgoing(fd.as_fd())?;
            sys::drop_everything(fd.as_fd(), true)?;
            let index = self.index_for(&fd)?;
            sys::bind(fd.as_fd(), index, true)?;
            if self.promiscuous {
                sys::set_promiscuous(fd.as_fd(), index, true)?;
            }
            Ok::<_, io::Error>(fd)
        };
        open().map_err(|source| {
            if source.raw_os_error() == Some(libc::ENOMEM) {
                let what = format!(
                    "get a receive ring of {} bytes (take a smaller framecnt=) on",
                    geometry.len()
                );
                return self.kernel(&what)(source);
            }
            self.kernel("receive on")(source)
        })
    }

    fn open_tx(&self) -> Result<OwnedFd, Error> {
        let open = || {
            let fd = sys::packet_socket()?;
            sys::prepare_tx(fd.as_fd(), self.options.qdisc_bypass, SEND_ROOM)?;
            sys::bind(fd.as_fd(), self.index_for(&fd)?, false)?;
            Ok(fd)
        };
        open().map_err(self.kernel("send on"))
    }

    /// The group in which RX sockets share frames, as [`sys::fanout_word`] says it; 0 while there is none.
    fn group(&self) -> u32 {
        let mut groups = self.rx.iter().flatten().map(group_of);
        let ours = groups.find(|group| *group != 0);
        // A socket that its living owner alone has is in the last primary's group.
        let left = self.rx.iter().any(Option::is_none);
        ours.unwrap_or(if left { self.left_group } else { 0 })
    }

    /// Has the kernel spread frames over the RX sockets, those that are new included.
    fn spread(&self) -> Result<(), Error> {
        let strangers: Vec<BorrowedFd<'_>> = self
            .rx
            .iter()
            .flatten()
            .filter(|fd| group_of(fd) == 0)
            .map(AsFd::as_fd)
            .collect();
        let (group, mode) = (self.group(), self.options.fanout);
        let join = || match strangers.split_first() {
            None => Ok(()),
            Some(_) if group != 0 => strangers.iter().try_for_each(|fd| {
                sys::fanout_join(*fd, mode, sys::fanout_id(group))?;
                // At once: what is its share from now on goes to nobody else.
                sys::drop_everything(*fd, false)
            }),
            Some((_, [])) => Ok(()),
            Some((first, others)) => {
                let id = sys::fanout_create(*first, mode)?;
                others
                    .iter()
                    .try_for_each(|fd| sys::fanout_join(*fd, mode, id))
            }
        };
        join().map_err(|source| {
            let refused = source.raw_os_error() == Some(libc::EINVAL);
            if refused && self.interface_flags() & libc::IFF_UP == 0 {
                // Allowed since Linux 6.13.
                let what = "while the interface is down (bring it up first) spread frames over the queues of";
                return self.kernel(what)(source);
            }
            self.kernel("spread frames over the queues of")(source)
        })
    }

    fn drop_everything(&self, on: bool) -> Result<(), Error> {
        self.rx
            .iter()
            .flatten()
            .try_for_each(|fd| sys::drop_everything(fd.as_fd(), on))
            .map_err(self.kernel("filter what is received on"))
    }

    /// The descriptor and the words of what was handed over, if it is that.
    fn unpack<const N: usize>(
        &mut self,
        cx: &QueueContext,
        handed: Handed,
        kind: u32,
    ) -> Result<(OwnedFd, [u32; N]), Error> {
        let bad = |reason: &str| Error::BadDescriptors {
            port: cx.port,
            direction: cx.direction,
            queue: cx.queue,
            reason: reason.into(),
        };
        let (fd, numbers) = take_apart(handed, kind).map_err(bad)?;
        if let Ok(known) = sys::duplicate(&fd) {
            self.control = known;
        }
        Ok((fd, numbers))
    }

    fn socket(&self, queue: QueueId, direction: Direction) -> Option<&OwnedFd> {
        let sockets = match direction {
            Direction::Rx => &self.rx,
            Direction::Tx => &self.tx,
        };
        sockets.get(usize::from(queue.0))?.as_ref()
    }

    fn put(&mut self, queue: QueueId, direction: Direction, socket: OwnedFd) {
        let sockets = match direction {
            Direction::Rx => &mut self.rx,
            Direction::Tx => &mut self.tx,
        };
        if let Some(place) = sockets.get_mut(usize::from(queue.0)) {
            *place = Some(socket);
        }
    }

    fn own(&self, queue: QueueId, direction: Direction) -> Result<OwnedFd, Error> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        self.socket(queue, direction)
            .ok_or_else(absent)
            .and_then(sys::duplicate)
            .map_err(self.kernel("share a socket of"))
    }
}

impl Device for Port {
    fn info(&self) -> DeviceInfo {
        let mtu = netdev::mtu(self.control.as_fd(), &self.options.interface);
        DeviceInfo {
            interface: Some(self.options.interface.clone()),
            mac: netdev::mac(self.control.as_fd(), &self.options.interface)
                .map_or(self.mac, |(mac, _)| mac),
            mtu: mtu.map_or(self.mtu, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX)),
            max_rx_queues: self.options.queue_pairs.unwrap_or(queues_max()),
            max_tx_queues: queues_max(),
            default_descriptors: self.options.frame_count,
            max_descriptors: self.options.frame_count.max(1 << 16),
            capabilities: CAPABILITIES,
            node: None,
            promiscuous: self.promiscuous,
        }
    }

    fn configure(&mut self, rx: u16, tx: u16, config: &PortConfig) -> Result<(), Error> {
        if let Some(mtu) = config.mtu {
            self.set_mtu(mtu)?;
        }
        self.promiscuous = config.promiscuous.unwrap_or(self.promiscuous);
        // Sockets of an earlier configuration go: their fanout group has other members.
        self.rx = (0..rx).map(|_| None).collect();
        self.tx = (0..tx).map(|_| None).collect();
        self.left_group = 0;
        Ok(())
    }

    fn rx_queue_setup(
        &mut self,
        queue: QueueId,
        _descriptors: u32,
        pool: Pool,
    ) -> Result<(), Error> {
        check_room(pool, NAME, FIRST_SEGMENT_MIN)?;
        if !self.holds(queue, Direction::Rx) {
            let socket = self.open_rx()?;
            self.put(queue, Direction::Rx, socket);
        }
        Ok(())
    }

    fn tx_queue_setup(&mut self, queue: QueueId, _descriptors: u32) -> Result<(), Error> {
        if !self.holds(queue, Direction::Tx) {
            let socket = self.open_tx()?;
            self.put(queue, Direction::Tx, socket);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        self.spread()?;
        self.drop_everything(false)
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.drop_everything(true)
    }

    fn close(&mut self) {
        self.rx.clear();
        self.tx.clear();
    }

    fn link(&self) -> Link {
        let flags = self.interface_flags();
        let both = libc::IFF_UP | libc::IFF_RUNNING;
        Link {
            up: flags & both == both,
            ..Link::VIRTUAL
        }
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        netdev::set_mtu(self.control.as_fd(), &self.options.interface, mtu)
            .map_err(self.kernel("set the MTU of"))
    }

    fn set_mac(&mut self, mac: MacAddress) -> Result<(), Error> {
        netdev::set_mac(self.control.as_fd(), &self.options.interface, mac)
            .map_err(self.kernel("set the address of"))?;
        self.mac = mac;
        Ok(())
    }

    fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        if on != self.promiscuous {
            let change = |fd: &OwnedFd| sys::set_promiscuous(fd.as_fd(), self.index_for(fd)?, on);
            let mut sockets = self.rx.iter().flatten();
            sockets
                .try_for_each(change)
                .map_err(self.kernel("change the mode of"))?;
            self.promiscuous = on;
        }
        Ok(())
    }

    fn descriptors(&self, queue: QueueId, direction: Direction) -> Result<Option<Handed>, Error> {
        let Geometry {
            block_len,
            block_count,
            frame_len,
            retire_ms,
        } = self.options.geometry;
        let words: &[u32] = match direction {
            Direction::Rx => &[HANDED_RX, block_len, block_count, frame_len, retire_ms],
            Direction::Tx => &[HANDED_TX],
        };
        let payload = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Ok(Some(Handed {
            payload,
            descriptors: vec![self.own(queue, direction)?],
        }))
    }

    fn adopt(&mut self, queue: QueueId, direction: Direction, kept: Handed) -> Result<(), String> {
        let socket = self.examine(direction, kept)?;
        self.put(queue, direction, socket);
        Ok(())
    }

    fn holds(&self, queue: QueueId, direction: Direction) -> bool {
        self.socket(queue, direction).is_some()
    }

    fn word(&self) -> u32 {
        self.group()
    }

    fn rx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn RxQueue>, Error> {
        let (fd, geometry) = match handed {
            None => (self.own(cx.queue, Direction::Rx)?, self.options.geometry),
            Some(handed) => {
                let (fd, [block_len, block_count, frame_len, retire_ms]) =
                    self.unpack(&cx, handed, HANDED_RX)?;
                (
                    fd,
                    Geometry {
                        block_len,
                        block_count,
                        frame_len,
                        retire_ms,
                    },
                )
            }
        };
        let Some(pool) = cx.pool else {
            return Err(self.kernel("receive without a pool on")(
                io::ErrorKind::InvalidInput.into(),
            ));
        };
        if !geometry.is_sound() {
            return Err(Error::BadDescriptors {
                port: cx.port,
                direction: cx.direction,
                queue: cx.queue,
                reason: "no ring is cut so".into(),
            });
        }
        let queue = PacketRx::open(fd, geometry, pool, &cx)
            .map_err(self.kernel("map the receive ring of"))?;
        Ok(Box::new(queue))
    }

    fn tx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn TxQueue>, Error> {
        let fd = match handed {
            None => self.own(cx.queue, Direction::Tx)?,
            Some(handed) => self.unpack::<0>(&cx, handed, HANDED_TX)?.0,
        };
        Ok(Box::new(PacketTx::new(fd, cx.counters)))
    }
}

/// The group that a socket shares frames in; 0 for none, and of what is no packet socket.
fn group_of(fd: &OwnedFd) -> u32 {
    sys::fanout_word(fd.as_fd()).unwrap_or(0)
}

/// The descriptor and the words of what was handed over for a direction, or why it is not that.
fn take_apart<const N: usize>(
    handed: Handed,
    kind: u32,
) -> Result<(OwnedFd, [u32; N]), &'static str> {
    let mut words = handed
        .payload
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes(word.try_into().expect("chunks of four")));
    if words.next() != Some(kind) {
        return Err("its first word is another");
    }
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = words.next().ok_or("it is too short")?;
    }
    let fd = handed
        .descriptors
        .into_iter()
        .next()
        .ok_or("the descriptor is missing")?;
    let fits = if kind == HANDED_RX {
        sys::is_rx_socket(fd.as_fd())
    } else {
        sys::is_tx_socket(fd.as_fd())
    };
    if !fits {
        return Err("the descriptor is no packet socket for this direction");
    }
    Ok((fd, numbers))
}

/// The error for an interface that is not there, with those that are.
fn no_interface(device: &str, interface: &str) -> Error {
    let known = interfaces();
    Error::NoInterface {
        device: device.to_owned(),
        interface: interface.to_owned(),
        hint: did_you_mean(interface, known.iter().map(String::as_str)),
        known: list(known.iter()),
    }
}

#[cfg(test)]
mod tests;
