//! The storm: real processes under load, killed at random for as long as one likes.
//!
//! | module     | is                                                                        |
//! |------------|---------------------------------------------------------------------------|
//! | [`random`] | numbers from a seed: the same seed, the same storm, but for the machine's own chance |
//! | [`packet`] | frames with a number and a checksum                                       |
//! | [`load`]   | traffic both ways, and what arrived of it                                 |
//! | [`actor`]  | a place of the group, and the processes that fill it one after the other  |
//! | [`pipeline`] | a server and its clients in the storm                                   |
//! | [`audit`]  | the independent checker's verdict                                         |
//! | [`guest`]  | secondaries that are there for tests alone                                |
//! | [`times`]  | how long a death is noticed                                               |
//! | [`rings`]  | one process at a time, killed inside one operation of a ring               |
//!
//! `cargo xtask storm` builds the programs and runs `forebay-storm`, which is this.

pub mod actor;
pub mod audit;
pub mod guest;
pub mod load;
pub mod packet;
pub mod pipeline;
pub mod random;
pub mod rings;
pub mod times;

/// The line by which `xtask` counts a storm as one test, in libtest's words.
pub fn summary(is_good: bool) -> &'static str {
    if is_good {
        "test result: ok. 1 passed; 0 failed; 0 ignored"
    } else {
        "test result: FAILED. 0 passed; 1 failed; 0 ignored"
    }
}
