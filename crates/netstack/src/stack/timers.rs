//! What time brings: questions asked again, addresses that become ours, fragments given up.

use core::net::{IpAddr, Ipv4Addr};

use super::error::Complaint;
use super::input::Arrived;
use super::{Event, Stack};
use crate::interface::{FrameHeader, InterfaceId};
use crate::ip::address;
use crate::link::neighbour::{Ask, Change, Learned};
use crate::packet::{Packet, Packets};
use crate::stats::Reason;
use crate::time::Instant;
use crate::wire::Protocol;
use crate::wire::ethernet::{EtherType, Mac};
use crate::wire::{icmpv4, icmpv6};

impl<A: Packets> Stack<A> {
    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if nothing comes before; `None` if time alone changes
    /// nothing. To be asked anew after each call of the stack.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        if !self.local.is_empty() {
            return Some(self.now);
        }
        [
            self.neighbours.next_timeout(),
            self.addresses.next_timeout(),
            self.autoconf.next_timeout(),
            self.reassembly.next_timeout(),
            self.routes.next_timeout(),
            self.paths.next_timeout(),
            self.groups.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due at `now`. Early calls are harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.is_answering = true;
        self.run_local();
        self.run_reassembly();
        self.is_answering = false;
        self.run_addresses();
        self.run_autoconf();
        self.run_groups();
        self.ask_neighbours();
        self.routes.expire(now);
        self.paths.expire(now);
    }

    /// Counts a packet that was not sent.
    pub(super) fn note(&mut self, outcome: Result<(), Reason>) {
        if let Err(reason) = outcome {
            self.drops.count(reason);
        }
    }

    /// Takes note of a neighbour's address, and sends what waited for it.
    pub(super) fn learn(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: Mac,
        how: Learned,
        creates: bool,
    ) {
        self.heard(interface, address);
        let change = self
            .neighbours
            .learn(self.now, interface, address, mac, how, creates);
        match change {
            Change::Resolved => self.deliver_waiting(interface, address, mac),
            Change::Full => self.drops.count(Reason::NeighbourTableFull),
            Change::Nothing | Change::Created | Change::Moved { .. } => {}
        }
    }

    /// Uses a gateway again that did not answer before.
    pub(super) fn heard(&mut self, interface: InterfaceId, gateway: IpAddr) {
        if self.routes.was_heard(interface, gateway) {
            self.addresses
                .note(Event::GatewayHeard { interface, gateway });
        }
    }

    /// Sends what waited for a neighbour.
    pub(super) fn deliver_waiting(&mut self, interface: InterfaceId, address: IpAddr, mac: Mac) {
        let Some(config) = self.interface(interface).map(|interface| interface.config) else {
            return;
        };
        let ether_type = if address.is_ipv4() {
            EtherType::IPV4
        } else {
            EtherType::IPV6
        };
        let frame = FrameHeader::new(&config, mac, ether_type.0);
        while let Some(packet) = self.neighbours.take_waiting(interface, address) {
            let sent = self.transmit(config.port, &frame, packet);
            self.note(sent);
        }
    }

    /// Asks for neighbours that are not known, or not any more, and gives up those who do not answer.
    pub(super) fn ask_neighbours(&mut self) {
        while let Some(ask) = self.neighbours.poll(self.now) {
            match ask {
                Ask::Solicit {
                    interface,
                    address,
                    mac,
                    ..
                } => {
                    let sent = match address {
                        IpAddr::V4(address) => self.ask_by_arp(interface, address, mac),
                        IpAddr::V6(address) => self.ask_by_ndp(interface, address, mac),
                    };
                    self.note(sent);
                }
                Ask::Failed { interface, address } => {
                    let gateway = address;
                    if self.routes.fell_silent(self.now, interface, gateway) {
                        self.addresses
                            .note(Event::GatewaySilent { interface, gateway });
                    }
                    while let Some(packet) = self.neighbours.take_waiting(interface, address) {
                        if let Err(packet) = self.detour(interface, gateway, packet) {
                            let data = packet.data();
                            let quoted = match data.first().map(|first| first >> 4) {
                                Some(4) => icmpv4::Quoted::parse(data).map(Into::into),
                                _ => icmpv6::Quoted::parse(data).map(Into::into),
                            };
                            if let Ok(quoted) = quoted {
                                self.tell_sender(&quoted);
                            }
                            self.drops.count(Reason::NeighbourFailed);
                        }
                    }
                }
            }
        }
        let discarded = self.neighbours.take_discarded();
        self.drops.add(Reason::NeighbourTableFull, discarded);
    }

    /// Probes, announces and defends addresses.
    pub(super) fn run_addresses(&mut self) {
        while let Some(ask) = self.addresses.poll(self.now) {
            let sent = match ask {
                address::Ask::ArpProbe { interface, address } => {
                    self.request(interface, Ipv4Addr::UNSPECIFIED, address, None)
                }
                address::Ask::ArpAnnounce { interface, address } => {
                    self.request(interface, address, address, None)
                }
                address::Ask::DadSolicit {
                    interface,
                    address,
                    nonce,
                } => self.solicit(
                    interface,
                    core::net::Ipv6Addr::UNSPECIFIED,
                    address,
                    None,
                    Some(nonce),
                ),
                address::Ask::NeighbourAdvertise { interface, address } => {
                    self.advertise_unasked(interface, address)
                }
                address::Ask::Join {
                    interface,
                    group,
                    after,
                } => {
                    self.join_own(interface, group, after);
                    Ok(())
                }
                address::Ask::Leave { interface, group } => {
                    self.leave_own(interface, group);
                    Ok(())
                }
            };
            self.note(sent);
        }
        self.run_events();
    }

    /// Gives up datagrams whose fragments did not all come, and tells their senders.
    pub(super) fn run_reassembly(&mut self) {
        while let Some(expired) = self.reassembly.poll_expired(self.now) {
            self.drops
                .add(Reason::FragmentTimeout, expired.fragments.into());
            let Some(mut first) = expired.first else {
                continue;
            };
            if !first.packet.truncate(first.len) {
                continue;
            }
            let key = expired.key;
            let arrived = Arrived {
                interface: key.interface,
                source: key.source,
                destination: key.destination,
                protocol: Protocol(first.headers.protocol()),
                hop_limit: 0,
                traffic_class: 0,
                ip_at: 0,
                upper_at: 0,
                named_at: 0,
                is_to_many: !self.is_ours(key.interface, key.destination),
                router_alert: false,
                l4_checksum: None,
                datagram_len: None,
            };
            self.complain_again(
                arrived,
                first.headers.bytes(),
                first.packet,
                Complaint::Reassembly,
            );
        }
    }
}
