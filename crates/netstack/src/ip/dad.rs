//! Duplicate address detection of one address: when to probe, when it may be used, when to announce and to defend it.
//!
//! RFC 5227 for IPv4 and RFC 4862 section 5.4 for IPv6 are the same machine with other times: probe so many times, wait,
//! then use the address and announce it.
//!
//! ```text
//! start ..first_within.. probe ..gap.. probe ..last_wait.. Ready, announce ..announce_interval.. announce   idle
//!       |<---------------------- tentative ------------->|
//! ```

use core::time::Duration;

use crate::time::Instant;

/// How an address comes into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Probing {
    /// At once, and nobody is told.
    None,
    /// At once, and announced, so that neighbours forget who had it before.
    Announce,
    /// Once the link was asked whether somebody has it, and announced then.
    #[default]
    Check,
}

/// The times of one version's detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The first probe goes at random within this time: PROBE_WAIT; MAX_RTR_SOLICITATION_DELAY.
    pub first_within: Duration,
    /// How many probes: PROBE_NUM; DupAddrDetectTransmits. With none, addresses are not checked.
    pub probes: u8,
    /// Least time between two probes: PROBE_MIN; RetransTimer.
    pub gap_min: Duration,
    /// Longest time between two probes: PROBE_MAX; RetransTimer.
    pub gap_max: Duration,
    /// From the last probe until the address is used: ANNOUNCE_WAIT; RetransTimer.
    pub last_wait: Duration,
    /// How many announcements: ANNOUNCE_NUM; RFC 9131 allows up to MAX_NEIGHBOR_ADVERTISEMENT.
    pub announcements: u8,
    /// Between two announcements: ANNOUNCE_INTERVAL; RetransTimer.
    pub announce_interval: Duration,
    /// A second conflict within this time after the first one is one too many: DEFEND_INTERVAL.
    pub defend_interval: Duration,
    /// Whether the address is given up then, RFC 5227 section 2.4 (b), or defended forever, (c). IPv6 never gives up.
    pub gives_up: bool,
}

impl Timing {
    /// IPv4, faster than RFC 5227: an address is in use after 600 ms at most, not after seven seconds.
    ///
    /// The seconds of section 1.1 are for links where a neighbour needs as long to answer. Here a neighbour answers within
    /// milliseconds, and a service that starts wants its address. [`Timing::RFC_5227`] has the times of the RFC.
    pub const IPV4: Self = Self {
        first_within: Duration::from_millis(100),
        probes: 3,
        gap_min: Duration::from_millis(200),
        gap_max: Duration::from_millis(200),
        last_wait: Duration::from_millis(200),
        announcements: 2,
        announce_interval: Duration::from_secs(2),
        defend_interval: Duration::from_secs(10),
        gives_up: true,
    };

    /// IPv4 with the times of RFC 5227 section 1.1.
    pub const RFC_5227: Self = Self {
        first_within: Duration::from_secs(1),
        gap_min: Duration::from_secs(1),
        gap_max: Duration::from_secs(2),
        last_wait: Duration::from_secs(2),
        ..Self::IPV4
    };

    /// IPv6 with the times of RFC 4862 section 5.1 and RFC 4861 section 10, and one advertisement to routers, RFC 9131.
    pub const IPV6: Self = Self {
        first_within: Duration::from_secs(1),
        probes: 1,
        gap_min: Duration::from_secs(1),
        gap_max: Duration::from_secs(1),
        last_wait: Duration::from_secs(1),
        announcements: 1,
        announce_interval: Duration::from_secs(1),
        defend_interval: Duration::from_secs(10),
        gives_up: false,
    };
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Ask whether somebody has the address.
    Probe,
    /// Nobody has it: it may be used from now on.
    Ready,
    /// Tell everybody who has it.
    Announce,
}

/// What to do about somebody who uses our address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defence {
    /// Announce once more that it is ours.
    Announce,
    /// We have just done so: bear it.
    Bear,
    /// They insist: let them have it.
    GiveUp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Probing { left: u8 },
    Announcing { left: u8 },
    Idle,
}

/// The detection of one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dad {
    phase: Phase,
    due: Instant,
    defended: Option<Instant>,
}

impl Dad {
    /// Begins at `now`.
    #[must_use]
    pub fn start(now: Instant, probing: Probing, timing: &Timing, random: &mut Random) -> Self {
        let (phase, due) = match probing {
            Probing::Check if timing.probes > 0 => (
                Phase::Probing {
                    left: timing.probes,
                },
                now + random.within(timing.first_within),
            ),
            Probing::None => (Phase::Idle, Instant::MAX),
            Probing::Check | Probing::Announce => Self::announcing(now, timing.announcements),
        };
        Self {
            phase,
            due,
            defended: None,
        }
    }

    fn announcing(now: Instant, left: u8) -> (Phase, Instant) {
        match left {
            0 => (Phase::Idle, Instant::MAX),
            left => (Phase::Announcing { left }, now),
        }
    }

    /// Whether nobody may use the address yet.
    #[must_use]
    pub const fn is_tentative(&self) -> bool {
        matches!(self.phase, Phase::Probing { .. })
    }

    /// When [`poll`](Self::poll) has something to say, [`Instant::MAX`] if never.
    #[must_use]
    pub const fn next_timeout(&self) -> Instant {
        self.due
    }

    /// What is due at `now`, one step at a time. Whoever comes late waits longer, and never skips a wait.
    pub fn poll(&mut self, now: Instant, timing: &Timing, random: &mut Random) -> Option<Step> {
        if now < self.due {
            return None;
        }
        match self.phase {
            Phase::Probing { left: 0 } => {
                (self.phase, self.due) = Self::announcing(now, timing.announcements);
                Some(Step::Ready)
            }
            Phase::Probing { left } => {
                let left = left.saturating_sub(1);
                let wait = match left {
                    0 => timing.last_wait,
                    _ => random.between(timing.gap_min, timing.gap_max),
                };
                self.phase = Phase::Probing { left };
                self.due = now + wait;
                Some(Step::Probe)
            }
            Phase::Announcing { left } => {
                (self.phase, self.due) = match left.saturating_sub(1) {
                    0 => (Phase::Idle, Instant::MAX),
                    left => (Phase::Announcing { left }, now + timing.announce_interval),
                };
                Some(Step::Announce)
            }
            Phase::Idle => None,
        }
    }

    /// Nothing more is due: somebody else has the address.
    pub fn stop(&mut self) {
        self.phase = Phase::Idle;
        self.due = Instant::MAX;
    }

    /// Somebody uses the address, which we use, too. RFC 5227 section 2.4.
    pub fn defend(&mut self, now: Instant, timing: &Timing) -> Defence {
        let recently = self
            .defended
            .is_some_and(|then| now.since(then) < timing.defend_interval);
        match (recently, timing.gives_up) {
            (true, true) => {
                self.stop();
                Defence::GiveUp
            }
            // Section 2.4 (c): not more than one announcement an interval, or two such hosts talk forever.
            (true, false) => Defence::Bear,
            (false, _) => {
                self.defended = Some(now);
                Defence::Announce
            }
        }
    }

    /// Makes one announcement due at `now`. It stands for those that were to follow, too.
    pub fn announce(&mut self, now: Instant) {
        (self.phase, self.due) = Self::announcing(now, 1);
    }
}

/// Small pseudo-random numbers for waits: splitmix64. Nothing secret comes from it.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same numbers; hosts on one link must not share it, or they wait equally long.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From nothing up to `longest`, all equally likely.
    pub fn within(&mut self, longest: Duration) -> Duration {
        let nanos = longest.as_nanos().min(u128::from(u64::MAX));
        // The upper half of the product is a number below `nanos`.
        let nanos = (u128::from(self.next()) * nanos) >> 64;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// From `shortest` up to `longest`.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        shortest.saturating_add(self.within(longest.saturating_sub(shortest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    /// All steps until nothing is due, with their times.
    fn run(dad: &mut Dad, timing: &Timing, random: &mut Random) -> Vec<(Step, Instant)> {
        let mut steps = Vec::new();
        while dad.next_timeout() < Instant::MAX {
            let now = dad.next_timeout();
            let early = Instant::from_nanos(now.as_nanos().saturating_sub(1));
            if early < now {
                assert_eq!(dad.clone().poll(early, timing, random), None);
            }
            steps.push((dad.poll(now, timing, random).unwrap(), now));
        }
        steps
    }

    #[test]
    fn ipv4_probes_three_times_then_announces_twice() {
        let (timing, mut random) = (Timing::IPV4, Random::new(1));
        let start = at(5_000);
        let mut dad = Dad::start(start, Probing::Check, &timing, &mut random);
        assert!(dad.is_tentative());
        let steps = run(&mut dad, &timing, &mut random);
        let first = steps[0].1;
        assert!(first >= start && first <= start + Duration::from_millis(100));
        let after = |millis| first + Duration::from_millis(millis);
        let want = [
            (Step::Probe, after(0)),
            (Step::Probe, after(200)),
            (Step::Probe, after(400)),
            (Step::Ready, after(600)),
            (Step::Announce, after(600)),
            (Step::Announce, after(2_600)),
        ];
        assert_eq!(steps, want);
        assert!(!dad.is_tentative());
    }

    #[test]
    fn ipv6_solicits_once_and_waits_retrans_timer() {
        let (timing, mut random) = (Timing::IPV6, Random::new(2));
        let mut dad = Dad::start(at(0), Probing::Check, &timing, &mut random);
        let steps = run(&mut dad, &timing, &mut random);
        let first = steps[0].1;
        assert!(first <= at(1_000));
        let second = first + Duration::from_secs(1);
        let want = [
            (Step::Probe, first),
            (Step::Ready, second),
            (Step::Announce, second),
        ];
        assert_eq!(steps, want);
    }

    #[test]
    fn times_of_rfc_5227_are_bounded_and_random() {
        let (timing, mut random) = (Timing::RFC_5227, Random::new(3));
        let mut gaps = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let mut dad = Dad::start(at(0), Probing::Check, &timing, &mut random);
            let steps = run(&mut dad, &timing, &mut random);
            assert!(steps[0].1 <= at(1_000));
            for pair in steps[..3].windows(2) {
                let gap = pair[1].1.since(pair[0].1);
                assert!(gap >= timing.gap_min && gap <= timing.gap_max, "{gap:?}");
                gaps.insert(gap);
            }
            assert_eq!(steps[3].1.since(steps[2].1), Duration::from_secs(2));
        }
        assert!(gaps.len() > 300);
    }

    #[test]
    fn late_caller_waits_longer_and_skips_nothing() {
        let (timing, mut random) = (Timing::IPV4, Random::new(4));
        let mut dad = Dad::start(at(0), Probing::Check, &timing, &mut random);
        for probe in 0..3 {
            let now = at(60_000 * (probe + 1));
            assert_eq!(dad.poll(now, &timing, &mut random), Some(Step::Probe));
            assert_eq!(dad.poll(now, &timing, &mut random), None);
        }
        assert_eq!(dad.poll(at(180_199), &timing, &mut random), None);
        assert_eq!(
            dad.poll(at(180_200), &timing, &mut random),
            Some(Step::Ready)
        );
    }

    #[test]
    fn unchecked_addresses_are_ready_at_once() {
        let mut random = Random::new(5);
        let none = Timing {
            probes: 0,
            ..Timing::IPV6
        };
        assert!(!Dad::start(at(0), Probing::Check, &none, &mut random).is_tentative());
        let mut dad = Dad::start(at(0), Probing::None, &Timing::IPV4, &mut random);
        assert_eq!(
            (dad.is_tentative(), dad.next_timeout()),
            (false, Instant::MAX)
        );
        assert_eq!(dad.poll(Instant::MAX, &Timing::IPV4, &mut random), None);
        let mut dad = Dad::start(at(7), Probing::Announce, &Timing::IPV4, &mut random);
        let steps = run(&mut dad, &Timing::IPV4, &mut random);
        assert_eq!(
            steps,
            [(Step::Announce, at(7)), (Step::Announce, at(2_007))]
        );
    }

    #[test]
    fn second_conflict_within_ten_seconds_is_one_too_many() {
        let (timing, mut random) = (Timing::IPV4, Random::new(6));
        let mut dad = Dad::start(at(0), Probing::None, &timing, &mut random);
        assert_eq!(dad.defend(at(1_000), &timing), Defence::Announce);
        dad.announce(at(1_000));
        assert_eq!(
            dad.poll(at(1_000), &timing, &mut random),
            Some(Step::Announce)
        );
        assert_eq!(dad.poll(at(9_000), &timing, &mut random), None);
        assert_eq!(dad.defend(at(11_000), &timing), Defence::Announce);
        assert_eq!(dad.defend(at(20_999), &timing), Defence::GiveUp);
        assert_eq!(dad.next_timeout(), Instant::MAX);
    }

    #[test]
    fn stubborn_host_defends_once_an_interval() {
        let timing = Timing {
            gives_up: false,
            ..Timing::IPV4
        };
        let mut dad = Dad::start(at(0), Probing::None, &timing, &mut Random::new(7));
        assert_eq!(dad.defend(at(0), &timing), Defence::Announce);
        assert_eq!(dad.defend(at(9_999), &timing), Defence::Bear);
        assert_eq!(dad.defend(at(10_000), &timing), Defence::Announce);
    }

    #[test]
    fn random_waits_stay_in_bounds_and_fill_them() {
        let mut random = Random::new(8);
        let longest = Duration::from_secs(1);
        let waits: Vec<_> = (0..1000).map(|_| random.within(longest)).collect();
        assert!(waits.iter().all(|wait| *wait <= longest));
        let mean = waits.iter().sum::<Duration>() / 1000;
        assert!(
            mean > Duration::from_millis(450) && mean < Duration::from_millis(550),
            "{mean:?}"
        );
        assert_eq!(random.within(Duration::ZERO), Duration::ZERO);
        random.within(Duration::MAX);
        assert_eq!(random.between(longest, Duration::ZERO), longest);
        assert_ne!(Random::new(8).next(), Random::new(9).next());
    }
}
