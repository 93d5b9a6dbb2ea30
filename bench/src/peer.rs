//! The peers: C programs on `libdpdk`, built as an application of DPDK is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::child;

/// What installs what is missing.
pub(crate) const INSTALL: &str = "apt-get install libdpdk-dev gcc pkg-config";

/// How long the compiler may take.
const BUILD_MAX: Duration = Duration::from_secs(120);

/// The programs, by the name of their source in `bench/peers`.
const PROGRAMS: &[&str] = &["ring", "pool", "start"];

/// The peers, built.
#[derive(Debug)]
pub(crate) struct Peers {
    dir: PathBuf,
    /// The release of DPDK.
    pub(crate) version: String,
}

impl Peers {
    /// Builds them into a folder below `target`; `None` where DPDK is not installed.
    ///
    /// # Errors
    ///
    /// If it is installed and they do not build.
    pub(crate) fn build(sources: &Path, target: &Path) -> Result<Option<Self>> {
        let Ok(version) = pkg_config(&["--modversion"]) else {
            return Ok(None);
        };
        let dir = target.join("peers");
        fs::create_dir_all(&dir)?;
        let (flags, libraries) = (pkg_config(&["--cflags"])?, pkg_config(&["--libs"])?);
        for program in PROGRAMS {
            let (source, built) = (sources.join(format!("{program}.c")), dir.join(program));
            if is_newer(&built, &[&source, &sources.join("round.h")]) {
                continue;
            }
            let mut gcc = Command::new("gcc");
            gcc.args(["-O3", "-Wall", "-Wextra"])
                .args(flags.split_whitespace())
                // Behind DPDK's own flags, which name the oldest machine that it runs on.
                .arg("-march=native")
                .arg(&source)
                .arg("-o")
                .arg(&built)
                .args(libraries.split_whitespace());
            child::output(&mut gcc, BUILD_MAX)
                .with_context(|| format!("cannot build the peer {program}"))?;
        }
        let version = version.trim().to_owned();
        Ok(Some(Self { dir, version }))
    }

    /// The command that runs one of them, its environment's arguments first.
    pub(crate) fn command(&self, program: &str, eal: &[String], args: &[String]) -> Command {
        let mut command = Command::new(self.dir.join(program));
        command.args(eal).arg("--").args(args);
        command
    }
}

/// Whether `built` was made after the last change of each source.
fn is_newer(built: &Path, sources: &[&Path]) -> bool {
    let time = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let Some(built) = time(built) else {
        return false;
    };
    sources
        .iter()
        .all(|source| time(source).is_some_and(|changed| changed < built))
}

fn pkg_config(what: &[&str]) -> Result<String> {
    let output = Command::new("pkg-config")
        .args(what)
        .arg("libdpdk")
        .output()?;
    if !output.status.success() {
        bail!("no libdpdk");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
