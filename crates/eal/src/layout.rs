//! The layout of shared memory: its version and its hash.
//!
//! Processes of one group need not be the same build. What they must agree on is where each word lies, and that is what the hash
//! is over: name, offset, size and alignment of each field of each shared structure, the limits, the cache line and the page. The
//! names of types and the way a build was made are not in it, so a debug build joins a release build.
//!
//! [`VERSION`] is raised when the same words come to mean something else, which the hash cannot see.
//!
//! The crates above have structures of their own in zones: they hash them with [`layout_hash!`](crate::layout_hash), and keep the
//! result in the header of each zone, to be compared when the zone is looked up.

use crate::ports::{PORTS_MAX, PortRecord, QUEUES_MAX, RETA_LEN};
use crate::process::{BufferCounters, RunCounters, SLOTS_MAX, SlotRecord};
use crate::queue::{QueueCounters, QueueRecord};
use crate::region::header::{Control, Header};
use crate::region::section::{SECTIONS_MAX, SectionRecord};
use crate::region::table::{ZONES_MAX, ZoneRecord};
use crate::sync::CACHE_LINE;
use crate::zone::ZONE_NAME_MAX;

/// Raised when the meaning of a shared word changes and its place does not.
pub const VERSION: u32 = 1;

/// The page that offsets are aligned to; larger pages are a property of a region, not of the layout.
pub const PAGE: usize = 4096;

/// What this build thinks where each shared word lies.
pub const HASH: u64 = Hash::new()
    .number(crate::layout_hash!(Header {
        magic,
        version,
        hash,
        nonce,
        control_len,
        data_len,
        page_size,
        created,
        backing,
        primary_pid,
        primary_owner,
        adoptions,
        primary_name,
        prefix,
        sections,
        spare,
    }))
    .number(crate::layout_hash!(SectionRecord {
        offset,
        len,
        node,
        spare
    }))
    .number(crate::layout_hash!(ZoneRecord {
        state,
        kind,
        name,
        offset,
        len,
        node,
        spare
    }))
    .number(crate::layout_hash!(Control {
        header,
        zones,
        ports,
        config,
        reta
    }))
    .number(crate::layout_hash!(PortRecord {
        state,
        generation,
        rx_count,
        tx_count,
        mtu,
        node,
        mac,
        capabilities,
        link,
        flags,
        name,
        driver,
        args,
        config,
        spare,
    }))
    .number(crate::layout_hash!(SlotRecord {
        state,
        pid,
        proc_type,
        started,
        name,
        sleeping,
        core,
        spare,
        run,
        buffers
    }))
    .number(crate::layout_hash!(RunCounters {
        loops,
        busy_ns,
        idle_ns,
        sleeps,
        late,
        rx,
        tx,
        stall_ns
    }))
    .number(crate::layout_hash!(BufferCounters {
        alloc_failed,
        bad_index,
        bad_holder,
        clones_copied,
        chain_too_long,
        bad_position,
        bad_entry,
        no_room
    }))
    .number(crate::layout_hash!(QueueRecord {
        owner,
        kind,
        intent,
        producer,
        block,
        packet,
        offset,
        state,
        wanted,
        renewed,
        missed,
        spare,
        counters
    }))
    .number(crate::layout_hash!(QueueCounters {
        packets,
        bytes,
        segments,
        drops,
        missed,
        errors,
        spare
    }))
    .size(SLOTS_MAX)
    .size(SECTIONS_MAX)
    .size(ZONES_MAX)
    .size(ZONE_NAME_MAX)
    .size(PORTS_MAX)
    .size(QUEUES_MAX)
    .size(RETA_LEN)
    .size(CACHE_LINE)
    .size(PAGE)
    .finish();

/// A hash that the compiler computes: FNV-1a of 64 bits, chosen for being ten lines.
#[derive(Debug, Clone, Copy)]
pub struct Hash(u64);

impl Hash {
    /// The hash of nothing.
    #[expect(clippy::new_without_default, reason = "a default could not be const")]
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// With a text added, and its end.
    #[must_use]
    pub const fn text(self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut hash = self;
        let mut at = 0;
        while at < bytes.len() {
            hash = hash.byte(bytes[at]);
            at += 1;
        }
        hash.byte(0xff)
    }

    /// With a number added.
    #[must_use]
    pub const fn number(self, number: u64) -> Self {
        let bytes = number.to_le_bytes();
        let mut hash = self;
        let mut at = 0;
        while at < bytes.len() {
            hash = hash.byte(bytes[at]);
            at += 1;
        }
        hash
    }

    /// With a size, an offset or a limit added.
    #[must_use]
    pub const fn size(self, size: usize) -> Self {
        self.number(size as u64)
    }

    /// The hash of all that was added.
    pub const fn finish(self) -> u64 {
        self.0
    }

    const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }
}

/// Size and alignment of the field that `field` leads to. For [`layout_hash!`](crate::layout_hash).
#[doc(hidden)]
pub const fn field_shape<T, F>(_field: fn(&T) -> &F) -> (usize, usize) {
    (size_of::<F>(), align_of::<F>())
}

/// The layout hash of a structure in shared memory: `layout_hash!(Header { tail, head })`, all its fields in order.
///
/// A field that is left out does not compile. The type's name is not in the hash; the fields' names are.
///
/// ```
/// use eal::sync::AtomicU32;
///
/// #[repr(C)]
/// struct Ends {
///     tail: AtomicU32,
///     head: AtomicU32,
/// }
///
/// #[repr(C)]
/// struct Swapped {
///     head: AtomicU32,
///     tail: AtomicU32,
/// }
///
/// const ENDS: u64 = eal::layout_hash!(Ends { tail, head });
/// assert_ne!(ENDS, eal::layout_hash!(Swapped { head, tail }));
/// ```
#[macro_export]
macro_rules! layout_hash {
    ($type:path { $($field:tt),* $(,)? }) => {{
        const _: fn(&$type) = |record| {
            let $type { $($field: _),* } = record;
        };
        #[allow(unused_mut, reason = "a structure may have no field")]
        let mut hash = $crate::layout::Hash::new().size(size_of::<$type>()).size(align_of::<$type>());
        $(
            let (size, align) = $crate::layout::field_shape(|record: &$type| &record.$field);
            hash = hash.text(stringify!($field)).size(::core::mem::offset_of!($type, $field)).size(size).size(align);
        )*
        hash.finish()
    }};
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A new number here means that processes of this build and of an earlier one refuse each other: say so in the changelog.
    #[test]
    fn layout_is_the_one_that_was_released() {
        assert_eq!((VERSION, HASH), (1, 0x6ec0_6429_79e6_7427));
    }

    #[test]
    fn hash_tells_names_order_and_sizes_apart() {
        let hashes = [
            Hash::new().finish(),
            Hash::new().text("a").text("b").finish(),
            Hash::new().text("ab").text("").finish(),
            Hash::new().text("b").text("a").finish(),
            Hash::new().number(1).finish(),
            Hash::new().number(256).finish(),
        ];
        let mut different = hashes.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), hashes.len());
    }
}
