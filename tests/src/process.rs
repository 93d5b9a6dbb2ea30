//! One started program: what it prints, how it ends.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lab::Signal;
use rustix::process::{Pid, kill_process};

use crate::DEADLINE;

/// A running program. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// How a program ended, and all that it printed.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its exit status, or the signal that killed it.
    pub status: ExitStatus,
    /// Its lines on stdout.
    pub stdout: Vec<String>,
    /// Its lines on stderr.
    pub stderr: Vec<String>,
}

impl Process {
    /// Starts `command` and collects what it prints.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let name = name.rsplit('/').next().unwrap_or_default().to_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = Lines::collect(child.stdout.take().expect("piped above"));
        let stderr = Lines::collect(child.stderr.take().expect("piped above"));
        Self {
            name,
            child,
            stdout,
            stderr,
        }
    }

    /// Starts `command` and waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not end by itself.
    pub fn run(command: &mut Command) -> Ended {
        Self::start(command).wait()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_none())
    }

    /// The lines on stdout so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.get()
    }

    /// The lines on stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.get()
    }

    /// Waits for a line on stderr that `wanted` likes.
    ///
    /// # Panics
    ///
    /// If the program ends before, or takes longer than [`DEADLINE`].
    pub fn wait_for_stderr(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            // Looked at before the lines: what an ended program printed is all there.
            let alive = self.is_alive() || !self.stderr.is_complete();
            if let Some(line) = self.stderr().into_iter().find(|line| wanted(line)) {
                return line;
            }
            assert!(
                alive,
                "{} ended before {what}: {}",
                self.name,
                self.printed()
            );
            assert!(
                start.elapsed() < DEADLINE,
                "no {what} in {DEADLINE:?}: {}",
                self.printed()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // An error means that it is gone; whoever cares waits for its status.
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, signal));
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Kills it (SIGKILL).
    pub fn kill(self) -> Ended {
        self.signal(Signal::KILL);
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub fn wait(mut self) -> Ended {
        let start = Instant::now();
        let status = loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                break status;
            }
            assert!(
                start.elapsed() < DEADLINE,
                "{} does not end in {DEADLINE:?}: {}",
                self.name,
                self.printed()
            );
            thread::sleep(Duration::from_millis(5));
        };
        Ended {
            status,
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        }
    }

    fn printed(&self) -> String {
        let tail = |lines: Vec<String>| lines[lines.len().saturating_sub(20)..].join("\n");
        format!(
            "stdout:\n{}\nstderr:\n{}",
            tail(self.stdout()),
            tail(self.stderr())
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Whether it did what no program of ours may do, whatever it is given: panic, or die of a
    /// signal that it brought upon itself.
    pub fn has_crashed(&self) -> bool {
        /// How Rust ends a program that panicked.
        const PANIC: i32 = 101;
        let deadly = [
            Signal::SEGV,
            Signal::BUS,
            Signal::ABORT,
            Signal::ILL,
            Signal::FPE,
        ];
        let killed = |signal: i32| deadly.iter().any(|deadly| deadly.as_raw() == signal);
        let panicked = self.stderr.iter().any(|line| line.contains("panicked at"));
        self.status.code() == Some(PANIC) || self.status.signal().is_some_and(killed) || panicked
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tail = |lines: &[String]| lines[lines.len().saturating_sub(20)..].join("\n");
        let (stdout, stderr) = (tail(&self.stdout), tail(&self.stderr));
        write!(f, "{}\nstdout:\n{stdout}\nstderr:\n{stderr}", self.status)
    }
}

/// The lines of one stream, collected by a thread.
#[derive(Debug)]
struct Lines {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn collect(from: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&lines);
        let reader = thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                to.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self {
            lines,
            reader: Some(reader),
        }
    }

    fn get(&self) -> Vec<String> {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn is_complete(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// All lines, once the stream has ended: unless a grandchild holds it, soon.
    fn finish(&mut self) -> Vec<String> {
        let start = Instant::now();
        while !self.is_complete() && start.elapsed() < Duration::from_secs(1) {
            thread::sleep(Duration::from_millis(1));
        }
        self.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_status_of_a_program_are_kept() {
        let script = "echo out; echo first >&2; echo second >&2; exit 3";
        let ended = Process::run(Command::new("sh").args(["-c", script]));
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(
            (ended.stdout, ended.stderr),
            (vec!["out".into()], vec!["first".into(), "second".into()])
        );
    }

    #[test]
    fn crash_is_told_from_other_ends() {
        let crashed = |script| Process::run(Command::new("sh").args(["-c", script])).has_crashed();
        assert!(crashed("kill -SEGV $$") && crashed("kill -ABRT $$") && crashed("exit 101"));
        assert!(!crashed("exit 1") && !crashed("kill -TERM $$") && !crashed("exit 0"));
    }

    #[test]
    fn program_ends_when_it_is_asked_to() {
        let mut process =
            Process::start(Command::new("sh").args(["-c", "echo up >&2; exec sleep 100"]));
        assert_eq!(
            process.wait_for_stderr("the word", |line| line == "up"),
            "up"
        );
        assert!(process.is_alive());
        assert_eq!(process.stop().status.code(), None);
    }

    #[test]
    #[should_panic(expected = "ended before a word")]
    fn end_of_a_program_ends_waiting() {
        Process::start(&mut Command::new("true")).wait_for_stderr("a word", |_| true);
    }
}
