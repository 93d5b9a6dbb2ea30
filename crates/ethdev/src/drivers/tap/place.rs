//! The network namespace that a port's interface lies in.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use rustix::fs::{Mode, OFlags, fstat, open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::drivers::netdev;

/// A network namespace, as the thread that opened the port saw it.
#[derive(Debug)]
pub(super) struct Place {
    /// Of another one than the thread's own.
    other: Option<File>,
    /// What tells it from others while it lives.
    identity: (u64, u64),
}

impl Place {
    /// The one behind `path`, or that of this thread.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Self> {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let here = identity(fs::metadata("/proc/thread-self/ns/net")?);
        let Some(path) = path else {
            return Ok(Self {
                other: None,
                identity: here,
            });
        };
        let file = File::open(path)?;
        let there = identity(file.metadata()?);
        Ok(Self {
            other: (there != here).then_some(file),
            identity: there,
        })
    }

    /// A descriptor of `/dev/net/tun`, and so of an interface of this namespace once it is attached.
    pub(super) fn open_tun(&self) -> io::Result<OwnedFd> {
        self.inside(|| {
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            Ok(open(super::DEVICE, flags, Mode::empty())?)
        })
    }

    /// A socket for questions about interfaces there.
    pub(super) fn socket(&self) -> io::Result<OwnedFd> {
        self.inside(netdev::socket)
    }

    /// Whether this descriptor, of a namespace, is of this one.
    pub(super) fn is(&self, namespace: BorrowedFd<'_>) -> bool {
        fstat(namespace).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.identity)
    }

    /// Runs `f` where what it opens belongs there.
    fn inside<T: Send>(&self, f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let Some(namespace) = &self.other else {
            return f();
        };
        // On a thread of its own, which ends there: nobody else is moved.
        thread::scope(|scope| {
            let run = || {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
                f()
            };
            let inside = thread::Builder::new().spawn_scoped(scope, run)?;
            inside
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread inside it panicked")))
        })
    }
}
