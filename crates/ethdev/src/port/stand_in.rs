//! Standing in: a thread of the primary drives an RX queue while the process whose it is is away.
//!
//! ```text
//! the primary's thread                          a process that comes, or comes back
//!   absent_rx_queues -> rx_queue_stand_in          rx_queue: somebody stands in
//!   rx_burst ... is_wanted? no                       wanted <- me, look again every millisecond
//!   rx_burst ... is_wanted? yes: drop it
//!   rx_queue_stand_in: refused, one comes            the queue is nobody's: claimed, wanted <- nobody
//! ```
//!
//! **If a process dies:** a stand-in that dies is an owner that died, and who waits takes the queue from it. A request of a
//! dead one is taken away when the stand-in, having let go, looks for it; one of a process that is stopped is given
//! [a while](PATIENCE).

use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use eal::Owner;

use super::Port;
use crate::driver::{Direction, QueueId};
use crate::error::Error;
use crate::queue::{RxQueue, Standing};

/// How long a queue is left for who asked for it: a hundred times as long as that one waits between two looks.
const PATIENCE: Duration = Duration::from_millis(100);

/// Who asked for which queue, and since when we have known.
pub(super) type Comers = HashMap<QueueId, (Owner, Instant)>;

impl Port {
    /// The RX queues that no living process drives. For each the kernel is asked whether its owner lives: not for every burst.
    pub fn absent_rx_queues(&self) -> impl Iterator<Item = QueueId> {
        (0..self.queue_count(Direction::Rx))
            .map(QueueId)
            .filter(|queue| self.table.driver_of(Direction::Rx, *queue).is_none())
    }

    /// Takes an RX queue for a thread of the primary until a process comes for it: look at [`RxQueue::is_wanted`] before each
    /// burst, and drop the queue then. What it needs and nobody has is made anew.
    ///
    /// # Errors
    ///
    /// [`Error::NotPrimary`]; [`Error::Taken`] while somebody living has it or is about to take it; else as for
    /// [`rx_queue`](Self::rx_queue).
    pub fn rx_queue_stand_in(&self, queue: QueueId, owner: Owner) -> Result<RxQueue, Error> {
        self.primary_only("standing in for the absent")?;
        self.available(Direction::Rx, queue)?;
        if let Some(comer) = self.table.wanted_by(queue) {
            if self.is_coming(queue, comer) {
                return Err(self.table.taken(Direction::Rx, queue, comer));
            }
            self.table.dismiss(queue, comer);
        }
        let taken = self.rx_queue_as(queue, owner, Standing::In)?;
        self.comers().remove(&queue);
        Ok(taken)
    }

    /// Whether who asked for the queue may still be expected.
    fn is_coming(&self, queue: QueueId, comer: Owner) -> bool {
        let mut comers = self.comers();
        let known = comers.entry(queue).or_insert((comer, Instant::now()));
        if known.0 != comer {
            *known = (comer, Instant::now());
        }
        known.1.elapsed() < PATIENCE
    }

    fn comers(&self) -> std::sync::MutexGuard<'_, Comers> {
        self.comers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
