//! Interfaces of a host: cables, VLANs, and what can be set on them.

use std::fmt;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, InfoVlan, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, State,
};

use crate::{Error, Host, sys};

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What the kernel counted on an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Packets that came in.
    pub rx_packets: u64,
    /// Bytes that came in.
    pub rx_bytes: u64,
    /// Packets that came in and were dropped.
    pub rx_dropped: u64,
    /// Packets that went out.
    pub tx_packets: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
    /// Packets that were to go out and were dropped.
    pub tx_dropped: u64,
}

/// Work that an interface does for the stack; on a veth it means that packets pass unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// Packets leave with a checksum that is still to be completed.
    pub tx_checksum: bool,
    /// Packets that come in need no check of their checksum.
    pub rx_checksum: bool,
    /// TCP segments larger than the MTU leave whole.
    pub tso: bool,
    /// Packets are split only just before they leave.
    pub gso: bool,
    /// Packets that come in are joined.
    pub gro: bool,
    /// A VLAN tag leaves beside the packet, not in it.
    pub tx_vlan: bool,
    /// A VLAN tag is taken out of a packet that comes in.
    pub rx_vlan: bool,
}

impl Offloads {
    /// Everything on: what a veth has when it is made.
    pub const ON: Self = Self {
        tx_checksum: true,
        rx_checksum: true,
        tso: true,
        gso: true,
        gro: true,
        tx_vlan: true,
        rx_vlan: true,
    };
    /// Everything off: whole packets of at most the MTU, with right checksums and tags inside.
    pub const OFF: Self = Self {
        tx_checksum: false,
        rx_checksum: false,
        tso: false,
        gso: false,
        gro: false,
        tx_vlan: false,
        rx_vlan: false,
    };
}

// linux/ethtool.h: for each, the command that sets it follows the one that reads it.
const ETHTOOL_GRXCSUM: u32 = 0x14;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GSG: u32 = 0x18;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GGSO: u32 = 0x23;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETH_FLAG_TXVLAN: u32 = 1 << 7;
const ETH_FLAG_RXVLAN: u32 = 1 << 8;

/// How long the kernel may take to begin to send on an interface that has just got a carrier.
const UP_LIMIT: Duration = Duration::from_secs(3);

/// Whether nothing is about to change: the interface works, or has no carrier to work with.
fn is_settled(link: &LinkMessage) -> bool {
    let is_lifeless = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::Carrier(0));
    let works = |attribute: &LinkAttribute| {
        matches!(
            attribute,
            LinkAttribute::OperState(State::Up | State::Unknown)
        )
    };
    link.attributes.iter().any(is_lifeless) || link.attributes.iter().any(works)
}

/// Joins two hosts by a cable; each end gets as many RX and TX queues as `queues` says.
///
/// # Errors
///
/// If a name is taken, or the kernel has no veth.
pub fn veth(a: (&Host, &str), b: (&Host, &str), queues: u32) -> Result<(), Error> {
    veth_of(a, b, [queues, queues])
}

/// The same, with as many queues for each end as its number says.
///
/// # Errors
///
/// As for [`veth`].
pub fn veth_of(a: (&Host, &str), b: (&Host, &str), queues: [u32; 2]) -> Result<(), Error> {
    let end = |name: &str, queues: u32| {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        message.attributes.push(LinkAttribute::NumTxQueues(queues));
        message.attributes.push(LinkAttribute::NumRxQueues(queues));
        message
    };
    let mut peer = end(b.1, queues[1]);
    peer.attributes
        .push(LinkAttribute::NetNsFd(b.0.namespace().as_raw_fd()));
    a.0.create(
        end(a.1, queues[0]),
        InfoKind::Veth,
        Some(InfoData::Veth(InfoVeth::Peer(peer))),
    )
    .map_err(|source| {
        let what = format!("lay a veth from {} to {}:{}", a.1, b.0.name(), b.1);
        let remedy = match source.raw_os_error() {
            Some(libc::EEXIST) => "take another name, this one is in use",
            _ => "see whether the kernel has veth (`modprobe veth`)",
        };
        a.0.refused(&what, remedy, source)
    })
}

impl Host {
    /// Makes the interface `name` for the frames on `parent` that carry VLAN tag `id`.
    ///
    /// # Errors
    ///
    /// If the kernel has no VLAN module; [`FrameSocket`](crate::FrameSocket) can send tagged frames
    /// without.
    pub fn vlan(&self, parent: &str, id: u16, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        message
            .attributes
            .push(LinkAttribute::Link(self.index(parent)?));
        let data = InfoData::Vlan(vec![InfoVlan::Id(id)]);
        self.create(message, InfoKind::Vlan, Some(data))
            .map_err(|source| {
                let what = format!("make {name} for VLAN {id} on {parent}");
                self.refused(
                    &what,
                    "see whether the kernel has VLANs (`modprobe 8021q`)",
                    source,
                )
            })
    }

    /// Makes a bridge of the kernel's between interfaces of this host.
    ///
    /// # Errors
    ///
    /// If the kernel has no bridge, or an interface is missing.
    pub fn bridge(&self, name: &str, members: &[&str]) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        let data = InfoData::Bridge(Vec::<InfoBridge>::new());
        self.create(message, InfoKind::Bridge, Some(data))
            .map_err(|source| {
                let what = format!("make the bridge {name}");
                self.refused(
                    &what,
                    "see whether the kernel has bridges (`modprobe bridge`)",
                    source,
                )
            })?;
        let bridge = self.index(name)?;
        for member in members {
            self.set(member, "put into a bridge", |message| {
                message.attributes.push(LinkAttribute::Controller(bridge));
            })?;
        }
        self.up(name)
    }

    /// Takes an interface away; of a veth both ends go.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn remove(&self, iface: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(iface)?;
        self.change(RouteNetlinkMessage::DelLink(message), 0)
            .map_err(|source| {
                self.refused(
                    &format!("remove {iface}"),
                    "only what can be made can be removed",
                    source,
                )
            })
    }

    /// Brings an interface up. If it has a carrier, that is if a cable's far end is up too, packets
    /// pass when this returns: the kernel connects the ends in its own time.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn up(&self, iface: &str) -> Result<(), Error> {
        self.set(iface, "bring up", |message| {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        })?;
        let until = Instant::now() + UP_LIMIT;
        while !self.is_settled(iface)? && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether nothing is about to change at either end of the cable.
    fn is_settled(&self, iface: &str) -> Result<bool, Error> {
        let near = self.link(iface)?;
        if !is_settled(&near) {
            return Ok(false);
        }
        let host = near
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::LinkNetNsId(host) => Some(*host),
                _ => None,
            });
        let index = near
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Link(index) => Some(*index),
                _ => None,
            });
        let (Some(host), Some(index)) = (host, index) else {
            return Ok(true);
        };
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::IfNetnsId(host));
        // A far end that cannot be seen cannot be waited for.
        let far = self
            .ask(RouteNetlinkMessage::GetLink(message))
            .unwrap_or_default();
        Ok(far.iter().all(|message| match message {
            RouteNetlinkMessage::NewLink(far) => is_settled(far),
            _ => true,
        }))
    }

    /// Takes an interface down.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn down(&self, iface: &str) -> Result<(), Error> {
        self.set(iface, "take down", |message| {
            message.header.change_mask = LinkFlags::Up
        })
    }

    /// Sets the longest packet that an interface takes.
    ///
    /// # Errors
    ///
    /// If the interface cannot.
    pub fn mtu(&self, iface: &str, mtu: u32) -> Result<(), Error> {
        self.set(iface, "set the MTU of", |message| {
            message.attributes.push(LinkAttribute::Mtu(mtu));
        })
    }

    /// Gives an interface another Ethernet address.
    ///
    /// # Errors
    ///
    /// If the address is no station's.
    pub fn set_mac(&self, iface: &str, mac: MacAddress) -> Result<(), Error> {
        self.set(iface, "set the address of", |message| {
            message
                .attributes
                .push(LinkAttribute::Address(mac.0.to_vec()));
        })
    }

    /// The Ethernet address of an interface.
    ///
    /// # Errors
    ///
    /// If there is no such interface.
    pub fn mac(&self, iface: &str) -> Result<MacAddress, Error> {
        let link = self.link(iface)?;
        let mac = link
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Address(bytes) => bytes[..].try_into().ok().map(MacAddress),
                _ => None,
            });
        mac.ok_or_else(|| self.no_interface(iface))
    }

    /// What the kernel counted on an interface.
    ///
    /// # Errors
    ///
    /// If there is no such interface.
    pub fn stats(&self, iface: &str) -> Result<LinkStats, Error> {
        let link = self.link(iface)?;
        let stats = link
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                LinkAttribute::Stats64(stats) => Some(LinkStats {
                    rx_packets: stats.rx_packets,
                    rx_bytes: stats.rx_bytes,
                    rx_dropped: stats.rx_dropped,
                    tx_packets: stats.tx_packets,
                    tx_bytes: stats.tx_bytes,
                    tx_dropped: stats.tx_dropped,
                }),
                _ => None,
            });
        stats.ok_or_else(|| self.no_interface(iface))
    }

    /// Whether this host has an interface of that name.
    pub fn has(&self, iface: &str) -> bool {
        self.link(iface).is_ok()
    }

    /// The number of an interface on this host.
    ///
    /// # Errors
    ///
    /// If there is no such interface.
    pub fn index(&self, iface: &str) -> Result<u32, Error> {
        self.link(iface).map(|link| link.header.index)
    }

    /// Sets what an interface does for the stack.
    ///
    /// # Errors
    ///
    /// Names what the interface cannot change.
    pub fn offloads(&self, iface: &str, wanted: Offloads) -> Result<(), Error> {
        self.index(iface)?;
        // Checksums first: segmentation and gathering hang on them. What is on goes on in this
        // order, and what goes off takes the rest along.
        let switches = [
            ("rx-checksumming", ETHTOOL_GRXCSUM, wanted.rx_checksum),
            ("tx-checksumming", ETHTOOL_GTXCSUM, wanted.tx_checksum),
            ("scatter-gather", ETHTOOL_GSG, wanted.tx_checksum),
            ("tcp-segmentation-offload", ETHTOOL_GTSO, wanted.tso),
            ("generic-segmentation-offload", ETHTOOL_GGSO, wanted.gso),
            ("generic-receive-offload", ETHTOOL_GGRO, wanted.gro),
        ];
        for (name, read, on) in switches {
            // Some interfaces have what is off and can only be off.
            if self.ethtool(iface, name, read, 0)? != u32::from(on) {
                self.ethtool(iface, name, read + 1, u32::from(on))?;
            }
        }
        let name = "vlan-offload";
        let others = self.ethtool(iface, name, ETHTOOL_GFLAGS, 0)?;
        let flag = |on, flag| if on { flag } else { 0 };
        let flags = others & !(ETH_FLAG_TXVLAN | ETH_FLAG_RXVLAN)
            | flag(wanted.tx_vlan, ETH_FLAG_TXVLAN)
            | flag(wanted.rx_vlan, ETH_FLAG_RXVLAN);
        if flags == others {
            return Ok(());
        }
        self.ethtool(iface, name, ETHTOOL_GFLAGS + 1, flags)
            .map(drop)
    }

    /// What an interface does for the stack now.
    ///
    /// # Errors
    ///
    /// If there is no such interface.
    pub fn offloads_now(&self, iface: &str) -> Result<Offloads, Error> {
        self.index(iface)?;
        let read = |name, command| Ok::<_, Error>(self.ethtool(iface, name, command, 0)? != 0);
        let flags = self.ethtool(iface, "vlan-offload", ETHTOOL_GFLAGS, 0)?;
        Ok(Offloads {
            rx_checksum: read("rx-checksumming", ETHTOOL_GRXCSUM)?,
            tx_checksum: read("tx-checksumming", ETHTOOL_GTXCSUM)?,
            tso: read("tcp-segmentation-offload", ETHTOOL_GTSO)?,
            gso: read("generic-segmentation-offload", ETHTOOL_GGSO)?,
            gro: read("generic-receive-offload", ETHTOOL_GGRO)?,
            tx_vlan: flags & ETH_FLAG_TXVLAN != 0,
            rx_vlan: flags & ETH_FLAG_RXVLAN != 0,
        })
    }

    fn ethtool(&self, iface: &str, name: &str, command: u32, value: u32) -> Result<u32, Error> {
        sys::ethtool(self.control(), iface, command, value).map_err(|source| {
            let what = format!("change or read {name} of {iface}");
            self.refused(&what, "leave it as it is on this kind of interface", source)
        })
    }

    fn create(
        &self,
        mut message: LinkMessage,
        kind: InfoKind,
        data: Option<InfoData>,
    ) -> std::io::Result<()> {
        let mut info = vec![LinkInfo::Kind(kind)];
        info.extend(data.map(LinkInfo::Data));
        message.attributes.push(LinkAttribute::LinkInfo(info));
        self.change(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
    }

    fn set(&self, iface: &str, what: &str, f: impl FnOnce(&mut LinkMessage)) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(iface)?;
        f(&mut message);
        self.change(RouteNetlinkMessage::SetLink(message), 0)
            .map_err(|source| {
                self.refused(
                    &format!("{what} {iface}"),
                    "see what this kind of interface takes",
                    source,
                )
            })
    }

    fn link(&self, iface: &str) -> Result<LinkMessage, Error> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(iface.into()));
        match self.ask(RouteNetlinkMessage::GetLink(message)) {
            Ok(told) => told
                .into_iter()
                .find_map(|message| match message {
                    RouteNetlinkMessage::NewLink(link) => Some(link),
                    _ => None,
                })
                .ok_or_else(|| self.no_interface(iface)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                Err(self.no_interface(iface))
            }
            Err(source) => {
                let what = format!("look {iface:?} up");
                Err(self.refused(&what, "an interface name has 1 to 15 bytes", source))
            }
        }
    }

    fn no_interface(&self, iface: &str) -> Error {
        Error::NoInterface {
            host: self.name().into(),
            iface: iface.into(),
        }
    }
}
