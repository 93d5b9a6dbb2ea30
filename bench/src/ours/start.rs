//! A process that starts and is there: `ready` on stdout once its environment is, its end with the end of stdin. The twin of
//! `bench/peers/start.c`.

use std::io::{self, Write};

use anyhow::Result;

/// Runs until stdin ends.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let eal = super::environment(args)?;
    println!("ready");
    io::stdout().flush()?;
    io::copy(&mut io::stdin(), &mut io::sink())?;
    eal.cleanup()?;
    Ok(())
}
