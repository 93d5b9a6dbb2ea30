//! Capture files: frames out of pcap and pcapng, and records of pcap to be written.
//!
//! ```text
//! pcap     file header 24 | record header 16, frame | record header, frame | ...
//! pcapng   section header | interface | packet block | any other block | ...      each with its length at both ends
//! ```
//!
//! [`Reader`] streams through a window of fixed size and reads each byte of the file once. It frames records and blocks
//! itself, so that a length is checked before anything is read by it and blocks of no interest are passed unread; what
//! is inside them `pcap-parser` tells.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use pcap_parser::nom;
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, Linktype, PcapError, PcapHeader};

/// Longest frame that is taken from a file, and the snapshot length of files that are written: the limit of `libpcap`.
pub const FRAME_MAX: usize = SNAPLEN as usize;

/// The same, as it stands in a file's header.
const SNAPLEN: u32 = 262_144;

/// Longest pcapng block that carries a frame: the frame, the block's own fields and options.
const PACKET_BLOCK_MAX: usize = FRAME_MAX + 65_536;
/// Longest section header or interface block.
const DESCRIPTION_BLOCK_MAX: usize = 65_536;
/// Interfaces of a section that are remembered.
const INTERFACES_MAX: usize = 4096;
/// What is read at a time, and so the most that must be there to be looked at.
const WINDOW_LEN: usize = 512 * 1024;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// As a little-endian reader sees it in a section of its own byte order.
const BYTE_ORDER: u32 = 0x1a2b_3c4d;

/// Bytes that can be read at any place: a file, or memory in tests.
pub trait Source {
    /// Reads at `offset`; 0 is the end.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl Source for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        S::read_at(self, buffer, offset)
    }
}

impl Source for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Where a file stops making sense, and why.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}: {damage}")]
pub struct Malformed {
    /// Where the record or block starts.
    pub offset: u64,
    /// What is wrong with it.
    pub damage: Damage,
}

/// What is wrong with a capture file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The file starts as neither pcap nor pcapng.
    #[error("neither pcap nor pcapng; convert it with `editcap -F pcap`")]
    NotACapture,
    /// The file ends inside a header, a record or a block.
    #[error("the file is cut short; `editcap` rewrites what is whole")]
    Truncated,
    /// The frames are not Ethernet.
    #[error("link type {0} is not Ethernet (1); capture on an Ethernet interface")]
    LinkType(i32),
    /// A record that no capture program writes.
    #[error(
        "a frame of {0} bytes, and {FRAME_MAX} is the most; `editcap -F pcap` rewrites what can be read"
    )]
    FrameTooLong(u64),
    /// A block whose length cannot be.
    #[error(
        "a block of type {kind:#x} with length {len}; `editcap -F pcap` rewrites what can be read"
    )]
    BlockLength {
        /// The block's type.
        kind: u32,
        /// Its length.
        len: u32,
    },
    /// A packet of an interface that the section did not describe.
    #[error("a packet of interface {0}, which the file does not describe; capture it again")]
    NoInterface(u32),
    /// More interfaces than are remembered.
    #[error(
        "more than {INTERFACES_MAX} interfaces in a section; capture from fewer, or split the file"
    )]
    TooManyInterfaces,
    /// What is inside a record or block does not fit it.
    #[error("its fields contradict each other; `editcap -F pcap` rewrites what can be read")]
    Contradiction,
    /// The kernel could not read.
    #[error("cannot read: {0}")]
    Read(#[from] io::Error),
}

impl Damage {
    fn at(self, offset: u64) -> Malformed {
        Malformed {
            offset,
            damage: self,
        }
    }
}

/// Which of the formats, and what its header said.
#[derive(Debug)]
enum Format {
    Pcap {
        big_endian: bool,
        modified: bool,
    },
    PcapNg {
        big_endian: bool,
        interfaces: Vec<Interface>,
    },
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: i32,
    snaplen: u32,
}

/// Frames of a capture file, one after the other.
#[derive(Debug)]
pub struct Reader<S> {
    window: Window<S>,
    format: Format,
    /// Bytes of the record or block that was taken last, still in the window.
    last: usize,
}

impl<S: Source> Reader<S> {
    /// Looks at the file up to its first frame, so that what is no capture is told here; starts at the beginning.
    ///
    /// # Errors
    ///
    /// [`Malformed`], with the place and the reason.
    pub fn open(source: S) -> Result<Self, Malformed> {
        let mut reader = Self {
            window: Window::new(source),
            format: Format::PcapNg {
                big_endian: false,
                interfaces: Vec::new(),
            },
            last: 0,
        };
        reader.start()?;
        reader.next_frame()?;
        reader.rewind()?;
        Ok(reader)
    }

    /// Goes back to the first frame.
    ///
    /// # Errors
    ///
    /// When the file has been changed since it was opened.
    pub fn rewind(&mut self) -> Result<(), Malformed> {
        self.window.seek(0);
        self.last = 0;
        self.start()
    }

    /// Where the next record or block starts.
    pub fn offset(&self) -> u64 {
        self.window.offset
    }

    /// The next frame; `None` at the end of the file. After an error it says the same error again.
    ///
    /// # Errors
    ///
    /// [`Malformed`], with the place and the reason.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, Malformed> {
        self.last = 0;
        let found = match self.format {
            Format::Pcap {
                big_endian,
                modified,
            } => self.next_record(big_endian, modified),
            Format::PcapNg { .. } => self.next_packet_block(),
        };
        match found {
            Ok(None) => Ok(None),
            Ok(Some(Found {
                start,
                len,
                consumed,
            })) => {
                let at = self.window.start + start;
                self.window.advance(consumed);
                self.last = consumed;
                Ok(Some(&self.window.buffer[at..at + len]))
            }
            // Blocks before the bad one have been passed; the place to name is the bad one's.
            Err(damage) => Err(damage.at(self.window.offset)),
        }
    }

    /// Puts the frame that was read last back, once: the next one is the same again.
    pub fn unread(&mut self) {
        // Nothing was read since, so the frame still lies before the window's start.
        self.window.start -= self.last;
        self.window.offset -= self.last as u64;
        self.last = 0;
    }

    /// Reads the file's header.
    fn start(&mut self) -> Result<(), Malformed> {
        self.format = self.read_header().map_err(|damage| damage.at(0))?;
        Ok(())
    }

    fn read_header(&mut self) -> Result<Format, Damage> {
        if !self.window.fill(4)? {
            return Err(Damage::NotACapture);
        }
        if self.window.u32(0, false) == SECTION {
            return Ok(Format::PcapNg {
                big_endian: false,
                interfaces: Vec::new(),
            });
        }
        let whole = self.window.fill(PCAP_HEADER_LEN)?;
        let header = match pcap_parser::parse_pcap_header(self.window.data()) {
            Ok((_, header)) => header,
            Err(nom::Err::Incomplete(_)) if !whole => return Err(Damage::Truncated),
            Err(_) => return Err(Damage::NotACapture),
        };
        self.window.advance(PCAP_HEADER_LEN);
        check_link(header.network.0)?;
        Ok(Format::Pcap {
            big_endian: header.is_bigendian(),
            modified: header.is_modified_format(),
        })
    }

    fn next_record(&mut self, big_endian: bool, modified: bool) -> Result<Option<Found>, Damage> {
        let header_len = if modified {
            MODIFIED_RECORD_HEADER_LEN
        } else {
            RECORD_HEADER_LEN
        };
        if !self.window.fill(header_len)? {
            return if self.window.data().is_empty() {
                Ok(None)
            } else {
                Err(Damage::Truncated)
            };
        }
        let len = self.window.u32(8, big_endian) as usize;
        if len > FRAME_MAX {
            return Err(Damage::FrameTooLong(len as u64));
        }
        if !self.window.fill(header_len + len)? {
            return Err(Damage::Truncated);
        }
        let parse = match (modified, big_endian) {
            (true, _) => pcap_parser::parse_pcap_frame_modified,
            (false, true) => pcap_parser::parse_pcap_frame_be,
            (false, false) => pcap_parser::parse_pcap_frame,
        };
        let (_, record) = parse(self.window.data()).map_err(contradiction)?;
        Ok(Some(Found {
            start: header_len,
            len: record.data.len(),
            consumed: header_len + record.data.len(),
        }))
    }

    /// Passes blocks until one carries a frame. Each pass takes at least twelve bytes of the file.
    fn next_packet_block(&mut self) -> Result<Option<Found>, Damage> {
        loop {
            if !self.window.fill(BLOCK_LEN_MIN)? {
                return if self.window.data().is_empty() {
                    Ok(None)
                } else {
                    Err(Damage::Truncated)
                };
            }
            let Format::PcapNg {
                big_endian,
                interfaces,
            } = &mut self.format
            else {
                return Err(Damage::NotACapture);
            };
            if self.window.u32(0, false) == SECTION {
                *big_endian = match self.window.u32(8, false) {
                    BYTE_ORDER => false,
                    order if order == BYTE_ORDER.swap_bytes() => true,
                    _ => return Err(Damage::NotACapture),
                };
                interfaces.clear();
            }
            let (kind, len) = (
                self.window.u32(0, *big_endian),
                self.window.u32(4, *big_endian),
            );
            let most = match kind {
                SECTION | INTERFACE => DESCRIPTION_BLOCK_MAX,
                SIMPLE_PACKET | ENHANCED_PACKET => PACKET_BLOCK_MAX,
                _ => usize::MAX,
            };
            let block_len = len as usize;
            if block_len < BLOCK_LEN_MIN || !block_len.is_multiple_of(4) || block_len > most {
                return Err(Damage::BlockLength { kind, len });
            }
            if most == usize::MAX {
                if !self.window.pass(u64::from(len))? {
                    return Err(Damage::Truncated);
                }
                continue;
            }
            if !self.window.fill(block_len)? {
                return Err(Damage::Truncated);
            }
            let block = &self.window.data()[..block_len];
            let parse = if *big_endian {
                pcap_parser::parse_block_be
            } else {
                pcap_parser::parse_block_le
            };
            let (_, block) = parse(block).map_err(contradiction)?;
            let found = match block {
                Block::InterfaceDescription(block) => {
                    if interfaces.len() >= INTERFACES_MAX {
                        return Err(Damage::TooManyInterfaces);
                    }
                    interfaces.push(Interface {
                        link: block.linktype.0,
                        snaplen: block.snaplen,
                    });
                    None
                }
                Block::EnhancedPacket(block) => {
                    let interface = usize::try_from(block.if_id)
                        .ok()
                        .and_then(|id| interfaces.get(id));
                    check_link(interface.ok_or(Damage::NoInterface(block.if_id))?.link)?;
                    let len = block.packet_data().len();
                    (block.caplen as usize == len)
                        .then_some(())
                        .ok_or(Damage::Contradiction)?;
                    Some((ENHANCED_PACKET_HEADER_LEN, len))
                }
                Block::SimplePacket(block) => {
                    // RFC-to-be pcapng section 4.4: the frame is as long as it was, or as interface 0 captures.
                    let interface = interfaces.first().ok_or(Damage::NoInterface(0))?;
                    check_link(interface.link)?;
                    let snaplen = if interface.snaplen == 0 {
                        u32::MAX
                    } else {
                        interface.snaplen
                    };
                    let len = block.origlen.min(snaplen) as usize;
                    (len <= block.data.len())
                        .then_some(())
                        .ok_or(Damage::Contradiction)?;
                    Some((SIMPLE_PACKET_HEADER_LEN, len))
                }
                _ => None,
            };
            match found {
                Some((_, len)) if len > FRAME_MAX => return Err(Damage::FrameTooLong(len as u64)),
                Some((start, len)) => {
                    return Ok(Some(Found {
                        start,
                        len,
                        consumed: block_len,
                    }));
                }
                None => self.window.advance(block_len),
            }
        }
    }
}

/// Where a frame lies in the window, and how much of the file it takes.
struct Found {
    start: usize,
    len: usize,
    consumed: usize,
}

const PCAP_HEADER_LEN: usize = 24;
const RECORD_HEADER_LEN: usize = 16;
const MODIFIED_RECORD_HEADER_LEN: usize = 24;
const BLOCK_LEN_MIN: usize = 12;
const ENHANCED_PACKET_HEADER_LEN: usize = 28;
const SIMPLE_PACKET_HEADER_LEN: usize = 12;

// The longest that is asked for at once.
const _: () =
    assert!(PACKET_BLOCK_MAX <= WINDOW_LEN && MODIFIED_RECORD_HEADER_LEN + FRAME_MAX <= WINDOW_LEN);

fn check_link(link: i32) -> Result<(), Damage> {
    if Linktype(link) == Linktype::ETHERNET {
        Ok(())
    } else {
        Err(Damage::LinkType(link))
    }
}

/// The record is there as a whole, so whatever the parser misses, its fields promised too much.
fn contradiction(_: nom::Err<PcapError<&[u8]>>) -> Damage {
    Damage::Contradiction
}

/// A part of the file in memory.
#[derive(Debug)]
struct Window<S> {
    source: S,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Of the byte at `start`, in the file.
    offset: u64,
}

impl<S: Source> Window<S> {
    fn new(source: S) -> Self {
        Self {
            source,
            buffer: vec![0; WINDOW_LEN],
            start: 0,
            end: 0,
            offset: 0,
        }
    }

    fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The word `at` bytes into the window; [`fill`](Self::fill) has made sure of it.
    fn u32(&self, at: usize, big_endian: bool) -> u32 {
        let bytes = self
            .data()
            .get(at..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or_default();
        if big_endian {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        }
    }

    /// Sees to it that `len` bytes are there; `false` if the file ends before.
    fn fill(&mut self, len: usize) -> io::Result<bool> {
        debug_assert!(
            len <= WINDOW_LEN,
            "no more is asked for than the window holds"
        );
        if self.end - self.start >= len {
            return Ok(true);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < len {
            match self.source.read_at(
                &mut self.buffer[self.end..],
                self.offset.saturating_add(self.end as u64),
            ) {
                Ok(0) => return Ok(false),
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Leaves the first `len` bytes behind; they are there.
    fn advance(&mut self, len: usize) {
        debug_assert!(
            self.start + len <= self.end,
            "only what is there is left behind"
        );
        self.start += len;
        self.offset += len as u64;
    }

    /// Leaves `len` bytes behind, unread if need be; `false` if the file ends before.
    fn pass(&mut self, len: u64) -> io::Result<bool> {
        if let Ok(len) = usize::try_from(len)
            && len <= self.end - self.start
        {
            self.advance(len);
            return Ok(true);
        }
        let offset = self.offset;
        // The last word of the block is looked at, so that a block that the file does not contain is not believed.
        self.seek(offset.saturating_add(len - 4));
        if self.fill(4)? {
            self.advance(4);
            return Ok(true);
        }
        self.seek(offset);
        Ok(false)
    }

    fn seek(&mut self, offset: u64) {
        (self.start, self.end, self.offset) = (0, 0, offset);
    }
}

/// The unit of time stamps in a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stamp {
    /// Microseconds, which every program reads.
    Micro,
    /// Nanoseconds.
    #[default]
    Nano,
}

/// The start of a pcap file.
#[must_use]
pub fn file_header(stamp: Stamp) -> [u8; PCAP_HEADER_LEN] {
    let magic: u32 = match stamp {
        Stamp::Micro => 0xa1b2_c3d4,
        Stamp::Nano => 0xa1b2_3c4d,
    };
    let PcapHeader {
        version_major,
        version_minor,
        ..
    } = PcapHeader::new();
    let mut header = [0; PCAP_HEADER_LEN];
    header[..4].copy_from_slice(&magic.to_le_bytes());
    header[4..6].copy_from_slice(&version_major.to_le_bytes());
    header[6..8].copy_from_slice(&version_minor.to_le_bytes());
    header[16..20].copy_from_slice(&SNAPLEN.to_le_bytes());
    header[20..].copy_from_slice(&Linktype::ETHERNET.0.to_le_bytes());
    header
}

/// What stands before a frame of `len` bytes, seen at `time` since 1970.
#[must_use]
#[inline]
pub fn record_header(stamp: Stamp, time: Duration, len: u32) -> [u8; RECORD_HEADER_LEN] {
    let fraction = match stamp {
        Stamp::Micro => time.subsec_micros(),
        Stamp::Nano => time.subsec_nanos(),
    };
    // The format ends in 2106.
    let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let mut header = [0; RECORD_HEADER_LEN];
    for (word, value) in header
        .as_chunks_mut::<4>()
        .0
        .iter_mut()
        .zip([seconds, fraction, len, len])
    {
        *word = value.to_le_bytes();
    }
    header
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
