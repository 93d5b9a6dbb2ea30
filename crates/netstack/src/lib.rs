//! TCP/IP without I/O: no clock, no port, no thread, no system call.
#![forbid(unsafe_code)]

pub mod wire;
