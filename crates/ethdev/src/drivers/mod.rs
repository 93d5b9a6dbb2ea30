//! The drivers, one file or folder each.
//!
//! | driver         | a port is                                   | queues                | privileges            |
//! |----------------|---------------------------------------------|-----------------------|-----------------------|
//! | `net_af_packet`| a kernel interface, by packet sockets       | `qpairs`              | primary: CAP_NET_RAW  |
//! | `net_af_xdp`   | a kernel interface, shared in place         | those of the interface| primary: four, see docs/drivers.md |
//! | `net_tap`      | a new kernel interface, whose wire it is    | `qpairs`              | primary: CAP_NET_ADMIN|
//! | `net_pcap`     | capture files, read and written             | a file each           | none                  |
//! | `net_ring`     | rings in shared memory, to itself or a peer | 64                    | none                  |
//! | `net_null`     | packets from nothing, and to nowhere        | 64                    | none                  |

use crate::driver::Driver;

pub mod af_packet;
pub mod af_xdp;
mod netdev;
pub mod null;
pub mod pcap;
pub mod ring;
pub mod tap;
mod vnet;

/// Every driver, in the order in which `--help` lists them.
///
/// A new driver is a folder beside the others and a line here.
pub static DRIVERS: &[&dyn Driver] = &[
    &af_packet::AfPacket,
    &af_xdp::AfXdp,
    &tap::Tap,
    &pcap::Pcap,
    &ring::RingPort,
    &null::Null,
];
