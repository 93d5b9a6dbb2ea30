//! `forebay demo`: two hosts, and between them a primary and its secondaries as real processes.
//!
//! ```text
//!   west 10.0.0.1 ──veth── port 0 ┐                      ┌ port 1 ──veth── 10.0.0.2 east
//!                                 server ─rings─ clients
//! ```
//!
//! `forebay demo udp` shows a process with TCP/IP of its own instead ([`udp`]).
//!
//! The hosts are network namespaces ([`hosts`]) or, with `--local`, made of ring ports ([`local`]).
//! Everything is gone afterwards, also after Ctrl-C: the namespaces live by descriptors of this
//! process, the children end with it, and the group's files lie in a directory of the demo.

mod group;
mod hosts;
mod local;
mod packet;
mod process;
mod report;
mod udp;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Args, ValueEnum};

pub(crate) use local::{HostsArgs, run_hosts};

/// What to show.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoArgs {
    /// What to show: the pipeline of DPDK's lesson, or a process with TCP/IP of its own
    #[arg(value_name = "WHAT", default_value = "pipeline")]
    what: What,

    /// Make the hosts of ring ports: needs no privilege at all
    #[arg(long)]
    local: bool,

    /// Bytes to move through the processes, with a unit if you like: 100M, 2G
    #[arg(long, value_name = "N", default_value = "100M", value_parser = bytes)]
    bytes: u64,

    /// Go on for so long, to look at it with the other commands
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,

    /// How many secondaries
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=16))]
    clients: u32,

    /// Who reads the ports: the server, or each client a queue of its own
    #[arg(long, value_name = "WHO", default_value = "server")]
    queues: Queues,

    /// How packets are spread: in turn, or a flow always to the same client
    #[arg(long, value_name = "HOW", default_value = "rr")]
    dispatch: Dispatch,

    /// Keep the group's files here instead of in a new temporary directory
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
}

/// What there is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// A primary and secondaries between two hosts
    Pipeline,
    /// A stack that answers ping and echoes UDP
    Udp,
}

/// Who reads the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Queues {
    Server,
    Each,
}

/// How packets are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Dispatch {
    Rr,
    Rss,
}

impl DemoArgs {
    /// What the server gets behind `--`.
    fn server_args(&self) -> Vec<String> {
        let queues = if self.queues == Queues::Each {
            "each"
        } else {
            "server"
        };
        let dispatch = if self.dispatch == Dispatch::Rss {
            "rss"
        } else {
            "rr"
        };
        let clients = self.clients.to_string();
        [
            "-p",
            "0x3",
            "-n",
            &clients,
            "--queues",
            queues,
            "--dispatch",
            dispatch,
            "--no-screen",
        ]
        .map(str::to_owned)
        .into()
    }
}

/// `100M` as 100,000,000.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        unit => return Err(format!("{unit:?} is no unit; take K, M or G")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "not a number of bytes, such as 100M".to_owned())?;
    number
        .checked_mul(factor)
        .filter(|bytes| (1..=1 << 40).contains(bytes))
        .ok_or_else(|| "take 1 byte to 1 TiB".to_owned())
}

/// Whether the demo was interrupted.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

/// The demo was interrupted: not an error of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted; everything that was started has been taken down")
    }
}

impl std::error::Error for Interrupted {}

impl Stop {
    /// Set by SIGINT, SIGTERM and SIGHUP from now on.
    pub(crate) fn on_signals() -> anyhow::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let stop = Self(Arc::new(AtomicBool::new(false)));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    /// Whether to stop.
    pub(crate) fn is_set(&self) -> bool {
        // Relaxed: the flag alone matters.
        self.0.load(Ordering::Relaxed)
    }

    /// Fails if the demo was interrupted.
    pub(crate) fn check(&self) -> Result<(), Interrupted> {
        if self.is_set() {
            Err(Interrupted)
        } else {
            Ok(())
        }
    }
}

/// Prints one step of the demo: what, and how it went.
fn step(what: &str, how: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what:<7} {how}")?;
    out.flush()
}

/// Tells on stderr how far a longer step is. Who closed it does not want to know.
fn progress(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs the demo; `true` if all that was tried came out right.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<bool> {
    let start = Instant::now();
    anyhow::ensure!(
        !(args.local && args.what == What::Udp),
        "--local shows the pipeline alone; `forebay demo udp` has the kernel as its peer, in a network namespace"
    );
    if !args.local {
        // Before the first thread: the kernel moves only a process that has one.
        lab::enter()?;
    }
    let stop = Stop::on_signals()?;
    let is_right = match args.what {
        What::Udp => udp::run(args, &stop)?,
        What::Pipeline if args.local => local::run(args, &stop)?,
        What::Pipeline => hosts::run(args, &stop)?,
    };
    let verdict = if is_right {
        "all as it should be"
    } else {
        "NOT as it should be, see above"
    };
    step(
        "done",
        &format!("in {:.1} s: {verdict}", start.elapsed().as_secs_f64()),
    )?;
    Ok(is_right)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_a_unit() {
        for (text, wanted) in [
            ("1", 1),
            ("100M", 100_000_000),
            ("2g", 2_000_000_000),
            ("3kB", 3000),
        ] {
            assert_eq!(bytes(text), Ok(wanted));
        }
        for text in ["", "M", "10X", "-1", "0", "99999999G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
