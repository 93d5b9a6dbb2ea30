//! Where each buffer is, told by a walk over the memory that shares no code with what is judged.
//!
//! When nobody has anything to do, each mbuf is in one place: listed by one magazine or one lane, or in the hands of a process
//! that lives, or in a device. Its tag agrees with that, magazines and slots belong to nobody who is dead, and no hint hides a
//! magazine.

use std::collections::BTreeMap;

use eal::SLOTS_MAX;

use crate::machine::Machine;
use crate::state::{State, Status};
use crate::words::{MAGAZINE_LEN, PoolWords, QueueWords, RingWords, Words};
use crate::world::World;

const NONE: u32 = u32::MAX;
const LIVE: u32 = 1;
const SLOT_TAG: u32 = 1;
const QUEUE_TAG: u32 = 2;
/// What a tag says besides: in a ring, linked.
const TAG_MARKS: u32 = 3 << 30;
const SEGMENTS_MAX: usize = 64;
/// Laps in the slots of a ring of many: 3 bits in this build.
const LAP_SHIFT: u32 = 61;
const LAP_MASK: u64 = 7;

/// Where an mbuf was found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listed {
    Magazine(usize),
    Lane(String, usize),
    Queue,
}

/// What the process table says.
struct Slots {
    /// The words that owners sign with, of those who live.
    owners: Vec<u32>,
    /// Those of them that sweep.
    sweepers: Vec<u32>,
}

impl Slots {
    fn lives(&self, owner: u32) -> bool {
        self.owners.contains(&owner)
    }

    fn has_slot(&self, slot: u32) -> bool {
        self.owners.iter().any(|owner| owner & 0xff == slot + 1)
    }
}

/// All that is wrong.
pub(crate) fn faults(machine: &Machine) -> Vec<String> {
    let state = machine.state.borrow();
    let (world, words) = (&machine.world, &state.words);
    let mut faults = Vec::new();
    let slots = slots(world, &state, &mut faults);
    let asleep = sleepers(world, &state, &slots);
    // Where nobody sweeps, what the dead held stays with them.
    if !state
        .processes
        .iter()
        .any(|process| process.name.starts_with('R'))
    {
        return asleep;
    }
    faults.extend(asleep);
    let mut listed: BTreeMap<u32, Vec<Listed>> = BTreeMap::new();
    for pool in &words.pools {
        walk_magazines(world, pool, &slots, &mut listed, &mut faults);
    }
    for ring in &words.rings {
        walk_ring(world, words, ring, &slots, &mut listed, &mut faults);
    }
    for queue in &words.queues {
        walk_queue(world, queue, &slots, &mut listed, &mut faults);
    }
    for pool in &words.pools {
        for number in 0..pool.count {
            let index = pool.id << 24 | u32::try_from(number).unwrap_or(NONE);
            let places = listed.remove(&index).unwrap_or_default();
            let tag = world.read(pool.tag(number)) & !TAG_MARKS;
            let hand = state.hands.get(&index).map(|id| state.processes[*id].name);
            if let Some(fault) = judge(tag, &places, hand, &slots) {
                faults.push(format!("mbuf {number} (tag {tag:#x}) {fault}"));
            }
        }
    }
    for (index, places) in listed {
        faults.push(format!("{index:#x} is no mbuf, and listed in {places:?}"));
    }
    faults
}

fn slots(world: &World, state: &State, faults: &mut Vec<String>) -> Slots {
    let (mut owners, mut sweepers) = (Vec::new(), Vec::new());
    for slot in 0..SLOTS_MAX {
        let word = world.read(Words::slot(slot));
        let counters = Words::counters(slot);
        // alloc_failed, bad_index, bad_holder, clones_copied, chain_too_long, bad_position, bad_entry, no_room
        for (number, name) in [
            (1, "bad_index"),
            (2, "bad_holder"),
            (4, "chain_too_long"),
            (5, "bad_position"),
            (6, "bad_entry"),
            (7, "no_room"),
        ] {
            let count = world.read_wide(counters + 2 * number);
            if count > 0 {
                faults.push(format!("slot {slot} counted {count} {name}"));
            }
        }
        let id = eal::SlotId::new(u8::try_from(slot).unwrap_or(u8::MAX));
        let occupant = id.and_then(|id| {
            let mut processes = state.processes.iter();
            processes.find(|process| process.region.holds(id))
        });
        let alive = occupant.is_some();
        match word & 0xff {
            0 if alive => faults.push(format!("slot {slot} is FREE, and its occupant lives")),
            0 => {}
            LIVE if alive => {
                let owner = (u32::try_from(slot).unwrap_or(0) + 1) | (word >> 8) << 8;
                owners.push(owner);
                if occupant.is_some_and(|occupant| occupant.name.starts_with('R')) {
                    sweepers.push(owner);
                }
            }
            LIVE => faults.push(format!(
                "slot {slot} was not swept after its occupant's death"
            )),
            _ => faults.push(format!("slot {slot} is left in state {}", word & 0xff)),
        }
    }
    Slots { owners, sweepers }
}

/// Who sleeps with a packet in its ring. A dead producer's that no sweep took care of may wait: for the end of the sleeper's time.
fn sleepers(world: &World, state: &State, slots: &Slots) -> Vec<String> {
    let mut faults = Vec::new();
    for process in &state.processes {
        let Status::Asleep(slot) = process.status else {
            continue;
        };
        for ring in &state.words.rings {
            if world.read(ring.consumer) & 0xff != u32::from(slot.get()) + 1 {
                continue;
            }
            for lane in 0..ring.lanes {
                let waiting = world
                    .read(ring.tails + lane)
                    .wrapping_sub(world.read(ring.head(lane)));
                let producer = world.read(ring.producers + 2 * lane);
                let place = (producer & 0xff).wrapping_sub(1) as usize;
                let unswept = place < SLOTS_MAX
                    && !slots.lives(producer)
                    && world.read(Words::slot(place)) & 0xff != 0;
                if waiting > 0 && !unswept {
                    faults.push(format!(
                        "{} sleeps with {waiting} in lane {lane}",
                        process.name
                    ));
                }
            }
        }
    }
    faults
}

fn walk_magazines(
    world: &World,
    pool: &PoolWords,
    slots: &Slots,
    listed: &mut BTreeMap<u32, Vec<Listed>>,
    faults: &mut Vec<String>,
) {
    for number in 0..pool.magazine_count {
        let (owner, count) = (
            world.read(pool.magazine(number)),
            world.read(pool.magazine(number) + 1) as usize,
        );
        if owner != 0 && !slots.lives(owner) {
            faults.push(format!(
                "magazine {number} is owned by {owner:#x}, who is dead"
            ));
        }
        if count > MAGAZINE_LEN {
            faults.push(format!("magazine {number} has {count} entries"));
        }
        for entry in 0..count.min(MAGAZINE_LEN) {
            let index = world.read(pool.entries(number) + entry);
            listed
                .entry(index)
                .or_default()
                .push(Listed::Magazine(number));
        }
        if owner == 0 {
            let hint = world.read(pool.hints + number);
            if count > 0 && hint & 1 == 0 {
                faults.push(format!(
                    "magazine {number} has entries, and no hint says so"
                ));
            }
            if count < MAGAZINE_LEN && hint & 2 == 0 {
                faults.push(format!("magazine {number} has room, and no hint says so"));
            }
        }
    }
}

fn walk_ring(
    world: &World,
    words: &Words,
    ring: &RingWords,
    slots: &Slots,
    listed: &mut BTreeMap<u32, Vec<Listed>>,
    faults: &mut Vec<String>,
) {
    if ring.is_shared {
        return walk_array(world, words, ring, slots, listed, faults);
    }
    let consumer = world.read(ring.consumer);
    if consumer != 0 && !slots.lives(consumer) && world.read(ring.consumer + 1) & 1 == 1 {
        faults.push(format!(
            "ring {} is open, and its consumer is dead",
            ring.name
        ));
    }
    for lane in 0..ring.lanes {
        let (head, tail) = (world.read(ring.head(lane)), world.read(ring.tails + lane));
        let waiting = tail.wrapping_sub(head);
        if waiting > ring.capacity {
            faults.push(format!(
                "ring {} lane {lane}: head {head}, tail {tail}",
                ring.name
            ));
            continue;
        }
        // Where a consumer has left there may be packets: producers are refused, and the next consumer or sweep takes them.
        if waiting > 0 && consumer != 0 && !slots.lives(consumer) {
            faults.push(format!(
                "ring {} lane {lane}: {waiting} wait for who is dead",
                ring.name
            ));
        }
        for offset in 0..waiting {
            let index = world.read(ring.slot(lane, head.wrapping_add(offset)));
            list_chain(
                world,
                words,
                index,
                &Listed::Lane(ring.name.clone(), lane),
                listed,
            );
        }
    }
}

/// Lists a packet and its segments.
fn list_chain(
    world: &World,
    words: &Words,
    head: u32,
    place: &Listed,
    listed: &mut BTreeMap<u32, Vec<Listed>>,
) {
    let mut index = head;
    for _ in 0..SEGMENTS_MAX {
        listed.entry(index).or_default().push(place.clone());
        let found = words
            .pools
            .iter()
            .find_map(|pool| Some((pool, pool.number(index)?)));
        let Some((pool, number)) = found else { break };
        let Some(next) = pool.next(world, number) else {
            break;
        };
        index = next;
    }
}

/// The array of many consumers: full slots list what waits for one that lives, or for nobody; no claim outlasts an operation; and
/// what is full stands in a row, where whoever comes finds it.
fn walk_array(
    world: &World,
    words: &Words,
    ring: &RingWords,
    slots: &Slots,
    listed: &mut BTreeMap<u32, Vec<Listed>>,
    faults: &mut Vec<String>,
) {
    let name = &ring.name;
    let mut has_dead = false;
    for number in 0..ring.consumers {
        let consumer = world.read(ring.consumer(number));
        if consumer != 0 && !slots.lives(consumer) {
            has_dead = true;
            if world.read(ring.consumer(number) + 1) & 1 == 1 {
                faults.push(format!("ring {name} is open, and a consumer of it is dead"));
            }
        }
    }
    let (head, tail) = (world.read_wide(ring.heads), world.read_wide(ring.tails));
    let size = ring.size as u64;
    if tail.wrapping_sub(head).cast_signed() > 2 * size.cast_signed() {
        faults.push(format!("ring {name}: head {head}, tail {tail}"));
    }
    for slot in 0..ring.size {
        let word = world.read_wide(ring.slots + 2 * slot);
        match word >> 32 & 3 {
            0 => {}
            1 => {
                if has_dead {
                    faults.push(format!(
                        "ring {name} slot {slot} waits, and an end is a dead one's"
                    ));
                }
                let place = Listed::Lane(name.clone(), slot);
                list_chain(
                    world,
                    words,
                    world.read(ring.slots + 2 * slot),
                    &place,
                    listed,
                );
            }
            state => faults.push(format!("ring {name} slot {slot} is left in state {state}")),
        }
    }
    // Taken from the head on, nothing full is left over.
    let lap_of = |position: u64| (position / size) & LAP_MASK;
    let stand = |word: u64, position: u64| {
        // Laps come round: 3 bits, signed.
        let ahead = ((word >> LAP_SHIFT).wrapping_sub(lap_of(position)) & LAP_MASK) << LAP_SHIFT;
        ahead.cast_signed() >> LAP_SHIFT
    };
    let at = |position: u64| {
        let slot = usize::try_from(position % size).unwrap_or(0);
        world.read_wide(ring.slots + 2 * slot)
    };
    let mut found = 0;
    for position in head..head + 4 * size {
        let word = at(position);
        match (stand(word, position), word >> 32 & 3) {
            (0, 1) => found += 1,
            (1.., _) => {}
            _ => break,
        }
    }
    // A hint lags no further than an end may be ahead of it.
    let lag = (u64::from(ring.capacity) / 2).max(1);
    if stand(at(tail + lag), tail + lag) + i64::from(at(tail + lag) >> 32 & 3 > 0) > 0 {
        faults.push(format!("ring {name}: the tail {tail} lags"));
    }
    if stand(at(head + lag), head + lag) > 0 {
        faults.push(format!("ring {name}: the head {head} lags"));
    }
    let full = (0..size).filter(|slot| at(*slot) >> 32 & 3 == 1).count();
    if full != found {
        faults.push(format!(
            "ring {name}: {full} wait, and {found} are found from the head on"
        ));
    }
}

/// What is wrong with an mbuf.
fn judge(tag: u32, places: &[Listed], hand: Option<&str>, slots: &Slots) -> Option<String> {
    let (kind, number) = (tag >> 24, tag & 0xff);
    let is_slot = kind == SLOT_TAG && (number as usize) < SLOTS_MAX;
    match (places, hand) {
        ([_, _, ..], _) => Some(format!("is listed in {places:?}")),
        ([place], Some(name)) => Some(format!("is in {name}'s hand and in {place:?}")),
        ([Listed::Magazine(_)], None) if tag == 0 => None,
        ([Listed::Lane(..)], None) if is_slot => None,
        ([Listed::Queue], None) if kind == QUEUE_TAG => None,
        ([place], None) => Some(format!(
            "is listed in {place:?}, and its tag says otherwise"
        )),
        ([], Some(_)) if is_slot && slots.has_slot(number) => None,
        ([], Some("device")) if kind == QUEUE_TAG => None,
        ([], Some(name)) => Some(format!("is in {name}'s hand, and its tag says otherwise")),
        ([], None) => Some("is nowhere".to_owned()),
    }
}

fn walk_queue(
    world: &World,
    queue: &QueueWords,
    slots: &Slots,
    listed: &mut BTreeMap<u32, Vec<Listed>>,
    faults: &mut Vec<String>,
) {
    let owner = world.read(queue.start);
    if owner != 0 && !slots.lives(owner) {
        faults.push(format!("the queue is owned by {owner:#x}, who is dead"));
    }
    if slots.sweepers.contains(&owner) {
        faults.push("the queue is left in the hands of the sweeper".to_owned());
    }
    let positions = queue.start + QueueWords::RECORD;
    let (intent, producer) = (
        world.read(queue.start + QueueWords::INTENT),
        world.read(positions),
    );
    if intent != producer {
        faults.push(format!("queue: intent {intent}, and producer {producer}"));
    }
    for ring in 0..2 {
        let (producer, consumer) = (
            world.read(positions + 2 * ring),
            world.read(positions + 2 * ring + 1),
        );
        if producer.wrapping_sub(consumer) as usize > queue.size {
            faults.push(format!("queue: producer {producer}, consumer {consumer}"));
            continue;
        }
        let start = positions + QueueWords::POSITIONS + ring * queue.size;
        for position in consumer..producer {
            let index = world.read(start + position as usize % queue.size);
            listed.entry(index).or_default().push(Listed::Queue);
        }
    }
}
