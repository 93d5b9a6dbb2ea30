use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::args::HugeChoice;
use crate::directory::Directory;
use crate::process::{ProcType, Slot};
use crate::region::RegionConfig;
use crate::sleep::{Found, Source, sleep};

const NOT_LONG: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::ZERO;

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn join(&self, role: ProcType) -> &'static Region {
        let config = RegionConfig {
            runtime_dir: Some(self.0.path().to_owned()),
            proc_type: role,
            huge: HugeChoice::Never,
            ..RegionConfig::new("bells", 1 << 20)
        };
        Box::leak(Box::new(Region::join(&config).unwrap().0))
    }
}

/// The regions are for ever, but not their files.
impl Drop for Lab {
    fn drop(&mut self) {
        if let Ok(Some(directory)) = Directory::locate(Some(self.0.path()), "bells") {
            let _ = directory.remove();
        }
    }
}

/// Two processes' views of a group.
fn group() -> (Lab, &'static Region, &'static Region) {
    let lab = Lab::new();
    let (primary, secondary) = (lab.join(ProcType::Primary), lab.join(ProcType::Secondary));
    (lab, primary, secondary)
}

fn wait(bell: &Doorbell, timeout: Duration) -> Cause {
    bell.wait(&WaitSet::default(), timeout)
}

#[test]
fn ring_is_remembered_until_it_is_heard_and_heard_once() {
    let (_lab, primary, secondary) = group();
    let slot = Slot::claim(secondary, "sleeper").unwrap();
    let bell = slot.doorbell().unwrap();
    assert_eq!(wait(&bell, NOW), Cause::Time);
    primary.ring_doorbell(slot.id());
    secondary.ring_doorbell(slot.id());
    assert_eq!(wait(&bell, NOT_LONG), Cause::Rung);
    bell.clear();
    assert_eq!(wait(&bell, NOW), Cause::Time);
    assert_eq!(primary.doorbells_missed() + secondary.doorbells_missed(), 0);
}

#[test]
fn full_doorbell_is_rung_and_blocks_nobody() {
    let (_lab, primary, secondary) = group();
    let slot = Slot::claim(secondary, "stopped").unwrap();
    let bell = slot.doorbell().unwrap();
    // More than a pipe of the size by default holds.
    for _ in 0..20_000 {
        primary.ring_doorbell(slot.id());
    }
    assert_eq!(primary.doorbells_missed(), 0);
    assert_eq!(wait(&bell, NOW), Cause::Rung);
    bell.clear();
    assert_eq!(wait(&bell, NOW), Cause::Time);
    // The successor in the slot starts with an empty one.
    primary.ring_doorbell(slot.id());
    let successor = slot.doorbell().unwrap();
    assert_eq!(wait(&successor, NOW), Cause::Time);
}

#[test]
fn missing_doorbell_is_counted_and_the_next_primary_makes_it() {
    let (lab, primary, secondary) = group();
    let slot = Slot::claim(secondary, "deaf").unwrap();
    let path = secondary.directory().unwrap().doorbell_path(slot.id());
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(slot.doorbell(), Err(Error::Io { .. })));
    primary.ring_doorbell(slot.id());
    primary.ring_doorbell(slot.id());
    assert_eq!(primary.doorbells_missed(), 2);
    // A file that is none is not written to.
    std::fs::write(&path, "mine").unwrap();
    primary.ring_doorbell(slot.id());
    assert_eq!(primary.doorbells_missed(), 3);
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    primary.leave().unwrap();
    let next = lab.join(ProcType::Primary);
    let bell = slot.doorbell().unwrap();
    next.ring_doorbell(slot.id());
    assert_eq!(wait(&bell, NOT_LONG), Cause::Rung);
}

#[test]
fn doorbells_belong_to_the_user_and_who_takes_over_leaves_those_that_are_there() {
    let (lab, primary, secondary) = group();
    let _slot = Slot::claim(secondary, "stays").unwrap();
    let inodes = || {
        let of = |slot| {
            let path = secondary.directory().unwrap().doorbell_path(slot);
            let found = path.symlink_metadata().unwrap();
            assert!(found.file_type().is_fifo());
            assert_eq!(found.permissions().mode() & 0o777, 0o600);
            found.ino()
        };
        SlotId::all().map(of).collect::<Vec<_>>()
    };
    let before = inodes();
    primary.leave().unwrap();
    let _next = lab.join(ProcType::Primary);
    assert_eq!(inodes(), before);
}

#[test]
fn who_leaves_keeps_no_doorbell_open() {
    let (_lab, primary, secondary) = group();
    for slot in SlotId::all() {
        secondary.ring_doorbell(slot);
    }
    let open = || {
        let rooms = secondary.doorbells().rooms.iter();
        rooms.filter(|room| room.read().unwrap().is_some()).count()
    };
    assert_eq!(open(), SLOTS_MAX);
    secondary.leave().unwrap();
    assert_eq!(open(), 0);
    primary.leave().unwrap();
}

#[test]
fn private_memory_has_doorbells_too() {
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(1 << 20).unwrap()));
    let slot = Slot::claim(region, "thread").unwrap();
    let bell = slot.doorbell().unwrap();
    assert_eq!(wait(&bell, NOW), Cause::Time);
    region.ring_own_doorbells();
    assert_eq!(wait(&bell, NOT_LONG), Cause::Rung);
    bell.clear();
    assert_eq!(wait(&bell, NOW), Cause::Time);
}

/// A source that notes what it is asked.
#[derive(Default)]
struct Noted {
    found: Option<Found>,
    asked: Vec<&'static str>,
}

impl Source for Noted {
    fn sleep_begin(&mut self) {
        self.asked.push("begin");
    }

    fn look(&mut self) -> Found {
        self.asked.push("look");
        self.found.unwrap_or(Found::Nothing)
    }

    fn sleep_end(&mut self) {
        self.asked.push("end");
    }
}

#[test]
fn sleep_says_so_looks_again_and_takes_it_back() {
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(1 << 20).unwrap()));
    let slot = Slot::claim(region, "thread").unwrap();
    let bell = slot.doorbell().unwrap();
    let mut noted = Noted {
        found: Some(Found::InDevice),
        ..Noted::default()
    };
    assert_eq!(sleep(&bell, &mut noted, true, NOT_LONG), Cause::Work);
    assert_eq!(noted.asked, ["begin", "look", "end"]);
    let mut noted = Noted::default();
    region.ring_doorbell(slot.id());
    assert_eq!(sleep(&bell, &mut noted, true, NOT_LONG), Cause::Rung);
    assert_eq!(noted.asked, ["begin", "look", "end"]);
    assert_eq!(wait(&bell, NOW), Cause::Time, "it was emptied");
    let soon = Duration::from_millis(1);
    assert_eq!(sleep(&bell, &mut Noted::default(), true, soon), Cause::Time);
}

/// Empty at the second look, and full when the time is over.
struct Unannounced(u32);

impl Source for Unannounced {
    fn look(&mut self) -> Found {
        self.0 += 1;
        if self.0 > 1 {
            Found::InRing
        } else {
            Found::Nothing
        }
    }
}

#[test]
fn work_in_a_ring_that_nobody_rang_for_is_told() {
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(1 << 20).unwrap()));
    let slot = Slot::claim(region, "thread").unwrap();
    let bell = slot.doorbell().unwrap();
    let cause = sleep(&bell, &mut Unannounced(0), true, Duration::from_millis(1));
    assert_eq!(cause, Cause::Late);
}
