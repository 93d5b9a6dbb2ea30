//! So many a second, and so many at once: a token bucket (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f).

use crate::time::Instant;

/// What a token is worth: a rate of one a second earns one unit a nanosecond, so nothing is ever rounded.
const TOKEN: u64 = 1_000_000_000;

/// Allows so many events a second, and a burst after a pause.
///
/// Over any time `t` it allows at most `burst + per_second * t`, and to who asks often enough exactly that, rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: u64,
    /// What a full bucket holds.
    full: u64,
    credit: u64,
    /// Up to when the credit is counted.
    counted: Instant,
}

impl Rate {
    /// A full bucket. A `burst` of nothing allows nothing; a `per_second` of nothing allows the burst, once.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        // At most 2^32 * 10^9 < 2^62.
        let full = u64::from(burst).saturating_mul(TOKEN);
        Self {
            per_second: per_second.into(),
            full,
            credit: full,
            counted: Instant::ZERO,
        }
    }

    /// Whether one more may happen now; counts it if so.
    #[inline]
    #[must_use]
    pub fn allow(&mut self, now: Instant) -> bool {
        if now > self.counted {
            let nanos = now.as_nanos().saturating_sub(self.counted.as_nanos());
            // What does not fit 64 bits fills any bucket.
            let earned = nanos.saturating_mul(self.per_second);
            self.credit = self.credit.saturating_add(earned).min(self.full);
            self.counted = now;
        }
        match self.credit.checked_sub(TOKEN) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn burst_then_the_rate() {
        let mut rate = Rate::new(10, 3);
        let start = Instant::from_millis(5);
        let allowed = (0..10).filter(|_| rate.allow(start)).count();
        assert_eq!(allowed, 3);
        assert!(!rate.allow(start + Duration::from_nanos(99_999_999)));
        assert!(rate.allow(start + Duration::from_millis(100)));
        assert!(!rate.allow(start + Duration::from_millis(100)));
    }

    #[test]
    fn pause_earns_no_more_than_the_burst() {
        let mut rate = Rate::new(1000, 5);
        for pause in [Instant::from_millis(3_600_000), Instant::MAX] {
            assert_eq!((0..100).filter(|_| rate.allow(pause)).count(), 5);
        }
    }

    #[test]
    fn nothing_is_lost_to_rounding_in_a_month() {
        // Asked every 100.0003 ms, a step that no rate divides; a token is earned in 1.43 steps, so the bucket never runs over.
        let mut rate = Rate::new(7, 2);
        let step = Duration::from_nanos(100_000_300);
        let (mut now, mut allowed) = (Instant::ZERO, 0_u64);
        for _ in 0..30 * 24 * 36_000 {
            allowed += u64::from(rate.allow(now));
            now = now + step;
        }
        // The last question was a step before the end, and adds up what was earned until then.
        let earned = u128::from(rate.counted.as_nanos()) * 7;
        let first = u128::from(TOKEN) * 2;
        let spent = u128::from(allowed) * u128::from(TOKEN);
        assert_eq!(spent + u128::from(rate.credit), first + earned);
    }

    #[test]
    fn clock_that_goes_back_earns_nothing_twice() {
        let mut rate = Rate::new(1, 1);
        assert!(rate.allow(Instant::from_millis(1000)));
        for _ in 0..5 {
            assert!(!rate.allow(Instant::from_millis(500)));
            assert!(!rate.allow(Instant::from_millis(1500)));
        }
        assert!(rate.allow(Instant::from_millis(2000)));
    }

    #[test]
    fn extremes_neither_overflow_nor_panic() {
        let mut most = Rate::new(u32::MAX, u32::MAX);
        for now in [Instant::ZERO, Instant::MAX, Instant::MAX, Instant::ZERO] {
            assert!(most.allow(now));
        }
        assert!(!Rate::new(u32::MAX, 0).allow(Instant::MAX));
        let mut once = Rate::new(0, 1);
        assert!(once.allow(Instant::ZERO));
        assert!(!once.allow(Instant::MAX));
    }

    proptest! {
        /// The same in 128 bits: the bucket never holds more than it may, and never loses a unit below that.
        #[test]
        fn bucket_is_exact(
            per_second in 0..5000_u32,
            burst in 0..20_u32,
            steps in proptest::collection::vec(0..3_000_000_000_u64, 1..200),
        ) {
            let mut rate = Rate::new(per_second, burst);
            let full = u128::from(burst) * u128::from(TOKEN);
            let (mut now, mut credit) = (0_u64, full);
            for step in steps {
                now += step;
                credit = full.min(credit + u128::from(step) * u128::from(per_second));
                let expected = credit >= u128::from(TOKEN);
                prop_assert_eq!(rate.allow(Instant::from_nanos(now)), expected);
                if expected {
                    credit -= u128::from(TOKEN);
                }
            }
        }
    }
}
