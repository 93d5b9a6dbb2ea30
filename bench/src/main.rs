//! `forebay-bench`: how fast, beside DPDK on the same machine. `cargo xtask bench` builds and runs it.
//!
//! A *line* is one comparison of the table in `docs/performance.md`; a *round* of it is a fresh process of ours and one of the
//! peer's, which do the same work one after the other. Modules, in reading order:
//!
//! | module | what it is |
//! |---|---|
//! | `line` | the table: names, work, targets |
//! | `round` | what one side says at the end of a round |
//! | `ours` | one round of ours |
//! | `peer` | the peers: C programs on `libdpdk`, and one round of theirs |
//! | `pages` | hugepages for the time of a run |
//! | `child` | a program with a deadline |
//! | `statistics` | medians and quartiles |
//! | `machine` | what a number is worth nothing without |
//! | `pipeline` | server and client, ours and DPDK's example |
//! | `example` | that example, fetched and built |
//! | `quiet` | CPU time that went to others meanwhile |
//! | `datagram`, `generator` | frames, so many a second |
//! | `veth` | forwarding between hosts: what a packet costs |
//! | `echo` | the same of datagrams that are sent back, beside the kernel's stack |
//! | `load` | the load that both sides carry |
//! | `compare` | the rounds of a line, and what they come to |
//! | `plot` | ring throughput by burst, as a picture |
//! | `path` | data paths in one thread |
//! | `instructions` | what they take a packet, beside the table that is kept |
#![forbid(unsafe_code)]

mod child;
mod compare;
mod datagram;
mod distance;
mod echo;
mod example;
mod generator;
mod instructions;
mod line;
mod load;
mod machine;
mod ours;
mod pages;
mod path;
mod peer;
mod pipeline;
mod plot;
mod quiet;
mod round;
mod statistics;
mod veth;
mod xdp;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "forebay-bench",
    about = "Measures Forebay beside DPDK; `cargo xtask bench` is the door to it",
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// The table of lines, ours and the peer's in turn
    Compare(compare::Args),
    /// User-mode instructions a packet of each data path
    Instructions(instructions::Args),
    /// Frames out of an interface, once a line comes on stdin
    Generate {
        /// Where
        iface: String,
        /// What
        traffic: generator::Traffic,
        /// Bytes of a frame
        len: usize,
        /// Frames a second
        rate: f64,
        /// Frames in all
        frames: u64,
    },
    /// One direction of a port, until a line comes on stdin
    #[command(hide = true)]
    Drive {
        /// Which
        way: xdp::Way,
        /// Arguments of the environment, as DPDK has them
        #[arg(last = true)]
        eal: Vec<String>,
    },
    /// One data path, so many packets
    Path {
        /// Which
        path: path::DataPath,
        /// How many
        packets: u32,
    },
    /// One round of a ring
    Ring {
        /// Who sends and who receives
        shape: ours::ring::Shape,
        /// Items to a call
        burst: usize,
        /// Items in all
        items: u64,
        /// Arguments of the environment, as DPDK has them
        #[arg(last = true)]
        eal: Vec<String>,
    },
    /// One process that starts and is there until stdin ends
    Start {
        /// Arguments of the environment, as DPDK has them
        #[arg(last = true)]
        eal: Vec<String>,
    },
    /// One round of a pool
    Pool {
        /// Where the mbufs are freed
        shape: ours::pool::Shape,
        /// Mbufs in all
        items: u64,
        /// Arguments of the environment, as DPDK has them
        #[arg(last = true)]
        eal: Vec<String>,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Compare(args) => compare::run(&args),
        Task::Instructions(args) => instructions::run(&args),
        Task::Generate {
            iface,
            traffic,
            len,
            rate,
            frames,
        } => generator::generate(&iface, traffic, len, (rate, frames)).map(|()| ExitCode::SUCCESS),
        Task::Drive { way, eal } => xdp::drive(way, &eal).map(|()| ExitCode::SUCCESS),
        Task::Path { path, packets } => path.run(packets).map(|()| ExitCode::SUCCESS),
        Task::Ring {
            shape,
            burst,
            items,
            eal,
        } => ours::ring::run(shape, burst, items, &eal).and_then(|round| round.report()),
        Task::Start { eal } => ours::start::run(&eal).map(|()| ExitCode::SUCCESS),
        Task::Pool { shape, items, eal } => {
            ours::pool::run(shape, items, &eal).and_then(|round| round.report())
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("forebay-bench: {error:#}");
        ExitCode::FAILURE
    })
}
