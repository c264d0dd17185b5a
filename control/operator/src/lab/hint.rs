//! The command that runs `fog` from where the user stands.

use std::path::{Path, PathBuf};

/// How to run `fog`: by its name where a shell finds it, else as the program beside this one, else by cargo where this
/// one was built.
pub fn fog() -> String {
    let own = std::env::current_exe().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let here = std::env::current_dir().unwrap_or_default();
    command(&own, &folders, &here, &|path| path.is_file())
}

fn command(
    own: &Path,
    folders: &[PathBuf],
    here: &Path,
    is_file: &dyn Fn(&Path) -> bool,
) -> String {
    let beside = own.with_file_name("fog");
    let found = folders
        .iter()
        .map(|folder| folder.join("fog"))
        .find(|path| is_file(path));
    if is_file(&beside) {
        // Another version that the shell would find first is of no use.
        return if found == Some(beside.clone()) {
            "fog".to_owned()
        } else {
            quoted(&beside)
        };
    }
    let manifest = own
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("Cargo.toml"))
        .find(|path| is_file(path));
    match manifest {
        Some(manifest) => {
            let profile = own.parent().and_then(Path::file_name);
            let release = if profile.is_some_and(|name| name == "release") {
                " --release"
            } else {
                ""
            };
            let there = manifest.parent().is_some_and(|root| here.starts_with(root));
            let from = if there {
                String::new()
            } else {
                format!(" --manifest-path {}", quoted(&manifest))
            };
            format!("cargo run{release}{from} --bin fog --")
        }
        None => "fog".to_owned(),
    }
}

/// A path as a shell takes it as one word.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:=,~".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(own: &str, folders: &[&str], here: &str, files: &[&str]) -> String {
        let folders: Vec<PathBuf> = folders.iter().map(PathBuf::from).collect();
        command(Path::new(own), &folders, Path::new(here), &|path| {
            files.iter().any(|file| Path::new(file) == path)
        })
    }

    #[test]
    fn the_command_works_from_where_the_user_stands() {
        let built = "/home/a/fogmix/target/release/mixctl";
        let manifest = "/home/a/fogmix/Cargo.toml";
        for (own, folders, here, files, command) in [
            (
                "/usr/bin/mixctl",
                &["/bin", "/usr/bin"][..],
                "/",
                &["/usr/bin/fog"][..],
                "fog",
            ),
            (
                "/opt/fogmix/mixctl",
                &["/usr/bin"],
                "/",
                &["/opt/fogmix/fog", "/usr/bin/fog"],
                "/opt/fogmix/fog",
            ),
            (
                built,
                &["/usr/bin"],
                "/home/a/fogmix/bench",
                &[manifest],
                "cargo run --release --bin fog --",
            ),
            (
                built,
                &["/usr/bin"],
                "/tmp",
                &[manifest],
                "cargo run --release --manifest-path /home/a/fogmix/Cargo.toml --bin fog --",
            ),
            (
                "/home/a/fogmix/target/debug/mixctl",
                &[],
                "/home/a/fogmix",
                &[manifest],
                "cargo run --bin fog --",
            ),
            ("/srv/mixctl", &[], "/", &[], "fog"),
        ] {
            assert_eq!(said(own, folders, here, files), command, "{own} {here}");
        }
    }

    #[test]
    fn paths_with_blanks_stay_one_word() {
        assert_eq!(quoted(Path::new("/a/b-1.x")), "/a/b-1.x");
        assert_eq!(quoted(Path::new("/my lab/it's")), "'/my lab/it'\\''s'");
    }
}
