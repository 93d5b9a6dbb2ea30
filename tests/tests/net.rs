//! What needs real root: processes of other user ids, and hugepages.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use forebay::eal::{Observer, SlotState};
use forebay_tests::{Group, Process, Setup, World, program, skip, wait_for};
use lab::Offloads;
use tempfile::TempDir;

/// The user that nobody is, and its group.
const NOBODY: u32 = 65534;
const NOGROUP: u32 = 65534;

fn uid() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

/// Whether this is root of the machine, not of a user namespace.
fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<_> = map.split_whitespace().collect();
    uid() == 0 && words == ["0", "0", "4294967295"]
}

/// A directory that anybody may enter, with copies of the programs.
fn open_directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["mp_server", "mp_client", "forebay"] {
        fs::copy(program(name), dir.path().join(name)).unwrap();
    }
    dir
}

/// The same test again, as an ordinary user in a user namespace of its own.
#[test]
fn ordinary_user_runs_a_group_in_a_user_namespace() {
    const HERE: &str = "ordinary_user_runs_a_group_in_a_user_namespace";
    if is_real_root() {
        let dir = open_directory();
        let own = dir.path().join("own");
        fs::create_dir(&own).unwrap();
        chown(&own, Some(NOBODY), Some(NOGROUP)).unwrap();
        let test = dir.path().join("test");
        fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
        let mut again = Command::new(&test);
        again
            .args(["--exact", HERE, "--nocapture"])
            .uid(NOBODY)
            .gid(NOGROUP);
        again
            .env("FOREBAY_BIN_DIR", dir.path())
            .env("TMPDIR", &own)
            .current_dir("/");
        let ended = Process::run(&mut again);
        assert!(ended.status.success(), "{ended}");
        for line in ended
            .stderr
            .iter()
            .filter(|line| line.starts_with("skipped: "))
        {
            skip(HERE, line);
        }
        return;
    }
    lab::isolated!({
        let world = World::new();
        let group = Group::start(&world, Setup::lesson(2));
        world.ping_both_ways();
        world.transfer(World::EAST, 5 << 20);
        group.finish();
    });
}

/// A Unix group of this machine that is not root's.
fn unix_group() -> Option<(String, u32)> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let group = |line: &str| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?.parse().ok()?);
        (gid != 0 && gid != NOGROUP).then(|| (name.to_owned(), gid))
    };
    groups.lines().find_map(group)
}

/// A command run by nobody, with one group. `setpriv` gives the privileges up once the process is in
/// its network namespace; `uid` would do so before, and could not enter it.
fn as_nobody(world: &World, command: &Command, gid: u32) -> Command {
    let mut setpriv = Command::new("setpriv");
    setpriv.args([format!("--reuid={NOBODY}"), format!("--regid={gid}")]);
    setpriv
        .arg("--clear-groups")
        .arg(command.get_program())
        .args(command.get_args());
    world.in_middle(setpriv)
}

#[test]
fn client_of_another_user_joins_by_its_unix_group() {
    if !is_real_root() {
        return skip("clients of other users", "this is not root");
    }
    let Some((name, gid)) = unix_group() else {
        return skip(
            "clients of other users",
            "/etc/group has no group but root's",
        );
    };
    let programs = open_directory();
    let client = programs.path().join("mp_client");
    let world = World::new();
    let setup = Setup {
        eal: vec!["--log-level=error".into(), "--no-huge".into()],
        ..Setup::lesson(2)
    };
    let mut group = Group::prepare(&world, setup);
    fs::set_permissions(group.runtime_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    group.open_with(&["--group", &name]);

    // Nobody, in the group: joins without a privilege.
    group.start_client_with(
        0,
        as_nobody(&world, &group.client_command_of(&client, 0), gid),
    );
    group.start_client(1);
    world.ping_both_ways();
    world.transfer(World::EAST, 5 << 20);
    let status = fs::read_to_string(format!("/proc/{}/status", group.pids()[1])).unwrap();
    let caps = status
        .lines()
        .find(|line| line.starts_with("CapEff:"))
        .unwrap();
    assert!(caps.ends_with("0000000000000000"), "{caps}");

    // His doorbell is for the group to ring and for him to hear.
    let observer = Observer::open(Some(group.runtime_dir()), group.prefix()).unwrap();
    let slots = || {
        let slots = observer.region().slots().iter();
        slots.filter(|slot| slot.state().0 == SlotState::Live && slot.name() == "client 0")
    };
    wait_for("sleep", || {
        slots().any(|slot| slot.run.sleeps.get() > 0).then_some(())
    });
    world.ping_both_ways();
    assert!(slots().all(|slot| slot.run.late.get() == 0));
    let bell = group.runtime_dir().join(group.prefix()).join("doorbell.0");
    let bell = fs::metadata(bell).unwrap();
    assert_eq!((bell.mode() & 0o777, bell.gid()), (0o660, gid));

    // Nobody, not in the group: refused in one line.
    group.stop_client(0);
    let stranger = &mut as_nobody(&world, &group.client_command_of(&client, 0), NOGROUP);
    let ended = Process::run(stranger);
    assert_eq!(ended.status.code(), Some(1), "{ended}");
    let [line] = &ended.stderr[..] else {
        panic!("not one line: {ended}")
    };
    assert!(
        line.starts_with("mp_client: ") && line.contains("--group"),
        "{line}"
    );
    group.finish();
}

#[test]
fn control_file_cannot_be_written_by_another_user_of_the_group() {
    if !is_real_root() {
        return skip("files of other users", "this is not root");
    }
    let Some((name, gid)) = unix_group() else {
        return skip("files of other users", "/etc/group has no group but root's");
    };
    let world = World::new();
    let setup = Setup {
        eal: vec!["--log-level=error".into(), "--no-huge".into()],
        ..Setup::lesson(1)
    };
    let mut group = Group::prepare(&world, setup);
    fs::set_permissions(group.runtime_dir(), fs::Permissions::from_mode(0o755)).unwrap();
    group.open_with(&["--group", &name]);
    let observer = Observer::open(Some(group.runtime_dir()), group.prefix()).unwrap();
    let (control, data) = observer.region().info().files.unwrap();
    let may = |gid: u32, what: &str, file: &Path| {
        let mut test = Command::new("test");
        test.arg(what).arg(file);
        let ended = Process::run(&mut as_nobody(&world, &test, gid));
        assert!(ended.stderr.is_empty(), "{ended}");
        ended.status.success()
    };
    // A member of the group reads both parts and writes the data.
    assert!(may(gid, "-r", &control) && may(gid, "-r", &data));
    assert!(may(gid, "-w", &data));
    assert!(!may(gid, "-w", &control), "the control file can be written");
    // A stranger does neither.
    for what in ["-r", "-w"] {
        assert!(
            !may(NOGROUP, what, &control) && !may(NOGROUP, what, &data),
            "{what}"
        );
    }
    drop(observer);
    group.finish();
}

/// Hugepages of 2 MiB for the length of a test, and a place to take them from.
struct Hugepages {
    before: String,
    mount: TempDir,
}

const COUNT: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

impl Hugepages {
    fn reserve(count: u32) -> io::Result<Self> {
        let before = fs::read_to_string(COUNT)?;
        let mount = tempfile::tempdir()?;
        let hugepages = Self { before, mount };
        fs::write(COUNT, count.to_string())?;
        let got: u32 = fs::read_to_string(COUNT)?.trim().parse().unwrap_or(0);
        if got < count {
            return Err(io::Error::other(format!(
                "the kernel gave {got} of {count} pages"
            )));
        }
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "hugetlbfs", "-o", "pagesize=2M", "none"])
            .arg(hugepages.mount.path());
        if !mount.status()?.success() {
            return Err(io::Error::other("hugetlbfs cannot be mounted"));
        }
        Ok(hugepages)
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg(self.mount.path())
            .stderr(std::process::Stdio::null())
            .status();
        let _ = fs::write(COUNT, self.before.trim());
    }
}

fn with_hugepages(count: u32, test: impl FnOnce(&Path)) {
    if !is_real_root() {
        return skip("hugepages", "this is not root");
    }
    match Hugepages::reserve(count) {
        Ok(hugepages) => test(hugepages.mount.path()),
        Err(error) => skip("hugepages", &error.to_string()),
    }
}

#[test]
fn region_lies_on_hugepages_when_there_are_some() {
    with_hugepages(128, |mount| {
        let world = World::new();
        let setup = Setup {
            eal: vec!["--huge-dir".into(), mount.display().to_string()],
            ..Setup::lesson(1)
        };
        let group = Group::start(&world, setup);
        world.ping_both_ways();
        for pid in group.pids() {
            let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
            assert!(
                smaps.contains("KernelPageSize:     2048 kB"),
                "process {pid}"
            );
        }
        group.finish();
        let left: Vec<PathBuf> = fs::read_dir(mount)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

/// The kernel pins them there, and whoever maps the region afterwards finds them.
#[test]
fn frames_of_af_xdp_sockets_lie_on_hugepages() {
    with_hugepages(128, |mount| {
        let world = World::queued(1500, Offloads::OFF, [2, 2]);
        let setup = Setup {
            eal: vec!["--huge-dir".into(), mount.display().to_string()],
            vdevs: [0, 1]
                .map(|port| format!("net_af_xdp{port},iface=veth{port}"))
                .into(),
            ..Setup::with(2, &["--queues", "each"])
        };
        let mut group = Group::start(&world, setup);
        world.ping_both_ways();
        world.transfer(World::EAST, 20 << 20);
        let smaps = fs::read_to_string(format!("/proc/{}/smaps", group.server().pid())).unwrap();
        assert!(smaps.contains("KernelPageSize:     2048 kB"));
        group.take_server().kill();
        group.open();
        world.transfer(World::EAST, 20 << 20);
        group.finish();
    });
}

/// Which pages of 4 KiB of a group's data part are parts of huge pages, as the kernel has them (`kpageflags`), whoever maps them
/// how.
fn huge_pages_of(pid: u32, data: &Path) -> Vec<bool> {
    /// Of `linux/kernel-page-flags.h`: KPF_HUGE and KPF_THP.
    const HUGE: u64 = 1 << 17 | 1 << 22;
    const PRESENT: u64 = 1 << 63;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps
        .lines()
        .find(|line| line.ends_with(&*data.to_string_lossy()));
    let (start, rest) = line.unwrap().split_once('-').unwrap();
    let address = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let (start, end) = (address(start), address(rest.split(' ').next().unwrap()));

    let word_at = |file: &File, index: u64| {
        let mut word = [0; 8];
        file.read_exact_at(&mut word, index * 8).unwrap();
        u64::from_ne_bytes(word)
    };
    let pagemap = File::open(format!("/proc/{pid}/pagemap")).unwrap();
    let flags = File::open("/proc/kpageflags").unwrap();
    (start / 4096..end / 4096)
        .map(|page| {
            let entry = word_at(&pagemap, page);
            assert_ne!(entry & PRESENT, 0, "page {page:#x}");
            word_at(&flags, entry & ((1 << 55) - 1)) & HUGE != 0
        })
        .collect()
}

/// Compares what `forebay zones` tells with what the kernel has; gives the bytes on huge pages, and all.
fn compare_pages(group: &Group<'_>) -> (u64, u64) {
    let observer = Observer::open(Some(group.runtime_dir()), group.prefix()).unwrap();
    let (_, data) = observer.region().info().files.unwrap();
    let is_huge = huge_pages_of(group.server().pid(), &data);
    let huge_bytes = |offset: u64, len: u64| -> u64 {
        let pages = (offset / 4096..).zip(&is_huge[usize::try_from(offset / 4096).unwrap()..]);
        let inside = |page: u64| {
            (offset + len)
                .min((page + 1) * 4096)
                .saturating_sub(offset.max(page * 4096))
        };
        pages
            .filter(|(_, huge)| **huge)
            .map(|(page, _)| inside(page))
            .sum()
    };
    let told = Process::run(group.tool("zones").arg("--json"));
    assert!(told.status.success(), "{told}");
    let mut all = (0, 0);
    for line in &told.stdout {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let number = |key: &str| row[key].as_u64().unwrap();
        let (offset, len) = (number("offset"), number("bytes"));
        assert_eq!(number("huge_bytes"), huge_bytes(offset, len), "{line}");
        if let Some(name) = row["name"].as_str() {
            assert!(!name.is_empty());
            assert_eq!(row["huge"], number("huge_bytes") == len, "{line}");
        } else {
            all = (all.0 + number("huge_bytes"), all.1 + len);
        }
    }
    assert_eq!(all.1, observer.region().info().data_len);
    all
}

#[test]
fn zones_tells_the_pages_that_the_kernel_has() {
    if !is_real_root() {
        return skip("pages", "this is not root");
    }
    let world = World::new();
    let run = |eal: &[&str]| {
        let eal = eal.iter().map(|text| (*text).to_owned()).collect();
        let group = Group::start(
            &world,
            Setup {
                eal,
                ..Setup::lesson(1)
            },
        );
        let told = compare_pages(&group);
        let table = Process::run(&mut group.tool("zones"));
        let (huge, all) = (told.0 >> 20, told.1 >> 20);
        let wanted = format!("node 0: {all} MB, {huge} MB on huge pages, ");
        assert!(
            table.stdout.iter().any(|line| line.starts_with(&wanted)),
            "{table}"
        );
        group.finish();
        told
    };
    // How much the kernel collapses is its own affair, and is told as it is.
    run(&["--no-huge"]);
    with_hugepages(128, |mount| {
        let (huge, all) = run(&["--huge-dir", &mount.display().to_string()]);
        assert_eq!(huge, all);
    });
}

#[test]
fn too_few_hugepages_are_an_error_that_counts_them() {
    with_hugepages(2, |mount| {
        let world = World::new();
        let dir = tempfile::tempdir().unwrap();
        let mut command = world.command("mp_server");
        command.args([
            "-l",
            "0-1",
            "--log-level=error",
            "--file-prefix",
            "fbt-huge",
            "--huge-dir",
        ]);
        command.arg(mount).arg("--runtime-dir").arg(dir.path());
        command.args([
            "--vdev=net_null0",
            "--vdev=net_null1",
            "--",
            "-p",
            "0x3",
            "-n",
            "2",
        ]);
        let ended = Process::run(&mut command);
        assert_eq!(ended.status.code(), Some(1), "{ended}");
        let [line] = &ended.stderr[..] else {
            panic!("not one line: {ended}")
        };
        for word in [
            "hugepages of 2048 kB are needed",
            "sysctl vm.nr_hugepages=",
            "--no-huge",
        ] {
            assert!(line.contains(word), "{word:?} is not in: {line}");
        }
        assert!(
            fs::read_dir(mount).unwrap().next().is_none(),
            "a file was left"
        );
    });
}

/// How long nothing happens, and how much of a core a process may use meanwhile.
const IDLE: Duration = Duration::from_secs(30);
const IDLE_SHARE_MAX: f64 = 0.02;

/// The one promise about time among these tests: a group with nothing to do costs nothing that anybody would notice.
#[test]
fn idle_group_uses_less_than_a_fiftieth_of_a_core_a_process() {
    lab::isolated!({
        let dir = TempDir::new().unwrap();
        let mut groups = Vec::new();
        for queues in ["server", "each"] {
            let world = World::new();
            for host in [&world.west, &world.east] {
                host.disable_ipv6("eth0").unwrap();
            }
            let start = |words: &str| {
                let mut command = world.command("forebay");
                command.args(words.split_whitespace());
                let mut process = Process::start(&mut command);
                process.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
                process
            };
            let place = format!(
                "--file-prefix=idle-{queues} --runtime-dir={}",
                dir.path().display()
            );
            let vdevs = "--vdev=net_af_packet0,iface=veth0 --vdev=net_af_packet1,iface=veth1";
            let mut processes = vec![start(&format!(
                "server -l 1 {place} {vdevs} -- -p 3 -n 2 --no-screen --queues {queues}"
            ))];
            for id in 0..2 {
                processes.push(start(&format!(
                    "client -l {} {place} --proc-type=auto -- -n {id}",
                    2 + id
                )));
            }
            groups.push((queues, world, processes));
        }
        std::thread::sleep(Duration::from_secs(1));
        let times = |groups: &[(&str, World, Vec<Process>)]| -> Vec<Duration> {
            let processes = groups.iter().flat_map(|(_, _, processes)| processes);
            processes.map(|process| on_cpu(process.pid())).collect()
        };
        let before = times(&groups);
        std::thread::sleep(IDLE);
        let after = times(&groups);
        let shares: Vec<_> = (before.iter().zip(&after))
            .map(|(before, after)| (*after - *before).as_secs_f64() / IDLE.as_secs_f64())
            .collect();
        println!("IDLE share of a core, server and clients of both modes: {shares:.4?}");
        for (number, share) in shares.iter().enumerate() {
            assert!(*share < IDLE_SHARE_MAX, "process {number} of {shares:.4?}");
        }
        for (_, _world, processes) in groups {
            for process in processes.into_iter().rev() {
                let ended = process.stop();
                assert_eq!(ended.status.code(), Some(0), "{ended}");
            }
        }
    });
}

/// How long all threads of a process ran, in user mode and in the kernel.
fn on_cpu(pid: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = tasks.map(|task| {
        let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        text.split_whitespace()
            .next()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}
