//! Who keeps a lock whose owner is dead: for messages.
//!
//! A lock belongs to an open file description, and a forked child shares those of its parent: it
//! keeps the parent's bytes held after the parent's death. `/proc/PID/fdinfo` shows the locks of
//! each descriptor. What is found is shown to the user and decides nothing else.

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::control::is_served;
use crate::directory::{Directory, LOCK};
use crate::error::Living;
use crate::lock::{PRIMARY_BYTE, slot_byte};
use crate::process::SlotId;
use crate::region::Observer;

/// What is read of one descriptor: more than it has, unless it watches hundreds of others.
const INFO_MAX: u64 = 16 << 10;
/// What is read of a process's map.
const MAPS_MAX: u64 = 4 << 20;

/// Who keeps the lock of a slot, but for ourselves.
pub(crate) fn of_slot(directory: &Directory, slot: SlotId) -> Vec<Living> {
    keepers(&directory.path().join(LOCK), slot_byte(slot))
}

/// The child of a dead primary that keeps its lock, if that is what keeps it: it is not the one
/// that the region names, it does not map the region, as no forked child does, and no primary that
/// lives listens. Whoever has only just become the primary looks like that for a moment too, so
/// this is asked after some time, and twice.
pub(crate) fn of_dead_primary(directory: &Directory) -> Option<Living> {
    let named = Observer::of(directory).ok()?;
    let (primary, info) = (named.primary()?, named.region().info());
    let (control, _) = info.files?;
    let keepers = keepers(&directory.path().join(LOCK), PRIMARY_BYTE);
    let is_it = keepers.iter().any(|keeper| keeper.pid == primary.pid);
    if is_it || is_served(directory.path(), directory.prefix()) {
        return None;
    }
    keepers
        .into_iter()
        .find(|keeper| maps(keeper.pid, &control) == Some(false))
}

/// Who holds that byte of the lock by a description of his, but for ourselves.
fn keepers(lock: &Path, byte: i64) -> Vec<Living> {
    let (Ok(lock), Ok(processes)) = (lock.metadata(), fs::read_dir("/proc")) else {
        return Vec::new();
    };
    let file = FileName::of(lock.dev(), lock.ino());
    let pids = processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != std::process::id());
    pids.filter(|pid| holds(*pid, &file, byte))
        .map(|pid| Living {
            pid,
            name: name_of(pid),
        })
        .collect()
}

/// Whether one of the process's descriptors holds the byte. One that may not be asked after does not.
fn holds(pid: u32, file: &FileName, byte: i64) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else {
        return false;
    };
    descriptors.flatten().any(|entry| {
        read(&entry.path(), INFO_MAX)
            .lines()
            .filter_map(|line| line.strip_prefix("lock:"))
            .any(|lock| is_lock_on(lock, file, byte))
    })
}

/// How the kernel names a file where it lists locks.
#[derive(Debug, PartialEq, Eq)]
struct FileName(String);

impl FileName {
    fn of(dev: u64, ino: u64) -> Self {
        let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
        Self(format!("{major:02x}:{minor:02x}:{ino}"))
    }
}

/// Takes a line of `fdinfo` apart: `1: OFDLCK ADVISORY  WRITE -1 00:1a:4711 3 3`, or `EOF` at the end.
fn is_lock_on(line: &str, file: &FileName, byte: i64) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| *word != file.0);
    let (_, first, last) = (words.next(), words.next(), words.next());
    let first = first.and_then(|first| first.parse::<i64>().ok());
    let last = last.map(|last| last.parse().unwrap_or(i64::MAX));
    matches!((first, last), (Some(first), Some(last)) if (first..=last).contains(&byte))
}

/// Whether the process maps the file; `None` if it cannot be asked after.
fn maps(pid: u32, file: &Path) -> Option<bool> {
    let wanted = format!(" {} ", file.metadata().ok()?.ino());
    let maps = read(Path::new(&format!("/proc/{pid}/maps")), MAPS_MAX);
    let path = file.to_str()?;
    (!maps.is_empty()).then(|| {
        maps.lines()
            .any(|line| line.contains(&wanted) && line.contains(path))
    })
}

/// What the process calls itself.
fn name_of(pid: u32) -> String {
    let name = read(Path::new(&format!("/proc/{pid}/comm")), 64);
    name.chars().filter(|letter| !letter.is_control()).collect()
}

/// The start of a file; nothing if it cannot be read.
fn read(path: &Path, len_max: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(len_max).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_file_and_its_bytes() {
        let file = FileName::of(rustix::fs::makedev(0, 0x1a), 4711);
        assert_eq!(file.0, "00:1a:4711");
        let line = "\t1: OFDLCK ADVISORY  WRITE -1 00:1a:4711 3 5";
        for (byte, held) in [(2, false), (3, true), (5, true), (6, false)] {
            assert_eq!(is_lock_on(line, &file, byte), held, "{byte}");
        }
        assert!(is_lock_on(
            "1: OFDLCK ADVISORY READ -1 00:1a:4711 0 EOF",
            &file,
            9
        ));
        assert!(!is_lock_on(line, &FileName::of(0, 4711), 3));
        assert!(!is_lock_on("\t1: OFDLCK 00:1a:4711", &file, 0));
        assert!(!is_lock_on("", &file, 0));
    }
}
