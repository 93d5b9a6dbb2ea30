//! What goes with a queue to who drives it, and comes back to the next primary.
//!
//! ```text
//! words        | kind | rx | tx | fill | completion | pool | flags |     lengths of the four rings; metadata comes, packets lie in several frames
//! descriptors  | socket | map | link |
//! ```
//!
//! | what             | is the queue's if it is                                                       |
//! |------------------|-------------------------------------------------------------------------------|
//! | socket           | an AF_XDP socket of this network namespace with rings as long as said          |
//! | link             | one of an XDP program on the interface that has the port's name now             |
//! | map              | one of AF_XDP sockets                                                         |
//!
//! Which queue a socket is bound to the kernel does not tell: that it is this one is what its edition says.
//!
//! **If a process dies:** nothing here is written.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use eal::Region;
use mbuf::Pool;
use rustix::net::{AddressFamily, sockopt};

use super::rings::Sizes;
use super::{DESCRIPTORS_MAX, Port, Socket, bpf};
use crate::driver::{Direction, Handed, Legacy, QueueId};
use crate::drivers::netdev;

/// First word of what is handed over.
const KIND: u32 = 0x5844_5051;

/// What was handed over, taken apart.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) socket: Socket,
    pub(super) map: OwnedFd,
    pub(super) link: OwnedFd,
}

/// What a process needs to drive a queue, duplicated.
pub(super) fn hand_out(socket: &Socket, map: &OwnedFd, link: &OwnedFd) -> io::Result<Handed> {
    let Sizes {
        rx,
        tx,
        fill,
        completion,
    } = socket.sizes;
    let pool = socket.pool.id().into();
    let words = [
        KIND,
        rx,
        tx,
        fill,
        completion,
        pool,
        u32::from(socket.describes) | u32::from(socket.scatters) << 1,
    ];
    Ok(Handed {
        payload: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        descriptors: vec![socket.fd.try_clone()?, map.try_clone()?, link.try_clone()?],
    })
}

/// The parts of what was handed over, or why it is not that.
pub(super) fn take_apart(handed: Handed, region: &'static Region) -> Result<Parts, String> {
    let (words, _) = handed.payload.as_chunks::<4>();
    let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let [KIND, rx, tx, fill, completion, pool, flags @ 0..=3] = words[..] else {
        return Err("it is no AF_XDP queue".into());
    };
    let [socket, map, link] = <[OwnedFd; 3]>::try_from(handed.descriptors)
        .map_err(|found| format!("it has {} descriptors, and 3 belong to it", found.len()))?;
    let is_length = |len: &u32| len.is_power_of_two() && *len <= DESCRIPTORS_MAX;
    if ![rx, tx, fill, completion].iter().all(is_length) {
        return Err("no rings are that long".into());
    }
    if sockopt::socket_domain(&socket) != Ok(AddressFamily::XDP) {
        return Err("its first descriptor is no AF_XDP socket".into());
    }
    let pool = u8::try_from(pool)
        .ok()
        .and_then(|id| Pool::with_id(region, id));
    Ok(Parts {
        socket: Socket {
            fd: Arc::new(socket),
            sizes: Sizes {
                rx,
                tx,
                fill,
                completion,
            },
            pool: pool.ok_or("its pool is not there")?,
            describes: flags & 1 != 0,
            scatters: flags & 2 != 0,
        },
        map,
        link,
    })
}

impl Port {
    /// Goes on from what the last primary configured: without a socket so far.
    pub(super) fn inherit(&mut self, left: &Legacy) {
        self.rx = (0..left.rx).map(|_| None).collect();
        self.tx = (0..left.tx).map(|_| None).collect();
        self.sockets = (0..left.rx.max(left.tx)).map(|_| None).collect();
        self.promiscuous = left.promiscuous;
    }

    /// Takes what a secondary kept of a queue, if it is what this port would have made; else says why it is not.
    pub(super) fn take_back(
        &mut self,
        queue: QueueId,
        _direction: Direction,
        kept: Handed,
    ) -> Result<(), String> {
        let Parts { socket, map, link } = take_apart(kept, self.region)?;
        let unclear = |error: io::Error| format!("the kernel says of it: {error}");
        let ours = netdev::namespace(self.control.as_fd()).map_err(unclear)?;
        if netdev::namespace(socket.fd.as_fd()).map_err(unclear)? != ours {
            return Err("it is of another network namespace".into());
        }
        let (interface, index) = (&self.options.interface, self.index());
        let info = bpf::link_info(link.as_fd()).map_err(unclear)?;
        let info = info.ok_or("its link is none of an XDP program")?;
        if info.ifindex != index {
            return Err(format!(
                "its program is on interface number {}, and {interface} is {index}",
                info.ifindex
            ));
        }
        if !bpf::map_info(map.as_fd()).map_err(unclear)?.is_xskmap {
            return Err("its map is none of AF_XDP sockets".into());
        }
        let place = self.sockets.get_mut(usize::from(queue.0));
        let place = place.ok_or("there is no such queue")?;
        self.describes = socket.describes;
        // Both directions bring the same socket.
        place.get_or_insert(socket);
        self.map.get_or_insert_with(|| Arc::new(map));
        self.link.get_or_insert_with(|| Arc::new(link));
        Ok(())
    }
}
