//! The demo of the stack: a Linux host at one end of a cable, at the other a process with TCP/IP of its own.
//!
//! ```text
//!   linux 10.0.0.1 ──veth── port 0: udp_echo, 10.0.0.2
//! ```

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use lab::{Echo, EchoReport, Host, Ping};

use super::group::{Place, this_program};
use super::hosts::{is_spoken, mega};
use super::process::Process;
use super::{DemoArgs, Stop, step};

const LINUX: [&str; 2] = ["10.0.0.1/24", "fd00::1/64"];
const OURS: [&str; 2] = ["10.0.0.2", "fd00::2"];
const PREFIX_LEN: [u8; 2] = [24, 64];
/// The port of RFC 862.
const ECHO_PORT: u16 = 7;
/// Bytes of most datagrams: a frame is full.
const USUAL_LEN: usize = 1400;
/// And of the large ones: in fifty fragments or so.
const LARGE_LEN: usize = 60_000;
/// Datagrams after which the demo looks whether it is to go on.
const PART: u64 = 5000;

/// The two hosts.
struct World {
    linux: Host,
    ours: Host,
}

/// Runs the demo; `true` if all that was tried came out right.
pub(super) fn run(args: &DemoArgs, stop: &Stop) -> anyhow::Result<bool> {
    let spoken: Vec<_> = OURS.into_iter().filter(|ip| is_spoken(ip)).collect();
    let world = World::build()?;
    step(
        "hosts",
        "linux 10.0.0.1, and a veth pair to a port that the kernel does not speak on",
    )?;
    let place = Place::make(args.runtime_dir.as_deref())?;
    let prefix = format!("demo-{}", std::process::id());
    let mut command = this_program();
    command.args(["udp-echo", "-l", "0", "--no-huge", "--log-level=warning"]);
    command.arg(format!("--file-prefix={prefix}"));
    command.arg(format!("--runtime-dir={}", place.path().display()));
    command.args(["--vdev=net_af_packet0,iface=ours", "--"]);
    for (address, prefix_len) in OURS.into_iter().zip(PREFIX_LEN) {
        command.arg(format!("--ip={address}/{prefix_len}"));
    }
    command.arg("--json").stdout(Stdio::piped());
    world.ours.command(&mut command)?;
    let mut process = Process::start("udp-echo", &mut command)?;
    process.wait_ready(stop)?;
    step(
        "stack",
        &format!("{} in process {}", spoken.join(" and "), process.pid()),
    )?;
    if args.seconds.is_some() {
        let directory = place.path().display();
        step(
            "look",
            &format!(
                "forebay list --file-prefix={prefix} --runtime-dir={directory} (or pools, zones, check)"
            ),
        )?;
    }
    let tried = world.try_out(args, &spoken, stop);
    // Who broke it explains more than what broke.
    process.check()?;
    let is_right = tried?;
    let counters = process.stdout();
    process.end()?;
    let mut text = String::new();
    counters
        .context("the process has no stdout")?
        .read_to_string(&mut text)?;
    step("counts", &counted(&text)?)?;
    place.leave(&prefix)?;
    step("clean", "the process ended, no file and no interface left")?;
    Ok(is_right)
}

/// What the process counted, for people.
fn counted(json: &str) -> anyhow::Result<String> {
    let counts: BTreeMap<String, u64> =
        serde_json::from_str(json.trim()).context("what udp-echo counted")?;
    let of = |name: &str| counts.get(name).copied().unwrap_or(0);
    let drops: Vec<_> = counts
        .iter()
        .filter_map(|(name, count)| Some(format!("{count} {}", name.strip_prefix("drop_")?)))
        .collect();
    Ok(format!(
        "{} frames in, {} out, {} datagrams sent back, asleep {} times; dropped: {}",
        of("rx_packets"),
        of("tx_packets"),
        of("echoed"),
        of("rests"),
        if drops.is_empty() {
            "none".to_owned()
        } else {
            drops.join(", ")
        },
    ))
}

impl World {
    fn build() -> anyhow::Result<Self> {
        let (linux, ours) = (Host::new("linux")?, Host::new("ours")?);
        lab::veth((&linux, "eth0"), (&ours, "ours"), 1)?;
        // Only keeps the kernel from saying something of its own there; in some containers nobody may.
        let _ = ours.disable_ipv6("ours");
        ours.up("ours")?;
        linux.up("eth0")?;
        for address in LINUX.into_iter().filter(|address| is_spoken(address)) {
            linux.address("eth0", address)?;
        }
        Ok(Self { linux, ours })
    }

    fn try_out(&self, args: &DemoArgs, spoken: &[&str], stop: &Stop) -> anyhow::Result<bool> {
        let start = Instant::now();
        let mut is_right = true;
        for to in spoken {
            is_right &= self.ping(to.parse()?)?;
            stop.check()?;
        }
        for to in spoken {
            let large = args.bytes.min(LARGE_LEN as u64 * 16) / LARGE_LEN as u64;
            is_right &= self.echo(to.parse()?, large.max(1), LARGE_LEN, stop)?;
        }
        loop {
            for to in spoken {
                let share = args.bytes / spoken.len() as u64;
                let count = share.div_ceil(USUAL_LEN as u64);
                is_right &= self.echo(to.parse()?, count, USUAL_LEN, stop)?;
            }
            let seconds = Duration::from_secs(args.seconds.unwrap_or(0));
            if start.elapsed() >= seconds {
                return Ok(is_right);
            }
        }
    }

    fn ping(&self, to: IpAddr) -> anyhow::Result<bool> {
        let report = lab::ping(&self.linux, to, &Ping::default())?;
        let ms = |time: Duration| format!("{:.3}", time.as_secs_f64() * 1e3);
        step(
            "ping",
            &format!(
                "linux to {to}: {} of {} answered, {}/{}/{} ms fastest/average/slowest",
                report.received,
                report.sent,
                ms(report.fastest),
                ms(report.average),
                ms(report.slowest),
            ),
        )?;
        Ok(report.lost() == 0 && report.damaged == 0)
    }

    fn echo(
        &self,
        to: IpAddr,
        count: u64,
        payload_len: usize,
        stop: &Stop,
    ) -> anyhow::Result<bool> {
        let mut sum = EchoReport::default();
        while sum.sent < count {
            stop.check()?;
            let how = Echo {
                count: (count - sum.sent).min(PART),
                payload_len,
                // What a socket's buffer holds.
                window: if payload_len > USUAL_LEN { 1 } else { 32 },
                ..Echo::default()
            };
            let part = lab::udp_echo(&self.linux, SocketAddr::new(to, ECHO_PORT), &how)?;
            sum.add(&part);
        }
        #[expect(clippy::cast_precision_loss, reason = "to be read by people")]
        let rate = sum.received as f64 / sum.elapsed.as_secs_f64();
        step(
            "udp",
            &format!(
                "linux to {to} and back: {} of {} datagrams of {payload_len} bytes, {:.1} MB in {:.2} s, {rate:.0} a second, {}",
                sum.received,
                sum.sent,
                mega(sum.bytes),
                sum.elapsed.as_secs_f64(),
                if sum.is_whole() {
                    "every byte as it was"
                } else {
                    "NOT all as they were"
                },
            ),
        )?;
        Ok(sum.is_whole())
    }
}
