//! Requests that were sent, and what came of each.

use std::time::{Duration, Instant};

/// Requests that are remembered: as many as have numbers of their own.
const REMEMBERED: usize = 1 << 16;
/// How long the last answers are waited for, if none has come yet: as `ping` does.
const LINGER: Duration = Duration::from_secs(10);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Answered,
    /// Somebody said that it did not arrive.
    Failed,
}

#[derive(Debug, Clone, Copy)]
struct Request {
    number: u64,
    at: Instant,
    state: State,
}

/// What a reply was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The first to its request, in time, with the same data.
    Answer,
    /// Its request has been answered.
    Duplicate,
    /// After the time that it was waited for.
    Late,
    /// Its data is other than what was sent, from this byte on.
    Damaged(usize),
    /// To no request that was sent.
    Unasked,
}

/// Round-trip times.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    pub(super) min: Duration,
    pub(super) max: Duration,
    count: u64,
    /// In nanoseconds, and their squares.
    sum: u128,
    squares: u128,
}

impl Times {
    fn add(&mut self, time: Duration) {
        self.min = if self.count == 0 {
            time
        } else {
            self.min.min(time)
        };
        self.max = self.max.max(time);
        self.count += 1;
        let nanos = time.as_nanos();
        self.sum += nanos;
        self.squares = self.squares.saturating_add(nanos.saturating_mul(nanos));
    }

    /// Their mean, and how far they are from it: `ping`'s `mdev`, the standard deviation.
    pub(super) fn mean_and_deviation(&self) -> [Duration; 2] {
        let count = u128::from(self.count.max(1));
        let mean = self.sum / count;
        let variance = (self.squares / count).saturating_sub(mean * mean);
        [mean, variance.isqrt()]
            .map(|nanos| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

/// All that was sent, and what came back.
#[derive(Debug)]
pub(super) struct Tally {
    requests: Box<[Option<Request>]>,
    /// How long an answer is waited for, if there is an end to it.
    timeout: Option<Duration>,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) duplicates: u64,
    pub(super) late: u64,
    pub(super) damaged: u64,
    pub(super) unasked: u64,
    pub(super) errors: u64,
    /// Requests of which nothing has come.
    waiting: u64,
    pub(super) times: Times,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Tally {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self {
            requests: vec![None; REMEMBERED].into(),
            timeout,
            sent: 0,
            received: 0,
            duplicates: 0,
            late: 0,
            damaged: 0,
            unasked: 0,
            errors: 0,
            waiting: 0,
            times: Times::default(),
            first: None,
            last: None,
        }
    }

    /// The number of the next request: they begin with 1.
    pub(super) const fn next(&self) -> u64 {
        self.sent + 1
    }

    /// The next request was sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = self.next();
        let request = Request {
            number: self.sent,
            at: now,
            state: State::Waiting,
        };
        let forgotten = self.place(sequence(self.sent)).replace(request);
        if forgotten.is_none_or(|request| request.state != State::Waiting) {
            self.waiting += 1;
        }
        self.first = self.first.or(Some(now));
        self.last = Some(now);
    }

    fn place(&mut self, sequence: u16) -> &mut Option<Request> {
        &mut self.requests[usize::from(sequence)]
    }

    /// A reply came. `differs` says where its data is not that of the request with a number.
    ///
    /// Returns what it is, and how long it took, if it was asked for.
    pub(super) fn reply(
        &mut self,
        sequence: u16,
        now: Instant,
        differs: impl Fn(u64) -> Option<usize>,
    ) -> (Verdict, Option<Duration>) {
        let timeout = self.timeout;
        let Some(request) = self.place(sequence) else {
            self.unasked += 1;
            return (Verdict::Unasked, None);
        };
        let time = now.saturating_duration_since(request.at);
        let was_waiting = request.state == State::Waiting;
        if let Some(at) = differs(request.number) {
            // The one before that had its number, perhaps, which nobody waits for any more.
            let before = request.number.checked_sub(REMEMBERED as u64);
            if before.is_some_and(|before| before > 0 && differs(before).is_none()) {
                self.late += 1;
                return (Verdict::Late, None);
            }
            self.damaged += 1;
            return (Verdict::Damaged(at), Some(time));
        }
        if request.state == State::Answered {
            self.duplicates += 1;
            return (Verdict::Duplicate, Some(time));
        }
        request.state = State::Answered;
        self.waiting -= u64::from(was_waiting);
        if timeout.is_some_and(|timeout| time > timeout) {
            self.late += 1;
            return (Verdict::Late, Some(time));
        }
        self.received += 1;
        self.times.add(time);
        (Verdict::Answer, Some(time))
    }

    /// Somebody says that a request did not arrive.
    pub(super) fn fail(&mut self, sequence: u16) {
        self.errors += 1;
        if let Some(request) = self.place(sequence)
            && request.state == State::Waiting
        {
            request.state = State::Failed;
            self.waiting -= 1;
        }
    }

    /// Whether the newest request is waited for.
    pub(super) fn awaits_the_newest(&self) -> bool {
        let newest = self.requests[usize::from(sequence(self.sent))];
        newest.is_some_and(|request| request.state == State::Waiting)
    }

    /// Until when it is worth to wait for those that were sent, if no other follows; `None` if nothing is waited for.
    ///
    /// That is `timeout` where there is one; else twice as long as the slowest answer took, or an `interval`; or long, if there
    /// was none.
    pub(super) fn worth_waiting(&self, interval: Duration) -> Option<Instant> {
        if self.waiting == 0 {
            return None;
        }
        let linger = match self.timeout {
            Some(timeout) => timeout,
            None if self.received > 0 => interval.max(self.times.max * 2),
            None => LINGER,
        };
        Some(self.last? + linger)
    }

    /// Since the first request.
    pub(super) fn elapsed(&self, now: Instant) -> Duration {
        let first = self.first.unwrap_or(now);
        now.saturating_duration_since(first)
    }

    /// How many requests of a hundred were not answered.
    pub(super) fn loss_percent(&self) -> f64 {
        if self.sent == 0 {
            return 0.0;
        }
        let lost = self.sent.saturating_sub(self.received);
        // Numbers of packets are exact in it up to 2^53.
        100.0 * lost as f64 / self.sent as f64
    }
}

/// What of a request's number goes with it.
pub(super) fn sequence(number: u64) -> u16 {
    let [.., high, low] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn whole(_: u64) -> Option<usize> {
        None
    }

    #[test]
    fn each_reply_counts_as_what_it_is() {
        let start = Instant::now();
        let mut tally = Tally::new(Some(100 * MS));
        for number in 0..5 {
            tally.sent(start + number * MS);
        }
        assert_eq!((tally.sent, tally.next()), (5, 6));
        let answer = tally.reply(1, start + 3 * MS, whole);
        assert_eq!(answer, (Verdict::Answer, Some(3 * MS)));
        let again = tally.reply(1, start + 4 * MS, whole);
        assert_eq!(again, (Verdict::Duplicate, Some(4 * MS)));
        let late = tally.reply(2, start + 102 * MS, whole);
        assert_eq!(late, (Verdict::Late, Some(101 * MS)));
        let damaged = tally.reply(3, start + 5 * MS, |number| {
            assert_eq!(number, 3);
            Some(17)
        });
        assert_eq!(damaged, (Verdict::Damaged(17), Some(3 * MS)));
        // It may come once more, and whole.
        let answer = tally.reply(3, start + 9 * MS, whole);
        assert_eq!(answer, (Verdict::Answer, Some(7 * MS)));
        let unasked = tally.reply(9, start + 5 * MS, whole);
        assert_eq!(unasked, (Verdict::Unasked, None));
        tally.fail(4);
        assert!(tally.awaits_the_newest());
        tally.fail(5);
        tally.fail(5);
        assert!(!tally.awaits_the_newest());
        assert_eq!(tally.worth_waiting(MS), None);
        // Who said that it failed may be wrong.
        let answer = tally.reply(5, start + 9 * MS, whole);
        assert_eq!(answer.0, Verdict::Answer);
        let counts = [
            tally.received,
            tally.duplicates,
            tally.late,
            tally.damaged,
            tally.unasked,
            tally.errors,
        ];
        assert_eq!(counts, [3, 1, 1, 1, 1, 3]);
        assert!((tally.loss_percent() - 40.0).abs() < 1e-9);
        let [mean, deviation] = tally.times.mean_and_deviation();
        assert_eq!(
            (mean, tally.times.min, tally.times.max),
            (5 * MS, 3 * MS, 7 * MS)
        );
        // Of 3, 7 and 5.
        assert_eq!(deviation.as_micros(), 1632);
    }

    #[test]
    fn number_that_comes_again_is_of_the_newest() {
        let start = Instant::now();
        let mut tally = Tally::new(None);
        for _ in 0..65_537 {
            tally.sent(start);
        }
        assert_eq!(tally.waiting, 65_536);
        let newest = tally.reply(1, start + MS, |number| (number != 65_537).then_some(0));
        assert_eq!(newest.0, Verdict::Answer);
        let oldest = tally.reply(1, start + MS, |number| (number != 1).then_some(0));
        assert_eq!(oldest, (Verdict::Late, None));
        let neither = tally.reply(1, start + MS, |_| Some(5));
        assert_eq!(neither.0, Verdict::Damaged(5));
        assert_eq!(tally.reply(0, start, whole).0, Verdict::Answer);
    }

    #[test]
    fn last_answers_are_waited_for_as_long_as_others_took() {
        let start = Instant::now();
        let linger = |timeout, answered: Option<Duration>| {
            let mut tally = Tally::new(timeout);
            tally.sent(start);
            if let Some(time) = answered {
                tally.reply(1, start + time, whole);
                assert_eq!(tally.worth_waiting(MS), None);
                tally.sent(start);
            }
            tally.worth_waiting(10 * MS).unwrap() - start
        };
        assert_eq!(linger(None, None), LINGER);
        assert_eq!(linger(None, Some(MS)), 10 * MS);
        assert_eq!(linger(None, Some(50 * MS)), 100 * MS);
        assert_eq!(linger(Some(30 * MS), None), 30 * MS);
        assert_eq!(linger(Some(70 * MS), Some(MS)), 70 * MS);
    }
}
