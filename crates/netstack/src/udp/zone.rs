//! Zones of IPv6: which link an address means that is the same on each. RFC 4007.

use core::net::SocketAddr;

use super::queue::Datagram;
use crate::error::Error;
use crate::interface::InterfaceId;
use crate::packet::Packets;
use crate::stack::Stack;

/// Whether an address means another host, or others, on each link.
#[inline(always)]
fn is_of_link(address: &SocketAddr) -> bool {
    match address {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(address) => {
            let ip = address.ip();
            ip.is_unicast_link_local() || ip.is_multicast()
        }
    }
}

/// Whether the way to an address hangs on more than the address: on its zone, or on what the socket is bound to.
#[inline(always)]
pub(super) fn matters<A: Packets>(stack: &Stack<A>, to: &SocketAddr) -> bool {
    let only = InterfaceId(0).scope_id();
    match to {
        SocketAddr::V4(_) => false,
        SocketAddr::V6(address) => {
            is_of_link(to) && (!stack.has_one_link() || address.scope_id() > only)
        }
    }
}

/// The interface of the zone that an address says; `None` if it says none, or needs none.
pub(super) fn named<A: Packets>(
    stack: &Stack<A>,
    address: SocketAddr,
) -> Result<Option<InterfaceId>, Error> {
    let scope_id = match address {
        SocketAddr::V6(six) if is_of_link(&address) => six.scope_id(),
        _ => 0,
    };
    if scope_id == 0 {
        return Ok(None);
    }
    let interface = InterfaceId::of_scope_id(scope_id);
    let interface = interface.filter(|interface| stack.has_interface(*interface));
    interface.map(Some).ok_or(Error::NoZone(address))
}

/// By which interface to send to an address, where that says too little: by that of its zone, or of the address of the link that
/// the socket is bound to.
pub(super) fn of<A: Packets>(
    stack: &Stack<A>,
    to: SocketAddr,
    local: Option<SocketAddr>,
) -> Result<Option<InterfaceId>, Error> {
    let named = named(stack, to)?;
    if named.is_some() || !is_of_link(&to) {
        return Ok(named);
    }
    let bound = local.filter(|local| is_of_link(local) && !local.ip().is_multicast());
    Ok(bound.and_then(|local| stack.owner_of(&local.ip())))
}

/// A datagram whose sender has the zone that it came from.
#[inline(always)]
pub(super) fn noted<P>(mut datagram: Datagram<P>) -> Datagram<P> {
    if let SocketAddr::V6(from) = &mut datagram.from
        && from.ip().is_unicast_link_local()
    {
        from.set_scope_id(datagram.interface.scope_id());
    }
    datagram
}
