//! What a former primary left: descriptors that secondaries kept, looked at before they are used.
//!
//! | part       | must be                                                                                |
//! |------------|----------------------------------------------------------------------------------------|
//! | kind       | an attached queue of a TAP with several, frames without another header than `virtio_net_hdr` |
//! | interface  | the one that has the port's name in the port's network namespace                         |
//!
//! **If a process dies:** nothing is written here.

use std::os::fd::{AsFd, OwnedFd};

use super::{Port, sys, take_apart};
use crate::driver::{Handed, Legacy};

impl Port {
    /// Goes on from what the last primary configured: without a queue so far.
    pub(super) fn inherit(&mut self, left: &Legacy) {
        self.make_places(left.rx, left.tx);
        self.promiscuous = left.promiscuous;
        self.inherited = true;
    }

    /// The queue that a secondary kept, if it is what this port would open, or why it is not.
    pub(super) fn examine(&self, kept: Handed) -> Result<OwnedFd, String> {
        let fd = take_apart(kept, &self.options.interface)?;
        let unclear = |error: std::io::Error| format!("the kernel says of it: {error}");
        let namespace = sys::namespace_of(fd.as_fd()).map_err(unclear)?;
        match &self.home {
            Some(home) if home.place.is(namespace.as_fd()) => Ok(fd),
            _ => Err("it is of another network namespace".into()),
        }
    }
}
