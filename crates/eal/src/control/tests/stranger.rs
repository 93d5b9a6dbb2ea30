//! Clients that mean no good, or do not listen.

use super::*;

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
