//! What can go wrong in a call of the control plane, and how to mend it.

use core::net::{IpAddr, SocketAddr};

use crate::interface::InterfaceId;

/// Why a call was refused. Packets are never an error: they are sent, kept, or dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No such interface.
    #[error("{0} does not exist; add it first")]
    NoInterface(InterfaceId),
    /// Another interface has the port and the tags.
    #[error(
        "port {port} with VLAN tags {vlan:?} is an interface already; add the address to that one, or give other tags"
    )]
    InterfaceExists {
        /// The port.
        port: u16,
        /// The tags.
        vlan: [Option<u16>; 2],
    },
    /// A table of the configuration is full.
    #[error("all {max} {what} are in use; raise `{key}` in the stack's configuration")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        max: usize,
        /// The field of the configuration.
        key: &'static str,
    },
    /// An address that no host can have.
    #[error("{0} cannot be the address of a host; give a unicast address that is not loopback")]
    NotUnicast(IpAddr),
    /// An address that is no multicast group.
    #[error("{0} is no multicast group; give an address of 224.0.0.0/4 or ff00::/8")]
    NotMulticast(IpAddr),
    /// The interface is no member of the group.
    #[error("the interface is no member of {0}; join it first")]
    NoGroup(IpAddr),
    /// A prefix longer than an address.
    #[error("/{len} is longer than an address of {bits} bits; give a prefix of at most /{bits}")]
    PrefixLen {
        /// What was asked for.
        len: u8,
        /// What there is.
        bits: u8,
    },
    /// The interface has the address.
    #[error("{0} has been given to this interface already; remove it first to change its prefix")]
    AddressExists(IpAddr),
    /// The interface does not have the address.
    #[error(
        "{0} is no address of this stack; bind to one that it has, or to the unspecified address"
    )]
    NoAddress(IpAddr),
    /// No interface is in the zone that an address of the link says.
    #[error(
        "no interface has {0}: behind the percent sign stands the number of an interface plus one; name one that there is, or none"
    )]
    NoZone(SocketAddr),
    /// There is such a route.
    #[error("there is a route to {0}/{1} already; remove it first")]
    RouteExists(IpAddr, u8),
    /// There is no such route.
    #[error("there is no route to {0}/{1}")]
    RouteMissing(IpAddr, u8),
    /// A gateway that no interface reaches directly.
    #[error(
        "no interface has a prefix with the gateway {0}; give the interface an address of its network first"
    )]
    GatewayUnreachable(IpAddr),
    /// Another socket has the port.
    #[error("another socket has {0}; take another port, or close that one")]
    AddressInUse(SocketAddr),
    /// No ephemeral port is free.
    #[error("all ephemeral ports are in use; close sockets, or bind to a port below 49152")]
    NoPorts,
    /// Another echo socket has the identifier.
    #[error("another echo socket has identifier {0}; take another, or 0 for one that is free")]
    IdentInUse(u16),
    /// Not the handle of an open socket.
    #[error("the socket has been closed")]
    NoSocket,
    /// A call that needs a peer.
    #[error("the socket is not connected; say to whom, or connect it")]
    NotConnected,
    /// IPv4 and IPv6 in one call.
    #[error("{0} is of the other version of IP than the socket; open a socket of that version")]
    OtherVersion(IpAddr),
    /// No route leads there.
    #[error("no route leads to {0}; add one, or an address of its network")]
    NoRoute(IpAddr),
    /// The interface has no usable address of that version.
    #[error(
        "no address of ours can be the source of packets to {0}; give the interface one, or wait until it was checked for duplicates"
    )]
    NoSource(IpAddr),
    /// Larger than a datagram can be.
    #[error("{len} bytes do not fit a datagram, which carries at most {max}")]
    TooLong {
        /// What was to be sent.
        len: usize,
        /// What fits.
        max: usize,
    },
    /// No buffer, or no room in a queue, at this moment.
    #[error("no buffer or no room in the transmit queue now; transmit, and try again")]
    WouldBlock,
    /// The peer, or a router on the way, said by ICMP that nobody listens there.
    #[error("{0} refused the datagram: nobody listens on that port")]
    Refused(SocketAddr),
    /// ICMP said that the host or its network cannot be reached, or the neighbour did not answer.
    #[error("{0} cannot be reached")]
    Unreachable(IpAddr),
    /// ICMP said that a packet was too large for its path; the next ones are cut.
    #[error("a packet to {to} was too large for its path, which takes {mtu} bytes")]
    PacketTooBig {
        /// Where to.
        to: IpAddr,
        /// What the path takes.
        mtu: u16,
    },
}
