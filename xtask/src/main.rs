//! `cargo xtask`: every chore of the project, written in Rust so that it needs nothing but cargo.

#![forbid(unsafe_code)]

mod bench;
mod fuzz;
mod numa;
mod plan;
mod source;
mod step;
mod tally;
mod tidy;
mod workspace;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::plan::{PipelineStorm, Plan};
use crate::workspace::Workspace;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Checks and tests Forebay",
    disable_help_subcommand = true,
    after_help = "The last line of each command is `N passed, M failed, K skipped`, which adds up \
                  all that ran.\n\nEXAMPLES:\n    \
                  cargo xtask test                   everything, as continuous integration runs it\n    \
                  cargo xtask check                  what to run before a commit\n    \
                  cargo xtask programs ping          program tests with `ping` in their name\n    \
                  cargo xtask bench --against dpdk   the table of docs/performance.md\n\n\
                  EXIT STATUS:\n    0  nothing failed     1  something failed     2  wrong arguments"
)]
struct Cli {
    #[command(subcommand)]
    chore: Option<Chore>,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Format, clippy and documentation without a warning, and tidy
    Check,
    /// The rules of the repository that no compiler knows
    Tidy,
    /// Everything below and `check`: what continuous integration runs
    #[command(visible_alias = "ci")]
    Test,
    /// Unit, model, property and documentation tests of the crates
    Unit {
        /// Run only tests with this in their name
        filter: Option<String>,
    },
    /// Whole programs on veth pairs, in a user namespace when not root
    Programs {
        /// Run only tests with this in their name
        filter: Option<String>,
    },
    /// What needs real root besides: other user ids, hugepages
    Net {
        /// Run only tests with this in their name
        filter: Option<String>,
    },
    /// Real processes under load, killed at random, and every buffer counted at the end
    Storm {
        /// How long they are killed
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u64,
        /// Whom and when: the seed of another storm repeats it [default: another one each time]
        #[arg(long, value_name = "S")]
        seed: Option<u64>,
        /// One process at a time instead, killed inside each kind of ring operation
        #[arg(long, conflicts_with_all = ["seconds", "queues", "driver", "share"])]
        rings: bool,
        /// With --rings: so often inside each kind
        #[arg(long, value_name = "N", default_value_t = 400, requires = "rings")]
        kills: u32,
        /// Who reads the ports: server, each, or both for half the time each
        #[arg(long, value_name = "WHO", default_value = "both")]
        queues: String,
        /// What the ports are: af_packet, af_xdp or tap
        #[arg(long, value_name = "WHAT", default_value = "af_packet")]
        driver: String,
        /// Who drives the queues of clients: direct, they, or proxy, the server for them
        #[arg(long, value_name = "HOW", default_value = "direct")]
        share: String,
    },
    /// `ring` and `mbuf` in every interleaving that loom finds
    Loom,
    /// The real operations on shared memory, killed at every step, and every mutant of them
    Model {
        /// Run only scenarios with this in their name, and no mutants
        filter: Option<String>,
    },
    /// The crates with `unsafe`, interpreted by Miri on plain memory
    Miri,
    /// Every parser of the stack, fed with what a fuzzer comes upon
    Fuzz {
        /// Only this target: a file of fuzz/fuzz_targets
        target: Option<String>,
        /// How long each is fed
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u64,
    },
    /// Memory on two NUMA nodes, in a machine that QEMU plays: docs/testing.md. Not part of `test`
    Numa,
    /// How fast, beside DPDK on the same machine: docs/performance.md
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let Some(chore) = Cli::parse().chore else {
        return match Cli::command().print_help() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    };
    let workspace = match Workspace::find() {
        Ok(workspace) => workspace,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut plan = Plan::new(&workspace);
    match chore {
        Chore::Check => plan.check(),
        Chore::Tidy => plan.tidy(),
        Chore::Test => plan.test(),
        Chore::Unit { filter } => plan.unit(filter.as_deref()),
        Chore::Programs { filter } => plan.programs(filter.as_deref()),
        Chore::Net { filter } => plan.net(filter.as_deref()),
        Chore::Storm {
            seconds,
            seed,
            rings: false,
            queues,
            driver,
            share,
            ..
        } => plan.storm(
            seconds,
            seed,
            &PipelineStorm {
                queues: &queues,
                driver: &driver,
                share: &share,
            },
        ),
        Chore::Storm { seed, kills, .. } => plan.storm_of_rings(kills, seed),
        Chore::Loom => plan.loom(),
        Chore::Model { filter } => plan.model(filter.as_deref()),
        Chore::Miri => plan.miri(),
        Chore::Fuzz { target, seconds } => plan.fuzz(target.as_deref(), seconds),
        Chore::Numa => plan.numa(),
        Chore::Bench(args) if args.instructions => {
            plan.instructions(args.only.as_deref(), args.bless);
        }
        Chore::Bench(args) => {
            return bench::run(&workspace, &args).unwrap_or_else(|error| {
                eprintln!("xtask: {error:#}");
                ExitCode::FAILURE
            });
        }
    }
    plan.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
