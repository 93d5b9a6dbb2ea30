//! What the device knows of a frame, which the program puts before it.
//!
//! ```text
//! octet | -16 magic | -12 hash | -8 kind of hash | -4 tag | -2 type of tag | 0 frame ...
//! ```
//!
//! Words are in the machine's order, but for the type of the tag, which is in the network's, as in a frame. All of it is
//! aligned to eight octets if the frame is.
//!
//! A frame may come without: if the driver has no room before it, or another program redirected it. What stands before it is
//! then what the buffer held there earlier, which others may have written. Whoever reads metadata clears the magic, so that none
//! is read twice, and takes what it says as a hint alone.

/// Octets before the frame.
pub(crate) const LEN: usize = size_of::<Layout>();
/// "fbmd", then what no text has: says that metadata stands here.
const MAGIC: u32 = 0x6662_6d8d;

/// How it lies in memory.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Layout {
    pub magic: u32,
    pub hash: u32,
    pub hash_kind: u32,
    pub tag: u16,
    pub tag_type: u16,
}

const _: () = assert!(LEN == 16 && align_of::<Layout>() == 8);

/// What the program writes first.
pub(super) const MAGIC_WRITTEN: i32 = MAGIC.cast_signed();

/// Metadata of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// The hash by which the device chose the queue, and what it is of (`enum xdp_rss_hash_type`).
    pub hash: Option<(u32, u32)>,
    /// The tag that the device took off the frame: its type (0x8100 or 0x88a8) and what it says.
    pub tag: Option<(u16, u16)>,
}

impl Metadata {
    /// What stands in the [`LEN`] octets before a frame, if that is metadata.
    pub(crate) fn read(before: &[u8; LEN]) -> Option<Self> {
        let word = |at| {
            let [a, b, c, d] = [at, at + 1, at + 2, at + 3].map(|at: usize| before[at]);
            u32::from_ne_bytes([a, b, c, d])
        };
        if word(0) != MAGIC {
            return None;
        }
        let (hash, kind) = (word(4), word(8));
        let tag = u16::from_ne_bytes([before[12], before[13]]);
        let tag_type = u16::from_be_bytes([before[14], before[15]]);
        Some(Self {
            hash: (kind != 0).then_some((hash, kind)),
            tag: (tag_type != 0).then_some((tag_type, tag)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_where_the_magic_is() {
        let mut before = [0; LEN];
        assert_eq!(Metadata::read(&before), None);
        before[..4].copy_from_slice(&MAGIC.to_ne_bytes());
        let nothing = Metadata {
            hash: None,
            tag: None,
        };
        assert_eq!(Metadata::read(&before), Some(nothing));
        before[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        before[8..12].copy_from_slice(&9_u32.to_ne_bytes());
        before[12..14].copy_from_slice(&5_u16.to_ne_bytes());
        before[14..].copy_from_slice(&[0x81, 0]);
        let all = Metadata {
            hash: Some((7, 9)),
            tag: Some((0x8100, 5)),
        };
        assert_eq!(Metadata::read(&before), Some(all));
        before[0] ^= 1;
        assert_eq!(Metadata::read(&before), None);
    }
}
