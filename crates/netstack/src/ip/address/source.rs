//! Which of our addresses a packet is sent from. RFC 6724 section 5.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Address, Addresses, State};
use crate::interface::InterfaceId;

impl Addresses {
    /// The address that packets to `to` come from if they leave by `interface`. RFC 6724 section 5 for IPv6, and its rules as
    /// far as they mean something for IPv4: an address of the destination's network, or else the first one.
    #[must_use]
    pub fn select_source(&self, interface: InterfaceId, to: IpAddr) -> Option<IpAddr> {
        let mut best: Option<(Rank, IpAddr)> = None;
        for shown in self.usable().filter(|shown| shown.interface == interface) {
            let Some(rank) = Rank::of(shown, to) else {
                continue;
            };
            // Strictly better: among equals, the first that was added.
            if best.is_none_or(|(so_far, _)| rank > so_far) {
                best = Some((rank, shown.address));
            }
        }
        best.map(|(_, address)| address)
    }
}

/// How well an address suits as the source for a destination: the rules of RFC 6724 section 5 in their order, greater is
/// better. Rules 4 (home addresses) and 7 (temporary addresses) are about what we do not have; rule 5 (the outgoing
/// interface) holds for all that are compared; rule 5.5 (the next hop's prefix) is optional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Rule 1.
    same: bool,
    /// Rule 2: wide enough for the destination, and
    reaches: bool,
    /// no wider than needed, or else as wide as can be.
    scope: u8,
    /// Rule 3.
    preferred: bool,
    /// Rule 6.
    label: bool,
    /// Rule 8.
    common: u32,
}

impl Rank {
    /// Of an address that is in use; `None` if the versions differ.
    fn of(source: &Address, to: IpAddr) -> Option<Self> {
        let len = u32::from(source.prefix_len);
        let (from_scope, to_scope, label, common) = match (source.address, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let common = (from.to_bits() ^ to.to_bits()).leading_zeros();
                // Its network or not: more bits in common mean nothing else in IPv4.
                let network = if common >= len {
                    len.saturating_add(1)
                } else {
                    0
                };
                (scope_v4(from), scope_v4(to), true, network)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let common = (from.to_bits() ^ to.to_bits()).leading_zeros();
                let label = label(from) == label(to);
                // Section 2.2: CommonPrefixLen ends with the prefix of the source.
                (scope_v6(from), scope_v6(to), label, common.min(len))
            }
            _ => return None,
        };
        let reaches = from_scope >= to_scope;
        Some(Self {
            same: source.address == to,
            reaches,
            scope: if reaches {
                u8::MAX - from_scope
            } else {
                from_scope
            },
            preferred: source.state == State::Preferred,
            label,
            common,
        })
    }
}

/// RFC 6724 section 3.1.
const fn scope_v6(address: Ipv6Addr) -> u8 {
    let [first, second, ..] = address.octets();
    match (first, second & 0xc0) {
        (0xff, _) => second & 0xf,
        (0xfe, 0x80) => 0x2,
        (0xfe, 0xc0) => 0x5,
        _ if address.is_loopback() => 0x2,
        _ => 0xe,
    }
}

/// RFC 6724 section 3.2. Group and broadcast addresses count as global: whom they reach does not depend on the source.
const fn scope_v4(address: Ipv4Addr) -> u8 {
    if address.is_link_local() || address.is_loopback() {
        0x2
    } else {
        0xe
    }
}

/// The default policy table, RFC 6724 section 2.1: longest prefix first.
const LABELS: [(u128, u32, u8); 9] = [
    (0x1, 128, 0),
    (0xffff << 32, 96, 4),
    (0, 96, 3),
    (0x2001_0000 << 96, 32, 5),
    (0x2002 << 112, 16, 2),
    (0x3ffe << 112, 16, 12),
    (0xfec0 << 112, 10, 11),
    (0xfc00 << 112, 7, 13),
    (0, 0, 1),
];

fn label(address: Ipv6Addr) -> u8 {
    let bits = address.to_bits();
    let mut all = LABELS.iter();
    all.find(|(prefix, len, _)| (bits ^ prefix).leading_zeros() >= *len)
        .map_or(1, |(_, _, label)| *label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policy_table_gives_the_labels_of_rfc_6724() {
        for (address, want) in [
            ("::1", 0),
            ("2001:db8::1", 1),
            ("::ffff:192.0.2.1", 4),
            ("2002::1", 2),
            ("2001::1", 5),
            ("fd00::1", 13),
            ("::2", 3),
            ("fec0::1", 11),
            ("3ffe::1", 12),
            ("fe80::1", 1),
        ] {
            assert_eq!(label(address.parse().unwrap()), want, "{address}");
        }
    }
}
