//! Every `ioctl` of this driver. Reading and writing need none of their own.

use std::ffi::{c_int, c_short, c_uint};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// What every queue of ours is: whole frames, a `virtio_net_hdr` before each, one of several.
const KIND: c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_MULTI_QUEUE;

/// Attaches a descriptor of `/dev/net/tun` to an interface as one more queue. `new` is an error if there is one, else it is
/// made if there is none.
pub(super) fn attach(fd: BorrowedFd<'_>, name: &str, new: bool) -> io::Result<()> {
    attach_as(fd, name, KIND | if new { libc::IFF_TUN_EXCL } else { 0 })
}

/// The same for a queue of any kind.
pub(super) fn attach_as(fd: BorrowedFd<'_>, name: &str, flags: c_int) -> io::Result<()> {
    interface_request(fd, libc::TUNSETIFF, name, flags).map(drop)
}

/// Takes a queue out of those that the kernel spreads frames over, in all processes that have it. It can neither receive nor
/// send any more, and keeps its interface alive.
pub(super) fn detach(fd: BorrowedFd<'_>) -> io::Result<()> {
    interface_request(fd, libc::TUNSETQUEUE, "", libc::IFF_DETACH_QUEUE).map(drop)
}

/// The name of the interface that a descriptor is a queue of, and whether the queue is as ours are.
pub(super) fn attached_to(fd: BorrowedFd<'_>) -> io::Result<(String, bool)> {
    let request = interface_request(fd, libc::TUNGETIFF, "", 0)?;
    // SAFETY: TUNGETIFF has filled in the flags, and any bits are a `c_short`.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let flags = c_int::from(flags.cast_unsigned());
    let name = request.ifr_name.iter().map(|raw| raw.to_ne_bytes()[0]);
    let name: Vec<u8> = name.take_while(|byte| *byte != 0).collect();
    let header_len = number(fd, libc::TUNGETVNETHDRSZ)?;
    let as_ours = flags & KIND == KIND && usize::try_from(header_len) == Ok(super::HEADER_LEN);
    Ok((String::from_utf8_lossy(&name).into_owned(), as_ours))
}

/// Says how long the `virtio_net_hdr` is.
pub(super) fn set_header_len(fd: BorrowedFd<'_>, len: usize) -> io::Result<()> {
    let mut len = c_int::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: TUNSETVNETHDRSZ reads one `c_int`, which lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw mut len) }).map(drop)
}

/// Has the interface's host leave checksums and cutting to us: `flags` of `TUN_F_...`.
pub(super) fn set_offloads(fd: BorrowedFd<'_>, flags: c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes a number and touches no memory.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, flags) }).map(drop)
}

/// Whether the interface stays when its last descriptor is closed.
pub(super) fn set_persistent(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes a number and touches no memory.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETPERSIST, c_int::from(on)) }).map(drop)
}

/// Has the interface drop every frame of its host's instead of giving it to a queue, or none.
pub(super) fn drop_everything(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    // `ret #0`: keep no byte of the frame.
    let mut program = [libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let mut program = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    let what = if on {
        libc::TUNATTACHFILTER
    } else {
        libc::TUNDETACHFILTER
    };
    // SAFETY: TUNATTACHFILTER reads a `sock_fprog` and the one instruction behind it, both of which live through the call;
    // TUNDETACHFILTER reads nothing.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), what, &raw mut program) }).map(drop)
}

/// The network namespace in which the interface of an attached descriptor lies. Needs CAP_NET_ADMIN there.
pub(super) fn namespace_of(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: TUNGETDEVNETNS takes no argument and touches no memory.
    let namespace: RawFd = check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETDEVNETNS) })?;
    // SAFETY: the call has just opened it for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(namespace) })
}

/// A request with a name and flags, and what came back.
fn interface_request(
    fd: BorrowedFd<'_>,
    what: libc::Ioctl,
    name: &str,
    flags: c_int,
) -> io::Result<libc::ifreq> {
    // SAFETY: all zero is an empty name and a zero in every variant of the union: integers and raw pointers.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (raw, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *raw = libc::c_char::from_ne_bytes([byte]);
    }
    let flags = u16::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?;
    request.ifr_ifru.ifru_flags = c_short::from_ne_bytes(flags.to_ne_bytes());
    // SAFETY: TUNSETIFF, TUNGETIFF and TUNSETQUEUE read and write one `ifreq`, and `request` is one that lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), what, &raw mut request) })?;
    Ok(request)
}

fn number(fd: BorrowedFd<'_>, what: libc::Ioctl) -> io::Result<c_int> {
    let mut number: c_int = 0;
    // SAFETY: the one request that comes here, TUNGETVNETHDRSZ, writes one `c_int`.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), what, &raw mut number) })?;
    Ok(number)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
