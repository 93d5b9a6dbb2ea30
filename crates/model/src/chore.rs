//! What `cargo xtask model` runs: all scenarios, then all mutants, then the files of a region.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::explore::Explorer;
use crate::scenarios;
use crate::table::{self, Known, Verdict};

/// How long one scenario may take.
const TIME_MAX: Duration = Duration::from_secs(60);

pub(crate) fn main() -> ExitCode {
    let mut explorer = match Explorer::new() {
        Ok(explorer) => explorer,
        Err(error) => {
            eprintln!("forebay-model: {error}");
            return ExitCode::FAILURE;
        }
    };
    let start = Instant::now();
    let filter = std::env::args().nth(1);
    let only = std::env::args().nth(2);
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
    for row in table::run(&mut explorer, &mut known, only.as_deref()) {
        match row.verdict {
            Verdict::Uncaught => failed += 1,
            Verdict::Caught(..) | Verdict::Harmless(_) => passed += 1,
        }
    }
    println!(
        "test result: {}. {passed} passed; {failed} failed; 0 ignored; finished in {:.0}s",
        if failed == 0 { "ok" } else { "FAILED" },
        start.elapsed().as_secs_f32()
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
