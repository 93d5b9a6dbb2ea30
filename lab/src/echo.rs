//! Numbered UDP datagrams to who sends them back.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::data::Stream;
use crate::{Error, Host};

/// Bytes that the number takes.
const NUMBER_LEN: usize = 8;
/// The longest datagram there is.
const DATAGRAM_MAX: usize = 1 << 16;

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Echo {
    /// How many datagrams.
    pub count: u64,
    /// Bytes behind the UDP header, 8 at least.
    pub payload_len: usize,
    /// How many are under way at a time: what the sockets' buffers hold.
    pub window: u64,
    /// How long nothing may come back before those under way count as lost.
    pub timeout: Duration,
}

impl Default for Echo {
    /// A thousand datagrams of 1,000 bytes, 16 at a time, given up after a second.
    fn default() -> Self {
        Self {
            count: 1000,
            payload_len: 1000,
            window: 16,
            timeout: Duration::from_secs(1),
        }
    }
}

/// What came back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EchoReport {
    /// Datagrams sent.
    pub sent: u64,
    /// Different datagrams that came back as they were sent.
    pub received: u64,
    /// Datagrams that came back again.
    pub duplicates: u64,
    /// Datagrams that came back with other bytes, or shorter, or longer.
    pub damaged: u64,
    /// Bytes that came back right.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl EchoReport {
    /// Datagrams that did not come back.
    pub fn lost(&self) -> u64 {
        self.sent - self.received
    }

    /// Adds what a further round brought.
    pub fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.received += other.received;
        self.duplicates += other.duplicates;
        self.damaged += other.damaged;
        self.bytes += other.bytes;
        self.elapsed += other.elapsed;
    }

    /// Whether each came back once, and as it was.
    pub fn is_whole(&self) -> bool {
        self.lost() == 0 && self.duplicates == 0 && self.damaged == 0
    }
}

/// Sends datagrams from a host to `to`, which sends them back, and compares every byte.
///
/// # Errors
///
/// If the socket cannot be opened, or `to` refuses; a lost datagram is no error.
pub fn udp_echo(from: &Host, to: SocketAddr, how: &Echo) -> Result<EchoReport, Error> {
    let failed = |source| Error::Traffic {
        what: format!("send datagrams to {to} from {} and back", from.name()),
        source,
    };
    let socket = from.run(|| connected(to))?.map_err(failed)?;
    socket.set_read_timeout(Some(how.timeout)).map_err(failed)?;
    exchange(&socket, how).map_err(failed)
}

fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Room for a window, as far as the kernel grants it.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 8 << 20);
    // Answers from another address than the one asked are none.
    socket.connect(to)?;
    Ok(socket)
}

fn exchange(socket: &UdpSocket, how: &Echo) -> io::Result<EchoReport> {
    let start = Instant::now();
    let mut report = EchoReport::default();
    let mut under_way = HashSet::new();
    let len = how.payload_len.max(NUMBER_LEN);
    let (mut datagram, mut wanted) = (vec![0; len], vec![0; len]);
    let mut answer = vec![0; DATAGRAM_MAX];
    while report.sent < how.count || !under_way.is_empty() {
        while report.sent < how.count && (under_way.len() as u64) < how.window {
            write(&mut datagram, report.sent);
            match socket.send(&datagram) {
                Ok(_) => {
                    under_way.insert(report.sent);
                    report.sent += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        match socket.recv(&mut answer) {
            Ok(len) => note(&answer[..len], &mut wanted, &mut under_way, &mut report),
            Err(error) if is_over(&error) => under_way.clear(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    report.elapsed = start.elapsed();
    Ok(report)
}

fn note(answer: &[u8], wanted: &mut [u8], under_way: &mut HashSet<u64>, report: &mut EchoReport) {
    let number = answer.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    let Some(number) = number.filter(|number| *number < report.sent) else {
        report.damaged += 1;
        return;
    };
    write(wanted, number);
    if answer != wanted {
        report.damaged += 1;
    } else if under_way.remove(&number) {
        report.received += 1;
        report.bytes += answer.len() as u64;
    } else {
        report.duplicates += 1;
    }
}

fn write(datagram: &mut [u8], number: u64) {
    let (head, filling) = datagram.split_at_mut(NUMBER_LEN);
    head.copy_from_slice(&number.to_be_bytes());
    Stream::new(number.wrapping_add(1)).fill(filling);
}

fn is_over(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
