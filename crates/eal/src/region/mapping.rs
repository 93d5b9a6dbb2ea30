//! Memory that a region lies in.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;

use crate::layout::PAGE;
use crate::zone::Window;

/// Some mapped bytes, zero at first, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: nobody but the owner unmaps it, and what it lends out are windows, which are `Send`.
unsafe impl Send for Mapping {}
// SAFETY: what it lends out are windows, which are `Sync`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private memory, a page aligned.
    pub(crate) fn private(len: usize) -> io::Result<Self> {
        let layout = Self::layout(len)?;
        // SAFETY: the layout has a size: at least a page.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            base,
            len: layout.size(),
        })
    }

    fn layout(len: usize) -> io::Result<Layout> {
        let len = len
            .max(1)
            .checked_next_multiple_of(PAGE)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        Layout::from_size_align(len, PAGE).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// All of it.
    pub(crate) fn window(&self) -> Window<'_> {
        // SAFETY: mapped until `self` is dropped, which the window's lifetime forbids; nothing else points into it.
        unsafe { Window::from_raw(self.base, self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let Ok(layout) = Self::layout(self.len) else {
            return;
        };
        // SAFETY: allocated by `private` with this layout, and dropped once.
        unsafe { dealloc(self.base.as_ptr(), layout) };
    }
}
