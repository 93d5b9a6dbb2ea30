//! A process of the demo: started, waited for, and ended whatever happens.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Stop, progress};

/// How long a process may take from its start to its first `ready` line.
const START_LIMIT: Duration = Duration::from_secs(15);
/// How long a process may take to end when asked to, before it is killed.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How often a wait looks whether the demo was interrupted.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A child that dies with this value.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    /// What it writes to stderr, a line each.
    lines: Receiver<String>,
    /// The last of them that were read.
    last: Vec<String>,
}

impl Process {
    /// Starts a command as a process group of its own, so that Ctrl-C reaches it by way of us.
    pub(crate) fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        use std::os::unix::process::CommandExt;
        // SIGTERM when we are gone: it ends what it began, and takes its files away.
        lab::die_with_parent(command, lab::Signal::TERM);
        command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start the {name}"))?;
        let stderr = child.stderr.take().expect("stderr was just made a pipe");
        let (sender, lines) = mpsc::channel();
        thread::Builder::new()
            .name(format!("{name} stderr"))
            .spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            name: name.into(),
            child,
            lines,
            last: Vec::new(),
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says that it is ready.
    pub(crate) fn wait_ready(&mut self, stop: &Stop) -> anyhow::Result<()> {
        let until = Instant::now() + START_LIMIT;
        loop {
            stop.check()?;
            match self.lines.recv_timeout(LOOK_EVERY) {
                Ok(line) if line.starts_with("ready") => return Ok(()),
                Ok(line) => self.keep(line),
                Err(RecvTimeoutError::Disconnected) => {
                    let (status, words) = (self.child.wait()?, self.last_words());
                    bail!("the {} ended at once ({status}): {words}", self.name);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > until => {
                    let limit = START_LIMIT.as_secs();
                    let words = self.last_words();
                    bail!("the {} was not ready in {limit} s: {words}", self.name);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let words = self.last_words();
            bail!("the {} ended by itself ({status}): {words}", self.name);
        }
        Ok(())
    }

    /// What it writes to stdout, if that was made a pipe.
    pub(crate) fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self, stop: &Stop) -> anyhow::Result<ExitStatus> {
        loop {
            stop.check()?;
            while let Ok(line) = self.lines.try_recv() {
                // It takes long: let those who watch know how far it is.
                if line.starts_with("progress") {
                    progress(&line);
                } else {
                    self.keep(line);
                }
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Asks it to end, waits, and kills it if it does not.
    pub(crate) fn end(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return self.judge(status);
        }
        let pid = rustix::process::Pid::from_child(&self.child);
        // Not waited for yet, so the number is still its own.
        rustix::process::kill_process(pid, lab::Signal::TERM)?;
        let until = Instant::now() + END_LIMIT;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return self.judge(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        self.child.kill()?;
        self.child.wait()?;
        bail!(
            "the {} did not end in {} s and was killed",
            self.name,
            END_LIMIT.as_secs()
        )
    }

    fn judge(&mut self, status: ExitStatus) -> anyhow::Result<()> {
        if status.success() {
            return Ok(());
        }
        let words = self.last_words();
        bail!("the {} ended with {status}: {words}", self.name)
    }

    /// What it said last on stderr.
    pub(crate) fn last_words(&mut self) -> String {
        while let Ok(line) = self.lines.recv_timeout(LOOK_EVERY) {
            self.keep(line);
        }
        if self.last.is_empty() {
            "it said nothing".into()
        } else {
            self.last.join("; ")
        }
    }

    fn keep(&mut self, line: String) {
        const KEPT: usize = 3;
        if self.last.len() == KEPT {
            self.last.remove(0);
        }
        self.last.push(line);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // After an error: what it has to say does not matter any more. A process that has been
        // waited for is left alone by all of this.
        let _ = self.end();
    }
}
