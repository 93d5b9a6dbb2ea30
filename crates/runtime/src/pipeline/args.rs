//! What stands behind `--` on the command lines of the server and the client.
//!
//! The names are those of DPDK's `client_server_mp`: `-p PORTMASK -n CLIENTS` for the server and
//! `-n ID` for the client. Whatever is wrong becomes one sentence that names the argument.

use std::time::Duration;

use super::stats::CLIENTS_MAX;
pub use crate::words::Usage;
use crate::words::{Words, choice, flag, unknown};

/// Ports a group can have, and so bits that a port mask can have.
const PORT_BITS: u32 = 16;
/// Packets that wait for one client, as in the lesson (`CLIENT_QUEUE_RINGSIZE`).
pub const RING_SIZE: u32 = 128;
/// Smallest and largest ring for one client.
const RING_SIZES: std::ops::RangeInclusive<u32> = 32..=1 << 16;

/// Who reads the ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queues {
    /// The server reads all ports and spreads the packets over rings, as in DPDK's lesson.
    Server,
    /// Every client reads a queue of its own on each port, as F-Stack's processes do.
    Each,
}

/// Which client gets a packet that the server has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// The next one in turn: the load is even, a flow's packets may overtake each other.
    RoundRobin,
    /// The one that the packet's hash names: a flow stays with one client and in order.
    Rss,
}

/// The server's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerArgs {
    /// `-p`: the ports to use.
    pub port_mask: u32,
    /// `-n`: how many clients there may be.
    pub clients: u32,
    /// `--ring-size`: packets that may wait for one client.
    pub ring_size: u32,
    /// `--dispatch`.
    pub dispatch: Dispatch,
    /// `--queues`.
    pub queues: Queues,
    /// `--json`: one object an interval on stdout, in place of the screen.
    pub json: bool,
    /// `--no-screen`: print nothing.
    pub quiet: bool,
    /// `--interval`: between two screens.
    pub interval: Duration,
    /// `--busy-poll`: never sleep.
    pub busy_poll: bool,
    /// `--stall-report`: keep the longest round of the loop in the slot's record.
    pub stall_report: bool,
}

/// The client's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientArgs {
    /// `-n`: which client this is, counted from 0.
    pub id: u32,
    /// `--busy-poll`: never sleep.
    pub busy_poll: bool,
    /// `--stall-report`: keep the longest round of the loop in the slot's record.
    pub stall_report: bool,
}

impl ServerArgs {
    /// Reads what stands behind `--`.
    ///
    /// # Errors
    ///
    /// Names the argument that is missing or wrong, and what it should be.
    pub fn parse(args: &[String]) -> Result<Self, Usage> {
        let (mut port_mask, mut clients) = (None, None);
        let mut parsed = Self {
            port_mask: 0,
            clients: 0,
            ring_size: RING_SIZE,
            dispatch: Dispatch::RoundRobin,
            queues: Queues::Server,
            json: false,
            quiet: false,
            interval: Duration::from_secs(1),
            busy_poll: false,
            stall_report: false,
        };
        let mut args = Words::new(args);
        while let Some((key, glued)) = args.next_key()? {
            match key.as_str() {
                "-p" => port_mask = Some(mask(&args.value(&key, glued)?)?),
                "-n" => clients = Some(client_count(&args.value(&key, glued)?)?),
                "--ring-size" => parsed.ring_size = ring_size(&args.value(&key, glued)?)?,
                "--dispatch" => {
                    parsed.dispatch = choice(
                        &key,
                        &args.value(&key, glued)?,
                        &[("rr", Dispatch::RoundRobin), ("rss", Dispatch::Rss)],
                    )?;
                }
                "--queues" => {
                    parsed.queues = choice(
                        &key,
                        &args.value(&key, glued)?,
                        &[("server", Queues::Server), ("each", Queues::Each)],
                    )?;
                }
                "--interval" => parsed.interval = interval(&args.value(&key, glued)?)?,
                "--json" => parsed.json = flag(&key, glued)?,
                "--no-screen" => parsed.quiet = flag(&key, glued)?,
                "--busy-poll" => parsed.busy_poll = flag(&key, glued)?,
                "--stall-report" => parsed.stall_report = flag(&key, glued)?,
                _ => return Err(unknown(&key, SERVER_KEYS)),
            }
        }
        parsed.port_mask = port_mask.ok_or_else(|| {
            Usage("-p PORTMASK is missing; `-p 0x3` uses ports 0 and 1".to_owned())
        })?;
        parsed.clients = clients.ok_or_else(|| {
            Usage("-n CLIENTS is missing; `-n 2` makes rings for two clients".to_owned())
        })?;
        Ok(parsed)
    }

    /// The ports of the mask, in order.
    ///
    /// # Errors
    ///
    /// A port that is not there, and an odd number of ports: they are served in pairs.
    pub fn ports(&self, present: usize) -> Result<Vec<u16>, Usage> {
        let ports: Vec<u16> = (0..16_u16)
            .filter(|port| self.port_mask >> port & 1 == 1)
            .collect();
        if let Some(absent) = ports.iter().find(|port| usize::from(**port) >= present) {
            let mask = (1_u64 << present) - 1;
            return Err(Usage(format!(
                "-p {:#x} names port {absent}, but there are only {present}; use at most -p {mask:#x}, or add a port with --vdev",
                self.port_mask
            )));
        }
        if ports.len() % 2 == 1 {
            return Err(Usage(format!(
                "-p {:#x} names {} port{}; clients swap ports in pairs, so name an even number, such as -p 0x3",
                self.port_mask,
                ports.len(),
                if ports.len() == 1 { "" } else { "s" },
            )));
        }
        Ok(ports)
    }
}

impl ClientArgs {
    /// Reads what stands behind `--`.
    ///
    /// # Errors
    ///
    /// Names the argument that is missing or wrong, and what it should be.
    pub fn parse(args: &[String]) -> Result<Self, Usage> {
        let (mut id, mut busy_poll, mut stall_report) = (None, false, false);
        let mut args = Words::new(args);
        while let Some((key, glued)) = args.next_key()? {
            match key.as_str() {
                "-n" => {
                    let value = args.value(&key, glued)?;
                    id = Some(value.parse::<u32>().map_err(|_| {
                        Usage(format!(
                            "-n {value}: a client's id is a whole number from 0 on, such as -n 0"
                        ))
                    })?);
                }
                "--busy-poll" => busy_poll = flag(&key, glued)?,
                "--stall-report" => stall_report = flag(&key, glued)?,
                _ => return Err(unknown(&key, CLIENT_KEYS)),
            }
        }
        let id =
            id.ok_or_else(|| Usage("-n ID is missing; the first client is `-n 0`".to_owned()))?;
        Ok(Self {
            id,
            busy_poll,
            stall_report,
        })
    }
}

const SERVER_KEYS: &[&str] = &[
    "-p",
    "-n",
    "--ring-size",
    "--dispatch",
    "--queues",
    "--interval",
    "--json",
    "--no-screen",
    "--busy-poll",
    "--stall-report",
];
const CLIENT_KEYS: &[&str] = &["-n", "--busy-poll", "--stall-report"];

fn mask(text: &str) -> Result<u32, Usage> {
    // As in the lesson, the mask is hexadecimal with or without the prefix.
    let digits = text
        .strip_prefix("0x")
        .or(text.strip_prefix("0X"))
        .unwrap_or(text);
    match u32::from_str_radix(digits, 16) {
        Ok(0) => Err(Usage(format!(
            "-p {text} names no port; `-p 0x3` uses ports 0 and 1"
        ))),
        Ok(mask) if mask >> PORT_BITS == 0 => Ok(mask),
        Ok(_) => Err(Usage(format!(
            "-p {text} names a port beyond {}, the last that a group can have",
            PORT_BITS - 1
        ))),
        Err(_) => Err(Usage(format!(
            "-p {text}: a port mask is a hexadecimal number, such as 0x3 for ports 0 and 1"
        ))),
    }
}

fn client_count(text: &str) -> Result<u32, Usage> {
    text.parse()
        .ok()
        .filter(|count| (1..=CLIENTS_MAX).contains(count))
        .ok_or_else(|| {
            Usage(format!(
                "-n {text}: the number of clients is a whole number from 1 to {CLIENTS_MAX}"
            ))
        })
}

fn ring_size(text: &str) -> Result<u32, Usage> {
    text.parse().ok().filter(|size: &u32| RING_SIZES.contains(size) && size.is_power_of_two()).ok_or_else(|| {
        let near = text.parse::<u64>().unwrap_or(RING_SIZE.into());
        let near = near.clamp((*RING_SIZES.start()).into(), (*RING_SIZES.end()).into()).next_power_of_two();
        Usage(format!(
            "--ring-size {text}: a ring's size is a power of two from {} to {}; the next is {near}",
            RING_SIZES.start(),
            RING_SIZES.end()
        ))
    })
}

fn interval(text: &str) -> Result<Duration, Usage> {
    let seconds = text
        .parse::<f64>()
        .ok()
        .filter(|seconds| (0.05..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        Usage(format!(
            "--interval {text}: seconds between two prints are a number from 0.05 to 3600"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn server_error(line: &str) -> String {
        ServerArgs::parse(&words(line)).unwrap_err().to_string()
    }

    #[test]
    fn lesson_command_lines_parse_as_they_stand() {
        let args = ServerArgs::parse(&words("-p 0x3 -n 2")).unwrap();
        assert_eq!((args.port_mask, args.clients, args.ring_size), (3, 2, 128));
        assert_eq!(
            (args.dispatch, args.queues),
            (Dispatch::RoundRobin, Queues::Server)
        );
        assert_eq!(args.ports(2).unwrap(), [0, 1]);
        assert!(!args.busy_poll, "idle processes sleep");
        assert!(
            ClientArgs::parse(&words("-n 1 --busy-poll"))
                .unwrap()
                .busy_poll
        );
        assert!(
            ServerArgs::parse(&words("-p 3 -n 1 --busy-poll"))
                .unwrap()
                .busy_poll
        );
        assert_eq!(ClientArgs::parse(&words("-n 1")).unwrap().id, 1);
    }

    #[test]
    fn glued_and_separate_values_mean_the_same() {
        let apart = ServerArgs::parse(&words(
            "-p f -n 2 --ring-size 64 --dispatch rss --queues each",
        ))
        .unwrap();
        let glued = ServerArgs::parse(&words(
            "-pf -n2 --ring-size=64 --dispatch=rss --queues=each",
        ))
        .unwrap();
        assert_eq!(apart, glued);
        assert_eq!(apart.dispatch, Dispatch::Rss);
    }

    #[test]
    fn each_wrong_argument_is_named_with_its_remedy() {
        for (line, culprit, remedy) in [
            ("-n 2", "-p PORTMASK is missing", "-p 0x3"),
            ("-p 3", "-n CLIENTS is missing", "-n 2"),
            ("-p 0 -n 2", "-p 0 names no port", "-p 0x3"),
            ("-p zz -n 2", "-p zz", "hexadecimal"),
            ("-p 10000 -n 2", "beyond 15", "15"),
            ("-p 3 -n 0", "-n 0", "from 1 to"),
            (
                "-p 3 -n 2 --ring-size 100",
                "--ring-size 100",
                "power of two",
            ),
            (
                "-p 3 -n 2 --ring-size 100",
                "--ring-size 100",
                "the next is 128",
            ),
            ("-p 3 -n 2 --dispatch fair", "--dispatch fair", "rr, rss"),
            (
                "-p 3 -n 2 --rings 1",
                "unknown option --rings",
                "--ring-size",
            ),
            (
                "-p 3 -n 2 --ring-size 4294967296",
                "--ring-size 4294967296",
                "the next is 65536",
            ),
            ("-p 3 -n 2 -n 3", "-n is given twice", "once"),
            ("-p 3 -n", "-n wants a value", "behind"),
            ("-p 3 2", "\"2\" is not an option", "-n 2"),
        ] {
            let error = server_error(line);
            assert!(
                error.contains(culprit) && error.contains(remedy),
                "{line}: {error}"
            );
        }
        let error = ClientArgs::parse(&words("-n first"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("-n first") && error.contains("-n 0"),
            "{error}"
        );
        let error = ClientArgs::parse(&[]).unwrap_err().to_string();
        assert!(error.contains("-n ID is missing"), "{error}");
    }

    #[test]
    fn absent_and_odd_ports_are_refused() {
        let args = |mask: &str| ServerArgs::parse(&words(&format!("-p {mask} -n 1"))).unwrap();
        let absent = args("0xc").ports(2).unwrap_err().to_string();
        assert!(
            absent.contains("port 2") && absent.contains("-p 0x3"),
            "{absent}"
        );
        let odd = args("0x1").ports(2).unwrap_err().to_string();
        assert!(
            odd.contains("names 1 port;") && odd.contains("even"),
            "{odd}"
        );
        assert_eq!(args("0x9").ports(4).unwrap(), [0, 3]);
    }
}
