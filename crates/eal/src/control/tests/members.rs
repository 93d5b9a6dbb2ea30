//! Members, and those who pretend to be one.

use proptest::prelude::*;

use super::*;
use crate::control::deaths::{Bell, Deaths};
use crate::control::member::Member;

const LONG: Duration = Duration::from_secs(20);

/// A secondary, as far as the control socket goes.
struct Secondary {
    client: Arc<Client>,
    /// Rings when there is a primary, and when it is gone.
    deaths: Deaths,
    thread: Member,
}

impl Secondary {
    fn of(dir: &Path) -> Self {
        let client = Arc::new(Client::open(dir, "rte").unwrap());
        let bell = Arc::new(Bell::default());
        let deaths = Deaths::of(&bell);
        let thread = Member::start(Arc::clone(&client), region(), bell).unwrap();
        Self {
            client,
            deaths,
            thread,
        }
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn payload(handed: Option<Handed>) -> Option<String> {
    handed.map(|(payload, _)| String::from_utf8(payload).unwrap())
}

fn kept(secondary: &Secondary, key: &str) -> Option<String> {
    payload(secondary.client.kept.copy(key).unwrap())
}

fn join(socket: &OwnedFd) {
    let bytes = Frame::plain(Kind::Join, b"");
    send(socket, &bytes, SendFlags::empty()).unwrap();
}

#[test]
fn what_is_kept_follows_what_is_published() {
    let setting = Setting::new();
    let publish = |key: &str, payload: &[u8]| {
        let file = vec![memory_file(payload)];
        setting.table.publish(key, payload, file).unwrap();
    };
    publish("early", b"one");
    let secondary = Secondary::of(setting.dir.path());
    let early = secondary.client.keep("early").unwrap();
    assert_eq!(payload(early).unwrap(), "one");
    assert!(secondary.client.keep("late").unwrap().is_none());
    publish("early", b"two");
    publish("late", b"three");
    publish("unkept", b"four");
    until("the copies are fetched anew", || {
        kept(&secondary, "early").as_deref() == Some("two")
            && kept(&secondary, "late").as_deref() == Some("three")
    });
    assert_eq!(kept(&secondary, "unkept"), None);
    until("nothing is left to fetch", || {
        secondary.client.kept.stale().is_empty()
    });
    setting.table.withdraw("early");
    until("the copy is let go of", || {
        kept(&secondary, "early").is_none()
    });
    assert!(secondary.client.fetch("early").unwrap().is_none());
}

#[test]
fn a_thousand_publications_reach_a_member_and_the_last_of_each_stays() {
    let setting = Setting::new();
    let secondary = Secondary::of(setting.dir.path());
    let keys: Vec<String> = (0..300).map(|number| format!("k{number}")).collect();
    for key in &keys {
        assert!(secondary.client.keep(key).unwrap().is_none());
    }
    for round in ["a", "b", "c", "d"] {
        for key in &keys {
            setting
                .table
                .publish(key, round.as_bytes(), Vec::new())
                .unwrap();
        }
    }
    until("the last of each is kept", || {
        keys.iter()
            .all(|key| kept(&secondary, key).as_deref() == Some("d"))
    });
}

#[test]
fn what_was_kept_comes_to_the_next_primary_as_the_same_open_file() {
    let mut setting = Setting::new();
    let file = memory_file(b"shared");
    let published = vec![file.try_clone().unwrap()];
    setting.table.publish("k", b"payload", published).unwrap();
    let secondary = Secondary::of(setting.dir.path());
    secondary.client.keep("k").unwrap().unwrap();
    assert!(secondary.deaths.wait(LONG), "it has joined");
    setting.server.stop().unwrap();
    setting.table.clear();
    assert!(secondary.deaths.wait(LONG), "the primary is gone");
    // In between there is the copy.
    let copy = secondary.client.fetch("k").unwrap();
    assert_eq!(payload(copy).unwrap(), "payload");
    let error = secondary.client.fetch("other").unwrap_err();
    assert!(matches!(error, Error::PrimaryGone { .. }), "{error}");
    let late = secondary.client.keep("late").unwrap();
    assert!(late.is_none());

    let next = hall(true);
    setting.server = Server::start(setting.dir.path(), None, Arc::clone(&next)).unwrap();
    let (payload, descriptors) = next.offered("k").unwrap();
    assert_eq!(
        (payload.as_slice(), descriptors.len()),
        (&b"payload"[..], 1)
    );
    // One offset for both: the same open file, not the same file opened again.
    File::from(file).seek(std::io::SeekFrom::Start(3)).unwrap();
    let mut rest = String::new();
    let mut offered = File::from(descriptors.into_iter().next().unwrap());
    offered.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "red");
    assert!(next.offered("late").is_none());
    // While the next one has not published, the copy is given; then what it publishes.
    assert!(secondary.client.fetch("k").unwrap().is_some());
    next.publish("late", b"new", Vec::new()).unwrap();
    next.withdraw("k");
    assert!(next.offered("k").is_none());
    until("late is fetched and k is let go of", || {
        kept(&secondary, "late").is_some() && kept(&secondary, "k").is_none()
    });
}

#[test]
fn the_younger_of_two_copies_is_taken_over() {
    let mut setting = Setting::new();
    setting.table.publish("k", b"old", Vec::new()).unwrap();
    let mut asleep = Secondary::of(setting.dir.path());
    let awake = Secondary::of(setting.dir.path());
    asleep.client.keep("k").unwrap().unwrap();
    awake.client.keep("k").unwrap().unwrap();
    asleep.thread.stop();
    setting.table.publish("k", b"new", Vec::new()).unwrap();
    until("the younger is kept", || {
        kept(&awake, "k").as_deref() == Some("new")
    });
    setting.server.stop().unwrap();
    for first in [&asleep, &awake] {
        let next = hall(true);
        setting.server = Server::start(setting.dir.path(), None, Arc::clone(&next)).unwrap();
        // By hand, so that the order is ours.
        for secondary in [first, &asleep, &awake] {
            let copy = secondary.client.kept.find("k").unwrap();
            let held = (copy.payload.clone(), Vec::new());
            next.lobby.hold("k", copy.revision, held).unwrap();
        }
        assert_eq!(payload(next.offered("k")).unwrap(), "new");
        setting.server.stop().unwrap();
    }
}

#[test]
fn a_member_that_stops_leaves_at_once_also_while_no_primary_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut alone = Secondary::of(dir.path());
    let start = Instant::now();
    alone.thread.stop();
    // One that listens and says nothing.
    let _deaf = Place::open(dir.path()).unwrap().listen(None).unwrap();
    let mut unheard = Secondary::of(dir.path());
    std::thread::sleep(Duration::from_millis(50));
    unheard.client.kept.add("k").unwrap();
    unheard.client.wake.ring();
    std::thread::sleep(Duration::from_millis(50));
    unheard.thread.stop();
    assert!(start.elapsed() < TIME_LIMIT, "{:?}", start.elapsed());
}

#[test]
fn a_deaf_primary_is_waited_for_once_and_asked_again_later() {
    let dir = tempfile::tempdir().unwrap();
    let deaf = Place::open(dir.path()).unwrap().listen(None).unwrap();
    let secondary = Secondary::of(dir.path());
    let start = Instant::now();
    for number in 0..50 {
        let copy = secondary.client.keep(&format!("k{number}")).unwrap();
        assert!(copy.is_none());
    }
    assert!(start.elapsed() < TIME_LIMIT * 3, "{:?}", start.elapsed());
    drop(deaf);
    let table = hall(false);
    table.publish("k7", b"at last", Vec::new()).unwrap();
    let _server = Server::start(dir.path(), None, Arc::clone(&table)).unwrap();
    until("it is fetched", || kept(&secondary, "k7").is_some());
}

#[test]
fn rubbish_of_a_member_cuts_it_off_and_nobody_else() {
    let setting = Setting::new();
    let honest = Secondary::of(setting.dir.path());
    let plain = |kind, body: &[u8]| Frame::plain(kind, body);
    let key = b"k".as_slice();
    let offer = Offer {
        revision: 1,
        key: "a b",
        payload: b"",
    };
    for rubbish in [
        b"rubbish".to_vec(),
        plain(Kind::Fetch, key),
        plain(Kind::Changed, key),
        plain(Kind::Join, b""),
        plain(Kind::Found, key),
        plain(Kind::Offer, key),
        plain(Kind::Offer, &offer.encode()),
        plain(Kind::Slots, b"odd"),
        plain(Kind::Slots, &[1; 4 * 65]),
        vec![7; 100_000],
    ] {
        let socket = setting.raw();
        join(&socket);
        send(&socket, &rubbish, SendFlags::empty()).unwrap();
        assert_eq!(
            answer(&socket),
            b"",
            "{rubbish:?} was taken, or not even heard"
        );
    }
    setting.table.publish("k", b"v", Vec::new()).unwrap();
    let copy = honest.client.keep("k").unwrap();
    assert_eq!(payload(copy).unwrap(), "v");
}

#[test]
fn an_offer_after_ready_and_too_many_before_it_cut_off() {
    let setting = Setting::new();
    let offer = |key: &str| {
        let offer = Offer {
            revision: 1,
            key,
            payload: b"",
        };
        Frame::plain(Kind::Offer, &offer.encode())
    };
    let late = setting.raw();
    join(&late);
    for bytes in [offer("a"), Frame::plain(Kind::Ready, b""), offer("b")] {
        send(&late, &bytes, SendFlags::empty()).unwrap();
    }
    assert_eq!(answer(&late), b"");
    assert!(setting.table.offered("a").is_some() && setting.table.offered("b").is_none());
    let endless = setting.raw();
    rustix::fs::fcntl_setfl(&endless, rustix::fs::OFlags::empty()).unwrap();
    join(&endless);
    let sent = (0..10_000)
        .take_while(|number| {
            let bytes = offer(&format!("k{number}"));
            send(&endless, &bytes, SendFlags::NOSIGNAL).is_ok()
        })
        .count();
    assert!(sent < 10_000, "it was never cut off");
}

#[test]
fn a_member_that_never_listens_costs_nobody_anything() {
    let setting = Setting::new();
    let deaf: Vec<OwnedFd> = (0..4).map(|_| setting.raw()).collect();
    deaf.iter().for_each(join);
    let honest = Secondary::of(setting.dir.path());
    honest.client.keep("k0").unwrap();
    // Far more than a socket holds.
    for round in 0..40 {
        for number in 0..CHANGES {
            let key = format!("{}{number}", "k".repeat(if number == 0 { 1 } else { 100 }));
            let payload = round.to_string();
            let payload = payload.as_bytes();
            setting.table.publish(&key, payload, Vec::new()).unwrap();
        }
    }
    until("the others are told", || {
        kept(&honest, "k0").as_deref() == Some("39")
    });
    // And when it listens after all, it is told all that counts.
    let mut told = std::collections::BTreeSet::new();
    while told.len() < CHANGES {
        let mut bytes = vec![0; 100_000];
        let flags = rustix::net::RecvFlags::empty();
        rustix::fs::fcntl_setfl(&deaf[0], rustix::fs::OFlags::empty()).unwrap();
        let (len, _) = rustix::net::recv(&deaf[0], &mut bytes[..], flags).unwrap();
        let frame = Frame::decode(&bytes[..len]).unwrap();
        assert_eq!(frame.kind, Kind::Changed);
        told.extend(body::decode_keys(frame.body).map(str::to_owned));
    }
}

const CHANGES: usize = 500;

#[test]
fn one_process_joins_a_few_times_and_no_more() {
    let setting = Setting::new();
    let sockets: Vec<OwnedFd> = (0..9).map(|_| setting.raw()).collect();
    sockets.iter().for_each(join);
    let why = refusal(&answer(sockets.last().unwrap()));
    assert!(why.contains("too often"), "{why}");
    // Those that closed make room: the process is watched, once.
    drop(sockets);
    until("it may join again", || {
        let again = setting.raw();
        join(&again);
        send(&again, &Frame::plain(Kind::Ready, b""), SendFlags::empty()).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let mut room = [0; 64];
        let flags = rustix::net::RecvFlags::DONTWAIT;
        let outcome = rustix::net::recv(&again, &mut room[..], flags);
        outcome == Err(rustix::io::Errno::AGAIN)
    });
}

#[test]
fn a_closed_connection_rings_the_bell() {
    let setting = Setting::new();
    let deaths = Deaths::of(&setting.table.bell);
    let socket = setting.raw();
    join(&socket);
    assert!(!deaths.wait(Duration::from_millis(50)));
    drop(socket);
    assert!(deaths.wait(LONG));
    // That is us, and we live: watched, and not dead.
    assert!(!deaths.wait(Duration::from_millis(50)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_of_messages_stops_the_primary(
        messages in prop::collection::vec(
            (1_u16..13, prop::collection::vec(any::<u8>(), 0..60), any::<bool>()),
            1..12,
        ),
    ) {
        thread_local! {
            static SETTING: Setting = Setting::new();
        }
        SETTING.with(|setting| {
            let socket = setting.raw();
            join(&socket);
            for (kind, body, attached) in &messages {
                let mut bytes = Frame {
                    kind: Kind::Ready,
                    descriptors: usize::from(*attached),
                    body,
                }
                .encode();
                bytes[6..8].copy_from_slice(&kind.to_le_bytes());
                let file = memory_file(b"");
                let descriptors = if *attached { &[file][..] } else { &[] };
                if wire::send(socket.as_fd(), &bytes, descriptors).is_err() {
                    break;
                }
            }
            setting.table.publish("k", b"v", Vec::new()).unwrap();
            let fetched = setting.client().fetch("k").unwrap();
            assert_eq!(payload(fetched).unwrap(), "v");
        });
    }
}
