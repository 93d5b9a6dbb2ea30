//! One look at all pools and rings of a region: where each buffer is.

use std::collections::BTreeMap;
use std::fmt;

use forebay::eal::holder::{Holder, HolderKind};
use forebay::eal::ports::QUEUES_MAX;
use forebay::eal::sync::Ordering;
use forebay::eal::{Owner, Region, SlotId, SlotState, ZoneKind};

use super::layout::{PoolWords, RingWords};

/// Most segments that a chain is followed for.
const SEGMENTS_MAX: usize = 64;

/// What one look found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Pool by pool.
    pub(crate) pools: Vec<PoolSurvey>,
    /// Indices in rings and magazines that are no buffer's.
    pub(crate) strays: u64,
    /// Pools and rings that cannot be walked, and why.
    pub(crate) unreadable: Vec<String>,
}

/// Where the buffers of one pool are.
#[derive(Debug)]
pub(crate) struct PoolSurvey {
    pub(crate) name: String,
    pub(crate) count: u32,
    pub(crate) places: Places,
    /// What is not as it should be, by number.
    pub(crate) faults: BTreeMap<u32, Fault>,
}

/// Buffers by place. Each buffer is counted once here or is among the faults.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// In magazines that nobody owns.
    pub(crate) pool_magazines: u32,
    /// In magazines of living slots.
    pub(crate) slot_magazines: u32,
    /// In rings.
    pub(crate) rings: u32,
    /// Given to device queues.
    pub(crate) queues: u32,
    /// In the hands of living slots.
    pub(crate) hand: u32,
}

/// What is wrong with a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Listed nowhere, and its tag names nobody who has it.
    Leaked(HolderKind),
    /// In a magazine of a slot that is dead: to be swept.
    Unswept(SlotId),
    /// Listed so often.
    Double(u32),
    /// Listed in one place, but its tag says otherwise.
    Mistagged(HolderKind),
}

impl Fault {
    /// Lost until somebody sweeps, or for good.
    pub(crate) fn is_leak(self) -> bool {
        matches!(self, Self::Leaked(_) | Self::Unswept(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaked(holder) => write!(f, "listed nowhere, and tagged {}", Tag(*holder)),
            Self::Unswept(slot) => write!(f, "in a magazine of slot {slot}, which is dead"),
            Self::Double(count) => write!(f, "listed in {count} places"),
            Self::Mistagged(holder) => write!(f, "listed, but tagged {}", Tag(*holder)),
        }
    }
}

/// A tag in words.
struct Tag(HolderKind);

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            HolderKind::Pool => f.write_str("free"),
            HolderKind::Slot(slot) => write!(f, "as held by slot {slot}"),
            HolderKind::Queue { port, queue, tx } => {
                let direction = if tx { "TX" } else { "RX" };
                write!(f, "as given to {direction} queue {queue} of port {port}")
            }
            HolderKind::Invalid => f.write_str("with nonsense"),
        }
    }
}

/// Where a buffer was found listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Nowhere,
    PoolMagazine,
    SlotMagazine,
    DeadMagazine(SlotId),
    Ring,
    Often(u32),
}

/// A pool under survey.
struct Walk<'r> {
    name: String,
    words: PoolWords<'r>,
    listed: Vec<Listed>,
}

impl Survey {
    /// Looks once at everything.
    pub(crate) fn take(region: &Region) -> Self {
        let mut survey = Self::default();
        let mut pools = Vec::new();
        for zone in region.zones().filter(|zone| zone.kind() == ZoneKind::Pool) {
            match PoolWords::find(&zone) {
                Ok(words) => {
                    let listed = vec![Listed::Nowhere; words.count as usize];
                    pools.push(Walk {
                        name: zone.name().to_string(),
                        words,
                        listed,
                    });
                }
                Err(why) => survey
                    .unreadable
                    .push(format!("pool {} {why}", zone.name())),
            }
        }
        survey.walk_magazines(region, &mut pools);
        survey.walk_rings(region, &mut pools);
        survey.pools = pools.into_iter().map(|pool| pool.judge(region)).collect();
        survey
    }

    fn walk_magazines(&mut self, region: &Region, pools: &mut [Walk<'_>]) {
        for pool in pools {
            let magazines: Vec<_> = pool.words.magazines().collect();
            for (owner, entries) in magazines {
                let place = match owner.slot() {
                    _ if owner == Owner::NONE => Listed::PoolMagazine,
                    Some(slot) if !region.owner_alive(owner) => Listed::DeadMagazine(slot),
                    _ => Listed::SlotMagazine,
                };
                for index in entries {
                    match pool.words.number(index) {
                        Some(number) => pool.list(number, place),
                        None => self.strays += 1,
                    }
                }
            }
        }
    }

    fn walk_rings(&mut self, region: &Region, pools: &mut [Walk<'_>]) {
        for zone in region.zones().filter(|zone| zone.kind() == ZoneKind::Ring) {
            let ring = match RingWords::find(&zone) {
                Ok(ring) => ring,
                Err(why) => {
                    self.unreadable.push(format!("ring {} {why}", zone.name()));
                    continue;
                }
            };
            for lane in ring.lanes() {
                let Some(items) = lane else {
                    self.unreadable
                        .push(format!("ring {} has positions that cannot be", zone.name()));
                    continue;
                };
                for index in items {
                    self.walk_chain(index, pools);
                }
            }
        }
    }

    /// One index travels, and with it all segments of its chain.
    fn walk_chain(&mut self, index: u32, pools: &mut [Walk<'_>]) {
        let mut next = Some(index);
        for _ in 0..SEGMENTS_MAX {
            let Some(index) = next else { return };
            let found = pools
                .iter_mut()
                .find_map(|pool| Some((pool.words.number(index)?, pool)));
            let Some((number, pool)) = found else {
                self.strays += 1;
                return;
            };
            pool.list(number, Listed::Ring);
            next = pool.words.next(number);
        }
    }

    /// What nothing but chance can have made wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.strays == 0
            && self.unreadable.is_empty()
            && self.pools.iter().all(|pool| pool.faults.is_empty())
    }

    /// Forgives what an earlier look did not find wrong in the same way: it is on its way.
    pub(crate) fn keep_what_stayed(&mut self, earlier: &Self) {
        self.strays = self.strays.min(earlier.strays);
        self.unreadable
            .retain(|line| earlier.unreadable.contains(line));
        for pool in &mut self.pools {
            let before = earlier.pools.iter().find(|before| before.name == pool.name);
            pool.faults.retain(|number, fault| {
                before.is_some_and(|before| before.faults.get(number) == Some(fault))
            });
        }
    }
}

impl Walk<'_> {
    fn list(&mut self, number: u32, place: Listed) {
        if let Some(listed) = self.listed.get_mut(number as usize) {
            *listed = match *listed {
                Listed::Nowhere => place,
                Listed::Often(count) => Listed::Often(count.saturating_add(1)),
                _ => Listed::Often(2),
            };
        }
    }

    /// Puts each buffer into its place, or says what is wrong with it.
    fn judge(self, region: &Region) -> PoolSurvey {
        let alive: Vec<bool> = SlotId::all()
            .map(|slot| {
                let (state, generation) = region.slots()[slot.index()].state();
                state == SlotState::Live && region.owner_alive(Owner::new(slot, generation))
            })
            .collect();
        let mut places = Places::default();
        let mut faults = BTreeMap::new();
        for (number, listed) in (0..self.words.count).zip(&self.listed) {
            let tag = Holder::from_bits(self.words.tag(number)).kind();
            let in_ring = matches!(tag, HolderKind::Slot(_) | HolderKind::Queue { .. });
            let place = match *listed {
                Listed::PoolMagazine if tag == HolderKind::Pool => &mut places.pool_magazines,
                Listed::SlotMagazine if tag == HolderKind::Pool => &mut places.slot_magazines,
                Listed::Ring if in_ring => &mut places.rings,
                Listed::Nowhere if is_in_queue(tag, region) => &mut places.queues,
                Listed::Nowhere if is_in_hand(tag, &alive) => &mut places.hand,
                Listed::Nowhere => {
                    faults.insert(number, Fault::Leaked(tag));
                    continue;
                }
                Listed::DeadMagazine(slot) => {
                    faults.insert(number, Fault::Unswept(slot));
                    continue;
                }
                Listed::Often(count) => {
                    faults.insert(number, Fault::Double(count));
                    continue;
                }
                Listed::PoolMagazine | Listed::SlotMagazine | Listed::Ring => {
                    faults.insert(number, Fault::Mistagged(tag));
                    continue;
                }
            };
            *place += 1;
        }
        PoolSurvey {
            name: self.name,
            count: self.words.count,
            places,
            faults,
        }
    }
}

fn is_in_hand(tag: HolderKind, alive: &[bool]) -> bool {
    matches!(tag, HolderKind::Slot(slot) if alive.get(slot.index()) == Some(&true))
}

/// Frames inside a device are listed by nobody: the tag is their only record, and the port must be there.
fn is_in_queue(tag: HolderKind, region: &Region) -> bool {
    let HolderKind::Queue { port, queue, .. } = tag else {
        return false;
    };
    let record = region.port_records().get(usize::from(port));
    usize::from(queue) < QUEUES_MAX
        && record.is_some_and(|record| record.state.load(Ordering::Acquire) != 0)
}
