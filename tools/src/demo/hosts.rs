//! The demo with hosts made of network namespaces: pings and a TCP transfer by the kernel's own stack.

use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Host, Ping, Transfer, Watch};

use super::group::Group;
use super::{DemoArgs, Interrupted, Queues, Stop, progress, report, step};

/// The addresses of the two hosts, in both protocols.
const WEST: [&str; 2] = ["10.0.0.1", "fd00::1"];
const EAST: [&str; 2] = ["10.0.0.2", "fd00::2"];
const PREFIX_LEN: [u8; 2] = [24, 64];

/// How often the transfer's progress is told, once it has taken that long.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Two hosts and what lies between them.
struct World {
    west: Host,
    middle: Host,
    east: Host,
}

/// Runs the demo; `true` if all that was tried came out right.
pub(super) fn run(args: &DemoArgs, stop: &Stop) -> anyhow::Result<bool> {
    let queues = if args.queues == Queues::Each {
        args.clients
    } else {
        1
    };
    let world = World::build(queues)?;
    let (west, east) = (WEST[0], EAST[0]);
    step(
        "hosts",
        &format!("west {west} and east {east}, each with a veth pair to the middle"),
    )?;
    let pairs = args.clients;
    let vdevs = [("net_af_packet0", "west"), ("net_af_packet1", "east")]
        .map(|(name, iface)| format!("{name},iface={iface},qpairs={pairs}"));
    let mut group = Group::start(args, &vdevs, stop, |command| {
        world.middle.command(command)?;
        Ok(())
    })?;
    step("group", &group.members())?;
    if args.seconds.is_some() {
        step("look", &group.how_to_look())?;
    }
    let tried = world.try_out(args, &mut group, stop);
    // Who broke it explains more than what broke.
    group.check()?;
    let mut is_right = tried?;
    is_right &= report::show(group.runtime_dir(), group.prefix())?;
    group.end()?;
    step(
        "clean",
        "all processes ended, no file and no interface left",
    )?;
    Ok(is_right)
}

impl World {
    fn build(queues: u32) -> anyhow::Result<Self> {
        let (west, middle, east) = (Host::new("west")?, Host::new("middle")?, Host::new("east")?);
        for (host, iface, addresses) in [(&west, "west", WEST), (&east, "east", EAST)] {
            lab::veth((host, "eth0"), (&middle, iface), queues)?;
            // Only keeps the middle from saying something of its own; in some containers nobody may.
            let _ = middle.disable_ipv6(iface);
            middle.up(iface)?;
            host.up("eth0")?;
            for (address, prefix_len) in addresses.iter().zip(PREFIX_LEN) {
                if is_spoken(address) {
                    host.address("eth0", &format!("{address}/{prefix_len}"))?;
                }
            }
        }
        Ok(Self { west, middle, east })
    }

    /// Pings and moves bytes.
    fn try_out(&self, args: &DemoArgs, group: &mut Group, stop: &Stop) -> anyhow::Result<bool> {
        let start = Instant::now();
        let mut is_right = true;
        for to in EAST.into_iter().filter(|address| is_spoken(address)) {
            is_right &= self.ping(to.parse()?)?;
            stop.check()?;
        }
        is_right &= self.transfer(args.bytes, (&self.west, &self.east, EAST[0]), group, stop)?;
        let Some(seconds) = args.seconds else {
            return Ok(is_right);
        };
        let mut is_eastward = true;
        while start.elapsed() < Duration::from_secs(seconds) {
            is_eastward = !is_eastward;
            let way = if is_eastward {
                (&self.west, &self.east, EAST[0])
            } else {
                (&self.east, &self.west, WEST[0])
            };
            is_right &= self.transfer(args.bytes, way, group, stop)?;
        }
        Ok(is_right)
    }

    fn ping(&self, to: IpAddr) -> anyhow::Result<bool> {
        let report = lab::ping(&self.west, to, &Ping::default())?;
        let ms = |time: Duration| format!("{:.3}", time.as_secs_f64() * 1e3);
        step(
            "ping",
            &format!(
                "west to {to}: {} of {} answered, {}/{}/{} ms fastest/average/slowest",
                report.received,
                report.sent,
                ms(report.fastest),
                ms(report.average),
                ms(report.slowest),
            ),
        )?;
        Ok(report.lost() == 0 && report.damaged == 0)
    }

    fn transfer(
        &self,
        bytes: u64,
        (from, to, address): (&Host, &Host, &str),
        group: &mut Group,
        stop: &Stop,
    ) -> anyhow::Result<bool> {
        let (transfer, watch) = (Transfer::new(bytes, 1), Watch::default());
        let address: IpAddr = address.parse()?;
        let result = thread::scope(|scope| {
            let run = || lab::tcp_transfer(from, (to, address), &transfer, &watch);
            let run = scope.spawn(run);
            let mut told = Instant::now();
            while !run.is_finished() {
                // Without the processes in between nothing more would arrive.
                if stop.is_set() || group.check().is_err() {
                    watch.cancel();
                }
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    let (done, all) = (watch.received() / 1_000_000, bytes / 1_000_000);
                    progress(&format!("tcp     {done} of {all} MB"));
                }
                thread::sleep(Duration::from_millis(10));
            }
            run.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        let report = match result {
            Err(lab::Error::Cancelled) => return Err(Interrupted.into()),
            result => result?,
        };
        let [a, b, c, d, ..] = report.received;
        step(
            "tcp",
            &format!(
                "{} to {}: {:.1} MB in {:.2} s, {} Mbit/s, SHA-256 {a:02x}{b:02x}{c:02x}{d:02x}... {}",
                from.name(),
                to.name(),
                mega(report.bytes),
                report.elapsed.as_secs_f64(),
                report.megabits_per_second(),
                if report.is_intact() {
                    "at both ends"
                } else {
                    "is NOT what was sent"
                },
            ),
        )?;
        Ok(report.is_intact() && report.bytes == bytes)
    }
}

/// Whether this kernel knows the protocol of an address: it may have been built without IPv6.
pub(super) fn is_spoken(address: &str) -> bool {
    !address.contains(':') || Path::new("/proc/net/if_inet6").exists()
}

#[expect(clippy::cast_precision_loss, reason = "to be read by people")]
pub(super) fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
