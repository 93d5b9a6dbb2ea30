//! Routers of the link, and what they say: RFC 4861 section 6.3, RFC 4862. The lists are kept by [`Autoconf`].
//!
//! [`Autoconf`]: crate::ip::autoconf::Autoconf

use core::net::{IpAddr, Ipv6Addr};

use super::{Event, Stack};
use crate::config::EVENTS_MAX;
use crate::error::Error;
use crate::interface::InterfaceId;
use crate::ip::address::{self, State};
use crate::ip::autoconf::{Action, Advertisement, Preference, PrefixInformation};
use crate::ip::dad::Probing;
use crate::ip::route::{self, Route};
use crate::link::neighbour::Learned;
use crate::packet::Packets;
use crate::stats::Reason;
use crate::time::Instant;
use crate::wire::ndp::RouterAdvertise;

/// What all link-local addresses begin with: RFC 4291 section 2.5.6.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

impl<A: Packets> Stack<A> {
    /// Has an interface set itself up for IPv6, as it does on other hosts when it comes up: it gets a link-local address, asks
    /// for routers, and takes its addresses, its default routers, the networks of its link and its MTU from what they say. If
    /// [`accept_routers`](crate::IcmpConfig::accept_routers) says no, it gets the link-local address and no more.
    ///
    /// Events tell what comes of it: [`Event::RouterFound`], [`Event::AddressReady`].
    ///
    /// # Errors
    ///
    /// There is no such interface, or no room for its address or its route.
    pub fn enable_autoconf(&mut self, interface: InterfaceId) -> Result<(), Error> {
        let probing = self.config.autoconf.probing;
        self.give_link_local(interface, probing)?;
        if self.config.icmp.accept_routers {
            let known = self
                .interface(interface)
                .ok_or(Error::NoInterface(interface))?;
            let mac = known.config.mac;
            self.autoconf
                .enable(self.now, &mut self.addresses, interface, mac)?;
        }
        self.run_addresses();
        self.run_autoconf();
        Ok(())
    }

    /// Default routers that were heard: where, who, how much preferred, until when.
    pub fn routers(
        &self,
    ) -> impl Iterator<Item = (InterfaceId, Ipv6Addr, Preference, Instant)> + '_ {
        self.autoconf.routers()
    }

    /// Gives an interface that has none a link-local address, which each that speaks IPv6 has to have: RFC 4291 section 2.1.
    pub(super) fn give_link_local(
        &mut self,
        interface: InterfaceId,
        probing: Probing,
    ) -> Result<(), Error> {
        let config = self
            .interface(interface)
            .ok_or(Error::NoInterface(interface))?
            .config;
        let is_link_local = |known: &address::Address| {
            known.interface == interface
                && matches!(known.address, IpAddr::V6(known) if known.is_unicast_link_local())
        };
        if self.addresses.iter().any(is_link_local) {
            return Ok(());
        }
        let identifier = self.config.autoconf.identifier;
        let address = IpAddr::V6(identifier.address(LINK_LOCAL, config.mac, 0));
        // The network is on each link; of several, the first interface is meant where nobody says which.
        self.add_network(address, 64, interface)?;
        let origin = address::Origin::LinkLocal;
        self.addresses
            .add(self.now, interface, address, 64, origin, probing)
    }

    /// A router says what there is to know of the link: RFC 4861 section 6.3.4. The message obeys section 6.1.2.
    pub(super) fn router_advertised(
        &mut self,
        interface: InterfaceId,
        router: Ipv6Addr,
        said: &RouterAdvertise,
    ) -> Result<(), Reason> {
        let advertisement = Advertisement {
            router,
            lifetime: said.lifetime_s,
            preference: match said.preference {
                1.. => Preference::High,
                0 => Preference::Medium,
                _ => Preference::Low,
            },
            hop_limit: said.hop_limit,
            reachable_ms: said.reachable_ms,
            retransmit_ms: said.retransmit_ms,
            mtu: said.mtu(),
        };
        let prefixes = said.prefixes().map(|prefix| PrefixInformation {
            prefix: prefix.prefix,
            len: prefix.len,
            on_link: prefix.on_link,
            autonomous: prefix.autonomous,
            valid: prefix.valid_s,
            preferred: prefix.preferred_s,
        });
        let heeded = self.autoconf.advertised(
            self.now,
            &mut self.addresses,
            interface,
            &advertisement,
            prefixes,
        );
        if !heeded {
            return Err(Reason::NdpIgnored);
        }
        self.heard(interface, router.into());
        if let Some(mac) = said.source_mac() {
            self.learn(interface, router.into(), mac, Learned::Mention, true);
        }
        self.run_autoconf();
        Ok(())
    }

    /// Does what follows from what routers said, or did not say in time.
    pub(super) fn run_autoconf(&mut self) {
        while let Some(action) = self.autoconf.poll(self.now, &mut self.addresses) {
            self.obey(action);
        }
        self.run_addresses();
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::RouterSolicit { interface, source } => {
                let sent = self.solicit_routers(interface, source);
                self.note(sent);
            }
            Action::AddRoute {
                interface,
                prefix,
                len,
                gateway,
                preference,
            } => {
                let route = Route {
                    prefix: prefix.into(),
                    len,
                    interface,
                    gateway: gateway.map(IpAddr::V6),
                    metric: metric(preference),
                    origin: route::Origin::RouterAdvertisement,
                    mtu: None,
                    // Its end is an action, too.
                    until: None,
                };
                // Where `routes_max` leaves no room, what the user has set up works on without what routers say.
                let _ = self.routes.add(route);
            }
            Action::RemoveRoute {
                interface,
                prefix,
                len,
                gateway,
            } => {
                let gateway = gateway.map(IpAddr::V6);
                let is_it = |route: &Route| {
                    route.interface == interface
                        && route.gateway == gateway
                        && route.origin == route::Origin::RouterAdvertisement
                };
                // Where there was no room to add it, there is nothing to remove.
                let _ = self.routes.remove(prefix.into(), len, is_it);
            }
            Action::SetMtu { interface, mtu } => {
                if let Some(interface) = self.interface_mut(interface) {
                    interface.mtu_v6 = mtu;
                    self.changes = self.changes.wrapping_add(1);
                }
            }
            Action::SetHopLimit {
                interface,
                hop_limit,
            } => {
                // RFC 4861 section 6.3.4 would have any; but whoever lowers it keeps us from all who are further away
                // (CVE-2015-2922), so that nobody can below what the user has set up.
                let hop_limit = hop_limit.max(self.config.hop_limit);
                if let Some(interface) = self.interface_mut(interface) {
                    interface.hop_limit = Some(hop_limit);
                    self.changes = self.changes.wrapping_add(1);
                }
            }
            // Neighbours of both versions and all links are asked at the times of the configuration. A router may not make
            // them longer, since whoever forges an advertisement could have us wait an hour for each neighbour.
            Action::SetReachable { .. } | Action::SetRetransmit { .. } => {}
        }
    }

    /// Hands on what became of addresses: to autoconfiguration, to groups, and to the user.
    pub(super) fn run_events(&mut self) {
        while let Some(event) = self.addresses.poll_event() {
            self.autoconf.handle(self.now, &mut self.addresses, &event);
            if let Event::AddressReady {
                interface,
                address: IpAddr::V6(address),
            } = event
                && address.is_unicast_link_local()
                && self.is_first_link_local(interface)
            {
                // RFC 3590 section 4: what was reported from `::` may not have been heard.
                self.groups.announce(self.now, interface, true);
            }
            if self.events.len() >= EVENTS_MAX {
                self.events.pop_front();
            }
            self.events.push_back(event);
        }
    }

    fn is_first_link_local(&self, interface: InterfaceId) -> bool {
        let mut all = self.addresses.iter().filter(|known| {
            known.interface == interface
                && known.state == State::Preferred
                && matches!(known.address, IpAddr::V6(known) if known.is_unicast_link_local())
        });
        all.next().is_some() && all.next().is_none()
    }
}

/// Routers come behind routes that the user has set up, and among themselves in the order that they ask for: RFC 4191
/// section 3.2.
const fn metric(preference: Preference) -> u32 {
    match preference {
        Preference::High => 1023,
        Preference::Medium => 1024,
        Preference::Low => 1025,
    }
}
