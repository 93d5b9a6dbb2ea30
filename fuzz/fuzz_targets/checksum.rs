//! Sums are those of RFC 1071, whatever the pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netstack::wire::checksum::{Sum, checksum};

/// Section 4.1, word for word.
fn plainly(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fuzz_target!(|bytes: &[u8]| {
    assert_eq!(checksum(bytes), plainly(bytes));
    // The first byte says where the rest is cut.
    let Some((place, bytes)) = bytes.split_first() else {
        return;
    };
    let (head, tail) = bytes.split_at(usize::from(*place).min(bytes.len()));
    let (mut sum, mut rest) = (Sum::new(), Sum::new());
    sum.add(head);
    rest.add(tail);
    sum.combine(rest);
    assert_eq!(sum.finish(), plainly(bytes));
});
