//! Packets that wait until their neighbour is known: a queue for each entry, in room that all share.

use super::table::NONE;

/// What waits for one entry, oldest first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    head: u32,
    tail: u32,
    len: u16,
}

impl Queue {
    pub(super) const EMPTY: Self = Self {
        head: NONE,
        tail: NONE,
        len: 0,
    };

    pub(super) fn len(&self) -> usize {
        self.len.into()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Room for one packet.
#[derive(Debug)]
struct Slot<P> {
    packet: Option<P>,
    /// The entry in whose queue it is.
    entry: u32,
    /// The next one in that queue; of free slots the next free one.
    behind: u32,
    /// Packets that came before and after it, whomever they are for.
    older: u32,
    newer: u32,
}

/// All that wait.
#[derive(Debug)]
pub(super) struct Waiting<P> {
    slots: Vec<Slot<P>>,
    slots_max: usize,
    len: usize,
    free: u32,
    oldest: u32,
    newest: u32,
}

impl<P> Waiting<P> {
    pub(super) fn new(slots_max: usize) -> Self {
        let slots_max = slots_max.min(1 << 20);
        Self {
            slots: Vec::with_capacity(slots_max),
            slots_max,
            len: 0,
            free: NONE,
            oldest: NONE,
            newest: NONE,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_full(&self) -> bool {
        self.len >= self.slots_max
    }

    /// The entry for which a packet has waited longest.
    pub(super) fn oldest_entry(&self) -> Option<u32> {
        self.slots.get(self.oldest as usize).map(|slot| slot.entry)
    }

    /// Puts a packet at the end of a queue; gives it back if there is no room.
    pub(super) fn push(&mut self, queue: &mut Queue, entry: u32, packet: P) -> Result<(), P> {
        let Some(len) = queue.len.checked_add(1) else {
            return Err(packet);
        };
        if self.is_full() {
            return Err(packet);
        }
        let slot = Slot {
            packet: Some(packet),
            entry,
            behind: NONE,
            older: self.newest,
            newer: NONE,
        };
        let at = match self.slots.get_mut(self.free as usize) {
            Some(free) => {
                let at = self.free;
                self.free = free.behind;
                *free = slot;
                at
            }
            None => {
                // At most 2^20, and within the capacity: `slots` grows only while nothing is free.
                let at = u32::try_from(self.slots.len()).unwrap_or(NONE);
                self.slots.push(slot);
                at
            }
        };
        match self.slots.get_mut(self.newest as usize) {
            Some(newest) => newest.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
        match self.slots.get_mut(queue.tail as usize) {
            Some(tail) => tail.behind = at,
            None => queue.head = at,
        }
        queue.tail = at;
        queue.len = len;
        self.len += 1;
        Ok(())
    }

    /// Takes the oldest packet of a queue.
    pub(super) fn pop(&mut self, queue: &mut Queue) -> Option<P> {
        let at = queue.head;
        let slot = self.slots.get_mut(at as usize)?;
        let packet = slot.packet.take()?;
        let (behind, older, newer) = (slot.behind, slot.older, slot.newer);
        slot.behind = self.free;
        self.free = at;
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
        queue.head = behind;
        if behind == NONE {
            queue.tail = NONE;
        }
        queue.len = queue.len.saturating_sub(1);
        self.len = self.len.saturating_sub(1);
        Some(packet)
    }
}
