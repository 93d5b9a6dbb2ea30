//! Who is at the other end of a Unix socket.
//!
//! Not through `rustix`: its credentials hold a process id that cannot be zero, and the kernel
//! says zero for a process in another PID namespace.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

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

/// The process at the other end.
#[derive(Debug)]
pub(crate) enum PeerProcess {
    /// A pidfd that becomes readable when it is dead.
    Alive(OwnedFd),
    /// It is dead, and another process keeps its socket.
    Dead,
    /// The kernel does not tell.
    Unknown,
}

/// The process that connected, or that listened: not who else may have the socket by now.
pub(crate) fn peer_process(socket: BorrowedFd<'_>, peer: Peer) -> PeerProcess {
    let found = match peer_pidfd(socket) {
        Ok(pidfd) => Ok(pidfd),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return PeerProcess::Dead,
        // A kernel before 6.5, or, before 6.14, a process that is no more. If the number is another
        // process's by now, then the one that we mean is dead, and its socket closed or a child's.
        Err(_) => match Pid::from_raw(peer.pid) {
            Some(pid) => pidfd_open(pid, PidfdFlags::empty()),
            None => return PeerProcess::Unknown,
        },
    };
    match found {
        Ok(pidfd) if is_dead(&pidfd) => PeerProcess::Dead,
        Ok(pidfd) => PeerProcess::Alive(pidfd),
        Err(Errno::SRCH) => PeerProcess::Dead,
        Err(_) => PeerProcess::Unknown,
    }
}

fn is_dead(pidfd: &OwnedFd) -> bool {
    let mut source = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut source, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// A pidfd of the peer, from kernels that give one.
fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut found: libc::c_int = -1;
    let mut len = socklen(size_of::<libc::c_int>())?;
    // SAFETY: `found` has room for `len` bytes and any bytes are a value of it; both outlive the
    // call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut found).cast(),
            &raw mut len,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    if found < 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: the kernel has just opened it for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(found) })
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
    fn a_peer_that_lives_has_a_pidfd_that_is_not_ready() {
        let (one, _other) = UnixStream::pair().unwrap();
        let found = peer(one.as_fd()).unwrap();
        for process in [
            peer_process(one.as_fd(), found),
            // As on a kernel that gives no pidfd for a socket.
            peer_process(std::fs::File::open("/dev/null").unwrap().as_fd(), found),
        ] {
            let PeerProcess::Alive(pidfd) = process else {
                panic!("{process:?}");
            };
            assert!(!is_dead(&pidfd));
        }
        let nobody = Peer { pid: 0, ..found };
        let file = std::fs::File::open("/dev/null").unwrap();
        let unknown = peer_process(file.as_fd(), nobody);
        assert!(matches!(unknown, PeerProcess::Unknown), "{unknown:?}");
    }

    #[test]
    fn a_peer_that_is_dead_is_so_though_a_child_keeps_its_socket() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = Peer {
            pid: i32::try_from(child.id()).unwrap(),
            uid: 0,
            gid: 0,
        };
        let file = std::fs::File::open("/dev/null").unwrap();
        // Dead and not yet waited for, then gone.
        while !matches!(peer_process(file.as_fd(), dead), PeerProcess::Dead) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        child.wait().unwrap();
        let gone = peer_process(file.as_fd(), dead);
        assert!(matches!(gone, PeerProcess::Dead), "{gone:?}");
    }

    #[test]
    fn a_file_has_no_peer() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(peer(file.as_fd()).is_err());
        assert!(peer_groups(file.as_fd()).is_err());
    }
}
