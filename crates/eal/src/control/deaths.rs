//! Who dies is told here: a bell that the control threads ring, and those who wait for it.
//!
//! | rung by       | when                                                                                   |
//! |---------------|----------------------------------------------------------------------------------------|
//! | the primary   | a member's connection closed; its pidfd says that it is dead; looks after that, if there is no pidfd |
//! | a secondary   | the primary is gone; another one is there                                              |
//!
//! The bell says no more than that a look is worth while: who is dead, `Region::dead_slots` says.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often it was rung, and how often those who wait were only woken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    rung: u64,
    woken: u64,
}

/// The bell of one process.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    count: Mutex<Count>,
    changed: Condvar,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, Count> {
        // Two numbers, each changed by one store.
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody died or left.
    pub(crate) fn ring(&self) {
        self.lock().rung += 1;
        self.changed.notify_all();
    }
}

/// Waits for the deaths of other processes; [`Eal::deaths`](crate::Eal::deaths) gives it.
///
/// Each of them hears every ring once, whichever thread waits. It does not hear of a process that
/// has a slot and died before it joined the primary's control socket: so wait no longer than such
/// a one may stay unswept, and look.
#[derive(Debug)]
pub struct Deaths {
    bell: Arc<Bell>,
    /// Taken before the bell's.
    heard: Mutex<Count>,
}

impl Deaths {
    pub(crate) fn of(bell: &Arc<Bell>) -> Self {
        let heard = Mutex::new(*bell.lock());
        Self {
            bell: Arc::clone(bell),
            heard,
        }
    }

    /// Sleeps until somebody dies or leaves, not at all if that happened since the last call; says
    /// whether it did. [`wake`](Self::wake) and the end of `timeout` end it too.
    pub fn wait(&self, timeout: Duration) -> bool {
        let start = Instant::now();
        let mut count = self.bell.lock();
        loop {
            let heard = self.hear(*count);
            let left = timeout.saturating_sub(start.elapsed());
            if heard != Heard::Nothing || left.is_zero() {
                return heard == Heard::Ring;
            }
            let waited = self.bell.changed.wait_timeout(count, left);
            count = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the waiting of all who wait, here and in others of this process, or the next one's.
    pub fn wake(&self) {
        self.bell.lock().woken += 1;
        self.bell.changed.notify_all();
    }

    fn hear(&self, count: Count) -> Heard {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *heard, count);
        if before.rung != count.rung {
            Heard::Ring
        } else if before.woken != count.woken {
            Heard::Wake
        } else {
            Heard::Nothing
        }
    }
}

/// What came since the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Ring,
    Wake,
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn each_listener_hears_of_all_rings_since_the_last_time_once() {
        let bell = Arc::new(Bell::default());
        bell.ring();
        let (one, other) = (Deaths::of(&bell), Deaths::of(&bell));
        assert!(!one.wait(Duration::ZERO), "that was before its time");
        bell.ring();
        bell.ring();
        assert!(one.wait(LONG) && other.wait(LONG));
        assert!(!one.wait(Duration::ZERO) && !other.wait(Duration::from_millis(5)));
    }

    #[test]
    fn who_sleeps_is_told_of_a_ring_and_woken_by_a_wake() {
        let bell = Arc::new(Bell::default());
        let deaths = Arc::new(Deaths::of(&bell));
        let sleeper = || {
            let deaths = Arc::clone(&deaths);
            let sleeper = std::thread::spawn(move || deaths.wait(LONG));
            std::thread::sleep(Duration::from_millis(20));
            sleeper
        };
        let told = sleeper();
        bell.ring();
        assert!(told.join().unwrap());
        let woken = sleeper();
        deaths.wake();
        assert!(!woken.join().unwrap());
        // Also who was about to sleep.
        deaths.wake();
        assert!(!deaths.wait(LONG));
    }
}
