//! Gateways that do not answer: RFC 1122 section 3.3.1.5, RFC 4861 section 6.3.6.
//!
//! A route whose gateway is silent stands behind all whose are not, whatever its network: RFC 4191 section 3.2 asks for a router that
//! can be reached first, and for the longest prefix then. Of silent ones the one is used that has been silent for longest, and
//! whoever fails again stands last: all are tried in turn.

use core::net::IpAddr;
use core::time::Duration;

use super::{Line, Routes, contains};
use crate::interface::InterfaceId;
use crate::time::Instant;

/// How long a silent gateway is left alone before it is asked again: RFC 4191 section 3.5 has once a minute at most.
const RETRY: Duration = Duration::from_secs(60);

/// One that did not answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silent {
    pub(super) interface: InterfaceId,
    pub(super) gateway: IpAddr,
    /// A number that grows from one failure to the next, and is never 0.
    pub(super) since: u32,
    retry: Instant,
}

/// When a gateway failed, as a number; 0 if it did not.
pub(super) fn since(silent: &[Silent], interface: InterfaceId, gateway: Option<IpAddr>) -> u32 {
    let is_it = |known: &&Silent| known.interface == interface && Some(known.gateway) == gateway;
    let known = silent.iter().find(is_it);
    known.map_or(0, |known| known.since)
}

impl Routes {
    /// A neighbour did not answer. If it is a gateway, its routes come last from now on; `true` if that is news.
    pub fn fell_silent(&mut self, now: Instant, interface: InterfaceId, gateway: IpAddr) -> bool {
        if !self.has_gateway(interface, gateway) {
            return false;
        }
        self.failures = self.failures.wrapping_add(1).max(1);
        let now_silent = Silent {
            interface,
            gateway,
            since: self.failures,
            retry: now + RETRY,
        };
        let is_it = |known: &&mut Silent| (known.interface, known.gateway) == (interface, gateway);
        let known = self.silent.iter_mut().find(is_it);
        let is_news = known.is_none();
        match known {
            Some(known) => *known = now_silent,
            // As many as there are routes, at most.
            None => self.silent.push(now_silent),
        }
        self.sort();
        is_news
    }

    /// A neighbour was heard. If it is a gateway that was silent, its routes are used as before; `true` if so.
    #[inline]
    pub fn was_heard(&mut self, interface: InterfaceId, gateway: IpAddr) -> bool {
        !self.silent.is_empty() && self.speaks_again(interface, gateway)
    }

    #[cold]
    fn speaks_again(&mut self, interface: InterfaceId, gateway: IpAddr) -> bool {
        let before = self.silent.len();
        self.silent
            .retain(|known| (known.interface, known.gateway) != (interface, gateway));
        let is_news = self.silent.len() < before;
        if is_news {
            self.sort();
        }
        is_news
    }

    /// A silent gateway that a destination would be reached by, were it not silent, and that may be asked again whether it is there: once
    /// a minute.
    #[inline]
    pub fn to_retry(&mut self, now: Instant, destination: IpAddr) -> Option<(InterfaceId, IpAddr)> {
        if self.silent.is_empty() {
            return None;
        }
        self.due(now, destination)
    }

    #[cold]
    fn due(&mut self, now: Instant, destination: IpAddr) -> Option<(InterfaceId, IpAddr)> {
        let used = self.lookup(destination).map_or(0, |route| route.len);
        let (silent, routes) = (&mut self.silent, &self.routes);
        let leads = |known: &Silent| {
            routes.iter().any(|Line { route, .. }| {
                (route.interface, route.gateway) == (known.interface, Some(known.gateway))
                    && route.len >= used
                    && contains(route.prefix, route.len, destination)
            })
        };
        let mut due = silent.iter_mut().filter(|known| known.retry <= now);
        let known = due.find(|known| leads(known))?;
        known.retry = now + RETRY;
        Some((known.interface, known.gateway))
    }

    /// Gateways that did not answer when they were last asked.
    pub fn silent(&self) -> impl Iterator<Item = (InterfaceId, IpAddr)> {
        let all = self.silent.iter();
        all.map(|known| (known.interface, known.gateway))
    }

    /// Whether a gateway did not answer when it was last asked.
    #[must_use]
    pub fn is_silent(&self, interface: InterfaceId, gateway: IpAddr) -> bool {
        since(&self.silent, interface, Some(gateway)) > 0
    }

    /// Forgets gateways that no route has any more.
    pub(super) fn forget_silent(&mut self) {
        let routes = &self.routes;
        self.silent.retain(|known| {
            let mut all = routes.iter().map(|line| &line.route);
            let gateway = Some(known.gateway);
            all.any(|route| (route.interface, route.gateway) == (known.interface, gateway))
        });
    }

    fn has_gateway(&self, interface: InterfaceId, gateway: IpAddr) -> bool {
        let mut all = self.iter();
        all.any(|route| (route.interface, route.gateway) == (interface, Some(gateway)))
    }
}
