//! What can go wrong with a pool. On the data path nothing is an error: there it is a count.

use crate::index::{MbufIndex, POOL_COUNT_MAX, POOLS_MAX};
use crate::shape::{DATA_ROOM_MAX, DATA_ROOM_MIN, PRIVATE_SIZE_MAX};

/// Why a pool could not be made or found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No zone for it, or none of that name.
    #[error(transparent)]
    Eal(#[from] eal::Error),
    /// A count that no pool has.
    #[error(
        "the pool {name:?} cannot have {count} buffers; give it between 1 and {POOL_COUNT_MAX}"
    )]
    Count {
        /// The pool.
        name: String,
        /// Buffers asked for.
        count: u32,
    },
    /// Frames of an impossible size.
    #[error(
        "the pool {name:?} cannot have a data room of {data_room} bytes; \
         give a multiple of 64 between {DATA_ROOM_MIN} and {DATA_ROOM_MAX}"
    )]
    DataRoom {
        /// The pool.
        name: String,
        /// Bytes a frame asked for.
        data_room: u16,
    },
    /// A private area of an impossible size.
    #[error(
        "the pool {name:?} cannot have a private area of {private_size} bytes; \
         give at most {PRIVATE_SIZE_MAX}"
    )]
    PrivateSize {
        /// The pool.
        name: String,
        /// Bytes asked for.
        private_size: u16,
    },
    /// All ids are taken.
    #[error(
        "the pool {name:?} would be one too many; a group has at most {POOLS_MAX}: let ports share one"
    )]
    TooManyPools {
        /// The pool.
        name: String,
    },
    /// There is one of that name, made with other parameters.
    #[error(
        "the pool {name:?} is there with {theirs}, and {ours} was asked for; \
         ask for the same, or take another name"
    )]
    Different {
        /// The pool.
        name: String,
        /// What it was made with.
        theirs: String,
        /// What was asked for.
        ours: String,
    },
    /// Its primary has not filled it, or died while doing so.
    #[error(
        "the pool {name:?} is not filled; wait for the primary process, or restart it if it is dead"
    )]
    Unfinished {
        /// The pool.
        name: String,
    },
    /// Another release made it.
    #[error(
        "the pool {name:?} has layout {theirs:#018x}, this program expects {ours:#018x}; \
         run all processes from one release, or take another --file-prefix"
    )]
    Layout {
        /// The pool.
        name: String,
        /// The layout that this program knows.
        ours: u64,
        /// The layout that the pool was made with.
        theirs: u64,
    },
    /// What its header says cannot be.
    #[error(
        "the pool {name:?} is damaged: {what}; stop the group and clear it with `forebay clean`"
    )]
    Damaged {
        /// The pool.
        name: String,
        /// What is wrong.
        what: String,
    },
}

/// An index that cannot become an [`Mbuf`](crate::Mbuf) of this lcore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadIndex {
    /// No known pool has it.
    #[error(
        "no pool has the mbuf {0}; it is dropped: read counters, they tell whose ring it came by"
    )]
    Range(MbufIndex),
    /// Somebody else has it.
    #[error("this slot does not hold the mbuf {0}; pass buffers on by a ring of mbufs")]
    Holder(MbufIndex),
    /// It was not made a bare index by `into_raw`.
    #[error("the mbuf {0} is owned already; only what `into_raw` gave can be adopted, and once")]
    Owned(MbufIndex),
}
