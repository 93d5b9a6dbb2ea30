//! ARP: RFC 826, RFC 5227.

use core::net::Ipv4Addr;

use super::Stack;
use crate::interface::{FrameHeader, InterfaceId};
use crate::ip::address::Verdict;
use crate::link::neighbour::Learned;
use crate::packet::{Packet, Packets};
use crate::stats::Reason;
use crate::wire::arp::{Arp, Operation};
use crate::wire::ethernet::{EtherType, Mac};

impl<A: Packets> Stack<A> {
    /// Somebody asks or tells.
    pub(super) fn arp(
        &mut self,
        interface: InterfaceId,
        packet: &A::Packet,
        at: usize,
    ) -> Result<(), Reason> {
        let bytes = packet.data().get(at..).unwrap_or_default();
        let arp = Arp::parse(bytes).map_err(|_| Reason::ArpMalformed)?;
        let mac = self
            .interface(interface)
            .ok_or(Reason::PortUnknown)?
            .config
            .mac;
        let (sender, target) = (arp.sender, arp.target);
        // Our own, come back; and what can be nobody's address.
        if arp.sender_mac == mac {
            return Err(Reason::EthernetSource);
        }
        if arp.sender_mac.is_group()
            || sender.is_multicast()
            || sender.is_broadcast()
            || sender.is_loopback()
        {
            return Err(Reason::ArpMalformed);
        }
        match self
            .addresses
            .arp(self.now, interface, sender, target, arp.sender_mac)
        {
            Verdict::NotOurs | Verdict::Answer => {}
            Verdict::Echo => return Err(Reason::EthernetSource),
            Verdict::Conflict | Verdict::Duplicate | Verdict::Lost => {
                self.run_addresses();
                return Err(Reason::ArpConflict);
            }
        }
        let is_for_us = self.is_ours(interface, target.into());
        let is_probe = sender.is_unspecified();
        if !is_probe && self.is_neighbour(interface, sender.into()) {
            let how = match arp.operation {
                Operation::Reply if is_for_us => Learned::Solicited { overriding: true },
                // RFC 826: known entries are refreshed by all, new ones made by those who want something of us.
                _ if sender == target => Learned::Unsolicited { overriding: true },
                _ => Learned::Mention,
            };
            self.learn(interface, sender.into(), arp.sender_mac, how, is_for_us);
        }
        if arp.operation == Operation::Reply {
            return Ok(());
        }
        if !is_for_us {
            return Err(Reason::ArpIgnored);
        }
        let reply = Arp {
            operation: Operation::Reply,
            sender_mac: mac,
            sender: target,
            target_mac: arp.sender_mac,
            target: sender,
        };
        self.send_arp(interface, arp.sender_mac, &reply)
    }

    /// Asks who has an address: everybody, or whom we knew to have it.
    pub(super) fn ask_by_arp(
        &mut self,
        interface: InterfaceId,
        address: Ipv4Addr,
        known: Option<Mac>,
    ) -> Result<(), Reason> {
        let source = match self.addresses.select_source(interface, address.into()) {
            Some(core::net::IpAddr::V4(source)) => source,
            _ => return Err(Reason::NoSource),
        };
        self.request(interface, source, address, known)
    }

    /// An ARP request from `sender`: a probe if that is unspecified, an announcement if it is `target`.
    pub(super) fn request(
        &mut self,
        interface: InterfaceId,
        sender: Ipv4Addr,
        target: Ipv4Addr,
        known: Option<Mac>,
    ) -> Result<(), Reason> {
        let mac = self
            .interface(interface)
            .ok_or(Reason::PortUnknown)?
            .config
            .mac;
        let request = Arp {
            operation: Operation::Request,
            sender_mac: mac,
            sender,
            target_mac: Mac::ZERO,
            target,
        };
        self.send_arp(interface, known.unwrap_or(Mac::BROADCAST), &request)
    }

    fn send_arp(&mut self, interface: InterfaceId, to: Mac, arp: &Arp) -> Result<(), Reason> {
        let config = self.interface(interface).ok_or(Reason::PortUnknown)?.config;
        let mut packet = self.packets.alloc().ok_or(Reason::NoBuffer)?;
        let frame = FrameHeader::new(&config, to, EtherType::ARP.0);
        let room = packet
            .append(Arp::LEN)
            .and_then(|room| room.first_chunk_mut());
        arp.write(room.ok_or(Reason::NoBuffer)?);
        self.transmit(config.port, &frame, packet)
    }
}
