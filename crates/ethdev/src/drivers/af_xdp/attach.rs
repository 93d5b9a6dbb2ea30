//! The program on the interface: who else has one there, where ours is attached, and what to do where the kernel refuses.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::bpf::{self, Mode};
use super::filter::Filter;
use super::options::Attaching;
use super::{CAPABILITIES_NEEDED, Port, program};
use crate::drivers::netdev;
use crate::error::Error;

impl Port {
    /// Refuses an interface that has somebody else's program on it.
    pub(super) fn look_for_others(&self) -> Result<(), Error> {
        let socket = netdev::socket().map_err(self.kernel("ask about"))?;
        let name = &self.options.interface;
        let link = netdev::look(socket.as_fd(), name).map_err(self.kernel("ask about"))?;
        let Some(xdp) = link.and_then(|link| link.xdp) else {
            return Ok(());
        };
        if self.options.force {
            return Ok(());
        }
        Err(Error::InterfaceTaken {
            device: self.device.clone(),
            interface: name.clone(),
            reason: format!(
                "has an XDP program already, number {} (`bpftool prog show id {}` tells whose); stop who attached it, or take it away with `ip link set {name} xdp off`, or say force=1",
                xdp.program, xdp.program
            ),
        })
    }

    /// Attaches the program; also tells whether it puts metadata before frames.
    pub(super) fn attach(&self, map: BorrowedFd<'_>) -> Result<(OwnedFd, bool), Error> {
        let filter = self.options.filter.clone().unwrap_or(Filter::ALL);
        let modes: &[Mode] = match self.options.attaching {
            Attaching::Auto => &[Mode::Native, Mode::Generic],
            Attaching::Native => &[Mode::Native],
            Attaching::Generic => &[Mode::Generic],
        };
        let mut last = io::Error::from(io::ErrorKind::Unsupported);
        for mode in modes {
            let asks = self.options.metadata;
            let frags = self.sockets.iter().flatten().any(|socket| socket.scatters);
            let loaded = program::load(&filter, map, (self.index(), *mode), (asks, frags))
                .map_err(|source| self.no_program(source))?;
            let attach = || bpf::attach(loaded.program.as_fd(), self.index(), *mode);
            let mut attached = attach();
            if self.options.force && is_busy(&attached) {
                self.displace();
                attached = attach();
            }
            match attached {
                Ok(link) => {
                    if (*mode, self.options.attaching) == (Mode::Generic, Attaching::Auto) {
                        tracing::warn!(
                            "{}: the driver of {} cannot run XDP programs; the kernel runs it behind the driver, which costs a copy, and puts all on queue 0 of some drivers",
                            self.device,
                            self.options.interface
                        );
                    }
                    return Ok((link, loaded.describes));
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    self.look_for_others()?;
                    return Err(Error::InterfaceTaken {
                        device: self.device.clone(),
                        interface: self.options.interface.clone(),
                        reason: "has an XDP program that only who attached it can take away; stop that one".into(),
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(self.kernel("attach the XDP program to")(last))
    }

    /// Takes away the program that somebody attached without a link.
    fn displace(&self) {
        let detach =
            netdev::socket().and_then(|socket| netdev::detach_xdp(socket.as_fd(), self.index()));
        if let Err(error) = detach {
            tracing::warn!(
                "{}: cannot take the other XDP program away: {error}",
                self.device
            );
        }
    }

    pub(super) fn no_program(&self, source: io::Error) -> Error {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::Privilege {
                device: self.device.clone(),
                what: "an XDP program",
                capability: "CAP_BPF and CAP_NET_ADMIN",
                capability_flag: CAPABILITIES_NEEDED,
                or: "",
                source,
            },
            _ => Error::Kernel {
                device: self.device.clone(),
                what: "load the XDP program".into(),
                source,
            },
        }
    }
}

/// Whether another program is there.
fn is_busy<T>(attached: &io::Result<T>) -> bool {
    let error = attached.as_ref().err();
    error.is_some_and(|error| error.raw_os_error() == Some(libc::EBUSY))
}
