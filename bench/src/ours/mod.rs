//! One round of ours: a fresh process, a fresh group, one load.
//!
//! Each module does what its peer in `bench/peers` does, step by step.

pub(crate) mod pool;
pub(crate) mod ring;
pub(crate) mod start;

use anyhow::{Context, Result, ensure};
use forebay::{Eal, EalArgs};

/// The environment that the arguments describe, with the main thread on its core.
pub(crate) fn environment(args: &[String]) -> Result<Eal> {
    let line = std::iter::once("forebay-bench".to_owned()).chain(args.iter().cloned());
    let (args, rest) = EalArgs::parse(line)?;
    ensure!(rest.is_empty(), "nothing may stand behind a second `--`");
    let eal = Eal::init(args).context("cannot make a group")?;
    eal.pin_main()?;
    Ok(eal)
}

/// What the memory of the group lies on.
pub(crate) fn pages(eal: &Eal) -> String {
    eal.region().info().backing.to_string()
}

/// Items before the clock runs: an eighth of them.
pub(crate) fn warm_up(items: u64) -> u64 {
    items / 8
}
