//! Clients that ask, and what they get.

use super::*;

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
