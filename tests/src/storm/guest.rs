//! Secondaries that are there for tests alone: one that only sits in a group, and one that takes all its buffers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use forebay::{BURST_MAX, Burst, Eal, EalArgs, Lcore, Pool};

use crate::{Process, program};

/// Which group.
#[derive(Debug, Clone, Args)]
pub struct GuestArgs {
    #[arg(long)]
    file_prefix: String,
    #[arg(long)]
    runtime_dir: PathBuf,
    /// Take every buffer of every pool, and hold it
    #[arg(long)]
    greedy: bool,
}

/// Starts a guest in a group and waits until it is there.
///
/// # Panics
///
/// If it cannot join.
pub fn invite(prefix: &str, runtime_dir: &Path, greedy: bool) -> Process {
    let mut command = Command::new(program("forebay-storm"));
    command.args(["guest", &format!("--file-prefix={prefix}")]);
    command.arg("--runtime-dir").arg(runtime_dir);
    command.args(greedy.then_some("--greedy"));
    lab::die_with_parent(&mut command, lab::Signal::KILL);
    let mut guest = Process::start(&mut command);
    guest.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
    guest
}

/// Joins a group and stays until SIGTERM.
///
/// # Errors
///
/// If the group cannot be joined.
pub fn stay(args: &GuestArgs) -> anyhow::Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))?;
    let line = [
        "forebay-storm".to_owned(),
        "--proc-type=secondary".to_owned(),
        "--log-level=error".to_owned(),
        format!("--file-prefix={}", args.file_prefix),
        format!("--runtime-dir={}", args.runtime_dir.display()),
    ];
    let eal = Eal::init(EalArgs::parse(line)?.0)?;
    if args.greedy {
        let lcore = Lcore::new(eal.claim_slot("greedy")?);
        hoard(&lcore, &stop);
    } else {
        eprintln!("ready: sitting in group {:?}", args.file_prefix);
        wait(&stop);
    }
    Ok(eal.cleanup()?)
}

/// Takes what there is, also what others give back later.
fn hoard(lcore: &Lcore, stop: &AtomicBool) {
    let pools: Vec<_> = Pool::all(lcore.region()).collect();
    let mut held: Vec<Burst<'_>> = Vec::new();
    let mut told = false;
    while !stop.load(Ordering::Relaxed) {
        let before = held.len();
        for pool in &pools {
            loop {
                let mut burst = Burst::new(lcore);
                if lcore.alloc_burst(*pool, &mut burst, BURST_MAX) == 0 {
                    break;
                }
                held.push(burst);
            }
        }
        if !told {
            let count: usize = held.iter().map(Burst::len).sum();
            eprintln!("ready: holding {count} buffers");
            told = true;
        }
        if held.len() == before {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn wait(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(5));
    }
}
