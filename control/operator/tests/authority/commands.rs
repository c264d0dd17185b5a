//! The commands that make sets of authorities and their files, without an authority that runs.

use super::*;

#[test]
fn a_set_is_published_when_all_have_signed_and_never_twice() {
    let site = Site::new();
    let (one, other) = (
        site.member("one", "http://127.0.0.1:1"),
        site.member("other", "http://127.0.0.2:1"),
    );
    let (set, network) = (site.text("set"), site.text("network"));
    let short = refused(&[
        "authority",
        "set",
        "propose",
        &set,
        &one,
        &other,
        "--epoch",
        "2s",
    ]);
    assert_eq!(short.0, 64);
    assert!(short.1.contains("8000 ms"), "{}", short.1);
    let tls = refused(&["authority", "set", "propose", &set, "--member=00=https://x"]);
    assert_eq!(tls.0, 64);
    let name = one.replace("127.0.0.1", "localhost");
    let named = refused(&["authority", "set", "propose", &set, &name]);
    assert_eq!(named.0, 64);
    assert!(named.1.contains("give the address"), "{}", named.1);
    says(&["authority", "set", "propose", &set, &one, &other]);
    let publish = ["authority", "set", "publish", &set, "--network", &network];
    says(&["authority", "set", "sign", &set, "--key", &site.text("one")]);
    let early = refused(&publish);
    assert_eq!(early.0, 78);
    assert!(early.1.contains("has not signed"), "{}", early.1);
    says(&[
        "authority",
        "set",
        "sign",
        &set,
        "--key",
        &site.text("other"),
    ]);
    says(&publish);
    let again = refused(&publish);
    assert!(again.1.contains("founded once"), "{}", again.1);
    // The next set: by a quorum of this one, and in force no earlier than all can know it.
    let (next, third) = (
        site.text("next"),
        site.member("third", "http://127.0.0.3:1"),
    );
    let propose = [
        "authority",
        "set",
        "propose",
        &next,
        &one,
        &other,
        &third,
        "--network",
        &network,
    ];
    let soon = refused(&[&propose[..], &["--first-epoch", "2"]].concat());
    assert!(soon.1.contains("too soon"), "{}", soon.1);
    says(&propose);
    let publish = ["authority", "set", "publish", &next, "--network", &network];
    for key in ["one", "other", "third"] {
        assert_eq!(refused(&publish).0, 78);
        says(&["authority", "set", "sign", &next, "--key", &site.text(key)]);
    }
    says(&publish);
    let bootstrap = Bootstrap::read(&site.path("network")).unwrap();
    assert_eq!(bootstrap.chain.sets().len(), 2);
}

#[test]
fn a_key_that_has_no_say_does_not_spoil_a_proposal_and_who_has_not_signed_is_named() {
    let site = Site::new();
    let url = |number: u8| format!("http://127.0.0.{number}:1");
    let (one, two) = (site.member("one", &url(1)), site.member("two", &url(2)));
    let three = site.member("three", &url(3));
    site.member("stranger", &url(4));
    let (set, next, network) = (site.text("set"), site.text("next"), site.text("network"));
    let sign = |set: &str, key: &str| {
        let key = site.text(key);
        let of = ["--key", &key, "--network", &network];
        ran(&[&["authority", "set", "sign", set][..], &of].concat())
    };
    let publish = |set: &str| ran(&["authority", "set", "publish", set, "--network", &network]);
    says(&["authority", "set", "propose", &set, &one, &two, &three]);
    let before = std::fs::read(&set).unwrap();
    let stranger = sign(&set, "stranger");
    assert_eq!(stranger.status.code(), Some(64));
    assert!(stderr(&stranger).contains("no member of the proposed set"));
    assert_eq!(std::fs::read(&set).unwrap(), before);
    assert!(sign(&set, "two").status.success());
    let early = stderr(&publish(&set));
    for (number, named) in [(1, true), (2, false), (3, true)] {
        assert_eq!(early.contains(&url(number)), named, "{early}");
    }
    for key in ["one", "three"] {
        assert!(sign(&set, key).status.success());
    }
    assert!(publish(&set).status.success());
    // Who leaves has a say still, and nobody else.
    let propose = ["authority", "set", "propose", &next, &one, &two];
    says(&[&propose[..], &["--network", &network]].concat());
    let stranger = sign(&next, "stranger");
    assert_eq!(stranger.status.code(), Some(64));
    assert!(stderr(&stranger).contains("nor of the one before"));
    assert!(sign(&next, "one").status.success());
    let early = stderr(&publish(&next));
    for (number, named) in [(1, false), (2, true), (3, true)] {
        assert_eq!(early.contains(&url(number)), named, "{early}");
    }
    let key = site.text("three");
    let unknown = ["authority", "set", "sign", &next, "--key", &key];
    let unknown = refused(&[&unknown[..], &["--network", "/nowhere/network"]].concat());
    assert!(unknown.1.contains("--network"), "{}", unknown.1);
    assert!(sign(&next, "three").status.success());
    assert!(publish(&next).status.success());
}

#[test]
fn delays_that_an_epoch_has_no_time_for_are_refused_and_an_even_number_of_authorities_is_warned_of()
{
    let site = Site::new();
    let one = site.member("one", "http://127.0.0.1:1");
    let two = site.member("two", "http://127.0.0.2:1");
    let set = site.text("set");
    let propose =
        |more: &[&str]| ran(&[&["authority", "set", "propose", &set, &one][..], more].concat());
    let long = propose(&["--epoch", "64s"]);
    assert_eq!(long.status.code(), Some(64));
    let said = stderr(&long);
    assert!(said.contains("--mean-delay of 10 ms at most"), "{said}");
    assert!(said.contains("--epoch of 320 s at least"), "{said}");
    assert!(!site.path("set").exists());
    for good in [
        &["--epoch", "64s", "--mean-delay", "10ms"][..],
        &["--epoch", "320s"],
        &[],
    ] {
        let taken = propose(good);
        assert!(taken.status.success(), "{}", stderr(&taken));
        assert_eq!(stderr(&taken), "");
    }
    let even = propose(&[&two]);
    assert!(even.status.success());
    let said = stderr(&even);
    assert!(
        said.contains("2 authorities bear no more faults than 1"),
        "{said}"
    );
}

#[test]
fn a_folder_that_is_missing_is_named_with_the_command_that_makes_it() {
    let site = Site::new();
    site.found("network", "http://127.0.0.1:1");
    let lacks = site.text("none/file");
    for arguments in [
        &["authority", "init", "--key", &lacks][..],
        &["network", "join", &site.text("network"), "--to", &lacks],
        &[
            "authority",
            "nodes",
            "add",
            &"01".repeat(32),
            "--role=mix",
            "--operator=a",
            "--file",
            &lacks,
        ],
    ] {
        let said = refused(arguments);
        assert_eq!(said.0, 78, "{said:?}");
        let remedy = format!("mkdir -p {}", site.text("none"));
        assert!(said.1.contains(&remedy), "{}", said.1);
    }
}

#[test]
fn a_list_of_nodes_that_is_not_there_yet_is_an_empty_one() {
    let site = Site::new();
    let list = site.text("nodes.toml");
    let said = says(&["authority", "nodes", "list", "--file", &list]);
    assert_eq!(said.trim(), "0 nodes");
    let said = says(&["authority", "nodes", "list", "--json", "--file", &list]);
    assert_eq!(said.trim(), r#"{"nodes":[]}"#);
}

#[test]
fn a_check_beside_a_node_refuses_what_a_start_refuses_and_makes_nothing() {
    let site = Site::new();
    site.found("network", "http://127.0.0.1:1");
    std::fs::write(site.path("file"), "").unwrap();
    let run = |network: &str, folder: &str, flags: &[&str]| {
        let text = format!(
            "[directory]\nnetwork = {:?}\nfolder = {:?}\n",
            site.path(network),
            site.path(folder)
        );
        std::fs::write(site.path("mixctld.toml"), text).unwrap();
        mixctld(&[&["--config", &site.text("mixctld.toml")], flags].concat())
    };
    let good = run("network", "folder", &["--check-config"]);
    assert!(good.status.success(), "{}", stderr(&good));
    assert!(stdout(&good).contains("\nunchecked: "), "{}", stdout(&good));
    assert!(!site.path("folder").exists());
    for (network, folder, code, says) in [
        ("nowhere", "folder", 78, "`mixctl network join FILE`"),
        ("network", "file/below", 71, "[directory] folder: "),
    ] {
        for flags in [&["--check-config"][..], &[]] {
            let refused = run(network, folder, flags);
            let said = stderr(&refused);
            assert_eq!(refused.status.code(), Some(code), "{flags:?}: {said}");
            assert!(said.contains(says), "{flags:?}: {said}");
        }
    }
}
