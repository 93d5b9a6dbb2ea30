//! What is asked on the command line, behind `--`.

use std::net::IpAddr;
use std::time::Duration;

use crate::host::HostArgs;
use crate::words::{Usage, Word, Words, flag, unknown};

/// Bytes of data, unless it is said: 64 with the header of ICMP, as everybody's.
const SIZE: usize = 56;
/// Most of them: what a packet may have, without the headers.
const SIZE_MAX: [usize; 2] = [65_507, 65_527];
/// From one request to the next, unless it is said.
const INTERVAL: Duration = Duration::from_secs(1);
/// Shortest and longest time on the command line, in seconds.
const SECONDS: [f64; 2] = [0.001, 3600.0];

/// The program's own arguments.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Args {
    /// Who is asked.
    pub(super) to: IpAddr,
    /// How often; until it is stopped, if it is not said.
    pub(super) count: Option<u64>,
    /// From one request to the next; `None`: as fast as the answers come.
    pub(super) interval: Option<Duration>,
    /// How many bytes of data each has.
    pub(super) size: usize,
    pub(super) ttl: Option<u8>,
    /// How long an answer is waited for, if it is said.
    pub(super) timeout: Option<Duration>,
    pub(super) quiet: bool,
    pub(super) json: bool,
}

const KEYS: &[&str] = &[
    "--ip",
    "--gateway",
    "--vlan",
    "--no-probe",
    "--busy-poll",
    "--count",
    "--interval",
    "--flood",
    "--size",
    "--ttl",
    "--timeout",
    "--quiet",
    "--json",
];

/// Options with two names.
const NAMES: &[(&str, &str)] = &[
    ("-c", "--count"),
    ("-i", "--interval"),
    ("-f", "--flood"),
    ("-s", "--size"),
    ("-t", "--ttl"),
    ("-W", "--timeout"),
    ("-q", "--quiet"),
];

impl Args {
    /// Reads what [`HostArgs`] has left.
    pub(super) fn parse(host: &HostArgs, args: &[String]) -> Result<Self, Usage> {
        let mut to = None;
        let (mut count, mut interval, mut is_flood) = (None, None, false);
        let (mut size, mut ttl, mut timeout) = (SIZE, None, None);
        let (mut quiet, mut json) = (false, false);
        let mut words = Words::new(args).with_names(NAMES);
        while let Some(word) = words.next_word()? {
            let (key, glued) = match word {
                Word::Key(key, glued) => (key, glued),
                Word::Plain(word) if to.is_none() => {
                    to = Some(word);
                    continue;
                }
                Word::Plain(word) => {
                    let first = to.unwrap_or_default();
                    return Err(Usage(format!(
                        "{first} and {word}: there is one destination; take a program for each"
                    )));
                }
            };
            match key.as_str() {
                "--count" | "-c" => {
                    count = Some(number(
                        &key,
                        &words.value(&key, glued)?,
                        1,
                        u64::MAX,
                        "-c 10",
                    )?);
                }
                "--interval" | "-i" => {
                    interval = Some(seconds(&key, &words.value(&key, glued)?, "-i 0.2")?);
                }
                "--flood" | "-f" => is_flood = flag(&key, glued)?,
                "--size" | "-s" => {
                    let text = words.value(&key, glued)?;
                    let max = SIZE_MAX[1] as u64;
                    let bytes = number(&key, &text, 0, max, "-s 1400")?;
                    // At most as many as a packet has.
                    size = usize::try_from(bytes).unwrap_or(SIZE_MAX[1]);
                }
                "--ttl" | "-t" => {
                    let hops = number(&key, &words.value(&key, glued)?, 1, 255, "-t 64")?;
                    ttl = u8::try_from(hops).ok();
                }
                "--timeout" | "-W" => {
                    timeout = Some(seconds(&key, &words.value(&key, glued)?, "-W 2")?);
                }
                "--quiet" | "-q" => quiet = flag(&key, glued)?,
                "--json" => json = flag(&key, glued)?,
                _ => return Err(unknown(&key, KEYS)),
            }
        }
        if is_flood && interval.is_some() {
            let both = "--flood sends as fast as the answers come, and --interval at its time; give one of them";
            return Err(Usage(both.to_owned()));
        }
        let to = destination(host, to)?;
        let max = SIZE_MAX[usize::from(to.is_ipv6())];
        if size > max {
            return Err(Usage(format!(
                "--size {size}: a packet to {to} carries at most {max} bytes; give -s {max} or less"
            )));
        }
        Ok(Self {
            to,
            count,
            interval: (!is_flood).then_some(interval.unwrap_or(INTERVAL)),
            size,
            ttl,
            timeout,
            quiet: quiet || is_flood,
            json,
        })
    }
}

/// Who is asked: an address of a version that we have.
fn destination(host: &HostArgs, text: Option<&str>) -> Result<IpAddr, Usage> {
    let text = text.ok_or_else(|| {
        Usage("the destination is missing; write its address last, as in -- --ip 10.0.0.2/24 10.0.0.1".to_owned())
    })?;
    let to: IpAddr = text.parse().map_err(|_| {
        Usage(format!(
            "{text:?} is no address of IPv4 or IPv6, and names are not looked up; write an address, such as 10.0.0.1"
        ))
    })?;
    if to.is_unspecified() {
        return Err(Usage(format!(
            "{to} is no destination; give the address of a host or of a group"
        )));
    }
    if matches!(to, IpAddr::V6(to) if to.to_ipv4_mapped().is_some()) {
        let v4 = to.to_canonical();
        return Err(Usage(format!(
            "{to} is IPv4 in the words of IPv6, which is on no wire; write {v4}"
        )));
    }
    let same = |ip: &crate::host::Ip| ip.address.is_ipv4() == to.is_ipv4();
    if !host.ips.iter().any(same) {
        let (version, example) = match to {
            IpAddr::V4(_) => ("IPv4", "10.0.0.2/24"),
            IpAddr::V6(_) => ("IPv6", "fd00::2/64"),
        };
        return Err(Usage(format!(
            "{to} is of {version}, and we have no address of it; give one, as in --ip {example}"
        )));
    }
    Ok(to)
}

fn number(key: &str, text: &str, min: u64, max: u64, example: &str) -> Result<u64, Usage> {
    let number = text.parse().ok();
    let number = number.filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| {
        let range = if max == u64::MAX {
            format!("{min} at least")
        } else {
            format!("from {min} to {max}")
        };
        Usage(format!(
            "{key} {text}: wants a whole number, {range}, as in {example}"
        ))
    })
}

fn seconds(key: &str, text: &str, example: &str) -> Result<Duration, Usage> {
    let [min, max] = SECONDS;
    let seconds = text.parse().ok();
    let seconds = seconds.filter(|seconds| (min..=max).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        Usage(format!(
            "{key} {text}: wants seconds, from {min} to {max}, as in {example}; for more than a thousand a second there is -f"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, Usage> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let (host, rest) = HostArgs::parse(&words)?;
        Args::parse(&host, &rest)
    }

    #[test]
    fn options_are_those_of_ping() {
        let plain = parse("--ip 10.0.0.2/24 10.0.0.1").unwrap();
        let expected = Args {
            to: [10, 0, 0, 1].into(),
            count: None,
            interval: Some(Duration::from_secs(1)),
            size: 56,
            ttl: None,
            timeout: None,
            quiet: false,
            json: false,
        };
        assert_eq!(plain, expected);
        let all = parse("fd00::1 -c5 -i 0.2 --ip fd00::2/64 -s 65527 -t1 -W .5 -q --json").unwrap();
        let expected = Args {
            to: "fd00::1".parse().unwrap(),
            count: Some(5),
            interval: Some(Duration::from_millis(200)),
            size: 65_527,
            ttl: Some(1),
            timeout: Some(Duration::from_millis(500)),
            quiet: true,
            json: true,
        };
        assert_eq!(all, expected);
        let flood = parse("--ip 10.0.0.2/24 --flood --count=10000 224.0.0.1").unwrap();
        assert_eq!((flood.interval, flood.quiet), (None, true));
    }

    #[test]
    fn every_refusal_names_the_argument_and_what_to_do() {
        for (line, culprit, remedy) in [
            ("", "the destination is missing", "10.0.0.1"),
            (
                "10.0.0.1 10.0.0.3",
                "10.0.0.1 and 10.0.0.3",
                "one destination",
            ),
            ("gateway.example", "gateway.example", "an address, such as"),
            ("0.0.0.0", "0.0.0.0 is no destination", "of a host"),
            ("fd00::1", "fd00::1 is of IPv6", "--ip fd00::2/64"),
            ("10.0.0.1 -c 0", "-c 0", "1 at least"),
            ("10.0.0.1 -c x", "-c x", "-c 10"),
            ("10.0.0.1 -i 0", "-i 0", "there is -f"),
            ("10.0.0.1 -i nan", "-i nan", "from 0.001 to 3600"),
            ("10.0.0.1 -W -1", "-W -1", "-W 2"),
            ("10.0.0.1 -s 65508", "--size 65508", "-s 65507 or less"),
            ("10.0.0.1 -s 65528", "-s 65528", "from 0 to 65527"),
            ("10.0.0.1 -t 0", "-t 0", "from 1 to 255"),
            ("10.0.0.1 -t 256", "-t 256", "-t 64"),
            ("10.0.0.1 -f -i 1", "--flood", "give one of them"),
            ("10.0.0.1 --colour", "--colour", "--timeout"),
            ("10.0.0.1 -q=1", "-q takes no value", "=1"),
            ("10.0.0.1 -c 1 --count=2", "--count is given twice", "once"),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1", "write 10.0.0.1"),
        ] {
            let error = parse(&format!("--ip 10.0.0.2/24 {line}"));
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains(culprit) && error.contains(remedy),
                "{line}: {error}"
            );
        }
    }
}
