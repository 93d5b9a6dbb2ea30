//! What the bodies of messages hold.
//!
//! ```text
//! Fetch          key
//! Found          revision (8) | payload
//! Join, Slots    owner (4) | owner (4) ...           at most one a slot
//! Offer          revision (8) | key length (1) | key | payload
//! Changed        key '\n' key '\n' key ...
//! Refused        a text
//! Nothing, Withdrawn, Ready, Leave   nothing
//! ```
//!
//! Numbers are little-endian. A *revision* numbers what primaries publish, and rises from one
//! primary of a group to the next: of two copies of one key the higher is the younger.

use super::table::check_key;
use super::{KEY_MAX, PAYLOAD_MAX};
use crate::process::{Owner, SLOTS_MAX};

const REVISION_LEN: usize = 8;
const OWNER_LEN: usize = 4;

/// The longest body: an offer.
pub(super) const BODY_MAX: usize = REVISION_LEN + 1 + KEY_MAX + PAYLOAD_MAX;

/// The longest body that opens a connection: a key, or the slots of a process.
pub(super) const OPENING_MAX: usize = {
    let slots = SLOTS_MAX * OWNER_LEN;
    if slots > KEY_MAX { slots } else { KEY_MAX }
};

/// Keys in one `Changed`; more come in the next.
pub(super) const CHANGED_KEYS_MAX: usize = 256;

const _: () = assert!(CHANGED_KEYS_MAX * (KEY_MAX + 1) <= BODY_MAX);

/// What was published, as `Found` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) revision: u64,
    pub(super) payload: &'a [u8],
}

impl<'a> Found<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        [&self.revision.to_le_bytes()[..], self.payload].concat()
    }

    /// `None`: that is no such body, or too long.
    pub(super) fn decode(body: &'a [u8]) -> Option<Self> {
        let (revision, payload) = body.split_first_chunk()?;
        (payload.len() <= PAYLOAD_MAX).then_some(Self {
            revision: u64::from_le_bytes(*revision),
            payload,
        })
    }
}

/// What a member kept of the last primary's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offer<'a> {
    pub(super) revision: u64,
    pub(super) key: &'a str,
    pub(super) payload: &'a [u8],
}

impl<'a> Offer<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let len = u8::try_from(self.key.len()).unwrap_or(u8::MAX);
        [
            &self.revision.to_le_bytes()[..],
            &[len],
            self.key.as_bytes(),
            self.payload,
        ]
        .concat()
    }

    /// `None`: that is no such body, or its key is none.
    pub(super) fn decode(body: &'a [u8]) -> Option<Self> {
        let (revision, rest) = body.split_first_chunk()?;
        let (len, rest) = rest.split_first()?;
        let (key, payload) = rest.split_at_checked(usize::from(*len))?;
        let key = std::str::from_utf8(key).ok()?;
        check_key(key).ok()?;
        (payload.len() <= PAYLOAD_MAX).then_some(Self {
            revision: u64::from_le_bytes(*revision),
            key,
            payload,
        })
    }
}

/// The slots of a process, as bytes.
pub(super) fn encode_owners(owners: &[Owner]) -> Vec<u8> {
    let owners = owners.iter().take(SLOTS_MAX);
    owners
        .flat_map(|owner| owner.bits().to_le_bytes())
        .collect()
}

/// The slots of a process; `None`: those are none, or too many.
pub(super) fn decode_owners(body: &[u8]) -> Option<Vec<Owner>> {
    let (owners, []) = body.as_chunks::<OWNER_LEN>() else {
        return None;
    };
    if owners.len() > SLOTS_MAX {
        return None;
    }
    let owners = owners
        .iter()
        .map(|bits| Owner::from_bits(u32::from_le_bytes(*bits)));
    owners
        .map(|owner| owner.slot().map(|_| owner))
        .collect::<Option<Vec<Owner>>>()
}

/// The keys in a `Changed`; what is no key is left out.
pub(super) fn decode_keys(body: &[u8]) -> impl Iterator<Item = &str> {
    body.split(|byte| *byte == b'\n')
        .take(CHANGED_KEYS_MAX)
        .filter_map(|key| std::str::from_utf8(key).ok())
        .filter(|key| check_key(key).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::SlotId;
    use proptest::prelude::*;

    fn owners(count: u8) -> Vec<Owner> {
        let slot = |id| SlotId::new(id % 64).unwrap();
        (0..count)
            .map(|id| Owner::new(slot(id), u32::from(id) + 7))
            .collect()
    }

    #[test]
    fn slots_survive_the_way_and_nonsense_is_none() {
        for count in [0, 1, 64] {
            let all = owners(count);
            assert_eq!(decode_owners(&encode_owners(&all)), Some(all));
        }
        assert_eq!(decode_owners(b"abc"), None);
        assert_eq!(decode_owners(&[0; 4]), None, "nobody is no owner");
        assert_eq!(decode_owners(&encode_owners(&owners(1)).repeat(65)), None);
    }

    #[test]
    fn keys_are_told_apart_and_what_is_none_is_left_out() {
        let keys: Vec<&str> = decode_keys(b"port/0/rx/1\n\na b\n\xff\nk").collect();
        assert_eq!(keys, ["port/0/rx/1", "k"]);
    }

    proptest! {
        #[test]
        fn offers_and_findings_survive_the_way(
            revision: u64,
            key in "[!-~]{1,127}",
            payload in prop::collection::vec(any::<u8>(), 0..99),
        ) {
            let offer = Offer { revision, key: &key, payload: &payload };
            let body = offer.encode();
            prop_assert_eq!(Offer::decode(&body), Some(offer));
            let found = Found { revision, payload: &payload };
            let body = found.encode();
            prop_assert_eq!(Found::decode(&body), Some(found));
        }

        #[test]
        fn no_bytes_make_a_decoder_panic_or_give_what_may_not_be(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            key in "[!-~]{1,9}",
            at in 0..20_usize,
        ) {
            // Nearly right ones come further.
            let mut nearly = Offer { revision: 1, key: &key, payload: b"payload" }.encode();
            nearly.splice(at.min(nearly.len()).., bytes.clone());
            for body in [&bytes, &nearly] {
                if let Some(offer) = Offer::decode(body) {
                    prop_assert!(check_key(offer.key).is_ok());
                    prop_assert_eq!(&offer.encode(), body);
                }
                if let Some(owners) = decode_owners(body) {
                    prop_assert!(owners.len() <= SLOTS_MAX);
                }
                prop_assert!(decode_keys(body).all(|key| check_key(key).is_ok()));
                let _ = Found::decode(body);
            }
        }
    }
}
