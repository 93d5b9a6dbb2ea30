//! An archive that a kernel starts from: cpio, the format of `newc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;

/// Files and the folders they lie in.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    there: BTreeSet<PathBuf>,
}

impl Archive {
    /// Adds a folder, and those above it.
    pub(crate) fn folder(&mut self, path: impl AsRef<Path>) {
        let path = plain(path.as_ref());
        let above: Vec<_> = path.ancestors().map(Path::to_owned).collect();
        for folder in above.into_iter().rev() {
            if folder != Path::new("") && self.there.insert(folder.clone()) {
                self.entry(&folder, FOLDER, &[]);
            }
        }
    }

    /// Adds a file, unless it is there.
    pub(crate) fn file(&mut self, path: impl AsRef<Path>, content: &[u8], runs: bool) {
        let path = plain(path.as_ref());
        self.folder(path.parent().unwrap_or(Path::new("")));
        if self.there.insert(path.clone()) {
            self.entry(&path, if runs { PROGRAM } else { FILE }, content);
        }
    }

    /// Adds a program or library of this machine.
    pub(crate) fn copy(&mut self, from: &Path, to: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.file(to, &content, true);
        Ok(())
    }

    /// The archive, with its end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("TRAILER!!!"), 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) {
        let name = path.to_string_lossy();
        let number = self.there.len();
        let links = 1;
        self.bytes.extend_from_slice(b"070701");
        let fields = [
            number,
            mode as usize,
            0,
            0,
            links,
            0,
            content.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        for field in fields {
            self.bytes.extend(format!("{field:08x}").into_bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents end at a multiple of four.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Without the root.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_lies_in_them_and_nothing_comes_twice() {
        let mut archive = Archive::default();
        archive.file("/a/b/file", b"12345", false);
        archive.file("/a/b/file", b"other", false);
        archive.folder("/a");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let places = ["a\0", "a/b\0", "a/b/file\0", "12345", "TRAILER!!!\0"].map(|part| {
            let found: Vec<_> = text.match_indices(part).collect();
            found.last().unwrap().0
        });
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(text.matches("070701").count(), 4);
        assert!(!text.contains("other"));
    }
}
