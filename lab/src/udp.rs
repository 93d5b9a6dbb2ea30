//! Numbered and checksummed UDP packets from host to host.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::{Duration, Instant};

use crate::data::{Stream, checksum};
use crate::{Error, Host};

/// Number, then checksum of number and filling.
const HEADER_LEN: usize = 16;
/// How long after the last packet a late one is still waited for.
const LINGER: Duration = Duration::from_millis(300);

/// What to send.
#[derive(Debug, Clone, Copy)]
pub struct Blast {
    /// How many packets.
    pub count: u64,
    /// Bytes behind the UDP header, 16 at least.
    pub payload_len: usize,
    /// From how many source ports, in turn: as many flows.
    pub flows: u16,
    /// At most so many packets a second; 0 for as fast as it goes.
    pub rate: u32,
}

impl Default for Blast {
    /// A thousand packets of 64 bytes from eight ports at 20,000 a second.
    fn default() -> Self {
        Self {
            count: 1000,
            payload_len: 64,
            flows: 8,
            rate: 20_000,
        }
    }
}

/// What arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlastReport {
    /// Packets that the sender's kernel took.
    pub sent: u64,
    /// Different packets that arrived whole.
    pub received: u64,
    /// Packets that arrived again.
    pub duplicates: u64,
    /// Packets of a flow that arrived after a later one of the same flow.
    pub reordered: u64,
    /// Packets whose bytes were others.
    pub damaged: u64,
}

/// Sends numbered packets from one host to another that has the address `to.1`, and counts them.
///
/// # Errors
///
/// If a socket cannot be opened; a lost packet is no error.
pub fn udp_blast(from: &Host, to: (&Host, IpAddr), blast: &Blast) -> Result<BlastReport, Error> {
    let failed = |what: String| move |source| Error::Traffic { what, source };
    let receiver = to.0.run(|| UdpSocket::bind(SocketAddr::new(to.1, 0)))?;
    let receiver = receiver.map_err(failed(format!("bind {} on {}", to.1, to.0.name())))?;
    // Room for what comes while the receiving thread does not run; as much as the kernel grants.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&receiver, 8 << 20);
    let address = receiver
        .local_addr()
        .map_err(failed("name a socket".into()))?;
    let any: IpAddr = if to.1.is_ipv4() {
        [0; 4].into()
    } else {
        [0; 16].into()
    };
    let senders = from.run(|| {
        let open = |_| {
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(address)?;
            Ok(socket)
        };
        (0..blast.flows.max(1))
            .map(open)
            .collect::<std::io::Result<Vec<_>>>()
    })?;
    let senders = senders.map_err(failed(format!("reach {address} from {}", from.name())))?;
    receiver
        .set_read_timeout(Some(Duration::from_millis(20)))
        .map_err(failed("set a time limit".into()))?;
    Ok(thread::scope(|scope| {
        let sending = scope.spawn(|| send(&senders, blast));
        let mut report = receive(&receiver, senders.len(), || sending.is_finished());
        report.sent = sending
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        report
    }))
}

/// Returns how many packets the kernel took.
fn send(senders: &[UdpSocket], blast: &Blast) -> u64 {
    let start = Instant::now();
    let mut sent = 0;
    let mut packet = vec![0; blast.payload_len.max(HEADER_LEN)];
    for (number, socket) in (0..blast.count).zip(senders.iter().cycle()) {
        packet[..8].copy_from_slice(&number.to_be_bytes());
        Stream::new(number).fill(&mut packet[HEADER_LEN..]);
        packet[8..HEADER_LEN].fill(0);
        let sum = checksum(&packet);
        packet[8..HEADER_LEN].copy_from_slice(&sum.to_be_bytes());
        sent += u64::from(socket.send(&packet).is_ok());
        if let Some(wanted_us) = (number * 1_000_000).checked_div(blast.rate.into()) {
            let due = start + Duration::from_micros(wanted_us);
            // Sleeping is no finer than this; what is due sooner goes at once.
            if due.saturating_duration_since(Instant::now()) > Duration::from_millis(1) {
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    }
    sent
}

fn receive(socket: &UdpSocket, flows: usize, is_all_sent: impl Fn() -> bool) -> BlastReport {
    let mut report = BlastReport::default();
    let mut seen = HashSet::new();
    let mut latest = vec![None; flows];
    let mut packet = vec![0; 1 << 16];
    let mut last = Instant::now();
    loop {
        match socket.recv(&mut packet) {
            Ok(len) => {
                last = Instant::now();
                let Some(number) = verify(&mut packet[..len]) else {
                    report.damaged += 1;
                    continue;
                };
                if !seen.insert(number) {
                    report.duplicates += 1;
                    continue;
                }
                report.received += 1;
                let flow = usize::try_from(number).unwrap_or(0) % flows;
                report.reordered += u64::from(latest[flow] > Some(number));
                latest[flow] = latest[flow].max(Some(number));
            }
            Err(_) if !is_all_sent() => last = Instant::now(),
            Err(_) if last.elapsed() > LINGER => return report,
            Err(_) => {}
        }
    }
}

/// The number of a packet that arrived as it was sent.
fn verify(packet: &mut [u8]) -> Option<u64> {
    let (number, rest) = packet.split_first_chunk_mut::<8>()?;
    let (sum, _) = rest.split_first_chunk_mut::<8>()?;
    let number = u64::from_be_bytes(*number);
    let wanted = u64::from_be_bytes(*sum);
    sum.fill(0);
    (checksum(packet) == wanted).then_some(number)
}

/// Has the kernel cut what a socket sends into datagrams of so many bytes, as late as it can: `UDP_SEGMENT`, as HTTP/3 uses it.
///
/// # Errors
///
/// If the kernel does not know that.
pub fn udp_segment(socket: &UdpSocket, len: u16) -> Result<(), Error> {
    crate::sys::set_udp_segment(socket.as_fd(), len).map_err(|source| Error::Traffic {
        what: format!("have datagrams of {len} bytes cut by the kernel"),
        source,
    })
}
