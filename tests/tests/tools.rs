//! The `forebay` command on groups that live, on groups that are dead, and its demo.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use forebay_tests::{Group, Leftovers, Process, Setup, World, program, wait_for};
use lab::Signal;

fn forebay(args: &[&str]) -> Command {
    let mut command = Command::new(program("forebay"));
    command.args(args);
    command
}

/// What demos have left in the temporary directory.
fn demo_folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten();
    let is_demo = |path: &PathBuf| path.to_string_lossy().contains("forebay-demo-");
    entries.map(|entry| entry.path()).filter(is_demo).collect()
}

fn assert_demo_is_gone(pid: u32) {
    let folders = demo_folders();
    let own = format!("forebay-demo-{pid}-");
    assert!(
        !folders
            .iter()
            .any(|path| path.to_string_lossy().contains(&own)),
        "{folders:?}"
    );
    let left = Leftovers::of(&format!("demo-{pid}"), &PathBuf::from("/nonexistent"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn demo_shows_everything_and_cleans_up() {
    lab::isolated!({
        for args in [
            &["demo", "--bytes", "20M"][..],
            &[
                "demo",
                "--bytes",
                "5M",
                "--clients",
                "4",
                "--queues",
                "each",
            ],
            &["demo", "--bytes", "5M", "--dispatch", "rss"],
            &["demo", "udp", "--bytes", "5M"],
        ] {
            let demo = Process::start(&mut forebay(args));
            let pid = demo.pid();
            let ended = demo.wait();
            assert_eq!(ended.status.code(), Some(0), "{args:?}: {ended}");
            assert_demo_is_gone(pid);
        }
    });
}

#[test]
fn local_demo_needs_no_privilege() {
    let demo = Process::start(&mut forebay(&["demo", "--local", "--bytes", "2M"]));
    let pid = demo.pid();
    let ended = demo.wait();
    assert_eq!(ended.status.code(), Some(0), "{ended}");
    assert_demo_is_gone(pid);
}

#[test]
fn interrupted_demo_cleans_up() {
    lab::isolated!({
        for delay_ms in [50, 300, 1200] {
            let demo = Process::start(&mut forebay(&["demo", "--seconds", "60"]));
            let pid = demo.pid();
            thread::sleep(Duration::from_millis(delay_ms));
            demo.signal(Signal::INT);
            let start = Instant::now();
            let ended = demo.wait();
            assert!(start.elapsed() < Duration::from_secs(5), "{ended}");
            assert!(!ended.has_crashed(), "{ended}");
            assert_demo_is_gone(pid);
        }
    });
}

#[test]
fn tools_tell_the_living_from_the_dead() {
    lab::isolated!({
        let world = World::new();
        let mut group = Group::start(&world, Setup::lesson(2));
        let states = |group: &Group<'_>| {
            let ended = Process::run(group.tool("list").arg("--json"));
            assert!(ended.status.success(), "{ended}");
            let row = |line: &String| -> (u64, String) {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                (
                    row["pid"].as_u64().unwrap(),
                    row["state"].as_str().unwrap().to_owned(),
                )
            };
            ended.stdout.iter().map(row).collect::<Vec<_>>()
        };
        let alive = states(&group);
        for pid in group.pids() {
            assert!(
                alive.contains(&(pid.into(), "alive".to_owned())),
                "{pid}: {alive:?}"
            );
        }
        let victim = group.take_client(1);
        let pid = victim.pid();
        victim.kill();
        wait_for("the dead client to be swept", || {
            let is_it = |(other, _): &(u64, String)| *other == u64::from(pid);
            (!states(&group).iter().any(is_it)).then_some(())
        });
        // Without a primary nobody sweeps, and the dead are told.
        let server = group.take_server();
        let pid = server.pid();
        server.kill();
        wait_for("the dead server to be told", || {
            let is_dead =
                |(other, state): &(u64, String)| *other == u64::from(pid) && state == "dead";
            states(&group).iter().any(is_dead).then_some(())
        });
        let refused = Process::run(&mut group.tool("clean"));
        assert_eq!(refused.status.code(), Some(1), "{refused}");
        assert_eq!(refused.stderr.len(), 1, "{refused}");

        // Killed, all of them, the group leaves its files, and `clean` takes them away.
        group.take_client(0).kill();
        assert!(!Leftovers::of(group.prefix(), group.runtime_dir()).is_empty());
        let cleaned = Process::run(&mut group.tool("clean"));
        assert_eq!(cleaned.status.code(), Some(0), "{cleaned}");
        let left = Leftovers::of(group.prefix(), group.runtime_dir());
        assert!(left.is_empty(), "{left:?}");
    });
}

#[test]
fn dead_group_makes_room_for_the_next_primary() {
    lab::isolated!({
        let world = World::new();
        let mut group = Group::start(&world, Setup::lesson(1));
        group.take_client(0).kill();
        group.take_server().kill();
        group.open();
        group.start_client(0);
        world.ping_both_ways();
        group.finish();
    });
}

#[test]
fn tool_may_be_killed_and_run_twice() {
    lab::isolated!({
        let world = World::new();
        let group = Group::start(&world, Setup::lesson(2));
        for subcommand in ["list", "zones", "rings", "pools", "check"] {
            let first = Process::start(group.tool(subcommand).arg("--json"));
            let second = Process::run(group.tool(subcommand).arg("--json"));
            assert_eq!(second.status.code(), Some(0), "{subcommand}: {second}");
            for line in &second.stdout {
                let row: Result<serde_json::Value, _> = serde_json::from_str(line);
                assert!(row.is_ok_and(|row| row.is_object()), "{subcommand}: {line}");
            }
            first.kill();
        }
        world.ping_both_ways();
        group.finish();
    });
}
