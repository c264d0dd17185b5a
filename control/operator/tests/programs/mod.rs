//! Where the programs of other packages lie: beside mixctl. Cargo promises that only for this package's own programs; a
//! run of this package's tests alone builds the others here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The program `name` of package `package`, of the same profile as these tests.
pub fn program(package: &str, name: &str) -> PathBuf {
    static BUILDING: Mutex<()> = Mutex::new(());
    let program = Path::new(env!("CARGO_BIN_EXE_mixctl")).with_file_name(name);
    let _one_at_a_time = BUILDING.lock();
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", package, "--bin", name]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success());
    }
    program
}
