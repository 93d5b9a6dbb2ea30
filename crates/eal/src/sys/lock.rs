//! Locks on byte ranges that belong to an open file description.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sync::visible;

/// What a lock keeps out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only exclusive ones.
    Shared,
    /// All others.
    Exclusive,
    /// Nothing: lets go.
    Unlocked,
}

/// Takes, changes or lets go of a lock without waiting; `false` if another description is in the way.
pub(crate) fn try_lock(file: BorrowedFd<'_>, bytes: &Range<i64>, mode: Mode) -> io::Result<bool> {
    let kind = match mode {
        Mode::Shared => libc::F_RDLCK,
        Mode::Exclusive => libc::F_WRLCK,
        Mode::Unlocked => libc::F_UNLCK,
    };
    let taken = |outcome: &io::Result<i32>| u64::from(outcome.is_ok());
    match visible(true, || fcntl(file, libc::F_OFD_SETLK, bytes, kind), taken) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether another description holds any lock on one of the bytes.
pub(crate) fn is_locked(file: BorrowedFd<'_>, bytes: &Range<i64>) -> io::Result<bool> {
    let kind = |outcome: &io::Result<i32>| {
        outcome
            .as_ref()
            .map_or(0, |kind| u64::from(*kind != libc::F_UNLCK))
    };
    let in_the_way = visible(
        false,
        || fcntl(file, libc::F_OFD_GETLK, bytes, libc::F_WRLCK),
        kind,
    )?;
    Ok(in_the_way != libc::F_UNLCK)
}

/// One call; the kind of lock that it leaves in the structure.
fn fcntl(file: BorrowedFd<'_>, command: i32, bytes: &Range<i64>, kind: i32) -> io::Result<i32> {
    // The kinds are 0, 1 and 2.
    let l_type = i16::try_from(kind).map_err(|_| io::ErrorKind::InvalidInput)?;
    let l_whence = i16::try_from(libc::SEEK_SET).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut lock = libc::flock {
        l_type,
        l_whence,
        l_start: bytes.start,
        l_len: bytes.end - bytes.start,
        l_pid: 0,
    };
    // SAFETY: both commands take a `struct flock`, which outlives the call.
    let outcome = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if outcome == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(i32::from(lock.l_type))
}
