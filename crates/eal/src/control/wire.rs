//! One message on a socket, with its descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::DESCRIPTORS_MAX;

/// A message as it came, from whomever.
#[derive(Debug)]
pub(super) struct Received {
    /// Empty: the other end has closed the connection.
    pub(super) bytes: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Sends one message without waiting: all of it, or an error.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[OwnedFd],
) -> Result<(), Errno> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut attached = SendAncillaryBuffer::new(&mut room);
    if !descriptors.is_empty() && !attached.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(Errno::TOOMANYREFS);
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(bytes)], &mut attached, flags).map(|_| ())
}

/// Reads one message of at most `len_max` bytes without waiting. One that is longer comes as a
/// single byte, which is no frame. Descriptors beyond [`DESCRIPTORS_MAX`] are closed by the kernel.
pub(super) fn receive(socket: BorrowedFd<'_>, len_max: usize) -> io::Result<Received> {
    // One byte more than a message may have shows what is too long.
    let mut bytes = vec![0; len_max + 1];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut attached = RecvAncillaryBuffer::new(&mut room);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut attached,
        flags,
    )?;
    let mut descriptors = Vec::new();
    for part in attached.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    bytes.truncate(message.bytes);
    if message.flags.contains(ReturnFlags::TRUNC) || bytes.len() > len_max {
        bytes.truncate(1);
    }
    Ok(Received { bytes, descriptors })
}

/// Whether a call that would have waited, or was interrupted, is to be made again later.
pub(super) fn is_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// A text of somebody else, fit for a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    const LEN_MAX: usize = 200;
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(LEN_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_others_are_short_and_without_control_characters() {
        assert_eq!(printable(b"no\x1b[2J\n\xffthing"), "no[2J\u{fffd}thing");
        assert_eq!(printable(&[b'x'; 999]).len(), 200);
    }
}
