//! A host: a network namespace and what can be done in it.

use std::fs;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::link::MacAddress;
use crate::netlink::Netlink;
use crate::{Cidr, Error, sys, user};

/// A network namespace with a name for messages, gone when this value and every process in it are.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: OwnedFd,
    netlink: Mutex<Netlink>,
    /// A socket of the namespace, for `ioctl`.
    control: UdpSocket,
}

/// What a thread brings along from inside a namespace.
type Inside = (OwnedFd, Netlink, UdpSocket);

impl Host {
    /// Makes a host that has nothing but a loopback interface, which is up.
    ///
    /// # Errors
    ///
    /// [`Error::Forbidden`] if this process may not; call [`enter`](crate::enter) first.
    pub fn new(name: &str) -> Result<Self, Error> {
        let made = thread::scope(|scope| {
            scope
                .spawn(|| {
                    sys::unshare_network().and_then(|()| {
                        trust_addresses();
                        inside()
                    })
                })
                .join()
        });
        let made = made.unwrap_or_else(|panic| panic::resume_unwind(panic));
        let (namespace, netlink, control) =
            made.map_err(|source| user::refused_namespace(name, source))?;
        let netlink = Mutex::new(netlink);
        let host = Self {
            name: name.into(),
            namespace,
            netlink,
            control,
        };
        host.up("lo")?;
        Ok(host)
    }

    /// The namespace in which the calling thread is.
    ///
    /// # Errors
    ///
    /// If `/proc` does not show it.
    pub fn current(name: &str) -> Result<Self, Error> {
        let (namespace, netlink, control) = inside().map_err(|source| Error::Refused {
            host: name.into(),
            what: "open the present network namespace".into(),
            remedy: "mount /proc",
            source,
        })?;
        Ok(Self {
            name: name.into(),
            namespace,
            netlink: Mutex::new(netlink),
            control,
        })
    }

    /// What messages call this host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor by which the namespace lives.
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }

    /// Runs `f` on a thread of its own in this namespace. Sockets that it makes stay on this host
    /// wherever they are used later.
    ///
    /// # Errors
    ///
    /// If the thread cannot be moved into the namespace.
    ///
    /// # Panics
    ///
    /// If `f` does.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let result = thread::scope(|scope| {
            let run = || -> io::Result<T> {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(self.namespace.as_fd(), kind)?;
                Ok(f())
            };
            scope.spawn(run).join()
        });
        result
            .unwrap_or_else(|panic| panic::resume_unwind(panic))
            .map_err(|source| self.refused("enter its namespace", "run this as root", source))
    }

    /// Makes the child of `command` run in this namespace and die (by SIGKILL) with the thread that
    /// spawns it. Call [`die_with_parent`](crate::die_with_parent) afterwards for another signal.
    ///
    /// # Errors
    ///
    /// If no descriptor is left.
    pub fn command<'c>(&self, command: &'c mut Command) -> Result<&'c mut Command, Error> {
        let namespace = self.namespace.try_clone().map_err(|source| {
            self.refused("keep its namespace open", "raise `ulimit -n`", source)
        })?;
        sys::start_in(command, namespace);
        sys::die_with_parent(command, Signal::KILL);
        Ok(command)
    }

    /// Gives an interface an address: `10.0.0.1/24`, `fd00::1/64`. IPv6 addresses are usable at once.
    ///
    /// # Errors
    ///
    /// Names a text that is no address, or says why the kernel refused it.
    pub fn address(&self, iface: &str, address: &str) -> Result<(), Error> {
        let cidr: Cidr = address.parse()?;
        let mut message = AddressMessage::default();
        message.header.family = family(cidr.address);
        message.header.prefix_len = cidr.prefix_len;
        message.header.index = self.index(iface)?;
        message
            .attributes
            .push(AddressAttribute::Address(cidr.address));
        message
            .attributes
            .push(AddressAttribute::Local(cidr.address));
        if cidr.address.is_ipv6() {
            // Detection of duplicates would keep it from being used for a second.
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.change(
            RouteNetlinkMessage::NewAddress(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(|source| {
            let what = format!("give {iface} the address {cidr}");
            self.refused(&what, "see whether it has it already", source)
        })
    }

    /// Sends what goes to `destination` (`0.0.0.0/0` for all) by way of `gateway`.
    ///
    /// # Errors
    ///
    /// Says why the kernel refused it.
    pub fn route(&self, destination: &str, gateway: IpAddr) -> Result<(), Error> {
        let cidr: Cidr = destination.parse()?;
        let mut message = RouteMessage::default();
        message.header.address_family = family(cidr.address);
        message.header.destination_prefix_length = cidr.prefix_len;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        if cidr.prefix_len > 0 {
            message
                .attributes
                .push(RouteAttribute::Destination(RouteAddress::from(
                    cidr.address,
                )));
        }
        message
            .attributes
            .push(RouteAttribute::Gateway(RouteAddress::from(gateway)));
        self.change(
            RouteNetlinkMessage::NewRoute(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map_err(|source| {
            let what = format!("route {cidr} by {gateway}");
            self.refused(&what, "bring the interface to the gateway up first", source)
        })
    }

    /// Writes down who has an address, so that nobody is asked.
    ///
    /// # Errors
    ///
    /// Says why the kernel refused it.
    pub fn neighbour(&self, iface: &str, address: IpAddr, mac: MacAddress) -> Result<(), Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = self.index(iface)?;
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::Destination(match address {
                IpAddr::V4(address) => NeighbourAddress::Inet(address),
                IpAddr::V6(address) => NeighbourAddress::Inet6(address),
            }));
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
        self.change(
            RouteNetlinkMessage::NewNeighbour(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
        .map_err(|source| {
            let what = format!("say on {iface} that {address} is at {mac}");
            self.refused(&what, "see whether the interface is up", source)
        })
    }

    /// Writes a setting of this namespace: `net/ipv4/ip_forward`.
    ///
    /// # Errors
    ///
    /// Names the setting.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<(), Error> {
        self.run(|| fs::write(format!("/proc/sys/{name}"), value))?
            .map_err(|source| {
                let what = format!("set {name} to {value}");
                self.refused(
                    &what,
                    "mount /proc/sys writable, or use a newer kernel",
                    source,
                )
            })
    }

    /// Keeps an interface from speaking IPv6 of its own accord. A kernel without IPv6 is content.
    ///
    /// # Errors
    ///
    /// If the setting cannot be written.
    pub fn disable_ipv6(&self, iface: &str) -> Result<(), Error> {
        if !fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
            return Ok(());
        }
        self.sysctl(&format!("net/ipv6/conf/{iface}/disable_ipv6"), "1")
    }

    /// Passes packets on between this host's interfaces.
    ///
    /// # Errors
    ///
    /// If the setting cannot be written.
    pub fn forward(&self) -> Result<(), Error> {
        self.sysctl("net/ipv4/ip_forward", "1")?;
        if fs::exists("/proc/sys/net/ipv6").unwrap_or(false) {
            self.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        }
        Ok(())
    }

    pub(crate) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    pub(crate) fn change(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut netlink = self
            .netlink
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        netlink.change(message, flags)
    }

    pub(crate) fn ask(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut netlink = self
            .netlink
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        netlink.ask(message, 0)
    }

    pub(crate) fn refused(&self, what: &str, remedy: &'static str, source: io::Error) -> Error {
        Error::Refused {
            host: self.name.clone(),
            what: what.into(),
            remedy,
            source,
        }
    }
}

/// Opens what a [`Host`] needs, in the namespace of the calling thread.
fn inside() -> io::Result<Inside> {
    let namespace = OwnedFd::from(fs::File::open("/proc/thread-self/ns/net")?);
    let control = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((namespace, Netlink::open()?, UdpSocket::from(control)))
}

/// Makes interfaces to come use their IPv6 addresses at once: the search for a second holder of one
/// takes a second, and in a lab there is none. A kernel without the setting only takes longer.
fn trust_addresses() {
    for setting in ["accept_dad", "dad_transmits"] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/default/{setting}"), "0");
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}
