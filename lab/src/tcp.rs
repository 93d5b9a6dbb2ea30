//! A TCP transfer from host to host, with the checksum of both ends.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::data::Stream;
use crate::{Error, Host};

/// Bytes per read and write.
const CHUNK_LEN: usize = 1 << 16;
/// How often a waiting end looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to move, and how patiently.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// How much.
    pub bytes: u64,
    /// Which pseudo-random bytes.
    pub seed: u64,
    /// How long nothing may move before it counts as failed.
    pub stall: Duration,
}

impl Transfer {
    /// `bytes` of the stream `seed`, given up after five seconds without movement.
    pub fn new(bytes: u64, seed: u64) -> Self {
        Self {
            bytes,
            seed,
            stall: Duration::from_secs(5),
        }
    }
}

/// What one thread sees and stops of another's transfer.
#[derive(Debug, Default)]
pub struct Watch {
    received: AtomicU64,
    cancelled: AtomicBool,
    enough: AtomicBool,
}

impl Watch {
    /// Bytes that have arrived.
    pub fn received(&self) -> u64 {
        // Relaxed: a number to look at, nothing hangs on it.
        self.received.load(Ordering::Relaxed)
    }

    /// Makes the transfer end soon, with [`Error::Cancelled`].
    pub fn cancel(&self) {
        // Relaxed: nothing else is handed over with it.
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Makes the transfer end in order before all bytes are sent: what was sent still arrives and is compared.
    pub fn finish(&self) {
        // Relaxed: nothing else is handed over with it.
        self.enough.store(true, Ordering::Relaxed);
    }

    fn is_finished(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferReport {
    /// Bytes that arrived.
    pub bytes: u64,
    /// From the connection's first byte to its end.
    pub elapsed: Duration,
    /// SHA-256 of what was sent.
    pub sent: [u8; 32],
    /// SHA-256 of what arrived.
    pub received: [u8; 32],
}

impl TransferReport {
    /// Whether what arrived is what was sent.
    pub fn is_intact(&self) -> bool {
        self.sent == self.received
    }

    /// Megabits a second.
    pub fn megabits_per_second(&self) -> u64 {
        let bits = u128::from(self.bytes) * 8;
        u64::try_from(bits / self.elapsed.as_micros().max(1)).unwrap_or(u64::MAX)
    }
}

/// Moves bytes over one TCP connection from one host to another that has the address `to.1`.
///
/// # Errors
///
/// If no connection comes about, if it breaks or stands still, or if `watch` says to stop.
pub fn tcp_transfer(
    from: &Host,
    to: (&Host, IpAddr),
    transfer: &Transfer,
    watch: &Watch,
) -> Result<TransferReport, Error> {
    let run = Run {
        transfer,
        watch,
        is_over: AtomicBool::new(false),
    };
    let listener = to.0.run(|| TcpListener::bind(SocketAddr::new(to.1, 0)))?;
    let listener = listener.map_err(|source| {
        let what = format!("listen on {} of host {}", to.1, to.0.name());
        Error::Traffic { what, source }
    })?;
    let address = listener
        .local_addr()
        .map_err(|source| failed("name a listener", source))?;
    let start = Instant::now();
    let (sent, received) = thread::scope(|scope| {
        let receiver = scope.spawn(|| run.end_with(run.receive(&listener)));
        let sent = from.run(|| run.end_with(run.send(address)));
        let sent = sent.unwrap_or_else(|error| run.end_with(Err(error)));
        (
            sent,
            receiver
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    });
    match (sent, received) {
        (Ok(sent), Ok((bytes, received))) => Ok(TransferReport {
            bytes,
            elapsed: start.elapsed(),
            sent,
            received,
        }),
        // The end that was told to stop knows less than the one that stopped.
        (Err(Error::Cancelled) | Ok(_), Err(error)) | (Err(error), _) => Err(error),
    }
}

/// One transfer under way.
struct Run<'t> {
    transfer: &'t Transfer,
    watch: &'t Watch,
    /// One end has failed, and the other need not wait for it.
    is_over: AtomicBool,
}

impl Run<'_> {
    fn end_with<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            // Relaxed: nothing else is handed over with it.
            self.is_over.store(true, Ordering::Relaxed);
        }
        result
    }

    /// Says no when the transfer is to end, or has not moved since `last`.
    fn go_on(&self, what: &'static str, bytes: u64, last: Instant) -> Result<(), Error> {
        if self.watch.is_cancelled() || self.is_over.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        if last.elapsed() > self.transfer.stall {
            let stalled_ms = self.transfer.stall.as_millis();
            return Err(Error::Stalled {
                what,
                bytes,
                stalled_ms,
            });
        }
        Ok(())
    }

    fn send(&self, address: SocketAddr) -> Result<[u8; 32], Error> {
        let mut stream = TcpStream::connect_timeout(&address, self.transfer.stall)
            .map_err(|source| failed(&format!("connect to {address}"), source))?;
        stream
            .set_write_timeout(Some(LOOK_EVERY))
            .map_err(|source| failed("set a time limit", source))?;
        let mut digest = Sha256::new();
        let mut source = Stream::new(self.transfer.seed);
        let mut chunk = vec![0; CHUNK_LEN];
        let mut sent = 0;
        let mut last = Instant::now();
        while sent < self.transfer.bytes && !self.watch.is_finished() {
            let left = usize::try_from(self.transfer.bytes - sent).unwrap_or(usize::MAX);
            let chunk = &mut chunk[..left.min(CHUNK_LEN)];
            source.fill(chunk);
            digest.update(&*chunk);
            let mut rest = &*chunk;
            while !rest.is_empty() {
                match stream.write(rest) {
                    Ok(count) => {
                        rest = &rest[count..];
                        sent += count as u64;
                        last = Instant::now();
                    }
                    Err(error) if is_wait(&error) => {}
                    Err(error) => return Err(failed("send", error)),
                }
                self.go_on("sending", sent, last)?;
            }
        }
        stream
            .shutdown(std::net::Shutdown::Write)
            .map_err(|source| failed("end a connection", source))?;
        Ok(digest.finalize().into())
    }

    fn receive(&self, listener: &TcpListener) -> Result<(u64, [u8; 32]), Error> {
        let mut stream = self.accept(listener)?;
        stream
            .set_read_timeout(Some(LOOK_EVERY))
            .map_err(|source| failed("set a time limit", source))?;
        let mut digest = Sha256::new();
        let mut chunk = vec![0; CHUNK_LEN];
        let mut received = 0;
        let mut last = Instant::now();
        loop {
            match stream.read(&mut chunk) {
                Ok(0) => return Ok((received, digest.finalize().into())),
                Ok(count) => {
                    digest.update(&chunk[..count]);
                    received += count as u64;
                    // Relaxed: a number to look at, nothing hangs on it.
                    self.watch.received.store(received, Ordering::Relaxed);
                    last = Instant::now();
                }
                Err(error) if is_wait(&error) => {}
                Err(error) => return Err(failed("receive", error)),
            }
            self.go_on("receiving", received, last)?;
        }
    }

    fn accept(&self, listener: &TcpListener) -> Result<TcpStream, Error> {
        let last = Instant::now();
        listener
            .set_nonblocking(true)
            .map_err(|source| failed("set a listener up", source))?;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream
                        .set_nonblocking(false)
                        .map_err(|source| failed("set a connection up", source))?;
                    return Ok(stream);
                }
                Err(error) if is_wait(&error) => thread::sleep(Duration::from_millis(1)),
                Err(error) => return Err(failed("accept a connection", error)),
            }
            self.go_on("connecting", 0, last)?;
        }
    }
}

fn is_wait(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

fn failed(what: &str, source: io::Error) -> Error {
    Error::Traffic {
        what: what.into(),
        source,
    }
}
