//! Numbers of the kernel's functions, as its description of its own types (BTF) has them.
//!
//! A program may call some functions of the kernel by their number among all types, which is another in each build. The types
//! stand one behind the other, each as long as its kind says; nothing but walking over them tells the number of one.

use std::fs;
use std::io;

/// Where the kernel shows its types.
const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

// linux/btf.h
const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
const TYPE_LEN: usize = 12;
const KIND_FUNCTION: u32 = 12;

/// The numbers of these functions, of those that this kernel has.
///
/// # Errors
///
/// That there is no such file, or that it is of a form unknown here.
pub(super) fn kernel_functions<const N: usize>(names: [&str; N]) -> io::Result<[Option<i32>; N]> {
    let btf = fs::read(VMLINUX)?;
    functions(&btf, names).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The numbers of these functions; `None` if the description has a form unknown here.
fn functions<const N: usize>(btf: &[u8], names: [&str; N]) -> Option<[Option<i32>; N]> {
    let magic = u16::from_ne_bytes(*btf.first_chunk()?);
    if magic != MAGIC {
        return None;
    }
    let header = usize::try_from(word(btf, 4)?).ok()?;
    if header < HEADER_LEN {
        return None;
    }
    let section = |at| {
        let start = header.checked_add(usize::try_from(word(btf, at)?).ok()?)?;
        let len = usize::try_from(word(btf, at + 4)?).ok()?;
        btf.get(start..start.checked_add(len)?)
    };
    let (mut types, strings) = (section(8)?, section(16)?);
    let mut found = [None; N];
    // Number 0 is `void`, and not written down.
    let mut number = 1;
    while !types.is_empty() {
        let (name, info) = (word(types, 0)?, word(types, 4)?);
        let (kind, members) = (info >> 24 & 0x1f, usize::try_from(info & 0xffff).ok()?);
        if kind == KIND_FUNCTION {
            let name = strings.get(usize::try_from(name).ok()?..)?;
            let place = names.iter().position(|wanted| is(name, wanted));
            if let Some(place) = place {
                found[place] = Some(number);
            }
        }
        types = types.get(TYPE_LEN + rest_of(kind, members)?..)?;
        number += 1;
    }
    Some(found)
}

/// Octets of a type behind what all types have.
fn rest_of(kind: u32, members: usize) -> Option<usize> {
    Some(match kind {
        // Integers, variables, tags of declarations.
        1 | 14 | 17 => 4,
        // Arrays.
        3 => 12,
        // Structures, unions, sections, enumerations of 64 bits.
        4 | 5 | 15 | 19 => 12 * members,
        // Enumerations, parameters.
        6 | 13 => 8 * members,
        // What only refers to another type, and floating-point numbers.
        2 | 7..=12 | 16 | 18 => 0,
        _ => return None,
    })
}

/// Whether a string that ends with a zero starts here.
fn is(strings: &[u8], wanted: &str) -> bool {
    let rest = strings.strip_prefix(wanted.as_bytes());
    rest.is_some_and(|rest| rest.first() == Some(&0))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description: a structure of one member, a function, an integer, another function.
    fn description() -> Vec<u8> {
        let types: [u32; 19] = [
            0,
            4 << 24 | 1,
            4,
            0,
            0,
            0, // struct
            1,
            12 << 24,
            0, // "ab"
            0,
            1 << 24,
            4,
            32, // int
            4,
            12 << 24,
            0, // "abc"
            8,
            2 << 24,
            0, // a pointer called "no"
        ];
        let strings = b"\0ab\0abc\0no\0";
        let mut btf = Vec::new();
        btf.extend(MAGIC.to_ne_bytes());
        btf.extend([1, 0]);
        let types_len = u32::try_from(size_of_val(&types)).unwrap();
        let strings_len = u32::try_from(strings.len()).unwrap();
        for number in [24, 0, types_len, types_len, strings_len]
            .into_iter()
            .chain(types)
        {
            btf.extend(number.to_ne_bytes());
        }
        btf.extend(strings);
        btf
    }

    #[test]
    fn function_is_found_by_its_whole_name() {
        let btf = description();
        let found = functions(&btf, ["abc", "ab", "a", "no"]).unwrap();
        assert_eq!(found, [Some(4), Some(2), None, None]);
    }

    #[test]
    fn description_that_is_cut_or_unknown_is_none() {
        let btf = description();
        for len in 0..btf.len() {
            assert_eq!(functions(&btf[..len], ["ab"]), None);
        }
        for at in 0..btf.len() {
            let mut wrong = btf.clone();
            wrong[at] ^= 0xff;
            // No panic, whatever is wrong.
            let _ = functions(&wrong, ["ab"]);
        }
    }
}
