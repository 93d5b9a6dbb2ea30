//! The files of a region, and a primary that is killed at each of its system calls.
//!
//! What lies in files and locks no simulated memory shows, so here a real process dies: this program, started again under
//! `strace`, which kills it as it enters its n-th system call, for each n. It creates a group, takes a slot, reserves a zone
//! and leaves; or it takes over a group in which somebody lives. After each death the next primary must come, and nothing be left.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use eal::args::HugeChoice;
use eal::directory::Directory;
use eal::sync::model::drive;
use eal::{Joined, Owner, ProcType, Region, RegionConfig, Slot, SlotState, ZoneKind};
use tempfile::TempDir;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What tells this program that it is the one to be killed, and what it asks for when it begins: a file that nobody has.
pub(crate) const CHILD: &str = "--die-as-primary";
const MARK: &str = "/forebay-model-begins";

/// System calls of a life; more would be a loop.
const CALLS_MAX: usize = 2000;

/// A system call of a life: the n-th of its name.
struct Call {
    name: String,
    nth: usize,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} number {}", self.name, self.nth)
    }
}

/// What came of all deaths.
pub(crate) enum Verdict {
    /// So many, and all was well.
    Held(usize),
    /// They cannot be had here.
    Skipped(String),
    /// What was wrong after which death.
    Failed(String),
}

fn config(dir: &Path, role: ProcType) -> RegionConfig {
    RegionConfig {
        runtime_dir: Some(dir.to_owned()),
        huge: HugeChoice::Never,
        proc_type: role,
        wait: Duration::ZERO,
        program: "model".to_owned(),
        ..RegionConfig::new(&prefix(dir), 64 << 10)
    }
}

/// A name that no other group has, since files in shared memory are found by it.
fn prefix(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The life that is cut short.
pub(crate) fn child(dir: &str) -> ExitCode {
    let live = || -> Outcome<()> {
        let dir = Path::new(dir);
        // What the tracer sees first of what counts.
        drop(fs::metadata(MARK));
        let (region, _) = Region::join(&config(dir, ProcType::Primary))?;
        let region: &'static Region = Box::leak(Box::new(region));
        let slot = Slot::claim(region, "child")?;
        match region.reserve(ZoneKind::Plain, "zone", 4096, 64, None) {
            Ok(_) | Err(eal::Error::NameTaken { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        drop(slot);
        region.leave()?;
        Ok(())
    };
    match live() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-model: the child that is to be killed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// All deaths of a primary that creates a group.
pub(crate) fn creating() -> Verdict {
    verdict(|kill| {
        let dir = TempDir::new()?;
        let died = kill(dir.path())?;
        after_creating(dir.path())?;
        Ok(died)
    })
}

/// All deaths of a primary that takes over a group in which a secondary lives.
pub(crate) fn adopting() -> Verdict {
    verdict(|kill| {
        let dir = TempDir::new()?;
        let (first, _) = Region::join(&config(dir.path(), ProcType::Primary))?;
        first.reserve(ZoneKind::Plain, "zone", 4096, 64, None)?;
        let (second, _) = Region::join(&config(dir.path(), ProcType::Secondary))?;
        let second: &'static Region = Box::leak(Box::new(second));
        let slot = Slot::claim(second, "survivor")?;
        first.leave()?;
        let died = kill(dir.path())?;
        after_adopting(dir.path(), slot.owner())?;
        drop(slot);
        second.leave()?;
        if let Some(group) = Directory::locate(Some(dir.path()), &prefix(dir.path()))? {
            group.clean()?;
        }
        nothing_is_left(dir.path())?;
        Ok(died)
    })
}

type Kill<'a> = &'a dyn Fn(&Path) -> Outcome<bool>;

/// Goes through one life at all its system calls. `live` says whether it was killed in it.
fn verdict(live: impl Fn(Kill<'_>) -> Outcome<bool>) -> Verdict {
    // Nobody watches the words here.
    drive(None);
    let calls = std::cell::RefCell::new(None);
    let whole = live(&|dir| {
        *calls.borrow_mut() = Some(calls_of(dir)?);
        Ok(false)
    });
    let found = calls.borrow_mut().take();
    let calls = match (whole, found) {
        (_, None | Some(None)) => {
            return Verdict::Skipped(
                "strace cannot trace here; install it, or allow ptrace".to_owned(),
            );
        }
        (Err(error), _) => return Verdict::Failed(format!("nobody was killed: {error}")),
        (Ok(_), Some(Some(calls))) => calls,
    };
    let mut deaths = 0;
    for call in calls {
        match live(&|dir| killed(dir, &call)) {
            Ok(died) => deaths += usize::from(died),
            Err(error) => return Verdict::Failed(format!("killed at {call}: {error}")),
        }
    }
    if deaths == 0 {
        return Verdict::Failed("nobody died".to_owned());
    }
    Verdict::Held(deaths)
}

/// The system calls of a whole life, from the first that counts; `None` if it cannot be traced.
fn calls_of(dir: &Path) -> Outcome<Option<Vec<Call>>> {
    let trace = TempDir::new()?;
    let file = trace.path().join("trace");
    let mut strace = strace(dir, &["-o", &file.to_string_lossy()])?;
    match strace.output() {
        Ok(output) if output.status.success() => {}
        _ => return Ok(None),
    }
    let text = fs::read_to_string(file)?;
    let mut calls = Vec::new();
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut counts_now = false;
    for line in text.lines() {
        let Some((name, arguments)) = line.split_once('(') else {
            continue;
        };
        let nth = counts.entry(name).or_default();
        *nth += 1;
        if counts_now {
            calls.push(Call {
                name: name.to_owned(),
                nth: *nth,
            });
        }
        counts_now |= arguments.contains(MARK);
    }
    if calls.is_empty() || calls.len() > CALLS_MAX {
        return Err(format!("{} system calls", calls.len()).into());
    }
    Ok(Some(calls))
}

/// Lives, and dies at that call; says whether it did.
fn killed(dir: &Path, call: &Call) -> Outcome<bool> {
    let inject = format!("inject={}:signal=KILL:when={}", call.name, call.nth);
    let output = strace(dir, &["-o", "/dev/null", "-e", &inject])?.output()?;
    let died = output.status.signal() == Some(9) || output.status.code() == Some(128 + 9);
    if !died && !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(died)
}

fn strace(dir: &Path, arguments: &[&str]) -> Outcome<Command> {
    let mut strace = Command::new("strace");
    strace
        .arg("-qq")
        .args(arguments)
        .arg(std::env::current_exe()?)
        .arg(CHILD)
        .arg(dir)
        .stdin(Stdio::null());
    Ok(strace)
}

fn after_creating(dir: &Path) -> Outcome<()> {
    let (region, joined) = Region::join(&config(dir, ProcType::Primary))?;
    if joined != Joined::Created {
        return Err(format!("nobody lives, and the next primary is {joined:?}").into());
    }
    if region.zones().count() > 0 || region.damaged_zone().is_some() {
        return Err("the new region has zones".into());
    }
    let busy = region
        .slots()
        .iter()
        .find(|slot| slot.state().0 != SlotState::Free);
    if busy.is_some() {
        return Err("the new region has slots that are taken".into());
    }
    region.reserve(ZoneKind::Plain, "zone", 4096, 64, None)?;
    let mine = |path: &Path| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().contains(&prefix(dir)))
    };
    let files =
        fs::read_dir("/dev/shm")?.filter(|file| file.as_ref().is_ok_and(|file| mine(&file.path())));
    let count = files.count();
    if count > 2 {
        return Err(format!("{count} files in /dev/shm, of which a region needs two").into());
    }
    if !region.leave()? {
        return Err("the last one could not remove the group".into());
    }
    nothing_is_left(dir)
}

fn after_adopting(dir: &Path, survivor: Owner) -> Outcome<()> {
    let (region, joined) = Region::join(&config(dir, ProcType::Primary))?;
    if joined != Joined::Adopted {
        return Err(format!("somebody lives, and the next primary is {joined:?}").into());
    }
    if !region.owner_alive(survivor) {
        return Err("who lives is taken for dead".into());
    }
    region.lookup(ZoneKind::Plain, "zone")?;
    if region.damaged_zone().is_some() {
        return Err("a zone record is damaged".into());
    }
    // What the dead one had is claimed as dead, and nothing else is.
    let dead = region.claim_dead(eal::process::SlotSet::default())?;
    if survivor.slot().is_some_and(|slot| dead.contains(slot)) {
        return Err("who lives is swept".into());
    }
    dead.finish();
    region.leave()?;
    Ok(())
}

/// No file of the group, anywhere.
fn nothing_is_left(dir: &Path) -> Outcome<()> {
    let prefix = prefix(dir);
    for place in [dir, Path::new("/dev/shm")] {
        for file in fs::read_dir(place)? {
            let name = file?.file_name();
            if name.to_string_lossy().contains(&prefix) {
                return Err(format!("{} is left in {}", name.display(), place.display()).into());
            }
        }
    }
    Ok(())
}
