//! The primary's end: one thread that serves, and that no client can hold up.
//!
//! Nothing in it blocks but `poll`. A connection that has not joined carries one request and one
//! answer, and lives for two seconds at most; when too many are open the oldest goes. Who sends
//! garbage, half a message, nothing, or descriptors gets an answer that says so, or none. A member's
//! connection stays open; what is read of it at a time, and what is kept for it, is bounded too.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use tracing::{debug, warn};

use super::TIME_LIMIT;
use super::hall::Hall;
use super::members::{Members, Stirred};
use super::place::Place;
use super::request::{Admission, Answer, Connection, Step};
use super::wake::Wake;
use crate::error::Error;
use crate::process::Owner;
use crate::sys::control::peer;

/// Connections open at a time that have not joined: twice the processes of a group.
const CONNECTIONS_MAX: usize = 128;

/// Connections taken before those that are open get their turn.
const ACCEPT_BURST: usize = 16;

/// How long no connection is taken when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(50);

/// The thread that serves. Dropping this ends it and removes the socket.
#[derive(Debug)]
pub(crate) struct Server {
    place: Place,
    hall: Arc<Hall>,
    thread: Option<JoinHandle<()>>,
    /// Of this process: a forked child has neither thread nor socket.
    pid: u32,
}

impl Server {
    /// Listens in the directory of the group. Only for who holds the primary's lock: whatever
    /// socket lies there is a dead primary's.
    pub(super) fn start(dir: &Path, gid: Option<u32>, hall: Arc<Hall>) -> Result<Self, Error> {
        let io_error = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what, path, source }
        };
        let place = Place::open(dir).map_err(io_error("open the directory", dir))?;
        let path = place.socket_path();
        let listener = place.listen(gid).map_err(io_error("listen on", &path))?;
        let mut desk = Desk::new(listener, Admission::ours(gid), Arc::clone(&hall));
        let thread = std::thread::Builder::new()
            .name("forebay-control".to_owned())
            .spawn(move || desk.serve())
            .map_err(io_error("start a thread for", &path))?;
        Ok(Self {
            place,
            hall,
            thread: Some(thread),
            pid: std::process::id(),
        })
    }

    /// Ends the thread and removes the socket.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        if self.pid != std::process::id() {
            return Ok(());
        }
        if let Some(wake) = &self.hall.wake {
            wake.stop();
            if thread.join().is_err() {
                warn!("the thread of the control socket panicked");
            }
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
    admission: Admission,
    hall: Arc<Hall>,
    /// Oldest first.
    connections: Vec<Connection>,
    members: Members,
    /// No connection is taken before.
    paused_until: Option<Instant>,
}

impl Desk {
    fn new(listener: OwnedFd, admission: Admission, hall: Arc<Hall>) -> Self {
        Self {
            listener,
            admission,
            hall,
            connections: Vec::new(),
            members: Members::default(),
            paused_until: None,
        }
    }

    /// Serves until told to stop.
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
            if let Some(wake) = &self.hall.wake {
                if wake.is_stopped() {
                    return;
                }
                if ready.wake {
                    wake.drain();
                }
            }
            self.step(&ready.connections);
            self.members.turn(&self.hall, &ready.members);
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
        let wake = self.hall.wake.as_ref().map(Wake::as_fd);
        let wake = wake.map(|wake| PollFd::from_borrowed_fd(wake, PollFlags::IN));
        let has_wake = wake.is_some();
        let mut sources: Vec<PollFd<'_>> = wake.into_iter().collect();
        sources.push(PollFd::new(&self.listener, listen));
        sources.extend(self.connections.iter().map(|connection| {
            let wanted = if connection.answer.is_some() {
                PollFlags::OUT
            } else {
                PollFlags::IN
            };
            PollFd::new(&connection.socket, wanted)
        }));
        sources.extend(self.members.sources(self.hall.table.revision()));
        let deadlines = self
            .connections
            .iter()
            .map(|connection| connection.deadline);
        let timeout = deadlines
            .chain(self.paused_until)
            .chain(self.members.next_look())
            .min()
            .and_then(|first| Timespec::try_from(first.saturating_duration_since(now)).ok());
        poll(&mut sources, timeout.as_ref())?;
        let mut ready = sources.iter().map(|source| !source.revents().is_empty());
        Ok(Ready {
            wake: has_wake && ready.next().unwrap_or(false),
            listener: ready.next().unwrap_or(false),
            connections: ready.by_ref().take(self.connections.len()).collect(),
            members: self.members.stirred(ready),
        })
    }

    /// Gives each connection that has not joined its turn.
    fn step(&mut self, ready: &[bool]) {
        let (all, mut turn) = (std::mem::take(&mut self.connections), ready.iter());
        for mut connection in all {
            let step = if turn.next().is_some_and(|ready| *ready) {
                connection.step((&self.hall.table, self.admission))
            } else {
                Step::Wait
            };
            match step {
                Step::Wait => self.connections.push(connection),
                Step::Join(owners) => self.join(connection, owners),
                Step::Close => {}
            }
        }
    }

    fn join(&mut self, connection: Connection, owners: Vec<Owner>) {
        let Connection { socket, peer, .. } = connection;
        if let Err((socket, why)) = self.members.join(&self.hall, (socket, peer), owners) {
            warn!("process {} cannot join: {why}", peer.pid);
            let _ = Answer::refuse(why).send(socket.as_fd());
        }
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
            match connection.step((&self.hall.table, self.admission)) {
                Step::Wait => {}
                Step::Close => continue,
                Step::Join(owners) => {
                    self.join(connection, owners);
                    continue;
                }
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
    wake: bool,
    listener: bool,
    connections: Vec<bool>,
    members: Vec<Stirred>,
}

#[cfg(test)]
mod tests {
    use rustix::net::{RecvFlags, recv};

    use super::*;
    use crate::control::tests::hall;

    #[test]
    fn the_oldest_connection_makes_room_for_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path()).unwrap();
        let listener = place.listen(None).unwrap();
        let mut desk = Desk::new(listener, Admission::ours(None), hall(false));
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
