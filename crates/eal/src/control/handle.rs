//! One end of the control socket, whichever this process has.

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::Handed;
use super::client::Client;
use super::server::Server;
use super::table::Table;
use crate::error::Error;

/// Publishes and fetches by key; clones share one end. Threads may use it at the same time.
///
/// After `Eal::cleanup` it still answers, but nobody asks a primary any more.
#[derive(Debug, Clone)]
pub struct Control(End);

#[derive(Debug, Clone)]
enum End {
    /// The primary's: what it hands out.
    Primary(Arc<Table>),
    /// Anybody else's.
    Secondary(Arc<Client>),
}

impl Control {
    /// For a process that is a group of its own.
    pub(crate) fn alone() -> Self {
        Self(End::Primary(Arc::default()))
    }

    /// For the primary, and the thread that answers the others: whoever may enter the directory.
    /// Only for who holds the primary's lock.
    pub(crate) fn serve(dir: &Path) -> Result<(Self, Server), Error> {
        let table = Arc::new(Table::default());
        let found = dir.metadata().map_err(|source| Error::Io {
            what: "look at the directory",
            path: dir.to_owned(),
            source,
        })?;
        let gid = (found.mode() & 0o070 != 0).then(|| found.gid());
        let server = Server::start(dir, gid, Arc::clone(&table))?;
        Ok((Self(End::Primary(table)), server))
    }

    /// For a secondary of the group whose directory that is. Nobody needs to answer there yet.
    pub(crate) fn ask(dir: &Path, prefix: &str) -> Result<Self, Error> {
        Ok(Self(End::Secondary(Arc::new(Client::open(dir, prefix)?))))
    }

    /// Hands out `payload` and `descriptors` to whoever [fetches](Self::fetch) `key`, in place of
    /// what was published under it before.
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
            End::Primary(table) => table.publish(key, payload, descriptors),
            End::Secondary(_) => Err(Error::NotPrimary {
                what: "hand out descriptors",
            }),
        }
    }

    /// Hands `key` out no more. A secondary, which hands nothing out, has nothing to do.
    pub fn withdraw(&self, key: &str) {
        if let End::Primary(table) = &self.0 {
            table.withdraw(key);
        }
    }

    /// What the primary has published under `key`, with descriptors of our own; `None` if nothing.
    ///
    /// # Errors
    ///
    /// Says so when no primary answers within two seconds.
    pub fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        match &self.0 {
            End::Primary(table) => table.copy(key),
            End::Secondary(client) => client.fetch(key),
        }
    }

    /// Lets go of everything published.
    pub(crate) fn clear(&self) {
        if let End::Primary(table) = &self.0 {
            table.clear();
        }
    }
}
