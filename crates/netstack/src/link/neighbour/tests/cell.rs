//! Where the search for an entry begins.

use super::*;

#[test]
fn seed_decides_which_addresses_collide() {
    // What fills one cell eightfold under one seed spreads under another.
    let cell = |seed: u64, n: u32| Table::new(1024, seed).cell_of(&Key::new(IF, v4(n)));
    let colliding: Vec<u32> = (0..0x4_0000).filter(|n| n % 7 == 0 && n % 3 == 0).collect();
    let table = Table::new(1024, 1);
    let of_first: Vec<u32> = colliding
        .into_iter()
        .filter(|n| table.cell_of(&Key::new(IF, v4(*n))) == 77)
        .collect();
    assert!(of_first.len() > 3);
    let cells: BTreeSet<_> = of_first.iter().map(|n| cell(2, *n)).collect();
    assert!(cells.len() + 1 >= of_first.len());
}

#[test]
fn hash_spreads_addresses_that_differ_little() {
    type Make = fn(u32) -> Key;
    let kinds: [Make; 5] = [
        |n| Key::new(IF, v4(n)),
        |n| Key::new(IF, v4(n << 12)),
        |n| Key::new(IF, v6(n.into())),
        |n| Key::new(IF, v6(u128::from(n) << 64)),
        |n| Key::new(InterfaceId(n.to_le_bytes()[0]), v4(n >> 8)),
    ];
    for seed in [0, 1, u64::MAX] {
        let table = Table::new(1024, seed);
        for kind in kinds {
            let mut cells = BTreeMap::<usize, usize>::new();
            for n in 0..1024 {
                *cells.entry(table.cell_of(&kind(n))).or_default() += 1;
            }
            // 1024 balls in 2048 bins: 806 bins are hit on average, the fullest one by 5 or 6.
            assert!(cells.len() > 740, "{}", cells.len());
            assert!(cells.values().all(|count| *count <= 9));
        }
    }
}
