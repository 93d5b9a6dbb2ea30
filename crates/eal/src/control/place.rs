//! Where the control socket lies, also where its path is longer than a socket address.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The names of the socket in the directory of its group; the new one is for the time before it listens, so that nobody finds it
/// deaf.
pub(super) use crate::directory::SOCKET;
use crate::directory::SOCKET_NEW as FRESH;

/// Connections that the kernel keeps for us before we take them.
const BACKLOG: i32 = 128;

/// The directory of a group.
#[derive(Debug)]
pub(super) struct Place {
    dir: OwnedFd,
    path: PathBuf,
}

impl Place {
    /// Opens the directory.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(dir, flags, Mode::empty())?;
        Ok(Self {
            dir: opened,
            path: dir.to_owned(),
        })
    }

    /// Where the socket lies, for messages.
    pub(super) fn socket_path(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The address of a name in the directory. A path that is too long for one goes by way of our
    /// descriptor, so `self` must live while the address is used.
    fn address(&self, name: &str) -> io::Result<SocketAddrUnix> {
        SocketAddrUnix::new(self.path.join(name)).or_else(|_| {
            let short = format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd());
            Ok(SocketAddrUnix::new(short)?)
        })
    }

    /// Connects to who listens there; never blocks.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        let socket = socket()?;
        rustix::net::connect(&socket, &self.address(SOCKET)?)?;
        Ok(socket)
    }

    /// Listens there, in place of whatever lay there, for this user and the Unix group `gid`.
    pub(super) fn listen(&self, gid: Option<u32>) -> io::Result<OwnedFd> {
        let socket = socket()?;
        // The name gets the socket's own mode, so that it is never open to more than it should be.
        rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        self.remove(FRESH)?;
        rustix::net::bind(&socket, &self.address(FRESH)?)?;
        if let Some(gid) = gid {
            let gid = Some(Gid::from_raw(gid));
            rustix::fs::chownat(self.fd(), FRESH, None, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP;
            rustix::fs::chmodat(self.fd(), FRESH, mode, AtFlags::empty())?;
        }
        rustix::net::listen(&socket, BACKLOG)?;
        rustix::fs::renameat(self.fd(), FRESH, self.fd(), SOCKET)?;
        Ok(socket)
    }

    /// Removes the socket's name.
    pub(super) fn unlink(&self) -> io::Result<()> {
        self.remove(SOCKET)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(self.fd(), name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A socket that keeps messages apart and carries descriptors.
fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::SEQPACKET;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        kind,
        flags,
        None,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn a_socket_is_reached_however_long_its_path_is() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["short", &"long".repeat(60)] {
            let path = dir.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let place = Place::open(&path).unwrap();
            let _listening = place.listen(None).unwrap();
            assert!(path.join(SOCKET).exists());
            assert!(place.connect().is_ok(), "{name}");
            place.unlink().unwrap();
            place.unlink().unwrap();
            assert!(!path.join(SOCKET).exists());
            assert!(place.connect().is_err());
        }
    }

    #[test]
    fn the_socket_is_open_to_its_user_or_to_the_group_given() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::open(dir.path()).unwrap();
        let mode = || {
            let found = std::fs::metadata(dir.path().join(SOCKET)).unwrap();
            (found.permissions().mode() & 0o777, found.gid())
        };
        let _alone = place.listen(None).unwrap();
        assert_eq!(mode().0, 0o600);
        let ours = rustix::process::getegid().as_raw();
        let _shared = place.listen(Some(ours)).unwrap();
        assert_eq!(mode(), (0o660, ours));
        assert!(!dir.path().join(FRESH).exists());
    }
}
