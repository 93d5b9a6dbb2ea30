//! One group with real locks and real memory, mapped once for each simulated process.
//!
//! Each simulated process has a [`Region`] of its own: its own mapping at its own address, and its own open file description of
//! the group's lock, so that locks tell the processes apart as they do between real ones. The world sees the same memory by a
//! mapping that no process uses, and counts its words: those of the data part first, those of the control part behind.
//!
//! **If a process dies:** its region lets go of its lock bytes, and serves the next process in its place.

use std::time::Duration;

use eal::args::HugeChoice;
use eal::sync::AtomicU32;
use eal::{ProcType, Region, RegionConfig};
use std::sync::atomic::Ordering;
use tempfile::TempDir;

/// Bytes of the data part.
const DATA_LEN: usize = 128 << 10;

/// Regions of primaries, one after the other in the same group.
pub(crate) const PRIMARIES: usize = 3;
/// Regions of secondaries.
pub(crate) const SECONDARIES: usize = 4;

/// The group and its mappings.
pub(crate) struct World {
    /// Primaries first.
    pub(crate) regions: Vec<&'static Region>,
    data: &'static [AtomicU32],
    control: &'static [AtomicU32],
    empty: Vec<u32>,
    _dir: TempDir,
}

impl World {
    /// Makes the group.
    ///
    /// # Errors
    ///
    /// What the operating system or the region says.
    pub(crate) fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::Builder::new()
            .prefix("forebay-model-")
            .tempdir()?;
        let config = |role| RegionConfig {
            runtime_dir: Some(dir.path().to_owned()),
            huge: HugeChoice::Never,
            proc_type: role,
            wait: Duration::ZERO,
            program: "model".to_owned(),
            ..RegionConfig::new("model", DATA_LEN)
        };
        let mut regions: Vec<&'static Region> = Vec::new();
        // One more, a primary since only those may write the control part, through which the world looks.
        for number in 0..=PRIMARIES + SECONDARIES {
            let primary = number < PRIMARIES || number == PRIMARIES + SECONDARIES;
            let role = if primary {
                ProcType::Primary
            } else {
                ProcType::Secondary
            };
            let (region, _) = Region::join(&config(role))?;
            if primary {
                // So that the next one can be it. The model runs no two of them at a time.
                region.let_go_of_primary();
            }
            regions.push(Box::leak(Box::new(region)));
        }
        let observer = regions.pop().ok_or("no region")?;
        let (data, control) = (observer.data_words(), observer.control_words());
        let mut world = Self {
            regions,
            data,
            control,
            empty: Vec::new(),
            _dir: dir,
        };
        world.empty = world.image();
        Ok(world)
    }

    /// How many words there are.
    pub(crate) fn len(&self) -> usize {
        self.data.len() + self.control.len()
    }

    fn word(&self, number: usize) -> Option<&std::sync::atomic::AtomicU32> {
        let word = match number.checked_sub(self.data.len()) {
            None => self.data.get(number),
            Some(number) => self.control.get(number),
        };
        word.map(AtomicU32::unwatched)
    }

    /// What stands in a word. Zero past the end.
    pub(crate) fn read(&self, number: usize) -> u32 {
        self.word(number)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    }

    /// What stands in two words that are one.
    pub(crate) fn read_wide(&self, number: usize) -> u64 {
        u64::from(self.read(number)) | u64::from(self.read(number + 1)) << 32
    }

    /// Writes a word.
    pub(crate) fn write(&self, number: usize, value: u32) {
        if let Some(word) = self.word(number) {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// All words as they are.
    pub(crate) fn image(&self) -> Vec<u32> {
        (0..self.len()).map(|number| self.read(number)).collect()
    }

    /// The group as it was made: no zone, no slot.
    pub(crate) fn clear(&self) {
        for (number, value) in self.empty.iter().enumerate() {
            self.write(number, *value);
        }
    }
}
