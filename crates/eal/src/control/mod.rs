//! The control socket: the primary hands out payloads and descriptors by key.

mod table;

use std::os::fd::OwnedFd;

pub(crate) use table::Table;

/// The longest key, in bytes.
pub const KEY_MAX: usize = 127;

/// The longest payload: it and its frame fit the kernel's default socket buffer three times.
pub const PAYLOAD_MAX: usize = 64 << 10;

/// Descriptors in one message; the kernel carries 253.
pub const DESCRIPTORS_MAX: usize = 64;

/// Publications at a time: ports times queues times two directions, and as many again.
pub const PUBLISHED_MAX: usize = 4096;

/// What a key gives: a payload, and descriptors that the receiver owns.
pub type Handed = (Vec<u8>, Vec<OwnedFd>);
