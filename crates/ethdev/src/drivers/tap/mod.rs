//! Ports that are the wire of a kernel interface of their own (`/dev/net/tun`, TAP): what the kernel's stack sends by the
//! interface is received here, and what is sent here arrives there.
//!
//! ```text
//!            the kernel's stack
//!                 |   ^
//!  interface      v   |          queue of a TX number that has no RX number: shares RX queue TX mod RX
//!              queue i: one descriptor of /dev/net/tun, both directions
//!                 |   ^
//!  process     readv   writev    virtio_net_hdr first: checksums and cutting are left to whoever is next
//! ```
//!
//! The kernel spreads a host's frames over all queues that are attached, so none is that nobody is to read: a TX queue has no
//! descriptor of its own beyond the number of RX queues, and queues of an earlier configuration are detached, which
//! counts for every process that holds them. Where a flow's frames were written, there its answers are put (the kernel learns
//! it from each frame), as long as that queue is there.
//!
//! **If a process dies:** the interface lives as long as anybody has a descriptor of it, and every secondary keeps all of them:
//! the next primary takes them over (`adoption.rs`), with the frames that wait in them. What was read or written are copies, so
//! that nothing of a pool lies in the kernel. A frame is read in one call: who dies before it leaves the frame to the
//! successor, who dies after takes it along.

mod adoption;
mod options;
mod place;
mod rx;
#[allow(unsafe_code, reason = "ioctls on /dev/net/tun")]
mod sys;
mod tx;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use mbuf::Pool;
use tracing::{debug, warn};

use self::options::{KEYS, Options, USAGE};
use self::place::Place;
use self::rx::TapRx;
use self::tx::TapTx;
use crate::args::{DevArgs, Key, PortConfig};
use crate::capabilities::Capabilities;
use crate::driver::{
    Attach, Device, DeviceInfo, Direction, Driver, Handed, Legacy, Link, PortId, Probe,
    QueueContext, QueueId, RxQueue, TxQueue, check_room,
};
use crate::drivers::netdev;
use crate::drivers::vnet::VNET_HEADER_LEN as HEADER_LEN;
use crate::error::{Error, OR_USER_NAMESPACE};
use crate::mac::MacAddress;
use crate::table::QUEUES_MAX;

const NAME: &str = "net_tap";
const DEVICE: &str = "/dev/net/tun";

/// Octets that the first buffer of a packet must take: headers are looked for there.
const FIRST_SEGMENT_MIN: usize = 64;

/// Frames that wait in a queue, if nobody says how many. The kernel's own are 500 to 1000.
const DESCRIPTORS_DEFAULT: u32 = 1024;
/// The kernel keeps a pointer for each, in each queue.
const DESCRIPTORS_MAX: u32 = 1 << 16;

/// How long others have to let go of an interface: steps, and the length of each.
const RELEASE_STEPS: u32 = 200;
const RELEASE_STEP: Duration = Duration::from_millis(5);

/// First word of what a secondary is handed.
const HANDED: u32 = 0x5441_5031;

/// What a host may leave to us: checksums, and cutting of TCP.
const OFFLOADS: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// Cutting of UDP, since Linux 6.2.
const OFFLOADS_UDP: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

const CAPABILITIES: Capabilities = Capabilities::RX_CHECKSUM
    .union(Capabilities::TX_CHECKSUM)
    .union(Capabilities::TX_GSO_TCP4)
    .union(Capabilities::TX_GSO_TCP6)
    .union(Capabilities::RX_SCATTER)
    .union(Capabilities::TX_SCATTER)
    .union(Capabilities::PROMISCUOUS)
    .union(Capabilities::SET_MTU)
    .union(Capabilities::SET_MAC);

/// `net_tap`
#[derive(Debug)]
pub(super) struct Tap;

impl Driver for Tap {
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

    fn faces_kernel(&self) -> bool {
        true
    }

    fn probe(&self, cx: &Probe<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        let mut port = Port::open(cx.port, args)?;
        port.make()?;
        Ok(Box::new(port))
    }

    fn adopt(
        &self,
        cx: &Probe<'_>,
        args: &DevArgs,
        left: &Legacy,
    ) -> Result<Box<dyn Device>, Error> {
        let mut port = Port::open(cx.port, args)?;
        port.inherit(left);
        Ok(Box::new(port))
    }

    fn attach(&self, cx: &Attach<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error> {
        let options = Options::parse(args, cx.port, queues_max())?;
        let mut port = Port::new(args, options, None);
        (port.mac, port.mtu) = (cx.mac, cx.mtu);
        Ok(Box::new(port))
    }
}

fn queues_max() -> u16 {
    u16::try_from(QUEUES_MAX).expect("64 queues")
}

/// Where the interface lies, and what asks about it. The primary's.
#[derive(Debug)]
struct Home {
    place: Place,
    control: OwnedFd,
}

/// An open port.
#[derive(Debug)]
struct Port {
    device: String,
    options: Options,
    /// As the primary's record says; told where nobody can be asked.
    mac: MacAddress,
    mtu: u16,
    /// None in a secondary.
    home: Option<Home>,
    /// Keeps the interface alive without being one of its queues. None of an adopted port, whose queues do that.
    anchor: Option<OwnedFd>,
    /// A place for each RX queue; one, if there is none, so that something can be sent. Empty in a secondary.
    queues: Vec<Option<OwnedFd>>,
    promiscuous: bool,
    /// Whether a former primary configured it and others use it.
    inherited: bool,
}

impl Port {
    fn new(args: &DevArgs, options: Options, home: Option<Home>) -> Self {
        Self {
            device: args.name().to_owned(),
            options,
            mac: MacAddress::default(),
            mtu: 0,
            home,
            anchor: None,
            queues: Vec::new(),
            promiscuous: true,
            inherited: false,
        }
    }

    /// A port that the primary opens, without its interface.
    fn open(port: PortId, args: &DevArgs) -> Result<Self, Error> {
        let options = Options::parse(args, port, queues_max())?;
        let path = options.namespace.clone();
        let home = || {
            let place = Place::open(path.as_deref())?;
            let control = place.socket()?;
            Ok(Home { place, control })
        };
        let home = home().map_err(|source: io::Error| match &path {
            None => Error::Kernel {
                device: args.name().to_owned(),
                what: "open a socket".into(),
                source,
            },
            Some(path) => no_namespace(args.name(), path, source),
        })?;
        Ok(Self::new(args, options, Some(home)))
    }

    /// Has the interface there: made, or found without a user.
    fn make(&mut self) -> Result<(), Error> {
        let found = self.found_free()?;
        if !found {
            // What a former primary configured went with the interface: the new one is down, and has queues of the kernel's length.
            self.inherited = false;
        }
        let name = &self.options.interface;
        let fd = self.open_tun()?;
        sys::attach(fd.as_fd(), name, !found).map_err(self.kernel("make"))?;
        let prepare = || {
            sys::set_header_len(fd.as_fd(), HEADER_LEN)?;
            sys::set_offloads(fd.as_fd(), OFFLOADS | OFFLOADS_UDP).or_else(|error| {
                debug!("{}: without segmentation of UDP: {error}", self.device);
                sys::set_offloads(fd.as_fd(), OFFLOADS)
            })?;
            if self.options.persist {
                sys::set_persistent(fd.as_fd(), true)?;
            }
            // What waits for nobody yet is not wanted.
            sys::detach(fd.as_fd())
        };
        prepare().map_err(self.kernel("prepare"))?;
        self.anchor = Some(fd);
        if let Some(mac) = self.options.mac {
            self.set_mac(mac)?;
        }
        Ok(())
    }

    /// Whether the interface is there, and is such that we can have it. The last descriptor of a process that was killed is
    /// closed a moment after its death, so that this has patience.
    fn found_free(&self) -> Result<bool, Error> {
        let mut outcome = Ok(false);
        for step in 0..RELEASE_STEPS {
            if step > 0 {
                std::thread::sleep(RELEASE_STEP);
            }
            let found = self.look().map_err(self.kernel("look for"))?;
            let Some(link) = found else {
                return Ok(false);
            };
            outcome = self.refuse_strangers(&link).map(|()| true);
            if link.tap.queues == 0 {
                break;
            }
        }
        outcome
    }

    /// Refuses an interface that is no TAP of several queues, or is somebody else's.
    fn refuse_strangers(&self, link: &netdev::Link) -> Result<(), Error> {
        let netdev::Tap {
            frames,
            multi_queue,
            queues,
        } = link.tap;
        let interface = &self.options.interface;
        let reason = if link.kind != "tun" || !frames {
            let kind = match link.kind.as_str() {
                "" => "an interface of another kind",
                "tun" => "a TUN, which carries no Ethernet frames",
                kind => kind,
            };
            format!(
                "is there already and no TAP ({kind}): take another name, or net_af_packet for this one"
            )
        } else if !multi_queue {
            format!(
                "is a TAP of one queue: make it with `ip tuntap add dev {interface} mode tap multi_queue`, or leave it to us"
            )
        } else if queues > 0 {
            format!(
                "is in use, by {queues} descriptors of another program or of this group's former primary: stop those processes, or take another name"
            )
        } else {
            return Ok(());
        };
        Err(Error::InterfaceTaken {
            device: self.device.clone(),
            interface: interface.clone(),
            reason,
        })
    }

    /// Has an interface there that is prepared: of an adopted port, whoever held its descriptors may have ended.
    fn keep_alive(&mut self) -> Result<(), Error> {
        let ours = self.anchor.is_some() || self.queues.iter().any(Option::is_some);
        let used = |link: netdev::Link| link.tap.queues > 0;
        if ours || self.look().ok().flatten().is_some_and(used) {
            return Ok(());
        }
        self.make()
    }

    /// One more queue of the interface.
    fn open_queue(&self) -> Result<OwnedFd, Error> {
        let name = &self.options.interface;
        let fd = self.open_tun()?;
        sys::attach(fd.as_fd(), name, false).map_err(self.kernel("attach a queue to"))?;
        let theirs = sys::namespace_of(fd.as_fd()).map_err(self.kernel("find"))?;
        let home = self.home();
        if home.is_none_or(|home| !home.place.is(theirs.as_fd())) {
            // A thread of another namespace has asked; what it made there goes with the descriptor.
            return Err(self.kernel("find")(io::Error::from_raw_os_error(
                libc::ENODEV,
            )));
        }
        Ok(fd)
    }

    fn open_tun(&self) -> Result<OwnedFd, Error> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        let opened = self.home().ok_or_else(absent);
        opened
            .and_then(|home| home.place.open_tun())
            .map_err(|source| match source.raw_os_error() {
                Some(libc::EPERM) if self.options.namespace.is_some() => {
                    let path = self.options.namespace.clone().unwrap_or_default();
                    no_namespace(&self.device, &path, source)
                }
                Some(libc::EACCES | libc::EPERM) => self.no_device(
                    "may not be opened by this user; run the primary as root, or `chmod 666` it",
                ),
                Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => self.no_device(
                    "is not there; load it with `modprobe tun`, or give it to the container (`--device /dev/net/tun`)",
                ),
                _ => self.kernel("open /dev/net/tun for")(source),
            })
    }

    fn no_device(&self, reason: &str) -> Error {
        Error::File {
            device: self.device.clone(),
            path: DEVICE.into(),
            reason: reason.into(),
        }
    }

    fn kernel<'a>(&'a self, what: &'a str) -> impl Fn(io::Error) -> Error + 'a {
        move |source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::Privilege {
                device: self.device.clone(),
                what: "a TAP interface",
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

    fn home(&self) -> Option<&Home> {
        self.home.as_ref()
    }

    fn look(&self) -> io::Result<Option<netdev::Link>> {
        match self.home() {
            Some(home) => netdev::look(home.control.as_fd(), &self.options.interface),
            None => Ok(None),
        }
    }

    /// Asks the kernel about the interface, or tells it something, by the socket for that.
    fn ask<T>(
        &self,
        f: impl FnOnce(std::os::fd::BorrowedFd<'_>, &str) -> io::Result<T>,
    ) -> io::Result<T> {
        let home = self.home().ok_or(io::ErrorKind::NotFound)?;
        f(home.control.as_fd(), &self.options.interface)
    }

    /// Places for so many queues.
    fn make_places(&mut self, rx: u16, tx: u16) {
        let count = if tx > 0 { rx.max(1) } else { rx };
        self.queues = (0..count).map(|_| None).collect();
    }

    /// Which descriptor a queue is driven with.
    fn place(&self, queue: QueueId, direction: Direction) -> Option<usize> {
        match direction {
            Direction::Rx => Some(queue.0.into()),
            Direction::Tx => usize::from(queue.0).checked_rem(self.queues.len()),
        }
        .filter(|place| *place < self.queues.len())
    }

    fn queue(&self, queue: QueueId, direction: Direction) -> Option<&OwnedFd> {
        self.queues.get(self.place(queue, direction)?)?.as_ref()
    }

    fn put(&mut self, queue: QueueId, direction: Direction, fd: OwnedFd) {
        if let Some(place) = self.place(queue, direction) {
            self.queues[place] = Some(fd);
        }
    }

    /// Opens what a queue needs, unless its other direction has it.
    fn ensure(&mut self, queue: QueueId, direction: Direction) -> Result<(), Error> {
        if self.queue(queue, direction).is_none() {
            self.keep_alive()?;
            let fd = self.open_queue()?;
            self.put(queue, direction, fd);
        }
        Ok(())
    }

    fn own(&self, queue: QueueId, direction: Direction) -> Result<OwnedFd, Error> {
        let absent = || io::Error::from(io::ErrorKind::NotFound);
        self.queue(queue, direction)
            .ok_or_else(absent)
            .and_then(|fd| fd.try_clone())
            .map_err(self.kernel("share a queue of"))
    }

    /// The descriptor to drive a queue with: ours, or what was handed over.
    fn fd_of(&self, cx: &QueueContext, handed: Option<Handed>) -> Result<OwnedFd, Error> {
        let Some(handed) = handed else {
            return self.own(cx.queue, cx.direction);
        };
        take_apart(handed, &self.options.interface).map_err(|reason| Error::BadDescriptors {
            port: cx.port,
            direction: cx.direction,
            queue: cx.queue,
            reason,
        })
    }

    fn drop_everything(&self, on: bool) -> Result<(), Error> {
        // Any queue will do: it is said of the interface.
        match self.queues.iter().flatten().next() {
            Some(fd) => {
                sys::drop_everything(fd.as_fd(), on).map_err(self.kernel("filter frames of"))
            }
            None => Ok(()),
        }
    }
}

impl Device for Port {
    fn info(&self) -> DeviceInfo {
        let mtu = self.ask(netdev::mtu);
        DeviceInfo {
            interface: Some(self.options.interface.clone()),
            mac: self.ask(netdev::mac).map_or(self.mac, |(mac, _)| mac),
            mtu: mtu.map_or(self.mtu, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX)),
            max_rx_queues: self.options.queue_pairs.unwrap_or(queues_max()),
            max_tx_queues: queues_max(),
            default_descriptors: DESCRIPTORS_DEFAULT,
            max_descriptors: DESCRIPTORS_MAX,
            capabilities: CAPABILITIES,
            node: None,
            promiscuous: self.promiscuous,
        }
    }

    fn configure(&mut self, rx: u16, tx: u16, config: &PortConfig) -> Result<(), Error> {
        self.keep_alive()?;
        // Queues of an earlier configuration get no more frames, whoever still has them.
        for fd in self.queues.drain(..).flatten() {
            if let Err(error) = sys::detach(fd.as_fd()) {
                warn!(
                    "{}: a queue cannot be detached, and takes frames until all have closed it: {error}",
                    self.device
                );
            }
            self.anchor.get_or_insert(fd);
        }
        if let Some(mtu) = config.mtu {
            self.set_mtu(mtu)?;
        }
        self.promiscuous = config.promiscuous.unwrap_or(self.promiscuous);
        self.make_places(rx, tx);
        self.inherited = false;
        Ok(())
    }

    fn rx_queue_setup(
        &mut self,
        queue: QueueId,
        descriptors: u32,
        pool: Pool,
    ) -> Result<(), Error> {
        check_room(pool, NAME, FIRST_SEGMENT_MIN)?;
        // First: it may have to make the interface anew.
        self.ensure(queue, Direction::Rx)?;
        if !self.inherited {
            self.ask(|fd, name| netdev::set_queue_len(fd, name, descriptors.max(2)))
                .map_err(self.kernel("set the queue length of"))?;
        }
        Ok(())
    }

    fn tx_queue_setup(&mut self, queue: QueueId, _descriptors: u32) -> Result<(), Error> {
        self.ensure(queue, Direction::Tx)
    }

    fn start(&mut self) -> Result<(), Error> {
        self.drop_everything(false)?;
        if !self.inherited {
            self.ask(netdev::bring_up)
                .map_err(self.kernel("bring up"))?;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<(), Error> {
        self.inherited = false;
        self.drop_everything(true)
    }

    fn close(&mut self) {
        self.queues.clear();
        self.anchor = None;
    }

    fn link(&self) -> Link {
        let flags = self.ask(netdev::flags).unwrap_or(0);
        let both = libc::IFF_UP | libc::IFF_RUNNING;
        Link {
            up: flags & both == both,
            ..Link::VIRTUAL
        }
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), Error> {
        self.ask(|fd, name| netdev::set_mtu(fd, name, mtu))
            .map_err(self.kernel("set the MTU of"))
    }

    fn set_mac(&mut self, mac: MacAddress) -> Result<(), Error> {
        self.ask(|fd, name| netdev::set_mac(fd, name, mac))
            .map_err(self.kernel("set the address of"))?;
        self.mac = mac;
        Ok(())
    }

    fn set_promiscuous(&mut self, on: bool) -> Result<(), Error> {
        // A wire carries all that its host sends: the mode is only what was said.
        self.promiscuous = on;
        Ok(())
    }

    fn stats(&self) -> Vec<(&'static str, u64)> {
        let Ok(Some(link)) = self.look() else {
            return Vec::new();
        };
        // What the host sends we receive, and the other way round.
        let (to_host, from_host) = link.dropped;
        vec![
            ("rx_dropped_by_interface", from_host),
            ("tx_dropped_by_interface", to_host),
        ]
    }

    fn descriptors(&self, queue: QueueId, direction: Direction) -> Result<Option<Handed>, Error> {
        Ok(Some(Handed {
            payload: HANDED.to_le_bytes().into(),
            descriptors: vec![self.own(queue, direction)?],
        }))
    }

    fn adopt(&mut self, queue: QueueId, direction: Direction, kept: Handed) -> Result<(), String> {
        let fd = self.examine(kept)?;
        // Both directions of a queue are one descriptor: whichever comes first.
        if self.queue(queue, direction).is_none() {
            self.put(queue, direction, fd);
        }
        Ok(())
    }

    fn holds(&self, queue: QueueId, direction: Direction) -> bool {
        self.queue(queue, direction).is_some()
    }

    fn rx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn RxQueue>, Error> {
        let fd = self.fd_of(&cx, handed)?;
        let Some(pool) = cx.pool else {
            return Err(self.kernel("receive without a pool on")(
                io::ErrorKind::InvalidInput.into(),
            ));
        };
        Ok(Box::new(TapRx::new(fd, pool, &cx)))
    }

    fn tx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn TxQueue>, Error> {
        Ok(Box::new(TapTx::new(self.fd_of(&cx, handed)?, cx.counters)))
    }
}

/// The descriptor that was handed over, if it is a queue of that interface as ours are, or why it is not.
fn take_apart(handed: Handed, interface: &str) -> Result<OwnedFd, String> {
    if handed.payload != HANDED.to_le_bytes() {
        return Err("its first word is another".into());
    }
    let fd = handed.descriptors.into_iter().next();
    let fd = fd.ok_or("the descriptor is missing")?;
    match sys::attached_to(fd.as_fd()) {
        Ok((name, true)) if name == interface => Ok(fd),
        Ok((name, true)) => Err(format!("it is a queue of {name}, and not of {interface}")),
        Ok((_, false)) => Err("it is a queue of another kind".into()),
        Err(error) if error.raw_os_error() == Some(libc::EBADFD) => {
            Err("its interface is gone".into())
        }
        Err(_) => Err("the descriptor is no queue of a TAP".into()),
    }
}

fn no_namespace(device: &str, path: &Path, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EPERM) => Error::Privilege {
            device: device.to_owned(),
            what: "netns=, the network namespace of another,",
            capability: "CAP_SYS_ADMIN",
            capability_flag: "cap_sys_admin",
            or: OR_USER_NAMESPACE,
            source,
        },
        Some(libc::EINVAL) => Error::File {
            device: device.to_owned(),
            path: path.into(),
            reason: "is no network namespace; name one as /run/netns/NAME or /proc/PID/ns/net"
                .into(),
        },
        _ => Error::File {
            device: device.to_owned(),
            path: path.into(),
            reason: format!(
                "{source}; name a network namespace as /run/netns/NAME or /proc/PID/ns/net"
            ),
        },
    }
}

#[cfg(test)]
mod tests;
