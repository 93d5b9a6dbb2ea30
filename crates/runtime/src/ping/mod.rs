//! The program `forebay ping`: asks a host whether it is there, from a port with TCP/IP of its own. Options and output are those
//! of Linux's `ping` where they make sense.
//!
//! A [`Worker`](crate::Worker) runs the loop; in each turn the `Pinger` reads what came back and sends what is due. Arguments, what became of
//! each request, and what is printed are files of their own.
//!
//! **If the process dies:** as [`Host`] says; nobody else is in its group.

mod args;
mod report;
mod tally;

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use eal::EalArgs;
use mbuf::Lcore;
use netstack::echo::EchoId;
use netstack::packet::Packet;
use netstack::{Error, Mbufs, Reply, Stack};

use crate::host::{Host, HostArgs};
use crate::program::run_to;
use crate::stop::Stop;
use args::Args;
use report::{Report, Told};
use tally::{Tally, sequence};

/// How long an answer to a flood is waited for before the next request goes.
const FLOOD_INTERVAL: Duration = Duration::from_millis(10);
/// When to try again what there was no room for.
const RETRY: Duration = Duration::from_micros(200);
/// Replies and failures that are read in one turn.
const TURN_REPLIES: usize = 256;

/// Exit statuses, those of `ping`.
const NO_REPLY: u8 = 1;
const FAILED: u8 = 2;

/// Runs the program until it has asked as often as it was told to, or is stopped (SIGINT, SIGTERM). `args` begins with the
/// program's name; what is wrong is said in one line on stderr.
///
/// Returns 0 if there was an answer, 1 if there was none, 2 if something else failed.
pub fn ping(program: &str, args: Vec<String>) -> ExitCode {
    let help = HELP.replace("HOST_OPTIONS", HostArgs::HELP);
    run_to(program, args, &help, FAILED, serve)
}

fn serve(eal_args: EalArgs, args: &[String]) -> anyhow::Result<ExitCode> {
    let (host_args, rest) = HostArgs::parse(args)?;
    let args = Args::parse(&host_args, &rest)?;
    let stop = Stop::on_signals()?;
    let host = Host::open(eal_args, &host_args)?;
    let outcome = ask(&host, &host_args, &args, &stop);
    let closed = host.close();
    let has_answer = outcome?;
    closed?;
    Ok(if has_answer {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NO_REPLY)
    })
}

/// Asks, and prints what comes of it; `true` if there was an answer.
fn ask(host: &Host, host_args: &HostArgs, args: &Args, stop: &Stop) -> anyhow::Result<bool> {
    let eal = host.eal();
    eal.pin_main()?;
    let lcore = Lcore::new(eal.claim_slot("ping")?);
    lcore.slot().record().set_core(eal.main_lcore().0);
    let mut worker = host.worker(&lcore, host_args, stop)?;
    let mut pinger = Pinger::open(worker.stack(), host_args, args)?;
    let mut outcome = Ok(());
    while !stop.is_set() {
        let mut turned = Ok(());
        let worked = worker.turn(|stack| {
            turned = pinger.turn(stack, Instant::now());
            false
        });
        while let Some(event) = worker.stack().poll_event() {
            outcome = outcome.and(host.heed(&event));
        }
        outcome = outcome.and(turned);
        if !pinger.is_ready && pinger.may_begin(worker.stack()) {
            pinger.begin(worker.stack(), Instant::now())?;
        }
        let is_read = pinger.report.flush()?;
        let now = Instant::now();
        if outcome.is_err() || !is_read || pinger.is_done(now) {
            break;
        }
        if !worked {
            worker.rest_at_most(pinger.due().saturating_duration_since(now));
        }
    }
    // What went wrong says more than what was counted until then.
    outcome?;
    pinger.end(host.counts(&worker)?)?;
    Ok(pinger.tally.received > 0)
}

/// What the program does with its socket.
#[derive(Debug)]
struct Pinger<'a> {
    args: &'a Args,
    host_args: &'a HostArgs,
    socket: EchoId,
    tally: Tally,
    report: Report,
    /// It has begun: the addresses of the version are in use.
    is_ready: bool,
    /// When the next request is due.
    next: Instant,
    data: Vec<u8>,
}

impl<'a> Pinger<'a> {
    fn open(
        stack: &mut Stack<Mbufs<'_>>,
        host_args: &'a HostArgs,
        args: &'a Args,
    ) -> anyhow::Result<Self> {
        let socket = match args.to {
            IpAddr::V4(_) => stack.echo_v4()?,
            IpAddr::V6(_) => stack.echo_v6()?,
        };
        stack.echo(socket).set_hop_limit(args.ttl)?;
        Ok(Self {
            args,
            host_args,
            socket,
            tally: Tally::new(args.timeout),
            report: Report::new(args),
            is_ready: false,
            next: Instant::now(),
            data: vec![0; args.size],
        })
    }

    /// Whether all addresses are in use that one may be asked from.
    fn may_begin(&self, stack: &Stack<Mbufs<'_>>) -> bool {
        let is_ipv4 = self.args.to.is_ipv4();
        Host::has_all(stack, self.host_args, |ip| ip.is_ipv4() == is_ipv4)
    }

    fn begin(&mut self, stack: &mut Stack<Mbufs<'_>>, now: Instant) -> anyhow::Result<()> {
        let ident = stack.echo(self.socket).ident()?;
        self.report.begin(self.args, ident);
        self.is_ready = true;
        self.next = now;
        Ok(())
    }

    /// Reads what came, and sends what is due.
    fn turn(&mut self, stack: &mut Stack<Mbufs<'_>>, now: Instant) -> anyhow::Result<()> {
        if !self.is_ready {
            return Ok(());
        }
        for _ in 0..TURN_REPLIES {
            let Some(reply) = stack.echo(self.socket).recv() else {
                break;
            };
            self.hear(&reply, now);
        }
        while let Some(failure) = stack.echo(self.socket).take_error()? {
            self.tally.fail(failure.sequence);
            self.report.failure(&failure);
        }
        let is_flood = self.args.interval.is_none();
        let is_due = now >= self.next || (is_flood && !self.tally.awaits_the_newest());
        if is_due && !self.has_sent_all() {
            self.send(stack, now)?;
        }
        Ok(())
    }

    fn hear(&mut self, reply: &Reply<impl Packet>, now: Instant) {
        let size = self.args.size;
        let differs = |number| difference(reply.packet.segments(), number, size);
        let (verdict, time) = self.tally.reply(reply.sequence, now, differs);
        self.report.reply(&Told {
            from: reply.from,
            sequence: reply.sequence,
            hop_limit: reply.hop_limit,
            len: reply.packet.len(),
            time,
            verdict,
            is_strange: reply.from != self.args.to && !self.host_args.is_to_many(self.args.to),
        });
    }

    fn send(&mut self, stack: &mut Stack<Mbufs<'_>>, now: Instant) -> anyhow::Result<()> {
        let number = self.tally.next();
        fill(&mut self.data, number);
        let mut echo = stack.echo(self.socket);
        match echo.send_bytes(&self.data, self.args.to, sequence(number)) {
            Ok(()) => {
                self.tally.sent(now);
                let interval = self.interval();
                let by_the_clock = self.next + interval;
                // What was missed is not made up for, and a flood goes by its answers.
                let is_behind = by_the_clock <= now || self.args.interval.is_none();
                self.next = if is_behind {
                    now + interval
                } else {
                    by_the_clock
                };
                Ok(())
            }
            Err(Error::WouldBlock) => {
                self.next = now + RETRY;
                Ok(())
            }
            Err(Error::NoRoute(to)) => Err(anyhow::anyhow!(
                "no route leads to {to}; name the router that does, as in --gateway 10.0.0.1, or give an --ip of its network"
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn interval(&self) -> Duration {
        self.args.interval.unwrap_or(FLOOD_INTERVAL)
    }

    fn has_sent_all(&self) -> bool {
        self.args
            .count
            .is_some_and(|count| self.tally.sent >= count)
    }

    /// Whether all were sent, and there is nothing to wait for any more.
    fn is_done(&self, now: Instant) -> bool {
        let until = self.tally.worth_waiting(self.interval());
        self.has_sent_all() && until.is_none_or(|until| now >= until)
    }

    /// When there is something to do, though no packet comes.
    fn due(&self) -> Instant {
        if !self.is_ready {
            // The stack says when an address is ready: it has a timer for it.
            return Instant::now() + LONG;
        }
        if self.has_sent_all() {
            let until = self.tally.worth_waiting(self.interval());
            return until.unwrap_or(self.next);
        }
        self.next
    }

    fn end(&mut self, counts: Vec<(String, u64)>) -> anyhow::Result<()> {
        let now = Instant::now();
        self.report.summary(self.args, &self.tally, now, counts);
        // Who does not read the end has seen enough.
        let _ = self.report.flush()?;
        Ok(())
    }
}

/// Longer than anybody sleeps.
const LONG: Duration = Duration::from_secs(3600);

/// A byte of the data of a request: its number in front, then what is the same for no other place or number nearby.
fn byte(number: u64, at: usize) -> u8 {
    let digits = number.to_be_bytes();
    match digits.get(at) {
        Some(digit) => *digit,
        None => {
            let [low, high, ..] = at.to_le_bytes();
            let [.., last] = digits;
            low ^ high.rotate_left(3) ^ last.rotate_left(5)
        }
    }
}

/// Writes the data of a request.
fn fill(data: &mut [u8], number: u64) {
    for (at, place) in data.iter_mut().enumerate() {
        *place = byte(number, at);
    }
}

/// Where data is not that of a request, or ends sooner or later.
fn difference<'b>(
    segments: impl Iterator<Item = &'b [u8]>,
    number: u64,
    size: usize,
) -> Option<usize> {
    let mut at = 0;
    for byte_there in segments.flatten() {
        if at >= size || *byte_there != byte(number, at) {
            return Some(at);
        }
        at += 1;
    }
    (at < size).then_some(at)
}

const HELP: &str = "\
Ask a host whether it is there, from a port with TCP/IP of its own: ICMP echo, of IPv4 or IPv6.

Usage: PROGRAM [EAL OPTIONS] -- --ip ADDRESS/LENGTH [OPTIONS] DESTINATION

DESTINATION is an address of a host or of a group; names are not looked up. Options behind `--`:
HOST_OPTIONS
  -c, --count N        Ask N times [default: until it is stopped]
  -i, --interval SECONDS
                       Time from one request to the next [default: 1]
  -f, --flood          Ask as soon as the answer to the last request came, or after 10 ms; implies -q
  -s, --size BYTES     Bytes of data [default: 56]; what does not fit a packet goes in fragments
  -t, --ttl N          TTL, or hop limit [default: 64, and 1 to groups]
  -W, --timeout SECONDS
                       How long each answer is waited for; one that comes later counts as late [default: as
                       long as there are others to send, then twice as long as the slowest took, or 10 s]
  -q, --quiet          Print the summary alone
      --json           Print one JSON object a line

The first request goes when all addresses of its version are in use, and waits for the neighbour's Ethernet address: none is lost.
The data of each reply is compared with what was sent. On SIGINT and SIGTERM the summary is printed.

EAL_OPTIONS

EXAMPLES:
    PROGRAM --vdev=net_af_packet0,iface=veth0 -- --ip 10.0.0.2/24 -c 3 10.0.0.1
    PROGRAM --vdev=net_tap0,iface=fb0 -- --ip fd00::2/64 -f -c 10000 --json fd00::1
    PROGRAM --vdev=net_af_packet0,iface=veth0 -- --ip 10.0.0.2/24 --gateway 10.0.0.1 -s 8000 192.0.2.1

EXIT STATUS:
    0  there was an answer     1  there was none     2  anything else went wrong";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_told_from_that_of_others_by_its_first_wrong_byte() {
        let mut data = vec![0; 3000];
        fill(&mut data, 500);
        let of = |data: &[u8], number| {
            let (head, tail) = data.split_at(data.len() / 3);
            difference([head, tail].into_iter(), number, 3000)
        };
        assert_eq!(of(&data, 500), None);
        assert_eq!(of(&data, 501), Some(7));
        assert_eq!(of(&data[..2999], 500), Some(2999));
        assert_eq!(of(&[], 500), Some(0));
        data.push(0);
        assert_eq!(of(&data, 500), Some(3000));
        data.pop();
        for at in [0, 7, 8, 1500, 2999] {
            data[at] ^= 0x10;
            assert_eq!(of(&data, 500), Some(at));
            data[at] ^= 0x10;
        }
        // A piece of 1,480 bytes in the place of another is seen.
        data.copy_within(1480..2960, 0);
        assert!(of(&data, 500).is_some());
        assert_eq!(difference([].into_iter(), 1, 0), None);
    }

    #[test]
    fn help_has_the_options_of_a_host() {
        let help = HELP.replace("HOST_OPTIONS", HostArgs::HELP);
        assert!(help.contains("--gateway ADDRESS") && help.contains("--no-probe"));
        assert!(help.contains("EXIT STATUS") && help.matches("    PROGRAM ").count() >= 2);
    }
}
