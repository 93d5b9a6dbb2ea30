//! Takes packets from its ring and sends them out of the other port: DPDK's `mp_client`.
//!
//! The work is done in [`forebay::pipeline`]; `forebay client` is the same program.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    forebay::pipeline::client("mp_client", args)
}
