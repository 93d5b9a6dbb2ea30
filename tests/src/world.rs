//! Two hosts and a middle.

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::process::Command;

use lab::{Host, Offloads, Ping, Transfer, TransferReport, Watch};

use crate::program;

/// Two Linux hosts, and between them a third that has one end of a cable to each.
///
/// ```text
///  west              middle               east
///  eth0 ------- veth0      veth1 ------- eth0
///  10.0.0.1/24                    10.0.0.2/24
/// ```
///
/// The middle has no address and does not forward: what crosses it, a program has carried over. Nobody speaks IPv6, of which a
/// kernel sends packets unasked, before [`World::speak_ipv6`].
#[derive(Debug)]
pub struct World {
    /// Has the address [`World::WEST`] on `eth0`.
    pub west: Host,
    /// Has `veth0` towards west and `veth1` towards east.
    pub middle: Host,
    /// Has the address [`World::EAST`] on `eth0`.
    pub east: Host,
}

impl World {
    /// Address of the west.
    pub const WEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    /// Address of the east.
    pub const EAST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
    /// IPv6 address of the east, in a world that [speaks it](World::speak_ipv6).
    pub const EAST_V6: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

    /// Builds it with the usual MTU of 1500 and all offloads of the cables on.
    ///
    /// # Panics
    ///
    /// If the kernel refuses; call it inside `lab::isolated!`.
    pub fn new() -> Self {
        Self::with(1500, Offloads::ON)
    }

    /// Builds it with an MTU and offloads of choice, the same on all four ends.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn with(mtu: u32, offloads: Offloads) -> Self {
        Self::queued(mtu, offloads, [1, 1])
    }

    /// Builds it with as many queues on the ends of the cables as is said: first those of west and east, then those of the middle.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn queued(mtu: u32, offloads: Offloads, [outer, inner]: [u32; 2]) -> Self {
        let host = |name| Host::new(name).unwrap_or_else(|error| panic!("{error}"));
        let world = Self {
            west: host("west"),
            middle: host("middle"),
            east: host("east"),
        };
        let build = || {
            for (end, middle) in [(&world.west, "veth0"), (&world.east, "veth1")] {
                lab::veth_of((end, "eth0"), (&world.middle, middle), [outer, inner])?;
            }
            for (host, iface) in [
                (&world.west, "eth0"),
                (&world.middle, "veth0"),
                (&world.middle, "veth1"),
                (&world.east, "eth0"),
            ] {
                host.mtu(iface, mtu)?;
                host.offloads(iface, offloads)?;
                host.disable_ipv6(iface)?;
            }
            for (host, number) in [(&world.west, 1), (&world.east, 2)] {
                host.address("eth0", &format!("10.0.0.{number}/24"))?;
                host.up("eth0")?;
            }
            world.middle.up("veth0")?;
            world.middle.up("veth1")
        };
        build().unwrap_or_else(|error| panic!("{error}"));
        world
    }

    /// Builds the three hosts without cables: the `eth0` of west and east are to be TAPs, which [`taps`](Self::taps) names, and
    /// which are there once the first primary is. Then [`dress`](Self::dress) them.
    ///
    /// # Panics
    ///
    /// If the kernel refuses; call it inside `lab::isolated!`.
    pub fn bare() -> Self {
        let host = |name| Host::new(name).unwrap_or_else(|error| panic!("{error}"));
        Self {
            west: host("west"),
            middle: host("middle"),
            east: host("east"),
        }
    }

    /// What stands behind `--vdev` of ports that are the wires of west and east.
    pub fn taps(&self) -> [String; 2] {
        [(0, &self.west), (1, &self.east)].map(|(number, host)| {
            let (pid, namespace) = (std::process::id(), host.namespace().as_raw_fd());
            format!("net_tap{number},iface=eth0,netns=/proc/{pid}/fd/{namespace}")
        })
    }

    /// Gives west and east of a [`bare`](Self::bare) world their addresses.
    ///
    /// # Panics
    ///
    /// If they have no interfaces yet.
    pub fn dress(&self, mtu: u32, offloads: Offloads) {
        let dress = |host: &Host, number: u32| {
            host.mtu("eth0", mtu)?;
            // A TAP has all of them but one that it can never have.
            if offloads != Offloads::ON {
                host.offloads("eth0", offloads)?;
            }
            host.address("eth0", &format!("10.0.0.{number}/24"))?;
            host.address("eth0", &format!("fd00::{number}/64"))?;
            host.up("eth0")
        };
        for (host, number) in [(&self.west, 1), (&self.east, 2)] {
            dress(host, number).unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Has west and east speak IPv6 as well, `fd00::1/64` and `fd00::2/64`.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn speak_ipv6(&self) {
        for (host, number) in [(&self.west, 1), (&self.east, 2)] {
            host.sysctl("net/ipv6/conf/eth0/disable_ipv6", "0")
                .and_then(|()| host.address("eth0", &format!("fd00::{number}/64")))
                .unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Makes each host write down the other's Ethernet address, so that nobody asks for it: without IPv6, as worlds with cables
    /// begin, every packet that crosses is then one that a test has sent.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn introduce(&self) {
        let introduce = || {
            let (west, east) = (self.west.mac("eth0")?, self.east.mac("eth0")?);
            self.west.neighbour("eth0", Self::EAST, east)?;
            self.east.neighbour("eth0", Self::WEST, west)
        };
        introduce().unwrap_or_else(|error| panic!("{error}"));
    }

    /// A program of this workspace, started in the middle.
    ///
    /// # Panics
    ///
    /// If it was not built.
    pub fn command(&self, name: &str) -> Command {
        self.in_middle(Command::new(program(name)))
    }

    /// Makes a command run in the middle.
    ///
    /// # Panics
    ///
    /// If no descriptor is left.
    pub fn in_middle(&self, mut command: Command) -> Command {
        self.middle
            .command(&mut command)
            .unwrap_or_else(|error| panic!("{error}"));
        command
    }

    /// Pings the east from the west, and the other way round, until none is lost.
    ///
    /// The first round may lose some: addresses are still looked up, clients are still joining.
    ///
    /// # Panics
    ///
    /// If replies are missing in the second round, doubled or damaged.
    pub fn ping_both_ways(&self) {
        for (from, to) in [(&self.west, Self::EAST), (&self.east, Self::WEST)] {
            let ping = Ping {
                count: 20,
                ..Ping::default()
            };
            lab::ping(from, to, &ping).unwrap_or_else(|error| panic!("{error}"));
            let report = lab::ping(from, to, &ping).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(report.lost(), 0, "{} to {to}: {report:?}", from.name());
            assert_eq!((report.damaged, report.late), (0, 0), "{report:?}");
        }
    }

    /// Moves `bytes` by TCP from west to east, at `to`, and compares the checksums.
    ///
    /// # Panics
    ///
    /// If the transfer fails, or what arrives is not what was sent.
    pub fn transfer(&self, to: IpAddr, bytes: u64) -> TransferReport {
        let transfer = Transfer::new(bytes, bytes ^ 0x5eed);
        let report = lab::tcp_transfer(&self.west, (&self.east, to), &transfer, &Watch::default())
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(report.bytes, bytes);
        assert!(report.is_intact(), "{report:?}");
        report
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}
