//! The control socket: the primary hands out payloads and descriptors by key.
//!
//! What cannot lie in shared memory (sockets, maps, eventfds) travels over `control.sock` in the
//! directory of the group. The primary publishes under a key; any process of the group fetches.
//!
//! ```text
//! secondary                               primary: a thread of its own
//!   connect, Fetch "port/0/rx/1"   -->      table: key -> payload, descriptors
//!   payload, copies of descriptors <--      Found | Nothing | Refused, and the connection closes
//! ```
//!
//! A connection is one message each way (`SOCK_SEQPACKET`), so there is no half message, and
//! neither side waits longer than two seconds for the other. Who may ask is said twice: by the
//! mode of directory and socket, and by the credentials that the kernel gives of the peer.
//!
//! **If a process dies:** the primary's socket refuses from then on, and a fetch says that nobody
//! answers; descriptors handed out before stay good. The next primary puts a socket of its own in
//! the place. A client that dies is a connection that closes.

mod client;
mod frame;
mod handle;
mod place;
mod server;
mod table;

use std::os::fd::OwnedFd;
use std::time::Duration;

pub use handle::Control;
pub(crate) use server::Server;

/// The longest key, in bytes.
pub const KEY_MAX: usize = 127;

/// The longest payload: it and its frame fit the kernel's default socket buffer three times.
pub const PAYLOAD_MAX: usize = 64 << 10;

/// Descriptors in one message; the kernel carries 253.
pub const DESCRIPTORS_MAX: usize = 64;

/// Publications at a time: ports times queues times two directions, and as many again.
pub const PUBLISHED_MAX: usize = 4096;

/// How long one side waits for the other.
pub const TIME_LIMIT: Duration = Duration::from_secs(2);

/// What a key gives: a payload, and descriptors that the receiver owns.
pub type Handed = (Vec<u8>, Vec<OwnedFd>);

#[cfg(test)]
mod tests;
