//! The table of options, and the walk that cuts a command line into options and values.

use super::error::ArgsError;
use super::nearest::nearest;

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// It takes none.
    None,
    /// It takes one, described by this word.
    Required(&'static str),
    /// It takes one only behind `=`.
    Optional,
}

/// What an option means; names of one meaning share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Allow,
    BaseVirtaddr,
    Block,
    Channels,
    CoreMask,
    FilePrefix,
    Group,
    Help,
    HugeDir,
    InMemory,
    Lcores,
    LogLevel,
    MainLcore,
    Memory,
    NoHuge,
    ProcType,
    RuntimeDir,
    SocketMem,
    Vdev,
    Version,
    Wait,
    /// Known to DPDK, without meaning here; the notice says why.
    Ignored(&'static str),
}

impl Meaning {
    /// Whether the option may stand there several times: lists, and flags, which lose nothing.
    pub(super) fn repeats(self) -> bool {
        matches!(
            self,
            Self::Allow
                | Self::Block
                | Self::Vdev
                | Self::LogLevel
                | Self::NoHuge
                | Self::InMemory
                | Self::Help
                | Self::Version
                | Self::Ignored(_)
        )
    }
}

/// One option: its names, its value, its meaning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Spec {
    /// Without the dashes; empty if it has a short name only.
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) value: Value,
    pub(super) meaning: Meaning,
}

/// A row of the table.
const fn row(long: &'static str, short: Option<char>, value: Value, meaning: Meaning) -> Spec {
    Spec {
        long,
        short,
        value,
        meaning,
    }
}

const NO_ADDRESSES: &str = "devices are given no memory addresses by us";
const NO_FIXED_MEMORY: &str = "the region is one piece of fixed size, shared by its group";
const NO_SERVICES: &str = "there are no service cores";
const NO_TELEMETRY: &str = "the `forebay` tool reads counters from shared memory";
const NO_TRACE: &str = "there is no trace recorder; use --log-level";
const NO_VFIO: &str = "devices stay with the kernel, so VFIO is not used";
const STDERR: &str = "the log goes where the program sends it";

/// Every option that we know, those of DPDK and our own.
pub(super) const OPTIONS: &[Spec] = &{
    use Meaning::{
        Allow, BaseVirtaddr, Block, Channels, CoreMask, FilePrefix, Group, Help, HugeDir, Ignored,
        InMemory, Lcores, LogLevel, MainLcore, Memory, NoHuge, ProcType, RuntimeDir, SocketMem,
        Vdev, Version, Wait,
    };
    use Value::{None as Bare, Optional, Required};
    [
        row("lcores", Some('l'), Required("CORES"), Lcores),
        row("coremask", Some('c'), Required("MASK"), CoreMask),
        row("main-lcore", None, Required("CORE"), MainLcore),
        row("memory-channels", Some('n'), Required("COUNT"), Channels),
        row("memory-size", Some('m'), Required("MEGABYTES"), Memory),
        row("socket-mem", None, Required("MEGABYTES,..."), SocketMem),
        row("numa-mem", None, Required("MEGABYTES,..."), SocketMem),
        row("huge-dir", None, Required("DIRECTORY"), HugeDir),
        row("no-huge", None, Bare, NoHuge),
        row("file-prefix", None, Required("PREFIX"), FilePrefix),
        row(
            "proc-type",
            None,
            Required("primary|secondary|auto"),
            ProcType,
        ),
        row("vdev", None, Required("DRIVER[,KEY=VALUE...]"), Vdev),
        row("allow", Some('a'), Required("DEVICE"), Allow),
        row("block", Some('b'), Required("DEVICE"), Block),
        row("log-level", None, Required("LEVEL"), LogLevel),
        row("in-memory", None, Bare, InMemory),
        row("no-shconf", None, Bare, InMemory),
        row("base-virtaddr", None, Required("ADDRESS"), BaseVirtaddr),
        row("runtime-dir", None, Required("DIRECTORY"), RuntimeDir),
        row("group", None, Required("NAME"), Group),
        row("wait", None, Required("SECONDS"), Wait),
        row("help", Some('h'), Bare, Help),
        row("version", Some('v'), Bare, Version),
        // DPDK's other options, accepted so that its command lines run as they stand.
        row(
            "memory-ranks",
            Some('r'),
            Required("COUNT"),
            Ignored("memory is laid out by pages"),
        ),
        row(
            "driver-path",
            Some('d'),
            Required("FILE"),
            Ignored("all drivers are built in"),
        ),
        row(
            "service-coremask",
            Some('s'),
            Required("MASK"),
            Ignored(NO_SERVICES),
        ),
        row(
            "service-corelist",
            Some('S'),
            Required("CORES"),
            Ignored(NO_SERVICES),
        ),
        row(
            "remap-lcore-ids",
            Some('R'),
            Optional,
            Ignored("an lcore without a cpu of its number is moved to another anyway"),
        ),
        row("iova-mode", None, Required("MODE"), Ignored(NO_ADDRESSES)),
        row("legacy-mem", None, Bare, Ignored(NO_FIXED_MEMORY)),
        row("single-file-segments", None, Bare, Ignored(NO_FIXED_MEMORY)),
        row("match-allocations", None, Bare, Ignored(NO_FIXED_MEMORY)),
        row(
            "socket-limit",
            None,
            Required("MEGABYTES,..."),
            Ignored(NO_FIXED_MEMORY),
        ),
        row(
            "numa-limit",
            None,
            Required("MEGABYTES,..."),
            Ignored(NO_FIXED_MEMORY),
        ),
        row(
            "huge-unlink",
            None,
            Optional,
            Ignored("a group finds its region by its files"),
        ),
        row(
            "huge-worker-stack",
            None,
            Optional,
            Ignored("stacks are ordinary memory"),
        ),
        row(
            "no-pci",
            None,
            Bare,
            Ignored("no device is taken from the PCI bus"),
        ),
        row("telemetry", None, Bare, Ignored(NO_TELEMETRY)),
        row("no-telemetry", None, Bare, Ignored(NO_TELEMETRY)),
        row("no-hpet", None, Bare, Ignored("the kernel's clock is used")),
        row(
            "vmware-tsc-map",
            None,
            Bare,
            Ignored("the kernel's clock is used"),
        ),
        row("vfio-intr", None, Required("MODE"), Ignored(NO_VFIO)),
        row("vfio-vf-token", None, Required("UUID"), Ignored(NO_VFIO)),
        row(
            "create-uio-dev",
            None,
            Bare,
            Ignored("devices stay with the kernel"),
        ),
        row(
            "mbuf-pool-ops-name",
            None,
            Required("NAME"),
            Ignored("there is one kind of pool"),
        ),
        row(
            "force-max-simd-bitwidth",
            None,
            Required("BITS"),
            Ignored("the compiler chooses"),
        ),
        row("syslog", None, Optional, Ignored(STDERR)),
        row("log-color", None, Optional, Ignored(STDERR)),
        row("log-timestamp", None, Optional, Ignored(STDERR)),
        row("trace", None, Optional, Ignored(NO_TRACE)),
        row("trace-bufsz", None, Required("SIZE"), Ignored(NO_TRACE)),
        row("trace-dir", None, Required("DIRECTORY"), Ignored(NO_TRACE)),
        row("trace-mode", None, Required("MODE"), Ignored(NO_TRACE)),
    ]
};

/// An option as it stands in the command line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) meaning: Meaning,
    /// The name as it was typed, with its dashes.
    pub(super) option: String,
    pub(super) value: Option<String>,
}

impl Given {
    /// Option and value, for a message.
    pub(super) fn typed(&self) -> String {
        match &self.value {
            None => self.option.clone(),
            Some(value) if self.option.starts_with("--") => format!("{}={value}", self.option),
            Some(value) => format!("{} {value}", self.option),
        }
    }
}

/// Cuts `args` (without the program's name) into our options and, behind `--`, the application's.
pub(super) fn split(
    mut args: impl Iterator<Item = String>,
) -> Result<(Vec<Given>, Vec<String>), ArgsError> {
    let mut given = Vec::new();
    while let Some(argument) = args.next() {
        if argument == "--" {
            return Ok((given, args.collect()));
        }
        if let Some(long) = argument.strip_prefix("--") {
            let (name, glued) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let spec = OPTIONS
                .iter()
                .find(|spec| !name.is_empty() && spec.long == name);
            let spec = spec.ok_or_else(|| unknown(&argument))?;
            let option = format!("--{name}");
            let value = match (spec.value, glued) {
                (Value::None, Some(value)) => {
                    return Err(ArgsError::UnexpectedValue { option, value });
                }
                (Value::Required(wanted), None) => Some(next_value(&mut args, &option, wanted)?),
                (_, glued) => glued,
            };
            given.push(Given {
                meaning: spec.meaning,
                option,
                value,
            });
        } else if let Some(cluster) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) {
            let mut rest = cluster.chars();
            while let Some(short) = rest.next() {
                let spec = OPTIONS.iter().find(|spec| spec.short == Some(short));
                let spec = spec.ok_or_else(|| unknown(&argument))?;
                let option = format!("-{short}");
                let glued = Some(rest.as_str().to_owned()).filter(|rest| !rest.is_empty());
                let value = match (spec.value, glued) {
                    (Value::None, _) => None,
                    (Value::Required(wanted), None) => {
                        Some(next_value(&mut args, &option, wanted)?)
                    }
                    (_, glued) => glued,
                };
                given.push(Given {
                    meaning: spec.meaning,
                    option,
                    value,
                });
                if spec.value != Value::None {
                    break;
                }
            }
        } else {
            return Err(ArgsError::Stray { word: argument });
        }
    }
    Ok((given, Vec::new()))
}

/// Takes the value that stands behind `option`; another option there is no value.
fn next_value(
    args: &mut impl Iterator<Item = String>,
    option: &str,
    wanted: &'static str,
) -> Result<String, ArgsError> {
    match args.next() {
        Some(value) if !value.starts_with('-') => Ok(value),
        _ => Err(ArgsError::MissingValue {
            option: option.to_owned(),
            wanted,
        }),
    }
}

/// The error for an argument that is in no row.
fn unknown(argument: &str) -> ArgsError {
    let name = argument.split_once('=').map_or(argument, |(name, _)| name);
    let word = name.trim_start_matches('-');
    let long_names = OPTIONS
        .iter()
        .map(|spec| spec.long)
        .filter(|long| !long.is_empty());
    ArgsError::Unknown {
        argument: argument.to_owned(),
        nearest: nearest(word, long_names).map(|name| format!("--{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (String, Option<String>);

    fn cut(args: &[&str]) -> Result<(Vec<Pair>, Vec<String>), ArgsError> {
        let (given, rest) = split(args.iter().map(|arg| (*arg).to_owned()))?;
        Ok((
            given
                .into_iter()
                .map(|given| (given.option, given.value))
                .collect(),
            rest,
        ))
    }

    fn pairs(args: &[&str]) -> Vec<Pair> {
        cut(args).unwrap().0
    }

    #[test]
    fn no_name_stands_in_the_table_twice() {
        for (index, spec) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[index + 1..] {
                assert!(
                    spec.long.is_empty() || spec.long != other.long,
                    "--{}",
                    spec.long
                );
                assert!(
                    spec.short.is_none() || spec.short != other.short,
                    "-{:?}",
                    spec.short
                );
            }
        }
    }

    #[test]
    fn values_stand_glued_or_apart() {
        let wanted = [("-l".to_owned(), Some("1-2".to_owned()))];
        assert_eq!(pairs(&["-l1-2"]), wanted);
        assert_eq!(pairs(&["-l", "1-2"]), wanted);
        let wanted = [("--file-prefix".to_owned(), Some("a=b".to_owned()))];
        assert_eq!(pairs(&["--file-prefix=a=b"]), wanted);
        assert_eq!(pairs(&["--file-prefix", "a=b"]), wanted);
        let wanted = [
            ("-h".to_owned(), None),
            ("-n".to_owned(), Some("4".to_owned())),
        ];
        assert_eq!(pairs(&["-hn4"]), wanted);
    }

    #[test]
    fn everything_behind_two_dashes_is_the_applications() {
        let (given, rest) = cut(&["-n", "4", "--", "-p", "0x3", "--", "--vdev"]).unwrap();
        assert_eq!(given.len(), 1);
        assert_eq!(rest, ["-p", "0x3", "--", "--vdev"]);
        assert_eq!(cut(&["--"]).unwrap(), (Vec::new(), Vec::new()));
    }

    #[test]
    fn unknown_arguments_are_named_with_their_nearest() {
        let message = |args: &[&str]| cut(args).unwrap_err().to_string();
        assert_eq!(
            message(&["--vdve=net_null0"]),
            "unknown argument `--vdve=net_null0`; did you mean `--vdev`? \
             arguments of the application stand behind `--`"
        );
        assert!(message(&["-proc-type=auto"]).contains("`--proc-type`"));
        assert_eq!(
            message(&["-p", "0x3"]),
            "unknown argument `-p`; arguments of the application stand behind `--`"
        );
        assert!(message(&["veth0"]).contains("`veth0` belongs to no option"));
        assert!(message(&["-"]).contains("`-` belongs to no option"));
        assert!(message(&["--=x"]).contains("unknown argument `--=x`"));
    }

    #[test]
    fn a_missing_or_superfluous_value_is_an_error() {
        let message = |args: &[&str]| cut(args).unwrap_err().to_string();
        assert_eq!(message(&["-l"]), "`-l` needs a value; write `-l CORES`");
        assert_eq!(
            message(&["--vdev", "--no-huge"]),
            "`--vdev` needs a value; write `--vdev=DRIVER[,KEY=VALUE...]`"
        );
        assert_eq!(
            message(&["-n", "--"]),
            "`-n` needs a value; write `-n COUNT`"
        );
        assert_eq!(
            message(&["--no-huge=1"]),
            "`--no-huge` takes no value; remove `=1`"
        );
    }
}
