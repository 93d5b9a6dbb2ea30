//! Builds `forebay-bench` for the processor at hand and runs it: how fast, beside DPDK.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::workspace::{Workspace, cargo};

/// What `cargo xtask bench` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// Whom to compare with: `dpdk`; ours runs alone otherwise
    #[arg(long, value_name = "WHOM")]
    against: Option<String>,
    /// Only lines with this in their name
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Option<String>,
    /// Rounds of each line
    #[arg(long, value_name = "N", default_value_t = 15)]
    rounds: u32,
    /// Where all rounds go [default: bench/results for the whole table, else target/bench/rounds]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Draw ring throughput by burst instead: docs/ring-throughput.svg
    #[arg(long)]
    plot: bool,
    /// Count user-mode instructions a packet instead, and compare with bench/instructions.tsv
    #[arg(long, conflicts_with_all = ["against", "out", "plot"])]
    pub(crate) instructions: bool,
    /// With --instructions: write what was counted into the table
    #[arg(long, requires = "instructions")]
    pub(crate) bless: bool,
}

/// Runs the table.
///
/// # Errors
///
/// If it does not build or cannot be started.
pub(crate) fn run(workspace: &Workspace, args: &BenchArgs) -> Result<ExitCode> {
    // A directory of its own: other flags would rebuild everything, back and forth.
    let target = workspace.target_dir.join("bench");
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    let mut build = Command::new(cargo());
    build
        .current_dir(&workspace.root)
        .args([
            "build",
            "--release",
            "-p",
            "forebay-bench",
            "-p",
            "forebay-tools",
            "--bins",
        ])
        .env("RUSTFLAGS", format!("{flags} -C target-cpu=native"))
        .env("CARGO_TARGET_DIR", &target);
    let status = build.status().context("cannot run cargo")?;
    ensure!(status.success(), "the bench does not build");
    let mut bench = Command::new(target.join("release/forebay-bench"));
    bench.arg("compare").arg("--target").arg(&target);
    bench.arg(format!("--rounds={}", args.rounds));
    for (name, value) in [("--against", &args.against), ("--only", &args.only)] {
        if let Some(value) = value {
            bench.arg(name).arg(value);
        }
    }
    if args.plot {
        bench.arg("--plot");
    }
    if let Some(out) = &args.out {
        bench.arg("--out").arg(out);
    }
    let status = bench.status().context("cannot run the bench")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
