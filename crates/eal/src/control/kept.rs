//! What a secondary keeps for the time without a primary: copies of what was published, by key.
//!
//! | entry          | written by                                              |
//! |----------------|---------------------------------------------------------|
//! | is there       | who calls `keep`; it stays                              |
//! | stale          | the member thread, told of a change; who fails to fetch |
//! | copy           | who has fetched it, one thread at a time                |

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::table::{check_key, copy};
use super::{Handed, OFFERED_MAX};
use crate::error::Error;

/// A copy of a publication.
#[derive(Debug)]
pub(super) struct Copy {
    pub(super) revision: u64,
    pub(super) payload: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// What the primary says of a key.
#[derive(Debug)]
pub(super) enum Said {
    Published(Copy),
    /// It has not had anything under that key: what the last primary had stays good.
    Nothing,
    /// It took it back.
    Withdrawn,
}

#[derive(Debug, Default)]
struct Entry {
    copy: Option<Arc<Copy>>,
    /// To be fetched.
    stale: bool,
}

/// All that one process keeps.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<BTreeMap<String, Entry>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Each change is one store, so a panic leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on that key is kept.
    pub(super) fn add(&self, key: &str) -> Result<(), Error> {
        check_key(key)?;
        let mut kept = self.lock();
        if kept.len() >= OFFERED_MAX && !kept.contains_key(key) {
            return Err(Error::TooManyKept {
                key: key.to_owned(),
                max: OFFERED_MAX,
            });
        }
        kept.entry(key.to_owned()).or_default().stale = true;
        Ok(())
    }

    /// It is about to be fetched, or has not been: what changes after the first makes it stale again.
    pub(super) fn set_stale(&self, key: &str, stale: bool) {
        if let Some(entry) = self.lock().get_mut(key) {
            entry.stale = stale;
        }
    }

    /// Those that are to be fetched.
    pub(super) fn stale(&self) -> Vec<String> {
        let kept = self.lock();
        let stale = kept.iter().filter(|(_, entry)| entry.stale);
        stale.map(|(key, _)| key.clone()).collect()
    }

    /// What the primary said.
    pub(super) fn settle(&self, key: &str, said: Said) {
        let new = match said {
            Said::Published(copy) => Some(Arc::new(copy)),
            Said::Withdrawn => None,
            Said::Nothing => return,
        };
        let mut kept = self.lock();
        let old = kept
            .get_mut(key)
            .and_then(|entry| std::mem::replace(&mut entry.copy, new));
        drop(kept);
        // Closing descriptors may take a while; not under the lock.
        drop(old);
    }

    /// All keys of which there is a copy.
    pub(super) fn keys(&self) -> Vec<String> {
        let kept = self.lock();
        let copies = kept.iter().filter(|(_, entry)| entry.copy.is_some());
        copies.map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn find(&self, key: &str) -> Option<Arc<Copy>> {
        self.lock().get(key).and_then(|entry| entry.copy.clone())
    }

    /// The copy, with descriptors of the caller's own.
    pub(super) fn copy(&self, key: &str) -> Result<Option<Handed>, Error> {
        self.find(key)
            .map(|kept| copy(key, &kept.payload, &kept.descriptors))
            .transpose()
    }

    /// Lets go of all.
    pub(super) fn clear(&self) {
        let old = std::mem::take(&mut *self.lock());
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(revision: u64, payload: &[u8]) -> Said {
        let descriptor = std::fs::File::open("/dev/null").unwrap().into();
        Said::Published(Copy {
            revision,
            payload: payload.to_vec(),
            descriptors: vec![descriptor],
        })
    }

    fn payload(kept: &Kept, key: &str) -> Option<Vec<u8>> {
        kept.copy(key).unwrap().map(|(payload, _)| payload)
    }

    #[test]
    fn a_copy_stays_until_another_comes_or_it_is_withdrawn() {
        let kept = Kept::default();
        kept.settle("k", published(1, b"nobody keeps it"));
        assert_eq!(payload(&kept, "k"), None);
        kept.add("k").unwrap();
        assert_eq!(kept.stale(), ["k"]);
        kept.set_stale("k", false);
        kept.settle("k", published(1, b"one"));
        assert!(kept.stale().is_empty());
        // A new primary that has not published it yet.
        kept.settle("k", Said::Nothing);
        assert_eq!(payload(&kept, "k").unwrap(), b"one");
        kept.settle("k", published(2, b"two"));
        assert_eq!(
            (payload(&kept, "k").unwrap(), kept.keys()),
            (b"two".to_vec(), vec!["k".to_owned()])
        );
        kept.settle("k", Said::Withdrawn);
        assert_eq!((payload(&kept, "k"), kept.keys().len()), (None, 0));
        kept.settle("k", published(3, b"three"));
        assert_eq!(payload(&kept, "k").unwrap(), b"three");
    }

    #[test]
    fn keys_have_a_shape_and_a_limit() {
        let kept = Kept::default();
        assert!(matches!(kept.add("a b"), Err(Error::Key { .. })));
        for number in 0..OFFERED_MAX {
            kept.add(&format!("k{number}")).unwrap();
        }
        kept.add("k1").unwrap();
        let error = kept.add("more").unwrap_err();
        assert!(matches!(error, Error::TooManyKept { .. }), "{error}");
    }
}
