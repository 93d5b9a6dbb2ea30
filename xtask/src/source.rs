//! A Rust source file taken apart: code, comments and string literals.
//!
//! No parser: just enough of a scanner that a word in a comment is not taken for code.

use std::path::{Path, PathBuf};

/// The three kinds of text in a source file. Code and comments keep their line numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    /// The file with comments and the contents of literals left out.
    pub(crate) code: String,
    /// The comments alone, each on its own line.
    pub(crate) comments: String,
    /// The contents of the string literals, in order, escapes as written.
    pub(crate) strings: Vec<String>,
}

impl Source {
    /// Takes `text` apart. Never fails: what is not Rust gives nonsense, but no panic.
    pub(crate) fn scan(text: &str) -> Self {
        let mut source = Self::default();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let after_word = source
                .code
                .ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let len = if rest.starts_with("//") {
                source.comment(rest, rest.find('\n').unwrap_or(rest.len()))
            } else if rest.starts_with("/*") {
                source.comment(rest, block_comment_len(rest))
            } else if let Some(hashes) = raw_string(rest).filter(|_| !after_word) {
                source.raw_string(rest, hashes)
            } else if first == '"' {
                source.string(rest)
            } else if let Some(len) = char_literal_len(rest) {
                source.code.push_str("' '");
                len
            } else {
                source.code.push(first);
                if first == '\n' {
                    source.comments.push('\n');
                }
                first.len_utf8()
            };
            rest = &rest[len..];
        }
        source
    }

    fn comment(&mut self, rest: &str, len: usize) -> usize {
        self.comments.push_str(&rest[..len]);
        self.lines(&rest[..len]);
        len
    }

    fn string(&mut self, rest: &str) -> usize {
        let mut escaped = false;
        let end = rest[1..].find(|c| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let end = end.map_or(rest.len(), |end| end + 1);
        self.literal(&rest[1..end]);
        (end + 1).min(rest.len())
    }

    fn raw_string(&mut self, rest: &str, hashes: usize) -> usize {
        let start = rest.find('"').map_or(rest.len(), |quote| quote + 1);
        let close = format!("\"{}", "#".repeat(hashes));
        let end = rest[start..]
            .find(&close)
            .map_or(rest.len(), |end| start + end);
        self.literal(&rest[start..end]);
        (end + close.len()).min(rest.len())
    }

    fn literal(&mut self, contents: &str) {
        self.code.push('"');
        self.lines(contents);
        self.comments
            .push_str(&"\n".repeat(contents.matches('\n').count()));
        self.code.push('"');
        self.strings.push(contents.to_owned());
    }

    fn lines(&mut self, left_out: &str) {
        self.code
            .push_str(&"\n".repeat(left_out.matches('\n').count()));
    }

    /// Whether `word` stands in the code, on its own.
    pub(crate) fn has_word(&self, word: &str) -> bool {
        self.words().any(|found| found == word)
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.code
            .split(|c: char| !(c.is_alphanumeric() || c == '_'))
    }

    /// The files that the `mod NAME;` lines of the file at `path` may mean, by module. `is_root` says
    /// whether it is the first file of a target.
    pub(crate) fn modules(&self, path: &Path, is_root: bool) -> Vec<[PathBuf; 2]> {
        let dir = path.parent().unwrap_or(Path::new(""));
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        let inside = if is_root || stem == "mod" {
            dir.to_owned()
        } else {
            dir.join(stem)
        };
        let words: Vec<&str> = self
            .code
            .split_inclusive([';', '{', '}'])
            .flat_map(split_words)
            .collect();
        let mut modules: Vec<_> = words
            .windows(3)
            .filter(|three| three[0] == "mod" && three[2] == ";")
            .map(|three| {
                let file = format!("{}.rs", three[1]);
                [inside.join(file), inside.join(three[1]).join("mod.rs")]
            })
            .collect();
        // `#[path = "..."]` counts from the folder of the file that says it.
        let named = self.strings.iter().filter(|text| text.ends_with(".rs"));
        if self.code.contains("#[path") {
            modules.extend(named.map(|file| [dir.join(file), dir.join(file)]));
        }
        modules
    }

    /// How many lines of `text` are not inside a `#[cfg(test)]` module.
    pub(crate) fn lines_without_tests(text: &str) -> usize {
        let mut count = 0;
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let opens = |next: &&str| next.starts_with("mod ") && next.ends_with('{');
            let is_test = line.starts_with("#[cfg(test)]")
                || line.starts_with("#[cfg(all(test")
                || line.starts_with("#[cfg(loom)]");
            if is_test && lines.peek().is_some_and(opens) {
                lines.by_ref().find(|line| *line == "}");
            } else {
                count += 1;
            }
        }
        count
    }
}

fn split_words(piece: &str) -> Vec<&str> {
    let (body, end) = match piece.char_indices().next_back() {
        Some((at, ';' | '{' | '}')) => piece.split_at(at),
        _ => (piece, ""),
    };
    let mut words: Vec<&str> = body.split_whitespace().collect();
    words.push(end);
    words
}

/// The number of `#` if `rest` begins a raw string.
fn raw_string(rest: &str) -> Option<usize> {
    let rest = rest
        .strip_prefix('b')
        .or_else(|| rest.strip_prefix('c'))
        .unwrap_or(rest);
    let rest = rest.strip_prefix('r')?;
    let hashes = rest.find(|c| c != '#')?;
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn block_comment_len(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// Bytes of a character literal; `None` for a lifetime.
fn char_literal_len(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let mut chars = inner.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next()?;
        return inner[2..].find('\'').map(|end| end + 4);
    }
    let (end, second) = chars.next()?;
    (second == '\'').then_some(end + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = r##"let a = "un\"safe"; // unsafe
let b = r#"unsafe "x" "#; /* unsafe /* nested
*/ */ let c = '"'; let d: &'static str = b"q"; let e = '\''; done"##;
        let source = Source::scan(text);
        assert!(!source.has_word("unsafe"));
        assert!(source.has_word("done"));
        assert_eq!(source.strings, [r#"un\"safe"#, r#"unsafe "x" "#, "q"]);
        assert_eq!(source.code.lines().count(), 3);
        assert!(source.comments.contains("nested"));
    }

    #[test]
    fn word_is_found_only_whole() {
        let source = Source::scan("#![deny(unsafe_code)] not_unsafe");
        assert!(!source.has_word("unsafe"));
        assert!(Source::scan("unsafe{ x }").has_word("unsafe"));
    }

    #[test]
    fn unfinished_text_does_not_panic() {
        for text in [
            "\"", "r#\"", "/*", "'", "'\\", "//", "b'", "\"\\", "'é'", "r", "br##",
        ] {
            Source::scan(text);
        }
    }

    #[test]
    fn modules_are_looked_for_where_the_compiler_looks() {
        let source = Source::scan("pub mod a;\n#[cfg(test)]\nmod tests;\nmod inline { mod b; }");
        let of_lib = source.modules(Path::new("src/lib.rs"), true);
        assert_eq!(
            of_lib[0],
            [PathBuf::from("src/a.rs"), PathBuf::from("src/a/mod.rs")]
        );
        let of_file = source.modules(Path::new("src/region.rs"), false);
        assert_eq!(of_file[1][0], PathBuf::from("src/region/tests.rs"));
        let of_tests = source.modules(Path::new("src/tests/files.rs"), false);
        assert_eq!(of_tests[0][0], PathBuf::from("src/tests/files/a.rs"));
        let named = Source::scan("#[path = \"b_tests.rs\"]\nmod tests;");
        let named = named.modules(Path::new("src/b.rs"), false);
        assert_eq!(named[1][0], PathBuf::from("src/b_tests.rs"));
    }

    #[test]
    fn test_modules_do_not_count_as_lines() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n\nfn c() {}\n";
        assert_eq!(Source::lines_without_tests(text), 4);
    }
}
