//! The peers: C programs on `libdpdk`, built as an application of DPDK is, and one on the kernel's sockets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::{child, example};

/// What installs what is missing.
pub(crate) const INSTALL: &str = "apt-get install libdpdk-dev dpdk-dev gcc pkg-config dpkg-dev";

/// How long the compiler may take.
const BUILD_MAX: Duration = Duration::from_secs(120);

/// The programs of `bench/peers`, a source each.
const PROGRAMS: &[&str] = &["ring", "pool", "start", "totals", "forward"];

/// The peers, built.
#[derive(Debug)]
pub(crate) struct Peers {
    dir: PathBuf,
    /// Where they keep what they share by path.
    runtime_dir: PathBuf,
    /// The release of DPDK.
    pub(crate) version: String,
}

impl Peers {
    /// Builds them into a folder below `target`; `None` where DPDK is not installed. They run with their files in `scratch`.
    ///
    /// # Errors
    ///
    /// If it is installed and they do not build.
    pub(crate) fn build(sources: &Path, target: &Path, scratch: &Path) -> Result<Option<Self>> {
        let Ok(version) = pkg_config(&["--modversion"]) else {
            return Ok(None);
        };
        let dir = target.join("peers");
        fs::create_dir_all(&dir)?;
        let example = example::fetch(target)?;
        let compiler = Compiler {
            flags: pkg_config(&["--cflags"])?,
            libraries: pkg_config(&["--libs"])?,
            include: [sources.to_owned(), example.join("shared")],
        };
        for program in PROGRAMS {
            let source = sources.join(format!("{program}.c"));
            compiler.build(&[source], &dir.join(program), &["-Wall", "-Wextra"])?;
        }
        for (program, sources) in example::programs(&example)? {
            compiler.build(&sources, &dir.join(program), &[])?;
        }
        Ok(Some(Self {
            dir,
            runtime_dir: scratch.to_owned(),
            version: version.trim().to_owned(),
        }))
    }

    /// The command that runs one of them, its environment's arguments first.
    pub(crate) fn command(&self, program: &str, eal: &[String], args: &[String]) -> Command {
        let mut command = Command::new(self.dir.join(program));
        command.env("RUNTIME_DIRECTORY", &self.runtime_dir);
        // No device of this machine is the bench's to touch.
        command.args(["--no-pci", "--no-telemetry"]);
        command.args(eal).arg("--").args(args);
        command
    }
}

/// Builds the server that stands for the kernel's stack; `None` where there is no compiler.
///
/// # Errors
///
/// If it does not build.
pub(crate) fn build_kernel(sources: &Path, target: &Path) -> Result<Option<PathBuf>> {
    if Command::new("gcc").arg("--version").output().is_err() {
        return Ok(None);
    }
    let dir = target.join("peers");
    fs::create_dir_all(&dir)?;
    let compiler = Compiler {
        flags: "-pthread".to_owned(),
        libraries: String::new(),
        include: [sources.to_owned(), sources.to_owned()],
    };
    let built = dir.join("udp_echo");
    let source = sources.join("udp_echo.c");
    compiler.build(&[source], &built, &["-Wall", "-Wextra"])?;
    Ok(Some(built))
}

/// How an application of DPDK is built.
#[derive(Debug)]
struct Compiler {
    flags: String,
    libraries: String,
    include: [PathBuf; 2],
}

impl Compiler {
    /// Builds a program, unless that was done since its sources changed.
    fn build(&self, sources: &[PathBuf], built: &Path, warnings: &[&str]) -> Result<()> {
        let header = self.include[0].join("round.h");
        if is_newer(built, sources.iter().chain([&header])) {
            return Ok(());
        }
        let mut gcc = Command::new("gcc");
        gcc.args(["-O3", "-DALLOW_EXPERIMENTAL_API"])
            .args(warnings)
            .args(self.flags.split_whitespace())
            // Behind DPDK's own flags, which name the oldest machine that it runs on.
            .arg("-march=native")
            .args(
                self.include
                    .iter()
                    .map(|dir| format!("-I{}", dir.display())),
            )
            .args(sources)
            .arg("-o")
            .arg(built)
            .args(self.libraries.split_whitespace());
        child::output(&mut gcc, BUILD_MAX)
            .with_context(|| format!("cannot build the peer {}", built.display()))?;
        Ok(())
    }
}

/// Whether `built` was made after the last change of each source.
fn is_newer<'a>(built: &Path, mut sources: impl Iterator<Item = &'a PathBuf>) -> bool {
    let time = |path: &Path| path.metadata().and_then(|found| found.modified()).ok();
    let Some(built) = time(built) else {
        return false;
    };
    sources.all(|source| time(source).is_some_and(|changed| changed < built))
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
