//! UDP echo over veth: one process with its own stack on `net_af_packet` or `net_af_xdp`, beside the kernel's stack under a server that is
//! written as good ones are.
//!
//! ```text
//! west                           middle
//! generator, core 0              echo, core 1
//! w0 10.9.0.1 ------------------ m0 10.9.0.2, port 7
//!             198.18.0.1 ->
//!             <- 198.18.0.1: counted
//! ```
//!
//! What is measured is as in [`crate::veth`], with two differences. The datagrams come from an address behind the west, which does not pass
//! them on: so what comes back is counted by the west's kernel as IP and dropped without a word, and costs what it costs both sides alike, on the
//! core of who sent it. And while the generator runs alone, its frames go to an Ethernet address that nobody has.
//!
//! Ours sleeps when there is nothing to do, as it does without `--busy-poll`; the peer blocks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Host, MacAddress};

use crate::child::{Running, Stream};
use crate::compare::Bench;
use crate::load::{Side, Sockets};
use crate::veth::World;

/// The echo's Ethernet address, the generator's, and one that nobody has.
pub(crate) const STATION: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const GENERATOR: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 3];
/// Where it listens.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub(crate) const PORT: u16 = 7;
/// The west's address, by which `SOURCE` is reached: one of the network for benchmarks, RFC 2544.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub(crate) const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
pub(crate) const SOURCE_PORT: u16 = 40_000;
const SOURCES: &str = "198.18.0.0/15";
/// The core of the echo.
const CORE: u32 = 1;
/// A first burst, until it comes back as a whole: how fast, how long, how often.
const FIRST_RATE: f64 = 10_000.0;
const FIRST: Duration = Duration::from_millis(3);
const FIRST_TRIES: u32 = 10;

/// Makes hosts what they have to be for both sides.
pub(crate) fn prepare(west: &Host, middle: &Host) -> Result<(), lab::Error> {
    west.set_mac("w0", MacAddress(GENERATOR))?;
    middle.set_mac("m0", MacAddress(STATION))?;
    west.address("w0", &format!("{GATEWAY}/24"))
}

/// IP packets that have come to the west.
pub(crate) fn came_back(west: &Host) -> Result<u64> {
    let text = west.run(|| fs::read_to_string("/proc/thread-self/net/snmp"))?;
    received(&text?).context("the kernel does not count IP packets")
}

/// A side in the middle, its port warm.
pub(crate) fn start(
    world: &World,
    bench: &Bench<'_>,
    side: Side,
    sockets: Sockets,
) -> Result<Vec<Running>> {
    let mut command = if side == Side::Ours {
        ours(bench, sockets)?
    } else {
        let middle = &world.middle;
        middle.address("m0", &format!("{ADDRESS}/24"))?;
        middle.neighbour("m0", IpAddr::V4(GATEWAY), MacAddress(GENERATOR))?;
        middle.route(SOURCES, IpAddr::V4(GATEWAY))?;
        let mut command = Command::new(bench.kernel.as_ref().context("no peer")?);
        command.args([ADDRESS.to_string(), PORT.to_string(), CORE.to_string()]);
        command
    };
    world.middle.command(&mut command)?;
    let running = vec![Running::until(&mut command, Stream::Err, "ready")?.0];
    for _ in 0..FIRST_TRIES {
        // Who sends it back has to learn where to.
        let first = world.window(&running, FIRST_RATE, FIRST)?;
        if first.is_whole() {
            return Ok(running);
        }
    }
    ensure!(false, "nothing is echoed as a whole");
    Ok(running)
}

fn ours(bench: &Bench<'_>, sockets: Sockets) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("forebay"));
    command.args(["udp-echo".to_owned(), format!("-l{CORE}")]);
    command.arg("--file-prefix=forebay-bench-echo");
    command.arg(format!("--runtime-dir={}", bench.scratch.display()));
    command.args(bench.pages.ours());
    command.arg(match sockets {
        Sockets::Packet => "--vdev=net_af_packet0,iface=m0,qdisc_bypass=1",
        Sockets::Xdp => "--vdev=net_af_xdp0,iface=m0",
    });
    command.args(["--", "--no-probe"]);
    command.arg(format!("--ip={ADDRESS}/24"));
    command.arg(format!("--gateway={GATEWAY}"));
    command.arg(format!("--port={PORT}"));
    Ok(command)
}

/// `InReceives` of the lines of `Ip:` in `/proc/net/snmp`: names, then counts.
fn received(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let mut names = lines.next()?.split_whitespace();
    let index = names.position(|name| name == "InReceives")?;
    lines.next()?.split_whitespace().nth(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_from_what_the_kernel_counts() {
        let said = "Ip: Forwarding DefaultTTL InReceives InHdrErrors\nIp: 2 64 1234 0\nIcmp: InMsgs\nIcmp: 9\n";
        assert_eq!(received(said), Some(1234));
        assert_eq!(received("Icmp: InMsgs\nIcmp: 9\n"), None);
    }
}
