//! The kernel's network interfaces, as drivers that work on one ask about them.
//!
//! What every interface has is had by `ioctl` (`sys.rs`); of what kind one is, and who is attached to it, tells `rtnetlink`:
//! [`look`]. One [`socket`] does for both, and stays in the network namespace that it was opened in.

#[allow(unsafe_code, reason = "a request that points to its answer")]
mod ethtool;
#[allow(unsafe_code, reason = "ioctls on an interface")]
mod sys;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

pub(crate) use self::ethtool::{channels, indirection, set_indirection};
pub(crate) use self::sys::{
    addresses, bring_up, flags, mac, mtu, namespace, set_mac, set_mtu, set_promiscuous,
    set_queue_len,
};

/// Longest name of an interface.
pub(crate) const NAME_LEN_MAX: usize = libc::IFNAMSIZ - 1;

/// Octets of the header of a message, and of that of a message about a link.
const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;
/// Octets of the header of an attribute.
const ATTRIBUTE_HEADER: usize = 4;
/// Longer than what the kernel has to say of one link without being asked for more.
const ANSWER_MAX: usize = 32 << 10;

// linux/netlink.h, linux/rtnetlink.h
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const SET_LINK: u16 = 19;
const ACKNOWLEDGE: u16 = 4;
const NESTED: u16 = 1 << 15;
// linux/if_link.h
const NAME: u16 = 3;
const INFO: u16 = 18;
const STATS: u16 = 23;
const XDP: u16 = 43;
const XDP_DESCRIPTOR: u16 = 1;
const XDP_ATTACHED: u16 = 2;
const XDP_PROGRAM: u16 = 4;
const XDP_DRIVER_PROGRAM: u16 = 5;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const TUN_TYPE: u16 = 3;
const TUN_MULTI_QUEUE: u16 = 7;
const TUN_QUEUES: u16 = 8;
const TUN_DISABLED_QUEUES: u16 = 9;
/// `IFF_TAP`
const TYPE_TAP: u8 = 2;
/// Words of `rtnl_link_stats64` before the two counts of dropped frames.
const DROPPED_AT: usize = 6 * 8;

/// What an interface is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// What the kernel calls its kind, `veth` or `tun`; empty for most that stand for hardware.
    pub kind: String,
    /// Of a `tun`, what more there is to know.
    pub tap: Tap,
    /// Frames that it dropped: of those that came in by it, and of those that its host sent.
    pub dropped: (u64, u64),
    /// The XDP program that is attached to it; with one in the driver and one behind it, that in the driver.
    pub xdp: Option<Xdp>,
}

/// An XDP program on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Xdp {
    /// Where it is attached.
    pub mode: XdpMode,
    /// Its number in this system.
    pub program: u32,
}

/// Where an XDP program sees frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum XdpMode {
    /// In the driver.
    Native,
    /// Behind the driver.
    Generic,
    /// In the device.
    Offloaded,
    /// In more than one place.
    Several,
}

/// What a TAP is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Whether it carries frames. Else it is a TUN, and carries packets.
    pub frames: bool,
    /// Whether it can have several queues.
    pub multi_queue: bool,
    /// Descriptors that it has, of whomever. Told of those alone that can have several queues.
    pub queues: u32,
}

/// A socket for questions about interfaces of this thread's network namespace. Needs no privilege.
pub(crate) fn socket() -> io::Result<OwnedFd> {
    // Without a protocol, that of routes.
    Ok(socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// What the kernel says of the interface `name`, if there is one.
pub(crate) fn look(socket: BorrowedFd<'_>, name: &str) -> io::Result<Option<Link>> {
    let mut request = vec![0; MESSAGE_HEADER + LINK_HEADER];
    let name_len = u16::try_from(name.len() + 1).map_err(|_| io::ErrorKind::InvalidInput)?;
    request.extend((name_len + 4).to_ne_bytes());
    request.extend(NAME.to_ne_bytes());
    request.extend(name.bytes().chain([0]));
    request.resize(request.len().next_multiple_of(4), 0);
    let len = u32::try_from(request.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    request[..4].copy_from_slice(&len.to_ne_bytes());
    request[4..6].copy_from_slice(&GET_LINK.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    send(socket, &request, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_MAX];
    let (_, len) = recv(socket, &mut answer[..], RecvFlags::empty())?;
    read_answer(answer.get(..len).unwrap_or_default())
}

/// Takes away the XDP program that was attached to an interface without a link.
pub(crate) fn detach_xdp(socket: BorrowedFd<'_>, ifindex: u32) -> io::Result<()> {
    let mut request = vec![0; MESSAGE_HEADER + LINK_HEADER];
    request[MESSAGE_HEADER + 4..MESSAGE_HEADER + 8].copy_from_slice(&ifindex.to_ne_bytes());
    // One attribute in another: the descriptor of no program.
    for word in [12, XDP | NESTED, 8, XDP_DESCRIPTOR] {
        request.extend(word.to_ne_bytes());
    }
    request.extend((-1_i32).to_ne_bytes());
    let len = u32::try_from(request.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    request[..4].copy_from_slice(&len.to_ne_bytes());
    request[4..6].copy_from_slice(&SET_LINK.to_ne_bytes());
    request[6..8].copy_from_slice(&(REQUEST | ACKNOWLEDGE).to_ne_bytes());
    send(socket, &request, SendFlags::empty())?;
    let mut answer = [0; 512];
    let (_, len) = recv(socket, &mut answer[..], RecvFlags::empty())?;
    let code = answer[..len]
        .get(MESSAGE_HEADER..)
        .and_then(<[u8]>::first_chunk);
    match code.map(|code| -i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The link in the kernel's answer, or the error that it is.
fn read_answer(answer: &[u8]) -> io::Result<Option<Link>> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    match number(answer, 4).ok_or_else(cut)? {
        ERROR => {
            let code = answer.get(MESSAGE_HEADER..).and_then(<[u8]>::first_chunk);
            match -i32::from_ne_bytes(*code.ok_or_else(cut)?) {
                libc::ENODEV => Ok(None),
                code => Err(io::Error::from_raw_os_error(code)),
            }
        }
        NEW_LINK => {
            let all = answer.get(MESSAGE_HEADER + LINK_HEADER..).ok_or_else(cut)?;
            Ok(Some(read_link(all)))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn read_link(all: &[u8]) -> Link {
    let info = attribute(all, INFO).unwrap_or_default();
    let kind = attribute(info, INFO_KIND).unwrap_or_default();
    let data = attribute(info, INFO_DATA).unwrap_or_default();
    let byte = |kind| attribute(data, kind).and_then(|value| value.first().copied());
    let word = |kind| {
        let value = attribute(data, kind).and_then(|value| value.first_chunk().copied());
        value.map_or(0, u32::from_ne_bytes)
    };
    let dropped = |place: usize| {
        let stats = attribute(all, STATS).and_then(|stats| stats.get(DROPPED_AT + place * 8..));
        let count = stats.and_then(|stats| stats.first_chunk().copied());
        count.map_or(0, u64::from_ne_bytes)
    };
    Link {
        kind: String::from_utf8_lossy(kind)
            .trim_end_matches('\0')
            .to_owned(),
        tap: Tap {
            frames: byte(TUN_TYPE) == Some(TYPE_TAP),
            multi_queue: byte(TUN_MULTI_QUEUE) == Some(1),
            queues: word(TUN_QUEUES).saturating_add(word(TUN_DISABLED_QUEUES)),
        },
        dropped: (dropped(0), dropped(1)),
        xdp: read_xdp(attribute(all, XDP).unwrap_or_default()),
    }
}

fn read_xdp(xdp: &[u8]) -> Option<Xdp> {
    let program = |kind| {
        let value = attribute(xdp, kind)?.first_chunk()?;
        Some(u32::from_ne_bytes(*value))
    };
    let mode = match attribute(xdp, XDP_ATTACHED)?.first()? {
        1 => XdpMode::Native,
        2 => XdpMode::Generic,
        3 => XdpMode::Offloaded,
        4 => XdpMode::Several,
        _ => return None,
    };
    // Of several programs the kernel gives each its own attribute.
    let program = program(XDP_PROGRAM).or_else(|| program(XDP_DRIVER_PROGRAM));
    Some(Xdp {
        mode,
        program: program.unwrap_or_default(),
    })
}

/// The value of the first attribute of a kind.
fn attribute(mut all: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(number(all, 0)?);
        let value = all.get(ATTRIBUTE_HEADER..len)?;
        if number(all, 2)? == kind {
            return Some(value);
        }
        all = all.get(len.next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn link_is_read_from_the_kernels_answer_and_none_from_half_of_it() {
        let data = [
            attribute_of(TUN_TYPE, &[TYPE_TAP]),
            attribute_of(TUN_MULTI_QUEUE, &[1]),
            attribute_of(TUN_QUEUES, &2_u32.to_ne_bytes()),
            attribute_of(TUN_DISABLED_QUEUES, &1_u32.to_ne_bytes()),
        ];
        let info = [
            attribute_of(INFO_KIND, b"tun\0"),
            attribute_of(INFO_DATA, &data.concat()),
        ];
        let stats: Vec<u8> = (0..10_u64).flat_map(u64::to_ne_bytes).collect();
        let xdp = [
            attribute_of(XDP_ATTACHED, &[2]),
            attribute_of(XDP_PROGRAM, &77_u32.to_ne_bytes()),
        ];
        let all = [
            attribute_of(STATS, &stats),
            attribute_of(INFO, &info.concat()),
            attribute_of(XDP, &xdp.concat()),
        ]
        .concat();
        let mut answer = vec![0; MESSAGE_HEADER + LINK_HEADER];
        answer[4] = 16;
        answer.extend(all);
        let link = Link {
            kind: "tun".into(),
            tap: Tap {
                frames: true,
                multi_queue: true,
                queues: 3,
            },
            dropped: (6, 7),
            xdp: Some(Xdp {
                mode: XdpMode::Generic,
                program: 77,
            }),
        };
        assert_eq!(read_answer(&answer).unwrap(), Some(link));
        for len in 0..answer.len() {
            // No panic, wherever it is cut.
            let _ = read_answer(&answer[..len]);
        }
    }

    #[test]
    fn every_interface_says_what_it_is() {
        lab::isolated!({
            let (a, b) = (lab::Host::new("a").unwrap(), lab::Host::new("b").unwrap());
            lab::veth((&a, "a0"), (&b, "b0"), 1).unwrap();
            let socket = a.run(socket).unwrap().unwrap();
            let look = |name| look(std::os::fd::AsFd::as_fd(&socket), name).unwrap();
            assert_eq!(look("a0").unwrap().kind, "veth");
            assert_eq!(look("lo").unwrap().kind, "");
            assert_eq!(look("lo").unwrap().xdp, None);
            assert_eq!(look("b0"), None);
        });
    }
}
