//! The mutants, and which scenario catches each.
//!
//! Sites are named by their function and their line of source, not by numbers that move.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::explore::{Explorer, Scenario};
use crate::mutant::{Mutant, Place, Site};
use crate::script::ORDERS;
use crate::state::Masks;

/// How often a scenario may run to find a mutant: first little in all of them, then much.
const RUNS_MAX: [u64; 2] = [1500, 30_000];
const TIME_MAX: Duration = Duration::from_secs(20);

/// Stores at other sites that a late one comes after.
const DELAYS: [u8; 7] = [1, 2, 3, 4, 8, 16, 200];

/// What the code itself can do wrong by name, and what that is.
pub(crate) const MISTAKES: &[&str] = &[
    "a successor takes what was half taken",
    "a joiner takes a slot that is merely unlocked",
    "an item is taken without a claim",
    "claims are not listed",
    "claims are not passed over",
    "no second look",
    "nobody helps",
    "one dead slot after the other",
    "passing over in vain counts",
    "the note does not follow chains",
    "the sweep leaves claims",
    "the scan takes what the living hold",
    eal::sleep::NO_SECOND_LOOK,
    eal::sleep::EATEN_RING,
    "a producer takes back that the consumer sleeps",
];

/// A mutant that nobody need catch, and why.
struct Harmless {
    /// Dropped, late or both.
    kinds: &'static [Kind],
    /// End of the file's name.
    file: &'static str,
    /// The function.
    function: &'static str,
    /// A part of the line.
    line: &'static str,
    why: &'static str,
}

/// What is done to a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Dropped,
    Late,
}

use Kind::{Dropped, Late};

/// Known to be harmless. Each line is one that the model would otherwise ask for.
const HARMLESS: &[Harmless] = &[
    Harmless {
        kinds: &[Late],
        file: "eal/doorbell.rs",
        function: "ring_doorbell",
        line: "store",
        why: "who dies before it leaves the ring to the sweep, and the sweep does not end before it",
    },
    Harmless {
        kinds: &[Late],
        file: "eal/process.rs",
        function: "end_sweep",
        line: "state_word(FREE",
        why: "the last step of a sweep: the slot is free later",
    },
    Harmless {
        kinds: &[Late],
        file: "eal/process.rs",
        function: "give_back",
        line: "compare_exchange",
        why: "the last step of a process: its slot is free later",
    },
    Harmless {
        kinds: &[Late],
        file: "eal/process.rs",
        function: "start_sweep",
        line: "compare_exchange",
        why: "a LIVE slot whose byte nobody holds is as dead to all others as one that is SWEEPING",
    },
    Harmless {
        kinds: &[Dropped, Late],
        file: "eal/region/table.rs",
        function: "announce",
        line: "self.node.store",
        why: "the node is shown, and nothing goes by it",
    },
    Harmless {
        kinds: &[Late],
        file: "eal/region/table.rs",
        function: "announce",
        line: "self.state.store",
        why: "the last step: others find the zone later",
    },
    Harmless {
        kinds: &[Late],
        file: "ring/ring.rs",
        function: "forget_dead_consumers",
        line: "compare_exchange",
        why: "an end of the dead is anybody's who has the slot, the next sweep forgets it again, and producers to it only fill the ring",
    },
    Harmless {
        kinds: &[Late],
        file: "mbuf/chain.rs",
        function: "append_segment",
        line: "last.tag.set_linked",
        why: "its holder alone goes by it before the mbuf is sent, and a sweep goes by whose the tag is",
    },
    Harmless {
        kinds: &[Late],
        file: "mbuf/clone.rs",
        function: "clone_ref",
        line: "set_",
        why: "clones stay in their slot, and a sweep goes by tags alone",
    },
    Harmless {
        kinds: &[Dropped, Late],
        file: "mbuf/clone.rs",
        function: "copy_facts",
        line: "set_flags",
        why: "facts of the packet; no step goes by them",
    },
    Harmless {
        kinds: &[Dropped, Late],
        file: "mbuf/handoff.rs",
        function: "unmark",
        line: "set_in_ring",
        why: "a mark that stays is a defence less against misuse, and no step goes by it",
    },
    Harmless {
        kinds: &[Late],
        file: "mbuf/lcore.rs",
        function: "free_user",
        line: "set_refs",
        why: "clones stay in their slot, and a sweep goes by tags alone",
    },
    Harmless {
        kinds: &[Late],
        file: "mbuf/frames.rs",
        function: "hand_over",
        line: "given.producer.store",
        why: "the last step: until then the intent tells the sweep",
    },
    Harmless {
        kinds: &[Dropped, Late],
        file: "mbuf/magazine.rs",
        function: "claim_one",
        line: "set_hint",
        why: "a hint that stays set costs the next seeker a look, and its owner sets it anew before it lets go",
    },
    Harmless {
        kinds: &[Dropped, Late],
        file: "mbuf/magazine.rs",
        function: "stock",
        line: "self.release",
        why: "a fresh zone is zero, which is nobody",
    },
    Harmless {
        kinds: &[Late],
        file: "ring/claim.rs",
        function: "drop",
        line: "compare_exchange",
        why: "the last step: the end is free later",
    },
    Harmless {
        kinds: &[Late],
        file: "ring/layout.rs",
        function: "announce",
        line: "WORD_LAYOUT",
        why: "the last step: others find the ring later",
    },
    Harmless {
        kinds: &[Late],
        file: "mbuf/pool.rs",
        function: "announce",
        line: "self.layout.store",
        why: "the last step: others find the pool later",
    },
    Harmless {
        kinds: &[Dropped, Late],
        file: "mbuf/pool.rs",
        function: "fill",
        line: "set_pool",
        why: "a fresh zone is zero, which is POOL",
    },
    Harmless {
        kinds: &[Late],
        file: "mbuf/meta.rs",
        function: "settle",
        line: "refs.store",
        why: "who sends a chain reads it before he publishes, so it cannot come later",
    },
    Harmless {
        kinds: &[Late],
        file: "mbuf/meta.rs",
        function: "settle",
        line: "set_links",
        why: "who sends a chain reads it before he publishes, so it cannot come later",
    },
    Harmless {
        kinds: &[Dropped, Late],
        file: "mbuf/meta.rs",
        function: "settle",
        line: "set_flags(0)",
        why: "a mark that stays is a defence less against misuse, and no step goes by it",
    },
    Harmless {
        kinds: &[Late],
        file: "mbuf/frames.rs",
        function: "take",
        line: "store(consumer.wrapping_add(wanted)",
        why: "whoever comes after one who died before it passes over what is not tagged as the queue's",
    },
    Harmless {
        kinds: &[Late],
        file: "mbuf/frames.rs",
        function: "reap",
        line: "compare_exchange(ours, none",
        why: "the last step: until then the queue is the reaper's",
    },
    Harmless {
        kinds: &[Dropped, Late],
        file: "mbuf/sweep.rs",
        function: "scan",
        line: "set_from",
        why: "whoever dies over it, the dead one's tag and the sweeper's tell the next sweep the same; the swap is there to see that nobody else wrote",
    },
];

/// Orders that do no harm, and why.
const COMMUTE: &[(&str, &str)] = &[
    (
        "one dead slot after the other",
        "the note covers all rings, so what a dead sweeper had tagged in a lane is left to the lanes, whoever is swept first",
    ),
    (
        "lanes after the scan",
        "the note covers all rings, also those that nobody consumes, so the scan leaves what lies there to the lanes",
    ),
];

/// A site in words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    file: String,
    function: String,
    line: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.file, self.function, self.line)
    }
}

/// The sources, read as they are needed.
#[derive(Default)]
struct Sources(BTreeMap<&'static str, Vec<String>>);

impl Sources {
    fn name(&mut self, place: &Place) -> Name {
        let lines = self.0.entry(place.file).or_insert_with(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
            let text = fs::read_to_string(root.join(place.file)).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        });
        let at = (place.line as usize).saturating_sub(1);
        let line = lines.get(at).map_or("", |line| line.trim()).to_owned();
        let function = lines.iter().take(at + 1).rev().find_map(|line| {
            let (before, after) = line.split_once("fn ")?;
            let is_function = before
                .trim()
                .split(' ')
                .all(|word| word.is_empty() || word.starts_with("pub") || word == "const");
            is_function.then(|| after.split(['(', '<']).next().unwrap_or("").to_owned())
        });
        Name {
            file: place
                .file
                .trim_start_matches("crates/")
                .replace("/src/", "/"),
            function: function.unwrap_or_default(),
            line,
        }
    }
}

/// A scenario, and what its exploration told.
pub(crate) struct Known {
    pub(crate) scenario: Scenario,
    pub(crate) runs: u64,
    pub(crate) reached: Vec<Site>,
    pub(crate) shared: Masks,
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) what: &'static str,
    /// The scenario and what it said; or why it need not be caught.
    pub(crate) verdict: Verdict,
}

/// What became of a mutant.
pub(crate) enum Verdict {
    /// By a scenario, which said this.
    Caught(&'static str, String),
    /// For this reason.
    Harmless(&'static str),
    /// By nobody.
    Uncaught,
}

/// Runs all mutants.
pub(crate) fn run(explorer: &mut Explorer, known: &mut [Known], only: Option<&str>) -> Vec<Row> {
    // Those that are quick to explore first.
    known.sort_by_key(|known| known.runs);
    let mut sources = Sources::default();
    let mut sites: Vec<(Name, Site)> = Vec::new();
    {
        let state = explorer.machine.state.borrow();
        for number in 0..state.sites.len() {
            let site = Site(number);
            if let Some(place) = state.sites.place(site)
                && place.file.starts_with("crates/")
                && !place.file.starts_with("crates/model")
            {
                sites.push((sources.name(place), site));
            }
        }
    }
    sites.sort();
    let mut rows = Vec::new();
    for (name, site) in sites {
        for kind in [Dropped, Late] {
            let text = name.to_string();
            if only.is_some_and(|only| !text.contains(only)) {
                continue;
            }
            let (mutants, what): (Vec<Mutant>, _) = match kind {
                Dropped => (vec![Mutant::Dropped(site)], "left out"),
                Late => {
                    let late = DELAYS.iter().map(|delay| Mutant::Late(site, *delay));
                    (late.collect(), "late")
                }
            };
            let verdict = match harmless(&name, kind) {
                Some(why) => Verdict::Harmless(why),
                None => hunt(explorer, known, &mutants, |known| {
                    known.reached.contains(&site)
                }),
            };
            rows.push(report(Row {
                name: text,
                what,
                verdict,
            }));
        }
    }
    let orders = ORDERS.iter().map(|(name, _)| *name);
    for mistake in orders.chain(MISTAKES.iter().copied()) {
        if only.is_some_and(|only| !mistake.contains(only)) {
            continue;
        }
        let commutes = COMMUTE.iter().find(|(name, _)| *name == mistake);
        let verdict = match commutes {
            Some((_, why)) => Verdict::Harmless(why),
            None => hunt(explorer, known, &[Mutant::Mistake(mistake)], |_| true),
        };
        rows.push(report(Row {
            name: mistake.to_owned(),
            what: "",
            verdict,
        }));
    }
    rows
}

fn report(row: Row) -> Row {
    let verdict = match &row.verdict {
        Verdict::Caught(scenario, why) => format!("caught by \"{scenario}\": {why}"),
        Verdict::Harmless(why) => format!("harmless: {why}"),
        Verdict::Uncaught => "UNCAUGHT".to_owned(),
    };
    println!("{} {}: {verdict}", row.name, row.what);
    row
}

fn harmless(name: &Name, kind: Kind) -> Option<&'static str> {
    let entry = HARMLESS.iter().find(|entry| {
        entry.kinds.contains(&kind)
            && name.file.ends_with(entry.file)
            && name.function == entry.function
            && name.line.contains(entry.line)
    });
    entry.map(|entry| entry.why)
}

/// Lets the scenarios look for any of the mutants, which are one mistake.
fn hunt(
    explorer: &mut Explorer,
    known: &[Known],
    mutants: &[Mutant],
    concerns: impl Fn(&Known) -> bool,
) -> Verdict {
    for runs_max in RUNS_MAX {
        for mutant in mutants {
            for known in known.iter().filter(|known| concerns(known)) {
                explorer.prepare(&known.scenario);
                explorer.set_shared(known.shared.clone());
                let bounds = (runs_max, TIME_MAX);
                let outcome = explorer.explore(&known.scenario, Some(*mutant), bounds);
                if let Some((why, _)) = outcome.failure {
                    return Verdict::Caught(known.scenario.name, why);
                }
            }
        }
    }
    Verdict::Uncaught
}
