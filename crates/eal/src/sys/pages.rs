//! What the kernel tells of the pages behind a mapping.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::memory::Map;

/// Of `linux/fs.h`, since 6.7: `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;
/// Of `linux/fs.h`: a huge page, of whatever kind, mapped as one.
const PAGE_IS_HUGE: u64 = 1 << 6;
/// Ranges fetched by one call.
const RANGES: usize = 256;

/// `struct pm_scan_arg`.
#[repr(C)]
struct ScanArgs {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

const _: () = assert!(size_of::<ScanArgs>() == 96 && size_of::<PageRegion>() == 24);

/// The parts of a mapping that are mapped by huge pages: first byte and first byte behind, from its start, ascending.
///
/// # Errors
///
/// `ENOTTY` from kernels before 6.7.
pub(crate) fn huge_ranges(map: &Map) -> io::Result<Vec<(usize, usize)>> {
    let pagemap = File::open("/proc/self/pagemap")?;
    let base = map.base().addr().get() as u64;
    let end = base + map.len() as u64;
    let mut found = Vec::new();
    let mut start = base;
    while start < end {
        let mut ranges = [PageRegion::default(); RANGES];
        let mut args = ScanArgs {
            size: size_of::<ScanArgs>() as u64,
            flags: 0,
            start,
            end,
            walk_end: 0,
            vec: ranges.as_mut_ptr().expose_provenance() as u64,
            vec_len: RANGES as u64,
            max_pages: 0,
            category_inverted: 0,
            category_mask: PAGE_IS_HUGE,
            category_anyof_mask: 0,
            return_mask: PAGE_IS_HUGE,
        };
        // SAFETY: the kernel reads and writes `args`, as long as its first word says, and writes at most the elements of `ranges`
        // that it announces; both outlive the call. It only looks at `[start, end)`, which is this mapping.
        let count = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut args) };
        let Ok(count) = usize::try_from(count) else {
            return Err(io::Error::last_os_error());
        };
        let offset = |address: u64| usize::try_from(address.saturating_sub(base));
        for range in ranges.iter().take(count) {
            if let (Ok(first), Ok(behind)) = (offset(range.start), offset(range.end)) {
                found.push((first.min(map.len()), behind.min(map.len())));
            }
        }
        // It goes on where the last call stopped, or not at all.
        if args.walk_end <= start {
            break;
        }
        start = args.walk_end;
    }
    Ok(found)
}

/// Bytes of a mapping of shared memory that are mapped by huge pages, as every kernel tells it: not which ones.
pub(crate) fn huge_bytes(map: &Map) -> io::Result<u64> {
    let base = map.base().addr().get() as u64;
    let range = base..base + map.len() as u64;
    let smaps = std::fs::read_to_string("/proc/self/smaps")?;
    Ok(parse_huge_bytes(&smaps, &range))
}

/// Adds up `ShmemPmdMapped` over the mappings that begin in `range`.
fn parse_huge_bytes(smaps: &str, range: &core::ops::Range<u64>) -> u64 {
    let (mut inside, mut kilobytes) = (false, 0_u64);
    for line in smaps.lines() {
        let first = line.split([' ', '-']).next().unwrap_or_default();
        if let Some(value) = line.strip_prefix("ShmemPmdMapped:") {
            let value = value.trim().trim_end_matches(" kB").parse::<u64>();
            kilobytes += value.unwrap_or(0) * u64::from(inside);
        } else if !first.ends_with(':')
            && let Ok(start) = u64::from_str_radix(first, 16)
        {
            inside = range.contains(&start);
        }
    }
    kilobytes << 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaps_are_added_up_where_they_are_of_the_mapping() {
        let smaps = "7f0000000000-7f0000400000 rw-s 00000000 00:19 3 /dev/shm/x\n\
                     Size:               4096 kB\nShmemPmdMapped:     2048 kB\n\
                     7f0000400000-7f0000800000 rw-s 00000000 00:19 4 /dev/shm/y\n\
                     ShmemPmdMapped:     4096 kB\n";
        let bytes = |range| parse_huge_bytes(smaps, &range);
        assert_eq!(bytes(0x7f00_0000_0000..0x7f00_0040_0000), 2 << 20);
        assert_eq!(bytes(0x7f00_0000_0000..0x7f00_0080_0000), 6 << 20);
        assert_eq!(bytes(0..0x1000), 0);
    }
}
