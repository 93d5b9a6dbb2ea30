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

use super::client::Client;
use super::frame::{Frame, Kind, VERSION};
use super::place::{Place, SOCKET};
use super::table::Table;
use super::*;
use crate::error::Error;

/// A server in a directory of its own, and what it hands out.
struct Setting {
    dir: tempfile::TempDir,
    table: Arc<Table>,
    server: Server,
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let table = Arc::new(Table::default());
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
    setting.server = Server::start(setting.dir.path(), None, Arc::clone(&setting.table)).unwrap();
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
            body: &[0; PAYLOAD_MAX + 1],
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
            &Frame {
                kind: Kind::Found,
                descriptors: 0,
                body: b"at last",
            }
            .encode(),
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
