//! The tree keeps its shape: which crates may use which, how long files get, where unsafe code lives, and that the
//! documents for newcomers name what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The arrows between crates, dev-dependencies included. Crates at the top may use everything, as long as no cycle
/// results; whoever needs a new arrow changes the design first.
const ARROWS: &[(&str, &[&str])] = &[
    ("ebpf-abi", &[]),
    ("handover", &["ebpf-abi"]),
    ("loader", &["handover", "ebpf-abi"]),
    ("sphinx", &[]),
    ("link", &[]),
    ("port", &["handover", "ebpf-abi"]),
    ("program", &[]),
    (
        "mixnode",
        &["port", "link", "sphinx", "directory", "handover", "program"],
    ),
    ("models", &[]),
    // The authority in tests alone, which make documents of their own.
    (
        "fog",
        &["link", "sphinx", "directory", "authority", "program"],
    ),
    ("directory", &["sphinx"]),
    ("authority", &["directory"]),
    (
        "control",
        &["loader", "authority", "directory", "handover", "program"],
    ),
];
const TOP: &[&str] = &["operator", "simulation", "bench"];

/// Where unsafe code may be, by how the path starts.
const ROOMS: &[&str] = &[
    // Memory shared with the kernel, and frames.
    "mixnode/port/",
    // SIMD, and the wiping of what it leaves in registers and on the stack.
    "mixnode/sphinx/src/lanes/",
    "mixnode/sphinx/src/hctr2/",
    // The program in the kernel, plain data in its maps, the loader's system calls.
    "ebpf/programs/",
    "ebpf/abi/src/maps.rs",
    "ebpf/loader/src/sockets.rs",
    // Clocks and scheduling of threads that measure.
    "bench/src/clock.rs",
    // In tests: allocators that count, the model checker's ring, bare sockets, what a confined process must not do.
    "mixnode/client/tests/allocations.rs",
    "mixnode/link/tests/allocations.rs",
    "mixnode/sphinx/tests/allocation.rs",
    "mixnode/node/loom/tests/rings.rs",
    "mixnode/node/tests/sandbox",
    "ebpf/abi/tests/kernel.rs",
    "control/operator/tests/loader/",
    "control/operator/tests/xsk/",
];

const LINES_MAX: usize = 500;

/// The pages that define every format, and the code that speaks them. (`nym` is somebody else's format.)
const SPECIFICATIONS: &[&str] = &[
    "mixnode/sphinx/SPEC.md",
    "mixnode/link/SPEC.md",
    "mixnode/client/SPEC.md",
    "control/directory/SPEC.md",
];
const SPECIFIED: &[&str] = &[
    "mixnode/sphinx/src/",
    "mixnode/link/src/",
    "mixnode/client/src/",
    "control/directory/src/",
    "control/authority/src/",
];
/// How magics, contexts of keys and signatures, and names of protocols begin.
const CONTEXTS: &[&str] = &["FX", "fogmix ", "Noise_"];

/// Documents whose paths must exist.
const DOCUMENTS: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Files and folders of the checkout, relative to it; not what is built, nor the fuzzers' inputs.
fn tree() -> BTreeSet<String> {
    fn walk(folder: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if matches!(name.as_str(), ".git" | "target") {
                continue;
            }
            let path = format!("{prefix}{name}");
            if entry.file_type().unwrap().is_dir() && name != "corpus" {
                walk(&entry.path(), &format!("{path}/"), found);
            }
            found.insert(path);
        }
    }
    let mut found = BTreeSet::new();
    walk(&root(), "", &mut found);
    found
}

/// Rust files and scripts with their text.
fn sources() -> Vec<(String, String)> {
    tree()
        .into_iter()
        .filter_map(|path| {
            let text = std::fs::read_to_string(root().join(&path)).ok()?;
            let source =
                path.ends_with(".rs") || path.starts_with(".ci/") || text.starts_with("#!");
            source.then_some((path, text))
        })
        .collect()
}

/// The members of the workspace, and which other members each depends on in any way.
fn arrows() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--no-deps", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let members = dependencies
                .iter()
                .filter(|dependency| dependency["path"].is_string())
                .map(|dependency| text(&dependency["name"]))
                .collect();
            (text(&package["name"]), members)
        })
        .collect()
}

#[test]
fn crates_use_only_those_below_them() {
    let arrows = arrows();
    assert!(arrows.len() > TOP.len());
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut forbidden = Vec::new();
    for (from, uses) in arrows
        .iter()
        .filter(|(from, _)| !TOP.contains(&from.as_str()))
    {
        match allowed.get(from.as_str()) {
            None => forbidden.push(format!("{from} is not in the list")),
            Some(allowed) => forbidden.extend(
                uses.iter()
                    .filter(|to| !allowed.contains(&to.as_str()))
                    .map(|to| format!("{from} -> {to}")),
            ),
        }
    }
    assert!(forbidden.is_empty(), "forbidden arrows: {forbidden:?}");
}

#[test]
fn crates_do_not_use_each_other_in_a_circle() {
    let mut left = arrows();
    loop {
        // Whoever uses nobody that is left can't be part of a circle.
        let names: BTreeSet<String> = left.keys().cloned().collect();
        left.retain(|_, uses| !uses.is_disjoint(&names));
        if left.len() == names.len() {
            break;
        }
    }
    assert!(left.is_empty(), "in or above a circle: {left:?}");
}

#[test]
fn no_source_file_is_longer_than_fits_a_mind() {
    let sources = sources();
    assert!(sources.len() > 100, "the sources were found");
    let long: Vec<_> = sources
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
}

/// Whether a line opens an unsafe block, function, implementation or list of foreign functions.
fn is_unsafe(line: &str) -> bool {
    line.match_indices("unsafe").any(|(at, word)| {
        let rest = line[at + word.len()..].trim_start_matches(' ');
        ["{", "fn", "impl", "extern"]
            .iter()
            .any(|opening| rest.starts_with(opening))
    })
}

#[test]
fn unsafe_code_is_in_its_rooms_alone() {
    let sources = sources();
    let mut elsewhere = Vec::new();
    for (path, text) in &sources {
        if path.ends_with(".rs") && !ROOMS.iter().any(|room| path.starts_with(room)) {
            let lines = text.lines().zip(1..).filter(|(line, _)| is_unsafe(line));
            elsewhere.extend(lines.map(|(_, number)| format!("{path}:{number}")));
        }
    }
    assert!(elsewhere.is_empty(), "unsafe code outside: {elsewhere:#?}");
    for room in ROOMS {
        let held = sources
            .iter()
            .any(|(path, text)| path.starts_with(room) && text.lines().any(is_unsafe));
        assert!(held, "{room} holds no unsafe code: take it off the list");
    }
}

#[test]
fn every_magic_and_context_string_in_the_code_is_on_a_page() {
    let page = |path: &&str| std::fs::read_to_string(root().join(path)).unwrap();
    let pages: String = SPECIFICATIONS.iter().map(page).collect();
    let mut found = BTreeSet::new();
    for (path, text) in &sources() {
        if SPECIFIED.iter().any(|folder| path.starts_with(folder)) {
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            for begins in CONTEXTS {
                let opening = format!("\"{begins}");
                let literals = code.split(&opening).skip(1);
                // Padding of contexts is written as escapes.
                let literals = literals.filter_map(|rest| rest.split(['"', '\\']).next());
                found.extend(literals.map(|rest| format!("{begins}{rest}")));
            }
        }
    }
    assert!(found.len() > 25, "they were found: {found:?}");
    let absent: Vec<_> = found.iter().filter(|one| !pages.contains(*one)).collect();
    assert!(absent.is_empty(), "on no page: {absent:?}");
}

/// What a document names in backticks or as a link's target and can only be a path of this tree: it has a slash or the
/// ending of a file, and no other character that paths here don't have.
fn named_paths(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let linked = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    quoted
        .chain(linked)
        .flat_map(str::split_whitespace)
        .filter(|word| !word.starts_with(['/', '-', '~', '.']) || word.starts_with(".ci"))
        .filter(|word| {
            word.chars()
                .all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
        })
        .filter(|word| {
            word.contains('/')
                || [".rs", ".toml", ".md", ".o", ".json"]
                    .iter()
                    .any(|ending| word.ends_with(ending))
        })
        .map(|word| word.trim_end_matches('/').to_owned())
        .collect()
}

#[test]
fn the_documents_for_newcomers_name_what_is_there() {
    let tree = tree();
    let exists = |path: &str| {
        tree.contains(path)
            || tree
                .iter()
                .any(|known| known.ends_with(&format!("/{path}")))
    };
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let named = named_paths(&text);
        assert!(named.len() >= 5, "{document} names hardly a path");
        let absent: Vec<_> = named.iter().filter(|path| !exists(path)).collect();
        assert!(
            absent.is_empty(),
            "{document} names what is not there: {absent:?}"
        );
    }
}
