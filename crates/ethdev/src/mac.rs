//! The address of a port.

use std::fmt;
use std::str::FromStr;

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// A locally administered address made of a driver's letter and a port number: the same in every run.
    #[must_use]
    pub const fn local(letter: u8, number: u16) -> Self {
        let [high, low] = number.to_be_bytes();
        Self([0x02, b'f', b'b', letter, high, low])
    }

    /// Another address, made of this one: a locally administered station's.
    #[must_use]
    pub const fn opposite(self) -> Self {
        let [a, b, c, d, e, f] = self.0;
        Self([(a | 0x02) & 0xfe, b, c, d, e, f ^ 1])
    }

    /// The address in the low six bytes of a word, first octet lowest, as port records have it.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        let [a, b, c, d, e, f, _, _] = word.to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    /// The inverse of [`from_word`](Self::from_word).
    #[must_use]
    pub const fn to_word(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What is no address: not six pairs of hexadecimal digits between colons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ethernet address; write it as 02:00:00:00:00:01")]
pub struct BadMac;

impl FromStr for MacAddress {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && !p.starts_with('+'))
                .ok_or(BadMac)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| BadMac)?;
        }
        if parts.next().is_some() {
            Err(BadMac)
        } else {
            Ok(Self(octets))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_survives_text_and_word() {
        let mac = MacAddress([2, 0xfb, 0, 0x10, 0xff, 9]);
        assert_eq!(mac.to_string(), "02:fb:00:10:ff:09");
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(MacAddress::from_word(mac.to_word()), mac);
    }

    #[test]
    fn malformed_addresses_are_refused() {
        for text in [
            "",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "02:00:00:00:00:0g",
            "2:0:0:0:0:1",
            "+2:00:00:00:00:01",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(BadMac), "{text}");
        }
    }
}
