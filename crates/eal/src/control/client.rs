//! The other end: asks the primary for a key, for two seconds at most, and keeps what it is told
//! to for the time when there is no primary.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::body::Found;
use super::frame::{Frame, Kind, MESSAGE_MAX};
use super::kept::{Copy, Kept, Said};
use super::place::Place;
use super::table::check_key;
use super::wake::Wake;
use super::wire::{self, Received, printable};
use super::{Handed, TIME_LIMIT};
use crate::error::Error;
use crate::sys::control::{PeerProcess, peer, peer_process};

/// How long to wait before asking again after a primary was too busy to listen.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// A group's control socket, as a process sees it that is not the primary.
#[derive(Debug)]
pub(crate) struct Client {
    place: Place,
    prefix: String,
    time_limit: Duration,
    pub(super) kept: Kept,
    /// Held while a key is fetched to be kept, so that a copy is never replaced by an older one.
    /// Until when a primary that does not answer is not asked again for that.
    fetching: Mutex<Option<Instant>>,
    /// Of the member thread.
    pub(super) wake: Wake,
}

/// A connection to who listens at the socket.
#[derive(Debug)]
pub(super) struct Primary {
    pub(super) socket: OwnedFd,
    /// None: the kernel does not tell.
    pub(super) process: Option<OwnedFd>,
}

/// What became of one attempt.
enum Attempt {
    /// Try again: the primary hung up before it answered, or its queue was full.
    Again,
    /// The answer, and the descriptors that came with it.
    Answer(Received),
}

impl Client {
    /// For the group whose directory that is. Nobody needs to listen yet.
    pub(crate) fn open(dir: &Path, prefix: &str) -> Result<Self, Error> {
        let error = |source| Error::Io {
            what: "open the directory",
            path: dir.to_owned(),
            source,
        };
        Ok(Self {
            place: Place::open(dir).map_err(error)?,
            prefix: prefix.to_owned(),
            time_limit: TIME_LIMIT,
            kept: Kept::default(),
            fetching: Mutex::new(None),
            wake: Wake::new().map_err(error)?,
        })
    }

    /// What the primary has published under `key`, or what is kept of it if no primary says.
    pub(crate) fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        check_key(key)?;
        let silence = match self.ask(key, None) {
            Ok(Said::Published(copy)) => return Ok(Some((copy.payload, copy.descriptors))),
            Ok(Said::Withdrawn) => return Ok(None),
            Ok(Said::Nothing) => Ok(None),
            Err(error) => Err(error),
        };
        match self.kept.copy(key)? {
            Some(kept) => Ok(Some(kept)),
            None => silence,
        }
    }

    /// As [`fetch`](Self::fetch), and from now on a copy is kept. No primary is no error.
    pub(crate) fn keep(&self, key: &str) -> Result<Option<Handed>, Error> {
        self.kept.add(key)?;
        match self.refresh(key, None) {
            Ok(()) => {}
            // It is fetched when there is an answer.
            Err(Error::PrimaryGone { .. } | Error::PrimaryDeaf { .. }) => self.wake.ring(),
            Err(error) => return Err(error),
        }
        self.kept.copy(key)
    }

    /// Fetches a key that is kept, unless the primary just gave no answer. `wake` ends it early if
    /// it tells to stop.
    pub(super) fn refresh(&self, key: &str, wake: Option<&Wake>) -> Result<(), Error> {
        let fetching = self.fetching.lock();
        let mut deaf_until = fetching.unwrap_or_else(PoisonError::into_inner);
        if deaf_until.is_some_and(|until| Instant::now() < until) {
            return Err(self.failure(key, &io::ErrorKind::TimedOut.into()));
        }
        // Before it is asked for: what changes meanwhile is fetched again.
        self.kept.set_stale(key, false);
        let said = self.ask(key, wake);
        let is_deaf = matches!(said, Err(Error::PrimaryDeaf { .. }));
        *deaf_until = is_deaf.then(|| Instant::now() + self.time_limit);
        match said {
            Ok(said) => {
                self.kept.settle(key, said);
                Ok(())
            }
            Err(error) => {
                self.kept.set_stale(key, true);
                Err(error)
            }
        }
    }

    /// Asks until there is an answer.
    fn ask(&self, key: &str, wake: Option<&Wake>) -> Result<Said, Error> {
        let deadline = Instant::now() + self.time_limit;
        loop {
            let attempt = self
                .ask_once(key, deadline, wake)
                .map_err(|error| self.failure(key, &error))?;
            if let Attempt::Answer(received) = attempt {
                return self.take_apart(key, received);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.failure(key, &io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(AGAIN_AFTER.min(left));
        }
    }

    /// Connects to who listens, if it lives.
    pub(super) fn connect(&self) -> io::Result<Primary> {
        let socket = self.place.connect()?;
        let process = match peer_process(socket.as_fd(), peer(socket.as_fd())?) {
            PeerProcess::Alive(process) => Some(process),
            // A child that it forked keeps its socket, and nobody answers there.
            PeerProcess::Dead => return Err(io::ErrorKind::ConnectionRefused.into()),
            PeerProcess::Unknown => None,
        };
        Ok(Primary { socket, process })
    }

    /// Connects, asks and listens once.
    fn ask_once(&self, key: &str, deadline: Instant, wake: Option<&Wake>) -> io::Result<Attempt> {
        let primary = match self.connect() {
            Ok(primary) => primary,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Attempt::Again),
            Err(error) => return Err(error),
        };
        let socket = primary.socket.as_fd();
        match wire::send(socket, &Frame::plain(Kind::Fetch, key.as_bytes()), &[]) {
            Ok(()) => {}
            Err(Errno::PIPE | Errno::CONNRESET | Errno::AGAIN | Errno::INTR) => {
                return Ok(Attempt::Again);
            }
            Err(error) => return Err(error.into()),
        }
        loop {
            primary.wait(deadline, wake)?;
            match wire::receive(socket, MESSAGE_MAX) {
                Ok(received) if received.bytes.is_empty() => return Ok(Attempt::Again),
                Ok(received) => return Ok(Attempt::Answer(received)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Attempt::Again);
                }
                Err(error) if wire::is_later(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What an answer says.
    fn take_apart(&self, key: &str, received: Received) -> Result<Said, Error> {
        let Received { bytes, descriptors } = received;
        let unclear = |why: String| Error::ControlAnswer {
            prefix: self.prefix.clone(),
            key: key.to_owned(),
            why,
        };
        let frame = Frame::decode(&bytes).map_err(|error| unclear(error.to_string()))?;
        match frame.kind {
            Kind::Found if frame.descriptors == descriptors.len() => {
                let found = Found::decode(frame.body);
                let found = found.ok_or_else(|| unclear("its payload is none".to_owned()))?;
                Ok(Said::Published(Copy {
                    revision: found.revision,
                    payload: found.payload.to_vec(),
                    descriptors,
                }))
            }
            Kind::Found => Err(Error::DescriptorsLost {
                key: key.to_owned(),
                sent: frame.descriptors,
                arrived: descriptors.len(),
            }),
            Kind::Nothing => Ok(Said::Nothing),
            Kind::Withdrawn => Ok(Said::Withdrawn),
            Kind::Refused => Err(Error::ControlRefused {
                prefix: self.prefix.clone(),
                key: key.to_owned(),
                why: printable(frame.body),
            }),
            kind => Err(unclear(format!("it says {kind:?} instead"))),
        }
    }

    /// What went wrong, for the user.
    fn failure(&self, key: &str, error: &io::Error) -> Error {
        let (prefix, path) = (self.prefix.clone(), self.place.socket_path());
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::PrimaryGone { prefix, path }
            }
            io::ErrorKind::PermissionDenied => Error::PrimaryForbidden { prefix, path },
            io::ErrorKind::TimedOut => Error::PrimaryDeaf {
                prefix,
                key: key.to_owned(),
                seconds: self.time_limit.as_secs_f32(),
            },
            _ => Error::Io {
                what: "reach the primary at",
                path,
                source: error
                    .raw_os_error()
                    .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error),
            },
        }
    }
}

impl Primary {
    /// Sleeps until there is something to read, as long as it lives.
    fn wait(&self, deadline: Instant, wake: Option<&Wake>) -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
            let mut sources = vec![PollFd::new(&self.socket, PollFlags::IN)];
            let process = self.process.as_ref();
            sources.extend(process.map(|process| PollFd::new(process, PollFlags::IN)));
            sources.extend(wake.map(|wake| PollFd::new(wake, PollFlags::IN)));
            match poll(&mut sources, Some(&timeout)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            let is_ready = |place: usize| {
                let source: Option<&PollFd<'_>> = sources.get(place);
                source.is_some_and(|source| !source.revents().is_empty())
            };
            // What it said before it died counts.
            if is_ready(0) {
                return Ok(());
            }
            if process.is_some() && is_ready(1) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            if let Some(wake) = wake {
                if wake.is_stopped() {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                wake.drain();
            }
        }
    }
}
