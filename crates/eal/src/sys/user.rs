//! Users and groups of the operating system.

use std::ffi::CString;
use std::io;

/// The number of a Unix group, or of a number that stands for one; `None` if there is no such group.
pub(crate) fn group_id(name: &str) -> io::Result<Option<u32>> {
    /// More than any entry known: a group with some ten thousand members.
    const ENTRY_MAX: usize = 1 << 20;
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    let mut buffer = vec![0; ENTRY_MAX];
    // SAFETY: integers and pointers, for which zero is a value.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: `name` ends in a zero; `buffer` has room for as much as is said; all outlive the call.
    let outcome = unsafe {
        libc::getgrnam_r(
            name.as_ptr(),
            &raw mut entry,
            buffer.as_mut_ptr(),
            buffer.len(),
            &raw mut found,
        )
    };
    match outcome {
        0 if found.is_null() => Ok(None),
        0 => Ok(Some(entry.gr_gid)),
        // What the C library says of databases that are not there, as `getgrnam(3)` lists it.
        libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => Ok(None),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The effective user of this process.
pub(crate) fn user_id() -> u32 {
    rustix::process::geteuid().as_raw()
}
