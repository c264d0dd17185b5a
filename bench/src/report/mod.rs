//! `mixbench report`: runs the standard set, and draws one page of what it stored.

mod figures;
mod page;
mod readme;
mod set;
mod stored;

use std::io;
use std::path::{Path, PathBuf};

use figures::{
    anonymity, cheapest, flood, hop, lockstep, network, paced, peers, port_name, scaling,
};
use page::{Card, Page, Section, Table};
use stored::Stored;

use crate::envelope::Results;
use crate::lockstep::breakdown::PortRow;
use crate::rows::thousands;

/// What `mixbench report` is told.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("folder").required(true).args(["out", "from"])))]
pub struct Arguments {
    /// Measure the standard set, store it in this folder, and draw it.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Draw what is stored in this folder.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// With --out: only these parts of the set.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "PARTS",
        conflicts_with = "from"
    )]
    only: Vec<String>,
    /// Also this result, which is copied into the folder.
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// With --out: short runs, for a smoke test.
    #[arg(long, conflicts_with = "from", requires = "allow_quick")]
    quick: bool,
    /// Draw results of short runs too.
    #[arg(long)]
    allow_quick: bool,
    /// Print the figures of the README, and draw nothing.
    #[arg(long, conflicts_with = "out")]
    readme: bool,
}

/// The page's file.
const PAGE: &str = "index.html";

/// Measures if it is asked to, and writes the page.
///
/// # Errors
/// The folder can't be read or written, or what is in it is no result that may be drawn.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    let Some(folder) = arguments.out.as_ref().or(arguments.from.as_ref()) else {
        return Err(io::Error::other("--out DIR or --from DIR is needed"));
    };
    if arguments.out.is_some() {
        set::run(&set::chosen(&arguments.only)?, folder, arguments.quick)?;
    }
    for file in &arguments.with {
        let name = file.file_name();
        let name =
            name.ok_or_else(|| io::Error::other(format!("{}: not a file", file.display())))?;
        let place = folder.join(name);
        if !place.exists() || std::fs::canonicalize(&place)? != std::fs::canonicalize(file)? {
            std::fs::copy(file, place)?;
        }
    }
    if arguments.readme {
        return program::print(readme::block(&Stored::read(folder)?).trim_end());
    }
    let written = write_page(folder, arguments.allow_quick)?;
    program::print(&written.display().to_string())
}

fn write_page(folder: &Path, allow_quick: bool) -> io::Result<PathBuf> {
    let stored = Stored::read(folder)?;
    stored.may_be_drawn(folder, allow_quick)?;
    let html = page(&stored).html();
    let place = folder.join(PAGE);
    std::fs::write(&place, html)?;
    Ok(place)
}

/// The same results make the same page.
fn page(stored: &Stored) -> Page {
    let sections = [
        hop::section(stored),
        peers::section(stored),
        paced::section(stored),
        flood::section(stored),
        network::section(stored),
        scaling::section(stored),
        anonymity::section(stored),
        Some(gaps(stored)),
        Some(again(stored)),
    ];
    Page {
        facts: facts(stored),
        warnings: warnings(stored),
        cards: cards(stored),
        sections: sections.into_iter().flatten().collect(),
    }
}

/// Values that differ between the results, each once.
fn distinct(values: impl Iterator<Item = String>) -> String {
    let mut seen: Vec<String> = Vec::new();
    for value in values {
        if !seen.contains(&value) {
            seen.push(value);
        }
    }
    seen.join("; ")
}

fn facts(stored: &Stored) -> Vec<(String, String)> {
    let all = || stored.all.iter().map(|one| &one.envelope);
    let machines = || all().map(|envelope| &envelope.machine);
    let first = all().map(|envelope| envelope.started.as_str()).min();
    let last = all().map(|envelope| envelope.started.as_str()).max();
    let load = |load: Option<f64>| load.map_or("?".to_owned(), |load| format!("{load:.1}"));
    let facts = [
        (
            "Measured",
            format!("{} to {}", first.unwrap_or("?"), last.unwrap_or("?")),
        ),
        (
            "Commit",
            distinct(all().map(|one| format!("{} (version {})", one.commit, one.version))),
        ),
        (
            "Machine",
            distinct(machines().map(|one| {
                let memory = one.memory_bytes.map_or(String::new(), |bytes| {
                    format!(", {:.0} GiB", bytes as f64 / 1_073_741_824.0)
                });
                let kind = if one.is_virtual { ", virtual" } else { "" };
                format!("{}, {} cores{memory}{kind}", one.cpu, one.cores)
            })),
        ),
        (
            "Kernel",
            distinct(machines().map(|one| format!("Linux {}", one.kernel))),
        ),
        ("Lanes", distinct(machines().map(|one| one.lanes.clone()))),
        (
            "Governor",
            distinct(machines().map(|one| one.governor.clone().unwrap_or("not told".into()))),
        ),
        (
            "Load before and after",
            stored
                .all
                .iter()
                .map(|one| {
                    let machine = &one.envelope.machine;
                    let (before, after) = (load(machine.load_before), load(machine.load_after));
                    format!("{} {before}, {after}", one.file.trim_end_matches(".json"))
                })
                .collect::<Vec<_>>()
                .join("; "),
        ),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).into()
}

/// What makes the figures doubtful or wrong, each with the results that it is of.
fn warnings(stored: &Stored) -> Vec<String> {
    let mut warnings: Vec<(String, Vec<&str>)> = Vec::new();
    for one in &stored.all {
        let envelope = &one.envelope;
        let mut said = Vec::new();
        if envelope.quick {
            said.push("a short run (--quick): its figures are for no report".to_owned());
        }
        if envelope.commit.ends_with("-dirty") {
            said.push("built of a changed checkout, which no commit names".to_owned());
        }
        said.extend(
            envelope
                .failures
                .iter()
                .map(|failure| format!("WRONG: {failure}")),
        );
        said.extend(envelope.warnings.iter().cloned());
        let name = one.file.trim_end_matches(".json");
        for text in said {
            match warnings.iter_mut().find(|(known, _)| *known == text) {
                Some((_, names)) => names.push(name),
                None => warnings.push((text, vec![name])),
            }
        }
    }
    let line = |(text, names): (String, Vec<&str>)| format!("{}: {text}", names.join(", "));
    warnings.into_iter().map(line).collect()
}

/// "114,200", or "about 100,000" where the interval reaches below what the median reaches.
fn a_core(row: &PortRow) -> String {
    let [low, _] = row.kpps_per_core_95;
    match row.kpps_per_core >= 100.0 && low < 100.0 {
        true => "about 100,000/s".to_owned(),
        false => format!("{}/s", thousands(row.kpps_per_core * 1_000.0)),
    }
}

/// The figures of capacity, which are not the same, together.
fn cards(stored: &Stored) -> Vec<Card> {
    let best = lockstep(stored).and_then(|(_, lockstep)| cheapest(lockstep));
    let paced = paced::find(stored);
    let port = paced.and_then(|(_, paced)| {
        let same = |port: &&crate::node::points::PacedPort| {
            best.is_some_and(|best| best.port == port.port)
        };
        paced.ports.iter().find(same).or(paced.ports.first())
    });
    let shared = paced.is_some_and(|(one, _)| one.envelope.machine.cores < 3);
    let nic = stored
        .all
        .iter()
        .find_map(|one| one.envelope.machine.nic.clone());
    vec![
        Card {
            asks: "A. What could one core forward at best?".into(),
            says: best.map(a_core),
            more: best.map_or(String::new(), |best| {
                let [low, high] = best.kpps_per_core_95;
                format!(
                    "10⁹ over the CPU ns of a packet, in lockstep on {} over veth, which copies each packet; 95 %: {} to {}",
                    port_name(&best.port),
                    thousands(low * 1_000.0),
                    thousands(high * 1_000.0)
                )
            }),
        },
        Card {
            asks: "B. What does one core sustain?".into(),
            says: port.map(|port| format!("{}/s", thousands(port.sustained_pps))),
            more: port.map_or(String::new(), |port| {
                let cores = if shared { "; shared cores" } else { "" };
                format!(
                    "open loop, 0.1 % lost at most, on {}; the load has a core of its own{cores}",
                    port_name(&port.port)
                )
            }),
        },
        Card {
            asks: "C. And on a network card?".into(),
            says: None,
            more: nic.unwrap_or("no card with a driver for it was at hand".into()),
        },
        Card {
            asks: "25,000 a second on one core".into(),
            says: port.map(|port| if port.sustained_25k { "passed" } else { "not passed" }.to_owned()),
            more: port.map_or(String::new(), |port| {
                format!(
                    "{} lost, p99 added {} µs (at most 1,000), the core busy {:.0} % of the time",
                    thousands(port.at_25k.lost as f64),
                    thousands(port.at_25k.added.p99_us as f64),
                    port.at_25k.busy_ratio * 100.0
                )
            }),
        },
    ]
}

/// Whether results are of a kind.
type Told = fn(&Results) -> bool;

/// What a folder should have, and by what it is told.
const WANTED: [(&str, Told); 9] = [
    ("crypto", |results| matches!(results, Results::Crypto(_))),
    ("ports", |results| matches!(results, Results::Ports(_))),
    (
        "node",
        |results| matches!(results, Results::Node(node) if node.lockstep.is_some()),
    ),
    (
        "node --mode paced",
        |results| matches!(results, Results::Node(node) if node.paced.is_some()),
    ),
    ("peers", |results| matches!(results, Results::Peers(_))),
    ("flood", |results| matches!(results, Results::Flood(_))),
    (
        "anonymity",
        |results| matches!(results, Results::Anonymity(report) if report.part.is_none()),
    ),
    ("network", |results| matches!(results, Results::Network(_))),
    ("network --scaling", |results| {
        matches!(results, Results::Scaling(_))
    }),
];

/// What is not measured, whoever runs this.
const NEVER: [(&str, &str); 2] = [
    (
        "a network card",
        "none whose driver knows AF_XDP was at hand: figures are over veth",
    ),
    (
        "more than one worker in real time",
        "it takes more cores than the load and the node leave free here",
    ),
];

fn gaps(stored: &Stored) -> Section {
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut add = |what: &str, why: &str| {
        let row = vec![what.to_owned(), why.to_owned()];
        if !rows.contains(&row) {
            rows.push(row);
        }
    };
    for (command, is_it) in WANTED {
        if !stored.all.iter().any(|one| is_it(one.results())) {
            add(
                &format!("mixbench {command}"),
                "no result of it is in this folder",
            );
        }
    }
    for gap in &stored.gaps {
        add(&gap.what, &gap.why);
    }
    for one in &stored.all {
        for gap in &one.envelope.skipped {
            add(
                &format!("{}: {}", one.file.trim_end_matches(".json"), gap.what),
                &gap.why,
            );
        }
    }
    if stored.outfox.is_none() {
        add(
            "a hop of nym-outfox",
            "it has a workspace of its own: cargo run --release --manifest-path bench/outfox/Cargo.toml > outfox.json, then --with outfox.json",
        );
    }
    for (what, why) in NEVER {
        add(what, why);
    }
    Section {
        title: "Not measured, and why",
        text: Vec::new(),
        figures: Vec::new(),
        table: Some(Table::new(&["what", "why"], rows)),
    }
}

fn again(stored: &Stored) -> Section {
    let rows = stored.all.iter().map(|one| {
        vec![
            one.command(),
            one.file.clone(),
            one.envelope.started.clone(),
            format!("{:.0}", one.envelope.seconds),
        ]
    });
    Section {
        title: "Every command to repeat it",
        text: vec![
            "As root, on a machine that does nothing else: mixbench report --out DIR. It runs these, one process each; \
             mixbench report --from DIR draws this page from their output again."
                .to_owned(),
        ],
        figures: Vec::new(),
        table: Some(Table::new(&["command", "output", "started", "seconds"], rows.collect())),
    }
}

#[cfg(test)]
mod tests;
