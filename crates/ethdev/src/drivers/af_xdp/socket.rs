//! Making the sockets of a port: memory, rings, the queue that they are bound to; and what to do where the kernel refuses.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use eal::sync::Ordering;
use mbuf::Pool;
use rustix::io::Errno;
use rustix::net::xdp::{SocketAddrXdp, SocketAddrXdpFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::options::Copying;
use super::rings::Sizes;
use super::{CAPABILITIES_NEEDED, Port, sys};
use crate::driver::{Direction, QueueId};
use crate::error::Error;

/// Of a ring that nobody drives.
const DESCRIPTORS_MIN: u32 = 64;
/// Bytes that may be under way from one queue where the kernel copies, as it counts them.
const SEND_ROOM: i32 = 8 << 20;
/// How long a queue of the interface may still be another socket's, one that was let go of a moment ago.
const BUSY_MAX: Duration = Duration::from_secs(2);
const BUSY_POLL: Duration = Duration::from_millis(10);

/// One socket, and what it was made with.
#[derive(Debug, Clone)]
pub(super) struct Socket {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) sizes: Sizes,
    pub(super) pool: Pool,
    /// Whether the program puts metadata before frames.
    pub(super) describes: bool,
    /// Whether a packet may lie in several frames.
    pub(super) scatters: bool,
}

impl Port {
    /// Makes the socket of a queue. Nothing comes by it yet: it is in no map.
    pub(super) fn open_socket(
        &self,
        queue: QueueId,
        pool: Pool,
        busy_max: Duration,
    ) -> Result<Socket, Error> {
        let number = usize::from(queue.0);
        let rx = self.rx.get(number).copied().flatten().map(|(_, len)| len);
        let tx = self.tx.get(number).copied().flatten();
        let size =
            |wanted: Option<u32>| wanted.unwrap_or(0).next_power_of_two().max(DESCRIPTORS_MIN);
        let sizes = Sizes {
            rx: size(rx),
            tx: size(tx),
            fill: size(rx),
            completion: size(tx),
        };
        let fd = socket_with(
            AddressFamily::XDP,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| self.no_socket(error))?;
        sys::register(fd.as_fd(), pool).map_err(|source| self.no_memory(pool, source))?;
        let rings = || {
            sockopt::set_xdp_umem_fill_ring_size(&fd, sizes.fill)?;
            sockopt::set_xdp_umem_completion_ring_size(&fd, sizes.completion)?;
            if rx.is_some() {
                sockopt::set_xdp_rx_ring_size(&fd, sizes.rx)?;
            }
            if tx.is_some() {
                sockopt::set_xdp_tx_ring_size(&fd, sizes.tx)?;
            }
            Ok::<_, Errno>(())
        };
        rings().map_err(|error| self.kernel("make rings for a queue of")(error.into()))?;
        let _ = sys::set_send_room(fd.as_fd(), SEND_ROOM);
        if self.options.busy_budget > 0 {
            sys::prefer_busy_poll(fd.as_fd(), self.options.busy_budget)
                .map_err(self.kernel("prefer busy polling on"))?;
        }
        self.bind(fd.as_fd(), (queue, pool), busy_max)?;
        Ok(Socket {
            fd: Arc::new(fd),
            sizes,
            pool,
            describes: false,
            scatters: self.scatters(pool),
        })
    }

    fn bind(
        &self,
        fd: BorrowedFd<'_>,
        (queue, pool): (QueueId, Pool),
        busy_max: Duration,
    ) -> Result<(), Error> {
        let device_queue = u32::from(self.options.start_queue) + u32::from(queue.0);
        let copying = match self.options.copying {
            Copying::Auto => SocketAddrXdpFlags::empty(),
            Copying::Never => SocketAddrXdpFlags::XDP_ZEROCOPY,
            Copying::Always => SocketAddrXdpFlags::XDP_COPY,
        };
        let scattering = if self.scatters(pool) {
            SocketAddrXdpFlags::XDP_USE_SG
        } else {
            SocketAddrXdpFlags::empty()
        };
        let flags = copying | scattering | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
        let address = SocketAddrXdp::new(flags, self.index(), device_queue);
        let started = Instant::now();
        loop {
            let error = match bind(fd, &address) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error == Errno::BUSY && started.elapsed() < busy_max {
                // Whoever let go of it a moment ago: the kernel takes its time.
                thread::sleep(BUSY_POLL);
                continue;
            }
            let interface = &self.options.interface;
            return Err(match error {
                Errno::BUSY => Error::InterfaceTaken {
                    device: self.device.clone(),
                    interface: interface.clone(),
                    reason: format!(
                        "has another AF_XDP socket on queue {device_queue}, of another group or program; stop that one, or take other queues with start_queue="
                    ),
                },
                // Linux 6.6 has packets of several frames; a driver may not.
                Errno::INVAL | Errno::OPNOTSUPP if self.scatters(pool) => {
                    self.too_long(pool, self.interface_mtu())
                }
                Errno::INVAL => Error::InterfaceTaken {
                    device: self.device.clone(),
                    interface: interface.clone(),
                    reason: format!(
                        "has no queue {device_queue}; `ethtool -l {interface}` tells how many there are"
                    ),
                },
                Errno::OPNOTSUPP if self.options.copying == Copying::Never => Error::InterfaceTaken {
                    device: self.device.clone(),
                    interface: interface.clone(),
                    reason: "has a driver that cannot do without copying; take mode=copy, or mode=auto".into(),
                },
                error => self.kernel("bind a socket to")(error.into()),
            });
        }
    }

    fn no_socket(&self, error: Errno) -> Error {
        let source = io::Error::from(error);
        match error {
            Errno::PERM | Errno::ACCESS => Error::Privilege {
                device: self.device.clone(),
                what: "an AF_XDP socket",
                capability: "CAP_NET_RAW",
                capability_flag: CAPABILITIES_NEEDED,
                or: "",
                source,
            },
            Errno::AFNOSUPPORT => Error::Kernel {
                device: self.device.clone(),
                what: "open an AF_XDP socket: this kernel has none (CONFIG_XDP_SOCKETS); take net_af_packet".into(),
                source,
            },
            _ => Error::Kernel {
                device: self.device.clone(),
                what: "open an AF_XDP socket".into(),
                source,
            },
        }
    }

    fn no_memory(&self, pool: Pool, source: io::Error) -> Error {
        let (_, len) = pool.frames();
        let what = match source.raw_os_error() {
            Some(libc::ENOBUFS | libc::ENOMEM) => format!(
                "lock the {} KiB of pool {} in memory: run the primary with CAP_IPC_LOCK, or raise `ulimit -l` to as much for each queue",
                len / 1024,
                pool.name()
            ),
            _ => format!("register the frames of pool {}", pool.name()),
        };
        Error::Kernel {
            device: self.device.clone(),
            what,
            source,
        }
    }

    /// Makes the sockets that are missing, of queues whose both directions were set up.
    pub(super) fn open_sockets(&mut self) -> Result<(), Error> {
        let pool = self.rx.iter().flatten().map(|(pool, _)| *pool).next();
        let pool = pool.or_else(|| {
            self.sockets
                .iter()
                .flatten()
                .map(|socket| socket.pool)
                .next()
        });
        let Some(first_pool) = pool else {
            return Err(Error::Frames {
                device: self.device.clone(),
                pool: "none".into(),
                reason: "cannot be sent from: configure one RX queue at least, whose pool is the memory of all sockets".into(),
            });
        };
        for queue in (0..).take(self.sockets.len()).map(QueueId) {
            let number = usize::from(queue.0);
            let is_ready = self.rx.get(number).is_none_or(Option::is_some)
                && self.tx.get(number).is_none_or(Option::is_some);
            if self.sockets[number].is_some() || !is_ready {
                continue;
            }
            let pool = self
                .rx
                .get(number)
                .copied()
                .flatten()
                .map_or(first_pool, |(pool, _)| pool);
            let socket = self.open_socket(queue, pool, BUSY_MAX)?;
            for direction in [Direction::Rx, Direction::Tx] {
                let record = self.record(queue, direction)?;
                record.missed.store(0, Ordering::Relaxed);
                // Bound, so that no other socket has the queue. Release: whoever drives it gives back what that one had.
                record.renewed.store(1, Ordering::Release);
            }
            self.sockets[number] = Some(socket);
        }
        Ok(())
    }
}
