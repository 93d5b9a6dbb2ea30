//! Steps that are left out, or come too late.
//!
//! A *site* is a place in the source that changes a word. Nobody writes the mutants down: they are made of the sites that the
//! scenarios reach.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;

/// A place in the source that stores, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Site(pub(crate) usize);

/// What is done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// The store does nothing. A compare-and-swap says that it did.
    Dropped(Site),
    /// The store takes effect after so many stores of the same process at other sites; it sees its own stores.
    Late(Site, u8),
    /// A mistake that the code knows by name.
    Mistake(&'static str),
}

/// All places in the source that store.
#[derive(Debug, Default)]
pub(crate) struct Sites {
    /// By the address of the location, to be found quickly; several addresses may be one place.
    by_address: BTreeMap<usize, Site>,
    places: Vec<Place>,
}

/// File, line and column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: &'static str,
    pub(crate) line: u32,
    column: u32,
}

impl Sites {
    /// The site of a place.
    pub(crate) fn of(&mut self, location: &'static Location<'static>) -> Site {
        let address = std::ptr::from_ref(location).addr();
        if let Some(site) = self.by_address.get(&address) {
            return *site;
        }
        let place = Place {
            file: location.file(),
            line: location.line(),
            column: location.column(),
        };
        let known = self.places.iter().position(|known| *known == place);
        let site = Site(known.unwrap_or_else(|| {
            self.places.push(place);
            self.places.len() - 1
        }));
        self.by_address.insert(address, site);
        site
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Where a site is.
    pub(crate) fn place(&self, site: Site) -> Option<&Place> {
        self.places.get(site.0)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self
            .file
            .trim_start_matches("crates/")
            .replace("/src/", "/");
        write!(f, "{file}:{}", self.line)
    }
}
