//! Regions of real processes, which are killed.
//!
//! A process is this test binary, told by its environment to run one test alone, which does what the environment says.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::*;

const ROLE: &str = "FOREBAY_TEST_ROLE";
const PLACE: &str = "FOREBAY_TEST_PLACE";
const MEGABYTES: &str = "FOREBAY_TEST_MEGABYTES";
const GROUP: &str = "FOREBAY_TEST_GROUP";

/// What another process does: not a test of its own.
#[test]
fn other_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let place = PathBuf::from(std::env::var_os(PLACE).unwrap());
    let number = |key| {
        std::env::var(key)
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
    };
    let config = RegionConfig {
        runtime_dir: Some(place),
        proc_type: role.parse().unwrap_or(ProcType::Primary),
        group: std::env::var(GROUP).ok(),
        huge: HugeChoice::Never,
        program: format!("child {role}"),
        ..RegionConfig::new("lab", number(MEGABYTES).unwrap_or(4) << 20)
    };
    if role == "again and again" {
        loop {
            say("start");
            let start = Instant::now();
            let _region = Region::join(&config).unwrap();
            // Whole for as long as it was not, so that a kill finds either.
            std::thread::sleep(start.elapsed());
        }
    }
    match Region::join(&config) {
        Ok((region, joined)) => {
            let slot = Slot::claim(kept(region), "child").unwrap();
            say(&format!("{joined:?} {}", slot.owner().bits()));
            loop {
                std::thread::park();
            }
        }
        Err(error) => say(&format!("error {error}")),
    }
}

/// A line for the one who started us.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n>{text}").unwrap();
    out.flush().unwrap();
}

/// How this binary is told to be another process.
fn arguments() -> [&'static str; 4] {
    [
        "--exact",
        "region::tests::files::processes::other_process",
        "--nocapture",
        "--test-threads=1",
    ]
}

/// A process, killed when dropped.
struct Process {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Process {
    fn start(lab: &Lab, role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments());
        Self::spawn(lab, role, command).unwrap()
    }

    fn spawn(lab: &Lab, role: &str, mut command: Command) -> std::io::Result<Self> {
        command
            .env(ROLE, role)
            .env(PLACE, lab.dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let lines = BufReader::new(child.stdout.take().unwrap());
        Ok(Self { child, lines })
    }

    /// What it says next.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(
                self.lines.read_line(&mut line).unwrap(),
                0,
                "the process ended without a word"
            );
            if let Some(text) = line.strip_prefix('>') {
                return text.trim_end().to_owned();
            }
        }
    }

    /// Its slot, once it has one.
    fn owner(&mut self) -> Owner {
        let said = self.hear();
        Owner::from_bits(
            said.split_once(' ')
                .unwrap()
                .1
                .parse()
                .unwrap_or_else(|_| panic!("{said}")),
        )
    }

    /// `kill -9`, and waits until the kernel has taken it apart.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn skipped(what: &str, why: &str) {
    // Not `eprintln!`, which the test runner swallows.
    let _ = writeln!(std::io::stderr(), "skipped: {what}: {why}");
}

#[test]
fn killed_secondary_is_dead_at_once_and_its_slot_stays_untaken() {
    let lab = Lab::new();
    let primary = kept(lab.primary());
    let mut child = Process::start(&lab, "secondary");
    let owner = child.owner();
    assert!(primary.owner_alive(owner));
    let record = &primary.slots()[owner.slot().unwrap().index()];
    assert_eq!(
        (record.pid(), record.proc_type()),
        (child.child.id(), ProcType::Secondary)
    );
    child.kill();
    assert!(!primary.owner_alive(owner));
    assert_eq!(record.state().0, SlotState::Live);
    let slot = Slot::claim(primary, "next").unwrap();
    assert_ne!(Some(slot.id()), owner.slot());
}

#[test]
fn killed_primary_is_followed_by_one_that_adopts_or_by_one_that_starts_afresh() {
    let lab = Lab::new();
    let mut first = Process::start(&lab, "primary");
    assert!(first.hear().starts_with("Created"));
    let pid = first.child.id();
    let refused = lab.join(ProcType::Primary).unwrap_err().to_string();
    assert!(
        refused.contains(&format!("child primary, process {pid}")),
        "{refused}"
    );
    let secondary = lab.secondary();
    let nonce = secondary.info().nonce;
    first.kill();
    assert!(!secondary.primary_alive());

    let mut second = Process::start(&lab, "primary");
    assert!(second.hear().starts_with("Adopted"));
    assert!(secondary.primary_alive());
    assert_eq!(
        (secondary.info().nonce, secondary.info().primary_pid),
        (nonce, second.child.id())
    );
    second.kill();
    drop(secondary);

    let mut third = Process::start(&lab, "primary");
    assert!(third.hear().starts_with("Created"));
    assert_ne!(lab.observer().unwrap().region().info().nonce, nonce);
    assert_eq!(region_files(&lab), 2);
}

#[test]
fn primary_killed_at_any_moment_of_creation_leaves_a_whole_region_or_none() {
    let lab = Lab::new();
    let seed = u64::from(std::process::id());
    let mut whole = 0;
    for round in 0..25_u64 {
        let mut child = Process::start(&lab, "again and again");
        // Not before it is in full swing.
        (0..3).for_each(|_| drop(child.hear()));
        let pause = (seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(round * 7919))
            % 40_000;
        std::thread::sleep(Duration::from_micros(pause));
        child.kill();
        match lab.join(ProcType::Secondary) {
            Ok((region, _)) => {
                assert_eq!(region.zones().count(), 0);
                whole += 1;
            }
            Err(Error::NoGroup { .. }) => {}
            Err(error) => panic!("seed {seed}, round {round}: {error}"),
        }
        let (next, joined) = lab.join(ProcType::Primary).unwrap();
        assert_eq!(joined, Joined::Created, "seed {seed}, round {round}");
        next.reserve(ZoneKind::Plain, "z", 1, 0, None).unwrap();
        assert_eq!(region_files(&lab), 2, "seed {seed}, round {round}");
    }
    assert!(whole > 0, "seed {seed}: no round came to a whole region");
}

#[test]
fn many_processes_that_start_at_once_find_one_primary() {
    let lab = Lab::new();
    let mut children: Vec<Process> = (0..8).map(|_| Process::start(&lab, "auto")).collect();
    let said: Vec<String> = children.iter_mut().map(Process::hear).collect();
    let count = |word: &str| said.iter().filter(|said| said.starts_with(word)).count();
    assert_eq!((count("Created"), count("Attached")), (1, 7), "{said:?}");
    let observer = lab.observer().unwrap();
    assert_eq!(observer.living().len(), 8);
    let alive = || SlotId::all().filter(|id| observer.alive(*id)).count();
    assert_eq!(alive(), 8);
    children.into_iter().for_each(Process::kill);
    assert_eq!(alive(), 0);
    lab.directory().clean().unwrap();
}

#[test]
fn full_tmpfs_is_an_error_with_the_size_that_would_fit() {
    let lab = Lab::new();
    let run = |megabytes: &str| {
        let mut command = Command::new("unshare");
        let root = crate::sys::user::user_id() == 0;
        command.args(if root {
            ["--mount"].as_slice()
        } else {
            &["--mount", "--map-root-user"]
        });
        let script = "mount -t tmpfs -o size=24m none /dev/shm && echo && echo '>mounted' && exec \"$0\" \"$@\"";
        command
            .args(["sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .args(arguments())
            .env(MEGABYTES, megabytes);
        let mut process = Process::spawn(&lab, "primary", command).ok()?;
        let mut mounted = String::new();
        while process.lines.read_line(&mut mounted).ok()? > 0 && !mounted.contains(">mounted") {}
        mounted.contains(">mounted").then_some(process)
    };
    let Some(mut process) = run("64") else {
        return skipped("full tmpfs", "no mount namespace can be had here");
    };
    let said = process.hear();
    assert!(
        said.starts_with("error /dev/shm has no room for a region of 64 MB"),
        "{said}"
    );
    drop(process);
    assert_eq!(
        lab.dir.path().read_dir().unwrap().count(),
        0,
        "nothing is left behind"
    );
    // What it said would fit does.
    let fits = said.split("-m ").nth(1).unwrap().split(' ').next().unwrap();
    let said = run(fits).unwrap().hear();
    assert!(said.starts_with("Created"), "-m {fits}: {said}");
}

#[test]
fn another_user_joins_by_the_unix_group_and_not_without_it() {
    const NOBODY: u32 = 65_534;
    if crate::sys::user::user_id() != 0 {
        return skipped("another user joins", "only root can become another user");
    }
    let lab = Lab::new();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(lab.dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let nobody = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments()).uid(NOBODY).gid(NOBODY);
        Process::spawn(&lab, "secondary", command)
    };
    let primary = lab.primary();
    let Ok(mut refused) = nobody() else {
        return skipped(
            "another user joins",
            "this test binary may not be run by others",
        );
    };
    let said = refused.hear();
    assert!(said.contains("--group"), "{said}");
    drop((refused, primary));

    let config = RegionConfig {
        group: Some(NOBODY.to_string()),
        ..lab.config(ProcType::Primary)
    };
    let (primary, _) = Region::join(&config).unwrap();
    let mut joined = nobody().unwrap();
    let owner = joined.owner();
    assert!(primary.owner_alive(owner));
    // The control part is not his to write.
    let (control, data) = primary.info().files.unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode(&control), mode(&data), mode(lab.directory().path())),
        (0o640, 0o660, 0o750)
    );
    joined.kill();
    // Nor may he be the primary.
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments()).uid(NOBODY).gid(NOBODY);
    drop(primary);
    let said = Process::spawn(&lab, "primary", command).unwrap().hear();
    assert!(
        said.starts_with("error") && said.contains("Permission denied"),
        "{said}"
    );
}

#[test]
fn death_shows_within_a_second() {
    let lab = Lab::new();
    let primary = lab.primary();
    let mut child = Process::start(&lab, "secondary");
    let owner = child.owner();
    child.child.kill().unwrap();
    let start = Instant::now();
    while primary.owner_alive(owner) {
        assert!(start.elapsed() < Duration::from_secs(1));
        std::thread::sleep(Duration::from_millis(1));
    }
}
