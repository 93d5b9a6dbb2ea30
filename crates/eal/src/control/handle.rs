//! One end of the control socket, whichever this process has.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::Handed;
use super::client::Client;
use super::deaths::Bell;
use super::hall::Hall;
use super::member::Member;
use super::server::Server;
use super::wake::Wake;
use crate::error::Error;
use crate::region::{Joined, Region};

/// Publishes and fetches by key; clones share one end. Threads may use it at the same time.
///
/// After `Eal::cleanup` it still answers, but nobody asks a primary any more.
#[derive(Debug, Clone)]
pub struct Control(End);

#[derive(Debug, Clone)]
enum End {
    /// The primary's: what it hands out, and what it was offered.
    Primary(Arc<Hall>),
    /// Anybody else's.
    Secondary(Arc<Client>),
}

/// The thread behind a [`Control`].
#[derive(Debug)]
pub(crate) enum Thread {
    Server(Server),
    Member(Member),
}

impl Control {
    /// For a process that is a group of its own.
    pub(crate) fn alone(region: &'static Region, bell: Arc<Bell>) -> Self {
        Self(End::Primary(Arc::new(Hall::new(region, false, bell, None))))
    }

    /// For the primary, and the thread that serves the others: whoever may enter the directory.
    /// Only for who holds the primary's lock.
    pub(crate) fn serve(
        dir: &Path,
        (region, joined): (&'static Region, Joined),
        bell: Arc<Bell>,
    ) -> Result<(Self, Thread), Error> {
        let io_error = |what| {
            let path = dir.to_owned();
            move |source| Error::Io { what, path, source }
        };
        let found = dir.metadata();
        let found = found.map_err(io_error("look at the directory"))?;
        let gid = (found.mode() & 0o070 != 0).then(|| found.gid());
        let wake = Wake::new().map_err(io_error("make a signal for the control socket in"))?;
        let adopted = joined == Joined::Adopted;
        let hall = Arc::new(Hall::new(region, adopted, bell, Some(wake)));
        let server = Server::start(dir, gid, Arc::clone(&hall))?;
        Ok((Self(End::Primary(hall)), Thread::Server(server)))
    }

    /// For a secondary of the group whose directory that is, and the thread that stays connected to
    /// its primary. Nobody needs to answer there yet.
    pub(crate) fn ask(
        dir: &Path,
        prefix: &str,
        region: &'static Region,
        bell: Arc<Bell>,
    ) -> Result<(Self, Thread), Error> {
        let client = Arc::new(Client::open(dir, prefix)?);
        let member = Member::start(Arc::clone(&client), region, bell);
        let member = member.map_err(|source| Error::Io {
            what: "start a thread for the control socket in",
            path: dir.to_owned(),
            source,
        })?;
        Ok((Self(End::Secondary(client)), Thread::Member(member)))
    }

    /// Hands out `payload` and `descriptors` to whoever [fetches](Self::fetch) `key`, in place of
    /// what was published under it before. Those who [keep](Self::keep) it are told.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`] in a secondary, and what no message could carry.
    pub fn publish(
        &self,
        key: &str,
        payload: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        match &self.0 {
            End::Primary(hall) => hall.publish(key, payload, descriptors),
            End::Secondary(_) => Err(Error::NotPrimary {
                what: "hand out descriptors",
            }),
        }
    }

    /// Hands `key` out no more, and has those who [keep](Self::keep) it let go of it: also if it was
    /// an earlier primary that published it. A secondary, which hands nothing out, has nothing to do.
    pub fn withdraw(&self, key: &str) {
        if let End::Primary(hall) = &self.0 {
            hall.withdraw(key);
        }
    }

    /// What the primary has published under `key`, with descriptors of our own; `None` if nothing.
    /// Without a primary, or when a new one has not published it yet, what is [kept](Self::keep).
    ///
    /// # Errors
    ///
    /// Says so when no primary answers within two seconds and nothing is kept.
    pub fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        match &self.0 {
            End::Primary(hall) => hall.fetch(key),
            End::Secondary(client) => client.fetch(key),
        }
    }

    /// As [`fetch`](Self::fetch), and a secondary keeps a copy from now on: renewed when the primary
    /// publishes anew, let go when it [withdraws](Self::withdraw), [offered](Self::offered) to the next
    /// one. `None` without a primary, and when nothing is published yet: the copy comes with it. In
    /// the primary this is `fetch`.
    ///
    /// # Errors
    ///
    /// A key that cannot be one, too many, and a primary that refuses.
    pub fn keep(&self, key: &str) -> Result<Option<Handed>, Error> {
        match &self.0 {
            End::Primary(hall) => hall.fetch(key),
            End::Secondary(client) => client.keep(key),
        }
    }

    /// What secondaries kept under `key` of what the last primary published, with descriptors of our
    /// own. For the primary of a group that it adopted; `None` for all others, and once this primary
    /// has published or withdrawn the key itself.
    ///
    /// The first call waits until every living process of the group has offered what it kept; a
    /// second at most, since one may be stopped, and says then who did not.
    pub fn offered(&self, key: &str) -> Option<Handed> {
        match &self.0 {
            End::Primary(hall) => hall.offered(key),
            End::Secondary(_) => None,
        }
    }

    /// Lets go of everything published, offered and kept.
    pub(crate) fn clear(&self) {
        match &self.0 {
            End::Primary(hall) => hall.clear(),
            End::Secondary(client) => client.kept.clear(),
        }
    }
}

impl Thread {
    /// Ends it.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        match self {
            Self::Server(server) => server.stop(),
            Self::Member(member) => {
                member.stop();
                Ok(())
            }
        }
    }

    /// The slots of this process have changed.
    pub(crate) fn tell_slots(&self) {
        if let Self::Member(member) = self {
            member.tell_slots();
        }
    }
}
