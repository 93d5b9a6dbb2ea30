//! The control socket: the primary hands out payloads and descriptors by key, and hears of deaths.
//!
//! What cannot lie in shared memory (sockets, maps, eventfds) travels over `control.sock` in the
//! directory of the group. The primary publishes under a key; any process of the group fetches. A
//! secondary also stays connected, as a *member*: so the primary hears at once when it dies, and
//! what it keeps of a dead primary's descriptors comes to the next one.
//!
//! ```text
//! any process                             primary: a thread of its own
//!   connect, Fetch "port/0/rx/1"   -->      table: key -> payload, descriptors
//!   payload, copies of descriptors <--      Found | Nothing | Withdrawn | Refused, and it closes
//!
//! secondary: a thread of its own
//!   connect, Join, its slots       -->      pidfd of the peer: ready, when it is dead
//!   Offer key, payload, descriptors -->     lobby: what an adopting primary can take over
//!   Ready                          -->
//!   Slots, when they have changed  -->
//!   (fetches what it keeps)        <--      Changed, keys
//!   Leave                          -->      closed without it: the primary watches the pidfd on
//!            stays open until one of the two leaves or dies; then the member looks for the next primary
//! ```
//!
//! All messages are whole (`SOCK_SEQPACKET`). Of a fetch neither side waits longer than two seconds
//! for the other. Who may ask is said twice: by the mode of directory and socket, and by the
//! credentials that the kernel gives of the peer.
//!
//! | part                          | written by                                        | read by                    |
//! |-------------------------------|---------------------------------------------------|----------------------------|
//! | `table`: what is published    | the primary's threads                             | its control thread, itself |
//! | `lobby`: what is offered      | the control thread; who publishes forgets         | the primary, once it adopts |
//! | `members`: who is there       | the control thread                                | the same                   |
//! | `deaths`: the bell            | the control thread; in a secondary its member thread | who waits on [`Deaths`] |
//! | `kept`: copies for later      | a secondary's threads                             | the same                   |
//!
//! **If a process dies:** a member's connection closes and its pidfd becomes ready: the bell rings,
//! and the locks say which slots are dead; those whose lock a forked child keeps the pidfd proves
//! dead, if the member had said that they are its own. It says so just after it took one: killed
//! in between, with such a child, it leaves a slot that is dead when the child is. A process joins
//! before it can take a slot, but one that dies just when the primary does is no member of the next
//! one: so who waits for deaths also looks now and then. When the primary
//! dies, its socket refuses from then on, a fetch gives what is kept or says that nobody answers,
//! and descriptors handed out before stay good. The next primary puts a socket of its own in the
//! place; members are there within milliseconds and bring what they kept, the youngest copy of each
//! key. Nothing of this is in shared memory, so nothing is left half done.

mod body;
mod client;
mod deaths;
mod frame;
mod hall;
mod handle;
mod kept;
mod lobby;
mod member;
mod members;
mod place;
mod request;
mod server;
mod table;
mod wake;
mod wire;

use std::os::fd::OwnedFd;
use std::time::Duration;

pub(crate) use deaths::Bell;
pub use deaths::Deaths;
pub use handle::Control;
pub(crate) use handle::Thread;

/// The longest key, in bytes.
pub const KEY_MAX: usize = 127;

/// The longest payload: it and its frame fit the kernel's default socket buffer three times.
pub const PAYLOAD_MAX: usize = 64 << 10;

/// Descriptors in one message; the kernel carries 253.
pub const DESCRIPTORS_MAX: usize = 64;

/// Publications at a time: ports times queues times two directions, and as many again.
pub const PUBLISHED_MAX: usize = 4096;

/// Keys that one process keeps, and that a primary is offered.
pub const OFFERED_MAX: usize = 1024;

/// How long one side waits for the other.
pub const TIME_LIMIT: Duration = Duration::from_secs(2);

/// What a key gives: a payload, and descriptors that the receiver owns.
pub type Handed = (Vec<u8>, Vec<OwnedFd>);

/// Whether a primary that lives listens in that directory.
pub(crate) fn is_served(dir: &std::path::Path, prefix: &str) -> bool {
    client::Client::open(dir, prefix).is_ok_and(|client| match client.connect() {
        Ok(_) => true,
        // Its queue is full: it lives, or did so a moment ago.
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    })
}

#[cfg(test)]
mod tests;
