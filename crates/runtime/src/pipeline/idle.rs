//! What a loop does when it found nothing: ever less.

use std::hint;
use std::thread;
use std::time::Duration;

/// Turns that only tell the processor's other thread to go ahead.
const SPIN_TURNS: u32 = 64;
/// Turns, counted from the first, after which the core is lent to whoever wants it.
const YIELD_TURNS: u32 = 1024;
/// How long a longer idle loop sleeps a turn. A ring of 128 takes a million packets a second
/// through it.
const NAP: Duration = Duration::from_micros(50);

/// Counts the turns without work.
#[derive(Debug, Default)]
pub(super) struct Idle {
    turns: u32,
}

impl Idle {
    /// There was work.
    pub(super) fn reset(&mut self) {
        self.turns = 0;
    }

    /// There was none: spins, then yields, then naps.
    pub(super) fn wait(&mut self) {
        self.turns = self.turns.saturating_add(1);
        match self.turns {
            ..=SPIN_TURNS => hint::spin_loop(),
            turns if turns <= YIELD_TURNS => thread::yield_now(),
            _ => thread::sleep(NAP),
        }
    }
}
