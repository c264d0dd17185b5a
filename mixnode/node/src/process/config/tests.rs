use std::path::Path;

use super::*;

const DEFAULT_FILE: &str = include_str!("../../../mixnode.toml");

fn refused(text: &str) -> ConfigError {
    parse(text, Path::new("node.toml")).unwrap_err()
}

#[test]
fn the_default_file_equals_the_built_in_defaults_and_names_every_key() {
    assert_eq!(
        parse(DEFAULT_FILE, Path::new("mixnode.toml")).unwrap(),
        Config::default()
    );
    assert_eq!(
        parse("", Path::new("empty.toml")).unwrap(),
        Config::default()
    );
}

#[test]
fn keys_are_kept_with_the_front_end_or_where_asked_for() {
    let parsed = |text: &str| parse(text, Path::new("node.toml")).unwrap();
    assert!(!parsed("").wants_vault());
    let xsk = "[node]\nport = \"xsk\"\n[xdp]\nloader = \"/run/x\"\n";
    assert!(parsed(xsk).wants_vault());
    assert_eq!(parsed(xsk).loader(), Path::new("/run/x"));
    assert!(!parsed(&format!("{xsk}[keys]\nvault = false")).wants_vault());
    let plain = parsed("[keys]\nvault = true\n");
    assert!(plain.wants_vault());
    assert_eq!(plain.loader(), Path::new(SOCKET_PATH));
    let named = parsed("[keys]\nvault = true\nloader = \"/run/y\"");
    assert_eq!(named.loader(), Path::new("/run/y"));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one_file_and_line() {
    let error = refused("[node]\nrole = \"mix\"\nprot = \"plain\"\n");
    assert_eq!(error.line, Some(3));
    assert_eq!(
        error.to_string(),
        "node.toml:3: unknown key `prot`: did you mean `port`?"
    );
    assert!(
        refused("[worker]\nmax_pss = 1\n")
            .remedy
            .contains("max_pps")
    );
    assert!(refused("[wroker]\ncount = 1\n").remedy.contains("worker"));
    // One that was written without its section's name above it is no other one mistyped.
    let lost = refused("[network]\nloader = \"/run/x\"\n").to_string();
    assert!(
        lost.ends_with("section that it belongs to; known here: directory"),
        "{lost}"
    );
}

#[test]
fn a_path_that_means_another_place_from_each_folder_is_refused() {
    for (section, key) in [("node", "state_dir"), ("network", "directory")] {
        for path in ["", "state", "./state"] {
            let error = refused(&format!("[{section}]\n{key} = {path:?}\n")).to_string();
            let says = format!("node.toml:2: [{section}] {key}: `{path}` is no absolute path: ");
            assert!(error.starts_with(&says), "{error}");
        }
    }
}

#[test]
fn an_address_that_is_none_and_a_list_that_is_none_are_refused_with_their_form() {
    for (text, form) in [
        ("listen = [\"localhost:9000\"]", "write it as IP:PORT"),
        ("listen = [\"192.0.2.1\"]", "write it as IP:PORT"),
        ("listen = \"192.0.2.1:9000\"", "in square brackets"),
    ] {
        let error = refused(&format!("[node]\n{text}\n"));
        assert_eq!(error.line, Some(2));
        assert!(error.to_string().contains(form), "{error}");
    }
}

#[test]
fn a_value_out_of_range_is_refused_with_its_line_and_the_range() {
    let error = refused("# a comment\n[worker]\ncount = 0\n");
    assert_eq!(error.line, Some(3));
    assert!(error.to_string().contains("use 1 to 128"), "{error}");
    for text in [
        "[fault]\nloss = 1.0",
        "[fault]\nloss = nan",
        "[node]\noperator = \"\"",
        "[node]\nlisten = []",
        "[node]\nlisten = [\"0.0.0.0:9000\"]",
        "[node]\nlisten = [\"224.0.0.1:9000\"]",
        "[node]\nlisten = [\"255.255.255.255:9000\"]",
        "[node]\nlisten = [\"[ff02::1]:9000\"]",
        "[node]\nlisten = [\"169.254.1.1:9000\"]",
        "[node]\nlisten = [\"[::ffff:127.0.0.1]:9000\"]",
        "[node]\nlisten = [\"127.0.0.1:0\"]",
        "[metrics]\nlisten = \"127.0.0.1:0\"",
        "[node]\nport = \"xsk\"",
        "[node]\nlisten = [\"1.2.3.4:1\", \"[::1]:1\"]",
        "[node]\nport = \"xdp\"",
        "[xdp]\nprefer_busy_poll = true",
        "[keys]\nloader = \"/run/mixctld.sock\"",
        "[keys]\nvault = true\nloader = \"mixctld.sock\"",
        "[node]\nport = \"xsk\"\n[xdp]\n[keys]\nvault = true\nloader = \"/run/mixctld.sock\"",
        "[node]\nport = \"uring\"\n[xdp]\n",
        "[node]\nport = \"xsk\"\n[xdp]\n[worker]\ncount = 65",
        "[node]\nport = \"xsk\"\n[xdp]\nloader = \"mixctld.sock\"",
        "[node]\nport = \"xsk\"\n[xdp]\nbusy_poll = true",
        "[node]\nrole = \"exit\"",
        "[metrics]\nlisten = \"0.0.0.0:9101\"",
        "[metrics]\nlisten = \"here\"",
        "[worker]\npool_frames = 1",
        "[worker]\ncount = 300",
        "[worker]\ncount = \"two\"",
        "[gateway]\nclients_max = 0",
        "[sandbox]\nmode = \"strict\"",
        "[sandbox]\nmode = true",
    ] {
        assert!(refused(text).line.is_some(), "{text}");
    }
}

#[test]
fn an_address_that_no_other_host_reaches_is_doubted_and_no_error() {
    for (listen, doubted) in [
        ("127.0.0.1:9000", true),
        ("127.9.8.7:9000", true),
        ("[::1]:9000", true),
        ("10.0.0.1:9000", false),
        ("[2001:db8::1]:9000", false),
    ] {
        let text = format!("[node]\nlisten = [{listen:?}]");
        let config = parse(&text, Path::new("node.toml")).unwrap();
        let said = doubts(&config);
        assert_eq!(said.len(), usize::from(doubted), "{listen}");
        assert!(said.iter().all(|doubt| doubt.contains("name the address")));
    }
}

#[test]
fn the_front_end_has_defaults_and_a_section_only_with_its_port() {
    let file = Path::new("node.toml");
    let config = parse("[node]\nport = \"xsk\"\n[xdp]\n", file).unwrap();
    assert_eq!(config.xdp, Some(XdpConfig::default()));
    let error = refused("[node]\nport = \"xsk\"");
    assert!(error.to_string().contains("add a section [xdp]"), "{error}");
    let text = "[node]\nport = \"xsk\"\n[xdp]\nloader = \"/tmp/loader\"\nprefer_busy_poll = true\n";
    let xdp = parse(text, file).unwrap().xdp.unwrap();
    assert!(xdp.prefer_busy_poll && xdp.loader == Path::new("/tmp/loader"));
    let error = refused("\n[xdp]\n");
    assert_eq!(
        error.to_string(),
        "node.toml:2: [xdp] has no meaning without [node] port = \"xsk\": set that port, or remove the section"
    );
    // What the default file shows of the section is the defaults.
    let shown: String = DEFAULT_FILE
        .lines()
        .skip_while(|line| *line != "# [xdp]")
        .take_while(|line| line.starts_with('#'))
        .filter_map(|line| {
            line.strip_prefix("# ")
                .filter(|line| line.contains(['[', '=']))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let config = parse(&format!("[node]\nport = \"xsk\"\n{shown}"), file).unwrap();
    assert_eq!(config.xdp, Some(XdpConfig::default()));
}

#[test]
fn an_unreadable_key_is_found_before_the_start() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(1);
    crate::keys::files::load_or_create(&state, &mut rng).unwrap();
    let file = folder.path().join("node.toml");
    let text = format!(
        "[node]\nstate_dir = {:?}\n[network]\ndirectory = {:?}\n",
        state.display().to_string(),
        folder.path().display().to_string()
    );
    std::fs::write(&file, text).unwrap();
    load(&file).unwrap();
    let key = state.join("identity.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = load(&file).unwrap_err();
    assert_eq!(error.line, Some(2));
    assert!(error.remedy.contains("chmod"), "{error}");
    assert!(load(&folder.path().join("missing.toml")).is_err());
}

#[test]
fn a_file_too_long_to_be_a_configuration_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("node.toml");
    std::fs::write(&file, "#".repeat((1 << 20) + 1)).unwrap();
    let error = load(&file).unwrap_err();
    assert!(error.problem.contains("1048577 bytes"), "{error}");
}
