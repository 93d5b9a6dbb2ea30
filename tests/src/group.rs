//! `mp_server` and `mp_client` processes under a prefix of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Ended, Leftovers, Process, World, program, wait_for};

/// How a group is started. The default is that of DPDK's lesson.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How many clients there may be.
    pub clients: u32,
    /// What stands behind each `--vdev`; port 0 first.
    pub vdevs: Vec<String>,
    /// Further arguments of the server, behind `--`.
    pub server: Vec<String>,
    /// Further arguments of all processes, before `--`.
    pub eal: Vec<String>,
}

impl Setup {
    /// Two ports on the cables of the middle, packets spread round robin.
    pub fn lesson(clients: u32) -> Self {
        Self {
            clients,
            vdevs: vec![
                "net_af_packet0,iface=veth0".to_owned(),
                "net_af_packet1,iface=veth1".to_owned(),
            ],
            server: Vec::new(),
            eal: Vec::new(),
        }
    }

    /// The same, with further arguments of the server.
    pub fn with(clients: u32, server: &[&str]) -> Self {
        let server = server.iter().map(|arg| (*arg).to_owned()).collect();
        Self {
            server,
            ..Self::lesson(clients)
        }
    }

    /// The same, with other ports.
    pub fn ports(clients: u32, vdevs: &[String]) -> Self {
        Self {
            vdevs: vdevs.to_vec(),
            ..Self::lesson(clients)
        }
    }
}

/// A server and its clients. Killed when dropped; [`Group::finish`] ends them in order.
#[derive(Debug)]
pub struct Group<'w> {
    world: &'w World,
    setup: Setup,
    prefix: String,
    dir: TempDir,
    server: Option<Process>,
    clients: BTreeMap<u32, Process>,
}

/// What the server printed last with `--json`.
#[derive(Debug, Clone)]
pub struct Sample(Value);

/// What the independent checker found: a row for each pool, and a total.
#[derive(Debug, Clone)]
pub struct Audit(Vec<Value>);

impl<'w> Group<'w> {
    /// Starts the server, and every client that it has room for.
    ///
    /// # Panics
    ///
    /// If one of them does not come up.
    pub fn start(world: &'w World, setup: Setup) -> Self {
        let clients = setup.clients;
        let mut group = Self::start_server(world, setup);
        for id in 0..clients {
            group.start_client(id);
        }
        group
    }

    /// Starts the server alone.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn start_server(world: &'w World, setup: Setup) -> Self {
        let mut group = Self::prepare(world, setup);
        group.open();
        group
    }

    /// A group of which nobody runs yet.
    ///
    /// # Panics
    ///
    /// If the temporary directory cannot be written.
    pub fn prepare(world: &'w World, setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("the temporary directory can be written");
        let prefix = unique_prefix();
        Self {
            world,
            setup,
            prefix,
            dir,
            server: None,
            clients: BTreeMap::new(),
        }
    }

    /// Starts the server.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn open(&mut self) {
        self.open_with(&[]);
    }

    /// Starts the server with further arguments that its clients do not get, before `--`.
    ///
    /// # Panics
    ///
    /// If it does not come up.
    pub fn open_with(&mut self, eal: &[&str]) {
        let mut server = Process::start(&mut self.server_command_with(eal));
        server.wait_for_stderr("readiness", |line| line.starts_with("ready:"));
        self.server = Some(server);
    }

    /// Hands out the server's process, whose end is then the caller's business.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn take_server(&mut self) -> Process {
        self.server.take().expect("the server runs")
    }

    /// Puts a process in the server's place that the caller has started.
    pub fn put_server(&mut self, server: Process) {
        self.server = Some(server);
    }

    /// The same for client `id`.
    pub fn put_client(&mut self, id: u32, client: Process) {
        self.clients.insert(id, client);
    }

    /// Its name on the command line.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Its directory on the command line.
    pub fn runtime_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The command line by which the server was started.
    pub fn server_command(&self) -> Command {
        self.server_command_with(&[])
    }

    fn server_command_with(&self, eal: &[&str]) -> Command {
        let mut command = self.world.command("mp_server");
        command.args(["-l", "1-2", "-n", "4"]).args(eal);
        self.name_group(&mut command);
        command.args(self.setup.vdevs.iter().map(|vdev| format!("--vdev={vdev}")));
        let mask = format!("{:#x}", (1_u64 << self.setup.vdevs.len()) - 1);
        command.args(["--", "-p", &mask, "-n", &self.setup.clients.to_string()]);
        command
            .args(["--json", "--interval", "0.05"])
            .args(&self.setup.server);
        command
    }

    /// The command line of client `id`.
    pub fn client_command(&self, id: u32) -> Command {
        self.client_command_of(&program("mp_client"), id)
    }

    /// The same for another build of the client.
    pub fn client_command_of(&self, program: &Path, id: u32) -> Command {
        let mut command = self.world.in_middle(Command::new(program));
        command.args(["-l", &(3 + id).to_string(), "--proc-type=auto"]);
        self.name_group(&mut command);
        command.args(["--", "-n", &id.to_string()]);
        command
    }

    /// A subcommand of `forebay` for this group.
    pub fn tool(&self, subcommand: &str) -> Command {
        let mut command = self.world.command("forebay");
        command
            .arg(subcommand)
            .arg("--file-prefix")
            .arg(&self.prefix);
        command.arg("--runtime-dir").arg(self.dir.path());
        command
    }

    fn name_group(&self, command: &mut Command) {
        command.arg(format!("--file-prefix={}", self.prefix));
        command
            .arg("--runtime-dir")
            .arg(self.dir.path())
            .args(&self.setup.eal);
    }

    /// Starts client `id` and waits until the server sees it.
    ///
    /// # Panics
    ///
    /// If that does not happen.
    pub fn start_client(&mut self, id: u32) {
        self.start_client_with(id, self.client_command(id));
    }

    /// The same for a command line of choice.
    ///
    /// # Panics
    ///
    /// If the server does not come to see the client.
    pub fn start_client_with(&mut self, id: u32, mut command: Command) {
        let mut client = Process::start(&mut command);
        let started = wait_for(&format!("client {id} to be seen"), || {
            let alive = client.is_alive();
            (!alive || self.sample().is_present(id)).then_some(alive)
        });
        if !started {
            panic!("client {id} ended: {}", client.wait());
        }
        self.clients.insert(id, client);
    }

    /// Ends client `id` in order and waits until the server sees that.
    ///
    /// # Panics
    ///
    /// If it does not run, or ends otherwise than with status 0.
    pub fn stop_client(&mut self, id: u32) -> Ended {
        let ended = self.take_client(id).stop();
        assert_eq!(ended.status.code(), Some(0), "client {id}: {ended}");
        wait_for(&format!("client {id} to be missed"), || {
            (!self.sample().is_present(id)).then_some(())
        });
        ended
    }

    /// Hands out the process of client `id`, whose end is then the caller's business.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn take_client(&mut self, id: u32) -> Process {
        self.clients
            .remove(&id)
            .unwrap_or_else(|| panic!("client {id} does not run"))
    }

    /// The process ids of the server and of the clients, in that order.
    pub fn pids(&self) -> Vec<u32> {
        self.server
            .iter()
            .chain(self.clients.values())
            .map(Process::pid)
            .collect()
    }

    /// The server.
    ///
    /// # Panics
    ///
    /// If it was stopped.
    pub fn server(&self) -> &Process {
        self.server.as_ref().expect("the server runs")
    }

    /// Client `id`.
    ///
    /// # Panics
    ///
    /// If it does not run.
    pub fn client(&self, id: u32) -> &Process {
        self.clients
            .get(&id)
            .unwrap_or_else(|| panic!("client {id} does not run"))
    }

    /// What the server printed last.
    ///
    /// # Panics
    ///
    /// If that is no JSON, or does not come.
    pub fn sample(&self) -> Sample {
        self.sample_after(0)
    }

    /// What the server printed last, once it has printed something that was counted from now on.
    ///
    /// # Panics
    ///
    /// If that does not come.
    pub fn fresh_sample(&self) -> Sample {
        // One may be under way that was counted before this call; the one after it was not.
        self.sample_after(self.server().stdout().len() + 1)
    }

    fn sample_after(&self, count: usize) -> Sample {
        let line = wait_for("a line of the server", || {
            let lines = self.server().stdout();
            if lines.len() > count {
                lines.last().cloned()
            } else {
                None
            }
        });
        Sample(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Waits until the counters stand still: everything sent has arrived or was dropped.
    ///
    /// # Panics
    ///
    /// If they do not.
    pub fn settle(&self) -> Sample {
        let mut before = self.fresh_sample();
        wait_for("the counters to stand still", || {
            let now = self.fresh_sample();
            let same = now.counts() == before.counts();
            before = now.clone();
            same.then_some(now)
        })
    }

    /// Lets the independent checker walk the group's memory.
    ///
    /// # Panics
    ///
    /// If it does not find every buffer of every pool exactly once.
    pub fn check(&self) -> Audit {
        let ended = Process::run(self.tool("check").arg("--json"));
        assert_eq!(ended.status.code(), Some(0), "forebay check: {ended}");
        let row = |line: &String| -> Value {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        let audit = Audit(ended.stdout.iter().map(row).collect());
        assert!(audit.buffers() > 0, "forebay check saw no pool: {ended}");
        audit
    }

    /// Ends everything in order: checks while all live, then without the clients, and in the end
    /// looks whether something was left behind.
    ///
    /// # Panics
    ///
    /// If a buffer is lost or doubled, a process does not end with status 0, or a file is left.
    pub fn finish(mut self) {
        self.settle();
        self.check();
        self.stop_clients();
        self.settle();
        let audit = self.check();
        assert_eq!(
            audit.in_hand(),
            0,
            "nobody is left who could hold a buffer: {audit:?}"
        );
        self.stop_server();
    }

    /// The same for a group whose traffic never ends: without a look at the buffers, which move.
    ///
    /// # Panics
    ///
    /// If a process does not end with status 0, or a file is left.
    pub fn finish_busy(mut self) {
        self.stop_clients();
        self.stop_server();
    }

    fn stop_clients(&mut self) {
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.stop_client(id);
        }
    }

    fn stop_server(&mut self) {
        let server = self.take_server().stop();
        assert_eq!(server.status.code(), Some(0), "server: {server}");
        let left = Leftovers::of(&self.prefix, self.dir.path());
        assert!(left.is_empty(), "{left:?}");
    }
}

impl Sample {
    /// Whether the server has a client of that number.
    pub fn is_present(&self, id: u32) -> bool {
        self.client(id)["present"].as_bool().unwrap_or(false)
    }

    /// Packets that were handed to client `id`.
    pub fn client_rx(&self, id: u32) -> u64 {
        count(&self.client(id)["rx"])
    }

    /// Packets that all clients together sent.
    pub fn tx(&self) -> u64 {
        self.tx_by_client().iter().sum()
    }

    /// Packets that each client sent.
    pub fn tx_by_client(&self) -> Vec<u64> {
        self.clients().map(|client| sum(&client["tx"])).collect()
    }

    /// Packets that were counted as dropped, wherever.
    pub fn dropped(&self) -> u64 {
        let clients = self
            .clients()
            .map(|client| count(&client["rx_drop"]) + sum(&client["tx_drop"]));
        let ports = self.ports().map(|port| count(&port["no_client"]));
        clients.sum::<u64>() + ports.sum::<u64>()
    }

    /// Packets that were received on all ports.
    pub fn rx(&self) -> u64 {
        self.ports().map(|port| count(&port["rx_packets"])).sum()
    }

    /// The whole of it.
    pub fn json(&self) -> &Value {
        &self.0
    }

    fn counts(&self) -> (u64, u64, u64) {
        (self.rx(), self.tx(), self.dropped())
    }

    fn client(&self, id: u32) -> &Value {
        &self.0["clients"][id as usize]
    }

    fn clients(&self) -> impl Iterator<Item = &Value> {
        self.0["clients"].as_array().into_iter().flatten()
    }

    fn ports(&self) -> impl Iterator<Item = &Value> {
        self.0["ports"].as_array().into_iter().flatten()
    }
}

impl Audit {
    /// Buffers of all pools.
    pub fn buffers(&self) -> u64 {
        self.0.iter().map(|row| count(&row["count"])).sum()
    }

    /// Buffers that a process has in hand.
    pub fn in_hand(&self) -> u64 {
        self.0.iter().map(|row| count(&row["hand"])).sum()
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        self.clients.clear();
        self.server = None;
        // Only a test that failed, or killed on purpose, leaves any.
        for file in Leftovers::of(&self.prefix, self.dir.path()).files() {
            let _ = std::fs::remove_file(file);
        }
    }
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn sum(values: &Value) -> u64 {
    values.as_array().into_iter().flatten().map(count).sum()
}

/// A prefix that no other test, and no group of the machine, has.
fn unique_prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    // Relaxed: a number that is handed out once, nothing hangs on it.
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("fbt-{}-{number}", std::process::id())
}
