//! What programs could leave behind on a machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where regions may lie.
const REGION_FOLDERS: [&str; 2] = ["/dev/shm", "/dev/hugepages"];

/// The files that a group under one prefix has on the machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Leftovers {
    files: BTreeSet<PathBuf>,
}

impl Leftovers {
    /// Looks for what belongs to `prefix`: files of that name where regions lie, and whatever is
    /// below its runtime directory.
    pub fn of(prefix: &str, runtime_dir: &Path) -> Self {
        let mut files = BTreeSet::new();
        for folder in REGION_FOLDERS {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().contains(prefix) {
                    files.insert(entry.path());
                }
            }
        }
        walk(runtime_dir, &mut files);
        Self { files }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(PathBuf::as_path)
    }
}

fn walk(folder: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, files);
        } else {
            files.insert(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_a_group_is_found_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Leftovers::of("no-such-prefix", dir.path()).is_empty());
        fs::create_dir(dir.path().join("fb")).unwrap();
        assert!(Leftovers::of("no-such-prefix", dir.path()).is_empty());
        fs::write(dir.path().join("fb/lock"), "").unwrap();
        let found = Leftovers::of("no-such-prefix", dir.path());
        assert_eq!(
            found.files().collect::<Vec<_>>(),
            [dir.path().join("fb/lock")]
        );
    }
}
