//! One child process: its output passed on line by line as it comes, and its tests counted.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use crate::tally::{SKIPPED, Tally};

/// What a finished child told.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Whether it ended with status 0.
    pub(crate) success: bool,
    /// What its test programs reported.
    pub(crate) tally: Tally,
}

/// Runs `command` to its end and streams what it prints.
///
/// # Errors
///
/// If it cannot be started.
pub(crate) fn run(command: &mut Command) -> io::Result<Outcome> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let tally = thread::scope(|scope| {
        let errors = scope.spawn(|| err.map(|err| pass_on(err, io::stderr())));
        let lines = out
            .map(|out| pass_on(out, io::stdout()))
            .unwrap_or_default();
        let errors = errors.join().ok().flatten().unwrap_or_default();
        let mut tally = lines.tally;
        tally += errors.tally;
        tally.reclassify(lines.skipped + errors.skipped);
        tally
    });
    Ok(Outcome {
        success: child.wait()?.success(),
        tally,
    })
}

/// What one stream of a child contained.
#[derive(Debug, Default)]
struct Lines {
    tally: Tally,
    skipped: usize,
}

fn pass_on(from: impl Read, mut to: impl Write) -> Lines {
    let mut lines = Lines::default();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        // Our own reader may have gone; the child must still be able to finish.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        let text = String::from_utf8_lossy(&line);
        if let Some(tally) = Tally::from_summary(text.trim_end()) {
            lines.tally += tally;
        }
        // With one test thread libtest leaves `test NAME ... ` open, and the line goes on there.
        if text.starts_with(SKIPPED) || text.contains(&format!(" ... {SKIPPED}")) {
            lines.skipped += 1;
        }
        line.clear();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_and_skips_of_a_stream_are_counted() {
        let text = "running 2 tests\nskipped: hugepages: none are free\n\
                    test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let mut copy = Vec::new();
        let lines = pass_on(text.as_bytes(), &mut copy);
        assert_eq!(copy, text.as_bytes());
        assert_eq!((lines.tally.passed, lines.skipped), (2, 1));
    }

    #[test]
    fn failure_of_the_child_is_told() {
        let outcome = run(Command::new("cargo").arg("no-such-subcommand")).unwrap();
        assert!(!outcome.success);
    }
}
