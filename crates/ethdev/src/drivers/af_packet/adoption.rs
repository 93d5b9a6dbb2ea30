//! What a former primary left: sockets that secondaries kept, looked at before they are used.
//!
//! | part                          | must be                                                      |
//! |-------------------------------|--------------------------------------------------------------|
//! | kind                          | a packet socket of this network namespace                     |
//! | interface                     | the one that has the port's name now: an interface made anew is another |
//! | protocols                     | all (RX), none (TX)                                          |
//! | receive ring                  | cut as the arguments say, and as long as that makes it         |
//!
//! How the blocks of a ring are cut the kernel does not tell: a ring of the right length that was cut otherwise would be read as
//! one of malformed blocks, never beyond its end.
//!
//! **If a process dies:** nothing here is written but the sockets' options, each of which is set again by the next one.

use std::os::fd::{AsFd, OwnedFd};

use super::sys::{self, Geometry, Mapping};
use super::{HANDED_RX, HANDED_TX, Port, take_apart};
use crate::driver::{Direction, Handed, Legacy};
use crate::drivers::netdev;

impl Port {
    /// Goes on from what the last primary configured: without a socket so far.
    pub(super) fn inherit(&mut self, left: &Legacy) {
        self.rx = (0..left.rx).map(|_| None).collect();
        self.tx = (0..left.tx).map(|_| None).collect();
        self.promiscuous = left.promiscuous;
        self.left_group = left.word;
    }

    /// The socket that a secondary kept, if it is what this port would open, or why it is not.
    pub(super) fn examine(&self, direction: Direction, kept: Handed) -> Result<OwnedFd, String> {
        let fd = match direction {
            Direction::Tx => take_apart::<0>(kept, HANDED_TX)?.0,
            Direction::Rx => {
                let (fd, [block_len, block_count, frame_len, retire_ms]) =
                    take_apart(kept, HANDED_RX)?;
                let geometry = Geometry {
                    block_len,
                    block_count,
                    frame_len,
                    retire_ms,
                };
                if geometry != self.options.geometry {
                    return Err("its ring is cut otherwise".into());
                }
                fd
            }
        };
        let unclear = |error: std::io::Error| format!("the kernel says of it: {error}");
        let ours = netdev::namespace(self.control.as_fd()).map_err(unclear)?;
        if netdev::namespace(fd.as_fd()).map_err(unclear)? != ours {
            return Err("it is of another network namespace".into());
        }
        let interface = &self.options.interface;
        let index = self.index_for(&self.control).map_err(unclear)?;
        let (bound, receives) = sys::bound_to(fd.as_fd()).map_err(unclear)?;
        if u32::try_from(bound) != Ok(index) {
            return Err(format!(
                "it is bound to interface number {bound}, and {interface} is {index}"
            ));
        }
        if receives != (direction == Direction::Rx) {
            return Err("it is bound for the other direction".into());
        }
        if direction == Direction::Rx {
            // The kernel refuses to map another length than the ring has.
            Mapping::new(fd.as_fd(), self.options.geometry.len()).map_err(|error| {
                format!("its ring cannot be mapped as long as it says: {error}")
            })?;
            if !self.promiscuous {
                // The last primary may have died while it ended the mode. A socket that is not in it does not mind.
                sys::set_promiscuous(fd.as_fd(), index, false).map_err(unclear)?;
            }
        }
        Ok(fd)
    }
}
