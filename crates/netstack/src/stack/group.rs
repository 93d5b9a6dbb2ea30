//! Groups that we are in, and what routers hear of it: IGMP and MLD.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use super::Stack;
use super::input::Arrived;
use crate::error::Error;
use crate::interface::{FrameHeader, InterfaceConfig, InterfaceId};
use crate::ip::group::{Kind as RecordIs, Protocol as Speaks, Query, Report};
use crate::packet::{Packet, Packets};
use crate::stats::Reason;
use crate::wire::ethernet::{EtherType, Mac};
use crate::wire::icmpv6::Kind;
use crate::wire::igmp::{self, RecordKind};
use crate::wire::ipv6::Ipv6;
use crate::wire::{Protocol, extension, ipv4, ipv6, mld};

/// Bytes of a query that are read: with sources, of which the stack has no use, as many as Ethernet carries.
const QUERY_MAX: usize = 1500;

/// Bytes of a report at most: of IPv6 groups, as many as [`Report`] holds.
const REPORT_MAX: usize = mld::REPORT_LEN + crate::ip::group::RECORDS_MAX * mld::RECORD_LEN;

impl<A: Packets> Stack<A> {
    /// Joins a group: sockets that are bound to it, or to all addresses, get what is sent to it.
    ///
    /// # Errors
    ///
    /// It is no group, or there are too many.
    pub fn join(&mut self, interface: InterfaceId, group: IpAddr) -> Result<(), Error> {
        self.interface(interface)
            .ok_or(Error::NoInterface(interface))?;
        self.groups
            .join(self.now, interface, group, Duration::ZERO)?;
        self.run_groups();
        Ok(())
    }

    /// Leaves a group, once for each time that it was joined.
    ///
    /// # Errors
    ///
    /// It was not joined.
    pub fn leave(&mut self, interface: InterfaceId, group: IpAddr) -> Result<(), Error> {
        self.groups.leave(self.now, interface, group)?;
        self.run_groups();
        Ok(())
    }

    /// Joins the group of an address of ours.
    pub(super) fn join_own(&mut self, interface: InterfaceId, group: Ipv6Addr, after: Duration) {
        if self
            .groups
            .join(self.now, interface, group.into(), after)
            .is_err()
        {
            self.drops.count(Reason::GroupTableFull);
        }
    }

    /// Leaves the group of an address that is not ours any more.
    pub(super) fn leave_own(&mut self, interface: InterfaceId, group: Ipv6Addr) {
        // Where there was no room to join it, there is nothing to leave.
        let _ = self.groups.leave(self.now, interface, group.into());
    }

    /// A router asks, or another host answers: RFC 3376, RFC 2236.
    pub(super) fn igmp(&mut self, arrived: Arrived, packet: &A::Packet) -> Result<(), Reason> {
        let mut bytes = [0; QUERY_MAX];
        let bytes = whole(packet, arrived.upper_at, &mut bytes).ok_or(Reason::GroupMalformed)?;
        if arrived.hop_limit != 1 {
            return Err(Reason::GroupMalformed);
        }
        match igmp::Message::parse(bytes).map_err(|_| Reason::GroupMalformed)? {
            igmp::Message::Query(query) => {
                let asked = Query {
                    protocol: match query.version {
                        1 => Speaks::Igmp1,
                        2 => Speaks::Igmp2,
                        _ => Speaks::Igmp3,
                    },
                    group: (!query.group.is_unspecified()).then_some(query.group.into()),
                    max_response: query.max_response,
                    robustness: query.robustness,
                    interval: query.interval,
                };
                self.groups.query(self.now, arrived.interface, &asked);
            }
            igmp::Message::Report(group) => {
                self.groups
                    .heard_report(self.now, arrived.interface, group.into())
            }
            igmp::Message::Other(_) => return Err(Reason::GroupIgnored),
        }
        self.run_groups();
        Ok(())
    }

    /// A router asks, or another host answers: RFC 3810, RFC 2710. The checksum is right.
    pub(super) fn mld(
        &mut self,
        arrived: &Arrived,
        kind: Kind,
        packet: &A::Packet,
    ) -> Result<(), Reason> {
        let header = packet.data().get(arrived.ip_at..).unwrap_or_default();
        let ip = Ipv6::parse(header).map_err(|_| Reason::GroupMalformed)?;
        let mut bytes = [0; QUERY_MAX];
        let bytes = whole(packet, arrived.upper_at, &mut bytes).ok_or(Reason::GroupMalformed)?;
        let message = mld::Message::parse(&ip, arrived.router_alert, bytes);
        debug_assert!(kind.is_mld());
        match message.map_err(|_| Reason::GroupMalformed)? {
            mld::Message::Query(query) => {
                let asked = Query {
                    protocol: if query.version == 1 {
                        Speaks::Mld1
                    } else {
                        Speaks::Mld2
                    },
                    group: (!query.group.is_unspecified()).then_some(query.group.into()),
                    max_response: query.max_response,
                    robustness: query.robustness,
                    interval: query.interval,
                };
                self.groups.query(self.now, arrived.interface, &asked);
            }
            mld::Message::Report(group) => {
                self.groups
                    .heard_report(self.now, arrived.interface, group.into())
            }
            mld::Message::Other(_) => return Err(Reason::GroupIgnored),
        }
        self.run_groups();
        Ok(())
    }

    /// Reports what is due.
    pub(super) fn run_groups(&mut self) {
        while let Some(report) = self.groups.poll(self.now) {
            let sent = match report.destination() {
                IpAddr::V4(to) => self.report_v4(&report, to),
                IpAddr::V6(to) => self.report_v6(&report, to),
            };
            self.note(sent);
        }
    }

    fn report_v4(&mut self, report: &Report, to: Ipv4Addr) -> Result<(), Reason> {
        let source = match self.addresses.select_source(report.interface, to.into()) {
            Some(IpAddr::V4(source)) => source,
            // RFC 3376 section 4.2.13: who has no address yet reports nevertheless.
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let (config, mut packet) = self.new_report(report)?;
        let room = packet.append(REPORT_MAX).ok_or(Reason::NoBuffer)?;
        let len = write_igmp(report, room).ok_or(Reason::TooLarge)?;
        let repr = ipv4::Repr {
            // RFC 3376 section 4: TTL 1, internetwork control, router alert.
            traffic_class: 0xc0,
            payload_len: u16::try_from(len).map_err(|_| Reason::TooLarge)?,
            id: 0,
            dont_fragment: true,
            more_fragments: false,
            fragment_offset: 0,
            ttl: 1,
            protocol: Protocol::IGMP,
            source,
            destination: to,
        };
        if !packet.truncate(len) {
            return Err(Reason::Unreadable);
        }
        let room = packet.prepend(ipv4::Repr::WITH_ROUTER_ALERT_LEN);
        let room = room
            .and_then(|room| room.first_chunk_mut())
            .ok_or(Reason::Unreadable)?;
        repr.write_with_router_alert(room);
        let frame = FrameHeader::new(&config, Mac::multicast_v4(to), EtherType::IPV4.0);
        self.transmit(config.port, &frame, packet)
    }

    fn report_v6(&mut self, report: &Report, to: Ipv6Addr) -> Result<(), Reason> {
        // RFC 3590 section 4: who has no link-local address yet reports nevertheless.
        let source = self
            .addresses
            .link_local(report.interface)
            .unwrap_or(Ipv6Addr::UNSPECIFIED);
        let (config, mut packet) = self.new_report(report)?;
        let room = packet.append(REPORT_MAX).ok_or(Reason::NoBuffer)?;
        let len = write_mld(report, source, room).ok_or(Reason::TooLarge)?;
        if !packet.truncate(len) {
            return Err(Reason::Unreadable);
        }
        let payload_len = len + extension::ROUTER_ALERT_LEN;
        let repr = ipv6::Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: u16::try_from(payload_len).map_err(|_| Reason::TooLarge)?,
            next_header: Protocol::HOP_BY_HOP,
            hop_limit: mld::HOP_LIMIT,
            source,
            destination: to,
        };
        let room = packet
            .prepend(ipv6::HEADER_LEN + extension::ROUTER_ALERT_LEN)
            .ok_or(Reason::Unreadable)?;
        let (header, rest) = room.split_first_chunk_mut().ok_or(Reason::Unreadable)?;
        repr.write(header);
        let alert = rest.first_chunk_mut().ok_or(Reason::Unreadable)?;
        extension::write_router_alert(Protocol::ICMPV6, alert);
        let frame = FrameHeader::new(&config, Mac::multicast_v6(to), EtherType::IPV6.0);
        self.transmit(config.port, &frame, packet)
    }

    fn new_report(&mut self, report: &Report) -> Result<(InterfaceConfig, A::Packet), Reason> {
        let config = self
            .interface(report.interface)
            .ok_or(Reason::PortUnknown)?
            .config;
        let packet = self.packets.alloc().ok_or(Reason::NoBuffer)?;
        Ok((config, packet))
    }
}

/// All bytes of a packet from a place on, if they fit.
fn whole<'b, P: Packet>(packet: &P, at: usize, bytes: &'b mut [u8]) -> Option<&'b [u8]> {
    let len = packet.len().checked_sub(at)?;
    let bytes = bytes.get_mut(..len)?;
    (packet.copy_out(at, bytes) == len).then_some(bytes)
}

const fn kind(is: RecordIs) -> RecordKind {
    match is {
        RecordIs::Member => RecordKind::IsExclude,
        RecordIs::Leave => RecordKind::ToInclude,
        RecordIs::Join => RecordKind::ToExclude,
    }
}

fn write_igmp(report: &Report, out: &mut [u8]) -> Option<usize> {
    let records = report.records().iter();
    let groups = records.filter_map(|record| match record.group {
        IpAddr::V4(group) => Some((record.kind, group)),
        IpAddr::V6(_) => None,
    });
    if report.protocol.has_records() {
        return igmp::write_report_v3(groups.map(|(is, group)| (kind(is), group)), out);
    }
    let (is, group) = { groups }.next()?;
    let room = out.first_chunk_mut::<{ igmp::LEN }>()?;
    match (report.protocol, is) {
        // RFC 2236 section 6: routers of version 1 are not told.
        (Speaks::Igmp1, RecordIs::Leave) => return None,
        (_, RecordIs::Leave) => igmp::write_leave(group, room),
        (Speaks::Igmp1, _) => igmp::write_report_v1(group, room),
        _ => igmp::write_report_v2(group, room),
    }
    Some(igmp::LEN)
}

fn write_mld(report: &Report, source: Ipv6Addr, out: &mut [u8]) -> Option<usize> {
    let records = report.records().iter();
    let groups = records.filter_map(|record| match record.group {
        IpAddr::V6(group) => Some((record.kind, group)),
        IpAddr::V4(_) => None,
    });
    if report.protocol.has_records() {
        return mld::write_report_v2(source, groups.map(|(is, group)| (kind(is), group)), out);
    }
    let (is, group) = { groups }.next()?;
    let room = out.first_chunk_mut::<{ mld::LEN }>()?;
    match is {
        RecordIs::Leave => mld::write_done(source, group, room),
        RecordIs::Member | RecordIs::Join => mld::write_report_v1(source, group, room),
    }
    Some(mld::LEN)
}
