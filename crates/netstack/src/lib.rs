//! TCP/IP without I/O: no clock, no port, no thread, no system call.
//!
//! A [`Stack`] has four doors. Frames come in by [`Stack::receive`] and leave by [`Stack::poll_transmit`];
//! [`Stack::next_timeout`] says when it wants to be woken, and [`Stack::handle_timeout`] wakes it. Between them an application
//! reads and writes its sockets. Nothing else happens: who has frames and a clock can run a host, or two of them on a cable:
//!
//! ```
//! use std::net::IpAddr;
//!
//! use netstack::wire::ethernet::Mac;
//! use netstack::{Config, Heap, Instant, InterfaceConfig, Packet, Probing, Stack};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let memory = Heap::new(100);
//! let host = |number: u8| -> Result<Stack<Heap>, netstack::Error> {
//!     // A secret seed, in a real host.
//!     let config = Config { seed: number.into(), ..Config::default() };
//!     let mut stack = Stack::new(config, memory.clone());
//!     let link = stack.add_interface(InterfaceConfig::new(0, Mac([2, 0, 0, 0, 0, number])))?;
//!     stack.add_address(link, IpAddr::from([192, 0, 2, number]), 24, Probing::None)?;
//!     Ok(stack)
//! };
//! let (mut client, mut server) = (host(1)?, host(2)?);
//! let echo = server.udp_bound("0.0.0.0:7".parse()?)?;
//! let socket = client.udp_v4()?;
//! client.udp(socket).send_bytes(b"hello", "192.0.2.2:7".parse()?)?;
//!
//! let mut now = Instant::ZERO;
//! let answer = loop {
//!     // The cable. A real host takes these from a device, and hands them to it.
//!     while let Some(frame) = client.poll_transmit(0) {
//!         server.receive(now, 0, [frame]);
//!     }
//!     while let Some(frame) = server.poll_transmit(0) {
//!         client.receive(now, 0, [frame]);
//!     }
//!     // The applications. The answer goes into the buffer that the question came in.
//!     while let Some(datagram) = server.udp(echo).recv_from() {
//!         server.udp(echo).reply(datagram).map_err(|unsent| unsent.error)?;
//!     }
//!     if let Some(datagram) = client.udp(socket).recv_from() {
//!         break datagram;
//!     }
//!     // The clock: here it jumps to whatever is next.
//!     for stack in [&mut client, &mut server] {
//!         if stack.next_timeout().is_some_and(|due| due <= now) {
//!             stack.handle_timeout(now);
//!         }
//!     }
//!     if client.to_transmit(0) + server.to_transmit(0) == 0 {
//!         let due = [client.next_timeout(), server.next_timeout()];
//!         now = due.into_iter().flatten().min().ok_or("nothing will ever happen")?;
//!     }
//! };
//! assert_eq!(answer.packet.data(), b"hello");
//! assert_eq!(answer.from, "192.0.2.2:7".parse()?);
//! assert_eq!(client.drops().total() + server.drops().total(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! A [`Packet`] is what there is room for in front: an mbuf on a device's queue ([`Mbufs`]), bytes in tests ([`Heap`]). What
//! comes is passed to the application, and what the application sends to the device, in the same buffer. Memory is bounded by
//! [`Config`] and taken at the start; each packet that goes nowhere is counted by a [`Reason`]. `docs/stack.md` has the limits,
//! the counters, and which RFC is met by which file.
//!
//! | module | what it is |
//! |---|---|
//! | [`time`] | the caller's clock |
//! | [`packet`] | what the stack reads, changes and passes on |
//! | [`interface`] | what an address stands on |
//! | [`stats`] | where every dropped packet went |
//! | [`wire`] | bytes to fields and back, a file a protocol |
//! | [`link`] | neighbours and their Ethernet addresses |
//! | [`ip`] | addresses, routes, fragments, ICMP |
//! | [`udp`] | UDP sockets |
//! | [`echo`] | echo sockets: asking others whether they are there |
#![forbid(unsafe_code)]

mod config;
pub mod echo;
pub mod error;
mod hash;
pub mod interface;
pub mod ip;
pub mod link;
pub mod packet;
mod stack;
pub mod stats;
pub mod time;
pub mod udp;
pub mod wire;

pub use config::{Config, IcmpConfig};
pub use echo::{Echo, EchoId, Reply};
pub use error::Error;
pub use interface::{InterfaceConfig, InterfaceId, Offloads};
pub use ip::address::Event;
pub use ip::dad::Probing;
pub use packet::{Bytes, Heap, Mbufs, Packet, Packets};
pub use stack::Stack;
pub use stats::{Drops, Reason, Traffic};
pub use time::Instant;
pub use udp::{Datagram, Udp, UdpId, Unsent};
