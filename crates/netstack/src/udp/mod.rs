//! UDP sockets: who has which port, and what waits to be read. RFC 768, RFC 1122 section 4.1.
//!
//! A datagram finds its socket in one look: by the 4-tuple among the connected ones, else by the local port, where those bound
//! to an address go before those bound to all. What waits lies in one table for all sockets, so that memory has one bound and
//! an idle socket costs a line.

mod demux;
mod queue;
mod socket;
mod table;
mod zone;

pub use queue::Datagram;
pub use socket::{Udp, Unsent};
pub use table::{SocketInfo, UdpConfig, UdpId};

pub(crate) use socket::refused;
pub(crate) use table::{Delivered, UdpTable};
