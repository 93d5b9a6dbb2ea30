//! IGMP: who listens to which IPv4 group. RFC 1112 (1), RFC 2236 (2), RFC 3376 (3).

use core::net::Ipv4Addr;
use core::time::Duration;

use super::checksum::checksum;
use super::{Malformed, Pieces, take};

/// Where reports of version 3 go.
pub const V3_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 22);
/// Where version 2 says that the last listener has gone.
pub const ALL_ROUTERS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 2);
/// Bytes of a message of versions 1 and 2.
pub const LEN: usize = 8;
/// Bytes of a record of version 3 without sources.
pub const RECORD_LEN: usize = 8;

const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;

/// A message that a host looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A router asks who listens.
    Query(Query<'a>),
    /// Another host, of version 1 or 2, listens to this group; nobody else has to say so.
    Report(Ipv4Addr),
    /// For routers only.
    Other(u8),
}

impl<'a> Message<'a> {
    /// Reads a whole message, which is all of `bytes`, and checks its checksum.
    ///
    /// # Errors
    ///
    /// It is malformed, or its checksum is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest): ([u8; LEN], _) = take(bytes)?;
        let [kind, code, _, _, group @ ..] = header;
        if checksum(bytes) != 0 {
            return Err(Malformed::BadChecksum);
        }
        let group = Ipv4Addr::from(group);
        match kind {
            QUERY => Query::parse(code, group, rest).map(Self::Query),
            REPORT_V1 | REPORT_V2 if group.is_multicast() => Ok(Self::Report(group)),
            REPORT_V1 | REPORT_V2 => Err(Malformed::BadField),
            other => Ok(Self::Other(other)),
        }
    }
}

/// What a router asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// In which version: 1, 2 or 3.
    pub version: u8,
    /// About which group; unspecified is about all.
    pub group: Ipv4Addr,
    /// How long hosts may take to answer.
    pub max_response: Duration,
    /// About these sources only, if there are any (version 3).
    pub sources: &'a [[u8; 4]],
    /// How often to say what is to be heard (version 3); zero is left open.
    pub robustness: u8,
    /// How often the router asks (version 3); zero is left open.
    pub interval: Duration,
}

impl<'a> Query<'a> {
    fn parse(code: u8, group: Ipv4Addr, rest: &'a [u8]) -> Result<Self, Malformed> {
        if !group.is_multicast() && !group.is_unspecified() {
            return Err(Malformed::BadField);
        }
        let tenths = |tenths: u32| Duration::from_millis(u64::from(tenths) * 100);
        let mut query = Self {
            version: 2,
            group,
            max_response: tenths(code.into()),
            sources: &[],
            robustness: 0,
            interval: Duration::ZERO,
        };
        // RFC 3376 section 7.1: the length tells the version.
        if rest.is_empty() {
            if code == 0 {
                // RFC 2236 section 4: version 1 says nothing, and means ten seconds.
                query.version = 1;
                query.max_response = tenths(100);
            }
            return Ok(query);
        }
        let ([flags, interval, high, low], sources): ([u8; 4], _) = take(rest)?;
        let (sources, _) = sources.as_chunks();
        let count = usize::from(u16::from_be_bytes([high, low]));
        query.version = 3;
        query.max_response = tenths(exponential(code));
        query.sources = sources.get(..count).ok_or(Malformed::BadLength)?;
        query.robustness = flags & 7;
        query.interval = Duration::from_secs(exponential(interval).into());
        Ok(query)
    }
}

/// A number of eight bits that is a float if large: RFC 3376 section 4.1.1, RFC 3810 section 5.1.9.
pub(super) fn exponential(code: u8) -> u32 {
    let (exponent, mantissa) = (u32::from(code) >> 4 & 7, u32::from(code) & 0xf);
    if code < 128 {
        code.into()
    } else {
        (mantissa | 0x10) << (exponent + 3)
    }
}

/// What a record of version 3 of IGMP, or 2 of MLD, says: RFC 3376 section 4.2.12, RFC 3810 section 5.2.12.
///
/// Without sources, whoever excludes none listens, and whoever includes none does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// We listen, as we did: the answer to a query.
    IsExclude,
    /// We listen from now on.
    ToExclude,
    /// We listen no longer.
    ToInclude,
}

impl RecordKind {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::IsExclude => 2,
            Self::ToInclude => 3,
            Self::ToExclude => 4,
        }
    }
}

/// Writes that we listen to a group, for routers of version 1.
pub fn write_report_v1(group: Ipv4Addr, out: &mut [u8; LEN]) {
    write(REPORT_V1, group, out);
}

/// Writes that we listen to a group, for routers of version 2.
pub fn write_report_v2(group: Ipv4Addr, out: &mut [u8; LEN]) {
    write(REPORT_V2, group, out);
}

/// Writes that we listen to a group no longer, for routers of version 2.
pub fn write_leave(group: Ipv4Addr, out: &mut [u8; LEN]) {
    write(LEAVE, group, out);
}

fn write(kind: u8, group: Ipv4Addr, out: &mut [u8; LEN]) {
    let [a, b, c, d] = group.octets();
    let [high, low] = checksum(&[kind, 0, 0, 0, a, b, c, d]).to_be_bytes();
    *out = [kind, 0, high, low, a, b, c, d];
}

/// Writes a report of version 3, and returns its length; `None` if `out` is shorter, or there are too many records.
pub fn write_report_v3(
    records: impl IntoIterator<Item = (RecordKind, Ipv4Addr)>,
    out: &mut [u8],
) -> Option<usize> {
    let mut pieces = Pieces::new(out);
    pieces.put(&[REPORT_V3, 0, 0, 0, 0, 0, 0, 0])?;
    let mut count: u16 = 0;
    for (kind, group) in records {
        pieces.put(&[kind.number(), 0, 0, 0])?;
        pieces.put(&group.octets())?;
        count = count.checked_add(1)?;
    }
    let message = pieces.finish();
    message.get_mut(6..8)?.copy_from_slice(&count.to_be_bytes());
    let sum = checksum(message);
    message.get_mut(2..4)?.copy_from_slice(&sum.to_be_bytes());
    Some(message.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

    /// Fills in the checksum.
    fn sealed(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes[2..4].fill(0);
        let sum = checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn query(bytes: &[u8]) -> Result<(u8, Ipv4Addr, u128), Malformed> {
        match Message::parse(&sealed(bytes))? {
            Message::Query(query) => {
                Ok((query.version, query.group, query.max_response.as_millis()))
            }
            _ => panic!("no query"),
        }
    }

    #[test]
    fn length_and_code_tell_the_version_of_a_query() {
        let all = Ipv4Addr::UNSPECIFIED;
        assert_eq!(query(&[0x11, 0, 0, 0, 0, 0, 0, 0]), Ok((1, all, 10_000)));
        assert_eq!(query(&[0x11, 25, 0, 0, 239, 1, 2, 3]), Ok((2, GROUP, 2500)));
        let three = [0x11, 0x9f, 0, 0, 0, 0, 0, 0, 2, 0x8f, 0, 0];
        // (0xf | 0x10) << (1 + 3), in tenths of a second.
        assert_eq!(query(&three), Ok((3, all, 49_600)));
        for len in 9..12 {
            assert_eq!(query(&three[..len]), Err(Malformed::Truncated));
        }
        assert_eq!(
            query(&[0x11, 25, 0, 0, 10, 1, 2, 3]),
            Err(Malformed::BadField)
        );
    }

    #[test]
    fn query_of_version_3_has_its_sources_and_no_more() {
        let with = |count, sources: &[u8]| {
            let head = [0x11, 10, 0, 0, 239, 1, 2, 3, 0x0b, 125, 0, count];
            sealed(&[&head, sources].concat())
        };
        let bytes = with(2, &[10, 0, 0, 1, 10, 0, 0, 2, 9, 9, 9]);
        let Ok(Message::Query(query)) = Message::parse(&bytes) else {
            panic!("no query");
        };
        assert_eq!(query.sources, [[10, 0, 0, 1], [10, 0, 0, 2]]);
        assert_eq!((query.robustness, query.interval.as_secs()), (3, 125));
        assert_eq!(
            Message::parse(&with(2, &[10, 0, 0, 1, 10])),
            Err(Malformed::BadLength)
        );
    }

    #[test]
    fn large_numbers_are_floats() {
        assert_eq!((exponential(0), exponential(127)), (0, 127));
        assert_eq!((exponential(128), exponential(255)), (128, 31744));
    }

    #[test]
    fn reports_of_others_are_heard() {
        for kind in [0x12, 0x16] {
            let bytes = sealed(&[kind, 0, 0, 0, 239, 1, 2, 3]);
            assert_eq!(Message::parse(&bytes), Ok(Message::Report(GROUP)));
            let bytes = sealed(&[kind, 0, 0, 0, 10, 1, 2, 3]);
            assert_eq!(Message::parse(&bytes), Err(Malformed::BadField));
        }
        for kind in [0x17, 0x22, 0x13] {
            let bytes = sealed(&[kind, 0, 0, 0, 239, 1, 2, 3]);
            assert_eq!(Message::parse(&bytes), Ok(Message::Other(kind)));
        }
    }

    #[test]
    fn wrong_checksum_and_early_end_are_refused() {
        let mut bytes = sealed(&[0x11, 25, 0, 0, 239, 1, 2, 3]);
        assert_eq!(Message::parse(&bytes[..7]), Err(Malformed::Truncated));
        bytes[1] = 26;
        assert_eq!(Message::parse(&bytes), Err(Malformed::BadChecksum));
    }

    #[test]
    fn report_of_version_2_and_leave_are_as_the_rfc_has_them() {
        let mut out = [0xee; LEN];
        write_report_v2(GROUP, &mut out);
        assert_eq!(out, [0x16, 0, 0xf8, 0xfa, 239, 1, 2, 3]);
        assert_eq!(Message::parse(&out), Ok(Message::Report(GROUP)));
        write_report_v1(GROUP, &mut out);
        assert_eq!(Message::parse(&out), Ok(Message::Report(GROUP)));
        write_leave(GROUP, &mut out);
        assert_eq!(Message::parse(&out), Ok(Message::Other(LEAVE)));
        assert_eq!(out[4..], GROUP.octets());
    }

    #[test]
    fn report_of_version_3_has_a_record_for_each_group() {
        let records = [
            (RecordKind::IsExclude, GROUP),
            (RecordKind::ToInclude, Ipv4Addr::new(239, 9, 9, 9)),
            (RecordKind::ToExclude, Ipv4Addr::new(239, 8, 8, 8)),
        ];
        let mut out = [0xee; 64];
        assert_eq!(write_report_v3(records, &mut out), Some(8 + 24));
        assert_eq!(checksum(&out[..32]), 0);
        assert_eq!(out[..2], [0x22, 0]);
        assert_eq!(out[4..8], [0, 0, 0, 3]);
        assert_eq!(out[8..16], [2, 0, 0, 0, 239, 1, 2, 3]);
        assert_eq!(out[16..24], [3, 0, 0, 0, 239, 9, 9, 9]);
        assert_eq!(out[24..32], [4, 0, 0, 0, 239, 8, 8, 8]);
        for room in 0..32 {
            assert_eq!(write_report_v3(records, &mut vec![0; room]), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(kind in prop::sample::select(vec![0x11u8, 0x12, 0x16, 0x17, 0x22]), mut bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Message::parse(&bytes);
            if bytes.len() >= 4 {
                bytes[0] = kind;
                if let Some(count) = bytes.get_mut(10..12) {
                    count[0] = 0;
                    count[1] %= 16;
                }
                if let Ok(Message::Query(query)) = Message::parse(&sealed(&bytes)) {
                    prop_assert!(12 + query.sources.len() * 4 <= bytes.len() || query.sources.is_empty());
                }
            }
        }
    }
}
