//! What became of a request that did not arrive.

use core::fmt;
use core::net::IpAddr;

/// A request that did not arrive, as far as anybody says so. Whoever sees packets on their way can: it is a hint, no proof.
///
/// It is displayed in the words of Linux's `ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Who was asked.
    pub to: IpAddr,
    /// The number of the request.
    pub sequence: u16,
    /// Who says so: the host, a router on the way, or the address of ours that the request had.
    pub by: IpAddr,
    /// Why.
    pub why: Why,
}

/// Why a request did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The neighbour who would have had it, or passed it on, answers neither ARP nor neighbour discovery.
    Silence,
    /// The host or its network cannot be reached: the codes of RFC 792 and RFC 1122 section 3.2.2.1, of RFC 4443 section 3.1.
    Unreachable {
        /// Which.
        code: u8,
    },
    /// It was too large for the path, whose next ones are cut.
    TooBig {
        /// What the path is said to take.
        mtu: u16,
    },
    /// It was passed on as often as it may be (0), or not all of its fragments arrived in time (1).
    TimeExceeded {
        /// Which.
        code: u8,
    },
    /// A header is said to be wrong.
    Parameter {
        /// What about it: RFC 792, RFC 4443 section 3.4.
        code: u8,
        /// Which byte.
        pointer: u32,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.to.is_ipv4() {
            self.why.fmt_v4(f)
        } else {
            self.why.fmt_v6(f)
        }
    }
}

impl Why {
    fn fmt_v4(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence => f.write_str("Destination Host Unreachable"),
            Self::Unreachable { code } => match code {
                0 => f.write_str("Destination Net Unreachable"),
                1 => f.write_str("Destination Host Unreachable"),
                2 => f.write_str("Destination Protocol Unreachable"),
                3 => f.write_str("Destination Port Unreachable"),
                5 => f.write_str("Source Route Failed"),
                6 => f.write_str("Destination Net Unknown"),
                7 => f.write_str("Destination Host Unknown"),
                8 => f.write_str("Source Host Isolated"),
                9 => f.write_str("Destination Net Prohibited"),
                10 => f.write_str("Destination Host Prohibited"),
                11 => f.write_str("Destination Net Unreachable for Type of Service"),
                12 => f.write_str("Destination Host Unreachable for Type of Service"),
                13 => f.write_str("Packet filtered"),
                14 => f.write_str("Precedence Violation"),
                15 => f.write_str("Precedence Cutoff"),
                code => write!(f, "Dest Unreachable, Bad Code: {code}"),
            },
            Self::TooBig { mtu } => write!(f, "Frag needed and DF set (mtu = {mtu})"),
            Self::TimeExceeded { code: 0 } => f.write_str("Time to live exceeded"),
            Self::TimeExceeded { code: 1 } => f.write_str("Frag reassembly time exceeded"),
            Self::TimeExceeded { code } => write!(f, "Time exceeded, Bad Code: {code}"),
            Self::Parameter { pointer, .. } => {
                write!(f, "Parameter problem: pointer = {pointer}")
            }
        }
    }

    fn fmt_v6(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence => f.write_str("Destination unreachable: Address unreachable"),
            Self::Unreachable { code } => {
                f.write_str("Destination unreachable: ")?;
                match code {
                    0 => f.write_str("No route"),
                    1 => f.write_str("Administratively prohibited"),
                    2 => f.write_str("Beyond scope of source address"),
                    3 => f.write_str("Address unreachable"),
                    4 => f.write_str("Port unreachable"),
                    5 => f.write_str("Source address failed ingress/egress policy"),
                    6 => f.write_str("Reject route to destination"),
                    code => write!(f, "Unknown code {code}"),
                }
            }
            Self::TooBig { mtu } => write!(f, "Packet too big: mtu={mtu}"),
            Self::TimeExceeded { code: 0 } => f.write_str("Time exceeded: Hop limit"),
            Self::TimeExceeded { code: 1 } => f.write_str("Time exceeded: Defragmentation failure"),
            Self::TimeExceeded { code } => write!(f, "Time exceeded: code {code}"),
            Self::Parameter { code, pointer } => {
                f.write_str("Parameter problem: ")?;
                match code {
                    0 => f.write_str("Wrong header field")?,
                    1 => f.write_str("Unknown header")?,
                    2 => f.write_str("Unknown option")?,
                    code => write!(f, "Unknown code {code}")?,
                }
                write!(f, " at {pointer}")
            }
        }
    }
}
