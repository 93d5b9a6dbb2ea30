//! What the primary has published: by key, a payload and descriptors.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DESCRIPTORS_MAX, Handed, KEY_MAX, PAYLOAD_MAX, PUBLISHED_MAX};
use crate::error::Error;

/// One publication.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// All publications of this process, shared by its threads.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<BTreeMap<String, Arc<Published>>>);

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Published>>> {
        // Each change is one call, so a panic leaves the map whole.
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
        if table.len() >= PUBLISHED_MAX && !table.contains_key(key) {
            return Err(Error::TooManyPublications {
                key: key.to_owned(),
                max: PUBLISHED_MAX,
            });
        }
        let published = Published {
            payload: payload.to_vec(),
            descriptors,
        };
        let old = table.insert(key.to_owned(), Arc::new(published));
        // Closing descriptors may take a while; not under the lock.
        drop(table);
        drop(old);
        Ok(())
    }

    /// Removes a publication, if it is there.
    pub(crate) fn withdraw(&self, key: &str) {
        let old = self.lock().remove(key);
        drop(old);
    }

    /// Removes all publications.
    pub(crate) fn clear(&self) {
        let old = std::mem::take(&mut *self.lock());
        drop(old);
    }

    /// The publication of that key.
    pub(crate) fn find(&self, key: &str) -> Option<Arc<Published>> {
        self.lock().get(key).map(Arc::clone)
    }

    /// As another process would receive it: the payload, and descriptors of its own.
    pub(crate) fn copy(&self, key: &str) -> Result<Option<Handed>, Error> {
        check_key(key)?;
        let Some(published) = self.find(key) else {
            return Ok(None);
        };
        let copies: Result<Vec<OwnedFd>, _> = published
            .descriptors
            .iter()
            .map(OwnedFd::try_clone)
            .collect();
        let copies = copies.map_err(|source| Error::Duplicate {
            key: key.to_owned(),
            source,
        })?;
        Ok(Some((published.payload.clone(), copies)))
    }
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
}
