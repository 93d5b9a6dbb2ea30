//! What is done when another station uses, or wants, an address of ours. RFC 5227 section 2.4, RFC 4862 section 5.4.

use core::net::{IpAddr, Ipv4Addr};

use super::{Addresses, Claim, Event, State, Verdict};
use crate::interface::InterfaceId;
use crate::ip::dad::Defence;
use crate::time::Instant;
use crate::wire::ethernet::Mac;

impl Addresses {
    /// What ARP says about addresses of `interface`, whoever it is for. RFC 5227 sections 2.1.1 and 2.4.
    pub fn arp(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        sender: Ipv4Addr,
        target: Ipv4Addr,
        by: Mac,
    ) -> Verdict {
        if sender.is_unspecified() {
            let claim = Claim::Probes { nonce: None };
            self.conflict(now, interface, IpAddr::V4(target), by, claim)
        } else {
            self.conflict(now, interface, IpAddr::V4(sender), by, Claim::Uses)
        }
    }

    /// Another station said something about an address of `interface`.
    pub fn conflict(
        &mut self,
        now: Instant,
        interface: InterfaceId,
        address: IpAddr,
        by: Mac,
        claim: Claim,
    ) -> Verdict {
        // Most of what is heard on a link is about others' addresses.
        if self.is_ours(interface, &address).is_none() {
            return Verdict::NotOurs;
        }
        let timing = *self.timing(address);
        let place = self.find(interface, &address);
        let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) else {
            return Verdict::NotOurs;
        };
        match (entry.shown.state, claim) {
            (State::Duplicate, _) => Verdict::NotOurs,
            (State::Tentative, Claim::Probes { nonce }) if nonce == Some(entry.nonce) => {
                Verdict::Echo
            }
            // RFC 4862 section 5.4.3 and RFC 5227 section 2.1.1: who probes at the same time counts, too, and both lose.
            (State::Tentative, _) => {
                self.lose(place);
                self.note(Event::Duplicate {
                    interface,
                    address,
                    by,
                });
                Verdict::Duplicate
            }
            (_, Claim::Probes { .. }) => Verdict::Answer,
            (_, Claim::Uses) => {
                match entry.dad.defend(now, &timing) {
                    Defence::Bear => Verdict::Conflict,
                    Defence::Announce => {
                        // RFC 4862 section 5.4.4 says nothing about an IPv6 address that is claimed while in use. It stays,
                        // and nothing is sent: nobody who uses one listens for announcements.
                        if address.is_ipv4() {
                            entry.dad.announce(now);
                        }
                        self.schedule();
                        self.note(Event::Conflict {
                            interface,
                            address,
                            by,
                        });
                        Verdict::Conflict
                    }
                    Defence::GiveUp => {
                        self.lose(place);
                        self.note(Event::AddressLost {
                            interface,
                            address,
                            by,
                        });
                        Verdict::Lost
                    }
                }
            }
        }
    }

    /// The address is somebody else's.
    fn lose(&mut self, place: Option<usize>) {
        if let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) {
            entry.dad.stop();
            entry.shown.state = State::Duplicate;
            entry.join = None;
            let was = *entry;
            entry.joined = false;
            self.leave(&was);
        }
        self.changed();
    }
}
