//! The traits of a driver: [`Driver`] opens, [`Device`] is an open port, [`RxQueue`] and [`TxQueue`] move packets.
//!
//! ```text
//!             primary                                      secondary
//!  --vdev ->  Driver::probe -> Device   port record ->     Driver::attach -> Device
//!             configure, *_queue_setup, start
//!             Device::descriptors --- control.sock --->    `handed` of rx_queue, tx_queue
//!             Device::rx_queue, tx_queue                   Device::rx_queue, tx_queue
//!
//!             the next primary                             (keeps what it was handed)
//!  --vdev ->  Driver::adopt -> Device
//!             Device::adopt       <--- control.sock ---    offers it
//!             *_queue_setup for what nobody offered, start
//! ```
//!
//! A driver writes nothing shared but what its queues own: the cursors of their
//! [`QueueRecord`] and the drop counters of their [`QueueCounters`]. Packets, bytes and
//! segments are counted by the port's wrapper around the queue, which also writes port and
//! queue number into every mbuf received.
//!
//! **If a process dies:** the owner word of the queue record still names it; the next owner takes the word over
//! from the dead one and goes on at the record's cursors. What the kernel keeps for a queue lives as long as anybody has a
//! descriptor of it: the next primary [adopts](Device::adopt) those that secondaries kept, and makes only what nobody has. A
//! device whose frames lie in the kernel (an AF_XDP UMEM is a pool's frame array) tags them as PROTOCOL.md, section 2, says.

use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};

use eal::queue::QueueRecord;
use eal::sleep::Found;
use eal::{Owner, Region};
use mbuf::{Burst, Lcore, Pool};

use crate::args::{DevArgs, Key, PortConfig};
use crate::capabilities::Capabilities;
use crate::error::Error;
use crate::mac::MacAddress;
use crate::stats::QueueCounters;

/// A port of the group, by number: the bit in a port mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

/// A queue of a port, counted for each direction from zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u16);

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which way a queue carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the device to the group.
    Rx,
    /// From the group to the device.
    Tx,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rx => "rx",
            Self::Tx => "tx",
        })
    }
}

/// One kind of port: what a user names in `--vdev KIND0,KEY=VALUE,...`.
pub trait Driver: Sync {
    /// The kind, as the user types it: `net_af_packet`.
    fn name(&self) -> &'static str;

    /// The keys it takes, for `--help`: `iface=NAME[,qpairs=N]`.
    fn usage(&self) -> &'static str;

    /// The keys it takes; any other is refused before [`probe`](Self::probe) is called.
    fn keys(&self) -> &'static [Key];

    /// Whether a secondary needs what [`Device::descriptors`] gave the primary.
    fn hands_descriptors(&self) -> bool {
        false
    }

    /// Whether each process can drive a queue of that direction by itself. If not, the primary drives it for all
    /// ([`proxy`](crate::proxy)), unless the user says `share=direct`.
    fn is_shared(&self, _direction: Direction) -> bool {
        true
    }

    /// Whether the kernel's own stack stands at the other end of the wire, with the address that the port has.
    fn faces_kernel(&self) -> bool {
        false
    }

    /// Opens a port, in the primary. No packet moves before a queue is polled.
    ///
    /// # Errors
    ///
    /// Names the key that is wrong, or the privilege that is missing.
    fn probe(&self, cx: &Probe<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error>;

    /// Opens a port, in the primary, that a former one opened under the same arguments and that others use meanwhile. Disturbs
    /// nothing that moves: what the queues need is [adopted](Device::adopt) afterwards, or set up where nobody has it.
    ///
    /// # Errors
    ///
    /// As for [`probe`](Self::probe).
    fn adopt(
        &self,
        cx: &Probe<'_>,
        args: &DevArgs,
        _left: &Legacy,
    ) -> Result<Box<dyn Device>, Error> {
        self.probe(cx, args)
    }

    /// Joins a port that the primary has opened. Needs no privilege.
    ///
    /// # Errors
    ///
    /// When the record of the port makes no sense to this driver.
    fn attach(&self, cx: &Attach<'_>, args: &DevArgs) -> Result<Box<dyn Device>, Error>;
}

/// Where a port is opened.
#[derive(Debug, Clone, Copy)]
pub struct Probe<'a> {
    /// The group's memory.
    pub region: &'static Region,
    /// The number that the port will have.
    pub port: PortId,
    /// All ports that this process opens, this one among them, in order.
    pub vdevs: &'a [DevArgs],
}

/// What a former primary left of a port that others still use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Legacy {
    /// RX queues configured.
    pub rx: u16,
    /// TX queues configured.
    pub tx: u16,
    /// Whether frames for other addresses are received too.
    pub promiscuous: bool,
    /// What [`Device::word`] said when the port was started.
    pub word: u32,
}

/// What a secondary knows of a port that the primary has opened.
#[derive(Debug, Clone, Copy)]
pub struct Attach<'a> {
    /// The group's memory.
    pub region: &'static Region,
    /// The port's number.
    pub port: PortId,
    /// All ports of the group, in order.
    pub vdevs: &'a [DevArgs],
    /// The address in the port's record.
    pub mac: MacAddress,
    /// The MTU in the port's record.
    pub mtu: u16,
}

/// What is fixed while a port is open, and what it can do.
#[derive(Debug, Clone)]
pub struct DeviceInfo {
    /// The kernel interface behind the port, if there is one.
    pub interface: Option<String>,
    /// The address of the port.
    pub mac: MacAddress,
    /// The largest packet without the Ethernet header.
    pub mtu: u16,
    /// RX queues that can be configured.
    pub max_rx_queues: u16,
    /// TX queues that can be configured.
    pub max_tx_queues: u16,
    /// Descriptors of a queue for which `0` was asked.
    pub default_descriptors: u32,
    /// Most descriptors of a queue.
    pub max_descriptors: u32,
    /// What the device does; software does the rest.
    pub capabilities: Capabilities,
    /// The NUMA node that the device is attached to.
    pub node: Option<u32>,
    /// Whether frames for other addresses are received too, as it is now.
    pub promiscuous: bool,
}

/// The state of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Whether packets can pass.
    pub up: bool,
    /// In Mbit/s; `None` if the device does not say.
    pub speed_mbps: Option<u32>,
    /// Whether both directions pass at once.
    pub full_duplex: bool,
}

impl Link {
    /// A link that software makes: always up, of no particular speed.
    pub const VIRTUAL: Self = Self {
        up: true,
        speed_mbps: None,
        full_duplex: true,
    };
}

/// What the primary gives a secondary, so that it can drive a queue itself.
#[derive(Debug, Default)]
pub struct Handed {
    /// Words of the driver for itself; the receiver checks them.
    pub payload: Vec<u8>,
    /// Descriptors, in an order that the driver defines.
    pub descriptors: Vec<OwnedFd>,
}

/// An open port: its control plane. Only the primary configures; both hand out queues.
///
/// What a method does not override is refused with [`Error::Unsupported`].
pub trait Device: Send {
    /// Address, MTU and limits as they are now.
    fn info(&self) -> DeviceInfo;

    /// What would give it `count` queues of a direction, if it has fewer. `None` where its arguments alone decide.
    fn more_queues(&self, _count: u16) -> Option<String> {
        None
    }

    /// Takes the number of queues. The port has compared them with [`DeviceInfo`].
    ///
    /// # Errors
    ///
    /// What the device refuses, by name.
    fn configure(&mut self, rx: u16, tx: u16, config: &PortConfig) -> Result<(), Error>;

    /// Makes an RX queue that fills buffers of `pool`. Of one that it [holds](Self::holds) it only looks whether the pool fits.
    ///
    /// # Errors
    ///
    /// For instance a pool whose data room cannot take the device's frames.
    fn rx_queue_setup(&mut self, queue: QueueId, descriptors: u32, pool: Pool)
    -> Result<(), Error>;

    /// Makes a TX queue, unless it [holds](Self::holds) it.
    ///
    /// # Errors
    ///
    /// What the device refuses, by name.
    fn tx_queue_setup(&mut self, queue: QueueId, descriptors: u32) -> Result<(), Error>;

    /// Lets packets through. All queues configured are set up, but for those of an adopted port that their living owners alone
    /// have. Called again when one of these was set up after all.
    ///
    /// # Errors
    ///
    /// What the device refuses, by name.
    fn start(&mut self) -> Result<(), Error>;

    /// Lets no more packets through.
    ///
    /// # Errors
    ///
    /// What the device refuses, by name.
    fn stop(&mut self) -> Result<(), Error>;

    /// Gives back what was opened. The device is used no more.
    fn close(&mut self) {}

    /// The state of the wire.
    fn link(&self) -> Link {
        Link::VIRTUAL
    }

    /// Changes the largest packet.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless the driver says otherwise.
    fn set_mtu(&mut self, _mtu: u16) -> Result<(), Error> {
        Err(Error::Unsupported {
            what: "setting the MTU",
        })
    }

    /// Changes the address.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless the driver says otherwise.
    fn set_mac(&mut self, _mac: MacAddress) -> Result<(), Error> {
        Err(Error::Unsupported {
            what: "setting the MAC address",
        })
    }

    /// Whether frames for other addresses are received too.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless the driver says otherwise.
    fn set_promiscuous(&mut self, _on: bool) -> Result<(), Error> {
        Err(Error::Unsupported {
            what: "promiscuous mode",
        })
    }

    /// Counters that belong to the device and to none of its queues, by name.
    fn stats(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// What a secondary needs to drive this queue, duplicated; `None` if it needs nothing.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to duplicate.
    fn descriptors(&self, _queue: QueueId, _direction: Direction) -> Result<Option<Handed>, Error> {
        Ok(None)
    }

    /// Takes what a secondary kept of a queue, in a port that was [adopted](Driver::adopt), once it is found to be what
    /// [`descriptors`](Self::descriptors) of this very port would give. The queue's cursors go with it.
    ///
    /// # Errors
    ///
    /// What of it does not fit; it is let go, and the queue set up anew.
    fn adopt(
        &mut self,
        _queue: QueueId,
        _direction: Direction,
        _kept: Handed,
    ) -> Result<(), String> {
        Ok(())
    }

    /// Whether the device has what a queue needs: what [`descriptors`](Self::descriptors) duplicates.
    fn holds(&self, _queue: QueueId, _direction: Direction) -> bool {
        true
    }

    /// What the next primary is to know of the device and can ask nobody: comes back in [`Legacy`].
    fn word(&self) -> u32 {
        0
    }

    /// Gives back what dead owners of TX queues left: what they had half given, and what was sent. How many frames that were.
    fn reap(&mut self, _lcore: &Lcore) -> u32 {
        0
    }

    /// Whether the device has frames of our pools, which come back only once it is gone: then a port that nobody drives any more is
    /// closed, and not left for the next primary.
    fn has_frames(&self) -> bool {
        false
    }

    /// After [`close`](Self::close): gives back the frames that the device had, once nobody has its queues any more. How many.
    fn reclaim(&mut self, _lcore: &Lcore) -> u32 {
        0
    }

    /// The receiving side of a queue, for the thread that polls it.
    ///
    /// `handed` is what the primary published, in a secondary of a driver that
    /// [hands descriptors](Driver::hands_descriptors); the primary uses its own.
    ///
    /// # Errors
    ///
    /// When what was handed over does not fit, or a ring is held by somebody else.
    fn rx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn RxQueue>, Error>;

    /// The sending side of a queue, for the thread that fills it.
    ///
    /// # Errors
    ///
    /// As for [`rx_queue`](Self::rx_queue).
    fn tx_queue(
        &mut self,
        cx: QueueContext,
        handed: Option<Handed>,
    ) -> Result<Box<dyn TxQueue>, Error>;
}

/// All that a queue has of its port.
#[derive(Debug, Clone, Copy)]
pub struct QueueContext {
    /// The group's memory.
    pub region: &'static Region,
    /// The port.
    pub port: PortId,
    /// The queue.
    pub queue: QueueId,
    /// Which of the two queues of that number.
    pub direction: Direction,
    /// The owner, claimed before the driver is asked; cursors, written by the owner alone.
    pub record: &'static QueueRecord,
    /// The queue's counters, written by the owner alone.
    pub counters: QueueCounters,
    /// The pool that an RX queue fills from.
    pub pool: Option<Pool>,
    /// How many descriptors the queue was set up with.
    pub descriptors: u32,
    /// Who drives it.
    pub owner: Owner,
}

/// Whether the buffers of a pool take `needed` bytes behind their headroom.
pub(crate) fn check_room(pool: Pool, driver: &'static str, needed: usize) -> Result<(), Error> {
    let room = usize::from(pool.data_room()).saturating_sub(usize::from(mbuf::HEADROOM));
    if room >= needed {
        return Ok(());
    }
    Err(Error::PoolTooSmall {
        pool: pool.name().to_string(),
        room,
        driver,
        needed,
        data_room: (needed + usize::from(mbuf::HEADROOM)).next_multiple_of(64),
    })
}

/// What tells that an RX queue has packets, while its thread sleeps.
#[derive(Debug, Clone, Copy)]
pub enum Wakeup<'q> {
    /// Nothing does, and there may be some at any time: the thread polls, and cannot sleep.
    Poll,
    /// There will be none.
    Never,
    /// The doorbell of the thread's slot, which whoever fills the queue rings.
    Doorbell,
    /// A descriptor that is readable as long as there are packets that were not taken.
    Descriptor(BorrowedFd<'q>),
}

/// The receiving half of a queue. It stays on the thread that polls it.
pub trait RxQueue {
    /// Adds up to `burst.room()` packets to `burst` and returns how many. Never blocks.
    ///
    /// What could not be received is dropped and counted ([`QueueCounters::dropped`]).
    fn rx_burst<'c>(&mut self, lcore: &'c Lcore, burst: &mut Burst<'c>) -> usize;

    /// What tells that there are packets. A queue that does not say is polled.
    fn wakeup(&self) -> Wakeup<'_> {
        Wakeup::Poll
    }

    /// The thread is about to sleep: from now on whoever fills the queue tells.
    fn sleep_begin(&mut self) {}

    /// Whether there are packets now; takes none. A descriptor that tells of those that were there before needs no look.
    fn look(&mut self) -> Found {
        Found::Nothing
    }

    /// It is awake.
    fn sleep_end(&mut self) {}
}

/// The sending half of a queue. It stays on the thread that fills it.
pub trait TxQueue {
    /// Takes packets from the front of `burst` and returns how many. Never blocks;
    /// what the device has no room for stays in `burst`, and the caller decides.
    ///
    /// A packet that can never be sent is taken, freed and counted with
    /// [`QueueCounters::dropped_taken`].
    fn tx_burst(&mut self, burst: &mut Burst<'_>) -> usize;
}
