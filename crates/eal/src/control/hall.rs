//! What the primary's threads share: the one that serves the control socket, and those that
//! publish, look for what was offered, and wait for deaths.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Handed;
use super::deaths::Bell;
use super::lobby::Lobby;
use super::table::{Table, check_key};
use super::wake::Wake;
use crate::error::Error;
use crate::region::Region;

/// Of a primary, or of a process that is a group of its own.
#[derive(Debug)]
pub(crate) struct Hall {
    pub(super) table: Table,
    pub(super) lobby: Lobby,
    pub(super) bell: Arc<Bell>,
    pub(super) region: &'static Region,
    /// Of the control thread; none if nobody can be there to be served.
    pub(super) wake: Option<Wake>,
}

impl Hall {
    pub(super) fn new(
        region: &'static Region,
        adopted: bool,
        bell: Arc<Bell>,
        wake: Option<Wake>,
    ) -> Self {
        Self {
            table: Table::new(region.info().adoptions),
            lobby: Lobby::new(adopted),
            bell,
            region,
            wake,
        }
    }

    fn tell(&self) {
        if let Some(wake) = &self.wake {
            wake.ring();
        }
    }

    pub(super) fn publish(
        &self,
        key: &str,
        payload: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        self.table.publish(key, payload, descriptors)?;
        self.lobby.forget(key);
        self.tell();
        Ok(())
    }

    pub(super) fn withdraw(&self, key: &str) {
        // What cannot be a key was never published.
        if check_key(key).is_ok() {
            self.table.withdraw(key);
            self.lobby.forget(key);
            self.tell();
        }
    }

    pub(super) fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        self.table.copy(key)
    }

    pub(super) fn offered(&self, key: &str) -> Option<Handed> {
        self.lobby.offered(key, self.region)
    }

    /// Lets go of all descriptors.
    pub(super) fn clear(&self) {
        self.table.clear();
        self.lobby.clear();
    }
}
