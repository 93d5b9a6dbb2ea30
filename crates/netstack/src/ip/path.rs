//! What paths take: the largest packet to a destination, as routers on the way have told (RFC 1191, RFC 8201).
//!
//! Lines by address, found by bisection: there is a line only for destinations behind a narrower link than ours, so the table is
//! nearly always empty or short, and an empty one costs a comparison. No hash, so nothing that a sender of forged ICMP could
//! make collide; all he can do is to replace the oldest lines, at the price of a scan each.

use core::net::IpAddr;
use core::time::Duration;

use crate::time::Instant;

/// Least that an IPv6 link takes: RFC 8200 section 5.
pub const IPV6_MTU_MIN: u16 = 1280;

/// Least that an IPv4 link takes: RFC 791 section 3.1.
pub const IPV4_MTU_MIN: u16 = 68;

/// How many paths, and how long they are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathConfig {
    /// Lines in the table.
    pub paths_max: usize,
    /// When to try larger packets again: RFC 1191 section 6.3 and RFC 8201 section 4 have 10 minutes, and at least 5.
    pub age_max: Duration,
    /// What an IPv4 path is never set below, at least [`IPV4_MTU_MIN`]. A forged message could otherwise have us send packets with
    /// 28 bytes of data each, at many times the cost. To a path that says it takes less, packets of this size go out without
    /// "don't fragment": see [`PathMtu::narrower`].
    pub ipv4_floor: u16,
}

impl Default for PathConfig {
    fn default() -> Self {
        Self {
            paths_max: 1024,
            age_max: Duration::from_secs(600),
            ipv4_floor: 552,
        }
    }
}

/// What is known about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMtu {
    /// Where to.
    pub destination: IpAddr,
    /// The largest packet to send there, with its IP header.
    pub mtu: u16,
    /// A router said that it takes even less: IPv4 routers have to be allowed to fragment.
    pub narrower: bool,
    /// When this is forgotten.
    pub until: Instant,
}

/// The largest packets to destinations behind narrow links.
#[derive(Debug)]
pub struct Paths {
    config: PathConfig,
    /// By destination.
    paths: Vec<PathMtu>,
    generation: u32,
}

impl Paths {
    /// A table without lines.
    #[must_use]
    pub fn new(config: PathConfig) -> Self {
        Self {
            config,
            paths: Vec::with_capacity(config.paths_max),
            generation: 0,
        }
    }

    /// Takes note of a router's message that packets to `destination` may have `mtu` bytes, and returns what they may have now if
    /// that is less than before.
    ///
    /// It is for the caller to check that the packet which the message quotes is one of ours (RFC 8201 section 4, RFC 5927
    /// section 7), and, where an old router tells no size, to guess one by [`plateau_below`].
    pub fn update(&mut self, now: Instant, destination: IpAddr, mtu: u16) -> Option<u16> {
        let floor = match destination {
            IpAddr::V4(_) => self.config.ipv4_floor.max(IPV4_MTU_MIN),
            IpAddr::V6(_) => IPV6_MTU_MIN,
        };
        // RFC 8201 section 4: less than the least of IPv6 is discarded. No IPv4 link takes less than 68 bytes either.
        let possible = match destination {
            IpAddr::V4(_) => IPV4_MTU_MIN,
            IpAddr::V6(_) => IPV6_MTU_MIN,
        };
        if mtu < possible || destination.is_multicast() || destination.is_unspecified() {
            return None;
        }
        let path = PathMtu {
            destination,
            mtu: mtu.max(floor),
            narrower: mtu < floor,
            until: now + self.config.age_max,
        };
        match self.place(destination) {
            Ok(at) => {
                let known = self.paths.get_mut(at)?;
                // RFC 8201 section 4: a message never raises the estimate.
                if path.mtu > known.mtu {
                    return None;
                }
                let before = *known;
                // The same size again is news, too: larger packets still do not get through.
                *known = path;
                known.narrower |= before.narrower;
                if (known.mtu, known.narrower) == (before.mtu, before.narrower) {
                    return None;
                }
            }
            Err(_) if self.config.paths_max == 0 => return None,
            Err(_) => {
                if self.paths.len() >= self.config.paths_max {
                    self.evict();
                }
                let at = self.place(destination).unwrap_or_else(|at| at);
                self.paths.insert(at.min(self.paths.len()), path);
            }
        }
        self.generation = self.generation.wrapping_add(1);
        Some(path.mtu)
    }

    /// The largest packet to send to a destination over a link that takes `link_mtu`.
    #[inline]
    #[must_use]
    pub fn mtu(&self, destination: IpAddr, link_mtu: u16) -> u16 {
        match self.lookup(destination) {
            Some(path) => path.mtu.min(link_mtu),
            None => link_mtu,
        }
    }

    /// What is known about the path to a destination, if anything.
    #[inline]
    #[must_use]
    pub fn lookup(&self, destination: IpAddr) -> Option<&PathMtu> {
        if self.paths.is_empty() {
            return None;
        }
        self.paths.get(self.place(destination).ok()?)
    }

    /// Forgets what is too old. Returns how many lines that were.
    pub fn expire(&mut self, now: Instant) -> usize {
        let before = self.paths.len();
        self.paths.retain(|path| path.until > now);
        let gone = before - self.paths.len();
        if gone > 0 {
            self.generation = self.generation.wrapping_add(1);
        }
        gone
    }

    /// When [`expire`](Self::expire) is to be called, if at all.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.paths.iter().map(|path| path.until).min()
    }

    /// A number that moves whenever an answer of [`mtu`](Self::mtu) may no longer hold.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// All lines, by destination.
    pub fn iter(&self) -> impl Iterator<Item = &PathMtu> {
        self.paths.iter()
    }

    fn place(&self, destination: IpAddr) -> Result<usize, usize> {
        self.paths
            .binary_search_by(|path| path.destination.cmp(&destination))
    }

    /// Drops the line that would be forgotten next.
    fn evict(&mut self) {
        let oldest = self
            .paths
            .iter()
            .enumerate()
            .min_by_key(|(_, path)| path.until);
        if let Some((at, _)) = oldest {
            self.paths.remove(at);
        }
    }
}

/// The next smaller size that links commonly have, for routers that do not tell theirs: RFC 1191 section 7.1.
///
/// `len` is the total length of the packet that was too large.
#[must_use]
pub fn plateau_below(len: u16) -> u16 {
    const PLATEAUS: [u16; 10] = [
        32000,
        17914,
        8166,
        4352,
        2002,
        1492,
        1006,
        508,
        296,
        IPV4_MTU_MIN,
    ];
    let below = PLATEAUS.into_iter().find(|plateau| *plateau < len);
    below.unwrap_or(IPV4_MTU_MIN)
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    const START: Instant = Instant::from_millis(1000);

    fn v4(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + n).into()
    }

    fn v6(n: u128) -> IpAddr {
        Ipv6Addr::from_bits((0x2001_0db8 << 96) + n).into()
    }

    #[test]
    fn path_falls_and_never_rises() {
        let mut paths = Paths::new(PathConfig::default());
        assert_eq!(paths.mtu(v4(1), 1500), 1500);
        assert_eq!(paths.update(START, v4(1), 1400), Some(1400));
        assert_eq!(paths.update(START, v4(1), 1450), None);
        assert_eq!(paths.update(START, v4(1), 1400), None);
        assert_eq!(paths.mtu(v4(1), 1500), 1400);
        assert_eq!(paths.update(START, v4(1), 1300), Some(1300));
        assert_eq!(paths.mtu(v4(1), 1500), 1300);
        assert_eq!(paths.mtu(v4(1), 1200), 1200);
        assert_eq!(paths.mtu(v4(2), 1500), 1500);
        assert_eq!(paths.iter().count(), 1);
    }

    #[test]
    fn nonsense_is_ignored() {
        let mut paths = Paths::new(PathConfig::default());
        for mtu in [0, 1, 67] {
            assert_eq!(paths.update(START, v4(1), mtu), None);
        }
        // RFC 8201 section 4.
        for mtu in [0, 68, 1279] {
            assert_eq!(paths.update(START, v6(1), mtu), None);
        }
        assert_eq!(
            paths.update(START, Ipv4Addr::new(224, 0, 0, 1).into(), 1000),
            None
        );
        assert_eq!(
            paths.update(START, Ipv6Addr::UNSPECIFIED.into(), 1300),
            None
        );
        assert_eq!(paths.iter().count(), 0);
        assert_eq!(paths.generation(), 0);
        assert_eq!(paths.update(START, v6(1), 1280), Some(1280));
    }

    #[test]
    fn narrow_ipv4_path_stops_at_the_floor_and_says_so() {
        let mut paths = Paths::new(PathConfig::default());
        assert_eq!(paths.update(START, v4(1), 552), Some(552));
        assert_eq!(paths.lookup(v4(1)).map(|path| path.narrower), Some(false));
        let generation = paths.generation();
        assert_eq!(paths.update(START, v4(1), 296), Some(552));
        assert_eq!(paths.lookup(v4(1)).map(|path| path.narrower), Some(true));
        assert_ne!(paths.generation(), generation);
        // A later message about a size above the floor does not take that back.
        assert_eq!(paths.update(START, v4(1), 552), None);
        assert_eq!(paths.lookup(v4(1)).map(|path| path.narrower), Some(true));

        let mut low = Paths::new(PathConfig {
            ipv4_floor: 0,
            ..PathConfig::default()
        });
        assert_eq!(low.update(START, v4(1), 68), Some(68));
    }

    #[test]
    fn path_is_forgotten_ten_minutes_after_the_last_message() {
        let mut paths = Paths::new(PathConfig::default());
        assert_eq!(paths.next_timeout(), None);
        paths.update(START, v4(1), 1400);
        paths.update(START, v6(1), 1400);
        let again = START + Duration::from_secs(500);
        assert_eq!(paths.update(again, v6(1), 1400), None);
        let end = START + Duration::from_secs(600);
        assert_eq!(paths.next_timeout(), Some(end));
        let generation = paths.generation();
        assert_eq!(paths.expire(Instant::from_nanos(end.as_nanos() - 1)), 0);
        assert_eq!(paths.generation(), generation);
        assert_eq!(paths.expire(end), 1);
        assert_ne!(paths.generation(), generation);
        assert_eq!(paths.mtu(v4(1), 1500), 1500);
        assert_eq!(paths.mtu(v6(1), 1500), 1400);
        assert_eq!(paths.next_timeout(), Some(again + Duration::from_secs(600)));
        assert_eq!(paths.expire(Instant::MAX), 1);
    }

    #[test]
    fn flood_replaces_the_oldest_and_stays_in_bounds() {
        let mut paths = Paths::new(PathConfig {
            paths_max: 16,
            ..PathConfig::default()
        });
        let capacity = paths.paths.capacity();
        let mut now = START;
        for n in 0..1000_u32 {
            now = now + Duration::from_millis(1);
            assert_eq!(
                paths.update(now, v4(n.wrapping_mul(7919)), 1400),
                Some(1400)
            );
        }
        assert_eq!(paths.iter().count(), 16);
        assert_eq!(paths.paths.capacity(), capacity);
        for n in 984..1000_u32 {
            assert_eq!(paths.mtu(v4(n.wrapping_mul(7919)), 1500), 1400);
        }
        let mut none = Paths::new(PathConfig {
            paths_max: 0,
            ..PathConfig::default()
        });
        assert_eq!(none.update(START, v4(1), 1400), None);
    }

    #[test]
    fn generation_wraps() {
        let mut paths = Paths::new(PathConfig::default());
        paths.generation = u32::MAX;
        paths.update(START, v4(1), 1400);
        assert_eq!(paths.generation(), 0);
    }

    #[test]
    fn plateaus_go_down_to_the_least() {
        let mut len = u16::MAX;
        let mut steps = 0;
        while len > IPV4_MTU_MIN {
            let next = plateau_below(len);
            assert!(next < len);
            (len, steps) = (next, steps + 1);
        }
        assert_eq!((steps, plateau_below(0)), (10, IPV4_MTU_MIN));
        assert_eq!(plateau_below(1500), 1492);
        assert_eq!(plateau_below(1492), 1006);
    }

    proptest! {
        /// Against a map: the least of the messages since the last pause of ten minutes.
        #[test]
        fn table_agrees_with_a_map(
            messages in proptest::collection::vec((0..12_u32, any::<bool>(), any::<u16>(), 0..200_u64), 0..200),
        ) {
            let mut paths = Paths::new(PathConfig::default());
            let mut model = std::collections::BTreeMap::<IpAddr, (u16, Instant)>::new();
            let mut now = START;
            for (n, six, mtu, pause) in messages {
                now = now + Duration::from_secs(pause);
                model.retain(|_, (_, until)| *until > now);
                paths.expire(now);
                let destination = if six { v6(n.into()) } else { v4(n) };
                paths.update(now, destination, mtu);
                let (least, floor) = if six { (1280, 1280) } else { (68, 552) };
                let mtu = mtu.max(floor) * u16::from(mtu >= least);
                let known = model.get(&destination).map_or(u16::MAX, |(mtu, _)| *mtu);
                if mtu > 0 && mtu <= known {
                    model.insert(destination, (mtu, now + Duration::from_secs(600)));
                }
                for n in 0..12 {
                    for address in [v4(n), v6(n.into())] {
                        let expected = model.get(&address).map_or(9000, |(mtu, _)| 9000.min(*mtu));
                        prop_assert_eq!(paths.mtu(address, 9000), expected);
                    }
                }
                prop_assert_eq!(paths.next_timeout(), model.values().map(|(_, until)| *until).min());
            }
        }
    }
}
