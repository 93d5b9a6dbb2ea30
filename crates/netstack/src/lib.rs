//! TCP/IP without I/O: no clock, no port, no thread, no system call.
#![forbid(unsafe_code)]

pub mod error;
pub mod interface;
pub mod ip;
pub mod link;
pub mod packet;
pub mod stats;
pub mod time;
pub mod wire;

pub use error::Error;
pub use interface::{InterfaceConfig, InterfaceId, Offloads};
pub use packet::{Bytes, Heap, Mbufs, Packet, Packets};
pub use stats::{Drops, Reason, Traffic};
pub use time::Instant;
