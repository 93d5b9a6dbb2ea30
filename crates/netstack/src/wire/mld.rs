//! Multicast listener discovery: who listens to which IPv6 group. RFC 2710 (1), RFC 3810 (2).

use core::net::Ipv6Addr;
use core::time::Duration;

use super::icmpv6::{self, Kind};
use super::igmp::{RecordKind, exponential};
use super::ipv6::Ipv6;
use super::{Malformed, Pieces, take};

/// Where reports of version 2 go.
pub const V2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
/// Where version 1 says that the last listener has gone.
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// The hop limit of every message: routers do not pass it on.
pub const HOP_LIMIT: u8 = 1;
/// Bytes of a message of version 1.
pub const LEN: usize = 24;
/// Bytes of a report of version 2 without records.
pub const REPORT_LEN: usize = 8;
/// Bytes of a record of version 2 without sources.
pub const RECORD_LEN: usize = 20;

/// A message that a host looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A router asks who listens.
    Query(Query<'a>),
    /// Another host, of version 1, listens to this group; nobody else has to say so.
    Report(Ipv6Addr),
    /// For routers only.
    Other(Kind),
}

impl<'a> Message<'a> {
    /// Reads the ICMPv6 message `bytes`, whole, of the packet `ip`, which had a router alert or not; checks what RFC 3810 sections
    /// 5.1.14, 5.2.13 and 6.2 demand but the checksum.
    ///
    /// # Errors
    ///
    /// It is malformed, or comes from farther away than it may.
    pub fn parse(ip: &Ipv6, router_alert: bool, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let ([kind, _, _, _, high, low, _, _], rest): ([u8; 8], _) = take(bytes)?;
        let kind = Kind(kind);
        if !kind.is_mld() || ip.hop_limit() != HOP_LIMIT || !router_alert {
            return Err(Malformed::BadField);
        }
        // Only a report may come from who has no address yet.
        let from_here = ip.source().is_unicast_link_local();
        let from_nobody = ip.source().is_unspecified() && kind != Kind::LISTENER_QUERY;
        if !from_here && !from_nobody {
            return Err(Malformed::BadField);
        }
        if !matches!(kind, Kind::LISTENER_QUERY | Kind::LISTENER_REPORT) {
            return Ok(Self::Other(kind));
        }
        let (group, rest): ([u8; 16], _) = take(rest)?;
        let group = Ipv6Addr::from(group);
        if kind == Kind::LISTENER_QUERY {
            let code = u16::from_be_bytes([high, low]);
            return Query::parse(code, group, rest).map(Self::Query);
        }
        if !group.is_multicast() {
            return Err(Malformed::BadField);
        }
        Ok(Self::Report(group))
    }
}

/// What a router asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// In which version: 1 or 2.
    pub version: u8,
    /// About which group; unspecified is about all.
    pub group: Ipv6Addr,
    /// How long hosts may take to answer.
    pub max_response: Duration,
    /// About these sources only, if there are any (version 2).
    pub sources: &'a [[u8; 16]],
    /// How often to say what is to be heard (version 2); zero is left open.
    pub robustness: u8,
    /// How often the router asks (version 2); zero is left open.
    pub interval: Duration,
}

impl<'a> Query<'a> {
    fn parse(code: u16, group: Ipv6Addr, rest: &'a [u8]) -> Result<Self, Malformed> {
        if !group.is_multicast() && !group.is_unspecified() {
            return Err(Malformed::BadField);
        }
        let mut query = Self {
            version: 1,
            group,
            max_response: Duration::from_millis(code.into()),
            sources: &[],
            robustness: 0,
            interval: Duration::ZERO,
        };
        // RFC 3810 section 8.1: the length tells the version.
        if rest.is_empty() {
            return Ok(query);
        }
        let ([flags, interval, high, low], sources): ([u8; 4], _) = take(rest)?;
        let (sources, _) = sources.as_chunks();
        let count = usize::from(u16::from_be_bytes([high, low]));
        query.version = 2;
        query.max_response = Duration::from_millis(exponential_16(code).into());
        query.sources = sources.get(..count).ok_or(Malformed::BadLength)?;
        query.robustness = flags & 7;
        query.interval = Duration::from_secs(exponential(interval).into());
        Ok(query)
    }
}

/// A number of sixteen bits that is a float if large: RFC 3810 section 5.1.3.
fn exponential_16(code: u16) -> u32 {
    let (exponent, mantissa) = (u32::from(code) >> 12 & 7, u32::from(code) & 0xfff);
    if code < 0x8000 {
        code.into()
    } else {
        (mantissa | 0x1000) << (exponent + 3)
    }
}

/// Writes that we listen to a group, for routers of version 1. It goes to the group itself.
pub fn write_report_v1(source: Ipv6Addr, group: Ipv6Addr, out: &mut [u8; LEN]) {
    write(Kind::LISTENER_REPORT, source, group, group, out);
}

/// Writes that we listen to a group no longer, for routers of version 1. It goes to [`ALL_ROUTERS`].
pub fn write_done(source: Ipv6Addr, group: Ipv6Addr, out: &mut [u8; LEN]) {
    write(Kind::LISTENER_DONE, source, ALL_ROUTERS, group, out);
}

fn write(
    kind: Kind,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    group: Ipv6Addr,
    out: &mut [u8; LEN],
) {
    *out = [0; LEN];
    out[0] = kind.0;
    out[8..].copy_from_slice(&group.octets());
    icmpv6::seal(source, destination, out);
}

/// Writes a report of version 2, which goes to [`V2_ROUTERS`], and returns its length; `None` if `out` is shorter, or there are
/// too many records.
pub fn write_report_v2(
    source: Ipv6Addr,
    records: impl IntoIterator<Item = (RecordKind, Ipv6Addr)>,
    out: &mut [u8],
) -> Option<usize> {
    let mut pieces = Pieces::new(out);
    pieces.put(&[Kind::LISTENER_REPORT_V2.0, 0, 0, 0, 0, 0, 0, 0])?;
    let mut count: u16 = 0;
    for (kind, group) in records {
        pieces.put(&[kind.number(), 0, 0, 0])?;
        pieces.put(&group.octets())?;
        count = count.checked_add(1)?;
    }
    let message = pieces.finish();
    message.get_mut(6..8)?.copy_from_slice(&count.to_be_bytes());
    icmpv6::seal(source, V2_ROUTERS, message);
    Some(message.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Protocol, ipv6};
    use super::*;

    const US: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 7);
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

    fn ip(source: Ipv6Addr, hop_limit: u8) -> Ipv6 {
        let repr = ipv6::Repr {
            traffic_class: 0,
            flow_label: 0,
            payload_len: 0,
            next_header: Protocol::HOP_BY_HOP,
            hop_limit,
            source,
            destination: ALL_NODES,
        };
        let mut out = [0; ipv6::HEADER_LEN];
        repr.write(&mut out);
        Ipv6::parse(&out).unwrap()
    }

    fn message(kind: u8, code: u16, group: Ipv6Addr, rest: &[u8]) -> Vec<u8> {
        let [high, low] = code.to_be_bytes();
        [&[kind, 0, 0, 0, high, low, 0, 0], &group.octets()[..], rest].concat()
    }

    fn is_right(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> bool {
        let mut sum = icmpv6::pseudo(source, destination, message.len());
        sum.add(message);
        sum.is_right()
    }

    #[test]
    fn length_tells_the_version_of_a_query() {
        let query = |code, rest: &[u8]| {
            let bytes = message(130, code, GROUP, rest);
            match Message::parse(&ip(US, 1), true, &bytes)? {
                Message::Query(query) => Ok((query.version, query.max_response.as_millis())),
                _ => panic!("no query"),
            }
        };
        assert_eq!(query(10_000, &[]), Ok((1, 10_000)));
        assert_eq!(query(0xffff, &[]), Ok((1, 65_535)));
        assert_eq!(query(10_000, &[2, 125, 0, 0]), Ok((2, 10_000)));
        assert_eq!(query(0x8001, &[2, 125, 0, 0]), Ok((2, 0x1001 << 3)));
        assert_eq!(query(0xffff, &[2, 125, 0, 0]), Ok((2, 0x1fff << 10)));
        for rest in 1..4 {
            assert_eq!(query(1, &[2, 125, 0, 0][..rest]), Err(Malformed::Truncated));
        }
    }

    #[test]
    fn query_of_version_2_has_its_sources_and_no_more() {
        let rest = [&[0x0a, 0x8f, 0, 1], &US.octets()[..], &[1, 2, 3]].concat();
        let bytes = message(130, 0, GROUP, &rest);
        let Ok(Message::Query(query)) = Message::parse(&ip(US, 1), true, &bytes) else {
            panic!("no query");
        };
        assert_eq!(query.sources, [US.octets()]);
        assert_eq!((query.robustness, query.interval.as_secs()), (2, 31 << 3));
        let found = Message::parse(&ip(US, 1), true, &bytes[..43]);
        assert_eq!(found, Err(Malformed::BadLength));
    }

    #[test]
    fn message_from_farther_away_or_without_an_alert_is_refused() {
        let global: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let nobody = Ipv6Addr::UNSPECIFIED;
        let parse = |kind, source, hop_limit, alert| {
            let bytes = message(kind, 1, GROUP, &[]);
            Message::parse(&ip(source, hop_limit), alert, &bytes).map(|_| ())
        };
        assert_eq!(parse(130, US, 1, true), Ok(()));
        assert_eq!(parse(130, US, 2, true), Err(Malformed::BadField));
        assert_eq!(parse(130, US, 1, false), Err(Malformed::BadField));
        assert_eq!(parse(130, global, 1, true), Err(Malformed::BadField));
        assert_eq!(parse(130, nobody, 1, true), Err(Malformed::BadField));
        assert_eq!(parse(131, nobody, 1, true), Ok(()));
        assert_eq!(parse(131, global, 1, true), Err(Malformed::BadField));
        assert_eq!(parse(135, US, 1, true), Err(Malformed::BadField));
    }

    #[test]
    fn groups_that_are_none_are_refused() {
        let parse = |kind, group| {
            let bytes = message(kind, 1, group, &[]);
            Message::parse(&ip(US, 1), true, &bytes).map(|_| ())
        };
        assert_eq!(parse(130, Ipv6Addr::UNSPECIFIED), Ok(()));
        assert_eq!(parse(130, US), Err(Malformed::BadField));
        assert_eq!(parse(131, Ipv6Addr::UNSPECIFIED), Err(Malformed::BadField));
        assert_eq!(parse(131, GROUP), Ok(()));
    }

    #[test]
    fn messages_for_routers_are_told_apart() {
        for kind in [132, 143] {
            let bytes = message(kind, 0, GROUP, &[]);
            let found = Message::parse(&ip(US, 1), true, &bytes);
            assert_eq!(found, Ok(Message::Other(Kind(kind))));
        }
    }

    #[test]
    fn report_and_done_of_version_1_are_whole() {
        let mut out = [0xee; LEN];
        write_report_v1(US, GROUP, &mut out);
        assert!(is_right(US, GROUP, &out));
        let found = Message::parse(&ip(US, 1), true, &out);
        assert_eq!(found, Ok(Message::Report(GROUP)));
        write_done(US, GROUP, &mut out);
        assert!(is_right(US, ALL_ROUTERS, &out));
        assert_eq!((out[0], &out[8..]), (132, &GROUP.octets()[..]));
    }

    #[test]
    fn report_of_version_2_has_a_record_for_each_group() {
        let records = [
            (RecordKind::IsExclude, GROUP),
            (RecordKind::ToInclude, ALL_NODES),
        ];
        let mut out = [0xee; 64];
        assert_eq!(write_report_v2(US, records, &mut out), Some(48));
        assert!(is_right(US, V2_ROUTERS, &out[..48]));
        assert_eq!(out[..2], [143, 0]);
        assert_eq!(out[4..8], [0, 0, 0, 2]);
        assert_eq!(
            (&out[8..12], &out[12..28]),
            (&[2, 0, 0, 0][..], &GROUP.octets()[..])
        );
        assert_eq!(
            (&out[28..32], &out[32..48]),
            (&[3, 0, 0, 0][..], &ALL_NODES.octets()[..])
        );
        for room in 0..48 {
            assert_eq!(write_report_v2(US, records, &mut vec![0; room]), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in prop::sample::select(vec![130u8, 131, 132, 143, 0]), mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Some(group) = bytes.get_mut(8) {
                *group = 0xff;
            }
            if let Some(count) = bytes.get_mut(26..28) {
                count.copy_from_slice(&[0, count[1] % 8]);
            }
            if let Ok(Message::Query(query)) = Message::parse(&ip(US, 1), true, &bytes) {
                prop_assert!(28 + query.sources.len() * 16 <= bytes.len() || query.sources.is_empty());
            }
        }
    }
}
