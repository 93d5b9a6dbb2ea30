//! `forebay-storm`: kills real processes at random and counts what becomes of it. `cargo xtask storm` builds what it needs
//! and runs it.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use forebay_tests::storm::pipeline::{self, Driver, Options, Queues, Share, Verdict};
use forebay_tests::storm::{guest, rings, summary, times};

#[derive(Debug, Parser)]
#[command(
    name = "forebay-storm",
    about = "Kills real processes at random and counts what becomes of it"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// A server and its clients under load
    Pipeline(PipelineArgs),
    /// One process after the other, killed inside an operation of a ring
    Rings(rings::Options),
    /// How long a death is noticed, kind by kind
    Times(times::Options),
    /// One end of a ring, which `rings` starts and kills
    #[command(hide = true)]
    Worker(rings::WorkerArgs),
    /// A secondary that does nothing, or harm
    #[command(hide = true)]
    Guest(guest::GuestArgs),
}

#[derive(Debug, Args)]
struct PipelineArgs {
    /// How long processes are killed, all modes together
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Whom and when [default: another one each time]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Who reads the ports
    #[arg(long, value_name = "WHO", default_value = "both")]
    queues: Modes,
    /// What the ports are
    #[arg(long, value_name = "WHAT", default_value = "af_packet")]
    driver: Ports,
    /// Who drives the queues of clients: they, or the server for them
    #[arg(long, value_name = "HOW", default_value = "direct")]
    share: Sharing,
    /// How many secondaries
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=16))]
    clients: u32,
    /// Frames a second, each way
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    rate: u32,
    /// Where logs go
    #[arg(long, value_name = "DIR", default_value = "target/storm")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Modes {
    Server,
    Each,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Ports {
    #[value(name = "af_packet")]
    AfPacket,
    Tap,
    #[value(name = "af_xdp")]
    AfXdp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sharing {
    Direct,
    Proxy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Pipeline(args) => storm(&args),
        Task::Rings(options) => rings::run(&options),
        Task::Times(options) => lab::enter()
            .map_err(Into::into)
            .and_then(|()| times::run(&options)),
        Task::Worker(args) => rings::work(&args).map(|()| true),
        Task::Guest(args) => guest::stay(&args).map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("forebay-storm: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the storm in the modes asked for; `true` if nothing was wrong.
fn storm(args: &PipelineArgs) -> anyhow::Result<bool> {
    // Before the first thread: the kernel moves only a process that has one.
    if let Err(error @ lab::Error::Forbidden { .. }) = lab::enter() {
        eprintln!("skipped: storm: {error}");
        println!("{}", summary(true));
        return Ok(true);
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let seed = args.seed.unwrap_or_else(rings::random_seed);
    let modes: &[Queues] = match args.queues {
        Modes::Server => &[Queues::Server],
        Modes::Each => &[Queues::Each],
        Modes::Both => &[Queues::Server, Queues::Each],
    };
    let count = u32::try_from(modes.len()).unwrap_or(1);
    let mut all = Verdict::default();
    for queues in modes {
        let options = Options {
            time: Duration::from_secs(args.seconds) / count,
            seed,
            queues: *queues,
            driver: match args.driver {
                Ports::AfPacket => Driver::AfPacket,
                Ports::Tap => Driver::Tap,
                Ports::AfXdp => Driver::AfXdp,
            },
            share: match args.share {
                Sharing::Direct => Share::Direct,
                Sharing::Proxy => Share::Proxy,
            },
            clients: args.clients,
            rate: args.rate,
            out: args.out.clone(),
            stop: Arc::clone(&stop),
        };
        eprintln!(
            "storm: {}, seed {seed}, logs below {}",
            options.mode(),
            args.out.display(),
        );
        let verdict = pipeline::run(&options)?;
        eprintln!("storm: {}: {verdict} {}", options.mode(), verdict.details());
        all.add(verdict);
    }
    for complaint in &all.complaints {
        println!("wrong: {complaint}");
    }
    for place in &all.kept {
        println!("kept: {}", place.display());
    }
    println!("{}", summary(all.is_good()));
    println!("seed={seed} {}", all.details());
    println!("{all}");
    Ok(all.is_good())
}
