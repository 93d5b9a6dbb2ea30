//! Echo requests and their replies, over IPv4 (RFC 792) and IPv6 (RFC 4443).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto};

use crate::data::Stream;
use crate::{Error, Host};

const ECHO_HEADER_LEN: usize = 8;

/// How to ping.
#[derive(Debug, Clone, Copy)]
pub struct Ping {
    /// How many requests are sent.
    pub count: u16,
    /// Time from one request to the next.
    pub interval: Duration,
    /// How long each is waited for.
    pub timeout: Duration,
    /// Bytes behind the ICMP header.
    pub payload_len: usize,
}

impl Default for Ping {
    /// Five requests of the usual 56 bytes, 10 ms apart, waited for one second each.
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_millis(10), Duration::from_secs(1));
        Self {
            count: 5,
            interval,
            timeout,
            payload_len: 56,
        }
    }
}

/// What came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u16,
    /// Requests answered with the same bytes in time.
    pub received: u16,
    /// Replies whose bytes were others.
    pub damaged: u16,
    /// Replies that came when they were not waited for any more: too late, or a second time.
    pub late: u16,
    /// The fastest answer.
    pub fastest: Duration,
    /// All answers on average.
    pub average: Duration,
    /// The slowest answer.
    pub slowest: Duration,
}

impl PingReport {
    /// Requests without an answer.
    pub fn lost(&self) -> u16 {
        self.sent - self.received
    }
}

/// Sends echo requests from a host and waits for the answers.
///
/// # Errors
///
/// If the socket cannot be opened or nothing can be sent; a lost packet is no error.
pub fn ping(from: &Host, to: IpAddr, how: &Ping) -> Result<PingReport, Error> {
    let failed = |source| Error::Traffic {
        what: format!("ping {to} from {}", from.name()),
        source,
    };
    let socket = from.run(|| open(to))?.map_err(failed)?;
    let mut total = Duration::ZERO;
    let mut report = PingReport {
        fastest: Duration::MAX,
        ..PingReport::default()
    };
    let echo = Echo::new(to, how.payload_len);
    for sequence in 1..=how.count {
        let start = Instant::now();
        let request = echo.request(sequence);
        send(&socket, &request, to).map_err(failed)?;
        report.sent += 1;
        let until = start + how.timeout;
        if echo
            .await_reply(&socket, sequence, until, &mut report)
            .map_err(failed)?
        {
            let rtt = start.elapsed();
            report.received += 1;
            total += rtt;
            report.fastest = report.fastest.min(rtt);
            report.slowest = report.slowest.max(rtt);
        }
        if sequence < how.count {
            thread::sleep((start + how.interval).saturating_duration_since(Instant::now()));
        }
    }
    report.average = total
        .checked_div(report.received.into())
        .unwrap_or_default();
    report.fastest = report.fastest.min(report.slowest);
    Ok(report)
}

fn open(to: IpAddr) -> io::Result<OwnedFd> {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
    };
    let socket = rustix::net::socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(protocol),
    )?;
    // Or what others ask this host for would fill its queue, and replies were lost behind it.
    let is_v4 = to.is_ipv4();
    crate::sys::hear_icmp(socket.as_fd(), is_v4, if is_v4 { 0 } else { 129 })?;
    Ok(socket)
}

/// Sends one request. What the network refuses at this moment counts as lost.
fn send(socket: &OwnedFd, request: &[u8], to: IpAddr) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::net::sendto(socket, request, SendFlags::empty(), &SocketAddr::new(to, 0)) {
        Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::HOSTUNREACH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What tells our requests from everybody else's.
struct Echo {
    is_v4: bool,
    id: u16,
    payload: Vec<u8>,
}

impl Echo {
    fn new(to: IpAddr, payload_len: usize) -> Self {
        static COUNT: AtomicU16 = AtomicU16::new(0);
        // Relaxed: only the number has to be another one each time.
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let id = u16::from_be_bytes([high, low]).wrapping_add(count.wrapping_mul(257));
        let mut payload = vec![0; payload_len];
        Stream::new(id.into()).fill(&mut payload);
        Self {
            is_v4: to.is_ipv4(),
            id,
            payload,
        }
    }

    fn request(&self, sequence: u16) -> Vec<u8> {
        let mut packet = vec![if self.is_v4 { 8 } else { 128 }, 0, 0, 0];
        packet.extend_from_slice(&self.id.to_be_bytes());
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&self.payload);
        if self.is_v4 {
            // The kernel writes that of ICMPv6 itself.
            let sum = internet_checksum(&packet).to_be_bytes();
            packet[2..4].copy_from_slice(&sum);
        }
        packet
    }

    /// Waits for the reply to `sequence`, counting what else comes of ours.
    fn await_reply(
        &self,
        socket: &OwnedFd,
        sequence: u16,
        until: Instant,
        report: &mut PingReport,
    ) -> io::Result<bool> {
        let mut packet = vec![0; ECHO_HEADER_LEN + 60 + self.payload.len() + 1];
        loop {
            match rustix::net::recv(socket, &mut packet[..], RecvFlags::empty()) {
                Ok((len, _)) => match self.reply(&packet[..len]) {
                    Some((got, true)) if got == sequence => return Ok(true),
                    Some((got, true)) if got < sequence => report.late += 1,
                    Some((_, false)) => report.damaged += 1,
                    _ => {}
                },
                Err(rustix::io::Errno::AGAIN) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    let left = Timespec::try_from(left).ok();
                    let mut ready = [PollFd::new(socket, PollFlags::IN)];
                    match poll(&mut ready, left.as_ref()) {
                        Ok(_) | Err(rustix::io::Errno::INTR) => {}
                        Err(errno) => return Err(errno.into()),
                    }
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::HOSTUNREACH) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The sequence number of a reply to us, and whether its payload is ours.
    fn reply(&self, packet: &[u8]) -> Option<(u16, bool)> {
        let (message, kind) = if self.is_v4 {
            let header_len = usize::from(packet.first()? & 0x0f) * 4;
            (packet.get(header_len..)?, 0)
        } else {
            (packet, 129)
        };
        let (header, payload) = message.split_first_chunk::<ECHO_HEADER_LEN>()?;
        let is_ours = header[0] == kind && header[4..6] == self.id.to_be_bytes();
        is_ours.then(|| {
            (
                u16::from_be_bytes([header[6], header[7]]),
                payload == self.payload,
            )
        })
    }
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let mut sum: u64 = bytes
        .chunks(2)
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits just above")
}
