//! Who in the primary drives the device's end of a proxied queue: the thread that serves proxies, or one that took the queue for
//! itself. Nobody else has the device, so that this is the process's own affair and dies with it.
//!
//! ```text
//! FREE -> SERVED -> FREE                served while a secondary has the queue
//! FREE -> DIRECT -> FREE                a thread of the primary has it for itself, or stands in
//! SERVED -> WANTED -> FREE -> DIRECT    one that waits for it: seen by the server in its next round
//! ```

use std::sync::Arc;
use std::time::Duration;

use eal::sync::{AtomicU32, Ordering};

use crate::driver::{Direction, QueueId};
use crate::table::QUEUES_MAX;

const FREE: u32 = 0;
const SERVED: u32 = 1;
const DIRECT: u32 = 2;
const WANTED: u32 = 3;

/// How long a thread waits for the one that serves: steps, and the length of each.
const STEPS: u32 = 1000;
const STEP: Duration = Duration::from_millis(1);

/// One word for each queue of a port, RX first.
#[derive(Debug, Clone)]
pub(crate) struct Leases(Arc<[AtomicU32]>);

impl Leases {
    pub(crate) fn new() -> Self {
        Self((0..2 * QUEUES_MAX).map(|_| AtomicU32::new(FREE)).collect())
    }

    /// For the thread that serves proxies; `None` while another one has the queue for itself.
    pub(crate) fn serve(&self, direction: Direction, queue: QueueId) -> Option<Lease> {
        self.take(place(direction, queue), SERVED)
    }

    /// For a thread that takes the queue for itself. `waits` unless it may be the one that serves, too.
    pub(crate) fn direct(
        &self,
        direction: Direction,
        queue: QueueId,
        waits: bool,
    ) -> Option<Lease> {
        let place = place(direction, queue);
        for step in 0..if waits { STEPS } else { 1 } {
            if step > 0 {
                std::thread::sleep(STEP);
            }
            if let Some(lease) = self.take(place, DIRECT) {
                return Some(lease);
            }
            // Relaxed: a wish; the server orders by its store of FREE.
            let _ = self.0[place].compare_exchange(
                SERVED,
                WANTED,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
        None
    }

    fn take(&self, place: usize, as_what: u32) -> Option<Lease> {
        // Acquire: what the last one did with the device is seen, its cursors above all. Pairs with the Release in `Lease::drop`.
        self.0[place]
            .compare_exchange(FREE, as_what, Ordering::Acquire, Ordering::Relaxed)
            .ok()
            .map(|_| Lease {
                all: Arc::clone(&self.0),
                place,
            })
    }
}

fn place(direction: Direction, queue: QueueId) -> usize {
    let queue = usize::from(queue.0).min(QUEUES_MAX - 1);
    match direction {
        Direction::Rx => queue,
        Direction::Tx => QUEUES_MAX + queue,
    }
}

/// The device's end of a queue, ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    all: Arc<[AtomicU32]>,
    place: usize,
}

impl Lease {
    /// Whether another thread waits for what we serve.
    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.all[self.place].load(Ordering::Relaxed) == WANTED
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `take`.
        self.all[self.place].store(FREE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_is_served_or_driven_and_goes_over_when_it_is_asked_for() {
        let leases = Leases::new();
        let (rx, queue) = (Direction::Rx, QueueId(3));
        let direct = leases.direct(rx, queue, false).unwrap();
        assert!(leases.serve(rx, queue).is_none());
        assert!(leases.serve(Direction::Tx, queue).is_some());
        drop(direct);
        let served = leases.serve(rx, queue).unwrap();
        assert!(!served.is_wanted());
        assert!(leases.direct(rx, queue, false).is_none());
        assert!(served.is_wanted());
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| leases.direct(rx, queue, true));
            drop(served);
            assert!(waiter.join().unwrap().is_some());
        });
        assert!(leases.serve(rx, queue).is_some(), "free again");
    }
}
