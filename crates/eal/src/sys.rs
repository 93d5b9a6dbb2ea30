//! Every system call of this crate, each in a safe function.

pub mod child;
pub(crate) mod control;
pub(crate) mod fork;
pub(crate) mod lock;
pub(crate) mod memory;
pub(crate) mod numa;
pub(crate) mod pages;
pub(crate) mod user;

/// Seconds since 1970, to be shown.
pub(crate) fn unix_seconds() -> u64 {
    if cfg!(any(miri, forebay_model)) {
        return 0;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}
