//! What can go wrong while a lab is built or used.

use std::io;

/// Why a host, a link or a measurement failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel lets this user make no network namespace.
    #[error(
        "network namespaces are forbidden here ({source}): {reason}; \
         run this with sudo, or take `forebay demo --local`, which needs none"
    )]
    Forbidden {
        /// The setting that forbids it, and its value.
        reason: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The process has threads already, and the kernel moves only a process of one thread.
    #[error(
        "cannot enter a user namespace from a process with several threads; \
         enter it at the start of main, or run this with sudo"
    )]
    TooLate,
    /// The kernel refused a change to a host.
    #[error("host {host}: cannot {what}: {source}; {remedy}")]
    Refused {
        /// Name of the host.
        host: String,
        /// What was tried.
        what: String,
        /// What to do about it.
        remedy: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A host has no such interface.
    #[error("host {host} has no interface {iface:?}; make it with `veth` or `vlan` first")]
    NoInterface {
        /// Name of the host.
        host: String,
        /// The name that was looked for.
        iface: String,
    },
    /// A text is no address with a prefix length.
    #[error(
        "{text:?} is no address with a prefix length; write one like 10.0.0.1/24 or fd00::1/64"
    )]
    BadAddress {
        /// What was given.
        text: String,
    },
    /// A measurement could not be made.
    #[error("cannot {what}: {source}; see whether the link between the hosts is up")]
    Traffic {
        /// What was tried.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nothing moved for too long.
    #[error(
        "{what} stood still for {stalled_ms} ms after {bytes} bytes; \
         see whether whatever joins the hosts still runs"
    )]
    Stalled {
        /// What was under way.
        what: &'static str,
        /// How far it had come.
        bytes: u64,
        /// How long nothing moved.
        stalled_ms: u128,
    },
    /// The caller asked to stop.
    #[error("stopped on request; start it again to have a result")]
    Cancelled,
}
