//! Ports on kernel interfaces by AF_XDP sockets.
#![expect(dead_code, reason = "the port that uses them comes next")]

mod assembler;
#[allow(unsafe_code, reason = "the bpf system call")]
mod bpf;
mod btf;
mod filter;
mod metadata;
mod program;
