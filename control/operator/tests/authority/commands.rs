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
