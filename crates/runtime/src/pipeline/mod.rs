//! DPDK's multi-process lesson, `client_server_mp`, on Forebay: a server that receives and spreads
//! packets over rings, and clients that send them on.
//!
//! ```text
//!            port 0 ──rx──┐                    ┌─ MProc_Client_0_RX ─► client 0 ─┐ tx queue 0
//!                         ├─► server ──spread──┤                                 ├─► port 0, 1
//!            port 1 ──rx──┘                    └─ MProc_Client_1_RX ─► client 1 ─┘ tx queue 1
//! ```
//!
//! With `--queues each` every client reads a receive queue of its own on each port, as F-Stack's
//! processes do, and the server configures and watches; the queues of clients that are away it
//! reads itself, and spreads their packets over the rings of those that are there.
//!
//! Clients come, go and crash as they like: what a killed one held is back before its successor
//! asks. A server that crashes or is replaced leaves the clients running, and the next one takes
//! the group over as it is.
//!
//! A client swaps the ports of a pair: what came in at the first goes out at the second.
//! [`server`] and [`client`] are whole programs: `mp_server` and `mp_client`, `forebay server` and
//! `forebay client` do nothing but call them.

pub mod args;
mod client;
mod screen;
mod server;
pub mod stats;

use std::process::ExitCode;

pub use crate::program::in_one_line;
use crate::program::run;

/// Name of the pool that all packets of the pipeline live in.
pub const POOL: &str = "MProc_pktmbuf_pool";

/// Name of a client's ring.
pub fn ring_name(client: u32) -> String {
    format!("MProc_Client_{client}_RX")
}

/// Runs the server until it is told to stop (SIGINT, SIGTERM). `args` begins with the program's
/// name; what is wrong is said in one line on stderr.
///
/// Returns 0 when it was stopped, 1 when something failed, 2 when the arguments are wrong.
pub fn server(program: &str, args: Vec<String>) -> ExitCode {
    run(program, args, SERVER_HELP, server::serve)
}

/// Runs a client until it is told to stop (SIGINT, SIGTERM). `args` begins with the program's name;
/// what is wrong is said in one line on stderr.
///
/// Returns 0 when it was stopped, 1 when something failed, 2 when the arguments are wrong.
pub fn client(program: &str, args: Vec<String>) -> ExitCode {
    if asks_for_primary(&args) {
        eprintln!(
            "{program}: --proc-type=primary: a client is a secondary; start a server and use --proc-type=auto here"
        );
        return ExitCode::from(2);
    }
    run(program, args, CLIENT_HELP, client::forward)
}

/// Whether the command line says `primary` in so many words. `EalArgs` cannot tell: it is the default, as in DPDK.
fn asks_for_primary(args: &[String]) -> bool {
    let eal_part = args.split(|arg| arg == "--").next().unwrap_or_default();
    eal_part.iter().any(|arg| arg == "--proc-type=primary")
        || eal_part
            .windows(2)
            .any(|pair| pair == ["--proc-type", "primary"])
}

const SERVER_HELP: &str = "\
Receive on all ports of the mask and spread the packets over client processes.

Usage: PROGRAM [EAL OPTIONS] -- -p PORTMASK -n CLIENTS [OPTIONS]

Options behind `--`:
  -p PORTMASK          Ports to use, hexadecimal; an even number of them
  -n CLIENTS           How many clients there may be (1 to 60)
      --ring-size N    Packets that may wait for one client, a power of two [default: 128]
      --dispatch HOW   rr: in turn, rss: a flow stays with one client [default: rr]
      --queues WHO     server: the server reads the ports; each: every client reads a queue of
                       its own on each port [default: server]
      --json           Print one JSON object an interval instead of the screen
      --no-screen      Print nothing
      --interval SECS  Between two screens [default: 1]
      --busy-poll      Never sleep: the first packet after a silence is seen at once, at the price of a core
      --stall-report   Keep the longest round of the packet loop where tools see it

A server is always the primary, and its region is by default (-m) as large as the pipeline needs.

EAL_OPTIONS

EXAMPLES:
    PROGRAM -l 1-2 -n 4 --vdev=net_af_packet0,iface=veth0 --vdev=net_af_packet1,iface=veth1 -- -p 0x3 -n 2
    PROGRAM --vdev=net_null0 --vdev=net_null1 -- -p 0x3 -n 1 --json --interval 5

EXIT STATUS:
    0  stopped by SIGINT or SIGTERM     1  failed     2  wrong arguments";

const CLIENT_HELP: &str = "\
Take packets from this client's ring and send them out of the other port of the pair.

Usage: PROGRAM [EAL OPTIONS] -- -n ID

Options behind `--`:
  -n ID                Which client this is, from 0
      --busy-poll      Never sleep: the first packet after a silence is seen at once, at the price of a core
      --stall-report   Keep the longest round of the packet loop where tools see it

A client is always a secondary, also with --proc-type=auto; memory and devices are the server's. It
gives a server that is just starting two seconds, and --wait SECONDS if that is more.

EAL_OPTIONS

EXAMPLES:
    PROGRAM -l 3 --proc-type=auto -- -n 0
    PROGRAM -l 4 --proc-type=auto --wait 10 -- -n 1     waits for a server

EXIT STATUS:
    0  stopped by SIGINT or SIGTERM     1  failed     2  wrong arguments";
