//! Neighbour discovery for IPv6: RFC 4861 section 4.

use core::net::Ipv6Addr;

use super::ethernet::Mac;
use super::icmpv6::{self, Kind};
use super::ipv6::Ipv6;
use super::{Malformed, Pieces, take};

/// Bytes of the longest message that we write.
pub const LEN_MAX: usize = 40;
/// The hop limit of every message: no router has passed it on (sections 6.1 and 7.1).
pub const HOP_LIMIT: u8 = 255;

/// Bytes of a number that tells our own solicitations, looped back, from those of another: RFC 7527, RFC 3971 section 5.3.2.
pub const NONCE_LEN: usize = 6;

const SOURCE_MAC: u8 = 1;
const TARGET_MAC: u8 = 2;
const PREFIX: u8 = 3;
const MTU: u8 = 5;
const NONCE: u8 = 14;
/// Options are counted in units of as many bytes.
const UNIT: usize = 8;

/// A message that obeys the rules of its section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Asks for routers.
    RouterSolicit(RouterSolicit),
    /// Says what there is to know of a link.
    RouterAdvertise(RouterAdvertise<'a>),
    /// Asks for a neighbour's Ethernet address, or whether it is there.
    NeighbourSolicit(NeighbourSolicit),
    /// Says so.
    NeighbourAdvertise(NeighbourAdvertise),
    /// Says that there is a better way.
    Redirect(Redirect),
}

impl<'a> Message<'a> {
    /// Reads the ICMPv6 message `bytes` of the packet `ip`, and checks what sections 6.1, 7.1 and 8.1 demand but its checksum.
    ///
    /// # Errors
    ///
    /// It breaks a rule of its section, or is of another type.
    pub fn parse(ip: &Ipv6, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (header, rest): ([u8; icmpv6::HEADER_LEN], _) = take(bytes)?;
        let [kind, code, _, _, fields @ ..] = header;
        if ip.hop_limit() != HOP_LIMIT || code != 0 {
            return Err(Malformed::BadField);
        }
        let message = match Kind(kind) {
            Kind::ROUTER_SOLICIT => Self::RouterSolicit(RouterSolicit::parse(ip, rest)?),
            Kind::ROUTER_ADVERTISE => {
                Self::RouterAdvertise(RouterAdvertise::parse(ip, fields, rest)?)
            }
            Kind::NEIGHBOUR_SOLICIT => Self::NeighbourSolicit(NeighbourSolicit::parse(ip, rest)?),
            Kind::NEIGHBOUR_ADVERTISE => {
                Self::NeighbourAdvertise(NeighbourAdvertise::parse(ip, fields, rest)?)
            }
            Kind::REDIRECT => Self::Redirect(Redirect::parse(ip, rest)?),
            _ => return Err(Malformed::BadField),
        };
        Ok(message)
    }
}

/// Asks for routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterSolicit {
    /// The sender's Ethernet address.
    pub source_mac: Option<Mac>,
}

impl RouterSolicit {
    fn parse(ip: &Ipv6, options: &[u8]) -> Result<Self, Malformed> {
        let found = Found::all(options)?;
        // Section 6.1.1: who has no address yet is not to be remembered.
        if ip.source().is_unspecified() && found.source_mac.is_some() {
            return Err(Malformed::BadField);
        }
        Ok(Self {
            source_mac: found.source_mac,
        })
    }

    /// Writes the message, its checksum included, and returns its length; `None` if `out` is shorter.
    pub fn write(&self, source: Ipv6Addr, destination: Ipv6Addr, out: &mut [u8]) -> Option<usize> {
        let mut pieces = begin(Kind::ROUTER_SOLICIT, 0, out)?;
        put_mac(&mut pieces, SOURCE_MAC, self.source_mac)?;
        Some(end(pieces, source, destination))
    }
}

/// Says what there is to know of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterAdvertise<'a> {
    /// What to send packets with; zero is left open.
    pub hop_limit: u8,
    /// Addresses are to be had by DHCPv6.
    pub managed: bool,
    /// Other things are.
    pub other: bool,
    /// Which router to prefer: -1, 0 or 1 (RFC 4191 section 2.2).
    pub preference: i8,
    /// Seconds for which the sender is a default router; zero is not at all.
    pub lifetime_s: u16,
    /// How long a neighbour counts as reachable; zero is left open.
    pub reachable_ms: u32,
    /// How long to wait before asking again; zero is left open.
    pub retransmit_ms: u32,
    /// What else it says.
    pub options: Options<'a>,
}

impl<'a> RouterAdvertise<'a> {
    fn parse(ip: &Ipv6, fields: [u8; 4], bytes: &'a [u8]) -> Result<Self, Malformed> {
        let [hop_limit, flags, high, low] = fields;
        let ([a, b, c, d, retransmit @ ..], options): ([u8; 8], _) = take(bytes)?;
        // Section 6.1.2.
        if !ip.source().is_unicast_link_local() {
            return Err(Malformed::BadField);
        }
        Found::all(options)?;
        Ok(Self {
            hop_limit,
            managed: flags & 0x80 != 0,
            other: flags & 0x40 != 0,
            // The reserved value counts as the middle.
            preference: match flags >> 3 & 3 {
                0b01 => 1,
                0b11 => -1,
                _ => 0,
            },
            lifetime_s: u16::from_be_bytes([high, low]),
            reachable_ms: u32::from_be_bytes([a, b, c, d]),
            retransmit_ms: u32::from_be_bytes(retransmit),
            options: Options { rest: options },
        })
    }

    /// The router's Ethernet address.
    #[must_use]
    pub fn source_mac(&self) -> Option<Mac> {
        let mut options = self.options;
        options.find_map(|option| match option {
            Ok(NdpOption::SourceMac(mac)) => Some(mac),
            _ => None,
        })
    }

    /// What the link takes.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        let mut options = self.options;
        options.find_map(|option| match option {
            Ok(NdpOption::Mtu(mtu)) => Some(mtu),
            _ => None,
        })
    }

    /// Networks of the link.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> + use<'a> {
        self.options.filter_map(|option| match option {
            Ok(NdpOption::Prefix(prefix)) => Some(prefix),
            _ => None,
        })
    }
}

/// Asks for a neighbour's Ethernet address, or whether it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourSolicit {
    /// Who is asked.
    pub target: Ipv6Addr,
    /// The sender's Ethernet address; missing where it looks for duplicates of its own.
    pub source_mac: Option<Mac>,
    /// A number that comes back to us if a loop does.
    pub nonce: Option<[u8; NONCE_LEN]>,
}

impl NeighbourSolicit {
    fn parse(ip: &Ipv6, bytes: &[u8]) -> Result<Self, Malformed> {
        let (target, options) = target(bytes)?;
        let found = Found::all(options)?;
        // Section 7.1.1: whoever looks for duplicates asks the group of the target, and is not to be remembered.
        if ip.source().is_unspecified()
            && (!is_solicited_node(ip.destination()) || found.source_mac.is_some())
        {
            return Err(Malformed::BadField);
        }
        Ok(Self {
            target,
            source_mac: found.source_mac,
            nonce: found.nonce,
        })
    }

    /// Writes the message, its checksum included, and returns its length; `None` if `out` is shorter.
    pub fn write(&self, source: Ipv6Addr, destination: Ipv6Addr, out: &mut [u8]) -> Option<usize> {
        let mut pieces = begin(Kind::NEIGHBOUR_SOLICIT, 0, out)?;
        pieces.put(&self.target.octets())?;
        put_mac(&mut pieces, SOURCE_MAC, self.source_mac)?;
        if let Some(nonce) = self.nonce {
            pieces.put(&[NONCE, 1])?;
            pieces.put(&nonce)?;
        }
        Some(end(pieces, source, destination))
    }
}

/// Says which Ethernet address a neighbour has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourAdvertise {
    /// The sender is a router.
    pub router: bool,
    /// It was asked.
    pub solicited: bool,
    /// What it says holds, whatever was known.
    pub overriding: bool,
    /// Who.
    pub target: Ipv6Addr,
    /// Its Ethernet address.
    pub target_mac: Option<Mac>,
}

impl NeighbourAdvertise {
    const ROUTER: u8 = 0x80;
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;

    fn parse(ip: &Ipv6, [flags, ..]: [u8; 4], bytes: &[u8]) -> Result<Self, Malformed> {
        let (target, options) = target(bytes)?;
        let found = Found::all(options)?;
        let solicited = flags & Self::SOLICITED != 0;
        // Section 7.1.2: a group has not asked.
        if ip.destination().is_multicast() && solicited {
            return Err(Malformed::BadField);
        }
        Ok(Self {
            router: flags & Self::ROUTER != 0,
            solicited,
            overriding: flags & Self::OVERRIDE != 0,
            target,
            target_mac: found.target_mac,
        })
    }

    /// Writes the message, its checksum included, and returns its length; `None` if `out` is shorter.
    pub fn write(&self, source: Ipv6Addr, destination: Ipv6Addr, out: &mut [u8]) -> Option<usize> {
        let mut flags = 0;
        for (is_set, flag) in [
            (self.router, Self::ROUTER),
            (self.solicited, Self::SOLICITED),
            (self.overriding, Self::OVERRIDE),
        ] {
            if is_set {
                flags |= flag;
            }
        }
        let mut pieces = begin(Kind::NEIGHBOUR_ADVERTISE, flags, out)?;
        pieces.put(&self.target.octets())?;
        put_mac(&mut pieces, TARGET_MAC, self.target_mac)?;
        Some(end(pieces, source, destination))
    }
}

/// Says that there is a better way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redirect {
    /// Through whom; the destination itself if it is a neighbour.
    pub target: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// The target's Ethernet address.
    pub target_mac: Option<Mac>,
}

impl Redirect {
    fn parse(ip: &Ipv6, bytes: &[u8]) -> Result<Self, Malformed> {
        let (target, rest): ([u8; 16], _) = take(bytes)?;
        let (destination, options): ([u8; 16], _) = take(rest)?;
        let (target, destination) = (Ipv6Addr::from(target), Ipv6Addr::from(destination));
        let found = Found::all(options)?;
        // Section 8.1.
        let is_way = target == destination || target.is_unicast_link_local();
        if !ip.source().is_unicast_link_local() || destination.is_multicast() || !is_way {
            return Err(Malformed::BadField);
        }
        Ok(Self {
            target,
            destination,
            target_mac: found.target_mac,
        })
    }
}

/// A network that a router advertises: section 4.6.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Its addresses begin so; the bits behind mean nothing, and are zero here.
    pub prefix: Ipv6Addr,
    /// With so many bits; up to 128.
    pub len: u8,
    /// Who has such an address is a neighbour.
    pub on_link: bool,
    /// We may give ourselves such an address.
    pub autonomous: bool,
    /// For so many seconds; all ones is for ever.
    pub valid_s: u32,
    /// So many seconds of them without reserve.
    pub preferred_s: u32,
}

/// An option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NdpOption {
    /// The sender's Ethernet address.
    SourceMac(Mac),
    /// The target's Ethernet address.
    TargetMac(Mac),
    /// A network of the link.
    Prefix(Prefix),
    /// What the link takes.
    Mtu(u32),
    /// A number that comes back to us if a loop does.
    Nonce([u8; NONCE_LEN]),
    /// One that we have no use for.
    Other(u8),
}

/// The options of a message, one by one. Ends with the first that is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl Iterator for Options<'_> {
    type Item = Result<NdpOption, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let all = core::mem::take(&mut self.rest);
        if all.is_empty() {
            return None;
        }
        let Some((option, rest)) = split(all) else {
            return Some(Err(Malformed::BadLength));
        };
        self.rest = rest;
        Some(NdpOption::parse(option))
    }
}

/// Splits the first option off. Section 4.6: a length of zero is malformed.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let units = usize::from(*bytes.get(1)?);
    (units != 0).then_some(())?;
    bytes.split_at_checked(units * UNIT)
}

impl NdpOption {
    /// Reads a whole option.
    fn parse(option: &[u8]) -> Result<Self, Malformed> {
        let (first, rest): ([u8; UNIT], _) = take(option)?;
        let [kind, _, a, b, c, d, e, f] = first;
        let six = [a, b, c, d, e, f];
        Ok(match (kind, rest.len()) {
            (SOURCE_MAC, 0) => Self::SourceMac(Mac(six)),
            (TARGET_MAC, 0) => Self::TargetMac(Mac(six)),
            (MTU, 0) => Self::Mtu(u32::from_be_bytes([c, d, e, f])),
            (NONCE, 0) => Self::Nonce(six),
            (PREFIX, 24) => {
                let (preferred, rest): ([u8; 4], _) = take(rest)?;
                let (_, rest): ([u8; 4], _) = take(rest)?;
                let (prefix, _): ([u8; 16], _) = take(rest)?;
                if a > 128 {
                    return Err(Malformed::BadField);
                }
                let mask = u128::MAX.checked_shl(128 - u32::from(a)).unwrap_or(0);
                Self::Prefix(Prefix {
                    prefix: Ipv6Addr::from_bits(u128::from_be_bytes(prefix) & mask),
                    len: a,
                    on_link: b & 0x80 != 0,
                    autonomous: b & 0x40 != 0,
                    valid_s: u32::from_be_bytes([c, d, e, f]),
                    preferred_s: u32::from_be_bytes(preferred),
                })
            }
            // Sections 4.6.1 to 4.6.4: these have one length only, over Ethernet. A longer nonce is somebody else's.
            (SOURCE_MAC | TARGET_MAC | MTU | PREFIX, _) => return Err(Malformed::BadLength),
            (other, _) => Self::Other(other),
        })
    }
}

/// What a message may have one of.
#[derive(Debug, Default)]
struct Found {
    source_mac: Option<Mac>,
    target_mac: Option<Mac>,
    nonce: Option<[u8; NONCE_LEN]>,
}

impl Found {
    /// Looks at all options.
    fn all(options: &[u8]) -> Result<Self, Malformed> {
        let mut found = Self::default();
        for option in (Options { rest: options }) {
            match option? {
                NdpOption::SourceMac(mac) => found.source_mac = found.source_mac.or(Some(mac)),
                NdpOption::TargetMac(mac) => found.target_mac = found.target_mac.or(Some(mac)),
                NdpOption::Nonce(nonce) => found.nonce = found.nonce.or(Some(nonce)),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// Splits off the address that a message is about, which is no group: sections 7.1.1 and 7.1.2.
fn target(bytes: &[u8]) -> Result<(Ipv6Addr, &[u8]), Malformed> {
    let (target, options): ([u8; 16], _) = take(bytes)?;
    let target = Ipv6Addr::from(target);
    if target.is_multicast() {
        return Err(Malformed::BadField);
    }
    Ok((target, options))
}

/// The group that listens for solicitations of an address: RFC 4291 section 2.7.1.
#[must_use]
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// Whether it is such a group.
fn is_solicited_node(address: Ipv6Addr) -> bool {
    solicited_node(address) == address
}

/// Begins a message, whose checksum is still zero.
fn begin(kind: Kind, flags: u8, out: &mut [u8]) -> Option<Pieces<'_>> {
    let mut pieces = Pieces::new(out);
    pieces.put(&[kind.0, 0, 0, 0, flags, 0, 0, 0])?;
    Some(pieces)
}

fn put_mac(pieces: &mut Pieces<'_>, kind: u8, mac: Option<Mac>) -> Option<()> {
    if let Some(Mac(mac)) = mac {
        pieces.put(&[kind, 1])?;
        pieces.put(&mac)?;
    }
    Some(())
}

/// Fills in the checksum and says how long the message is.
fn end(pieces: Pieces<'_>, source: Ipv6Addr, destination: Ipv6Addr) -> usize {
    let message = pieces.finish();
    icmpv6::seal(source, destination, message);
    message.len()
}

#[cfg(test)]
mod tests;
