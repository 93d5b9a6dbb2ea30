//! Groups of real processes that die: who hears of it, what outlives them, what their children keep.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use eal::child::{self, Call, Deed};
use eal::control::Handed;
use eal::{Deaths, Eal, Error, Joined, ProcType, Slot, SlotId, SlotSet};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use tracing::field::{Field, Visit};
use tracing::span;

mod actor;
use actor::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);
/// The part of all children here: they do what they are told.
const SERVANT: &str = "servant";

/// Warnings of this process.
struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl Warnings {
    fn collect() {
        static ONCE: OnceLock<()> = OnceLock::new();
        ONCE.get_or_init(|| tracing::subscriber::set_global_default(&WARNINGS).unwrap());
    }

    /// The first that names it, when it comes.
    fn naming(what: &str) -> String {
        let start = Instant::now();
        loop {
            let warnings = WARNINGS.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = warnings.iter().find(|warning| warning.contains(what)) {
                return found.clone();
            }
            assert!(start.elapsed() < LONG, "{what} is not in {warnings:?}");
            drop(warnings);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl tracing::Subscriber for &'static Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        eprintln!("warning: {}", message.0);
        let mut warnings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.push(message.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn text(handed: Option<Handed>) -> String {
    handed.map_or("nothing".to_owned(), |(payload, _)| {
        String::from_utf8(payload).unwrap()
    })
}

fn pipe() -> (File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    (read.into(), write)
}

/// What a child has in hand between two orders.
#[derive(Default)]
struct Servant {
    slots: Vec<Slot>,
    pipe: Option<File>,
}

impl Servant {
    /// Does what a line says; what it says to that.
    fn obey(&mut self, eal: &Eal, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["claim"] => {
                self.slots.push(eal.claim_slot("servant").unwrap());
                self.slots.last().unwrap().id().to_string()
            }
            ["publish", key, payload] => {
                let file = vec![memory_file(payload)];
                eal.publish(key, payload.as_bytes(), file).unwrap();
                "published".to_owned()
            }
            ["publish-pipe", key] => {
                let (read, write) = pipe();
                self.pipe = Some(read);
                eal.publish(key, b"pipe", vec![write]).unwrap();
                "published".to_owned()
            }
            // Returns when nobody has the other end any more.
            ["drained"] => {
                let mut nothing = [0];
                let len = self.pipe.take().unwrap().read(&mut nothing).unwrap();
                format!("drained {len}")
            }
            ["keep", key] => text(eal.control().keep(key).unwrap()),
            ["fetch", key] => eal.fetch(key).map_or_else(|error| error.to_string(), text),
            // From where the open file stands, which all of its descriptors share.
            ["rest", key] => {
                let (_, descriptors) = eal.fetch(key).unwrap().unwrap();
                let mut rest = String::new();
                let mut file = File::from(descriptors.into_iter().next().unwrap());
                file.read_to_string(&mut rest).unwrap();
                rest
            }
            [call, deed] => {
                let call = match *call {
                    "fork" => Call::Fork,
                    "clone" => Call::Clone,
                    other => panic!("{other}"),
                };
                match *deed {
                    "sleep" => child::start(call, Deed::Sleep).unwrap().to_string(),
                    "read" => end_of(call, Deed::Read(&eal.region().config_words()[0])),
                    "leave" => end_of(call, Deed::Leave(eal)),
                    other => panic!("{other}"),
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// How a child ended that does this.
fn end_of(call: Call, deed: Deed<'_>) -> String {
    let pid = Pid::from_raw(child::start(call, deed).unwrap());
    let (_, status) = waitpid(pid, WaitOptions::empty()).unwrap().unwrap();
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "neither".to_owned(),
    }
}

#[test]
fn the_part_of_a_child() {
    if std::env::var(PART).as_deref() != Ok(SERVANT) {
        return;
    }
    let dir = std::env::var(DIR).unwrap();
    let eal = join(Path::new(&dir), &std::env::var(ARGS).unwrap()).unwrap();
    say(&format!("joined {}", eal.proc_type()));
    let mut servant = Servant::default();
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() > 1 {
        say(&servant.obey(&eal, &line));
        line.clear();
    }
    drop(servant);
    eal.cleanup().unwrap();
}

/// A child that has joined in the role that the arguments ask for.
fn servant(dir: &Place, args: &str) -> Actor {
    let mut servant = Actor::start(SERVANT, dir.path(), args);
    assert!(servant.hear().starts_with("joined"));
    servant
}

fn slot(said: &str) -> SlotId {
    SlotId::new(said.parse().unwrap()).unwrap()
}

/// Waits for a death to be told until that slot is dead.
fn hear_of(deaths: &Deaths, eal: &Eal, slot: SlotId) {
    let start = Instant::now();
    while !eal.region().dead_slots().contains(slot) {
        deaths.wait(LONG);
        assert!(start.elapsed() < LONG, "nothing was heard of slot {slot}");
    }
}

/// Sees to it that the process has joined this primary: what it keeps follows what is published.
fn settle(servant: &mut Actor, eal: &Eal) {
    let (mut read, write) = pipe();
    eal.publish("settle", b"old", vec![write]).unwrap();
    assert_eq!(servant.ask("keep settle"), "old");
    eal.publish("settle", b"new", Vec::new()).unwrap();
    assert_eq!(read.read(&mut [0]).unwrap(), 0, "the copy was replaced");
}

fn kill(pid: &str) {
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
}

fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_killed_member_is_heard_of_and_its_slot_is_dead() {
    let dir = Place::new();
    let eal = join(dir.path(), "").unwrap();
    assert_eq!((eal.joined(), eal.has_others()), (Joined::Created, false));
    let deaths = eal.deaths();
    let mut one = servant(&dir, SECONDARY);
    let mut other = servant(&dir, SECONDARY);
    assert!(eal.has_others());
    let (dead, living) = (slot(&one.ask("claim")), slot(&other.ask("claim")));
    settle(&mut one, &eal);
    assert!(eal.region().dead_slots().is_empty());
    one.kill();
    hear_of(&deaths, &eal, dead);
    assert!(!eal.region().dead_slots().contains(living) && eal.has_others());
    eal.region().claim_dead(SlotSet::EMPTY).unwrap().finish();
    assert!(eal.region().dead_slots().is_empty());
    // One that leaves is heard of too, and is not dead.
    while deaths.wait(Duration::ZERO) {}
    other.finish();
    assert!(deaths.wait(LONG));
    assert!(eal.region().dead_slots().is_empty());
    eal.cleanup().unwrap();
}

#[test]
fn a_secondary_hears_of_the_primarys_death_and_of_the_next_one() {
    let dir = Place::new();
    let mut primary = servant(&dir, "");
    let eal = join(dir.path(), SECONDARY).unwrap();
    assert_eq!((eal.joined(), eal.has_others()), (Joined::Attached, true));
    primary.ask("publish k v");
    let deaths = eal.deaths();
    eal.control().keep("k").unwrap().unwrap();
    primary.kill();
    let start = Instant::now();
    while eal.region().primary_alive() {
        deaths.wait(LONG);
        assert!(start.elapsed() < LONG);
    }
    let next = servant(&dir, AUTO);
    assert!(deaths.wait(LONG));
    assert_eq!(
        text(eal.fetch("k").unwrap()),
        "v",
        "the next one has not published it"
    );
    next.finish();
}

#[test]
fn what_members_keep_comes_to_the_next_primary_as_open_as_it_was() {
    let dir = Place::new();
    let mut primary = servant(&dir, "");
    let mut keeps = servant(&dir, SECONDARY);
    let mut keeps_too = servant(&dir, SECONDARY);
    primary.ask("publish file shared");
    for member in [&mut keeps, &mut keeps_too] {
        member.ask("claim");
        assert_eq!(member.ask("keep file"), "shared");
        assert_eq!(member.ask("keep never"), "nothing");
    }
    primary.kill();
    assert_eq!(keeps.ask("fetch file"), "shared");
    assert!(keeps.ask("fetch other").contains("no primary answers"));
    for round in 0..3 {
        let eal = join(dir.path(), AUTO).unwrap();
        assert_eq!(
            (eal.proc_type(), eal.joined()),
            (ProcType::Primary, Joined::Adopted)
        );
        let control = eal.control();
        let (payload, descriptors) = control.offered("file").unwrap();
        assert_eq!((payload.as_slice(), descriptors.len()), (&b"shared"[..], 1));
        let mut file = File::from(descriptors.into_iter().next().unwrap());
        file.seek(SeekFrom::Start(round)).unwrap();
        let rest = keeps.ask("rest file");
        assert_eq!(rest, &"shared"[usize::try_from(round).unwrap()..]);
        assert!(control.offered("never").is_none());
        // The last of these goes before it publishes anything; the copies stay.
        if round == 2 {
            eal.withdraw("file");
            settle(&mut keeps, &eal);
            settle(&mut keeps_too, &eal);
            assert_eq!(keeps.ask("fetch file"), "nothing");
        }
        eal.cleanup().unwrap();
    }
    let eal = join(dir.path(), AUTO).unwrap();
    assert!(eal.control().offered("file").is_none(), "it was withdrawn");
    keeps.finish();
    keeps_too.finish();
    eal.cleanup().unwrap();
}

#[test]
fn a_copy_is_fetched_anew_when_it_changes() {
    let dir = Place::new();
    let mut primary = servant(&dir, "");
    let mut member = servant(&dir, SECONDARY);
    primary.ask("publish-pipe k");
    assert_eq!(member.ask("keep k"), "pipe");
    primary.ask("publish k new");
    // The member has let go of the old one.
    assert_eq!(primary.ask("drained"), "drained 0");
    primary.kill();
    let eal = join(dir.path(), AUTO).unwrap();
    assert_eq!(text(eal.control().offered("k")), "new");
    member.finish();
    eal.cleanup().unwrap();
}

#[test]
fn a_stopped_member_holds_nobody_up_and_is_named_and_its_death_is_seen() {
    Warnings::collect();
    let dir = Place::new();
    let mut primary = servant(&dir, "");
    let mut asleep = servant(&dir, SECONDARY);
    let mut awake = servant(&dir, SECONDARY);
    primary.ask("publish k v");
    let slot = slot(&asleep.ask("claim"));
    for member in [&mut asleep, &mut awake] {
        assert_eq!(member.ask("keep k"), "v");
    }
    asleep.stop();
    primary.kill();
    let eal = join(dir.path(), AUTO).unwrap();
    let start = Instant::now();
    assert_eq!(text(eal.control().offered("k")), "v");
    assert!(start.elapsed() < LONG, "{:?}", start.elapsed());
    let warning = Warnings::naming(&format!("(process {}, slot {slot})", asleep.child.id()));
    assert!(
        warning.contains("servant") && warning.contains("stopped"),
        "{warning}"
    );
    // Publishing does not wait for it either.
    for round in 0..200 {
        eal.publish("k", round.to_string().as_bytes(), Vec::new())
            .unwrap();
    }
    // It has never joined this primary: nobody hears, and a look tells.
    assert!(!eal.region().dead_slots().contains(slot));
    asleep.kill();
    let deaths = eal.deaths();
    let start = Instant::now();
    while !eal.region().dead_slots().contains(slot) {
        deaths.wait(Duration::from_millis(5));
        assert!(start.elapsed() < LONG);
    }
    awake.finish();
    eal.cleanup().unwrap();
}

#[test]
fn a_stopped_member_is_offered_for_when_it_wakes_up() {
    let dir = Place::new();
    let mut primary = servant(&dir, "");
    let mut asleep = servant(&dir, SECONDARY);
    primary.ask("publish k v");
    asleep.ask("claim");
    assert_eq!(asleep.ask("keep k"), "v");
    asleep.stop();
    primary.kill();
    let eal = join(dir.path(), AUTO).unwrap();
    assert!(eal.control().offered("k").is_none());
    asleep.resume();
    let start = Instant::now();
    while eal.control().offered("k").is_none() {
        std::thread::sleep(Duration::from_millis(2));
        assert!(start.elapsed() < LONG);
    }
    asleep.finish();
    eal.cleanup().unwrap();
}

#[test]
fn a_forked_child_cannot_touch_the_region_and_the_parents_go_on() {
    let dir = Place::new();
    let eal = join(dir.path(), "").unwrap();
    let word = &eal.region().config_words()[0];
    let mut member = servant(&dir, SECONDARY);
    let slot = slot(&member.ask("claim"));
    for call in ["fork", "clone"] {
        assert_eq!(member.ask(&format!("{call} read")), "signal 11");
    }
    for call in [Call::Fork, Call::Clone] {
        assert_eq!(end_of(call, Deed::Read(word)), "signal 11");
    }
    settle(&mut member, &eal);
    assert!(!eal.region().dead_slots().contains(slot));
    member.finish();
    eal.cleanup().unwrap();
}

#[test]
fn a_child_that_leaves_takes_nothing_from_its_parent() {
    let dir = Place::new();
    let eal = join(dir.path(), "").unwrap();
    let mut member = servant(&dir, SECONDARY);
    let slot = slot(&member.ask("claim"));
    assert_eq!(member.ask("fork leave"), "exit 0");
    assert_eq!(member.ask("clone leave"), "exit 0");
    assert_eq!(end_of(Call::Fork, Deed::Leave(&eal)), "exit 0");
    // The files, the socket, its thread and both locks are still there.
    settle(&mut member, &eal);
    assert!(!eal.region().dead_slots().contains(slot) && eal.has_others());
    let second = join(dir.path(), "").unwrap_err();
    assert!(matches!(second, Error::SecondPrimary { .. }), "{second}");
    servant(&dir, SECONDARY).finish();
    member.finish();
    eal.cleanup().unwrap();
}

#[test]
fn a_death_is_seen_though_a_child_lives_and_a_child_that_keeps_the_lock_is_named() {
    Warnings::collect();
    let dir = Place::new();
    let eal = join(dir.path(), "").unwrap();
    for call in ["fork", "clone"] {
        let deaths = eal.deaths();
        let mut member = servant(&dir, SECONDARY);
        let slots = [slot(&member.ask("claim")), slot(&member.ask("claim"))];
        settle(&mut member, &eal);
        let child = member.ask(&format!("{call} sleep"));
        let owner = eal::Owner::new(slots[0], eal.region().slots()[slots[0].index()].state().1);
        assert!(eal.region().owner_alive(owner));
        member.kill();
        // The child has the connection too: only the pidfd tells.
        assert!(deaths.wait(LONG), "nothing rang");
        for slot in slots {
            hear_of(&deaths, &eal, slot);
        }
        assert!(lives(&child), "{call}");
        assert!(!eal.region().owner_alive(owner));
        eal.region().claim_dead(SlotSet::EMPTY).unwrap().finish();
        assert!(eal.region().dead_slots().is_empty());
        if call == "clone" {
            let warning = Warnings::naming(&format!("process {child} "));
            let slots = slots.map(|slot| slot.to_string()).join(", ");
            for part in [
                member.child.id().to_string(),
                slots,
                format!("kill {child}"),
            ] {
                assert!(warning.contains(&part), "{warning}");
            }
            // What the child keeps is not to be had, and all else is.
            let mut next = servant(&dir, SECONDARY);
            let next_slot = slot(&next.ask("claim"));
            assert!(warning.contains(&format!("process {} is dead", member.child.id())));
            assert!(!eal.region().dead_slots().contains(next_slot));
            next.finish();
        }
        kill(&child);
    }
    eal.cleanup().unwrap();
}

#[test]
fn a_child_that_keeps_the_primarys_lock_is_named_and_one_of_fork_keeps_none() {
    for call in ["fork", "clone"] {
        let dir = Place::new();
        let mut primary = servant(&dir, "");
        let mut member = servant(&dir, SECONDARY);
        primary.ask("publish k v");
        assert_eq!(member.ask("keep k"), "v");
        let child = primary.ask(&format!("{call} sleep"));
        // It lives, stopped or not: nobody is told that it is dead.
        primary.stop();
        let second = join(dir.path(), "").unwrap_err().to_string();
        assert!(second.contains("has a primary already"), "{second}");
        assert!(second.contains(&format!("process {}", primary.child.id())));
        primary.kill();
        // The child has the socket that is still connected to; the dead one is not waited for.
        assert_eq!(member.ask("fetch k"), "v");
        assert!(member.ask("fetch other").contains("no primary answers"));
        if call == "clone" {
            let second = join(dir.path(), "").unwrap_err().to_string();
            let dead = format!("process {} (", primary.child.id());
            for part in [&dead, "is dead", &format!("`kill {child}`")] {
                assert!(second.contains(part), "{second}");
            }
            kill(&child);
        }
        let next = join(dir.path(), "").unwrap();
        assert_eq!(next.joined(), Joined::Adopted);
        assert_eq!(text(next.control().offered("k")), "v");
        if call == "fork" {
            assert!(lives(&child));
            kill(&child);
        }
        member.finish();
        next.cleanup().unwrap();
    }
}
