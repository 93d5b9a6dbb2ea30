//! The little that whoever passes packets on asks of each: where it came by and how long it is. A word an mbuf, sixteen to a
//! cache line, beside the tags.
//!
//! ```text
//! bits   31      30     29..24   23..16   15..0
//!        known   lazy   queue    port     length of the packet
//! ```
//!
//! *Known* is a packet that is one on a wire too, no longer than the field, and not changed since. Of others the meta is asked.
//!
//! *Lazy* is an mbuf whose meta nobody has needed yet: fresh, of so many bytes, with no flag and no link. All there is to say
//! of it stands here, and its meta is written when somebody first asks for that. So an mbuf that is only passed on and
//! given back costs its line of meta neither a write nor a way from core to core and back.
//!
//! | word  | written by                                                                                   |
//! |-------|----------------------------------------------------------------------------------------------|
//! | brief | who holds the mbuf: when it allocates, receives by a port, first needs the meta, or changes the packet |
//!
//! What travels between processes is ordered by the ring or the magazine it travels through; all accesses here are relaxed.
//!
//! **If a process dies:** no step of the protocol goes by a brief, nor by the meta of an mbuf whose tag does not say *linked*.
//! Both are written anew when the mbuf is allocated again.

use crate::meta::PORT_NONE;
use crate::sync::{AtomicU32, Ordering};

const KNOWN: u32 = 1 << 31;
const LAZY: u32 = 1 << 30;
const QUEUE_SHIFT: u32 = 24;
const QUEUE_MAX: u16 = 63;
const PORT_SHIFT: u32 = 16;
/// The port field of a packet that came by none.
const NO_PORT: u8 = u8::MAX;

/// The brief of one mbuf.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Brief(AtomicU32);

/// What one look at a brief showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen(u32);

/// What is asked of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Where it came by; [`PORT_NONE`] if by none.
    pub(crate) port: u16,
    /// Its bytes.
    pub(crate) len: u32,
    /// Packets on a wire: see `Mbuf::wire_segments`.
    pub(crate) segments: u64,
}

impl Brief {
    /// All of it, read once.
    #[inline]
    pub(crate) fn read(&self) -> Seen {
        Seen(self.0.load(Ordering::Relaxed))
    }

    /// Replaces it.
    #[inline]
    pub(crate) fn write(&self, seen: Seen) {
        self.0.store(seen.0, Ordering::Relaxed);
    }
}

impl Seen {
    /// Of a packet that the meta must be asked of.
    pub(crate) const UNKNOWN: Self = Self(0);

    /// Of a fresh mbuf of `len` bytes.
    #[inline]
    pub(crate) const fn fresh(len: u16) -> Self {
        Self(KNOWN | LAZY | (NO_PORT as u32) << PORT_SHIFT | len as u32)
    }

    /// Of a packet whose meta says this; unknown if there is no room for it.
    #[inline]
    pub(crate) fn of(facts: Facts) -> Self {
        match (port_field(facts.port), u16::try_from(facts.len)) {
            (Some(port), Ok(len)) if facts.segments == 1 => {
                Self(KNOWN | u32::from(port) << PORT_SHIFT | u32::from(len))
            }
            _ => Self::UNKNOWN,
        }
    }

    /// The same packet, come by this port and queue; `None` if there is no room for them.
    #[inline]
    pub(crate) fn come_by(self, port: u16, queue: u16) -> Option<Self> {
        let queue = (queue <= QUEUE_MAX).then_some(u32::from(queue))?;
        let place = queue << QUEUE_SHIFT | u32::from(port_field(port)?) << PORT_SHIFT;
        Some(Self(self.0 & (KNOWN | LAZY | 0xffff) | place))
    }

    /// The same, now that the meta says so too.
    #[inline]
    pub(crate) const fn settled(self) -> Self {
        Self(self.0 & !LAZY)
    }

    /// Whether the meta was not written yet.
    #[inline]
    pub(crate) const fn is_lazy(self) -> bool {
        self.0 & LAZY != 0
    }

    /// What is known without asking the meta.
    #[inline]
    pub(crate) fn facts(self) -> Option<Facts> {
        (self.0 & KNOWN != 0).then(|| Facts {
            port: self.port(),
            len: u32::from(self.len()),
            segments: 1,
        })
    }

    /// The port, [`PORT_NONE`] if there is none.
    #[inline]
    pub(crate) const fn port(self) -> u16 {
        let [_, _, port, _] = self.0.to_le_bytes();
        if port == NO_PORT {
            PORT_NONE
        } else {
            port as u16
        }
    }

    /// The queue of a lazy mbuf.
    #[inline]
    pub(crate) const fn queue(self) -> u16 {
        (self.0 >> QUEUE_SHIFT) as u16 & QUEUE_MAX
    }

    /// Bytes of the packet.
    #[inline]
    pub(crate) const fn len(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

#[inline]
fn port_field(port: u16) -> Option<u8> {
    match u8::try_from(port) {
        Ok(port) if port != NO_PORT => Some(port),
        _ => (port == PORT_NONE).then_some(NO_PORT),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn facts(port: u16, len: u32, segments: u64) -> Facts {
        Facts {
            port,
            len,
            segments,
        }
    }

    #[test]
    fn facts_read_back_and_what_does_not_fit_is_not_known() {
        assert_eq!(Seen::UNKNOWN.facts(), None);
        for port in [0, 1, 0xfe, PORT_NONE] {
            for len in [0, 60, 0xffff] {
                let facts = facts(port, len, 1);
                assert_eq!(Seen::of(facts).facts(), Some(facts));
                assert!(!Seen::of(facts).is_lazy());
            }
        }
        for (port, len, segments) in [
            (0xff, 60, 1),
            (0x100, 60, 1),
            (PORT_NONE - 1, 60, 1),
            (1, 0x1_0000, 1),
            (1, 3000, 2),
        ] {
            let seen = Seen::of(facts(port, len, segments));
            assert_eq!(seen.facts(), None, "{port:#x} {len} {segments}");
        }
    }

    #[test]
    fn fresh_one_is_lazy_until_it_is_settled() {
        let fresh = Seen::fresh(1500);
        assert!(fresh.is_lazy());
        assert_eq!(fresh.facts(), Some(facts(PORT_NONE, 1500, 1)));
        let came = fresh.come_by(15, 63).unwrap();
        assert!(came.is_lazy());
        assert_eq!((came.port(), came.queue(), came.len()), (15, 63, 1500));
        assert_eq!(came.settled().facts(), came.facts());
        assert!(!came.settled().is_lazy());
        assert_eq!(fresh.come_by(0xff, 0), None);
        assert_eq!(fresh.come_by(0, 64), None);
    }
}
