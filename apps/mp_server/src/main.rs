//! Receives on all ports and spreads the packets over client processes: DPDK's `mp_server`.
//!
//! The work is done in [`forebay::pipeline`]; `forebay server` is the same program.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    forebay::pipeline::server("mp_server", args)
}
