//! What waits to be sent by a port.

/// A queue with a bound: first in, first out.
#[derive(Debug)]
pub(super) struct Outbox<P> {
    /// A power of two of them, at least `max`.
    places: Box<[Option<P>]>,
    /// How many came and went so far.
    pushed: usize,
    popped: usize,
    max: usize,
}

impl<P> Outbox<P> {
    /// For `max` packets.
    pub(super) fn new(max: usize) -> Self {
        Self {
            places: (0..max.next_power_of_two()).map(|_| None).collect(),
            pushed: 0,
            popped: 0,
            max,
        }
    }

    /// How many wait.
    #[inline(always)]
    pub(super) fn len(&self) -> usize {
        self.pushed.wrapping_sub(self.popped)
    }

    /// Whether another one would be taken.
    #[inline(always)]
    pub(super) fn has_room(&self) -> bool {
        self.len() < self.max
    }

    /// Puts one behind the others; drops it and says so if there is no room.
    #[inline(always)]
    #[must_use]
    pub(super) fn push(&mut self, packet: P) -> bool {
        let place = self.place();
        let fits = place.is_some();
        if let Some(place) = place {
            *place = Some(packet);
            self.pushed = self.pushed.wrapping_add(1);
        }
        fits
    }

    /// Where the next one is to be put, if there is room.
    #[inline(always)]
    fn place(&mut self) -> Option<&mut Option<P>> {
        let at = self.pushed & (self.places.len().wrapping_sub(1));
        if self.has_room() {
            self.places.get_mut(at)
        } else {
            None
        }
    }

    /// Takes the first.
    #[inline(always)]
    pub(super) fn pop(&mut self) -> Option<P> {
        if self.len() == 0 {
            return None;
        }
        let at = self.popped & (self.places.len() - 1);
        self.popped = self.popped.wrapping_add(1);
        self.places.get_mut(at)?.take()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packets_leave_as_they_came_and_no_more_wait_than_may(max in 0..9usize, pushes: Vec<bool>) {
            let (mut outbox, mut model) = (Outbox::new(max), VecDeque::new());
            for (number, pushes) in pushes.into_iter().enumerate() {
                if pushes {
                    prop_assert_eq!(outbox.has_room(), model.len() < max);
                    if outbox.push(number) {
                        model.push_back(number);
                    } else {
                        prop_assert_eq!(model.len(), max);
                    }
                } else {
                    prop_assert_eq!(outbox.pop(), model.pop_front());
                }
                prop_assert_eq!(outbox.len(), model.len());
            }
        }
    }
}
