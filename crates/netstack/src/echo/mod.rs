//! Echo sockets: who asks others by ICMP whether they are there, and the answers that wait to be read. RFC 1122 section
//! 3.2.2.6 wants such an interface, RFC 4443 section 4.2 that answers get to who asked.
//!
//! They are what Linux calls ping sockets: a socket is the identifier of its requests, which is unique in its version of IP, and
//! gets every answer with it, whoever sends it; the answer says who did. What waits to be read is bounded for each socket and
//! for all, and a packet allocates nothing: the places are taken when a socket is opened.

mod failure;
mod reply;
mod socket;
mod table;

pub use failure::{Failure, Why};
pub use reply::Reply;
pub use socket::Echo;
pub use table::{EchoConfig, EchoId, EchoInfo};

pub(crate) use table::{EchoTable, unspecified};
