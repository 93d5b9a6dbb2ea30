//! `cargo xtask numa`: a group's memory on a machine with two NUMA nodes, which QEMU plays.
//!
//! A kernel, the programs and a script are booted; the script starts servers on either kind of pages and prints what
//! `forebay zones` tells of them and what the kernel does (`numa_maps`). Here the two are compared.

mod archive;
mod told;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::plan::Plan;
use crate::tally::Tally;
use crate::workspace::Workspace;
use archive::Archive;
use told::Told;

const QEMU: &str = "qemu-system-x86_64";
const BUSYBOX: &str = "/bin/busybox";
/// How long the machine may run, in seconds: an emulated one takes about a minute.
const DEADLINE: &str = "600";
const PROGRAMS: [&str; 3] = ["forebay", "mp_server", "mp_client"];

/// What a step is to come to.
#[derive(Debug)]
enum Expect {
    /// So many megabytes on each node; on huge pages, if that is promised; zones on one of them alone.
    Memory {
        mb: [u64; 2],
        huge: bool,
        zones_on: u64,
    },
    /// All memory on node 0, a section of node 1 too; and the server says so.
    Elsewhere(&'static str),
    /// The server's last words have these parts.
    Error(&'static [&'static str]),
}

/// A server that is started in the machine.
#[derive(Debug)]
struct Step {
    name: &'static str,
    /// Hugepages of 2 MiB on each node before it.
    hugepages: [u32; 2],
    args: &'static str,
    /// Where the tmpfs itself wants its memory to lie, whoever makes a file.
    tmpfs: &'static str,
    /// It is killed while a client lives, and what is told is of its successor.
    takeover: bool,
    expect: Expect,
}

const STEPS: &[Step] = &[
    Step {
        name: "plain pages of two nodes",
        hugepages: [0, 0],
        args: "-l 0-1 --no-huge --socket-mem=32,32",
        takeover: false,
        tmpfs: "default",
        expect: Expect::Memory {
            mb: [32, 32],
            huge: false,
            zones_on: 0,
        },
    },
    Step {
        name: "plain pages of two nodes, taken over",
        hugepages: [0, 0],
        args: "-l 1 --no-huge --socket-mem=32,34",
        takeover: true,
        tmpfs: "default",
        expect: Expect::Memory {
            mb: [32, 34],
            huge: false,
            zones_on: 1,
        },
    },
    Step {
        name: "plain pages near the main lcore",
        hugepages: [0, 0],
        args: "-l 1 --no-huge -m 40",
        takeover: false,
        tmpfs: "default",
        expect: Expect::Memory {
            mb: [0, 40],
            huge: false,
            zones_on: 1,
        },
    },
    Step {
        name: "hugepages of two nodes",
        hugepages: [20, 20],
        args: "-l 0-1 --huge-dir=/dev/hugepages --socket-mem=32,32",
        takeover: false,
        tmpfs: "default",
        expect: Expect::Memory {
            mb: [32, 32],
            huge: true,
            zones_on: 0,
        },
    },
    Step {
        name: "hugepages of the second node, taken over",
        hugepages: [20, 20],
        args: "-l 0-1 --huge-dir=/dev/hugepages --socket-mem=0,32",
        takeover: true,
        tmpfs: "default",
        expect: Expect::Memory {
            mb: [0, 32],
            huge: true,
            zones_on: 1,
        },
    },
    Step {
        name: "a tmpfs that puts memory elsewhere",
        hugepages: [0, 0],
        args: "-l 0-1 --no-huge --socket-mem=32,32",
        takeover: false,
        tmpfs: "prefer:0",
        expect: Expect::Elsewhere("put 32 of the 32 MB for NUMA node 1 elsewhere"),
    },
    Step {
        name: "a node that is not there",
        hugepages: [0, 0],
        args: "-l 0-1 --no-huge --socket-mem=32,32,32",
        takeover: false,
        tmpfs: "default",
        expect: Expect::Error(&["there is no NUMA node 2", "nodes 0 and 1"]),
    },
    Step {
        name: "a node without hugepages",
        hugepages: [20, 2],
        args: "-l 0-1 --huge-dir=/dev/hugepages --socket-mem=32,32",
        takeover: false,
        tmpfs: "default",
        expect: Expect::Error(&[
            "16 hugepages of 2048 kB are needed on NUMA node 1 and 2 are free there",
            "echo 16 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages",
        ]),
    },
    Step {
        name: "a node without memory",
        hugepages: [0, 0],
        args: "-l 0-1 --no-huge --socket-mem=32,700",
        takeover: false,
        tmpfs: "default",
        expect: Expect::Error(&["NUMA node 1 has about", "--socket-mem less"]),
    },
    Step {
        name: "a section that is too small",
        hugepages: [0, 0],
        args: "-l 0-1 --no-huge --socket-mem=16,16",
        takeover: false,
        tmpfs: "default",
        expect: Expect::Error(&["16777216 on NUMA node", "--socket-mem=16,20"]),
    },
];

impl Plan<'_> {
    /// Starts servers in a machine of two nodes.
    pub(crate) fn numa(&mut self) {
        let kernel = match find_kernel(self.workspace()) {
            Ok(kernel) => kernel,
            Err(missing) => return self.skipped("numa", &missing),
        };
        let mut build = self.cargo(&["build"]);
        for package in ["forebay-tools", "mp_server", "mp_client"] {
            build.args(["-p", package]);
        }
        if !self.built("numa, programs", build) {
            return;
        }
        self.headline("numa");
        let folder = self.workspace().target_dir.join("numa");
        let told = boot(&folder, &self.workspace().target_dir.join("debug"), &kernel);
        let told = match told {
            Ok(told) => told,
            Err(error) => return self.failed("numa", &format!("{error:#}")),
        };
        for step in STEPS {
            match told.get(step.name).and_then(|told| judge(step, told)) {
                Ok(found) => {
                    println!("{}: ok: {found}", step.name);
                    self.count(Tally::PASSED);
                }
                Err(error) => self.failed(&format!("numa, {}", step.name), &format!("{error:#}")),
            }
        }
    }
}

/// The newest kernel that was unpacked for us, or else the machine's own; if something is missing, the command that gets it.
fn find_kernel(workspace: &Workspace) -> Result<PathBuf, String> {
    let ours = workspace.target_dir.join("numa");
    let is_there = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    };
    if !is_there(QEMU) || !Path::new(BUSYBOX).exists() {
        return Err(format!(
            "{QEMU} or {BUSYBOX} is missing; run `apt-get install --no-install-recommends qemu-system-x86 busybox-static`"
        ));
    }
    let newest = |folder: &Path| -> Option<PathBuf> {
        let files = fs::read_dir(folder).ok()?.flatten();
        let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into());
        let kernels = files.map(|file| file.path()).filter(|path| {
            name(path).is_some_and(|name: String| name.starts_with("vmlinuz"))
                && fs::File::open(path).is_ok()
        });
        kernels.max()
    };
    newest(&ours.join("boot"))
        .or_else(|| newest(Path::new("/boot")))
        .ok_or_else(|| {
            format!(
                "no kernel in {0}/boot or /boot; docs/testing.md has the command that gets one",
                ours.display()
            )
        })
}

/// Runs the machine to its end and keeps what it printed.
fn boot(folder: &Path, programs: &Path, kernel: &Path) -> Result<Told> {
    fs::create_dir_all(folder)?;
    let image = folder.join("initramfs");
    fs::write(&image, pack(programs)?)?;
    let memory = |node: u32| {
        [
            "-object".to_owned(),
            format!("memory-backend-ram,id=m{node},size=512M"),
            "-numa".to_owned(),
            format!("node,nodeid={node},cpus={node},memdev=m{node}"),
        ]
    };
    let mut qemu = Command::new("timeout");
    qemu.args(["--kill-after=5", DEADLINE, QEMU])
        .args(["-machine", "q35,accel=tcg", "-cpu", "max"])
        .args(["-smp", "2", "-m", "1G"])
        .args([memory(0), memory(1)].concat())
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(&image)
        .args(["-append", "console=ttyS0 quiet loglevel=1 panic=-1"])
        .args(["-display", "none", "-monitor", "none", "-nic", "none"])
        .args(["-serial", "stdio", "-no-reboot"]);
    println!("kernel {}", kernel.display());
    let ended = qemu.output().context("cannot run qemu")?;
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    let log = folder.join("console.log");
    fs::write(&log, &text)?;
    ensure!(
        ended.status.success() && text.contains("@done"),
        "the machine did not run to its end ({}): {}; its console is in {}",
        ended.status,
        String::from_utf8_lossy(&ended.stderr).trim(),
        log.display()
    );
    Ok(Told::read(&text))
}

/// The file system that the machine starts from.
fn pack(programs: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["proc", "sys", "dev", "run", "tmp"] {
        archive.folder(folder);
    }
    archive.copy(Path::new(BUSYBOX), Path::new(BUSYBOX))?;
    for name in PROGRAMS {
        let program = programs.join(name);
        archive.copy(&program, &Path::new("/bin").join(name))?;
        for library in libraries(&program)? {
            archive.copy(&library, &library)?;
        }
    }
    archive.file("/init", script().as_bytes(), true);
    Ok(archive.finish())
}

/// The shared libraries of a program, as `ldd` finds them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let path = |line: &str| {
        let mut words = line.split_whitespace();
        words.find(|word| word.starts_with('/')).map(PathBuf::from)
    };
    let found: Vec<_> = text.lines().filter_map(path).collect();
    ensure!(!found.is_empty(), "ldd {}: {text}", program.display());
    Ok(found)
}

/// What the machine does. A line begins with what it is: `@` a step, `z` zones, `m` numa_maps, `e` stderr, `s` an exit status.
fn script() -> String {
    let mut text = String::from(
        "#!/bin/busybox sh\n\
         /bin/busybox --install -s /bin\n\
         export PATH=/bin\n\
         mount -t proc none /proc; mount -t sysfs none /sys; mount -t devtmpfs none /dev\n\
         mkdir -p /dev/shm /dev/hugepages\n\
         mount -t tmpfs -o size=100% none /dev/shm; mount -t tmpfs none /run\n\
         mount -t hugetlbfs none /dev/hugepages\n\
         hugepages() { echo $2 > /sys/devices/system/node/node$1/hugepages/hugepages-2048kB/nr_hugepages; }\n\
         start() { mp_server \"$@\" --vdev=net_null0 --vdev=net_null1 -- -p 0x3 -n 1 --no-screen 2> /tmp/said & server=$!; }\n\
         ready() { for i in $(seq 600); do grep -q ^ready: $1 && return; kill -0 $2 2>/dev/null || return; sleep 0.1; done; }\n\
         told() { forebay zones --json 2>&1 | sed 's/^/z /'; \
           grep -E 'file=/dev/(shm|hugepages)/forebay.*data' /proc/$server/numa_maps | sed 's/^/m /'; }\n",
    );
    for step in STEPS {
        text += &format!("echo \"@ {}\"\n", step.name);
        for (node, count) in step.hugepages.iter().enumerate() {
            text += &format!("hugepages {node} {count}\n");
        }
        text += &format!("mount -o remount,mpol={} /dev/shm\n", step.tmpfs);
        text += &format!("start {}; ready /tmp/said $server\n", step.args);
        if step.takeover {
            text += "mp_client -l 0 --proc-type=secondary -- -n 0 2> /tmp/client & client=$!\n\
                     ready /tmp/client $client\n\
                     kill -9 $server; wait $server\n";
            text += &format!("start {}; ready /tmp/said $server\n", step.args);
        }
        text += "told\n";
        if step.takeover {
            text += "kill -INT $client; wait $client; echo \"s $?\"\n";
        }
        text += "kill -INT $server 2>/dev/null; wait $server; echo \"s $?\"\n\
                 sed 's/^/e /' /tmp/said\n";
    }
    text += "echo @done\nreboot -f\n";
    text
}

/// Compares what was told with what was to come, and with each other; gives it in a line.
fn judge(step: &Step, told: &told::Step) -> Result<String> {
    let said = || told.errors.join("\n");
    match &step.expect {
        Expect::Error(parts) => {
            let last = told.errors.last().context("the server said nothing")?;
            for part in *parts {
                ensure!(last.contains(part), "{part:?} is not in: {last}");
            }
            ensure!(told.statuses == [1], "ended with {:?}", told.statuses);
            Ok(last.clone())
        }
        Expect::Elsewhere(warning) => {
            let warned = told.errors.iter().find(|line| line.contains(warning));
            let line = warned.with_context(|| format!("no warning in {}", said()))?;
            let (by_zones, by_kernel) = (told.by_zones()?, told.by_kernel()?);
            ensure!(
                by_kernel[1] == 0 && by_zones.by_node == by_kernel,
                "zones tells {by_zones:?}, the kernel {by_kernel:?}"
            );
            ensure!(by_zones.strays == 32 << 20, "zones tells {by_zones:?}");
            Ok(line.clone())
        }
        Expect::Memory { mb, huge, zones_on } => {
            ensure!(
                told.statuses.iter().all(|status| *status == 0),
                "ended with {:?}: {}",
                told.statuses,
                said()
            );
            let wanted = mb.map(|mb| mb << 20);
            let (by_zones, by_kernel) = (told.by_zones()?, told.by_kernel()?);
            let huge_bytes = by_zones.huge_bytes;
            ensure!(
                by_zones.by_node == wanted && by_zones.strays == 0,
                "zones tells {by_zones:?}, {wanted:?} wanted: {}",
                said()
            );
            ensure!(
                by_kernel == wanted,
                "the kernel tells {by_kernel:?}, {wanted:?} wanted"
            );
            let all: u64 = wanted.iter().sum();
            if *huge && huge_bytes != Some(all) {
                bail!("{huge_bytes:?} of {all} bytes are on huge pages");
            }
            let zones = told.zones_by_section()?;
            ensure!(
                zones.starts_with(&format!("node {zones_on} (")) && !zones.contains("and"),
                "zones lie on {zones}"
            );
            Ok(format!(
                "node 0: {} MB, node 1: {} MB, in zones and in numa_maps; {} MB on huge pages; zones lie on {zones}",
                mb[0],
                mb[1],
                huge_bytes.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string())
            ))
        }
    }
}
