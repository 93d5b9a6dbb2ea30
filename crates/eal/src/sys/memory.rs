//! Mapped memory, and what the kernel can be told about it.

use std::ffi::c_void;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

/// Of `linux/mman.h`, since 6.1.
const MADV_COLLAPSE: i32 = 25;
/// Of `linux/mempolicy.h`.
const MPOL_F_NODE: usize = 1 << 0;
/// Of `linux/mempolicy.h`.
const MPOL_F_ADDR: usize = 1 << 1;

/// Mapped bytes, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Map {
    base: NonNull<c_void>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread, and only its owner unmaps it.
unsafe impl Send for Map {}
// SAFETY: `&Map` gives an address and advice to the kernel, nothing that threads could race for.
unsafe impl Sync for Map {}

impl Map {
    /// Zero bytes that this process alone sees.
    pub(crate) fn private(len: usize) -> io::Result<Self> {
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe { mm::mmap_anonymous(std::ptr::null_mut(), len, access, flags) }?;
        Self::new(base, len)
    }

    /// The first `len` bytes of a file, at an address of the kernel's choice that is a multiple of `align`. A forked child does
    /// not get them.
    pub(crate) fn file(
        file: BorrowedFd<'_>,
        len: usize,
        align: usize,
        write: bool,
    ) -> io::Result<Self> {
        // A larger piece is sure to contain an aligned one.
        let around = len.checked_add(align).ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base =
            unsafe { mm::mmap_anonymous(std::ptr::null_mut(), around, ProtFlags::empty(), flags) }?;
        let reserved = Self::new(base, around)?;
        let start = reserved.address().next_multiple_of(align);
        let before = start - reserved.address();
        let at = base.wrapping_byte_add(before);
        let access = if write {
            ProtFlags::READ | ProtFlags::WRITE
        } else {
            ProtFlags::READ
        };
        // SAFETY: `[at, at + len)` lies in the piece just reserved, where nothing else is.
        let base =
            unsafe { mm::mmap(at, len, access, MapFlags::SHARED | MapFlags::FIXED, file, 0) }?;
        reserved.keep(before, len);
        let map = Self::new(base, len)?;
        map.advise(Advice::LinuxDontFork)?;
        Ok(map)
    }

    fn new(base: *mut c_void, len: usize) -> io::Result<Self> {
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    /// Unmaps all but the `len` bytes at `offset`, which are another `Map`'s from now on.
    fn keep(self, offset: usize, len: usize) {
        let end = offset + len;
        for (start, len) in [(0, offset), (end, self.len.saturating_sub(end))] {
            if len > 0 {
                // Dropped at once, which unmaps it.
                drop(Self::new(self.base.as_ptr().wrapping_byte_add(start), len));
            }
        }
        std::mem::forget(self);
    }

    /// Where it starts.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base.cast()
    }

    /// Bytes of it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    fn address(&self) -> usize {
        self.base.addr().get()
    }

    /// Has the kernel find every page now: an error where there is none, not a signal later.
    pub(crate) fn populate(&self, write: bool) -> io::Result<()> {
        self.advise(if write {
            Advice::LinuxPopulateWrite
        } else {
            Advice::LinuxPopulateRead
        })
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is this mapping; the advices used here change no byte of it.
        unsafe { mm::madvise(self.base.as_ptr(), self.len, advice) }?;
        Ok(())
    }

    /// Has the kernel put the bytes `[offset, offset + len)` on huge pages, if it can.
    pub(crate) fn collapse(&self, offset: usize, len: usize) -> io::Result<()> {
        self.contains(offset, len)?;
        let start = self.base.as_ptr().wrapping_byte_add(offset);
        // SAFETY: the range lies in this mapping, checked above; its bytes stay as they are.
        let outcome = unsafe { libc::madvise(start, len, MADV_COLLAPSE) };
        if outcome == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Refuses a range that leaves the mapping; its end.
    fn contains(&self, offset: usize, len: usize) -> io::Result<usize> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len);
        end.ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// The NUMA node of the page at `offset`.
    pub(crate) fn node_at(&self, offset: usize) -> io::Result<u32> {
        if offset >= self.len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let address = self.base.as_ptr().wrapping_byte_add(offset);
        let mut node = 0_i32;
        // SAFETY: the kernel writes one `int`, which outlives the call, and no mask, since there is none.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                &raw mut node,
                std::ptr::null_mut::<c_void>(),
                0_usize,
                address,
                MPOL_F_NODE | MPOL_F_ADDR,
            )
        };
        if outcome != 0 {
            return Err(io::Error::last_os_error());
        }
        u32::try_from(node).map_err(|_| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: made by `new` from a mapping of this length that nobody else unmaps; whoever borrowed it borrowed `self`.
        let _ = unsafe { mm::munmap(self.base.as_ptr(), self.len) };
    }
}
