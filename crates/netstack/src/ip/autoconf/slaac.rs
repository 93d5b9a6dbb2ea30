//! Addresses that a host makes of prefixes. RFC 4862 section 5.5.

use core::net::{IpAddr, Ipv6Addr};

use super::{Autoconf, Entry, Preference, PrefixInformation, lifetime};
use crate::error::Error;
use crate::interface::InterfaceId;
use crate::ip::address::{Addresses, Event, Origin};
use crate::time::Instant;

impl Autoconf {
    /// A prefix of an advertisement.
    pub(super) fn prefix(
        &mut self,
        now: Instant,
        addresses: &mut Addresses,
        interface: InterfaceId,
        information: &PrefixInformation,
    ) {
        let PrefixInformation { prefix, len, .. } = *information;
        // RFC 4861 section 6.3.4 and RFC 4862 section 5.5.3 (b): the link-local prefix is nobody's to advertise. A prefix of
        // all addresses, or of groups, would have everything on the link.
        if prefix.is_unicast_link_local() || prefix.is_multicast() || len == 0 || len > 128 {
            return;
        }
        if information.on_link {
            let host_bits = u32::from(128_u8.saturating_sub(len));
            let network = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            self.set(
                Entry {
                    interface,
                    prefix: Ipv6Addr::from_bits(prefix.to_bits() & network),
                    len,
                    gateway: None,
                    preference: Preference::Medium,
                    until: lifetime(now, information.valid),
                    added: false,
                    stale: false,
                },
                now,
            );
        }
        // (c): preferred longer than valid is a mistake. (d): 64 bits are the host's.
        if !information.autonomous || information.preferred > information.valid || len != 64 {
            return;
        }
        self.configure(now, addresses, interface, information);
    }

    /// Makes an address of a prefix, or changes the lifetimes of the one that there is. RFC 4862 section 5.5.3 (d) and (e).
    fn configure(
        &mut self,
        now: Instant,
        addresses: &mut Addresses,
        interface: InterfaceId,
        information: &PrefixInformation,
    ) {
        let network = information.prefix.to_bits() >> 64;
        let known = addresses
            .iter()
            .find(|shown| {
                let IpAddr::V6(address) = shown.address else {
                    return false;
                };
                shown.interface == interface
                    && shown.origin == Origin::RouterAdvertisement
                    && address.to_bits() >> 64 == network
            })
            .copied();
        let valid_until = lifetime(now, information.valid);
        let preferred_until = lifetime(now, information.preferred);
        if let Some(shown) = known {
            let two_hours = now + Self::TWO_HOURS;
            let valid_until = if valid_until > two_hours || valid_until > shown.valid_until {
                valid_until
            } else {
                // A forged advertisement is not to take addresses away at once; two hours leave time for a true one.
                shown.valid_until.min(two_hours)
            };
            let address = shown.address;
            let set =
                addresses.set_lifetimes(now, interface, address, preferred_until, valid_until);
            debug_assert_eq!(set, Ok(()), "it has just been found");
            return;
        }
        let identifier = self.config.identifier;
        let Some(host) = self.host(interface).filter(|host| !host.failed) else {
            return;
        };
        if information.valid == 0 {
            return;
        }
        let address = IpAddr::V6(identifier.address(information.prefix, host.mac, 0));
        let probing = self.config.probing;
        let origin = Origin::RouterAdvertisement;
        match addresses.add(now, interface, address, 64, origin, probing) {
            Ok(()) => {}
            // Somebody gave it to the interface by hand, and it is not ours to change.
            Err(Error::AddressExists(_)) => return,
            Err(_) => {
                self.refused = self.refused.wrapping_add(1);
                return;
            }
        }
        let set = addresses.set_lifetimes(now, interface, address, preferred_until, valid_until);
        debug_assert_eq!(set, Ok(()), "it has just been added");
    }

    /// Takes note of what became of addresses: to be given each event of [`Addresses::poll_event`]. After a duplicate another
    /// opaque address is tried, and addresses are no longer made of a link address that is not unique.
    pub fn handle(&mut self, now: Instant, addresses: &mut Addresses, event: &Event) {
        let (interface, address) = match *event {
            Event::Duplicate {
                interface, address, ..
            } => (interface, address),
            _ => return,
        };
        let (identifier, retries) = (self.config.identifier, self.config.idgen_retries);
        let probing = self.config.probing;
        let Some(host) = self.host(interface) else {
            return;
        };
        let (Some(shown), IpAddr::V6(duplicate)) = (addresses.get(interface, &address), address)
        else {
            return;
        };
        let shown = *shown;
        if shown.origin == Origin::Static {
            return;
        }
        match identifier.next(duplicate, host.mac, retries) {
            Some(next) => {
                let next = IpAddr::V6(next);
                let (preferred, valid) = (shown.preferred_until, shown.valid_until);
                let origin = shown.origin;
                let done = addresses
                    .remove(interface, address)
                    .and_then(|()| addresses.add(now, interface, next, 64, origin, probing))
                    .and_then(|()| addresses.set_lifetimes(now, interface, next, preferred, valid));
                if done.is_err() {
                    self.refused = self.refused.wrapping_add(1);
                }
            }
            None if shown.origin == Origin::LinkLocal => host.failed = true,
            None => {}
        }
    }
}
