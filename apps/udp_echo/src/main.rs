//! A host of its own on a port: answers ping, and sends every UDP datagram back.
//!
//! The work is done in [`forebay::udp_echo`]; `forebay udp-echo` is the same program.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = env::args_os()
        .map(|arg| arg.to_string_lossy().into_owned())
        .collect();
    forebay::udp_echo::udp_echo("udp_echo", args)
}
