//! How descriptors travel: from the primary to the others, and from those to the next primary.
//!
//! ```text
//!           publish                  fetch, keep
//! primary  -------->  control.sock  ------------>  secondary     by key: "port/0/rx/3"
//! its successor  <--------------------------------------
//!           offered                  what it kept
//! ```
//!
//! What is handed out for a queue begins with the queue's edition (`table.rs`), which says whether it is still good.
//!
//! **If a process dies:** what others hold of its descriptors stays good. What nobody kept is gone with it, and made anew.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::driver::{Direction, Handed, PortId, QueueId};
use crate::error::Error;

/// Where the primary lays out what its queues need and others fetch it: the group's control socket.
pub trait Exchange: Send + Sync + fmt::Debug {
    /// Lays out, in place of what had that key.
    ///
    /// # Errors
    ///
    /// When it cannot be kept.
    fn publish(&self, key: &str, handed: Handed) -> Result<(), Error>;

    /// Takes back.
    fn withdraw(&self, key: &str);

    /// A copy of what has that key.
    ///
    /// # Errors
    ///
    /// When nobody answers.
    fn fetch(&self, key: &str) -> Result<Option<Handed>, Error>;

    /// As [`fetch`](Self::fetch), and keeps a copy up to date, to be offered to the next primary. For secondaries. Where nobody
    /// answers there is nothing yet: it is kept once somebody does.
    ///
    /// # Errors
    ///
    /// When the key cannot be kept.
    fn keep(&self, key: &str) -> Result<Option<Handed>, Error>;

    /// What a secondary kept under that key of what a former primary laid out. For the primary.
    fn offered(&self, key: &str) -> Option<Handed>;
}

impl Exchange for eal::control::Control {
    fn publish(&self, key: &str, handed: Handed) -> Result<(), Error> {
        Ok(Self::publish(
            self,
            key,
            &handed.payload,
            handed.descriptors,
        )?)
    }

    fn withdraw(&self, key: &str) {
        Self::withdraw(self, key);
    }

    fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        Ok(Self::fetch(self, key)?.map(Handed::from))
    }

    fn keep(&self, key: &str) -> Result<Option<Handed>, Error> {
        Ok(Self::keep(self, key)?.map(Handed::from))
    }

    fn offered(&self, key: &str) -> Option<Handed> {
        Self::offered(self, key).map(Handed::from)
    }
}

impl From<eal::control::Handed> for Handed {
    fn from((payload, descriptors): eal::control::Handed) -> Self {
        Self {
            payload,
            descriptors,
        }
    }
}

/// The key of a queue: `port/0/rx/3`.
pub(crate) fn key(port: PortId, direction: Direction, queue: QueueId) -> String {
    format!("port/{port}/{direction}/{queue}")
}

/// Octets of an edition.
const EDITION_LEN: usize = 4;

impl Handed {
    /// With the edition of its queue before the driver's words.
    pub(crate) fn stamp(mut self, edition: u32) -> Self {
        self.payload.splice(..0, edition.to_le_bytes());
        self
    }

    /// What was [stamped](Self::stamp), if that is of this edition.
    pub(crate) fn of_edition(mut self, edition: u32) -> Option<Self> {
        let stamp = *self.payload.first_chunk::<EDITION_LEN>()?;
        self.payload.drain(..EDITION_LEN);
        (u32::from_le_bytes(stamp) == edition).then_some(self)
    }

    /// The same again, with descriptors of its own.
    ///
    /// # Errors
    ///
    /// When the process has too many descriptors.
    pub fn duplicate(&self) -> Result<Self, Error> {
        let descriptors = self
            .descriptors
            .iter()
            .map(|fd| fd.try_clone())
            .collect::<Result<_, _>>();
        let descriptors = descriptors.map_err(|source| Error::Kernel {
            device: "port".into(),
            what: "duplicate a descriptor (raise it with `ulimit -n`)".into(),
            source,
        })?;
        Ok(Self {
            payload: self.payload.clone(),
            descriptors,
        })
    }
}

/// An exchange within one process: for regions that nobody else maps.
///
/// What was [kept](Exchange::keep) stays kept, and is offered, until it is withdrawn.
#[derive(Debug, Default)]
pub struct LocalExchange(Mutex<Tables>);

#[derive(Debug, Default)]
struct Tables {
    published: HashMap<String, Handed>,
    /// What was asked for, and what was there of it.
    kept: HashMap<String, Option<Handed>>,
}

impl LocalExchange {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers to the next primary what a secondary would have kept.
    pub fn offer(&self, key: &str, kept: Handed) {
        self.tables().kept.insert(key.to_owned(), Some(kept));
    }
}

impl Exchange for LocalExchange {
    fn publish(&self, key: &str, handed: Handed) -> Result<(), Error> {
        let mut tables = self.tables();
        if let Some(kept) = tables.kept.get_mut(key) {
            *kept = Some(handed.duplicate()?);
        }
        tables.published.insert(key.to_owned(), handed);
        Ok(())
    }

    fn withdraw(&self, key: &str) {
        let mut tables = self.tables();
        tables.published.remove(key);
        if let Some(kept) = tables.kept.get_mut(key) {
            *kept = None;
        }
    }

    fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        self.tables()
            .published
            .get(key)
            .map(Handed::duplicate)
            .transpose()
    }

    fn keep(&self, key: &str) -> Result<Option<Handed>, Error> {
        let found = self.fetch(key)?;
        let kept = self.fetch(key)?;
        self.tables().kept.insert(key.to_owned(), kept);
        Ok(found)
    }

    fn offered(&self, key: &str) -> Option<Handed> {
        self.tables().kept.get(key)?.as_ref()?.duplicate().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handed(payload: &[u8]) -> Handed {
        Handed {
            payload: payload.to_vec(),
            descriptors: Vec::new(),
        }
    }

    #[test]
    fn what_is_of_another_edition_or_of_none_is_nothing() {
        let stamped = |edition| handed(b"words").stamp(edition);
        assert_eq!(stamped(7).of_edition(7).unwrap().payload, b"words");
        assert!(stamped(7).of_edition(8).is_none());
        assert!(handed(b"abc").of_edition(0).is_none());
    }

    #[test]
    fn what_was_kept_follows_what_is_published_and_is_offered() {
        let exchange = LocalExchange::default();
        exchange.publish("early", handed(b"1")).unwrap();
        assert!(exchange.offered("early").is_none(), "nobody kept it");
        assert!(exchange.keep("early").unwrap().is_some());
        assert!(exchange.keep("late").unwrap().is_none());
        exchange.publish("early", handed(b"2")).unwrap();
        exchange.publish("late", handed(b"3")).unwrap();
        assert_eq!(exchange.offered("early").unwrap().payload, b"2");
        assert_eq!(exchange.offered("late").unwrap().payload, b"3");
        exchange.withdraw("late");
        assert!(exchange.offered("late").is_none());
    }
}
