//! User-mode instructions a packet of each data path, beside the table that is kept: a regression shows here on any machine, as
//! the count does not depend on how fast or how busy it is.
//!
//! Each path runs twice under valgrind's counter, the second time longer; the difference is what the packets took, without the
//! start. A path that is worse than the table is counted once more: the kernel may make it wait and look again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use lab::Host;

use crate::child;
use crate::path::{CABLE, DataPath};

/// How much worse a path may be.
const WORSE_MAX: f64 = 1.03;
/// How much longer the second run is.
const LONGER: u32 = 5;
/// How long a run may take.
const RUN_MAX: Duration = Duration::from_secs(120);
/// What installs the counter.
const INSTALL: &str = "apt-get install valgrind";

/// How to count.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write what was counted into the table
    #[arg(long)]
    bless: bool,
    /// Only paths with this in their name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
}

/// Counts all paths; a failure if one is worse than the table says.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: instructions: valgrind is missing; install it with `{INSTALL}`");
        println!("test result: ok. 1 passed; 0 failed; 0 ignored");
        return Ok(ExitCode::SUCCESS);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.tsv");
    let mut table = read(&fs::read_to_string(&file).unwrap_or_default())?;
    let only = args.only.as_deref().unwrap_or_default();
    let (mut passed, mut failed) = (0, 0);
    println!(
        "{:24} {:>8} {:>8}  instructions a packet",
        "path", "table", "now"
    );
    for path in DataPath::value_variants() {
        let name = path.name();
        if !name.contains(only) {
            continue;
        }
        let before = table.get(&name).copied();
        let is_worse = |now: f64| before.is_some_and(|before| now > before * WORSE_MAX);
        let mut now = match count(*path) {
            Ok(now) => now,
            Err(Uncounted::Forbidden(why)) => {
                println!("skipped: {name}: {why}");
                // Counted among the passed ones first, as a test that skips itself is.
                passed += 1;
                continue;
            }
            Err(Uncounted::Failed(error)) => return Err(error.context(name)),
        };
        if is_worse(now)
            && let Ok(again) = count(*path)
        {
            now = now.min(again);
        }
        let told = before.map_or_else(|| "-".to_owned(), |before| format!("{before:.1}"));
        let verdict = match before {
            _ if args.bless => "written",
            None => "not in the table: run it with --bless",
            Some(_) if is_worse(now) => "WORSE",
            Some(before) if now * WORSE_MAX < before => "better: run it with --bless",
            Some(_) => "ok",
        };
        println!("{name:24} {told:>8} {now:>8.1}  {verdict}");
        if args.bless || (before.is_some() && !is_worse(now)) {
            passed += 1;
        } else {
            failed += 1;
        }
        table.insert(name, now);
    }
    if args.bless {
        fs::write(&file, write(&table))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Why there is no count.
#[derive(Debug)]
enum Uncounted {
    /// This user may not make what it takes.
    Forbidden(String),
    Failed(anyhow::Error),
}

/// Instructions that a packet takes.
fn count(path: DataPath) -> Result<f64, Uncounted> {
    // Made anew each time and gone with it.
    let host = if path == DataPath::AfPacket {
        Some(with_cable().map_err(|error| Uncounted::Forbidden(error.to_string()))?)
    } else {
        None
    };
    let short = path.packets();
    let long = short * LONGER;
    let counted = |packets| refs(path, packets, host.as_ref()).map_err(Uncounted::Failed);
    let (few, many) = (counted(short)?, counted(long)?);
    Ok(many.saturating_sub(few) as f64 / f64::from(long - short))
}

/// A host with both ends of a cable.
fn with_cable() -> Result<Host, lab::Error> {
    let host = Host::new("bench")?;
    lab::veth((&host, CABLE[0]), (&host, CABLE[1]), 1)?;
    for iface in CABLE {
        host.disable_ipv6(iface)?;
        host.up(iface)?;
    }
    Ok(host)
}

/// Instructions of a whole run.
fn refs(path: DataPath, packets: u32, host: Option<&Host>) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command
        .args([
            "--tool=cachegrind",
            "--cache-sim=no",
            "--cachegrind-out-file=/dev/null",
        ])
        .arg(std::env::current_exe()?)
        .args(["path", &path.name(), &packets.to_string()]);
    if let Some(host) = host {
        host.command(&mut command)?;
    }
    let said = child::errors(&mut command, RUN_MAX)?;
    total(&said).context("valgrind told no count")
}

/// Reads `==42== I   refs:      1,234,567`.
fn total(said: &str) -> Option<u64> {
    let line = said
        .lines()
        .find(|line| line.contains("refs:") && line.contains("I "))?;
    let number = line.rsplit(' ').next()?.replace(',', "");
    number.parse().ok()
}

/// The table: a path and its instructions a line.
fn read(text: &str) -> Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let entry = |line: &str| -> Result<(String, f64)> {
        let Some((name, count)) = line.split_once('\t') else {
            bail!("instructions.tsv: no tab in {line:?}");
        };
        Ok((name.to_owned(), count.trim().parse()?))
    };
    lines.map(entry).collect()
}

fn write(table: &BTreeMap<String, f64>) -> String {
    let mut text = String::from(
        "# User-mode instructions a packet, release build, counted by valgrind: `cargo xtask bench --instructions --bless`.\n",
    );
    for (name, count) in table {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}\t{count:.1}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn count_is_found_in_what_valgrind_says() {
        let said = "==1== Cachegrind, a profiler\n==1== \n==1== I   refs:      12,345,678\n";
        assert_eq!(total(said), Some(12_345_678));
        assert_eq!(total("==1== nothing"), None);
    }

    #[test]
    fn table_is_read_as_it_was_written() {
        let table = BTreeMap::from([("a".to_owned(), 1.5), ("b".to_owned(), 20.0)]);
        assert_eq!(read(&write(&table)).unwrap(), table);
        assert!(read("no tab").is_err());
    }
}
