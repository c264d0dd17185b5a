//! The command as its user meets it: words, exit codes, files.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use authority::Authority;
use directory::{Bootstrap, Descriptor, EpochKey, Identity, LinkKey, Parameters, Role};
use link::LinkKeys;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn fog(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fog"))
        .arg("--home")
        .arg(home)
        .args(arguments)
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A network file with one gateway that nobody runs.
fn write_network(path: &Path) {
    write_network_of(path, 0);
}

fn write_network_of(path: &Path, epoch: u32) {
    let rng = &mut ChaCha20Rng::seed_from_u64(1);
    let parameters = Parameters {
        genesis_unix_ms: 1_700_000_000_000,
        epoch_ms: 60_000,
        mean_delay_us: 20_000,
        client_rate_pps: 100,
        layers: 1,
    };
    let authority = Authority::new(Identity::generate(rng), parameters).unwrap();
    let link = LinkKeys::generate(rng).public();
    let gateway = Descriptor {
        identity: Identity::generate(rng).public(),
        role: Role::Gateway,
        operator: "operator".to_owned(),
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 9))],
        link: LinkKey {
            x25519: link.x25519,
            kem: link.kem,
        },
        epoch_keys: vec![EpochKey {
            epoch,
            public_key: [9; 32],
        }],
        capacity_pps: 10,
        vrf_key: [1; 32],
        vrf_proof: None,
        published_unix_ms: 1,
    };
    let bootstrap = Bootstrap {
        authorities: authority.authorities().unwrap(),
        consensus: authority.sign(epoch, [gateway]).unwrap(),
    };
    bootstrap.write(path).unwrap();
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
fn wrong_usage_exits_with_64_and_says_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, said) in [
        (&["frobnicate"][..], "unrecognized"),
        (&["send", "fog1short", "file"], "191 characters"),
        (&["send", "nonsense", "file"], "starts with fog1"),
        (
            &["init", "--network", "n", "--gateway", "xyz"],
            "64 hexadecimal",
        ),
    ] {
        let output = fog(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
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
