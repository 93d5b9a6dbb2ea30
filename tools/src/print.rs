//! What a subcommand says: tables for people, one JSON object a line for programs.

use std::io::{self, BufWriter, StdoutLock, Write};

use serde::Serialize;

/// Where results go: stdout, in the form that was asked for.
#[derive(Debug)]
pub(crate) struct Output {
    out: BufWriter<StdoutLock<'static>>,
    json: bool,
}

impl Output {
    /// Writes JSON if `json`, else tables.
    pub(crate) fn new(json: bool) -> Self {
        Self {
            out: BufWriter::new(io::stdout().lock()),
            json,
        }
    }

    /// Shows one kind of row: a line each as JSON, or the table of them.
    pub(crate) fn rows<R: Row>(&mut self, rows: &[R]) -> io::Result<()> {
        if self.json {
            for row in rows {
                self.object(row)?;
            }
            return Ok(());
        }
        let cells: Vec<_> = rows.iter().map(Row::cells).collect();
        write!(
            self.out,
            "{}",
            Table {
                columns: R::COLUMNS,
                rows: &cells
            }
        )
    }

    /// One object, on a line of its own.
    fn object(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, object)?;
        self.out.write_all(b"\n")
    }

    /// An object for programs. People do not get it.
    pub(crate) fn if_json(&mut self, object: &impl Serialize) -> io::Result<()> {
        if self.json {
            self.object(object)
        } else {
            Ok(())
        }
    }

    /// A sentence for people. Programs do not get it.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        if self.json {
            Ok(())
        } else {
            writeln!(self.out, "{text}")
        }
    }

    /// Sends off what was said.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A row of a table, and an object for programs.
pub(crate) trait Row: Serialize {
    /// Headings; one that begins with a blank stands over numbers.
    const COLUMNS: &'static [&'static str];

    /// What stands under them.
    fn cells(&self) -> Vec<String>;
}

/// Columns as wide as what they hold.
#[derive(Debug)]
pub(crate) struct Table<'t> {
    /// As [`Row::COLUMNS`].
    pub(crate) columns: &'t [&'t str],
    /// As many cells each as there are columns.
    pub(crate) rows: &'t [Vec<String>],
}

impl std::fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut widths: Vec<_> = self.columns.iter().map(|name| name.trim().len()).collect();
        for row in self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for ((cell, width), column) in cells.zip(&widths).zip(self.columns) {
                let is_number = column.starts_with(' ');
                let cell = if is_number {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                text.push_str(&cell);
                text.push_str("  ");
            }
            text.trim_end().to_owned()
        };
        writeln!(
            f,
            "{}",
            line(&mut self.columns.iter().map(|name| name.trim()))
        )?;
        for row in self.rows {
            writeln!(f, "{}", line(&mut row.iter().map(String::as_str)))?;
        }
        Ok(())
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the unit that suits it: `4.0 KiB`, `38.5 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, so that no floating point is needed.
    let mut tenths = u128::from(bytes) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A time since something began: `45 s`, `12 min`, `3 h`, `9 d`.
pub(crate) fn since(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_from_the_right() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn size_takes_the_unit_that_suits_it() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536 << 10, "1.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn columns_line_up_numbers_at_the_right() {
        let rows = [
            vec!["a".into(), "1".into()],
            vec!["long".into(), "1000".into()],
        ];
        let table = Table {
            columns: &["NAME", " N"],
            rows: &rows,
        };
        assert_eq!(table.to_string(), "NAME     N\na        1\nlong  1000\n");
    }
}
