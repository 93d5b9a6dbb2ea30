//! The crash model: the real code on real memory, killed at every step.
//!
//! Simulated processes are coroutines on one thread. Each access to shared memory is a step: there the explorer may let another
//! process go first, or kill this one. It goes through all ways to do so within bounds, and after each run a judge that shares
//! no code with the operations has to find each buffer in exactly one place. Then every store is left out or delayed, one at
//! a time: each such *mutant* must be caught.
//!
//! | module | what it is |
//! |---|---|
//! | `coroutine` | a process that stops in mid-step |
//! | `world` | the group, and a mapping of it for each process |
//! | `words` | what each word of the memory is |
//! | `mutant` | steps that are left out or delayed |
//! | `state` | processes, choices, and what was seen |
//! | `machine` | what happens at each step |
//! | `explore` | all ways to run a scenario |
//! | `judge` | where each buffer is |
//! | `script` | what processes are made of |
//! | `scenarios` | what is run |
//! | `table` | mutants, and who catches them |
//! | `files` | the files of a region, and a primary killed at each system call |
//!
//! Run it with `cargo xtask model`.

#![deny(unsafe_code)]

#[cfg(forebay_model)]
mod chore;
#[cfg(forebay_model)]
#[allow(
    unsafe_code,
    reason = "a coroutine's way to suspend itself, found from far below it"
)]
mod coroutine;
#[cfg(forebay_model)]
mod explore;
#[cfg(forebay_model)]
mod files;
#[cfg(forebay_model)]
mod judge;
#[cfg(forebay_model)]
mod machine;
#[cfg(forebay_model)]
mod mutant;
#[cfg(forebay_model)]
mod scenarios;
#[cfg(forebay_model)]
mod script;
#[cfg(forebay_model)]
mod state;
#[cfg(forebay_model)]
mod table;
#[cfg(forebay_model)]
mod words;
#[cfg(forebay_model)]
mod world;

#[cfg(forebay_model)]
fn main() -> std::process::ExitCode {
    chore::main()
}

#[cfg(not(forebay_model))]
fn main() -> std::process::ExitCode {
    eprintln!("forebay-model: built without `--cfg forebay_model`; run `cargo xtask model`");
    std::process::ExitCode::FAILURE
}
