//! A program with a deadline: what it printed, or why there is nothing.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How often we look whether it has ended.
const POLL: Duration = Duration::from_millis(2);
/// How long a program may take that was asked to end.
const END_MAX: Duration = Duration::from_secs(5);

/// Runs `command` to its end and returns what it wrote to stdout.
///
/// # Errors
///
/// If it cannot be started, ends with another status than 0, or takes longer than `limit`; it is killed then.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let (out, err) = (thread::spawn(|| text(out)), thread::spawn(|| text(err)));
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            bail!("{name} was not done after {} s", limit.as_secs());
        }
        thread::sleep(POLL);
    };
    let (out, err) = (
        out.join().unwrap_or_default(),
        err.join().unwrap_or_default(),
    );
    let last = err.lines().rfind(|line| !line.trim().is_empty());
    ensure!(
        status.success(),
        "{name} ended with {status}: {}",
        last.unwrap_or("not a word")
    );
    Ok(out)
}

/// A program that is there until this is dropped: stdin ends then, and with it the program.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Running {
    /// Starts `command` and waits until it prints a line that begins with `word`. Returns how long that took.
    ///
    /// # Errors
    ///
    /// If it cannot be started or ends before.
    pub(crate) fn until(command: &mut Command, word: &str) -> Result<(Self, Duration)> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (stdin, out) = (child.stdin.take(), child.stdout.take());
        let running = Self { child, stdin };
        let mut lines = BufReader::new(out.context("a pipe was asked for")?).lines();
        while let Some(line) = lines.next().transpose()? {
            if line.starts_with(word) {
                return Ok((running, start.elapsed()));
            }
        }
        bail!("{name} ended before it said {word:?}")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // It ends by itself; by force if it does not.
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > END_MAX {
                let _ = self.child.kill();
            }
            thread::sleep(POLL);
        }
    }
}

fn text(stream: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        // What was read until then is told.
        let _ = stream.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
