//! Which frames come to the group, and which stay with the kernel.
//!
//! ```text
//! match = "all" | what *(";" what)
//! what  = ("tcp" | "udp") [":" ports *("," ports)] | "icmp" | "icmp6"
//! ports = number ["-" number]
//! addr  = address *(";" address)
//! ```
//!
//! | `addr=` | `match=`    | comes to the group                                                                        |
//! |---------|-------------|-------------------------------------------------------------------------------------------|
//! |         | `all`       | every frame                                                                               |
//! |         | `tcp:80`    | these ports at any address; ARP and neighbour discovery stay with the kernel              |
//! | `A`     |             | all that goes to `A`, and ARP and neighbour discovery for `A`                             |
//! | `A`     | `tcp:80`    | these ports at `A`, and ARP and neighbour discovery for `A`                               |
//!
//! **ARP for an address** has it as its target: requests for it, and answers to its own. **Neighbour discovery for an
//! address**: solicitations and advertisements that have it as their target, whichever group of addresses they were sent to
//! (two addresses may share one), or that were sent to itself, as answers to its own are.
//!
//! **Later fragments** have no ports: they come with `addr=` if their protocol is named, and without it if it is named without
//! ports. A first fragment that stays with the kernel for its port has then lost the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::args::{DevArgs, Key};
use crate::error::Error;

/// The keys of a filter.
pub(super) const MATCH: &str = "match";
pub(super) const ADDR: &str = "addr";
pub(super) const KEYS: [Key; 2] = [Key::list(MATCH), Key::once(ADDR)];

/// Frames that come to the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter {
    /// None for any.
    addresses: BTreeSet<IpAddr>,
    /// Those of them that the kernel has too: it answers for them.
    shared: BTreeSet<IpAddr>,
    wanted: Wanted,
}

/// What is wanted of what goes to the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// All of it; without addresses, every frame.
    All,
    /// What is named.
    Named(BTreeMap<Protocol, Ports>),
}

/// Ports of a protocol, in order and apart from each other; none for all of it.
pub(super) type Ports = Vec<PortRange>;

/// A protocol that can be named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protocol {
    Tcp,
    Udp,
    Icmp,
    Icmp6,
}

/// Destination ports, both ends among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl Protocol {
    const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Icmp6];

    /// As the user writes it.
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmp6 => "icmp6",
        }
    }

    /// Its number in the header of IP.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
            Self::Icmp6 => 58,
        }
    }

    /// Whether its header starts with two ports.
    fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp)
    }

    /// Whether packets of that version carry it.
    pub(super) fn is_in(self, version: Version) -> bool {
        match self {
            Self::Tcp | Self::Udp => true,
            Self::Icmp => version == Version::V4,
            Self::Icmp6 => version == Version::V6,
        }
    }
}

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V4,
    V6,
}

impl Filter {
    /// Every frame.
    pub(super) const ALL: Self = Self {
        addresses: BTreeSet::new(),
        shared: BTreeSet::new(),
        wanted: Wanted::All,
    };

    /// What a port's arguments say, if they say anything of it.
    ///
    /// # Errors
    ///
    /// [`Error::BadValue`] names the piece that is wrong, and what would be right.
    pub(super) fn parse(args: &DevArgs) -> Result<Option<Self>, Error> {
        let addresses = args.get(ADDR).map(parse_addresses).transpose();
        let addresses = addresses.map_err(|reason| args.bad_value(ADDR, reason))?;
        let wanted = args.get(MATCH).map(parse_wanted).transpose();
        let wanted = wanted.map_err(|reason| args.bad_value(MATCH, reason))?;
        match (addresses, wanted) {
            (None, None) => Ok(None),
            (Some(_), Some(Wanted::All)) => Err(args.bad_value(
                MATCH,
                format!(
                    "\"all\" is every frame, whatever its address; leave {MATCH}= out for all that goes to {ADDR}=, or {ADDR}= for every frame"
                ),
            )),
            (addresses, wanted) => Ok(Some(Self {
                addresses: addresses.unwrap_or_default(),
                shared: BTreeSet::new(),
                wanted: wanted.unwrap_or(Wanted::All),
            })),
        }
    }

    /// Leaves ARP and neighbour discovery to the kernel for addresses that it has on the interface: XDP cannot give a frame to both.
    pub(super) fn share_with_kernel(&mut self, kernel: &[IpAddr]) {
        let ours = |address: &&IpAddr| self.addresses.contains(address);
        self.shared = kernel.iter().filter(ours).copied().collect();
    }

    /// Whether the kernel answers for an address.
    pub(super) fn is_shared(&self, address: impl Into<IpAddr>) -> bool {
        self.shared.contains(&address.into())
    }

    /// Whether every frame comes.
    pub(super) fn is_all(&self) -> bool {
        self.addresses.is_empty() && self.wanted == Wanted::All
    }

    /// Whether some addresses are meant, and not any.
    pub(super) fn has_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// The addresses of version 4.
    pub(super) fn v4(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.addresses.iter().filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
    }

    /// The addresses of version 6.
    pub(super) fn v6(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.addresses.iter().filter_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        })
    }

    /// What is named, if not everything is meant.
    pub(super) fn named(&self) -> Option<&BTreeMap<Protocol, Ports>> {
        match &self.wanted {
            Wanted::All => None,
            Wanted::Named(named) => Some(named),
        }
    }
}

/// As the keys are written, in one order.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        if self.is_all() {
            write!(f, "{MATCH}=all")?;
        }
        if let Some(named) = self.named() {
            write!(f, "{MATCH}=")?;
            for (protocol, ports) in named {
                write!(f, "{separator}{}", protocol.name())?;
                for (number, range) in ports.iter().enumerate() {
                    write!(f, "{}{range}", if number == 0 { ':' } else { ',' })?;
                }
                separator = ";";
            }
            separator = ",";
        }
        if self.has_addresses() {
            write!(f, "{separator}{ADDR}=")?;
            separator = "";
            for address in &self.addresses {
                write!(f, "{separator}{address}")?;
                separator = ";";
            }
        }
        Ok(())
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// The pieces of a list that may stand in brackets, as every value with commas may.
fn pieces(list: &str) -> impl Iterator<Item = &str> {
    let inner = list
        .strip_prefix('[')
        .and_then(|list| list.strip_suffix(']'));
    inner.unwrap_or(list).split(';').map(str::trim)
}

fn parse_addresses(list: &str) -> Result<BTreeSet<IpAddr>, String> {
    pieces(list).map(parse_address).collect()
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| {
        format!("{text:?} is no address; write addr=10.0.0.2, or several as addr=10.0.0.2;fd00::2")
    })?;
    if address.is_unspecified() || address.is_multicast() || address == Ipv4Addr::BROADCAST {
        return Err(format!(
            "{text:?} is no address of one host; give one that the group has, as addr=10.0.0.2"
        ));
    }
    Ok(address)
}

fn parse_wanted(list: &str) -> Result<Wanted, String> {
    let mut named: BTreeMap<Protocol, Option<Ports>> = BTreeMap::new();
    let mut all = false;
    let mut count = 0;
    for piece in pieces(list) {
        count += 1;
        if piece == "all" {
            all = true;
            continue;
        }
        let (protocol, ports) = parse_named(piece)?;
        // Named twice, both are meant; named without ports, all of it is.
        let before = named.entry(protocol).or_insert_with(|| Some(Ports::new()));
        match (before.as_mut(), ports) {
            (Some(before), Some(ports)) => before.extend(ports),
            _ => *before = None,
        }
    }
    match (all, count) {
        (false, _) => {
            let named = named.into_iter();
            let named =
                named.map(|(protocol, ports)| (protocol, merged(ports.unwrap_or_default())));
            Ok(Wanted::Named(named.collect()))
        }
        (true, 1) => Ok(Wanted::All),
        (true, _) => Err("\"all\" leaves nothing to name beside it; write match=all".into()),
    }
}

/// A protocol, and its ports if only some are meant.
fn parse_named(piece: &str) -> Result<(Protocol, Option<Ports>), String> {
    let (name, ports) = match piece.split_once(':') {
        Some((name, ports)) => (name.trim(), Some(ports)),
        None => (piece, None),
    };
    let known = Protocol::ALL.into_iter().find(|known| known.name() == name);
    let Some(protocol) = known else {
        return Err(format!(
            "{piece:?} does not start with tcp, udp, icmp or icmp6; write match=tcp:80,443;udp:53, or match=all for every frame"
        ));
    };
    let Some(ports) = ports else {
        return Ok((protocol, None));
    };
    if !protocol.has_ports() {
        return Err(format!(
            "{piece:?}: {name} has no ports; write match={name}"
        ));
    }
    let ports = ports.split(',').map(|ports| {
        parse_ports(ports.trim()).ok_or_else(|| {
            format!(
                "{:?} of {piece:?} is no port from 1 to 65535 and no range of them; write match={name}:80,5000-5099, or match={name} for all",
                ports.trim()
            )
        })
    });
    Ok((protocol, Some(ports.collect::<Result<_, _>>()?)))
}

fn parse_ports(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // `u16` takes a sign.
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (0 < first && first <= last).then_some(PortRange { first, last })
}

/// The same ports in order, none twice, neighbours together.
fn merged(mut ports: Ports) -> Ports {
    ports.sort_unstable();
    let mut merged = Ports::new();
    for range in ports {
        match merged.last_mut() {
            Some(before) if u32::from(range.first) <= u32::from(before.last) + 1 => {
                before.last = before.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(keys: &str) -> Result<Option<Filter>, Error> {
        Filter::parse(&DevArgs::parse(&format!("net_af_xdp0,iface=a{keys}"))?)
    }

    fn again(keys: &str) -> String {
        parse(keys).unwrap().unwrap().to_string()
    }

    #[test]
    fn filter_is_printed_as_it_is_written_in_one_order() {
        for (written, printed) in [
            (",match=all", "match=all"),
            (",match=tcp:80,443;udp:53", "match=tcp:80,443;udp:53"),
            (",match=[udp:53;tcp:443,80]", "match=tcp:80,443;udp:53"),
            (",match=udp:5000-5099", "match=udp:5000-5099"),
            (",match=icmp6;icmp;tcp", "match=tcp;icmp;icmp6"),
            (
                ",match=tcp:80;tcp:81,90-99,95-120;tcp:79",
                "match=tcp:79-81,90-120",
            ),
            (",match=tcp:80;tcp", "match=tcp"),
            (",match=tcp;tcp:80", "match=tcp"),
            (",match=tcp:1-65535", "match=tcp:1-65535"),
            (",addr=10.0.0.2", "addr=10.0.0.2"),
            (",addr=fd00:0::2;10.0.0.2;fd00::2", "addr=10.0.0.2;fd00::2"),
            (",addr=10.0.0.2,match=tcp:80", "match=tcp:80,addr=10.0.0.2"),
        ] {
            assert_eq!(again(written), printed);
            assert_eq!(again(&format!(",{printed}")), printed);
        }
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse(",match=all").unwrap(), Some(Filter::ALL));
    }

    #[test]
    fn wrong_filter_names_the_piece_and_what_would_be_right() {
        for (written, piece, remedy) in [
            (",match=sctp:80", "\"sctp:80\"", "tcp, udp, icmp or icmp6"),
            (",match=tcp:80;;udp", "\"\"", "match=all"),
            (",match=80", "\"80\"", "tcp, udp"),
            (",match=tcp:", "\"\" of \"tcp:\"", "match=tcp for all"),
            (",match=tcp:http", "\"http\" of", "match=tcp:80"),
            (",match=tcp:0", "\"0\" of", "1 to 65535"),
            (",match=tcp:+1", "\"+1\" of", "1 to 65535"),
            (",match=udp:65536", "\"65536\" of", "1 to 65535"),
            (",match=udp:99-9", "\"99-9\" of", "match=udp:80,5000-5099"),
            (",match=[tcp:80,]", "\"\" of", "match=tcp:80"),
            (",match=icmp:8", "\"icmp:8\"", "write match=icmp"),
            (",match=all;tcp", "\"all\"", "write match=all"),
            (",match=all,addr=10.0.0.2", "\"all\"", "leave match= out"),
            (",addr=10.0.0.2/24", "\"10.0.0.2/24\"", "addr=10.0.0.2"),
            (",addr=10.0.0.2;", "\"\"", "addr=10.0.0.2;fd00::2"),
            (",addr=fe80::1%eth0", "\"fe80::1%eth0\"", "addr="),
            (",addr=224.0.0.1", "\"224.0.0.1\"", "one host"),
            (",addr=::", "\"::\"", "one host"),
            (",addr=255.255.255.255", "\"255.255.255.255\"", "one host"),
        ] {
            let error = parse(written).unwrap_err().to_string();
            assert!(error.contains(piece) && error.contains(remedy), "{error}");
        }
    }

    fn port() -> impl Strategy<Value = String> {
        let range = (1..=u16::MAX, 0..200_u16)
            .prop_map(|(first, more)| format!("{first}-{}", first.saturating_add(more)));
        prop_oneof![(1..=u16::MAX).prop_map(|port| port.to_string()), range]
    }

    proptest! {
        #[test]
        fn any_text_is_a_filter_or_an_error(
            wanted in "\\PC{1,40}|[a-z0-9:;,-]{1,40}", addresses in "\\PC{1,40}|[0-9a-f:.;]{1,40}",
        ) {
            for keys in [
                format!(",match={wanted}"), format!(",addr={addresses}"), format!(",match={wanted},addr={addresses}"),
            ] {
                if let Ok(Some(filter)) = parse(&keys) {
                    let printed = format!(",{filter}");
                    prop_assert_eq!(parse(&printed).unwrap(), Some(filter), "{}", printed);
                }
            }
        }

        #[test]
        fn printed_filter_means_the_same_ports(
            ports in proptest::collection::vec(port(), 1..8), some in any::<u16>(),
        ) {
            let filter = parse(&format!(",match=tcp:{}", ports.join(","))).unwrap().unwrap();
            let ranges = &filter.named().unwrap()[&Protocol::Tcp];
            prop_assert!(ranges.windows(2).all(|pair| u32::from(pair[0].last) + 1 < u32::from(pair[1].first)));
            let written = ports.iter().filter_map(|text| parse_ports(text)).collect::<Vec<_>>();
            let ends = written.iter().flat_map(|range| [range.first, range.last]);
            let near = ends.flat_map(|end| [end.wrapping_sub(1), end, end.wrapping_add(1)]);
            let within = |ranges: &[PortRange], port| ranges.iter().any(|range| (range.first..=range.last).contains(&port));
            for port in near.chain([some]) {
                prop_assert_eq!(within(ranges, port), within(&written, port), "{}", port);
            }
            prop_assert_eq!(parse(&format!(",{filter}")).unwrap(), Some(filter));
        }
    }
}
