//! Values of options: sizes, log levels, names.

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;

use crate::directory::PREFIX_MAX;

/// The largest `-m`: 16 TiB, more than any machine has, and far from overflowing a byte count.
pub const MEMORY_MB_MAX: u64 = 1 << 24;

/// How much the program says; DPDK's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// The system is unusable (1).
    Emergency = 1,
    /// Somebody must act at once (2).
    Alert,
    /// A part has failed (3).
    Critical,
    /// An operation has failed (4).
    Error,
    /// Something is not as it should be (5).
    Warning,
    /// Normal, and worth a line (6).
    Notice,
    /// What goes on (7).
    Info,
    /// Everything (8).
    Debug,
}

impl LogLevel {
    /// All levels, gravest first.
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Info,
        Self::Debug,
    ];

    /// The name that `--log-level` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Alert => "alert",
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The same for `tracing`, which has five levels.
    pub fn filter(self) -> LevelFilter {
        match self {
            Self::Emergency | Self::Alert | Self::Critical | Self::Error => LevelFilter::ERROR,
            Self::Warning => LevelFilter::WARN,
            Self::Notice | Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::TRACE,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LogLevel {
    type Err = String;

    /// Reads a name or a number from 1 to 8.
    fn from_str(text: &str) -> Result<Self, String> {
        let by_number = text
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_sub(1));
        let level = match by_number {
            Some(index) => Self::ALL.get(index).copied(),
            None => Self::ALL.into_iter().find(|level| level.name() == text),
        };
        level.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("a level is one of {names}, or a number from 1 to 8")
        })
    }
}

/// Reads `LEVEL` or `COMPONENT:LEVEL` (DPDK also takes `,` there).
pub(super) fn log_rule(text: &str) -> Result<(Option<String>, LogLevel), String> {
    match text.rsplit_once([':', ',']) {
        None => Ok((None, text.parse()?)),
        Some(("", _)) => Err("a component stands before the `:`, for example `eal:debug`".into()),
        Some((component, level)) => Ok((Some(component.to_owned()), level.parse()?)),
    }
}

/// Reads an amount of memory: megabytes, or a number with `M` or `G`.
pub(super) fn megabytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'M' | 'm')) => (&text[..at], 1),
        Some((at, 'G' | 'g')) => (&text[..at], 1024),
        _ => (text, 1),
    };
    let number = whole(digits)
        .ok_or("an amount of memory is a number of megabytes, or a number with M or G: `64M`")?;
    match number.checked_mul(factor) {
        Some(1..=MEMORY_MB_MAX) => Ok(number * factor),
        _ => Err(format!("it must be from 1 to {MEMORY_MB_MAX} megabytes")),
    }
}

/// Reads DPDK's list of amounts, one a NUMA node; a node may have none.
pub(super) fn megabytes_by_node(text: &str) -> Result<Vec<u64>, String> {
    let amounts = text.split(',').map(|amount| match amount {
        "0" => Ok(0),
        amount => megabytes(amount),
    });
    let amounts: Vec<u64> = amounts.collect::<Result<_, _>>()?;
    match amounts
        .iter()
        .try_fold(0_u64, |sum, amount| sum.checked_add(*amount))
    {
        Some(1..=MEMORY_MB_MAX) => Ok(amounts),
        _ => Err(format!(
            "together it must be from 1 to {MEMORY_MB_MAX} megabytes"
        )),
    }
}

/// Reads a plain decimal number: digits and nothing else.
pub(super) fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Reads an address: hexadecimal with `0x`, or decimal.
pub(super) fn address(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u64::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        None => whole(text),
    };
    number.ok_or_else(|| "an address is a number, for example `0x100000000`".to_owned())
}

/// Checks a file prefix: it becomes the name of a directory.
pub(super) fn prefix(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if text.is_empty() || text.len() > PREFIX_MAX {
        return Err(format!("a prefix has from 1 to {PREFIX_MAX} characters"));
    }
    if !text.bytes().all(fits) || text.starts_with(['.', '-']) {
        return Err("a prefix is made of letters, digits, `_`, `-` and `.`, \
                    and starts with none of the last two"
            .into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_megabytes_or_carry_a_unit() {
        assert_eq!(megabytes("64"), Ok(64));
        assert_eq!(megabytes("64M"), Ok(64));
        assert_eq!(megabytes("1G"), Ok(1024));
        for wrong in [
            "",
            "0",
            "M",
            "-1",
            "+1",
            "1T",
            "64 M",
            "1.5G",
            "18446744073709551615G",
            "é",
        ] {
            assert!(megabytes(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(megabytes_by_node("64,0,1G"), Ok(vec![64, 0, 1024]));
        for wrong in ["", "0", "0,0", "64,", "16777216,1"] {
            assert!(megabytes_by_node(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn log_levels_are_names_or_numbers_and_may_name_a_component() {
        assert_eq!(log_rule("7"), Ok((None, LogLevel::Info)));
        assert_eq!(log_rule("debug"), Ok((None, LogLevel::Debug)));
        assert_eq!(
            log_rule("lib.eal:8"),
            Ok((Some("lib.eal".into()), LogLevel::Debug))
        );
        assert_eq!(
            log_rule("pmd.*,error"),
            Ok((Some("pmd.*".into()), LogLevel::Error))
        );
        for wrong in ["", "0", "9", "loud", "eal:", ":7"] {
            assert!(log_rule(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_prefix_cannot_leave_its_directory() {
        assert_eq!(prefix("rte"), Ok("rte".into()));
        assert_eq!(prefix("lab-1.b_2"), Ok("lab-1.b_2".into()));
        let long = "x".repeat(PREFIX_MAX + 1);
        for wrong in ["", ".", "..", "a/b", "../a", "-a", "a b", "a\0", "ä", &long] {
            assert!(prefix(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn addresses_are_hexadecimal_or_decimal() {
        assert_eq!(address("0x100000000"), Ok(1 << 32));
        assert_eq!(address("4096"), Ok(4096));
        for wrong in ["", "0x", "0x+1", "x", "0x10000000000000000"] {
            assert!(address(wrong).is_err(), "{wrong:?}");
        }
    }
}
