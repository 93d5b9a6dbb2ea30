//! What `ethtool` asks of an interface: how many queues it has, and how its hardware spreads frames over them.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::sys::request;

// linux/ethtool.h
const GET_CHANNELS: u32 = 0x3c;
const GET_INDIRECTION: u32 = 0x38;
const SET_INDIRECTION: u32 = 0x39;
/// Entries that a table may have here; the longest known has 2048.
const ENTRIES_MAX: u32 = 4096;

/// RX and TX queues that an interface has now; `None` of one that does not say.
pub(crate) fn channels(fd: BorrowedFd<'_>, name: &str) -> Option<(u32, u32)> {
    // The command, then most and now of: RX, TX, other, combined.
    let mut words = [0_u32; 9];
    words[0] = GET_CHANNELS;
    ask(fd, name, &mut words).ok()?;
    let [_, _, _, _, _, rx, tx, _, combined] = words;
    Some((rx + combined, tx + combined))
}

/// Which queue each hash goes to; empty if the interface has no such table.
pub(crate) fn indirection(fd: BorrowedFd<'_>, name: &str) -> io::Result<Vec<u32>> {
    let mut head = [GET_INDIRECTION, 0];
    match ask(fd, name, &mut head) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        asked => asked?,
    }
    if head[1] == 0 || head[1] > ENTRIES_MAX {
        return Ok(Vec::new());
    }
    let mut words = vec![0; head[1] as usize + 2];
    (words[0], words[1]) = (GET_INDIRECTION, head[1]);
    ask(fd, name, &mut words)?;
    Ok(words.split_off(2))
}

/// Changes it.
pub(crate) fn set_indirection(fd: BorrowedFd<'_>, name: &str, table: &[u32]) -> io::Result<()> {
    let len = u32::try_from(table.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut words = vec![SET_INDIRECTION, len];
    words.extend(table);
    ask(fd, name, &mut words)
}

/// One request, which the kernel reads and answers in `words`: the first says which. It writes no more than the requests of this file
/// have room for.
fn ask(fd: BorrowedFd<'_>, name: &str, words: &mut [u32]) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
    // SAFETY: `request` lives through the call; its data points to `words`, which are exclusively ours and as long as the command in
    // the first and the count in the second say.
    let result: c_int = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
