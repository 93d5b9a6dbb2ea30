//! The system calls by which the kernel is asked about an interface, and told to change it. Any socket of the interface's
//! network namespace will do.

use std::ffi::c_int;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::mac::MacAddress;

/// `IFF_UP` and the like, or `ENODEV`.
pub(crate) fn flags(fd: BorrowedFd<'_>, name: &str) -> io::Result<c_int> {
    let request = ask(fd, libc::SIOCGIFFLAGS, request(name)?)?;
    // SAFETY: SIOCGIFFLAGS has filled in the flags, and any bits are a `c_short`.
    Ok(c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
}

/// Brings an interface up.
pub(crate) fn bring_up(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let mut request = ask(fd, libc::SIOCGIFFLAGS, request(name)?)?;
    // SAFETY: SIOCGIFFLAGS has filled in the flags, and any bits are a `c_short`.
    let now = unsafe { request.ifr_ifru.ifru_flags };
    let up = libc::c_short::try_from(libc::IFF_UP).expect("IFF_UP is 1");
    request.ifr_ifru.ifru_flags = now | up;
    ask(fd, libc::SIOCSIFFLAGS, request).map(drop)
}

/// Changes how many frames wait for each queue of an interface: in a TAP, how many its reader finds.
pub(crate) fn set_queue_len(fd: BorrowedFd<'_>, name: &str, frames: u32) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_metric = c_int::try_from(frames).unwrap_or(c_int::MAX);
    ask(fd, libc::SIOCSIFTXQLEN, request).map(drop)
}

/// The largest packet of an interface, without the Ethernet header.
pub(crate) fn mtu(fd: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let request = ask(fd, libc::SIOCGIFMTU, request(name)?)?;
    // SAFETY: SIOCGIFMTU has filled in the MTU, and any bits are a `c_int`.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Changes it.
pub(crate) fn set_mtu(fd: BorrowedFd<'_>, name: &str, mtu: u16) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_mtu = c_int::from(mtu);
    ask(fd, libc::SIOCSIFMTU, request).map(drop)
}

/// The address of an interface, and whether it is an Ethernet's.
pub(crate) fn mac(fd: BorrowedFd<'_>, name: &str) -> io::Result<(MacAddress, bool)> {
    let request = ask(fd, libc::SIOCGIFHWADDR, request(name)?)?;
    // SAFETY: SIOCGIFHWADDR has filled in the address, and any bits are a `sockaddr`.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let mut octets = [0; 6];
    for (octet, raw) in octets.iter_mut().zip(address.sa_data) {
        *octet = raw.to_ne_bytes()[0];
    }
    let ethernet = [libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&address.sa_family);
    Ok((MacAddress(octets), ethernet))
}

/// Changes it.
pub(crate) fn set_mac(fd: BorrowedFd<'_>, name: &str, mac: MacAddress) -> io::Result<()> {
    let mut request = request(name)?;
    let mut address = libc::sockaddr {
        sa_family: libc::ARPHRD_ETHER,
        sa_data: [0; 14],
    };
    for (raw, octet) in address.sa_data.iter_mut().zip(mac.0) {
        *raw = libc::c_char::from_ne_bytes([octet]);
    }
    request.ifr_ifru.ifru_hwaddr = address;
    ask(fd, libc::SIOCSIFHWADDR, request).map(drop)
}

/// A request about the interface `name`, all else zero.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zero is an empty name and a zero in every variant of the union: integers and raw pointers.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (raw, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *raw = libc::c_char::from_ne_bytes([byte]);
    }
    Ok(request)
}

fn ask(fd: BorrowedFd<'_>, what: libc::Ioctl, mut request: libc::ifreq) -> io::Result<libc::ifreq> {
    // SAFETY: the requests of this file read and write one `ifreq`, and `request` is one that lives through the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), what, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(request)
}
