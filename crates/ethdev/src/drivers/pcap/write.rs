//! A TX queue that appends to a capture file.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use mbuf::checksum::{ChecksumError, complete};
use mbuf::{BURST_MAX, Burst, Mbuf, MbufRef, OffloadFlags, SEGMENTS_MAX};
use tracing::warn;

use super::format::{FRAME_MAX, Stamp, record_header};
use crate::driver::TxQueue;
use crate::stats::{DropReason, QueueCounters, QueueState};

/// Pieces of a record: its header, its segments, and three more where a VLAN tag goes in.
const RECORD_PIECES: usize = 1 + SEGMENTS_MAX + 3;
/// Pieces written in one call. The kernel takes 1024.
const PIECES: usize = 512;
const _: () = assert!(RECORD_PIECES <= PIECES && 4 * BURST_MAX <= PIECES);

const HEADER_LEN: usize = 16;
/// Where a VLAN tag goes: behind both addresses.
const TAG_AT: usize = 12;

/// Appends whole records, a burst in one call.
pub(super) struct PcapTx {
    counters: QueueCounters,
    file: File,
    path: PathBuf,
    stamp: Stamp,
    failed: bool,
}

impl PcapTx {
    pub(super) fn new(counters: QueueCounters, file: File, path: PathBuf, stamp: Stamp) -> Self {
        // A successor tries again where its predecessor failed.
        counters.set_state(QueueState::Running, 0);
        Self {
            counters,
            file,
            path,
            stamp,
            failed: false,
        }
    }

    /// Writes the first packets of the burst, as many as fit one call, and returns how many those were.
    fn write(&mut self, burst: &Burst<'_>, from: usize, time: Duration) -> usize {
        let mut headers = [[0; HEADER_LEN]; BURST_MAX];
        let mut tags = [[0; 4]; BURST_MAX];
        let mut lens = [0; BURST_MAX];
        let waiting: [Option<MbufRef<'_, '_>>; BURST_MAX] =
            std::array::from_fn(|at| burst.get(from + at));
        let waiting = || waiting.iter().flatten();
        for ((mbuf, header), (tag, len)) in waiting()
            .zip(&mut headers)
            .zip(tags.iter_mut().zip(&mut lens))
        {
            let tagged =
                mbuf.flags().contains(OffloadFlags::TX_VLAN_INSERT) && mbuf.len() >= TAG_AT;
            if tagged {
                let [high, low] = mbuf.vlan_tci().to_be_bytes();
                *tag = [0x81, 0, high, low];
            }
            let frame_len = mbuf.packet_len() + if tagged { tag.len() } else { 0 };
            *header = record_header(
                self.stamp,
                time,
                u32::try_from(frame_len).unwrap_or(u32::MAX),
            );
            *len = HEADER_LEN + frame_len;
        }
        let mut pieces = Pieces::new();
        let mut gathered = 0;
        for ((mbuf, header), tag) in waiting().zip(&headers).zip(&tags) {
            if pieces.room() < RECORD_PIECES && pieces.room() < 4 + mbuf.segment_count() {
                break;
            }
            pieces.push(header);
            let mut segments = mbuf.segments();
            if tag != &[0; 4]
                && let Some((addresses, rest)) = segments
                    .next()
                    .and_then(|first| first.split_at_checked(TAG_AT))
            {
                pieces.push(addresses);
                pieces.push(tag);
                pieces.push(rest);
            }
            for segment in segments {
                pieces.push(segment);
            }
            gathered += 1;
        }
        let wanted: usize = lens[..gathered].iter().sum();
        match self.append(pieces.filled()) {
            Ok(written) if written == wanted => {}
            outcome => {
                let (written, error) = match outcome {
                    Ok(written) => (written, io::Error::from(io::ErrorKind::StorageFull)),
                    Err(error) => (0, error),
                };
                let whole = self.take_back(&lens[..gathered], written);
                for mbuf in waiting().take(gathered).skip(whole) {
                    self.counters.dropped_taken(DropReason::Refused, mbuf);
                }
                self.fail(&error);
            }
        }
        gathered
    }

    /// One call, so that the kernel appends the records as one piece.
    fn append(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        // A signal before the first byte starts the call anew; signals are few.
        loop {
            match self.file.write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    /// After a call that wrote less: cuts off the record that is not whole, if it is still the end of the file. How many
    /// records are whole.
    pub(super) fn take_back(&self, lens: &[usize], written: usize) -> usize {
        let (mut whole, mut sum) = (0, 0);
        while let Some(len) = lens.get(whole).filter(|len| sum + **len <= written) {
            sum += len;
            whole += 1;
        }
        let part = (written - sum) as u64;
        if part > 0
            && let Ok(metadata) = self.file.metadata()
            && metadata.is_file()
            && let Some(end) = metadata.len().checked_sub(part)
            && self.starts_record(end, lens[whole])
        {
            // Failing leaves the cut record, which a reader reports.
            let _ = self.file.set_len(end);
        }
        whole
    }

    /// Whether a record with a frame of the length that was to be written starts there: whether nobody has written since.
    fn starts_record(&self, offset: u64, len: usize) -> bool {
        let mut header = [0; HEADER_LEN];
        match self.file.read_at(&mut header, offset) {
            Ok(HEADER_LEN) => {
                let [.., a, b, c, d] = header;
                u32::from_le_bytes([a, b, c, d]) as usize == len - HEADER_LEN
            }
            // Not even the header was written.
            Ok(_) => true,
            Err(_) => false,
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.failed = true;
        let number = error
            .raw_os_error()
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or(0);
        self.counters.set_state(QueueState::Failed, number);
        warn!(
            "{}: cannot write: {error}; what is sent there is dropped from now on",
            self.path.display()
        );
    }

    /// Takes the packets that cannot be written out of the burst, and completes the checksums of the others.
    fn prepare(&self, burst: &mut Burst<'_>) {
        let lcore = burst.lcore();
        let mut ready = Burst::new(lcore);
        for mut mbuf in burst.drain() {
            let refused = match complete(&mut mbuf) {
                Ok(()) => None,
                Err(ChecksumError::Shared) => match deep(&mbuf) {
                    Some(copy) => {
                        mbuf = copy;
                        None
                    }
                    None => Some(DropReason::NoBuffer),
                },
                Err(_) => Some(DropReason::Checksum),
            };
            let too_long = mbuf.packet_len() > FRAME_MAX - 4;
            match refused.or(too_long.then_some(DropReason::TooLong)) {
                Some(reason) => self.counters.dropped_taken(reason, &mbuf),
                None => drop(ready.push(mbuf)),
            }
        }
        burst.append(&mut ready);
    }
}

/// A copy whose checksum is complete.
fn deep<'c>(mbuf: &Mbuf<'c>) -> Option<Mbuf<'c>> {
    let mut copy = mbuf.clone_deep(mbuf.pool())?;
    complete(&mut copy).ok()?;
    Some(copy)
}

impl TxQueue for PcapTx {
    fn tx_burst(&mut self, burst: &mut Burst<'_>) -> usize {
        let count = burst.len();
        if !self.failed
            && burst.iter().any(|mbuf| {
                mbuf.flags().contains(OffloadFlags::TX_L4_CSUM) || mbuf.packet_len() > FRAME_MAX - 4
            })
        {
            self.prepare(burst);
        }
        let time = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let mut done = 0;
        while done < burst.len() && !self.failed {
            done += self.write(burst, done, time);
        }
        for mbuf in burst.iter().skip(done) {
            self.counters.dropped_taken(DropReason::Refused, &mbuf);
        }
        burst.clear();
        count
    }
}

/// What one call writes.
struct Pieces<'p> {
    pieces: [IoSlice<'p>; PIECES],
    len: usize,
}

impl<'p> Pieces<'p> {
    fn new() -> Self {
        Self {
            pieces: [IoSlice::new(&[]); PIECES],
            len: 0,
        }
    }

    fn room(&self) -> usize {
        PIECES - self.len
    }

    fn push(&mut self, bytes: &'p [u8]) {
        // The room was asked for before; a piece too many would make a short record, which is reported.
        if let Some(piece) = self.pieces.get_mut(self.len) {
            *piece = IoSlice::new(bytes);
            self.len += 1;
        }
    }

    fn filled(&self) -> &[IoSlice<'p>] {
        &self.pieces[..self.len]
    }
}
