//! A Linux host, and `udp_echo` or `forebay ping` at the other end of its cable.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use lab::{Host, Offloads, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Ended, Leftovers, Process, program, wait_for};

/// What lies between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// A veth pair, and `net_af_packet` at our end.
    Packet,
    /// A veth pair, and `net_af_xdp` at our end.
    Xdp,
    /// A TAP: the Linux host's interface is the other end of `net_tap`.
    Tap,
}

/// The two hosts, and the program when it runs. Killed when dropped; [`Pair::finish`] ends it in order.
///
/// ```text
///  linux               ours
///  eth0 ------------- veth0      (net_tap: nothing but the program)
///  10.0.0.1/24        10.0.0.2/24
///  fd00::1/64         fd00::2/64
/// ```
#[derive(Debug)]
pub struct Pair {
    /// Has `eth0`, with the addresses [`Pair::LINUX`] and [`Pair::LINUX_V6`].
    pub linux: Host,
    /// Where the program runs.
    pub ours: Host,
    wire: Wire,
    prefix: String,
    dir: TempDir,
    program: Option<Process>,
}

/// What a program counts, by name.
#[derive(Debug, Clone)]
pub struct Counts(BTreeMap<String, u64>);

impl Counts {
    /// The count of that name; 0 if there is none.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Reads a line of JSON; what is no count is left out.
    ///
    /// # Panics
    ///
    /// If it is no object.
    pub fn read(line: &str) -> Self {
        let object: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let object = object.as_object().expect("counters are an object");
        let counts = object
            .iter()
            .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)));
        Self(counts.collect())
    }
}

impl Pair {
    /// Address of the Linux host.
    pub const LINUX: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    /// Its IPv6 address.
    pub const LINUX_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1));
    /// Our address.
    pub const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    /// Our IPv6 address.
    pub const OURS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));
    /// The arguments that give us both.
    pub const IPS: [&str; 4] = ["--ip", "10.0.0.2/24", "--ip", "fd00::2/64"];

    /// Where the program echoes, at one of its addresses.
    pub fn echo(address: IpAddr) -> SocketAddr {
        SocketAddr::new(address, 7)
    }

    /// Builds the hosts, all offloads of a cable on, and starts the program with [`Pair::IPS`].
    ///
    /// # Panics
    ///
    /// If the kernel refuses, or the program does not come up; call it inside `lab::isolated!`.
    pub fn start(wire: Wire) -> Self {
        let mut pair = Self::build(wire, Offloads::ON);
        pair.open(&Self::IPS);
        pair
    }

    /// Builds the hosts.
    ///
    /// # Panics
    ///
    /// If the kernel refuses.
    pub fn build(wire: Wire, offloads: Offloads) -> Self {
        let host = |name| Host::new(name).unwrap_or_else(|error| panic!("{error}"));
        let pair = Self {
            linux: host("linux"),
            ours: host("ours"),
            wire,
            prefix: unique_prefix(),
            dir: tempfile::tempdir().expect("the temporary directory can be written"),
            program: None,
        };
        if wire != Wire::Tap {
            let build = || {
                lab::veth((&pair.linux, "eth0"), (&pair.ours, "veth0"), 1)?;
                pair.ours.disable_ipv6("veth0")?;
                pair.ours.offloads("veth0", offloads)?;
                pair.linux.offloads("eth0", offloads)?;
                pair.ours.up("veth0")?;
                pair.dress()
            };
            build().unwrap_or_else(|error| panic!("{error}"));
        }
        pair
    }

    /// Gives the Linux host its addresses.
    fn dress(&self) -> Result<(), lab::Error> {
        self.linux.address("eth0", "10.0.0.1/24")?;
        self.linux.address("eth0", "fd00::1/64")?;
        self.linux.up("eth0")
    }

    /// The program's command line, with these arguments behind `--`.
    ///
    /// # Panics
    ///
    /// If it was not built.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(Command::new(program("udp_echo")), args)
    }

    /// The command line of `forebay ping` at our end, with these arguments behind `--`.
    ///
    /// # Panics
    ///
    /// If it was not built.
    pub fn ping_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("forebay"));
        command.arg("ping");
        self.command_of(command, args)
    }

    /// Starts `forebay ping` at our end, with these arguments besides [`Pair::IPS`].
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub fn start_ping(&self, args: &[&str]) -> Process {
        let process = Process::start(&mut self.ping_command(&[&Self::IPS[..], args].concat()));
        if self.wire == Wire::Tap {
            wait_for("the TAP", || self.linux.has("eth0").then_some(()));
            self.dress().unwrap_or_else(|error| panic!("{error}"));
        }
        process
    }

    /// Has `forebay ping` ask from our end, and waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not end, or leaves a file.
    pub fn ping(&self, args: &[&str]) -> Ended {
        let ended = self.start_ping(args).wait();
        let left = Leftovers::of(&self.prefix, self.dir.path());
        assert!(left.is_empty(), "{left:?}");
        ended
    }

    fn command_of(&self, mut command: Command, args: &[&str]) -> Command {
        let vdev = match self.wire {
            Wire::Packet => "net_af_packet0,iface=veth0".to_owned(),
            Wire::Xdp => "net_af_xdp0,iface=veth0".to_owned(),
            Wire::Tap => {
                let (pid, namespace) = (std::process::id(), self.linux.namespace().as_raw_fd());
                format!("net_tap0,iface=eth0,netns=/proc/{pid}/fd/{namespace}")
            }
        };
        let placed = self.ours.command(&mut command);
        placed.unwrap_or_else(|error| panic!("{error}"));
        command.args(["-l", "1", "--no-huge"]);
        command.arg(format!("--file-prefix={}", self.prefix));
        command.arg("--runtime-dir").arg(self.dir.path());
        command.arg(format!("--vdev={vdev}")).arg("--").args(args);
        command
    }

    /// Starts the program and waits until its addresses are in use.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn open(&mut self, args: &[&str]) {
        let args: Vec<_> = args.iter().copied().chain(["--json"]).collect();
        let mut process = Process::start(&mut self.command(&args));
        if self.wire == Wire::Tap {
            // It asks the link whether its addresses are free, and makes that link.
            wait_for("the TAP", || self.linux.has("eth0").then_some(()));
            self.dress().unwrap_or_else(|error| panic!("{error}"));
        }
        process.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
        self.program = Some(process);
    }

    /// What the program has counted by now.
    ///
    /// # Panics
    ///
    /// If it does not say so.
    pub fn counts(&self) -> Counts {
        let program = self.program.as_ref().expect("the program runs");
        let before = program.stdout().len();
        program.signal(Signal::USR1);
        let line = wait_for("the counters", || program.stdout().get(before).cloned());
        Counts::read(&line)
    }

    /// Its process id.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.program.as_ref().expect("the program runs").pid()
    }

    /// Ends the program in order; what it has counted, and what it printed.
    ///
    /// # Panics
    ///
    /// If it does not end with status 0, or leaves a file.
    pub fn close(&mut self) -> (Counts, Ended) {
        let program = self.program.take().expect("the program runs");
        let ended = program.stop();
        assert_eq!(ended.status.code(), Some(0), "{ended}");
        let left = Leftovers::of(&self.prefix, self.dir.path());
        assert!(left.is_empty(), "{left:?}");
        let line = ended.stdout.last().expect("counters in the end");
        (Counts::read(line), ended)
    }

    /// The same for who does not want to look at the rest.
    ///
    /// # Panics
    ///
    /// As [`close`](Self::close).
    pub fn finish(mut self) -> Counts {
        self.close().0
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.program = None;
        // Only a test that failed leaves any.
        for file in Leftovers::of(&self.prefix, self.dir.path()).files() {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// A prefix that no other test, and no group of the machine, has.
fn unique_prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // Relaxed: a number that is handed out once, nothing hangs on it.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("fbe-{}-{number}", std::process::id())
}
