//! Server and client together, and clients that mean no good.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, send, sendmsg,
};

use super::body::{Found, Offer};
use super::client::Client;
use super::frame::{Frame, Kind, VERSION};
use super::hall::Hall;
use super::place::{Place, SOCKET};
use super::server::Server;
use super::wake::Wake;
use super::*;
use crate::error::Error;
use crate::region::Region;

/// What a primary shares that nobody else's memory is needed for.
pub(super) fn hall(adopted: bool) -> Arc<Hall> {
    let wake = Some(Wake::new().unwrap());
    Arc::new(Hall::new(region(), adopted, Arc::default(), wake))
}

fn region() -> &'static Region {
    Box::leak(Box::new(Region::anonymous(1 << 16).unwrap()))
}

/// A server in a directory of its own, and what it hands out.
struct Setting {
    dir: tempfile::TempDir,
    table: Arc<Hall>,
    server: Server,
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let table = hall(true);
        let server = Server::start(dir.path(), None, Arc::clone(&table)).unwrap();
        Self { dir, table, server }
    }

    fn client(&self) -> Client {
        Client::open(self.dir.path(), "rte").unwrap()
    }

    /// A connection that no `Client` made.
    fn raw(&self) -> OwnedFd {
        Place::open(self.dir.path()).unwrap().connect().unwrap()
    }
}

fn memory_file(content: &[u8]) -> OwnedFd {
    let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    File::from(file.try_clone().unwrap())
        .write_all(content)
        .unwrap();
    file
}

/// Waits for the server's answer on a raw connection; empty when it hung up.
fn answer(socket: &OwnedFd) -> Vec<u8> {
    rustix::fs::fcntl_setfl(socket, rustix::fs::OFlags::empty()).unwrap();
    let limit = Some(TIME_LIMIT * 3);
    rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, limit)
        .unwrap();
    let mut bytes = vec![0; 1024];
    match rustix::net::recv(socket, &mut bytes[..], rustix::net::RecvFlags::empty()) {
        Ok((len, _)) => bytes.truncate(len),
        Err(rustix::io::Errno::CONNRESET) => bytes.clear(),
        Err(error) => panic!("no answer: {error}"),
    }
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    let frame = Frame::decode(bytes).unwrap();
    assert_eq!(frame.kind, Kind::Refused);
    String::from_utf8(frame.body.to_vec()).unwrap()
}

/// Reads a request from the next connection and gives it that answer.
fn answer_next(listener: &OwnedFd, answer: &[u8]) {
    let socket = rustix::net::accept_with(listener, SocketFlags::CLOEXEC).unwrap();
    let mut request = [0; 200];
    rustix::net::recv(&socket, &mut request[..], rustix::net::RecvFlags::empty()).unwrap();
    send(&socket, answer, SendFlags::empty()).unwrap();
}

#[test]
fn a_memory_file_and_a_socket_arrive_and_work() {
    let setting = Setting::new();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let published = vec![memory_file(b"shared"), theirs.into()];
    setting
        .table
        .publish("port/0/rx/0", b"two of them", published)
        .unwrap();
    let (payload, mut descriptors) = setting.client().fetch("port/0/rx/0").unwrap().unwrap();
    assert_eq!(payload, b"two of them");
    assert_eq!(descriptors.len(), 2);
    let mut theirs = UnixStream::from(descriptors.pop().unwrap());
    let mut memory = File::from(descriptors.pop().unwrap());
    let mut content = String::new();
    memory.rewind().unwrap();
    memory.read_to_string(&mut content).unwrap();
    assert_eq!(content, "shared");
    theirs.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    (&ours).read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    // A forked program must not inherit it.
    let flags = rustix::io::fcntl_getfd(&memory).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn the_largest_publication_fits_one_message() {
    let setting = Setting::new();
    let payload: Vec<u8> = (0..=u8::MAX).cycle().take(PAYLOAD_MAX).collect();
    let descriptors = (0..DESCRIPTORS_MAX).map(|_| memory_file(b"")).collect();
    setting.table.publish("big", &payload, descriptors).unwrap();
    let (received, descriptors) = setting.client().fetch("big").unwrap().unwrap();
    assert!(received == payload);
    assert_eq!(descriptors.len(), DESCRIPTORS_MAX);
}

#[test]
fn an_unknown_key_is_nothing_and_a_wrong_one_an_error() {
    let setting = Setting::new();
    assert!(setting.client().fetch("port/9").unwrap().is_none());
    assert!(matches!(
        setting.client().fetch("a b"),
        Err(Error::Key { .. })
    ));
    let long = "k".repeat(KEY_MAX);
    setting.table.publish(&long, b"", Vec::new()).unwrap();
    assert!(setting.client().fetch(&long).unwrap().is_some());
}

#[test]
fn a_primary_that_is_gone_is_named_with_the_remedy() {
    let mut setting = Setting::new();
    let client = setting.client();
    setting.server.stop().unwrap();
    assert!(!setting.dir.path().join(SOCKET).exists());
    let gone = client.fetch("k").unwrap_err();
    assert!(matches!(gone, Error::PrimaryGone { .. }));
    assert!(
        gone.to_string()
            .contains("--proc-type=primary --file-prefix=rte"),
        "{gone}"
    );
    // A killed primary leaves its socket behind.
    drop(
        Place::open(setting.dir.path())
            .unwrap()
            .listen(None)
            .unwrap(),
    );
    assert!(setting.dir.path().join(SOCKET).exists());
    assert!(matches!(client.fetch("k"), Err(Error::PrimaryGone { .. })));
    // The next one takes its place, and old clients find it.
    setting.server = Server::start(setting.dir.path(), None, hall(true)).unwrap();
    assert!(client.fetch("k").unwrap().is_none());
}

#[test]
fn a_primary_that_does_not_answer_is_given_up_after_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let _deaf = Place::open(dir.path()).unwrap().listen(None).unwrap();
    let started = Instant::now();
    let error = Client::open(dir.path(), "rte")
        .unwrap()
        .fetch("k")
        .unwrap_err();
    assert!(matches!(error, Error::PrimaryDeaf { .. }), "{error}");
    assert!(error.to_string().contains("within 2 s"), "{error}");
    let waited = started.elapsed();
    assert!(
        waited >= TIME_LIMIT && waited < TIME_LIMIT * 2,
        "{waited:?}"
    );
}

#[test]
fn answers_that_make_no_sense_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let listener = Place::open(dir.path()).unwrap().listen(None).unwrap();
    rustix::fs::fcntl_setfl(&listener, rustix::fs::OFlags::empty()).unwrap();
    let mut other_version = Frame {
        kind: Kind::Nothing,
        descriptors: 0,
        body: b"",
    }
    .encode();
    other_version[4] = 200;
    let answers = [
        b"garbage that is long enough".to_vec(),
        b"short".to_vec(),
        other_version,
        Frame {
            kind: Kind::Found,
            descriptors: 3,
            body: b"",
        }
        .encode(),
        Frame {
            kind: Kind::Fetch,
            descriptors: 0,
            body: b"",
        }
        .encode(),
        Frame {
            kind: Kind::Found,
            descriptors: 0,
            body: &[0; PAYLOAD_MAX + 9],
        }
        .encode(),
        Frame {
            kind: Kind::Refused,
            descriptors: 0,
            body: b"no\x1b[2J",
        }
        .encode(),
    ];
    let wanted = answers.len();
    let server = std::thread::spawn(move || {
        for answer in answers {
            answer_next(&listener, &answer);
        }
    });
    let client = Client::open(dir.path(), "rte").unwrap();
    let errors: Vec<Error> = (0..wanted)
        .map(|_| client.fetch("k").unwrap_err())
        .collect();
    server.join().unwrap();
    for unclear in [0, 1, 2, 4, 5] {
        assert!(
            matches!(errors[unclear], Error::ControlAnswer { .. }),
            "{:?}",
            errors[unclear]
        );
    }
    assert!(
        errors[2].to_string().contains("version 200"),
        "{}",
        errors[2]
    );
    assert!(matches!(
        errors[3],
        Error::DescriptorsLost {
            sent: 3,
            arrived: 0,
            ..
        }
    ));
    assert!(errors[6].to_string().ends_with("no[2J"), "{}", errors[6]);
}

#[test]
fn a_primary_that_hangs_up_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let listener = Place::open(dir.path()).unwrap().listen(None).unwrap();
    rustix::fs::fcntl_setfl(&listener, rustix::fs::OFlags::empty()).unwrap();
    let server = std::thread::spawn(move || {
        for _ in 0..3 {
            drop(rustix::net::accept_with(&listener, SocketFlags::CLOEXEC).unwrap());
        }
        answer_next(
            &listener,
            &Frame::plain(
                Kind::Found,
                &Found {
                    revision: 1,
                    payload: b"at last",
                }
                .encode(),
            ),
        );
    });
    let (payload, _) = Client::open(dir.path(), "rte")
        .unwrap()
        .fetch("k")
        .unwrap()
        .unwrap();
    assert_eq!(payload, b"at last");
    server.join().unwrap();
}

#[test]
fn garbage_is_answered_and_hurts_nobody() {
    let setting = Setting::new();
    setting.table.publish("k", b"v", Vec::new()).unwrap();
    let good = Frame {
        kind: Kind::Fetch,
        descriptors: 0,
        body: b"k",
    }
    .encode();
    let mut other_version = good.clone();
    other_version[4] = 9;
    let answer_request = Frame {
        kind: Kind::Found,
        descriptors: 0,
        body: b"k",
    }
    .encode();
    for (sent, wanted) in [
        (
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            "does not start as a frame does",
        ),
        (&good[..good.len() - 1], "has 0 bytes and not 1"),
        (&good[..10], "too few"),
        (
            &other_version,
            &format!("version 9 of the control socket and we speak {VERSION}"),
        ),
        (&answer_request, "Found is no request"),
        (&[b'x'; 4000], "does not start"),
    ] {
        let socket = setting.raw();
        send(&socket, sent, SendFlags::empty()).unwrap();
        let why = refusal(&answer(&socket));
        assert!(why.contains(wanted), "{why}");
    }
    // A key that is no text is nobody's.
    let socket = setting.raw();
    let odd = Frame {
        kind: Kind::Fetch,
        descriptors: 0,
        body: b"\xff\xfe",
    }
    .encode();
    send(&socket, &odd, SendFlags::empty()).unwrap();
    assert_eq!(Frame::decode(&answer(&socket)).unwrap().kind, Kind::Nothing);
    assert_eq!(setting.client().fetch("k").unwrap().unwrap().0, b"v");
}

/// How many descriptors this process has open on `content`.
fn open_on(file: &OwnedFd) -> usize {
    let wanted = rustix::fs::fstat(file).unwrap().st_ino;
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok())
        .filter(|found| std::os::unix::fs::MetadataExt::ino(found) == wanted)
        .count()
}

#[test]
fn descriptors_that_a_client_sends_are_not_kept() {
    let setting = Setting::new();
    let file = memory_file(b"");
    let before = open_on(&file);
    for _ in 0..50 {
        let socket = setting.raw();
        let request = Frame {
            kind: Kind::Fetch,
            descriptors: 1,
            body: b"k",
        }
        .encode();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut attached = SendAncillaryBuffer::new(&mut room);
        let sent = [file.as_fd()];
        assert!(attached.push(SendAncillaryMessage::ScmRights(&sent)));
        let bytes = [std::io::IoSlice::new(&request)];
        sendmsg(&socket, &bytes, &mut attached, SendFlags::empty()).unwrap();
        assert_eq!(Frame::decode(&answer(&socket)).unwrap().kind, Kind::Nothing);
    }
    assert_eq!(open_on(&file), before);
}

#[test]
fn many_silent_connections_keep_nobody_from_being_served() {
    let setting = Setting::new();
    setting
        .table
        .publish("k", b"v", vec![memory_file(b"x")])
        .unwrap();
    let mut silent = Vec::new();
    let client = setting.client();
    for round in 0..300 {
        // A full queue of the kernel is an error here and no harm there.
        silent.extend(Place::open(setting.dir.path()).unwrap().connect());
        if round % 50 == 0 {
            let started = Instant::now();
            assert_eq!(client.fetch("k").unwrap().unwrap().0, b"v");
            assert!(started.elapsed() < TIME_LIMIT, "{:?}", started.elapsed());
        }
    }
    assert!(silent.len() > 200, "{}", silent.len());
    // The first ones made room for the later ones.
    assert_eq!(answer(&silent[0]), b"");
    // The last ones are hung up on when their time has come.
    assert_eq!(answer(silent.last().unwrap()), b"");
}

#[test]
fn who_asks_and_does_not_listen_is_let_go() {
    let setting = Setting::new();
    let payload = vec![7; PAYLOAD_MAX];
    setting
        .table
        .publish("big", &payload, vec![memory_file(b"x")])
        .unwrap();
    let request = Frame {
        kind: Kind::Fetch,
        descriptors: 0,
        body: b"big",
    }
    .encode();
    let unheard: Vec<OwnedFd> = (0..100)
        .map(|_| {
            let socket = setting.raw();
            send(&socket, &request, SendFlags::empty()).unwrap();
            // And many more, whose answers would never fit.
            while send(&socket, &request, SendFlags::DONTWAIT).is_ok() {}
            socket
        })
        .collect();
    assert!(setting.client().fetch("big").unwrap().unwrap().0 == payload);
    drop(unheard);
}

#[test]
fn stopping_does_not_wait_for_clients() {
    let mut setting = Setting::new();
    let _silent: Vec<OwnedFd> = (0..20).map(|_| setting.raw()).collect();
    std::thread::sleep(Duration::from_millis(50));
    let started = Instant::now();
    setting.server.stop().unwrap();
    setting.server.stop().unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn a_stream_socket_cannot_even_connect() {
    let setting = Setting::new();
    let kind = SocketType::STREAM;
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, kind, None).unwrap();
    let path: &Path = &setting.dir.path().join(SOCKET);
    let address = rustix::net::SocketAddrUnix::new(path).unwrap();
    assert_eq!(
        rustix::net::connect(&socket, &address),
        Err(rustix::io::Errno::PROTOTYPE)
    );
}

#[test]
fn a_missing_directory_is_named() {
    let Err(error) = Client::open(Path::new("/nowhere/at/all"), "rte") else {
        panic!("it was opened");
    };
    assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
}

/// Members, and those who pretend to be one.
mod members {
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
}
