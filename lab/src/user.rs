//! The right to make namespaces: root has it, anybody else gets it in a user namespace.

use std::ffi::CStr;
use std::fs;
use std::io::{self, Write as _};
use std::process::Command;

use rustix::thread::CapabilitySet;

use crate::{Error, sys};

/// Where the three writes go that make a user root of its own namespace, in this order.
const SETGROUPS: &CStr = c"/proc/self/setgroups";
const UID_MAP: &CStr = c"/proc/self/uid_map";
const GID_MAP: &CStr = c"/proc/self/gid_map";

/// Names the test that a process was started for by [`rerun_test`].
const RERUN: &str = "FOREBAY_LAB_ISOLATED";

/// Whether this process may make network namespaces and send raw packets in them.
pub fn is_privileged() -> bool {
    let wanted = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::NET_RAW;
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Makes sure that this process may build hosts: does nothing for root, and moves an ordinary user
/// into a user namespace of its own. Call it at the start of `main`, before any thread.
///
/// # Errors
///
/// [`Error::Forbidden`] names the setting that forbids it.
pub fn enter() -> Result<(), Error> {
    if is_privileged() {
        return Ok(());
    }
    let files = maps();
    sys::unshare_user_and_network().map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) => Error::TooLate,
        _ => forbidden(source),
    })?;
    for (path, text) in files {
        let path = path.to_str().expect("our own paths are ASCII");
        fs::write(path, text).map_err(forbidden)?;
    }
    Ok(())
}

/// Makes the child of `command` start as root of a user namespace of its own.
pub fn enter_in_child(command: &mut Command) {
    sys::start_in_user_namespace(command, maps());
}

/// What makes this user, and its group, number 0 inside.
fn maps() -> [(&'static CStr, Vec<u8>); 3] {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    [
        (SETGROUPS, b"deny".to_vec()),
        (UID_MAP, format!("0 {uid} 1").into_bytes()),
        (GID_MAP, format!("0 {gid} 1").into_bytes()),
    ]
}

/// Finds the setting that made the kernel say no.
pub(crate) fn forbidden(source: io::Error) -> Error {
    Error::Forbidden {
        reason: reason(&source, |path| fs::read_to_string(path).ok()),
        source,
    }
}

/// The settings that forbid, the values with which they do, and what allows it.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user.max_user_namespaces", "0", "10000"),
    ("user.max_net_namespaces", "0", "10000"),
];

fn reason(source: &io::Error, read: impl Fn(&str) -> Option<String>) -> String {
    for (name, forbids, allows) in SETTINGS {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        if read(&path).is_some_and(|value| value.trim() == forbids) {
            return format!("{name} is {forbids} (`sudo sysctl -w {name}={allows}` allows it)");
        }
    }
    if source.raw_os_error() == Some(libc::ENOSPC) {
        return "user.max_user_namespaces or user.max_net_namespaces is used up".into();
    }
    format!("the kernel says {source:?}, probably by the seccomp profile of a container")
}

/// Whether the test whose path ends in `::here` is to run in this process. If not, it has been run
/// in another one, or skipped with a line that says why.
///
/// # Panics
///
/// If the test failed in the other process.
#[doc(hidden)]
pub fn rerun_test(here: &str) -> bool {
    if is_privileged() {
        return true;
    }
    let path = here.strip_suffix("::here").unwrap_or(here);
    let test = path.split_once("::").map_or(path, |(_, test)| test);
    if std::env::var_os(RERUN).is_some() {
        panic!("{test}: no privileges even in a user namespace");
    }
    let program = std::env::current_exe().expect("a running test has a path");
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env(RERUN, test);
    enter_in_child(&mut command);
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let complaints = String::from_utf8_lossy(&output.stderr);
            let ran = output.status.success() && text.contains("test result: ok. 1 passed");
            assert!(ran, "{text}{complaints}");
            for line in complaints
                .lines()
                .filter(|line| line.starts_with("skipped: "))
            {
                let _ = writeln!(io::stderr(), "{line}");
            }
        }
        Err(error) => {
            // Not `eprintln!`, which the test harness keeps to itself.
            let _ = writeln!(io::stderr(), "skipped: {test}: {}", forbidden(error));
        }
    }
    false
}

/// Why a host could not be made.
pub(crate) fn refused_namespace(host: &str, source: io::Error) -> Error {
    if is_privileged() && source.raw_os_error() != Some(libc::ENOSPC) {
        let what = "make a network namespace".into();
        let remedy = "build a kernel with CONFIG_NET_NS, or allow it in the container's profile";
        return Error::Refused {
            host: host.into(),
            what,
            remedy,
            source,
        };
    }
    forbidden(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_forbids_is_named() {
        let denied = io::Error::from_raw_os_error(libc::EPERM);
        for (name, forbids, _) in SETTINGS {
            let path = format!("/proc/sys/{}", name.replace('.', "/"));
            let text = reason(&denied, |asked| {
                (asked == path).then(|| format!("{forbids}\n"))
            });
            assert!(text.contains(name), "{text}");
        }
    }

    #[test]
    fn a_refusal_without_a_setting_names_the_container() {
        let denied = io::Error::from_raw_os_error(libc::EPERM);
        assert!(reason(&denied, |_| None).contains("seccomp"));
        assert!(reason(&denied, |_| Some("1000".into())).contains("seccomp"));
    }
}
