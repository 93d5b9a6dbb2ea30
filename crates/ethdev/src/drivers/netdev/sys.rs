//! The system calls by which the kernel is asked about an interface, and told to change it. Any socket of the interface's
//! network namespace will do.

use std::ffi::{CStr, c_int};
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use crate::mac::MacAddress;

/// `IFF_UP` and the like, or `ENODEV`.
pub(crate) fn flags(fd: BorrowedFd<'_>, name: &str) -> io::Result<c_int> {
    let request = ask(fd, libc::SIOCGIFFLAGS, request(name)?)?;
    // SAFETY: SIOCGIFFLAGS has filled in the flags, and any bits are a `c_short`.
    Ok(c_int::from(unsafe { request.ifr_ifru.ifru_flags }))
}

/// Brings an interface up.
pub(crate) fn bring_up(fd: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    set_flag(fd, name, libc::IFF_UP, true)
}

/// Whether an interface gives its host frames for other addresses too.
pub(crate) fn set_promiscuous(fd: BorrowedFd<'_>, name: &str, on: bool) -> io::Result<()> {
    set_flag(fd, name, libc::IFF_PROMISC, on)
}

fn set_flag(fd: BorrowedFd<'_>, name: &str, flag: c_int, on: bool) -> io::Result<()> {
    let mut request = ask(fd, libc::SIOCGIFFLAGS, request(name)?)?;
    // SAFETY: SIOCGIFFLAGS has filled in the flags, and any bits are a `c_short`.
    let now = unsafe { request.ifr_ifru.ifru_flags };
    let flag = libc::c_short::try_from(flag).map_err(|_| io::ErrorKind::InvalidInput)?;
    request.ifr_ifru.ifru_flags = if on { now | flag } else { now & !flag };
    ask(fd, libc::SIOCSIFFLAGS, request).map(drop)
}

/// The addresses that the kernel has on an interface of this thread's network namespace.
pub(crate) fn addresses(name: &str) -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `first` is ours to be written; the list it gets is freed below.
    if unsafe { libc::getifaddrs(&raw mut first) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut next = first;
    // SAFETY: null ends the list; every other pointer in it is to an `ifaddrs`, as long as it is not freed.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: the name of an entry is a string that ends with 0.
        let owner = unsafe { CStr::from_ptr(entry.ifa_name) };
        if owner.to_bytes() == name.as_bytes() {
            // SAFETY: null, or an address that lives as long as the list.
            found.extend(unsafe { address_of(entry.ifa_addr) });
        }
        next = entry.ifa_next;
    }
    // SAFETY: the list that the kernel gave us, and nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// The address of an entry of such a list, if it is an IP address.
///
/// # Safety
///
/// `address` is null, or points to a socket address as long as its family says.
unsafe fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: as demanded of the caller.
    let family = unsafe { address.as_ref() }?.sa_family;
    match c_int::from(family) {
        libc::AF_INET => {
            // SAFETY: as demanded of the caller, and the family says that it is one.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as demanded of the caller, and the family says that it is one.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// The network namespace of a socket, by a number that no other has had.
pub(crate) fn namespace(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut len = libc::socklen_t::try_from(size_of::<u64>()).expect("eight");
    // SAFETY: the kernel writes at most `len` bytes, the size of `cookie`, into it.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
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
pub(super) fn request(name: &str) -> io::Result<libc::ifreq> {
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
