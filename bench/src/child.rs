//! Programs with a deadline: one that is run to its end, and one that is there while others are measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lab::Signal;
use rustix::process::{Pid, kill_process};

/// How often we look whether it has ended.
const POLL: Duration = Duration::from_millis(2);
/// How long a program may take that was asked to end.
const END_MAX: Duration = Duration::from_secs(5);
/// How long a program may take until it is there.
const READY_MAX: Duration = Duration::from_secs(30);

/// Runs `command` to its end and returns what it wrote to stdout.
///
/// # Errors
///
/// If it cannot be started, ends with another status than 0, or takes longer than `limit`; it is killed then.
pub(crate) fn output(command: &mut Command, limit: Duration) -> Result<String> {
    Ok(both(command, limit)?.0)
}

/// The same, what it wrote to stderr.
///
/// # Errors
///
/// As [`output`].
pub(crate) fn errors(command: &mut Command, limit: Duration) -> Result<String> {
    Ok(both(command, limit)?.1)
}

fn both(command: &mut Command, limit: Duration) -> Result<(String, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    lab::die_with_parent(command, Signal::KILL);
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
    Ok((out, err))
}

/// Where a program says that it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// A program that is there until this is dropped: its stdin ends then, and with it the program.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    told: mpsc::Receiver<Told>,
}

/// A line with the word in it and when it came, or the last line of all.
type Told = Result<(Instant, String), String>;

impl Running {
    /// Starts `command` and waits until it prints a line with `word` in it. Returns how long that took.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or ends before.
    pub(crate) fn until(
        command: &mut Command,
        stream: Stream,
        word: &'static str,
    ) -> Result<(Self, Duration)> {
        let name = command.get_program().to_string_lossy().into_owned();
        lab::die_with_parent(command, Signal::KILL);
        command.stdin(Stdio::piped());
        if stream == Stream::Out {
            command.stdout(Stdio::piped()).stderr(Stdio::null());
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::piped());
        }
        let start = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let (stdin, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (tell, told) = mpsc::channel();
        // From here on dropping it ends the program.
        let running = Self { child, stdin, told };
        match stream {
            Stream::Out => listen(out, word, tell),
            Stream::Err => listen(err, word, tell),
        }
        match running.told.recv_timeout(READY_MAX) {
            Ok(Ok((at, _))) => Ok((running, at.duration_since(start))),
            Ok(Err(last)) => Err(anyhow!("{name} ended before it was ready: {last}")),
            Err(_) => bail!("{name} was not ready after {} s", READY_MAX.as_secs()),
        }
    }

    /// Writes to its stdin.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub(crate) fn tell(&mut self, text: &str) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its stdin has ended")?;
        Ok(stdin.write_all(text.as_bytes())?)
    }

    /// The next line with the word in it.
    ///
    /// # Errors
    ///
    /// If it ends before, or takes longer than `limit`.
    pub(crate) fn line(&self, limit: Duration) -> Result<String> {
        match self.told.recv_timeout(limit) {
            Ok(Ok((_, line))) => Ok(line),
            Ok(Err(last)) => Err(anyhow!("it ended before it was done: {last}")),
            Err(_) => bail!("it was not done after {} s", limit.as_secs()),
        }
    }

    /// Ends a program by SIGINT that does not mind its stdin.
    pub(crate) fn interrupt(self) {
        // It may end by itself at this moment.
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Reads all that comes, on a thread of its own; tells when the word came, or else the last line.
fn listen(
    stream: Option<impl Read + Send + 'static>,
    word: &'static str,
    tell: mpsc::Sender<Told>,
) {
    thread::spawn(move || {
        let mut last = String::from("not a word");
        let mut lines = stream
            .map(|stream| BufReader::new(stream).lines())
            .into_iter()
            .flatten();
        while let Some(Ok(line)) = lines.next() {
            if line.contains(word) {
                // Who no longer waits does not want to know.
                let _ = tell.send(Ok((Instant::now(), line.clone())));
            }
            last = line;
        }
        let _ = tell.send(Err(last));
    });
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stdin.take());
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
