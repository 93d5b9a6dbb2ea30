//! Every system call of this crate that has no safe wrapper.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// Gives the calling thread a new network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: no `FILES` among the flags: the thread keeps the descriptors it shares.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Gives the process, which must have one thread, a new user and a new network namespace.
pub(crate) fn unshare_user_and_network() -> io::Result<()> {
    let flags = UnshareFlags::NEWUSER | UnshareFlags::NEWNET;
    // SAFETY: no `FILES` among the flags: the process keeps the descriptors it has.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    Ok(())
}

/// Makes the child of `command` start in `namespace`.
pub(crate) fn start_in(command: &mut Command, namespace: OwnedFd) {
    let enter = move || {
        let namespace = std::os::fd::AsFd::as_fd(&namespace);
        rustix::thread::move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes one system call: it neither allocates nor
    // locks.
    unsafe { command.pre_exec(enter) };
}

/// Sends `signal` to the child of `command` when the *thread* that spawns it ends, whatever the
/// cause. Spawn from a thread that lives as long as the child should.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    let parent = rustix::process::getpid();
    let arm = move || {
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        // Who died between fork and the line above sends no signal any more.
        if rustix::process::getppid() != Some(parent) {
            return Err(rustix::io::Errno::SRCH.into());
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes two system calls: it neither allocates nor
    // locks.
    unsafe { command.pre_exec(arm) };
}

/// Makes the kernel kill this process (by SIGKILL) in so long, at whatever instruction it is then.
///
/// # Errors
///
/// If the kernel has no timer left.
pub fn die_after(time: Duration) -> io::Result<()> {
    // SAFETY: zeroes are a valid `sigevent`.
    let mut event: libc::sigevent = unsafe { mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = libc::SIGKILL;
    let mut timer: libc::timer_t = std::ptr::null_mut();
    // SAFETY: the kernel reads `event` and writes `timer`, both of which outlive the call.
    let made = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // Zero would disarm it.
    let time = time.max(Duration::from_nanos(1));
    let wanted = libc::itimerspec {
        it_interval: libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: libc::timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        },
    };
    // SAFETY: `timer` was just made, and the kernel reads `wanted`, which outlives the call.
    let set = unsafe { libc::timer_settime(timer, 0, &raw const wanted, std::ptr::null_mut()) };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes the child of `command` start as root of a new user namespace with a new network.
///
/// `files` are what is written where, in this order: `setgroups` and the two maps.
pub(crate) fn start_in_user_namespace(command: &mut Command, files: [(&'static CStr, Vec<u8>); 3]) {
    let enter = move || {
        unshare_user_and_network()?;
        for (path, text) in &files {
            let file = rustix::fs::open(*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rustix::io::write(&file, text)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls alone, with paths and texts
    // that were made before: it neither allocates nor locks.
    unsafe { command.pre_exec(enter) };
}

/// Copies an interface name into the fixed field of an `ifreq`.
fn name_field(iface: &str) -> io::Result<[libc::c_char; libc::IFNAMSIZ]> {
    let mut field = [0; libc::IFNAMSIZ];
    if iface.len() >= field.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in field.iter_mut().zip(iface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(field)
}

/// One `ETHTOOL_S*` or `ETHTOOL_G*` command with a 32-bit value, on an interface of the namespace in
/// which `socket` was made. Returns the value as the kernel left it.
pub(crate) fn ethtool(
    socket: BorrowedFd<'_>,
    iface: &str,
    command: u32,
    value: u32,
) -> io::Result<u32> {
    /// `struct ethtool_value` of linux/ethtool.h.
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    let mut value = EthtoolValue {
        command,
        data: value,
    };
    let mut request = libc::ifreq {
        ifr_name: name_field(iface)?,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut value).cast(),
        },
    };
    // SAFETY: `request` and the value it points to outlive the call, and both have the layout that
    // SIOCETHTOOL takes for a command with one value; the kernel keeps neither.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value.data)
    }
}

/// Has the kernel cut what a UDP socket sends into datagrams of so many bytes, as late as it can: `UDP_SEGMENT`.
pub(crate) fn set_udp_segment(socket: BorrowedFd<'_>, len: u16) -> io::Result<()> {
    let len = libc::c_int::from(len);
    // SAFETY: the kernel reads four bytes of `len`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            (&raw const len).cast(),
            INT_LEN,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// linux/sockios.h.
/// Has a raw ICMP socket hear one type of messages alone: `linux/icmp.h`, `linux/icmpv6.h`. A set bit keeps a type out.
pub(crate) fn hear_icmp(socket: BorrowedFd<'_>, is_v4: bool, kind: u8) -> io::Result<()> {
    /// `ICMP_FILTER` and `ICMPV6_FILTER`.
    const FILTER: libc::c_int = 1;

    let mut blocked = [u32::MAX; 8];
    blocked[usize::from(kind / 32)] &= !(1 << (kind % 32));
    let (level, words) = if is_v4 {
        (libc::SOL_RAW, 1)
    } else {
        (libc::IPPROTO_ICMPV6, blocked.len())
    };
    let len = words * size_of::<u32>();
    // At most 32.
    let len = libc::socklen_t::try_from(len).unwrap_or(0);
    // SAFETY: the kernel reads `len` bytes of `blocked`, which has as many and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            FILTER,
            blocked.as_ptr().cast(),
            len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

const SIOCETHTOOL: libc::Ioctl = 0x8946;

/// Opens a packet socket that sends and sees whole frames of the interface with this index, tags in
/// auxiliary data. It does not see what leaves by the interface.
pub(crate) fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    let protocol = libc::ETH_P_ALL.to_be_bytes();
    let protocol = u16::from_ne_bytes([protocol[2], protocol[3]]);
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: takes numbers only. Protocol 0: nothing is received before bind.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made and is owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    for option in [libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
        let on: libc::c_int = 1;
        // SAFETY: the kernel reads four bytes of `on`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                option,
                (&raw const on).cast(),
                INT_LEN,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let address = libc::sockaddr_ll {
        sll_family: AF_PACKET,
        sll_protocol: protocol,
        sll_ifindex: i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the kernel reads a whole `sockaddr_ll`, whose length is passed with it.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            SOCKADDR_LL_LEN,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(socket)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "17")]
const AF_PACKET: u16 = libc::AF_PACKET as u16;
#[expect(clippy::cast_possible_truncation, reason = "4")]
const INT_LEN: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;
#[expect(clippy::cast_possible_truncation, reason = "20")]
const SOCKADDR_LL_LEN: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

/// A VLAN tag that the kernel took out of a frame: protocol and tag control word.
pub(crate) type StrippedTag = Option<(u16, u16)>;

/// Reads one frame into `frame` without waiting; says how long it was and which tag it carried.
pub(crate) fn receive_frame(
    socket: BorrowedFd<'_>,
    frame: &mut [u8],
) -> io::Result<(usize, StrippedTag)> {
    let mut control = [0_u64; 16];
    let mut part = libc::iovec {
        iov_base: frame.as_mut_ptr().cast(),
        iov_len: frame.len(),
    };
    // SAFETY: zeroes are a valid `msghdr`: null pointers with lengths of zero.
    let mut header: libc::msghdr = unsafe { mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: the header points to one part and to a control buffer, with their lengths, and all of
    // them outlive the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled `header`, whose control buffer is still in place.
    let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    if first.is_null() {
        return Ok((len, None));
    }
    // SAFETY: not null, so it points to a whole header inside the control buffer.
    let message = unsafe { *first };
    let is_auxdata =
        message.cmsg_level == libc::SOL_PACKET && message.cmsg_type == libc::PACKET_AUXDATA;
    if !is_auxdata || message.cmsg_len < size_of::<libc::cmsghdr>() + AUXDATA_LEN {
        return Ok((len, None));
    }
    // SAFETY: `first` points to a message, so its data is inside the control buffer.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: the message is long enough for it, checked above; any bits are a value.
    let data = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
    let tag = (data.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
        let has_protocol = data.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        (
            if has_protocol {
                data.tp_vlan_tpid
            } else {
                0x8100
            },
            data.tp_vlan_tci,
        )
    });
    Ok((len, tag))
}

const AUXDATA_LEN: usize = size_of::<libc::tpacket_auxdata>();
