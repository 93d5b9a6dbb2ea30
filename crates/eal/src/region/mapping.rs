//! Memory that a part of a region lies in.

#[cfg(miri)]
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
#[cfg(miri)]
use std::ptr::NonNull;

use crate::hugepage::HUGE_PAGE;
use crate::layout::PAGE;
use crate::sys::memory::Map;
use crate::zone::Window;

/// Some mapped bytes, unmapped when dropped.
#[derive(Debug)]
pub(super) struct Mapping {
    map: Memory,
    len: usize,
}

#[cfg(not(miri))]
type Memory = Map;
#[cfg(miri)]
type Memory = Heap;

impl Mapping {
    /// Zero bytes of private memory, a page aligned. Under Miri, which knows no mapping, they come from the heap.
    pub(super) fn private(len: usize) -> io::Result<Self> {
        let len = len
            .max(1)
            .checked_next_multiple_of(PAGE)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            map: Memory::private(len)?,
            len,
        })
    }

    /// The first `len` bytes of a file that is as long, on pages of `page` bytes.
    #[cfg(not(miri))]
    pub(super) fn file(file: &File, len: usize, page: usize, write: bool) -> io::Result<Self> {
        // So that the kernel can map the huge pages that it may have made.
        let align = page.max(HUGE_PAGE);
        Ok(Self {
            map: Map::file(file.as_fd(), len, align, write)?,
            len,
        })
    }

    #[cfg(miri)]
    pub(super) fn file(file: &File, len: usize, page: usize, write: bool) -> io::Result<Self> {
        let _ = (Map::file(file.as_fd(), len, page, write)?, HUGE_PAGE);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Bytes mapped.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What the kernel can be told about it.
    #[cfg(not(miri))]
    pub(super) fn map(&self) -> Option<&Map> {
        Some(&self.map)
    }

    #[cfg(miri)]
    pub(super) fn map(&self) -> Option<&Map> {
        None
    }

    /// All of it.
    pub(super) fn window(&self) -> Window<'_> {
        // SAFETY: mapped until `self` is dropped, which the window's lifetime forbids; nothing but windows leads into it.
        unsafe { Window::from_raw(self.map.base(), self.len) }
    }
}

/// Memory from the heap.
#[cfg(miri)]
#[derive(Debug)]
struct Heap {
    base: NonNull<u8>,
    layout: Layout,
}

#[cfg(miri)]
impl Heap {
    fn private(len: usize) -> io::Result<Self> {
        let layout = Layout::from_size_align(len, PAGE).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the layout has a size: at least a page.
        let base = unsafe { alloc_zeroed(layout) };
        Ok(Self {
            base: NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?,
            layout,
        })
    }

    fn base(&self) -> NonNull<u8> {
        self.base
    }
}

#[cfg(miri)]
// SAFETY: the heap belongs to the process, not to a thread.
unsafe impl Send for Heap {}
#[cfg(miri)]
// SAFETY: `&Heap` gives an address and nothing else.
unsafe impl Sync for Heap {}

#[cfg(miri)]
impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated by `private` with this layout, and dropped once.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}
