//! What was received and not yet read, of all sockets, in one table.

use core::net::{IpAddr, SocketAddr};

use crate::interface::InterfaceId;

/// A datagram as it was received.
#[derive(Debug)]
pub struct Datagram<P> {
    /// What the peer sent: the data alone, all headers cut off, perhaps in several segments. An answer can be written into it.
    pub packet: P,
    /// Who sent it.
    pub from: SocketAddr,
    /// To which address of ours, or to which group.
    pub to: IpAddr,
    /// By which interface.
    pub interface: InterfaceId,
    /// The TOS octet or the traffic class that it came with: DSCP and ECN.
    pub traffic_class: u8,
}

/// End of a list.
const NONE: u32 = u32::MAX;

/// The datagrams of one socket, oldest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct List {
    head: u32,
    tail: u32,
    /// How many.
    pub(super) len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
        len: 0,
    };
}

#[derive(Debug)]
struct Node<P> {
    datagram: Option<Datagram<P>>,
    next: u32,
}

/// All lists share these places.
#[derive(Debug)]
pub(super) struct Queues<P> {
    nodes: Vec<Node<P>>,
    free: u32,
}

impl<P> Queues<P> {
    /// Room for `max` datagrams.
    pub(super) fn new(max: usize) -> Self {
        let max = u32::try_from(max).unwrap_or(NONE - 1).min(NONE - 1);
        let node = |place| Node {
            datagram: None,
            next: if place + 1 < max { place + 1 } else { NONE },
        };
        Self {
            nodes: (0..max).map(node).collect(),
            free: if max > 0 { 0 } else { NONE },
        }
    }

    /// Puts one behind the others.
    ///
    /// # Errors
    ///
    /// Gives it back if all places are taken.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        list: &mut List,
        datagram: Datagram<P>,
    ) -> Result<(), Datagram<P>> {
        let place = self.free;
        let Some(node) = self.nodes.get_mut(place as usize) else {
            return Err(datagram);
        };
        self.free = node.next;
        *node = Node {
            datagram: Some(datagram),
            next: NONE,
        };
        match self.nodes.get_mut(list.tail as usize) {
            Some(last) if list.len > 0 => last.next = place,
            _ => list.head = place,
        }
        list.tail = place;
        list.len += 1;
        Ok(())
    }

    /// Takes the oldest.
    #[inline]
    pub(super) fn pop(&mut self, list: &mut List) -> Option<Datagram<P>> {
        if list.len == 0 {
            return None;
        }
        let place = list.head;
        let node = self.nodes.get_mut(place as usize)?;
        let datagram = node.datagram.take();
        list.head = node.next;
        node.next = self.free;
        self.free = place;
        list.len -= 1;
        if list.len == 0 {
            *list = List::EMPTY;
        }
        datagram
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn datagram(number: u32) -> Datagram<u32> {
        Datagram {
            packet: number,
            from: SocketAddr::from(([10, 0, 0, 1], 1)),
            to: IpAddr::from([10, 0, 0, 2]),
            interface: InterfaceId(0),
            traffic_class: 0,
        }
    }

    proptest! {
        #[test]
        fn lists_are_queues_and_share_what_there_is(steps in proptest::collection::vec((0..3usize, any::<bool>()), 0..200)) {
            let mut queues = Queues::new(8);
            let mut lists = [List::EMPTY; 3];
            let mut model = [const { VecDeque::new() }; 3];
            for (number, (which, pushes)) in (0..).zip(steps) {
                let total: usize = model.iter().map(VecDeque::len).sum();
                if pushes {
                    let fits = queues.push(&mut lists[which], datagram(number)).is_ok();
                    prop_assert_eq!(fits, total < 8);
                    if fits {
                        model[which].push_back(number);
                    }
                } else {
                    let popped = queues.pop(&mut lists[which]).map(|datagram| datagram.packet);
                    prop_assert_eq!(popped, model[which].pop_front());
                }
                prop_assert_eq!(lists[which].len as usize, model[which].len());
            }
        }
    }
}
