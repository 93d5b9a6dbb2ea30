//! `forebay`: one tool, a subcommand for each task.
//!
//! Tools read counters and tables that are mapped read-only: they can be killed, run twice, or run
//! against a process that stands still. Only `clean` changes anything.
//!
//! Results go to stdout, everything else to stderr. Exit status: 0 done, 1 failed, 2 wrong arguments.
#![forbid(unsafe_code)]

mod check;
mod clean;
mod demo;
mod group;
mod list;
mod pools;
mod print;
mod recovered;
mod rings;
mod zones;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{Parser, Subcommand};

/// One network port, many processes that share its packets in memory.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    bin_name = "forebay",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "EXAMPLES:
    forebay demo                    shows everything at work, on real packets
    forebay list                    all groups and their processes

EXIT STATUS:
    0  done     1  failed     2  wrong arguments"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show a primary and its secondaries at work between two hosts
    ///
    /// Builds two hosts and a middle out of network namespaces, starts the processes in the middle,
    /// pings and moves bytes through them, prints what they counted, checks every buffer, and takes
    /// everything down again. Works as root and as an ordinary user.
    #[command(after_help = "EXAMPLES:
    forebay demo                                   two secondaries, 100 MB of TCP
    forebay demo --clients 4 --queues each         every secondary reads a queue of its own
    forebay demo udp                               a process with TCP/IP of its own
    forebay demo --local                           hosts made of rings: no privilege needed

EXIT STATUS:
    0  all came out right     1  something did not     2  wrong arguments")]
    Demo(demo::DemoArgs),

    /// Receive on all ports and spread packets over clients (as mp_server does)
    ///
    /// Takes DPDK's arguments; `forebay server --help` lists them.
    #[command(disable_help_flag = true)]
    Server,

    /// Take packets from the server and send them on (as mp_client does)
    ///
    /// Takes DPDK's arguments; `forebay client --help` lists them.
    #[command(disable_help_flag = true)]
    Client,

    /// Be a host on a port: answer ping, send every UDP datagram back (as udp_echo does)
    ///
    /// Takes DPDK's arguments; `forebay udp-echo --help` lists them.
    #[command(disable_help_flag = true)]
    UdpEcho,

    /// Ask a host whether it is there, from a port with TCP/IP of its own
    ///
    /// Takes DPDK's arguments; `forebay ping --help` lists them.
    #[command(disable_help_flag = true)]
    Ping,

    /// List groups and their processes, alive or dead
    #[command(after_help = "EXAMPLES:
    forebay list                              all groups that can be found
    forebay list --file-prefix lab --json     one group, for scripts

EXIT STATUS:
    0  done     1  no such group     2  wrong arguments")]
    List(list::ListArgs),

    /// List named memory zones, and the pages and NUMA nodes they really lie on
    #[command(after_help = "EXAMPLES:
    forebay zones                              zones of the group \"rte\"
    forebay zones --file-prefix lab --json     one object a zone, then one a NUMA node

EXIT STATUS:
    0  done     1  no such group     2  wrong arguments")]
    Zones(group::GroupArgs),

    /// List rings: fill, high-water mark, drops
    #[command(after_help = "EXAMPLES:
    forebay rings                              rings of the group \"rte\"
    forebay rings --file-prefix lab --json     one object a ring

EXIT STATUS:
    0  done     1  no such group     2  wrong arguments")]
    Rings(group::GroupArgs),

    /// List buffer pools: how many buffers are in use, and where
    #[command(after_help = "EXAMPLES:
    forebay pools                              pools of the group \"rte\"
    forebay pools --file-prefix lab --json     one object a pool

EXIT STATUS:
    0  done     1  no such group     2  wrong arguments")]
    Pools(group::GroupArgs),

    /// Tell what sweeps after deaths gave back, by the place where it was found
    #[command(after_help = "EXAMPLES:
    forebay recovered                              the group \"rte\"
    forebay recovered --file-prefix lab --json     one object, for scripts

EXIT STATUS:
    0  done     1  no such group     2  wrong arguments")]
    Recovered(group::GroupArgs),

    /// Walk all memory and find every buffer of every pool exactly once
    ///
    /// Reads magazines, rings and tags itself, sharing no code with what it checks. While packets
    /// move, what looks wrong is looked at again, and only what stays wrong counts.
    #[command(after_help = "EXAMPLES:
    forebay check                                       the group \"rte\"
    forebay check --file-prefix lab --passes 1 --json   one look, one object a pool

EXIT STATUS:
    0  every buffer is in one place     1  some are not, or no such group     2  wrong arguments")]
    Check(check::CheckArgs),

    /// Take away what a group left whose processes are all dead
    #[command(after_help = "EXAMPLES:
    forebay clean                              the group \"rte\"
    forebay clean --file-prefix lab --json     another one, for scripts

EXIT STATUS:
    0  nothing is left     1  a process of the group lives     2  wrong arguments")]
    Clean(group::GroupArgs),

    /// The hosts of `demo --local`, in a process of their own.
    #[command(hide = true)]
    DemoHosts(demo::HostsArgs),
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    // DPDK's arguments are no matter of clap's.
    match args.get(1).map(String::as_str) {
        Some("server") => return forebay::pipeline::server("forebay server", without_first(args)),
        Some("client") => return forebay::pipeline::client("forebay client", without_first(args)),
        Some("udp-echo") => {
            return forebay::udp_echo::udp_echo("forebay udp-echo", without_first(args));
        }
        Some("ping") => return forebay::ping::ping("forebay ping", without_first(args)),
        _ => {}
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match run(cli.task) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read the results has seen enough.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&forebay::pipeline::in_one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// Does the task; `false` if it came out badly and has said so itself.
fn run(task: Task) -> anyhow::Result<bool> {
    match task {
        Task::Demo(args) => demo::run(&args),
        Task::DemoHosts(args) => demo::run_hosts(&args),
        Task::List(args) => list::run(&args),
        Task::Zones(args) => zones::run(&args),
        Task::Rings(args) => rings::run(&args),
        Task::Pools(args) => pools::run(&args),
        Task::Recovered(args) => recovered::run(&args),
        Task::Check(args) => check::run(&args),
        Task::Clean(args) => clean::run(&args),
        Task::Server | Task::Client | Task::UdpEcho | Task::Ping => {
            unreachable!("handed over before clap saw them")
        }
    }
}

/// The arguments of a subcommand, its own name first.
fn without_first(mut args: Vec<String>) -> Vec<String> {
    args.remove(0);
    args
}

/// Prints what clap has to say: help on stdout, an error in one line on stderr.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe: whoever asked has seen enough.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            tell("no task given; `forebay --help` lists them");
            ExitCode::from(2)
        }
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or("wrong arguments");
            let mut line = first.strip_prefix("error: ").unwrap_or(first).to_owned();
            let near = [
                ContextKind::SuggestedArg,
                ContextKind::SuggestedSubcommand,
                ContextKind::SuggestedValue,
            ];
            if let Some(near) = near.into_iter().find_map(|kind| error.get(kind)) {
                line.push_str(&format!("; did you mean {near}?"));
            } else if let Some(values) = error.get(ContextKind::ValidValue) {
                line.push_str(&format!("; take one of {values}"));
            }
            tell(&format!("{line}; see `forebay --help`"));
            ExitCode::from(2)
        }
    }
}

/// Says what went wrong. Who closed stderr does not want to hear it.
fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "forebay: {line}");
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_of_each_task_has_examples_and_exit_codes() {
        let mut command = Cli::command();
        for task in command.get_subcommands_mut() {
            // The pipeline has help of its own.
            let has_its_own = ["server", "client", "udp-echo", "ping"];
            if task.is_hide_set() || has_its_own.contains(&task.get_name()) {
                continue;
            }
            let help = task.render_long_help().to_string();
            let examples = help.matches("    forebay ").count();
            assert!(examples >= 2 && help.contains("EXIT STATUS"), "{help}");
        }
    }
}
