//! How descriptors travel from the primary to the others.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

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
        let fetched = Self::fetch(self, key)?;
        Ok(fetched.map(|(payload, descriptors)| Handed {
            payload,
            descriptors,
        }))
    }
}

/// The key of a queue: `port/0/rx/3`.
pub(crate) fn key(port: PortId, direction: Direction, queue: QueueId) -> String {
    format!("port/{port}/{direction}/{queue}")
}

/// An exchange within one process: for regions that nobody else maps.
#[derive(Debug, Default)]
pub struct LocalExchange(Mutex<HashMap<String, Handed>>);

impl Exchange for LocalExchange {
    fn publish(&self, key: &str, handed: Handed) -> Result<(), Error> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.to_owned(), handed);
        Ok(())
    }

    fn withdraw(&self, key: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key);
    }

    fn fetch(&self, key: &str) -> Result<Option<Handed>, Error> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.get(key).map(Handed::duplicate).transpose()
    }
}

impl Handed {
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
