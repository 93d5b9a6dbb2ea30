//! The rules of the repository that no compiler knows, so that review need not look for them.
//!
//! Each rule is one function from the workspace to a list of complaints; no complaint, passed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::fuzz;
use crate::source::Source;
use crate::workspace::Workspace;

/// Lines of a file, its tests not counted.
const FILE_LINES_MAX: usize = 800;

/// Which members each member may use: the picture in ARCHITECTURE.md.
const ARROWS: &[(&str, &[&str])] = &[
    ("forebay-eal", &[]),
    ("forebay-ring", &["forebay-eal"]),
    ("forebay-mbuf", &["forebay-eal", "forebay-ring"]),
    (
        "forebay-ethdev",
        &["forebay-eal", "forebay-ring", "forebay-mbuf"],
    ),
    (
        "forebay-netstack",
        &["forebay-eal", "forebay-ring", "forebay-mbuf"],
    ),
    (
        "forebay",
        &[
            "forebay-eal",
            "forebay-ring",
            "forebay-mbuf",
            "forebay-ethdev",
            "forebay-netstack",
        ],
    ),
    (
        "forebay-model",
        &["forebay-eal", "forebay-ring", "forebay-mbuf"],
    ),
    ("forebay-tools", &["forebay", "forebay-lab"]),
    ("mp_server", &["forebay"]),
    ("mp_client", &["forebay"]),
    ("udp_echo", &["forebay"]),
    ("forebay-lab", &[]),
    ("forebay-bench", &["forebay", "forebay-lab"]),
    ("forebay-tests", &["forebay", "forebay-lab"]),
    ("xtask", &[]),
];

/// What the tests of any member may use besides: hosts and cables.
const TESTS_MAY_USE: &str = "forebay-lab";

/// Where `unsafe` may stand: a file, or a folder if it ends in `/`. `*` is one name.
const UNSAFE_DOORS: &[&str] = &[
    "crates/eal/src/sys.rs",
    "crates/eal/src/sys/",
    "crates/eal/src/zone.rs",
    "crates/eal/src/region.rs",
    "crates/eal/src/region/",
    "crates/eal/src/hugepage.rs",
    "crates/mbuf/src/pool.rs",
    "crates/mbuf/src/pool/",
    "crates/mbuf/src/mbuf.rs",
    "crates/mbuf/src/mbuf/",
    "crates/ethdev/src/drivers/*/sys.rs",
    "crates/ethdev/src/drivers/af_xdp/bpf.rs",
    "crates/ethdev/src/drivers/netdev/ethtool.rs",
    "crates/model/src/coroutine.rs",
    "lab/src/sys.rs",
];

/// Macros that mark what is not finished.
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

/// Comments that should have been a sentence about why, or an issue.
const UNFINISHED_COMMENTS: &[&str] = &["FIXME", "XXX", "HACK", "copied from", "for now"];

/// A rule: its name as a sentence, and what finds those who break it.
pub(crate) type Rule = (&'static str, fn(&Repository<'_>) -> Vec<String>);

/// All rules, in the order in which they are reported.
pub(crate) const RULES: &[Rule] = &[
    (
        "dependencies point down the picture",
        dependencies_point_down,
    ),
    (
        "every crate takes the workspace's lints",
        crates_take_the_lints,
    ),
    (
        "every crate forbids unsafe, or denies it outside its doors",
        crates_shut_the_doors,
    ),
    (
        "unsafe stands only in the files of the rule",
        unsafe_stands_behind_doors,
    ),
    ("no file is past its limit", files_are_short),
    ("every source file belongs to a crate", no_file_is_dead),
    ("nothing unfinished is left", nothing_is_unfinished),
    ("every driver is in docs/drivers.md", drivers_are_documented),
    (
        "every program has its page in docs",
        programs_are_documented,
    ),
    (
        "links between documents lead somewhere",
        links_lead_somewhere,
    ),
    ("every wire parser has a fuzz target", parsers_are_fuzzed),
];

/// Everything a rule looks at, read once.
#[derive(Debug)]
pub(crate) struct Repository<'a> {
    workspace: &'a Workspace,
    /// Every Rust file, by its path from the root.
    sources: BTreeMap<PathBuf, File>,
    /// Every Markdown file, by its path from the root.
    documents: BTreeMap<PathBuf, String>,
}

#[derive(Debug)]
struct File {
    text: String,
    source: Source,
}

impl<'a> Repository<'a> {
    /// Reads all Rust and Markdown files below the root.
    ///
    /// # Errors
    ///
    /// If a file or folder cannot be read.
    pub(crate) fn read(workspace: &'a Workspace) -> Result<Self> {
        let mut repository = Self {
            workspace,
            sources: BTreeMap::new(),
            documents: BTreeMap::new(),
        };
        repository.read_folder(&workspace.root)?;
        Ok(repository)
    }

    fn read_folder(&mut self, folder: &Path) -> Result<()> {
        let cannot = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(folder).with_context(cannot)? {
            let path = entry.with_context(cannot)?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if path.is_dir() {
                if !name.starts_with('.') && path != self.workspace.target_dir && name != "target" {
                    self.read_folder(&path)?;
                }
                continue;
            }
            let relative = self.workspace.relative(&path).to_owned();
            let read = || {
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
            };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("rs") => {
                    let text = read()?;
                    let source = Source::scan(&text);
                    self.sources.insert(relative, File { text, source });
                }
                Some("md") => {
                    self.documents.insert(relative, read()?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn dependencies_point_down(repository: &Repository<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for member in &repository.workspace.members {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == member.name) else {
            complaints.push(format!(
                "{}: not in the picture; add it to ARCHITECTURE.md and to ARROWS in xtask",
                member.name
            ));
            continue;
        };
        let tests_use = member
            .tests_use
            .iter()
            .filter(|used| *used != TESTS_MAY_USE);
        for used in member.uses.iter().chain(tests_use) {
            if !allowed.contains(&used.as_str()) {
                complaints.push(format!(
                    "{} uses {used}: that arrow is not in the picture",
                    member.name
                ));
            }
        }
    }
    complaints
}

fn crates_take_the_lints(repository: &Repository<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for member in &repository.workspace.members {
        let manifest = fs::read_to_string(member.dir.join("Cargo.toml")).unwrap_or_default();
        let mut lines = manifest
            .lines()
            .map(str::trim)
            .skip_while(|line| *line != "[lints]");
        let lints = lines
            .by_ref()
            .skip(1)
            .take_while(|line| !line.starts_with('['));
        let dotted = manifest
            .lines()
            .any(|line| line.trim() == "lints.workspace = true");
        if !dotted
            && !lints
                .into_iter()
                .any(|line| line.replace(' ', "") == "workspace=true")
        {
            complaints.push(format!(
                "{}: its manifest lacks `lints.workspace = true`",
                member.name
            ));
        }
    }
    complaints
}

fn crates_shut_the_doors(repository: &Repository<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for member in &repository.workspace.members {
        let dir = repository.workspace.relative(&member.dir).to_owned();
        let has_doors = UNSAFE_DOORS
            .iter()
            .any(|door| Path::new(door).starts_with(&dir));
        let wanted = if has_doors {
            "#![deny(unsafe_code)]"
        } else {
            "#![forbid(unsafe_code)]"
        };
        let roots = member
            .roots
            .iter()
            .map(|root| repository.workspace.relative(root));
        for root in roots.filter(|root| root.starts_with(dir.join("src"))) {
            let said = repository.sources.get(root).is_some_and(|file| {
                file.source.code.contains(wanted)
                    || file.source.code.contains("#![forbid(unsafe_code)]")
            });
            if !said {
                complaints.push(format!("{}: lacks `{wanted}`", root.display()));
            }
        }
    }
    complaints
}

fn unsafe_stands_behind_doors(repository: &Repository<'_>) -> Vec<String> {
    let open = |path: &Path| UNSAFE_DOORS.iter().any(|door| is_door(door, path));
    let mut complaints = Vec::new();
    for (path, file) in &repository.sources {
        if file.source.has_word("unsafe") && !open(path) {
            complaints.push(format!("{}: `unsafe` outside of its doors", path.display()));
        }
    }
    complaints
}

fn is_door(door: &str, path: &Path) -> bool {
    let wanted: Vec<&str> = door.trim_end_matches('/').split('/').collect();
    let found: Vec<&str> = path.iter().filter_map(|name| name.to_str()).collect();
    let long_enough = if door.ends_with('/') {
        found.len() > wanted.len()
    } else {
        found.len() == wanted.len()
    };
    long_enough
        && wanted
            .iter()
            .zip(&found)
            .all(|(wanted, found)| wanted == found || *wanted == "*")
}

fn files_are_short(repository: &Repository<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, file) in &repository.sources {
        let is_test = path.file_name().is_some_and(|name| name == "tests.rs")
            || path.iter().any(|name| name == "tests");
        let lines = Source::lines_without_tests(&file.text);
        if !is_test && lines > FILE_LINES_MAX {
            complaints.push(format!(
                "{}: {lines} lines, {FILE_LINES_MAX} at most; look for the second noun in it",
                path.display()
            ));
        }
    }
    complaints
}

fn no_file_is_dead(repository: &Repository<'_>) -> Vec<String> {
    let roots: BTreeSet<PathBuf> = repository
        .workspace
        .members
        .iter()
        .flat_map(|member| &member.roots)
        .map(|root| repository.workspace.relative(root).to_owned())
        .chain(fuzz_roots(repository.workspace))
        .collect();
    let mut waiting: Vec<PathBuf> = roots.iter().cloned().collect();
    let mut alive = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        let Some(file) = repository.sources.get(&path) else {
            continue;
        };
        if alive.insert(path.clone()) {
            let modules = file.source.modules(&path, roots.contains(&path));
            waiting.extend(modules.into_iter().flatten());
        }
    }
    let dead = repository
        .sources
        .keys()
        .filter(|path| !alive.contains(*path));
    dead.map(|path| format!("{}: no `mod` leads to it", path.display()))
        .collect()
}

/// The first source file of each fuzz target, which is outside of the workspace.
fn fuzz_roots(workspace: &Workspace) -> impl Iterator<Item = PathBuf> {
    let folder = Path::new(fuzz::FOLDER).join(fuzz::TARGETS);
    let names = fuzz::targets(workspace).into_iter();
    names.map(move |name| folder.join(name).with_extension("rs"))
}

/// Where a file is a protocol.
const PARSERS: &str = "crates/netstack/src/wire";

fn parsers_are_fuzzed(repository: &Repository<'_>) -> Vec<String> {
    let targets: BTreeSet<PathBuf> = fuzz_roots(repository.workspace)
        .filter(|root| repository.sources.contains_key(root))
        .collect();
    let folder = Path::new(fuzz::FOLDER).join(fuzz::TARGETS);
    let parsers = repository.sources.keys().filter_map(|path| {
        let is_parser = path.parent() == Some(Path::new(PARSERS));
        let name = path.file_name()?;
        (is_parser && name != "mod.rs").then_some(name)
    });
    let missing = parsers.filter(|name| !targets.contains(&folder.join(name)));
    missing
        .map(|name| {
            format!(
                "{PARSERS}/{}: no fuzz target of its name in {}",
                name.display(),
                fuzz::FOLDER
            )
        })
        .collect()
}

fn nothing_is_unfinished(repository: &Repository<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, file) in &repository.sources {
        let is_code = |name: &&&str| file.source.code.contains(&format!("{name}!("));
        for name in UNFINISHED.iter().filter(is_code) {
            complaints.push(format!("{}: `{name}!`", path.display()));
        }
        for (number, line) in file.source.comments.lines().enumerate() {
            let found = UNFINISHED_COMMENTS
                .iter()
                .find(|words| line.contains(**words));
            let unnumbered = line.contains("TODO") && !line.contains("TODO(#");
            if let Some(words) = found.or(unnumbered.then_some(&"TODO without an issue's number")) {
                complaints.push(format!("{}:{}: {words}", path.display(), number + 1));
            }
        }
    }
    complaints
}

fn drivers_are_documented(repository: &Repository<'_>) -> Vec<String> {
    let table = repository.documents.get(Path::new("docs/drivers.md"));
    let table = table.map(String::as_str).unwrap_or_default();
    let drivers = Path::new("crates/ethdev/src/drivers");
    let mut names = BTreeSet::new();
    for (_, file) in repository
        .sources
        .iter()
        .filter(|(path, _)| path.starts_with(drivers))
    {
        let is_name = |text: &&String| {
            text.strip_prefix("net_").is_some_and(|kind| {
                !kind.is_empty() && kind.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            })
        };
        names.extend(file.source.strings.iter().filter(is_name));
    }
    if names.is_empty() {
        return vec![format!("{}: no driver found", drivers.display())];
    }
    let missing = names
        .into_iter()
        .filter(|name| !table.contains(&format!("`{name}`")));
    missing
        .map(|name| format!("docs/drivers.md: no row for `{name}`"))
        .collect()
}

fn programs_are_documented(repository: &Repository<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (member, program) in [
        ("forebay-tools", "forebay"),
        ("mp_server", "mp_server"),
        ("mp_client", "mp_client"),
        ("udp_echo", "udp_echo"),
    ] {
        let page = PathBuf::from(format!("docs/{program}.md"));
        let is_member = repository.workspace.member(member).is_some();
        if is_member && !repository.documents.contains_key(&page) {
            complaints.push(format!("{}: missing", page.display()));
        }
    }
    complaints
}

fn links_lead_somewhere(repository: &Repository<'_>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in &repository.documents {
        let folder = path.parent().unwrap_or(Path::new(""));
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.is_empty() || file.contains("://") || file.contains(' ');
            if !elsewhere && !repository.workspace.root.join(folder).join(file).exists() {
                complaints.push(format!("{}: {target} does not exist", path.display()));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn door_opens_for_its_file_alone() {
        let door = "crates/ethdev/src/drivers/*/sys.rs";
        assert!(is_door(
            door,
            Path::new("crates/ethdev/src/drivers/tap/sys.rs")
        ));
        assert!(!is_door(
            door,
            Path::new("crates/ethdev/src/drivers/tap/mod.rs")
        ));
        assert!(!is_door(
            door,
            Path::new("crates/ethdev/src/drivers/a/b/sys.rs")
        ));
        assert!(is_door(
            "crates/eal/src/sys/",
            Path::new("crates/eal/src/sys/mmap.rs")
        ));
        assert!(!is_door(
            "crates/eal/src/sys/",
            Path::new("crates/eal/src/sys")
        ));
    }

    fn with_files(workspace: &Workspace, files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let mut repository = Repository {
            workspace,
            sources: BTreeMap::new(),
            documents: BTreeMap::new(),
        };
        for (path, text) in files {
            let source = Source::scan(text);
            repository.sources.insert(
                path.into(),
                File {
                    text: (*text).to_owned(),
                    source,
                },
            );
        }
        RULES.iter().map(|(_, rule)| rule(&repository)).collect()
    }

    fn empty() -> Workspace {
        Workspace {
            root: "/nowhere".into(),
            target_dir: "target".into(),
            members: Vec::new(),
        }
    }

    #[test]
    fn each_rule_finds_who_breaks_it() {
        let long = "fn a() {}\n".repeat(FILE_LINES_MAX + 1);
        let found = with_files(
            &empty(),
            &[
                ("crates/ring/src/spsc.rs", "unsafe { x() }"),
                ("crates/ring/src/long.rs", &long),
                (
                    "crates/ring/src/open.rs",
                    "fn a() { todo!() } // FIXME\n// TODO later",
                ),
                (
                    "crates/ethdev/src/drivers/null.rs",
                    "const N: &str = \"net_null\";",
                ),
            ],
        );
        assert_eq!(
            found[3],
            ["crates/ring/src/spsc.rs: `unsafe` outside of its doors"]
        );
        assert_eq!(found[4].len(), 1);
        assert_eq!(found[5].len(), 4);
        assert_eq!(found[6].len(), 3);
        assert_eq!(found[7], ["docs/drivers.md: no row for `net_null`"]);
    }

    #[test]
    fn parser_without_a_fuzz_target_is_found() {
        let parsers = [
            ("crates/netstack/src/wire/mod.rs", ""),
            ("crates/netstack/src/wire/udp.rs", ""),
            ("crates/netstack/src/wire/udp/tests.rs", ""),
        ];
        let found = with_files(&empty(), &parsers);
        let complaint = "crates/netstack/src/wire/udp.rs: no fuzz target of its name in fuzz";
        assert_eq!(found.last().unwrap(), &[complaint]);
    }

    #[test]
    fn arrow_upwards_is_refused() {
        let mut workspace = empty();
        workspace.members.push(crate::workspace::Member {
            name: "forebay-ring".into(),
            dir: "/nowhere/crates/ring".into(),
            uses: vec!["forebay-eal".into(), "forebay-mbuf".into()],
            tests_use: vec!["forebay-lab".into(), "forebay-ethdev".into()],
            roots: Vec::new(),
        });
        let found = with_files(&workspace, &[]);
        let complaint =
            |used| format!("forebay-ring uses {used}: that arrow is not in the picture");
        assert_eq!(
            found[0],
            [complaint("forebay-mbuf"), complaint("forebay-ethdev")]
        );
        assert_eq!(found[1].len(), 1);
    }
}
