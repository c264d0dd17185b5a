//! The command as its user meets it: words, exit codes, files.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

mod joined;

use directory::Bootstrap;
use joined::{Joined, fog, signal, text, write_network, write_network_of};

#[test]
fn a_limit_on_locked_memory_that_is_far_too_low_breaks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let network = folder.path().join("network");
    write_network(&network);
    let home = folder.path().join("home");
    let output = Command::new("sh")
        .args(["-c", "ulimit -l 64; exec \"$@\"", "sh"])
        .args([env!("CARGO_BIN_EXE_fog"), "--home"])
        .arg(&home)
        .args(["init", "--network"])
        .arg(&network)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    let lines = said.matches("keys may be swapped out").count();
    assert_eq!(lines, usize::from(program::limits::may_swap()), "{said}");
}

#[test]
fn the_version_names_the_commit() {
    let folder = tempfile::tempdir().unwrap();
    let output = fog(folder.path(), &["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout).trim(),
        format!("fog {}", directory::version())
    );
}

#[test]
fn the_help_names_the_level_at_which_fog_logs() {
    let folder = tempfile::tempdir().unwrap();
    let help = text(&fog(folder.path(), &["--help"]).stdout);
    let words: Vec<_> = help.split_whitespace().collect();
    let words = words.join(" ");
    assert!(
        words.contains("[default: $RUST_LOG, or info, and of fog warn]"),
        "{words}"
    );
}

#[test]
fn wrong_usage_exits_with_64_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, said) in [
        (&["frobnicate"][..], "unrecognized"),
        (&["send", "fog1short", "file"], "191 characters"),
        (&["send", "nonsense", "file"], "starts with fog1"),
        (&["recv", "--out", "o", "--count", "0"], "0 is not in 1.."),
        (
            &["init", "--network", "n", "--gateway", "xyz"],
            "64 hexadecimal",
        ),
    ] {
        let output = fog(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {output:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_missing_store_or_a_broken_network_file_exits_with_78_and_names_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let output = fog(&home, &["address"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("fog init --network"));
    let network = folder.path().join("network");
    std::fs::write(&network, "not a network").unwrap();
    let output = fog(&home, &["init", "--network", network.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("network"));
}

#[test]
fn init_makes_private_keys_once_and_address_repeats_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let (home, network) = (folder.path().join("home"), folder.path().join("network"));
    write_network(&network);
    let network = network.to_str().unwrap();
    let first = fog(&home, &["init", "--network", network]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let again = fog(&home, &["init", "--network", network]);
    let address = fog(&home, &["address"]);
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(first.stdout, address.stdout);
    assert!(text(&first.stdout).starts_with("fog1"));
    for entry in std::fs::read_dir(&home).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let name = entry.file_name().into_string().unwrap();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
        if name.ends_with(".key") {
            assert_eq!(mode, 0o400, "{name}");
        }
    }
}

#[test]
fn a_silent_gateway_is_named_within_five_seconds_and_the_time_given_ends_with_75() {
    let joined = Joined::new();
    let file = joined.path("file");
    std::fs::write(&file, "content").unwrap();
    let out = joined.path("out");
    let recv = ["recv", "--out", out.to_str().unwrap(), "--timeout", "7s"];
    for mut command in [
        joined.send(&file, &["--timeout", "7"]),
        joined.command(&recv),
    ] {
        let start = Instant::now();
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "{line}");
        assert!(
            line.contains("waiting: the gateway operator (")
                && line.ends_with("at 127.0.0.1:9 does not answer"),
            "{line}"
        );
        let last = lines.last().unwrap().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(75), "{last}");
        assert!(last.contains("not done after 7 s (the gateway"), "{last}");
        assert!(start.elapsed() < Duration::from_secs(12));
    }
}

#[test]
fn programs_get_one_object_a_line_and_quiet_means_errors_alone() {
    let joined = Joined::new();
    let file = joined.path("file");
    std::fs::write(&file, "content").unwrap();
    let output = joined
        .send(&file, &["--timeout", "5", "--json"])
        .output()
        .unwrap();
    let events: Vec<serde_json::Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let waiting = events
        .iter()
        .find(|event| event["event"] == "waiting")
        .unwrap();
    assert_eq!(waiting["for"], "gateway");
    let last = events.last().unwrap();
    assert_eq!(
        (&last["event"], &last["code"]),
        (&"error".into(), &75.into())
    );
    let output = joined
        .send(&file, &["--timeout", "5", "--quiet"])
        .output()
        .unwrap();
    assert!(output.stdout.is_empty());
    assert_eq!(
        text(&output.stderr).lines().count(),
        1,
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let joined = Joined::new();
    let pipe = joined.path("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    std::fs::create_dir(joined.path("empty")).unwrap();
    for (path, word) in [
        (pipe.as_path(), "a named pipe"),
        (Path::new("/dev/zero"), "a device"),
        (&joined.path("empty"), "no file"),
    ] {
        let start = Instant::now();
        let output = joined.send(path, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
        assert!(
            text(&output.stderr).contains(word),
            "{}",
            text(&output.stderr)
        );
        assert!(start.elapsed() < Duration::from_secs(2));
    }
    let output = joined.send(Path::new("-"), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(
        text(&output.stderr).contains("--name"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn hashing_is_shown_and_every_signal_stops_it_at_once() {
    use rustix::process::Signal;
    let joined = Joined::new();
    let file = joined.path("large");
    // Nothing but a hole: takes no room, and minutes to hash.
    std::fs::File::create(&file)
        .unwrap()
        .set_len(1 << 38)
        .unwrap();
    for (kind, code) in [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)] {
        let start = Instant::now();
        let mut child = joined.send(&file, &["--json"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: serde_json::Value =
            serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(
            (&first["event"], &first["size"]),
            (&"hashing".into(), &(1u64 << 38).into())
        );
        assert!(start.elapsed() < Duration::from_secs(5));
        let asked = Instant::now();
        signal(&child, kind);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(asked.elapsed() < Duration::from_secs(2), "{kind:?}");
    }
}

#[test]
fn a_client_that_waits_stops_at_once_and_under_nohup_goes_on() {
    use rustix::process::Signal;
    let joined = Joined::new();
    let out = joined.path("out");
    let recv = ["recv", "--out", out.to_str().unwrap()];
    let mut child = joined.command(&recv).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("waiting"));
    let asked = Instant::now();
    signal(&child, Signal::HUP);
    assert!(child.wait().unwrap().success());
    assert!(asked.elapsed() < Duration::from_secs(2));
    let mut command = Command::new("nohup");
    command
        .arg(env!("CARGO_BIN_EXE_fog"))
        .arg("--home")
        .arg(joined.path("home"));
    command
        .args(recv)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("waiting") {}
    signal(&child, Signal::HUP);
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "nohup is of no use");
    signal(&child, Signal::TERM);
    assert!(child.wait().unwrap().success());
}

#[test]
fn levels_of_the_log_that_make_no_sense_are_an_error_and_others_work() {
    let joined = Joined::new();
    let output = joined
        .command(&["address"])
        .env("RUST_LOG", "loud")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(
        text(&output.stderr).contains("RUST_LOG: `loud` is no level"),
        "{}",
        text(&output.stderr)
    );
    let file = joined.path("file");
    std::fs::write(&file, "content").unwrap();
    let send = |more: &[&str], variable: &str| {
        let mut command = joined.send(&file, &["--timeout", "1"]);
        command.args(more).env("RUST_LOG", variable);
        text(&command.output().unwrap().stderr)
    };
    assert!(!send(&[], "").contains("DEBUG"));
    assert!(send(&["-v"], "").contains("DEBUG"));
    assert!(send(&[], "debug").contains("DEBUG"));
    assert!(send(&["--log", "debug", "--log-format", "json"], "").contains("\"level\":\"debug\""));
}

#[test]
fn a_wrong_address_is_not_repeated_in_full_and_a_missing_home_is_said() {
    let joined = Joined::new();
    let wrong = joined.address.replace("fog1q", "fog1p");
    let output = joined.command(&["send", &wrong, "file"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    let said = text(&output.stderr);
    assert!(
        said.contains("checksum") && !said.contains(&wrong[..30]),
        "{said}"
    );
    let output = Command::new(env!("CARGO_BIN_EXE_fog"))
        .arg("address")
        .env_remove("HOME")
        .env_remove("XDG_DATA_HOME")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(
        text(&output.stderr).contains("HOME"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn nobody_who_reads_is_no_reason_to_panic() {
    let joined = Joined::new();
    for arguments in [
        &["address"][..],
        &["address", "--json"],
        &["frobnicate"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = joined.command(arguments);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let code = command.status().unwrap().code();
        assert!(matches!(code, Some(0 | 64)), "{arguments:?}: {code:?}");
    }
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut child = joined.command(&["address"]).stdout(full).spawn().unwrap();
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(74), "{said}");
}

#[test]
fn sending_a_file_that_is_not_there_exits_with_64() {
    let folder = tempfile::tempdir().unwrap();
    let (home, network) = (folder.path().join("home"), folder.path().join("network"));
    write_network(&network);
    let output = fog(&home, &["init", "--network", network.to_str().unwrap()]);
    let address = text(&output.stdout);
    let output = fog(&home, &["send", address.trim(), "/nowhere/file"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("/nowhere/file"));
}

#[test]
fn an_older_network_file_does_not_roll_the_consensus_back() {
    let folder = tempfile::tempdir().unwrap();
    let (home, network) = (folder.path().join("home"), folder.path().join("network"));
    for (epoch, kept) in [(5, vec![5]), (4, vec![4, 5]), (6, vec![4, 5, 6])] {
        write_network_of(&network, epoch);
        let output = fog(&home, &["init", "--network", network.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let documents = fog::home::Home::read(&home).unwrap().documents;
        let held: Vec<u32> = (0..10)
            .filter(|epoch| documents.of(*epoch).is_some())
            .collect();
        assert_eq!(held, kept);
    }
}

#[test]
fn an_older_network_file_does_not_roll_the_authority_sets_back() {
    let folder = tempfile::tempdir().unwrap();
    let (home, old, new) = (
        folder.path().join("home"),
        folder.path().join("old"),
        folder.path().join("new"),
    );
    write_network(&old);
    let mut network = Bootstrap::read(&old).unwrap();
    let members = network.chain.sets()[0].set().members.clone();
    let mut second = network.chain.propose(10, members).unwrap();
    second.sign(&joined::authority());
    network.chain.extend(second).unwrap();
    network.write(&new).unwrap();
    for file in [&new, &old, &new] {
        let output = fog(&home, &["init", "--network", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let held = fog::home::Home::read(&home).unwrap().authorities;
        assert_eq!(held.sets().len(), 2, "{}", file.display());
    }
}

#[test]
fn a_damaged_key_is_to_be_restored_and_what_can_be_had_again_to_be_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (home, network) = (folder.path().join("home"), folder.path().join("network"));
    write_network(&network);
    fog(&home, &["init", "--network", network.to_str().unwrap()]);
    let names = std::fs::read_dir(&home).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut keys: Vec<_> = names.filter(|name| name.ends_with(".key")).collect();
    keys.sort_unstable();
    assert_eq!(keys.len(), 2, "{keys:?}");
    let restore = "restore it from a backup: removing it makes a new address";
    let damaged = keys.iter().map(|key| (key.as_str(), restore));
    for (name, says) in damaged.chain([("reserves", "remove it and run fog init again")]) {
        let path = home.join(name);
        let whole = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &whole[1..]).unwrap();
        let output = fog(&home, &["address"]);
        assert_eq!(output.status.code(), Some(78), "{name}");
        let said = text(&output.stderr);
        assert!(said.contains(name) && said.contains(says), "{said}");
        std::fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_second_client_on_the_same_store_is_refused_with_71() {
    let folder = tempfile::tempdir().unwrap();
    let (home, network) = (folder.path().join("home"), folder.path().join("network"));
    write_network(&network);
    fog(&home, &["init", "--network", network.to_str().unwrap()]);
    let _running = fog::home::Home::open(&home).unwrap();
    let out = folder.path().join("out");
    let output = fog(&home, &["recv", "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(71));
    assert!(text(&output.stderr).contains("another fog is running"));
}
