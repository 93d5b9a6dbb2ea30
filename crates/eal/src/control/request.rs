//! A connection that has not joined: one request, one answer, two seconds.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tracing::{debug, warn};

use super::body::{Found, OPENING_MAX, decode_owners};
use super::frame::{FRAME_LEN, Frame, Kind};
use super::table::{Entry, Published, Table};
use super::wire;
use crate::process::Owner;
use crate::sys::control::{Peer, peer_groups};

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

/// Somebody who asks.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    pub(super) peer: Peer,
    pub(super) deadline: Instant,
    /// What is still to be sent; until it is there, the request is still to be read.
    pub(super) answer: Option<Answer>,
}

/// A message and the publication whose descriptors go with it.
#[derive(Debug)]
pub(super) struct Answer {
    bytes: Vec<u8>,
    published: Option<Arc<Published>>,
}

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Close,
    /// It stays, as a member's that has these slots.
    Join(Vec<Owner>),
}

/// What a request asks for.
enum Request {
    Answer(Answer),
    Join(Vec<Owner>),
}

impl Connection {
    /// Reads what can be read and sends what can be sent.
    pub(super) fn step(&mut self, desk: (&Table, Admission)) -> Step {
        let answer = match self.answer.take() {
            Some(answer) => answer,
            None => match self.read(desk) {
                Ok(Some(Request::Answer(answer))) => answer,
                Ok(Some(Request::Join(owners))) => return Step::Join(owners),
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

    /// The request, if it is there.
    fn read(&self, (table, admission): (&Table, Admission)) -> io::Result<Option<Request>> {
        // One byte more than a request may have shows what is too long. Descriptors that come
        // with it are closed by the kernel, since we give it no room for them.
        let mut room = [0; FRAME_LEN + OPENING_MAX + 1];
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
            return Ok(Some(Request::Answer(Answer::refuse(&why))));
        }
        let answer = match Frame::decode(room.get(..len).unwrap_or_default()) {
            Ok(Frame {
                kind: Kind::Fetch,
                body,
                ..
            }) => {
                let key = std::str::from_utf8(body).ok();
                match key.and_then(|key| table.find(key)) {
                    Some(Entry::Published(published)) => Answer::found(published),
                    Some(Entry::Withdrawn(_)) => Answer::plain(Kind::Withdrawn, b""),
                    None => Answer::plain(Kind::Nothing, b""),
                }
            }
            Ok(Frame {
                kind: Kind::Join,
                body,
                ..
            }) => match decode_owners(body) {
                Some(owners) => return Ok(Some(Request::Join(owners))),
                None => Answer::refuse("those are no slots"),
            },
            Ok(Frame { kind, .. }) => Answer::refuse(&format!("{kind:?} is no request")),
            Err(error) => Answer::refuse(&format!("this is no request: {error}")),
        };
        Ok(Some(Request::Answer(answer)))
    }
}

impl Answer {
    fn plain(kind: Kind, body: &[u8]) -> Self {
        Self {
            bytes: Frame::plain(kind, body),
            published: None,
        }
    }

    pub(super) fn refuse(why: &str) -> Self {
        Self::plain(Kind::Refused, why.as_bytes())
    }

    fn found(published: Arc<Published>) -> Self {
        let descriptors = published.descriptors.len();
        let found = Found {
            revision: published.revision,
            payload: &published.payload,
        };
        let frame = Frame {
            kind: Kind::Found,
            descriptors,
            body: &found.encode(),
        };
        Self {
            bytes: frame.encode(),
            published: Some(published),
        }
    }

    /// One message; all of it or an error.
    pub(super) fn send(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let descriptors = self
            .published
            .as_ref()
            .map_or(&[][..], |found| &found.descriptors);
        wire::send(socket, &self.bytes, descriptors)
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
}
