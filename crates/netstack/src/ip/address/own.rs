//! The addresses once more, small and dense: what the receive path compares each destination with.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU64;

use super::{Address, State};
use crate::error::Error;
use crate::interface::InterfaceId;

/// What the receive path compares an IPv4 destination with.
#[derive(Debug, Clone, Copy)]
struct Own4 {
    address: u32,
    /// All hosts of its network; of everybody, if that is none.
    broadcast: u32,
    interface: InterfaceId,
    state: State,
    /// [`on`] its interface: the address, if it is in use, and all hosts of its network.
    ours: Option<NonZeroU64>,
    everybody: u64,
}

/// An address as it is seen on an interface.
#[inline(always)]
fn on(interface: InterfaceId, address: u32) -> u64 {
    u64::from(interface.0) << 32 | u64::from(address)
}

/// What the receive path compares an IPv6 destination with.
#[derive(Debug, Clone, Copy)]
struct Own6 {
    address: u128,
    interface: InterfaceId,
    state: State,
}

/// Both versions, apart: an IPv4-mapped address on the wire is not the IPv4 address.
#[derive(Debug)]
pub(super) struct Own {
    v4: Vec<Own4>,
    v6: Vec<Own6>,
}

impl Own {
    /// Room for so many.
    pub(super) fn new(max: usize) -> Self {
        Self {
            v4: Vec::with_capacity(max),
            v6: Vec::with_capacity(max),
        }
    }

    /// These, and no others.
    pub(super) fn fill<'a>(&mut self, all: impl Iterator<Item = &'a Address>) {
        self.v4.clear();
        self.v6.clear();
        for shown in all {
            let (interface, state) = (shown.interface, shown.state);
            match shown.address {
                IpAddr::V4(address) => {
                    let (address, host) = (address.to_bits(), !mask(shown.prefix_len));
                    // RFC 3021: two hosts, or one, have no such address.
                    let broadcast = if host > 1 { address | host } else { u32::MAX };
                    let ours = NonZeroU64::new(on(interface, address));
                    self.v4.push(Own4 {
                        address,
                        broadcast,
                        interface,
                        state,
                        ours: ours.filter(|_| state.is_usable()),
                        everybody: on(interface, broadcast),
                    });
                }
                IpAddr::V6(address) => self.v6.push(Own6 {
                    address: address.to_bits(),
                    interface,
                    state,
                }),
            }
        }
    }

    #[inline]
    pub(super) fn v4(&self, interface: InterfaceId, address: Ipv4Addr) -> Option<State> {
        let bits = address.to_bits();
        let mut all = self.v4.iter();
        all.find(|own| own.address == bits && own.interface == interface)
            .map(|own| own.state)
    }

    #[inline]
    pub(super) fn v6(&self, interface: InterfaceId, address: Ipv6Addr) -> Option<State> {
        let bits = address.to_bits();
        let mut all = self.v6.iter();
        all.find(|own| own.address == bits && own.interface == interface)
            .map(|own| own.state)
    }

    /// Whether a packet goes from another host to this one alone, as far as our addresses tell.
    #[inline(always)]
    pub(super) fn is_from_other_to_us(
        &self,
        interface: InterfaceId,
        from: Ipv4Addr,
        to: Ipv4Addr,
    ) -> bool {
        let (here, from) = (on(interface, from.to_bits()), from.to_bits());
        let to = on(interface, to.to_bits());
        let (mut is_to_us, mut is_from_us) = (false, false);
        for own in &self.v4 {
            is_to_us |= own.ours.map_or(0, NonZeroU64::get) == to;
            is_from_us |= own.address == from || own.everybody == here;
        }
        is_to_us && to != 0 && !is_from_us
    }

    /// Whether the address is in use on any interface; a link-local one of IPv6 may be another's on another link.
    #[inline]
    pub(super) fn is_source(&self, interface: InterfaceId, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => {
                let bits = address.to_bits();
                let mut all = self.v4.iter();
                all.any(|own| own.address == bits && own.state.is_usable())
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                let is_global = !address.is_unicast_link_local();
                let mut all = self.v6.iter();
                all.any(|own| {
                    own.address == bits
                        && (own.interface == interface || is_global)
                        && own.state.is_usable()
                })
            }
        }
    }

    #[inline]
    pub(super) fn is_broadcast(&self, interface: InterfaceId, address: Ipv4Addr) -> bool {
        let bits = address.to_bits();
        let mut all = self.v4.iter();
        bits == u32::MAX || all.any(|own| bits == own.broadcast && own.interface == interface)
    }
}

/// The bits of an IPv4 address that are the network's.
const fn mask(prefix_len: u8) -> u32 {
    match 32_u32.checked_sub(prefix_len as u32) {
        Some(32) => 0,
        Some(host) => u32::MAX << host,
        None => u32::MAX,
    }
}

/// Whether a host can have the address.
pub(super) fn check(address: IpAddr, prefix_len: u8) -> Result<(), Error> {
    let (bits, unicast) = match address {
        IpAddr::V4(v4) => {
            let host = !mask(prefix_len);
            let part = v4.to_bits() & host;
            // RFC 1122 section 3.2.1.3: neither the network itself nor everybody in it. RFC 3021: but /31 has hosts alone.
            let network = host > 1 && (part == 0 || part == host);
            let [first, ..] = v4.octets();
            let reserved = first == 0 || first >= 224;
            (32, !(reserved || v4.is_loopback() || network))
        }
        IpAddr::V6(v6) => {
            let mapped = v6.to_ipv4_mapped().is_some();
            let none = v6.is_unspecified() || v6.is_loopback();
            (128, !(none || v6.is_multicast() || mapped))
        }
    };
    if prefix_len > bits {
        return Err(Error::PrefixLen {
            len: prefix_len,
            bits,
        });
    }
    if unicast {
        Ok(())
    } else {
        Err(Error::NotUnicast(address))
    }
}
