//! ARP for IPv4 over Ethernet: RFC 826.

use core::net::Ipv4Addr;

use super::ethernet::{EtherType, Mac};
use super::{Malformed, take};

/// Hardware type of Ethernet.
const ETHERNET: u16 = 1;

/// What an ARP message wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// To know who has the target's address.
    Request,
    /// To say so.
    Reply,
}

/// An ARP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: Operation,
    /// The sender's Ethernet address.
    pub sender_mac: Mac,
    /// The sender's address; unspecified in a probe (RFC 5227 section 2.1.1).
    pub sender: Ipv4Addr,
    /// The target's Ethernet address; means nothing in a request.
    pub target_mac: Mac,
    /// The target's address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Bytes of a message.
    pub const LEN: usize = 28;

    /// Reads the message that `bytes` begin with; what follows is the frame's padding.
    ///
    /// # Errors
    ///
    /// There are fewer bytes, or it is about other addresses than Ethernet's and IPv4's, or neither request nor reply.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (message, _): ([u8; Self::LEN], _) = take(bytes)?;
        let [
            h0,
            h1,
            p0,
            p1,
            hardware_len,
            protocol_len,
            o0,
            o1,
            addresses @ ..,
        ] = message;
        let [a, b, c, d, e, f, rest @ ..] = addresses;
        let sender_mac = Mac([a, b, c, d, e, f]);
        let [a, b, c, d, rest @ ..] = rest;
        let sender = Ipv4Addr::new(a, b, c, d);
        let [a, b, c, d, e, f, rest @ ..] = rest;
        let target_mac = Mac([a, b, c, d, e, f]);
        let [a, b, c, d] = rest;

        let kind = (u16::from_be_bytes([h0, h1]), u16::from_be_bytes([p0, p1]));
        if kind != (ETHERNET, EtherType::IPV4.0) {
            return Err(Malformed::BadField);
        }
        if (hardware_len, protocol_len) != (6, 4) {
            return Err(Malformed::BadLength);
        }
        let operation = match u16::from_be_bytes([o0, o1]) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(Malformed::BadField),
        };
        Ok(Self {
            operation,
            sender_mac,
            sender,
            target_mac,
            target: Ipv4Addr::new(a, b, c, d),
        })
    }

    /// Writes the message.
    pub fn write(&self, out: &mut [u8; Self::LEN]) {
        let operation = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        *out = [0; Self::LEN];
        out[0..2].copy_from_slice(&ETHERNET.to_be_bytes());
        out[2..4].copy_from_slice(&EtherType::IPV4.0.to_be_bytes());
        out[4..8].copy_from_slice(&[6, 4, 0, operation]);
        out[8..14].copy_from_slice(&self.sender_mac.0);
        out[14..18].copy_from_slice(&self.sender.octets());
        out[18..24].copy_from_slice(&self.target_mac.0);
        out[24..28].copy_from_slice(&self.target.octets());
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket};
    use proptest::prelude::*;

    use super::*;

    /// Who has 10.0.0.2? Tell 10.0.0.1.
    const REQUEST: [u8; Arp::LEN] = [
        0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
    ];

    #[test]
    fn request_says_who_asks_for_whom() {
        let arp = Arp::parse(&REQUEST).unwrap();
        assert_eq!(arp.operation, Operation::Request);
        assert_eq!(arp.sender_mac, Mac([2, 0, 0, 0, 0, 1]));
        assert_eq!(arp.sender, Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(arp.target_mac, Mac::ZERO);
        assert_eq!(arp.target, Ipv4Addr::new(10, 0, 0, 2));
    }

    #[test]
    fn padding_is_not_looked_at() {
        let mut frame = REQUEST.to_vec();
        frame.extend([0xaa; 18]);
        assert_eq!(Arp::parse(&frame), Arp::parse(&REQUEST));
    }

    #[test]
    fn other_hardware_protocol_length_and_operation_are_refused() {
        let with = |place: usize, value| {
            let mut bytes = REQUEST;
            bytes[place] = value;
            Arp::parse(&bytes)
        };
        assert_eq!(with(1, 6), Err(Malformed::BadField));
        assert_eq!(with(2, 0x86), Err(Malformed::BadField));
        assert_eq!(with(4, 8), Err(Malformed::BadLength));
        assert_eq!(with(5, 16), Err(Malformed::BadLength));
        assert_eq!(with(7, 0), Err(Malformed::BadField));
        assert_eq!(with(7, 3), Err(Malformed::BadField));
        assert_eq!(with(6, 1), Err(Malformed::BadField));
        assert_eq!(Arp::parse(&REQUEST[..27]), Err(Malformed::Truncated));
    }

    proptest! {
        #[test]
        fn message_is_the_one_that_etherparse_reads_and_writes(
            is_reply: bool, sender_mac: [u8; 6], sender: [u8; 4], target_mac: [u8; 6], target: [u8; 4],
        ) {
            let ours = Arp {
                operation: if is_reply { Operation::Reply } else { Operation::Request },
                sender_mac: Mac(sender_mac),
                sender: sender.into(),
                target_mac: Mac(target_mac),
                target: target.into(),
            };
            let mut out = [0xee; Arp::LEN];
            ours.write(&mut out);
            let theirs: ArpPacket = ArpEthIpv4Packet {
                operation: if is_reply { ArpOperation::REPLY } else { ArpOperation::REQUEST },
                sender_mac,
                sender_ipv4: sender,
                target_mac,
                target_ipv4: target,
            }.into();
            prop_assert_eq!(&out[..], &theirs.to_bytes()[..]);
            prop_assert_eq!(Arp::parse(&out), Ok(ours));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Arp::parse(&bytes);
        }
    }
}
