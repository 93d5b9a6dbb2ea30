//! The other end: asks the primary for a key, for two seconds at most.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};

use super::frame::{FRAME_LEN, Frame, Kind};
use super::place::Place;
use super::table::check_key;
use super::{DESCRIPTORS_MAX, Handed, PAYLOAD_MAX, TIME_LIMIT};
use crate::error::Error;

/// How long to wait before asking again after a primary was too busy to listen.
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// A group's control socket, as a process sees it that is not the primary.
#[derive(Debug)]
pub(crate) struct Client {
    place: Place,
    prefix: String,
    time_limit: Duration,
}

/// What became of one attempt.
enum Attempt {
    /// Try again: the primary hung up before it answered, or its queue was full.
    Again,
    /// The answer, and the descriptors that came with it.
    Answer(Vec<u8>, Vec<OwnedFd>),
}

impl Client {
    /// For the group whose directory that is. Nobody needs to listen yet.
    pub(crate) fn open(dir: &Path, prefix: &str) -> Result<Self, Error> {
        let place = Place::open(dir).map_err(|source| Error::Io {
            what: "open the directory",
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            place,
            prefix: prefix.to_owned(),
            time_limit: TIME_LIMIT,
        })
    }

    /// What the primary has published under `key`.
    pub(crate) fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        check_key(key)?;
        let deadline = Instant::now() + self.time_limit;
        loop {
            let attempt = self
                .ask(key, deadline)
                .map_err(|error| self.failure(key, &error))?;
            if let Attempt::Answer(bytes, descriptors) = attempt {
                return self.take_apart(key, &bytes, descriptors);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.failure(key, &io::ErrorKind::TimedOut.into()));
            }
            std::thread::sleep(AGAIN_AFTER.min(left));
        }
    }

    /// Connects, asks and listens once.
    fn ask(&self, key: &str, deadline: Instant) -> io::Result<Attempt> {
        let socket = match self.place.connect() {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Attempt::Again),
            Err(error) => return Err(error),
        };
        let request = Frame {
            kind: Kind::Fetch,
            descriptors: 0,
            body: key.as_bytes(),
        }
        .encode();
        match send(&socket, &request, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(_) => {}
            Err(Errno::PIPE | Errno::CONNRESET | Errno::AGAIN | Errno::INTR) => {
                return Ok(Attempt::Again);
            }
            Err(error) => return Err(error.into()),
        }
        loop {
            wait(&socket, deadline)?;
            match receive(&socket) {
                Ok(Attempt::Answer(bytes, _)) if bytes.is_empty() => return Ok(Attempt::Again),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Attempt::Again);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                other => return other,
            }
        }
    }

    /// What an answer says.
    fn take_apart(
        &self,
        key: &str,
        bytes: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<Option<Handed>, Error> {
        let unclear = |why: String| Error::ControlAnswer {
            prefix: self.prefix.clone(),
            key: key.to_owned(),
            why,
        };
        let frame = Frame::decode(bytes).map_err(|error| unclear(error.to_string()))?;
        match frame.kind {
            Kind::Found if frame.descriptors == descriptors.len() => {
                Ok(Some((frame.body.to_vec(), descriptors)))
            }
            Kind::Found => Err(Error::DescriptorsLost {
                key: key.to_owned(),
                sent: frame.descriptors,
                arrived: descriptors.len(),
            }),
            Kind::Nothing => Ok(None),
            Kind::Refused => Err(Error::ControlRefused {
                prefix: self.prefix.clone(),
                key: key.to_owned(),
                why: printable(frame.body),
            }),
            Kind::Fetch => Err(unclear("it asks instead".to_owned())),
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

/// Sleeps until there is something to read.
fn wait(socket: &OwnedFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads one message; an empty one is the end of the connection.
fn receive(socket: &OwnedFd) -> io::Result<Attempt> {
    // One byte more than an answer may have shows what is too long.
    let mut bytes = vec![0; FRAME_LEN + PAYLOAD_MAX + 1];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut attached = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut attached,
        flags,
    )?;
    let mut descriptors = Vec::new();
    for part in attached.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    bytes.truncate(message.bytes);
    if message.flags.contains(ReturnFlags::TRUNC) || bytes.len() > FRAME_LEN + PAYLOAD_MAX {
        // Too long for a frame to be right; decoding says so.
        bytes.truncate(1);
    }
    Ok(Attempt::Answer(bytes, descriptors))
}

/// A text of somebody else, fit for a terminal.
fn printable(bytes: &[u8]) -> String {
    const LEN_MAX: usize = 200;
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(LEN_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_short_and_without_control_characters() {
        assert_eq!(printable(b"no\x1b[2J\n\xffthing"), "no[2J\u{fffd}thing");
        assert_eq!(printable(&[b'x'; 999]).len(), 200);
    }
}
