//! `cargo xtask fuzz`: builds the targets of fuzz/ as cargo-fuzz would, which need not be there, and feeds them.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::plan::{Plan, nightly};
use crate::workspace::Workspace;

/// Where the package of the targets lies.
pub(crate) const FOLDER: &str = "fuzz";
/// Where its targets lie, below.
pub(crate) const TARGETS: &str = "fuzz_targets";

/// What they are built for: named, so that build scripts and macros are built without the flags below.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// What libFuzzer wants to know of a run: which edges were taken, and what was compared with what.
const FLAGS: &[&str] = &[
    "-Zsanitizer=address",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// The longest input, in bytes: a frame.
const INPUT_LEN_MAX: u32 = 1514;
/// How long one input may take.
const INPUT_SECONDS_MAX: u32 = 10;

/// The names of the targets, as the manifest of their package has them.
pub(crate) fn targets(workspace: &Workspace) -> Vec<String> {
    let manifest = workspace.root.join(FOLDER).join("Cargo.toml");
    targets_of(&fs::read_to_string(manifest).unwrap_or_default())
}

fn targets_of(manifest: &str) -> Vec<String> {
    let paths = manifest.lines().filter_map(|line| {
        let path = line
            .trim()
            .strip_prefix("path = \"")?
            .strip_suffix(".rs\"")?;
        path.strip_prefix(TARGETS)?.strip_prefix('/')
    });
    paths.map(str::to_owned).collect()
}

impl Plan<'_> {
    /// Feeds each target for so long, or `only` one.
    pub(crate) fn fuzz(&mut self, only: Option<&str>, seconds: u64) {
        let mut names = targets(self.workspace());
        names.retain(|name| only.is_none_or(|only| only == name));
        if names.is_empty() {
            let what = only.unwrap_or("any");
            return self.failed("fuzz", &format!("no target {what} in {FOLDER}/Cargo.toml"));
        }
        let mut probe = nightly();
        probe.arg("--version");
        probe.stdout(Stdio::null()).stderr(Stdio::null());
        if !probe.status().is_ok_and(|status| status.success()) {
            let add = "no nightly toolchain; add one with `rustup toolchain install nightly`";
            return self.skipped("fuzz", add);
        }
        if !has_compiler() {
            let add = "no C++ compiler for libFuzzer; install one with `apt-get install g++`";
            return self.skipped("fuzz", add);
        }
        let folder = self.workspace().root.join(FOLDER);
        let target_dir = self.workspace().target_dir.join("fuzz");
        let mut build = nightly();
        build
            .current_dir(&folder)
            .args(["build", "--release", "--locked", "--target", PLATFORM])
            .env("RUSTFLAGS", FLAGS.join(" "))
            .env("CARGO_TARGET_DIR", &target_dir);
        for name in &names {
            build.args(["--bin", name]);
        }
        if !self.built("fuzz targets", build) {
            return;
        }
        for name in &names {
            let program = target_dir.join(PLATFORM).join("release").join(name);
            match self.feed(name, &program, &folder, seconds) {
                Ok(fuzzer) => self.verdict(&format!("fuzz {name}"), fuzzer),
                Err(error) => self.failed(&format!("fuzz {name}"), &error.to_string()),
            }
        }
    }

    /// What feeds one target: with the corpus of the repository, and with what was found in earlier runs.
    fn feed(
        &self,
        name: &str,
        program: &Path,
        folder: &Path,
        seconds: u64,
    ) -> std::io::Result<Command> {
        let found = self.workspace().target_dir.join("fuzz/corpus").join(name);
        let artifacts = folder.join("artifacts").join(name);
        fs::create_dir_all(&found)?;
        fs::create_dir_all(&artifacts)?;
        let mut fuzzer = Command::new(program);
        fuzzer
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={INPUT_LEN_MAX}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-verbosity=0", "-print_final_stats=1"])
            .arg(found);
        let corpus = folder.join("corpus").join(name);
        fuzzer.args(corpus.is_dir().then_some(corpus));
        Ok(fuzzer)
    }
}

/// Whether libFuzzer, which is C++, can be built.
fn has_compiler() -> bool {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut probe = Command::new(compiler);
    probe.arg("--version");
    probe.stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_those_of_the_manifest() {
        let manifest = "[[bin]]\nname = \"udp\"\npath = \"fuzz_targets/udp.rs\"\n\
                        [dependencies]\nnetstack = { path = \"../crates/netstack\" }\n";
        assert_eq!(targets_of(manifest), ["udp"]);
        assert_eq!(targets_of(""), Vec::<String>::new());
    }
}
