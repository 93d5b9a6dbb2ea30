//! The program `udp_echo`: a host that sends every datagram back to who sent it (RFC 862), and answers ping.
//!
//! The smallest use of the stack: [`Host`] opens the ports, a [`Worker`] runs the loop, and what is left is
//! `Echo`.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use eal::EalArgs;
use mbuf::{Lcore, Mbuf};
use netstack::udp::{Datagram, UdpId, Unsent};
use netstack::{Error, Mbufs, Stack};
use serde_json::{Map, Value, json};
use signal_hook::consts::SIGUSR1;

use crate::host::{Host, HostArgs};
use crate::program::run;
use crate::stop::Stop;
use crate::words::{Usage, Words, flag, unknown};
use crate::worker::Worker;

/// The port of RFC 862.
const ECHO_PORT: u16 = 7;
/// Bytes that are echoed in one turn: cut for Ethernet, they fit a transmit queue.
const TURN_BYTES: usize = 512 << 10;
/// Datagrams that are echoed in one turn.
const TURN_DATAGRAMS: usize = 256;
/// What an empty datagram counts as.
const HEADERS_LEN: usize = 42;

/// The program's own arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Args {
    port: u16,
    json: bool,
}

impl Args {
    fn parse(args: &[String]) -> Result<Self, Usage> {
        let mut parsed = Self {
            port: ECHO_PORT,
            json: false,
        };
        let mut args = Words::new(args);
        while let Some((key, glued)) = args.next_key()? {
            match key.as_str() {
                "--port" | "-p" => parsed.port = port(&key, &args.value(&key, glued)?)?,
                "--json" => parsed.json = flag(&key, glued)?,
                _ => return Err(unknown(&key, KEYS)),
            }
        }
        Ok(parsed)
    }
}

const KEYS: &[&str] = &[
    "--ip",
    "--gateway",
    "--vlan",
    "--no-probe",
    "--busy-poll",
    "--port",
    "--json",
];

fn port(key: &str, text: &str) -> Result<u16, Usage> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| {
        Usage(format!(
            "{key} {text}: a UDP port is a whole number from 1 to 65535, such as {key} 7"
        ))
    })
}

/// Runs the program until it is told to stop (SIGINT, SIGTERM). `args` begins with the program's name; what is wrong is said in one
/// line on stderr.
///
/// Returns 0 when it was stopped, 1 when something failed, 2 when the arguments are wrong.
pub fn udp_echo(program: &str, args: Vec<String>) -> ExitCode {
    let help = HELP.replace("HOST_OPTIONS", HostArgs::HELP);
    run(program, args, &help, serve)
}

fn serve(eal_args: EalArgs, args: &[String]) -> anyhow::Result<()> {
    let (host_args, rest) = HostArgs::parse(args)?;
    let args = Args::parse(&rest)?;
    let stop = Stop::on_signals()?;
    let report = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR1, Arc::clone(&report))?;
    let host = Host::open(eal_args, &host_args)?;
    let outcome = echo(&host, (&host_args, args), &stop, &report);
    let closed = host.close();
    outcome.and(closed)
}

fn echo(
    host: &Host,
    (host_args, args): (&HostArgs, Args),
    stop: &Stop,
    report: &AtomicBool,
) -> anyhow::Result<()> {
    let eal = host.eal();
    eal.pin_main()?;
    let lcore = Lcore::new(eal.claim_slot("udp_echo")?);
    lcore.slot().record().set_core(eal.main_lcore().0);
    let mut worker = host.worker(&lcore, host_args, stop)?;
    let mut echo = Echo::bind(worker.stack(), args.port)?;
    let mut is_ready = false;
    let mut outcome = Ok(());
    while !stop.is_set() {
        let worked = worker.turn(|stack| echo.turn(stack));
        while let Some(event) = worker.stack().poll_event() {
            outcome = outcome.and(host.heed(&event));
        }
        if outcome.is_err() {
            break;
        }
        if !is_ready && Host::has_all(worker.stack(), host_args, |_| true) {
            is_ready = true;
            eprintln!("ready: {}", described(host, host_args, args));
        }
        // Relaxed: the flag alone matters.
        if report.swap(false, Ordering::Relaxed) {
            print(host, &worker, &echo, args)?;
        }
        if !worked {
            worker.rest();
        }
    }
    let printed = print(host, &worker, &echo, args);
    outcome.and(printed)
}

fn described(host: &Host, host_args: &HostArgs, args: Args) -> String {
    let addresses = host_args.ips.iter().fold(String::new(), |mut text, ip| {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(text, "{comma}{}", ip.address);
        text
    });
    format!(
        "UDP port {} of {addresses} echoes; {}, group {:?}",
        args.port,
        host.stations(),
        host.eal().args().prefix
    )
}

/// What the program does with its sockets.
#[derive(Debug)]
struct Echo<'c> {
    /// One for IPv4, one for IPv6.
    sockets: [UdpId; 2],
    /// An answer that there was no room for, and its socket.
    kept: Option<(UdpId, Datagram<Mbuf<'c>>)>,
    datagrams: u64,
    bytes: u64,
    unsent: u64,
    /// Why the last one was not sent.
    refusal: Option<Error>,
}

impl<'c> Echo<'c> {
    fn bind(stack: &mut Stack<Mbufs<'c>>, port: u16) -> anyhow::Result<Self> {
        let mut bound = |any: SocketAddr| {
            let bound = stack.udp_bound(any);
            bound.with_context(|| format!("--port {port}"))
        };
        Ok(Self {
            sockets: [
                bound(([0; 4], port).into())?,
                bound(([0_u16; 8], port).into())?,
            ],
            kept: None,
            datagrams: 0,
            bytes: 0,
            unsent: 0,
            refusal: None,
        })
    }

    /// Answers what waits, up to a limit; says whether there is more.
    fn turn(&mut self, stack: &mut Stack<Mbufs<'c>>) -> bool {
        if let Some((socket, datagram)) = self.kept.take()
            && !self.answer(stack, socket, datagram)
        {
            // Sending goes before receiving: what does not fit here waits there, and overflows there.
            return false;
        }
        let (mut bytes, mut datagrams) = (TURN_BYTES, TURN_DATAGRAMS);
        for socket in self.sockets {
            while let Some(datagram) = stack.udp(socket).recv_from() {
                bytes = bytes.saturating_sub(datagram.packet.packet_len() + HEADERS_LEN);
                datagrams -= 1;
                if !self.answer(stack, socket, datagram) {
                    return false;
                }
                if bytes == 0 || datagrams == 0 {
                    return true;
                }
            }
        }
        false
    }

    /// Sends a datagram back, from the address that it was sent to; `false` if it has to wait.
    fn answer(
        &mut self,
        stack: &mut Stack<Mbufs<'c>>,
        socket: UdpId,
        datagram: Datagram<Mbuf<'c>>,
    ) -> bool {
        let len = datagram.packet.packet_len();
        match stack.udp(socket).reply(datagram) {
            Ok(()) => {
                self.datagrams += 1;
                self.bytes += len as u64;
                true
            }
            Err(Unsent {
                error: Error::WouldBlock,
                packet: Some(datagram),
            }) => {
                self.kept = Some((socket, datagram));
                false
            }
            Err(Unsent { error, .. }) => {
                self.unsent += 1;
                self.refusal = Some(error);
                true
            }
        }
    }
}

/// Prints what was counted, on stdout.
fn print(host: &Host, worker: &Worker<'_>, echo: &Echo<'_>, args: Args) -> anyhow::Result<()> {
    let mut counts: Vec<(String, u64)> = [
        ("echoed", echo.datagrams),
        ("echoed_bytes", echo.bytes),
        ("unsent", echo.unsent),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into();
    counts.extend(host.counts(worker)?);
    let text = if args.json {
        let object: Map<String, Value> = counts
            .into_iter()
            .map(|(name, count)| (name, json!(count)))
            .collect();
        format!("{}\n", Value::Object(object))
    } else {
        let width = counts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, count) in counts {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name:<width$}  {count}");
        }
        text
    };
    if let Some(refusal) = &echo.refusal {
        tracing::info!("the last datagram that was not sent back: {refusal}");
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Nobody looks any more.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => Ok(outcome?),
    }
}

const HELP: &str = "\
Be a host of your own on a port: answer ARP, neighbour discovery and ping, and send every UDP datagram back.

Usage: PROGRAM [EAL OPTIONS] -- --ip ADDRESS/LENGTH [OPTIONS]

Options behind `--`:
HOST_OPTIONS
  -p, --port N         The UDP port [default: 7]
      --json           Print the counters as one JSON object

The counters, with what was dropped and why, are printed in the end, and whenever SIGUSR1 comes.
An address that another station has is refused, with that station's Ethernet address.

EAL_OPTIONS

EXAMPLES:
    PROGRAM --vdev=net_tap0,iface=fb0 -- --ip 10.0.0.2/24
        then: ip address add 10.0.0.1/24 dev fb0; ping 10.0.0.2
    PROGRAM --vdev=net_af_packet0,iface=veth0 -- --ip 10.0.0.2/24 --ip fd00::2/64 --gateway 10.0.0.1 --port 9000

EXIT STATUS:
    0  stopped by SIGINT or SIGTERM     1  failed, or the address is another's     2  wrong arguments";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn port_is_the_echo_port_unless_it_is_named() {
        let parse = |line| Args::parse(&words(line));
        assert_eq!(parse("").unwrap().port, 7);
        assert_eq!(
            parse("-p9000 --json").unwrap(),
            Args {
                port: 9000,
                json: true
            }
        );
        for (line, remedy) in [
            ("--port 0", "--port 7"),
            ("--port 65536", "1 to 65535"),
            ("--port echo", "--port 7"),
            ("--prot 7", "unknown option --prot; there are --ip"),
            ("--port", "--port wants a value"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(remedy), "{line}: {error}");
        }
    }

    #[test]
    fn help_has_the_options_of_a_host() {
        let help = HELP.replace("HOST_OPTIONS", HostArgs::HELP);
        assert!(help.contains("--gateway ADDRESS") && help.contains("--no-probe"));
        assert!(help.contains("EXIT STATUS") && help.matches("    PROGRAM ").count() >= 2);
    }
}
