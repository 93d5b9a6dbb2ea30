//! Files of a region that are foreign, cut short, or written over.

use std::fs::File;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::error::Living;

/// What is done to the files before they are attached.
#[derive(Debug, Clone)]
enum Harm {
    /// Words of eight bytes, written over.
    Control(usize, u64),
    Data(usize, u64),
    /// One byte of the text that names the files.
    Record(usize, u8),
    TruncateControl(u64),
    TruncateData(u64),
    TruncateRecord(u64),
}

/// Numbers that overflow, wrap, or nearly fit.
fn value() -> impl Strategy<Value = u64> {
    let near = |value: u64| (value.saturating_sub(70)..=value.saturating_add(70)).boxed();
    prop_oneof![
        any::<u64>(),
        near(0),
        near(u64::MAX),
        near(4 << 20),
        near(1 << 32),
        (0..64_u32).prop_map(|bit| 1 << bit)
    ]
}

fn harm() -> impl Strategy<Value = Harm> {
    let control_len = size_of::<Control>();
    let zones = size_of::<header::Header>();
    let in_control = prop_oneof![
        // The header's words, the first zone records, anything.
        2 => 0..256_usize,
        4 => zones..zones + 8 * 128,
        1 => 0..control_len - 8,
    ];
    let in_data = prop_oneof![0..SLOTS_MAX * 256, 0..(4_usize << 20) - 8];
    prop_oneof![
        8 => (in_control, value()).prop_map(|(at, value)| Harm::Control(at, value)),
        4 => (in_data, value()).prop_map(|(at, value)| Harm::Data(at, value)),
        1 => (0..200_usize, any::<u8>()).prop_map(|(at, byte)| Harm::Record(at, byte)),
        1 => (0..=control_len as u64 + 5000).prop_map(Harm::TruncateControl),
        1 => (0..=(5_u64 << 20)).prop_map(Harm::TruncateData),
        1 => (0..200_u64).prop_map(Harm::TruncateRecord),
    ]
}

/// A whole region in which nobody lives, and how to make it whole again.
struct Victim {
    lab: Lab,
    control: PathBuf,
    data: PathBuf,
    control_bytes: Vec<u8>,
    data_bytes: Vec<u8>,
    record_bytes: Vec<u8>,
}

impl Victim {
    fn new() -> Self {
        let lab = Lab::new();
        let primary = kept(lab.primary());
        for number in 0..6 {
            let kind = [ZoneKind::Plain, ZoneKind::Ring, ZoneKind::Pool][number % 3];
            primary
                .reserve(
                    kind,
                    &format!("zone {number}"),
                    1000 * (number + 1),
                    64,
                    None,
                )
                .unwrap();
        }
        primary.port_records()[1].name.set("net_null0");
        std::mem::forget(Slot::claim(primary, "one").unwrap());
        let (control, data) = primary.info().files.unwrap();
        // The region was leaked for its slot: what it locks must not be in the way.
        unlock(primary);
        let record_bytes = std::fs::read(lab.directory().path().join("region")).unwrap();
        let [control_bytes, data_bytes] =
            [&control, &data].map(|path| std::fs::read(path).unwrap());
        Self {
            lab,
            control,
            data,
            control_bytes,
            data_bytes,
            record_bytes,
        }
    }

    fn record(&self) -> PathBuf {
        self.lab.directory().path().join("region")
    }

    fn restore(&self) {
        std::fs::write(self.record(), &self.record_bytes).unwrap();
        for (path, bytes) in [
            (&self.control, &self.control_bytes),
            (&self.data, &self.data_bytes),
        ] {
            let file = open(path);
            file.set_len(bytes.len() as u64).unwrap();
            file.write_all_at(bytes, 0).unwrap();
        }
    }

    fn harm(&self, harm: &Harm) {
        let write = |path: &Path, at: usize, bytes: &[u8]| {
            open(path).write_all_at(bytes, at as u64).unwrap()
        };
        let cut = |path: &Path, len: u64| open(path).set_len(len).unwrap();
        match *harm {
            Harm::Control(at, value) => write(&self.control, at, &value.to_le_bytes()),
            Harm::Data(at, value) => write(&self.data, at, &value.to_le_bytes()),
            Harm::Record(at, byte) => write(&self.record(), at, &[byte]),
            Harm::TruncateControl(len) => cut(&self.control, len),
            Harm::TruncateData(len) => cut(&self.data, len),
            Harm::TruncateRecord(len) => cut(&self.record(), len),
        }
    }
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

/// Lets go of all locks of a region that stays mapped.
fn unlock(region: &Region) {
    use std::os::fd::AsFd;
    let file = region.files.as_ref().unwrap().lock.file();
    crate::sys::lock::try_lock(file.as_fd(), &(0..100), crate::sys::lock::Mode::Unlocked).unwrap();
}

/// Looks at everything that can be looked at.
fn walk(region: &Region) -> usize {
    let mut seen = 0;
    for zone in region.zones() {
        let bytes = zone.slice::<crate::sync::AtomicU8>(0, zone.len()).unwrap();
        seen += bytes
            .iter()
            .map(|byte| usize::from(byte.load(Ordering::Relaxed)))
            .sum::<usize>();
        seen += usize::from(zone.get::<AtomicU64>(zone.len()).is_err());
        seen += zone.to_text().len();
        let found = region.lookup(zone.kind(), zone.name().as_str()).unwrap();
        assert_eq!(found.name(), zone.name());
    }
    for record in region.slots() {
        let (_, generation) = record.state();
        let id = SlotId::new(u8::try_from(seen % SLOTS_MAX).unwrap()).unwrap();
        seen += usize::from(region.owner_alive(Owner::new(id, generation)));
        seen += record.name().len()
            + record.proc_type().to_string().len()
            + record.core().map_or(0, |_| 1);
        region.owner_alive(Owner::from_bits(record.pid()));
    }
    for port in region.port_records() {
        seen += port.name.get().len() + port.args.get().len() + port.driver.get().len();
    }
    seen += region.config_words().len() + region.reta(15).len() + region.reta(16).len();
    seen + format!("{:?} {}", region.info(), region.free()).len()
}

/// What a tool prints of a zone.
trait ToText {
    fn to_text(&self) -> String;
}

impl ToText for Zone<'_> {
    fn to_text(&self) -> String {
        format!(
            "{} {} {} {} {}",
            self.kind(),
            self.name(),
            self.offset(),
            self.len(),
            self.node()
        )
    }
}

/// Attaches in every way there is; how many ways succeeded.
fn attach_all(lab: &Lab) -> usize {
    let mut attached = 0;
    if let Ok(observer) = lab.observer() {
        walk(observer.region());
        let _: Vec<Living> = observer.living();
        attached += 1;
    }
    if let Ok((region, _)) = lab.join(ProcType::Secondary) {
        walk(&region);
        let region = kept(region);
        if let Ok(slot) = Slot::claim(region, "guest") {
            assert!(region.owner_alive(slot.owner()));
        }
        attached += 1;
        // Stays mapped, and lives: so the next one has to adopt what is there.
        if let Ok((region, joined)) = lab.join(ProcType::Primary) {
            assert_eq!(joined, Joined::Adopted);
            let _ = region.reserve(ZoneKind::Ring, "of the next", 4096, 4096, None);
            let _ = region.reserve(ZoneKind::Ring, "zone 1", 4096, 4096, None);
            walk(&region);
            attached += 1;
        }
        unlock(region);
    }
    attached
}

#[test]
fn harmed_region_is_refused_or_walked_within_its_bounds() {
    let victim = Victim::new();
    assert_eq!(attach_all(&victim.lab), 3, "unharmed, all may attach");
    victim.restore();
    let attached = std::cell::Cell::new(0);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 192,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let harms = prop::collection::vec(harm(), 1..6);
    let outcome = runner.run(&harms, |harms| {
        for harm in &harms {
            victim.harm(harm);
        }
        attached.set(attached.get() + attach_all(&victim.lab));
        victim.restore();
        Ok(())
    });
    outcome.unwrap();
    assert!(
        attached.get() > 100,
        "too few harmed regions could be attached to say anything: {attached:?}"
    );
}

#[test]
fn region_of_another_layout_is_refused_with_both_named() {
    let victim = Victim::new();
    for at in [8, 16] {
        victim.harm(&Harm::Control(at, 99));
        let refused = lab_attach(&victim.lab);
        assert!(matches!(refused, Error::LayoutMismatch { .. }), "{refused}");
        let text = refused.to_string();
        assert!(
            text.contains("run both from one release") && text.contains("--file-prefix"),
            "{text}"
        );
        // Another version has another length as well.
        victim.harm(&Harm::TruncateControl(8192));
        assert!(matches!(
            lab_attach(&victim.lab),
            Error::LayoutMismatch { .. }
        ));
        victim.restore();
    }
}

fn lab_attach(lab: &Lab) -> Error {
    lab.join(ProcType::Secondary).map(|_| ()).unwrap_err()
}

#[test]
fn foreign_and_incomplete_files_are_refused_by_name() {
    let victim = Victim::new();
    let expect = |why: &str| {
        let text = lab_attach(&victim.lab).to_string();
        assert!(
            text.contains(why) && text.contains("forebay clean"),
            "wanted {why:?}, got {text:?}"
        );
    };
    victim.harm(&Harm::Control(0, 0));
    expect("does not begin as a region does");
    victim.restore();
    victim.harm(&Harm::TruncateControl(10));
    expect("too short for a header");
    victim.restore();
    victim.harm(&Harm::TruncateData(1 << 20));
    expect("its length is not what it was made with");
    // The right length, and nothing behind it: touching it could end in SIGBUS.
    victim.harm(&Harm::TruncateData(4 << 20));
    expect("it has holes");
    victim.restore();
    std::fs::write(
        victim.record(),
        "forebay region 1\ncontrol /dev/zero\ndata /etc/passwd\n",
    )
    .unwrap();
    expect("it is not a file");
    std::fs::write(
        victim.record(),
        "forebay region 1\ncontrol /etc/passwd\ndata /etc/passwd\n",
    )
    .unwrap();
    expect("does not begin as a region does");
    std::fs::write(victim.record(), "else").unwrap();
    expect("does not name two files");
    std::fs::write(victim.record(), vec![0xff; 1 << 20]).unwrap();
    expect("does not name two files");
    victim.restore();
    // A region's copy on a disk.
    let copy = victim
        .lab
        .dir
        .path()
        .join(victim.control.file_name().unwrap());
    std::fs::copy(&victim.control, &copy).unwrap();
    let record = format!(
        "forebay region 1\ncontrol {}\ndata {}\n",
        copy.display(),
        victim.data.display()
    );
    std::fs::write(victim.record(), record).unwrap();
    let on_tmpfs = crate::hugepage::page_of(&open(&copy)).is_some();
    if !on_tmpfs {
        expect("does not lie in memory");
    }
    std::fs::remove_file(copy).unwrap();
    // The data of another region.
    let other = Victim::new();
    let record = format!(
        "forebay region 1\ncontrol {}\ndata {}\n",
        victim.control.display(),
        other.data.display()
    );
    std::fs::write(victim.record(), record).unwrap();
    expect("not the file that the group's record means");
    victim.restore();
    std::fs::remove_file(&victim.data).unwrap();
    expect("the file is gone");
}

#[test]
fn directory_that_strangers_could_change_is_not_used() {
    let lab = Lab::new();
    let find = || Directory::find(Some(lab.dir.path()), "lab", None).map(|_| ());
    let other = lab.dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::os::unix::fs::symlink(&other, lab.dir.path().join("lab")).unwrap();
    assert!(find().unwrap_err().to_string().contains("not a directory"));
    std::fs::remove_file(lab.dir.path().join("lab")).unwrap();
    find().unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(lab.dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let text = find().unwrap_err().to_string();
    assert!(
        text.contains("others may write there") && text.contains("--runtime-dir"),
        "{text}"
    );
    std::fs::set_permissions(lab.dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&lab.dir.path().join("lab")), 0o700);
    for prefix in ["", ".", "..", "a/b", "a b", &"p".repeat(65)] {
        assert!(
            matches!(
                Directory::find(Some(lab.dir.path()), prefix, None),
                Err(Error::Prefix { .. })
            ),
            "{prefix}"
        );
    }
    let no_group = Directory::find(Some(lab.dir.path()), "lab", Some("no such group"));
    assert!(matches!(no_group, Err(Error::NoGroupId { .. })));
}

#[test]
fn lock_that_is_a_link_is_not_followed() {
    let lab = Lab::new();
    let directory = Directory::find(Some(lab.dir.path()), "lab", None).unwrap();
    let target = lab.dir.path().join("target");
    std::os::unix::fs::symlink(&target, directory.path().join("lock")).unwrap();
    assert!(matches!(lab.join(ProcType::Primary), Err(Error::Io { .. })));
    assert!(!target.exists());
}
