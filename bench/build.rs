//! Which commit the figures will be of.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn main() {
    let described = git(&[
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]);
    let commit = described.unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=MIXBENCH_COMMIT={commit}");
    // What bench is built of: where that changes it is linked again anyway.
    for folder in [
        "../bench/src",
        "../mixnode",
        "../control",
        "../ebpf",
        "../Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={folder}");
    }
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}
