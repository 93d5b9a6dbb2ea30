//! The rounds of each line, ours and the peer's in turn, and what they come to.
//!
//! Both sides of a round are processes made afresh, on the same cores and the same kind of pages, and do the same number of
//! items. Who goes first changes from round to round. No round is dropped. Before each side the bench waits a while for cores
//! that are near each other ([`crate::distance`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;

use crate::child::{self, Running, Stream};
use crate::distance::{Distance, Patience, distance};
use crate::line::{LINES, Line, Work};
use crate::load::{Kind, Load, Side};
use crate::machine::Machine;
use crate::pages::Pages;
use crate::peer::{self, INSTALL, Peers};
use crate::pipeline;
use crate::plot;
use crate::quiet::Watch;
use crate::round::{self, Round};
use crate::statistics::Quartiles;
use crate::xdp;

/// A peer that stays under this part of its figure is not what it should be, and neither is the ratio.
const FIGURE_PART: f64 = 0.8;
/// What of the target the lower quartile has to reach.
const LOWER_PART: f64 = 0.9;
/// The verdict on a line that did not run to its end.
const BROKEN: &str = "ERROR";
/// Rounds of each line, if nothing else is said; less are no result to keep.
const ROUNDS: u32 = 15;
/// Percent of a core that others may take before a result says so.
const DISTURBED: f64 = 10.0;
/// The most that a round may lose where frames may be lost, and by how much the sides of a round may differ in that.
const LOSS_MAX: f64 = 0.01;
const LOSS_APART: f64 = 0.005;
/// How long a round may take.
const ROUND_MAX: Duration = Duration::from_secs(60);

/// What to compare.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Whom to compare with; ours runs alone otherwise
    #[arg(long, value_name = "WHOM")]
    against: Option<Whom>,
    /// Only lines with this in their name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Rounds of each line
    #[arg(long, value_name = "N", default_value_t = ROUNDS, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Where all rounds go [default: bench/results for the whole table, else the target folder]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Draw ring throughput by burst instead: docs/ring-throughput.svg
    #[arg(long)]
    plot: bool,
    /// Where the peers are built
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    target: PathBuf,
}

/// Who can be compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whom {
    Dpdk,
}

/// Runs the table; a failure if a line could not be run.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the crate lies in the repository")?;
    let only = args.only.as_deref().unwrap_or_default();
    let lines: Vec<&Line> = LINES
        .iter()
        .filter(|line| line.name.contains(only))
        .collect();
    ensure!(
        !lines.is_empty(),
        "no line has {only:?} in its name; there are {}",
        LINES
            .iter()
            .map(|line| line.name)
            .collect::<Vec<_>>()
            .join(", ")
    );
    let machine = Machine::look(root);
    ensure!(machine.cores >= 2, "two cores are needed");
    let scratch = tempfile::tempdir()?;
    let peers = match args.against {
        Some(Whom::Dpdk) => Peers::build(&root.join("bench/peers"), &args.target, scratch.path())?,
        None => None,
    };
    if args.against.is_some() && peers.is_none() {
        println!("no libdpdk here: ours runs alone; install it with `{INSTALL}`");
    }
    let is_beside_kernel = lines.iter().any(|line| line.work.is_beside_kernel());
    let kernel = if is_beside_kernel {
        peer::build_kernel(&root.join("bench/peers"), &args.target)?
    } else {
        None
    };
    if is_beside_kernel && kernel.is_none() {
        println!("no gcc here: echoes run alone; install it with `apt-get install gcc`");
    }
    let plots = args.plot;
    let is_whole = !plots && lines.len() == LINES.len() && peers.is_some() && args.rounds >= ROUNDS;
    let out = args.out.clone().unwrap_or_else(|| {
        let what = if plots { "-plot" } else { "" };
        let name = format!("{}-{}{what}.jsonl", machine.date(), machine.commit);
        if is_whole || plots {
            root.join("bench/results").join(name)
        } else {
            args.target.join("rounds").join(name)
        }
    });
    let bench = Bench {
        pages: Pages::reserve(scratch.path()),
        peers,
        kernel,
        scratch: scratch.path(),
        interrupted: Arc::default(),
        loads: Mutex::default(),
        patience: Mutex::new(Patience::new()),
    };
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&bench.interrupted))?;
    }
    let mut file = Rounds::create(out)?;
    file.write(&bench.facts(&machine, args.rounds))?;
    bench.introduce(&machine);
    if plots {
        let picture = root.join("docs/ring-throughput.svg");
        plot::run(&bench, &machine, args.rounds, (&picture, &mut file))?;
        eprintln!("all rounds: {}", file.path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let mut results = Vec::new();
    for line in lines {
        let result = match bench.line(line, args.rounds, &mut file) {
            Err(error) if !bench.interrupted.load(Ordering::Relaxed) => broken(line, &error),
            result => result?,
        };
        println!("{}", result.text);
        file.write(&json!({ "result": &result }))?;
        results.push(result);
    }
    conclude(&results);
    eprintln!("all rounds: {}", file.path.display());
    Ok(if results.iter().any(|result| result.verdict == BROKEN) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// What all lines of a run have in common.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) pages: Pages,
    pub(crate) peers: Option<Peers>,
    /// The server that stands for the kernel's stack.
    pub(crate) kernel: Option<PathBuf>,
    /// A folder that goes with the run.
    pub(crate) scratch: &'a Path,
    interrupted: Arc<AtomicBool>,
    /// What both sides carry over veth, by what it is, or why that is not known.
    loads: Mutex<BTreeMap<Kind, Result<Load, NoLoad>>>,
    /// For cores that are near each other.
    patience: Mutex<Patience>,
}

/// Why it is not known what the sides carry.
#[derive(Debug, Clone)]
struct NoLoad {
    text: String,
    /// Whether this user may not make hosts.
    is_forbidden: bool,
}

/// What a line came to.
#[derive(Debug, Serialize)]
struct LineResult {
    name: &'static str,
    /// What is printed of it.
    text: String,
    target: Option<f64>,
    ratio: Option<f64>,
    lower: Option<f64>,
    verdict: String,
}

impl Bench<'_> {
    fn facts(&self, machine: &Machine, rounds: u32) -> serde_json::Value {
        json!({
            "machine": machine,
            "pages": self.pages.name(),
            "peer": self.peers.as_ref().map(|peers| format!("DPDK {}", peers.version)),
            "rounds": rounds,
            "build": "both sides for the native processor, -O3",
        })
    }

    fn introduce(&self, machine: &Machine) {
        println!(
            "{}, {} cores, Linux {}, commit {}, {}",
            machine.cpu,
            machine.cores,
            machine.kernel,
            machine.commit,
            self.pages.name()
        );
        if let Pages::Plain(why) = &self.pages {
            println!("plain pages on both sides: {why}");
        }
    }

    fn line(&self, line: &Line, rounds: u32, file: &mut Rounds) -> Result<LineResult> {
        let mut notes = String::new();
        if let Work::Veth { what, .. } = line.work {
            match self.load(what) {
                Ok(load) => {
                    file.write(&json!({ "line": line.name, "load": load }))?;
                    notes = format!("\n{}", load.text(line.name));
                }
                Err(why) if why.is_forbidden => return Ok(skipped(line, &anyhow!(why.text))),
                Err(why) => return Err(anyhow!("{}: {}", line.name, why.text)),
            }
        }
        let (mut ours, mut theirs, mut disturbed) = (Vec::new(), Vec::new(), 0.0_f64);
        let (mut losses, mut even) = (Vec::new(), Vec::new());
        for number in 0..rounds {
            eprintln!("{}: round {} of {rounds}", line.name, number + 1);
            let ours_first = number % 2 == 0;
            let (mut our_round, mut their_round) = (None, None);
            let (mut our_distance, mut their_distance) = (None, None);
            let mut disturbances = Vec::new();
            for is_ours in [ours_first, !ours_first] {
                self.go_on()
                    .with_context(|| format!("{} has the rounds so far", file.path.display()))?;
                let before = self.neighbours()?;
                let watch = Watch::start();
                if is_ours {
                    our_round = Some(
                        self.ours(line.work, line.items)
                            .with_context(|| line.name)?,
                    );
                } else if self.has_peer(line.work) {
                    let round = self.theirs(line.work, line.items);
                    their_round = Some(round.with_context(|| format!("{}, the peer", line.name))?);
                }
                let disturbance = watch.stop();
                disturbed = disturbed.max(disturbance.others + disturbance.stolen);
                disturbances.push(disturbance);
                let after = distance()?;
                let had = if is_ours {
                    &mut our_distance
                } else {
                    &mut their_distance
                };
                *had = Some(Distance { before, after });
            }
            let value = |round: &Round| line.unit.of(round.items, round.seconds);
            let (our_value, their_value) = (
                our_round.as_ref().map(value),
                their_round.as_ref().map(value),
            );
            file.write(&json!({
                "line": line.name,
                "round": number,
                "first": if ours_first { "ours" } else { "peer" },
                "unit": line.unit.name(),
                "ours": our_value,
                "peer": their_value,
                "our_round": our_round,
                "peer_round": their_round,
                "our_distance_ns": our_distance,
                "peer_distance_ns": their_distance,
                // Of the first side and of the second.
                "disturbances": disturbances,
            }))?;
            let loss = |round: &Option<Round>| round.as_ref().and_then(|round| round.loss);
            losses.extend(loss(&our_round).map(|ours| (ours, loss(&their_round))));
            if let (Some(ours), Some(theirs)) = (our_value, their_value)
                && is_even(our_distance, their_distance)
            {
                even.push(line.unit.ratio(ours, theirs));
            }
            ours.extend(our_value);
            theirs.extend(their_value);
        }
        let mut result = result(line, &ours, &theirs)?;
        result.text.push_str(&notes);
        result.look_at_losses(&losses);
        if let Some(ratio) = Quartiles::of(even.iter().copied()).filter(|_| even.len() < ours.len())
        {
            let note = format!(
                "\nEVEN {} {:.2} quartiles={:.2},{:.2} in the {} rounds whose sides had their cores equally far apart",
                line.name,
                ratio.median,
                ratio.lower,
                ratio.upper,
                even.len()
            );
            result.text.push_str(&note);
        }
        if disturbed > DISTURBED {
            let note = format!(
                "\nDISTURBED {} others took up to {disturbed:.0} % of a core",
                line.name
            );
            result.text.push_str(&note);
        }
        Ok(result)
    }

    /// Waits a while for cores that are near each other; tells how far they are.
    pub(crate) fn neighbours(&self) -> Result<f64> {
        let mut patience = self.patience.lock().unwrap_or_else(PoisonError::into_inner);
        patience.neighbours()
    }

    /// Looks whether the user wants an end.
    ///
    /// # Errors
    ///
    /// He does.
    pub(crate) fn go_on(&self) -> Result<()> {
        ensure!(!self.interrupted.load(Ordering::Relaxed), "interrupted");
        Ok(())
    }

    /// What both sides carry; looked for once, also if it is not found.
    fn load(&self, what: Kind) -> Result<Load, NoLoad> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let find = || {
            Load::find(self, what).map_err(|error| NoLoad {
                text: format!("{error:#}"),
                is_forbidden: error.is::<lab::Error>(),
            })
        };
        loads.entry(what).or_insert_with(find).clone()
    }

    /// One round of ours.
    pub(crate) fn ours(&self, work: Work, items: u64) -> Result<Round> {
        let mut eal = vec!["-l0-1".to_owned(), "-m64".to_owned()];
        eal.push(format!("--runtime-dir={}", self.scratch.display()));
        eal.push("--file-prefix=ours".to_owned());
        eal.extend(self.pages.ours());
        let program = std::env::current_exe()?;
        let mut command = Command::new(&program);
        match work {
            Work::Start { secondary } => {
                return started(secondary, self.pages.name(), |kind| {
                    let mut command = Command::new(&program);
                    command.args(["start", "--"]).args(&eal).arg(kind);
                    command
                });
            }
            Work::Pipeline => return pipeline::ours(self.scratch, &self.pages),
            Work::Xdp(way) => return xdp::ours(self, way),
            Work::Veth { what, .. } => {
                let load = self.load(what).map_err(|why| anyhow!(why.text))?;
                return load.round(self, Side::Ours);
            }
            Work::Ring { shape, burst, .. } => {
                command.arg("ring").arg(name_of(shape));
                command.arg(burst.to_string()).arg(items.to_string());
            }
            Work::Pool { shape, .. } => {
                command.arg("pool").arg(name_of(shape));
                command.arg(items.to_string());
            }
        }
        command.arg("--").args(eal);
        round_of(&mut command)
    }

    /// Whether there is somebody to compare with.
    pub(crate) fn has_peer(&self, work: Work) -> bool {
        if work.is_beside_kernel() {
            self.kernel.is_some()
        } else {
            self.peers.is_some()
        }
    }

    /// One round of the peer's.
    pub(crate) fn theirs(&self, work: Work, items: u64) -> Result<Round> {
        if let Work::Veth { what, naps } = work {
            let side = if naps { Side::Napping } else { Side::Peer };
            let load = self.load(what).map_err(|why| anyhow!(why.text))?;
            return load.round(self, side);
        }
        let peers = self.peers.as_ref().context("no peer")?;
        let mut eal = ["-l0,1", "-m128", "--log-level=error"]
            .map(str::to_owned)
            .to_vec();
        eal.extend(self.pages.peer_alone());
        let items = items.to_string();
        let mut command = match work {
            Work::Start { secondary } => {
                return started(secondary, self.pages.name(), |kind| {
                    let shared = ["-l0,1", "-m64", "--file-prefix=forebay-bench-peer"];
                    let mut eal = shared.map(str::to_owned).to_vec();
                    eal.extend(self.pages.peer());
                    eal.push(kind.to_owned());
                    peers.command("start", &eal, &[])
                });
            }
            Work::Pipeline => return pipeline::theirs(peers, &self.pages),
            Work::Xdp(way) => return xdp::theirs(self, way),
            Work::Veth { .. } => unreachable!("done above"),
            Work::Ring { burst, peer, .. } => {
                peers.command("ring", &eal, &[peer.to_owned(), burst.to_string(), items])
            }
            Work::Pool { peer, cache, .. } => {
                peers.command("pool", &eal, &[peer.to_owned(), items, cache.to_string()])
            }
        };
        round_of(&mut command)
    }
}

impl LineResult {
    /// Tells what the rounds lost, ours and the peer's. If one lost too much, or the sides not alike, the line is void.
    fn look_at_losses(&mut self, losses: &[(f64, Option<f64>)]) {
        let side = |values: &mut dyn Iterator<Item = f64>| -> Option<String> {
            let values: Vec<f64> = values.collect();
            let most = values.iter().copied().fold(0.0, f64::max);
            let median = Quartiles::of(values)?.median;
            Some(format!("{:.2},{:.2}", median * 100.0, most * 100.0))
        };
        let Some(ours) = side(&mut losses.iter().map(|loss| loss.0)) else {
            return;
        };
        let peer = side(&mut losses.iter().filter_map(|loss| loss.1));
        let peer = peer.unwrap_or_else(|| "-".to_owned());
        let name = self.name;
        let told = format!("\nLOSS {name} median,most ours={ours} peer={peer} %");
        self.text.push_str(&told);
        let is_void = |(ours, peer): &&(f64, Option<f64>)| {
            let peer = peer.unwrap_or(*ours);
            ours.max(peer) > LOSS_MAX || (ours - peer).abs() > LOSS_APART
        };
        let count = losses.iter().filter(is_void).count();
        if count > 0 {
            let why = format!(
                "{count} of {} rounds lost more than {} %, or the sides more than {} points apart",
                losses.len(),
                LOSS_MAX * 100.0,
                LOSS_APART * 100.0
            );
            let told = format!("\nVOID {name} {why}");
            self.text.push_str(&told);
            self.verdict = format!("VOID: {why}");
        }
    }
}

/// Whether the cores were near each other for both sides, or far for both.
fn is_even(ours: Option<Distance>, theirs: Option<Distance>) -> bool {
    let near = |distance: Option<Distance>| distance.and_then(Distance::is_near);
    near(ours).is_some() && near(ours) == near(theirs)
}

/// How long a process takes until it says that it is there.
fn started(
    secondary: bool,
    pages: &str,
    command: impl Fn(&'static str) -> Command,
) -> Result<Round> {
    let primary = command("--proc-type=primary");
    let (process, mut time) = Running::until(&mut { primary }, Stream::Out, "ready")?;
    if secondary {
        let joining = command("--proc-type=secondary");
        time = Running::until(&mut { joining }, Stream::Out, "ready")?.1;
    }
    drop(process);
    Ok(Round {
        items: 1,
        seconds: time.as_secs_f64(),
        sum: 1,
        expected: 1,
        pages: pages.to_owned(),
        loss: None,
        detail: None,
    })
}

/// What a value is called on the command line.
fn name_of(value: impl ValueEnum) -> String {
    let name = value.to_possible_value();
    name.map_or_else(String::new, |name| name.get_name().to_owned())
}

fn round_of(command: &mut Command) -> Result<Round> {
    round::parse(&child::output(command, ROUND_MAX)?)
}

/// A line that did not run to its end.
fn broken(line: &Line, why: &anyhow::Error) -> LineResult {
    LineResult {
        text: format!("ERROR {why:#}"),
        verdict: BROKEN.to_owned(),
        ..skipped(line, why)
    }
}

/// A line that this user may not run.
fn skipped(line: &Line, why: &anyhow::Error) -> LineResult {
    LineResult {
        name: line.name,
        text: format!("SKIPPED {} {why:#}", line.name),
        target: line.target,
        ratio: None,
        lower: None,
        verdict: "skipped".to_owned(),
    }
}

/// What the rounds of a line come to.
fn result(line: &Line, ours: &[f64], theirs: &[f64]) -> Result<LineResult> {
    let (name, unit) = (line.name, line.unit);
    let our_median = Quartiles::of(ours.iter().copied())
        .context("no round")?
        .median;
    let ratios = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| unit.ratio(*ours, *theirs));
    let Some(ratio) = Quartiles::of(ratios) else {
        return Ok(LineResult {
            name,
            text: format!("ALONE {name} ours={our_median:.2} {}", unit.name()),
            target: line.target,
            ratio: None,
            lower: None,
            verdict: "no peer".to_owned(),
        });
    };
    let their_median = Quartiles::of(theirs.iter().copied())
        .context("no round")?
        .median;
    let mut text = format!(
        "RATIO {name} {:.2} quartiles={:.2},{:.2} ours={our_median:.2} peer={their_median:.2} {}",
        ratio.median,
        ratio.lower,
        ratio.upper,
        unit.name()
    );
    let figure = line.figure.unwrap_or(f64::NAN);
    // Without a figure the peer is what it is.
    let best = theirs
        .iter()
        .map(|value| unit.ratio(*value, figure))
        .fold(if line.figure.is_some() { 0.0 } else { 1.0 }, f64::max);
    let verdict = match line.target {
        _ if best < FIGURE_PART => {
            let void = format!(
                "VOID {name} the peer's best round is {best:.2} of its figure, {} {}",
                figure,
                unit.name()
            );
            text = format!("{text}\n{void}");
            format!("VOID: the peer's best round is {best:.2} of its figure")
        }
        Some(target) if ratio.median >= target && ratio.lower >= LOWER_PART * target => {
            "pass".to_owned()
        }
        Some(_) => "FAIL".to_owned(),
        None => "told".to_owned(),
    };
    Ok(LineResult {
        name,
        text,
        target: line.target,
        ratio: Some(ratio.median),
        lower: Some(ratio.lower),
        verdict,
    })
}

/// The last table: who reached what.
fn conclude(results: &[LineResult]) {
    println!(
        "\n{:24} {:>7} {:>7} {:>7}  verdict",
        "line", "target", "median", "lower"
    );
    let number =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    for LineResult {
        name,
        target,
        ratio,
        lower,
        verdict,
        ..
    } in results
    {
        println!(
            "{name:24} {:>7} {:>7} {:>7}  {verdict}",
            number(*target),
            number(*ratio),
            number(*lower)
        );
    }
}

/// The file of all rounds: a line of JSON each, written as they end.
#[derive(Debug)]
pub(crate) struct Rounds {
    file: File,
    path: PathBuf,
}

impl Rounds {
    fn create(path: PathBuf) -> Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(cannot)?;
        }
        let file = File::create(&path).with_context(cannot)?;
        Ok(Self { file, path })
    }

    /// Adds a line.
    pub(crate) fn write(&mut self, value: &serde_json::Value) -> Result<()> {
        writeln!(self.file, "{value}")
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::Unit;

    const LINE: Line = Line {
        name: "a-line",
        work: Work::Pool {
            shape: crate::ours::pool::Shape::Handoff,
            peer: "handoff",
            cache: 256,
        },
        target: Some(1.5),
        figure: Some(10.0),
        unit: Unit::Rate,
        items: 1,
    };

    #[test]
    fn line_passes_by_its_median_and_its_lower_quartile() {
        let passed = result(&LINE, &[15.0, 17.0, 16.0], &[10.0, 10.0, 10.0]).unwrap();
        assert_eq!(passed.verdict, "pass");
        assert_eq!(
            passed.text,
            "RATIO a-line 1.60 quartiles=1.55,1.65 ours=16.00 peer=10.00 M/s"
        );
        // The median is above, a quarter of the rounds far below.
        let uneven = result(&LINE, &[10.0, 10.0, 16.0, 16.0, 16.0], &[10.0; 5]).unwrap();
        assert_eq!(uneven.verdict, "FAIL");
    }

    #[test]
    fn slow_peer_voids_the_line() {
        let voided = result(&LINE, &[15.0, 15.0], &[7.0, 7.9]).unwrap();
        assert!(voided.verdict.starts_with("VOID"));
        assert!(voided.text.contains("RATIO a-line 2.02") && voided.text.contains("\nVOID a-line"));
        // One round at its figure is enough: the peer is what it should be.
        assert_eq!(
            result(&LINE, &[15.0, 15.0], &[7.0, 8.0]).unwrap().verdict,
            "pass"
        );
    }

    #[test]
    fn lossy_round_voids_the_line() {
        let of = |losses: &[(f64, Option<f64>)]| {
            let mut found = result(&LINE, &[15.0], &[10.0]).unwrap();
            found.look_at_losses(losses);
            found
        };
        let equal = of(&[(0.009, Some(0.006)), (0.0, Some(0.001))]);
        assert_eq!(equal.verdict, "pass");
        assert!(
            equal
                .text
                .ends_with("LOSS a-line median,most ours=0.45,0.90 peer=0.35,0.60 %")
        );
        for lossy in [(0.011, Some(0.011)), (0.0, Some(0.006)), (0.02, None)] {
            let voided = of(&[(0.0, lossy.1.map(|_| 0.0)), lossy]);
            assert!(voided.verdict.starts_with("VOID: 1 of 2"), "{lossy:?}");
        }
        // Where nothing may be lost, nothing is said.
        assert!(!of(&[]).text.contains("LOSS"));
    }

    #[test]
    fn cost_is_better_when_it_is_less() {
        let line = Line {
            unit: Unit::Cost,
            ..LINE
        };
        let found = result(&line, &[5.0], &[10.0]).unwrap();
        assert_eq!((found.ratio, found.verdict.as_str()), (Some(2.0), "pass"));
    }
}
