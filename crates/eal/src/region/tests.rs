use super::*;
use crate::ZoneError;
use crate::process::{Slot, SlotId};
use crate::sync::{AtomicU32, Ordering};

fn region(len: usize) -> &'static Region {
    static KEPT: Mutex<Vec<&Region>> = Mutex::new(Vec::new());
    let region: &'static Region = Box::leak(Box::new(Region::anonymous(len).unwrap()));
    // So that Miri does not call it a leak.
    KEPT.lock().unwrap().push(region);
    region
}

#[test]
fn zone_is_zero_aligned_and_found_again() {
    let region = region(1 << 16);
    let zone = region
        .reserve(ZoneKind::Ring, "a ring", 100, 4096, None)
        .unwrap();
    assert_eq!(zone.raw(0, 100).unwrap().as_ptr() as usize % 4096, 0);
    assert!(
        zone.slice::<AtomicU32>(0, 25)
            .unwrap()
            .iter()
            .all(|word| word.load(Ordering::Relaxed) == 0)
    );
    zone.get::<AtomicU32>(96)
        .unwrap()
        .store(7, Ordering::Relaxed);
    let again = region.lookup(ZoneKind::Ring, "a ring").unwrap();
    assert_eq!(
        (again.len(), again.offset(), again.kind()),
        (100, zone.offset(), ZoneKind::Ring)
    );
    assert_eq!(
        again.get::<AtomicU32>(96).unwrap().load(Ordering::Relaxed),
        7
    );
    assert!(matches!(
        region.lookup(ZoneKind::Pool, "a ring"),
        Err(Error::NoZone { .. })
    ));
}

#[test]
fn view_that_leaves_its_zone_or_is_crooked_is_refused() {
    let zone = region(1 << 16)
        .reserve(ZoneKind::Plain, "z", 64, 0, None)
        .unwrap();
    assert!(zone.slice::<AtomicU32>(0, 16).is_ok());
    for (offset, count) in [
        (0, 17),
        (64, 1),
        (68, 0),
        (usize::MAX - 3, 1),
        (4, usize::MAX / 2),
    ] {
        let refused = zone.slice::<AtomicU32>(offset, count);
        assert!(
            matches!(refused, Err(ZoneError::OutOfBounds { .. })),
            "{offset} {count}"
        );
    }
    assert!(matches!(
        zone.get::<AtomicU32>(2),
        Err(ZoneError::Misaligned { align: 4, .. })
    ));
    assert!(zone.raw(64, 0).is_ok());
    assert!(zone.raw(0, 65).is_err());
}

#[test]
fn zones_do_not_overlap_and_a_full_region_says_what_would_do() {
    let region = region(1 << 20);
    let mut end = 0;
    for (number, len) in [1, 64, 65, 4096, 5000].into_iter().enumerate() {
        let zone = region
            .reserve(ZoneKind::Plain, &format!("z{number}"), len, 0, None)
            .unwrap();
        assert!(zone.offset() >= end && zone.offset().is_multiple_of(64));
        end = zone.offset() + len as u64;
    }
    let free = region.free();
    let full = region
        .reserve(ZoneKind::Pool, "large", 3 << 20, 0, None)
        .unwrap_err();
    assert!(
        matches!(&full, Error::Full { more, .. } if more == "-m 4"),
        "{full}"
    );
    assert_eq!(region.free(), free);
    region
        .reserve(
            ZoneKind::Pool,
            "the rest",
            usize::try_from(free).unwrap() - 64,
            0,
            None,
        )
        .unwrap();
}

#[test]
fn name_that_is_taken_empty_too_long_or_odd_is_refused() {
    let region = region(1 << 16);
    region.reserve(ZoneKind::Plain, "x", 1, 0, None).unwrap();
    region.reserve(ZoneKind::Ring, "x", 1, 0, None).unwrap();
    assert!(matches!(
        region.reserve(ZoneKind::Ring, "x", 1, 0, None),
        Err(Error::NameTaken { .. })
    ));
    for name in ["", "a/b", "tab\t", "\u{e9}", &"n".repeat(48)] {
        assert!(
            matches!(
                region.reserve(ZoneKind::Plain, name, 1, 0, None),
                Err(Error::ZoneName(_))
            ),
            "{name}"
        );
    }
    region
        .reserve(ZoneKind::Plain, &"n".repeat(47), 1, 0, None)
        .unwrap();
    for (len, align) in [(0, 64), (1, 3), (1, 8192)] {
        assert!(matches!(
            region.reserve(ZoneKind::Plain, "shape", len, align, None),
            Err(Error::ZoneShape { .. })
        ));
    }
    assert!(matches!(
        region.reserve(ZoneKind::Plain, "node", 1, 0, Some(999)),
        Err(Error::NoNode { node: 999, .. })
    ));
}

#[test]
fn slot_lives_from_claim_to_drop_and_its_next_occupant_is_another_owner() {
    let region = region(1 << 16);
    let slot = Slot::claim(region, "first").unwrap();
    let owner = slot.owner();
    assert!(region.owner_alive(owner));
    assert_eq!(
        (slot.record().name(), slot.record().pid()),
        ("first".to_owned(), std::process::id())
    );
    slot.record().run.loops.add(3);
    drop(slot);
    assert!(!region.owner_alive(owner));
    let slot = Slot::claim(region, "second").unwrap();
    assert_eq!(slot.id(), owner.slot().unwrap());
    assert_eq!(slot.record().run.loops.get(), 0);
    assert!(region.owner_alive(slot.owner()) && !region.owner_alive(owner));
}

#[test]
fn threads_that_claim_at_once_get_a_slot_each_until_none_is_left() {
    let region = region(1 << 16);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                (0..20)
                    .filter_map(|_| Slot::claim(region, "t").ok())
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let slots: Vec<Slot> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    let mut ids: Vec<SlotId> = slots.iter().map(Slot::id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((slots.len(), ids.len()), (SLOTS_MAX, SLOTS_MAX));
    assert!(matches!(
        Slot::claim(region, "one more"),
        Err(Error::NoSlot { live: 64, dead: 0 })
    ));
    drop(slots);
    Slot::claim(region, "after").unwrap();
}

/// Regions in files, in a runtime directory of the test's own.
#[cfg(not(miri))]
mod files;

#[test]
fn zone_whose_record_was_damaged_is_not_seen_and_its_bytes_are_not_handed_out_again() {
    let region = region(1 << 16);
    let damaged = region
        .reserve(ZoneKind::Plain, "damaged", 4096, 0, None)
        .unwrap();
    region.control().zones[0].kind.store(99, Ordering::Relaxed);
    assert_eq!(region.zones().count(), 0);
    let next = region
        .reserve(ZoneKind::Plain, "next", 64, 0, None)
        .unwrap();
    assert!(next.offset() >= damaged.offset() + damaged.len() as u64);
    assert_eq!(region.zones().count(), 1);
}

#[test]
fn zone_that_was_not_announced_is_not_seen_and_its_place_is_taken_by_the_next() {
    let region = region(1 << 16);
    let first = region
        .reserve(ZoneKind::Plain, "first", 64, 0, None)
        .unwrap();
    let cut_short = region
        .reserve(ZoneKind::Plain, "cut short", 64, 0, None)
        .unwrap();
    // As a primary leaves it that dies before the last store.
    region.control().zones[1].state.store(0, Ordering::Relaxed);
    assert_eq!(region.zones().count(), 1);
    let next = region
        .reserve(ZoneKind::Plain, "cut short", 128, 0, None)
        .unwrap();
    assert_eq!(next.offset(), cut_short.offset());
    assert_ne!(next.offset(), first.offset());
    assert_eq!(region.zones().count(), 2);
}

/// A region as on a machine with nodes 0 and 1.
fn on_two_nodes(lens: [u64; 2]) -> Region {
    let mut region = Region::anonymous(usize::try_from(lens[0] + lens[1]).unwrap()).unwrap();
    let sections = [(0, lens[0]), (1, lens[1])];
    region.facts.sections = Sections::behind_each_other(&sections).unwrap();
    region.facts.backing = Backing::Plain;
    region
}

#[test]
fn zone_lies_in_its_nodes_section_or_is_refused() {
    const MB: u64 = 1 << 20;
    let region = on_two_nodes([2 * MB, 4 * MB]);
    let reserve = |name: &str, len: u64, node| {
        region.reserve(
            ZoneKind::Plain,
            name,
            usize::try_from(len).unwrap(),
            64,
            node,
        )
    };
    let first = reserve("first", MB, Some(1)).unwrap();
    assert_eq!((first.node(), first.offset()), (1, 2 * MB));
    let second = reserve("second", MB, Some(0)).unwrap();
    assert_eq!((second.node(), second.offset()), (0, ZONES_START as u64));
    let third = reserve("third", 2 * MB, Some(1)).unwrap();
    assert_eq!((third.node(), third.offset()), (1, 3 * MB));
    assert_eq!(region.free_in(&region.sections()[1]), MB);

    let full = reserve("full", 2 * MB, Some(1)).unwrap_err().to_string();
    for part in ["on NUMA node 1", "--socket-mem=2,5"] {
        assert!(full.contains(part), "{full}");
    }
    // For any node: where there is room.
    let fourth = reserve("fourth", MB, None).unwrap();
    assert_eq!((fourth.node(), fourth.offset()), (1, 5 * MB));
    let full = reserve("full", MB, None).unwrap_err().to_string();
    assert!(
        full.contains("on NUMA node 0") && full.contains("--socket-mem=3,4"),
        "{full}"
    );
    assert_eq!(region.free_in(&region.sections()[1]), 0);
    assert_eq!(
        region.free(),
        MB - ZONES_START as u64,
        "what is left of node 0's"
    );
    assert!(matches!(
        reserve("first", 1, Some(0)),
        Err(Error::NameTaken { .. })
    ));
}

#[test]
fn zone_for_a_node_that_has_no_section_is_refused_by_name() {
    let mut region = on_two_nodes([2 << 20, 2 << 20]);
    let sections = [(7, 2 << 20), (9, 2 << 20)];
    region.facts.sections = Sections::behind_each_other(&sections).unwrap();
    let refused = region.reserve(ZoneKind::Plain, "z", 64, 0, Some(0));
    let text = refused.unwrap_err().to_string();
    assert!(
        text.contains("no memory on NUMA node 0; it has nodes 7 and 9"),
        "{text}"
    );
    let there = region.reserve(ZoneKind::Plain, "z", 64, 0, Some(9));
    assert_eq!(there.unwrap().node(), 9);
}

#[test]
fn zone_that_was_not_announced_is_its_sections_and_a_damaged_one_closes_what_it_may_lie_in() {
    const MB: u64 = 1 << 20;
    let region = on_two_nodes([2 * MB, 2 * MB]);
    let reserve = |name: &str, node| region.reserve(ZoneKind::Plain, name, 4096, 64, Some(node));
    let cut_short = reserve("cut short", 1).unwrap().offset();
    region.control().zones[0].state.store(0, Ordering::Relaxed);
    assert_eq!(reserve("other", 0).unwrap().offset(), ZONES_START as u64);
    assert_eq!(reserve("again", 1).unwrap().offset(), cut_short);
    // Its kind is lost, and what it has is known; then it is not known.
    region.control().zones[1].kind.store(99, Ordering::Relaxed);
    assert_eq!(reserve("next", 1).unwrap().offset(), cut_short + 4096);
    assert_eq!(reserve("next", 0).map_or(0, |zone| zone.node()), 0);
    region.control().zones[1]
        .offset
        .store(u64::MAX, Ordering::Relaxed);
    for node in [0, 1] {
        let refused = reserve("last", node);
        assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    }
}

mod dead {
    use super::*;
    use crate::process::SlotSet;

    fn killed(region: &'static Region, name: &str) -> Owner {
        let slot = Slot::claim(region, name).unwrap();
        region.abandon(slot.id());
        let owner = slot.owner();
        // Its destructor finds that the slot is not its own any more.
        drop(slot);
        owner
    }

    #[test]
    fn slot_of_a_dead_one_is_nobodys_until_it_is_swept() {
        let region = region(1 << 16);
        let living = Slot::claim(region, "living").unwrap();
        let dead = killed(region, "dead");
        let slot = dead.slot().unwrap();
        assert!(region.owner_alive(living.owner()) && !region.owner_alive(dead));
        assert_eq!(region.dead_slots(), SlotSet::from_iter([slot]));
        let other = Slot::claim(region, "newcomer").unwrap();
        assert_ne!(other.id(), slot, "a slot that is merely unlocked was taken");

        let swept = region.claim_dead(SlotSet::EMPTY).unwrap();
        assert!(swept.owns(dead) && !swept.owns(living.owner()) && !swept.owns(Owner::NONE));
        assert_eq!(region.slots()[slot.index()].state().0, SlotState::Sweeping);
        let another = Slot::claim(region, "newcomer").unwrap();
        assert_ne!(another.id(), slot, "a slot in its sweep was taken");
        swept.finish();
        assert!(region.dead_slots().is_empty());
        let successor = Slot::claim(region, "successor").unwrap();
        assert_eq!(successor.id(), slot);
        assert_eq!(successor.owner().generation(), dead.generation() + 1);
        assert!(!region.owner_alive(dead) && region.owner_alive(successor.owner()));
    }

    #[test]
    fn sweep_cut_short_is_the_next_ones() {
        let region = region(1 << 16);
        let first = killed(region, "first").slot().unwrap();
        drop(region.claim_dead(SlotSet::EMPTY).unwrap());
        let second = killed(region, "second").slot().unwrap();
        let both = SlotSet::from_iter([first, second]);
        assert_eq!(region.dead_slots(), both);
        let swept = region.claim_dead(SlotSet::EMPTY).unwrap();
        assert_eq!((swept.slots(), swept.slots().len()), (both, 2));
        swept.finish();
        assert!(region.claim_dead(SlotSet::EMPTY).unwrap().is_empty());
    }

    #[test]
    fn free_slots_are_swept_if_asked_for_and_damaged_words_too() {
        let region = region(1 << 16);
        let free = SlotId::new(9).unwrap();
        assert!(region.claim_dead(SlotSet::EMPTY).unwrap().is_empty());
        let swept = region.claim_dead(SlotSet::from_iter([free])).unwrap();
        assert_eq!(swept.slots().to_string(), "9");
        swept.finish();
        let damaged = SlotId::new(11).unwrap();
        region.slots()[damaged.index()]
            .state
            .store(0x77, Ordering::Relaxed);
        // Bits above the generation: FREE by its lowest byte alone.
        let high = SlotId::new(12).unwrap();
        region.slots()[high.index()]
            .state
            .store(1 << 60, Ordering::Relaxed);
        let swept = region.claim_dead(SlotSet::EMPTY).unwrap();
        assert!(swept.contains(damaged) && swept.contains(high));
        swept.finish();
        assert!(region.dead_slots().is_empty());
        assert_eq!(
            region.slots()[damaged.index()].state(),
            (SlotState::Free, 0)
        );
    }

    #[test]
    fn death_that_a_pidfd_proves_needs_no_lock() {
        let region = region(1 << 16);
        let slot = Slot::claim(region, "its child keeps the byte").unwrap();
        region.prove_dead(Owner::new(slot.id(), slot.owner().generation() + 1));
        assert!(region.owner_alive(slot.owner()), "an older death");
        region.prove_dead(slot.owner());
        assert!(!region.owner_alive(slot.owner()));
        let swept = region.claim_dead(SlotSet::EMPTY).unwrap();
        assert!(swept.owns(slot.owner()));
        swept.finish();
        region.abandon(slot.id());
        let next = Slot::claim(region, "next").unwrap();
        assert_eq!(next.id(), slot.id());
        // A proof that comes late is of somebody else.
        region.prove_dead(slot.owner());
        assert!(region.owner_alive(next.owner()) && region.dead_slots().is_empty());
    }

    #[test]
    fn two_threads_that_sweep_at_once_wait_for_each_other() {
        let region = region(1 << 16);
        let slot = killed(region, "dead").slot().unwrap();
        let first = region.claim_dead(SlotSet::EMPTY).unwrap();
        assert!(first.contains(slot));
        std::thread::scope(|scope| {
            let second = scope.spawn(|| region.claim_dead(SlotSet::EMPTY).unwrap().is_empty());
            std::thread::sleep(std::time::Duration::from_millis(20));
            first.finish();
            assert!(second.join().unwrap(), "took what the first was sweeping");
        });
    }
}
