//! The commands for authorities, and an authority's process: what it refuses, and that it reads its list again.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use control::http::client::{Ask, AskError};
use directory::{Bootstrap, Descriptor, EpochKey, Identity, LinkKey, Role, SignedDescriptor};
use rustix::process::{Pid, Signal, kill_process};

mod commands;
mod full;
#[path = "../programs/mod.rs"]
mod programs;
#[path = "../running/mod.rs"]
mod running;
use running::{Running, free_port, mixctl, stderr, stdout, wait_until};

fn ran(arguments: &[&str]) -> Output {
    mixctl().args(arguments).output().unwrap()
}

fn says(arguments: &[&str]) -> String {
    let output = ran(arguments);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        stderr(&output)
    );
    stdout(&output)
}

/// How a command ends that is refused, and what it says.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = ran(arguments);
    (output.status.code().unwrap(), stderr(&output))
}

struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Site {
        Site(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Makes a key and says which member it would be.
    fn member(&self, key: &str, url: &str) -> String {
        let said = says(&["authority", "init", "--key", &self.text(key)]);
        let public = said.split_whitespace().nth(1).unwrap();
        format!("--member={public}={url}")
    }

    /// The configuration of an authority there that takes everybody in: its file.
    fn open_authority(&self, address: &str) -> String {
        let config = self.text("authority.toml");
        let text = format!(
            "[authority]\nkey = {:?}\nlisten = \"{address}\"\nadmission = \"open\"\nnetwork = {:?}\nstate_dir = {:?}\n",
            self.path("key"),
            self.path("network"),
            self.path("state")
        );
        std::fs::write(&config, text).unwrap();
        config
    }

    fn found(&self, network: &str, url: &str) {
        self.found_with(network, url, "1s");
    }

    fn found_with(&self, network: &str, url: &str, epoch: &str) {
        let (key, set) = (self.text("key"), self.text("set"));
        let member = self.member("key", url);
        says(&[
            "authority",
            "set",
            "propose",
            &set,
            &member,
            "--epoch",
            epoch,
            "--mean-delay",
            "100us",
        ]);
        says(&["authority", "set", "sign", &set, "--key", &key]);
        says(&[
            "authority",
            "set",
            "publish",
            &set,
            "--network",
            &self.text(network),
        ]);
    }
}

#[test]
fn the_file_of_another_network_is_not_joined_over_the_first_and_an_old_one_rolls_nothing_back() {
    let (site, strange) = (Site::new(), Site::new());
    site.found("network", "http://127.0.0.1:1");
    strange.found("network", "http://127.0.0.1:1");
    let to = site.text("joined");
    says(&["network", "join", &site.text("network"), "--to", &to]);
    let other = refused(&["network", "join", &strange.text("network"), "--to", &to]);
    assert_eq!(other.0, 78);
    assert!(other.1.contains("another network"), "{}", other.1);
    std::fs::copy(site.path("network"), site.path("old")).unwrap();
    let member = site.member("new", "http://127.0.0.2:1");
    let old = says(&["authority", "init", "--key", &site.text("unused")]);
    assert!(old.starts_with("authority "));
    let first = Bootstrap::read(&site.path("network")).unwrap();
    let stays = &first.chain.sets()[0].set().members[0];
    let stays = format!(
        "--member={}=http://{}",
        directory::store::hex(&stays.key),
        stays.address
    );
    let (next, network) = (site.text("next"), site.text("network"));
    says(&[
        "authority",
        "set",
        "propose",
        &next,
        &stays,
        &member,
        "--network",
        &network,
    ]);
    for key in ["key", "new"] {
        says(&["authority", "set", "sign", &next, "--key", &site.text(key)]);
    }
    says(&["authority", "set", "publish", &next, "--network", &network]);
    for file in ["network", "old"] {
        says(&["network", "join", &site.text(file), "--to", &to]);
        assert_eq!(
            Bootstrap::read(Path::new(&to)).unwrap().chain.sets().len(),
            2
        );
    }
}

fn mixctld(arguments: &[&str]) -> Output {
    let mut command = Command::new(programs::program("control", "mixctld"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn what_an_authority_needs_and_lacks_is_said_with_a_code_of_its_own() {
    let site = Site::new();
    site.found("network", "http://127.0.0.1:1");
    let config = |text: &str| {
        std::fs::write(site.path("authority.toml"), text).unwrap();
        let output = mixctld(&["--config", &site.text("authority.toml")]);
        (output.status.code(), stderr(&output))
    };
    let both = config("[xdp]\n[authority]\n");
    assert_eq!(both.0, Some(78));
    assert!(both.1.contains("authority.toml:2: "), "{}", both.1);
    let with = |key: &str| {
        format!(
            "[authority]\nkey = {:?}\nlisten = \"127.0.0.1:9\"\nadmission = \"open\"\nnetwork = {:?}\nstate_dir = {:?}\n",
            site.path(key),
            site.path("network"),
            site.path("state")
        )
    };
    assert_eq!(config(&with("nowhere")).0, Some(78));
    site.member("stranger", "http://127.0.0.1:1");
    let stranger = config(&with("stranger"));
    assert_eq!(stranger.0, Some(78));
    assert!(stranger.1.contains("is in no set"), "{}", stranger.1);
    // An authority that does not know what it signed must not sign.
    std::fs::create_dir(site.path("state")).unwrap();
    std::fs::write(site.path("state/signed"), "?").unwrap();
    let unsure = config(&with("key"));
    assert_eq!(unsure.0, Some(78));
    assert!(unsure.1.contains("what was signed last"), "{}", unsure.1);
}

#[test]
fn a_check_of_an_authority_looks_at_its_files_and_one_without_a_file_says_so() {
    let site = Site::new();
    site.found("network", "http://127.0.0.1:1");
    site.member("stranger", "http://127.0.0.1:1");
    let check = |key: &str, network: &str| {
        let text = format!(
            "[authority]\nkey = {:?}\nlisten = \"127.0.0.1:{}\"\nadmission = {:?}\nnetwork = {:?}\nstate_dir = {:?}\n",
            site.path(key),
            free_port(),
            site.path("nodes.toml"),
            site.path(network),
            site.path("state")
        );
        std::fs::write(site.path("authority.toml"), text).unwrap();
        mixctld(&["--config", &site.text("authority.toml"), "--check-config"])
    };
    let good = check("key", "network");
    assert!(good.status.success(), "{}", stderr(&good));
    assert!(stdout(&good).contains("authority.toml: good"));
    assert!(stderr(&good).contains("nodes.toml"), "{}", stderr(&good));
    std::fs::write(site.path("nodes.toml"), "").unwrap();
    let listed = check("key", "network");
    assert_eq!(stderr(&listed), "");
    for (key, network, says) in [
        ("nowhere", "network", "nowhere: No such file"),
        ("stranger", "network", "is in no set of"),
        ("key", "nowhere", "`mixctl network join FILE`"),
    ] {
        let refused = check(key, network);
        assert_eq!(refused.status.code(), Some(78), "{key} {network}");
        assert!(stderr(&refused).contains(says), "{}", stderr(&refused));
    }
    // What a start refuses beside its files: what was signed last is not known, no folder, and an address that is taken may
    // be its own.
    assert!(!site.path("state").exists(), "the check makes nothing");
    std::fs::create_dir(site.path("state")).unwrap();
    std::fs::write(site.path("state/signed"), "?").unwrap();
    let unsure = check("key", "network");
    assert_eq!(unsure.status.code(), Some(78));
    assert!(stderr(&unsure).contains("what was signed last"));
    std::fs::remove_dir_all(site.path("state")).unwrap();
    std::fs::write(site.path("state"), "").unwrap();
    let no_folder = check("key", "network");
    assert_eq!(no_folder.status.code(), Some(71));
    assert!(stderr(&no_folder).contains("[authority] state_dir: "));
    std::fs::remove_file(site.path("state")).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = std::fs::read_to_string(site.path("authority.toml")).unwrap();
    let (before, after) = text.split_once("127.0.0.1:").unwrap();
    let (_, after) = after.split_once('"').unwrap();
    let text = format!("{before}127.0.0.1:{port}\"{after}");
    std::fs::write(site.path("authority.toml"), text).unwrap();
    let own = mixctld(&["--config", &site.text("authority.toml"), "--check-config"]);
    assert!(own.status.success(), "{}", stderr(&own));
    assert!(
        stdout(&own).contains("unchecked: [authority] listen"),
        "{}",
        stdout(&own)
    );
    // A set that the world should reach, behind an address that it can't: said, and no error.
    let elsewhere = Site::new();
    elsewhere.found("network", "http://192.0.2.1:7070");
    let port = free_port();
    for (listen, code, words) in [
        (
            format!("127.0.0.1:{port}"),
            0,
            "warning: [authority] listen: 127.0.0.1",
        ),
        (
            "192.0.2.1:7070".to_owned(),
            71,
            "name an address that this host has",
        ),
    ] {
        let text = format!(
            "[authority]\nkey = {:?}\nlisten = {listen:?}\nadmission = \"open\"\nnetwork = {:?}\nstate_dir = {:?}\n",
            elsewhere.path("key"),
            elsewhere.path("network"),
            elsewhere.path("state"),
        );
        std::fs::write(elsewhere.path("authority.toml"), text).unwrap();
        let checked = mixctld(&[
            "--config",
            &elsewhere.text("authority.toml"),
            "--check-config",
        ]);
        assert_eq!(checked.status.code(), Some(code), "{}", stderr(&checked));
        let said = stdout(&checked) + &stderr(&checked);
        assert!(said.contains(words), "{said}");
    }
    assert!(!stdout(&good).contains("warning"), "a network on one host");
    std::fs::write(site.path("nodes.toml"), "[[node]]\n").unwrap();
    assert_eq!(check("key", "network").status.code(), Some(78));
    assert!(!site.path("state").exists());
    if !Path::new(control::config::CONFIG_PATH).exists() {
        let none = stdout(&mixctld(&["--check-config"]));
        assert!(none.contains("built-in defaults"), "{none}");
    }
}

/// A mix that describes itself for the next epoch.
fn descriptor(site: &Site, identity: &Identity) -> SignedDescriptor {
    let chain = Bootstrap::read(&site.path("network")).unwrap().chain;
    let now_ms = mixnode::process::unix_ms();
    let next = chain.parameters().epoch_at(now_ms) + 1;
    let key = |epoch| EpochKey {
        epoch,
        public_key: [3; 32],
    };
    let descriptor = Descriptor {
        network: *chain.network(),
        identity: identity.public(),
        role: Role::Mix,
        operator: "somebody".to_owned(),
        addresses: vec![([10, 0, 0, 1], 9_000).into()],
        link: LinkKey {
            x25519: [1; 32],
            kem: Box::new([1; 1_184]),
        },
        epoch_keys: vec![key(next), key(next + 1)],
        capacity_pps: 1_000,
        vrf_key: [2; 32],
        vrf_proof: None,
        flags: 0,
        published_unix_ms: now_ms,
    };
    descriptor.sign(identity).unwrap()
}

#[test]
fn an_authority_starts_without_a_list_reads_it_at_a_hangup_and_keeps_it_when_the_new_one_is_wrong_or_gone()
 {
    let site = Site::new();
    let address = format!("127.0.0.1:{}", free_port());
    site.found("network", &format!("http://{address}"));
    let (list, config) = (site.text("nodes.toml"), site.text("authority.toml"));
    let text = format!(
        "[authority]\nkey = {:?}\nlisten = \"{address}\"\nadmission = {list:?}\nnetwork = {:?}\nstate_dir = {:?}\n",
        site.path("key"),
        site.path("network"),
        site.path("state")
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(programs::program("control", "mixctld"));
    command
        .args(["--config", &config])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(site.path("log")).unwrap());
    let running = Running(command.spawn().unwrap());
    let logged = |words: &str| {
        let log = std::fs::read_to_string(site.path("log")).unwrap();
        log.matches(words).count()
    };
    let identity = Identity::from_bytes(&[5; 32]);
    let upload = || {
        let ask = Ask {
            to: address.parse().unwrap(),
            path: "/v1/descriptor".to_owned(),
            body: Some(Bytes::copy_from_slice(descriptor(&site, &identity).bytes())),
            held: None,
            from: None,
            bytes_max: 64,
            within: Duration::from_secs(30),
        };
        match ask.run_alone() {
            Ok(_) => "taken".to_owned(),
            Err(AskError::Refused { word, .. }) => word,
            Err(error) => error.to_string(),
        }
    };
    wait_until("the authority", || upload() == "unknown-node");
    let warned = format!("no list of nodes {list}: `mixctl authority nodes add --file {list}`");
    assert_eq!(logged(&warned), 1);
    let none = refused(&["consensus", "fetch", "--network", &site.text("network")]);
    assert!(none.1.contains("no document yet"), "{}", none.1);
    let public = directory::store::hex(&identity.public());
    let admit = |operator: &str| {
        says(&[
            "authority",
            "nodes",
            "add",
            &public,
            "--role",
            "mix",
            "--operator",
            operator,
            "--file",
            &list,
        ]);
    };
    let hang_up = || kill_process(Pid::from_child(&running.0), Signal::HUP).unwrap();
    admit("somebody");
    hang_up();
    wait_until("admission", || upload() == "taken");
    // A lone authority makes a document of it.
    let status = || -> serde_json::Value {
        serde_json::from_str(&says(&[
            "authority",
            "status",
            "--config",
            &config,
            "--json",
        ]))
        .unwrap()
    };
    wait_until("a document", || !status()["document"].is_null());
    std::fs::write(&list, "[[node]]\nidentity = \"x\"\n").unwrap();
    hang_up();
    let kept = "keeping the list of nodes as it was";
    wait_until("the wrong list", || logged(kept) == 1);
    assert_eq!(upload(), "taken");
    std::fs::remove_file(&list).unwrap();
    hang_up();
    wait_until("no list", || logged(kept) == 2 && logged(&warned) == 2);
    assert_eq!(upload(), "taken");
    // And a right one again takes it out.
    std::fs::write(&list, "").unwrap();
    admit("somebody else");
    hang_up();
    wait_until("the new list", || upload() == "admission");
    assert_eq!(status()["refused"]["signature"], serde_json::Value::Null);
}

#[test]
fn a_stranger_sees_no_descriptor_before_the_votes_about_it() {
    let site = Site::new();
    let address = format!("127.0.0.1:{}", free_port());
    // It is the first hour of a day that is one epoch.
    site.found_with("network", &format!("http://{address}"), "24h");
    let config = site.open_authority(&address);
    let mut command = Command::new(programs::program("control", "mixctld"));
    command.args(["--config", &config]).stdin(Stdio::null());
    let _running = Running(command.stdout(Stdio::null()).spawn().unwrap());
    let ask = |path: String, body: Option<Bytes>| {
        let ask = Ask {
            to: address.parse().unwrap(),
            path,
            body,
            held: None,
            from: None,
            bytes_max: 1 << 20,
            within: Duration::from_secs(30),
        };
        match ask.run_alone() {
            Ok(answered) => Ok(answered.body),
            Err(AskError::Refused { status, word, .. }) => Err((status, word)),
            Err(error) => Err((0, error.to_string())),
        }
    };
    let own = descriptor(&site, &Identity::from_bytes(&[5; 32]));
    let upload = || {
        let body = Bytes::copy_from_slice(own.bytes());
        ask("/v1/descriptor".to_owned(), Some(body)).is_ok()
    };
    wait_until("the authority", upload);
    let early = || Err((503, "early".to_owned()));
    let by_digest = format!("/v1/descriptor/{}", directory::store::hex(&own.digest()));
    assert_eq!(ask(by_digest, None), early());
    let listing = |epoch: u32| ask(format!("/v1/authority/descriptors/{epoch}"), None);
    assert_eq!(listing(1), early());
    // What is over is nobody's secret.
    assert!(listing(0).is_ok());
}
