//! The command line of a program: DPDK's EAL arguments.
//!
//! `mp_server -l 1-2 -n 4 --vdev=net_af_packet0,iface=veth0 -- -p 0x3 -n 2`: what stands before
//! `--` is ours, what stands behind it the application's. Options of DPDK that mean nothing here
//! are accepted and leave a notice; whatever is wrong is an error that names the argument.

mod error;
mod help;
mod nearest;
mod options;
mod values;

use std::path::PathBuf;

pub use error::ArgsError;
pub use nearest::nearest;
pub use values::{LogLevel, MEMORY_MB_MAX};

use crate::core::{LCORES_MAX, LcoreId, LcoreMap};
use crate::process::ProcType;
use options::{Given, Meaning};

/// The size of the region when no argument gives one, in megabytes.
pub const MEMORY_MB_DEFAULT: u64 = 64;

/// The name of a group when no argument gives one: DPDK's.
pub const PREFIX_DEFAULT: &str = "rte";

/// The longest `--wait`: a day.
pub const WAIT_SECONDS_MAX: u32 = 86_400;

/// How many memory channels DPDK knows.
const CHANNELS_MAX: u64 = 32;

/// What pages the region is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HugeChoice {
    /// Hugepages where enough are free, else plain pages and a notice.
    #[default]
    Auto,
    /// Hugepages or an error (`--huge-dir`).
    Required,
    /// Plain pages (`--no-huge`).
    Never,
}

/// The arguments of a program, parsed and checked as far as they can be without asking the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalArgs {
    /// The program's name, as it was called.
    pub program: String,
    /// The lcores asked for; none means one for each cpu that this process may use.
    pub lcores: LcoreMap,
    /// The lcore of the main thread, if it is not to be the lowest.
    pub main_lcore: Option<LcoreId>,
    /// Memory channels; without effect.
    pub channels: Option<u32>,
    /// Size of the region in megabytes (`-m`).
    pub memory_mb: Option<u64>,
    /// Size by NUMA node in megabytes (`--socket-mem`), instead of `memory_mb`.
    pub socket_mem_mb: Vec<u64>,
    /// What pages to take.
    pub huge: HugeChoice,
    /// The hugetlbfs to take hugepages from.
    pub huge_dir: Option<PathBuf>,
    /// The name of the group.
    pub prefix: String,
    /// The role asked for.
    pub proc_type: ProcType,
    /// Virtual devices, each as it was given.
    pub vdevs: Vec<String>,
    /// Devices to use, each as it was given.
    pub allow: Vec<String>,
    /// Devices not to use.
    pub block: Vec<String>,
    /// A group of one that shares nothing and leaves no file.
    pub in_memory: bool,
    /// How much to log; carried for the program, which owns the log.
    pub log_level: Option<LogLevel>,
    /// How much to log for components, in the order given.
    pub component_levels: Vec<(String, LogLevel)>,
    /// Where DPDK would map its memory; without effect.
    pub base_virtaddr: Option<u64>,
    /// Where groups are found.
    pub runtime_dir: Option<PathBuf>,
    /// The Unix group that may join.
    pub group: Option<String>,
    /// How long a secondary waits for its group.
    pub wait_seconds: u32,
    /// The user asks for [`EalArgs::help`].
    pub help: bool,
    /// The user asks for the version.
    pub version: bool,
    /// One line for each argument without effect; logged by `Eal::init`.
    pub notices: Vec<String>,
}

impl EalArgs {
    /// The arguments of a program that was given none.
    pub fn new(program: &str) -> Self {
        Self {
            program: program.to_owned(),
            lcores: LcoreMap::default(),
            main_lcore: None,
            channels: None,
            memory_mb: None,
            socket_mem_mb: Vec::new(),
            huge: HugeChoice::default(),
            huge_dir: None,
            prefix: PREFIX_DEFAULT.to_owned(),
            proc_type: ProcType::Primary,
            vdevs: Vec::new(),
            allow: Vec::new(),
            block: Vec::new(),
            in_memory: false,
            log_level: None,
            component_levels: Vec::new(),
            base_virtaddr: None,
            runtime_dir: None,
            group: None,
            wait_seconds: 0,
            help: false,
            version: false,
            notices: Vec::new(),
        }
    }

    /// Parses a command line, the program's name first, and returns what stands behind `--` apart.
    ///
    /// # Errors
    ///
    /// Names the first argument that is wrong and says what to write instead.
    pub fn parse<I>(args: I) -> Result<(Self, Vec<String>), ArgsError>
    where
        I: IntoIterator<Item = String>,
    {
        let mut args = args.into_iter();
        let mut parsed = Self::new(&args.next().unwrap_or_default());
        let (given, rest) = options::split(args)?;
        for (index, option) in given.iter().enumerate() {
            let earlier = given[..index]
                .iter()
                .find(|other| other.meaning == option.meaning);
            if let Some(first) = earlier.filter(|_| !option.meaning.repeats()) {
                return Err(repeated(first, option));
            }
            parsed.take(option)?;
        }
        parsed.check_together(&given)?;
        Ok((parsed, rest))
    }

    /// The text for `--help`.
    pub fn help() -> &'static str {
        help::HELP
    }

    /// The last part of the program's name, which is what `forebay list` shows.
    pub fn program_name(&self) -> &str {
        self.program.rsplit('/').next().unwrap_or_default()
    }

    /// The size of the region to create, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        let by_node = || {
            (!self.socket_mem_mb.is_empty()).then(|| {
                self.socket_mem_mb
                    .iter()
                    .fold(0, |sum: u64, mb| sum.saturating_add(*mb))
            })
        };
        let mb = self.memory_mb.or_else(by_node).unwrap_or(MEMORY_MB_DEFAULT);
        mb.saturating_mul(1 << 20)
    }

    /// What `--socket-mem` gives each NUMA node, in bytes; nothing without it.
    pub fn socket_mem_bytes(&self) -> Vec<usize> {
        let bytes = |mb: &u64| usize::try_from(mb.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
        self.socket_mem_mb.iter().map(bytes).collect()
    }

    /// The command line that gives these arguments, without those that have no effect.
    pub fn to_args(&self) -> Vec<String> {
        let mut args = vec![self.program.clone()];
        let mut add = |name: &str, value: &dyn std::fmt::Display| {
            args.push(format!("--{name}={value}"));
        };
        if !self.lcores.is_empty() {
            add("lcores", &self.lcores);
        }
        if let Some(lcore) = self.main_lcore {
            add("main-lcore", &lcore);
        }
        if let Some(channels) = self.channels {
            add("memory-channels", &channels);
        }
        if let Some(mb) = self.memory_mb {
            add("memory-size", &mb);
        }
        if !self.socket_mem_mb.is_empty() {
            let list: Vec<String> = self.socket_mem_mb.iter().map(u64::to_string).collect();
            add("socket-mem", &list.join(","));
        }
        if let Some(dir) = &self.huge_dir {
            add("huge-dir", &dir.display());
        }
        add("file-prefix", &self.prefix);
        add("proc-type", &option_value(self.proc_type));
        for vdev in &self.vdevs {
            add("vdev", vdev);
        }
        for device in &self.allow {
            add("allow", device);
        }
        for device in &self.block {
            add("block", device);
        }
        if let Some(level) = self.log_level {
            add("log-level", &level);
        }
        for (component, level) in &self.component_levels {
            add("log-level", &format_args!("{component}:{level}"));
        }
        if let Some(address) = self.base_virtaddr {
            add("base-virtaddr", &format_args!("{address:#x}"));
        }
        if let Some(dir) = &self.runtime_dir {
            add("runtime-dir", &dir.display());
        }
        if let Some(group) = &self.group {
            add("group", group);
        }
        if self.wait_seconds != 0 {
            add("wait", &self.wait_seconds);
        }
        let flags = [
            (self.huge == HugeChoice::Never, "--no-huge"),
            (self.in_memory, "--in-memory"),
            (self.help, "--help"),
            (self.version, "--version"),
        ];
        args.extend(
            flags
                .iter()
                .filter(|(set, _)| *set)
                .map(|(_, flag)| (*flag).to_owned()),
        );
        args
    }

    /// Takes one option in.
    fn take(&mut self, given: &Given) -> Result<(), ArgsError> {
        let value = given.value.as_deref().unwrap_or_default();
        let invalid = |why: String| ArgsError::Invalid {
            option: given.option.clone(),
            value: value.to_owned(),
            why,
        };
        let empty = |what: &str| invalid(format!("it must name {what}"));
        match given.meaning {
            Meaning::Lcores => {
                self.lcores =
                    LcoreMap::parse_list(value).map_err(|error| invalid(error.to_string()))?;
            }
            Meaning::CoreMask => {
                self.lcores =
                    LcoreMap::parse_mask(value).map_err(|error| invalid(error.to_string()))?;
            }
            Meaning::MainLcore => self.main_lcore = Some(lcore(value).map_err(invalid)?),
            Meaning::Channels => {
                let number = values::whole(value).filter(|n| (1..=CHANNELS_MAX).contains(n));
                let number = number.and_then(|number| u32::try_from(number).ok());
                let why = || format!("it must be a number from 1 to {CHANNELS_MAX}");
                self.channels = Some(number.ok_or_else(|| invalid(why()))?);
                self.notices
                    .push(without_meaning(given, "memory is laid out by pages"));
            }
            Meaning::Memory => self.memory_mb = Some(values::megabytes(value).map_err(invalid)?),
            Meaning::SocketMem => {
                self.socket_mem_mb = values::megabytes_by_node(value).map_err(invalid)?;
            }
            Meaning::HugeDir if value.is_empty() => return Err(empty("a hugetlbfs directory")),
            Meaning::HugeDir => {
                self.huge_dir = Some(PathBuf::from(value));
                self.huge = HugeChoice::Required;
            }
            Meaning::NoHuge => self.huge = HugeChoice::Never,
            Meaning::FilePrefix => self.prefix = values::prefix(value).map_err(invalid)?,
            Meaning::ProcType => self.proc_type = proc_type(value).map_err(invalid)?,
            Meaning::Vdev => {
                let remedy = "give the second another number, for example `net_null1`";
                add_device(&mut self.vdevs, given, value, remedy)?;
            }
            Meaning::Allow => add_device(&mut self.allow, given, value, "give it once")?,
            Meaning::Block => add_device(&mut self.block, given, value, "give it once")?,
            Meaning::LogLevel => match values::log_rule(value).map_err(invalid)? {
                (None, level) if self.log_level.is_none() => self.log_level = Some(level),
                (None, level) => {
                    return Err(ArgsError::Repeated {
                        option: given.option.clone(),
                        first: self.log_level.unwrap_or(level).to_string(),
                        second: value.to_owned(),
                    });
                }
                (Some(component), level) => self.component_levels.push((component, level)),
            },
            Meaning::InMemory => self.in_memory = true,
            Meaning::BaseVirtaddr => {
                self.base_virtaddr = Some(values::address(value).map_err(invalid)?);
                let why = "offsets cross processes, so each maps the region where it likes";
                self.notices.push(without_meaning(given, why));
            }
            Meaning::RuntimeDir if value.is_empty() => return Err(empty("a directory")),
            Meaning::RuntimeDir => self.runtime_dir = Some(PathBuf::from(value)),
            Meaning::Group if value.is_empty() => return Err(empty("a Unix group")),
            Meaning::Group => self.group = Some(value.to_owned()),
            Meaning::Wait => {
                let seconds = values::whole(value).and_then(|number| u32::try_from(number).ok());
                let seconds = seconds.filter(|seconds| *seconds <= WAIT_SECONDS_MAX);
                let why = || format!("it must be a number of seconds, {WAIT_SECONDS_MAX} at most");
                self.wait_seconds = seconds.ok_or_else(|| invalid(why()))?;
            }
            Meaning::Help => self.help = true,
            Meaning::Version => self.version = true,
            Meaning::Ignored(why) => self.notices.push(without_meaning(given, why)),
        }
        Ok(())
    }

    /// Checks what no option can be blamed for alone.
    fn check_together(&self, given: &[Given]) -> Result<(), ArgsError> {
        let exclude = [
            (Meaning::CoreMask, Meaning::Lcores, "give the cores once"),
            (Meaning::Memory, Meaning::SocketMem, "give the size once"),
            (Meaning::NoHuge, Meaning::HugeDir, "drop one of them"),
            (
                Meaning::Allow,
                Meaning::Block,
                "name the devices to use, or those not to use",
            ),
        ];
        for (index, second) in given.iter().enumerate() {
            for first in &given[..index] {
                let pair = (first.meaning, second.meaning);
                let clash = exclude
                    .iter()
                    .find(|(a, b, _)| pair == (*a, *b) || pair == (*b, *a));
                if let Some((_, _, remedy)) = clash {
                    return Err(conflict(first, second, remedy));
                }
            }
        }
        let find = |meaning| given.iter().find(|given| given.meaning == meaning);
        if let (Some(alone), Some(role)) = (find(Meaning::InMemory), find(Meaning::ProcType))
            && self.proc_type == ProcType::Secondary
        {
            return Err(conflict(
                alone,
                role,
                "a group in private memory has no secondary",
            ));
        }
        if let (Some(main), Some(option)) = (self.main_lcore, find(Meaning::MainLcore))
            && !self.lcores.is_empty()
            && self.lcores.cpus(main).is_none()
        {
            return Err(ArgsError::Invalid {
                option: option.option.clone(),
                value: main.to_string(),
                why: format!("it is not among the lcores `{}`; add it there", self.lcores),
            });
        }
        Ok(())
    }
}

/// Adds a device unless one of its name is there.
fn add_device(
    devices: &mut Vec<String>,
    given: &Given,
    value: &str,
    remedy: &str,
) -> Result<(), ArgsError> {
    let name = device_name(value);
    if name.is_empty() || name.contains(char::is_whitespace) || name.contains('=') {
        return Err(ArgsError::Invalid {
            option: given.option.clone(),
            value: value.to_owned(),
            why: "it must start with the name of a device, for example \
                  `net_af_packet0,iface=veth0`"
                .to_owned(),
        });
    }
    if devices.iter().any(|device| device_name(device) == name) {
        return Err(ArgsError::RepeatedDevice {
            option: given.option.clone(),
            device: name.to_owned(),
            remedy: remedy.to_owned(),
        });
    }
    devices.push(value.to_owned());
    Ok(())
}

/// The part of a device argument that names the device.
fn device_name(device: &str) -> &str {
    device.split(',').next().unwrap_or_default()
}

/// Reads an lcore number.
fn lcore(text: &str) -> Result<LcoreId, String> {
    let number = values::whole(text).and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| *number < LCORES_MAX);
    number
        .map(LcoreId)
        .ok_or_else(|| format!("it must be a number below {LCORES_MAX}"))
}

/// Reads a role.
fn proc_type(text: &str) -> Result<ProcType, String> {
    match text {
        "primary" => Ok(ProcType::Primary),
        "secondary" => Ok(ProcType::Secondary),
        "auto" => Ok(ProcType::Auto),
        _ => Err("it must be `primary`, `secondary` or `auto`".to_owned()),
    }
}

/// The value of `--proc-type` for a role.
fn option_value(role: ProcType) -> &'static str {
    match role {
        ProcType::Primary => "primary",
        ProcType::Secondary => "secondary",
        ProcType::Auto => "auto",
        ProcType::Invalid => "invalid",
    }
}

/// The notice for an option without effect.
fn without_meaning(given: &Given, why: &str) -> String {
    format!("`{}` has no effect here: {why}", given.typed())
}

/// The error for an option that stands there twice.
fn repeated(first: &Given, second: &Given) -> ArgsError {
    let value = |given: &Given| given.value.clone().unwrap_or_default();
    ArgsError::Repeated {
        option: second.option.clone(),
        first: value(first),
        second: value(second),
    }
}

/// The error for two options that exclude each other.
fn conflict(first: &Given, second: &Given, remedy: &str) -> ArgsError {
    ArgsError::Conflict {
        first: first.typed(),
        second: second.typed(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests;
