//! What each chore runs, in which order, and the line that adds it all up.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::step;
use crate::tally::Tally;
use crate::tidy::{self, Repository};
use crate::workspace::{Workspace, cargo};

/// Program tests that want real root; `net` runs them, `programs` the others.
const NET_TESTS: &[&str] = &["net", "xdp"];

/// How long, and how often inside each kind of ring operation, `test` kills processes.
const STORM_SECONDS: u64 = 20;
const STORM_KILLS: u32 = 10;
/// The same with other ports.
const SHORT_STORM_SECONDS: u64 = 10;

/// How long `test` feeds each fuzz target.
const FUZZ_SECONDS: u64 = 3;

/// Crates that loom explores.
const LOOM_CRATES: &[&str] = &["forebay-ring", "forebay-mbuf"];

/// What Miri interprets: a crate, and which of its tests.
const MIRI_TESTS: &[(&str, &str)] = &[
    ("forebay-eal", "zone"),
    ("forebay-ring", ""),
    ("forebay-mbuf", ""),
];

/// What is killed in a storm of a pipeline, as `forebay-storm pipeline` takes it.
#[derive(Debug)]
pub(crate) struct PipelineStorm<'a> {
    /// Who reads the ports.
    pub queues: &'a str,
    /// What the ports are.
    pub driver: &'a str,
    /// Who drives the queues of clients.
    pub share: &'a str,
}

impl Default for PipelineStorm<'_> {
    fn default() -> Self {
        Self {
            queues: "both",
            driver: "af_packet",
            share: "direct",
        }
    }
}

/// Runs steps one after the other and remembers how they ended.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    workspace: &'a Workspace,
    tally: Tally,
    failures: Vec<String>,
    started: Instant,
    /// Whether the programs came out, once they were built.
    programs_are_built: Option<bool>,
}

impl<'a> Plan<'a> {
    pub(crate) fn new(workspace: &'a Workspace) -> Self {
        Self {
            workspace,
            tally: Tally::default(),
            failures: Vec::new(),
            started: Instant::now(),
            programs_are_built: None,
        }
    }

    /// All there is; each step goes on when the one before it failed.
    pub(crate) fn test(&mut self) {
        self.check();
        self.unit(None);
        self.programs(None);
        self.net(None);
        self.storm(STORM_SECONDS, None, &PipelineStorm::default());
        for (driver, share) in [
            ("tap", "direct"),
            ("af_packet", "proxy"),
            ("tap", "proxy"),
            ("af_xdp", "direct"),
        ] {
            let storm = PipelineStorm {
                driver,
                share,
                ..PipelineStorm::default()
            };
            self.storm(SHORT_STORM_SECONDS, None, &storm);
        }
        self.storm_of_rings(STORM_KILLS, None);
        self.loom();
        self.model(None);
        self.miri();
        self.fuzz(None, FUZZ_SECONDS);
        self.instructions(None, false);
    }

    pub(crate) fn check(&mut self) {
        self.verdict("format", self.cargo(&["fmt", "--all", "--check"]));
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ];
        self.verdict("clippy", self.cargo(&clippy));
        let mut doc = self.cargo(&["doc", "--workspace", "--no-deps"]);
        doc.env("RUSTDOCFLAGS", "-D warnings");
        self.verdict("documentation", doc);
        self.tidy();
    }

    pub(crate) fn tidy(&mut self) {
        self.headline("tidy");
        let repository = match Repository::read(self.workspace) {
            Ok(repository) => repository,
            Err(error) => return self.failed("tidy", &format!("{error:#}")),
        };
        for (name, rule) in tidy::RULES {
            let complaints = rule(&repository);
            if complaints.is_empty() {
                println!("{name}: ok");
                self.tally += Tally::PASSED;
            } else {
                complaints
                    .iter()
                    .for_each(|complaint| println!("tidy: {complaint}"));
                self.failed("tidy", name);
            }
        }
    }

    pub(crate) fn unit(&mut self, filter: Option<&str>) {
        let mut unit = self.cargo(&["test", "--workspace", "--exclude", "forebay-tests"]);
        unit.arg("--no-fail-fast").args(filter);
        self.tests("unit tests", unit);
    }

    pub(crate) fn programs(&mut self, filter: Option<&str>) {
        if !self.build_programs() {
            return;
        }
        let mut tests = self.cargo(&["test", "-p", "forebay-tests", "--no-fail-fast", "--lib"]);
        for name in self
            .program_tests()
            .iter()
            .filter(|name| !NET_TESTS.contains(&name.as_str()))
        {
            tests.args(["--test", name]);
        }
        self.program_environment(&mut tests);
        // One at a time: each starts several processes that keep a core busy.
        tests.arg("--").args(filter).arg("--test-threads=1");
        self.tests("program tests", tests);
    }

    pub(crate) fn net(&mut self, filter: Option<&str>) {
        if !is_root() {
            return self.skipped("net", "it needs root; run `sudo -E cargo xtask net`");
        }
        let known = self.program_tests();
        if let Some(name) = NET_TESTS
            .iter()
            .find(|name| !known.iter().any(|test| test == *name))
        {
            return self.failed("net", &format!("tests/tests/{name}.rs is missing"));
        }
        if !self.build_programs() {
            return;
        }
        let mut tests = self.cargo(&["test", "-p", "forebay-tests", "--no-fail-fast"]);
        for name in NET_TESTS {
            tests.args(["--test", name]);
        }
        self.program_environment(&mut tests);
        tests.arg("--").args(filter).arg("--test-threads=1");
        self.tests("tests as root", tests);
    }

    /// Kills processes of a pipeline for so long.
    pub(crate) fn storm(&mut self, seconds: u64, seed: Option<u64>, storm: &PipelineStorm<'_>) {
        let PipelineStorm {
            queues,
            driver,
            share,
        } = *storm;
        let seconds = seconds.to_string();
        let name = format!("storm, {driver}, {share}");
        let args = ["pipeline", "--seconds", &seconds, "--queues", queues];
        let ports = ["--driver", driver, "--share", share];
        self.run_storm(&name, &[&args[..], &ports].concat(), seed);
    }

    /// Kills processes inside each kind of ring operation, so often.
    pub(crate) fn storm_of_rings(&mut self, kills: u32, seed: Option<u64>) {
        self.run_storm(
            "storm of rings",
            &["rings", "--kills", &kills.to_string()],
            seed,
        );
    }

    fn run_storm(&mut self, name: &str, args: &[&str], seed: Option<u64>) {
        let release = self.cargo(&[
            "build",
            "--release",
            "-p",
            "forebay-tools",
            "-p",
            "forebay-tests",
            "--bins",
        ]);
        if !self.built("storm, release", release) {
            return;
        }
        let folder = self.workspace.target_dir.join("release");
        let mut storm = Command::new(folder.join("forebay-storm"));
        storm
            .args(args)
            .args(seed.map(|seed| format!("--seed={seed}")));
        storm
            .arg("--out")
            .arg(self.workspace.target_dir.join("storm"));
        storm.env("FOREBAY_BIN_DIR", folder);
        self.tests(name, storm);
    }

    pub(crate) fn loom(&mut self) {
        let mut loom = self.cargo(&["test", "--lib", "--no-fail-fast"]);
        for name in LOOM_CRATES {
            loom.args(["-p", name]);
        }
        // A directory of its own: other flags would rebuild everything, back and forth.
        let flags = env::var("RUSTFLAGS").unwrap_or_default();
        loom.env("RUSTFLAGS", format!("{flags} --cfg loom"))
            .env("CARGO_TARGET_DIR", self.workspace.target_dir.join("loom"));
        // The models, by their module's name; other tests know nothing of loom's atomics.
        loom.arg("loom");
        self.tests("loom", loom);
    }

    pub(crate) fn model(&mut self, filter: Option<&str>) {
        let mut model = self.cargo(&["run", "--quiet", "-p", "forebay-model"]);
        let flags = env::var("RUSTFLAGS").unwrap_or_default();
        model
            .env("RUSTFLAGS", format!("{flags} --cfg forebay_model"))
            .env("CARGO_TARGET_DIR", self.workspace.target_dir.join("model"))
            // It runs for minutes, and is built in seconds.
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "2");
        model.arg("--").args(filter);
        self.tests("crash model", model);
    }

    pub(crate) fn miri(&mut self) {
        let mut probe = nightly();
        probe
            .args(["miri", "setup"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            let add = "no nightly toolchain with Miri; \
                       add one with `rustup +nightly component add miri rust-src`";
            return self.skipped("miri", add);
        }
        for (name, filter) in MIRI_TESTS {
            let mut miri = nightly();
            miri.current_dir(&self.workspace.root)
                .args([
                    "miri",
                    "test",
                    "-p",
                    name,
                    "--lib",
                    "--no-fail-fast",
                    filter,
                ])
                .env("CARGO_TARGET_DIR", self.workspace.target_dir.join("miri"))
                // Regions live as long as their process, by design, and slots in tests die with it.
                .env("MIRIFLAGS", "-Zmiri-ignore-leaks")
                .env("PROPTEST_CASES", "4");
            self.tests(&format!("miri {name}"), miri);
        }
    }

    /// Counts what a packet takes on each data path.
    pub(crate) fn instructions(&mut self, only: Option<&str>, bless: bool) {
        let release = self.cargo(&["build", "--release", "-p", "forebay-bench"]);
        if !self.built("instructions, release", release) {
            return;
        }
        let mut bench = Command::new(self.workspace.target_dir.join("release/forebay-bench"));
        bench.arg("instructions");
        bench.args(only.map(|only| format!("--only={only}")));
        bench.args(bless.then_some("--bless"));
        self.tests("instructions", bench);
    }

    /// Prints what failed and the line that adds up.
    pub(crate) fn finish(self) -> ExitCode {
        self.headline("all in all");
        for failure in &self.failures {
            println!("failed: {failure}");
        }
        println!("{}", self.tally);
        if self.tally.failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }

    /// Builds what the program tests start, in both profiles: one of them mixes the two. Once is
    /// enough for all steps of a run.
    fn build_programs(&mut self) -> bool {
        if let Some(are_built) = self.programs_are_built {
            return are_built;
        }
        let debug = self.cargo(&["build", "--workspace", "--bins", "--exclude", "xtask"]);
        let release = self.cargo(&["build", "--release", "-p", "mp_client"]);
        let are_built =
            self.built("programs, debug", debug) && self.built("programs, release", release);
        self.programs_are_built = Some(are_built);
        are_built
    }

    pub(crate) fn built(&mut self, name: &str, mut command: Command) -> bool {
        self.headline(name);
        match step::run(&mut command) {
            Ok(outcome) if outcome.success => return true,
            Ok(_) => self.failed(name, "does not build"),
            Err(error) => self.failed(name, &error.to_string()),
        }
        false
    }

    fn program_environment(&self, tests: &mut Command) {
        tests
            .env("FOREBAY_BIN_DIR", self.workspace.target_dir.join("debug"))
            .env(
                "FOREBAY_RELEASE_BIN_DIR",
                self.workspace.target_dir.join("release"),
            );
    }

    /// The names of the test targets of `forebay-tests`.
    fn program_tests(&self) -> Vec<String> {
        let Some(member) = self.workspace.member("forebay-tests") else {
            return Vec::new();
        };
        let tests = member.dir.join("tests");
        let roots = member.roots.iter().filter(|root| root.starts_with(&tests));
        roots
            .filter_map(|root| root.file_stem()?.to_str().map(str::to_owned))
            .collect()
    }

    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.workspace.root).args(args);
        command
    }

    /// A step that passes or fails as a whole.
    pub(crate) fn verdict(&mut self, name: &str, mut command: Command) {
        self.headline(name);
        match step::run(&mut command) {
            Ok(outcome) if outcome.success => self.tally += Tally::PASSED,
            Ok(_) => self.failed(name, "see above"),
            Err(error) => self.failed(name, &error.to_string()),
        }
    }

    /// A step made of tests that count themselves.
    fn tests(&mut self, name: &str, mut command: Command) {
        self.headline(name);
        match step::run(&mut command) {
            Ok(outcome) => {
                self.tally += outcome.tally;
                match (outcome.success, outcome.tally.failed) {
                    (true, _) => {}
                    // Did not build, or died without a word.
                    (false, 0) => self.failed(name, "did not run to its end"),
                    (false, _) => self.failures.push(format!("{name}: see above")),
                }
            }
            Err(error) => self.failed(name, &error.to_string()),
        }
    }

    /// The repository, and where it is built.
    pub(crate) fn workspace(&self) -> &'a Workspace {
        self.workspace
    }

    /// Counts what ran in this process.
    pub(crate) fn count(&mut self, tally: Tally) {
        self.tally += tally;
    }

    pub(crate) fn headline(&self, name: &str) {
        println!("\n== {name} ({} s)", self.started.elapsed().as_secs());
    }

    pub(crate) fn skipped(&mut self, name: &str, reason: &str) {
        self.headline(name);
        println!("skipped: {name}: {reason}");
        self.tally += Tally::SKIPPED;
    }

    pub(crate) fn failed(&mut self, name: &str, reason: &str) {
        self.failures.push(format!("{name}: {reason}"));
        self.tally += Tally::FAILED;
    }
}

/// Cargo of the nightly toolchain, which is not the pinned one that runs us.
pub(crate) fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    command
}

/// Whether we run as the user 0.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
