//! The `bpf` system call: maps, programs, links, and what the kernel says of them.
//!
//! Each is a descriptor, closed on `exec`, and gone from the kernel when nobody has one: a program that is attached by a
//! [link](attach) is detached when the last descriptor of the link closes.

use std::error;
use std::ffi::{c_int, c_long};
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use super::assembler::Insn;

// linux/bpf.h: commands
const MAP_CREATE: c_int = 0;
const MAP_UPDATE_ELEM: c_int = 2;
#[cfg(test)]
const MAP_DELETE_ELEM: c_int = 3;
const PROG_LOAD: c_int = 5;
#[cfg(test)]
const PROG_TEST_RUN: c_int = 10;
const OBJ_GET_INFO_BY_FD: c_int = 15;
const LINK_CREATE: c_int = 28;
const LINK_DETACH: c_int = 34;
// Kinds
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const LINK_TYPE_XDP: u32 = 6;
// Flags of a program, and of its attachment (linux/if_link.h)
const PROGRAM_HAS_FRAGS: u32 = 1 << 5;
const PROGRAM_DEVICE_BOUND: u32 = 1 << 6;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// What maps and programs are called in the lists of the system.
const NAME: [u8; NAME_LEN] = *b"forebay\0\0\0\0\0\0\0\0\0";
const NAME_LEN: usize = 16;
const LICENSE: &[u8] = b"Dual MIT/GPL\0";
/// Holds what the verifier says of a program of some hundred instructions.
const LOG_LEN: usize = 1 << 20;
/// Characters of it that an error shows: the last ones say what is wrong.
const LOG_SHOWN: usize = 600;
#[cfg(test)]
/// Maps of a program that [`program_info`] tells of.
const MAPS_MAX: usize = 16;
#[cfg(test)]
/// What a test run may add before a frame.
const ROOM: usize = 256;

/// What is attached where: in the driver, or behind it where every driver has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// By the driver of the interface, before the kernel makes a packet of the frame.
    Native,
    /// By the kernel, for drivers that cannot.
    Generic,
}

/// What is loaded beside the instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Whether the program may see frames of several buffers: MTUs beyond a page need it.
    pub frags: bool,
    /// The one interface that the program is for, which lets it ask for the metadata of frames.
    pub device: Option<u32>,
}

/// What the kernel says of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MapInfo {
    /// Its number in this system.
    pub id: u32,
    /// Whether it is one of AF_XDP sockets.
    pub is_xskmap: bool,
    /// How many elements it has room for.
    pub entries: u32,
}

#[cfg(test)]
/// What the kernel says of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProgramInfo {
    /// Its number in this system.
    pub id: u32,
    /// What who loaded it calls it.
    pub name: String,
    /// Whether it is an XDP program.
    pub is_xdp: bool,
    /// The maps that it uses, by their numbers.
    pub maps: Vec<u32>,
}

/// What the kernel says of the link of an XDP program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// Its number in this system.
    pub id: u32,
    /// The program, by its number.
    pub program: u32,
    /// The interface in its own namespace; 0 once it is gone, or the link detached.
    pub ifindex: u32,
}

/// A program that the kernel does not take, and what its verifier says of it.
#[derive(Debug)]
struct Refused {
    source: io::Error,
    log: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; the verifier says: {}", self.source, self.log)
    }
}

impl error::Error for Refused {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A map from queues to AF_XDP sockets, empty.
pub(super) fn create_xskmap(queues: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
        numa_node: u32,
        map_name: [u8; NAME_LEN],
    }
    let mut attributes = Attributes {
        map_type: MAP_TYPE_XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: queues,
        map_flags: 0,
        inner_map_fd: 0,
        numa_node: 0,
        map_name: NAME,
    };
    // SAFETY: there is no pointer in it, and what comes back is a new descriptor.
    unsafe { bpf_open(MAP_CREATE, &mut attributes) }
}

#[repr(C)]
struct Element {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Has frames of `queue` go to `socket`, which is bound to that queue.
pub(super) fn set_element(
    map: BorrowedFd<'_>,
    queue: u32,
    socket: BorrowedFd<'_>,
) -> io::Result<()> {
    let socket = number_of(socket);
    let mut attributes = Element {
        map_fd: number_of(map),
        pad: 0,
        key: address_of(&queue),
        value: address_of(&socket),
        flags: 0,
    };
    // SAFETY: the kernel reads a key and a value of four bytes each, which is what the map was created with and what
    // `queue` and `socket` have; both live through the call.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
}

#[cfg(test)]
/// Has frames of `queue` go to no socket.
pub(super) fn delete_element(map: BorrowedFd<'_>, queue: u32) -> io::Result<()> {
    let mut attributes = Element {
        map_fd: number_of(map),
        pad: 0,
        key: address_of(&queue),
        value: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads a key of four bytes, which `queue` has; it lives through the call.
    unsafe { bpf(MAP_DELETE_ELEM, &mut attributes) }.map(drop)
}

/// Loads an XDP program.
///
/// # Errors
///
/// Those of the kernel; one of a program that the verifier does not take ends with what that says.
pub(super) fn load(program: &[Insn], how: Load) -> io::Result<OwnedFd> {
    load_logged(program, how, &mut []).or_else(|source| {
        // Once more, with room for the reasons. Without the right to load there are none.
        let mut log = vec![0; LOG_LEN];
        match load_logged(program, how, &mut log) {
            Ok(program) => Ok(program),
            Err(_) if log[0] == 0 => Err(source),
            Err(_) => {
                let log = end_of(&log);
                Err(io::Error::new(source.kind(), Refused { source, log }))
            }
        }
    })
}

/// Loads a program, with a log if there is room for one.
fn load_logged(program: &[Insn], how: Load, log: &mut [u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; NAME_LEN],
        prog_ifindex: u32,
        expected_attach_type: u32,
    }
    let mut flags = 0;
    if how.frags {
        flags |= PROGRAM_HAS_FRAGS;
    }
    if how.device.is_some() {
        flags |= PROGRAM_DEVICE_BOUND;
    }
    let mut attributes = Attributes {
        prog_type: PROG_TYPE_XDP,
        insn_cnt: len_of(program)?,
        insns: program.as_ptr().expose_provenance() as u64,
        license: LICENSE.as_ptr().expose_provenance() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: len_of(log)?,
        log_buf: if log.is_empty() {
            0
        } else {
            log.as_mut_ptr().expose_provenance() as u64
        },
        kern_version: 0,
        prog_flags: flags,
        prog_name: NAME,
        prog_ifindex: how.device.unwrap_or(0),
        expected_attach_type: ATTACH_TYPE_XDP,
    };
    // SAFETY: the kernel reads `insn_cnt` instructions of eight bytes and a license that ends with a zero, and writes at
    // most `log_size` bytes of `log`, which is borrowed for that; what comes back is a new descriptor.
    unsafe { bpf_open(PROG_LOAD, &mut attributes) }
}

/// Attaches a program to an interface of this thread's namespace, as long as anybody has the descriptor that is returned.
///
/// # Errors
///
/// `EBUSY` when another program is attached; `EOPNOTSUPP` when the driver cannot.
pub(super) fn attach(program: BorrowedFd<'_>, ifindex: u32, mode: Mode) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attributes {
        prog_fd: u32,
        target_ifindex: u32,
        attach_type: u32,
        flags: u32,
    }
    let mut attributes = Attributes {
        prog_fd: number_of(program),
        target_ifindex: ifindex,
        attach_type: ATTACH_TYPE_XDP,
        flags: match mode {
            Mode::Native => XDP_FLAGS_DRV_MODE,
            Mode::Generic => XDP_FLAGS_SKB_MODE,
        },
    };
    // SAFETY: there is no pointer in it, and what comes back is a new descriptor.
    unsafe { bpf_open(LINK_CREATE, &mut attributes) }
}

/// Detaches the program of a link at once, whoever else has a descriptor of it.
pub(super) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = number_of(link);
    // SAFETY: there is no pointer in it.
    unsafe { bpf(LINK_DETACH, &mut attributes) }.map(drop)
}

/// What the kernel says of a map.
pub(super) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
    }
    let mut info = Info::default();
    // SAFETY: `Info` is made of integers, and asks for nothing to be written elsewhere.
    unsafe { object_info(Object::Map, map, &mut info) }?;
    Ok(MapInfo {
        id: info.id,
        is_xskmap: info.kind == MAP_TYPE_XSKMAP && info.key_size == 4 && info.value_size == 4,
        entries: info.max_entries,
    })
}

#[cfg(test)]
/// What the kernel says of a program.
pub(super) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        tag: [u8; 8],
        jited_prog_len: u32,
        xlated_prog_len: u32,
        jited_prog_insns: u64,
        xlated_prog_insns: u64,
        load_time: u64,
        created_by_uid: u32,
        nr_map_ids: u32,
        map_ids: u64,
        name: [u8; NAME_LEN],
    }
    let mut maps = [0_u32; MAPS_MAX];
    let mut info = Info {
        nr_map_ids: len_of(&maps)?,
        map_ids: maps.as_mut_ptr().expose_provenance() as u64,
        ..Info::default()
    };
    // SAFETY: `Info` is made of integers, and asks for at most `nr_map_ids` words at `map_ids`, which is what `maps` has; it
    // lives through the call.
    unsafe { object_info(Object::Program, program, &mut info) }?;
    let count = usize::try_from(info.nr_map_ids).map_or(MAPS_MAX, |count| count.min(MAPS_MAX));
    let name = info.name.split(|byte| *byte == 0).next();
    Ok(ProgramInfo {
        id: info.id,
        name: String::from_utf8_lossy(name.unwrap_or_default()).into_owned(),
        is_xdp: info.kind == PROG_TYPE_XDP,
        maps: maps[..count].to_vec(),
    })
}

/// What the kernel says of a link, if it is one of an XDP program.
pub(super) fn link_info(link: BorrowedFd<'_>) -> io::Result<Option<LinkInfo>> {
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        prog_id: u32,
        pad: u32,
        ifindex: u32,
        pad_after: u32,
        /// Links of some kinds have addresses here, and lengths: zero, so that nothing is written there.
        rest: [u64; 2],
    }
    let mut info = Info::default();
    // SAFETY: `Info` is made of integers, and asks for nothing to be written elsewhere.
    unsafe { object_info(Object::Link, link, &mut info) }?;
    Ok((info.kind == LINK_TYPE_XDP).then_some(LinkInfo {
        id: info.id,
        program: info.prog_id,
        ifindex: info.ifindex,
    }))
}

#[cfg(test)]
/// Where a test run's frame is said to come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CameBy {
    /// The interface, in this thread's namespace.
    pub ifindex: u32,
    /// The queue, one that the interface has.
    pub queue: u32,
}

#[cfg(test)]
/// Runs an XDP program on one frame, which goes nowhere. Returns its verdict and the frame as the program leaves it, with
/// what was put before it.
///
/// # Errors
///
/// `EINVAL` for frames shorter than an Ethernet header or longer than what fits in a page, and for programs of one interface.
pub(super) fn test_run(
    program: BorrowedFd<'_>,
    frame: &[u8],
    came_by: Option<CameBy>,
) -> io::Result<(u32, Vec<u8>)> {
    #[repr(C)]
    struct Attributes {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
    }
    /// `xdp_md`
    #[repr(C)]
    struct Context {
        data: u32,
        data_end: u32,
        data_meta: u32,
        ingress_ifindex: u32,
        rx_queue_index: u32,
        egress_ifindex: u32,
    }
    let mut out = vec![0_u8; frame.len() + ROOM];
    let context = came_by.map_or(Ok(None), |from| {
        len_of(frame).map(|len| {
            Some(Context {
                data: 0,
                data_end: len,
                data_meta: 0,
                ingress_ifindex: from.ifindex,
                rx_queue_index: from.queue,
                egress_ifindex: 0,
            })
        })
    })?;
    let mut attributes = Attributes {
        prog_fd: number_of(program),
        retval: 0,
        data_size_in: len_of(frame)?,
        data_size_out: len_of(&out)?,
        data_in: frame.as_ptr().expose_provenance() as u64,
        data_out: out.as_mut_ptr().expose_provenance() as u64,
        repeat: 1,
        duration: 0,
        ctx_size_in: context.as_ref().map_or(Ok(0), size_of_as_u32)?,
        ctx_size_out: 0,
        ctx_in: context.as_ref().map_or(0, address_of),
        ctx_out: 0,
    };
    // SAFETY: the kernel reads `data_size_in` bytes of `frame` and all of `context`, and writes at most `data_size_out`
    // bytes of `out`; all of them live through the call.
    unsafe { bpf(PROG_TEST_RUN, &mut attributes) }?;
    let len = usize::try_from(attributes.data_size_out).unwrap_or(usize::MAX);
    out.truncate(len);
    Ok((attributes.retval, out))
}

/// What a descriptor may stand for, by the name that `/proc` has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Object {
    Map,
    #[cfg(test)]
    Program,
    Link,
}

impl Object {
    /// Refuses a descriptor of anything else. The kernel tells of any object, and does not say what it is.
    fn check(self, object: BorrowedFd<'_>) -> io::Result<()> {
        let name = match self {
            Self::Map => "anon_inode:bpf-map",
            #[cfg(test)]
            Self::Program => "anon_inode:bpf-prog",
            Self::Link => "anon_inode:bpf_link",
        };
        let found = fs::read_link(format!("/proc/self/fd/{}", object.as_raw_fd()))?;
        if found.as_os_str() != name {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }
}

/// Has the kernel tell of the object behind a descriptor.
///
/// # Safety
///
/// `T` is made of integers, laid out as the beginning of what the kernel has for objects of this kind; what lies where it
/// holds addresses is as long as it says, and lives through the call.
unsafe fn object_info<T>(kind: Object, object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    kind.check(object)?;
    let mut attributes = Attributes {
        bpf_fd: number_of(object),
        info_len: size_of_as_u32(info)?,
        info: ptr::from_mut(info).expose_provenance() as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes, the size of `info`; the rest is the caller's promise.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attributes) }.map(drop)
}

/// A command that makes a descriptor.
///
/// # Safety
///
/// As for [`bpf`]; and the command is one that returns a new descriptor.
unsafe fn bpf_open<A>(command: c_int, attributes: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attributes) }?;
    let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: new from the kernel, by the caller's promise, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The system call.
///
/// # Safety
///
/// 1. `A` is `#[repr(C)]`, made of integers without padding between them, and the beginning of what `union bpf_attr` is for
///    the command.
/// 2. What lies where it holds addresses is as long as it says, may be written if the command writes, and lives through the
///    call.
unsafe fn bpf<A>(command: c_int, attributes: &mut A) -> io::Result<c_long> {
    let len = size_of_as_u32(attributes)?;
    // SAFETY: the kernel reads and writes `len` bytes, the size of `attributes`; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attributes), len) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// A descriptor as the kernel's structures have it.
fn number_of(fd: BorrowedFd<'_>) -> u32 {
    u32::try_from(fd.as_raw_fd()).expect("a borrowed descriptor is not negative")
}

fn address_of<T>(value: &T) -> u64 {
    ptr::from_ref(value).expose_provenance() as u64
}

fn len_of<T>(slice: &[T]) -> io::Result<u32> {
    u32::try_from(slice.len()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn size_of_as_u32<T>(_: &T) -> io::Result<u32> {
    u32::try_from(size_of::<T>()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The end of a log, on one line.
fn end_of(log: &[u8]) -> String {
    let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = text.get(text.len().saturating_sub(LOG_SHOWN)..);
    let text = String::from_utf8_lossy(text.unwrap_or_default());
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    // The statistics say nothing to whoever reads an error.
    let lines = lines.filter(|line| !line.starts_with("processed "));
    lines.collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd;

    use super::super::assembler::{Assembler, Reg};
    use super::*;

    /// Whether this process may load programs; says why not.
    pub(in super::super) fn may_load() -> bool {
        match create_xskmap(1) {
            Ok(_) => true,
            Err(error) => {
                // Not `eprintln!`, which the test harness keeps to itself.
                let _ = writeln!(
                    io::stderr(),
                    "skipped: XDP maps and programs need CAP_BPF and CAP_NET_ADMIN: {error}"
                );
                false
            }
        }
    }

    #[test]
    fn map_says_what_it_is_and_empties() {
        if !may_load() {
            return;
        }
        let map = create_xskmap(3).unwrap();
        let info = map_info(map.as_fd()).unwrap();
        assert!(info.is_xskmap && info.id > 0);
        assert_eq!(info.entries, 3);
        delete_element(map.as_fd(), 2).unwrap();
        assert!(delete_element(map.as_fd(), 3).is_err());
        assert!(program_info(map.as_fd()).is_err());
        // A map is no AF_XDP socket.
        assert!(set_element(map.as_fd(), 0, map.as_fd()).is_err());
    }

    #[test]
    fn refused_program_comes_with_what_the_verifier_says() {
        if !may_load() {
            return;
        }
        let mut asm = Assembler::new();
        asm.exit();
        let error = load(&asm.finish(), Load::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("R0 !read_ok"), "{error}");
        assert!(!error.contains('\n'));
    }

    #[test]
    fn program_runs_and_says_what_it_is() {
        if !may_load() {
            return;
        }
        let mut asm = Assembler::new();
        asm.set(Reg::R0, 2);
        asm.exit();
        let program = load(&asm.finish(), Load::default()).unwrap();
        let info = program_info(program.as_fd()).unwrap();
        assert!(info.is_xdp && info.id > 0 && info.maps.is_empty());
        assert_eq!(info.name, "forebay");
        assert!(map_info(program.as_fd()).is_err() && link_info(program.as_fd()).is_err());
        assert_eq!(
            test_run(program.as_fd(), &[7; 60], None).unwrap(),
            (2, vec![7; 60])
        );
    }
}
