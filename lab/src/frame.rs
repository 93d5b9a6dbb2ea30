//! Raw frames in and out of an interface.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;

use crate::{Error, Host, sys};

/// The longest frame that is read whole.
const FRAME_MAX: usize = 1 << 17;
/// A VLAN tag.
const TAG_LEN: usize = 4;

/// Sends frames by an interface as they are and sees what comes in by it, VLAN tags put back where
/// they were. What other programs send by the interface it does not see.
#[derive(Debug)]
pub struct FrameSocket {
    socket: OwnedFd,
}

impl FrameSocket {
    /// Opens it on an interface of `host`.
    ///
    /// # Errors
    ///
    /// If there is no such interface.
    pub fn open(host: &Host, iface: &str) -> Result<Self, Error> {
        let index = host.index(iface)?;
        let socket = host.run(|| sys::packet_socket(index))?.map_err(|source| {
            host.refused(
                &format!("open a packet socket on {iface}"),
                "run this as root or in a user namespace",
                source,
            )
        })?;
        Ok(Self { socket })
    }

    /// Sends one frame, Ethernet header first.
    ///
    /// # Errors
    ///
    /// If it is too long, or the interface is down.
    pub fn send(&self, frame: &[u8]) -> Result<(), Error> {
        match rustix::net::send(&self.socket, frame, SendFlags::empty()) {
            Ok(_) => Ok(()),
            Err(errno) => {
                let what = format!("send a frame of {} bytes", frame.len());
                Err(Error::Traffic {
                    what,
                    source: errno.into(),
                })
            }
        }
    }

    /// Waits for the next frame, at most until `wait` is over.
    ///
    /// # Errors
    ///
    /// If the interface is gone.
    pub fn receive(&self, wait: Duration) -> Result<Option<Vec<u8>>, Error> {
        let mut frame = vec![0; FRAME_MAX + TAG_LEN];
        let len = self.receive_in(&mut frame, wait)?;
        Ok(len.map(|len| {
            frame.truncate(len);
            frame
        }))
    }

    /// The same into a buffer of the caller's, for those who want many frames; says how long it is.
    /// What `frame` has no room for is cut off.
    ///
    /// # Errors
    ///
    /// If the interface is gone.
    pub fn receive_in(&self, frame: &mut [u8], wait: Duration) -> Result<Option<usize>, Error> {
        let failed = |source| Error::Traffic {
            what: "receive a frame".into(),
            source,
        };
        let until = Instant::now() + wait;
        let room = frame.len().saturating_sub(TAG_LEN);
        loop {
            match sys::receive_frame(self.socket.as_fd(), &mut frame[..room]) {
                Ok((len, None)) => return Ok(Some(len)),
                Ok((len, Some((protocol, control)))) => {
                    let at = len.min(12);
                    frame.copy_within(at..len, at + TAG_LEN);
                    frame[at..at + 2].copy_from_slice(&protocol.to_be_bytes());
                    frame[at + 2..at + TAG_LEN].copy_from_slice(&control.to_be_bytes());
                    return Ok(Some(len + TAG_LEN));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(error)),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left = Timespec::try_from(left).ok();
            let mut ready = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut ready, left.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }
}
