//! The demo's primary and secondaries, and the directory that their files lie in.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use tempfile::TempDir;

use super::process::Process;
use super::{DemoArgs, Stop};

/// How the directories of demos begin; the number of the process follows.
const DIRECTORY: &str = "forebay-demo-";

/// The processes between the two hosts.
#[derive(Debug)]
pub(super) struct Group {
    prefix: String,
    // Fields are dropped in this order: clients first, and the directory when nobody needs it.
    clients: Vec<Process>,
    server: Process,
    place: Place,
}

/// Where the group's files lie.
#[derive(Debug)]
pub(super) enum Place {
    /// Ours: it goes with us.
    Temporary(TempDir),
    /// The user's: it stays.
    Given(PathBuf),
}

impl Place {
    /// The folder that the user named, or a temporary one.
    pub(super) fn make(given: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = given {
            fs::create_dir_all(path)
                .with_context(|| format!("--runtime-dir {}", path.display()))?;
            return Ok(Self::Given(path.to_owned()));
        }
        remove_stale();
        let own = format!("{DIRECTORY}{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&own).tempdir();
        Ok(Self::Temporary(
            directory.context("cannot make a temporary directory")?,
        ))
    }

    /// Looks that nothing of a group stays behind.
    pub(super) fn leave(self, prefix: &str) -> anyhow::Result<()> {
        let left = self.path().join(prefix);
        anyhow::ensure!(
            !left.exists(),
            "{} is still there after the last process",
            left.display()
        );
        if let Self::Temporary(directory) = self {
            directory
                .close()
                .context("cannot remove the demo's directory")?;
        }
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Given(path) => path,
        }
    }
}

impl Group {
    /// Starts a server with these ports, then the clients; `prepare` says where each runs.
    pub(super) fn start(
        args: &DemoArgs,
        vdevs: &[String],
        stop: &Stop,
        prepare: impl Fn(&mut Command) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let place = Place::make(args.runtime_dir.as_deref())?;
        let prefix = format!("demo-{}", std::process::id());
        let start = |name: &str, eal: &[String], app: &[String]| {
            let (subcommand, _) = name.split_once(' ').unwrap_or((name, ""));
            let mut command = this_program();
            command
                .arg(subcommand)
                .args(eal)
                // Only what went wrong: an error of the demo quotes it.
                .arg("--log-level=warning")
                .arg(format!("--file-prefix={prefix}"));
            command.arg(format!("--runtime-dir={}", place.path().display()));
            command.arg("--").args(app);
            prepare(&mut command)?;
            Process::start(name, &mut command)
        };
        let mut eal: Vec<_> = ["-l", "0-1", "-n", "4", "--no-huge"]
            .map(str::to_owned)
            .into();
        eal.extend(vdevs.iter().map(|vdev| format!("--vdev={vdev}")));
        let mut server = start("server", &eal, &args.server_args())?;
        server.wait_ready(stop)?;
        let mut clients = Vec::new();
        for id in 0..args.clients {
            let eal = ["-l", &(id + 1).to_string(), "--proc-type=auto"].map(str::to_owned);
            let app = ["-n".to_owned(), id.to_string()];
            clients.push(start(&format!("client {id}"), &eal, &app)?);
        }
        for client in &mut clients {
            client.wait_ready(stop)?;
        }
        Ok(Self {
            prefix,
            place,
            clients,
            server,
        })
    }

    /// The group's name.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where its files lie.
    pub(super) fn runtime_dir(&self) -> &Path {
        self.place.path()
    }

    /// Who takes part, for people.
    pub(super) fn members(&self) -> String {
        let pids: Vec<_> = self
            .clients
            .iter()
            .map(|client| client.pid().to_string())
            .collect();
        format!(
            "{}: a primary (process {}) and {} secondaries ({})",
            self.prefix,
            self.server.pid(),
            self.clients.len(),
            pids.join(", ")
        )
    }

    /// What to type meanwhile.
    pub(super) fn how_to_look(&self) -> String {
        let (prefix, directory) = (&self.prefix, self.place.path().display());
        format!(
            "forebay rings --file-prefix={prefix} --runtime-dir={directory} (or list, pools, zones, check)"
        )
    }

    /// Fails if one of them has ended, with what it said last.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        self.clients
            .iter_mut()
            .chain([&mut self.server])
            .try_for_each(Process::check)
    }

    /// Ends all of them and looks that nothing stays behind.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        for client in &mut self.clients {
            client.end()?;
        }
        self.server.end()?;
        self.place.leave(&self.prefix)
    }
}

/// A command that runs this very program, whatever has become of its file.
pub(super) fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("forebay");
    command
}

/// Takes away the directories of demos that were killed and could not do so themselves.
fn remove_stale() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(DIRECTORY)?.split('-').next());
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        // One that lives is left alone. Another user's cannot be removed, nor need it.
        if !Path::new(&format!("/proc/{pid}")).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
