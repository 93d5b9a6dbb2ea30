//! DPDK's `client_server_mp`, as its source package has it: fetched with `apt-get source`, built unmodified.
//!
//! Nothing of the system's package configuration is changed: the list of sources, what it names, and the cache lie in a folder
//! of the bench.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::child;

/// What fetching needs.
const INSTALL: &str = "apt-get update && apt-get install dpkg-dev";
/// How long one step of the package manager may take.
const STEP_MAX: Duration = Duration::from_secs(300);
/// Where Debian keeps its keys.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The example's folder below `target`, fetched if it is not there: the release that `libdpdk-dev` is of.
///
/// # Errors
///
/// If the package manager does not know where the package came from, or cannot fetch it.
pub(crate) fn fetch(target: &Path) -> Result<PathBuf> {
    let (version, from) = installed()?;
    let dir = target.join("dpdk-source").join(&version);
    let example = |dir: &Path| -> Option<PathBuf> {
        let trees = fs::read_dir(dir).ok()?.filter_map(Result::ok);
        let mut found =
            trees.map(|tree| tree.path().join("examples/multi_process/client_server_mp"));
        found.find(|path| path.join("shared/common.h").exists())
    };
    if let Some(found) = example(&dir) {
        return Ok(found);
    }
    eprintln!("fetching the source of DPDK {version}");
    for folder in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(dir.join(folder))?;
    }
    let dir = dir.canonicalize()?;
    let signed = if Path::new(KEYRING).exists() {
        format!("[signed-by={KEYRING}] ")
    } else {
        String::new()
    };
    let list = dir.join("sources.list");
    fs::write(&list, format!("deb-src {signed}{from}\n"))?;
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.current_dir(&dir)
            .arg(format!("-oDir::Etc::sourcelist={}", list.display()))
            .args(["-oDir::Etc::sourceparts=-", "-oAPT::Sandbox::User=root"])
            .arg(format!(
                "-oDir::State::lists={}",
                dir.join("lists").display()
            ))
            .arg(format!("-oDir::Cache={}", dir.join("cache").display()))
            .args(args);
        child::output(&mut apt, STEP_MAX)
    };
    let fetched = apt(&["update"]).and_then(|_| apt(&["source", &format!("dpdk={version}")]));
    fetched.with_context(|| format!("cannot fetch DPDK's source; `{INSTALL}` may help"))?;
    example(&dir).context("DPDK's source package has no client_server_mp")
}

/// The version of `libdpdk-dev`, and where it came from: address, suite and component.
fn installed() -> Result<(String, String)> {
    let mut policy = Command::new("apt-cache");
    policy.args(["policy", "libdpdk-dev"]).env("LC_ALL", "C");
    let policy = child::output(&mut policy, STEP_MAX)?;
    origin(&policy).with_context(|| format!("no package list names libdpdk-dev; `{INSTALL}`"))
}

/// Reads what `apt-cache policy` says.
fn origin(policy: &str) -> Option<(String, String)> {
    let mut lines = policy.lines().map(str::trim);
    let version = lines.find_map(|line| line.strip_prefix("*** "))?;
    let version = version.split(' ').next()?.to_owned();
    let from = lines
        .take_while(|line| {
            line.split(' ')
                .nth(1)
                .is_some_and(|from| from.contains('/'))
        })
        .find(|line| line.contains("://"))?;
    let mut words = from.split(' ').skip(1);
    let (address, suite) = (words.next()?, words.next()?);
    let (suite, component) = suite.rsplit_once('/')?;
    Some((version, format!("{address} {suite} {component}")))
}

/// What to compile: a program and its sources.
pub(crate) fn programs(example: &Path) -> Result<[(&'static str, Vec<PathBuf>); 2]> {
    let sources = |folder: &str, names: &[&str]| -> Vec<PathBuf> {
        let folder = example.join(folder);
        names.iter().map(|name| folder.join(name)).collect()
    };
    let programs = [
        (
            "mp_server",
            sources("mp_server", &["main.c", "init.c", "args.c"]),
        ),
        ("mp_client", sources("mp_client", &["client.c"])),
    ];
    for source in programs.iter().flat_map(|(_, sources)| sources) {
        ensure!(source.exists(), "{} is missing", source.display());
    }
    Ok(programs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_that_of_the_installed_version() {
        let policy = "libdpdk-dev:\n  Installed: 22.11.9-0+deb12u1\n  Candidate: 22.11.9-0+deb12u1\n  Version table:\n \
                      *** 22.11.9-0+deb12u1 500\n        500 http://example.org/debian bookworm/main amd64 Packages\n        \
                      100 /var/lib/dpkg/status\n     22.11.7-1 500\n        500 http://example.com/s s/main amd64 Packages\n";
        let (version, from) = origin(policy).unwrap();
        assert_eq!(version, "22.11.9-0+deb12u1");
        assert_eq!(from, "http://example.org/debian bookworm main");
        let local = policy.replace(
            "500 http://example.org/debian bookworm/main amd64 Packages\n        ",
            "",
        );
        assert_eq!(origin(&local), None);
    }
}
