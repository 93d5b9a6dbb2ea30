//! The messages of the control socket: sixteen bytes of frame, then a body.
//!
//! ```text
//! byte   0       4         6      8          12            16
//!        | magic | version | kind | body len | descriptors | body ... |
//! ```
//!
//! Numbers are little-endian. The frame is the same in every version, so that two versions can
//! tell each other apart. What the bodies hold, `body` says.

use super::body::BODY_MAX;

/// Bytes before the body.
pub(super) const FRAME_LEN: usize = 16;

/// The longest message of all.
pub(super) const MESSAGE_MAX: usize = FRAME_LEN + BODY_MAX;

const MAGIC: [u8; 4] = *b"FBYC";

/// The version that this build speaks.
pub(super) const VERSION: u16 = 2;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the primary: what is published under this key?
    Fetch = 1,
    /// Answer: a payload, and descriptors are attached.
    Found = 2,
    /// Answer: nothing has been published under that key by this primary.
    Nothing = 3,
    /// Answer: why not. The connection closes.
    Refused = 4,
    /// Answer: what was published under that key is no more; let go of it.
    Withdrawn = 5,
    /// To the primary: this connection stays open; the slots of this process.
    Join = 6,
    /// To the primary: the slots of this process have changed.
    Slots = 7,
    /// To the primary: something that was published by the last primary, with descriptors.
    Offer = 8,
    /// To the primary: that was all there is to offer.
    Ready = 9,
    /// To a member: these keys were published or withdrawn.
    Changed = 10,
    /// To the primary: this process leaves the group, and lives on.
    Leave = 11,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Fetch,
        Self::Found,
        Self::Nothing,
        Self::Refused,
        Self::Withdrawn,
        Self::Join,
        Self::Slots,
        Self::Offer,
        Self::Ready,
        Self::Changed,
        Self::Leave,
    ];

    fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == number)
    }
}

/// A message, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) kind: Kind,
    /// How many descriptors the sender attached.
    pub(super) descriptors: usize,
    pub(super) body: &'a [u8],
}

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("{0} bytes are too few for a frame")]
    Short(usize),
    #[error("it does not start as a frame does")]
    Magic,
    #[error("it speaks version {0} of the control socket and we speak {VERSION}")]
    Version(u16),
    #[error("it is of the unknown kind {0}")]
    Kind(u16),
    #[error("its body has {found} bytes and not {announced}")]
    Length { announced: u32, found: usize },
}

impl<'a> Frame<'a> {
    /// A message without descriptors, as bytes.
    pub(super) fn plain(kind: Kind, body: &[u8]) -> Vec<u8> {
        Frame {
            kind,
            descriptors: 0,
            body,
        }
        .encode()
    }

    /// The message as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::with_capacity(FRAME_LEN + self.body.len());
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.kind as u16).to_le_bytes());
        bytes.extend(number(self.body.len()));
        bytes.extend(number(self.descriptors));
        bytes.extend(self.body);
        bytes
    }

    /// Takes bytes apart that anybody may have sent.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, FrameError> {
        let short = FrameError::Short(bytes.len());
        let (frame, body) = bytes.split_first_chunk::<FRAME_LEN>().ok_or(short)?;
        let [
            m0,
            m1,
            m2,
            m3,
            v0,
            v1,
            k0,
            k1,
            l0,
            l1,
            l2,
            l3,
            d0,
            d1,
            d2,
            d3,
        ] = *frame;
        if [m0, m1, m2, m3] != MAGIC {
            return Err(FrameError::Magic);
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = u16::from_le_bytes([k0, k1]);
        let kind = Kind::from_number(kind).ok_or(FrameError::Kind(kind))?;
        let announced = u32::from_le_bytes([l0, l1, l2, l3]);
        if usize::try_from(announced) != Ok(body.len()) {
            return Err(FrameError::Length {
                announced,
                found: body.len(),
            });
        }
        let descriptors = u32::from_le_bytes([d0, d1, d2, d3]);
        Ok(Self {
            kind,
            descriptors: usize::try_from(descriptors).unwrap_or(usize::MAX),
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request() -> Vec<u8> {
        Frame {
            kind: Kind::Fetch,
            descriptors: 0,
            body: b"port/0",
        }
        .encode()
    }

    #[test]
    fn what_is_no_frame_is_told_apart() {
        let damaged = |at: usize, byte: u8| {
            let mut bytes = request();
            bytes[at] = byte;
            Frame::decode(&bytes).map(|frame| frame.kind)
        };
        assert_eq!(Frame::decode(&[0; 15]), Err(FrameError::Short(15)));
        assert_eq!(damaged(0, b'X'), Err(FrameError::Magic));
        assert_eq!(damaged(4, 9), Err(FrameError::Version(9)));
        assert_eq!(damaged(6, 77), Err(FrameError::Kind(77)));
        assert_eq!(
            damaged(8, 7),
            Err(FrameError::Length {
                announced: 7,
                found: 6
            })
        );
        assert_eq!(damaged(15, 0), Ok(Kind::Fetch));
    }

    proptest! {
        #[test]
        fn a_message_survives_the_way(
            kind in prop::sample::select(Kind::ALL.to_vec()),
            descriptors in 0_usize..300,
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let frame = Frame { kind, descriptors, body: &body };
            let bytes = frame.encode();
            prop_assert_eq!(Frame::decode(&bytes), Ok(frame));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            at in 0..22_usize,
        ) {
            let _ = Frame::decode(&bytes);
            // Nearly right ones come further.
            let mut nearly = request();
            nearly.splice(at.., bytes);
            let _ = Frame::decode(&nearly);
        }
    }
}
