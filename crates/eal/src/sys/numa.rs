//! On which NUMA node the kernel puts the new memory of a thread.

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;

/// Of `linux/mempolicy.h`.
const MPOL_DEFAULT: i32 = 0;
/// Of `linux/mempolicy.h`.
const MPOL_PREFERRED: i32 = 1;
/// Of `linux/mempolicy.h`.
const MPOL_BIND: i32 = 2;

const WORDS: usize = 16;
/// Nodes that the masks here can name: the most that a kernel is built for.
pub(crate) const NODES_MAX: u32 = 64 * 16;

/// Where new memory of a thread goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Policy {
    mode: i32,
    nodes: [u64; WORDS],
}

impl Policy {
    fn one(mode: i32, node: u32) -> io::Result<Self> {
        let mut nodes = [0; WORDS];
        let (word, bit) = ((node / 64) as usize, node % 64);
        *nodes.get_mut(word).ok_or(io::ErrorKind::InvalidInput)? = 1 << bit;
        Ok(Self { mode, nodes })
    }

    /// That of the calling thread.
    fn current() -> io::Result<Self> {
        let (mut mode, mut nodes) = (0_i32, [0_u64; WORDS]);
        // SAFETY: the kernel writes one `int` and as many bits as are announced; both outlive the call.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                &raw mut mode,
                nodes.as_mut_ptr(),
                NODES_MAX as usize,
                std::ptr::null_mut::<c_void>(),
                0_usize,
            )
        };
        answer(outcome)?;
        Ok(Self { mode, nodes })
    }

    /// Makes it that of the calling thread.
    fn set(&self) -> io::Result<()> {
        // SAFETY: the kernel reads the bits that are announced (one more than is read, as this call counts), which outlive the
        // call. No byte of memory changes.
        let outcome = unsafe {
            libc::syscall(
                libc::SYS_set_mempolicy,
                self.mode,
                self.nodes.as_ptr(),
                NODES_MAX as usize + 1,
            )
        };
        answer(outcome)
    }
}

fn answer(outcome: libc::c_long) -> io::Result<()> {
    if outcome == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// While it lives, new memory of the thread that made it goes to one node; then where it went before.
#[derive(Debug)]
pub(crate) struct OnNode {
    before: Policy,
    /// It is the thread's: not to be dropped by another.
    of_thread: PhantomData<*const ()>,
}

impl OnNode {
    /// To this node and no other.
    pub(crate) fn only(node: u32) -> io::Result<Self> {
        let before = Policy::current()?;
        Policy::one(MPOL_BIND, node)?.set()?;
        Ok(Self {
            before,
            of_thread: PhantomData,
        })
    }

    /// To this node while it has room. `None` if somebody has said already where this thread's memory goes, as `numactl` does.
    pub(crate) fn rather(node: u32) -> io::Result<Option<Self>> {
        let before = Policy::current()?;
        if before.mode != MPOL_DEFAULT {
            return Ok(None);
        }
        Policy::one(MPOL_PREFERRED, node)?.set()?;
        Ok(Some(Self {
            before,
            of_thread: PhantomData,
        }))
    }
}

impl Drop for OnNode {
    fn drop(&mut self) {
        // It was this thread's a moment ago, so the kernel takes it again.
        let _ = self.before.set();
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    /// Every machine with a kernel for NUMA has a node 0.
    #[test]
    fn thread_gets_its_policy_back() {
        let Ok(before) = Policy::current() else {
            return;
        };
        let on_node = OnNode::only(0).unwrap();
        assert_eq!(Policy::current().unwrap().mode, MPOL_BIND);
        assert!(OnNode::rather(0).unwrap().is_none(), "somebody has said");
        drop(on_node);
        assert_eq!(Policy::current().unwrap(), before);
        assert!(OnNode::only(NODES_MAX - 1).is_err());
        assert!(OnNode::only(NODES_MAX).is_err());
        assert_eq!(Policy::current().unwrap(), before);
    }
}
