//! Every system call of this driver, and the memory that it shares with the kernel.
//!
//! [`Mapping`] is a packet socket's receive ring. The kernel writes it while we look, and so may any process that holds
//! the descriptor: words are read as atomics, bytes are copied out, nothing is borrowed.

use std::ffi::c_int;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::AtomicU32;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::drivers::vnet::VNET_HEADER_LEN;

/// Since Linux 6.2; older kernels ignore the bit.
const FANOUT_IGNORE_OUTGOING: u32 = 0x4000;

/// How a receive ring is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes of a block; a multiple of the page size.
    pub block_len: u32,
    /// Blocks.
    pub block_count: u32,
    /// What the kernel checks a block against, and no more: frames lie in it one behind the other, each as long as it is.
    pub frame_len: u32,
    /// Milliseconds after which a block that is not full is handed over.
    pub retire_ms: u32,
}

impl Geometry {
    /// Whether a ring can be cut so: blocks of whole words, at least two of them, all of it mappable.
    pub(super) fn is_sound(self) -> bool {
        let total = u64::from(self.block_len) * u64::from(self.block_count);
        self.block_len >= 4096
            && self.block_len.is_multiple_of(4096)
            && self.block_count >= 2
            && total <= 1 << 31
    }

    /// Bytes of the whole ring.
    pub(super) fn len(self) -> usize {
        self.block_len as usize * self.block_count as usize
    }
}

/// A packet socket that receives nothing yet: bound to no protocol.
pub(super) fn packet_socket() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

/// Gives a new socket its receive ring of version 3, with a `virtio_net_hdr` before each frame.
pub(super) fn set_rx_ring(fd: BorrowedFd<'_>, geometry: Geometry) -> io::Result<()> {
    let version: c_int = libc::tpacket_versions::TPACKET_V3 as c_int;
    set_option(fd, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
    // Before the ring: afterwards the kernel refuses.
    set_option::<c_int>(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
    let request = libc::tpacket_req3 {
        tp_block_size: geometry.block_len,
        tp_block_nr: geometry.block_count,
        tp_frame_size: geometry.frame_len,
        tp_frame_nr: geometry.block_len / geometry.frame_len * geometry.block_count,
        tp_retire_blk_tov: geometry.retire_ms,
        tp_sizeof_priv: 0,
        tp_feature_req_word: libc::TP_FT_REQ_FILL_RXHASH,
    };
    set_option(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
}

/// Has frames that leave through the interface passed over: two ports of one forwarder would feed each other.
pub(super) fn ignore_outgoing(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option::<c_int>(fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)
}

/// Makes a socket ready to send: `virtio_net_hdr` before each frame, room for `room` bytes under way.
pub(super) fn prepare_tx(fd: BorrowedFd<'_>, qdisc_bypass: bool, room: c_int) -> io::Result<()> {
    set_option::<c_int>(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
    set_option(
        fd,
        libc::SOL_PACKET,
        libc::PACKET_QDISC_BYPASS,
        &c_int::from(qdisc_bypass),
    )?;
    // Beyond the system's limit with CAP_NET_ADMIN, up to it without.
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &room)
        .or_else(|_| set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, &room))
}

/// Binds to an interface: to every protocol for a socket that receives, to none for one that only sends.
pub(super) fn bind(fd: BorrowedFd<'_>, ifindex: u32, receive: bool) -> io::Result<()> {
    let protocol = if receive { libc::ETH_P_ALL } else { 0 };
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).expect("AF_PACKET is 17"),
        sll_protocol: u16::try_from(protocol)
            .expect("protocols have 16 bits")
            .to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_as_socklen::<libc::sockaddr_ll>();
    // SAFETY: the kernel reads `len` bytes of `address`, which are all of it, during the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) })
}

/// What a packet socket is bound to: the number of the interface, -1 once that is gone, and whether it is to every protocol
/// ([`bind`] with `receive`).
pub(super) fn bound_to(fd: BorrowedFd<'_>) -> io::Result<(i32, bool)> {
    // SAFETY: all zero is an address of no interface: integers, and an array of them.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    let mut len = size_of_as_socklen::<libc::sockaddr_ll>();
    // SAFETY: the kernel writes at most `len` bytes, the size of `address`, into it, and any bytes are a `sockaddr_ll`.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) })?;
    if i32::from(address.sll_family) != libc::AF_PACKET {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let protocol = u16::from_be(address.sll_protocol);
    Ok((address.sll_ifindex, i32::from(protocol) == libc::ETH_P_ALL))
}

/// Has the socket drop every frame (before the port is started, and when it is stopped), or none.
pub(super) fn drop_everything(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    if !on {
        return match set_option::<c_int>(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0) {
            // There was none.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        };
    }
    // `ret #0`: keep no byte of the frame.
    let mut program = [libc::sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: program.as_mut_ptr(),
    };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// The id of a group in what [`fanout_word`] says.
pub(super) fn fanout_id(word: u32) -> u16 {
    u16::try_from(word & 0xffff).expect("masked to 16 bits")
}

/// Makes a group in which the kernel spreads frames by `mode`; returns its id, which no other group has.
pub(super) fn fanout_create(fd: BorrowedFd<'_>, mode: u32) -> io::Result<u16> {
    let flags = mode | libc::PACKET_FANOUT_FLAG_UNIQUEID | FANOUT_IGNORE_OUTGOING;
    set_option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT, &(flags << 16))?;
    Ok(fanout_id(fanout_word(fd)?))
}

/// The group that a socket is in, as the kernel tells it; 0 for none. Its low half is the id.
pub(super) fn fanout_word(fd: BorrowedFd<'_>) -> io::Result<u32> {
    option(fd, libc::SOL_PACKET, libc::PACKET_FANOUT)
}

/// Joins the group `id`, made with the same `mode`.
pub(super) fn fanout_join(fd: BorrowedFd<'_>, mode: u32, id: u16) -> io::Result<()> {
    let flags = mode | FANOUT_IGNORE_OUTGOING;
    set_option(
        fd,
        libc::SOL_PACKET,
        libc::PACKET_FANOUT,
        &(flags << 16 | u32::from(id)),
    )
}

/// Asks for frames to other addresses too, or takes that back. The kernel counts who asks, and a socket that is
/// closed asks no more.
pub(super) fn set_promiscuous(fd: BorrowedFd<'_>, ifindex: u32, on: bool) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: i32::try_from(ifindex).map_err(|_| io::ErrorKind::InvalidInput)?,
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).expect("PACKET_MR_PROMISC is 1"),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    let name = if on {
        libc::PACKET_ADD_MEMBERSHIP
    } else {
        libc::PACKET_DROP_MEMBERSHIP
    };
    set_option(fd, libc::SOL_PACKET, name, &request)
}

/// Frames that found no room in the ring since the last call: reading resets.
pub(super) fn take_missed(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let words: [u32; 3] = option(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS)?;
    // tp_packets (which counts the dropped ones too), tp_drops, tp_freeze_q_cnt.
    Ok(words[1])
}

/// What went wrong on the socket since the last call: reading resets.
pub(super) fn take_error(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    option(fd, libc::SOL_SOCKET, libc::SO_ERROR)
}

/// Whether this is a packet socket with a ring of version 3.
pub(super) fn is_rx_socket(fd: BorrowedFd<'_>) -> bool {
    option::<c_int>(fd, libc::SOL_PACKET, libc::PACKET_VERSION)
        .is_ok_and(|v| v == libc::tpacket_versions::TPACKET_V3 as c_int)
}

/// Whether this is a packet socket that wants a `virtio_net_hdr` before each frame.
pub(super) fn is_tx_socket(fd: BorrowedFd<'_>) -> bool {
    option::<c_int>(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR).is_ok_and(|on| on == 1)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn size_of_as_socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("what is passed to the kernel is small")
}

fn set_option<T: Copy>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = size_of_as_socklen::<T>();
    // SAFETY: the kernel reads `len` bytes of `value`, which are all of it, during the call. Where it holds a pointer
    // (a filter program), the caller's array lives as long.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            len,
        )
    })
}

/// Reads an option made of integers.
fn option<T: Copy + Default>(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut len = size_of_as_socklen::<T>();
    // SAFETY: the kernel writes at most `len` bytes, the size of `value`; `T` is an integer or an array of them (all
    // callers are in this file), so that any bytes are a value.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_mut(&mut value).cast(),
            &raw mut len,
        )
    })?;
    Ok(value)
}

/// The receive ring of a packet socket, as this process maps it.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps the ring of `fd`, which has to be `len` bytes long: the kernel refuses another length.
    pub(super) fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = Self {
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?,
            len,
        };
        // A forked child has no business in the ring. Best effort, as it is for the child alone.
        // SAFETY: exactly the range that was mapped above.
        let _ = unsafe { libc::madvise(start, len, libc::MADV_DONTFORK) };
        Ok(mapping)
    }

    /// The ring as words, which others may write at any time.
    pub(super) fn words(&self) -> &[AtomicU32] {
        // SAFETY: `start` is page-aligned and mapped for `len` bytes as long as `self` lives; any bits are an `AtomicU32`.
        unsafe {
            slice::from_raw_parts(
                self.start.as_ptr().cast::<AtomicU32>(),
                self.len / size_of::<AtomicU32>(),
            )
        }
    }

    /// Fills `into` with what stands at `offset`; `false`, and nothing done, if that leaves the ring.
    pub(super) fn copy_out(&self, offset: usize, into: &mut [u8]) -> bool {
        let Some(from) = self.at(offset, into.len()) else {
            return false;
        };
        // SAFETY: `at` has found `into.len()` bytes there; `into` is exclusively ours, so they do not overlap. Others may
        // write them meanwhile: the bytes are then some of the old and some of the new, and any are valid.
        unsafe { ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len()) };
        true
    }

    /// Writes zeros over `len` bytes at `offset`, if they lie in the ring. The caller holds the block.
    pub(super) fn zero(&self, offset: usize, len: usize) {
        let Some(start) = self.at(offset, len) else {
            return;
        };
        // SAFETY: `at` has found `len` bytes there, mapped for writing.
        unsafe { ptr::write_bytes(start.as_ptr(), 0, len) };
    }

    /// Where `len` bytes at `offset` stand, if all of them lie in the ring.
    fn at(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(len).is_none_or(|end| end > self.len) {
            return None;
        }
        // SAFETY: `offset <= self.len`, checked above, so that the sum stays inside the mapping.
        Some(unsafe { self.start.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; what `words` lends ends before `self` does.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

/// Room for one `sendmmsg`, made once: a header, and pieces of frames where they lie.
pub(super) struct Messages {
    headers: Box<[[u8; VNET_HEADER_LEN]]>,
    pieces: Box<[libc::iovec]>,
    /// First piece and number of pieces of each message.
    shapes: Box<[(usize, usize)]>,
    messages: Box<[libc::mmsghdr]>,
}

impl std::fmt::Debug for Messages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Messages")
            .field("messages", &self.messages.len())
            .field("pieces", &self.pieces.len())
            .finish()
    }
}

impl Messages {
    /// Room for `messages` frames of `pieces` pieces together, headers not counted.
    pub(super) fn new(messages: usize, pieces: usize) -> Self {
        let empty = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        // SAFETY: all zero is a message of no pieces to nobody in particular: null pointers with length zero.
        let message: libc::mmsghdr = unsafe { mem::zeroed() };
        Self {
            headers: vec![[0; VNET_HEADER_LEN]; messages].into_boxed_slice(),
            pieces: vec![empty; messages + pieces].into_boxed_slice(),
            shapes: vec![(0, 0); messages].into_boxed_slice(),
            messages: vec![message; messages].into_boxed_slice(),
        }
    }

    /// Starts over, with frames that live for `'p`.
    pub(super) fn fill<'p>(&mut self) -> Filling<'_, 'p> {
        Filling {
            room: self,
            messages: 0,
            pieces: 0,
            frames: PhantomData,
        }
    }
}

/// [`Messages`] that are being filled. The frames that they point into are borrowed until it is gone.
#[derive(Debug)]
pub(super) struct Filling<'m, 'p> {
    room: &'m mut Messages,
    messages: usize,
    pieces: usize,
    frames: PhantomData<&'p [u8]>,
}

impl<'p> Filling<'_, 'p> {
    /// Adds a frame; `false`, and nothing added, if there is no room for it.
    pub(super) fn push(
        &mut self,
        header: [u8; VNET_HEADER_LEN],
        frame: impl Iterator<Item = &'p [u8]>,
    ) -> bool {
        let Some(place) = self.room.headers.get_mut(self.messages) else {
            return false;
        };
        *place = header;
        let first = self.pieces;
        // The first piece is the header: `send` says where it lies.
        let mut end = first + 1;
        for part in frame {
            let Some(piece) = self.room.pieces.get_mut(end) else {
                return false;
            };
            // The kernel only reads what is sent.
            *piece = libc::iovec {
                iov_base: part.as_ptr().cast_mut().cast(),
                iov_len: part.len(),
            };
            end += 1;
        }
        if end > self.room.pieces.len() {
            return false;
        }
        self.room.shapes[self.messages] = (first, end - first);
        (self.pieces, self.messages) = (end, self.messages + 1);
        true
    }

    /// How many frames there are.
    pub(super) fn len(&self) -> usize {
        self.messages
    }

    /// Sends the frames from number `from` on and returns how many the kernel took: at least one, or the error of the first.
    pub(super) fn send(&mut self, fd: BorrowedFd<'_>, from: usize) -> io::Result<usize> {
        let range = from.min(self.messages)..self.messages;
        let room = &mut *self.room;
        let headers = room.headers.as_mut_ptr();
        for number in range.clone() {
            let base = headers.wrapping_add(number).cast();
            room.pieces[room.shapes[number].0] = libc::iovec {
                iov_base: base,
                iov_len: VNET_HEADER_LEN,
            };
        }
        let pieces = room.pieces.as_mut_ptr();
        for number in range.clone() {
            let (first, count) = room.shapes[number];
            let message = &mut room.messages[number].msg_hdr;
            (message.msg_iov, message.msg_iovlen) = (pieces.wrapping_add(first), count);
        }
        let messages = &mut room.messages[range];
        let count = libc::c_uint::try_from(messages.len()).expect("a burst is short");
        // SAFETY: `count` messages whose pieces point at headers of `room`, which is borrowed and moves nothing, and at
        // frames that live for `'p`, which this value does not outlive; `push` has kept all numbers inside the arrays.
        let sent = unsafe {
            libc::sendmmsg(
                fd.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Another descriptor of the same socket, closed on `exec`.
pub(super) fn duplicate(fd: &OwnedFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}
