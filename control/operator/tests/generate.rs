//! Man pages and completions are of all commands that there are, and of nothing that help hides.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

mod programs;
mod running;
use running::{mixctl, stderr, stdout};

/// What the help of a program, asked by `ask`, and of its commands names as commands: each with what it is a command of.
fn commands(ask: &dyn Fn() -> Command, path: &[&str], found: &mut BTreeSet<String>) {
    let output = ask().args(path).arg("--help").output().unwrap();
    let help = stdout(&output);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| line.starts_with(' '));
    // A command's own words begin in the third column, what is wrapped further right.
    let names = listed.filter_map(|line| {
        line.strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '))
    });
    for name in names.filter_map(|line| line.split_whitespace().next()) {
        if name != "help" {
            let path = [path, &[name]].concat();
            found.insert(path.join("-"));
            commands(ask, &path, found);
        }
    }
}

fn files(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn generate(what: &str, folder: &Path) {
    let mut command = mixctl();
    let output = command
        .arg("generate")
        .arg(what)
        .arg(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// What bash makes of words, the last of them unfinished, by the completions in a folder.
fn completed(folder: &Path, words: &str) -> String {
    let program = words.split(' ').next().unwrap();
    let file = folder.join(format!("{program}.bash"));
    let script = format!(
        "set -e; source '{}'; COMP_WORDS=({words}); COMP_CWORD=$(({count} - 1)); \
         _{program} {program} \"${{COMP_WORDS[-1]}}\" \"${{COMP_WORDS[-2]}}\"; echo \"${{COMPREPLY[@]}}\"",
        file.display(),
        count = words.split(' ').count(),
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stdout(&output).trim().to_owned()
}

#[test]
fn every_command_that_help_names_has_a_man_page_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("share/man");
    generate("man", &folder);
    let fog = || Command::new(programs::program("fog", "fog"));
    let mut expected = BTreeSet::from(["mixnode.8".to_owned(), "mixctld.8".to_owned()]);
    for (program, ask) in [("mixctl", &mixctl as &dyn Fn() -> Command), ("fog", &fog)] {
        let mut found = BTreeSet::new();
        commands(ask, &[], &mut found);
        assert!(found.len() >= 7, "its help was understood: {found:?}");
        expected.extend(found.iter().map(|name| format!("{program}-{name}.1")));
        expected.insert(format!("{program}.1"));
    }
    assert_eq!(files(&folder), expected);
    for name in &expected {
        let page = std::fs::read_to_string(folder.join(name)).unwrap();
        let (title, section) = name.rsplit_once('.').unwrap();
        assert!(
            page.contains(&format!(".TH {title} {section}")),
            "{name}: {page}"
        );
        assert!(
            page.contains(".SH NAME") && page.contains(".SH OPTIONS"),
            "{name}: {page}"
        );
        assert!(
            !page.contains("\\-\\-linger") && !page.contains("lab\\-node"),
            "{name}: {page}"
        );
    }
}

#[test]
fn every_command_prints_json_on_request_and_its_page_and_completion_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let (man, completions) = (folder.path().join("man"), folder.path().join("completions"));
    generate("man", &man);
    generate("completions", &completions);
    let mut found = BTreeSet::new();
    commands(&mixctl, &[], &mut found);
    // A name may have a hyphen of its own.
    let words = |name: &str| match name {
        "why-dropped" => name.to_owned(),
        _ => name.replace('-', " "),
    };
    // What has commands of its own prints nothing else.
    let is_leaf = |name: &&String| {
        let below = format!("{name}-");
        !found.iter().any(|other| other.starts_with(&below))
    };
    let leaves: Vec<&String> = found.iter().filter(is_leaf).collect();
    assert!(leaves.len() >= 20, "{leaves:?}");
    for name in leaves {
        let page = std::fs::read_to_string(man.join(format!("mixctl-{name}.1"))).unwrap();
        assert!(page.contains("\\-\\-json"), "{name}: {page}");
        let unfinished = format!("mixctl {} --js", words(name));
        assert_eq!(completed(&completions, &unfinished), "--json", "{name}");
    }
}

#[test]
fn completions_offer_commands_and_flags_and_nothing_that_is_hidden() {
    let folder = tempfile::tempdir().unwrap();
    generate("completions", folder.path());
    let of = |name: &str| {
        [
            format!("{name}.bash"),
            format!("{name}.fish"),
            format!("_{name}"),
        ]
    };
    let expected: BTreeSet<String> = ["mixctl", "fog", "mixctld", "mixnode"]
        .iter()
        .flat_map(|name| of(name))
        .collect();
    assert_eq!(files(folder.path()), expected);
    for name in &expected {
        let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
        for hidden in ["lab-node", "lab__node", "--linger", "status-lines"] {
            assert!(!text.contains(hidden), "{name}: {hidden}");
        }
    }
    let completed = |words: &str| completed(folder.path(), words);
    assert_eq!(completed("mixctl la"), "lab");
    assert_eq!(completed("mixctl authority no"), "nodes");
    assert_eq!(completed("mixctl status --rea"), "--ready");
    assert_eq!(completed("fog rec"), "recv");
    assert_eq!(completed("mixnode --check"), "--check-config");
    assert_eq!(completed("mixctld --no-x"), "--no-xdp");
}
