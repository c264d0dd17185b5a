//! An authority that can't write into its folder, and one that finds damaged files there.

use std::fs;

use directory::Identity;
use directory::store::Store;
use rustix::process::{Pid, Signal, kill_process};

use super::*;

/// An authority on its own, and its log.
struct Alone {
    site: Site,
    address: String,
    config: String,
}

impl Alone {
    fn new() -> Alone {
        let (site, address) = (Site::new(), format!("127.0.0.1:{}", free_port()));
        site.found("network", &format!("http://{address}"));
        let config = site.open_authority(&address);
        Alone {
            site,
            address,
            config,
        }
    }

    fn start(&self) -> Running {
        let mut command = Command::new(programs::program("control", "mixctld"));
        command
            .args(["--config", &self.config])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.site.path("log")).unwrap());
        Running(command.spawn().unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.site.path("log")).unwrap()
    }

    /// A node says that it is there; whether that was taken.
    fn describe(&self) -> bool {
        let identity = Identity::from_bytes(&[5; 32]);
        let ask = Ask {
            to: self.address.parse().unwrap(),
            path: "/v1/descriptor".to_owned(),
            body: Some(Bytes::copy_from_slice(
                descriptor(&self.site, &identity).bytes(),
            )),
            held: None,
            from: None,
            bytes_max: 64,
            within: Duration::from_secs(30),
        };
        ask.run_alone().is_ok()
    }

    /// The epoch of its newest document; none while it does not answer either.
    fn newest(&self) -> Option<u64> {
        let output = ran(&["authority", "status", "--config", &self.config, "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        status["document"]["epoch"].as_u64()
    }
}

#[test]
fn an_authority_that_can_not_write_down_what_it_signs_serves_on_and_signs_when_it_can() {
    let alone = Alone::new();
    // As a full disk has it, for root too: a file of that name can't be made.
    let taken = alone.site.path("state/.signed.new");
    fs::create_dir_all(&taken).unwrap();
    let mut running = alone.start();
    wait_until("the refusal to sign", || {
        alone.describe();
        alone.log().contains("is not signed here")
    });
    assert!(alone.log().contains(&alone.site.text("state")));
    assert!(running.0.try_wait().unwrap().is_none(), "{}", alone.log());
    assert_eq!(alone.newest(), None);
    fs::remove_dir(&taken).unwrap();
    wait_until("a document", || {
        alone.describe();
        alone.newest().is_some()
    });
}

#[test]
fn an_authority_whose_newest_document_is_damaged_begins_with_the_one_before() {
    let alone = Alone::new();
    let running = alone.start();
    wait_until("two documents", || {
        alone.describe();
        let store = Store::open(&alone.site.path("state"));
        store.is_ok_and(|store| store.epochs().unwrap().len() >= 2)
    });
    kill_process(Pid::from_child(&running.0), Signal::KILL).unwrap();
    drop(running);
    let store = Store::open(&alone.site.path("state")).unwrap();
    let mut epochs = store.epochs().unwrap();
    epochs.sort_unstable();
    let [.., before, newest] = epochs.as_slice() else {
        panic!("{epochs:?}");
    };
    // What a power cut may leave of it.
    fs::write(alone.site.path(&format!("state/consensus/{newest}")), "").unwrap();
    let _running = alone.start();
    wait_until("an answer", || alone.newest().is_some());
    assert_eq!(alone.newest(), Some(u64::from(*before)), "{}", alone.log());
    assert!(alone.log().contains("damaged"), "{}", alone.log());
    wait_until("a newer document", || {
        alone.describe();
        alone.newest() > Some(u64::from(*newest))
    });
}
