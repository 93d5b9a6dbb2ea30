//! An answer that waits to be read.

use core::net::IpAddr;

use crate::interface::InterfaceId;

/// An echo reply as it was received.
#[derive(Debug)]
pub struct Reply<P> {
    /// The data alone, all headers cut off, perhaps in several segments: what the request had, unless somebody made it up.
    pub packet: P,
    /// Who sent it: somebody else than who was asked, if that was a group or everybody, or if it is made up.
    pub from: IpAddr,
    /// To which address of ours.
    pub to: IpAddr,
    /// The number of the request.
    pub sequence: u16,
    /// What was left of its TTL or hop limit.
    pub hop_limit: u8,
    /// The TOS octet or the traffic class that it came with: DSCP and ECN.
    pub traffic_class: u8,
    /// By which interface.
    pub interface: InterfaceId,
}
