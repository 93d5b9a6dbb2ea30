//! Adds up what passed, failed and was skipped, from the lines that test programs print.

use std::fmt;
use std::ops::AddAssign;

/// How many tests ended in which way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// What a test that cannot run here writes at the start of a line, before the reason.
///
/// libtest counts such a test as passed, so one line moves one test from passed to skipped.
pub(crate) const SKIPPED: &str = "skipped: ";

impl Tally {
    pub(crate) const PASSED: Self = Self {
        passed: 1,
        failed: 0,
        skipped: 0,
    };
    pub(crate) const FAILED: Self = Self {
        passed: 0,
        failed: 1,
        skipped: 0,
    };
    pub(crate) const SKIPPED: Self = Self {
        passed: 0,
        failed: 0,
        skipped: 1,
    };

    /// Reads libtest's summary: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    pub(crate) fn from_summary(line: &str) -> Option<Self> {
        let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
        let mut tally = Self::default();
        for count in counts.split("; ") {
            let Some((number, what)) = count.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse() else { continue };
            match what {
                "passed" => tally.passed = number,
                "failed" => tally.failed = number,
                "ignored" => tally.skipped = number,
                _ => {}
            }
        }
        Some(tally)
    }

    /// Moves `count` tests, which libtest saw pass, to those that were skipped.
    pub(crate) fn reclassify(&mut self, count: usize) {
        let count = count.min(self.passed);
        self.passed -= count;
        self.skipped += count;
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_of_libtest_is_read() {
        let line = "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 7 filtered \
                    out; finished in 0.01s";
        let tally = Tally {
            passed: 3,
            failed: 2,
            skipped: 1,
        };
        assert_eq!(Tally::from_summary(line), Some(tally));
    }

    #[test]
    fn other_lines_are_no_summary() {
        assert_eq!(Tally::from_summary("test result_of_addition ... ok"), None);
        assert_eq!(Tally::from_summary("running 3 tests"), None);
    }

    #[test]
    fn skipped_test_is_not_passed() {
        let mut tally = Tally {
            passed: 3,
            failed: 0,
            skipped: 0,
        };
        tally.reclassify(2);
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 2 skipped");
        tally.reclassify(2);
        assert_eq!(tally.to_string(), "0 passed, 0 failed, 3 skipped");
    }
}
