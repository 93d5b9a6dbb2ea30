//! Hosts and links made of network namespaces, for the demo and for tests.
//!
//! A [`Host`] is a network namespace with interfaces, addresses and routes of its own; a [`veth`] is
//! a cable between two of them. Nothing outside this process is needed or touched: no `ip` command,
//! no file under `/run/netns`. A namespace lives by the descriptor that its `Host` holds, so the
//! kernel takes all of it away when the process ends, even by SIGKILL, and child processes started
//! through [`Host::command`] die with it.
//!
//! Root may make namespaces at once. An ordinary user calls [`enter`] first, which moves the process
//! into a user namespace of its own where it is root.
//!
//! | to                                   | take                                        |
//! |--------------------------------------|---------------------------------------------|
//! | make a host, a cable, a VLAN         | [`Host::new`], [`veth`], [`Host::vlan`]     |
//! | set up an interface                  | [`Host::up`], [`Host::address`], [`Host::mtu`], [`Host::offloads`] |
//! | run code or a program in it          | [`Host::run`], [`Host::command`]            |
//! | try the path                         | [`ping`], [`tcp_transfer`], [`udp_blast`], [`udp_echo`] |
//! | send and see raw frames              | [`FrameSocket`]                             |
//! | end processes                        | [`die_with_parent`], [`die_after`]          |
//!
//! `/sys/class/net` shows the namespace in which `/sys` was mounted, not the one a thread is in. A
//! program that looks interfaces up must ask by `ioctl` or netlink.
//!
//! ```
//! # use forebay_lab as lab;
//! # fn main() -> Result<(), lab::Error> {
//! # if lab::enter().is_err() { return Ok(()); }
//! let (a, b) = (lab::Host::new("a")?, lab::Host::new("b")?);
//! lab::veth((&a, "eth0"), (&b, "eth0"), 1)?;
//! for (host, address) in [(&a, "10.0.0.1/24"), (&b, "10.0.0.2/24")] {
//!     host.address("eth0", address)?;
//!     host.up("eth0")?;
//! }
//! let report = lab::ping(&a, [10, 0, 0, 2].into(), &lab::Ping::default())?;
//! assert_eq!(report.lost(), 0);
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod address;
mod data;
mod echo;
mod error;
mod frame;
mod host;
mod link;
mod netlink;
mod ping;
#[allow(unsafe_code, reason = "system calls that have no safe wrapper")]
mod sys;
mod tcp;
mod udp;
mod user;

#[cfg(test)]
mod tests;

pub use address::Cidr;
pub use echo::{Echo, EchoReport, udp_echo};
pub use error::Error;
pub use frame::FrameSocket;
pub use host::Host;
pub use link::{LinkStats, MacAddress, Offloads, veth, veth_of};
pub use ping::{Ping, PingReport, ping};
pub use rustix::process::Signal;
pub use sys::{die_after, die_with_parent};
pub use tcp::{Transfer, TransferReport, Watch, tcp_transfer};
pub use udp::{Blast, BlastReport, udp_blast, udp_segment};
pub use user::{enter, enter_in_child, is_privileged};

#[doc(hidden)]
pub use user::rerun_test;

/// Runs the body of a test where namespaces may be made: at once if this process may, else by
/// running this one test again in a user namespace of its own. Says why when it skips.
///
/// ```no_run
/// # use forebay_lab as lab;
/// // The body of a `#[test]`.
/// lab::isolated!({
///     let host = lab::Host::new("a").unwrap();
///     // ...
/// });
/// ```
#[macro_export]
macro_rules! isolated {
    ($body:block) => {{
        fn here() {}
        if $crate::rerun_test(::std::any::type_name_of_val(&here)) $body
    }};
}
