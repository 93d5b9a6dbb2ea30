//! Every system call of the sockets of this driver that needs one of its own, and the rings that they share with the kernel.
//!
//! [`Mapping`] is one ring of a socket. The kernel writes it while we look, and so may any process that holds the
//! descriptor: all of it is read and written as atomics, nothing is borrowed as anything else.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::slice;

use eal::sync::{AtomicU32, AtomicU64};
use mbuf::Pool;
use rustix::net::sockopt;
use rustix::net::xdp::{XdpUmemReg, XdpUmemRegFlags};

/// One ring of a socket, as this process maps it.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: an address in a mapping that every thread of the process sees; what is read there is atomic.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of the ring of `fd` that lies at `page_offset`; the kernel refuses more than it has.
    pub(super) fn new(fd: BorrowedFd<'_>, page_offset: u64, len: usize) -> io::Result<Self> {
        let offset = libc::off_t::try_from(page_offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_POPULATE,
        );
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                protection,
                flags,
                fd.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Self {
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?,
            len,
        };
        // A forked child has no business in the ring, and its copy would keep the socket. Best effort, as it is for the child alone.
        // SAFETY: exactly the range that was mapped above.
        let _ = unsafe { libc::madvise(start, len, libc::MADV_DONTFORK) };
        Ok(mapping)
    }

    /// The word of four bytes at `offset`, if it lies in the ring.
    #[inline]
    pub(super) fn word(&self, offset: usize) -> Option<&AtomicU32> {
        let fits = offset.is_multiple_of(4) && offset.checked_add(4)? <= self.len;
        // SAFETY: inside the mapping, as just checked.
        let at = fits.then(|| unsafe { self.start.add(offset) })?;
        // SAFETY: mapped as long as `self` lives, aligned by four, and any bits are an `AtomicU32`.
        Some(unsafe { at.cast().as_ref() })
    }

    /// `count` words of eight bytes from `offset` on, if they lie in the ring.
    #[inline]
    pub(super) fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let len = count.checked_mul(8)?;
        let fits = offset.is_multiple_of(8) && offset.checked_add(len)? <= self.len;
        // SAFETY: inside the mapping, as just checked.
        let at = fits.then(|| unsafe { self.start.add(offset) })?;
        // SAFETY: `count` words are mapped there as long as `self` lives, aligned by eight, and any bits are an `AtomicU64`.
        Some(unsafe { slice::from_raw_parts(at.cast().as_ptr(), count) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; every reference into it borrowed `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Registers the frames of a pool as the memory of a socket: they are pinned until the socket is gone.
pub(super) fn register(fd: BorrowedFd<'_>, pool: Pool) -> io::Result<()> {
    let (start, len) = pool.frames();
    // The kernel writes into what is tagged as the queue's, and into nothing else: so `mbuf` demands.
    sockopt::set_xdp_umem_reg(
        fd,
        XdpUmemReg {
            addr: start.as_ptr().expose_provenance() as u64,
            len: len as u64,
            chunk_size: pool.data_room().into(),
            headroom: 0,
            flags: XdpUmemRegFlags::empty(),
            tx_metadata_len: 0,
        },
    )?;
    Ok(())
}

/// Whether the kernel works on the frames in place.
pub(super) fn is_zero_copy(fd: BorrowedFd<'_>) -> bool {
    use rustix::net::xdp::XdpOptionsFlags;
    sockopt::xdp_options(fd)
        .is_ok_and(|flags| flags.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY))
}

/// Has the kernel look after the queue when we ask for packets, `budget` at a time, and not by interrupts.
pub(super) fn prefer_busy_poll(fd: BorrowedFd<'_>, budget: u16) -> io::Result<()> {
    /// Microseconds that a call may look: what DPDK takes.
    const TIME_US: c_int = 20;
    set_option(fd, libc::SO_PREFER_BUSY_POLL, 1)?;
    set_option(fd, libc::SO_BUSY_POLL, TIME_US)?;
    set_option(fd, libc::SO_BUSY_POLL_BUDGET, c_int::from(budget))
}

/// Lets so many bytes be under way in the kernel, as it counts them: beyond the system's limit with CAP_NET_ADMIN.
pub(super) fn set_send_room(fd: BorrowedFd<'_>, bytes: c_int) -> io::Result<()> {
    set_option(fd, libc::SO_SNDBUFFORCE, bytes).or_else(|_| set_option(fd, libc::SO_SNDBUF, bytes))
}

fn set_option(fd: BorrowedFd<'_>, name: c_int, value: c_int) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<c_int>()).expect("four");
    // SAFETY: the kernel reads `len` bytes of `value`, which are all of it, during the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw const value).cast(),
            len,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
