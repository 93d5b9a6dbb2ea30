//! Groups of real processes: how they join, share and leave.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use eal::{Error, LcoreId, ProcType, ZoneKind};
use std::os::unix::process::CommandExt;

mod actor;
use actor::*;

#[test]
fn the_part_of_a_child() {
    let Ok(part) = std::env::var(PART) else {
        return;
    };
    let dir = std::env::var(DIR).unwrap();
    let eal = join(Path::new(&dir), &std::env::var(ARGS).unwrap());
    let eal = match eal {
        Ok(eal) => eal,
        Err(error) => {
            say(&format!("error {error}"));
            return;
        }
    };
    say(&format!("joined {}", eal.proc_type()));
    let mut slot = None;
    match part.as_str() {
        // Hands out a memory file and a socket, and hears what comes in by the socket.
        "publisher" => {
            let (ours, theirs) = UnixDatagram::pair().unwrap();
            let descriptors = vec![memory_file("from the primary"), theirs.into()];
            eal.publish("port/0/rx/1", b"queue 1", descriptors).unwrap();
            eal.region()
                .reserve(ZoneKind::Plain, "first", 64, 64, None)
                .unwrap();
            say("published");
            let mut heard = [0; 32];
            let len = ours.recv(&mut heard).unwrap();
            say(std::str::from_utf8(&heard[..len]).unwrap());
        }
        "member" => {
            let claimed = slot.insert(eal.claim_slot("member").unwrap());
            say(&format!("slot {}", claimed.id()));
        }
        // Asks for a key once for each line.
        "asker" => loop {
            pause();
            match eal.fetch("port/0/rx/1") {
                Ok(Some((payload, descriptors))) => {
                    let payload = String::from_utf8(payload).unwrap();
                    say(&format!("got {payload} and {}", descriptors.len()));
                }
                Ok(None) => say("nothing"),
                Err(error) => {
                    say(&format!("error {error}"));
                    break;
                }
            }
        },
        _ => {}
    }
    pause();
    drop(slot);
    eal.cleanup().unwrap();
}

#[test]
fn a_memory_file_and_a_socket_cross_processes() {
    let dir = Place::new();
    let mut primary = Actor::start("publisher", dir.path(), "");
    assert_eq!(primary.hear(), "joined PRIMARY");
    assert_eq!(primary.hear(), "published");
    let eal = join(dir.path(), SECONDARY).unwrap();
    assert_eq!(eal.proc_type(), ProcType::Secondary);
    let (payload, mut descriptors) = eal.fetch("port/0/rx/1").unwrap().unwrap();
    assert_eq!(
        (payload.as_slice(), descriptors.len()),
        (&b"queue 1"[..], 2)
    );
    let socket = UnixDatagram::from(descriptors.pop().unwrap());
    let mut memory = File::from(descriptors.pop().unwrap());
    let mut content = String::new();
    memory.rewind().unwrap();
    memory.read_to_string(&mut content).unwrap();
    assert_eq!(content, "from the primary");
    socket.send(b"from the secondary").unwrap();
    assert_eq!(primary.hear(), "from the secondary");
    assert!(eal.fetch("port/7").unwrap().is_none());
    let error = eal.publish("k", b"", Vec::new()).unwrap_err();
    assert!(matches!(error, Error::NotPrimary { .. }), "{error}");
    eal.cleanup().unwrap();
    primary.finish();
}

#[test]
fn a_secondary_outlives_its_primary_and_finds_the_next() {
    let dir = Place::new();
    let mut primary = Actor::start("publisher", dir.path(), "");
    assert_eq!(
        (primary.hear().as_str(), primary.hear().as_str()),
        ("joined PRIMARY", "published")
    );
    let eal = join(dir.path(), SECONDARY).unwrap();
    assert!(eal.fetch("port/0/rx/1").unwrap().is_some());
    primary.kill();
    let started = Instant::now();
    let gone = eal.fetch("port/0/rx/1").unwrap_err();
    assert!(matches!(gone, Error::PrimaryGone { .. }), "{gone}");
    assert!(
        gone.to_string()
            .contains("--proc-type=primary --file-prefix=lab"),
        "{gone}"
    );
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    // What is shared is still there, also for somebody new.
    assert!(eal.region().lookup(ZoneKind::Plain, "first").is_ok());
    let mut late = Actor::start("member", dir.path(), SECONDARY);
    assert_eq!(late.hear(), "joined SECONDARY");
    assert!(late.hear().starts_with("slot "));
    // The next primary takes the group over as it is, and the socket with it.
    let next = join(dir.path(), AUTO).unwrap();
    assert_eq!(next.proc_type(), ProcType::Primary);
    assert!(next.region().lookup(ZoneKind::Plain, "first").is_ok());
    next.publish("port/0/rx/1", b"anew", vec![memory_file("x")])
        .unwrap();
    assert_eq!(eal.fetch("port/0/rx/1").unwrap().unwrap().0, b"anew");
    assert_eq!(next.fetch("port/0/rx/1").unwrap().unwrap().0, b"anew");
    next.withdraw("port/0/rx/1");
    assert!(eal.fetch("port/0/rx/1").unwrap().is_none());
    late.finish();
    next.cleanup().unwrap();
    eal.cleanup().unwrap();
}

#[test]
fn a_stopped_primary_is_given_up_after_two_seconds() {
    let dir = Place::new();
    let mut primary = Actor::start("publisher", dir.path(), "");
    assert_eq!(
        (primary.hear().as_str(), primary.hear().as_str()),
        ("joined PRIMARY", "published")
    );
    let eal = join(dir.path(), SECONDARY).unwrap();
    primary.stop();
    let started = Instant::now();
    let error = eal.fetch("port/0/rx/1").unwrap_err();
    assert!(matches!(error, Error::PrimaryDeaf { .. }), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
    primary.resume();
    assert!(eal.fetch("port/0/rx/1").unwrap().is_some());
}

#[test]
fn a_second_primary_is_refused_and_the_first_is_named() {
    let dir = Place::new();
    let mut primary = Actor::start("member", dir.path(), "");
    assert_eq!(primary.hear(), "joined PRIMARY");
    assert!(primary.hear().starts_with("slot "));
    let why = refused(join(dir.path(), ""));
    assert!(
        why.contains(&format!("process {}", primary.child.id())),
        "{why}"
    );
    assert!(
        why.contains("\"lab\"") && why.contains("--file-prefix"),
        "{why}"
    );
    // The refusal has left the first one as it was.
    assert_eq!(
        join(dir.path(), AUTO).unwrap().proc_type(),
        ProcType::Secondary
    );
    primary.finish();
}

#[test]
fn auto_is_primary_where_there_is_none_and_secondary_where_there_is_one() {
    let dir = Place::new();
    let mut first = Actor::start("member", dir.path(), AUTO);
    assert_eq!(first.hear(), "joined PRIMARY");
    let slot = first.hear();
    let mut second = Actor::start("member", dir.path(), AUTO);
    assert_eq!(second.hear(), "joined SECONDARY");
    assert_ne!(second.hear(), slot);
    second.finish();
    first.finish();
}

#[test]
fn a_secondary_without_a_group_is_told_how_to_start_one() {
    let dir = Place::new();
    let started = Instant::now();
    let why = refused(join(dir.path(), SECONDARY));
    assert!(
        why.contains("\"lab\"") && why.contains("--file-prefix=lab"),
        "{why}"
    );
    assert!(
        started.elapsed() < Duration::from_millis(500),
        "{:?}",
        started.elapsed()
    );
    let started = Instant::now();
    refused(join(dir.path(), "--proc-type=secondary --wait 1"));
    let waited = started.elapsed();
    assert!(
        waited >= Duration::from_secs(1) && waited < Duration::from_secs(2),
        "{waited:?}"
    );
    // It has left nothing behind.
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_waiting_secondary_joins_as_soon_as_there_is_a_primary() {
    let dir = Place::new();
    let mut waiting = Actor::start("asker", dir.path(), "--proc-type=secondary --wait 20");
    std::thread::sleep(Duration::from_millis(300));
    let primary = join(dir.path(), "").unwrap();
    let started = Instant::now();
    assert_eq!(waiting.hear(), "joined SECONDARY");
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    waiting.go_on();
    assert_eq!(waiting.hear(), "nothing");
    primary
        .publish(
            "port/0/rx/1",
            b"p",
            vec![memory_file("x"), memory_file("y")],
        )
        .unwrap();
    waiting.go_on();
    assert_eq!(waiting.hear(), "got p and 2");
    primary.cleanup().unwrap();
    waiting.go_on();
    assert!(
        waiting
            .hear()
            .starts_with("error no primary answers for the group \"lab\"")
    );
    waiting.finish();
}

#[test]
fn many_secondaries_race_a_primary_and_all_join() {
    let dir = Place::new();
    let mut waiting: Vec<Actor> = (0..6)
        .map(|_| Actor::start("member", dir.path(), "--proc-type=secondary --wait 20"))
        .collect();
    let mut primary = Actor::start("member", dir.path(), "");
    assert_eq!(primary.hear(), "joined PRIMARY");
    let mut slots = vec![primary.hear()];
    for secondary in &mut waiting {
        assert_eq!(secondary.hear(), "joined SECONDARY");
        slots.push(secondary.hear());
    }
    slots.sort();
    slots.dedup();
    assert_eq!(slots.len(), 7, "{slots:?}");
    waiting.into_iter().for_each(Actor::finish);
    primary.finish();
}

#[test]
fn of_several_that_race_to_be_primary_one_is() {
    let dir = Place::new();
    let mut actors: Vec<Actor> = (0..4)
        .map(|_| Actor::start("member", dir.path(), AUTO))
        .collect();
    let mut roles: Vec<String> = actors.iter_mut().map(Actor::hear).collect();
    roles.sort();
    assert_eq!(roles[0], "joined PRIMARY", "{roles:?}");
    assert!(
        roles[1..].iter().all(|role| role == "joined SECONDARY"),
        "{roles:?}"
    );
    actors.into_iter().for_each(Actor::finish);
}

#[test]
fn the_last_one_out_removes_the_files() {
    let dir = Place::new();
    let left = || dir.path().read_dir().unwrap().count();
    let primary = join(dir.path(), "").unwrap();
    assert_eq!(left(), 1);
    primary.cleanup().unwrap();
    assert_eq!(left(), 0);
    // Dropping does the same.
    drop(join(dir.path(), AUTO).unwrap());
    assert_eq!(left(), 0);
    // While somebody lives, they stay.
    let mut primary = Actor::start("member", dir.path(), "");
    assert_eq!(primary.hear(), "joined PRIMARY");
    let mut secondary = Actor::start("member", dir.path(), SECONDARY);
    assert_eq!(secondary.hear(), "joined SECONDARY");
    primary.finish();
    assert_eq!(left(), 1);
    let mut late = Actor::start("member", dir.path(), SECONDARY);
    assert_eq!(late.hear(), "joined SECONDARY");
    late.finish();
    secondary.finish();
    // A region outlives even the last secondary; the next primary starts afresh and tidies up.
    assert_eq!(left(), 1);
    let mut primary = Actor::start("member", dir.path(), AUTO);
    assert_eq!(primary.hear(), "joined PRIMARY");
    primary.finish();
    assert_eq!(left(), 0);
}

#[test]
fn a_group_in_private_memory_leaves_no_file_and_answers_itself() {
    let dir = Place::new();
    let eal = join(dir.path(), "--in-memory -l 0-1").unwrap();
    assert_eq!(eal.proc_type(), ProcType::Primary);
    eal.publish("k", b"v", vec![memory_file("x")]).unwrap();
    assert_eq!(eal.fetch("k").unwrap().unwrap().0, b"v");
    let eal = std::sync::Arc::new(eal);
    let shared = std::sync::Arc::clone(&eal);
    let worker = eal
        .launch(LcoreId(1), move || {
            shared.claim_slot("worker").unwrap().id()
        })
        .unwrap();
    let slot = worker.wait().unwrap();
    assert_eq!(eal.claim_slot("main").unwrap().id(), slot);
    assert_eq!(eal.worker_lcores(), [LcoreId(1)]);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_directory_with_a_long_path_serves_as_well() {
    let dir = Place::new();
    let long = dir.path().join("d".repeat(120)).join("e".repeat(120));
    std::fs::create_dir_all(&long).unwrap();
    let primary = join(&long, "").unwrap();
    primary.publish("k", b"v", Vec::new()).unwrap();
    let mut asker = Actor::start("asker", &long, SECONDARY);
    assert_eq!(asker.hear(), "joined SECONDARY");
    asker.go_on();
    assert_eq!(asker.hear(), "nothing");
    drop(asker);
    primary.cleanup().unwrap();
}

/// Two users that are not ours, and a Unix group for one of them; says why there are none.
fn strangers() -> Result<(u32, u32, u32), String> {
    const MEMBER: u32 = 65_533;
    const STRANGER: u32 = 65_532;
    if !rustix::process::geteuid().is_root() {
        return Err("only root can start processes of other users".to_owned());
    }
    let groups = std::fs::read_to_string("/etc/group").map_err(|error| error.to_string())?;
    let gid = groups
        .lines()
        .find_map(|line| line.strip_prefix("nogroup:x:")?.split(':').next());
    let gid = gid
        .and_then(|gid| gid.parse().ok())
        .ok_or("there is no group nogroup")?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let try_it = Command::new(program)
        .arg("--list")
        .stdout(Stdio::null())
        .uid(MEMBER)
        .status();
    match try_it {
        Ok(status) if status.success() => Ok((MEMBER, STRANGER, gid)),
        Ok(status) => Err(format!("another user's process ends with {status}")),
        Err(error) => Err(format!("another user cannot run this program: {error}")),
    }
}

#[test]
fn members_of_the_unix_group_may_join_and_fetch_and_strangers_may_not() {
    let (member, stranger, gid) = match strangers() {
        Ok(users) => users,
        Err(why) => {
            eprintln!("skipped: members_of_the_unix_group_may_join_and_fetch: {why}");
            return;
        }
    };
    let dir = Place::new();
    let open = std::fs::Permissions::from_mode(0o711);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let primary = join(dir.path(), "--group nogroup").unwrap();
    primary
        .publish("port/0/rx/1", b"shared", vec![memory_file("x")])
        .unwrap();
    let mut inside = Actor::start_as(Some((member, gid)), "asker", dir.path(), SECONDARY);
    assert_eq!(inside.hear(), "joined SECONDARY");
    inside.go_on();
    assert_eq!(inside.hear(), "got shared and 1");
    let mut outside = Actor::start_as(Some((stranger, stranger)), "asker", dir.path(), SECONDARY);
    let why = outside.hear();
    assert!(
        why.contains("Permission denied") && why.contains("--group"),
        "{why}"
    );
    drop((inside, outside));
    primary.cleanup().unwrap();
}

#[test]
fn a_main_lcore_that_is_not_there_is_refused() {
    let dir = Place::new();
    let why = refused(join(dir.path(), "--main-lcore 900"));
    assert!(why.contains("lcore 900 is not among"), "{why}");
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
}
