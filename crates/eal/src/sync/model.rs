//! Atomics whose every access is a step of the crash model.
//!
//! They are what they stand for, a word in memory, with a question before each access: whoever drives the model has installed a
//! [`Driver`] on this thread, and it may let another simulated process run first, end this one, or leave the store out. Without
//! a driver they are plain atomics. `crates/model` has the driver; all simulated processes run on one thread, so looking at a
//! word and changing it are one step without any instruction that says so.
//!
//! A step knows its place in the source (`track_caller`), which is what the model makes its mutants of. Functions that store
//! for their callers are marked `cfg_attr(forebay_model, track_caller)`, so that each caller is a place of its own.
//!
//! **If a process dies:** it dies in here: the driver unwinds it, and from then on swallows what its destructors store.

use core::cell::Cell;
use core::fmt;
use core::panic::Location;
use core::sync::atomic::Ordering;

/// A word of memory under the hands of the driver.
pub trait Word {
    /// Where it lies.
    fn address(&self) -> usize;
    /// Its bytes.
    fn width(&self) -> usize;
    /// What stands there.
    fn read(&self) -> u64;
    /// Writes it.
    fn write(&self, value: u64);
}

/// What an access changes: from the old value to the new one, or `None` if it leaves it, as a compare-and-swap that fails.
pub type Change<'a> = &'a dyn Fn(u64) -> Option<u64>;

/// Who is asked before each access.
pub trait Driver {
    /// A load; returns what the process sees.
    fn load(&self, word: &dyn Word, place: &'static Location<'static>) -> u64;
    /// A store, which sees nothing.
    fn store(&self, word: &dyn Word, value: u64, place: &'static Location<'static>);
    /// A swap, or any read-modify-write: returns what the process saw there and whether the change took place.
    fn change(
        &self,
        word: &dyn Word,
        change: Change<'_>,
        place: &'static Location<'static>,
    ) -> (u64, bool);
    /// The process waits for what others do.
    fn pause(&self);
    /// Before a call that others see, such as one that takes a lock.
    fn before_call(&self);
    /// Its outcome, and whether it may have changed something.
    fn after_call(&self, outcome: u64, changes: bool);
    /// Whether the process makes this mistake.
    fn mutated(&self, mistake: &str) -> bool;
}

thread_local! {
    static DRIVER: Cell<Option<&'static dyn Driver>> = const { Cell::new(None) };
}

/// Puts a driver in charge of this thread, or none.
pub fn drive(driver: Option<&'static dyn Driver>) {
    DRIVER.set(driver);
}

/// Whether this mistake is to be made.
pub fn mutated(mistake: &str) -> bool {
    DRIVER.get().is_some_and(|driver| driver.mutated(mistake))
}

/// Waits for what other processes do: in the model, until one of them has changed something.
pub fn pause(time: core::time::Duration) {
    match DRIVER.get() {
        Some(driver) => driver.pause(),
        None => std::thread::sleep(time),
    }
}

/// A call that other processes see the outcome of, if it `changes` something, or that sees what others did.
pub fn visible<T>(changes: bool, call: impl FnOnce() -> T, outcome: impl FnOnce(&T) -> u64) -> T {
    let Some(driver) = DRIVER.get() else {
        return call();
    };
    driver.before_call();
    let value = call();
    driver.after_call(outcome(&value), changes);
    value
}

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// A word that the model watches.
        #[derive(Default)]
        #[repr(transparent)]
        pub struct $name(core::sync::atomic::$name);

        impl Word for $name {
            fn address(&self) -> usize {
                core::ptr::from_ref(self).addr()
            }

            fn width(&self) -> usize {
                size_of::<$value>()
            }

            fn read(&self) -> u64 {
                u64::from(self.0.load(Ordering::Relaxed))
            }

            #[expect(clippy::allow_attributes, reason = "one width needs it not")]
            #[allow(
                clippy::cast_possible_truncation,
                reason = "it is of the word's own width"
            )]
            fn write(&self, value: u64) {
                self.0.store(value as $value, Ordering::Relaxed);
            }
        }

        #[allow(
            clippy::cast_possible_truncation,
            clippy::unnecessary_cast,
            reason = "values are of the word's own width"
        )]
        impl $name {
            /// A word that holds `value`.
            pub const fn new(value: $value) -> Self {
                Self(core::sync::atomic::$name::new(value))
            }

            /// The word itself, which nobody watches: for the driver.
            pub const fn unwatched(&self) -> &core::sync::atomic::$name {
                &self.0
            }

            /// The value, where nobody else can look.
            pub fn get_mut(&mut self) -> &mut $value {
                self.0.get_mut()
            }

            /// The value.
            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                match DRIVER.get() {
                    Some(driver) => driver.load(self, Location::caller()) as $value,
                    None => self.0.load(order),
                }
            }

            /// Replaces it.
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                match DRIVER.get() {
                    Some(driver) => driver.store(self, value as u64, Location::caller()),
                    None => self.0.store(value, order),
                }
            }

            /// Replaces it and returns what it was.
            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                match DRIVER.get() {
                    Some(driver) => {
                        let change = |_| Some(value as u64);
                        driver.change(self, &change, Location::caller()).0 as $value
                    }
                    None => self.0.swap(value, order),
                }
            }

            /// Replaces it if it is `from`.
            ///
            /// # Errors
            ///
            /// What it was instead.
            #[track_caller]
            pub fn compare_exchange(
                &self,
                from: $value,
                to: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let Some(driver) = DRIVER.get() else {
                    return self.0.compare_exchange(from, to, success, failure);
                };
                let change = |now| (now == from as u64).then_some(to as u64);
                match driver.change(self, &change, Location::caller()) {
                    (old, true) => Ok(old as $value),
                    (old, false) => Err(old as $value),
                }
            }

            /// Sets bits.
            #[track_caller]
            pub fn fetch_or(&self, bits: $value, order: Ordering) -> $value {
                let Some(driver) = DRIVER.get() else {
                    return self.0.fetch_or(bits, order);
                };
                let change = |old| Some(old | bits as u64);
                driver.change(self, &change, Location::caller()).0 as $value
            }

            /// Clears those that are not in `bits`.
            #[track_caller]
            pub fn fetch_and(&self, bits: $value, order: Ordering) -> $value {
                let Some(driver) = DRIVER.get() else {
                    return self.0.fetch_and(bits, order);
                };
                let change = |old| Some(old & bits as u64);
                driver.change(self, &change, Location::caller()).0 as $value
            }

            /// Adds, and returns what it was.
            #[track_caller]
            pub fn fetch_add(&self, n: $value, order: Ordering) -> $value {
                let Some(driver) = DRIVER.get() else {
                    return self.0.fetch_add(n, order);
                };
                let change = |old| Some((old as $value).wrapping_add(n) as u64);
                driver.change(self, &change, Location::caller()).0 as $value
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

atomic!(AtomicU8, u8);
atomic!(AtomicU16, u16);
atomic!(AtomicU32, u32);
atomic!(AtomicU64, u64);
