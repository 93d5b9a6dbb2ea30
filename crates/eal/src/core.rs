//! Lcores: which processors the threads of a program run on.
//!
//! A user names *lcores* (`-l 1-2`, `--lcores '0@(0,1)'`, `-c 0x6`); a machine has *cpus*, and
//! this process may use some of them. [`LcoreMap`] holds what was asked for, [`LcoreMap::place`]
//! maps it onto what there is: a cpu that this process may not use is replaced by one that it may,
//! counted modulo. So a command line that was written for sixteen cores runs on two.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// One more than the highest lcore or cpu number: what the kernel's `cpu_set_t` holds.
pub const LCORES_MAX: u32 = 1024;

/// The number of an lcore, as the user gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LcoreId(pub u32);

impl fmt::Display for LcoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What is wrong with a core list or a core mask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoreListError {
    /// No core is named.
    #[error("it names no core; write for example `1-2`")]
    Empty,
    /// A number should stand here.
    #[error("a core number should stand at `{at}`; write for example `1-2,4`")]
    NoNumber {
        /// The rest of the list from the wrong place on.
        at: String,
    },
    /// Something else than `,` follows a core.
    #[error("`{at}` does not continue the list; separate cores by `,`")]
    Trailing {
        /// The rest of the list from the wrong place on.
        at: String,
    },
    /// A parenthesis is open at the end.
    #[error("`(` is never closed; add `)`")]
    Unclosed,
    /// A number above the limit.
    #[error("core {core} is out of range; the highest is {}", LCORES_MAX - 1)]
    OutOfRange {
        /// The number, as written.
        core: String,
    },
    /// The end of a range lies before its start.
    #[error("the range `{first}-{last}` runs backwards; write `{last}-{first}`")]
    Backwards {
        /// Where the range starts.
        first: u32,
        /// Where it ends.
        last: u32,
    },
    /// One lcore is given two different sets of cpus.
    #[error("lcore {lcore} is placed twice; name it once")]
    PlacedTwice {
        /// The lcore.
        lcore: LcoreId,
    },
    /// The mask is no hexadecimal number.
    #[error("a mask is hexadecimal, for example `0x6` for the cores 1 and 2")]
    NoMask,
}

/// Which lcores a program has, and the cpus that each may run on.
///
/// The default names none and means "one for each cpu that this process may use", as in DPDK.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LcoreMap {
    /// Cpus ascending, without repetition, never empty.
    lcores: BTreeMap<LcoreId, Vec<u32>>,
}

impl LcoreMap {
    /// Parses a core list: DPDK's `-l 1-2,4` and `--lcores '0@(0,1),(2-3)@2,4'`.
    ///
    /// An lcore without `@` runs on the cpu of its number; lcores in parentheses without `@` share
    /// all their cpus.
    ///
    /// # Errors
    ///
    /// Names the place in the list that is wrong.
    pub fn parse_list(text: &str) -> Result<Self, CoreListError> {
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(CoreListError::Empty);
        }
        let mut map = Self::default();
        loop {
            let grouped = rest.starts_with('(');
            let lcores = take_set(&mut rest)?;
            let cpus = if take_char(&mut rest, '@') {
                Some(take_set(&mut rest)?)
            } else {
                grouped.then(|| lcores.clone())
            };
            for lcore in lcores {
                map.add(LcoreId(lcore), cpus.clone().unwrap_or_else(|| vec![lcore]))?;
            }
            if rest.is_empty() {
                return Ok(map);
            }
            if !take_char(&mut rest, ',') {
                return Err(CoreListError::Trailing {
                    at: rest.to_owned(),
                });
            }
        }
    }

    /// Parses a core mask: DPDK's `-c 0x6`.
    ///
    /// # Errors
    ///
    /// Refuses what is not hexadecimal, a mask of nothing, and cores past [`LCORES_MAX`].
    pub fn parse_mask(text: &str) -> Result<Self, CoreListError> {
        let text = text.trim();
        let digits = text
            .strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            .unwrap_or(text);
        if digits.is_empty() {
            return Err(CoreListError::NoMask);
        }
        let mut map = Self::default();
        for (place, digit) in digits.chars().rev().enumerate() {
            let digit = digit.to_digit(16).ok_or(CoreListError::NoMask)?;
            for bit in (0..4).filter(|bit| digit & (1 << bit) != 0) {
                let core = place.saturating_mul(4).saturating_add(bit);
                let core = u32::try_from(core)
                    .ok()
                    .filter(|core| *core < LCORES_MAX)
                    .ok_or_else(|| CoreListError::OutOfRange {
                        core: core.to_string(),
                    })?;
                map.add(LcoreId(core), vec![core])?;
            }
        }
        if map.is_empty() {
            Err(CoreListError::Empty)
        } else {
            Ok(map)
        }
    }

    /// Adds an lcore; the same twice is fine, as in DPDK.
    fn add(&mut self, lcore: LcoreId, cpus: Vec<u32>) -> Result<(), CoreListError> {
        match self.lcores.get(&lcore) {
            Some(placed) if *placed != cpus => Err(CoreListError::PlacedTwice { lcore }),
            _ => {
                self.lcores.insert(lcore, cpus);
                Ok(())
            }
        }
    }

    /// Whether no lcore is named, so that each usable cpu becomes one.
    pub fn is_empty(&self) -> bool {
        self.lcores.is_empty()
    }

    /// How many lcores are named.
    pub fn len(&self) -> usize {
        self.lcores.len()
    }

    /// The lcores in ascending order.
    pub fn ids(&self) -> impl Iterator<Item = LcoreId> + '_ {
        self.lcores.keys().copied()
    }

    /// The lowest lcore: the main one unless `--main-lcore` names another.
    pub fn first(&self) -> Option<LcoreId> {
        self.ids().next()
    }

    /// The cpus that `lcore` may run on, ascending.
    pub fn cpus(&self, lcore: LcoreId) -> Option<&[u32]> {
        self.lcores.get(&lcore).map(Vec::as_slice)
    }

    /// Maps what was asked for onto the cpus that this process may use: `available`, ascending.
    ///
    /// A cpu that is not among them is taken modulo their number.
    #[must_use]
    pub fn place(&self, available: &[u32]) -> Self {
        if self.is_empty() {
            return Self {
                lcores: available
                    .iter()
                    .map(|cpu| (LcoreId(*cpu), vec![*cpu]))
                    .collect(),
            };
        }
        let place_one = |cpu: u32| -> Option<u32> {
            if available.contains(&cpu) {
                return Some(cpu);
            }
            let index = usize::try_from(cpu).ok()?.checked_rem(available.len())?;
            available.get(index).copied()
        };
        let place_all = |cpus: &[u32]| {
            let mut placed: Vec<u32> = cpus.iter().filter_map(|cpu| place_one(*cpu)).collect();
            placed.sort_unstable();
            placed.dedup();
            placed
        };
        Self {
            lcores: self
                .lcores
                .iter()
                .map(|(lcore, cpus)| (*lcore, place_all(cpus)))
                .collect(),
        }
    }

    /// One line for the user: where each lcore runs.
    pub fn describe(&self, available: usize) -> String {
        let mut line = String::new();
        for (lcore, cpus) in &self.lcores {
            line.push_str(if line.is_empty() { "" } else { ", " });
            line.push_str(&format!("lcore {lcore}"));
            line.push_str(if line.contains(',') {
                " on"
            } else {
                " runs on"
            });
            line.push_str(if cpus.len() == 1 { " cpu " } else { " cpus " });
            let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
            line.push_str(&cpus.join("+"));
        }
        let noun = if available == 1 { "cpu" } else { "cpus" };
        format!("{line} ({available} {noun} available)")
    }
}

/// The form that [`LcoreMap::parse_list`] reads.
impl fmt::Display for LcoreMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (lcore, cpus) in &self.lcores {
            write!(f, "{separator}{lcore}")?;
            match cpus.as_slice() {
                [cpu] if *cpu == lcore.0 => {}
                [cpu] => write!(f, "@{cpu}")?,
                cpus => {
                    let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
                    write!(f, "@({})", cpus.join(","))?;
                }
            }
            separator = ",";
        }
        Ok(())
    }
}

/// Removes `wanted` from the front of `rest` if it stands there.
fn take_char(rest: &mut &str, wanted: char) -> bool {
    match rest.strip_prefix(wanted) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

/// Reads a number, a range or a group in parentheses; ascending, without repetition.
fn take_set(rest: &mut &str) -> Result<Vec<u32>, CoreListError> {
    let mut set = Vec::new();
    if take_char(rest, '(') {
        loop {
            take_range(rest, &mut set)?;
            if take_char(rest, ')') {
                break;
            }
            if rest.is_empty() {
                return Err(CoreListError::Unclosed);
            }
            if !take_char(rest, ',') {
                return Err(CoreListError::Trailing {
                    at: (*rest).to_owned(),
                });
            }
        }
    } else {
        take_range(rest, &mut set)?;
    }
    set.sort_unstable();
    set.dedup();
    Ok(set)
}

/// Reads `N` or `N-M` and adds what it names to `set`.
fn take_range(rest: &mut &str, set: &mut Vec<u32>) -> Result<(), CoreListError> {
    let first = take_number(rest)?;
    let last = if take_char(rest, '-') {
        take_number(rest)?
    } else {
        first
    };
    if last < first {
        return Err(CoreListError::Backwards { first, last });
    }
    // A list that repeats whole ranges must not grow without bound.
    set.extend(first..=last);
    if set.len() > LCORES_MAX as usize {
        set.sort_unstable();
        set.dedup();
    }
    Ok(())
}

/// Reads a core number.
fn take_number(rest: &mut &str) -> Result<u32, CoreListError> {
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    if digits.is_empty() {
        return Err(CoreListError::NoNumber {
            at: (*rest).to_owned(),
        });
    }
    let number = digits
        .parse()
        .ok()
        .filter(|number| *number < LCORES_MAX)
        .ok_or_else(|| CoreListError::OutOfRange {
            core: digits.to_owned(),
        })?;
    *rest = after;
    Ok(number)
}

/// The cpus that this process may use, ascending.
///
/// # Errors
///
/// What the kernel says, such as `EINVAL` on a machine with more than [`LCORES_MAX`] cpus.
pub fn available_cpus() -> io::Result<Vec<u32>> {
    let set = sched_getaffinity(None)?;
    Ok((0..LCORES_MAX)
        .filter(|cpu| set.is_set(*cpu as usize))
        .collect())
}

/// Keeps the calling thread on `cpus`.
///
/// # Errors
///
/// What the kernel says: `EINVAL` when it allows none of them.
pub fn pin_thread(cpus: &[u32]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus.iter().filter(|cpu| **cpu < LCORES_MAX) {
        set.set(*cpu as usize);
    }
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpus_of(list: &str) -> Vec<(u32, Vec<u32>)> {
        let map = LcoreMap::parse_list(list).unwrap();
        map.lcores
            .into_iter()
            .map(|(lcore, cpus)| (lcore.0, cpus))
            .collect()
    }

    #[test]
    fn ranges_and_single_cores_run_on_the_cpu_of_their_number() {
        assert_eq!(cpus_of("1-2"), [(1, vec![1]), (2, vec![2])]);
        assert_eq!(cpus_of("0,3"), [(0, vec![0]), (3, vec![3])]);
        assert_eq!(cpus_of("5"), [(5, vec![5])]);
        assert_eq!(cpus_of("1,1"), [(1, vec![1])]);
    }

    #[test]
    fn the_example_of_dpdks_manual_means_what_it_says_there() {
        let map = cpus_of("1,2@(5-7),(3-5)@(0,2),(0,6),7-8");
        let expected = [
            (0, vec![0, 6]),
            (1, vec![1]),
            (2, vec![5, 6, 7]),
            (3, vec![0, 2]),
            (4, vec![0, 2]),
            (5, vec![0, 2]),
            (6, vec![0, 6]),
            (7, vec![7]),
            (8, vec![8]),
        ];
        assert_eq!(map, expected);
    }

    #[test]
    fn masks_name_the_cores_of_their_bits() {
        let ids = |mask| {
            LcoreMap::parse_mask(mask)
                .unwrap()
                .ids()
                .map(|id| id.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(ids("0x6"), [1, 2]);
        assert_eq!(ids("F"), [0, 1, 2, 3]);
        assert_eq!(ids("0X100000000"), [32]);
        assert_eq!(LcoreMap::parse_mask("0x0"), Err(CoreListError::Empty));
        assert_eq!(LcoreMap::parse_mask("0x"), Err(CoreListError::NoMask));
        assert_eq!(LcoreMap::parse_mask("1-2"), Err(CoreListError::NoMask));
        let wide = format!("0x1{}", "0".repeat(256));
        assert_eq!(
            LcoreMap::parse_mask(&wide),
            Err(CoreListError::OutOfRange {
                core: "1024".into()
            })
        );
    }

    #[test]
    fn wrong_lists_say_where() {
        let error = |list| LcoreMap::parse_list(list).unwrap_err();
        assert_eq!(error(" "), CoreListError::Empty);
        assert_eq!(error("1,"), CoreListError::NoNumber { at: String::new() });
        assert_eq!(error("1-x"), CoreListError::NoNumber { at: "x".into() });
        assert_eq!(error("1;2"), CoreListError::Trailing { at: ";2".into() });
        assert_eq!(error("(1,2"), CoreListError::Unclosed);
        assert_eq!(error("3-1"), CoreListError::Backwards { first: 3, last: 1 });
        assert_eq!(
            error("1024"),
            CoreListError::OutOfRange {
                core: "1024".into()
            }
        );
        assert_eq!(
            error("99999999999999999999"),
            CoreListError::OutOfRange {
                core: "99999999999999999999".into()
            }
        );
        assert_eq!(
            error("1@2,1@3"),
            CoreListError::PlacedTwice { lcore: LcoreId(1) }
        );
    }

    #[test]
    fn a_core_that_does_not_exist_is_taken_modulo_the_cpus_available() {
        let placed = LcoreMap::parse_list("3").unwrap().place(&[0, 1]);
        assert_eq!(placed.cpus(LcoreId(3)), Some(&[1][..]));
        assert_eq!(
            placed.describe(2),
            "lcore 3 runs on cpu 1 (2 cpus available)"
        );
        let placed = LcoreMap::parse_list("1-2,7@(0-3)").unwrap().place(&[0, 1]);
        assert_eq!(
            placed.describe(2),
            "lcore 1 runs on cpu 1, lcore 2 on cpu 0, lcore 7 on cpus 0+1 (2 cpus available)"
        );
        // Cpus that exist but are not ours are as absent as those that do not.
        let placed = LcoreMap::parse_list("0-1").unwrap().place(&[4, 6]);
        assert_eq!(
            (placed.cpus(LcoreId(0)), placed.cpus(LcoreId(1))),
            (Some(&[4][..]), Some(&[6][..]))
        );
    }

    #[test]
    fn without_a_list_each_cpu_available_is_an_lcore() {
        let placed = LcoreMap::default().place(&[2, 5]);
        assert_eq!(placed.ids().collect::<Vec<_>>(), [LcoreId(2), LcoreId(5)]);
        assert_eq!(placed.cpus(LcoreId(5)), Some(&[5][..]));
    }

    #[test]
    fn a_pinned_thread_runs_where_it_was_put() {
        let available = available_cpus().unwrap();
        let cpu = *available.last().unwrap();
        std::thread::spawn(move || {
            pin_thread(&[cpu]).unwrap();
            assert_eq!(available_cpus().unwrap(), [cpu]);
        })
        .join()
        .unwrap();
        assert_eq!(available_cpus().unwrap(), available);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "[-0-9,@()xa-f ]{0,40}|.{0,20}") {
            let _ = LcoreMap::parse_list(&text);
            let _ = LcoreMap::parse_mask(&text);
        }

        #[test]
        fn a_map_survives_being_written_and_read(
            wanted in prop::collection::btree_map(0..LCORES_MAX, prop::collection::btree_set(0..LCORES_MAX, 1..5), 1..9),
        ) {
            let lcores = wanted.into_iter().map(|(lcore, cpus)| (LcoreId(lcore), cpus.into_iter().collect())).collect();
            let map = LcoreMap { lcores };
            prop_assert_eq!(LcoreMap::parse_list(&map.to_string()), Ok(map));
        }

        #[test]
        fn every_lcore_is_placed_on_cpus_that_are_available(
            list in prop::collection::vec(0..LCORES_MAX, 1..9),
            available in prop::collection::btree_set(0..LCORES_MAX, 1..9),
        ) {
            let list: Vec<String> = list.iter().map(u32::to_string).collect();
            let map = LcoreMap::parse_list(&list.join(",")).unwrap();
            let available: Vec<u32> = available.into_iter().collect();
            let placed = map.place(&available);
            prop_assert_eq!(placed.ids().collect::<Vec<_>>(), map.ids().collect::<Vec<_>>());
            for lcore in placed.ids() {
                let cpus = placed.cpus(lcore).unwrap();
                prop_assert!(!cpus.is_empty() && cpus.iter().all(|cpu| available.contains(cpu)));
            }
        }
    }
}
