//! What all programs begin with: help, arguments, the log, and how an error becomes a line and a status.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use eal::args::LogLevel;
use eal::{ArgsError, EalArgs};
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;

use crate::words::Usage;

/// Runs `main` with the arguments before and behind `--`, unless help is asked for. What is wrong is said in one line on stderr.
pub(crate) fn run(
    program: &str,
    args: Vec<String>,
    help: &str,
    main: fn(EalArgs, &[String]) -> anyhow::Result<()>,
) -> ExitCode {
    let main = |args, rest: &[String]| main(args, rest).map(|()| ExitCode::SUCCESS);
    run_to(program, args, help, 1, main)
}

/// The same for a program that says itself how it ends, and `failed` if that is by an error; wrong arguments are 2.
pub(crate) fn run_to(
    program: &str,
    args: Vec<String>,
    help: &str,
    failed: u8,
    main: impl FnOnce(EalArgs, &[String]) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    if args
        .iter()
        .skip(1)
        .any(|arg| arg == "-h" || arg == "--help")
    {
        println!(
            "{}",
            help.replace("PROGRAM", program)
                .replace("EAL_OPTIONS", EalArgs::help())
        );
        return ExitCode::SUCCESS;
    }
    // Before the first other thread, the log's: the kernel does it at once for a process of one thread, and takes a grace period of
    // its own for others, in which they cannot even be killed. What came of it `Eal::init` tells.
    let _ = eal::barrier::register();
    let outcome = EalArgs::parse(args)
        .map_err(anyhow::Error::from)
        .and_then(|(args, rest)| {
            let _log = log_to_stderr(&args);
            main(args, &rest)
        });
    match outcome {
        Ok(status) => status,
        Err(error) => {
            eprintln!("{program}: {}", in_one_line(&error));
            ExitCode::from(if is_usage(&error) { 2 } else { failed })
        }
    }
}

/// An error and its causes, but for those that are in the sentence already.
pub fn in_one_line(error: &anyhow::Error) -> String {
    error
        .chain()
        .fold(String::new(), |line, cause| match cause.to_string() {
            cause if line.is_empty() => cause,
            cause if line.contains(&cause) => line,
            cause => format!("{line}: {cause}"),
        })
}

/// Whether the command line is to blame.
fn is_usage(error: &anyhow::Error) -> bool {
    error.is::<Usage>()
        || error.is::<ArgsError>()
        || error.downcast_ref().is_some_and(ethdev::Error::is_usage)
}

/// Notices go to stderr, one line each, down to the level that `--log-level` names. By a thread of their own, which drops what
/// nobody reads: a terminal that stands still must not stop the guard, the control socket or the packets. Dropping what is
/// returned writes the rest.
fn log_to_stderr(args: &EalArgs) -> WorkerGuard {
    let level = match args.log_level {
        Some(LogLevel::Debug) => LevelFilter::TRACE,
        None | Some(LogLevel::Info | LogLevel::Notice) => LevelFilter::INFO,
        Some(LogLevel::Warning) => LevelFilter::WARN,
        Some(_) => LevelFilter::ERROR,
    };
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    // A process that set a log up already keeps it.
    let _ = tracing_subscriber::fmt()
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .try_init();
    guard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_that_was_told_is_not_told_again() {
        let error = anyhow::anyhow!("no")
            .context("cannot open x: no; make it")
            .context("the demo");
        assert_eq!(in_one_line(&error), "the demo: cannot open x: no; make it");
    }
}
