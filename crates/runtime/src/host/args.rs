//! Addresses, gateways and VLANs on a command line, behind `--`.
//!
//! A program takes these options out of its arguments and reads the rest itself. Whatever is wrong becomes one sentence that names
//! the argument.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use netstack::interface::InterfaceConfig;

use crate::words::{Usage, flag};

/// Ports that a group can have.
const PORTS_MAX: u16 = 16;
/// Numbers that a VLAN can have: IEEE 802.1Q section 9.6.
const VLANS: RangeInclusive<u16> = 1..=4094;

/// An address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ip {
    /// The port that it stands on.
    pub port: u16,
    /// The address.
    pub address: IpAddr,
    /// How many bits of it name the network.
    pub prefix_len: u8,
}

impl fmt::Display for Ip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.port > 0 {
            write!(f, "{}=", self.port)?;
        }
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

impl Ip {
    fn contains(&self, other: IpAddr) -> bool {
        network(self.address, self.prefix_len) == network(other, self.prefix_len)
            && self.address.is_ipv4() == other.is_ipv4()
    }
}

/// What makes a host of a program with ports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostArgs {
    /// `--ip`: the addresses.
    pub ips: Vec<Ip>,
    /// `--gateway`: who passes on what goes to other networks; the first one of a version of IP that answers.
    pub gateways: Vec<IpAddr>,
    /// `--vlan`: the VLAN tags that a port is seen through, the outer one first.
    pub vlans: Vec<(u16, [Option<u16>; 2])>,
    /// `--no-probe`: addresses are used at once.
    pub no_probe: bool,
    /// `--busy-poll`: never sleep.
    pub busy_poll: bool,
}

const KEYS: &[&str] = &["--ip", "--gateway", "--vlan", "--no-probe", "--busy-poll"];

impl HostArgs {
    /// The options, for `--help`.
    pub const HELP: &str = "      --ip [PORT=]ADDRESS/LENGTH
                       An address and the length of its network, of IPv4 or IPv6; repeated for more.
                       PORT is the number of the --vdev that it stands on [default: 0]
      --gateway ADDRESS
                       Who passes on what goes to other networks, of IPv4 or IPv6; repeated for more: of
                       several the first is used, and the next one while it does not answer
      --vlan [PORT=]ID[.ID]
                       The VLAN that the port's addresses are in; with two, the outer one first
      --no-probe       Use addresses at once, without asking whether somebody else has them
      --busy-poll      Never sleep: the first packet after a silence is seen at once, at the price of a core";

    /// Takes the options of a host out of what stands behind `--`; what is left is the program's own.
    ///
    /// # Errors
    ///
    /// Names the argument that is missing or wrong, and what it should be.
    pub fn parse(args: &[String]) -> Result<(Self, Vec<String>), Usage> {
        let (mut host, mut rest) = (Self::default(), Vec::new());
        let mut args = args.iter();
        while let Some(word) = args.next() {
            let (key, glued) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (word.as_str(), None),
            };
            if !KEYS.contains(&key) {
                rest.push(word.clone());
                continue;
            }
            match key {
                "--no-probe" => host.no_probe = flag(key, glued)?,
                "--busy-poll" => host.busy_poll = flag(key, glued)?,
                _ => {
                    let next = || args.next().map(String::as_str);
                    let value = glued.or_else(next).filter(|value| !value.is_empty());
                    let value = value.ok_or_else(|| missing_value(key))?;
                    match key {
                        "--ip" => host.add_ip(value)?,
                        "--gateway" => host.add_gateway(value)?,
                        _ => host.add_vlan(value)?,
                    }
                }
            }
        }
        host.check()?;
        Ok((host, rest))
    }

    /// Whether more than one host may have what is sent to an address: a group, or a broadcast address of ours.
    #[must_use]
    pub fn is_to_many(&self, to: IpAddr) -> bool {
        let is_broadcast = |ip: &Ip| ip.contains(to) && no_host(to, ip.prefix_len).is_some();
        to.is_multicast() || to == IpAddr::from([255; 4]) || self.ips.iter().any(is_broadcast)
    }

    /// The VLAN tags of a port.
    #[must_use]
    pub fn vlan(&self, port: u16) -> [Option<u16>; 2] {
        let known = self.vlans.iter().find(|(of, _)| *of == port);
        known.map_or(InterfaceConfig::UNTAGGED, |(_, tags)| *tags)
    }

    /// Compares what is asked for with the ports that there are.
    ///
    /// # Errors
    ///
    /// An address on a port that is not there, and a port without an address.
    pub fn fit(&self, ports: usize) -> Result<(), Usage> {
        let beyond = |port: u16| usize::from(port) >= ports;
        let there_are = || match ports {
            1 => "there is only port 0".to_owned(),
            _ => format!("the ports are 0 to {}", ports.saturating_sub(1)),
        };
        if let Some(ip) = self.ips.iter().find(|ip| beyond(ip.port)) {
            return Err(Usage(format!(
                "--ip {ip}: {}; add a --vdev for port {}, or name another port",
                there_are(),
                ip.port
            )));
        }
        if let Some((port, _)) = self.vlans.iter().find(|(port, _)| beyond(*port)) {
            return Err(Usage(format!(
                "--vlan {port}=...: {}; name one of them",
                there_are()
            )));
        }
        let is_bare = |port: &usize| !self.ips.iter().any(|ip| usize::from(ip.port) == *port);
        if let Some(port) = (0..ports).find(is_bare) {
            return Err(Usage(format!(
                "port {port} has no address; give it one with --ip {port}=10.0.{port}.2/24, or leave its --vdev out"
            )));
        }
        Ok(())
    }

    fn add_ip(&mut self, text: &str) -> Result<(), Usage> {
        let wrong = |why: &str| Usage(format!("--ip {text}: {why}"));
        let (port, rest) = port_of("--ip", text)?;
        let example = if rest.contains(':') {
            "fd00::2/64"
        } else {
            "10.0.0.2/24"
        };
        let Some((address, prefix_len)) = rest.split_once('/') else {
            return Err(wrong(&format!(
                "the length of the network is missing; write it behind the address, as in --ip {example}"
            )));
        };
        let address: IpAddr = address.parse().map_err(|_| {
            wrong(&format!(
                "{address:?} is no address of IPv4 or IPv6; write it as in --ip {example}"
            ))
        })?;
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len: u8 = prefix_len
            .parse()
            .ok()
            .filter(|len| (1..=bits).contains(len))
            .ok_or_else(|| {
                wrong(&format!(
                    "the length of a network is a whole number from 1 to {bits}, as in --ip {example}"
                ))
            })?;
        if let Some(what) = no_host(address, prefix_len) {
            return Err(wrong(&format!(
                "{address} is {what}; give an address of one host, such as {example}"
            )));
        }
        if self.ips.iter().any(|ip| ip.address == address) {
            return Err(wrong("the address is given twice; give it once"));
        }
        self.ips.push(Ip {
            port,
            address,
            prefix_len,
        });
        Ok(())
    }

    fn add_gateway(&mut self, text: &str) -> Result<(), Usage> {
        let wrong = |why: &str| Usage(format!("--gateway {text}: {why}"));
        let gateway: IpAddr = text.parse().map_err(|_| {
            wrong("that is no address of IPv4 or IPv6; write it as in --gateway 10.0.0.1")
        })?;
        if self.gateways.contains(&gateway) {
            return Err(wrong("the gateway is given twice; give it once"));
        }
        self.gateways.push(gateway);
        Ok(())
    }

    fn add_vlan(&mut self, text: &str) -> Result<(), Usage> {
        let wrong = || {
            Usage(format!(
                "--vlan {text}: a VLAN is a whole number from {} to {}, as in --vlan 100, or two of them, the outer one first, as in --vlan 100.200",
                VLANS.start(),
                VLANS.end()
            ))
        };
        let (port, rest) = port_of("--vlan", text)?;
        let id = |text: &str| {
            let id = text.parse().ok().filter(|id| VLANS.contains(id));
            id.ok_or_else(wrong)
        };
        let tags = match rest.split_once('.') {
            Some((outer, inner)) => [Some(id(outer)?), Some(id(inner)?)],
            None => [Some(id(rest)?), None],
        };
        if self.vlans.iter().any(|(other, _)| *other == port) {
            return Err(Usage(format!(
                "--vlan {text}: port {port} has a VLAN already; give it one"
            )));
        }
        self.vlans.push((port, tags));
        Ok(())
    }

    /// What only shows when all is known.
    fn check(&self) -> Result<(), Usage> {
        if self.ips.is_empty() {
            return Err(Usage(
                "--ip ADDRESS/LENGTH is missing; `--ip 10.0.0.2/24` gives port 0 an address"
                    .to_owned(),
            ));
        }
        for gateway in &self.gateways {
            if self.ips.iter().any(|ip| ip.address == *gateway) {
                return Err(Usage(format!(
                    "--gateway {gateway} is our own address; name the router's"
                )));
            }
            // A router of IPv6 is known by its address on the link.
            let is_on_link =
                matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
            if !is_on_link && !self.ips.iter().any(|ip| ip.contains(*gateway)) {
                return Err(Usage(format!(
                    "--gateway {gateway} is in none of the networks that --ip names, so that nobody leads there; name a router of one of them, or give an --ip in its network"
                )));
            }
        }
        Ok(())
    }
}

/// Splits `PORT=` off.
fn port_of<'a>(key: &str, text: &'a str) -> Result<(u16, &'a str), Usage> {
    let Some((port, rest)) = text.split_once('=') else {
        return Ok((0, text));
    };
    match port.parse() {
        Ok(port) if port < PORTS_MAX => Ok((port, rest)),
        _ => Err(Usage(format!(
            "{key} {text}: {port:?} is no port; write its number, 0 to {}, as in {key} 0={rest}",
            PORTS_MAX - 1
        ))),
    }
}

fn missing_value(key: &str) -> Usage {
    let example = match key {
        "--ip" => "--ip 10.0.0.2/24",
        "--gateway" => "--gateway 10.0.0.1",
        _ => "--vlan 100",
    };
    Usage(format!("{key} wants a value behind it, as in {example}"))
}

/// What an address is, if it is not that of one host.
fn no_host(address: IpAddr, prefix_len: u8) -> Option<&'static str> {
    let is_first = network(address, prefix_len) == bits(address);
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast group"),
        IpAddr::V4(address) if address.is_broadcast() || address.octets()[0] >= 240 => {
            Some("a reserved address")
        }
        IpAddr::V4(address) if address.octets()[0] == 0 => Some("a reserved address"),
        // RFC 3021: networks of two have neither.
        IpAddr::V4(_) if prefix_len >= 31 => None,
        IpAddr::V4(_) if is_first => Some("the address of the network"),
        IpAddr::V4(address) if u32::from(address) | u32::MAX << (32 - prefix_len) == u32::MAX => {
            Some("the broadcast address of the network")
        }
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            Some("an IPv4 address in the form of IPv6, which is never on a wire")
        }
        // RFC 4291 section 2.6.1; RFC 6164 section 5.1: networks of two have none.
        IpAddr::V6(_) if prefix_len < 127 && is_first => Some("the anycast address of the routers"),
        _ => None,
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => address.into(),
    }
}

/// The leading bits of an address, that many.
fn network(address: IpAddr, prefix_len: u8) -> u128 {
    let rest = u128::MAX.checked_shr(prefix_len.into()).unwrap_or(0);
    bits(address) & !rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(HostArgs, Vec<String>), Usage> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        HostArgs::parse(&words)
    }

    #[test]
    fn addresses_stand_on_their_ports_and_the_rest_is_left() {
        let line = "--port 7 --ip 10.0.0.2/24 --ip=fd00::2/64 --ip 1=192.168.1.2/30 --gateway 10.0.0.1 \
                    --gateway=fd00::1 --vlan 100 --vlan 1=5.6 --json --no-probe";
        let (host, rest) = parse(line).unwrap();
        assert_eq!(rest, ["--port", "7", "--json"]);
        let ips: Vec<_> = host.ips.iter().map(Ip::to_string).collect();
        assert_eq!(ips, ["10.0.0.2/24", "fd00::2/64", "1=192.168.1.2/30"]);
        assert_eq!(host.gateways.len(), 2);
        assert_eq!(host.vlan(0), [Some(100), None]);
        assert_eq!(host.vlan(1), [Some(5), Some(6)]);
        assert_eq!(host.vlan(2), InterfaceConfig::UNTAGGED);
        assert!(host.no_probe && !host.busy_poll);
        host.fit(2).unwrap();
        // A network of two, and of one: no address in it is another's.
        parse("--ip 10.0.0.0/31 --ip 10.9.9.9/32 --ip fd00::/127").unwrap();
        parse("--ip fd00::2/64 --gateway fe80::1").unwrap();
        // Two of a version: the second is for when the first does not answer.
        let (host, _) = parse("--ip 10.0.0.2/24 --gateway 10.0.0.1 --gateway 10.0.0.3").unwrap();
        assert_eq!(host.gateways.len(), 2);
    }

    #[test]
    fn every_refusal_names_the_argument_and_what_to_do() {
        for (line, culprit, remedy) in [
            ("", "--ip ADDRESS/LENGTH is missing", "--ip 10.0.0.2/24"),
            ("--ip", "--ip wants a value", "--ip 10.0.0.2/24"),
            ("--ip 10.0.0.2", "--ip 10.0.0.2", "--ip 10.0.0.2/24"),
            ("--ip fd00::2", "--ip fd00::2", "--ip fd00::2/64"),
            ("--ip 10.0.0/24", "--ip 10.0.0/24", "no address"),
            ("--ip 10.0.0.2/33", "--ip 10.0.0.2/33", "from 1 to 32"),
            ("--ip fd00::2/0", "--ip fd00::2/0", "from 1 to 128"),
            ("--ip 10.0.0.2/x", "--ip 10.0.0.2/x", "from 1 to 32"),
            (
                "--ip 10.0.0.0/24",
                "10.0.0.0 is the address of the network",
                "one host",
            ),
            ("--ip 10.0.0.255/24", "broadcast", "one host"),
            ("--ip 224.0.0.1/24", "multicast", "one host"),
            ("--ip 127.0.0.1/8", "loopback", "one host"),
            ("--ip 0.0.0.0/8", "unspecified", "one host"),
            ("--ip 0.1.0.0/8", "reserved", "one host"),
            ("--ip 255.255.255.255/8", "reserved", "one host"),
            ("--ip ::1/64", "loopback", "one host"),
            ("--ip fd00::/64", "anycast", "one host"),
            ("--ip ff02::1/64", "multicast", "one host"),
            (
                "--ip ::ffff:10.0.0.1/120",
                "in the form of IPv6",
                "one host",
            ),
            (
                "--ip x=10.0.0.2/24",
                "\"x\" is no port",
                "--ip 0=10.0.0.2/24",
            ),
            ("--ip 16=10.0.0.2/24", "\"16\" is no port", "0 to 15"),
            ("--ip 10.0.0.2/24 --ip 1=10.0.0.2/8", "twice", "once"),
            (
                "--ip 10.0.0.2/24 --gateway",
                "--gateway wants",
                "--gateway 10.0.0.1",
            ),
            (
                "--ip 10.0.0.2/24 --gateway router",
                "--gateway router",
                "--gateway 10.0.0.1",
            ),
            (
                "--ip 10.0.0.2/24 --gateway 10.0.1.1",
                "--gateway 10.0.1.1",
                "a router of one of them",
            ),
            (
                "--ip 10.0.0.2/24 --gateway fd00::1",
                "--gateway fd00::1",
                "give an --ip",
            ),
            (
                "--ip 10.0.0.2/24 --gateway 10.0.0.2",
                "our own",
                "the router's",
            ),
            (
                "--ip 10.0.0.2/24 --gateway 10.0.0.1 --gateway 10.0.0.1",
                "--gateway 10.0.0.1: the gateway is given twice",
                "once",
            ),
            ("--ip 10.0.0.2/24 --vlan 0", "--vlan 0", "1 to 4094"),
            ("--ip 10.0.0.2/24 --vlan 4095", "--vlan 4095", "1 to 4094"),
            (
                "--ip 10.0.0.2/24 --vlan 1.2.3",
                "--vlan 1.2.3",
                "--vlan 100.200",
            ),
            (
                "--ip 10.0.0.2/24 --vlan 1 --vlan 0=2",
                "port 0 has a VLAN",
                "give it one",
            ),
            (
                "--ip 10.0.0.2/24 --no-probe=1",
                "--no-probe takes no value",
                "\"1\"",
            ),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(
                error.contains(culprit) && error.contains(remedy),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn ports_and_addresses_have_to_fit() {
        let refused =
            |line: &str, ports| parse(line).unwrap().0.fit(ports).unwrap_err().to_string();
        let beyond = refused("--ip 1=10.0.0.2/24", 1);
        assert!(
            beyond.contains("--ip 1=10.0.0.2/24: there is only port 0"),
            "{beyond}"
        );
        let vlan = refused("--ip 10.0.0.2/24 --vlan 2=5", 1);
        assert!(vlan.contains("--vlan 2"), "{vlan}");
        let bare = refused("--ip 10.0.0.2/24", 2);
        assert!(
            bare.contains("port 1 has no address") && bare.contains("--ip 1="),
            "{bare}"
        );
    }
}
