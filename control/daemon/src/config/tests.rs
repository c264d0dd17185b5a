use std::path::Path;

use program::config::ConfigError;

use super::check::parse;
use super::*;

fn refused(text: &str) -> ConfigError {
    parse(text, Path::new("mixctld.toml")).unwrap_err()
}

#[test]
fn the_default_files_equal_the_built_in_defaults_and_name_every_key() {
    let parsed = |text| parse(text, Path::new("default.toml")).unwrap();
    let node = Config {
        xdp: Some(XdpConfig::default()),
        keys: Some(KeysConfig::default()),
        directory: Some(DirectoryConfig::default()),
        http: Some(HttpConfig::default()),
        ..Config::default()
    };
    assert_eq!(parsed(include_str!("../../mixctld.toml")), node);
    let authority = Config {
        authority: Some(AuthorityConfig::default()),
        ..Config::default()
    };
    assert_eq!(parsed(include_str!("../../authority.toml")), authority);
    for (text, keys) in [
        (
            include_str!("../../mixctld.toml"),
            &[
                "socket",
                "pins",
                "node_user",
                "tables_bytes_max",
                "network",
                "folder",
                "group",
                "node_metrics",
                "listen",
                "token",
                "hosts",
                "allow_remote",
            ][..],
        ),
        (
            include_str!("../../authority.toml"),
            &["key", "listen", "admission", "network", "state_dir"],
        ),
    ] {
        for key in keys {
            assert!(text.contains(&format!("\n{key} = ")), "{key}");
        }
    }
}

#[test]
fn an_authority_and_a_nodes_front_end_are_never_one_process() {
    let error = refused("[xdp]\n[authority]\n");
    assert_eq!(error.line, Some(2));
    assert!(error.to_string().contains("second mixctld"), "{error}");
    let error = refused("[keys]\n[authority]\n");
    assert!(error.to_string().contains("holds no keys"), "{error}");
}

#[test]
fn either_section_says_who_the_node_is() {
    for text in [
        "[xdp]\nnode_user = \"17\"",
        "[keys]\nnode_user = \"17\"",
        "[xdp]\n[keys]\nnode_user = \"17\"",
        "[xdp]\nnode_user = \"17\"\n[keys]\nnode_user = \"17\"",
    ] {
        let config = parse(text, Path::new("mixctld.toml")).unwrap();
        assert_eq!(config.node_user(), "17", "{text}");
    }
    assert_eq!(Config::default().node_user(), "");
}

#[test]
fn a_wrong_value_is_refused_with_its_line_and_an_unknown_key_with_the_nearest() {
    for (text, line, says) in [
        (
            "[authority]\nlisten = \"1.2.3.4:0\"",
            2,
            "another one at every start",
        ),
        (
            "[authority]\nadmission = \"nodes.toml\"",
            2,
            "no absolute path",
        ),
        (
            "[authority]\nadmision = \"open\"",
            2,
            "did you mean `admission`?",
        ),
        ("[authorty]", 1, "did you mean `authority`?"),
        (
            "[http]\nnode_metric = \"\"",
            2,
            "did you mean `node_metrics`?",
        ),
        ("[http]", 1, "[directory]"),
        (
            "[directory]\n[http]\nsocket = \"http.sock\"",
            3,
            "absolute path",
        ),
        (
            "[directory]\n[http]\ngroup = \"nobody-of-that-name\"",
            3,
            "/etc/group",
        ),
        (
            "[directory]\n[http]\nnode_metrics = \"10.0.0.1:9101\"",
            3,
            "on this host",
        ),
        (
            "[directory]\n[http]\nnode_metrics = \"9101\"",
            3,
            "use IP:PORT",
        ),
        (
            "[directory]\n[http]\nlisten = \"192.0.2.1:9102\"",
            3,
            "allow_remote",
        ),
        (
            "[directory]\n[http]\nlisten = \"127.0.0.1:0\"",
            3,
            "another one at every start",
        ),
        (
            "[directory]\n[http]\nhosts = [\"[2001:db8::1]\", \"mix.example:9102\"]",
            3,
            "without a port",
        ),
        (
            "[directory]\n[http]\nhosts = [\"http://mix.example\"]",
            3,
            "without a port",
        ),
        ("[directory]\n[http]\nhosts = [\"\"]", 3, "no host's name"),
        (
            "[directory]\n[http]\nlisten = \"127.0.0.1:9102\"\ntoken = \"http.token\"",
            4,
            "absolute path",
        ),
        (
            "[directory]\npins = \"/run/x\"",
            2,
            "the section that it belongs to; known here: network, folder",
        ),
        ("[xdp]\nsocket = \"\"", 2, "no place for a socket"),
        ("[xdp]\npins = \"\"", 2, "no absolute path"),
        ("[directory]\nnetwork = \"net\"", 2, "no absolute path"),
        ("[directory]\nfolder = \"\"", 2, "no absolute path"),
        ("[authority]\nkey = \"\"", 2, "no absolute path"),
        ("[authority]\nnetwork = \"\"", 2, "no absolute path"),
        ("[authority]\nstate_dir = \"x\"", 2, "no absolute path"),
        (
            "[xdp]\nnode_user = \"nobody-of-that-name\"",
            2,
            "/etc/passwd",
        ),
        (
            "[keys]\nnode_user = \"nobody-of-that-name\"",
            2,
            "/etc/passwd",
        ),
        (
            "[xdp]\nnode_user = \"0\"\n[keys]\nnode_user = \"1\"",
            4,
            "[xdp] node_user names another",
        ),
    ] {
        let error = refused(text);
        assert_eq!(error.line, Some(line), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}
