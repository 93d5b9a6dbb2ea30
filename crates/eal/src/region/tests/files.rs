use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::super::*;
use crate::args::HugeChoice;
use crate::directory::Directory;
use crate::process::{Slot, SlotId};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

mod hostile;
mod processes;

/// A place for groups that is gone, with the files of its regions, when the test ends.
struct Lab {
    dir: TempDir,
}

impl Lab {
    fn new() -> Self {
        Self {
            dir: TempDir::with_prefix("forebay-test-").unwrap(),
        }
    }

    fn config(&self, proc_type: ProcType) -> RegionConfig {
        RegionConfig {
            runtime_dir: Some(self.dir.path().to_owned()),
            proc_type,
            huge: HugeChoice::Never,
            program: format!("test {proc_type}"),
            ..RegionConfig::new("lab", 4 << 20)
        }
    }

    fn join(&self, proc_type: ProcType) -> Result<(Region, Joined), Error> {
        Region::join(&self.config(proc_type))
    }

    fn primary(&self) -> Region {
        self.join(ProcType::Primary).unwrap().0
    }

    fn secondary(&self) -> Region {
        self.join(ProcType::Secondary).unwrap().0
    }

    fn observer(&self) -> Result<Observer, Error> {
        Observer::open(Some(self.dir.path()), "lab")
    }

    fn directory(&self) -> Directory {
        Directory::locate(Some(self.dir.path()), "lab")
            .unwrap()
            .unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Ok(directory) = Directory::find(Some(self.dir.path()), "lab", None) {
            let _ = directory.remove();
        }
    }
}

/// A region that lives as long as the test process, for slots.
fn kept(region: Region) -> &'static Region {
    Box::leak(Box::new(region))
}

#[test]
fn secondary_finds_what_the_primary_reserved_at_another_address() {
    let lab = Lab::new();
    let (primary, secondary) = (lab.primary(), lab.secondary());
    let zone = primary
        .reserve(ZoneKind::Pool, "pool", 1 << 20, 4096, None)
        .unwrap();
    let seen = secondary.lookup(ZoneKind::Pool, "pool").unwrap();
    assert_eq!((seen.offset(), seen.len()), (zone.offset(), 1 << 20));
    assert_ne!(seen.raw(0, 1).unwrap(), zone.raw(0, 1).unwrap());
    seen.get::<AtomicU64>(1 << 19)
        .unwrap()
        .store(77, Ordering::Relaxed);
    assert_eq!(
        zone.get::<AtomicU64>(1 << 19)
            .unwrap()
            .load(Ordering::Relaxed),
        77
    );
    assert!(matches!(
        secondary.reserve(ZoneKind::Pool, "x", 1, 0, None),
        Err(Error::NotPrimary { .. })
    ));
    assert_eq!(
        (primary.proc_type(), secondary.proc_type()),
        (ProcType::Primary, ProcType::Secondary)
    );
    let info = secondary.info();
    assert_eq!(
        (info.prefix.as_str(), info.primary_pid),
        ("lab", std::process::id())
    );
    assert_eq!(info.data_len, 4 << 20);
}

#[test]
fn second_primary_is_refused_by_name_and_auto_becomes_secondary() {
    let lab = Lab::new();
    let primary = lab.primary();
    let refused = lab.join(ProcType::Primary).unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains(&format!("test PRIMARY, process {}", std::process::id())),
        "{text}"
    );
    let (auto, joined) = lab.join(ProcType::Auto).unwrap();
    assert_eq!(
        (auto.proc_type(), joined),
        (ProcType::Secondary, Joined::Attached)
    );
    assert!(auto.primary_alive());
    drop(primary);
    assert!(!auto.primary_alive());
}

#[test]
fn refused_primary_and_attaching_auto_leave_the_access_of_a_living_group() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::new();
    let group = rustix::process::getegid().as_raw().to_string();
    let config = RegionConfig {
        group: Some(group),
        ..lab.config(ProcType::Primary)
    };
    let (_primary, _) = Region::join(&config).unwrap();
    let directory = lab.directory();
    let modes = || {
        [directory.path().to_owned(), directory.path().join("lock")]
            .map(|path| path.metadata().unwrap().permissions().mode() & 0o777)
    };
    assert_eq!(modes(), [0o750, 0o660]);
    lab.join(ProcType::Primary).unwrap_err();
    let _auto = lab.join(ProcType::Auto).unwrap();
    assert_eq!(modes(), [0o750, 0o660]);
}

#[test]
fn group_in_a_worse_place_is_found_by_primary_and_auto() {
    // The last of the usual places; a better one can be written where the tests run as root, or in a session.
    let user = rustix::process::geteuid().as_raw();
    let last = PathBuf::from(format!("/tmp/forebay-{user}"));
    let config = |runtime_dir, proc_type| RegionConfig {
        runtime_dir,
        proc_type,
        huge: HugeChoice::Never,
        ..RegionConfig::new(&format!("test-{}", std::process::id()), 4 << 20)
    };
    let join = |dir, proc_type| Region::join(&config(dir, proc_type));
    let (first, _) = join(Some(last.clone()), ProcType::Primary).unwrap();
    let second = join(None, ProcType::Primary);
    let auto = join(None, ProcType::Auto).unwrap();
    for region in [
        second.as_ref().ok().map(|(region, _)| region),
        Some(&auto.0),
    ] {
        region.map(Region::leave);
    }
    let removed = first.leave().unwrap();
    let _ = std::fs::remove_dir(&last);
    assert!(matches!(second, Err(Error::SecondPrimary { .. })));
    assert_eq!(auto.1, Joined::Attached);
    assert!(removed);
}

#[test]
fn auto_without_a_group_becomes_primary() {
    let lab = Lab::new();
    let (auto, joined) = lab.join(ProcType::Auto).unwrap();
    assert_eq!(
        (auto.proc_type(), joined),
        (ProcType::Primary, Joined::Created)
    );
}

#[test]
fn secondary_without_a_group_says_how_to_start_one_and_leaves_nothing_behind() {
    let lab = Lab::new();
    let text = lab.join(ProcType::Secondary).unwrap_err().to_string();
    assert!(text.contains("--file-prefix=lab"), "{text}");
    assert_eq!(lab.dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn runtime_dir_without_a_parent_is_refused_and_not_made() {
    let lab = Lab::new();
    let missing = lab.dir.path().join("missing");
    let config = RegionConfig {
        runtime_dir: Some(missing.join("groups")),
        ..lab.config(ProcType::Primary)
    };
    let text = Region::join(&config).unwrap_err().to_string();
    let named = format!("there is no directory {}; create it", missing.display());
    assert!(text.contains(&named), "{text}");
    assert!(!missing.exists());
}

#[test]
fn secondary_that_waits_joins_a_primary_that_starts_later() {
    let lab = Lab::new();
    let config = RegionConfig {
        wait: Duration::from_secs(20),
        ..lab.config(ProcType::Secondary)
    };
    let waiting = std::thread::spawn(move || Region::join(&config));
    std::thread::sleep(Duration::from_millis(100));
    let _primary = lab.primary();
    assert_eq!(waiting.join().unwrap().unwrap().1, Joined::Attached);
}

#[test]
fn next_primary_adopts_the_region_while_a_secondary_lives_and_starts_afresh_when_none_does() {
    let lab = Lab::new();
    let primary = lab.primary();
    primary
        .reserve(ZoneKind::Plain, "kept", 64, 0, None)
        .unwrap();
    let secondary = lab.secondary();
    let nonce = primary.info().nonce;
    drop(primary);
    let (next, joined) = lab.join(ProcType::Primary).unwrap();
    assert_eq!(
        (joined, next.info().nonce, next.info().adoptions),
        (Joined::Adopted, nonce, 1)
    );
    next.lookup(ZoneKind::Plain, "kept").unwrap();
    next.reserve(ZoneKind::Plain, "new", 64, 0, None).unwrap();
    secondary.lookup(ZoneKind::Plain, "new").unwrap();
    drop((next, secondary));
    let (afresh, joined) = lab.join(ProcType::Primary).unwrap();
    assert_eq!((joined, afresh.zones().count()), (Joined::Created, 0));
    assert_ne!(afresh.info().nonce, nonce);
    assert_eq!(region_files(&lab), 2);
}

/// Files of the lab's regions, wherever they are.
fn region_files(lab: &Lab) -> usize {
    lab.directory().leftovers().len()
}

#[test]
fn secondary_joins_a_whole_region_without_a_primary() {
    let lab = Lab::new();
    drop(lab.primary());
    let secondary = lab.secondary();
    assert!(!secondary.primary_alive());
    assert_eq!(lab.join(ProcType::Primary).unwrap().1, Joined::Adopted);
}

#[test]
fn last_primary_out_removes_everything_and_an_earlier_one_nothing() {
    let lab = Lab::new();
    let (earlier, secondary) = (lab.primary(), lab.secondary());
    let files = earlier.info().files.unwrap();
    assert!(!earlier.leave().unwrap());
    assert!(files.0.exists() && files.1.exists());
    let last = lab.primary();
    assert!(!secondary.leave().unwrap());
    assert!(files.0.exists() && files.1.exists());
    assert!(last.leave().unwrap());
    assert!(!files.0.exists() && !files.1.exists());
    assert_eq!(lab.dir.path().read_dir().unwrap().count(), 0);
    assert_eq!(lab.join(ProcType::Primary).unwrap().1, Joined::Created);
}

#[test]
fn process_that_left_lets_a_successor_in_and_changes_nothing_any_more() {
    let lab = Lab::new();
    let primary = kept(lab.primary());
    let secondary = kept(lab.secondary());
    let slot = Slot::claim(primary, "slot").unwrap();
    assert!(!primary.leave().unwrap(), "somebody lives");
    assert!(primary.is_primary(), "a slot is left");
    drop(slot);
    assert!(!primary.leave().unwrap());
    assert!(matches!(
        primary.reserve(ZoneKind::Plain, "late", 1, 0, None),
        Err(Error::NotPrimary { .. })
    ));
    assert!(matches!(
        Slot::claim(primary, "late"),
        Err(Error::ReadOnly { .. })
    ));
    let (next, joined) = lab.join(ProcType::Primary).unwrap();
    assert_eq!(joined, Joined::Adopted);
    drop(next);
    assert!(!secondary.leave().unwrap());
    assert_eq!(lab.join(ProcType::Primary).unwrap().1, Joined::Created);
}

#[test]
fn primary_that_cannot_remove_its_group_lets_a_successor_in() {
    let lab = Lab::new();
    let primary = lab.primary();
    let trap = lab.directory().doorbell_path(SlotId::new(5).unwrap());
    std::fs::remove_file(&trap).unwrap();
    std::fs::create_dir(&trap).unwrap();
    assert!(matches!(primary.leave(), Err(Error::Io { .. })));
    assert!(!primary.is_primary());
    assert_eq!(lab.join(ProcType::Primary).unwrap().1, Joined::Created);
    std::fs::remove_dir(&trap).unwrap();
}

#[test]
fn memory_for_a_node_that_is_not_there_is_refused_and_leaves_nothing() {
    let lab = Lab::new();
    let config = |socket_mem| RegionConfig {
        socket_mem,
        ..lab.config(ProcType::Primary)
    };
    let mut beyond = vec![0; numa::nodes().len()];
    beyond[0] = 2 << 20;
    beyond.push(2 << 20);
    let node = u32::try_from(beyond.len() - 1).unwrap();
    let text = Region::join(&config(beyond)).unwrap_err().to_string();
    assert!(
        text.contains(&format!("no NUMA node {node}")) && text.contains("this machine has"),
        "{text}"
    );
    assert_eq!(lab.dir.path().read_dir().unwrap().count(), 0);
    // As with `-m`, in whole huge pages.
    let (primary, _) = Region::join(&config(vec![3 << 20])).unwrap();
    let [section] = primary.sections() else {
        panic!("{:?}", primary.sections())
    };
    assert_eq!((section.node, section.len), (0, 4 << 20));
    assert_eq!(lab.secondary().sections(), primary.sections());
    let pages = lab.observer().unwrap().region().pages().unwrap();
    let nodes: Vec<_> = pages.of(0, 4 << 20).iter().map(|one| one.node).collect();
    assert_eq!(nodes, [Some(0)]);
}

#[test]
fn region_lies_on_hugepages_where_there_are_some_and_says_how_to_get_them_where_not() {
    let lab = Lab::new();
    let config = RegionConfig {
        huge: HugeChoice::Required,
        ..lab.config(ProcType::Primary)
    };
    match Region::join(&config) {
        Ok((primary, _)) => {
            assert_eq!(
                (primary.info().backing, primary.info().data_len % (2 << 20)),
                (Backing::Huge, 0)
            );
            let zone = primary
                .reserve(ZoneKind::Plain, "z", 1 << 20, 4096, Some(0))
                .unwrap();
            zone.get::<AtomicU64>(0)
                .unwrap()
                .store(3, Ordering::Relaxed);
            let secondary = lab.secondary();
            let seen = secondary.lookup(ZoneKind::Plain, "z").unwrap();
            assert_eq!(seen.get::<AtomicU64>(0).unwrap().load(Ordering::Relaxed), 3);
            drop(secondary);
            assert!(primary.leave().unwrap());
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("2 hugepages of 2048 kB are needed"), "{text}");
            assert!(
                text.contains("sysctl vm.nr_hugepages=") && text.contains("--no-huge"),
                "{text}"
            );
            assert_eq!(
                lab.dir.path().read_dir().unwrap().count(),
                0,
                "nothing is left behind"
            );
        }
    }
    // Not asked for, they may be missing.
    let config = RegionConfig {
        huge: HugeChoice::Auto,
        data_len: 1 << 40,
        ..config
    };
    let text = Region::join(&config).map(|_| ()).unwrap_err().to_string();
    assert!(
        text.contains("has no room for a region of 1048576 MB"),
        "{text}"
    );
    assert_eq!(lab.dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn clean_refuses_while_somebody_lives_and_names_him() {
    let lab = Lab::new();
    let primary = kept(lab.primary());
    let slot = Slot::claim(primary, "worker").unwrap();
    let text = lab.directory().clean().unwrap_err().to_string();
    assert!(
        text.contains(&format!("test PRIMARY, process {}", std::process::id())),
        "{text}"
    );
    drop(slot);
}

#[test]
fn clean_removes_what_the_dead_left() {
    let lab = Lab::new();
    drop(lab.primary());
    let directory = lab.directory();
    std::fs::write(directory.path().join("doorbell.old"), "").unwrap();
    std::fs::write(directory.socket_path(), "").unwrap();
    std::fs::write(directory.path().join("control.sock.new"), "").unwrap();
    assert_eq!(region_files(&lab), 2);
    directory.clean().unwrap();
    assert_eq!(directory.leftovers(), Vec::<PathBuf>::new());
    assert_eq!(lab.dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn clean_without_a_lock_removes_nothing() {
    let lab = Lab::new();
    drop(lab.primary());
    let directory = lab.directory();
    std::fs::remove_file(directory.path().join("lock")).unwrap();
    directory.clean().unwrap();
    assert_eq!(directory.leftovers().len(), 2);
}

#[test]
fn slots_of_two_processes_are_apart_and_each_sees_the_other_alive() {
    let lab = Lab::new();
    let (primary, secondary) = (kept(lab.primary()), kept(lab.secondary()));
    let (a, b) = (
        Slot::claim(primary, "a").unwrap(),
        Slot::claim(secondary, "b").unwrap(),
    );
    assert_ne!(a.id(), b.id());
    assert!(primary.owner_alive(b.owner()) && secondary.owner_alive(a.owner()));
    assert!(primary.owner_alive(a.owner()));
    let observer = lab.observer().unwrap();
    assert!(observer.alive(a.id()) && observer.alive(b.id()) && observer.primary_alive());
    assert_eq!(observer.region().slots()[b.id().index()].name(), "b");
    assert_eq!(observer.living().len(), 1, "one process: this one");
    let owner = b.owner();
    drop(b);
    assert!(!primary.owner_alive(owner) && !observer.alive(owner.slot().unwrap()));
}

#[test]
fn slot_whose_occupant_died_is_not_taken_before_it_is_swept() {
    let lab = Lab::new();
    let primary = kept(lab.primary());
    let secondary = lab.secondary();
    // A process that is gone without a word: LIVE, and nobody holds the byte.
    let dead = {
        let region: &'static Region = Box::leak(Box::new(secondary));
        let slot = Slot::claim(region, "doomed").unwrap();
        let owner = slot.owner();
        std::mem::forget(slot);
        let files = region.files.as_ref().unwrap();
        let range = 1 + i64::from(owner.slot().unwrap().get());
        use std::os::fd::AsFd;
        crate::sys::lock::try_lock(
            files.lock.file().as_fd(),
            &(range..range + 1),
            crate::sys::lock::Mode::Unlocked,
        )
        .unwrap();
        owner
    };
    assert!(!primary.owner_alive(dead));
    let slots: Vec<Slot> = std::iter::from_fn(|| Slot::claim(primary, "x").ok()).collect();
    assert_eq!(slots.len(), SLOTS_MAX - 1);
    assert!(slots.iter().all(|slot| Some(slot.id()) != dead.slot()));
    assert!(matches!(
        Slot::claim(primary, "x"),
        Err(Error::NoSlot { live: 63, dead: 1 })
    ));
}

#[test]
fn observer_reads_and_may_not_write() {
    let lab = Lab::new();
    assert!(matches!(lab.observer(), Err(Error::NoGroup { .. })));
    let primary = lab.primary();
    primary
        .reserve(ZoneKind::Plain, "z", 64, 0, None)
        .unwrap()
        .get::<AtomicU32>(0)
        .unwrap()
        .store(5, Ordering::Relaxed);
    let observer: &'static Observer = Box::leak(Box::new(lab.observer().unwrap()));
    let zone = observer.region().lookup(ZoneKind::Plain, "z").unwrap();
    assert_eq!(zone.get::<AtomicU32>(0).unwrap().load(Ordering::Relaxed), 5);
    assert!(matches!(
        observer.region().reserve(ZoneKind::Plain, "y", 1, 0, None),
        Err(Error::NotPrimary { .. })
    ));
    assert!(matches!(
        Slot::claim(observer.region(), "tool"),
        Err(Error::ReadOnly { .. })
    ));
    // It keeps nobody from starting afresh.
    drop(primary);
    assert_eq!(lab.join(ProcType::Primary).unwrap().1, Joined::Created);
    assert_eq!(zone.get::<AtomicU32>(0).unwrap().load(Ordering::Relaxed), 5);
}

#[test]
fn what_is_no_file_of_the_group_stops_no_start_and_stays() {
    let lab = Lab::new();
    drop(lab.primary());
    let directory = lab.directory();
    let trap = directory.name_files(0xabce, Path::new("/dev/shm"), directory.path());
    std::fs::create_dir(&trap.control).unwrap();
    std::os::unix::fs::symlink("lock", &trap.data).unwrap();
    let joined = lab.join(ProcType::Primary);
    let stayed = trap.control.is_dir() && trap.data.is_symlink();
    std::fs::remove_dir(&trap.control).unwrap();
    assert_eq!(joined.unwrap().1, Joined::Created);
    assert!(stayed);
}

#[test]
fn another_directory_at_the_same_path_has_other_names_for_its_files() {
    let lab = Lab::new();
    drop(lab.primary());
    let directory = lab.directory();
    let name = || directory.name_files(1, Path::new("/"), Path::new("/"));
    let (first, aside) = (name(), lab.dir.path().join("aside"));
    std::fs::rename(directory.path(), &aside).unwrap();
    std::fs::create_dir(directory.path()).unwrap();
    assert_ne!(name(), first);
    std::fs::remove_dir(directory.path()).unwrap();
    std::fs::rename(&aside, directory.path()).unwrap();
    assert_eq!(name(), first);
}

#[test]
fn files_that_a_killed_creator_left_are_removed_by_the_next() {
    let lab = Lab::new();
    drop(lab.primary());
    let directory = lab.directory();
    let record = directory.name_files(0xabcd, Path::new("/dev/shm"), Path::new("/dev/shm"));
    std::fs::write(&record.control, "half").unwrap();
    std::fs::write(&record.data, "half").unwrap();
    std::fs::write(directory.path().join("region.new"), "half").unwrap();
    let _primary = lab.primary();
    assert!(!record.control.exists() && !record.data.exists());
    assert_eq!(region_files(&lab), 2);
}
