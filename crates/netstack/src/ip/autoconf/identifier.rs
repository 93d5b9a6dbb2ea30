//! The last 64 bits of the addresses that a host makes for itself.

use core::net::Ipv6Addr;

use crate::wire::ethernet::Mac;

/// How they are made.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Identifier {
    /// From the link address, RFC 4291 appendix A: the same in every network, and plain to see.
    #[default]
    Eui64,
    /// From a secret and the prefix, RFC 7217: stable in a network, and nobody recognises the host in the next one.
    Opaque {
        /// Random, and kept: another secret makes other addresses.
        secret: [u8; 16],
    },
}

impl core::fmt::Debug for Identifier {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The secret stays one.
        f.write_str(match self {
            Self::Eui64 => "Eui64",
            Self::Opaque { .. } => "Opaque",
        })
    }
}

impl Identifier {
    /// The address in the /64 of `prefix`, for the `attempt`th time, since those before were duplicates.
    pub(crate) fn address(&self, prefix: Ipv6Addr, mac: Mac, attempt: u8) -> Ipv6Addr {
        let network = prefix.to_bits() >> 64 << 64;
        let [a, b, c, d, e, f] = mac.0;
        let host = match self {
            Self::Eui64 => u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]),
            Self::Opaque { secret } => {
                let [p, q, r, s, t, u, v, w, ..] = prefix.octets();
                let hash = siphash(secret, [p, q, r, s, t, u, v, w, a, b, c, d, e, f, attempt]);
                // No reserved identifier is the complement of another one.
                if is_reserved(hash) { !hash } else { hash }
            }
        };
        Ipv6Addr::from_bits(network | u128::from(host))
    }

    /// The address to try after `address` was a duplicate, up to `retries` of them. RFC 7217 section 6.
    pub(super) fn next(&self, address: Ipv6Addr, mac: Mac, retries: u8) -> Option<Ipv6Addr> {
        if *self == Self::Eui64 {
            return None;
        }
        let attempt = (0..retries).find(|n| self.address(address, mac, *n) == address)?;
        Some(self.address(address, mac, attempt.saturating_add(1)))
    }
}

/// Identifiers that RFC 5453 keeps from hosts: that of routers, those of anycast, and those of IANA's link addresses.
const fn is_reserved(identifier: u64) -> bool {
    identifier == 0
        || (identifier >= 0xfdff_ffff_ffff_ff80 && identifier <= 0xfdff_ffff_ffff_ffff)
        || (identifier >= 0x0200_5eff_fe00_0000 && identifier <= 0x0200_5eff_feff_ffff)
}

/// SipHash-2-4: a pseudo-random function of a secret and, here, always 15 bytes.
const fn siphash(key: &[u8; 16], data: [u8; 15]) -> u64 {
    let key = u128::from_le_bytes(*key);
    let low = u64::MAX as u128;
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    let (k0, k1) = ((key & low) as u64, (key >> 64) as u64);
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = data;
    // The last word ends with the length.
    let words = [
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        u64::from_le_bytes([i, j, k, l, m, n, o, 15]),
    ];
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let [first, second] = words;
    v[3] ^= first;
    v = round(round(v));
    v[0] ^= first;
    v[3] ^= second;
    v = round(round(v));
    v[0] ^= second;
    v[2] ^= 0xff;
    v = round(round(round(round(v))));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

const fn round([mut a, mut b, mut c, mut d]: [u64; 4]) -> [u64; 4] {
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);

    #[test]
    fn hash_is_that_of_the_authors_paper() {
        let key: [u8; 16] = core::array::from_fn(|n| n.try_into().unwrap());
        let data: [u8; 15] = core::array::from_fn(|n| n.try_into().unwrap());
        assert_eq!(siphash(&key, data), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn eui64_is_that_of_rfc_4291() {
        let made = Identifier::Eui64.address("fe80::".parse().unwrap(), MAC, 0);
        assert_eq!(made.to_string(), "fe80::3656:78ff:fe9a:bcde");
        assert_eq!(Identifier::Eui64.next(made, MAC, 3), None);
    }

    #[test]
    fn opaque_is_stable_in_a_network_and_another_in_the_next() {
        let opaque = Identifier::Opaque { secret: [7; 16] };
        let (home, away) = (
            "2001:db8:1::".parse().unwrap(),
            "2001:db8:2::".parse().unwrap(),
        );
        let host = |address: Ipv6Addr| address.to_bits() << 64;
        let first = opaque.address(home, MAC, 0);
        assert_eq!(first, opaque.address(home, MAC, 0));
        assert_eq!(first.to_bits() >> 64, Ipv6Addr::to_bits(home) >> 64);
        assert_ne!(host(first), host(opaque.address(away, MAC, 0)));
        let other = Identifier::Opaque { secret: [8; 16] };
        assert_ne!(host(first), host(other.address(home, MAC, 0)));
        let mut tried = vec![first];
        while let Some(next) = opaque.next(*tried.last().unwrap(), MAC, 3) {
            tried.push(next);
        }
        tried.dedup();
        assert_eq!(tried.len(), 4);
        assert!(!format!("{opaque:?}").contains('7'));
    }

    #[test]
    fn reserved_identifiers_are_turned_into_others() {
        for reserved in [
            0,
            0xfdff_ffff_ffff_ff80,
            0xfdff_ffff_ffff_ffff,
            0x0200_5eff_fe00_5213,
        ] {
            assert!(
                is_reserved(reserved) && !is_reserved(!reserved),
                "{reserved:x}"
            );
        }
    }
}
