//! What the primary has published: by key, a payload and descriptors.
//!
//! Each change gets the next *revision*, so that a member can be told what changed since it was
//! told last, with one number to remember. Revisions start from the count of the primaries of the
//! region: what a later primary publishes is younger than all that an earlier one did.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::body::CHANGED_KEYS_MAX;
use super::{DESCRIPTORS_MAX, Handed, KEY_MAX, PAYLOAD_MAX, PUBLISHED_MAX};
use crate::error::Error;

/// Changes that one primary can count.
const REVISION_BITS: u32 = 40;

/// One publication.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) revision: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// What stands under a key.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Published(Arc<Published>),
    /// This primary took it back: copies that others keep are worth nothing any more.
    Withdrawn(u64),
}

impl Entry {
    fn revision(&self) -> u64 {
        match self {
            Self::Published(published) => published.revision,
            Self::Withdrawn(revision) => *revision,
        }
    }

    fn is_published(&self) -> bool {
        matches!(self, Self::Published(_))
    }
}

/// All publications of this process, shared by its threads.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    entries: BTreeMap<String, Entry>,
    published: usize,
    /// The last one given.
    revision: u64,
}

impl Entries {
    /// Puts an entry in place of what stands there, which is returned.
    fn put(&mut self, key: &str, entry: Entry) -> Option<Entry> {
        self.revision = entry.revision();
        self.published += usize::from(entry.is_published());
        let old = self.entries.insert(key.to_owned(), entry);
        self.published -= usize::from(old.as_ref().is_some_and(Entry::is_published));
        old
    }

    fn next(&self) -> u64 {
        self.revision.saturating_add(1)
    }
}

impl Table {
    /// For the primary that is number `epoch` of its region.
    pub(crate) fn new(epoch: u32) -> Self {
        Self(Mutex::new(Entries {
            revision: u64::from(epoch) << REVISION_BITS,
            ..Entries::default()
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Nothing in `put` panics between its first store and its last.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a publication, or replaces the one of that key.
    pub(crate) fn publish(
        &self,
        key: &str,
        payload: &[u8],
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Error> {
        check_key(key)?;
        let too_big = |what, count, max| Error::PublicationTooBig {
            key: key.to_owned(),
            what,
            count,
            max,
        };
        if payload.len() > PAYLOAD_MAX {
            return Err(too_big("bytes", payload.len(), PAYLOAD_MAX));
        }
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(too_big("descriptors", descriptors.len(), DESCRIPTORS_MAX));
        }
        let mut table = self.lock();
        let replaces = table.entries.get(key).is_some_and(Entry::is_published);
        if table.published >= PUBLISHED_MAX && !replaces {
            return Err(Error::TooManyPublications {
                key: key.to_owned(),
                max: PUBLISHED_MAX,
            });
        }
        let published = Published {
            revision: table.next(),
            payload: payload.to_vec(),
            descriptors,
        };
        let old = table.put(key, Entry::Published(Arc::new(published)));
        // Closing descriptors may take a while; not under the lock.
        drop(table);
        drop(old);
        Ok(())
    }

    /// Removes a publication, and remembers that, also if it was an earlier primary's.
    pub(crate) fn withdraw(&self, key: &str) {
        let mut table = self.lock();
        // Those remembered are as many as there may be published, and the oldest makes room.
        let withdrawn = table.entries.len() - table.published;
        if withdrawn >= PUBLISHED_MAX && !table.entries.contains_key(key) {
            let gone = |entry: &(&String, &Entry)| !entry.1.is_published();
            let oldest = table.entries.iter().filter(gone);
            let oldest = oldest.min_by_key(|(_, entry)| entry.revision());
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                table.entries.remove(&oldest);
            }
        }
        let entry = Entry::Withdrawn(table.next());
        let old = table.put(key, entry);
        drop(table);
        drop(old);
    }

    /// Lets go of all, without a word: what others keep of it stays good.
    pub(crate) fn clear(&self) {
        let mut table = self.lock();
        table.published = 0;
        let old = std::mem::take(&mut table.entries);
        drop(table);
        drop(old);
    }

    /// What stands under that key.
    pub(crate) fn find(&self, key: &str) -> Option<Entry> {
        self.lock().entries.get(key).cloned()
    }

    /// The last revision given.
    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// The body of a `Changed` for who was told of all up to `told`, and what it is told of then.
    pub(crate) fn changed_since(&self, told: u64) -> (Vec<u8>, u64) {
        let table = self.lock();
        let mut changed: Vec<(u64, &String)> = table
            .entries
            .iter()
            .map(|(key, entry)| (entry.revision(), key))
            .filter(|(revision, _)| *revision > told)
            .collect();
        changed.sort_unstable();
        let up_to = changed
            .get(CHANGED_KEYS_MAX)
            .map_or(table.revision, |(next, _)| next - 1);
        let keys = changed.into_iter().take(CHANGED_KEYS_MAX);
        let keys: Vec<&str> = keys.map(|(_, key)| key.as_str()).collect();
        (keys.join("\n").into_bytes(), up_to)
    }

    /// As another process would receive it: the payload, and descriptors of its own.
    pub(crate) fn copy(&self, key: &str) -> Result<Option<Handed>, Error> {
        check_key(key)?;
        match self.find(key) {
            Some(Entry::Published(published)) => {
                copy(key, &published.payload, &published.descriptors).map(Some)
            }
            Some(Entry::Withdrawn(_)) | None => Ok(None),
        }
    }
}

/// The same again, with descriptors of its own.
pub(crate) fn copy(key: &str, payload: &[u8], descriptors: &[OwnedFd]) -> Result<Handed, Error> {
    let copies: Result<Vec<OwnedFd>, _> = descriptors.iter().map(OwnedFd::try_clone).collect();
    let copies = copies.map_err(|source| Error::Duplicate {
        key: key.to_owned(),
        source,
    })?;
    Ok((payload.to_vec(), copies))
}

/// A key is a short line of printable ASCII: it is shown in messages.
pub(crate) fn check_key(key: &str) -> Result<(), Error> {
    let fits =
        (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if fits {
        Ok(())
    } else {
        Err(Error::Key {
            key: key.to_owned(),
            max: KEY_MAX,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn a_later_publication_replaces_an_earlier_one_and_a_withdrawn_one_is_gone() {
        let table = Table::default();
        table.publish("port/0", b"one", vec![null()]).unwrap();
        table
            .publish("port/0", b"two", vec![null(), null()])
            .unwrap();
        let (payload, descriptors) = table.copy("port/0").unwrap().unwrap();
        assert_eq!((payload.as_slice(), descriptors.len()), (&b"two"[..], 2));
        table.withdraw("port/0");
        table.withdraw("port/0");
        assert!(table.copy("port/0").unwrap().is_none());
    }

    #[test]
    fn what_no_message_could_carry_is_refused() {
        let table = Table::default();
        let error = |key: &str, payload: &[u8], count: usize| {
            let descriptors = (0..count).map(|_| null()).collect();
            table.publish(key, payload, descriptors).unwrap_err()
        };
        for key in ["", "a b", "a\n", "é", &"k".repeat(KEY_MAX + 1)] {
            assert!(matches!(error(key, b"", 0), Error::Key { .. }), "{key:?}");
            assert!(matches!(table.copy(key), Err(Error::Key { .. })), "{key:?}");
        }
        let long = vec![0; PAYLOAD_MAX + 1];
        assert!(matches!(
            error("k", &long, 0),
            Error::PublicationTooBig { what: "bytes", .. }
        ));
        let many = error("k", b"", DESCRIPTORS_MAX + 1);
        assert!(matches!(
            many,
            Error::PublicationTooBig {
                what: "descriptors",
                ..
            }
        ));
        for number in 0..PUBLISHED_MAX {
            table
                .publish(&format!("k{number}"), b"", Vec::new())
                .unwrap();
        }
        assert!(matches!(
            error("new", b"", 0),
            Error::TooManyPublications { .. }
        ));
        table.publish("k7", b"again", Vec::new()).unwrap();
    }

    fn changed(table: &Table, told: u64) -> (Vec<String>, u64) {
        let (body, up_to) = table.changed_since(told);
        let keys = super::super::body::decode_keys(&body);
        (keys.map(str::to_owned).collect(), up_to)
    }

    #[test]
    fn what_changed_is_told_once_in_the_order_of_its_changes() {
        let table = Table::new(3);
        let start = table.revision();
        assert!(start > Table::new(2).revision() && changed(&table, 0).0.is_empty());
        for key in ["b", "a", "c"] {
            table.publish(key, b"", Vec::new()).unwrap();
        }
        let (keys, told) = changed(&table, start);
        assert_eq!(
            (keys, told),
            (vec!["b".into(), "a".into(), "c".into()], table.revision())
        );
        assert!(changed(&table, told).0.is_empty());
        table.withdraw("a");
        table.withdraw("never-there");
        table.publish("b", b"", Vec::new()).unwrap();
        assert_eq!(changed(&table, told).0, ["a", "never-there", "b"]);
        assert!(matches!(table.find("a"), Some(Entry::Withdrawn(_))));
        table.clear();
        assert!(table.find("a").is_none() && changed(&table, told).0.is_empty());
    }

    #[test]
    fn many_changes_are_told_in_several_parts_and_none_is_lost() {
        let table = Table::new(0);
        let count = CHANGED_KEYS_MAX * 2 + 10;
        for number in 0..count {
            table
                .publish(&format!("k{number}"), b"", Vec::new())
                .unwrap();
        }
        let (mut told, mut all) = (0, Vec::new());
        for part in [CHANGED_KEYS_MAX, CHANGED_KEYS_MAX, 10, 0] {
            let (keys, up_to) = changed(&table, told);
            assert_eq!(keys.len(), part);
            (told, all) = (up_to, [all, keys].concat());
        }
        all.sort();
        all.dedup();
        assert_eq!((all.len(), told), (count, table.revision()));
    }

    #[test]
    fn what_is_withdrawn_is_remembered_within_a_limit() {
        let table = Table::new(0);
        for number in 0..PUBLISHED_MAX + 3 {
            table.withdraw(&format!("k{number}"));
        }
        assert!(table.find("k2").is_none() && table.find("k3").is_some());
        assert_eq!(table.lock().entries.len(), PUBLISHED_MAX);
        table.publish("k3", b"", Vec::new()).unwrap();
        table.withdraw("k3");
        table.publish("k3", b"", Vec::new()).unwrap();
        assert_eq!(table.lock().published, 1);
    }
}
