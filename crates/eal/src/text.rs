//! Short texts in shared memory: names that tools show.
//!
//! ```text
//! bytes in words of eight, first byte lowest, zero-filled; a text that fills it has no zero at the end
//! ```
//!
//! One writer; it writes a text before the word that announces the record around it, and readers take it after that word.
//!
//! **If a process dies:** in mid-write, the text is a mixture of old and new. It is shown, never relied upon; where it must be
//! right (the name of a zone) the record around it is not announced yet.

use crate::sync::{AtomicU64, Ordering};

/// Room for `8 * WORDS` bytes of text.
#[derive(Debug)]
#[repr(transparent)]
pub struct Text<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Default for Text<WORDS> {
    fn default() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl<const WORDS: usize> Text<WORDS> {
    /// How many bytes fit.
    pub const LEN: usize = 8 * WORDS;

    /// Replaces the text; what does not fit is cut off at a character.
    pub fn set(&self, text: &str) {
        let end = (0..=text.len().min(Self::LEN))
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        let mut rest = &text.as_bytes()[..end];
        for word in &self.0 {
            let (now, later) = rest.split_at(rest.len().min(8));
            let mut bytes = [0; 8];
            bytes[..now.len()].copy_from_slice(now);
            // Relaxed: the record around it orders it.
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
            rest = later;
        }
    }

    /// The bytes up to the first zero, each word read once.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self
            .0
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .collect();
        let end = bytes
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(bytes.len());
        bytes.truncate(end);
        bytes
    }

    /// The text, fit to be shown: letters, digits and what ASCII prints; all else is replaced. Anybody may have written it.
    pub fn get(&self) -> String {
        let replace = |c: char| {
            if c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric() {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            }
        };
        String::from_utf8_lossy(&self.bytes())
            .chars()
            .map(replace)
            .collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn text_is_kept_or_cut_at_a_character() {
        let text = Text::<2>::default();
        for (set, kept) in [
            ("", ""),
            ("server", "server"),
            ("sixteen bytes ab", "sixteen bytes ab"),
            ("fifteen bytes .é", "fifteen bytes ."),
        ] {
            text.set(set);
            assert_eq!(text.get(), kept);
        }
    }

    #[test]
    fn damaged_text_is_shown_without_control_characters() {
        let text = Text::<1>::default();
        text.0[0].store(u64::from_le_bytes(*b"a\x1b[2J\xff\0z"), Ordering::Relaxed);
        assert_eq!(text.get(), "a\u{fffd}[2J\u{fffd}");
    }
}
