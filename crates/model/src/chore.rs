//! What `cargo xtask model` runs: all scenarios, then all mutants, then the files of a region.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::explore::Explorer;
use crate::files;
use crate::scenarios;
use crate::table::{self, Known, Verdict};

/// How long one scenario may take.
const TIME_MAX: Duration = Duration::from_secs(60);

/// A real process's life, and what it is called.
type Life = (&'static str, fn() -> files::Verdict);

/// Real processes, killed at each system call.
const LIVES: [Life; 2] = [
    ("creating a group", files::creating),
    ("taking a group over", files::adopting),
];

pub(crate) fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let filter = arguments.next();
    let only = arguments.next();
    if let (Some(files::CHILD), Some(dir)) = (filter.as_deref(), &only) {
        return files::child(dir);
    }
    let mut explorer = match Explorer::new() {
        Ok(explorer) => explorer,
        Err(error) => {
            eprintln!("forebay-model: {error}");
            return ExitCode::FAILURE;
        }
    };
    let start = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    let mut known = Vec::new();
    let mut runs = 0;
    for scenario in scenarios::all() {
        if filter
            .as_ref()
            .is_some_and(|filter| !scenario.name.contains(filter))
        {
            continue;
        }
        explorer.prepare(&scenario);
        let outcome = explorer.explore(&scenario, None, (u64::MAX, TIME_MAX));
        runs += outcome.runs;
        let verdict = match (&outcome.failure, outcome.cut_short) {
            (Some(_), _) => "FAILED",
            (None, true) => "CUT SHORT",
            (None, false) => "ok",
        };
        println!(
            "scenario {} ... {verdict} ({} runs, {} steps, {} ends, {:.1} s)",
            scenario.name,
            outcome.runs,
            outcome.steps,
            outcome.ends,
            outcome.time.as_secs_f32()
        );
        if verdict == "ok" {
            passed += 1;
        } else {
            failed += 1;
        }
        if let Some((why, schedule)) = outcome.failure {
            println!("  {why}");
            schedule.iter().for_each(|line| println!("    {line}"));
            continue;
        }
        known.push(Known {
            scenario,
            runs: outcome.runs,
            reached: explorer.reached(),
            shared: explorer.shared(),
        });
    }
    println!("{runs} runs in {:.0} s", start.elapsed().as_secs_f32());
    // A part of a mutant's name in the second place; none at all when only some scenarios are asked for.
    if filter.as_deref().is_none_or(str::is_empty) || only.is_some() {
        for row in table::run(&mut explorer, &mut known, only.as_deref()) {
            match row.verdict {
                Verdict::Uncaught => failed += 1,
                Verdict::Caught(..) | Verdict::Harmless(_) => passed += 1,
            }
        }
    }
    let mut skipped = 0;
    for (name, life) in LIVES {
        if filter
            .as_ref()
            .is_some_and(|filter| !name.contains(filter.as_str()))
        {
            continue;
        }
        let start = Instant::now();
        match life() {
            files::Verdict::Held(deaths) => {
                passed += 1;
                let time = start.elapsed().as_secs_f32();
                println!("life {name} ... ok ({deaths} deaths, {time:.1} s)");
            }
            files::Verdict::Skipped(why) => {
                skipped += 1;
                println!("life {name} ... skipped: {why}");
            }
            files::Verdict::Failed(why) => {
                failed += 1;
                println!("life {name} ... FAILED\n  {why}");
            }
        }
    }
    println!(
        "test result: {}. {passed} passed; {failed} failed; {skipped} ignored; finished in {:.0}s",
        if failed == 0 { "ok" } else { "FAILED" },
        start.elapsed().as_secs_f32()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
