//! The primary's end: one thread that answers, and that no client can hold up.
//!
//! Nothing in it blocks but `poll`. A connection carries one request and one answer, and lives
//! for two seconds at most; when too many are open the oldest goes. Who sends garbage, half a
//! message, nothing, or descriptors gets an answer that says so, or none.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, accept_with,
    recv, sendmsg,
};
use tracing::{debug, warn};

use super::frame::{Frame, Kind, REQUEST_MAX};
use super::place::Place;
use super::table::{Published, Table};
use super::{DESCRIPTORS_MAX, TIME_LIMIT};
use crate::error::Error;
use crate::sys::control::{Peer, peer, peer_groups};

/// Connections open at a time: twice the processes of a group.
const CONNECTIONS_MAX: usize = 128;

/// Connections taken before those that are open get their turn.
const ACCEPT_BURST: usize = 16;

/// How long no connection is taken when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(50);

/// Who may ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admission {
    /// The user of the primary; the superuser may too.
    pub(crate) uid: u32,
    /// The Unix group of `--group`.
    pub(crate) gid: Option<u32>,
}

impl Admission {
    /// The user of this process, and a Unix group if there is one.
    pub(crate) fn ours(gid: Option<u32>) -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid,
        }
    }

    /// Whether that peer may ask; `groups` are its supplementary ones, looked up if needed.
    fn admits(self, peer: Peer, groups: impl FnOnce() -> io::Result<Vec<u32>>) -> bool {
        peer.uid == 0
            || peer.uid == self.uid
            || self.gid.is_some_and(|gid| {
                peer.gid == gid || groups().is_ok_and(|groups| groups.contains(&gid))
            })
    }
}

/// The thread that answers. Dropping this ends it and removes the socket.
#[derive(Debug)]
pub(crate) struct Server {
    place: Arc<Place>,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in the directory of the group. Only for who holds the primary's lock: whatever
    /// socket lies there is a dead primary's.
    pub(crate) fn start(dir: &Path, gid: Option<u32>, table: Arc<Table>) -> Result<Self, Error> {
        let io_error = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what, path, source }
        };
        let place = Place::open(dir).map_err(io_error("open the directory", dir))?;
        let path = place.socket_path();
        let listener = place.listen(gid).map_err(io_error("listen on", &path))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop = eventfd(0, flags).map_err(io::Error::from);
        let stop = Arc::new(stop.map_err(io_error("make a stop signal for", &path))?);
        let mut desk = Desk {
            listener,
            stop: Arc::clone(&stop),
            admission: Admission::ours(gid),
            table,
            connections: Vec::new(),
            paused_until: None,
        };
        let thread = std::thread::Builder::new()
            .name("forebay-control".to_owned())
            .spawn(move || desk.serve())
            .map_err(io_error("start a thread for", &path))?;
        Ok(Self {
            place: Arc::new(place),
            stop,
            thread: Some(thread),
        })
    }

    /// Ends the thread and removes the socket.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        // An eventfd that was never written takes a one.
        let told = rustix::io::write(&*self.stop, &1_u64.to_ne_bytes());
        if told.is_ok() && thread.join().is_err() {
            warn!("the thread of the control socket panicked");
        }
        self.place.unlink().map_err(|source| Error::Io {
            what: "remove",
            path: self.place.socket_path(),
            source,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever wants to know calls `stop`.
        let _ = self.stop();
    }
}

/// What the thread works on.
#[derive(Debug)]
struct Desk {
    listener: OwnedFd,
    stop: Arc<OwnedFd>,
    admission: Admission,
    table: Arc<Table>,
    /// Oldest first.
    connections: Vec<Connection>,
    /// No connection is taken before.
    paused_until: Option<Instant>,
}

/// Somebody who asks.
#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    peer: Peer,
    deadline: Instant,
    /// What is still to be sent; until it is there, the request is still to be read.
    answer: Option<Answer>,
}

/// A message and the publication whose descriptors go with it.
#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    published: Option<Arc<Published>>,
}

/// Whether a connection is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Wait,
    Close,
}

impl Desk {
    /// Answers until told to stop.
    fn serve(&mut self) {
        loop {
            let now = Instant::now();
            self.connections
                .retain(|connection| connection.deadline > now);
            if self.paused_until.is_some_and(|until| until <= now) {
                self.paused_until = None;
            }
            let Ok(ready) = self.wait(now) else {
                // Interrupted, or the kernel is short of memory; then give it time.
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            if ready.stop {
                return;
            }
            let mut turn = ready.connections.into_iter();
            let desk = (self.table.as_ref(), self.admission);
            self.connections.retain_mut(|connection| {
                !turn.next().unwrap_or(false) || connection.step(desk) == Step::Wait
            });
            if ready.listener {
                self.accept();
            }
        }
    }

    /// Sleeps until something is ready or a deadline has come.
    fn wait(&self, now: Instant) -> io::Result<Ready> {
        let listen = if self.paused_until.is_none() {
            PollFlags::IN
        } else {
            PollFlags::empty()
        };
        let mut sources = vec![
            PollFd::new(&*self.stop, PollFlags::IN),
            PollFd::new(&self.listener, listen),
        ];
        sources.extend(self.connections.iter().map(|connection| {
            let wanted = if connection.answer.is_some() {
                PollFlags::OUT
            } else {
                PollFlags::IN
            };
            PollFd::new(&connection.socket, wanted)
        }));
        let deadlines = self
            .connections
            .iter()
            .map(|connection| connection.deadline);
        let timeout = deadlines
            .chain(self.paused_until)
            .min()
            .and_then(|first| Timespec::try_from(first.saturating_duration_since(now)).ok());
        poll(&mut sources, timeout.as_ref())?;
        let ready: Vec<bool> = sources
            .iter()
            .map(|source| !source.revents().is_empty())
            .collect();
        Ok(Ready {
            stop: ready.first().is_some_and(|ready| *ready),
            listener: ready.get(1).is_some_and(|ready| *ready),
            connections: ready.get(2..).unwrap_or_default().to_vec(),
        })
    }

    /// Takes new connections and gives each its first turn: as a rule the request is there.
    fn accept(&mut self) {
        for _ in 0..ACCEPT_BURST {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = match accept_with(&self.listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
                Err(error) => {
                    warn!("cannot take a connection to the control socket: {error}");
                    self.connections.clear();
                    self.paused_until = Some(Instant::now() + PAUSE);
                    return;
                }
            };
            let Ok(peer) = peer(socket.as_fd()) else {
                continue;
            };
            let deadline = Instant::now() + TIME_LIMIT;
            let mut connection = Connection {
                socket,
                peer,
                deadline,
                answer: None,
            };
            if connection.step((self.table.as_ref(), self.admission)) == Step::Close {
                continue;
            }
            if self.connections.len() >= CONNECTIONS_MAX {
                let oldest = self.connections.remove(0);
                debug!(
                    "too many ask at once: process {} goes unanswered",
                    oldest.peer.pid
                );
            }
            self.connections.push(connection);
        }
    }
}

/// What `poll` found.
#[derive(Debug)]
struct Ready {
    stop: bool,
    listener: bool,
    connections: Vec<bool>,
}

impl Connection {
    /// Reads what can be read and sends what can be sent.
    fn step(&mut self, desk: (&Table, Admission)) -> Step {
        let answer = match self.answer.take() {
            Some(answer) => answer,
            None => match self.read(desk) {
                Ok(Some(answer)) => answer,
                Ok(None) => return Step::Wait,
                Err(error) => {
                    debug!("process {} asked nothing: {error}", self.peer.pid);
                    return Step::Close;
                }
            },
        };
        match answer.send(self.socket.as_fd()) {
            Err(Errno::AGAIN | Errno::INTR) => {
                self.answer = Some(answer);
                Step::Wait
            }
            Err(error) if answer.published.is_some() => {
                // Such as too many descriptors on their way: the client is told what happened.
                debug!("cannot answer process {}: {error}", self.peer.pid);
                let refusal = Answer::refuse(&format!("the kernel did not pass it on: {error}"));
                let _ = refusal.send(self.socket.as_fd());
                Step::Close
            }
            _ => Step::Close,
        }
    }

    /// The answer to the request, if the request is there.
    fn read(&self, (table, admission): (&Table, Admission)) -> io::Result<Option<Answer>> {
        // One byte more than a request may have shows what is too long. Descriptors that come
        // with it are closed by the kernel, since we give it no room for them.
        let mut room = [0; REQUEST_MAX + 1];
        let len = match recv(&self.socket, &mut room[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((len, _)) => len,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let groups = || peer_groups(self.socket.as_fd());
        if !admission.admits(self.peer, groups) {
            let Peer { pid, uid, .. } = self.peer;
            warn!("process {pid} of user {uid} asked at the control socket and was refused");
            let why = format!("user {uid} is not admitted; start the primary with --group");
            return Ok(Some(Answer::refuse(&why)));
        }
        let answer = match Frame::decode(room.get(..len).unwrap_or_default()) {
            Ok(Frame {
                kind: Kind::Fetch,
                body,
                ..
            }) => {
                let key = std::str::from_utf8(body).ok();
                match key.and_then(|key| table.find(key)) {
                    Some(published) => Answer::found(published),
                    None => Answer::plain(Kind::Nothing, b""),
                }
            }
            Ok(Frame { kind, .. }) => Answer::refuse(&format!("{kind:?} is no request")),
            Err(error) => Answer::refuse(&format!("this is no request: {error}")),
        };
        Ok(Some(answer))
    }
}

impl Answer {
    fn plain(kind: Kind, body: &[u8]) -> Self {
        let bytes = Frame {
            kind,
            descriptors: 0,
            body,
        }
        .encode();
        Self {
            bytes,
            published: None,
        }
    }

    fn refuse(why: &str) -> Self {
        Self::plain(Kind::Refused, why.as_bytes())
    }

    fn found(published: Arc<Published>) -> Self {
        let descriptors = published.descriptors.len();
        let frame = Frame {
            kind: Kind::Found,
            descriptors,
            body: &published.payload,
        };
        Self {
            bytes: frame.encode(),
            published: Some(published),
        }
    }

    /// One message; all of it or an error.
    fn send(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let descriptors = self
            .published
            .as_ref()
            .map_or(&[][..], |found| &found.descriptors);
        let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut attached = SendAncillaryBuffer::new(&mut room);
        if !descriptors.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(&descriptors))
        {
            return Err(Errno::TOOMANYREFS);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        sendmsg(socket, &[IoSlice::new(&self.bytes)], &mut attached, flags).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_superuser_the_user_and_the_group_may_ask_and_nobody_else() {
        let peer = |uid, gid| Peer { pid: 1, uid, gid };
        let none = || Ok(Vec::new());
        let alone = Admission {
            uid: 1000,
            gid: None,
        };
        assert!(alone.admits(peer(0, 0), none) && alone.admits(peer(1000, 5), none));
        assert!(!alone.admits(peer(1001, 1000), none));
        let shared = Admission {
            uid: 1000,
            gid: Some(7),
        };
        assert!(shared.admits(peer(1001, 7), none));
        assert!(shared.admits(peer(1001, 5), || Ok(vec![3, 7])));
        assert!(!shared.admits(peer(1001, 5), || Ok(vec![3])));
        assert!(!shared.admits(peer(1001, 5), || Err(io::ErrorKind::Unsupported.into())));
    }

    #[test]
    fn the_oldest_connection_makes_room_for_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path()).unwrap();
        let mut desk = Desk {
            listener: place.listen(None).unwrap(),
            stop: Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap()),
            admission: Admission::ours(None),
            table: Arc::default(),
            connections: Vec::new(),
            paused_until: None,
        };
        let connect = |desk: &mut Desk| {
            let socket = place.connect().unwrap();
            desk.accept();
            socket
        };
        let is_closed = |socket: &OwnedFd| {
            let mut room = [0; 1];
            recv(socket, &mut room[..], RecvFlags::DONTWAIT).map(|(len, _)| len) == Ok(0)
        };
        let silent: Vec<OwnedFd> = (0..CONNECTIONS_MAX).map(|_| connect(&mut desk)).collect();
        assert_eq!(desk.connections.len(), CONNECTIONS_MAX);
        assert!(!is_closed(&silent[0]));
        let _newest = connect(&mut desk);
        assert_eq!(desk.connections.len(), CONNECTIONS_MAX);
        assert!(is_closed(&silent[0]) && !is_closed(&silent[1]));
    }
}
