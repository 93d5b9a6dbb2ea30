//! What bad input gets: one line that names the culprit and the remedy, the right exit status, and
//! nothing left behind.
#![forbid(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use forebay_tests::capture::{self, Format};
use forebay_tests::{Group, Leftovers, Process, Setup, World, program, refused};

/// Wrong arguments.
const USAGE: i32 = 2;
/// Everything else that goes wrong.
const FAILED: i32 = 1;

/// A prefix that no group has.
const NOBODY: &str = "fbt-nobody";

/// A server on ports that need nothing, with arguments of choice.
fn server(world: &World, dir: &Path, eal: &[&str], app: &[&str]) -> Command {
    let mut command = world.command("mp_server");
    command.args(["--log-level=error", "--no-huge", "--runtime-dir"]);
    command.arg(dir).args(eal);
    // An argument that is given twice is a mistake of its own.
    if !eal.contains(&"-l") {
        command.args(["-l", "0-1"]);
    }
    if !eal.contains(&"--file-prefix") {
        command.args(["--file-prefix", NOBODY]);
    }
    command.arg("--").args(app);
    command
}

const NULL: [&str; 2] = ["--vdev=net_null0", "--vdev=net_null1"];
const APP: [&str; 4] = ["-p", "0x3", "-n", "2"];

fn assert_nothing_left(dir: &Path) {
    let left = Leftovers::of(NOBODY, dir);
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn wrong_arguments_of_the_server_are_named() {
    lab::isolated!({
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let one_port = &NULL[..1];
        let long = "x".repeat(300);
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&NULL, &["-p", "0x3"], &["-n CLIENTS is missing", "-n 2"]),
            (&NULL, &["-n", "2"], &["-p PORTMASK is missing", "-p 0x3"]),
            (
                &NULL,
                &["-p", "0xf", "-n", "2"],
                &["-p 0xf", "port 2", "0x3"],
            ),
            (
                &NULL,
                &["-p", "0x1", "-n", "2"],
                &["-p 0x1", "1 port", "0x3"],
            ),
            (one_port, &["-p", "0x3", "-n", "2"], &["port 1", "--vdev"]),
            (
                &NULL,
                &["-p", "0x3", "-n", "two"],
                &["-n two", "whole number"],
            ),
            (&NULL, &["-p", "0x3", "-n", "0"], &["-n 0", "1 to 60"]),
            (&NULL, &["-p", "0x3", "-n", "61"], &["-n 61", "1 to 60"]),
            (&NULL, &["-p", "three", "-n", "2"], &["-p three", "0x3"]),
            (
                &NULL,
                &["-p", "3", "-n", "2", "--ring-size", "100"],
                &["--ring-size 100", "power of two", "128"],
            ),
            (
                &NULL,
                &["-p", "3", "-n", "2", "--dispatch", "fair"],
                &["--dispatch fair", "rr, rss"],
            ),
            (
                &NULL,
                &["-p", "3", "-n", "2", "--ring"],
                &["--ring", "--ring-size"],
            ),
            (
                &["--vdev=net_af_paket0,iface=veth0", NULL[1]],
                &APP,
                &["net_af_paket", "net_af_packet"],
            ),
            (
                &["--vdev=net_af_packet0,ifce=veth0", NULL[1]],
                &APP,
                &["ifce", "iface"],
            ),
            (
                &["--vdev=net_null0,size=many", NULL[1]],
                &APP,
                &["size", "many"],
            ),
            (
                &["--vdev=net_null0", "--vdev=net_null0"],
                &APP,
                &["net_null0"],
            ),
            (
                &["--fle-prefix=x"],
                &APP,
                &["--fle-prefix", "--file-prefix"],
            ),
            (
                &["--proc-type=third"],
                &APP,
                &["--proc-type", "third", "primary"],
            ),
            (&["-m", "much"], &APP, &["much", "-m"]),
            (&["-l", "one"], &APP, &["-l", "one"]),
            (&["-l", "0", "-l", "1"], &APP, &["-l", "twice"]),
            (&["--file-prefix", "a/b"], &APP, &["a/b"]),
            (&["--file-prefix", &long], &APP, &["--file-prefix", "xxxx"]),
            (
                &["--proc-type=secondary", NULL[0], NULL[1]],
                &APP,
                &["primary", "--proc-type"],
            ),
        ];
        for (eal, app, words) in cases {
            refused(&mut server(&world, dir.path(), eal, app), USAGE, words);
            assert_nothing_left(dir.path());
        }
    });
}

#[test]
fn wrong_arguments_of_the_client_are_named() {
    lab::isolated!({
        let world = World::new();
        let group = Group::start(
            &world,
            Setup {
                eal: vec!["--log-level=error".into()],
                ..Setup::lesson(2)
            },
        );
        let before = Leftovers::of(group.prefix(), group.runtime_dir());
        let client = |args: &[&str]| {
            let mut command = world.command("mp_client");
            command.args([
                "-l",
                "0",
                "--proc-type=auto",
                "--log-level=error",
                "--file-prefix",
                group.prefix(),
            ]);
            command
                .arg("--runtime-dir")
                .arg(group.runtime_dir())
                .arg("--")
                .args(args);
            command
        };
        refused(&mut client(&[]), USAGE, &["-n ID is missing", "-n 0"]);
        refused(
            &mut client(&["-n", "first"]),
            USAGE,
            &["-n first", "whole number"],
        );
        refused(
            &mut client(&["-n", "2"]),
            USAGE,
            &["-n 2", "2 clients", "smaller"],
        );
        refused(&mut client(&["-n", "-1"]), USAGE, &["-n", "-1"]);
        refused(
            &mut client(&["-n", "4294967296"]),
            USAGE,
            &["-n 4294967296"],
        );
        let pids = group.pids();
        let pid = pids[1].to_string();
        refused(&mut client(&["-n", "0"]), FAILED, &[&pid]);
        assert_eq!(Leftovers::of(group.prefix(), group.runtime_dir()), before);
        world.ping_both_ways();
        group.finish();
    });
}

#[test]
fn client_that_wants_to_be_primary_is_refused() {
    lab::isolated!({
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let mut command = world.command("mp_client");
        command.args([
            "--proc-type=primary",
            "--log-level=error",
            "--file-prefix",
            NOBODY,
        ]);
        command
            .arg("--runtime-dir")
            .arg(dir.path())
            .args(["--", "-n", "0"]);
        refused(&mut command, USAGE, &["secondary", "--proc-type=auto"]);
        assert_nothing_left(dir.path());
    });
}

#[test]
fn second_primary_is_refused_and_the_first_is_named() {
    lab::isolated!({
        let world = World::new();
        let group = Group::start(
            &world,
            Setup {
                eal: vec!["--log-level=error".into()],
                ..Setup::lesson(1)
            },
        );
        let before = Leftovers::of(group.prefix(), group.runtime_dir());
        let pid = group.pids()[0].to_string();
        refused(
            &mut group.server_command(),
            FAILED,
            &[group.prefix(), &pid, "--file-prefix"],
        );
        assert_eq!(Leftovers::of(group.prefix(), group.runtime_dir()), before);
        world.ping_both_ways();
        group.finish();
    });
}

#[test]
fn secondary_without_a_group_says_how_to_start_one() {
    lab::isolated!({
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        for (proc_type, wait) in [("auto", "0"), ("secondary", "0"), ("auto", "1")] {
            let mut command = world.command("mp_client");
            command.args([
                "--proc-type",
                proc_type,
                "--log-level=error",
                "--file-prefix",
                NOBODY,
            ]);
            command.args(["--wait", wait]);
            command
                .arg("--runtime-dir")
                .arg(dir.path())
                .args(["--", "-n", "0"]);
            refused(&mut command, FAILED, &[NOBODY, "mp_server", "--wait"]);
            assert_nothing_left(dir.path());
        }
    });
}

#[test]
fn client_waits_for_its_server() {
    lab::isolated!({
        let world = World::new();
        let setup = Setup {
            eal: vec!["--wait".into(), "10".into()],
            ..Setup::lesson(1)
        };
        let mut early = Group::prepare(&world, setup);
        let mut client = Process::start(&mut early.client_command(0));
        thread::sleep(Duration::from_millis(300));
        assert!(client.is_alive(), "{}", client.wait());
        early.open();
        client.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
        world.ping_both_ways();
        assert_eq!(client.stop().status.code(), Some(0));
        early.finish();
    });
}

#[test]
fn interface_that_does_not_exist_is_named() {
    lab::isolated!({
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let vdevs = [
            "--vdev=net_af_packet0,iface=veth0",
            "--vdev=net_af_packet1,iface=veth7",
        ];
        refused(
            &mut server(&world, dir.path(), &vdevs, &APP),
            FAILED,
            &["veth7", "veth1"],
        );
        assert_nothing_left(dir.path());
    });
}

#[test]
fn missing_privilege_is_named() {
    lab::isolated!({
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let vdevs = [
            "--vdev=net_af_packet0,iface=veth0",
            "--vdev=net_af_packet1,iface=veth1",
        ];
        let inner = server(&world, dir.path(), &vdevs, &APP);
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"]);
        setpriv.arg(inner.get_program()).args(inner.get_args());
        refused(&mut world.in_middle(setpriv), FAILED, &["CAP_NET_RAW"]);
        assert_nothing_left(dir.path());
    });
}

#[test]
fn too_few_hugepages_are_counted() {
    lab::isolated!({
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let mut command = world.command("mp_server");
        // A folder that is no hugetlbfs, and then one that has too few.
        command.args([
            "-l",
            "0-1",
            "--log-level=error",
            "--file-prefix",
            NOBODY,
            "--huge-dir",
        ]);
        command
            .arg(dir.path())
            .arg("--runtime-dir")
            .arg(dir.path())
            .args(NULL)
            .arg("--")
            .args(APP);
        refused(&mut command, FAILED, &["hugetlbfs", "--no-huge"]);
        assert_nothing_left(dir.path());
    });
}

#[test]
fn full_memory_is_an_error_and_no_signal() {
    lab::isolated!({
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let huge = [NULL[0], NULL[1], "-m", "8000000"];
        refused(
            &mut server(&world, dir.path(), &huge, &APP),
            FAILED,
            &["-m"],
        );
        assert_nothing_left(dir.path());
        // Too small for the pool of the pipeline; what is proposed instead has to do.
        let tiny = [NULL[0], NULL[1], "-m", "4"];
        let ended = refused(
            &mut server(&world, dir.path(), &tiny, &APP),
            FAILED,
            &["-m"],
        );
        assert_nothing_left(dir.path());
        let proposed = ended.stderr[0].split("-m ").nth(1).unwrap();
        let proposed = proposed
            .split(|c: char| !c.is_ascii_digit())
            .next()
            .unwrap();
        let enough = [NULL[0], NULL[1], "-m", proposed];
        let mut started = Process::start(&mut server(&world, dir.path(), &enough, &APP));
        started.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
        assert_eq!(started.stop().status.code(), Some(0));
        assert_nothing_left(dir.path());
    });
}

/// The programs see a file system for shared memory that is smaller than what they want.
#[test]
fn full_tmpfs_is_an_error_and_no_signal() {
    lab::isolated!({
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let inner = server(&world, dir.path(), &NULL, &APP);
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c"]);
        unshare.arg("mount -t tmpfs -o size=16m none /dev/shm && exec \"$@\"");
        unshare
            .arg("sh")
            .arg(inner.get_program())
            .args(inner.get_args());
        refused(
            &mut world.in_middle(unshare),
            FAILED,
            &["/dev/shm", "-m", "would fit"],
        );
        assert_nothing_left(dir.path());
    });
}

#[test]
fn malformed_captures_are_refused() {
    lab::isolated!({
        let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        let good = path("good");
        capture::write(&good, Format::Pcap, &[vec![1; 60]]);
        let bytes = fs::read(&good).unwrap();
        fs::write(path("empty"), []).unwrap();
        fs::write(
            path("foreign"),
            "this is a letter, not a capture of packets",
        )
        .unwrap();
        fs::write(path("head"), &bytes[..10]).unwrap();
        let mut long = bytes.clone();
        long[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        fs::write(path("long"), &long).unwrap();
        for name in ["empty", "foreign", "head", "long", "absent"] {
            let first = format!("--vdev=net_pcap0,rx_pcap={}", path(name).display());
            let second = format!("--vdev=net_pcap1,rx_pcap={}", good.display());
            let command = &mut server(&world, dir.path(), &[&first, &second], &APP);
            refused(command, FAILED, &[&path(name).display().to_string()]);
            assert_nothing_left(dir.path());
        }
    });
}

/// The files of a living group, largest last.
fn region_files(group: &Group<'_>) -> Vec<PathBuf> {
    let found = Leftovers::of(group.prefix(), group.runtime_dir());
    let len = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let mut files: Vec<_> = found
        .files()
        .filter(|path| len(path) >= 4096)
        .map(PathBuf::from)
        .collect();
    files.sort_by_key(|path| len(path));
    files
}

/// Whatever a region's file holds, who looks at it says so in one line, or goes on.
fn assert_tools_survive(group: &Group<'_>, what: &str) {
    for subcommand in ["list", "zones", "rings", "pools", "check"] {
        let ended = Process::run(&mut group.tool(subcommand));
        assert!(
            !ended.has_crashed(),
            "{what}: forebay {subcommand}: {ended}"
        );
        assert!(
            matches!(ended.status.code(), Some(0 | 1)),
            "{what}: {subcommand}: {ended}"
        );
    }
}

#[test]
fn region_of_another_layout_is_refused() {
    lab::isolated!({
        let world = World::new();
        let setup = Setup {
            eal: vec!["--log-level=error".into()],
            ..Setup::lesson(1)
        };
        let group = Group::start_server(&world, setup);
        let control = &region_files(&group)[0];
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(control)
            .unwrap();
        let mut header = [0; 64];
        file.read_exact_at(&mut header, 0).unwrap();
        // The magic comes first, the version and the hash of the layout after it.
        for at in 8..24 {
            let mut byte = [header[at]];
            byte[0] ^= 0x41;
            file.write_all_at(&byte, at as u64).unwrap();
            let ended = Process::run(&mut group.client_command(0));
            file.write_all_at(&header[at..=at], at as u64).unwrap();
            assert_eq!(ended.status.code(), Some(FAILED), "byte {at}: {ended}");
            assert_eq!(ended.stderr.len(), 1, "byte {at}: {ended}");
            let told = ended.stderr[0].contains("layout") || at >= 20;
            assert!(told, "byte {at}: {ended}");
        }
        let mut group = group;
        group.start_client(0);
        world.ping_both_ways();
        group.finish();
    });
}

#[test]
fn truncated_and_foreign_region_files_are_refused() {
    lab::isolated!({
        let world = World::new();
        let cut = |path: &Path, len| {
            OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|file| file.set_len(len))
                .unwrap();
        };
        let scribble = |path: &Path| {
            let len = fs::metadata(path).unwrap().len().min(1 << 20);
            let bytes = vec![0x5a; usize::try_from(len).unwrap()];
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_all_at(&bytes, 0).unwrap();
        };
        for what in ["cut to nothing", "cut to a page", "foreign"] {
            for which in [0, 1] {
                let setup = Setup {
                    // A hugetlbfs has no `write`.
                    eal: vec!["--log-level=error".into(), "--no-huge".into()],
                    ..Setup::lesson(1)
                };
                let mut group = Group::start_server(&world, setup);
                let files = region_files(&group);
                assert_eq!(files.len(), 2, "{files:?}");
                group.take_server().kill();
                match what {
                    "cut to nothing" => cut(&files[which], 0),
                    "cut to a page" => cut(&files[which], 4096),
                    _ => scribble(&files[which]),
                }
                let ended = Process::run(&mut group.client_command(0));
                let what = format!("{what}, {}", files[which].display());
                assert_eq!(ended.status.code(), Some(FAILED), "{what}: {ended}");
                assert_eq!(ended.stderr.len(), 1, "{what}: {ended}");
                assert_tools_survive(&group, &what);
            }
        }
    });
}

/// A hostile member of the group may write anything anywhere in the data part.
#[test]
fn scribbled_data_crashes_no_tool_and_no_client() {
    lab::isolated!({
        let world = World::new();
        let setup = Setup {
            // A hugetlbfs has no `write`.
            eal: vec!["--log-level=error".into(), "--no-huge".into()],
            ..Setup::lesson(2)
        };
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..6 {
            let mut group = Group::start(&world, setup.clone());
            world.ping_both_ways();
            let data = region_files(&group).pop().unwrap();
            let file = OpenOptions::new().write(true).open(&data).unwrap();
            let len = fs::metadata(&data).unwrap().len();
            for _ in 0..2000 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // The tables stand at the beginning; the frames behind them bear anything.
                let at = (seed >> 16) % len.min(1 << (12 + 2 * round));
                file.write_all_at(&seed.to_le_bytes()[..1], at).unwrap();
            }
            assert_tools_survive(&group, &format!("round {round}"));
            for id in [0, 1] {
                let ended = group.take_client(id).stop();
                assert!(!ended.has_crashed(), "round {round}, client {id}: {ended}");
                let newcomer = Process::start(&mut group.client_command(id));
                thread::sleep(Duration::from_millis(200));
                let ended = newcomer.stop();
                assert!(
                    !ended.has_crashed(),
                    "round {round}, newcomer {id}: {ended}"
                );
            }
            let ended = group.take_server().stop();
            assert!(!ended.has_crashed(), "round {round}, server: {ended}");
        }
    });
}

#[test]
fn programs_explain_themselves() {
    for name in ["mp_server", "mp_client", "forebay"] {
        let ended = Process::run(Command::new(program(name)).arg("--help"));
        assert_eq!(ended.status.code(), Some(0), "{name}: {ended}");
        let text = ended.stdout.join("\n").to_lowercase();
        for word in ["usage", "examples", "exit status"] {
            assert!(text.contains(word), "{name} --help lacks {word:?}");
        }
    }
}

#[test]
fn closed_pipe_ends_a_tool_quietly() {
    let forebay = program("forebay");
    let script = format!("{} --help | true", forebay.display());
    let ended = Process::run(Command::new("sh").args(["-c", &script]));
    assert!(ended.stderr.is_empty(), "{ended}");
}
