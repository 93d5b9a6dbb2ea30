//! Other processes of a group: this test program, started again in another role.
//!
//! A child is told its part in the environment, says what it sees line by line, and waits for a
//! line before it goes on.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses some of it"
)]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use eal::{Eal, EalArgs, Error};

pub const PART: &str = "FOREBAY_EAL_TEST_PART";
pub const DIR: &str = "FOREBAY_EAL_TEST_DIR";
pub const ARGS: &str = "FOREBAY_EAL_TEST_ARGS";
/// Marks the lines that a child means for us, among those of the test harness.
pub const MARK: &str = "child: ";

/// A directory for the group of one test. Takes the group's memory away at the end, whoever died.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let record = std::fs::read_to_string(self.path().join("lab/region")).unwrap_or_default();
        for path in record.lines().filter_map(|line| line.split_once(" /")) {
            let _ = std::fs::remove_file(format!("/{}", path.1));
        }
    }
}

/// Another process of the group.
pub struct Actor {
    pub child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Actor {
    pub fn start(part: &str, dir: &Path, args: &str) -> Self {
        Self::start_as(None, part, dir, args)
    }

    /// Under another user and group id, without further groups.
    pub fn start_as(user: Option<(u32, u32)>, part: &str, dir: &Path, args: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        if let Some((uid, gid)) = user {
            command.uid(uid).gid(gid);
        }
        let mut child = command
            .args([
                "--exact",
                "the_part_of_a_child",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(PART, part)
            .env(DIR, dir)
            .env(ARGS, args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self {
            child,
            stdin,
            stdout,
        }
    }

    /// The next line that the child means for us.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(
                self.stdout.read_line(&mut line).unwrap(),
                0,
                "the child said nothing more"
            );
            // The harness does not end its own line before the test says something.
            if let Some((_, said)) = line.trim_end().split_once(MARK) {
                return said.to_owned();
            }
        }
    }

    pub fn go_on(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }

    /// Tells the child something, and hears what it says to that.
    pub fn ask(&mut self, line: &str) -> String {
        self.stdin
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        self.hear()
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Stops it, and returns when it has stopped.
    pub fn stop(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::STOP).unwrap();
        // The signal is sent; this waits until all threads have stopped.
        let options = rustix::process::WaitOptions::UNTRACED;
        rustix::process::waitpid(Some(self.pid()), options).unwrap();
    }

    pub fn resume(&self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::CONT).unwrap();
    }

    pub fn finish(mut self) {
        self.go_on();
        assert!(self.child.wait().unwrap().success());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn say(line: &str) {
    println!("{MARK}{line}");
}

pub fn pause() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// An environment for the group `lab` below `dir`.
pub fn join(dir: &Path, args: &str) -> Result<Eal, Error> {
    let dir = dir.display();
    let line = format!("test --no-huge -m 4 --file-prefix=lab --runtime-dir={dir} {args}");
    Eal::init(
        EalArgs::parse(line.split_whitespace().map(str::to_owned))
            .unwrap()
            .0,
    )
}

pub const SECONDARY: &str = "--proc-type=secondary";
pub const AUTO: &str = "--proc-type=auto";

pub fn refused(outcome: Result<Eal, Error>) -> String {
    match outcome {
        Ok(eal) => panic!("it joined as {}", eal.proc_type()),
        Err(error) => error.to_string(),
    }
}

pub fn memory_file(content: &str) -> OwnedFd {
    let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    File::from(file.try_clone().unwrap())
        .write_all(content.as_bytes())
        .unwrap();
    file
}
