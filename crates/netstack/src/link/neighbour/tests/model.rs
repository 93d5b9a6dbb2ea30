//! The table and its queues beside plain ones, and whatever comes.

use super::*;

proptest! {
    /// The table against a map, with a hash that has few cells to choose from.
    #[test]
    fn table_agrees_with_a_map(
        steps in proptest::collection::vec((0..3_u8, 0..40_u32, any::<bool>()), 0..400),
        seed in any::<u64>(),
    ) {
        let mut table = Table::new(16, seed);
        let mut model = BTreeMap::<u32, u32>::new();
        for (what, n, stale) in steps {
            let key = Key::new(IF, v4(n));
            let place = if stale { Place::Stale } else { Place::Reachable };
                let standing = Standing { ours: n % 2 == 0, proven: n % 3 == 0 };
            match (what, model.get(&n).copied()) {
                (0, None) => {
                    let at = table.insert(key, HIM, (place, standing), START);
                    prop_assert_eq!(at.is_some(), model.len() < 16);
                    at.map(|at| model.insert(n, at));
                }
                (1, Some(at)) => {
                    table.remove(at);
                    model.remove(&n);
                }
                (2, Some(at)) => table.put(at, place, START),
                _ => {}
            }
            for n in 0..40 {
                prop_assert_eq!(table.find(&Key::new(IF, v4(n))), model.get(&n).copied());
            }
            prop_assert_eq!((table.len(), table.iter().count()), (model.len(), model.len()));
            let all = [Standing::STRANGER, Standing::MET, Standing::NEW, Standing::PROVEN];
            let count = |place| all.map(|standing| table.count(place, standing)).iter().sum::<usize>();
            prop_assert_eq!(count(Place::Stale) + count(Place::Reachable), model.len());
            let strangers = model.keys().filter(|n| **n % 2 != 0).count();
            prop_assert_eq!(table.strangers(), strangers);
        }
    }

    /// Queues in shared room against a `VecDeque` each.
    #[test]
    fn queues_agree_with_deques(steps in proptest::collection::vec((any::<bool>(), 0..4_u32), 0..300)) {
        use crate::link::neighbour::waiting::Queue;
        let mut waiting = Waiting::new(8);
        let mut queues = [Queue::EMPTY; 4];
        let mut model: [VecDeque<usize>; 4] = Default::default();
        for (n, (push, entry)) in steps.into_iter().enumerate() {
            let queue = &mut queues[entry as usize];
            let expected = &mut model[entry as usize];
            if push {
                let pushed = waiting.push(queue, entry, n);
                if waiting.len() < 8 || pushed.is_ok() {
                    prop_assert_eq!(pushed, Ok(()));
                    expected.push_back(n);
                } else {
                    prop_assert_eq!(pushed, Err(n));
                }
            } else {
                prop_assert_eq!(waiting.pop(queue), expected.pop_front());
            }
            let len = model.iter().map(VecDeque::len).sum::<usize>();
            prop_assert_eq!((waiting.len(), waiting.is_full()), (len, len == 8));
            for (queue, expected) in queues.iter().zip(&model) {
                prop_assert_eq!(queue.len(), expected.len());
            }
            let oldest = (0..4).filter(|n| !model[*n as usize].is_empty());
            let oldest = oldest.min_by_key(|n| model[*n as usize].front().copied());
            prop_assert_eq!(waiting.oldest_entry(), oldest);
        }
    }

    /// Whatever comes: limits hold, no packet is lost or doubled, an answer holds until its end or the generation moves, and
    /// polling comes to an end.
    #[test]
    fn nothing_is_lost_whatever_comes(
        steps in proptest::collection::vec((0..10_u8, 0..12_u32, 0..3_u8, 0..4000_u64), 0..400),
    ) {
        let config = NeighbourConfig {
            entries_max: 6,
            waiting_max_each: 3,
            waiting_max: 8,
            ..NeighbourConfig::default()
        };
        let mut table = Neighbours::<Rc<()>>::new(config, 3);
        let capacity = table.table.capacity();
        let packet = Rc::new(());
        let (mut sent, mut seen) = (0, 0_u64);
        let mut now = START;
        let mut answers = BTreeMap::<u32, (Mac, Instant, u32)>::new();
        for (what, n, variant, pause) in steps {
            let address = if n % 2 == 0 { v4(n) } else { v6(n.into()) };
            let mac = if variant == 0 { HER } else { HIM };
            match what {
                0..=2 => match table.resolve(now, IF, address, if variant == 0 { ANSWER } else { OURS }) {
                    Resolution::Known { mac, until } => {
                        answers.insert(n, (mac, until, table.generation()));
                    }
                    Resolution::Unknown => {
                        sent += 1;
                        seen += u64::from(table.wait(IF, address, packet.clone()).is_err());
                    }
                },
                3 => {
                    let how = Learned::Solicited { overriding: variant == 1 };
                    if table.learn(now, IF, address, mac, how, false) == Change::Resolved {
                        while table.take_waiting(IF, address).is_some() {
                            seen += 1;
                        }
                    }
                }
                4 => {
                    table.learn(now, IF, address, mac, Learned::Mention, variant == 1);
                }
                5 => {
                    table.learn(now, IF, address, mac, Learned::Unsolicited { overriding: variant == 1 }, false);
                }
                6 => table.confirm(now, IF, address),
                7 => match variant {
                    0 => drop(table.set_static(now, IF, address, mac)),
                    1 => drop(table.remove(IF, address)),
                    _ => table.flush(if n == 0 { IF } else { OTHER }),
                },
                _ => now = now + Duration::from_millis(pause),
            }
            let mut polls = 0;
            while variant != 2 && let Some(ask) = table.poll(now) {
                if let Ask::Failed { interface, address } = ask && pause % 2 == 0 {
                    while table.take_waiting(interface, address).is_some() {
                        seen += 1;
                    }
                }
                polls += 1;
                prop_assert!(polls <= 12);
            }
            if variant != 2 {
                prop_assert!(table.next_timeout().is_none_or(|due| due > now));
            }
            for (n, (mac, until, generation)) in &answers {
                if *until > now && *generation == table.generation() {
                    let address = if n % 2 == 0 { v4(*n) } else { v6((*n).into()) };
                    prop_assert_eq!(table.lookup(IF, address), Some(*mac));
                }
            }
            seen += table.take_discarded();
            prop_assert!(table.len() <= 6 && table.waiting() <= 8);
            prop_assert_eq!(table.iter().map(|line| line.waiting).sum::<usize>(), table.waiting());
            prop_assert_eq!(sent, seen + table.waiting() as u64);
            prop_assert_eq!(Rc::strong_count(&packet), 1 + table.waiting());
            prop_assert_eq!(table.table.capacity(), capacity);
        }
    }
}
