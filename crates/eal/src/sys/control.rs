//! Who is at the other end of a Unix socket.
//!
//! Not through `rustix`: its credentials hold a process id that cannot be zero, and the kernel
//! says zero for a process in another PID namespace.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What the kernel says of a peer: what it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// For messages only; zero if it is in another PID namespace.
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The peer of a connected socket.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let mut found = libc::ucred {
        pid: 0,
        uid: u32::MAX,
        gid: u32::MAX,
    };
    let mut len = socklen(size_of::<libc::ucred>())?;
    // SAFETY: `found` has room for `len` bytes and any bytes are a value of it; both outlive the
    // call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut len,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Peer {
        pid: found.pid,
        uid: found.uid,
        gid: found.gid,
    })
}

/// The peer's supplementary groups.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    /// What the kernel allows a process.
    const GROUPS_MAX: usize = 65_536;
    let mut groups = vec![0_u32; GROUPS_MAX];
    let mut len = socklen(size_of_val(groups.as_slice()))?;
    // SAFETY: `groups` has room for `len` bytes and any bytes are a value of it; both outlive the
    // call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    let bytes = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidData)?;
    groups.truncate(bytes / size_of::<u32>());
    Ok(groups)
}

/// A length as socket calls take it.
fn socklen(len: usize) -> io::Result<libc::socklen_t> {
    libc::socklen_t::try_from(len).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn our_own_other_end_is_ourselves() {
        let (one, _other) = UnixStream::pair().unwrap();
        let found = peer(one.as_fd()).unwrap();
        assert_eq!(found.pid, i32::try_from(std::process::id()).unwrap());
        assert_eq!(found.uid, rustix::process::geteuid().as_raw());
        assert_eq!(found.gid, rustix::process::getegid().as_raw());
        let groups = peer_groups(one.as_fd()).unwrap();
        let ours = rustix::process::getgroups().unwrap();
        assert_eq!(
            groups,
            ours.iter().map(|gid| gid.as_raw()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_file_has_no_peer() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(peer(file.as_fd()).is_err());
        assert!(peer_groups(file.as_fd()).is_err());
    }
}
