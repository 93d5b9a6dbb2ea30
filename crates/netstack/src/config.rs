//! The limits and habits of a stack.

use core::time::Duration;

use crate::echo::EchoConfig;
use crate::ip::address::AddressConfig;
use crate::ip::autoconf::AutoconfConfig;
use crate::ip::group::GroupConfig;
use crate::ip::path::PathConfig;
use crate::ip::reassembly::ReassemblyConfig;
use crate::link::neighbour::NeighbourConfig;
use crate::udp::UdpConfig;

/// Everything that bounds a stack's memory, and what it does unasked. All of it has defaults that suit a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A secret, different for each process and start: makes hashes, identifications, ports and waits that others cannot foresee.
    pub seed: u64,
    /// Most interfaces.
    pub interfaces_max: usize,
    /// Most routes.
    pub routes_max: usize,
    /// Destinations whose path takes less than the interface.
    pub paths: PathConfig,
    /// Addresses, and how they are looked for at others before they are used.
    pub addresses: AddressConfig,
    /// What routers of an IPv6 link may set up, where [`Stack::enable_autoconf`](crate::Stack::enable_autoconf) has them.
    pub autoconf: AutoconfConfig,
    /// Most packets that wait in a port's transmit queue.
    pub transmit_max: usize,
    /// Most packets from one of our addresses to another that wait.
    pub local_max: usize,
    /// Neighbours.
    pub neighbours: NeighbourConfig,
    /// Groups.
    pub groups: GroupConfig,
    /// Datagrams that arrive in pieces.
    pub reassembly: ReassemblyConfig,
    /// UDP.
    pub udp: UdpConfig,
    /// Echo sockets.
    pub echo: EchoConfig,
    /// ICMP and what arrives by it.
    pub icmp: IcmpConfig,
    /// TTL and hop limit of what is sent: RFC 1122 section 3.2.1.7, and what IANA recommends.
    pub hop_limit: u8,
}

/// What is answered, how often, and what is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpConfig {
    /// Errors that are sent a second, all together: RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f).
    pub errors_per_second: u32,
    /// Errors that may be sent at once.
    pub errors_burst: u32,
    /// Echo replies a second.
    pub echoes_per_second: u32,
    /// Echo replies at once.
    pub echoes_burst: u32,
    /// Whether echo requests to broadcast addresses and IPv4 groups are answered: RFC 1122 section 3.2.2.6 leaves it open, and
    /// who is flooded by it says no.
    pub echo_to_broadcast: bool,
    /// Whether redirects change where packets go: anybody on the link can send one.
    pub accept_redirects: bool,
    /// Whether router advertisements are believed, addresses, routes, MTU, by interfaces that are set up by
    /// [`Stack::enable_autoconf`](crate::Stack::enable_autoconf).
    pub accept_routers: bool,
}

impl Default for IcmpConfig {
    fn default() -> Self {
        Self {
            errors_per_second: 1000,
            errors_burst: 50,
            echoes_per_second: 1_000_000,
            echoes_burst: 10_000,
            echo_to_broadcast: false,
            accept_redirects: false,
            accept_routers: true,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            interfaces_max: 16,
            routes_max: 256,
            paths: PathConfig::default(),
            addresses: AddressConfig::default(),
            autoconf: AutoconfConfig::default(),
            transmit_max: 1024,
            local_max: 256,
            neighbours: NeighbourConfig::default(),
            groups: GroupConfig::default(),
            reassembly: ReassemblyConfig::default(),
            udp: UdpConfig::default(),
            echo: EchoConfig::default(),
            icmp: IcmpConfig::default(),
            hop_limit: 64,
        }
    }
}

/// Events that wait to be asked for: newer ones push older ones out.
pub(crate) const EVENTS_MAX: usize = 64;

/// How long a destination may be used without asking the tables again: they are asked anew when something in them moved.
pub(crate) const DESTINATION_TIME: Duration = Duration::from_secs(5);
