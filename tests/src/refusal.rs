//! How programs refuse.

use std::process::Command;

use crate::{Ended, Process};

/// Runs a command that has to end with `status` and one line on stderr, which says who speaks and has all `words` in it.
///
/// # Panics
///
/// If it does otherwise.
pub fn refused(command: &mut Command, status: i32, words: &[&str]) -> Ended {
    let ended = Process::run(command);
    let line = format!("{:?}", command.get_args().collect::<Vec<_>>());
    assert_eq!(ended.status.code(), Some(status), "{line}: {ended}");
    let [message] = &ended.stderr[..] else {
        panic!("{line}: not one line: {ended}")
    };
    let name = command.get_program().to_string_lossy();
    let name = name.rsplit('/').next().unwrap_or_default();
    // A program that is started through another one speaks for itself.
    let speaks = [
        "mp_server: ",
        "mp_client: ",
        "udp_echo: ",
        "forebay: ",
        "forebay ping: ",
    ]
    .iter()
    .any(|me| message.starts_with(me));
    assert!(speaks, "{line}: {name} does not say who speaks: {message}");
    for word in words {
        assert!(
            message.contains(word),
            "{line}: {word:?} is not in: {message}"
        );
    }
    assert!(ended.stdout.is_empty(), "{line}: {ended}");
    // Seen with `--nocapture`: what to quote.
    println!(
        "\n{name} {}\n    {status}: {message}",
        line.replace("\", \"", " ")
    );
    ended
}
