//! What is printed: a line a reply and a summary, in `ping`'s words or as JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netstack::echo::Failure;
use serde_json::{Map, Value, json};

use super::args::Args;
use super::tally::{Tally, Verdict};

/// Bytes of an ICMP header, which `ping` counts with the data.
const ICMP_LEN: usize = 8;

/// How reasons begin for which this host drops a request or a reply, and not what is for others.
const CONCERNED: &[&str] = &[
    "icmp_",
    "echo_",
    "fragment_",
    "neighbour_",
    "ipv4_checksum",
    "no_",
    "transmit_",
    "too_large",
    "unreadable",
];

/// A reply as it is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) from: IpAddr,
    pub(super) sequence: u16,
    pub(super) hop_limit: u8,
    /// Bytes of data.
    pub(super) len: usize,
    pub(super) time: Option<Duration>,
    pub(super) verdict: Verdict,
    /// From another than who was asked.
    pub(super) is_strange: bool,
}

/// Lines that wait to be printed: the loop of packets writes them between its turns.
#[derive(Debug)]
pub(super) struct Report {
    lines: String,
    quiet: bool,
    json: bool,
}

impl Report {
    pub(super) fn new(args: &Args) -> Self {
        Self {
            lines: String::new(),
            quiet: args.quiet,
            json: args.json,
        }
    }

    // Writing to a string does not fail.

    pub(super) fn begin(&mut self, args: &Args, ident: u16) {
        let (to, size) = (args.to, args.size);
        if self.json {
            if !self.quiet {
                let event = json!({"event": "begin", "to": to, "bytes": size, "identifier": ident});
                let _ = writeln!(self.lines, "{event}");
            }
        } else {
            let _ = writeln!(self.lines, "PING {to} {size} data bytes");
        }
    }

    pub(super) fn reply(&mut self, told: &Told) {
        if self.quiet {
            return;
        }
        let bytes = told.len + ICMP_LEN;
        let kind = match told.verdict {
            Verdict::Answer => "answer",
            Verdict::Duplicate => "duplicate",
            Verdict::Late => "late",
            Verdict::Damaged(_) => "damaged",
            Verdict::Unasked => "unasked",
        };
        if self.json {
            let mut event = json!({
                "event": "reply", "kind": kind, "bytes": bytes, "from": told.from,
                "sequence": told.sequence, "ttl": told.hop_limit,
            });
            if let Some(time) = told.time {
                event["time_ms"] = json!(as_ms(time));
            }
            if let Verdict::Damaged(at) = told.verdict {
                event["wrong_from"] = json!(at);
            }
            let _ = writeln!(self.lines, "{event}");
            return;
        }
        let Told {
            from,
            sequence,
            hop_limit,
            ..
        } = told;
        let _ = write!(
            self.lines,
            "{bytes} bytes from {from}: icmp_seq={sequence} ttl={hop_limit}"
        );
        if let Some(time) = told.time {
            let _ = write!(self.lines, " time={} ms", short_ms(time));
        }
        let _ = match told.verdict {
            Verdict::Answer => Ok(()),
            Verdict::Duplicate => self.lines.write_str(" (DUP!)"),
            Verdict::Late => self.lines.write_str(" (LATE!)"),
            Verdict::Unasked => self.lines.write_str(" (NOT ASKED FOR!)"),
            Verdict::Damaged(at) => {
                write!(
                    self.lines,
                    " (DAMAGED: not what was sent, from byte {at} on!)"
                )
            }
        };
        if told.is_strange {
            self.lines.push_str(" (DIFFERENT ADDRESS!)");
        }
        self.lines.push('\n');
    }

    pub(super) fn failure(&mut self, failure: &Failure) {
        if self.quiet {
            return;
        }
        let Failure { sequence, by, .. } = failure;
        let _ = if self.json {
            let event = json!({
                "event": "error", "by": by, "sequence": sequence, "error": failure.to_string(),
            });
            writeln!(self.lines, "{event}")
        } else {
            writeln!(self.lines, "From {by} icmp_seq={sequence} {failure}")
        };
    }

    /// The end: what was sent and came back, then what this host itself counted.
    pub(super) fn summary(
        &mut self,
        args: &Args,
        tally: &Tally,
        now: Instant,
        counts: Vec<(String, u64)>,
    ) {
        if self.json {
            let object = summary_json(args, tally, now, counts);
            let _ = writeln!(self.lines, "{object}");
            return;
        }
        let lines = &mut self.lines;
        let _ = write!(
            lines,
            "\n--- {} ping statistics ---\n{} packets transmitted, {} received",
            args.to, tally.sent, tally.received
        );
        for (what, count) in [
            ("duplicates", tally.duplicates),
            ("late", tally.late),
            ("damaged", tally.damaged),
            ("not asked for", tally.unasked),
            ("errors", tally.errors),
        ] {
            if count > 0 {
                let _ = write!(lines, ", +{count} {what}");
            }
        }
        let _ = writeln!(
            lines,
            ", {}% packet loss, time {}ms",
            percent(tally.loss_percent()),
            tally.elapsed(now).as_millis()
        );
        if tally.received > 0 {
            let times = tally.times;
            let [mean, deviation] = times.mean_and_deviation();
            let [min, mean, max, deviation] = [times.min, mean, times.max, deviation].map(as_ms);
            let _ = writeln!(
                lines,
                "rtt min/avg/max/mdev = {min:.3}/{mean:.3}/{max:.3}/{deviation:.3} ms"
            );
        }
        if tally.received < tally.sent {
            let drops = counts.iter().filter_map(|(name, count)| {
                let name = name.strip_prefix("drop_")?;
                let is_ours = CONCERNED.iter().any(|begin| name.starts_with(begin));
                is_ours.then(|| format!("{count} {name}"))
            });
            let drops: Vec<_> = drops.collect();
            if !drops.is_empty() {
                let _ = writeln!(lines, "dropped by this host: {}", drops.join(", "));
            }
        }
    }

    /// Prints what waits; `false` if nobody reads it any more.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        if self.lines.is_empty() {
            return Ok(true);
        }
        let mut out = io::stdout().lock();
        let written = out.write_all(self.lines.as_bytes());
        let outcome = written.and_then(|()| out.flush());
        self.lines.clear();
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            outcome => outcome.map(|()| true),
        }
    }
}

fn summary_json(args: &Args, tally: &Tally, now: Instant, counts: Vec<(String, u64)>) -> Value {
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    put("event", json!("summary"));
    put("to", json!(args.to));
    put("transmitted", json!(tally.sent));
    put("received", json!(tally.received));
    put("duplicates", json!(tally.duplicates));
    put("late", json!(tally.late));
    put("damaged", json!(tally.damaged));
    put("unasked", json!(tally.unasked));
    put("errors", json!(tally.errors));
    put("loss_percent", json!(tally.loss_percent()));
    put("time_ms", json!(as_ms(tally.elapsed(now))));
    if tally.received > 0 {
        let times = tally.times;
        let [mean, deviation] = times.mean_and_deviation();
        put("min_ms", json!(as_ms(times.min)));
        put("avg_ms", json!(as_ms(mean)));
        put("max_ms", json!(as_ms(times.max)));
        put("mdev_ms", json!(as_ms(deviation)));
    }
    for (name, count) in counts {
        put(&name, json!(count));
    }
    Value::Object(object)
}

fn as_ms(time: Duration) -> f64 {
    // Exact below a hundred days.
    time.as_nanos() as f64 / 1e6
}

/// Milliseconds, as many digits as `ping` shows: three that count.
fn short_ms(time: Duration) -> String {
    let digits = match time.as_micros() {
        0..1_000 => 3,
        1_000..10_000 => 2,
        10_000..100_000 => 1,
        _ => 0,
    };
    format!("{:.digits$}", as_ms(time))
}

/// A whole number where it is one.
fn percent(percent: f64) -> String {
    let text = format!("{percent:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use netstack::echo::Why;

    use super::*;

    fn args(quiet: bool, json: bool) -> Args {
        Args {
            to: [10, 0, 0, 1].into(),
            count: None,
            interval: None,
            size: 56,
            ttl: None,
            timeout: None,
            quiet,
            json,
        }
    }

    fn told(verdict: Verdict, is_strange: bool) -> Told {
        Told {
            from: [10, 0, 0, 1].into(),
            sequence: 1,
            hop_limit: 64,
            len: 56,
            time: Some(Duration::from_micros(123)),
            verdict,
            is_strange,
        }
    }

    fn failure() -> Failure {
        Failure {
            to: [10, 0, 0, 1].into(),
            sequence: 2,
            by: [10, 0, 0, 254].into(),
            why: Why::TimeExceeded { code: 0 },
        }
    }

    fn lines(quiet: bool, json: bool) -> Vec<String> {
        let args = args(quiet, json);
        let mut report = Report::new(&args);
        report.begin(&args, 7);
        report.reply(&told(Verdict::Answer, false));
        report.reply(&told(Verdict::Duplicate, true));
        report.reply(&told(Verdict::Damaged(12), false));
        report.failure(&failure());
        let (mut tally, start) = (Tally::new(None), Instant::now());
        for _ in 0..3 {
            tally.sent(start);
        }
        let time = Duration::from_micros(1500);
        tally.reply(1, start + time, |_| None);
        tally.reply(1, start + time, |_| None);
        tally.fail(2);
        let counts = vec![("turns".to_owned(), 5), ("drop_no_route".to_owned(), 1)];
        report.summary(&args, &tally, start + 2 * time, counts);
        report.lines.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_those_of_ping() {
        let lines = lines(false, false);
        let expected = [
            "PING 10.0.0.1 56 data bytes",
            "64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.123 ms",
            "64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.123 ms (DUP!) (DIFFERENT ADDRESS!)",
            "64 bytes from 10.0.0.1: icmp_seq=1 ttl=64 time=0.123 ms (DAMAGED: not what was sent, from byte 12 on!)",
            "From 10.0.0.254 icmp_seq=2 Time to live exceeded",
            "",
            "--- 10.0.0.1 ping statistics ---",
            "3 packets transmitted, 1 received, +1 duplicates, +1 errors, 66.6667% packet loss, time 3ms",
            "rtt min/avg/max/mdev = 1.500/1.500/1.500/0.000 ms",
            "dropped by this host: 1 no_route",
        ];
        assert_eq!(lines, expected);
        assert_eq!(self::lines(true, false).len(), 6);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let lines = lines(false, true);
        let objects: Vec<Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let events: Vec<_> = objects.iter().map(|object| &object["event"]).collect();
        assert_eq!(
            events,
            ["begin", "reply", "reply", "reply", "error", "summary"]
        );
        assert_eq!(objects[3]["wrong_from"], 12);
        assert_eq!(objects[4]["by"], "10.0.0.254");
        let summary = &objects[5];
        assert_eq!(summary["transmitted"], 3);
        assert_eq!(summary["avg_ms"], 1.5);
        assert_eq!(summary["drop_no_route"], 1);
        assert_eq!(self::lines(true, true).len(), 1);
    }

    #[test]
    fn times_have_three_digits_that_count() {
        for (micros, text) in [
            (7, "0.007"),
            (999, "0.999"),
            (1234, "1.23"),
            (12_340, "12.3"),
            (123_400, "123"),
        ] {
            assert_eq!(short_ms(Duration::from_micros(micros)), text);
        }
        assert_eq!([0.0, 100.0, 0.01].map(percent), ["0", "100", "0.01"]);
    }
}
