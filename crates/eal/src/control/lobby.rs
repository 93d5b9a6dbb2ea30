//! What members bring along to a new primary, and which of them have brought it all.
//!
//! | part    | written by                                            | read by                              |
//! |---------|-------------------------------------------------------|--------------------------------------|
//! | offers  | the control thread; forgotten by who publishes or withdraws | who asks for what was [offered](Lobby::offered) |
//! | members | the control thread                                    | who waits until all are ready        |
//!
//! Several members offer the same keys, and one of them may have slept through a change: the
//! youngest revision stays. What is held is bounded in keys and in descriptors.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use tracing::warn;

use super::table::copy;
use super::{Handed, OFFERED_MAX};
use crate::process::{Owner, SlotId, SlotState};
use crate::region::Region;

/// How long a primary waits for those whom it took over: a stopped one would keep it for ever.
const READY_MAX: Duration = Duration::from_secs(1);
/// How long after its start a primary waits in any case, for processes that have no slot and are
/// still on their way.
const ARRIVAL: Duration = Duration::from_millis(50);
/// How often it looks whether one that it waits for has died.
const LOOK: Duration = Duration::from_millis(10);
/// Descriptors held at most, however many the process may have.
const DESCRIPTORS_HELD_MAX: usize = 4096;

/// A copy of what the last primary published, from a member that kept it.
#[derive(Debug)]
struct Offered {
    revision: u64,
    payload: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

/// A member, as those who wait see it.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence {
    /// As the kernel says; to be shown.
    pub(super) pid: i32,
    /// It has offered all that it kept.
    pub(super) ready: bool,
    /// The slots that it says are its own.
    pub(super) owners: Vec<Owner>,
}

#[derive(Debug, Default)]
struct Inside {
    offers: BTreeMap<String, Offered>,
    descriptors: usize,
    members: BTreeMap<u64, Presence>,
}

impl Inside {
    fn remove(&mut self, key: &str) -> Option<Offered> {
        let old = self.offers.remove(key)?;
        self.descriptors -= old.descriptors.len();
        Some(old)
    }
}

/// Of a primary.
#[derive(Debug)]
pub(super) struct Lobby {
    inside: Mutex<Inside>,
    changed: Condvar,
    /// Whether there was a primary before, whose descriptors may be offered.
    adopted: bool,
    started: Instant,
    descriptors_max: usize,
    /// Whether the waiting is done. Held while one waits, so that the others wait with it.
    waited: Mutex<bool>,
}

impl Lobby {
    /// Of a primary that adopted its region, or made it.
    pub(super) fn new(adopted: bool) -> Self {
        // Half of what the process may have, so that it can go on to open what nobody offers.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 2;
        Self {
            inside: Mutex::default(),
            changed: Condvar::new(),
            adopted,
            started: Instant::now(),
            descriptors_max: usize::try_from(limit).map_or(DESCRIPTORS_HELD_MAX, |limit| {
                limit.min(DESCRIPTORS_HELD_MAX)
            }),
            waited: Mutex::new(!adopted),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        // Each change leaves the maps whole, and the count of descriptors only bounds.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds an offer if nothing younger is held; says why not if there is no room.
    pub(super) fn hold(
        &self,
        key: &str,
        revision: u64,
        (payload, descriptors): Handed,
    ) -> Result<(), &'static str> {
        if !self.adopted {
            return Ok(());
        }
        let mut inside = self.lock();
        if inside
            .offers
            .get(key)
            .is_some_and(|held| held.revision >= revision)
        {
            return Ok(());
        }
        let old = inside.remove(key);
        let room = self.descriptors_max.saturating_sub(inside.descriptors);
        let outcome = if inside.offers.len() >= OFFERED_MAX {
            Err("too many keys are offered")
        } else if descriptors.len() > room {
            Err("too many descriptors are offered; raise `ulimit -n`")
        } else {
            inside.descriptors += descriptors.len();
            let offered = Offered {
                revision,
                payload,
                descriptors,
            };
            inside.offers.insert(key.to_owned(), offered);
            Ok(())
        };
        drop(inside);
        // Closing descriptors may take a while; not under the lock.
        drop(old);
        outcome
    }

    /// Lets go of an offer: the primary has something of its own under that key, or nothing.
    pub(super) fn forget(&self, key: &str) {
        let old = self.lock().remove(key);
        drop(old);
    }

    /// Lets go of all offers.
    pub(super) fn clear(&self) {
        let mut inside = self.lock();
        inside.descriptors = 0;
        let old = std::mem::take(&mut inside.offers);
        drop(inside);
        drop(old);
    }

    /// Says how a member stands.
    pub(super) fn enter(&self, member: u64, presence: Presence) {
        self.lock().members.insert(member, presence);
        self.changed.notify_all();
    }

    /// A member is gone.
    pub(super) fn leave(&self, member: u64) {
        self.lock().members.remove(&member);
        self.changed.notify_all();
    }

    /// A copy of what was offered under that key.
    pub(super) fn offered(&self, key: &str, region: &Region) -> Option<Handed> {
        self.wait(region);
        let inside = self.lock();
        let held = inside.offers.get(key)?;
        copy(key, &held.payload, &held.descriptors)
            .inspect_err(|error| warn!("what was offered cannot be used: {error}"))
            .ok()
    }

    /// Waits once until every process that lives has offered what it kept, if it does so in time.
    fn wait(&self, region: &Region) {
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        if *waited {
            return;
        }
        *waited = true;
        let start = Instant::now();
        let mut inside = self.lock();
        loop {
            let missing = missing(&inside.members, region);
            if missing.is_empty() && self.started.elapsed() >= ARRIVAL {
                return;
            }
            let left = READY_MAX.saturating_sub(start.elapsed());
            if left.is_zero() {
                if !missing.is_empty() {
                    warn!(
                        "within {} s {} did not hand over the descriptors that the last primary gave them; \
                         see whether they are stopped",
                        READY_MAX.as_secs(),
                        missing.join(", ")
                    );
                }
                return;
            }
            let outcome = self.changed.wait_timeout(inside, left.min(LOOK));
            inside = outcome.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Who lives and is not ready: members on their way, and slots that are no member's.
fn missing(members: &BTreeMap<u64, Presence>, region: &Region) -> Vec<String> {
    let late = members
        .values()
        .filter(|member| !member.ready)
        .map(|member| format!("process {}", member.pid));
    let is_members = |owner| {
        members
            .values()
            .any(|member| member.owners.contains(&owner))
    };
    let ours = own_slots(region);
    let absent = SlotId::all()
        .zip(region.slots())
        .filter_map(|(id, record)| {
            let (state, generation) = record.state();
            let owner = Owner::new(id, generation);
            let lives = state == SlotState::Live && region.owner_alive(owner);
            (lives && !ours.contains(&owner) && !is_members(owner))
                .then(|| format!("{} (process {}, slot {id})", record.name(), record.pid()))
        });
    late.chain(absent).collect()
}

/// The slots of this process.
pub(super) fn own_slots(region: &Region) -> Vec<Owner> {
    // One that has left has none.
    let Ok(places) = region.places("look at our slots") else {
        return Vec::new();
    };
    SlotId::all()
        .zip(region.slots())
        .filter(|(id, _)| places.has(*id))
        .map(|(id, record)| Owner::new(id, record.state().1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Slot;

    fn region() -> &'static Region {
        Box::leak(Box::new(Region::anonymous(1 << 16).unwrap()))
    }

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    /// One that need not wait.
    fn lobby() -> Lobby {
        Lobby {
            waited: Mutex::new(true),
            ..Lobby::new(true)
        }
    }

    fn offered(lobby: &Lobby, key: &str) -> Option<(Vec<u8>, usize)> {
        let handed = lobby.offered(key, region());
        handed.map(|(payload, descriptors)| (payload, descriptors.len()))
    }

    #[test]
    fn the_youngest_offer_of_a_key_stays() {
        let lobby = lobby();
        for (revision, payload) in [(7, b"old"), (9, b"new"), (8, b"mid")] {
            let handed = (payload.to_vec(), vec![null()]);
            lobby.hold("k", revision, handed).unwrap();
        }
        assert_eq!(offered(&lobby, "k"), Some((b"new".to_vec(), 1)));
        assert_eq!(lobby.lock().descriptors, 1);
        lobby.forget("k");
        lobby.forget("k");
        assert_eq!(offered(&lobby, "k"), None);
        assert_eq!(lobby.lock().descriptors, 0);
    }

    #[test]
    fn what_is_held_has_limits() {
        let lobby = Lobby {
            descriptors_max: 3,
            ..lobby()
        };
        let two = || (Vec::new(), vec![null(), null()]);
        lobby.hold("a", 1, two()).unwrap();
        assert!(lobby.hold("b", 1, two()).is_err());
        assert!(offered(&lobby, "b").is_none());
        // A younger one takes the place of the older.
        lobby.hold("a", 2, two()).unwrap();
        for number in 1..OFFERED_MAX {
            let key = format!("k{number}");
            lobby.hold(&key, 1, (Vec::new(), Vec::new())).unwrap();
        }
        assert!(lobby.hold("more", 1, (Vec::new(), Vec::new())).is_err());
        lobby.clear();
        lobby.hold("more", 1, two()).unwrap();
    }

    #[test]
    fn the_primary_of_a_new_region_is_offered_nothing_and_waits_for_nobody() {
        let lobby = Lobby::new(false);
        lobby.hold("k", 1, (Vec::new(), Vec::new())).unwrap();
        lobby.enter(1, Presence::default());
        assert!(offered(&lobby, "k").is_none());
    }

    #[test]
    fn who_is_not_ready_and_who_is_no_member_is_missing() {
        let region = region();
        let slot = Slot::claim(region, "mp_client").unwrap();
        let mut members = BTreeMap::new();
        assert!(missing(&members, region).is_empty(), "our own slots");
        members.insert(
            1,
            Presence {
                pid: 71,
                ..Presence::default()
            },
        );
        assert_eq!(missing(&members, region), ["process 71"]);
        members.get_mut(&1).unwrap().ready = true;
        assert!(missing(&members, region).is_empty());
        drop(slot);
    }
}
